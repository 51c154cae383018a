//! Tells others what became of documents, as [Standard Webhooks](https://www.standardwebhooks.com).
//!
//! A store with an [outbox](kbqueue_core::outbox) writes down that a document was completed, failed or
//! cancelled in the step in which that happens. A [`Deliverer`], in any number of processes, sends it from
//! there:
//!
//! - at least once, until it is taken, dead after [`DelivererOptions::max_attempts`], or answered 410,
//!   which disables the endpoint; what was taken is known by its `webhook-id`, the same in each try;
//! - in the order of a document's versions, one after the other; `data.version` tells it;
//! - signed with the endpoint's own secret, which the store holds [sealed](SecretKey);
//! - with a time limit shorter than its lease, no redirect followed, and nothing read of the answer but
//!   its status;
//! - to public addresses only, compared after the name was resolved, unless
//!   [`DelivererOptions::allow_private`] is set.
//!
//! ```
//! use std::sync::Arc;
//!
//! use kbqueue_core::outbox::{EventKind, Outbox};
//! use kbqueue_core::{MemoryStore, QueueName};
//! use kbqueue_webhook::{Deliverer, DelivererOptions, Secret, SecretKey, endpoint};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Arc::new(MemoryStore::new());
//! let key = SecretKey::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")?; // KBQUEUE_SECRET_KEY
//! let secret = Secret::random(); // Shown once to whoever verifies.
//! let queue = QueueName::default();
//! let kinds = EventKind::ALL.to_vec();
//! store.put_endpoint(endpoint(&key, queue.clone(), "https://example.com/hook", &secret, kinds)?).await?;
//! let deliverer = Deliverer::new(store, key, vec![queue], DelivererOptions::default())?;
//! deliverer.run(tokio_util::sync::CancellationToken::new()).await;
//! # Ok(()) }
//! ```

mod deliverer;
mod guard;
mod secret;

use kbqueue_core::QueueName;
use kbqueue_core::outbox::{Endpoint, EndpointId, EventKind};
use uuid::Uuid;

pub use self::deliverer::{Deliverer, DelivererOptions};
pub use self::secret::{InvalidSecret, Secret};
pub use kbqueue_core::SecretKey;

/// Why an endpoint or a deliverer cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// The address is none that can be posted to.
    #[error("{0:?} is no webhook address: use http:// or https:// and a host")]
    Url(String),
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
}

/// A new endpoint under a fresh id, its secret sealed.
///
/// # Errors
/// [`WebhookError::Url`]. Where the address leads is seen at each delivery, not here.
pub fn endpoint(
    key: &SecretKey,
    queue: QueueName,
    url: &str,
    secret: &Secret,
    events: Vec<EventKind>,
) -> Result<Endpoint, WebhookError> {
    guard::parse(url).ok_or_else(|| WebhookError::Url(url.to_owned()))?;
    let id = EndpointId(Uuid::now_v7());
    Ok(Endpoint {
        id,
        queue,
        url: url.to_owned(),
        secret: secret.seal(key, id),
        events,
        disabled: None,
    })
}
