//! What can go wrong between the runner and a store.

use crate::document::DocumentId;
use crate::queue::QueueName;
use crate::state::Refusal;

/// Any error, as the cause of another.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a store did not do what was asked. Nothing was changed, but for [`Unavailable`](Self::Unavailable).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No such document, or it was deleted.
    #[error("there is no document {0}")]
    NotFound(DocumentId),
    /// The document's state does not allow it.
    #[error("document {id} refused: {refusal}")]
    Refused {
        /// The document.
        id: DocumentId,
        /// The specification's answer.
        refusal: Refusal,
    },
    /// Another live document holds the idempotency key, or the same content.
    #[error(
        "document {id} cannot be queued again: document {by} stands for the same content or key"
    )]
    Superseded {
        /// The document.
        id: DocumentId,
        /// The one that took its place.
        by: DocumentId,
    },
    /// The queue holds as many waiting documents as it may: nothing of the batch was taken. Try again
    /// when some of them have been claimed.
    #[error("queue {queue} is full: {queued} documents are queued, and at most {limit} may be")]
    QueueFull {
        /// Which queue.
        queue: QueueName,
        /// Its `max_queued`.
        limit: u64,
        /// How many were queued.
        queued: u64,
    },
    /// The named store did not answer. The write may or may not have landed; repeating it is safe.
    #[error("{store} is unavailable")]
    Unavailable {
        /// Which store.
        store: &'static str,
        /// What its driver said.
        source: BoxError,
    },
    /// A stored row cannot be read by this release.
    #[error("{what} cannot be read")]
    Malformed {
        /// Which row.
        what: String,
        /// What is wrong with it.
        source: BoxError,
    },
    /// The store was opened in a way that it cannot work: wrong version, wrong settings.
    #[error("{0}")]
    Unusable(String),
}

impl StoreError {
    /// A refusal of `id`.
    #[must_use]
    pub fn refused(id: DocumentId, refusal: Refusal) -> Self {
        Self::Refused { id, refusal }
    }

    /// Whether repeating the call later may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::QueueFull { .. })
    }
}

/// An error with all its causes in one line, for a log or a document's history.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
