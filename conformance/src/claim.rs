//! Who gets which document, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use kbqueue_core::document::NewDocument;
use kbqueue_core::lifecycle::Lease;
use kbqueue_core::queue::QueueSettings;
use kbqueue_core::state::Outcome;
use kbqueue_core::store::{Directive, RenewRequest};
use kbqueue_core::{DocumentId, QueueName, State, Store, TestClock};

use crate::support::*;

/// A claim makes a document processing, under one of the given ids, from now on for the lease's length.
pub async fn a_claim_gives_a_lease(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    clock.advance(seconds(5));
    let mut request = request("Wörker 1", 3);
    request.lease = Duration::from_millis(1500);
    let claims = claim(store, request.clone()).await;
    assert_eq!(claims.documents.len(), 1);
    let claimed = &claims.documents[0];
    assert_eq!(claimed.id, id);
    let life = &claimed.lifecycle;
    assert_eq!(
        (life.state, life.attempt, life.version),
        (State::Processing, 1, 2)
    );
    assert_eq!(life.started_at, Some(clock.now()));
    assert_eq!(life.fingerprint.as_deref(), Some("fingerprint"));
    let lease = life.lease.clone().expect("it is processing");
    assert!(
        request.lease_ids.contains(&lease.id),
        "the claimer's own id"
    );
    let expected = Lease {
        id: lease.id,
        worker: "Wörker 1".to_owned(),
        expires_at: clock.now() + Duration::from_millis(1500),
    };
    assert_eq!(lease, expected);
    assert_eq!(
        find(store, id).await,
        *claimed,
        "what came is what is stored"
    );
}

/// Nothing is prefetched: a claim brings one document for each lease id, each under its own.
pub async fn a_claim_takes_no_more_than_its_slots(store: &dyn Store, _: &TestClock) {
    for _ in 0..5 {
        add(store).await;
    }
    let nothing = claim(store, request("worker", 0)).await;
    assert_eq!((nothing.documents.len(), nothing.next_due), (0, None));
    let request = request("worker", 3);
    let claims = claim(store, request.clone()).await;
    let leases: BTreeSet<_> = claims
        .documents
        .iter()
        .filter_map(|document| Some(document.lifecycle.lease.as_ref()?.id))
        .collect();
    assert_eq!(leases, request.lease_ids.into_iter().collect());
    let counts = store
        .stats(&QueueName::default())
        .await
        .expect("stats")
        .counts;
    assert_eq!((counts.queued, counts.processing), (2, 3));
}

/// A lease lasts at least a millisecond, so that no claim is lost before it is answered.
pub async fn a_lease_lasts_at_least_a_millisecond(store: &dyn Store, clock: &TestClock) {
    add(store).await;
    let mut request = request("worker", 1);
    request.lease = Duration::ZERO;
    let holder = Holder::claim_with(store, request).await;
    let expires_at = |life: kbqueue_core::lifecycle::Lifecycle| life.lease.map(|l| l.expires_at);
    let soon = Some(clock.now() + Duration::from_millis(1));
    assert_eq!(expires_at(holder.life().await), soon);
    assert_eq!(holder.renew_for(Duration::ZERO).await, Directive::Continue);
    assert_eq!(expires_at(holder.life().await), soon);
    assert_eq!(reap(store).await, []);
}

/// A document enqueued for later is claimed from that instant on, and not before.
pub async fn scheduled_documents_wait_for_their_time(store: &dyn Store, clock: &TestClock) {
    let id = put(
        store,
        with(document(), |d| {
            d.available_at = Some(clock.now() + seconds(90))
        }),
    )
    .await;
    clock.advance(seconds(90) - Duration::from_micros(1));
    assert_eq!(next_due(store).await, Some(Duration::from_micros(1)));
    clock.advance(Duration::from_micros(1));
    assert_eq!(Holder::claim(store, "worker").await.id, id);
}

