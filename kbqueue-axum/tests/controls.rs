//! What people do to documents and queues.
#![allow(clippy::unwrap_used)]

mod support;

use axum::body::Body;
use axum::http::{Method, Request};
use kbqueue_core::DocumentId;
use serde_json::{Value, json};
use support::{Answer, Form, PREFIX, PROCESS, STATUS, Service, request};

async fn post(service: &Service, path: &str, body: Value) -> Answer {
    send(service, Method::POST, path, body).await
}

async fn send(service: &Service, method: Method, path: &str, body: Value) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(format!("{PREFIX}{path}"))
        .header("content-type", "application/json");
    service
        .send(request.body(body.to_string().into()).unwrap())
        .await
}

async fn bare(service: &Service, method: Method, path: &str) -> Answer {
    service
        .send(request(method, &format!("{PREFIX}{path}"), None))
        .await
}

#[tokio::test]
async fn documents_are_listed_page_by_page_and_by_state() {
    let service = Service::new();
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(service.add(&format!("%PDF- {number}")).await);
    }
    ids.reverse();
    let mut listed = Vec::new();
    let mut after = String::new();
    loop {
        let page = service
            .get(&format!("{PREFIX}/documents?limit=2{after}"))
            .await
            .json();
        let documents = page["documents"].as_array().unwrap();
        listed.extend(
            documents
                .iter()
                .map(|d| d["document_id"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(listed, ids, "newest first, each once");
    let cancelled = bare(
        &service,
        Method::POST,
        &format!("/documents/{}/cancel", ids[1]),
    )
    .await;
    assert_eq!(cancelled.json()["status"], "cancelled");
    let count = async |query: &str| {
        let page = service
            .get(&format!("{PREFIX}/documents?{query}"))
            .await
            .json();
        page["documents"].as_array().unwrap().len()
    };
    assert_eq!(count("state=cancelled").await, 1);
    assert_eq!(count("state=queued").await, 4);
    assert_eq!(count("queue=other").await, 0);
}

#[tokio::test]
async fn a_document_is_cancelled_retried_and_deleted() {
    let service = Service::new();
    let id = service.add("%PDF- broken").await;
    service.get(PROCESS).await;
    let retry = format!("/documents/{id}/retry");
    let answer = bare(&service, Method::POST, &retry).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["status"]),
        (200, &json!("queued"))
    );
    bare(&service, Method::POST, &retry)
        .await
        .problem(409, "conflict");
    service.get(PROCESS).await;
    let answer = post(&service, &retry, json!({"from_scratch": true})).await;
    assert_eq!(answer.json()["status"], "queued");
    let cancel = format!("/documents/{id}/cancel");
    assert_eq!(
        bare(&service, Method::POST, &cancel).await.json()["status"],
        "cancelled"
    );
    post(&service, &retry, json!({"from": 1}))
        .await
        .problem(422, "invalid-value");
    let other = format!("/documents/{id}?queue=other");
    bare(&service, Method::DELETE, &other)
        .await
        .problem(404, "not-found");
    let document = format!("/documents/{id}");
    let answer = bare(&service, Method::DELETE, &document).await;
    assert_eq!((answer.status.as_u16(), answer.bytes.len()), (204, 0));
    bare(&service, Method::DELETE, &document)
        .await
        .problem(404, "not-found");
    bare(&service, Method::GET, &document)
        .await
        .problem(404, "not-found");
    bare(&service, Method::POST, &retry)
        .await
        .problem(404, "not-found");
}

#[tokio::test]
async fn a_completed_document_is_cut_again() {
    let service = Service::new();
    let id = service.add("%PDF- one").await;
    let rechunk = format!("/documents/{id}/rechunk");
    let sizes = json!({"min_chars": 200, "max_chars": 400, "overlap_chars": 0});
    post(&service, &rechunk, sizes.clone())
        .await
        .problem(409, "conflict");
    service.get(PROCESS).await;
    let cancel = format!("/documents/{id}/cancel");
    let answer = bare(&service, Method::POST, &cancel).await;
    answer.problem(409, "conflict");
    let chunks = format!("{PREFIX}/documents/{id}/chunks");
    let before = service.get(&chunks).await.json()["chunks"]
        .as_array()
        .unwrap()
        .len();
    for (wrong, status, kind) in [
        (
            json!({"min_chars": 500, "max_chars": 400}),
            422,
            "invalid-value",
        ),
        (
            json!({"min_chars": -1, "max_chars": 400}),
            422,
            "invalid-value",
        ),
        (json!({"max_chars": 400}), 422, "invalid-value"),
        (json!([]), 422, "invalid-value"),
    ] {
        post(&service, &rechunk, wrong).await.problem(status, kind);
    }
    let document = post(&service, &rechunk, sizes).await.json();
    assert_eq!(document["status"], "queued");
    service.get(PROCESS).await;
    let after = service.get(&chunks).await.json()["chunks"]
        .as_array()
        .unwrap()
        .len();
    assert!(after > 2 * before, "{before} chunks, then {after}");
}

#[tokio::test]
async fn many_documents_at_once() {
    let service = Service::new();
    let ids = [service.add("%PDF- 1").await, service.add("%PDF- 2").await];
    let ids = json!([ids[0], ids[1], DocumentId::new()]);
    for (action, affected) in [
        ("retry", 0),
        ("cancel", 2),
        ("cancel", 2),
        ("retry", 2),
        ("delete", 2),
    ] {
        let answer = post(
            &service,
            "/documents/bulk",
            json!({"action": action, "ids": ids}),
        )
        .await;
        assert_eq!(
            answer.json(),
            json!({"affected": affected, "next": null}),
            "{action}"
        );
    }
    assert!(service.documents().await.is_empty());
    for wrong in [
        json!({"action": "purge", "ids": ids}),
        json!({"action": "retry", "ids": []}),
        json!({"action": "retry", "ids": ["x"]}),
        json!({"action": "retry"}),
        json!({"action": "retry", "ids": vec![DocumentId::new(); 1001]}),
    ] {
        post(&service, "/documents/bulk", wrong)
            .await
            .problem(422, "invalid-value");
    }
}

#[tokio::test]
async fn a_queue_is_paused_and_goes_on() {
    let service = Service::new();
    service.add("%PDF- one").await;
    assert_eq!(
        bare(&service, Method::GET, "/queue").await.json(),
        settings(false)
    );
    let answer = send(&service, Method::PUT, "/queue", json!({"paused": true})).await;
    assert_eq!(answer.json(), settings(true));
    assert_eq!(service.get(STATUS).await.json()["paused"], true);
    assert_eq!(service.get(PROCESS).await.json()["processed"], 0);
    send(
        &service,
        Method::PUT,
        "/queue?queue=other",
        json!({"paused": false}),
    )
    .await;
    assert_eq!(
        bare(&service, Method::GET, "/queue").await.json(),
        settings(true)
    );
    send(&service, Method::PUT, "/queue", json!({"paused": false})).await;
    assert_eq!(service.get(PROCESS).await.json()["processed"], 1);
    for wrong in [
        json!({"paused": 1}),
        json!({"max_queued": -1}),
        json!({"rate": {"documents": 0, "per_seconds": 1}}),
        json!({"rate": {"documents": 1}}),
        json!({"paused": true, "x": 1}),
    ] {
        send(&service, Method::PUT, "/queue", wrong)
            .await
            .problem(422, "invalid-value");
    }
}

/// Those of a queue without limits.
fn settings(paused: bool) -> Value {
    json!({
        "paused": paused, "rate": null, "max_processing": null, "max_processing_per_tenant": null,
        "max_queued": null,
    })
}

#[tokio::test]
async fn limits_are_set_one_by_one_and_taken_away() {
    let service = Service::new();
    let put = async |body: Value| send(&service, Method::PUT, "/queue", body).await.json();
    put(json!({"rate": {"documents": 100, "per_seconds": 3600}, "max_processing": 4})).await;
    let all = put(json!({"max_processing_per_tenant": 2, "max_queued": 1})).await;
    let expected = json!({
        "paused": false, "rate": {"documents": 100, "per_seconds": 3600, "burst": 1},
        "max_processing": 4, "max_processing_per_tenant": 2, "max_queued": 1,
    });
    assert_eq!(all, expected);
    assert_eq!(put(json!({})).await, expected, "what is left out stays");
    assert_eq!(bare(&service, Method::GET, "/queue").await.json(), expected);
    service.add("%PDF- one").await;
    let answer = service.upload(Form::new().file("b.pdf", "%PDF- two")).await;
    assert_eq!(answer.headers["retry-after"], "10");
    answer.problem(429, "queue-full");
    assert_eq!(service.files(1).await, 1, "nothing of it is kept");
    let none = json!({
        "rate": null, "max_processing": null, "max_processing_per_tenant": null, "max_queued": null,
    });
    assert_eq!(put(none).await, settings(false));
    service.add("%PDF- two").await;
}

#[tokio::test]
async fn what_is_said_of_a_document_is_changed() {
    let service = Service::new();
    let id = service.add("%PDF- one").await;
    let path = format!("/documents/{id}");
    let patch = async |body: Value| send(&service, Method::PATCH, &path, body).await;
    let later = "2030-01-01T00:00:00Z";
    let changed =
        patch(json!({"priority": -3, "metadata": {"a": [1]}, "available_at": later})).await;
    let changed = changed.json();
    assert_eq!(changed["priority"], -3);
    assert_eq!(changed["metadata"], json!({"a": [1]}));
    assert_eq!(changed["available_at"], later);
    assert_eq!(
        patch(json!({})).await.json()["priority"],
        -3,
        "what is left out stays"
    );
    for wrong in [
        json!({"priority": 40_000}),
        json!({"tenant": "b"}),
        json!({"available_at": "soon"}),
    ] {
        patch(wrong).await.problem(422, "invalid-value");
    }
    bare(&service, Method::POST, &format!("{path}/cancel")).await;
    assert_eq!(patch(json!({"priority": 5})).await.json()["priority"], 5);
    patch(json!({"available_at": later}))
        .await
        .problem(409, "conflict");
    send(
        &service,
        Method::PATCH,
        &format!("{path}?queue=other"),
        json!({}),
    )
    .await
    .problem(404, "not-found");
}

#[tokio::test]
async fn documents_are_listed_and_changed_by_tenant_and_name() {
    let service = Service::new();
    for (tenant, name) in [
        ("a", "report-1.pdf"),
        ("a", "x-ray.pdf"),
        ("b", "report-2.pdf"),
    ] {
        let form = Form::new()
            .field("tenant", tenant)
            .file(name, &format!("%PDF- {name}"));
        assert_eq!(service.upload(form).await.status, 200);
    }
    let names = async |query: &str| {
        let page = service
            .get(&format!("{PREFIX}/documents?{query}"))
            .await
            .json();
        let documents = page["documents"].as_array().unwrap().clone();
        let names = documents
            .iter()
            .map(|d| d["filename"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names("tenant=a").await, ["x-ray.pdf", "report-1.pdf"]);
    assert_eq!(names("name=report").await, ["report-2.pdf", "report-1.pdf"]);
    assert_eq!(names("name=report&tenant=b").await, ["report-2.pdf"]);
    assert_eq!(names("name=%25").await, [""; 0], "no wildcard");
    let bulk = async |body: Value| post(&service, "/documents/bulk", body).await;
    let filter = json!({"tenant": "a", "name": "report"});
    let answer = bulk(json!({"action": "cancel", "filter": filter}))
        .await
        .json();
    assert_eq!(answer, json!({"affected": 1, "next": null}));
    assert_eq!(names("state=cancelled").await, ["report-1.pdf"]);
    let newest = service.documents().await[0].id;
    let rest = json!({"action": "cancel", "filter": {"state": "queued"}, "after": newest});
    assert_eq!(bulk(rest).await.json()["affected"], 1, "all but the newest");
    assert_eq!(names("state=queued").await, ["report-2.pdf"]);
    let elsewhere = json!({"action": "delete", "filter": {}});
    let answer = post(&service, "/documents/bulk?queue=other", elsewhere).await;
    assert_eq!(answer.json()["affected"], 0);
    assert_eq!(
        bulk(json!({"action": "delete", "filter": {}})).await.json()["affected"],
        3
    );
    for wrong in [
        json!({"action": "delete", "filter": {"tennant": "a"}}),
        json!({"action": "delete", "filter": {}, "ids": [newest]}),
        json!({"action": "delete", "ids": [newest], "after": newest}),
    ] {
        bulk(wrong).await.problem(422, "invalid-value");
    }
}

#[tokio::test]
async fn bodies_are_json_and_say_so() {
    let service = Service::new();
    let id = service.add("%PDF- one").await;
    for (content_type, body, status, kind) in [
        (
            "text/plain",
            "{}".to_owned(),
            415,
            "unsupported-content-type",
        ),
        ("application/json", "{".to_owned(), 400, "malformed-request"),
        (
            "application/json",
            format!("\"{}\"", "x".repeat(300_000)),
            413,
            "too-large",
        ),
    ] {
        let request = Request::post(format!("{PREFIX}/documents/{id}/retry"));
        let request = request.header("content-type", content_type);
        let answer = service.send(request.body(Body::from(body)).unwrap()).await;
        answer.problem(status, kind);
    }
}

#[tokio::test]
async fn identical_content_is_one_document_unless_that_is_turned_off() {
    let mut options = kbqueue_axum::ApiOptions::default();
    options.dedupe_content = false;
    for (service, documents) in [(Service::new(), 1), (Service::with(options), 2)] {
        for _ in 0..2 {
            service.add("%PDF- the same").await;
        }
        assert_eq!(service.documents().await.len(), documents);
        for _ in 0..2 {
            let form = Form::new()
                .file("a.pdf", "%PDF- keyed")
                .header("idempotency-key", "k");
            assert_eq!(service.upload(form).await.status, 200);
        }
        assert_eq!(
            service.documents().await.len(),
            documents + 1,
            "a key holds all the same"
        );
    }
}
