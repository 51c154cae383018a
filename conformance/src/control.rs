//! What a person can ask of a document: cancel, retry, rechunk, delete.

use kbqueue_core::lifecycle::{Cursor, Generation};
use kbqueue_core::state::{Outcome, Refusal};
use kbqueue_core::store::{Change, Control, Directive, DocumentQuery};
use kbqueue_core::{
    ChunkOptions, Dedupe, DocumentId, State, Store, StoreError, StoreExt, TestClock,
};
use serde_json::json;

use crate::support::*;

async fn assert_refused(store: &dyn Store, id: DocumentId, control: Control) {
    let before = find(store, id).await;
    let state = before.lifecycle.state;
    let refused = error(store.control(id, control.clone()).await);
    let expected = Refusal::WrongState(state);
    assert!(
        matches!(refused, StoreError::Refused { id: of, refusal } if of == id && refusal == expected),
        "{control:?} of a document that is {state}: {refused}"
    );
    assert_eq!(find(store, id).await, before, "refused, so unchanged");
}

/// A queued document is cancelled at once, and stays out of every claim.
pub async fn a_queued_document_is_cancelled_at_once(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    clock.advance(seconds(1));
    let cancelled = control(store, id, Control::Cancel).await;
    assert_eq!(cancelled, find(store, id).await);
    assert_eq!(cancelled.lifecycle.state, State::Cancelled);
    assert_eq!(cancelled.lifecycle.completed_at, Some(clock.now()));
    assert_eq!(cancelled.attempts, []);
    assert_eq!(next_due(store).await, None);
    let again = control(store, id, Control::Cancel).await;
    assert_eq!(again, cancelled, "repeated: the same answer, no effect");
}

/// REGRESSIONS 32: a document that is processing ends cancelled however its worker leaves it, and it
/// cannot be claimed in between.
pub async fn a_cancel_ends_in_cancelled(store: &dyn Store, clock: &TestClock) {
    let ends = outcomes().into_iter().filter(|o| *o != Outcome::Complete);
    for end in ends.map(Some).chain([None]) {
        let id = add(store).await;
        let holder = Holder::claim(store, "worker").await;
        let asked = control(store, id, Control::Cancel).await;
        assert_eq!(asked.lifecycle.state, State::Processing);
        assert_eq!(asked.lifecycle.cancel_requested_at, Some(clock.now()));
        assert_eq!(holder.renew().await, Directive::Cancel);
        let again = control(store, id, Control::Cancel).await;
        assert_eq!(again.lifecycle.version, asked.lifecycle.version);
        match end.clone() {
            Some(outcome) => holder.settle_to(outcome, State::Cancelled).await,
            None => {
                outlive_leases(clock);
                assert_eq!(reap(store).await, [(id, State::Cancelled)]);
            }
        }
        let ended = find(store, id).await;
        assert_eq!(ended.lifecycle.state, State::Cancelled, "{end:?}");
        assert_eq!(ended.lifecycle.lease, None);
        assert_eq!(ended.attempts[0].outcome, "cancelled");
        assert_eq!(next_due(store).await, None, "{end:?}");
    }
}

/// Who is done before the cancel is heard is done.
pub async fn a_completion_wins_over_a_cancel(store: &dyn Store, _: &TestClock) {
    let id = add(store).await;
    let holder = Holder::claim(store, "worker").await;
    control(store, id, Control::Cancel).await;
    holder.settle_to(Outcome::Complete, State::Completed).await;
    assert_refused(store, id, Control::Cancel).await;
}

/// What a state forbids is refused, and changes nothing.
pub async fn each_state_refuses_what_does_not_fit_it(store: &dyn Store, _: &TestClock) {
    let rechunk = || Control::Rechunk(ChunkOptions::default());
    let processing = bring_to(store, document(), State::Processing, 1).await;
    let completed = bring_to(store, document(), State::Completed, 1).await;
    let failed = bring_to(store, document(), State::Failed, 1).await;
    let cancelled = bring_to(store, document(), State::Cancelled, 1).await;
    let queued = bring_to(store, document(), State::Queued, 1).await;
    for control in [RETRY, FROM_SCRATCH, rechunk()] {
        assert_refused(store, queued, control.clone()).await;
        assert_refused(store, processing, control).await;
    }
    assert_refused(store, processing, Control::Delete).await;
    assert_refused(store, completed, Control::Cancel).await;
    assert_refused(store, failed, Control::Cancel).await;
    assert_refused(store, failed, rechunk()).await;
    assert_refused(store, cancelled, rechunk()).await;
}

