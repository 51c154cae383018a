//! Rows to core's types, and back.

use std::borrow::Cow;
use std::str::FromStr;

use jiff::Timestamp;
use kbqueue_core::document::{Attempt, MAX_ATTEMPTS};
use kbqueue_core::error::BoxError;
use kbqueue_core::lifecycle::{Cursor, Generation, LastSettlement, Lease, Lifecycle};
use kbqueue_core::output::FailedPage;
use kbqueue_core::output::{PageSource, Provenance};
use kbqueue_core::store::Result;
use kbqueue_core::{
    BlobRef, Chunk, Document, DocumentId, Image, LeaseId, Page, Progress, QueueName, QueueSettings,
    SealedPassword, State,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::error::malformed;

/// A document's lifecycle with what the store keeps beside it.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) key: i64,
    pub(crate) id: DocumentId,
    pub(crate) queue: QueueName,
    pub(crate) line: i64,
    pub(crate) ready: bool,
    pub(crate) holds_key: bool,
    pub(crate) dedupe_key: Option<String>,
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

/// Who may claim a document with this lifecycle once it is due.
pub(crate) fn audience(fingerprint: Option<&str>) -> String {
    fingerprint.map_or_else(|| "*".to_owned(), |own| format!("={own}"))
}

/// Whether the claim index holds it: `None` where it is not queued, else whether it is due at `now`.
pub(crate) fn due(life: &Lifecycle, now: Timestamp) -> Option<bool> {
    let waits = life.state == State::Queued && life.deleted_at.is_none();
    waits.then(|| life.available_at <= now)
}

/// Whether it stands for its dedupe key.
pub(crate) fn holds_key(life: &Lifecycle, dedupe_key: Option<&str>) -> bool {
    dedupe_key.is_some()
        && life.deleted_at.is_none()
        && matches!(
            life.state,
            State::Queued | State::Processing | State::Completed
        )
}

/// A duration in whole milliseconds, as the specification rounds it, in microseconds.
pub(crate) fn whole_ms_in_us(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis())
        .ok()
        .and_then(|ms| ms.checked_mul(1000))
        .unwrap_or(i64::MAX)
}

type Decoded<T> = std::result::Result<T, BoxError>;

/// A row of `load`.
#[derive(Deserialize)]
struct HeldRow<'a>(
    i64,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    i64,
    Option<i64>,
    i64,
    Option<String>,
    #[serde(borrow)] Cow<'a, str>,
    u64,
    i64,
    Option<String>,
    Option<i64>,
    Option<i64>,
    #[serde(borrow)] Cow<'a, str>,
);

/// A whole document's row.
#[derive(Deserialize)]
struct DocumentRow<'a>(
    #[serde(borrow)] HeldRow<'a>,
    Option<String>,
    i16,
    String,
    String,
    String,
    u64,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    i64,
    #[serde(borrow)] Cow<'a, str>,
    Option<SealedPassword>,
    Vec<FailedPage>,
);

/// Reads a row of `load`, or says which one cannot be read.
pub(crate) fn held(row: &str) -> Result<Held> {
    let decode = || -> Decoded<Held> { decode_held(serde_json::from_str(row)?) };
    decode().map_err(|error| malformed(name_of(row), error))
}

/// Reads a whole document, with what the store keeps beside it.
pub(crate) fn document(row: &str) -> Result<(Held, Document)> {
    let decode = || -> Decoded<_> { decode_document(serde_json::from_str(row)?) };
    decode().map_err(|error| malformed(name_of(row), error))
}

fn name_of(row: &str) -> String {
    let held = match serde_json::from_str(row) {
        Ok(Value::Array(mut row)) if row.first().is_some_and(Value::is_array) => row.swap_remove(0),
        Ok(row) => row,
        Err(_) => Value::Null,
    };
    match (held[1].as_str(), &held[0]) {
        (Some(id), _) => format!("document {id}"),
        (None, Value::Number(key)) => format!("the document in row {key}"),
        (None, _) => "a document".to_owned(),
    }
}

fn decode_held(row: HeldRow<'_>) -> Decoded<Held> {
    let HeldRow(key, id, queue, line, due, holds_key, dedupe_key, ..) = &row;
    Ok(Held {
        key: *key,
        id: DocumentId::from_str(id)?,
        queue: QueueName::new(queue.as_ref())?,
        line: *line,
        ready: *due == Some(1),
        holds_key: *holds_key != 0,
        dedupe_key: dedupe_key.clone(),
        life: decode_life(&row)?,
    })
}

