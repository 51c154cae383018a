//! What anybody can look up: documents, outputs, counts.

use kbqueue_core::queue::{QueueSettings, QueueStats, StateCounts};
use kbqueue_core::state::Outcome;
use kbqueue_core::store::{Control, DocumentQuery, OutputQuery};
use kbqueue_core::{DocumentId, QueueName, State, Store, TestClock};

use crate::support::*;

async fn list(store: &dyn Store, query: DocumentQuery) -> Vec<DocumentId> {
    let documents = store.documents(query).await.expect("a list");
    documents.iter().map(|document| document.id).collect()
}

/// Documents are listed newest id first, page by page, each as it is when read alone.
pub async fn documents_are_listed_newest_first(store: &dyn Store, _: &TestClock) {
    let batch: Vec<_> = (0..60).map(|_| document()).collect();
    let mut ids: Vec<_> = batch.iter().map(|new| new.id).collect();
    store.enqueue(batch).await.expect("an enqueue succeeds");
    ids.sort_by(|a, b| b.cmp(a));
    assert_eq!(list(store, DocumentQuery::default()).await, ids[..50]);
    let mut query = DocumentQuery::default();
    query.limit = 7;
    let mut listed = Vec::new();
    loop {
        let page = list(store, query.clone()).await;
        listed.extend_from_slice(&page);
        query.after = page.last().copied();
        if page.len() < 7 {
            break;
        }
    }
    assert_eq!(listed, ids);
    query.limit = 0;
    assert_eq!(list(store, query).await, []);
    let mut newest = DocumentQuery::default();
    newest.limit = 1;
    let listed = store.documents(newest).await.expect("a list");
    assert_eq!(listed, [find(store, ids[0]).await]);
}

/// A list can be of one queue and of one state, and of both.
pub async fn lists_are_of_a_queue_and_a_state(store: &dyn Store, _: &TestClock) {
    let mut by_state = Vec::new();
    for state in [
        State::Processing,
        State::Completed,
        State::Failed,
        State::Cancelled,
        State::Queued,
    ] {
        by_state.push((state, bring_to(store, document(), state, 1).await));
    }
    let other = queue("other");
    let elsewhere = with(document(), |d| d.queue = other.clone());
    let elsewhere = put(store, elsewhere).await;
    for (state, id) in &by_state {
        let query = DocumentQuery::in_state(QueueName::default(), *state);
        assert_eq!(list(store, query).await, [*id], "{state}");
    }
    let mut everywhere = DocumentQuery::default();
    everywhere.state = Some(State::Queued);
    let queued = by_state.last().expect("five states").1;
    assert_eq!(list(store, everywhere).await, [elsewhere, queued]);
    let mut one = DocumentQuery::default();
    one.queue = Some(other.clone());
    assert_eq!(list(store, one).await, [elsewhere]);
    let none = DocumentQuery::in_state(other, State::Failed);
    assert_eq!(list(store, none).await, []);
    let unknown = DocumentQuery::in_state(queue("nobody.used.it"), State::Queued);
    assert_eq!(list(store, unknown).await, []);
}

/// A list can be of one tenant, and of names that begin alike, whatever letters they are of; page by page.
pub async fn lists_are_of_a_tenant_and_a_name(store: &dyn Store, _: &TestClock) {
    let named = async |tenant: Option<&str>, name: &str| {
        let new = with(document(), |d| {
            d.tenant = tenant.map(str::to_owned);
            d.filename = name.to_owned();
        });
        put(store, new).await
    };
    let report = named(Some("a"), "report 1.pdf").await;
    let upper = named(Some("a"), "Report 2.pdf").await;
    let percent = named(Some("b"), "report %_.pdf").await;
    let nobodys = named(None, "büro*.pdf").await;
    let empty = named(Some(""), "report 3.pdf").await;
    let of = |tenant: Option<&str>, name: Option<&str>| {
        let mut query = DocumentQuery::default();
        query.tenant = tenant.map(str::to_owned);
        query.name = name.map(str::to_owned);
        query
    };
    for (query, expected) in [
        (of(Some("a"), None), vec![upper, report]),
        (of(Some(""), None), vec![empty]),
        (of(Some("c"), None), vec![]),
        (of(None, Some("report")), vec![empty, percent, report]),
        (of(None, Some("report %")), vec![percent]),
        (of(None, Some("report _")), vec![]),
        (of(None, Some("büro*")), vec![nobodys]),
        (
            of(None, Some("")),
            vec![empty, nobodys, percent, upper, report],
        ),
        (of(Some("a"), Some("rep")), vec![report]),
    ] {
        let mut pages = query.clone();
        pages.limit = 1;
        assert_eq!(list(store, query).await, expected, "{pages:?}");
        for id in expected {
            assert_eq!(list(store, pages.clone()).await, [id], "{pages:?}");
            pages.after = Some(id);
        }
        assert_eq!(list(store, pages).await, []);
    }
    let mut queued = DocumentQuery::in_state(QueueName::default(), State::Queued);
    queued.tenant = Some("b".to_owned());
    assert_eq!(list(store, queued).await, [percent]);
}

