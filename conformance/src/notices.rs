//! What subscribers hear.

use std::time::Duration;

use kbqueue_core::event::{DocumentChange, Notice, Subscription};
use kbqueue_core::queue::QueueSettings;
use kbqueue_core::state::Outcome;
use kbqueue_core::store::Control;
use kbqueue_core::{Document, DocumentId, QueueName, Store, StoreExt, TestClock};

use crate::support::*;

/// How long a notice may take. Real time, and only a test that fails spends it.
const PATIENCE: Duration = Duration::from_secs(30);

async fn next(subscription: &mut Subscription) -> Notice {
    tokio::time::timeout(PATIENCE, subscription.next())
        .await
        .expect("a notice comes")
}

/// A subscription that has begun.
async fn subscribe(store: &dyn Store) -> Subscription {
    let mut subscription = store.subscribe().await.expect("a subscription");
    assert_eq!(next(&mut subscription).await, Notice::Resync);
    subscription
}

/// Waits until the listener has heard of `document` as it is now, or was told to look again; then it
/// finds at least that.
async fn hear(store: &dyn Store, listener: &mut Subscription, document: &Document) {
    loop {
        match next(listener).await {
            Notice::Document(change) if change.id == document.id => {
                let found = store.document(change.id).await.expect("an answer");
                let version = found.map(|found| found.lifecycle.version);
                assert!(
                    change.deleted || version >= Some(change.version),
                    "told before it was so"
                );
                if change == DocumentChange::of(document) {
                    return;
                }
            }
            Notice::Resync => return,
            _ => {}
        }
    }
}

/// Every subscription begins by telling the listener to look.
pub async fn a_subscription_begins_with_a_look_around(store: &dyn Store, _: &TestClock) {
    add(store).await;
    subscribe(store).await;
    subscribe(store).await;
}

/// Every change of a document is told after it was made, as the document then is, to every listener.
pub async fn every_change_is_told_to_every_listener(store: &dyn Store, clock: &TestClock) {
    let mut listeners = [subscribe(store).await, subscribe(store).await];
    let id = add(store).await;
    let mut told = async |id: DocumentId| {
        let document = find(store, id).await;
        for listener in &mut listeners {
            hear(store, listener, &document).await;
        }
    };
    told(id).await;
    let mut holder = Holder::claim(store, "worker").await;
    told(id).await;
    holder.commit_times(1).await;
    told(id).await;
    holder.settle(failure(true, 3, seconds(0))).await;
    told(id).await;
    let holder = Holder::claim(store, "worker").await;
    told(id).await;
    control(store, id, Control::Cancel).await;
    told(id).await;
    holder.settle(Outcome::Release).await;
    told(id).await;
    control(store, id, FROM_SCRATCH).await;
    told(id).await;
    Holder::claim(store, "worker").await;
    outlive_leases(clock);
    reap(store).await;
    told(id).await;
    control(store, id, Control::Cancel).await;
    told(id).await;
    let deleted = control(store, id, Control::Delete).await;
    for listener in &mut listeners {
        hear(store, listener, &deleted).await;
    }
}

/// REGRESSIONS 36: subscribe, claim nothing, wait: a document that comes at any time after the
/// subscription wakes the worker, be it before the wait began.
pub async fn no_document_slips_between_a_claim_and_the_wait(store: &dyn Store, _: &TestClock) {
    let mut listener = subscribe(store).await;
    assert_eq!(next_due(store).await, None);
    let id = add(store).await;
    let document = find(store, id).await;
    hear(store, &mut listener, &document).await;
    assert_eq!(Holder::claim(store, "worker").await.id, id);
}

/// REGRESSIONS 36: many documents at once wake every worker, and a listener that could not follow is
/// told to look again.
pub async fn many_documents_wake_every_worker(store: &dyn Store, _: &TestClock) {
    let mut listeners = Vec::new();
    for _ in 0..10 {
        listeners.push(subscribe(store).await);
    }
    for _ in 0..2 {
        let batch = (0..1000).map(|_| document()).collect();
        store.enqueue(batch).await.expect("an enqueue succeeds");
    }
    for listener in &mut listeners {
        match next(listener).await {
            Notice::Document(_) | Notice::Resync => {}
            other => panic!("not {other:?}"),
        }
    }
}

/// New settings are told, so that a queue that goes on is served at once.
pub async fn new_settings_are_told(store: &dyn Store, _: &TestClock) {
    let mut listener = subscribe(store).await;
    let default = QueueName::default();
    let settings = QueueSettings {
        paused: true,
        ..QueueSettings::default()
    };
    store
        .configure(&default, settings)
        .await
        .expect("settings are taken");
    loop {
        match next(&mut listener).await {
            Notice::Queue(name) if name == default => break,
            Notice::Resync => break,
            _ => {}
        }
    }
    assert_eq!(
        store.stats(&default).await.expect("stats").settings,
        settings
    );
}

/// Who waits for a document to finish hears of it.
pub async fn waiting_for_a_document_ends_with_it(store: &dyn Store, _: &TestClock) {
    let id = add(store).await;
    let holder = Holder::claim(store, "worker").await;
    let finish = async {
        tokio::task::yield_now().await;
        holder.settle(Outcome::Complete).await
    };
    let wait = tokio::time::timeout(PATIENCE, store.wait_finished(id));
    let (waited, _) = futures::future::join(wait, finish).await;
    let waited = waited.expect("it hears of it").expect("it is there");
    assert_eq!(waited, find(store, id).await);
}
