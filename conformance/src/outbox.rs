//! What happened is written down for those who want to know, and delivered in order.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use kbqueue_core::outbox::{
    Delivery, DeliveryClaims, DeliveryOutcome, DeliveryQuery, DeliveryRequest, DeliverySettlement,
    DeliveryState, Endpoint, EndpointId, EventKind, Outbox,
};
use kbqueue_core::state::{CrashLimits, Outcome};
use kbqueue_core::store::Control;
use kbqueue_core::{DocumentId, LeaseId, QueueName, State, TestClock};
use serde_json::json;
use uuid::Uuid;

use crate::support::*;

fn endpoint(number: u128) -> Endpoint {
    Endpoint {
        id: EndpointId(Uuid::from_u128(number)),
        queue: QueueName::default(),
        url: format!("https://example.com/{number}"),
        secret: vec![0, 159, 146, 150, 255],
        events: EventKind::ALL.to_vec(),
        disabled: None,
    }
}

async fn register(store: &dyn Outbox, endpoint: &Endpoint) {
    let answer = store.put_endpoint(endpoint.clone()).await;
    answer.expect("an endpoint is taken");
}

fn query(endpoint: &Endpoint) -> DeliveryQuery {
    DeliveryQuery {
        queue: endpoint.queue.clone(),
        endpoint: endpoint.id,
        state: None,
        after: None,
        limit: 1000,
    }
}

async fn written(store: &dyn Outbox, endpoint: &Endpoint) -> Vec<Delivery> {
    let deliveries = store.deliveries(query(endpoint)).await;
    deliveries.expect("deliveries are listed")
}

fn asked(slots: usize) -> DeliveryRequest {
    DeliveryRequest {
        queues: vec![QueueName::default()],
        lease_ids: (0..slots).map(|_| LeaseId::random()).collect(),
        lease: LEASE,
        per_endpoint: 100,
    }
}

async fn claim_some(store: &dyn Outbox, request: DeliveryRequest) -> DeliveryClaims {
    let claims = store.claim_deliveries(request).await;
    claims.expect("a claim succeeds")
}

async fn claim_one(store: &dyn Outbox) -> Delivery {
    let claims = claim_some(store, asked(1)).await;
    let (delivery, _) = claims.deliveries.first().expect("a delivery is due");
    delivery.clone()
}

async fn nothing_due(store: &dyn Outbox) -> Option<Duration> {
    let claims = claim_some(store, asked(5)).await;
    assert_eq!(claims.deliveries, []);
    claims.next_due
}

fn settlement(delivery: &Delivery, outcome: DeliveryOutcome) -> DeliverySettlement {
    DeliverySettlement {
        queue: delivery.queue.clone(),
        endpoint: delivery.endpoint,
        document: delivery.document,
        version: delivery.version,
        lease_id: delivery.lease_id.expect("it was claimed"),
        outcome,
    }
}

async fn settle(store: &dyn Outbox, delivery: &Delivery, outcome: DeliveryOutcome) -> bool {
    let settled = store
        .settle_deliveries(vec![settlement(delivery, outcome)])
        .await;
    settled.expect("a settlement is answered")[0]
}

fn later(delay: Duration) -> DeliveryOutcome {
    let error = "not now".to_owned();
    DeliveryOutcome::Retry { error, delay }
}

fn dead() -> DeliveryOutcome {
    let error = "never".to_owned();
    DeliveryOutcome::Dead { error }
}

async fn complete(store: &dyn Outbox) -> DocumentId {
    bring_to(store, document(), State::Completed, 0).await
}

