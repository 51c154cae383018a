//! What stands in Redis to core's types, and back.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use kbqueue_core::document::{Attempt, Properties};
use kbqueue_core::error::{BoxError, chain};
use kbqueue_core::lifecycle::{Cursor, Generation, LastSettlement, Lease, Lifecycle};
use kbqueue_core::output::FailedPage;
use kbqueue_core::store::Result;
use kbqueue_core::{
    BlobRef, ChunkOptions, Document, DocumentId, LeaseId, NewDocument, Progress, QueueName,
    SealedPassword, State, StoreError,
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::error::malformed;

/// A document as far as the specification, and finding it, go.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) id: DocumentId,
    /// What it is compared by before it is written.
    pub(crate) token: Token,
    pub(crate) tenant: Option<String>,
    pub(crate) priority: i16,
    pub(crate) dedupe_key: Option<String>,
    pub(crate) life: Lifecycle,
}

impl Held {
    /// Whether it stands for its dedupe key with this lifecycle.
    pub(crate) fn holds_key(&self, life: &Lifecycle) -> bool {
        self.dedupe_key.is_some()
            && life.deleted_at.is_none()
            && matches!(
                life.state,
                State::Queued | State::Processing | State::Completed
            )
    }
}

/// Names one write of a document: random, never used twice, so that what still has it was not written
/// since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

/// How many bytes a token has.
const TOKEN: usize = 16;

impl Token {
    pub(crate) fn random() -> Self {
        // The half that holds no version of the UUID.
        let random = Uuid::new_v4().as_u64_pair().1;
        Self(format!("{random:016x}"))
    }

    /// The token in front of a value, and the rest of that.
    pub(crate) fn split(value: &[u8]) -> Decoded<(Self, &[u8])> {
        let (token, rest) = value.split_at_checked(TOKEN).ok_or("it is too short")?;
        Ok((Self(std::str::from_utf8(token)?.to_owned()), rest))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A lifecycle as JSON, with what places a document. What has its default is left out.
///
/// A field that this release does not know makes it malformed, so that it is left to the release that does
/// rather than written back without the field.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StoredLife {
    #[serde(skip_serializing_if = "is_default")]
    tenant: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    priority: i16,
    #[serde(skip_serializing_if = "is_default")]
    key: Option<String>,
    state: Option<State>,
    version: u64,
    available_at: i64,
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
    lease: Option<StoredLease>,
    #[serde(skip_serializing_if = "is_default")]
    last_settlement: Option<LastSettlement>,
    #[serde(skip_serializing_if = "is_default")]
    cancel_requested_at: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    deleted_at: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    error: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    fingerprint: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    generation: Option<Generation>,
    #[serde(skip_serializing_if = "is_default")]
    completed: Option<Generation>,
    /// Generations of pages and chunks that readers see, for `outputs.lua`.
    seen: (u32, u32),
    #[serde(skip_serializing_if = "is_default")]
    cursor: Cursor,
    #[serde(skip_serializing_if = "is_default")]
    progress: Progress,
    #[serde(skip_serializing_if = "is_default")]
    started_at: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    completed_at: Option<i64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct StoredLease {
    id: LeaseId,
    worker: String,
    expires_at: i64,
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

const FIRST: Generation = Generation {
    chunks: 1,
    pages: 1,
};

/// A value of `lives`: the token of this write, then the life and the priority that `held` has from now on.
pub(crate) fn encode_life(token: &Token, held: &Held, life: &Lifecycle, priority: i16) -> Vec<u8> {
    let visible = life.visible();
    let stored = StoredLife {
        tenant: held.tenant.clone(),
        priority,
        key: held.dedupe_key.clone(),
        state: Some(life.state),
        version: life.version,
        available_at: life.available_at.as_microsecond(),
        attempt: life.attempt,
        retry_count: life.retry_count,
        crash_count: life.crash_count,
        crashes_total: life.crashes_total,
        snooze_count: life.snooze_count,
        quarantined: life.quarantined,
        lease: life.lease.as_ref().map(|lease| StoredLease {
            id: lease.id,
            worker: lease.worker.clone(),
            expires_at: lease.expires_at.as_microsecond(),
        }),
        last_settlement: life.last_settlement,
        cancel_requested_at: life.cancel_requested_at.map(Timestamp::as_microsecond),
        deleted_at: life.deleted_at.map(Timestamp::as_microsecond),
        error: life.error.clone(),
        fingerprint: life.fingerprint.clone(),
        generation: Some(life.generation).filter(|own| *own != FIRST),
        completed: life.completed,
        seen: (visible.pages, visible.chunks),
        cursor: life.cursor,
        progress: life.progress,
        started_at: life.started_at.map(Timestamp::as_microsecond),
        completed_at: life.completed_at.map(Timestamp::as_microsecond),
    };
    let mut bytes = token.as_str().as_bytes().to_vec();
    serde_json::to_writer(&mut bytes, &stored).expect("plain data is JSON");
    bytes
}

pub(crate) type Decoded<T> = std::result::Result<T, BoxError>;

/// The inverse of [`encode_life`].
pub(crate) fn held(id: DocumentId, bytes: &[u8]) -> Result<Held> {
    decode_held(id, bytes).map_err(|error| malformed(format!("document {id}"), error))
}

fn decode_held(id: DocumentId, bytes: &[u8]) -> Decoded<Held> {
    let (token, json) = Token::split(bytes)?;
    let stored: StoredLife = serde_json::from_slice(json)?;
    let state = stored.state.ok_or("it has no state")?;
    let lease = match stored.lease {
        Some(lease) => Some(Lease {
            id: lease.id,
            worker: lease.worker,
            expires_at: time(lease.expires_at)?,
        }),
        None => None,
    };
    if lease.is_some() != (state == State::Processing) {
        return Err("a lease without processing, or the other way round".into());
    }
    Ok(Held {
        id,
        token,
        tenant: stored.tenant,
        priority: stored.priority,
        dedupe_key: stored.key,
        life: Lifecycle {
            state,
            version: stored.version,
            available_at: time(stored.available_at)?,
            attempt: stored.attempt,
            retry_count: stored.retry_count,
            crash_count: stored.crash_count,
            crashes_total: stored.crashes_total,
            snooze_count: stored.snooze_count,
            quarantined: stored.quarantined,
            lease,
            last_settlement: stored.last_settlement,
            cancel_requested_at: optional_time(stored.cancel_requested_at)?,
            deleted_at: optional_time(stored.deleted_at)?,
            error: stored.error,
            fingerprint: stored.fingerprint,
            generation: stored.generation.unwrap_or(FIRST),
            completed: stored.completed,
            cursor: stored.cursor,
            progress: stored.progress,
            started_at: optional_time(stored.started_at)?,
            completed_at: optional_time(stored.completed_at)?,
        },
    })
}

/// What becomes known of a document as it is worked on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct History {
    #[serde(skip_serializing_if = "is_default", deserialize_with = "attempts")]
    pub(crate) attempts: Vec<Attempt>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) failed_pages: Vec<FailedPage>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) properties: Properties,
}