/// A claim that found too little says when the next document falls due, exactly; a full one, and one
/// behind which nothing waits, say nothing.
pub async fn an_empty_claim_says_when_to_come_back(store: &dyn Store, clock: &TestClock) {
    assert_eq!(next_due(store).await, None);
    let later = |after| with(document(), |d| d.available_at = Some(clock.now() + after));
    put(store, later(seconds(300))).await;
    put(store, later(Duration::from_micros(1_500_001))).await;
    assert_eq!(
        next_due(store).await,
        Some(Duration::from_micros(1_500_001))
    );
    add(store).await;
    let full = claim(store, request("worker", 1)).await;
    assert_eq!((full.documents.len(), full.next_due), (1, None));
    let holder = Holder::of(store, &full.documents[0]);
    let backoff = failure(true, 3, Duration::from_millis(700));
    holder.settle_to(backoff, State::Queued).await;
    assert_eq!(next_due(store).await, Some(Duration::from_millis(700)));
    let elsewhere = worker_of("worker", &[queue("elsewhere")]);
    let claims = claim(store, request_of(elsewhere, 1)).await;
    assert_eq!(claims.next_due, None, "only of the worker's own queues");
}

/// Within a line: higher priority first, then what has been available for longer, then the older id.
pub async fn priority_then_age_then_id(store: &dyn Store, clock: &TestClock) {
    let with = |priority, age| {
        with(document(), |d| {
            d.priority = priority;
            d.available_at = Some(clock.now() - seconds(age));
        })
    };
    let mut twins = [with(0, 10), with(0, 10)];
    twins.sort_by_key(|twin| std::cmp::Reverse(twin.id));
    let [second, first] = twins;
    let expected = [
        with(i16::MAX, 0),
        with(1, 0),
        first,
        second,
        with(0, 5),
        with(-1, 100),
        with(i16::MIN, 200),
    ];
    let ids: Vec<_> = expected.iter().map(|new| new.id).collect();
    let [a, b, c, d, e, f, g] = expected;
    let batch = vec![d, g, c, a, f, e, b];
    store.enqueue(batch).await.expect("an enqueue succeeds");
    let default = [QueueName::default()];
    let mut came = claim_ids(store, &default, 2).await;
    came.extend(claim_ids(store, &default, 10).await);
    assert_eq!(came, ids);
}

fn of(queue: &QueueName, tenant: Option<&str>) -> NewDocument {
    with(document(), |d| {
        d.queue = queue.clone();
        d.tenant = tenant.map(str::to_owned);
    })
}

async fn fill(
    store: &dyn Store,
    queue: &QueueName,
    tenant: Option<&str>,
    n: usize,
) -> Vec<DocumentId> {
    let batch: Vec<_> = (0..n).map(|_| of(queue, tenant)).collect();
    let mut ids: Vec<_> = batch.iter().map(|new| new.id).collect();
    ids.sort();
    store.enqueue(batch).await.expect("an enqueue succeeds");
    ids
}

/// REGRESSIONS 25: a tenant with one document does not wait behind one with many, whatever their
/// priorities; slots are dealt round.
pub async fn tenants_take_turns(store: &dyn Store, _: &TestClock) {
    let default = QueueName::default();
    let many = fill(store, &default, Some("many"), 100).await;
    let urgent = with(of(&default, Some("many")), |d| d.priority = 100);
    let urgent = put(store, urgent).await;
    let one = fill(store, &default, Some("one"), 1).await;
    let nobodys = fill(store, &default, None, 2).await;
    let came = claim_ids(store, std::slice::from_ref(&default), 6).await;
    assert_eq!(
        came,
        [nobodys[0], urgent, one[0], nobodys[1], many[0], many[1]],
        "nobody's line is first, then by name; each with its own order"
    );
}

