//! What goes on beside the attempts: leases are renewed, notices are heard, dead workers' documents
//! are taken back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Inner;
use super::leases::Interrupt;
use super::pause::Pause;
use crate::error::chain;
use crate::event::Notice;
use crate::state::State;
use crate::store::{Directive, RenewRequest};

/// Documents taken back, and rows removed, in one step.
const BATCH: usize = 1000;

/// Runs all of it until `stop`.
pub(super) async fn run(inner: Arc<Inner>, stop: CancellationToken) {
    let all = async { tokio::join!(renew(&inner), listen(&inner, &stop), maintain(&inner)) };
    stop.run_until_cancelled(all).await;
}

/// Renews all leases of this process in one call, every third of their length; with none to renew it
/// is still the worker's sign of life.
async fn renew(inner: &Inner) {
    let mut every = tokio::time::interval((inner.options.lease / 3).max(Duration::from_millis(1)));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let leases = inner.leases.renewable();
        let request = RenewRequest::new(inner.worker.clone(), leases.clone(), inner.options.lease);
        match inner.store.renew(request).await {
            Ok(directives) => {
                for ((document, _), directive) in leases.into_iter().zip(directives) {
                    match directive {
                        Directive::Continue => {}
                        Directive::Cancel => inner.leases.interrupt(document, Interrupt::Cancel),
                        Directive::LeaseLost => {
                            inner.leases.interrupt(document, Interrupt::LeaseLost);
                        }
                    }
                }
            }
            // The work goes on: its writes carry the fence, and the reaper may not have come.
            Err(error) => tracing::warn!(error = chain(&error), "cannot renew leases"),
        }
    }
}

/// Wakes the claim loop, and passes cancels on at once.
async fn listen(inner: &Inner, stop: &CancellationToken) {
    let mut pause = Pause::default();
    let mut subscription = loop {
        match inner.store.subscribe().await {
            Ok(subscription) => break subscription,
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot listen for new documents");
                pause.wait(stop).await;
            }
        }
    };
    loop {
        match subscription.next().await {
            Notice::Document(change) if !inner.worker.queues.contains(&change.queue) => {}
            // The wish stays on a document that has ended; then it is one more that makes room.
            Notice::Document(change)
                if change.cancel_requested && change.state == State::Processing =>
            {
                inner.leases.interrupt(change.id, Interrupt::Cancel);
            }
            Notice::Document(change) => {
                let left_processing = change.state != State::Processing;
                if left_processing {
                    inner.ended.fetch_add(1, Ordering::SeqCst);
                }
                let makes_room = left_processing && inner.held_back.load(Ordering::SeqCst);
                if change.state == State::Queued || makes_room {
                    inner.wake.notify_one();
                }
            }
            Notice::Queue(_) | Notice::Resync => inner.wake.notify_one(),
        }
    }
}

/// Takes documents back from dead workers and removes what was deleted.
async fn maintain(inner: &Inner) {
    let every = (inner.options.lease / 2)
        .min(Duration::from_secs(10))
        .max(Duration::from_millis(1));
    loop {
        reap(inner).await;
        purge(inner).await;
        tokio::time::sleep(every).await;
    }
}

/// Takes back every document whose lease ran out.
pub(super) async fn reap(inner: &Inner) {
    loop {
        match inner.store.reap(inner.options.crash_limits, BATCH).await {
            Ok(reaped) => {
                for one in &reaped {
                    tracing::warn!(
                        document = %one.id, worker = one.worker, state = %one.state,
                        "took a document back from a worker that stopped answering"
                    );
                }
                if reaped.len() < BATCH {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot look for expired leases");
                return;
            }
        }
    }
}

async fn purge(inner: &Inner) {
    loop {
        match inner.store.purge(BATCH).await {
            Ok(BATCH) => {}
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot remove deleted documents");
                return;
            }
        }
    }
}