/// A document that is not there is not found, whatever is asked of it.
pub async fn nothing_can_be_asked_of_what_is_not_there(store: &dyn Store, _: &TestClock) {
    let deleted = add(store).await;
    control(store, deleted, Control::Delete).await;
    let rechunk = Control::Rechunk(ChunkOptions::default());
    for id in [DocumentId::new(), deleted] {
        for control in [
            Control::Cancel,
            RETRY,
            FROM_SCRATCH,
            rechunk.clone(),
            Control::Delete,
            Control::Change(Change::default()),
        ] {
            let answer = error(store.control(id, control).await);
            assert!(
                matches!(answer, StoreError::NotFound(of) if of == id),
                "{answer}"
            );
        }
    }
}

/// A retry by a person begins all counts anew, but for the number of attempts, and goes on where the
/// document stopped.
pub async fn a_retry_goes_on_with_fresh_counters(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    let mut holder = Holder::claim(store, "worker").await;
    holder.commit_times(2).await;
    let later = Outcome::Snooze { delay: seconds(0) };
    holder.settle_to(later, State::Queued).await;
    for _ in 0..2 {
        let holder = Holder::claim(store, "worker").await;
        let retry = failure(true, 9, seconds(0));
        holder.settle_to(retry, State::Queued).await;
        Holder::claim(store, "worker").await;
        outlive_leases(clock);
        reap(store).await;
    }
    let last = Holder::claim(store, "worker").await;
    last.settle_to(failure(false, 9, seconds(0)), State::Failed)
        .await;
    let failed = life(store, id).await;
    let counters = (failed.retry_count, failed.crash_count, failed.snooze_count);
    assert_eq!((counters, failed.attempt), ((2, 2, 1), 6));
    clock.advance(seconds(9));
    let retried = control(store, id, RETRY).await;
    assert_eq!(retried, find(store, id).await);
    let life = &retried.lifecycle;
    assert_eq!(
        (life.state, life.available_at),
        (State::Queued, clock.now())
    );
    assert_eq!(
        (life.retry_count, life.crash_count, life.crashes_total),
        (0, 0, 0)
    );
    assert_eq!((life.snooze_count, life.attempt), (0, 6));
    assert_eq!((&life.error, life.completed_at), (&None, None));
    assert_eq!(life.version, failed.version + 1);
    assert_eq!(
        (life.generation, life.cursor),
        (failed.generation, failed.cursor)
    );
    let mut holder = Holder::claim(store, "worker").await;
    assert_eq!(holder.life().await.attempt, 7);
    holder.commit_times(1).await;
    assert_eq!(outputs(store, id).await, Outputs::of_commits(3));
}

/// Failed, cancelled and completed documents can all be done again.
pub async fn every_finished_document_can_be_retried(store: &dyn Store, _: &TestClock) {
    for end in [State::Failed, State::Cancelled, State::Completed] {
        for control_ in [RETRY, FROM_SCRATCH] {
            let id = bring_to(store, document(), end, 1).await;
            control(store, id, control_).await;
            let holder = Holder::claim(store, "worker").await;
            assert_eq!(holder.id, id, "{end}");
            holder.settle_to(Outcome::Complete, State::Completed).await;
        }
    }
}

/// A cancel that was asked for in an earlier life does not reach into the next one.
pub async fn a_retry_forgets_the_cancel(store: &dyn Store, _: &TestClock) {
    let id = bring_to(store, document(), State::Cancelled, 0).await;
    control(store, id, RETRY).await;
    let mut holder = Holder::claim(store, "worker").await;
    assert_eq!(holder.commit().await, Directive::Continue);
    holder.settle_to(Outcome::Release, State::Queued).await;
}

/// From scratch: a new generation grows while readers go on seeing the completed one, and takes its
/// place when it is completed.
pub async fn readers_keep_the_old_generation_until_the_new_one_is_whole(
    store: &dyn Store,
    _: &TestClock,
) {
    let id = bring_to(store, document(), State::Completed, 3).await;
    let anew = control(store, id, FROM_SCRATCH).await.lifecycle;
    let second = Generation {
        chunks: 2,
        pages: 2,
    };
    assert_eq!((anew.generation, anew.cursor), (second, Cursor::default()));
    assert_eq!((anew.progress.percent, anew.fingerprint), (0, None));
    let mut holder = Holder::claim(store, "worker").await;
    holder.commit_times(2).await;
    assert_eq!(outputs(store, id).await, Outputs::of_commits(3));
    let growing = outputs_of(store, id, Some(2), Some(2)).await;
    assert_eq!(growing, Outputs::of_commits(2));
    let old = outputs_of(store, id, Some(1), Some(1)).await;
    assert_eq!(old, Outputs::of_commits(3));
    holder.settle_to(Outcome::Complete, State::Completed).await;
    assert_eq!(outputs(store, id).await, Outputs::of_commits(2));
}