/// The turn goes on where the last claim ended: the line served least recently is next.
pub async fn turns_go_on_from_claim_to_claim(store: &dyn Store, _: &TestClock) {
    let default = [QueueName::default()];
    let a = fill(store, &default[0], Some("a"), 9).await;
    let b = fill(store, &default[0], Some("b"), 9).await;
    let c = fill(store, &default[0], Some("c"), 2).await;
    assert_eq!(claim_ids(store, &default, 2).await, [a[0], b[0]]);
    assert_eq!(claim_ids(store, &default, 2).await, [c[0], a[1]]);
    assert_eq!(claim_ids(store, &default, 1).await, [b[1]]);
    assert_eq!(
        claim_ids(store, &default, 4).await,
        [c[1], a[2], b[2], a[3]]
    );
    // One that had nothing to give meanwhile was served longest ago.
    let late = fill(store, &default[0], Some("c"), 1).await;
    let new = fill(store, &default[0], Some("d"), 1).await;
    let next = claim_ids(store, &default, 3).await;
    assert_eq!(next, [new[0], late[0], b[3]], "a newcomer was never served");
}

/// Queues take turns as tenants do: a line is a tenant in a queue.
pub async fn queues_take_turns(store: &dyn Store, _: &TestClock) {
    let (one, two) = (queue("one"), queue("two"));
    let first = fill(store, &one, Some("x"), 5).await;
    let second = fill(store, &two, Some("x"), 5).await;
    let served = [two.clone(), one.clone(), two];
    let came = claim_ids(store, &served, 4).await;
    assert_eq!(came, [first[0], second[0], first[1], second[1]]);
    // A line's turn moves on whoever serves it.
    assert_eq!(claim_ids(store, &[one], 1).await, [first[2]]);
    assert_eq!(claim_ids(store, &served, 2).await, [second[2], first[3]]);
}

/// A worker hears nothing of queues that it does not serve.
pub async fn a_worker_gets_its_own_queues_only(store: &dyn Store, _: &TestClock) {
    fill(store, &queue("other"), None, 3).await;
    let mine = fill(store, &queue("mine"), None, 1).await;
    assert_eq!(claim_ids(store, &[], 5).await, []);
    let queues = [queue("mine"), queue("nobody.used.it")];
    assert_eq!(claim_ids(store, &queues, 5).await, mine);
}

/// A paused queue takes documents in and gives none out; what is processing goes on.
pub async fn a_paused_queue_gives_nothing(store: &dyn Store, _: &TestClock) {
    let default = QueueName::default();
    add(store).await;
    let mut holder = Holder::claim(store, "worker").await;
    let pause = async |paused| {
        let settings = QueueSettings {
            paused,
            ..QueueSettings::default()
        };
        let answer = store.configure(&default, settings).await;
        answer.expect("settings are taken");
        let stats = store.stats(&default).await.expect("stats");
        assert_eq!(stats.settings, settings);
    };
    pause(true).await;
    let waiting = add(store).await;
    assert_eq!(next_due(store).await, None, "no time tells when it goes on");
    let open = fill(store, &queue("open"), None, 1).await;
    let both = [default.clone(), queue("open")];
    assert_eq!(claim_ids(store, &both, 5).await, open);
    holder.commit_times(1).await;
    holder.settle_to(Outcome::Complete, State::Completed).await;
    pause(false).await;
    assert_eq!(claim_ids(store, &both, 5).await, [waiting]);
}

/// A started document is left to workers with its own output settings for the grace; then one with
/// others starts it over, in a new generation.
pub async fn a_started_document_waits_for_its_own_kind(store: &dyn Store, clock: &TestClock) {
    let id = bring_to(store, document(), State::Queued, 2).await;
    let foreign = || {
        let mut request = request("foreigner", 1);
        request.fingerprint = "other".to_owned();
        request
    };
    let claims = claim(store, foreign()).await;
    assert_eq!((claims.documents.len(), claims.next_due), (0, Some(GRACE)));
    let own = Holder::claim(store, "worker").await;
    assert_eq!(own.id, id, "its own kind need not wait");
    // The grace counts from when it is due, not from when it was left.
    let later = Outcome::Snooze { delay: seconds(30) };
    own.settle_to(later, State::Queued).await;
    let claims = claim(store, foreign()).await;
    assert_eq!(claims.next_due, Some(seconds(30) + GRACE));
    clock.advance(seconds(30) + GRACE - Duration::from_micros(1));
    assert!(claim(store, foreign()).await.documents.is_empty());
    // Whoever never started is everybody's, also behind one that is left to others.
    let fresh = add(store).await;
    assert_eq!(Holder::claim_with(store, foreign()).await.id, fresh);
    clock.advance(Duration::from_micros(1));
    let mut holder = Holder::claim_with(store, foreign()).await;
    assert_eq!(holder.id, id);
    let life = holder.life().await;
    assert_eq!((life.generation.pages, life.generation.chunks), (2, 2));
    assert_eq!((life.cursor.number, life.cursor.pages), (0, 0));
    assert_eq!(life.fingerprint.as_deref(), Some("other"));
    assert_eq!(outputs(store, id).await, Outputs::none());
    holder.commit_times(1).await;
    assert_eq!(outputs(store, id).await, Outputs::of_commits(1));
}

