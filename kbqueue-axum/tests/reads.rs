//! Queue status, documents, chunks, batches, the page.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Method, Request};
use kbqueue_axum::ApiOptions;
use kbqueue_core::store::{ClaimRequest, RenewRequest, Worker, WorkerId};
use kbqueue_core::{DocumentId, QueueName};
use serde_json::{Value, json};
use support::{PREFIX, PROCESS, STATUS, Service, request};

/// Every key in it, as a path.
fn paths(value: &Value) -> BTreeSet<String> {
    fn walk(value: &Value, path: &str, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| {
                let path = format!("{path}.{key}");
                walk(value, &path, into);
                into.insert(path);
            }),
            Value::Array(items) => {
                items
                    .iter()
                    .for_each(|item| walk(item, &format!("{path}[]"), into));
            }
            _ => {}
        }
    }
    let mut into = BTreeSet::new();
    walk(value, "", &mut into);
    into
}

/// Claims what is due and shows that it lives, as a worker in another process would.
async fn claim(service: &Service) {
    let worker = Worker {
        id: WorkerId(DocumentId::new().0),
        name: "w1".to_owned(),
        queues: vec![QueueName::default()],
    };
    let lease = std::time::Duration::from_secs(60);
    let request = ClaimRequest::new(worker.clone(), 1, lease, "f".to_owned());
    assert_eq!(
        service.store.claim(request).await.unwrap().documents.len(),
        1
    );
    service
        .store
        .renew(RenewRequest::new(worker, Vec::new(), lease))
        .await
        .unwrap();
}

#[tokio::test]
async fn queue_status_has_the_keys_of_the_original_system() {
    let service = Service::new();
    let id = service.add("%PDF- one").await;
    claim(&service).await;
    service.add("%PDF- two").await;
    let status = service.get(STATUS).await.json();
    let original = [
        ".worker_status",
        ".queue",
        ".queue.queued",
        ".queue.processing",
        ".queue.completed",
        ".queue.failed",
        ".queue.total",
        ".processor_config",
        ".processor_config.batch_size",
        ".processor_config.check_interval",
        ".processor_config.max_retries",
        ".processing_details",
        ".processing_details[].document_id",
        ".processing_details[].progress_percent",
        ".processing_details[].current_chunk",
        ".processing_details[].total_chunks",
        ".processing_details[].estimated_time_seconds",
        ".processing_details[].started_at",
        ".timestamp",
    ];
    let additions = [
        ".queue.cancelled",
        ".paused",
        ".processing_details[].filename",
        ".processing_details[].current_page",
        ".processing_details[].total_pages",
        ".processing_details[].worker",
        ".processing_details[].retry_count",
    ];
    let expected = original
        .iter()
        .chain(&additions)
        .map(ToString::to_string)
        .collect();
    assert_eq!(paths(&status), expected);
    assert_eq!(status["worker_status"], "running");
    assert_eq!(
        status["queue"],
        json!({"queued": 1, "processing": 1, "completed": 0, "failed": 0, "cancelled": 0, "total": 2})
    );
    assert_eq!(
        status["processor_config"],
        json!({"batch_size": 3, "check_interval": 10, "max_retries": 3})
    );
    assert_eq!(status["processing_details"][0]["document_id"], id);
    assert_eq!(status["processing_details"][0]["worker"], "w1");
}

#[tokio::test]
async fn an_empty_queue_stands_still() {
    let service = Service::new();
    let status = service.get(STATUS).await.json();
    assert_eq!(status["worker_status"], "stopped");
    assert_eq!(status["queue"]["total"], 0);
    assert_eq!(status["processing_details"], json!([]));
    assert_eq!(status["paused"], false);
    assert_eq!(
        service.get(&format!("{STATUS}?queue=other")).await.status,
        200
    );
}

#[tokio::test]
async fn a_batch_is_processed_on_request() {
    let service = Service::new();
    for i in 0..4 {
        service.add(&format!("%PDF- {i}")).await;
    }
    let broken = service.add("%PDF- broken").await;
    let answer = service.get(PROCESS).await.json();
    assert_eq!(
        (&answer["status"], &answer["processed"]),
        (&json!("success"), &json!(3))
    );
    let answer = service
        .send(request(Method::POST, PROCESS, None))
        .await
        .json();
    let timestamp = &answer["timestamp"];
    assert_eq!(
        answer,
        json!({
            "status": "success", "processed": 2, "completed": 1, "failed": 1, "retried": 0,
            "timestamp": timestamp
        })
    );
    let document = service
        .get(&format!("{PREFIX}/documents/{broken}"))
        .await
        .json();
    assert_eq!(document["status"], "failed");
    assert_eq!(document["error_message"], "the file is damaged");
    assert_eq!(
        service
            .get(&format!("{PROCESS}?queue=default"))
            .await
            .status,
        200
    );
    let other = service.get(&format!("{PROCESS}?queue=other")).await;
    other.problem(409, "no-workers");
}

#[tokio::test]
async fn without_a_processor_there_are_no_batches() {
    let (_dir, blobs) = support::blobs();
    let store = std::sync::Arc::new(kbqueue_core::MemoryStore::new());
    let state = kbqueue_axum::ApiState::new(store, blobs, ApiOptions::default());
    let mut service = Service::new();
    service.app = kbqueue_axum::router(state);
    service.get(PROCESS).await.problem(409, "no-workers");
}