/// A first generation is seen as it grows, also where a later one took over before it was whole.
pub async fn a_first_generation_is_seen_as_it_grows(store: &dyn Store, _: &TestClock) {
    let id = bring_to(store, document(), State::Failed, 2).await;
    assert_eq!(outputs(store, id).await, Outputs::of_commits(2));
    control(store, id, FROM_SCRATCH).await;
    assert_eq!(outputs(store, id).await, Outputs::none());
    let mut holder = Holder::claim(store, "worker").await;
    holder.commit_times(1).await;
    assert_eq!(outputs(store, id).await, Outputs::of_commits(1));
}

/// Chunks are cut again out of the stored pages: a new generation of chunks over the same pages and
/// images, with the sizes asked for, and nothing to extract.
pub async fn a_rechunk_keeps_the_pages(store: &dyn Store, _: &TestClock) {
    let id = bring_to(store, document(), State::Completed, 3).await;
    let options = ChunkOptions::new(5, 50, 1).expect("valid sizes");
    let again = control(store, id, Control::Rechunk(options)).await;
    assert_eq!(again, find(store, id).await);
    assert_eq!(again.chunking, Some(options));
    let life = again.lifecycle;
    let generation = Generation {
        chunks: 2,
        pages: 1,
    };
    assert_eq!((life.state, life.generation), (State::Queued, generation));
    assert_eq!((life.cursor.pages, life.cursor.images), (3, 3));
    assert_eq!((life.cursor.chunks, life.cursor.number), (0, 0));
    assert_eq!(outputs(store, id).await, Outputs::of_commits(3));
    let mut holder = Holder::claim(store, "worker").await;
    let mut checkpoint = holder.still();
    checkpoint.chunks = (0..2).map(chunk).collect();
    checkpoint.cursor.chunks = 2;
    holder.send(checkpoint).await;
    assert_eq!(outputs(store, id).await, Outputs::of_commits(3), "not yet");
    holder.settle_to(Outcome::Complete, State::Completed).await;
    let mut expected = Outputs::of_commits(3);
    expected.chunks.truncate(2);
    assert_eq!(outputs(store, id).await, expected);
    // And once more, after the sizes were asked for at enqueue as well.
    let options = ChunkOptions::default();
    let again = control(store, id, Control::Rechunk(options)).await;
    assert_eq!(again.chunking, Some(options));
    assert_eq!(again.lifecycle.generation.chunks, 3);
}

/// A document whose key or content somebody else stands for by now cannot be queued beside it.
pub async fn a_superseded_document_is_not_queued_again(store: &dyn Store, _: &TestClock) {
    let order = || keyed("order 1");
    let old = bring_to(store, order(), State::Failed, 0).await;
    let new = put(store, order()).await;
    let before = find(store, old).await;
    for again in [RETRY, FROM_SCRATCH] {
        let answer = error(store.control(old, again).await);
        assert!(
            matches!(answer, StoreError::Superseded { id, by } if (id, by) == (old, new)),
            "{answer}"
        );
    }
    assert_eq!(find(store, old).await, before);
    control(store, new, Control::Cancel).await;
    control(store, old, RETRY).await;
    let answer = error(store.control(new, RETRY).await);
    assert!(matches!(answer, StoreError::Superseded { by, .. } if by == old));
    let found = store.enqueue_one(order()).await.expect("it is answered");
    assert_eq!((found.id, found.created), (old, false), "it stands again");
    // One without a key gives way to nobody.
    let off = with(document(), |d| d.dedupe = Dedupe::Off);
    control(store, old, Control::Cancel).await;
    let first = bring_to(store, off.clone(), State::Failed, 0).await;
    put(store, with(off, |d| d.id = DocumentId::new())).await;
    control(store, first, RETRY).await;
}

/// A deleted document is gone for everybody at once: not found, not listed, not counted, not claimed,
/// without outputs.
pub async fn a_deleted_document_is_hidden_at_once(store: &dyn Store, clock: &TestClock) {
    let completed = bring_to(store, document(), State::Completed, 2).await;
    let queued = add(store).await;
    let kept = with(document(), |d| d.queue = queue("kept"));
    let kept = put(store, kept).await;
    for id in [completed, queued] {
        let deleted = control(store, id, Control::Delete).await;
        assert_eq!(deleted.lifecycle.deleted_at, Some(clock.now()));
        assert_eq!(store.document(id).await.expect("it is answered"), None);
        assert_eq!(outputs(store, id).await, Outputs::none());
        let generation = outputs_of(store, id, Some(1), Some(1)).await;
        assert_eq!(generation, Outputs::none());
    }
    let listed = store.documents(Default::default()).await.expect("a list");
    let listed: Vec<_> = listed.iter().map(|document| document.id).collect();
    assert_eq!(listed, [kept]);
    let counts = store.stats(&document().queue).await.expect("stats").counts;
    assert_eq!(counts.total(), 0);
    assert_eq!(next_due(store).await, None);
}

