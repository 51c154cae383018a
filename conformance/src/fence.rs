//! A worker that lost its lease writes nothing.

use kbqueue_core::state::Outcome;
use kbqueue_core::store::{Control, Directive, RenewRequest, Settled, Settlement};
use kbqueue_core::{DocumentId, LeaseId, State, Store, TestClock};

use crate::support::*;

/// REGRESSIONS 1: A loses its lease, B claims; whatever A then sends is refused, and B goes on as if
/// A had never been.
pub async fn a_worker_that_lost_its_lease_writes_nothing(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    let mut a = Holder::claim(store, "a").await;
    a.commit_times(1).await;
    outlive_leases(clock);
    assert_eq!(reap(store).await, [(id, State::Queued)]);
    let mut b = Holder::claim(store, "b").await;
    a.assert_fenced_off().await;
    b.commit_times(1).await;
    a.assert_fenced_off().await;
    b.settle_to(Outcome::Complete, State::Completed).await;
    a.assert_fenced_off().await;
    assert_eq!(outputs(store, id).await, Outputs::of_commits(2));
}

/// REGRESSIONS 2: a progress report is fenced as outputs are, also where an admin's retry or a snooze
/// came between the two workers.
pub async fn a_stale_progress_report_is_refused(store: &dyn Store, _: &TestClock) {
    let id = add(store).await;
    let first = Holder::claim(store, "same name").await;
    first
        .settle_to(Outcome::Snooze { delay: seconds(0) }, State::Queued)
        .await;
    control(store, id, Control::Cancel).await;
    control(store, id, RETRY).await;
    let second = Holder::claim(store, "same name").await;
    let before = second.document().await;
    let answer = store.checkpoint(first.still()).await;
    assert_eq!(answer.expect("it is answered"), Directive::LeaseLost);
    assert_eq!(second.document().await, before);
}

/// REGRESSIONS 2: every exit from processing ends the lease for good, whatever happens afterwards.
pub async fn every_exit_ends_the_lease_for_good(store: &dyn Store, clock: &TestClock) {
    for outcome in outcomes() {
        let id = add(store).await;
        let mut holder = Holder::claim(store, "worker").await;
        holder.commit_times(1).await;
        holder.settle(outcome.clone()).await;
        assert_eq!(holder.life().await.lease, None, "{outcome:?}");
        holder.assert_fenced_off().await;
        if holder.life().await.state == State::Queued {
            control(store, id, Control::Cancel).await;
            holder.assert_fenced_off().await;
        }
        control(store, id, RETRY).await;
        holder.assert_fenced_off().await;
        let next = Holder::claim(store, "worker").await;
        assert_eq!(next.id, id);
        holder.assert_fenced_off().await;
        next.settle_to(Outcome::Complete, State::Completed).await;
        holder.assert_fenced_off().await;
    }
    add(store).await;
    let holder = Holder::claim(store, "worker").await;
    outlive_leases(clock);
    reap(store).await;
    assert_eq!(holder.life().await.lease, None, "an expired one");
    holder.assert_fenced_off().await;
}

/// REGRESSIONS 30: release, cancel, retry from scratch: before anybody claims it again, the old
/// worker's late checkpoint and completion are refused as well.
pub async fn a_late_write_is_refused_before_anybody_claims_again(
    store: &dyn Store,
    clock: &TestClock,
) {
    let id = add(store).await;
    let mut holder = Holder::claim(store, "worker").await;
    holder.commit_times(1).await;
    holder.settle_to(Outcome::Release, State::Queued).await;
    holder.assert_fenced_off().await;
    control(store, id, Control::Cancel).await;
    holder.assert_fenced_off().await;
    control(store, id, FROM_SCRATCH).await;
    holder.assert_fenced_off().await;
    assert_eq!(outputs(store, id).await, Outputs::none());
    // The same of a lease that nobody settled.
    let holder = Holder::claim(store, "worker").await;
    outlive_leases(clock);
    reap(store).await;
    holder.assert_fenced_off().await;
    control(store, id, Control::Cancel).await;
    control(store, id, FROM_SCRATCH).await;
    holder.assert_fenced_off().await;
    assert_eq!(holder.settle(Outcome::Complete).await, Settled::LeaseLost);
}