/// Completed, failed, cancelled while queued or processing, and quarantined: each is written down once,
/// as it is, with the version that it made.
pub async fn every_end_is_written_down(store: &dyn Outbox, clock: &TestClock) {
    let endpoint = endpoint(1);
    register(store, &endpoint).await;
    let mut expected = Vec::new();
    for (state, kind) in [
        (State::Completed, EventKind::Completed),
        (State::Failed, EventKind::Failed),
        (State::Cancelled, EventKind::Cancelled),
    ] {
        clock.advance(seconds(1));
        expected.push((bring_to(store, document(), state, 2).await, kind));
    }
    let queued = add(store).await;
    control(store, queued, Control::Cancel).await;
    expected.push((queued, EventKind::Cancelled));
    let killer = add(store).await;
    Holder::claim(store, "worker").await;
    outlive_leases(clock);
    let limits = CrashLimits {
        max_crashes: 1,
        max_crashes_total: 1,
    };
    assert_eq!(reap_by(store, limits).await, [(killer, State::Failed)]);
    expected.push((killer, EventKind::Failed));
    let deliveries = written(store, &endpoint).await;
    expected.sort();
    let got: Vec<_> = deliveries.iter().map(|d| (d.document, d.kind)).collect();
    assert_eq!(got, expected);
    for delivery in deliveries {
        let document = find(store, delivery.document).await;
        let life = &document.lifecycle;
        assert_eq!(delivery.version, life.version);
        assert_eq!(Some(delivery.occurred_at), life.completed_at);
        assert_eq!(
            (delivery.state, delivery.attempts),
            (DeliveryState::Pending, 0)
        );
        let data = json!({
            "document_id": document.id,
            "queue": "default",
            "status": life.state,
            "version": life.version,
            "generation": 1,
            "error_message": life.error,
            "quarantined": document.id == killer,
            "total_pages": life.progress.total_pages,
            "total_chunks": life.progress.current_chunk,
        });
        assert_eq!(delivery.data, data);
    }
}

/// Nothing is written down of other queues, of other kinds, for whom is disabled, or of what was before.
pub async fn what_nobody_asked_for_is_not_written_down(store: &dyn Outbox, _: &TestClock) {
    complete(store).await;
    let elsewhere = Endpoint {
        queue: queue("elsewhere"),
        ..endpoint(1)
    };
    let failures = Endpoint {
        events: vec![EventKind::Failed],
        ..endpoint(2)
    };
    let disabled = Endpoint {
        disabled: Some("on holiday".to_owned()),
        ..endpoint(3)
    };
    for endpoint in [&elsewhere, &failures, &disabled] {
        register(store, endpoint).await;
    }
    complete(store).await;
    for endpoint in [&elsewhere, &failures, &disabled] {
        assert_eq!(written(store, endpoint).await, []);
    }
    register(store, &endpoint(3)).await;
    let failed = bring_to(store, document(), State::Failed, 0).await;
    for endpoint in [&failures, &disabled] {
        let deliveries = written(store, endpoint).await;
        let documents: Vec<_> = deliveries.iter().map(|d| d.document).collect();
        assert_eq!(documents, [failed]);
    }
}

/// Nothing is written down of what goes on, of what is repeated, and of what was refused.
pub async fn only_what_happened_is_written_down(store: &dyn Outbox, clock: &TestClock) {
    let endpoint = endpoint(1);
    register(store, &endpoint).await;
    let id = add(store).await;
    let mut late = Holder::claim(store, "late").await;
    late.commit_times(1).await;
    outlive_leases(clock);
    assert_eq!(reap(store).await, [(id, State::Queued)]);
    let holder = Holder::claim(store, "worker").await;
    late.settle(Outcome::Complete).await;
    holder
        .settle_to(failure(true, 3, seconds(1)), State::Queued)
        .await;
    clock.advance(seconds(1));
    let holder = Holder::claim(store, "worker").await;
    assert_eq!(written(store, &endpoint).await, []);
    holder.settle_to(Outcome::Complete, State::Completed).await;
    holder.settle_to(Outcome::Complete, State::Completed).await;
    late.settle(Outcome::Complete).await;
    assert_eq!(written(store, &endpoint).await.len(), 1);
    control(store, id, Control::Delete).await;
    while store.purge(1000).await.expect("purging succeeds") > 0 {}
    assert_eq!(
        claim_one(store).await.document,
        id,
        "it outlives its document"
    );
}