/// Attempts, those included that were written before there was a number of pages.
fn attempts<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Vec<Attempt>, D::Error> {
    let mut attempts: Vec<Value> = Vec::deserialize(from)?;
    for attempt in attempts.iter_mut().filter_map(Value::as_object_mut) {
        attempt.entry("pages").or_insert_with(|| 0.into());
    }
    let decode = serde_json::from_value(attempts.into());
    decode.map_err(serde::de::Error::custom)
}

/// Reads a value of `histories`.
pub(crate) fn history(id: DocumentId, bytes: Option<&[u8]>) -> Result<History> {
    let Some(bytes) = bytes else {
        return Ok(History::default());
    };
    serde_json::from_slice(bytes)
        .map_err(|error| malformed(format!("the history of document {id}"), error))
}

fn is_null(value: &Value) -> bool {
    value.is_null()
}

/// What stays as it was enqueued, `chunking` apart.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fixed<'a> {
    filename: Cow<'a, str>,
    media_type: Cow<'a, str>,
    sha256: Cow<'a, str>,
    size_bytes: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) chunking: Option<ChunkOptions>,
    #[serde(default, skip_serializing_if = "is_null")]
    metadata: Cow<'a, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<Cow<'a, SealedPassword>>,
    created_at: i64,
}

impl<'a> Fixed<'a> {
    pub(crate) fn of(new: &'a NewDocument, now: Timestamp) -> Self {
        Self {
            filename: Cow::Borrowed(&new.filename),
            media_type: Cow::Borrowed(&new.media_type),
            sha256: Cow::Borrowed(&new.blob.sha256),
            size_bytes: new.blob.size_bytes,
            chunking: new.chunking,
            metadata: Cow::Borrowed(&new.metadata),
            password: new.password.as_ref().map(Cow::Borrowed),
            created_at: now.as_microsecond(),
        }
    }