/// Priority and metadata can be changed in any state, the time from which it may be claimed while it is
/// queued; what is not named stays.
pub async fn a_document_can_be_changed(store: &dyn Store, clock: &TestClock) {
    for state in State::ALL.into_iter().rev() {
        let new = with(document(), |d| d.metadata = json!({"kept": true}));
        let id = bring_to(store, new, state, 1).await;
        let before = find(store, id).await;
        let priority = Change {
            priority: Some(7),
            ..Change::default()
        };
        let changed = control(store, id, Control::Change(priority)).await;
        assert_eq!(changed, find(store, id).await);
        let mut expected = before.clone();
        expected.priority = 7;
        expected.lifecycle.version += 1;
        assert_eq!(changed, expected);
        let metadata = Change {
            metadata: Some(json!([null, "ü"])),
            ..Change::default()
        };
        let changed = control(store, id, Control::Change(metadata)).await;
        expected.metadata = json!([null, "ü"]);
        expected.lifecycle.version += 1;
        assert_eq!(changed, expected);
        let time = Control::Change(Change {
            available_at: Some(clock.now() + seconds(5)),
            priority: Some(8),
            metadata: None,
        });
        if state == State::Queued {
            let changed = control(store, id, time).await;
            assert_eq!(changed.lifecycle.available_at, clock.now() + seconds(5));
            assert_eq!(
                (changed.priority, changed.metadata),
                (8, json!([null, "ü"]))
            );
        } else {
            assert_refused(store, id, time).await;
        }
    }
}

/// A document that is given another priority is claimed by it, and its key stays its own.
pub async fn a_new_priority_counts_at_the_next_claim(store: &dyn Store, _: &TestClock) {
    let first = put(store, keyed("key")).await;
    let second = add(store).await;
    let change = |priority| {
        Control::Change(Change {
            priority: Some(priority),
            ..Change::default()
        })
    };
    control(store, second, change(3)).await;
    let again = store.enqueue_one(keyed("key")).await;
    assert_eq!(again.expect("an enqueue succeeds").id, first);
    let holder = Holder::claim(store, "worker").await;
    assert_eq!(holder.id, second);
    control(store, second, change(-3)).await;
    assert_eq!(holder.renew().await, Directive::Continue, "the lease stays");
    holder.settle_to(Outcome::Release, State::Queued).await;
    assert_eq!(Holder::claim(store, "worker").await.id, first);
    assert_eq!(Holder::claim(store, "worker").await.id, second);
}

/// A document that is put off waits, and one that is called in does not.
pub async fn a_new_time_counts_at_once(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    let change = |available_at| {
        Control::Change(Change {
            available_at: Some(available_at),
            ..Change::default()
        })
    };
    control(store, id, change(clock.now() + seconds(3600))).await;
    assert_eq!(next_due(store).await, Some(seconds(3600)));
    control(store, id, change(clock.now() + seconds(60))).await;
    clock.advance(seconds(60));
    assert_eq!(Holder::claim(store, "worker").await.id, id);
}

/// The same can be asked of all documents that a query finds, however many; those that cannot are passed
/// over, and how many could is said.
pub async fn many_are_asked_by_what_they_are(store: &dyn Store, _: &TestClock) {
    let of = |tenant: &str| with(document(), |d| d.tenant = Some(tenant.to_owned()));
    let done = bring_to(store, of("a"), State::Completed, 1).await;
    let batch: Vec<_> = (0..450).map(|_| of("a")).collect();
    let ids: Vec<_> = batch.iter().map(|new| new.id).collect();
    store.enqueue(batch).await.expect("an enqueue succeeds");
    let other = put(store, of("b")).await;
    let mut query = DocumentQuery::default();
    query.tenant = Some("a".to_owned());
    query.limit = 1;
    let cancelled = store.control_all(query.clone(), Control::Cancel).await;
    assert_eq!(cancelled.expect("all are asked"), 450);
    assert_eq!(state(store, other).await, State::Queued);
    assert_eq!(state(store, done).await, State::Completed);
    query.state = Some(State::Cancelled);
    let deleted = store.control_all(query, Control::Delete).await;
    assert_eq!(deleted.expect("all are asked"), 450);
    let some = vec![ids[0], done, DocumentId::new(), other];
    let retried = store.control_each(some, RETRY).await;
    assert_eq!(retried.expect("all are asked"), 1, "only one is finished");
}
