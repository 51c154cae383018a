//! How a lease ends.

use std::time::Duration;

use futures::future::{join, join_all};
use kbqueue_core::document::{Attempt, MAX_ATTEMPTS};
use kbqueue_core::state::{MAX_SNOOZES, Outcome};
use kbqueue_core::store::{Control, Settled};
use kbqueue_core::{State, Store, TestClock};

use crate::support::*;

/// A completed document is done, free of its lease and its errors, and says when it was.
pub async fn a_completion_is_final(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    let holder = Holder::claim(store, "a").await;
    holder
        .settle_to(failure(true, 3, seconds(0)), State::Queued)
        .await;
    let mut holder = Holder::claim(store, "b").await;
    holder.commit_times(3).await;
    clock.advance(seconds(7));
    holder.settle_to(Outcome::Complete, State::Completed).await;
    let life = life(store, id).await;
    assert_eq!((life.lease, life.error), (None, None));
    assert_eq!(life.completed_at, Some(clock.now()));
    assert_eq!(life.completed, Some(life.generation));
    assert_eq!(life.progress.percent, 100);
    assert_eq!(outputs(store, id).await, Outputs::of_commits(3));
    assert_eq!(next_due(store).await, None, "nobody claims it again");
}

/// REGRESSIONS 10: a retryable failure uses up a retry and waits for its backoff, which is stored: no
/// restart makes it come earlier. The cursor stays.
pub async fn a_retryable_failure_waits_for_its_backoff(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    let mut holder = Holder::claim(store, "worker").await;
    holder.commit_times(2).await;
    let backoff = Duration::from_millis(12_345);
    holder
        .settle_to(failure(true, 1, backoff), State::Queued)
        .await;
    let waiting = life(store, id).await;
    assert_eq!(waiting.available_at, clock.now() + backoff);
    assert_eq!(waiting.error.as_deref(), Some("out of paper"));
    assert_eq!((waiting.retry_count, waiting.crash_count), (1, 0));
    assert_eq!(waiting.cursor, holder.cursor);
    clock.advance(backoff - Duration::from_millis(1));
    assert_eq!(next_due(store).await, Some(Duration::from_millis(1)));
    clock.advance(Duration::from_millis(1));
    assert_eq!(Holder::claim(store, "worker").await.cursor, holder.cursor);
}

/// Retries end: with as many used as are allowed, the next failure is the last.
pub async fn retries_end(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    for retries in 1..=2 {
        let holder = Holder::claim(store, "worker").await;
        holder
            .settle_to(failure(true, 2, seconds(0)), State::Queued)
            .await;
        assert_eq!(life(store, id).await.retry_count, retries);
    }
    clock.advance(seconds(1));
    let holder = Holder::claim(store, "worker").await;
    holder
        .settle_to(failure(true, 2, seconds(0)), State::Failed)
        .await;
    let failed = life(store, id).await;
    assert_eq!((failed.retry_count, failed.quarantined), (2, false));
    assert_eq!(failed.error.as_deref(), Some("out of paper"));
    assert_eq!(failed.completed_at, Some(clock.now()));
    assert_eq!(next_due(store).await, None);
}

/// REGRESSIONS 29: a maximum lowered below the count ends it all the same.
pub async fn a_lowered_maximum_ends_retries(store: &dyn Store, _: &TestClock) {
    add(store).await;
    for _ in 0..3 {
        let holder = Holder::claim(store, "worker").await;
        holder
            .settle_to(failure(true, 10, seconds(0)), State::Queued)
            .await;
    }
    let holder = Holder::claim(store, "worker").await;
    holder
        .settle_to(failure(true, 1, seconds(0)), State::Failed)
        .await;
}

/// What no try can mend fails at once and burns no retries.
pub async fn a_permanent_failure_burns_no_retries(store: &dyn Store, _: &TestClock) {
    let id = add(store).await;
    let holder = Holder::claim(store, "worker").await;
    let permanent = failure(false, 3, seconds(60));
    holder.settle_to(permanent, State::Failed).await;
    let failed = life(store, id).await;
    assert_eq!((failed.retry_count, failed.attempt), (0, 1));
    assert!(!failed.quarantined);
}

/// REGRESSIONS 15: a worker that stops gives its document back at once: nothing is counted, and the
/// cursor stays.
pub async fn a_release_counts_nothing(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    let mut holder = Holder::claim(store, "worker").await;
    holder.commit_times(3).await;
    clock.advance(seconds(3));
    holder.settle_to(Outcome::Release, State::Queued).await;
    let released = life(store, id).await;
    assert_eq!(released.available_at, clock.now());
    assert_eq!((released.retry_count, released.snooze_count), (0, 0));
    assert_eq!((released.crash_count, released.error), (0, None));
    let next = Holder::claim(store, "another").await;
    assert_eq!((next.id, next.cursor), (id, holder.cursor));
    assert_eq!(next.life().await.attempt, 2);
}

/// A document may ask to come back later, using no retry, but not for ever.
pub async fn snoozes_use_no_retry_and_end(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    let delay = seconds(5);
    for snoozes in 1..=MAX_SNOOZES {
        let holder = Holder::claim(store, "worker").await;
        holder
            .settle_to(Outcome::Snooze { delay }, State::Queued)
            .await;
        if snoozes == 1 {
            let snoozed = life(store, id).await;
            assert_eq!(snoozed.available_at, clock.now() + delay);
            assert_eq!((snoozed.snooze_count, snoozed.retry_count), (1, 0));
            assert_eq!(next_due(store).await, Some(delay));
        }
        clock.advance(delay);
    }
    let holder = Holder::claim(store, "worker").await;
    holder
        .settle_to(Outcome::Snooze { delay }, State::Failed)
        .await;
    let failed = find(store, id).await;
    assert_eq!(failed.lifecycle.retry_count, 0);
    assert!(failed.lifecycle.error.is_some(), "and it says why");
    assert_eq!(failed.lifecycle.attempt, MAX_SNOOZES + 1);
}