/// A lease opens one document and no other.
pub async fn a_lease_is_good_for_its_own_document_only(store: &dyn Store, _: &TestClock) {
    for _ in 0..2 {
        add(store).await;
    }
    let mut a = Holder::claim(store, "a").await;
    let mut b = Holder::claim(store, "b").await;
    std::mem::swap(&mut a.lease_id, &mut b.lease_id);
    a.assert_fenced_off().await;
    b.assert_fenced_off().await;
    std::mem::swap(&mut a.lease_id, &mut b.lease_id);
    a.commit_times(1).await;
    b.commit_times(1).await;
}

/// For a document that never was, every lease is lost.
pub async fn a_document_that_never_was_has_no_lease(store: &dyn Store, _: &TestClock) {
    add(store).await;
    let mut holder = Holder::claim(store, "worker").await;
    holder.id = DocumentId::new();
    let checkpoint = store.checkpoint(holder.next()).await;
    assert_eq!(checkpoint.expect("it is answered"), Directive::LeaseLost);
    assert_eq!(holder.renew().await, Directive::LeaseLost);
    assert_eq!(holder.settle(Outcome::Complete).await, Settled::LeaseLost);
    let made = store.document(holder.id).await.expect("it is answered");
    assert_eq!(made, None, "no write makes a document");
}

/// REGRESSIONS 8: a lease that ran out is still its holder's until the reaper has come: a renewal or
/// a checkpoint revives it, and a settlement counts.
pub async fn a_late_worker_keeps_its_lease_until_the_reaper_comes(
    store: &dyn Store,
    clock: &TestClock,
) {
    let id = add(store).await;
    let mut holder = Holder::claim(store, "worker").await;
    clock.advance(LEASE * 3);
    assert_eq!(holder.renew().await, Directive::Continue);
    assert_eq!(reap(store).await, [], "it was renewed");
    clock.advance(LEASE * 3);
    assert_eq!(holder.commit().await, Directive::Continue);
    assert_eq!(reap(store).await, [], "it was renewed");
    clock.advance(LEASE * 3);
    holder.settle_to(Outcome::Complete, State::Completed).await;
    assert_eq!(reap(store).await, []);
    assert_eq!(life(store, id).await.crashes_total, 0);
}

/// REGRESSIONS 8: and when the reaper has come, it is not.
pub async fn a_late_worker_has_lost_its_lease_to_the_reaper(store: &dyn Store, clock: &TestClock) {
    add(store).await;
    let mut holder = Holder::claim(store, "worker").await;
    holder.commit_times(1).await;
    outlive_leases(clock);
    assert_eq!(reap(store).await.len(), 1);
    holder.assert_fenced_off().await;
}

/// REGRESSIONS 3: of a batch, what is stale is reported and the rest takes effect, in the given order.
pub async fn one_stale_lease_does_not_harm_its_batch(store: &dyn Store, clock: &TestClock) {
    add(store).await;
    let stale = Holder::claim(store, "stale").await;
    outlive_leases(clock);
    reap(store).await;
    for _ in 0..3 {
        add(store).await;
    }
    let claims = claim(store, request("worker", 4)).await;
    let live: Vec<_> = claims
        .documents
        .iter()
        .filter(|document| document.id != stale.id)
        .map(|document| Holder::of(store, document))
        .collect();
    let [a, b, c] = &live[..] else {
        panic!("three live leases")
    };
    let unknown = (DocumentId::new(), LeaseId::random());
    let leases = [a, &stale, b].map(|holder| (holder.id, holder.lease_id));
    let mut leases = leases.to_vec();
    leases.push(unknown);
    let request = RenewRequest::new(worker("worker"), leases, LEASE * 2);
    let answers = store.renew(request).await.expect("a renewal succeeds");
    use Directive::{Continue, LeaseLost};
    assert_eq!(answers, [Continue, LeaseLost, Continue, LeaseLost]);
    let batch = vec![
        stale.settlement(Outcome::Complete),
        a.settlement(Outcome::Complete),
        Settlement {
            document: unknown.0,
            lease_id: unknown.1,
            outcome: Outcome::Release,
        },
        b.settlement(failure(false, 0, seconds(0))),
        c.settlement(Outcome::Release),
    ];
    let answers = store.settle(batch).await.expect("a settlement is answered");
    assert_eq!(
        answers,
        [
            Settled::LeaseLost,
            Settled::In(State::Completed),
            Settled::LeaseLost,
            Settled::In(State::Failed),
            Settled::In(State::Queued),
        ]
    );
    for (holder, expected) in [
        (&stale, State::Processing),
        (a, State::Completed),
        (b, State::Failed),
        (c, State::Queued),
    ] {
        assert_eq!(state(store, holder.id).await, expected);
    }
}
