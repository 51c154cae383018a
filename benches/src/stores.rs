//! Fresh stores, and documents to put into them.

use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use kbqueue_core::{BlobRef, Dedupe, NewDocument, QueueName, Store};
use kbqueue_sqlite::{SqliteOptions, SqliteStore, Synchronous};
use tempfile::TempDir;

/// A store and how durable it is.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// SQLite, WAL, synchronous=FULL: every commit is fsynced.
    SqliteFull,
    /// SQLite, WAL, synchronous=NORMAL: a power cut loses the last commits.
    SqliteNormal,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SqliteFull => "SQLite, FULL",
            Self::SqliteNormal => "SQLite, NORMAL",
        }
    }

    fn synchronous(self) -> Synchronous {
        match self {
            Self::SqliteFull => Synchronous::Full,
            Self::SqliteNormal => Synchronous::Normal,
        }
    }

    /// The word in the pragma.
    pub(crate) fn pragma(self) -> &'static str {
        match self {
            Self::SqliteFull => "FULL",
            Self::SqliteNormal => "NORMAL",
        }
    }
}

/// An empty store in a directory of its own.
pub(crate) struct Fresh {
    pub(crate) store: Arc<dyn Store>,
    directory: TempDir,
}

impl Fresh {
    pub(crate) async fn new(kind: Kind) -> Self {
        let directory = tempfile::tempdir().expect("there is room");
        let options = SqliteOptions::new(directory.path().join("kbqueue.db"));
        let store = SqliteStore::open(options.synchronous(kind.synchronous())).await;
        Self {
            store: Arc::new(store.expect("it opens")),
            directory,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Enqueues so many documents, a thousand a call.
    pub(crate) async fn fill(&self, documents: usize, blob: &BlobRef) {
        let mut left = documents;
        while left > 0 {
            let batch = left.min(1000);
            self.store
                .enqueue(new_documents(batch, blob))
                .await
                .expect("they are taken");
            left -= batch;
        }
    }
}

/// 200 bytes of a caller's own data.
pub(crate) fn metadata() -> serde_json::Value {
    serde_json::json!({ "source": "bench", "note": "x".repeat(168) })
}

pub(crate) fn new_documents(count: usize, blob: &BlobRef) -> Vec<NewDocument> {
    (0..count)
        .map(|_| {
            let mut document = NewDocument::new(QueueName::default(), blob.clone(), "bench.pdf");
            document.dedupe = Dedupe::Off;
            document.metadata = metadata();
            document
        })
        .collect()
}
