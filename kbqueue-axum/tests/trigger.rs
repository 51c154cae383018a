//! Batches that requests set off, and the description of the API.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use kbqueue_axum::{ApiOptions, ApiState, TriggerLayer};
use kbqueue_core::extract::ExtractRequest;
use kbqueue_core::{
    BlobStore, ExtractError, Extraction, Extractor, MemoryStore, NewDocument, Processor,
    ProcessorOptions, QueueName, Store, StoreExt,
};
use serde_json::Value;
use support::{FivePages, PREFIX, Service};
use tower::ServiceExt;

fn service(store: Arc<dyn Store>, blobs: BlobStore, extractor: Arc<dyn Extractor>) -> Router {
    let processor = Processor::new(store, blobs, extractor, ProcessorOptions::default());
    Router::new()
        .route("/", get(|| async { "hello" }))
        .layer(TriggerLayer::new(processor))
}

async fn call(app: &Router) {
    let request = Request::get("/").body(Body::empty()).unwrap();
    assert_eq!(app.clone().oneshot(request).await.unwrap().status(), 200);
}

async fn enqueue(store: &dyn Store, blobs: &BlobStore, text: &str) -> NewDocument {
    let blob = blobs.put(text.to_owned().into()).await.unwrap();
    let document = NewDocument::new(QueueName::default(), blob, "a.pdf");
    store.enqueue_one(document.clone()).await.unwrap();
    document
}

#[tokio::test]
async fn a_request_starts_a_batch_and_the_next_ones_do_not() {
    let (_dir, blobs) = support::blobs();
    let store = Arc::new(MemoryStore::new());
    let app = service(store.clone(), blobs.clone(), Arc::new(FivePages));
    let first = enqueue(&*store, &blobs, "%PDF- 1").await;
    call(&app).await;
    let done = store.wait_finished(first.id).await.unwrap();
    assert_eq!(done.lifecycle.state.as_str(), "completed");
    let second = enqueue(&*store, &blobs, "%PDF- 2").await;
    for _ in 0..20 {
        call(&app).await;
        tokio::task::yield_now().await;
    }
    let waiting = store.find(second.id).await.unwrap();
    assert_eq!(
        waiting.lifecycle.attempt, 0,
        "the check interval is not over"
    );
}

#[tokio::test(start_paused = true)]
async fn after_the_check_interval_the_next_request_starts_another() {
    let (_dir, blobs) = support::blobs();
    let store = Arc::new(MemoryStore::new());
    let app = service(store.clone(), blobs.clone(), Arc::new(FivePages));
    for text in ["%PDF- 1", "%PDF- 2", "%PDF- 3"] {
        let document = enqueue(&*store, &blobs, text).await;
        call(&app).await;
        store.wait_finished(document.id).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

/// Hangs, and counts how often it was asked to.
#[derive(Default)]
struct Hangs(AtomicUsize);

#[async_trait]
impl Extractor for Hangs {
    fn fingerprint(&self) -> String {
        "hangs".to_owned()
    }

    async fn extract(&self, _: ExtractRequest) -> Result<Extraction, ExtractError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }
}

/// Panics.
struct Panics;

#[async_trait]
impl Extractor for Panics {
    fn fingerprint(&self) -> String {
        panic!("no fingerprint")
    }

    async fn extract(&self, _: ExtractRequest) -> Result<Extraction, ExtractError> {
        panic!("no text")
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_hangs_or_panics_is_no_request_s_business() {
    let (_dir, blobs) = support::blobs();
    let hangs = Arc::new(Hangs::default());
    for extractor in [hangs.clone() as Arc<dyn Extractor>, Arc::new(Panics)] {
        let store = Arc::new(MemoryStore::new());
        let app = service(store.clone(), blobs.clone(), extractor);
        for text in ["%PDF- 1", "%PDF- 2"] {
            enqueue(&*store, &blobs, text).await;
            let began = tokio::time::Instant::now();
            for _ in 0..5 {
                call(&app).await;
            }
            assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits");
            tokio::time::sleep(Duration::from_secs(11)).await;
        }
    }
    assert_eq!(hangs.0.load(Ordering::SeqCst), 1, "one batch at a time");
}

#[tokio::test]
async fn the_description_has_every_call_and_what_it_may_answer() {
    let service = Service::new();
    let described: Value = service.get("/openapi.json").await.json();
    assert_eq!(described["openapi"], "3.1.0");
    let paths = described["paths"].as_object().unwrap();
    for (path, methods) in [
        ("/api/queue/process", vec!["get", "post"]),
        ("/healthz", vec!["get"]),
        (&format!("{PREFIX}/upload"), vec!["post"]),
        (&format!("{PREFIX}/documents"), vec!["get"]),
        (
            &format!("{PREFIX}/documents/{{id}}"),
            vec!["delete", "get", "patch"],
        ),
        (&format!("{PREFIX}/search"), vec!["get"]),
        (&format!("{PREFIX}/images"), vec!["get"]),
        (&format!("{PREFIX}/events"), vec!["get"]),
        (&format!("{PREFIX}/queue"), vec!["get", "put"]),
    ] {
        let item = paths[path].as_object().unwrap();
        let mut known: Vec<&str> = item.keys().map(String::as_str).collect();
        known.sort_unstable();
        assert_eq!(known, methods, "{path}");
        for method in methods {
            let responses = item[method]["responses"].as_object().unwrap();
            for status in ["400", "401", "403", "422", "429", "503"] {
                assert!(responses.contains_key(status), "{method} {path} {status}");
            }
        }
    }
    // No name is used that nobody explains.
    let text = described.to_string();
    let schemas = described["components"]["schemas"].as_object().unwrap();
    for used in text.split("#/components/schemas/").skip(1) {
        let name = &used[..used.find('"').unwrap()];
        assert!(schemas.contains_key(name), "{name}");
    }
    let (_dir, blobs) = support::blobs();
    let mut options = ApiOptions::default();
    options.prefix = String::new();
    let state = ApiState::new(Arc::new(MemoryStore::new()), blobs, options);
    assert!(kbqueue_axum::openapi_json(&state).contains("\"/upload\""));
}

#[tokio::test]
async fn requests_have_ids_and_are_counted() {
    let service = Service::new();
    let request = Request::get(format!("{PREFIX}/queue-status")).header("x-request-id", "mine");
    let answer = service.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.headers["x-request-id"], "mine");
    service.add("%PDF- one").await;
    let answer = service.get("/metrics").await;
    assert!(!answer.headers["x-request-id"].is_empty());
    let text = String::from_utf8(answer.bytes.to_vec()).unwrap();
    for line in [
        "kbqueue_documents{queue=\"default\",state=\"queued\"} 1",
        "kbqueue_files_taken_total 1",
        "kbqueue_upload_bytes_total 9",
        "kbqueue_http_requests_total{method=\"GET\",route=\"/api/medical/knowledge/queue-status\",status=\"200\"} 1",
    ] {
        assert!(text.lines().any(|known| known == line), "{line}\n{text}");
    }
}
