//! Live events: what they say, when they begin anew, and what they cost.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use kbqueue_axum::{ApiOptions, ApiState};
use kbqueue_core::queue::QueueSettings;
use kbqueue_core::store::Control;
use kbqueue_core::{BlobRef, Dedupe, DocumentId, NewDocument, QueueName, Store, StoreExt};
use serde_json::{Value, json};
use support::counting::Counting;
use support::events::Events;
use support::{PROCESS, Service};

const EVENTS: &str = "/api/medical/knowledge/events";

fn new_document() -> NewDocument {
    let blob = BlobRef {
        sha256: "ab".repeat(32),
        size_bytes: 5,
    };
    let mut document = NewDocument::new(QueueName::default(), blob, "a.pdf");
    document.dedupe = Dedupe::Off;
    document
}

#[tokio::test]
async fn a_queue_s_stream_begins_with_a_snapshot_and_tells_what_happens() {
    let service = Service::new();
    let first = service.add("%PDF- one").await;
    let mut events = Events::open(&service.app, EVENTS).await;
    let (name, data) = events.next().await.unwrap();
    assert_eq!(name, "snapshot");
    assert_eq!(data["queue_name"], "default");
    assert_eq!(data["queue"]["queued"], 1);
    assert_eq!(data["processing_details"], json!([]));
    service.get(PROCESS).await;
    let completed = events.wait_for("completed").await;
    assert_eq!(completed["document_id"], first);
    assert_eq!(completed["status"], "completed");
    assert_eq!(completed["progress_percent"], 100);
    assert_eq!(completed["filename"], "a.pdf");
    assert!(completed["version"].as_u64() > Some(1), "{completed}");
    let counts = events.wait_for("queue").await;
    assert_eq!(counts["queue"]["completed"], 1);
    assert_eq!(counts["queue"]["queued"], 0);
    service.add("%PDF- broken").await;
    let queued = events.wait_for("queued").await;
    assert_ne!(queued["document_id"], first);
    service.get(PROCESS).await;
    let failed = events.wait_for("failed").await;
    assert_eq!(failed["document_id"], queued["document_id"]);
    assert_eq!(failed["error_message"], "the file is damaged");
}

#[tokio::test]
async fn settings_and_other_queues() {
    let service = Service::new();
    let mut events = Events::open(&service.app, EVENTS).await;
    let mut other = Events::open(&service.app, &format!("{EVENTS}?queue=other")).await;
    assert_eq!(other.wait_for("snapshot").await["queue_name"], "other");
    let queue = QueueName::default();
    let paused = QueueSettings {
        paused: true,
        ..QueueSettings::default()
    };
    service.store.configure(&queue, paused).await.unwrap();
    assert_eq!(events.wait_for("queue").await["paused"], true);
    let mut document = new_document();
    document.queue = QueueName::new("other").unwrap();
    service.store.enqueue_one(document).await.unwrap();
    let (name, data) = other.next().await.unwrap();
    assert_eq!((name.as_str(), &data["queue"]), ("queued", &json!("other")));
}

#[tokio::test]
async fn a_document_s_stream_ends_with_it() {
    let service = Service::new();
    let unknown = format!("{EVENTS}?document_id={}", DocumentId::new());
    service.get(&unknown).await.problem(404, "not-found");
    service
        .get(&format!("{EVENTS}?document_id=x"))
        .await
        .problem(400, "malformed-request");
    service
        .get(&format!("{EVENTS}?since=x"))
        .await
        .problem(400, "malformed-request");
    let id = service.add("%PDF- one").await;
    service.add("%PDF- another").await;
    let mut events = Events::open(&service.app, &format!("{EVENTS}?document_id={id}")).await;
    let (name, data) = events.next().await.unwrap();
    assert_eq!(
        (name.as_str(), &data["document_id"]),
        ("snapshot", &json!(id))
    );
    assert_eq!(data["sha256"].as_str().unwrap().len(), 64);
    let control = async |control| {
        let id = id.parse().unwrap();
        service.store.control(id, control).await.unwrap()
    };
    control(Control::Cancel).await;
    let (name, data) = events.next().await.unwrap();
    assert_eq!(
        (name.as_str(), &data["document_id"]),
        ("cancelled", &json!(id))
    );
    let version = data["version"].as_u64();
    control(Control::Delete).await;
    let (name, data) = events.next().await.unwrap();
    assert_eq!(
        (name.as_str(), &data["document_id"]),
        ("deleted", &json!(id))
    );
    assert!(data["version"].as_u64() > version);
    assert_eq!(events.next().await, None, "it was the last");
}

