//! Wake-ups: at once inside this process, and through LISTEN and NOTIFY in others.

use std::sync::{Arc, Weak};
use std::time::Duration;

use kbqueue_core::error::chain;
use kbqueue_core::event::{DocumentChange, Notifier};
use kbqueue_core::store::Result;
use kbqueue_core::{DocumentId, Notice, Progress, QueueName, State, Subscription};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::watch;
use uuid::Uuid;

use crate::batch::json;
use crate::error::failed;
use crate::store::{Inner, PostgresStore};

/// PostgreSQL takes messages of less than 8000 bytes.
const LONGEST_MESSAGE: usize = 7999;

/// How long to wait before listening is tried again, at first and at most.
const RETRY: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// How often subscribers are told to look again where nobody can listen.
const POLL: Duration = Duration::from_secs(1);

/// What makes messages to other processes.
#[derive(Debug)]
pub(crate) struct Sender {
    channel: String,
    /// Tells our own messages apart: this process hears of its changes without them.
    me: Uuid,
}

/// Tells subscribers what this process commits, and what others say that they did.
#[derive(Debug)]
pub(crate) struct Wake {
    notifier: Notifier,
    pub(crate) sender: Sender,
    /// Whether somebody listens for messages.
    listening: tokio::sync::Mutex<bool>,
    /// Dropped, or told, when the store is closed.
    closed: watch::Sender<bool>,
}

/// A message: from whom, and what changed; nothing where that would be too long.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    from: Uuid,
    changes: Vec<Change>,
}

/// A notice in the shortest form.
#[derive(Debug, Serialize, Deserialize)]
enum Change {
    #[serde(rename = "d")]
    Document(DocumentId, QueueName, State, u64, Flags, Counters),
    #[serde(rename = "q")]
    Queue(QueueName),
}

/// Cancel requested, deleted.
#[derive(Debug, Serialize, Deserialize)]
struct Flags(bool, bool);

/// A [`Progress`], field by field.
#[derive(Debug, Serialize, Deserialize)]
struct Counters(u32, Option<u32>, u32, u32, u8, Option<u64>);

impl Change {
    /// `None` of what has no short form.
    fn of(notice: &Notice) -> Option<Self> {
        match notice {
            Notice::Document(change) => {
                let p = change.progress;
                Some(Self::Document(
                    change.id,
                    change.queue.clone(),
                    change.state,
                    change.version,
                    Flags(change.cancel_requested, change.deleted),
                    Counters(
                        p.current_page,
                        p.total_pages,
                        p.current_chunk,
                        p.total_chunks,
                        p.percent,
                        p.eta_ms,
                    ),
                ))
            }
            Notice::Queue(queue) => Some(Self::Queue(queue.clone())),
            _ => None,
        }
    }

    fn notice(self) -> Notice {
        match self {
            Self::Document(id, queue, state, version, Flags(cancel_requested, deleted), p) => {
                let Counters(
                    current_page,
                    total_pages,
                    current_chunk,
                    total_chunks,
                    percent,
                    eta_ms,
                ) = p;
                Notice::Document(DocumentChange {
                    id,
                    queue,
                    state,
                    version,
                    progress: Progress {
                        current_page,
                        total_pages,
                        current_chunk,
                        total_chunks,
                        percent,
                        eta_ms,
                    },
                    cancel_requested,
                    deleted,
                })
            }
            Self::Queue(queue) => Notice::Queue(queue),
        }
    }
}

impl Sender {
    /// One whose messages this process hears, too.
    pub(crate) fn anonymous(sender: &Self) -> Self {
        Self {
            channel: sender.channel.clone(),
            me: Uuid::nil(),
        }
    }

    /// The channel of this schema; databases do not hear each other.
    pub(crate) fn channel(&self) -> &str {
        &self.channel
    }

    /// What to tell other processes of these notices; `None` where there are none.
    pub(crate) fn message(&self, notices: &[Notice]) -> Option<String> {
        if notices.is_empty() {
            return None;
        }
        // None takes less than 64 bytes, so this many would never fit.
        if notices.len() <= LONGEST_MESSAGE / 64
            && let Some(changes) = notices.iter().map(Change::of).collect()
        {
            let from = self.me;
            let message = json(&Message { from, changes });
            if message.len() <= LONGEST_MESSAGE {
                return Some(message);
            }
        }
        Some(self.look_again())
    }

    /// What to tell other processes where it is not known beforehand what changes.
    pub(crate) fn look_again(&self) -> String {
        let (from, changes) = (self.me, Vec::new());
        json(&Message { from, changes })
    }

    /// What a message of somebody else says.
    fn read(&self, message: &str) -> Vec<Notice> {
        match serde_json::from_str::<Message>(message) {
            Ok(message) if message.from == self.me => Vec::new(),
            Ok(message) if !message.changes.is_empty() => {
                message.changes.into_iter().map(Change::notice).collect()
            }
            // Too much to say, or something that only a newer release says.
            Ok(_) | Err(_) => vec![Notice::Resync],
        }
    }
}

