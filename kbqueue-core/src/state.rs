//! The specification: what may happen to a document, and what follows from it.
//!
//! [`transition`] is pure and total: every (state, event) pair has an answer, and every store gives
//! that answer. Stores apply it; none decides again.
//!
//! ```text
//!            claim                       complete
//! queued ──────────────▶ processing ──────────────────▶ completed
//!   ▲  ▲                  │  │  │ fail, retries used up, or permanent
//!   │  └──────────────────┘  │  └──────────────────────▶ failed
//!   │    release, snooze,    │ a cancel was requested
//!   │    retry left, expire  └─────────────────────────▶ cancelled ◀── cancel (while queued)
//!   │
//!   └── retry, rechunk (by a person): from completed, failed, cancelled
//! ```

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::whole_us;
use crate::lifecycle::{Cursor, Generation, LastSettlement, Lease, LeaseId, Lifecycle};
use crate::output::Progress;

/// How often a document may ask to come back later before it counts as failed.
pub const MAX_SNOOZES: u32 = 100;

/// The five states of a document. Scheduled is queued with a future `available_at`; retrying is
/// queued with a `retry_count` above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waiting to be claimed.
    Queued,
    /// Held by a worker under a lease.
    Processing,
    /// Done; outputs are final for their generation.
    Completed,
    /// Given up on: a dead letter.
    Failed,
    /// Stopped on request.
    Cancelled,
}

impl State {
    /// All of them, in the order of a document's life.
    pub const ALL: [Self; 5] = [
        Self::Queued,
        Self::Processing,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The word used in databases, JSON and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The inverse of [`as_str`](Self::as_str); `None` for any other word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether nothing more happens unless a person asks for it.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When crashes end a document.
///
/// Defaults: 3 without progress between them, 10 in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashLimits {
    /// Crashes since the cursor last moved.
    pub max_crashes: u32,
    /// Crashes in all.
    pub max_crashes_total: u32,
}

impl Default for CrashLimits {
    fn default() -> Self {
        Self {
            max_crashes: 3,
            max_crashes_total: 10,
        }
    }
}

/// How a lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All outputs are committed.
    Complete,
    /// Something went wrong, a time-out included.
    Fail {
        /// What, in words.
        error: String,
        /// Whether another try may help.
        retryable: bool,
        /// Retries allowed by the worker's policy.
        max_retries: u32,
        /// How long to wait before the next try.
        backoff: Duration,
    },
    /// The worker shuts down: nothing is counted.
    Release,
    /// The extractor asks to come back later: no retry is used.
    Snooze {
        /// How much later.
        delay: Duration,
    },
}

/// What can happen to a document after it was enqueued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A worker takes it.
    Claim {
        /// A fresh id.
        lease_id: LeaseId,
        /// The claimer's name.
        worker: String,
        /// How long the lease lasts.
        lease: Duration,
        /// The claimer's output settings.
        fingerprint: String,
        /// How long a started document is left to workers with its own fingerprint once it is due.
        grace: Duration,
    },
    /// The holder commits outputs and moves on.
    Checkpoint {
        /// The fence.
        lease_id: LeaseId,
        /// The renewed lease's length.
        lease: Duration,
        /// The new cursor; its number is one above the last.
        cursor: Cursor,
        /// How far it is.
        progress: Progress,
    },
    /// The holder is alive.
    Renew {
        /// The fence.
        lease_id: LeaseId,
        /// The renewed lease's length.
        lease: Duration,
    },
    /// The holder is done with it.
    Settle {
        /// The fence.
        lease_id: LeaseId,
        /// In which way.
        outcome: Outcome,
    },
    /// The lease has run out: its holder is presumed dead.
    Expire(CrashLimits),
    /// Somebody wants it stopped.
    Cancel,
    /// An admin wants it done again; `from_scratch` drops what is committed.
    Retry {
        /// Opens a new generation of outputs.
        from_scratch: bool,
    },
    /// An admin wants its stored pages cut into chunks again.
    Rechunk,
    /// Somebody wants it gone.
    Delete,
    /// Somebody says something else about it.
    Change {
        /// When it may be claimed, while it is queued.
        available_at: Option<Timestamp>,
    },
}

/// What an event leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// The document is now like this.
    To(Box<Lifecycle>),
    /// The event was applied before and its answer got lost: nothing changes.
    Repeated,
}

/// Why an event does not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is not processing under that lease: drop the result, do not repeat the write.
    #[error("the lease was lost")]
    LeaseLost,
    /// It is not due yet, or left to workers with its own fingerprint.
    #[error("it cannot be claimed yet")]
    NotDue,
    /// Its lease still runs.
    #[error("its lease has not expired")]
    LeaseAlive,
    /// A checkpoint was skipped: a bug in the worker.
    #[error("checkpoint {got} came after checkpoint {last}")]
    OutOfOrder {
        /// The last checkpoint's number.
        last: u64,
        /// The number that came.
        got: u64,
    },
    /// Its state forbids it.
    #[error("it is {0}")]
    WrongState(State),
    /// It was deleted.
    #[error("it was deleted")]
    Deleted,
}

