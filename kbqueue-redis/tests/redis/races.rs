//! What comes between a look and its commit: the fence is inside the script.

use futures::future::join;
use kbqueue_core::queue::QueueSettings;
use kbqueue_core::state::CrashLimits;
use kbqueue_core::store::{Control, Directive, OutputQuery, Settled};
use kbqueue_core::{Chunk, Dedupe, QueueName, State, Store};
use kbqueue_redis::RedisStore;

use crate::proxy::Proxy;
use crate::support::*;

/// A store whose commits can be held, and another one with the same keys.
pub(crate) async fn stores() -> (Space, Proxy, RedisStore, RedisStore) {
    let space = Space::new();
    let proxy = Proxy::start(kbqueue_tests::redis::shared()).await;
    let slow = space.options_on(&proxy.url);
    let slow = RedisStore::open(slow).await.unwrap();
    let fast = space.store().await;
    (space, proxy, slow, fast)
}

/// REGRESSIONS 1: a checkpoint whose lease was good when it looked, and lost when it writes, writes nothing.
#[tokio::test]
async fn a_lease_lost_before_the_commit_writes_nothing() {
    let (space, proxy, slow, fast) = stores().await;
    let id = add(&slow).await;
    let held = claim(&slow, 1).await;
    let mut checkpoint = checkpoint(&held[0]);
    checkpoint.chunks = vec![Chunk {
        ordinal: 0,
        text: "late".to_owned(),
        first_page: 1,
        last_page: 1,
        start_offset: 0,
        end_offset: 4,
        section: None,
    }];
    space.clock.advance(LEASE);
    let commit = proxy.hold().await;
    let meanwhile = commit.meanwhile(async {
        let reaped = fast.reap(CrashLimits::default(), 10).await.unwrap();
        assert_eq!(reaped[0].state, State::Queued);
        claim(&fast, 1).await
    });
    let (directive, taken) = join(slow.checkpoint(checkpoint), meanwhile).await;
    assert_eq!(directive.unwrap(), Directive::LeaseLost);
    assert_eq!(taken.len(), 1);
    let found = fast.document(id).await.unwrap().unwrap();
    assert_eq!(found, taken[0], "nothing of it is changed");
    let chunks = fast.chunks(OutputQuery::new(id, 10)).await.unwrap();
    assert_eq!(chunks, []);
}

/// A renewal that came in between is seen: the reaper takes nothing back.
#[tokio::test]
async fn a_renewal_before_the_commit_keeps_its_lease() {
    let (space, proxy, slow, fast) = stores().await;
    add(&slow).await;
    let held = claim(&fast, 1).await;
    space.clock.advance(LEASE);
    let commit = proxy.hold().await;
    let meanwhile = commit.meanwhile(fast.checkpoint(checkpoint(&held[0])));
    let (reaped, directive) = join(slow.reap(CrashLimits::default(), 10), meanwhile).await;
    assert_eq!(directive.unwrap(), Directive::Continue);
    assert!(reaped.unwrap().is_empty());
    let settled = fast.settle(vec![completion(&held[0])]).await.unwrap();
    assert_eq!(settled, [Settled::In(State::Completed)]);
}

/// What somebody else took is not claimed twice; the claim goes on behind it.
#[tokio::test]
async fn what_was_taken_before_the_commit_is_left_alone() {
    let (_space, proxy, slow, fast) = stores().await;
    let ids = add_many(&slow, 3).await;
    let commit = proxy.hold().await;
    let (slows, fasts) = join(claim(&slow, 2), commit.meanwhile(claim(&fast, 2))).await;
    assert_eq!(fasts.iter().map(|d| d.id).collect::<Vec<_>>(), ids[..2]);
    assert_eq!(slows.iter().map(|d| d.id).collect::<Vec<_>>(), ids[2..]);
}

