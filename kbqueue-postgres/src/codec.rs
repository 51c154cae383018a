//! Rows to core's types, and back.

use jiff::Timestamp;
use kbqueue_core::document::Attempt;
use kbqueue_core::error::BoxError;
use kbqueue_core::lifecycle::{Cursor, Generation, LastSettlement, Lease, Lifecycle};
use kbqueue_core::output::{FailedPage, PageSource, Provenance};
use kbqueue_core::store::Result;
use kbqueue_core::{
    BlobRef, Chunk, Document, DocumentId, Image, LeaseId, Page, Progress, QueueName, QueueSettings,
    SealedPassword, State,
};
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::error::malformed;
use crate::text::unescape;

/// A document's lifecycle with what the store keeps beside it.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) id: DocumentId,
    pub(crate) queue: QueueName,
    pub(crate) line: String,
    pub(crate) life: Lifecycle,
}

/// The part of a lifecycle that no statement asks for. What has its default is left out.
///
/// A field that this release does not know makes the row malformed, so that it is left to the release
/// that does rather than written back without the field.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rest {
    #[serde(skip_serializing_if = "is_default")]
    attempt: u32,
    #[serde(skip_serializing_if = "is_default")]
    retry_count: u32,
    #[serde(skip_serializing_if = "is_default")]
    crash_count: u32,
    #[serde(skip_serializing_if = "is_default")]
    crashes_total: u32,
    #[serde(skip_serializing_if = "is_default")]
    snooze_count: u32,
    #[serde(skip_serializing_if = "is_default")]
    quarantined: bool,
    #[serde(skip_serializing_if = "is_default")]
    worker: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    last_settlement: Option<LastSettlement>,
    #[serde(skip_serializing_if = "is_default")]
    cancel_requested_at: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    error: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    fingerprint: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    generation: Option<Generation>,
    #[serde(skip_serializing_if = "is_default")]
    completed: Option<Generation>,
    #[serde(skip_serializing_if = "is_default")]
    cursor: Cursor,
    #[serde(skip_serializing_if = "is_default")]
    progress: Progress,
    #[serde(skip_serializing_if = "is_default")]
    started_at: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    completed_at: Option<i64>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

const FIRST: Generation = Generation {
    chunks: 1,
    pages: 1,
};

impl Rest {
    /// What of `life` goes into the JSON column.
    pub(crate) fn of(life: &Lifecycle) -> Self {
        Self {
            attempt: life.attempt,
            retry_count: life.retry_count,
            crash_count: life.crash_count,
            crashes_total: life.crashes_total,
            snooze_count: life.snooze_count,
            quarantined: life.quarantined,
            worker: life.lease.as_ref().map(|lease| lease.worker.clone()),
            last_settlement: life.last_settlement,
            cancel_requested_at: life.cancel_requested_at.map(Timestamp::as_microsecond),
            error: life.error.clone(),
            fingerprint: life.fingerprint.clone(),
            generation: Some(life.generation).filter(|own| *own != FIRST),
            completed: life.completed,
            cursor: life.cursor,
            progress: life.progress,
            started_at: life.started_at.map(Timestamp::as_microsecond),
            completed_at: life.completed_at.map(Timestamp::as_microsecond),
        }
    }
}

/// Whether the claim index holds it: `None` where it is not queued, else whether it is due at `now`.
pub(crate) fn due(life: &Lifecycle, now: Timestamp) -> Option<bool> {
    let waits = life.state == State::Queued && life.deleted_at.is_none();
    waits.then(|| life.available_at <= now)
}

/// Whether it stands for its dedupe key, if it has one.
pub(crate) fn holds_key(life: &Lifecycle) -> bool {
    life.deleted_at.is_none()
        && matches!(
            life.state,
            State::Queued | State::Processing | State::Completed
        )
}

/// About as many microseconds as there are to the end of time, so that sums of two stay numbers.
pub(crate) const LONGEST: i64 = i64::MAX / 4;

/// A duration in whole milliseconds, as the specification rounds it, in microseconds.
pub(crate) fn whole_ms_in_us(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis())
        .ok()
        .and_then(|ms| ms.checked_mul(1000))
        .unwrap_or(i64::MAX)
}