impl Wake {
    pub(crate) fn new(schema: &str) -> Self {
        Self {
            notifier: Notifier::default(),
            sender: Sender {
                channel: format!("{schema}_changes"),
                me: Uuid::new_v4(),
            },
            listening: tokio::sync::Mutex::new(false),
            closed: watch::channel(false).0,
        }
    }

    /// Tells subscribers in this process.
    pub(crate) fn tell(&self, notices: impl IntoIterator<Item = Notice>) {
        for notice in notices {
            self.notifier.send(notice);
        }
    }

    /// Ends listening.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }
}

/// A new subscription, with a listener behind it.
pub(crate) async fn subscribe(store: &PostgresStore) -> Result<Subscription> {
    let wake = &store.inner().wake;
    let mut listening = wake.listening.lock().await;
    if !*listening {
        if *wake.closed.borrow() {
            return Err(failed(sqlx::Error::PoolClosed));
        }
        let inner = Arc::downgrade(store.inner());
        let mut closed = wake.closed.subscribe();
        match store.options().listener() {
            None => {
                tokio::spawn(async move { end_with(&mut closed, poll(inner)).await });
            }
            Some(options) => {
                let channel = wake.sender.channel.clone();
                let pool = pool(options, store.options().patience);
                // Before the caller reads the state for the first time, so that no change falls in between.
                let listener = listen(&pool, &channel).await.map_err(failed)?;
                let hear = hear(inner, pool, channel, listener);
                tokio::spawn(async move { end_with(&mut closed, hear).await });
            }
        }
        *listening = true;
    }
    Ok(wake.notifier.subscribe())
}

/// A pool of one: the listener gets its next connection from there.
fn pool(options: PgConnectOptions, patience: Duration) -> PgPool {
    PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(patience)
        .connect_lazy_with(options)
}

async fn end_with(closed: &mut watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        // An error says that the store is gone.
        _ = closed.wait_for(|closed| *closed) => {}
        () = work => {}
    }
}

async fn listen(pool: &PgPool, channel: &str) -> std::result::Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    // Reconnected here, so that what was missed is never mistaken for silence.
    listener.eager_reconnect(false);
    listener.listen(channel).await?;
    Ok(listener)
}

/// Passes messages on until the store is gone. After each gap, subscribers are told to look again.
async fn hear(store: Weak<Inner>, pool: PgPool, channel: String, mut listener: PgListener) {
    loop {
        let heard = listener.try_recv().await;
        let Some(inner) = store.upgrade() else { return };
        match heard {
            Ok(Some(message)) => {
                let notices = inner.wake.sender.read(message.payload());
                inner.wake.tell(notices);
                continue;
            }
            Ok(None) => tracing::warn!("the connection that listens for changes was lost"),
            Err(error) => tracing::warn!(error = chain(&error), "cannot listen for changes"),
        }
        drop(inner);
        drop(listener);
        let [mut pause, longest] = RETRY;
        listener = loop {
            match listen(&pool, &channel).await {
                Ok(listener) => break listener,
                Err(error) => tracing::warn!(error = chain(&error), "cannot listen for changes"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        };
        let Some(inner) = store.upgrade() else { return };
        inner.wake.tell([Notice::Resync]);
    }
}

/// Tells subscribers to look again, once in a while.
async fn poll(store: Weak<Inner>) {
    loop {
        tokio::time::sleep(POLL).await;
        let Some(inner) = store.upgrade() else { return };
        inner.wake.tell([Notice::Resync]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(queue: &str) -> Notice {
        Notice::Document(DocumentChange {
            id: DocumentId::new(),
            queue: queue.parse().unwrap(),
            state: State::Processing,
            version: 7,
            progress: Progress {
                current_page: 1,
                total_pages: Some(2),
                current_chunk: 3,
                total_chunks: 4,
                percent: 5,
                eta_ms: None,
            },
            cancel_requested: true,
            deleted: false,
        })
    }

    #[test]
    fn messages_say_what_changed_and_fit() {
        let (here, there) = (Wake::new("a").sender, Wake::new("a").sender);
        for count in [1, 2, 20, 30, 40, 60, 100, 10_000] {
            let mut notices: Vec<_> = (0..count).map(|_| change("default")).collect();
            notices.push(Notice::Queue(QueueName::default()));
            let message = here.message(&notices).unwrap();
            assert!(message.len() <= LONGEST_MESSAGE, "{count}");
            let heard = there.read(&message);
            assert!(
                heard == notices || heard == [Notice::Resync] && count > 30,
                "{count}"
            );
            assert_eq!(here.read(&message), [], "our own");
        }
        assert_eq!(here.message(&[]), None);
        assert_eq!(there.read("{}"), [Notice::Resync], "of a newer release");
    }
}