/// Answers what `event` makes of `document` at `now`.
///
/// # Errors
/// A [`Refusal`]; the document is then unchanged.
pub fn transition(
    document: &Lifecycle,
    event: &Event,
    now: Timestamp,
) -> Result<Transition, Refusal> {
    if document.deleted_at.is_some() {
        return Err(match event {
            Event::Checkpoint { .. } | Event::Renew { .. } | Event::Settle { .. } => {
                Refusal::LeaseLost
            }
            Event::Claim { .. }
            | Event::Expire(_)
            | Event::Cancel
            | Event::Retry { .. }
            | Event::Rechunk
            | Event::Delete
            | Event::Change { .. } => Refusal::Deleted,
        });
    }
    let mut next = document.clone();
    match event {
        Event::Claim {
            lease_id,
            worker,
            lease,
            fingerprint,
            grace,
        } => {
            if document.state != State::Queued {
                return Err(Refusal::WrongState(document.state));
            }
            if now < due_at(document, fingerprint, *grace) {
                return Err(Refusal::NotDue);
            }
            if is_foreign(document, fingerprint) {
                open_generation(&mut next);
            }
            next.fingerprint = Some(fingerprint.clone());
            next.state = State::Processing;
            next.attempt = next.attempt.saturating_add(1);
            next.started_at = Some(now);
            next.lease = Some(Lease {
                id: *lease_id,
                worker: worker.clone(),
                expires_at: leased_until(now, *lease),
            });
        }
        Event::Checkpoint {
            lease_id,
            lease,
            cursor,
            progress,
        } => {
            let holder = held(&mut next, *lease_id)?;
            holder.expires_at = leased_until(now, *lease);
            if cursor.number == document.cursor.number && cursor.number > 0 {
                return Ok(Transition::Repeated);
            }
            if cursor.number != document.cursor.number + 1 {
                return Err(Refusal::OutOfOrder {
                    last: document.cursor.number,
                    got: cursor.number,
                });
            }
            if cursor.is_past(&document.cursor) {
                next.crash_count = 0;
            }
            next.cursor = *cursor;
            let percent = progress.percent.min(99).max(document.progress.percent);
            next.progress = Progress {
                percent,
                ..*progress
            };
            return Ok(Transition::To(Box::new(next)));
        }
        Event::Renew { lease_id, lease } => {
            held(&mut next, *lease_id)?.expires_at = leased_until(now, *lease);
            return Ok(Transition::To(Box::new(next)));
        }
        Event::Settle { lease_id, outcome } => {
            if !document.is_held_under(*lease_id) {
                let repeated = document
                    .last_settlement
                    .is_some_and(|last| last.lease_id == *lease_id);
                return if repeated {
                    Ok(Transition::Repeated)
                } else {
                    Err(Refusal::LeaseLost)
                };
            }
            settle(&mut next, outcome, now);
            next.last_settlement = Some(LastSettlement {
                lease_id: *lease_id,
                state: next.state,
            });
        }
        Event::Expire(limits) => {
            let Some(lease) = document.lease.as_ref() else {
                return Err(Refusal::WrongState(document.state));
            };
            if now < lease.expires_at {
                return Err(Refusal::LeaseAlive);
            }
            next.crash_count = next.crash_count.saturating_add(1);
            next.crashes_total = next.crashes_total.saturating_add(1);
            next.error = Some(format!(
                "worker {} stopped answering while it held the document",
                lease.worker
            ));
            let quarantine = next.crash_count >= limits.max_crashes
                || next.crashes_total >= limits.max_crashes_total;
            if document.cancel_requested_at.is_some() {
                finish(&mut next, State::Cancelled, now);
            } else if quarantine {
                next.quarantined = true;
                next.error = Some(format!(
                    "quarantined after {} crashes of its workers, {} of them without progress; the last was {}",
                    next.crashes_total, next.crash_count, lease.worker
                ));
                finish(&mut next, State::Failed, now);
            } else {
                requeue(&mut next, now);
            }
        }
        Event::Cancel => match document.state {
            State::Queued => finish(&mut next, State::Cancelled, now),
            State::Processing if document.cancel_requested_at.is_none() => {
                next.cancel_requested_at = Some(now);
            }
            State::Processing | State::Cancelled => return Ok(Transition::Repeated),
            State::Completed | State::Failed => return Err(Refusal::WrongState(document.state)),
        },
        Event::Retry { from_scratch } => {
            if !document.state.is_terminal() {
                return Err(Refusal::WrongState(document.state));
            }
            if *from_scratch {
                open_generation(&mut next);
            }
            start_over(&mut next, now);
        }
        Event::Rechunk => {
            if document.state != State::Completed {
                return Err(Refusal::WrongState(document.state));
            }
            next.generation.chunks += 1;
            next.cursor = Cursor {
                pages: document.cursor.pages,
                pages_done: document.cursor.pages_done,
                images: document.cursor.images,
                ..Cursor::default()
            };
            next.progress = Progress {
                total_pages: document.progress.total_pages,
                ..Progress::default()
            };
            start_over(&mut next, now);
        }
        Event::Delete => {
            if document.state == State::Processing {
                return Err(Refusal::WrongState(State::Processing));
            }
            next.deleted_at = Some(now);
        }
        Event::Change { available_at } => {
            if available_at.is_some() && document.state != State::Queued {
                return Err(Refusal::WrongState(document.state));
            }
            next.available_at = available_at.map_or(document.available_at, whole_us);
        }
    }
    next.version += 1;
    Ok(Transition::To(Box::new(next)))
}

