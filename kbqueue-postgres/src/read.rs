//! Reads: one statement each.

use kbqueue_core::error::BoxError;
use kbqueue_core::queue::StateCounts;
use kbqueue_core::store::{DocumentQuery, OutputQuery, Result};
use kbqueue_core::{Document, DocumentId, QueueName, QueueSettings, QueueStats};
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::batch::readable;
use crate::codec;
use crate::error::{failed, is_disconnected, malformed};
use crate::options::Pooler;
use crate::session::begin;
use crate::sql::{Sql, Statement};
use crate::store::PostgresStore;
use crate::text::{escape, line};

/// All rows of a statement, on any connection of the pool. One that turns out to be dead is replaced.
pub(crate) async fn rows(
    store: &PostgresStore,
    statement: impl Fn(&Sql) -> Statement<'static> + Send,
) -> Result<Vec<PgRow>> {
    if store.options().pooler == Pooler::Transaction {
        let mut tx = begin(store).await?;
        let rows = statement(store.sql()).fetch_all(&mut *tx).await;
        let rows = rows.map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        return Ok(rows);
    }
    let mut tries = 0;
    loop {
        match statement(store.sql()).fetch_all(store.pool()).await {
            Err(error) if is_disconnected(&error) && tries <= store.options().pool_size => {
                tries += 1;
            }
            rows => return rows.map_err(failed),
        }
    }
}

pub(crate) async fn document(store: &PostgresStore, id: DocumentId) -> Result<Option<Document>> {
    let rows = rows(store, |sql| sql.query(&sql.document).bind(id.0)).await?;
    let document = rows.first().map(codec::document).transpose()?;
    Ok(document.map(|(_, document)| document))
}

pub(crate) async fn documents(
    store: &PostgresStore,
    query: &DocumentQuery,
) -> Result<Vec<Document>> {
    let rows = rows(store, |sql| {
        sql.query(&sql.documents)
            .bind(query.queue.as_ref().map(|queue| queue.as_str().to_owned()))
            .bind(query.state.map(|state| state.as_str()))
            .bind(query.after.map(|id| id.0))
            .bind(i64::from(query.limit))
            .bind(query.tenant.as_deref().map(|tenant| line(Some(tenant))))
            .bind(query.name.as_deref().map(|name| escape(name).into_owned()))
    })
    .await?;
    Ok(readable(&rows, codec::document)
        .into_iter()
        .map(|(_, document)| document)
        .collect())
}

/// Outputs of a document, by one of the three statements that differ only in what they read.
pub(crate) async fn outputs<T>(
    store: &PostgresStore,
    pick: fn(&Sql) -> &std::sync::Arc<str>,
    query: &OutputQuery,
    decode: fn(&PgRow) -> std::result::Result<T, BoxError>,
) -> Result<Vec<T>> {
    let rows = rows(store, |sql| {
        sql.query(pick(sql))
            .bind(query.document.0)
            .bind(query.generation.map(i64::from))
            // Below every number and ordinal.
            .bind(query.after.map_or(-1, i64::from))
            .bind(i64::from(query.limit))
    })
    .await?;
    rows.iter()
        .map(|row| {
            decode(row).map_err(|error| {
                malformed(format!("an output of document {}", query.document), error)
            })
        })
        .collect()
}

pub(crate) async fn stats(store: &PostgresStore, queue: &QueueName) -> Result<QueueStats> {
    let rows = rows(store, |sql| {
        sql.query(&sql.stats)
            .bind(queue.as_str().to_owned())
            .bind(store.now())
    })
    .await?;
    let row = rows
        .first()
        .ok_or_else(|| failed(sqlx::Error::RowNotFound))?;
    let count = |column: &str| -> Result<u64> {
        let count: i64 = row.try_get(column).map_err(failed)?;
        u64::try_from(count)
            .map_err(|error| malformed(format!("the counts of queue {queue}"), error))
    };
    Ok(QueueStats {
        counts: StateCounts {
            queued: count("queued")?,
            processing: count("processing")?,
            completed: count("completed")?,
            failed: count("failed")?,
            cancelled: count("cancelled")?,
        },
        settings: QueueSettings {
            paused: row.try_get("paused").map_err(failed)?,
            ..codec::settings(row, queue.as_str())?
        },
        live_workers: count("live_workers")?,
    })
}