/// The next event of a document waits until the one before it is delivered or dead.
pub async fn events_of_one_document_are_delivered_in_order(store: &dyn Outbox, clock: &TestClock) {
    register(store, &endpoint(1)).await;
    let id = bring_to(store, document(), State::Failed, 0).await;
    for _ in 0..2 {
        control(store, id, RETRY).await;
        control(store, id, Control::Cancel).await;
    }
    clock.advance(seconds(1));
    let other = complete(store).await;
    let claims = claim_some(store, asked(5)).await;
    let got: Vec<_> = claims
        .deliveries
        .iter()
        .map(|(d, e)| (d.document, e.id))
        .collect();
    assert_eq!(got, [(id, endpoint(1).id), (other, endpoint(1).id)]);
    assert_eq!(
        claims.next_due, None,
        "what was just claimed is not waited for"
    );
    assert_eq!(nothing_due(store).await, Some(LEASE));
    let (first, _) = &claims.deliveries[0];
    assert_eq!((first.kind, first.attempts), (EventKind::Failed, 1));
    assert!(settle(store, first, later(seconds(30))).await);
    assert_eq!(nothing_due(store).await, Some(seconds(30)));
    clock.advance(seconds(30));
    let again = claim_one(store).await;
    assert_eq!((again.document, again.version), (id, first.version));
    assert_eq!(
        (again.attempts, again.error.as_deref()),
        (2, Some("not now"))
    );
    assert!(settle(store, &again, DeliveryOutcome::Delivered).await);
    let second = claim_one(store).await;
    assert_eq!((second.document, second.kind), (id, EventKind::Cancelled));
    assert!(second.version > first.version);
    assert!(settle(store, &second, dead()).await);
    let third = claim_one(store).await;
    assert!(third.document == id && third.version > second.version);
}

/// A delivery whose lease ran out is claimed again; whoever had it ends nothing any more.
pub async fn a_delivery_that_is_late_goes_to_the_next(store: &dyn Outbox, clock: &TestClock) {
    let endpoint = endpoint(1);
    register(store, &endpoint).await;
    complete(store).await;
    let late = claim_one(store).await;
    clock.advance(LEASE - Duration::from_micros(1));
    assert_eq!(nothing_due(store).await, Some(Duration::from_micros(1)));
    clock.advance(Duration::from_micros(1));
    let next = claim_one(store).await;
    assert_eq!((next.version, next.attempts), (late.version, 2));
    let batch = vec![
        settlement(&late, dead()),
        settlement(&next, DeliveryOutcome::Delivered),
    ];
    let settled = store.settle_deliveries(batch.clone()).await;
    assert_eq!(settled.expect("settlements are answered"), [false, true]);
    let settled = store.settle_deliveries(batch).await;
    assert_eq!(settled.expect("settlements are answered"), [false, false]);
    let error = "410 Gone".to_owned();
    assert!(!settle(store, &late, DeliveryOutcome::Gone { error }).await);
    let endpoints = store.endpoints(&endpoint.queue).await.expect("endpoints");
    assert_eq!(endpoints[0].disabled, None);
    let deliveries = written(store, &endpoint).await;
    assert_eq!(deliveries[0].state, DeliveryState::Delivered);
    assert_eq!(deliveries[0].ended_at, Some(clock.now()));
    // A settlement that comes after the lease, but before anybody else, is the holder's.
    complete(store).await;
    let late = claim_one(store).await;
    clock.advance(LEASE);
    assert!(settle(store, &late, DeliveryOutcome::Delivered).await);
}

/// The id of a document that was purged may be used again, and its versions with it.
pub async fn a_document_id_used_again_is_written_down_again(store: &dyn Outbox, _: &TestClock) {
    let endpoint = endpoint(1);
    register(store, &endpoint).await;
    let new = document();
    let mut versions = Vec::new();
    for _ in 0..2 {
        let id = bring_to(store, new.clone(), State::Completed, 0).await;
        let delivery = claim_one(store).await;
        assert_eq!(delivery.document, id);
        assert!(settle(store, &delivery, DeliveryOutcome::Delivered).await);
        versions.push(delivery.version);
        control(store, id, Control::Delete).await;
        while store.purge(100).await.expect("a purge succeeds") > 0 {}
    }
    assert_eq!(versions[0], versions[1]);
}

/// Whoever claims for some queues gets nothing of others.
pub async fn a_claim_of_deliveries_is_of_its_queues_alone(store: &dyn Outbox, _: &TestClock) {
    let here = endpoint(1);
    let there = Endpoint {
        queue: queue("elsewhere"),
        ..endpoint(2)
    };
    register(store, &here).await;
    register(store, &there).await;
    for endpoint in [&here, &there] {
        let mut new = document();
        new.queue = endpoint.queue.clone();
        let id = put(store, new).await;
        control(store, id, Control::Cancel).await;
    }
    for endpoint in [&there, &here] {
        let request = DeliveryRequest {
            queues: vec![endpoint.queue.clone()],
            ..asked(5)
        };
        let claims = claim_some(store, request).await;
        let of: Vec<_> = claims.deliveries.iter().map(|(d, _)| d.endpoint).collect();
        assert_eq!(of, [endpoint.id]);
    }
}

