//! Wake-ups: at once inside this process, by pub/sub in others.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use kbqueue_core::error::{BoxError, chain};
use kbqueue_core::event::{DocumentChange, Notifier};
use kbqueue_core::store::Result;
use kbqueue_core::{DocumentId, Notice, Progress, QueueName, State, Subscription};
use redis::Client;
use redis::aio::PubSub;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::codec::is_default;
use crate::error::{failed, unavailable};
use crate::store::{Inner, RedisStore};

/// How often the connection is asked whether it is still there, and whether anybody listens.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// The shortest and the longest pause between attempts to connect again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Tells subscribers what this process commits, and what others say that they committed.
#[derive(Debug)]
pub(crate) struct Wake {
    notifier: Notifier,
    /// Names this store among all that publish, so that it does not hear itself.
    own: Uuid,
    /// Whether the listener runs.
    listening: tokio::sync::Mutex<bool>,
}

impl Default for Wake {
    fn default() -> Self {
        Self {
            notifier: Notifier::default(),
            own: Uuid::new_v4(),
            listening: tokio::sync::Mutex::default(),
        }
    }
}

/// What is published.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    from: Uuid,
    /// Where `documents` are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<QueueName>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    documents: Vec<Change>,
    /// A queue that changed itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    queue: Option<QueueName>,
}

/// A [`DocumentChange`] without its queue. What has its default is left out: a message may tell of a
/// thousand documents.
#[derive(Debug, Serialize, Deserialize)]
struct Change {
    id: DocumentId,
    state: State,
    version: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    progress: Progress,
    #[serde(default, skip_serializing_if = "is_default")]
    cancel_requested: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    deleted: bool,
}

impl Wake {
    /// Tells subscribers in this process.
    pub(crate) fn tell(&self, notices: impl IntoIterator<Item = Notice>) {
        for notice in notices {
            self.notifier.send(notice);
        }
    }

    /// What to publish of changes, all in one queue; empty where there are none.
    pub(crate) fn message(&self, changes: &[DocumentChange], queue: Option<&QueueName>) -> Vec<u8> {
        if changes.is_empty() && queue.is_none() {
            return Vec::new();
        }
        let documents = changes.iter().map(|change| Change {
            id: change.id,
            state: change.state,
            version: change.version,
            progress: change.progress,
            cancel_requested: change.cancel_requested,
            deleted: change.deleted,
        });
        crate::codec::json(&Message {
            from: self.own,
            of: changes.first().map(|change| change.queue.clone()),
            documents: documents.collect(),
            queue: queue.cloned(),
        })
    }

    /// Tells subscribers what was published.
    fn hear(&self, payload: &[u8]) {
        let message: Message = match serde_json::from_slice(payload) {
            Ok(message) => message,
            Err(error) => {
                // Of a newer release, most likely: something changed.
                tracing::debug!(%error, "a message could not be read");
                return self.tell([Notice::Resync]);
            }
        };
        if message.from == self.own {
            return;
        }
        let of = message.of.into_iter().cycle();
        let documents = message.documents.into_iter().zip(of);
        let documents = documents.map(|(change, queue)| DocumentChange {
            id: change.id,
            queue,
            state: change.state,
            version: change.version,
            progress: change.progress,
            cancel_requested: change.cancel_requested,
            deleted: change.deleted,
        });
        self.tell(documents.map(Notice::Document));
        self.tell(message.queue.map(Notice::Queue));
    }
}

/// A new subscription, with the listener running behind it.
pub(crate) async fn subscribe(store: &RedisStore) -> Result<Subscription> {
    let wake = store.wake();
    let mut listening = wake.listening.lock().await;
    let subscription = wake.notifier.subscribe();
    if !*listening {
        // Before the caller reads the state for the first time, so that no change falls in between.
        let connection = connect(store).await?;
        tokio::spawn(listen(Arc::downgrade(store.inner()), connection));
        *listening = true;
    }
    Ok(subscription)
}

async fn connect(store: &RedisStore) -> Result<PubSub> {
    let options = store.options();
    let mut last = unavailable("no server was named");
    for url in &options.urls {
        let attempt = async {
            let mut connection = Client::open(url.as_str())?.get_async_pubsub().await?;
            connection.subscribe(store.keys().channel()).await?;
            Ok(connection)
        };
        match tokio::time::timeout(options.patience, attempt).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => last = failed(error),
            Err(elapsed) => last = unavailable(elapsed),
        }
    }
    Err(last)
}

/// Passes on what is published until nobody listens or the store is gone. After each gap subscribers are
/// told to look again.
async fn listen(store: Weak<Inner>, mut connection: PubSub) {
    loop {
        let Some(error) = pass_on(&store, connection).await else {
            return;
        };
        tracing::warn!(
            error = &*error.to_string(),
            "changes of other processes are not heard"
        );
        let mut pause = PAUSES.0;
        connection = loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
            let Some(store) = still_wanted(&store).await else {
                return;
            };
            match connect(&store).await {
                Ok(connection) => break connection,
                Err(error) => tracing::debug!(error = chain(&error), "still not"),
            }
        };
        let Some(store) = store.upgrade().map(RedisStore::from) else {
            return;
        };
        store.wake().tell([Notice::Resync]);
    }
}

/// The store, while anybody listens to it.
async fn still_wanted(store: &Weak<Inner>) -> Option<RedisStore> {
    let store = RedisStore::from(store.upgrade()?);
    let mut listening = store.wake().listening.lock().await;
    if store.wake().notifier.listeners() == 0 {
        *listening = false;
        drop(listening);
        return None;
    }
    drop(listening);
    Some(store)
}

/// Passes on what comes until the connection breaks; `None` where nobody wants it any more.
async fn pass_on(store: &Weak<Inner>, connection: PubSub) -> Option<BoxError> {
    let (mut sink, mut stream) = connection.split();
    loop {
        match tokio::time::timeout(CHECK_INTERVAL, stream.next()).await {
            Ok(Some(message)) => {
                let own = RedisStore::from(store.upgrade()?);
                own.wake().hear(message.get_payload_bytes());
                if own.wake().notifier.listeners() == 0 {
                    drop(own);
                    still_wanted(store).await?;
                }
            }
            Ok(None) => return Some("the connection was closed".into()),
            Err(_) => {
                let store = still_wanted(store).await?;
                let patience = store.options().patience;
                drop(store);
                match tokio::time::timeout(patience, sink.ping::<redis::Value>()).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return Some(error.into()),
                    Err(elapsed) => return Some(elapsed.into()),
                }
            }
        }
    }
}
