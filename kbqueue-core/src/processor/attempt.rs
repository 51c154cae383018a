//! One attempt at one document, from its claim to its settlement.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use tokio::time::Instant;

use super::Inner;
use super::leases::{Interrupt, Watchdog};
use super::work::{Stop, Work};
use crate::document::Document;
use crate::error::chain;
use crate::extract::ExtractError;
use crate::state::{Outcome, State};
use crate::store::{Settled, Settlement};

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The document is in this state.
    In(State),
    /// It is queued again because of an error.
    Retried,
    /// Nothing is known of it: the lease was lost, or the store stayed away.
    Unknown,
}

/// Sees a claimed document through. Never panics, whatever the extractor does.
pub(super) async fn run(inner: Arc<Inner>, document: Document) -> Ended {
    let started = Instant::now();
    let id = document.id;
    let life = &document.lifecycle;
    let Some(lease_id) = life.lease.as_ref().map(|lease| lease.id) else {
        tracing::error!(document = %id, "the store handed out a document without a lease");
        return Ended::Unknown;
    };
    tracing::info!(
        document = %id, queue = %document.queue, file = document.filename, attempt = life.attempt,
        from_page = life.cursor.pages + 1, "claimed"
    );
    let retry_count = life.retry_count;
    let options = &inner.options;
    let watchdog = Arc::new(Watchdog::new(
        options.stall_timeout,
        options.max_processing_time,
    ));
    let mut hold = inner.leases.hold(id, lease_id, Arc::clone(&watchdog));
    if inner.stop.is_cancelled() {
        // It was claimed while the stop signal went round, which it therefore missed.
        inner.leases.interrupt(id, Interrupt::Shutdown);
    }

    let work = Work::new(&inner, document, lease_id, &watchdog);
    let outcome = tokio::select! {
        biased;
        reason = hold.interrupted() => match reason {
            Interrupt::LeaseLost => Err(Stop::LeaseLost),
            // A cancel that was requested turns every ending but success into `cancelled`.
            Interrupt::None | Interrupt::Shutdown | Interrupt::Cancel => Ok(Outcome::Release),
        },
        reason = watchdog.wait() => Err(Stop::Error(ExtractError::transient(reason))),
        ended = AssertUnwindSafe(work.run()).catch_unwind() => match ended {
            Ok(Ok(())) => Ok(Outcome::Complete),
            Ok(Err(stop)) => Err(stop),
            Err(panic) => Err(Stop::Error(ExtractError::transient(format!(
                "the extractor panicked: {}",
                panic_message(panic.as_ref())
            )))),
        },
    };
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(Stop::Cancelled) => Outcome::Release,
        Err(Stop::LeaseLost) => {
            tracing::warn!(document = %id, "the lease was lost: what was not committed is dropped");
            return Ended::Unknown;
        }
        Err(Stop::Error(error)) => inner.outcome_of(&error, retry_count),
    };

    let error = match &outcome {
        Outcome::Fail { error, .. } => Some(error.clone()),
        Outcome::Complete | Outcome::Release | Outcome::Snooze { .. } => None,
    };
    let settlement = Settlement {
        document: id,
        lease_id,
        outcome,
    };
    let settled = inner
        .settler
        .settle(settlement, || inner.attempts.len(), &inner.give_up)
        .await;
    drop(hold);
    let took_ms = started.elapsed().as_millis();
    match settled {
        Some(Settled::In(state)) => {
            match &error {
                Some(error) => {
                    tracing::warn!(document = %id, %state, took_ms, error, "settled");
                }
                None => tracing::info!(document = %id, %state, took_ms, "settled"),
            }
            let retried = state == State::Queued && error.is_some();
            if retried {
                Ended::Retried
            } else {
                Ended::In(state)
            }
        }
        Some(Settled::LeaseLost) => {
            tracing::warn!(document = %id, "the lease was lost before the document could be settled");
            Ended::Unknown
        }
        None => {
            tracing::warn!(document = %id, "left to its lease: the store could not be told");
            Ended::Unknown
        }
    }
}

impl Inner {
    fn outcome_of(&self, error: &ExtractError, retry_count: u32) -> Outcome {
        let retry = self.options.retry;
        let retryable = match error {
            ExtractError::Snooze { delay, .. } => return Outcome::Snooze { delay: *delay },
            ExtractError::Permanent { .. } => false,
            ExtractError::Transient { .. } => true,
        };
        Outcome::Fail {
            error: chain(error),
            retryable,
            max_retries: retry.max_retries,
            backoff: retry.backoff.delay(retry_count, &mut fastrand::Rng::new()),
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