/// However many claim at once, each delivery goes to one of them.
pub async fn deliverers_at_once_share_without_overlap(store: &dyn Outbox, _: &TestClock) {
    register(store, &endpoint(1)).await;
    register(store, &endpoint(2)).await;
    for _ in 0..10 {
        complete(store).await;
    }
    let claims = join_all((0..8).map(|_| claim_some(store, asked(4)))).await;
    let all = claims.iter().flat_map(|claims| &claims.deliveries);
    let got: Vec<_> = all.map(|(d, _)| (d.endpoint, d.document)).collect();
    let different: BTreeSet<_> = got.iter().collect();
    assert_eq!((got.len(), different.len()), (20, 20));
}

/// One endpoint with much to hear, or that hangs, does not keep another one waiting.
pub async fn endpoints_take_turns_and_have_their_share(store: &dyn Outbox, clock: &TestClock) {
    register(store, &endpoint(1)).await;
    for _ in 0..6 {
        complete(store).await;
        clock.advance(seconds(1));
    }
    register(store, &endpoint(2)).await;
    let last = complete(store).await;
    let share = |slots| {
        let mut request = asked(slots);
        request.per_endpoint = 3;
        request
    };
    let got = |claims: DeliveryClaims| -> Vec<u128> {
        claims
            .deliveries
            .iter()
            .map(|(d, _)| d.endpoint.0.as_u128())
            .collect()
    };
    assert_eq!(got(claim_some(store, share(2)).await), [1, 2]);
    assert_eq!(
        got(claim_some(store, share(9)).await),
        [1, 1],
        "three at once"
    );
    let more = complete(store).await;
    assert_ne!(last, more);
    let claims = claim_some(store, share(9)).await;
    assert_eq!(got(claims), [2]);
    clock.advance(LEASE);
    assert_eq!(got(claim_some(store, share(9)).await), [1, 2, 1, 2, 1]);
}

/// An endpoint that wants nothing more gets nothing more, until somebody enables it again.
pub async fn whoever_is_gone_hears_nothing_more(store: &dyn Outbox, _: &TestClock) {
    let endpoint = endpoint(1);
    register(store, &endpoint).await;
    complete(store).await;
    complete(store).await;
    let first = claim_one(store).await;
    let error = "410 Gone".to_owned();
    assert!(settle(store, &first, DeliveryOutcome::Gone { error }).await);
    let endpoints = store.endpoints(&endpoint.queue).await.expect("endpoints");
    assert_eq!(endpoints[0].disabled.as_deref(), Some("410 Gone"));
    complete(store).await;
    assert_eq!(nothing_due(store).await, None);
    register(store, &endpoint).await;
    let second = claim_one(store).await;
    assert_ne!(second.document, first.document);
    let states: Vec<_> = written(store, &endpoint)
        .await
        .iter()
        .map(|d| d.state)
        .collect();
    assert_eq!(
        states.len(),
        2,
        "what happened meanwhile was not written down"
    );
    assert!(states.contains(&DeliveryState::Dead));
}

/// Dead deliveries can be sent again, all of an endpoint or any one; so can one that was delivered.
pub async fn dead_deliveries_can_be_replayed(store: &dyn Outbox, clock: &TestClock) {
    let own = endpoint(1);
    register(store, &own).await;
    for _ in 0..3 {
        complete(store).await;
    }
    let claims = claim_some(store, asked(3)).await.deliveries;
    for ((delivery, _), outcome) in claims
        .iter()
        .zip([dead(), dead(), DeliveryOutcome::Delivered])
    {
        assert!(settle(store, delivery, outcome).await);
    }
    let replay = async |endpoint: &Endpoint, one| {
        let replayed = store.replay(&endpoint.queue, endpoint.id, one).await;
        replayed.expect("a replay is answered")
    };
    assert_eq!(replay(&endpoint(9), None).await, 0);
    let (delivered, _) = &claims[2];
    let key = (delivered.document, delivered.version);
    clock.advance(seconds(1));
    assert_eq!(replay(&own, Some((DocumentId::new(), 1))).await, 0);
    assert_eq!(replay(&own, Some(key)).await, 1);
    assert_eq!(replay(&own, Some(key)).await, 0, "it is pending already");
    let again = claim_one(store).await;
    assert_eq!((again.document, again.attempts), (delivered.document, 1));
    assert_eq!(
        replay(&own, Some(key)).await,
        0,
        "nor while it is being sent"
    );
    assert_eq!(replay(&own, None).await, 2);
    assert_eq!(claim_some(store, asked(5)).await.deliveries.len(), 2);
}

