//! Who may do what, and what is said while the store is away.

mod support;

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Method, Request};
use kbqueue_axum::{ApiOptions, Role, Tokens};
use kbqueue_core::error::StoreError;
use kbqueue_core::library::Library;
use kbqueue_core::queue::{QueueSettings, QueueStats};
use kbqueue_core::state::CrashLimits;
use kbqueue_core::store::{
    Checkpoint, ClaimRequest, Claims, Control, Directive, DocumentQuery, Enqueued, OutputQuery,
    Reaped, RenewRequest, Result, Settled, Settlement, WorkerId,
};
use kbqueue_core::{
    Chunk, Document, DocumentId, Image, NewDocument, Page, QueueName, Store, Subscription,
};
use support::{Form, PREFIX, PROCESS, STATUS, Service, UPLOAD, request};

fn guarded() -> Service {
    let mut options = ApiOptions::default();
    options.tokens = Tokens {
        admin: Some("token-a".into()),
        uploader: Some("token-u".into()),
        reader: Some("token-r".into()),
    };
    Service::with(options)
}

#[tokio::test]
async fn each_role_may_what_it_may() {
    let service = guarded();
    let document = format!("{PREFIX}/documents/{}", DocumentId::new());
    let chunks = format!("{document}/chunks");
    // An upload without a body is let through to its own refusal.
    let calls = [
        (Method::GET, STATUS, 200, true),
        (Method::GET, document.as_str(), 404, true),
        (Method::GET, chunks.as_str(), 404, true),
        (Method::POST, UPLOAD, 415, false),
        (Method::GET, PROCESS, 200, false),
        (Method::POST, PROCESS, 200, false),
    ];
    for (method, path, allowed, reader) in calls {
        let send = |token| service.send(request(method.clone(), path, token));
        for wrong in [None, Some("wrong"), Some(""), Some("token-")] {
            let answer = send(wrong).await;
            answer.problem(401, "unauthorized");
            assert!(
                answer.headers["www-authenticate"]
                    .to_str()
                    .unwrap()
                    .starts_with("Bearer")
            );
        }
        for token in ["token-a", "token-u"] {
            assert_eq!(
                send(Some(token)).await.status,
                allowed,
                "{method} {path} {token}"
            );
        }
        let answer = send(Some("token-r")).await;
        if reader {
            assert_eq!(answer.status, allowed, "{method} {path}");
        } else {
            answer.problem(403, "forbidden");
        }
    }
    assert_eq!(service.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn what_changes_things_is_for_admins() {
    let service = guarded();
    let document = format!("{PREFIX}/documents/{}", DocumentId::new());
    let calls = [
        (Method::DELETE, document.clone(), 404),
        (Method::POST, format!("{document}/cancel"), 404),
        (Method::POST, format!("{document}/retry"), 404),
        (Method::POST, format!("{document}/rechunk"), 415),
        (Method::POST, format!("{PREFIX}/documents/bulk"), 415),
        (Method::PUT, format!("{PREFIX}/queue"), 415),
    ];
    for (method, path, allowed) in calls {
        let send = |token| service.send(request(method.clone(), &path, token));
        send(None).await.problem(401, "unauthorized");
        for token in ["token-r", "token-u"] {
            send(Some(token)).await.problem(403, "forbidden");
        }
        let status = send(Some("token-a")).await.status;
        assert_eq!(status, allowed, "{method} {path}");
    }
    for path in ["/metrics", "/openapi.json", &format!("{PREFIX}/events")] {
        service.get(path).await.problem(401, "unauthorized");
    }
    assert_eq!(service.get("/readyz").await.status, 200);
}

/// Any page that a browser shows can send such requests to a server on the same machine.
#[tokio::test]
async fn without_tokens_pages_of_other_sites_change_nothing() {
    let service = Service::new();
    let id = service.add("%PDF- one").await;
    let foreign = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "http://evil.example"),
        ("origin", "http://127.0.0.1:8081"),
        ("origin", "null"),
    ];
    let own = [
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-site", "none"),
        ("origin", "http://127.0.0.1:8080"),
        ("user-agent", "curl"),
    ];
    let send = async |method: &Method, path: &str, (name, value): (&str, &str)| {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("host", "127.0.0.1:8080").header(name, value);
        service.send(request.body(Body::empty()).unwrap()).await
    };
    for (method, path, allowed) in [
        (Method::POST, UPLOAD.to_owned(), 415),
        (
            Method::DELETE,
            format!("{PREFIX}/documents/{}", DocumentId::new()),
            404,
        ),
        (Method::PUT, format!("{PREFIX}/queue"), 415),
        (Method::POST, PROCESS.to_owned(), 200),
        (Method::GET, PROCESS.to_owned(), 200),
    ] {
        for header in foreign {
            let answer = send(&method, &path, header).await;
            answer.problem(403, "foreign-origin");
        }
        assert_eq!(service.documents().await[0].lifecycle.attempt, 0);
        if path == PROCESS {
            continue;
        }
        for header in own {
            let answer = send(&method, &path, header).await;
            assert_eq!(answer.status, allowed, "{method} {path} {header:?}");
        }
    }
    for header in own {
        assert_eq!(send(&Method::GET, PROCESS, header).await.status, 200);
    }
    for header in foreign {
        let document = format!("{PREFIX}/documents/{id}");
        assert_eq!(send(&Method::GET, &document, header).await.status, 200);
    }
    // Who has a token may be anywhere.
    let request = Request::post(PROCESS).header("origin", "http://app.example");
    let request = request.header("authorization", "Bearer token-u");
    let answer = guarded().send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_host_brings_roles_of_its_own() {
    let mut options = ApiOptions::default();
    options.roles_from_host = true;
    let mut service = Service::with(options);
    let upload = || request(Method::POST, UPLOAD, Some("token-a"));
    // Nobody is let in by a layer that was forgotten.
    let answer = service.send(request(Method::GET, STATUS, None)).await;
    answer.problem(401, "unauthorized");
    service.app = service.app.layer(axum::Extension(Role::Reader));
    let answer = service.send(request(Method::GET, STATUS, None)).await;
    assert_eq!(answer.status, 200);
    service.send(upload()).await.problem(403, "forbidden");
    service.app = service.app.layer(axum::Extension(Role::Uploader));
    // The inner layer has the last word.
    service.send(upload()).await.problem(403, "forbidden");
}

#[tokio::test]
async fn a_token_may_call_so_often_and_no_more() {
    let mut options = ApiOptions::default();
    options.tokens.reader = Some("token-r".into());
    options.tokens.admin = Some("token-a".into());
    options.requests_per_minute = std::num::NonZeroU32::new(3);
    let service = Service::with(options);
    let send = |token| service.send(request(Method::GET, STATUS, Some(token)));
    for _ in 0..3 {
        assert_eq!(send("token-r").await.status, 200);
    }
    let answer = send("token-r").await;
    answer.problem(429, "too-many-requests");
    let wait: u64 = answer.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=20).contains(&wait), "{wait}");
    assert_eq!(send("token-a").await.status, 200, "others go on");
    send("wrong").await.problem(401, "unauthorized");
    assert_eq!(service.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn other_schemes_are_no_tokens() {
    let service = guarded();
    for (header, status) in [
        ("bearer token-r", 200),
        ("BEARER  token-r", 200),
        ("Basic token-r", 401),
        ("token-r", 401),
        ("Bearer", 401),
    ] {
        let request = Request::get(STATUS).header("authorization", header);
        let answer = service.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, status, "{header}");
    }
}