/// Outputs are read page by page, in order, from any point on.
pub async fn outputs_are_read_page_by_page(store: &dyn Store, _: &TestClock) {
    let id = bring_to(store, document(), State::Processing, 10).await;
    let query = |after, limit| {
        let mut query = OutputQuery::new(id, limit);
        query.after = after;
        query
    };
    let pages = async |after, limit| {
        let pages = store.pages(query(after, limit)).await.expect("pages");
        pages.iter().map(|page| page.number).collect::<Vec<_>>()
    };
    let chunks = async |after, limit| {
        let chunks = store.chunks(query(after, limit)).await.expect("chunks");
        chunks.iter().map(|chunk| chunk.ordinal).collect::<Vec<_>>()
    };
    let images = async |after, limit| {
        let images = store.images(query(after, limit)).await.expect("images");
        images.iter().map(|image| image.ordinal).collect::<Vec<_>>()
    };
    assert_eq!(pages(None, 3).await, [1, 2, 3]);
    assert_eq!(pages(Some(3), 3).await, [4, 5, 6]);
    assert_eq!(pages(Some(9), 3).await, [10]);
    assert_eq!(chunks(None, 2).await, [0, 1]);
    assert_eq!(chunks(Some(0), 2).await, [1, 2], "0 is a chunk, and passed");
    assert_eq!(chunks(Some(8), 9).await, [9]);
    assert_eq!(images(Some(4), 3).await, [5, 6, 7]);
    for after in [Some(10), Some(u32::MAX)] {
        assert!(pages(after, 9).await.is_empty());
        assert!(chunks(after, 9).await.is_empty());
        assert!(images(after, 9).await.is_empty());
    }
    assert!(pages(None, 0).await.is_empty());
}

/// Of a document or a generation that is not there, there is nothing to read; that is no error.
pub async fn nothing_is_read_of_what_is_not_there(store: &dyn Store, _: &TestClock) {
    let unknown = DocumentId::new();
    assert_eq!(store.document(unknown).await.expect("an answer"), None);
    assert_eq!(outputs(store, unknown).await, Outputs::none());
    let id = bring_to(store, document(), State::Completed, 1).await;
    for generation in [0, 2, u32::MAX] {
        let generation = Some(generation);
        let outputs = outputs_of(store, id, generation, generation).await;
        assert_eq!(outputs, Outputs::none());
    }
}

/// A queue that nobody used is empty, runs, and has nobody to serve it.
pub async fn an_unused_queue_is_empty(store: &dyn Store, _: &TestClock) {
    let stats = store.stats(&queue("nobody.used.it")).await.expect("stats");
    assert_eq!(stats, QueueStats::default());
    let settings = QueueSettings {
        paused: true,
        ..QueueSettings::default()
    };
    store
        .configure(&queue("early"), settings)
        .await
        .expect("settings are taken");
    let stats = store.stats(&queue("early")).await.expect("stats");
    assert_eq!((stats.settings, stats.counts.total()), (settings, 0));
}

/// Counts are what is there, after every kind of step: none is forgotten, none drifts.
pub async fn counts_never_drift(store: &dyn Store, clock: &TestClock) {
    let default = QueueName::default();
    let check = async |after: &str| {
        let mut counted = StateCounts::default();
        for state in State::ALL {
            let mut query = DocumentQuery::in_state(default.clone(), state);
            query.limit = 1000;
            *counted.of_mut(state) = list(store, query).await.len() as u64;
        }
        let counts = store.stats(&default).await.expect("stats").counts;
        assert_eq!(counts, counted, "after {after}");
    };
    let first = document();
    let again = vec![first.clone(), first.clone(), document()];
    store.enqueue(again).await.expect("an enqueue succeeds");
    check("an enqueue with a repetition").await;
    for outcome in outcomes() {
        let mut holder = Holder::claim(store, "worker").await;
        check("a claim").await;
        holder.commit_times(1).await;
        holder.send(holder.still()).await;
        check("checkpoints").await;
        holder.settle(outcome.clone()).await;
        check("a settlement").await;
        holder.settle(outcome).await;
        holder.commit().await;
        check("repeated and stale writes").await;
        clock.advance(seconds(10));
        add(store).await;
    }
    let holder = Holder::claim(store, "worker").await;
    control(store, holder.id, Control::Cancel).await;
    check("a cancel asked for").await;
    holder.settle(Outcome::Release).await;
    check("its end").await;
    Holder::claim(store, "worker").await;
    outlive_leases(clock);
    reap(store).await;
    check("a crash").await;
    let id = add(store).await;
    control(store, id, Control::Cancel).await;
    control(store, id, Control::Cancel).await;
    check("a cancel, twice").await;
    control(store, id, RETRY).await;
    check("a retry").await;
    control(store, id, Control::Delete).await;
    check("a delete").await;
    for state in [State::Completed, State::Failed, State::Cancelled] {
        let query = DocumentQuery::in_state(default.clone(), state);
        for id in list(store, query).await {
            control(store, id, Control::Delete).await;
        }
        check("deletes of finished ones").await;
    }
    store.purge(1000).await.expect("purging succeeds");
    check("a purge").await;
}
