//! Sends what is due.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use kbqueue_core::error::chain;
use kbqueue_core::outbox::{
    Delivery, DeliveryOutcome, DeliveryRequest, DeliverySettlement, Endpoint, Outbox,
};
use kbqueue_core::store::Result;
use kbqueue_core::{Backoff, LeaseId, Notice, QueueName, SecretKey};
use reqwest::{Client, StatusCode, Url, redirect};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::secret::Secret;
use crate::{WebhookError, guard};

/// How much longer than a request its lease lasts, for the settlement behind it.
const LEASE_MARGIN: Duration = Duration::from_secs(30);
/// How often delivered ones are looked for that are too old to be kept.
const PURGE_EVERY: Duration = Duration::from_secs(600);
const PURGED_AT_ONCE: usize = 1000;

/// How deliveries are made.
///
/// Defaults: 16 at once, 4 of them to one endpoint; 15 s for a request; 20 attempts over about four days,
/// with exponential backoff from 10 s to a day; a look every 10 s; delivered ones kept for a week; public
/// addresses only.
#[derive(Debug, Clone)]
pub struct DelivererOptions {
    /// Requests at once in this process.
    pub concurrency: usize,
    /// Requests at once to one endpoint, in all processes.
    pub per_endpoint: u32,
    /// For the whole of a request, the name's resolution included.
    pub timeout: Duration,
    /// After so many attempts a delivery is dead.
    pub max_attempts: u32,
    /// Between two attempts.
    pub backoff: Backoff,
    /// How often to look when nothing is heard.
    pub check_interval: Duration,
    /// How long delivered ones are kept for people to look at, those of other deliverers' queues included.
    pub keep_delivered: Duration,
    /// Whether endpoints may be on private, loopback and link-local addresses.
    pub allow_private: bool,
}

impl Default for DelivererOptions {
    fn default() -> Self {
        Self {
            concurrency: 16,
            per_endpoint: 4,
            timeout: Duration::from_secs(15),
            max_attempts: 20,
            backoff: Backoff {
                base: Duration::from_secs(10),
                cap: Duration::from_secs(24 * 3600),
            },
            check_interval: Duration::from_secs(10),
            keep_delivered: Duration::from_secs(7 * 24 * 3600),
            allow_private: false,
        }
    }
}

/// Delivers the events of some queues. Any number of them may run at once.
#[derive(Debug, Clone)]
pub struct Deliverer {
    store: Arc<dyn Outbox>,
    key: SecretKey,
    queues: Vec<QueueName>,
    options: DelivererOptions,
    client: Client,
}

