//! Reads: one statement each, on a connection of the read pool.

use jiff::Timestamp;
use kbqueue_core::error::BoxError;
use kbqueue_core::queue::StateCounts;
use kbqueue_core::store::{DocumentQuery, OutputQuery, Result};
use kbqueue_core::{Document, DocumentId, QueueName, QueueStats};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqlitePool};

use crate::batch::readable;
use crate::codec;
use crate::error::{failed, malformed};

pub(crate) async fn document(pool: &SqlitePool, id: DocumentId) -> Result<Option<Document>> {
    let row: Option<String> = sqlx::query_scalar(include_str!("../queries/document.sql"))
        .bind(id.to_string())
        .fetch_optional(pool)
        .await
        .map_err(failed)?;
    row.map(|row| codec::document(&row).map(|(_, document)| document))
        .transpose()
}

pub(crate) async fn documents(pool: &SqlitePool, query: &DocumentQuery) -> Result<Vec<Document>> {
    let rows: Vec<String> = sqlx::query_scalar(include_str!("../queries/documents.sql"))
        .bind(query.queue.as_ref().map(QueueName::as_str))
        .bind(query.state.map(|state| state.as_str()))
        .bind(query.after.map(|id| id.to_string()))
        .bind(query.limit)
        .bind(&query.tenant)
        .bind(query.name.as_ref().map(|name| name.as_bytes()))
        .fetch_all(pool)
        .await
        .map_err(failed)?;
    Ok(readable(rows.iter().map(String::as_str), codec::document)
        .into_iter()
        .map(|(_, document)| document)
        .collect())
}

/// Outputs of a document, by one of the three statements that differ only in what they read.
pub(crate) async fn outputs<T>(
    pool: &SqlitePool,
    sql: &'static str,
    query: &OutputQuery,
    decode: fn(&SqliteRow) -> std::result::Result<T, BoxError>,
) -> Result<Vec<T>> {
    let rows = sqlx::query(sql)
        .bind(query.document.to_string())
        .bind(query.generation)
        // Below every number and ordinal.
        .bind(query.after.map_or(-1, i64::from))
        .bind(query.limit)
        .fetch_all(pool)
        .await
        .map_err(failed)?;
    rows.iter()
        .map(|row| {
            decode(row).map_err(|error| {
                malformed(format!("an output of document {}", query.document), error)
            })
        })
        .collect()
}

pub(crate) async fn stats(
    pool: &SqlitePool,
    queue: &QueueName,
    now: Timestamp,
) -> Result<QueueStats> {
    let row = sqlx::query(include_str!("../queries/stats.sql"))
        .bind(queue.as_str())
        .bind(now.as_microsecond())
        .fetch_one(pool)
        .await
        .map_err(failed)?;
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
        settings: codec::settings(
            queue.as_str(),
            row.try_get("paused").map_err(failed)?,
            row.try_get("settings").map_err(failed)?,
        )?,
        live_workers: count("live_workers")?,
    })
}

/// A document id as it is stored.
pub(crate) fn id(text: &str) -> Result<DocumentId> {
    text.parse()
        .map_err(|error: uuid::Error| malformed(format!("document {text:?}"), error))
}
