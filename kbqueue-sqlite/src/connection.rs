//! The one connection that writes, and how a write begins.

use std::sync::atomic::Ordering;
use std::time::Instant;

use kbqueue_core::store::Result;
use sqlx::{ConnectOptions, SqliteConnection};
use tokio::sync::MutexGuard;

use crate::error::{failed, is_busy};
use crate::store::SqliteStore;

/// The writing connection while one call holds it; `None` until it is opened, and after it broke.
pub(crate) type Writer<'a> = MutexGuard<'a, Option<SqliteConnection>>;

/// Opens the writing connection. Changing a new file to WAL cannot wait for a lock inside SQLite, so the
/// wait is here.
pub(crate) async fn open_writer(store: &SqliteStore) -> Result<SqliteConnection> {
    let options = store.options();
    let begun = Instant::now();
    loop {
        match options.writer().connect().await {
            Ok(connection) => {
                store.inner().openings.fetch_add(1, Ordering::SeqCst);
                return Ok(connection);
            }
            Err(error) if is_busy(&error) && begun.elapsed() < options.patience => {
                tokio::task::yield_now().await;
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

/// `BEGIN IMMEDIATE` on the store's writing connection, waiting for other processes up to the patience.
///
/// A macro, because no function can try in a loop and give a borrow of the connection away.
macro_rules! begin {
    ($store:expr, $writer:ident) => {{
        let begun = std::time::Instant::now();
        let mut reopened = false;
        loop {
            if $writer.is_none() {
                *$writer = Some(crate::connection::open_writer(&$store).await?);
            }
            let connection = $writer.as_mut().expect("it was opened above");
            let begin = sqlx::Connection::begin_with(connection, "BEGIN IMMEDIATE");
            let error = match begin.await {
                Ok(transaction) => break transaction,
                Err(error) => error,
            };
            if crate::error::is_busy(&error) {
                if begun.elapsed() >= $store.options().patience {
                    return Err(crate::error::failed(error));
                }
            } else {
                // After an error in which SQLite rolled back by itself (a full disk), sqlx takes the
                // transaction for open and refuses the next one for ever; a new connection helps.
                *$writer = None;
                if std::mem::replace(&mut reopened, true) {
                    return Err(crate::error::failed(error));
                }
            }
        }
    }};
}
pub(crate) use begin;