impl Deliverer {
    /// A deliverer that opens secrets with `key`.
    ///
    /// # Errors
    /// [`WebhookError::Client`].
    pub fn new(
        store: Arc<dyn Outbox>,
        key: SecretKey,
        queues: Vec<QueueName>,
        options: DelivererOptions,
    ) -> std::result::Result<Self, WebhookError> {
        // Kept where the host has chosen another one.
        #[cfg(feature = "tls")]
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder()
            .user_agent(concat!("kbqueue-webhook/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            // A proxy would resolve names itself, behind the guard.
            .no_proxy();
        if !options.allow_private {
            client = client.dns_resolver(Arc::new(guard::PublicOnly));
        }
        Ok(Self {
            store,
            key,
            queues,
            client: client.build().map_err(WebhookError::Client)?,
            options,
        })
    }

    /// Delivers until `stop`; requests that are under way then are waited for.
    pub async fn run(&self, stop: CancellationToken) {
        tokio::select! {
            () = self.keep_delivering(&stop) => {}
            () = self.keep_purging() => {}
        }
    }

    async fn keep_delivering(&self, stop: &CancellationToken) {
        let mut under_way = FuturesUnordered::new();
        let mut notices = None;
        while !stop.is_cancelled() {
            if notices.is_none() {
                notices = self.store.subscribe().await.ok();
            }
            let free = self
                .options
                .concurrency
                .max(1)
                .saturating_sub(under_way.len());
            let wait = match self.claim(free).await {
                Ok((claimed, wait)) => {
                    under_way.extend(claimed.into_iter().map(|(d, e)| self.deliver(d, e)));
                    wait
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), "cannot claim deliveries");
                    self.options.check_interval
                }
            };
            let heard = async {
                match &mut notices {
                    Some(notices) => {
                        while !self.may_bring_more(&notices.next().await) {}
                        // Many that ended together are worth one look.
                        while notices.next().now_or_never().is_some() {}
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
                () = heard => {}
                // The next event of that document may be due now.
                Some(()) = under_way.next() => {}
            }
        }
        while under_way.next().await.is_some() {}
    }

    /// Claims for the free slots; also how long to wait before the next look.
    async fn claim(&self, free: usize) -> Result<(Vec<(Delivery, Endpoint)>, Duration)> {
        let check_interval = self.options.check_interval;
        if free == 0 {
            return Ok((Vec::new(), check_interval));
        }
        let request = DeliveryRequest {
            queues: self.queues.clone(),
            lease_ids: (0..free).map(|_| LeaseId::random()).collect(),
            lease: self.options.timeout + LEASE_MARGIN,
            per_endpoint: self.options.per_endpoint,
        };
        let claims = self.store.claim_deliveries(request).await?;
        let wait = claims.next_due.unwrap_or(check_interval);
        // Not at once, even should a store say so.
        let wait = wait.clamp(
            Duration::from_millis(10),
            check_interval.max(Duration::from_millis(10)),
        );
        Ok((claims.deliveries, wait))
    }

    /// Whether there may be something to deliver now.
    fn may_bring_more(&self, notice: &Notice) -> bool {
        match notice {
            Notice::Document(change) => {
                change.state.is_terminal() && self.queues.contains(&change.queue)
            }
            Notice::Resync => true,
            _ => false,
        }
    }

    async fn keep_purging(&self) {
        loop {
            self.purge().await;
            tokio::time::sleep(PURGE_EVERY).await;
        }
    }

    async fn purge(&self) {
        let age = self.options.keep_delivered;
        loop {
            match self.store.purge_deliveries(age, PURGED_AT_ONCE).await {
                Ok(PURGED_AT_ONCE) => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(error = chain(&error), "cannot remove old deliveries");
                    return;
                }
            }
        }
    }

    /// Makes one attempt, and settles it.
    async fn deliver(&self, delivery: Delivery, endpoint: Endpoint) {
        let limit = self.options.timeout;
        let sent = tokio::time::timeout(limit, self.send(&delivery, &endpoint)).await;
        let outcome = match sent.unwrap_or_else(|_| Err(format!("no answer within {limit:?}"))) {
            Ok(status) if status.is_success() => DeliveryOutcome::Delivered,
            Ok(StatusCode::GONE) => DeliveryOutcome::Gone {
                error: "it answered 410 Gone".to_owned(),
            },
            Ok(status) if status.is_redirection() => self.again(
                &delivery,
                format!("it answered {status}; redirects are not followed"),
            ),
            Ok(status) => self.again(&delivery, format!("it answered {status}")),
            Err(error) => self.again(&delivery, error),
        };
        let settlement = DeliverySettlement {
            queue: delivery.queue.clone(),
            endpoint: delivery.endpoint,
            document: delivery.document,
            version: delivery.version,
            lease_id: delivery.lease_id.unwrap_or_else(LeaseId::random),
            outcome,
        };
        let Err(error) = self.store.settle_deliveries(vec![settlement]).await else {
            return;
        };
        // Its lease will run out, and it is sent once more.
        let (endpoint, document) = (delivery.endpoint, delivery.document);
        tracing::warn!(%endpoint, %document, error = chain(&error), "cannot settle a delivery");
    }

    /// Once more later, or never.
    fn again(&self, delivery: &Delivery, error: String) -> DeliveryOutcome {
        let (endpoint, document) = (delivery.endpoint, delivery.document);
        if delivery.attempts >= self.options.max_attempts {
            tracing::warn!(%endpoint, %document, error, "a delivery is dead");
            return DeliveryOutcome::Dead { error };
        }
        tracing::info!(%endpoint, %document, error, "a delivery is tried again later");
        let retries = delivery.attempts.saturating_sub(1);
        let delay = self
            .options
            .backoff
            .delay(retries, &mut fastrand::Rng::new());
        DeliveryOutcome::Retry { error, delay }
    }

    /// Sends it; answers the status.
    async fn send(
        &self,
        delivery: &Delivery,
        endpoint: &Endpoint,
    ) -> std::result::Result<StatusCode, String> {
        let url = self.target(&endpoint.url)?;
        let secret = Secret::open(&endpoint.secret, &self.key, endpoint.id);
        let secret = secret.map_err(|error| error.to_string())?;
        let body = self.body(delivery).await.map_err(|error| chain(&error))?;
        let body = body.to_string();
        let id = format!("msg_{}_{}", delivery.document.0.simple(), delivery.version);
        let now = Timestamp::now();
        let request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-signature", secret.sign(&id, now, body.as_bytes()))
            .header("webhook-id", id)
            .header("webhook-timestamp", now.as_second())
            .body(body);
        // The body of the answer is left alone: whoever sent it chose its length.
        let answer = request.send().await;
        answer
            .map(|answer| answer.status())
            .map_err(|error| chain(&error.without_url()))
    }

    fn target(&self, url: &str) -> std::result::Result<Url, String> {
        let target = guard::parse(url).ok_or("its address cannot be posted to")?;
        if !self.options.allow_private && guard::names_private_address(&target) {
            return Err("its address is not public".to_owned());
        }
        Ok(target)
    }

    /// What is known of the event since it happened, and what is known of the document now.
    async fn body(&self, delivery: &Delivery) -> Result<Value> {
        let mut data = delivery.data.clone();
        // It may be gone by now.
        if let Some(document) = self.store.document(delivery.document).await? {
            data["filename"] = json!(document.filename);
            data["tenant"] = json!(document.tenant);
            data["metadata"] = document.metadata;
        }
        Ok(json!({
            "type": format!("document.{}", delivery.kind.as_str()),
            "timestamp": delivery.occurred_at,
            "data": data,
        }))
    }
}