/// Endpoints come back as they were given, in order, each queue's own.
pub async fn endpoints_come_back_whole(store: &dyn Outbox, _: &TestClock) {
    let first = Endpoint {
        url: "https://exämple.com/?a=b&c='".to_owned(),
        events: vec![EventKind::Cancelled, EventKind::Completed],
        disabled: Some("on holiday".to_owned()),
        ..endpoint(1)
    };
    let bare = Endpoint {
        secret: Vec::new(),
        events: Vec::new(),
        ..endpoint(2)
    };
    let elsewhere = Endpoint {
        queue: queue("elsewhere"),
        ..endpoint(1)
    };
    for endpoint in [&bare, &elsewhere, &first] {
        register(store, endpoint).await;
    }
    let list = async |queue: &QueueName| store.endpoints(queue).await.expect("endpoints");
    assert_eq!(list(&first.queue).await, [first.clone(), bare.clone()]);
    assert_eq!(list(&elsewhere.queue).await, [elsewhere]);
    assert_eq!(list(&queue("nobody.used.it")).await, []);
    register(store, &endpoint(1)).await;
    assert_eq!(list(&first.queue).await, [endpoint(1), bare]);
}

/// An endpoint that is deleted takes its deliveries with it, and no others; a late settlement finds none.
pub async fn an_endpoint_goes_with_its_deliveries(store: &dyn Outbox, _: &TestClock) {
    let (gone, stays) = (endpoint(1), endpoint(2));
    register(store, &gone).await;
    register(store, &stays).await;
    complete(store).await;
    let claimed = claim_one(store).await;
    assert_eq!(claimed.endpoint, gone.id);
    let delete = async || {
        let deleted = store.delete_endpoint(&gone.queue, gone.id).await;
        deleted.expect("a deletion is answered")
    };
    assert_eq!((delete().await, delete().await), (true, false));
    assert!(!settle(store, &claimed, DeliveryOutcome::Delivered).await);
    register(store, &gone).await;
    assert_eq!(written(store, &gone).await, []);
    assert_eq!(written(store, &stays).await.len(), 1);
}

/// Deliveries are listed page by page; those that were delivered long enough ago can be removed, in small
/// steps, and no others.
pub async fn deliveries_are_listed_and_purged(store: &dyn Outbox, clock: &TestClock) {
    let endpoint = endpoint(1);
    register(store, &endpoint).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(complete(store).await);
    }
    ids.sort();
    let mut page = query(&endpoint);
    page.limit = 2;
    let mut listed = Vec::new();
    loop {
        let deliveries = store.deliveries(page.clone()).await.expect("a list");
        listed.extend(deliveries.iter().map(|d| d.document));
        page.after = deliveries
            .last()
            .map(|d| (d.document, d.version))
            .or(page.after);
        if deliveries.len() < 2 {
            break;
        }
    }
    assert_eq!(listed, ids);
    for (delivery, _) in claim_some(store, asked(3)).await.deliveries {
        assert!(settle(store, &delivery, DeliveryOutcome::Delivered).await);
    }
    clock.advance(seconds(50));
    for (delivery, _) in claim_some(store, asked(2)).await.deliveries {
        assert!(settle(store, &delivery, dead()).await);
    }
    let mut dead = query(&endpoint);
    dead.state = Some(DeliveryState::Dead);
    assert_eq!(store.deliveries(dead).await.expect("a list").len(), 2);
    let purge = async |age, limit| {
        let purged = store.purge_deliveries(age, limit).await;
        purged.expect("purging succeeds")
    };
    assert_eq!(purge(seconds(51), 9).await, 0);
    assert_eq!(purge(seconds(50), 2).await, 2);
    assert_eq!(purge(seconds(50), 2).await, 1);
    assert_eq!(
        purge(Duration::ZERO, 9).await,
        0,
        "dead ones are kept for people"
    );
    assert_eq!(written(store, &endpoint).await.len(), 2);
}