/// When a worker with `fingerprint` may claim `document`, provided that it is queued: a started one is
/// left to workers with its own fingerprint for `grace`.
#[must_use]
pub fn due_at(document: &Lifecycle, fingerprint: &str, grace: Duration) -> Timestamp {
    if is_foreign(document, fingerprint) {
        put_off(document.available_at, grace)
    } else {
        document.available_at
    }
}

/// When a lease of this length ends: after whole milliseconds, at least one.
#[must_use]
pub fn leased_until(now: Timestamp, lease: Duration) -> Timestamp {
    put_off(now, lease.max(Duration::from_millis(1)))
}

fn is_foreign(document: &Lifecycle, fingerprint: &str) -> bool {
    let own = document.fingerprint.as_deref();
    own.is_some_and(|own| own != fingerprint)
}

fn settle(next: &mut Lifecycle, outcome: &Outcome, now: Timestamp) {
    let cancelled = next.cancel_requested_at.is_some();
    if let Outcome::Fail { error, .. } = outcome {
        next.error = Some(error.clone());
    }
    match outcome {
        Outcome::Complete => {
            next.error = None;
            // A document without pages may complete without a checkpoint that says so.
            next.cursor.pages_done = true;
            next.completed = Some(next.generation);
            next.progress.percent = 100;
            next.progress.eta_ms = Some(0);
            next.progress.total_chunks = next.progress.current_chunk;
            finish(next, State::Completed, now);
        }
        _ if cancelled => finish(next, State::Cancelled, now),
        Outcome::Fail {
            retryable,
            max_retries,
            backoff,
            ..
        } => {
            // Compared with `>=`, so that a maximum lowered below the count still ends it.
            if *retryable && next.retry_count < *max_retries {
                next.retry_count += 1;
                requeue(next, put_off(now, *backoff));
            } else {
                finish(next, State::Failed, now);
            }
        }
        Outcome::Release => requeue(next, now),
        Outcome::Snooze { delay } if next.snooze_count < MAX_SNOOZES => {
            next.snooze_count += 1;
            requeue(next, put_off(now, *delay));
        }
        Outcome::Snooze { .. } => {
            next.error = Some(format!("asked to come back later {MAX_SNOOZES} times"));
            finish(next, State::Failed, now);
        }
    }
}

/// The lease of the holder, where `lease_id` is it.
fn held(next: &mut Lifecycle, lease_id: LeaseId) -> Result<&mut Lease, Refusal> {
    next.lease
        .as_mut()
        .filter(|lease| lease.id == lease_id)
        .ok_or(Refusal::LeaseLost)
}

fn requeue(next: &mut Lifecycle, available_at: Timestamp) {
    next.state = State::Queued;
    next.lease = None;
    next.available_at = available_at;
}

fn finish(next: &mut Lifecycle, state: State, now: Timestamp) {
    next.state = state;
    next.lease = None;
    next.completed_at = Some(now);
}

fn start_over(next: &mut Lifecycle, now: Timestamp) {
    next.state = State::Queued;
    next.available_at = now;
    next.retry_count = 0;
    next.crash_count = 0;
    next.crashes_total = 0;
    next.snooze_count = 0;
    next.quarantined = false;
    next.cancel_requested_at = None;
    next.error = None;
    next.completed_at = None;
}

fn open_generation(next: &mut Lifecycle) {
    let number = next.generation.chunks + 1;
    next.generation = Generation {
        chunks: number,
        pages: number,
    };
    next.fingerprint = None;
    next.cursor = Cursor::default();
    next.progress = Progress::default();
}

/// The instant `by` after `now`, in whole milliseconds of it; never beyond the end of time.
#[must_use]
pub fn put_off(now: Timestamp, by: Duration) -> Timestamp {
    // Whole milliseconds, so that every store rounds alike.
    let ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    now.checked_add(jiff::SignedDuration::from_millis(ms))
        .map_or(whole_us(Timestamp::MAX), whole_us)
}
