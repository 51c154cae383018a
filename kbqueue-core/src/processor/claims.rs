//! Free slots in, running attempts out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::attempt::{self, Ended};
use super::pause::{Pause, linger};
use super::{BatchReport, Inner};
use crate::document::Document;
use crate::error::chain;
use crate::store::{ClaimRequest, Claims, Result};

const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// Claims whenever there is a free slot and something to claim, until the processor stops.
pub(super) async fn keep_claiming(inner: Arc<Inner>) {
    let mut pause = Pause::default();
    loop {
        let Some(slots) = inner
            .stop
            .run_until_cancelled(free_slots(&inner, usize::MAX))
            .await
        else {
            return;
        };
        if inner.stop.is_cancelled() {
            // The slots came free because of the stop.
            return;
        }
        let asked = slots.len();
        let ended = inner.ended.load(Ordering::SeqCst);
        // Not cancelled by a stop: what it claims must be known, so that it can be released.
        let wait = match claim(&inner, asked).await {
            Ok(claims) => {
                pause = Pause::default();
                let full = claims.documents.len() == asked;
                for (document, slot) in claims.documents.into_iter().zip(slots) {
                    spawn(&inner, document, slot);
                }
                inner.held_back.store(claims.held_back, Ordering::SeqCst);
                // What ended meanwhile woke nobody.
                if full || claims.held_back && ended != inner.ended.load(Ordering::SeqCst) {
                    continue;
                }
                let due = claims.next_due.unwrap_or(inner.options.check_interval);
                // Not at once, even should a store say so: it would be asked without end.
                due.clamp(
                    SHORTEST_WAIT,
                    inner.options.check_interval.max(SHORTEST_WAIT),
                )
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot claim, trying again");
                pause.next().min(inner.options.check_interval)
            }
        };
        tokio::select! {
            () = inner.stop.cancelled() => return,
            () = inner.wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Claims up to `batch_size` documents, as slots become free, and waits for all of them.
pub(super) async fn one_batch(inner: &Arc<Inner>) -> Result<BatchReport> {
    let mut report = BatchReport::default();
    let mut attempts = FuturesUnordered::new();
    let mut left = inner.options.batch_size;
    while left > 0 && !inner.stop.is_cancelled() {
        let slots = free_slots(inner, left).await;
        let asked = slots.len();
        let claims = match claim(inner, asked).await {
            Ok(claims) => claims,
            // What was claimed before goes on and is reported.
            Err(error) if !attempts.is_empty() => {
                tracing::warn!(error = chain(&error), "the batch ends early");
                break;
            }
            Err(error) => return Err(error),
        };
        let got = claims.documents.len();
        for (document, slot) in claims.documents.into_iter().zip(slots) {
            attempts.push(spawn(inner, document, slot));
        }
        left -= got;
        if got < asked {
            break;
        }
    }
    while let Some(ended) = attempts.next().await {
        report.count(ended.unwrap_or(Ended::Unknown));
    }
    Ok(report)
}

/// Waits for a free slot, and takes as many as are free: at most `limit` and one batch.
async fn free_slots(inner: &Inner, limit: usize) -> Vec<OwnedSemaphorePermit> {
    let options = &inner.options;
    let limit = limit
        .min(options.batch_size)
        .min(options.concurrency)
        .max(1);
    let one = || Arc::clone(&inner.slots).try_acquire_owned().ok();
    let first = match one() {
        Some(slot) => slot,
        None => {
            let slot = Arc::clone(&inner.slots).acquire_owned().await;
            // Documents that were settled together free their slots together, if not at once.
            linger(|| inner.slots.available_permits() + 1 >= limit).await;
            slot.expect("it is never closed")
        }
    };
    let mut free = vec![first];
    while free.len() < limit
        && let Some(slot) = one()
    {
        free.push(slot);
    }
    free
}

async fn claim(inner: &Inner, slots: usize) -> Result<Claims> {
    let request = ClaimRequest {
        grace: inner.options.fingerprint_grace,
        ..ClaimRequest::new(
            inner.worker.clone(),
            slots,
            inner.options.lease,
            inner.fingerprint.clone(),
        )
    };
    inner.store.claim(request).await
}

fn spawn(inner: &Arc<Inner>, document: Document, slot: OwnedSemaphorePermit) -> JoinHandle<Ended> {
    let task = attempt::run(Arc::clone(inner), document);
    inner.attempts.spawn(async move {
        let ended = task.await;
        drop(slot);
        ended
    })
}
