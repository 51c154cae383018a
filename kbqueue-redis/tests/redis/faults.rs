//! Servers that restart, connections that break, memory that runs out.

use kbqueue_core::queue::StateCounts;
use kbqueue_core::store::{Directive, Settled};
use kbqueue_core::{DocumentId, Notice, QueueName, State, Store, Subscription};
use kbqueue_tests::redis::RedisServer;

use crate::proxy::Proxy;
use crate::support::*;

async fn counts(store: &impl Store) -> StateCounts {
    store.stats(&QueueName::default()).await.unwrap().counts
}

/// REGRESSIONS 22: a server that forgot the scripts gets them again.
#[tokio::test]
async fn forgotten_scripts_are_sent_again() {
    let server = RedisServer::start(&[]);
    let space = Space::on(&server.url());
    let store = space.store().await;
    let mut raw = space.raw().await;
    for _ in 0..2 {
        add(&store).await;
        let _: String = raw.run(&["SCRIPT", "FLUSH", "SYNC"]).await;
        let claimed = claim(&store, 1).await;
        let _: String = raw.run(&["SCRIPT", "FLUSH", "SYNC"]).await;
        let settled = store.settle(vec![completion(&claimed[0])]).await.unwrap();
        assert_eq!(settled, [Settled::In(State::Completed)]);
    }
}

/// REGRESSIONS 8: connections that break come back by themselves; no call fails for it, and listeners are
/// told to look again.
#[tokio::test]
async fn broken_connections_come_back() {
    let server = RedisServer::start(&[]);
    let space = Space::on(&server.url());
    let store = space.store().await;
    let mut listener = subscribe(&store).await;
    let mut raw = space.raw().await;
    let other = space.store().await;
    for kind in ["pubsub", "normal"] {
        let killed: u32 = raw
            .run(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"])
            .await;
        assert!(killed > 0, "{kind}");
        if kind == "pubsub" {
            assert_eq!(next(&mut listener).await, Notice::Resync);
        }
        let id = add(&other).await;
        hear_of(&mut listener, id).await;
        assert_eq!(claim(&store, 1).await[0].id, id);
    }
}

/// REGRESSIONS 8: a server that was killed and started again has everything; workers go on under their
/// leases, and listeners hear of what comes.
#[tokio::test]
async fn a_restarted_server_goes_on() {
    let mut server = RedisServer::start(&["--appendfsync", "always"]);
    let space = Space::on(&server.url());
    let store = space.store().await;
    let mut listener = subscribe(&store).await;
    add_many(&store, 3).await;
    let held = claim(&store, 2).await;
    let before = counts(&store).await;
    server.restart();
    assert_eq!(counts(&store).await, before);
    let directive = store.checkpoint(checkpoint(&held[0])).await.unwrap();
    assert_eq!(directive, Directive::Continue);
    let settled = store.settle(held.iter().map(completion).collect()).await;
    assert_eq!(settled.unwrap(), [Settled::In(State::Completed); 2]);
    assert_eq!(claim(&store, 2).await.len(), 1);
    while next(&mut listener).await != Notice::Resync {}
    let other = space.store().await;
    let id = add(&other).await;
    hear_of(&mut listener, id).await;
}

async fn hear_of(listener: &mut Subscription, id: DocumentId) {
    loop {
        match next(listener).await {
            Notice::Document(change) if change.id == id => return,
            _ => {}
        }
    }
}

/// REGRESSIONS 31: a commit whose answer got lost is sent again, recognised, and has its effect once.
#[tokio::test]
async fn a_commit_whose_answer_got_lost_is_recognised() {
    let server = RedisServer::start(&[]);
    let proxy = Proxy::start(&server.url()).await;
    let store = Space::on(&proxy.url).store().await;
    proxy.lose_answer().await;
    let answers = store.enqueue(vec![document()]).await.unwrap();
    assert!(answers[0].created && proxy.is_done().await);
    proxy.lose_answer().await;
    let claimed = claim(&store, 3).await;
    assert_eq!((claimed.len(), claimed[0].id), (1, answers[0].id));
    assert!(claimed[0].lifecycle.attempt == 1 && proxy.is_done().await);
    proxy.lose_answer().await;
    let directive = store.checkpoint(checkpoint(&claimed[0])).await.unwrap();
    assert!(directive == Directive::Continue && proxy.is_done().await);
    proxy.lose_answer().await;
    let settled = store.settle(vec![completion(&claimed[0])]).await.unwrap();
    assert_eq!(settled, [Settled::In(State::Completed)]);
    assert!(proxy.is_done().await);
    let found = store.document(answers[0].id).await.unwrap().unwrap();
    assert_eq!((found.lifecycle.version, found.attempts.len()), (3, 1));
    let counts = counts(&store).await;
    assert_eq!((counts.completed, counts.total()), (1, 1));
}

/// A server whose memory is full takes nothing in, lets everything end, and no change is left half done.
#[tokio::test]
async fn full_memory_refuses_whole_changes() {
    let server = RedisServer::start(&[]);
    let space = Space::on(&server.url());
    let store = space.store().await;
    add_many(&store, 4).await;
    let held = claim(&store, 2).await;
    let mut raw = space.raw().await;
    let _: String = raw.run(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = store.enqueue(vec![document()]).await.unwrap_err();
    assert!(refused.is_transient(), "{refused:?}");
    let before = counts(&store).await;
    // The first thing that is written decides, and these first take something away.
    let settled = store.settle(held.iter().map(completion).collect()).await;
    assert_eq!(settled.unwrap(), [Settled::In(State::Completed); 2]);
    let _: String = raw.run(&["CONFIG", "SET", "maxmemory", "0"]).await;
    // Whatever went through, what is counted is what is there.
    let after = counts(&store).await;
    assert_eq!(after.total(), before.total());
    let left = claim(&store, 10).await.len() as u64;
    assert_eq!(left, after.queued);
    for state in State::ALL {
        let query = kbqueue_core::store::DocumentQuery::in_state(QueueName::default(), state);
        let listed = store.documents(query).await.unwrap().len() as u64;
        let now = counts(&store).await;
        assert_eq!(listed, now.of(state), "{state}");
    }
    add(&store).await;
}
