//! The raw limit: a table, a partial index, and the barest statements that enqueue, claim under a
//! lease, and complete rows that stay.
//!
//! Through sqlx, on one connection, each statement its own transaction, as many rows a statement as our
//! batches have. Its table keeps what a caller of ours can see of a document without pages: ids that the
//! caller makes, queue, tenant, file, 200 bytes of metadata, state, attempt, lease, worker, instants. A
//! claim answers with what a worker needs of it. What it leaves out is what ours adds: fairness between
//! tenants, dedupe, fingerprints, counts by state, lists, leases that run out, the history of attempts.
//!
//! [`rusqlite`](super::rusqlite) is barer still: seven columns, no ids of the caller's, no driver between.

use kbqueue_core::DocumentId;
use serde::Serialize;
use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Row as _, SqliteConnection};
use tempfile::TempDir;

use crate::stores::{Kind, metadata};

const TABLE: &str = "
    create table jobs (
        key integer primary key, id text not null unique, queue text not null, tenant text,
        priority integer not null, state text not null, available_at integer not null,
        attempt integer not null default 0, lease_id text, lease_expires_at integer, worker text,
        error text, filename text not null, media_type text not null, sha256 text not null,
        size_bytes integer not null, metadata text not null, created_at integer not null,
        started_at integer, completed_at integer
    );
    create index jobs_ready on jobs (queue, priority, available_at, key) where state = 'queued';";
const ENQUEUE: &str = "
    with n as materialized (select value from json_each(?1))
    insert into jobs (
        id, queue, tenant, priority, state, available_at, filename, media_type, sha256, size_bytes,
        metadata, created_at
    )
    select
        value ->> 0, value ->> 1, value ->> 2, value ->> 3, 'queued', value ->> 4, value ->> 5,
        value ->> 6, value ->> 7, value ->> 8, value -> 9, value ->> 4
    from n";
const CLAIM: &str = "
    update jobs set
        state = 'processing', attempt = attempt + 1, lease_id = ?1, lease_expires_at = ?2,
        worker = ?3, started_at = ?4
    where key in (
        select key from jobs where queue = ?5 and state = 'queued' and available_at <= ?4
        order by priority, available_at, key limit ?6
    )
    returning key, id, filename, media_type, sha256, size_bytes, metadata, attempt";
const COMPLETE: &str = "
    update jobs set
        state = 'completed', lease_id = null, lease_expires_at = null, worker = null, completed_at = ?3
    where key in (select value from json_each(?1)) and state = 'processing' and lease_id = ?2";

/// A document in the shape of [`ENQUEUE`]'s parameter.
#[derive(Serialize)]
pub(crate) struct Row(
    DocumentId,
    &'static str,
    (),
    i16,
    i64,
    &'static str,
    &'static str,
    String,
    u64,
    Value,
);

pub(crate) fn rows(count: usize) -> Vec<Row> {
    let row = |_| {
        let sha256 = "0".repeat(64);
        let id = DocumentId::new();
        Row(
            id,
            QUEUE,
            (),
            0,
            NOW,
            "bench.pdf",
            "application/pdf",
            sha256,
            5,
            metadata(),
        )
    };
    (0..count).map(row).collect()
}

/// Some instant in microseconds.
const NOW: i64 = 1_700_000_000_000_000;
const QUEUE: &str = "default";
const WORKER: &str = "bench";

/// A table through the driver that the store uses.
pub(crate) struct Raw {
    connection: SqliteConnection,
    _directory: TempDir,
}

impl Raw {
    pub(crate) async fn new(kind: Kind) -> Self {
        let directory = tempfile::tempdir().expect("there is room");
        let synchronous = match kind {
            Kind::SqliteNormal => SqliteSynchronous::Normal,
            _ => SqliteSynchronous::Full,
        };
        let mut connection = SqliteConnectOptions::new()
            .filename(directory.path().join("raw.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            // As ours.
            .pragma("cache_size", "-16384")
            .pragma("wal_autocheckpoint", "4000")
            .connect()
            .await
            .expect("it opens");
        sqlx::raw_sql(TABLE)
            .execute(&mut connection)
            .await
            .expect("it is new");
        Self {
            connection,
            _directory: directory,
        }
    }

    pub(crate) async fn enqueue(&mut self, rows: &[Row]) {
        let rows = serde_json::to_string(rows).expect("plain data is JSON");
        let insert = sqlx::query(ENQUEUE).bind(rows);
        insert
            .execute(&mut self.connection)
            .await
            .expect("they are taken");
    }

    pub(crate) async fn claim(&mut self, limit: usize) -> Vec<i64> {
        let limit = i64::try_from(limit).expect("a small number");
        let claim = sqlx::query(CLAIM)
            .bind("lease")
            .bind(NOW + 60_000_000)
            .bind(WORKER)
            .bind(NOW)
            .bind(QUEUE)
            .bind(limit);
        let rows = claim
            .fetch_all(&mut self.connection)
            .await
            .expect("it answers");
        rows.iter()
            .map(|row| {
                let _metadata: &str = row.get(6);
                row.get(0)
            })
            .collect()
    }

    pub(crate) async fn complete(&mut self, ids: &[i64]) {
        let ids = serde_json::to_string(ids).expect("plain data is JSON");
        let complete = sqlx::query(COMPLETE).bind(ids).bind("lease").bind(NOW);
        complete
            .execute(&mut self.connection)
            .await
            .expect("they are there");
    }

    /// Writes chunk texts in one statement.
    pub(crate) async fn write_chunks(&mut self, texts: &[String]) {
        let texts = serde_json::to_string(texts).expect("plain data is JSON");
        let insert = "insert into chunks (text) select value from json_each(?1)";
        sqlx::query(insert)
            .bind(texts)
            .execute(&mut self.connection)
            .await
            .expect("taken");
    }

    pub(crate) async fn make_chunks(&mut self) {
        let table = "create table chunks (id integer primary key, text text not null)";
        sqlx::query(table)
            .execute(&mut self.connection)
            .await
            .expect("it is new");
    }
}
