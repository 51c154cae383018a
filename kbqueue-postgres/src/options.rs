//! How to reach a server.

use std::str::FromStr;
use std::time::Duration;

use kbqueue_core::{Clock, StoreError};
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

/// What stands between us and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pooler {
    /// Nothing, or a pooler that keeps one server connection for as long as a client is connected.
    #[default]
    Direct,
    /// A pooler that may give each transaction another server connection, as PgBouncer does in
    /// transaction mode. No session state is used then: every statement is prepared anew, inside a
    /// transaction. Listening needs [`PostgresOptions::listen_url`].
    Transaction,
}

/// How the planner is to be set: our statements are made of index seeks, and the planner is kept from
/// "improving" them on a table that was filled but not yet analysed, or was empty when a statement was
/// planned. (jit: what is discouraged here counts as expensive, and expensive statements are compiled.)
const PLANNER: [(&str, &str); 6] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

/// How a statement runs that is a transaction of its own, as [`begin`](PostgresOptions::begin) says of others.
const WRITES: [(&str, &str); 2] = [
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
];

/// Which database to use, and how.
///
/// Defaults: schema `kbqueue`, 8 connections, [`Pooler::Direct`], a patience of 10 seconds, the
/// server's clock.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    connect: PgConnectOptions,
    listen: Option<PgConnectOptions>,
    pub(crate) schema: String,
    pub(crate) pool_size: u32,
    pub(crate) pooler: Pooler,
    pub(crate) patience: Duration,
    pub(crate) clock: Option<Clock>,
}

impl PostgresOptions {
    /// The database that `url` names: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`. What is missing is
    /// taken from the variables that libpq reads (`PGHOST`, …) and from `.pgpass`.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] for another scheme, or a URL that cannot be read.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        Ok(Self {
            connect: connect_options(url)?,
            listen: None,
            schema: "kbqueue".to_owned(),
            pool_size: 8,
            pooler: Pooler::default(),
            patience: Duration::from_secs(10),
            clock: None,
        })
    }

    /// Sets the schema that holds everything, created where it is missing.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] where it is not 1 to 48 lower-case letters, digits and `_`, beginning
    /// with no digit, or begins with `pg_`, which PostgreSQL keeps for itself.
    pub fn schema(mut self, schema: &str) -> Result<Self, StoreError> {
        check_schema(schema)?;
        schema.clone_into(&mut self.schema);
        Ok(self)
    }

    /// Sets how many connections there are at most, at least one. Listening has one more.
    #[must_use]
    pub fn pool_size(mut self, pool_size: u32) -> Self {
        self.pool_size = pool_size.max(1);
        self
    }

    /// Sets what stands between us and the server.
    #[must_use]
    pub fn pooler(mut self, pooler: Pooler) -> Self {
        self.pooler = pooler;
        self
    }

    /// Sets where to listen for the changes of other processes: the same database, past a pooler. With
    /// [`Pooler::Transaction`] and without this, subscribers are told to look again once a second.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn listen_url(mut self, url: &str) -> Result<Self, StoreError> {
        self.listen = Some(connect_options(url)?);
        Ok(self)
    }

    /// Sets how long a call waits for a free or a new connection before it answers
    /// [`StoreError::Unavailable`].
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets where "now" comes from, instead of the server; for tests.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// How connections of the pool are opened.
    pub(crate) fn connection(&self) -> PgConnectOptions {
        match self.pooler {
            Pooler::Direct => self.connect.clone().options(PLANNER).options(WRITES),
            Pooler::Transaction => self.connect.clone().statement_cache_capacity(0),
        }
    }

    /// How the listening connection is opened; `None` where none can be.
    pub(crate) fn listener(&self) -> Option<PgConnectOptions> {
        match self.pooler {
            Pooler::Direct => Some(self.listen.clone().unwrap_or_else(|| self.connect.clone())),
            Pooler::Transaction => self.listen.clone(),
        }
    }

    /// How a transaction begins. Our writes are right under READ COMMITTED, whatever the default of the
    /// database is.
    pub(crate) fn begin(&self) -> String {
        let mut begin = "begin isolation level read committed read write".to_owned();
        if self.pooler == Pooler::Transaction {
            for (name, value) in PLANNER {
                begin.push_str(&format!("; set local {name} = {value}"));
            }
        }
        begin
    }

    /// Server, port and database, for messages.
    pub(crate) fn place(&self) -> String {
        let (host, port) = (self.connect.get_host(), self.connect.get_port());
        let database = self
            .connect
            .get_database()
            .unwrap_or(self.connect.get_username());
        format!("database {database:?} on {host}:{port}")
    }
}

pub(crate) fn check_schema(schema: &str) -> Result<(), StoreError> {
    let first = schema.bytes().next().unwrap_or(b'0');
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if schema.len() > 48
        || first.is_ascii_digit()
        || !schema.bytes().all(allowed)
        || schema.starts_with("pg_")
    {
        return Err(StoreError::Unusable(format!(
            "{schema:?} cannot name the schema: use 1 to 48 lower-case letters, digits and '_', \
             not beginning with a digit or with 'pg_'"
        )));
    }
    Ok(())
}

fn connect_options(url: &str) -> Result<PgConnectOptions, StoreError> {
    // The URL may hold a password, so it is not repeated.
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(StoreError::Unusable(
            "a PostgreSQL store is named postgres://USER:PASSWORD@HOST:PORT/DATABASE".to_owned(),
        ));
    }
    let options = PgConnectOptions::from_str(url).map_err(|error| {
        StoreError::Unusable(format!("the PostgreSQL URL cannot be read: {error}"))
    })?;
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("kbqueue"),
    };
    Ok(options.disable_statement_logging())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_databases_and_errors_no_passwords() {
        let options = PostgresOptions::parse("postgres://me:secret@db.example:5433/docs").unwrap();
        assert_eq!(options.place(), "database \"docs\" on db.example:5433");
        for url in [
            "sqlite:a.db",
            "mysql://me:secret@host/db",
            "postgres://me:secret@host:port/db",
        ] {
            let error = PostgresOptions::parse(url).unwrap_err();
            assert!(matches!(error, StoreError::Unusable(_)), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn schemas_are_plain_names() {
        let options = PostgresOptions::parse("postgres://host/db").unwrap();
        for schema in ["kbqueue", "_a1", "a"] {
            assert!(options.clone().schema(schema).is_ok(), "{schema:?}");
        }
        let long = "a".repeat(49);
        for schema in [
            "",
            "1a",
            "Kb",
            "a.b",
            "a b",
            "a\"; drop",
            "ä",
            "pg_kbqueue",
            &long,
        ] {
            assert!(options.clone().schema(schema).is_err(), "{schema:?}");
        }
    }
}