/// What a claim answers is the document as it is from now on: one that starts over in a new generation
/// comes without the failed pages of the old one.
pub async fn a_document_that_starts_over_starts_clean(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    let mut holder = Holder::claim(store, "worker").await;
    let mut checkpoint = holder.next();
    checkpoint.pages = vec![failed_page(1, "torn")];
    holder.send(checkpoint).await;
    holder.settle_to(Outcome::Release, State::Queued).await;
    clock.advance(GRACE);
    let mut foreign = request("foreigner", 1);
    foreign.fingerprint = "other".to_owned();
    let claims = claim(store, foreign).await;
    let stored = find(store, id).await;
    assert_eq!(claims.documents, [stored]);
    assert_eq!(claims.documents[0].failed_pages, []);
}

/// However many claim at once, each document goes to one of them.
pub async fn claimers_at_once_share_without_overlap(store: &dyn Store, _: &TestClock) {
    let default = QueueName::default();
    let mut ids = fill(store, &default, Some("a"), 20).await;
    ids.extend(fill(store, &default, None, 15).await);
    let requests: Vec<_> = (0..10).map(|n| request(&format!("{n}"), 4)).collect();
    let claims = join_all(requests.into_iter().map(|request| claim(store, request))).await;
    let mut came: Vec<_> = claims
        .iter()
        .flat_map(|claims| claims.documents.iter().map(|document| document.id))
        .collect();
    came.sort();
    ids.sort();
    assert_eq!(came, ids, "40 slots for 35 documents");
}

/// Workers that claim, commit and settle at once, each at its own pace, complete each document once:
/// in one attempt, with its outputs whole, and with counts that agree.
pub async fn workers_at_once_complete_each_document_once(store: &dyn Store, _: &TestClock) {
    let default = QueueName::default();
    let mut ids = Vec::new();
    for tenant in [None, Some("a"), Some("b")] {
        ids.extend(fill(store, &default, tenant, 12).await);
    }
    let work = async |slots: usize| {
        let own = worker(&format!("worker with {slots} slots"));
        let mut done = Vec::new();
        loop {
            let claims = claim(store, request_of(own.clone(), slots)).await;
            if claims.documents.is_empty() {
                return done;
            }
            let mut settlements = Vec::new();
            for document in &claims.documents {
                let mut holder = Holder::of(store, document);
                holder.commit_times(2).await;
                settlements.push(holder.settlement(Outcome::Complete));
                done.push(document.id);
            }
            let leases = settlements.iter().map(|s| (s.document, s.lease_id));
            let renewal = RenewRequest::new(own.clone(), leases.collect(), LEASE);
            store.renew(renewal).await.expect("a renewal succeeds");
            store
                .settle(settlements)
                .await
                .expect("a settlement is answered");
        }
    };
    let mut done = join_all((1..=5).map(work)).await.concat();
    done.sort();
    ids.sort();
    assert_eq!(done, ids);
    for id in ids {
        let document = find(store, id).await;
        assert_eq!(document.lifecycle.state, State::Completed);
        assert_eq!(
            (document.lifecycle.attempt, document.attempts.len()),
            (1, 1)
        );
        assert_eq!(outputs(store, id).await, Outputs::of_commits(2));
    }
    let counts = store.stats(&default).await.expect("stats").counts;
    assert_eq!((counts.completed, counts.total()), (36, 36));
}
