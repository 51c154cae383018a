//! The raw limit of each database: a table, and the barest statements or scripts that enqueue, claim under
//! a lease, and complete rows that stay, with all that a caller can see of a document.

mod postgres;
mod redis;
pub(crate) mod rusqlite;
mod sqlite;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Mutex, Notify};

use crate::stores::Kind;

/// An empty table of one's own, and a connection to it. Whatever fails panics.
#[async_trait]
pub(crate) trait Raw: Send {
    /// Adds so many rows in one transaction.
    async fn enqueue(&mut self, count: usize);

    /// Adds one row, and wakes the [`worker`](Raw::worker).
    async fn announce(&mut self);

    /// A worker's own connection to the same table, which hears what is announced from now on.
    async fn worker(&self) -> Box<dyn Raw>;

    /// Waits for the next announcement.
    async fn woken(&mut self);

    /// Takes up to `limit` rows under one lease, and answers how many these are.
    async fn claim(&mut self, limit: usize) -> usize;

    /// Completes what the last claim took.
    async fn complete(&mut self);

    /// Writes chunks of the one document that the last claim took, where it still has its lease.
    async fn write_chunks(&mut self, texts: &[String]);

    /// Removes the table.
    async fn end(self: Box<Self>) {}
}

pub(crate) async fn open(kind: Kind) -> Box<dyn Raw> {
    match kind {
        Kind::SqliteFull | Kind::SqliteNormal => {
            let mut raw = sqlite::Raw::new(kind).await;
            raw.make_chunks().await;
            Box::new(Embedded {
                raw: Arc::new(Mutex::new(raw)),
                bell: Arc::default(),
                claimed: Vec::new(),
            })
        }
        Kind::Postgres => Box::new(postgres::Raw::new().await),
        Kind::Redis | Kind::RedisNoAof => Box::new(redis::Raw::new(kind).await),
    }
}

/// SQLite has one writer, here as in the store: both sides share its connection, and a bell in the process.
struct Embedded {
    raw: Arc<Mutex<sqlite::Raw>>,
    bell: Arc<Notify>,
    claimed: Vec<i64>,
}

#[async_trait]
impl Raw for Embedded {
    async fn enqueue(&mut self, count: usize) {
        self.raw.lock().await.enqueue(&sqlite::rows(count)).await;
    }

    async fn announce(&mut self) {
        self.enqueue(1).await;
        self.bell.notify_one();
    }

    async fn worker(&self) -> Box<dyn Raw> {
        Box::new(Self {
            raw: Arc::clone(&self.raw),
            bell: Arc::clone(&self.bell),
            claimed: Vec::new(),
        })
    }

    async fn woken(&mut self) {
        self.bell.notified().await;
    }

    async fn claim(&mut self, limit: usize) -> usize {
        self.claimed = self.raw.lock().await.claim(limit).await;
        self.claimed.len()
    }

    async fn complete(&mut self) {
        self.raw.lock().await.complete(&self.claimed).await;
    }

    async fn write_chunks(&mut self, texts: &[String]) {
        self.raw.lock().await.write_chunks(texts).await;
    }
}
