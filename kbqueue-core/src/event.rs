//! What subscribers hear.
//!
//! Notices are hints without a log: a subscription begins with [`Notice::Resync`], and every gap in
//! it is followed by another, whereupon the listener reads the current state again. So nothing is
//! missed, whatever happened in between.

use serde::Serialize;
use tokio::sync::broadcast;

use crate::document::{Document, DocumentId};
use crate::output::Progress;
use crate::queue::QueueName;
use crate::state::State;

/// How many notices a slow listener may fall behind before it gets a [`Notice::Resync`] instead.
const CAPACITY: usize = 1024;

/// One thing that a store has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The subscription begins, or something was missed: read the state again.
    Resync,
    /// A document changed.
    Document(DocumentChange),
    /// A queue's settings changed.
    Queue(QueueName),
}

/// A document after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DocumentChange {
    /// Which one.
    #[serde(rename = "document_id")]
    pub id: DocumentId,
    /// Where it is.
    pub queue: QueueName,
    /// Its state now.
    pub state: State,
    /// Grows with every transition, so that older changes can be dropped.
    pub version: u64,
    /// How far it is.
    pub progress: Progress,
    /// Somebody asked its worker to stop.
    pub cancel_requested: bool,
    /// It was hidden.
    pub deleted: bool,
}

impl DocumentChange {
    /// The change that led to `document`.
    #[must_use]
    pub fn of(document: &Document) -> Self {
        let life = &document.lifecycle;
        Self {
            id: document.id,
            queue: document.queue.clone(),
            state: life.state,
            version: life.version,
            progress: life.progress,
            cancel_requested: life.cancel_requested_at.is_some(),
            deleted: life.deleted_at.is_some(),
        }
    }
}

/// The sending side, kept by a store.
#[derive(Debug, Clone)]
pub struct Notifier(broadcast::Sender<Notice>);

impl Default for Notifier {
    fn default() -> Self {
        Self(broadcast::channel(CAPACITY).0)
    }
}

impl Notifier {
    /// Tells every listener. With nobody listening, nothing happens.
    pub fn send(&self, notice: Notice) {
        // The only error is "no listeners", which is no error here.
        let _ = self.0.send(notice);
    }

    /// How many listeners there are, so that a store need not watch for changes that nobody hears of.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.0.receiver_count()
    }

    /// A new listener.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        Subscription {
            receiver: self.0.subscribe(),
            begun: false,
        }
    }
}

/// The listening side. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    receiver: broadcast::Receiver<Notice>,
    begun: bool,
}

impl Subscription {
    /// The next notice; the first is always [`Notice::Resync`]. Waits for ever where nothing happens
    /// or the store is gone. Cancel safe.
    pub async fn next(&mut self) -> Notice {
        if !self.begun {
            self.begun = true;
            return Notice::Resync;
        }
        match self.receiver.recv().await {
            Ok(notice) => notice,
            Err(broadcast::error::RecvError::Lagged(_)) => Notice::Resync,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_that_fell_behind_is_told_to_look_again() {
        let notifier = Notifier::default();
        let mut listener = notifier.subscribe();
        assert_eq!(listener.next().await, Notice::Resync);
        for _ in 0..=CAPACITY {
            notifier.send(Notice::Queue(QueueName::default()));
        }
        assert_eq!(listener.next().await, Notice::Resync);
        assert_eq!(listener.next().await, Notice::Queue(QueueName::default()));
    }
}