pub(crate) type Decoded<T> = std::result::Result<T, BoxError>;

/// Reads a row of `load`, or says which one cannot be read.
pub(crate) fn held(row: &PgRow) -> Result<Held> {
    decode_held(row).map_err(|error| malformed(name_of(row), error))
}

/// Reads a whole document, with what the store keeps beside it.
pub(crate) fn document(row: &PgRow) -> Result<(Held, Document)> {
    let decode = || {
        let held = decode_held(row)?;
        let document = decode_document(row, &held)?;
        Ok((held, document))
    };
    decode().map_err(|error: BoxError| malformed(name_of(row), error))
}

fn name_of(row: &PgRow) -> String {
    row.try_get::<Uuid, _>("id")
        .map_or_else(|_| "a document".to_owned(), |id| format!("document {id}"))
}

fn decode_held(row: &PgRow) -> Decoded<Held> {
    let queue: String = row.try_get("queue")?;
    Ok(Held {
        id: DocumentId(row.try_get("id")?),
        queue: QueueName::new(queue)?,
        line: row.try_get("line")?,
        life: decode_life(row)?,
    })
}

fn decode_life(row: &PgRow) -> Decoded<Lifecycle> {
    let rest: Rest = serde_json::from_str(row.try_get("lifecycle")?)?;
    let state = decode_state(row)?;
    let lease = match (
        row.try_get::<Option<Uuid>, _>("lease_id")?,
        optional_time(row.try_get("lease_expires_at")?)?,
        rest.worker,
    ) {
        (None, None, None) => None,
        (Some(id), Some(expires_at), Some(worker)) => Some(Lease {
            id: LeaseId(id),
            worker,
            expires_at,
        }),
        _ => return Err("half a lease".into()),
    };
    if lease.is_some() != (state == State::Processing) {
        return Err("a lease without processing, or the other way round".into());
    }
    Ok(Lifecycle {
        state,
        version: u64::try_from(row.try_get::<i64, _>("version")?)?,
        available_at: time(row.try_get("available_at")?)?,
        attempt: rest.attempt,
        retry_count: rest.retry_count,
        crash_count: rest.crash_count,
        crashes_total: rest.crashes_total,
        snooze_count: rest.snooze_count,
        quarantined: rest.quarantined,
        lease,
        last_settlement: rest.last_settlement,
        cancel_requested_at: optional_time(rest.cancel_requested_at)?,
        deleted_at: optional_time(row.try_get("deleted_at")?)?,
        error: rest.error,
        fingerprint: rest.fingerprint,
        generation: rest.generation.unwrap_or(FIRST),
        completed: rest.completed,
        cursor: rest.cursor,
        progress: rest.progress,
        started_at: optional_time(rest.started_at)?,
        completed_at: optional_time(rest.completed_at)?,
    })
}

/// An attempt as this release or the one before wrote it, which did not note the pages.
#[derive(Deserialize)]
struct Told {
    worker: String,
    started_at: Timestamp,
    ended_at: Timestamp,
    outcome: String,
    error: Option<String>,
    #[serde(default)]
    pages: u32,
}

impl From<Told> for Attempt {
    fn from(told: Told) -> Self {
        Self {
            worker: told.worker,
            started_at: told.started_at,
            ended_at: told.ended_at,
            outcome: told.outcome,
            error: told.error,
            pages: told.pages,
        }
    }
}

fn decode_document(row: &PgRow, held: &Held) -> Decoded<Document> {
    let attempts: String = row.try_get("attempts")?;
    let attempts: Vec<Told> = serde_json::from_str(&format!("[{attempts}]"))?;
    let chunking: Option<&str> = row.try_get("chunking")?;
    let failed: Vec<i64> = row.try_get("failed_pages")?;
    let causes: Vec<String> = row.try_get("failed_causes")?;
    let failed_page = |(page, cause)| {
        Ok(FailedPage {
            page: u32::try_from(page)?,
            cause: unescape(cause),
        })
    };
    Ok(Document {
        id: held.id,
        queue: held.queue.clone(),
        tenant: optional_text(row, "tenant")?,
        priority: row.try_get("priority")?,
        filename: text(row, "filename")?,
        media_type: text(row, "media_type")?,
        blob: blob(row)?,
        chunking: chunking.map(serde_json::from_str).transpose()?,
        metadata: serde_json::from_str(row.try_get("metadata")?)?,
        password: row
            .try_get::<Option<String>, _>("password")?
            .map(SealedPassword::from_stored),
        properties: serde_json::from_str(row.try_get("properties")?)?,
        failed_pages: failed
            .into_iter()
            .zip(causes)
            .map(failed_page)
            .collect::<Decoded<_>>()?,
        created_at: time(row.try_get("created_at")?)?,
        lifecycle: held.life.clone(),
        attempts: attempts.into_iter().map(Attempt::from).collect(),
    })
}

