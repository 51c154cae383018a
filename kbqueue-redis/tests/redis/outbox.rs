//! What comes between a look at the outbox and its commit, and what is left of it.

use std::time::Duration;

use futures::future::join;
use kbqueue_core::outbox::{
    DeliveryOutcome, DeliveryQuery, DeliveryRequest, DeliverySettlement, DeliveryState, Endpoint,
    EndpointId, EventKind, Outbox,
};
use kbqueue_core::{LeaseId, QueueName, Store};
use kbqueue_redis::RedisStore;

use crate::races::stores;
use crate::support::*;

fn endpoint() -> Endpoint {
    Endpoint {
        id: EndpointId(uuid::Uuid::from_u128(7)),
        queue: QueueName::default(),
        url: "https://example.com".to_owned(),
        secret: vec![1, 2, 3],
        events: EventKind::ALL.to_vec(),
        disabled: None,
    }
}

fn asked(slots: usize) -> DeliveryRequest {
    DeliveryRequest {
        queues: vec![QueueName::default()],
        lease_ids: (0..slots).map(|_| LeaseId::random()).collect(),
        lease: LEASE,
        per_endpoint: 100,
    }
}

async fn complete(store: &RedisStore, n: usize) {
    add_many(store, n).await;
    let held = claim(store, n).await;
    let done = held.iter().map(completion).collect();
    store.settle(done).await.unwrap();
}

/// Of several ends in one commit each is written down, in order of their documents.
#[tokio::test]
async fn a_batch_of_ends_is_written_down_whole() {
    let space = Space::new();
    let store = space.store().await;
    store.put_endpoint(endpoint()).await.unwrap();
    complete(&store, 1500).await;
    let mut query = DeliveryQuery {
        queue: QueueName::default(),
        endpoint: endpoint().id,
        state: Some(DeliveryState::Pending),
        after: None,
        limit: 5000,
    };
    let all = store.deliveries(query.clone()).await.unwrap();
    assert_eq!(all.len(), 1500);
    assert!(all.is_sorted_by_key(|delivery| delivery.document));
    query.limit = 1001;
    assert_eq!(store.deliveries(query).await.unwrap(), all[..1001]);
}

/// Once an endpoint is disabled, nobody who looked before claims for it.
#[tokio::test]
async fn an_endpoint_disabled_before_the_commit_gets_nothing() {
    let (_space, proxy, slow, fast) = stores().await;
    fast.put_endpoint(endpoint()).await.unwrap();
    complete(&fast, 1).await;
    let commit = proxy.hold().await;
    let disabled = Endpoint {
        disabled: Some("moved".to_owned()),
        ..endpoint()
    };
    let meanwhile = commit.meanwhile(fast.put_endpoint(disabled));
    let (claimed, _) = join(slow.claim_deliveries(asked(1)), meanwhile).await;
    assert_eq!(claimed.unwrap().deliveries, []);
}

/// A delivery whose lease ran out before its settlement was written is the next one's.
#[tokio::test]
async fn a_delivery_taken_before_the_commit_is_not_settled() {
    let (space, proxy, slow, fast) = stores().await;
    fast.put_endpoint(endpoint()).await.unwrap();
    complete(&fast, 1).await;
    let claims = slow.claim_deliveries(asked(1)).await.unwrap();
    let (delivery, _) = &claims.deliveries[0];
    let settlement = DeliverySettlement {
        queue: delivery.queue.clone(),
        endpoint: delivery.endpoint,
        document: delivery.document,
        version: delivery.version,
        lease_id: delivery.lease_id.unwrap(),
        outcome: DeliveryOutcome::Delivered,
    };
    space.clock.advance(LEASE);
    let commit = proxy.hold().await;
    let meanwhile = commit.meanwhile(fast.claim_deliveries(asked(1)));
    let (settled, again) = join(slow.settle_deliveries(vec![settlement]), meanwhile).await;
    assert_eq!(settled.unwrap(), [false]);
    let (delivery, _) = &again.unwrap().deliveries[0];
    assert_eq!(delivery.attempts, 2);
}

/// A claim whose answer got lost is made again to the same effect.
#[tokio::test]
async fn a_claim_of_deliveries_is_repeated_when_its_answer_is_lost() {
    let (_space, proxy, slow, fast) = stores().await;
    fast.put_endpoint(endpoint()).await.unwrap();
    complete(&fast, 2).await;
    proxy.lose_answer().await;
    let claims = slow.claim_deliveries(asked(2)).await.unwrap();
    let attempts: Vec<_> = claims.deliveries.iter().map(|(d, _)| d.attempts).collect();
    assert_eq!(attempts, [1, 1]);
}

/// An endpoint leaves no key behind, and neither do deliveries that were purged.
#[tokio::test]
async fn nothing_is_left_of_an_endpoint() {
    let space = Space::new();
    let store = space.store().await;
    store.put_endpoint(endpoint()).await.unwrap();
    complete(&store, 3).await;
    let claims = store.claim_deliveries(asked(2)).await.unwrap();
    let settled = claims
        .deliveries
        .iter()
        .map(|(delivery, _)| DeliverySettlement {
            queue: delivery.queue.clone(),
            endpoint: delivery.endpoint,
            document: delivery.document,
            version: delivery.version,
            lease_id: delivery.lease_id.unwrap(),
            outcome: DeliveryOutcome::Delivered,
        });
    store.settle_deliveries(settled.collect()).await.unwrap();
    let purged = store.purge_deliveries(Duration::ZERO, 10).await.unwrap();
    assert_eq!(purged, 2);
    let mut raw = space.raw().await;
    let deliveries = space.key("deliveries:*");
    let left: Vec<String> = raw.run(&["KEYS", &deliveries]).await;
    assert_eq!(left.len(), 3, "one pending, and when it is due: {left:?}");
    let id = endpoint().id;
    let deleted = store.delete_endpoint(&QueueName::default(), id).await;
    assert!(deleted.unwrap());
    for name in ["deliveries:*", "endpoints", "claimed", "wanting:*"] {
        let left: Vec<String> = raw.run(&["KEYS", &space.key(name)]).await;
        assert_eq!(left, [""; 0]);
    }
}