/// REGRESSIONS 31: a settlement whose answer got lost is sent again: the same answer, no second effect,
/// also when somebody else holds the document by then.
pub async fn a_repeated_settlement_answers_the_same(store: &dyn Store, clock: &TestClock) {
    for outcome in outcomes() {
        let id = add(store).await;
        let mut holder = Holder::claim(store, "worker").await;
        holder.commit_times(1).await;
        let answer = holder.settle(outcome.clone()).await;
        let before = find(store, id).await;
        clock.advance(seconds(30));
        assert_eq!(holder.settle(outcome.clone()).await, answer);
        assert_eq!(find(store, id).await, before, "{outcome:?}");
        if answer == Settled::In(State::Queued) {
            let next = Holder::claim(store, "next").await;
            let before = find(store, id).await;
            assert_eq!(holder.settle(outcome.clone()).await, answer);
            assert_eq!(find(store, id).await, before, "{outcome:?}");
            next.settle_to(Outcome::Complete, State::Completed).await;
            assert_eq!(holder.settle(outcome).await, Settled::LeaseLost);
        }
    }
}

/// REGRESSIONS 31: the same within one batch, and among calls at once: one effect, one answer.
pub async fn settlements_at_once_have_one_effect(store: &dyn Store, _: &TestClock) {
    let id = add(store).await;
    let holder = Holder::claim(store, "worker").await;
    let twice = vec![holder.settlement(Outcome::Release); 2];
    let answers = store.settle(twice).await.expect("a settlement is answered");
    assert_eq!(answers, [Settled::In(State::Queued); 2]);
    let holder = Holder::claim(store, "worker").await;
    let failure = failure(true, 3, seconds(0));
    let calls = (0..8).map(|_| holder.settle(failure.clone()));
    assert_eq!(join_all(calls).await, [Settled::In(State::Queued); 8]);
    let document = find(store, id).await;
    assert_eq!(document.lifecycle.retry_count, 1);
    assert_eq!(document.attempts.len(), 2);
    assert_eq!(store.settle(vec![]).await.expect("it is answered"), []);
}

/// A cancel and a completion at once: whichever comes first, both hear the same of it.
pub async fn a_cancel_and_a_completion_at_once_agree(store: &dyn Store, _: &TestClock) {
    for _ in 0..10 {
        let id = add(store).await;
        let holder = Holder::claim(store, "worker").await;
        let cancel = store.control(id, Control::Cancel);
        let (cancelled, settled) = join(cancel, holder.settle(Outcome::Complete)).await;
        assert_eq!(settled, Settled::In(State::Completed), "complete wins");
        let life = life(store, id).await;
        assert_eq!(life.state, State::Completed);
        assert_eq!(cancelled.is_ok(), life.cancel_requested_at.is_some());
    }
}

/// Each attempt leaves a record: who, from when to when, how it ended, and why.
pub async fn attempts_are_remembered(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    let mut expected = Vec::new();
    let delay = seconds(0);
    for (worker, outcome, word, error) in [
        (
            "a",
            Some(failure(true, 3, delay)),
            "retried",
            Some("out of paper"),
        ),
        ("b", Some(Outcome::Release), "released", None),
        ("c", Some(Outcome::Snooze { delay }), "snoozed", None),
        ("d", None, "crashed", None),
        (
            "e",
            Some(failure(false, 3, delay)),
            "failed",
            Some("out of paper"),
        ),
        ("f", Some(Outcome::Complete), "completed", None),
    ] {
        if worker == "f" {
            control(store, id, RETRY).await;
        }
        clock.advance(seconds(1));
        let started_at = clock.now();
        let holder = Holder::claim(store, worker).await;
        clock.advance(LEASE);
        match outcome {
            Some(outcome) => assert_ne!(holder.settle(outcome).await, Settled::LeaseLost),
            None => assert_eq!(reap(store).await.len(), 1),
        }
        let error = match word {
            "crashed" => life(store, id).await.error,
            _ => error.map(str::to_owned),
        };
        expected.push(Attempt {
            worker: worker.to_owned(),
            started_at,
            ended_at: clock.now(),
            outcome: word.to_owned(),
            error,
            pages: 0,
        });
    }
    assert_eq!(find(store, id).await.attempts, expected);
}

/// Of more attempts than a document remembers, the first are forgotten.
pub async fn only_the_last_attempts_are_remembered(store: &dyn Store, _: &TestClock) {
    add(store).await;
    let count = MAX_ATTEMPTS + 3;
    for n in 0..count {
        let holder = Holder::claim(store, &format!("worker {n}")).await;
        holder.settle_to(Outcome::Release, State::Queued).await;
    }
    let mut holder = Holder::claim(store, "last").await;
    holder.commit_times(2).await;
    holder
        .settle_to(failure(false, 0, Duration::ZERO), State::Failed)
        .await;
    let attempts = holder.document().await.attempts;
    let workers: Vec<_> = attempts.iter().map(|a| a.worker.as_str()).collect();
    let names = (0..count).map(|n| format!("worker {n}"));
    let names: Vec<String> = names.skip(4).chain(["last".to_owned()]).collect();
    assert_eq!(workers, names);
    let last = attempts.last().expect("there are some");
    assert_eq!(
        (last.pages, last.error.as_deref()),
        (2, Some("out of paper"))
    );
}