fn decode_life(row: &HeldRow<'_>) -> Decoded<Lifecycle> {
    let HeldRow(.., state, version, available_at, lease_id, lease_expires_at, deleted_at, rest) =
        row;
    let rest: Rest = serde_json::from_str(rest)?;
    let state = parse_state(state)?;
    let lease = match (lease_id, optional_time(*lease_expires_at)?, rest.worker) {
        (None, None, None) => None,
        (Some(id), Some(expires_at), Some(worker)) => Some(Lease {
            id: LeaseId(id.parse()?),
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
        version: *version,
        available_at: time(*available_at)?,
        attempt: rest.attempt,
        retry_count: rest.retry_count,
        crash_count: rest.crash_count,
        crashes_total: rest.crashes_total,
        snooze_count: rest.snooze_count,
        quarantined: rest.quarantined,
        lease,
        last_settlement: rest.last_settlement,
        cancel_requested_at: optional_time(rest.cancel_requested_at)?,
        deleted_at: optional_time(*deleted_at)?,
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

fn decode_document(row: DocumentRow<'_>) -> Decoded<(Held, Document)> {
    let DocumentRow(
        held,
        tenant,
        priority,
        filename,
        media_type,
        sha256,
        size_bytes,
        chunking,
        metadata,
        properties,
        created_at,
        attempts,
        password,
        failed_pages,
    ) = row;
    let held = decode_held(held)?;
    let attempts = format!("[{}]", attempts.trim_start_matches(','));
    let mut attempts: Vec<Attempt> = serde_json::from_str(&attempts)?;
    attempts.drain(..attempts.len().saturating_sub(MAX_ATTEMPTS));
    let document = Document {
        id: held.id,
        queue: held.queue.clone(),
        tenant,
        priority,
        filename,
        media_type,
        blob: BlobRef { sha256, size_bytes },
        chunking: serde_json::from_str(&chunking)?,
        metadata: serde_json::from_str(&metadata)?,
        password,
        properties: serde_json::from_str(&properties)?,
        failed_pages,
        created_at: time(created_at)?,
        lifecycle: held.life.clone(),
        attempts,
    };
    Ok((held, document))
}

/// A queue's settings, as `configure` wrote them: a word of its own for paused, and the rest as JSON.
pub(crate) fn settings(queue: &str, paused: bool, settings: Option<&str>) -> Result<QueueSettings> {
    let settings: QueueSettings = settings
        .map(serde_json::from_str)
        .transpose()
        .map_err(|error| malformed(format!("the settings of queue {queue}"), error))?
        .unwrap_or_default();
    Ok(QueueSettings { paused, ..settings })
}

/// The state in a row's column of that name.
pub(crate) fn decode_state(row: &SqliteRow) -> Decoded<State> {
    parse_state(row.try_get("state")?)
}

fn parse_state(word: &str) -> Decoded<State> {
    State::parse(word).ok_or_else(|| format!("{word:?} is no state").into())
}

fn time(us: i64) -> Decoded<Timestamp> {
    Ok(Timestamp::from_microsecond(us)?)
}

fn optional_time(us: Option<i64>) -> Decoded<Option<Timestamp>> {
    us.map(time).transpose()
}

fn blob(row: &SqliteRow) -> Decoded<BlobRef> {
    Ok(BlobRef {
        sha256: row.try_get("sha256")?,
        size_bytes: u64::try_from(row.try_get::<i64, _>("size_bytes")?)?,
    })
}

/// Reads a page.
pub(crate) fn page(row: &SqliteRow) -> Decoded<Page> {
    let source: &str = row.try_get("source")?;
    Ok(Page {
        number: row.try_get("number")?,
        label: row.try_get("label")?,
        section: row.try_get("section")?,
        provenance: Provenance {
            source: PageSource::parse(source).ok_or_else(|| format!("{source:?} is no source"))?,
            reason: row.try_get("reason")?,
            confidence: row.try_get("confidence")?,
        },
        start_offset: u64::try_from(row.try_get::<i64, _>("start_offset")?)?,
        end_offset: u64::try_from(row.try_get::<i64, _>("end_offset")?)?,
        text: row.try_get("text")?,
        failure: row.try_get("failure")?,
    })
}

/// Reads a chunk.
pub(crate) fn chunk(row: &SqliteRow) -> Decoded<Chunk> {
    Ok(Chunk {
        ordinal: row.try_get("ordinal")?,
        text: row.try_get("text")?,
        first_page: row.try_get("first_page")?,
        last_page: row.try_get("last_page")?,
        start_offset: u64::try_from(row.try_get::<i64, _>("start_offset")?)?,
        end_offset: u64::try_from(row.try_get::<i64, _>("end_offset")?)?,
        section: row.try_get("section")?,
    })
}

/// Reads an image.
pub(crate) fn image(row: &SqliteRow) -> Decoded<Image> {
    let thumbnail: Option<&str> = row.try_get("thumbnail")?;
    Ok(Image {
        ordinal: row.try_get("ordinal")?,
        page: row.try_get("page")?,
        media_type: row.try_get("media_type")?,
        width: row.try_get("width")?,
        height: row.try_get("height")?,
        bbox: serde_json::from_str(row.try_get("bbox")?)?,
        caption: row.try_get("caption")?,
        blob: blob(row)?,
        thumbnail: thumbnail.map(serde_json::from_str).transpose()?,
    })
}
