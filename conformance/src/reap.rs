//! Workers that die.

use std::time::Duration;

use futures::future::{join, join_all};
use kbqueue_core::state::{CrashLimits, Outcome};
use kbqueue_core::store::Directive;
use kbqueue_core::{State, Store, TestClock};

use crate::support::*;

/// A lease that ran out is taken back: the crash is counted, no retry is used, the cursor stays, and
/// the document is due at once.
pub async fn an_expired_lease_is_taken_back(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    let mut holder = Holder::claim(store, "Wörker").await;
    holder.commit_times(2).await;
    let before = holder.life().await;
    clock.advance(LEASE - Duration::from_micros(1));
    assert_eq!(reap(store).await, [], "it still runs");
    clock.advance(Duration::from_micros(1));
    let reaped = store.reap(CrashLimits::default(), 10).await;
    let reaped = reaped.expect("reaping succeeds");
    assert_eq!((reaped.len(), reaped[0].id), (1, id));
    assert_eq!(
        (reaped[0].state, &*reaped[0].worker),
        (State::Queued, "Wörker")
    );
    let life = life(store, id).await;
    assert_eq!((life.state, life.lease), (State::Queued, None));
    assert_eq!(life.available_at, clock.now());
    assert_eq!(
        (life.crash_count, life.crashes_total, life.retry_count),
        (1, 1, 0)
    );
    assert_eq!(
        (life.cursor, life.version),
        (before.cursor, before.version + 1)
    );
    assert!(
        life.error.is_some_and(|error| error.contains("Wörker")),
        "it says who"
    );
    assert_eq!(reap(store).await, [], "once is enough");
    assert_eq!(Holder::claim(store, "next").await.cursor, holder.cursor);
}

/// REGRESSIONS 4: a document that kills its worker each time is quarantined, with the cause, and
/// nobody claims it again.
pub async fn crashes_without_progress_end_in_quarantine(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    for crash in 1..=3 {
        let holder = Holder::claim(store, "worker").await;
        assert_eq!(holder.renew().await, Directive::Continue);
        outlive_leases(clock);
        let expected = if crash < 3 {
            State::Queued
        } else {
            State::Failed
        };
        assert_eq!(reap(store).await, [(id, expected)]);
    }
    let document = find(store, id).await;
    let life = document.lifecycle;
    assert!(life.quarantined && life.error.is_some_and(|error| error.contains("worker")));
    assert_eq!((life.crash_count, life.retry_count), (3, 0));
    assert_eq!(life.completed_at, Some(clock.now()));
    let outcomes: Vec<_> = document.attempts.iter().map(|a| &*a.outcome).collect();
    assert_eq!(outcomes, ["crashed"; 3]);
    assert_eq!(next_due(store).await, None);
}

/// REGRESSIONS 4: nor does one cycle for ever that gets a little further each time.
pub async fn crashes_with_progress_end_too(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    for crash in 1..=10 {
        let mut holder = Holder::claim(store, "worker").await;
        holder.commit_times(1).await;
        outlive_leases(clock);
        let expected = if crash < 10 {
            State::Queued
        } else {
            State::Failed
        };
        assert_eq!(reap(store).await, [(id, expected)], "crash {crash}");
    }
    let life = life(store, id).await;
    assert!(life.quarantined);
    assert_eq!((life.crash_count, life.crashes_total), (1, 10));
}

/// REGRESSIONS 5: a worker that dies in the last attempt costs no retry: the document is resumed, and
/// ends.
pub async fn a_crash_in_the_last_attempt_leaves_nothing_stuck(
    store: &dyn Store,
    clock: &TestClock,
) {
    let id = add(store).await;
    let holder = Holder::claim(store, "worker").await;
    let last_retry = failure(true, 1, seconds(0));
    holder.settle_to(last_retry.clone(), State::Queued).await;
    let mut holder = Holder::claim(store, "worker").await;
    holder.commit_times(1).await;
    outlive_leases(clock);
    assert_eq!(reap(store).await, [(id, State::Queued)]);
    let resumed = Holder::claim(store, "worker").await;
    assert_eq!(resumed.cursor, holder.cursor);
    assert_eq!(resumed.life().await.retry_count, 1);
    resumed.settle_to(last_retry, State::Failed).await;
}