#[tokio::test]
async fn a_document_is_shown_field_by_field() {
    let service = Service::new();
    let id = service.add("%PDF- one").await;
    service.get(PROCESS).await;
    let document = service
        .get(&format!("{PREFIX}/documents/{id}"))
        .await
        .json();
    let keys = [
        "document_id",
        "queue",
        "filename",
        "status",
        "progress_percent",
        "current_chunk",
        "total_chunks",
        "current_page",
        "total_pages",
        "estimated_time_seconds",
        "retry_count",
        "crash_count",
        "error_message",
        "failed_pages",
        "created_at",
        "available_at",
        "started_at",
        "completed_at",
        "size_bytes",
        "sha256",
        "media_type",
        "metadata",
        "properties",
        "tenant",
        "priority",
        "generation",
        "version",
        "repaired",
        "quarantined",
        "cancel_requested",
        "attempts",
    ];
    let shown: BTreeSet<&str> = document
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(shown, BTreeSet::from(keys));
    assert_eq!(document["status"], "completed");
    assert_eq!(document["progress_percent"], 100);
    assert_eq!(document["total_pages"], 5);
    assert_eq!(document["generation"], 1);
    let attempt = &document["attempts"][0];
    assert_eq!(attempt["outcome"], "completed");
    assert_eq!(attempt["error"], Value::Null);
}

#[tokio::test]
async fn chunks_come_in_pages() {
    let service = Service::new();
    let id = service.add("%PDF- one").await;
    let path = format!("{PREFIX}/documents/{id}/chunks");
    assert_eq!(
        service.get(&path).await.json(),
        json!({"chunks": [], "next": null})
    );
    service.get(PROCESS).await;
    let all = service.get(&path).await.json();
    let chunks = all["chunks"].as_array().unwrap();
    assert!(chunks.len() > 2);
    assert_eq!(all["next"], Value::Null);
    let keys: BTreeSet<&str> = chunks[0]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let expected = [
        "ordinal",
        "text",
        "first_page",
        "last_page",
        "start_offset",
        "end_offset",
        "section",
    ];
    assert_eq!(keys, BTreeSet::from(expected));

    let mut paged = Vec::new();
    let mut next = String::new();
    loop {
        let page = service.get(&format!("{path}?limit=2{next}")).await.json();
        paged.extend(page["chunks"].as_array().unwrap().clone());
        let Some(after) = page["next"].as_u64() else {
            break;
        };
        assert_eq!(page["chunks"].as_array().unwrap().len(), 2);
        next = format!("&after={after}");
    }
    assert_eq!(&paged, chunks);
    assert_eq!(
        service
            .get(&format!("{path}?limit=500&after=4294967295"))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn chunks_come_as_lines() {
    let service = Service::new();
    let id = service.add("%PDF- one").await;
    service.get(PROCESS).await;
    let path = format!("{PREFIX}/documents/{id}/chunks");
    let chunks = service.get(&path).await.json()["chunks"]
        .as_array()
        .unwrap()
        .clone();
    let lines = async |query: &str| {
        let request = Request::get(format!("{path}{query}"))
            .header("accept", "text/html, Application/x-NDJSON;q=0.9")
            .body(Body::empty())
            .unwrap();
        let answer = service.send(request).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-type"], "application/x-ndjson");
        let text = String::from_utf8(answer.bytes.to_vec()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect::<Vec<Value>>()
    };
    assert_eq!(lines("").await, chunks);
    assert_eq!(lines("?after=0").await, chunks[1..]);
    assert_eq!(lines("?after=0&limit=1").await, chunks[1..2]);
    assert!(lines("?after=1000").await.is_empty());
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let service = Service::new();
    let id = service.add("%PDF- one").await;
    let unknown = DocumentId::new();
    for path in [
        format!("{PREFIX}/documents/{unknown}"),
        format!("{PREFIX}/documents/{unknown}/chunks"),
        format!("{PREFIX}/documents/{id}?queue=other"),
        format!("{PREFIX}/nothing"),
        "/nothing".to_owned(),
        "/api/queue/nothing".to_owned(),
    ] {
        let problem = service.get(&path).await.problem(404, "not-found");
        assert_eq!(problem["instance"], path.split('?').next().unwrap());
    }
}

#[tokio::test]
async fn malformed_requests_are_told_so() {
    let service = Service::new();
    let id = service.add("%PDF- one").await;
    for path in [
        format!("{PREFIX}/documents/12"),
        format!("{PREFIX}/documents/%00/chunks"),
        format!("{PREFIX}/documents/{id}?verbose=1"),
        format!("{PREFIX}/documents/{id}/chunks?limit=many"),
        format!("{PREFIX}/documents/{id}/chunks?after=-1"),
        format!("{PREFIX}/documents/{id}/chunks?offset=1"),
        format!("{STATUS}?que=default"),
        format!("{PROCESS}?batch=9"),
    ] {
        service.get(&path).await.problem(400, "malformed-request");
    }
    for limit in ["0", "501", "4294967295"] {
        let path = format!("{PREFIX}/documents/{id}/chunks?limit={limit}");
        service.get(&path).await.problem(422, "invalid-value");
    }
}

#[tokio::test]
async fn methods_that_are_not_there_are_named() {
    let service = Service::new();
    for (method, path, allow) in [
        (Method::GET, support::UPLOAD, "POST"),
        (Method::POST, STATUS, "GET,HEAD"),
        (Method::DELETE, PROCESS, "GET,HEAD,POST"),
    ] {
        let answer = service.send(request(method, path, None)).await;
        answer.problem(405, "method-not-allowed");
        assert_eq!(answer.headers["allow"], allow);
    }
}