/// Once a pause was answered, nothing is claimed, by nobody who looked before.
#[tokio::test]
async fn a_pause_before_the_commit_stops_the_claim() {
    let (_space, proxy, slow, fast) = stores().await;
    add(&slow).await;
    let commit = proxy.hold().await;
    let queue = QueueName::default();
    let pause = fast.configure(
        &queue,
        QueueSettings {
            paused: true,
            ..QueueSettings::default()
        },
    );
    let (claimed, _) = join(claim(&slow, 1), commit.meanwhile(pause)).await;
    assert_eq!(claimed, []);
    let counts = fast.stats(&queue).await.unwrap().counts;
    assert_eq!((counts.queued, counts.processing), (1, 0));
}

/// REGRESSIONS 13: a key that was taken in between answers with its document, and so does one that a person
/// wants to queue again.
#[tokio::test]
async fn a_key_taken_before_the_commit_has_one_document() {
    let (_space, proxy, slow, fast) = stores().await;
    let keyed = || {
        let mut new = document();
        new.dedupe = Dedupe::Key("key".to_owned());
        new
    };
    let commit = proxy.hold().await;
    let (one, other) = join(
        slow.enqueue(vec![document(), keyed()]),
        commit.meanwhile(fast.enqueue(vec![keyed()])),
    )
    .await;
    let (one, other) = (one.unwrap(), other.unwrap());
    assert!(one[0].created && !one[1].created && other[0].created);
    assert_eq!(one[1].id, other[0].id);

    fast.control(other[0].id, Control::Cancel).await.unwrap();
    let again = Control::Retry {
        from_scratch: false,
    };
    let commit = proxy.hold().await;
    let (retried, new) = join(
        slow.control(other[0].id, again),
        commit.meanwhile(fast.enqueue(vec![keyed()])),
    )
    .await;
    let new = new.unwrap()[0].id;
    match retried {
        Err(kbqueue_core::StoreError::Superseded { id, by }) => {
            assert_eq!((id, by), (other[0].id, new));
        }
        other => panic!("not {other:?}"),
    }
}

/// A line's turn is one, whoever was served: what waits for one kind of worker does not jump the queue
/// because another kind was served from the same line.
#[tokio::test]
async fn a_turn_counts_for_every_kind_of_worker() {
    let space = Space::new();
    let store = space.store().await;
    let of = |tenant: &str| {
        let mut new = document();
        new.tenant = Some(tenant.to_owned());
        new
    };
    store.enqueue(vec![of("a"), of("b")]).await.unwrap();
    // Both were started by this kind of worker, a first, and wait for it again.
    let started = claim(&store, 2).await;
    let release = started.iter().map(|document| {
        let mut settlement = completion(document);
        settlement.outcome = kbqueue_core::state::Outcome::Release;
        settlement
    });
    store.settle(release.collect()).await.unwrap();
    store.enqueue(vec![of("a")]).await.unwrap();
    let mut other = request(1);
    other.fingerprint = "other/1".to_owned();
    let served = store.claim(other).await.unwrap().documents;
    assert_eq!(served[0].tenant.as_deref(), Some("a"));
    let next = claim(&store, 1).await;
    assert_eq!(next[0].tenant.as_deref(), Some("b"));
}

/// So it is when those documents were opened to everybody meanwhile.
#[tokio::test]
async fn turns_are_everybodys_after_documents_were_opened() {
    let space = Space::new();
    let store = space.store().await;
    let of = |tenant: &str| {
        let mut new = document();
        new.tenant = Some(tenant.to_owned());
        new
    };
    store.enqueue(vec![of("a"), of("b")]).await.unwrap();
    let started = claim(&store, 2).await;
    let release = started.iter().map(|document| {
        let mut settlement = completion(document);
        settlement.outcome = kbqueue_core::state::Outcome::Release;
        settlement
    });
    store.settle(release.collect()).await.unwrap();
    space.clock.advance(std::time::Duration::from_secs(601));
    let mut urgent = of("a");
    urgent.priority = 1;
    store.enqueue(vec![urgent.clone()]).await.unwrap();
    let mut other = request(1);
    other.fingerprint = "other/1".to_owned();
    let served = store.claim(other).await.unwrap().documents;
    assert_eq!(served[0].id, urgent.id);
    let next = claim(&store, 1).await;
    assert_eq!(next[0].tenant.as_deref(), Some("b"));
}