/// The settings of a queue in a row's column of that name; `paused` has a column of its own.
pub(crate) fn settings(row: &PgRow, queue: &str) -> Result<QueueSettings> {
    let decode = || -> Decoded<QueueSettings> {
        let settings: Option<&str> = row.try_get("settings")?;
        Ok(settings
            .map(serde_json::from_str)
            .transpose()?
            .unwrap_or_default())
    };
    decode().map_err(|error| malformed(format!("the settings of queue {queue}"), error))
}

/// The state in a row's column of that name.
pub(crate) fn decode_state(row: &PgRow) -> Decoded<State> {
    let word: &str = row.try_get("state")?;
    State::parse(word).ok_or_else(|| format!("{word:?} is no state").into())
}

pub(crate) fn time(us: i64) -> Decoded<Timestamp> {
    Ok(Timestamp::from_microsecond(us)?)
}

pub(crate) fn optional_time(us: Option<i64>) -> Decoded<Option<Timestamp>> {
    us.map(time).transpose()
}

fn text(row: &PgRow, column: &str) -> Decoded<String> {
    Ok(unescape(row.try_get(column)?))
}

fn optional_text(row: &PgRow, column: &str) -> Decoded<Option<String>> {
    let text: Option<String> = row.try_get(column)?;
    Ok(text.map(unescape))
}

fn small(row: &PgRow, column: &str) -> Decoded<u32> {
    Ok(u32::try_from(row.try_get::<i64, _>(column)?)?)
}

fn large(row: &PgRow, column: &str) -> Decoded<u64> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?)?)
}

fn blob(row: &PgRow) -> Decoded<BlobRef> {
    Ok(BlobRef {
        sha256: text(row, "sha256")?,
        size_bytes: large(row, "size_bytes")?,
    })
}

/// Reads a page.
pub(crate) fn page(row: &PgRow) -> Decoded<Page> {
    let source: &str = row.try_get("source")?;
    Ok(Page {
        number: small(row, "number")?,
        label: optional_text(row, "label")?,
        section: optional_text(row, "section")?,
        provenance: Provenance {
            source: PageSource::parse(source).ok_or_else(|| format!("{source:?} is no source"))?,
            reason: text(row, "reason")?,
            confidence: row.try_get("confidence")?,
        },
        start_offset: large(row, "start_offset")?,
        end_offset: large(row, "end_offset")?,
        text: text(row, "text")?,
        failure: optional_text(row, "failure")?,
    })
}

/// Reads a chunk.
pub(crate) fn chunk(row: &PgRow) -> Decoded<Chunk> {
    Ok(Chunk {
        ordinal: small(row, "ordinal")?,
        text: text(row, "text")?,
        first_page: small(row, "first_page")?,
        last_page: small(row, "last_page")?,
        start_offset: large(row, "start_offset")?,
        end_offset: large(row, "end_offset")?,
        section: optional_text(row, "section")?,
    })
}

/// Reads an image.
pub(crate) fn image(row: &PgRow) -> Decoded<Image> {
    let thumbnail: Option<&str> = row.try_get("thumbnail")?;
    Ok(Image {
        ordinal: small(row, "ordinal")?,
        page: small(row, "page")?,
        media_type: text(row, "media_type")?,
        width: small(row, "width")?,
        height: small(row, "height")?,
        bbox: serde_json::from_str(row.try_get("bbox")?)?,
        caption: optional_text(row, "caption")?,
        blob: blob(row)?,
        thumbnail: thumbnail.map(serde_json::from_str).transpose()?,
    })
}
