//! Servers that restart, connections that break, memory that runs out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kbqueue_core::queue::StateCounts;
use kbqueue_core::store::{Directive, Settled};
use kbqueue_core::{DocumentId, Notice, QueueName, State, Store, Subscription};
use kbqueue_tests::redis::RedisServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

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

/// Between a store and its server: passes everything on, until it is told to keep the next answer back and
/// to break the connection instead.
async fn cutting_proxy(server: String) -> (String, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let cut = Arc::new(AtomicBool::new(false));
    let order = Arc::clone(&cut);
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = server.strip_prefix("redis://").unwrap().to_owned();
            let order = Arc::clone(&order);
            tokio::spawn(async move {
                let server = TcpStream::connect(server).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let up = async {
                    tokio::io::copy(&mut from_client, &mut to_server)
                        .await
                        .map(drop)
                };
                let down = async {
                    let mut bytes = [0; 65536];
                    loop {
                        let read = from_server.read(&mut bytes).await?;
                        // The answer of `commit` is this and nothing else.
                        let commit = &bytes[..read] == b":1\r\n";
                        if read == 0 || (commit && order.swap(false, Ordering::SeqCst)) {
                            return Ok(());
                        }
                        to_client.write_all(&bytes[..read]).await?;
                    }
                };
                let _: std::io::Result<()> = tokio::select! { end = up => end, end = down => end };
            });
        }
    });
    (url, cut)
}

/// REGRESSIONS 31: a commit whose answer got lost is sent again, recognised, and has its effect once.
#[tokio::test]
async fn a_commit_whose_answer_got_lost_is_recognised() {
    let server = RedisServer::start(&[]);
    let (url, cut) = cutting_proxy(server.url()).await;
    let store = Space::on(&url).store().await;
    let lose_answer = || cut.store(true, Ordering::SeqCst);
    lose_answer();
    let id = add(&store).await;
    assert!(!cut.load(Ordering::SeqCst), "it was lost");
    lose_answer();
    let claimed = claim(&store, 3).await;
    assert_eq!((claimed.len(), claimed[0].id), (1, id));
    assert_eq!(claimed[0].lifecycle.attempt, 1);
    lose_answer();
    let directive = store.checkpoint(checkpoint(&claimed[0])).await.unwrap();
    assert_eq!(directive, Directive::Continue);
    lose_answer();
    let settled = store.settle(vec![completion(&claimed[0])]).await.unwrap();
    assert_eq!(settled, [Settled::In(State::Completed)]);
    assert!(!cut.load(Ordering::SeqCst), "it was lost");
    let found = store.document(id).await.unwrap().unwrap();
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
