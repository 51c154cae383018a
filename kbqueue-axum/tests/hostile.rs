//! Uploads that are too slow, too large or too many, and requests that look for a way in.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use bytes::Bytes;
use futures::{StreamExt, stream};
use kbqueue_axum::ApiOptions;
use kbqueue_core::DocumentId;
use support::{BOUNDARY, Form, PREFIX, PROCESS, Service, UPLOAD, request};

/// A file's beginning, and then whatever `rest` brings.
fn upload(rest: impl futures::Stream<Item = Bytes> + Send + 'static) -> Request<Body> {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"files\"; filename=\"a.pdf\"\r\n\r\n%PDF-{}",
        "x".repeat(100_000)
    );
    let body = stream::once(async { Bytes::from(head) }).chain(rest);
    Request::post(UPLOAD)
        .header(
            "content-type",
            format!("multipart/form-data; boundary={BOUNDARY}"),
        )
        .body(Body::from_stream(body.map(Ok::<_, std::io::Error>)))
        .unwrap()
}

/// An upload that comes 64 KiB at a time.
async fn in_pieces(form: Form, pause: Duration) -> Request<Body> {
    let (parts, body) = form.request(UPLOAD).into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let pieces: Vec<Bytes> = bytes
        .chunks(64 * 1024)
        .map(Bytes::copy_from_slice)
        .collect();
    let pieces = stream::iter(pieces).then(move |piece| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, std::io::Error>(piece)
    });
    Request::from_parts(parts, Body::from_stream(pieces))
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_stalls_is_given_up() {
    let service = Service::new();
    let began = tokio::time::Instant::now();
    let answer = service.send(upload(stream::pending())).await;
    answer.problem(408, "too-slow");
    assert!(began.elapsed() < Duration::from_secs(40));
    assert_eq!(service.files(0).await, 0);
    assert!(service.documents().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_trickles_is_given_up() {
    let service = Service::new();
    let trickle = stream::repeat(Bytes::from_static(b"x")).then(async |byte| {
        tokio::time::sleep(Duration::from_secs(5)).await;
        byte
    });
    service.send(upload(trickle)).await.problem(408, "too-slow");
    assert_eq!(service.files(0).await, 0);
}

/// Longer than an upload may go without bringing anything, and never without.
#[tokio::test(start_paused = true)]
async fn a_large_file_that_is_refused_does_not_hold_up_the_next() {
    let service = Service::new();
    let form = Form::new().file("large.pdf", &"no".repeat(2_000_000));
    let form = form.file("good.pdf", "%PDF- good");
    let request = in_pieces(form, Duration::from_secs(2)).await;
    let answer = service.send(request).await;
    assert_eq!(answer.status, 200, "{:?}", answer.bytes);
    let documents = answer.json()["documents"].clone();
    assert_eq!(documents[0]["error"]["status"], 415, "{documents}");
    assert_eq!(documents[1]["status"], "queued", "{documents}");
}

#[tokio::test]
async fn what_is_refused_counts_toward_the_length_of_the_whole() {
    let mut options = ApiOptions::default();
    options.max_request_bytes = 100_000;
    let service = Service::with(options);
    let form = Form::new().file("large.pdf", &"no".repeat(100_000));
    let form = form.file("good.pdf", "%PDF- good");
    let request = in_pieces(form, Duration::ZERO).await;
    service.send(request).await.problem(413, "too-large");
}

#[tokio::test]
async fn a_length_that_is_too_large_is_refused_unread() {
    let service = Service::new();
    let mut request = upload(stream::pending());
    let length = "10000000000".parse().unwrap();
    request.headers_mut().insert("content-length", length);
    service.send(request).await.problem(413, "too-large");
}

#[tokio::test]
async fn files_are_limited_one_by_one_together_and_in_number() {
    let mut options = ApiOptions::default();
    options.max_upload_bytes = 2_000;
    options.max_request_bytes = 5_000;
    options.max_files = 4;
    let service = Service::with(options);
    let file = |bytes: usize| format!("%PDF-{}", "x".repeat(bytes));
    let mut form = Form::new();
    for size in [1_000, 3_000, 10] {
        form = form.file("a.pdf", &file(size));
    }
    let answer = service.upload(form).await;
    assert_eq!(answer.status, 200);
    let documents = answer.json()["documents"].clone();
    assert_eq!(documents[1]["error"]["status"], 413, "{documents}");
    assert_eq!(documents[2]["status"], "queued");
    let mut form = Form::new();
    for size in [1_801, 1_802, 1_803] {
        form = form.file("a.pdf", &file(size));
    }
    let problem = service.upload(form).await.problem(413, "too-large");
    assert_eq!(
        problem["documents"].as_array().unwrap().len(),
        2,
        "what came before stays"
    );
    let mut form = Form::new();
    for size in 20..25 {
        form = form.file("a.pdf", &file(size));
    }
    service.upload(form).await.problem(413, "too-large");
    assert_eq!(service.documents().await.len(), 2 + 2 + 4);
    assert_eq!(service.files(8).await, 8);
}

#[tokio::test]
async fn what_is_no_form_is_refused() {
    let service = Service::new();
    for (content_type, body, status, kind) in [
        ("application/pdf", "%PDF-", 415, "unsupported-content-type"),
        ("text/plain", "files", 415, "unsupported-content-type"),
        ("multipart/form-data", "--x--", 400, "malformed-request"),
        (
            "multipart/form-data; boundary=x",
            "no form",
            400,
            "malformed-request",
        ),
        (
            "multipart/form-data; boundary=x",
            "--x\r\nbroken\r\n\r\n",
            400,
            "malformed-request",
        ),
        (
            "multipart/form-data; boundary=x",
            "--x--\r\n",
            422,
            "invalid-value",
        ),
    ] {
        let request = Request::post(UPLOAD).header("content-type", content_type);
        let answer = service.send(request.body(body.into()).unwrap()).await;
        answer.problem(status, kind);
    }
    assert_eq!(service.files(0).await, 0);
}

#[tokio::test]
async fn what_looks_for_a_way_in_finds_none() {
    let service = Service::new();
    let id = service.add("%PDF- one").await;
    let unknown = DocumentId::new();
    for (path, status, kind) in [
        (format!("documents/{unknown}"), 404, "not-found"),
        (format!("documents/{unknown}/pages"), 404, "not-found"),
        (format!("documents/{unknown}/images"), 404, "not-found"),
        (format!("documents/{unknown}/images/0"), 404, "not-found"),
        (format!("documents/{unknown}/source"), 404, "not-found"),
        (format!("documents/{id}/images/0"), 404, "not-found"),
        (
            format!("documents/{id}/images/-1"),
            400,
            "malformed-request",
        ),
        (
            format!("documents/{id}/images/4294967296"),
            400,
            "malformed-request",
        ),
        ("documents/1".to_owned(), 400, "malformed-request"),
        (
            "documents/..%2f..%2fetc%2fpasswd".to_owned(),
            400,
            "malformed-request",
        ),
        (format!("documents/{id}/source/../../x"), 404, "not-found"),
        ("documents?limit=0".to_owned(), 422, "invalid-value"),
        ("documents?limit=501".to_owned(), 422, "invalid-value"),
        (
            "documents?limit=99999999999999999999".to_owned(),
            400,
            "malformed-request",
        ),
        ("documents?limit=-1".to_owned(), 400, "malformed-request"),
        ("documents?after=1".to_owned(), 400, "malformed-request"),
        (
            "documents?state=queued'%20OR%201=1--".to_owned(),
            400,
            "malformed-request",
        ),
        (
            "documents?queue=a';DROP%20TABLE%20documents--".to_owned(),
            400,
            "malformed-request",
        ),
        ("documents?order=name".to_owned(), 400, "malformed-request"),
        (
            format!("documents/{id}/chunks?after=99999999999"),
            400,
            "malformed-request",
        ),
        (
            format!("documents/{id}/pages?limit=1000000"),
            422,
            "invalid-value",
        ),
    ] {
        service
            .get(&format!("{PREFIX}/{path}"))
            .await
            .problem(status, kind);
    }
    let last = format!("{PREFIX}/documents/{id}/chunks?after=4294967295");
    assert_eq!(
        service.get(&last).await.json()["chunks"],
        serde_json::json!([])
    );
    assert_eq!(service.documents().await.len(), 1);
}

#[tokio::test]
async fn looking_at_process_starts_nothing() {
    let service = Service::new();
    service.add("%PDF- one").await;
    let answer = service.send(request(Method::HEAD, PROCESS, None)).await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.headers["allow"], "GET,POST");
    let documents = service.documents().await;
    assert_eq!(documents[0].lifecycle.attempt, 0);
}
