//! A file of its own for each test, and short ways to make documents and leases.

use std::path::PathBuf;
use std::time::Duration;

use kbqueue_core::lifecycle::Cursor;
use kbqueue_core::store::{Checkpoint, ClaimRequest, Claims, Worker, WorkerId};
use kbqueue_core::{BlobRef, Dedupe, Document, NewDocument, QueueName, Store, TestClock};
use kbqueue_sqlite::{SqliteOptions, SqliteStore, Synchronous};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};

pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// A directory with one database in it, and a clock that stands still.
pub(crate) struct File {
    directory: tempfile::TempDir,
    pub(crate) clock: TestClock,
}

impl File {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            clock: TestClock::new(),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("queue.db")
    }

    pub(crate) fn options(&self) -> SqliteOptions {
        SqliteOptions::new(self.path())
            .synchronous(Synchronous::Normal)
            .clock(self.clock.clock())
    }

    pub(crate) async fn store(&self) -> SqliteStore {
        SqliteStore::open(self.options()).await.unwrap()
    }

    /// A connection of somebody else's.
    pub(crate) async fn connection(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new()
            .filename(self.path())
            .create_if_missing(true);
        options.connect().await.unwrap()
    }
}

pub(crate) fn document(name: &str) -> NewDocument {
    let blob = BlobRef {
        sha256: "00".repeat(32),
        size_bytes: 1,
    };
    let mut document = NewDocument::new(QueueName::default(), blob, name);
    document.dedupe = Dedupe::Off;
    document
}

pub(crate) fn worker() -> Worker {
    Worker {
        id: WorkerId(uuid::Uuid::new_v4()),
        name: "worker".to_owned(),
        queues: vec![QueueName::default()],
    }
}

pub(crate) fn request(slots: usize) -> ClaimRequest {
    ClaimRequest::new(worker(), slots, LEASE, "fake/1".to_owned())
}

pub(crate) async fn claim(store: &SqliteStore, slots: usize) -> Claims {
    store.claim(request(slots)).await.unwrap()
}

pub(crate) async fn stored(store: &SqliteStore, document: NewDocument) -> Document {
    let id = document.id;
    store.enqueue(vec![document]).await.unwrap();
    store.document(id).await.unwrap().unwrap()
}

/// The next checkpoint of a document under its lease, without outputs.
pub(crate) fn checkpoint(document: &Document) -> Checkpoint {
    let life = &document.lifecycle;
    let lease = life.lease.as_ref().unwrap();
    let cursor = Cursor {
        number: life.cursor.number + 1,
        ..life.cursor
    };
    Checkpoint::new(document.id, lease.id, LEASE, cursor, life.progress)
}
