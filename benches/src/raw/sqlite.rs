//! SQLite, through the driver that the store uses.

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Row, SqliteConnection};
use tempfile::TempDir;

use crate::stores::{Kind, metadata};

pub(crate) const TABLE: &str = "
    create table jobs (
        id integer primary key, state integer not null, priority integer not null,
        run_at integer not null, lease_id text, lease_until integer, payload text not null
    );
    create index jobs_ready on jobs (priority, run_at, id) where state = 0;";
pub(crate) const ENQUEUE: &str = "
    insert into jobs (state, priority, run_at, payload)
    select 0, 0, 1, value from json_each(?1)";
pub(crate) const CLAIM: &str = "
    update jobs set state = 1, lease_id = ?1, lease_until = 2
    where id in (
        select id from jobs where state = 0 and run_at <= 1 order by priority, run_at, id limit ?2
    )
    returning id, payload";
pub(crate) const COMPLETE: &str = "
    update jobs set state = 2, lease_id = null, lease_until = null
    where id in (select value from json_each(?1)) and state = 1 and lease_id = ?2";

/// Rows as JSON, for [`ENQUEUE`].
pub(crate) fn rows(count: usize) -> String {
    let payload = metadata().to_string();
    serde_json::to_string(&vec![payload; count]).expect("plain data is JSON")
}

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

    pub(crate) async fn enqueue(&mut self, count: usize) {
        let insert = sqlx::query(ENQUEUE).bind(rows(count));
        insert
            .execute(&mut self.connection)
            .await
            .expect("they are taken");
    }

    pub(crate) async fn claim(&mut self, limit: usize) -> Vec<i64> {
        let limit = i64::try_from(limit).expect("a small number");
        let claim = sqlx::query(CLAIM).bind("lease").bind(limit);
        let rows = claim
            .fetch_all(&mut self.connection)
            .await
            .expect("it answers");
        rows.iter()
            .map(|row| {
                let _payload: &str = row.get(1);
                row.get(0)
            })
            .collect()
    }

    pub(crate) async fn complete(&mut self, ids: &[i64]) {
        let ids = serde_json::to_string(ids).expect("plain data is JSON");
        let complete = sqlx::query(COMPLETE).bind(ids).bind("lease");
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
