//! Limits hold whoever claims, on connections of their own and at full speed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::{join, join_all};
use kbqueue_core::limits::Rate;
use kbqueue_core::queue::QueueSettings;
use kbqueue_core::{QueueName, Store, StoreError};
use kbqueue_redis::RedisStore;
use kbqueue_tests::redis::RedisServer;

use crate::bounds::{calls, reset};
use crate::races::stores;
use crate::support::*;

async fn configure(store: &RedisStore, settings: QueueSettings) {
    let queue = QueueName::default();
    store.configure(&queue, settings).await.unwrap();
}

fn one_at_a_time() -> QueueSettings {
    QueueSettings {
        max_processing: Some(1),
        ..QueueSettings::default()
    }
}

/// REGRESSIONS 33: a claim that found room, and whose document nobody else took, finds it gone.
#[tokio::test]
async fn room_that_was_taken_before_the_commit_is_gone() {
    let (_space, proxy, slow, fast) = stores().await;
    configure(&fast, one_at_a_time()).await;
    add(&fast).await;
    let commit = proxy.hold().await;
    let meanwhile = commit.meanwhile(async {
        let mut urgent = document();
        urgent.priority = 1;
        fast.enqueue(vec![urgent]).await.unwrap();
        claim(&fast, 1).await
    });
    let (slows, fasts) = join(claim(&slow, 1), meanwhile).await;
    assert_eq!((slows.len(), fasts.len()), (0, 1));
}

/// A limit that was set after the look holds for its commit.
#[tokio::test]
async fn a_limit_set_before_the_commit_holds() {
    let (_space, proxy, slow, fast) = stores().await;
    add_many(&fast, 3).await;
    let commit = proxy.hold().await;
    let meanwhile = commit.meanwhile(configure(&fast, one_at_a_time()));
    let (claimed, ()) = join(claim(&slow, 3), meanwhile).await;
    assert_eq!(claimed.len(), 1);
}

/// REGRESSIONS 33: four connections at full speed, one document at a time; and each is processed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_at_full_speed_process_one_at_a_time() {
    let space = Space::new();
    let stores = join_all((0..4).map(|_| space.store())).await;
    configure(&stores[0], one_at_a_time()).await;
    add_many(&stores[0], 60).await;
    let (processing, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let work = stores.into_iter().map(|store| {
        let (processing, done) = (Arc::clone(&processing), Arc::clone(&done));
        tokio::spawn(async move {
            while done.load(Ordering::SeqCst) < 60 {
                for document in claim(&store, 3).await {
                    assert_eq!(processing.fetch_add(1, Ordering::SeqCst), 0);
                    tokio::task::yield_now().await;
                    processing.fetch_sub(1, Ordering::SeqCst);
                    store.settle(vec![completion(&document)]).await.unwrap();
                    done.fetch_add(1, Ordering::SeqCst);
                }
            }
        })
    });
    let work = tokio::time::timeout(PATIENCE, join_all(work)).await;
    work.expect("all are processed")
        .into_iter()
        .for_each(|one| one.unwrap());
}

/// REGRESSIONS 24: ten a minute are ten a minute for four connections together, and all ten come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_shared_by_connections() {
    let space = Space::new();
    let stores = join_all((0..4).map(|_| space.store())).await;
    let rate = QueueSettings {
        rate: Rate::new(10, 60),
        ..QueueSettings::default()
    };
    configure(&stores[0], rate).await;
    add_many(&stores[0], 100).await;
    let mut started = 0;
    for second in 0..=120 {
        let claims = stores
            .iter()
            .cloned()
            .map(|store| tokio::spawn(async move { claim(&store, 5).await.len() }));
        let claims = join_all(claims).await.into_iter();
        started += claims.map(Result::unwrap).sum::<usize>();
        assert_eq!(started, 1 + second / 6, "after {second} seconds");
        space.clock.advance(Duration::from_secs(1));
    }
}

/// Of two enqueues at once into a queue with room for one, one is refused, and leaves nothing behind.
#[tokio::test]
async fn room_in_the_queue_is_given_once() {
    let (space, proxy, slow, fast) = stores().await;
    let one = QueueSettings {
        max_queued: Some(1),
        ..QueueSettings::default()
    };
    configure(&fast, one).await;
    let late = document();
    let commit = proxy.hold().await;
    let (refused, _) = join(
        slow.enqueue(vec![late.clone()]),
        commit.meanwhile(add(&fast)),
    )
    .await;
    assert!(
        matches!(refused, Err(StoreError::QueueFull { queued: 1, .. })),
        "{refused:?}"
    );
    assert!(slow.enqueue(vec![document()]).await.is_err());
    let pattern = format!("{}:directory:*", space.prefix);
    let entries: Vec<String> = space.raw().await.run(&["KEYS", &pattern]).await;
    assert_eq!(entries.len(), 1, "{entries:?}");
}