/// REGRESSIONS 29: a limit lowered to or below the count, even to nothing, ends it at the next crash.
pub async fn lowered_crash_limits_end_it(store: &dyn Store, clock: &TestClock) {
    for (max_crashes, max_crashes_total) in [(1, 10), (10, 1), (0, 0), (2, 2)] {
        let id = add(store).await;
        for expected in [State::Queued, State::Queued, State::Failed] {
            Holder::claim(store, "worker").await;
            outlive_leases(clock);
            let limits = match expected {
                State::Failed => CrashLimits {
                    max_crashes,
                    max_crashes_total,
                },
                _ => CrashLimits {
                    max_crashes: 100,
                    max_crashes_total: 100,
                },
            };
            assert_eq!(reap_by(store, limits).await, [(id, expected)], "{limits:?}");
        }
        assert!(life(store, id).await.quarantined);
    }
}

/// REGRESSIONS 29: a person may try a quarantined document again: it has as many lives as at first.
pub async fn a_quarantined_document_can_be_tried_again(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    for again in [RETRY, FROM_SCRATCH] {
        for expected in [State::Queued, State::Queued, State::Failed] {
            Holder::claim(store, "worker").await;
            outlive_leases(clock);
            assert_eq!(reap(store).await, [(id, expected)]);
        }
        let retried = control(store, id, again).await.lifecycle;
        assert!(!retried.quarantined);
        assert_eq!((retried.crash_count, retried.crashes_total), (0, 0));
    }
    let holder = Holder::claim(store, "worker").await;
    holder.settle_to(Outcome::Complete, State::Completed).await;
}

/// Reaping goes in small steps, the oldest expiry first.
pub async fn the_oldest_expiry_is_taken_back_first(store: &dyn Store, clock: &TestClock) {
    let mut ids = Vec::new();
    for lease in [30, 10, 20] {
        ids.push(add(store).await);
        let mut request = request("worker", 1);
        request.lease = seconds(lease);
        Holder::claim_with(store, request).await;
    }
    add(store).await;
    Holder::claim(store, "lives").await;
    clock.advance(seconds(30));
    let step = async |limit| {
        let reaped = store.reap(CrashLimits::default(), limit).await;
        let reaped = reaped.expect("reaping succeeds");
        reaped.iter().map(|reaped| reaped.id).collect::<Vec<_>>()
    };
    assert_eq!(step(0).await, []);
    assert_eq!(step(1).await, [ids[1]]);
    assert_eq!(step(5).await, [ids[2], ids[0]]);
    assert_eq!(step(5).await, []);
}

/// However many reap at once, a crash is counted once.
pub async fn reapers_at_once_count_each_crash_once(store: &dyn Store, clock: &TestClock) {
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.push(add(store).await);
    }
    claim(store, request("worker", 12)).await;
    outlive_leases(clock);
    let reaped = join_all((0..6).map(|_| store.reap(CrashLimits::default(), 5))).await;
    let mut taken: Vec<_> = reaped
        .into_iter()
        .flat_map(|reaped| reaped.expect("reaping succeeds"))
        .map(|reaped| reaped.id)
        .collect();
    taken.sort();
    ids.sort();
    assert_eq!(taken, ids);
    for id in ids {
        assert_eq!(life(store, id).await.crashes_total, 1);
    }
}

/// A late checkpoint and the reaper at once: one of them wins, and the other knows.
pub async fn a_late_checkpoint_and_the_reaper_agree(store: &dyn Store, clock: &TestClock) {
    for _ in 0..10 {
        let id = add(store).await;
        let mut holder = Holder::claim(store, "worker").await;
        outlive_leases(clock);
        let (answer, reaped) = join(holder.commit(), reap(store)).await;
        let outputs = outputs(store, id).await;
        match answer {
            Directive::LeaseLost => {
                assert_eq!(reaped, [(id, State::Queued)]);
                assert_eq!(outputs, Outputs::none());
                holder = Holder::claim(store, "next").await;
            }
            Directive::Continue | Directive::Cancel => {
                assert_eq!(reaped, []);
                assert_eq!(outputs, Outputs::of_commits(1));
            }
        }
        // Out of the next round's way.
        holder.settle_to(Outcome::Complete, State::Completed).await;
    }
}