#[tokio::test]
async fn without_tokens_a_token_that_is_sent_is_ignored() {
    let service = Service::new();
    let answer = service
        .send(request(Method::GET, STATUS, Some("anything")))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(service.get("/healthz").await.json()["status"], "ok");
}

#[tokio::test]
async fn a_store_that_is_away_is_a_503_that_tells_no_secrets() {
    let service = Service::over(Arc::new(Away), ApiOptions::default());
    let document = format!("{PREFIX}/documents/{}", DocumentId::new());
    let events = format!("{PREFIX}/events");
    for path in [STATUS, PROCESS, &document, &events, "/readyz", "/metrics"] {
        let answer = service.get(path).await;
        answer.problem(503, "unavailable");
        assert_eq!(answer.headers["retry-after"], "5");
        let text = String::from_utf8_lossy(&answer.bytes).into_owned();
        assert!(!text.contains("10.0.0.7"), "{text}");
    }
    let answer = service.upload(Form::new().file("a.pdf", "%PDF-")).await;
    let problem = answer.problem(503, "unavailable");
    assert_eq!(problem["documents"][0]["error"]["status"], 503);
    assert_eq!(service.get("/healthz").await.status, 200);
}

/// A store that does not answer.
#[derive(Debug)]
struct Away;

impl Library for Away {}

fn away<T>() -> Result<T> {
    Err(StoreError::Unavailable {
        store: "away",
        source: "10.0.0.7 refused".into(),
    })
}

#[async_trait]
impl Store for Away {
    async fn enqueue(&self, _: Vec<NewDocument>) -> Result<Vec<Enqueued>> {
        away()
    }
    async fn claim(&self, _: ClaimRequest) -> Result<Claims> {
        away()
    }
    async fn checkpoint(&self, _: Checkpoint) -> Result<Directive> {
        away()
    }
    async fn renew(&self, _: RenewRequest) -> Result<Vec<Directive>> {
        away()
    }
    async fn settle(&self, _: Vec<Settlement>) -> Result<Vec<Settled>> {
        away()
    }
    async fn depart(&self, _: WorkerId) -> Result<()> {
        away()
    }
    async fn control(&self, _: DocumentId, _: Control) -> Result<Document> {
        away()
    }
    async fn configure(&self, _: &QueueName, _: QueueSettings) -> Result<()> {
        away()
    }
    async fn reap(&self, _: CrashLimits, _: usize) -> Result<Vec<Reaped>> {
        away()
    }
    async fn purge(&self, _: usize) -> Result<usize> {
        away()
    }
    async fn document(&self, _: DocumentId) -> Result<Option<Document>> {
        away()
    }
    async fn documents(&self, _: DocumentQuery) -> Result<Vec<Document>> {
        away()
    }
    async fn pages(&self, _: OutputQuery) -> Result<Vec<Page>> {
        away()
    }
    async fn chunks(&self, _: OutputQuery) -> Result<Vec<Chunk>> {
        away()
    }
    async fn images(&self, _: OutputQuery) -> Result<Vec<Image>> {
        away()
    }
    async fn stats(&self, _: &QueueName) -> Result<QueueStats> {
        away()
    }
    async fn subscribe(&self) -> Result<Subscription> {
        away()
    }
}
