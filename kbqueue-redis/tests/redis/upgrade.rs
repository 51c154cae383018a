//! REGRESSIONS 37: keys that the release before this one wrote, and documents of one to come.

use std::time::Duration;

use kbqueue_core::queue::QueueSettings;
use kbqueue_core::state::CrashLimits;
use kbqueue_core::store::{Control, OutputQuery, Settled};
use kbqueue_core::{DocumentId, QueueName, State, Store};

use crate::support::*;

/// As they were before queues had limits and attempts their pages: one document completed, one that failed
/// once and waits, one processing, two due and one scheduled; in a paused queue. One line a command.
const PREVIOUS: &str = include_str!("previous.tsv");

/// The keys, and the documents by name.
async fn previous() -> (Space, impl Fn(&str) -> DocumentId) {
    let space = Space::new();
    let mut raw = space.raw().await;
    let keys = PREVIOUS.replace("PREFIX", &space.prefix);
    for line in keys.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        let _: redis::Value = raw.run(&words).await;
    }
    let named = |name: &str| {
        let name = format!(r#""filename":"{name}.pdf""#);
        let line = PREVIOUS.lines().find(|line| line.contains(&name));
        let id = line.and_then(|line| line.split('\t').nth(2));
        id.expect("it is in the fixture").parse().unwrap()
    };
    (space, named)
}

#[tokio::test]
async fn what_the_previous_release_wrote_goes_on() {
    let (space, named) = previous().await;
    let store = space.store().await;
    let queue = QueueName::default();
    let stats = store.stats(&queue).await.unwrap();
    assert!(stats.settings.paused);
    let counts = stats.counts;
    assert_eq!(
        (counts.queued, counts.processing, counts.completed),
        (4, 1, 1)
    );
    assert_eq!(claim(&store, 9).await, []);
    let limited = QueueSettings {
        max_processing_per_tenant: Some(1),
        ..QueueSettings::default()
    };
    store.configure(&queue, limited).await.unwrap();
    // The tenant's one place is taken, by a document that the previous release claimed.
    let due = claim(&store, 1).await;
    assert_eq!(due[0].id, named("queued"), "it has the priority");
    space.clock.advance(Duration::from_secs(5));
    let claims = store.claim(request(9)).await.unwrap();
    assert!(claims.documents.is_empty() && claims.held_back);
    store
        .configure(&queue, QueueSettings::default())
        .await
        .unwrap();
    let claimed = claim(&store, 9).await;
    let mut ids: Vec<_> = claimed.iter().map(|document| document.id).collect();
    ids.sort();
    assert_eq!(ids, [named("retrying"), named("scheduled")]);
    // Its worker went on with the old release, or died.
    let held = store.document(named("processing")).await.unwrap().unwrap();
    assert_eq!(held.lifecycle.state, State::Processing);
    let settled = store.settle(vec![completion(&held)]).await.unwrap();
    assert_eq!(settled, [Settled::In(State::Completed)]);
    space.clock.advance(LEASE * 3);
    let reaped = store.reap(CrashLimits::default(), 9).await.unwrap();
    assert_eq!(reaped.len(), 3);
    let everything = claim(&store, 9).await;
    assert_eq!(everything.len(), 4, "the scheduled one is due");
    let done = everything.iter().map(completion).collect();
    store.settle(done).await.unwrap();
    let done = store.document(named("completed")).await.unwrap().unwrap();
    assert_eq!(done.attempts[0].outcome, "completed");
    let chunks = store.chunks(OutputQuery::new(done.id, 9)).await.unwrap();
    assert_eq!(chunks[0].text, "one");
    let counts = store.stats(&queue).await.unwrap().counts;
    assert_eq!((counts.completed, counts.total()), (6, 6));
}

/// A key that a document of the previous release stands for is found, and what is deleted of it is purged.
#[tokio::test]
async fn keys_of_the_previous_release_stand() {
    let (space, named) = previous().await;
    let store = space.store().await;
    let mut again = document();
    again.dedupe = kbqueue_core::Dedupe::Key("done".to_owned());
    let answers = store.enqueue(vec![again]).await.unwrap();
    assert_eq!(
        (answers[0].id, answers[0].created),
        (named("completed"), false)
    );
    let deleted = store.control(named("completed"), Control::Delete).await;
    deleted.unwrap();
    assert_eq!(store.purge(10).await.unwrap(), 2);
}

/// A document that a newer release wrote is left to it; the others go on.
#[tokio::test]
async fn a_document_of_a_newer_release_is_left_alone() {
    let (space, named) = previous().await;
    let store = space.store().await;
    let mut raw = space.raw().await;
    let (lives, id) = (space.key("lives"), named("queued").0.simple().to_string());
    let life: String = raw.run(&["HGET", &lives, &id]).await;
    let newer = life.replacen('{', r#"{"newer":1,"#, 1);
    let _: u8 = raw.run(&["HSET", &lives, &id, &newer]).await;
    let limits = [
        QueueSettings::default(),
        QueueSettings {
            max_processing_per_tenant: Some(9),
            max_processing: Some(9),
            ..QueueSettings::default()
        },
    ];
    for settings in limits {
        let queue = QueueName::default();
        store.configure(&queue, settings).await.unwrap();
        let claimed = claim(&store, 1).await;
        assert_eq!(claimed.len(), 1);
        assert_eq!(claimed[0].id, named("scheduled"));
        let mut release = completion(&claimed[0]);
        release.outcome = kbqueue_core::state::Outcome::Release;
        store.settle(vec![release]).await.unwrap();
    }
    let found: String = raw.run(&["HGET", &lives, &id]).await;
    assert_eq!(found, newer);
}