#[tokio::test]
async fn what_happens_at_once_to_a_document_is_one_event() {
    let service = Service::new();
    let mut events = Events::open(&service.app, EVENTS).await;
    events.wait_for("snapshot").await;
    let id = service.store.enqueue_one(new_document()).await.unwrap().id;
    service.store.control(id, Control::Cancel).await.unwrap();
    let again = Control::Retry {
        from_scratch: false,
    };
    service.store.control(id, again).await.unwrap();
    service.store.control(id, Control::Cancel).await.unwrap();
    let (name, data) = events.next().await.unwrap();
    assert_eq!((name.as_str(), &data["version"]), ("cancelled", &json!(4)));
    assert_eq!(events.next().await.unwrap().0, "queue");
    service.store.control(id, Control::Delete).await.unwrap();
    assert_eq!(events.next().await.unwrap().0, "deleted");
}

/// More at once than a subscription holds, so that notices get lost.
#[tokio::test]
async fn after_a_gap_there_is_a_snapshot_again() {
    let service = Service::new();
    let mut events = Events::open(&service.app, EVENTS).await;
    assert_eq!(events.wait_for("snapshot").await["queue"]["queued"], 0);
    let many = (0..3000).map(|_| new_document()).collect();
    service.store.enqueue(many).await.unwrap();
    let snapshot = events.wait_for("snapshot").await;
    assert_eq!(snapshot["queue"]["queued"], 3000);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_slow_gets_a_snapshot_instead_of_what_it_missed() {
    let service = Service::new();
    let mut slow = Events::open(&service.app, EVENTS).await;
    let mut quick = Events::open(&service.app, EVENTS).await;
    assert_eq!(slow.wait_for("snapshot").await["queue"]["queued"], 0);
    for _ in 0..50 {
        service.store.enqueue_one(new_document()).await.unwrap();
        quick.wait_for("queued").await;
    }
    let (name, snapshot) = slow.next().await.unwrap();
    assert_eq!(
        (name.as_str(), &snapshot["queue"]["queued"]),
        ("snapshot", &json!(50))
    );
    service.store.enqueue_one(new_document()).await.unwrap();
    assert_eq!(
        slow.next().await.unwrap().0,
        "queued",
        "and goes on from there"
    );
}

#[tokio::test]
async fn a_crowd_costs_no_more_than_one() {
    let store = Arc::new(Counting::default());
    let service = Service::over(store.clone(), ApiOptions::default());
    let open = join_all((0..200).map(|_| Events::open(&service.app, EVENTS)));
    let mut clients = open.await;
    assert_eq!(store.subscriptions.load(Ordering::SeqCst), 1);
    let opening = store.reads.load(Ordering::SeqCst);
    assert!(
        opening < 20,
        "{opening} reads for 200 clients that come at once"
    );
    let id = store.enqueue_one(new_document()).await.unwrap().id;
    let told = join_all(clients.iter_mut().map(|client| client.wait_for("queue"))).await;
    assert!(told.iter().all(|data| data["queue"]["queued"] == 1));
    assert_eq!(
        store.reads.load(Ordering::SeqCst) - opening,
        2,
        "the document and the counts"
    );
    // Those of one document share as well.
    let one = format!("{EVENTS}?document_id={id}");
    let mut watching = join_all((0..50).map(|_| Events::open(&service.app, &one))).await;
    let before = store.reads.load(Ordering::SeqCst);
    store.control(id, Control::Cancel).await.unwrap();
    join_all(
        watching
            .iter_mut()
            .map(|client| client.wait_for("cancelled")),
    )
    .await;
    assert_eq!(store.reads.load(Ordering::SeqCst) - before, 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_with_nothing_to_say_says_so() {
    let service = Service::new();
    let mut events = Events::open(&service.app, EVENTS).await;
    assert!(
        events
            .raw()
            .await
            .starts_with("retry: 2000\n\nevent: snapshot\n")
    );
    assert_eq!(events.raw().await, ":\n\n");
    assert_eq!(events.raw().await, ":\n\n");
}

#[tokio::test]
async fn a_host_that_stops_ends_them() {
    let (_dir, blobs) = support::blobs();
    let store = Arc::new(Counting::default());
    let state = ApiState::new(store, blobs, ApiOptions::default());
    let app = kbqueue_axum::router(state.clone());
    let mut events = Events::open(&app, EVENTS).await;
    events.wait_for("snapshot").await;
    state.end_events();
    assert_eq!(events.next().await, None);
    let service = Service {
        app,
        ..Service::new()
    };
    service.get(EVENTS).await.problem(503, "stopping");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_stops_ends_those_that_are_behind_too() {
    let (_dir, blobs) = support::blobs();
    let store = Arc::new(Counting::default());
    let state = ApiState::new(store.clone(), blobs, ApiOptions::default());
    let app = kbqueue_axum::router(state.clone());
    let mut slow = Events::open(&app, EVENTS).await;
    let mut quick = Events::open(&app, EVENTS).await;
    slow.wait_for("snapshot").await;
    for _ in 0..50 {
        store.enqueue_one(new_document()).await.unwrap();
        quick.wait_for("queued").await;
    }
    state.end_events();
    let ends = tokio::time::timeout(Duration::from_secs(600), slow.next());
    assert_eq!(ends.await.expect("it ends"), None);
}

/// The last client's leaving ends the listening, and the next one's coming begins it again.
#[tokio::test(start_paused = true)]
async fn nobody_listens_for_nobody() {
    let store = Arc::new(Counting::default());
    let service = Service::over(store.clone(), ApiOptions::default());
    let holders = Arc::strong_count(&store);
    for round in 1..=3 {
        let mut events = Events::open(&service.app, EVENTS).await;
        events.wait_for("snapshot").await;
        assert_eq!(store.subscriptions.load(Ordering::SeqCst), round);
        drop(events);
        tokio::time::sleep(Duration::from_secs(11)).await;
    }
    assert_eq!(
        Arc::strong_count(&store),
        holders,
        "no task is left that holds it"
    );
}

#[tokio::test]
async fn progress_is_told_of_a_document_under_work() {
    use kbqueue_core::lifecycle::Cursor;
    use kbqueue_core::store::{Checkpoint, ClaimRequest, Worker, WorkerId};
    let service = Service::new();
    let id = service.add("%PDF- one").await;
    let mut events = Events::open(&service.app, EVENTS).await;
    events.wait_for("snapshot").await;
    let worker = Worker {
        id: WorkerId(DocumentId::new().0),
        name: "w1".to_owned(),
        queues: vec![QueueName::default()],
    };
    let lease = Duration::from_secs(60);
    let request = ClaimRequest::new(worker, 1, lease, "f".to_owned());
    let claimed = service
        .store
        .claim(request)
        .await
        .unwrap()
        .documents
        .remove(0);
    let processing = events.wait_for("processing").await;
    assert_eq!(processing["worker"], "w1");
    let mut cursor = Cursor::default();
    for number in 1..=2 {
        cursor.number = number;
        cursor.pages += 1;
        let mut progress = claimed.lifecycle.progress;
        progress.current_page = cursor.pages;
        progress.total_pages = Some(4);
        progress.percent = 25 * u8::try_from(number).unwrap();
        let lease_id = claimed.lifecycle.lease.as_ref().unwrap().id;
        let checkpoint = Checkpoint::new(claimed.id, lease_id, lease, cursor, progress);
        service.store.checkpoint(checkpoint).await.unwrap();
        let told = events.wait_for("progress").await;
        assert_eq!(told["document_id"], id);
        assert_eq!(told["version"], processing["version"]);
        assert_eq!(told["current_page"], number);
        assert_eq!(told["total_pages"], 4);
        assert_eq!(told["progress_percent"], 25 * number);
        assert_eq!(told.get("filename"), None::<&Value>, "only what changes");
    }
}
