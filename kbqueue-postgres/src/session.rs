//! A connection inside a transaction, and what statements on it need.

use std::sync::Arc;

use jiff::Timestamp;
use kbqueue_core::store::Result;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Postgres, Row, Transaction};

use crate::error::{failed, is_disconnected};
use crate::sql::{Sql, Statement};
use crate::store::PostgresStore;
use crate::wake::Sender;

/// A transaction of ours, or of the host, or a connection on which each statement is one.
pub(crate) struct Session<'a> {
    pub(crate) conn: &'a mut PgConnection,
    pub(crate) sql: &'a Sql,
    /// Whether each statement is a transaction of its own.
    pub(crate) alone: bool,
    /// Signs the messages to other processes.
    pub(crate) sender: &'a Sender,
    /// What statements take for now, instead of the server's time; in tests.
    pub(crate) now: Option<i64>,
}

impl<'a> Session<'a> {
    /// A query of one of the statements, picked by name.
    pub(crate) fn query<'q>(&self, pick: impl Fn(&'a Sql) -> &'a Arc<str>) -> Statement<'q> {
        self.sql.query(pick(self.sql))
    }

    /// All rows.
    pub(crate) async fn all(&mut self, query: Statement<'_>) -> Result<Vec<PgRow>> {
        query.fetch_all(&mut *self.conn).await.map_err(failed)
    }

    /// The first row, if there is one.
    pub(crate) async fn first(&mut self, query: Statement<'_>) -> Result<Option<PgRow>> {
        query.fetch_optional(&mut *self.conn).await.map_err(failed)
    }

    /// The one row that there always is.
    pub(crate) async fn one(&mut self, query: Statement<'_>) -> Result<PgRow> {
        query.fetch_one(&mut *self.conn).await.map_err(failed)
    }

    /// How many rows changed.
    pub(crate) async fn run(&mut self, query: Statement<'_>) -> Result<u64> {
        let done = query.execute(&mut *self.conn).await.map_err(failed)?;
        Ok(done.rows_affected())
    }
}

/// The latest time in a column `now`: that of the statement, or of its last row.
pub(crate) fn now_of<'r>(rows: impl IntoIterator<Item = &'r PgRow>) -> Result<Timestamp> {
    let mut latest = 0;
    for row in rows {
        latest = latest.max(row.try_get("now").map_err(failed)?);
    }
    Timestamp::from_microsecond(latest)
        .map_err(|error| crate::error::malformed("the server's clock", error))
}

/// Begins a transaction. A connection that turns out to be dead is replaced: nothing was sent on it yet.
pub(crate) async fn begin(store: &PostgresStore) -> Result<Transaction<'static, Postgres>> {
    let mut tries = 0;
    loop {
        let begin = AssertSqlSafe(store.options().begin());
        match store.pool().begin_with(begin).await {
            Err(error) if is_disconnected(&error) && tries <= store.options().pool_size => {
                tries += 1
            }
            begun => return begun.map_err(failed),
        }
    }
}
