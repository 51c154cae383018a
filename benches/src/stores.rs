//! Fresh stores, and documents to put into them.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use kbqueue_core::store::{ClaimRequest, Worker, WorkerId};
use kbqueue_core::{BlobRef, Dedupe, LeaseId, NewDocument, QueueName, Store};
use kbqueue_postgres::{PostgresOptions, PostgresStore};
use kbqueue_redis::RedisStore;
use kbqueue_sqlite::{SqliteOptions, SqliteStore, Synchronous};
use kbqueue_tests::postgres::Schema;
use kbqueue_tests::redis::RedisServer;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};
use tempfile::TempDir;

/// A store and how durable it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// SQLite, WAL, synchronous=FULL: every commit is fsynced
    #[value(name = "sqlite", alias = "sqlite-full")]
    SqliteFull,
    /// SQLite, WAL, synchronous=NORMAL: a power cut loses the last commits
    SqliteNormal,
    /// PostgreSQL as it is installed: fsync and synchronous_commit on
    Postgres,
    /// Redis with appendfsync everysec: a power cut loses up to two seconds
    Redis,
    /// Redis without an append-only file: a crash of the server loses everything
    RedisNoAof,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SqliteFull => "SQLite, FULL",
            Self::SqliteNormal => "SQLite, NORMAL",
            Self::Postgres => "Postgres",
            Self::Redis => "Redis, AOF everysec",
            Self::RedisNoAof => "Redis, no AOF",
        }
    }

    pub(crate) fn is_sqlite(self) -> bool {
        matches!(self, Self::SqliteFull | Self::SqliteNormal)
    }

    /// The word in SQLite's pragma.
    pub(crate) fn pragma(self) -> &'static str {
        match self {
            Self::SqliteNormal => "NORMAL",
            _ => "FULL",
        }
    }
}

/// Where a store is, so that another one can be opened there.
enum Place {
    /// There is one store, as there is one writer.
    File,
    Schema(String),
    Server(RedisServer),
}

/// An empty store of one's own.
pub(crate) struct Fresh {
    pub(crate) store: Arc<dyn Store>,
    place: Place,
    directory: TempDir,
}

impl Fresh {
    pub(crate) async fn new(kind: Kind) -> Self {
        let directory = tempfile::tempdir().expect("there is room");
        let (store, place): (Arc<dyn Store>, Place) = match kind {
            Kind::SqliteFull | Kind::SqliteNormal => {
                let synchronous = match kind {
                    Kind::SqliteNormal => Synchronous::Normal,
                    _ => Synchronous::Full,
                };
                let options = SqliteOptions::new(directory.path().join("kbqueue.db"));
                let store = SqliteStore::open(options.synchronous(synchronous)).await;
                (Arc::new(store.expect("it opens")), Place::File)
            }
            Kind::Postgres => {
                let schema = Schema::new().name().to_owned();
                let store = open_postgres(&schema).await;
                run_on_postgres("checkpoint").await;
                (store, Place::Schema(schema))
            }
            Kind::Redis | Kind::RedisNoAof => {
                let server = redis_server(kind);
                (open_redis(&server).await, Place::Server(server))
            }
        };
        Self {
            store,
            place,
            directory,
        }
    }

    /// The store as another process sees it: with connections of its own, and wake-ups that pass through
    /// the server. SQLite's is the same one.
    pub(crate) async fn elsewhere(&self) -> Arc<dyn Store> {
        match &self.place {
            Place::File => Arc::clone(&self.store),
            Place::Schema(schema) => open_postgres(schema).await,
            Place::Server(server) => open_redis(server).await,
        }
    }

    /// Removes it all.
    pub(crate) async fn end(self) {
        drop(self.store);
        if let Place::Schema(schema) = &self.place {
            drop_schema(schema).await;
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

async fn open_postgres(schema: &str) -> Arc<dyn Store> {
    let options = PostgresOptions::parse(kbqueue_tests::postgres::shared()).expect("it is a URL");
    let options = options.schema(schema).expect("it is a name");
    Arc::new(PostgresStore::open(options).await.expect("it opens"))
}

async fn open_redis(server: &RedisServer) -> Arc<dyn Store> {
    Arc::new(RedisStore::connect(&server.url()).await.expect("it opens"))
}

/// A server that is as durable as `kind` says.
pub(crate) fn redis_server(kind: Kind) -> RedisServer {
    match kind {
        Kind::RedisNoAof => RedisServer::start(&["--appendonly", "no"]),
        _ => RedisServer::start(&["--appendonly", "yes", "--appendfsync", "everysec"]),
    }
}

/// Removes what one measure left, so that nothing vacuums it during the next one.
pub(crate) async fn drop_schema(schema: &str) {
    run_on_postgres(&format!("drop schema {schema} cascade")).await;
}

async fn run_on_postgres(statement: &str) {
    let options = PgConnectOptions::from_str(kbqueue_tests::postgres::shared());
    let mut connection = options
        .expect("it is a URL")
        .connect()
        .await
        .expect("it answers");
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(&mut connection)
        .await
        .expect("a superuser may");
}

/// A blob that nobody opens.
pub(crate) fn blob() -> BlobRef {
    BlobRef {
        sha256: "0".repeat(64),
        size_bytes: 5,
    }
}

/// A claim of so many documents, by a worker without a processor.
pub(crate) fn request(slots: usize) -> ClaimRequest {
    let worker = Worker {
        id: WorkerId(LeaseId::random().0),
        name: "bench".to_owned(),
        queues: vec![QueueName::default()],
    };
    ClaimRequest::new(worker, slots, Duration::from_secs(600), "noop/1".to_owned())
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