/// Limits are looked at where documents are: a claim and an enqueue take no more round trips with them than
/// without.
#[tokio::test]
async fn limits_cost_no_round_trip() {
    let server = RedisServer::start(&[]);
    let space = Space::on(&server.url());
    let store = space.store().await;
    let mut raw = space.raw().await;
    let mut costs = Vec::new();
    let limits = QueueSettings {
        max_processing_per_tenant: Some(5),
        max_queued: Some(100),
        rate: Rate::new(1_000_000, 1),
        ..one_at_a_time()
    };
    for settings in [QueueSettings::default(), limits] {
        configure(&store, settings).await;
        add(&store).await;
        let held = claim(&store, 1).await;
        store.settle(vec![completion(&held[0])]).await.unwrap();
        space.clock.advance(Duration::from_secs(1));
        reset(&mut raw).await;
        add(&store).await;
        let held = claim(&store, 1).await;
        costs.push(calls(&mut raw).await["evalsha"]);
        store.settle(vec![completion(&held[0])]).await.unwrap();
        space.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(costs[0], costs[1]);
}

/// What was opened to everybody is still gone on with by its own kind without a token: in front of others of
/// everybody's, and behind others of its own.
#[tokio::test]
async fn what_was_opened_to_everybody_goes_on_without_a_token() {
    let space = Space::new();
    let store = space.store().await;
    let rate = Rate::new(1, 1_000_000).unwrap();
    let rate = QueueSettings {
        rate: Some(Rate {
            burst: std::num::NonZeroU32::new(2).unwrap(),
            ..rate
        }),
        ..QueueSettings::default()
    };
    configure(&store, rate).await;
    let mut urgent = document();
    urgent.priority = 9;
    let first = add(&store).await;
    let held = claim(&store, 1).await;
    store.enqueue(vec![urgent.clone()]).await.unwrap();
    let other = claim(&store, 1).await;
    let release = |document| {
        let mut settlement = completion(document);
        settlement.outcome = kbqueue_core::state::Outcome::Release;
        settlement
    };
    store.settle(vec![release(&held[0])]).await.unwrap();
    space.clock.advance(Duration::from_secs(601));
    let mut foreign = request(1);
    foreign.fingerprint = "other/1".to_owned();
    // Opens it, but may not start it.
    let claims = store.claim(foreign).await.unwrap();
    assert_eq!(claims.documents, []);
    store.settle(vec![release(&other[0])]).await.unwrap();
    add_many(&store, 50).await;
    let mut went_on = Vec::new();
    for _ in 0..2 {
        let claimed = tokio::time::timeout(PATIENCE, claim(&store, 1)).await;
        went_on.extend(claimed.expect("a claim ends").iter().map(|d| d.id));
    }
    assert_eq!(went_on, [urgent.id, first]);
    assert_eq!(claim(&store, 1).await, []);
}

/// Tenants at their limit, however many, do not hide one behind them that has room.
#[tokio::test]
async fn tenants_at_their_limit_hide_nobody() {
    let space = Space::new();
    let store = space.store().await;
    let one_each = QueueSettings {
        max_processing_per_tenant: Some(1),
        ..QueueSettings::default()
    };
    configure(&store, one_each).await;
    let of = |tenant: &str| {
        let mut new = document();
        new.tenant = Some(tenant.to_owned());
        new
    };
    let tenants: Vec<String> = (0..60).map(|n| format!("tenant \"{n}\"")).collect();
    let batch = tenants.iter().flat_map(|tenant| [of(tenant), of(tenant)]);
    store.enqueue(batch.collect()).await.unwrap();
    assert_eq!(claim(&store, 100).await.len(), 60);
    let last = of("zzz");
    store.enqueue(vec![last.clone()]).await.unwrap();
    // Its turn comes after theirs.
    let mut raw = space.raw().await;
    let _: u8 = raw.run(&["HSET", &space.key("turns"), "tzzz", "999"]).await;
    let _: u8 = raw
        .run(&["ZADD", &space.key("lines:*"), "999", "tzzz"])
        .await;
    let claims = store.claim(request(2)).await.unwrap();
    assert_eq!(claims.documents.len(), 1);
    assert_eq!(claims.documents[0].id, last.id);
    assert!(claims.held_back);
}
