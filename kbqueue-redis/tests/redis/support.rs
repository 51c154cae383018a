//! Stores with keys of their own, and short ways to make documents and leases.

use std::time::Duration;

use kbqueue_core::lifecycle::Cursor;
use kbqueue_core::state::Outcome;
use kbqueue_core::store::{Checkpoint, ClaimRequest, Settlement, Worker, WorkerId};
use kbqueue_core::{
    BlobRef, Dedupe, Document, DocumentId, NewDocument, Notice, QueueName, Store, Subscription,
    TestClock,
};
use kbqueue_redis::{RedisOptions, RedisStore};
use redis::FromRedisValue;
use redis::aio::MultiplexedConnection;

pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// No wait in a test lasts longer than this: it only catches what hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Keys of its own on some server, and a clock that stands still.
pub(crate) struct Space {
    url: String,
    pub(crate) prefix: String,
    pub(crate) clock: TestClock,
}

impl Space {
    pub(crate) fn new() -> Self {
        Self::on(kbqueue_tests::redis::shared())
    }

    pub(crate) fn on(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            prefix: kbqueue_tests::redis::prefix(),
            clock: TestClock::new(),
        }
    }

    pub(crate) fn options(&self) -> RedisOptions {
        self.options_on(&self.url)
    }

    /// The same keys by another way.
    pub(crate) fn options_on(&self, url: &str) -> RedisOptions {
        let options = RedisOptions::parse(url).unwrap();
        options.prefix(&self.prefix).clock(self.clock.clock())
    }

    pub(crate) async fn store(&self) -> RedisStore {
        RedisStore::open(self.options()).await.unwrap()
    }

    /// A connection of somebody else's.
    pub(crate) async fn raw(&self) -> Raw {
        let client = redis::Client::open(&*self.url).unwrap();
        Raw(client.get_multiplexed_async_connection().await.unwrap())
    }

    /// A key of the default queue.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{{{}:{}}}:{name}", self.prefix, QueueName::default())
    }
}

/// A connection that takes commands as words.
pub(crate) struct Raw(MultiplexedConnection);

impl Raw {
    pub(crate) async fn run<T: FromRedisValue>(&mut self, words: &[&str]) -> T {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word);
        }
        command.query_async(&mut self.0).await.unwrap()
    }
}

pub(crate) fn document() -> NewDocument {
    let blob = BlobRef {
        sha256: "00".repeat(32),
        size_bytes: 1,
    };
    let mut document = NewDocument::new(QueueName::default(), blob, "document.pdf");
    document.dedupe = Dedupe::Off;
    document
}

pub(crate) async fn add(store: &RedisStore) -> DocumentId {
    let answers = store.enqueue(vec![document()]).await.unwrap();
    answers[0].id
}

pub(crate) async fn add_many(store: &RedisStore, n: usize) -> Vec<DocumentId> {
    let batch: Vec<_> = (0..n).map(|_| document()).collect();
    let answers = store.enqueue(batch).await.unwrap();
    answers.into_iter().map(|answer| answer.id).collect()
}

pub(crate) fn request(slots: usize) -> ClaimRequest {
    let worker = Worker {
        id: WorkerId(uuid::Uuid::new_v4()),
        name: "worker".to_owned(),
        queues: vec![QueueName::default()],
    };
    ClaimRequest::new(worker, slots, LEASE, "fake/1".to_owned())
}

pub(crate) async fn claim(store: &RedisStore, slots: usize) -> Vec<Document> {
    store.claim(request(slots)).await.unwrap().documents
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

pub(crate) fn completion(document: &Document) -> Settlement {
    Settlement {
        document: document.id,
        lease_id: document.lifecycle.lease.as_ref().unwrap().id,
        outcome: Outcome::Complete,
    }
}

/// The next notice.
pub(crate) async fn next(subscription: &mut Subscription) -> Notice {
    tokio::time::timeout(PATIENCE, subscription.next())
        .await
        .expect("a notice comes")
}

/// A subscription that has begun.
pub(crate) async fn subscribe(store: &RedisStore) -> Subscription {
    let mut subscription = store.subscribe().await.unwrap();
    assert_eq!(next(&mut subscription).await, Notice::Resync);
    subscription
}
