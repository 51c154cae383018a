//! A schema of its own for each test, and short ways to make documents and leases.

use std::time::Duration;

use kbqueue_core::lifecycle::Cursor;
use kbqueue_core::store::{Checkpoint, ClaimRequest, Claims, Worker, WorkerId};
use kbqueue_core::{BlobRef, Dedupe, Document, NewDocument, Notice, QueueName, Store, TestClock};
use kbqueue_postgres::{PostgresOptions, PostgresStore};
use kbqueue_tests::postgres::Schema;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// How long a test waits for what has to come. Only one that fails spends it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An empty schema, and a clock that stands still.
pub(crate) struct Place {
    schema: Schema,
    pub(crate) clock: TestClock,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            schema: Schema::new(),
            clock: TestClock::new(),
        }
    }

    pub(crate) fn schema(&self) -> &str {
        self.schema.name()
    }

    /// On the server's own clock. Its sessions are named after the schema.
    pub(crate) fn options(&self) -> PostgresOptions {
        let url = format!("{}?application_name={}", self.schema.url(), self.schema());
        let options = PostgresOptions::parse(&url).unwrap();
        options.schema(self.schema()).unwrap().pool_size(4)
    }

    pub(crate) async fn store(&self) -> PostgresStore {
        let options = self.options().clock(self.clock.clock());
        PostgresStore::open(options).await.unwrap()
    }

    /// A connection of somebody else's.
    pub(crate) async fn connection(&self) -> PgConnection {
        PgConnection::connect(self.schema.url()).await.unwrap()
    }

    /// SQL with the schema's name in the place of `kbqueue.`.
    pub(crate) fn sql(&self, sql: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(sql.replace("kbqueue.", &format!("{}.", self.schema())))
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

pub(crate) async fn claim(store: &PostgresStore, slots: usize) -> Claims {
    store.claim(request(slots)).await.unwrap()
}

pub(crate) async fn stored(store: &PostgresStore, document: NewDocument) -> Document {
    let id = document.id;
    store.enqueue(vec![document]).await.unwrap();
    store.document(id).await.unwrap().unwrap()
}

pub(crate) async fn queued(store: &PostgresStore) -> u64 {
    let stats = store.stats(&QueueName::default()).await.unwrap();
    stats.counts.queued
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

/// What comes next, within [`PATIENCE`].
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it comes, and nothing waits for ever")
}

/// A subscription that has begun.
pub(crate) async fn subscribe(store: &PostgresStore) -> kbqueue_core::Subscription {
    let mut notices = store.subscribe().await.unwrap();
    assert_eq!(notices.next().await, Notice::Resync);
    notices
}