    pub(crate) fn of_document(document: &'a Document) -> Self {
        Self {
            filename: Cow::Borrowed(&document.filename),
            media_type: Cow::Borrowed(&document.media_type),
            sha256: Cow::Borrowed(&document.blob.sha256),
            size_bytes: document.blob.size_bytes,
            chunking: document.chunking,
            metadata: Cow::Borrowed(&document.metadata),
            password: document.password.as_ref().map(Cow::Borrowed),
            created_at: document.created_at.as_microsecond(),
        }
    }
}

/// One document as a script answers it; what is not there is `None`.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: DocumentId,
    pub(crate) life: Option<Vec<u8>>,
    pub(crate) history: Option<Vec<u8>>,
    pub(crate) fixed: Option<Vec<u8>>,
}

impl Row {
    /// What the specification judges; `None` where there is no such document.
    pub(crate) fn held(&self) -> Result<Option<Held>> {
        self.life
            .as_deref()
            .map(|bytes| held(self.id, bytes))
            .transpose()
    }

    /// The whole document; `None` where there is none.
    pub(crate) fn document(&self, queue: &QueueName) -> Result<Option<(Held, Document)>> {
        let Some(held) = self.held()? else {
            return Ok(None);
        };
        let unreadable = |error: BoxError| malformed(format!("document {}", self.id), error);
        let fixed = self
            .fixed
            .as_deref()
            .ok_or_else(|| unreadable("its fixed part is missing".into()))?;
        let fixed: Fixed<'_> =
            serde_json::from_slice(fixed).map_err(|error| unreadable(error.into()))?;
        let history = history(self.id, self.history.as_deref())?;
        let document = Document {
            id: self.id,
            queue: queue.clone(),
            tenant: held.tenant.clone(),
            priority: held.priority,
            filename: fixed.filename.into_owned(),
            media_type: fixed.media_type.into_owned(),
            blob: BlobRef {
                sha256: fixed.sha256.into_owned(),
                size_bytes: fixed.size_bytes,
            },
            chunking: fixed.chunking,
            metadata: fixed.metadata.into_owned(),
            password: fixed.password.map(Cow::into_owned),
            properties: history.properties,
            failed_pages: history.failed_pages,
            created_at: time(fixed.created_at).map_err(unreadable)?,
            lifecycle: held.life.clone(),
            attempts: history.attempts,
        };
        Ok(Some((held, document)))
    }
}

/// What can be read; the rest is reported and left out, so that one row does not stop the others.
pub(crate) fn readable<T>(rows: impl IntoIterator<Item = Result<Option<T>>>) -> Vec<T> {
    rows.into_iter()
        .filter_map(|row| match row {
            Ok(row) => row,
            Err(error) => {
                report(&error);
                None
            }
        })
        .collect()
}

pub(crate) fn report(error: &StoreError) {
    tracing::error!(error = chain(error), "a row was left out");
}

pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data is JSON")
}

/// A document id as it is stored.
pub(crate) fn id(text: &str) -> Result<DocumentId> {
    text.parse()
        .map_err(|error: uuid::Error| malformed(format!("document {text:?}"), error))
}

/// An instant as a script answers it.
pub(crate) fn now(text: &str) -> Result<Timestamp> {
    let decode = || time(text.parse()?);
    decode().map_err(|error: BoxError| malformed("the server's clock", error))
}

/// An instant as it is stored, and as the score of a sorted set. Redis keeps that exactly until the year
/// 2255; later ones are rounded, and what is due is for the specification to say.
pub(crate) fn us(at: Timestamp) -> Vec<u8> {
    at.as_microsecond().to_string().into()
}

/// A duration in whole milliseconds, as the specification rounds it, in microseconds.
pub(crate) fn whole_ms_in_us(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis())
        .ok()
        .and_then(|ms| ms.checked_mul(1000))
        .unwrap_or(i64::MAX)
}

pub(crate) fn time(us: i64) -> Decoded<Timestamp> {
    Ok(Timestamp::from_microsecond(us)?)
}

pub(crate) fn optional_time(us: Option<i64>) -> Decoded<Option<Timestamp>> {
    us.map(time).transpose()
}
