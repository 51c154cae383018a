//! The part of a document that the specification owns: lease, cursor, generations, counters.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::whole_us;
use crate::output::Progress;
use crate::state::State;

/// The fencing token of one claim: random, made by the claimer, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub Uuid);

impl LeaseId {
    /// A fresh random id.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A worker's expiring hold on one document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The fence that every write of the holder carries.
    pub id: LeaseId,
    /// Name of the holder, for people.
    pub worker: String,
    /// When the holder is presumed dead unless it renews.
    pub expires_at: Timestamp,
}

/// Where work goes on from, written together with the outputs that lie before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// How many checkpoints this generation has had; a checkpoint carries the next number.
    pub number: u64,
    /// Pages committed, so the next one to extract is `pages + 1`.
    pub pages: u32,
    /// Whether the last page is committed, so that nothing is left to extract.
    pub pages_done: bool,
    /// Chunks committed; also the next chunk's ordinal.
    pub chunks: u32,
    /// Images committed; also the next image's ordinal.
    pub images: u32,
    /// The page (from 1) in which the next chunk begins; 0 before the first page.
    pub chunk_page: u32,
    /// Where the next chunk begins, in Unicode scalar values of the document's text.
    pub chunk_start: u64,
    /// Where the last chunk ended.
    pub chunk_end: u64,
}

impl Cursor {
    /// Whether `self` holds more committed work than `earlier`.
    #[must_use]
    pub fn is_past(&self, earlier: &Self) -> bool {
        (self.pages, self.pages_done, self.chunks)
            > (earlier.pages, earlier.pages_done, earlier.chunks)
    }
}

/// Which outputs belong together: chunks of one generation are cut from the pages of one generation
/// (an earlier one after a rechunk).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Generation of the chunks, from 1.
    pub chunks: u32,
    /// Generation of the pages and images, from 1.
    pub pages: u32,
}

/// How the last lease ended, kept so that a settlement whose answer got lost can be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSettlement {
    /// The lease that was settled.
    pub lease_id: LeaseId,
    /// The state that the document went to.
    pub state: State,
}

/// The part of a document that the specification owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// Where the document is.
    pub state: State,
    /// Grows with every transition, checkpoints and renewals apart.
    pub version: u64,
    /// Not claimed before this instant.
    pub available_at: Timestamp,
    /// Claims so far, in all generations. For people; nothing is decided by it.
    pub attempt: u32,
    /// Errors that used up a retry.
    pub retry_count: u32,
    /// Workers that died holding it since its cursor last moved.
    pub crash_count: u32,
    /// Workers that died holding it in all.
    pub crashes_total: u32,
    /// Times that it asked to come back later.
    pub snooze_count: u32,
    /// Failed because it killed its workers.
    pub quarantined: bool,
    /// There exactly while processing.
    pub lease: Option<Lease>,
    /// How the last lease ended.
    pub last_settlement: Option<LastSettlement>,
    /// When somebody asked for a cancel while it was processing.
    pub cancel_requested_at: Option<Timestamp>,
    /// Hidden since; about to be purged.
    pub deleted_at: Option<Timestamp>,
    /// The last error, in words; cleared by success and by an admin's retry.
    pub error: Option<String>,
    /// The settings that shape its outputs, as of its first start in this generation.
    pub fingerprint: Option<String>,
    /// The generation being written, or written last.
    pub generation: Generation,
    /// The newest generation that was completed: what readers see.
    pub completed: Option<Generation>,
    /// Where work goes on from.
    pub cursor: Cursor,
    /// How far it is.
    pub progress: Progress,
    /// Start of the latest attempt.
    pub started_at: Option<Timestamp>,
    /// When it reached a terminal state.
    pub completed_at: Option<Timestamp>,
}

impl Lifecycle {
    /// A document as it is enqueued, to be claimed from `available_at` (in whole microseconds) on.
    #[must_use]
    pub fn new(available_at: Timestamp) -> Self {
        Self {
            state: State::Queued,
            version: 1,
            available_at: whole_us(available_at),
            attempt: 0,
            retry_count: 0,
            crash_count: 0,
            crashes_total: 0,
            snooze_count: 0,
            quarantined: false,
            lease: None,
            last_settlement: None,
            cancel_requested_at: None,
            deleted_at: None,
            error: None,
            fingerprint: None,
            generation: Generation {
                chunks: 1,
                pages: 1,
            },
            completed: None,
            cursor: Cursor::default(),
            progress: Progress::default(),
            started_at: None,
            completed_at: None,
        }
    }

    /// The generation that readers see: the newest completed one, or the first as it grows.
    #[must_use]
    pub fn visible(&self) -> Generation {
        self.completed.unwrap_or(self.generation)
    }

    /// Whether a claim by a worker with `fingerprint` starts it in its generation of outputs, or in a new
    /// one, rather than going on with it.
    #[must_use]
    pub fn starts_under(&self, fingerprint: &str) -> bool {
        self.fingerprint.as_deref() != Some(fingerprint)
    }

    /// Whether it holds `lease_id` now.
    #[must_use]
    pub fn is_held_under(&self, lease_id: LeaseId) -> bool {
        self.state == State::Processing && self.lease.as_ref().is_some_and(|l| l.id == lease_id)
    }
}
