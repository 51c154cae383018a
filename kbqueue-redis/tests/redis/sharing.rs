//! Several stores on one server.

use std::collections::BTreeSet;

use futures::future::join_all;
use kbqueue_core::queue::QueueSettings;
use kbqueue_core::state::CrashLimits;
use kbqueue_core::store::{Control, Directive, DocumentQuery, Settled};
use kbqueue_core::{Notice, QueueName, State, Store};

use crate::support::*;

#[tokio::test]
async fn stores_wake_each_other() {
    let space = Space::new();
    let (here, there) = (space.store().await, space.store().await);
    let mut listener = subscribe(&there).await;
    let id = add(&here).await;
    match next(&mut listener).await {
        Notice::Document(change) => {
            assert_eq!(
                (change.id, change.state, change.version),
                (id, State::Queued, 1)
            );
        }
        other => panic!("not {other:?}"),
    }
    let paused = QueueSettings {
        paused: true,
        ..QueueSettings::default()
    };
    here.configure(&QueueName::default(), paused).await.unwrap();
    assert_eq!(
        next(&mut listener).await,
        Notice::Queue(QueueName::default())
    );
}

#[tokio::test]
async fn a_store_hears_what_it_did_once() {
    let space = Space::new();
    let (here, there) = (space.store().await, space.store().await);
    let mut listener = subscribe(&here).await;
    let own = add(&here).await;
    // Published behind it on the same channel, so it would come between the two.
    let other = add(&there).await;
    for expected in [own, other] {
        match next(&mut listener).await {
            Notice::Document(change) => assert_eq!(change.id, expected),
            other => panic!("not {other:?}"),
        }
    }
}

/// REGRESSIONS 13, 33: processes share documents without overlap, however they overtake each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_complete_each_document_once() {
    let space = Space::new();
    let stores = join_all((0..4).map(|_| space.store())).await;
    let ids: BTreeSet<_> = add_many(&stores[0], 300).await.into_iter().collect();
    let work = stores.into_iter().map(|store| {
        tokio::spawn(async move {
            let mut done = Vec::new();
            loop {
                let claimed = claim(&store, 7).await;
                if claimed.is_empty() {
                    return done;
                }
                let settlements: Vec<_> = claimed.iter().map(completion).collect();
                let settled = store.settle(settlements).await.unwrap();
                assert_eq!(settled, vec![Settled::In(State::Completed); claimed.len()]);
                done.extend(claimed.into_iter().map(|document| document.id));
            }
        })
    });
    let done = join_all(work).await;
    let done: Vec<_> = done.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(done.len(), 300);
    assert_eq!(done.into_iter().collect::<BTreeSet<_>>(), ids);
    let store = space.store().await;
    let counts = store.stats(&QueueName::default()).await.unwrap().counts;
    assert_eq!((counts.completed, counts.total()), (300, 300));
}

#[tokio::test]
async fn prefixes_know_nothing_of_each_other() {
    let (one, two) = (Space::new(), Space::new());
    let (mine, other) = (one.store().await, two.store().await);
    let id = add(&mine).await;
    assert_eq!(other.document(id).await.unwrap(), None);
    assert_eq!(claim(&other, 1).await, []);
    assert_eq!(other.documents(DocumentQuery::default()).await.unwrap(), []);
    assert!(
        other
            .reap(CrashLimits::default(), 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(claim(&mine, 1).await.len(), 1);
}

/// In a cluster the directory's entry of a document is on another node, and a failover there can lose it.
#[tokio::test]
async fn a_document_is_found_that_the_directory_lost() {
    let space = Space::new();
    let store = space.store().await;
    let (done, held) = (add(&store).await, add(&store).await);
    let claimed = claim(&store, 2).await;
    store.settle(vec![completion(&claimed[0])]).await.unwrap();
    let mut raw = space.raw().await;
    let entry =
        |id: kbqueue_core::DocumentId| format!("{}:directory:{}", space.prefix, id.0.simple());
    for id in [done, held] {
        assert_eq!(raw.run::<u8>(&["DEL", &entry(id)]).await, 1);
    }
    // Another process, which remembers nothing.
    let other = space.store().await;
    let found = other.document(done).await.unwrap().unwrap();
    assert_eq!(found.lifecycle.state, State::Completed);
    let directive = other.checkpoint(checkpoint(&claimed[1])).await.unwrap();
    assert_eq!(directive, Directive::Continue);
    for id in [done, held] {
        let queue: String = raw.run(&["GET", &entry(id)]).await;
        assert_eq!(queue, QueueName::default().as_str(), "entered again");
    }
}

/// An enqueue that died between the directory and the document leaves an id that is still free.
#[tokio::test]
async fn an_entry_without_a_document_is_no_document() {
    let space = Space::new();
    let store = space.store().await;
    let mut raw = space.raw().await;
    for queue in ["default", "elsewhere"] {
        let new = document();
        let entry = format!("{}:directory:{}", space.prefix, new.id.0.simple());
        let _: String = raw.run(&["SET", &entry, queue]).await;
        assert_eq!(store.document(new.id).await.unwrap(), None);
        let answers = store.enqueue(vec![new.clone()]).await.unwrap();
        assert!(answers[0].created, "{queue}");
        let found = store.document(new.id).await.unwrap().unwrap();
        assert_eq!(found.queue, QueueName::default());
    }
}

/// What was purged leaves no key behind, whatever its documents went through.
#[tokio::test]
async fn nothing_is_left_of_what_was_purged() {
    let space = Space::new();
    let store = space.store().await;
    add_many(&store, 20).await;
    let keys = async || {
        let pattern = format!("*{}*", space.prefix);
        let keys: Vec<String> = space.raw().await.run(&["KEYS", &pattern]).await;
        let mut names: Vec<_> = keys
            .into_iter()
            .map(|key| key.replace(&space.prefix, ""))
            .collect();
        names.sort();
        names
    };
    for (n, document) in claim(&store, 15).await.iter().enumerate() {
        let mut checkpoint = checkpoint(document);
        checkpoint.chunks = vec![kbqueue_core::Chunk {
            ordinal: 0,
            text: "text".to_owned(),
            first_page: 1,
            last_page: 1,
            start_offset: 0,
            end_offset: 4,
            section: None,
        }];
        store.checkpoint(checkpoint).await.unwrap();
        if n % 2 == 0 {
            store.settle(vec![completion(document)]).await.unwrap();
        }
    }
    space.clock.advance(LEASE);
    store.reap(CrashLimits::default(), 100).await.unwrap();
    let mut all = DocumentQuery::default();
    all.limit = 100;
    for document in store.documents(all).await.unwrap() {
        store.control(document.id, Control::Delete).await.unwrap();
    }
    assert_eq!(store.purge(1000).await.unwrap(), 20 + 15);
    // It forgets audiences that nothing waits for any more.
    assert_eq!(claim(&store, 1).await, []);
    let left = keys().await;
    // Names of queues, turns of lines, settings and counts: none of them grows with documents.
    let kept = ["", ":counts", ":turns", ":queues", ":turn", ":version"];
    for key in &left {
        let name = key.trim_start_matches("{:default}");
        assert!(kept.contains(&name), "{key} is left: {left:?}");
    }
}
