//! What uploads answer, and what they leave behind.
#![allow(clippy::unwrap_used)]

mod support;

use axum::body::Body;
use axum::http::Request;
use kbqueue_axum::ApiOptions;
use kbqueue_core::QueueName;
use serde_json::{Value, json};
use support::{Form, Service, UPLOAD};

const PDF: &str = "%PDF-1.7 some bytes";

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[tokio::test]
async fn a_file_is_taken_as_the_original_system_did() {
    let service = Service::new();
    let answer = service.upload(Form::new().file("medical.pdf", PDF)).await;
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    assert_eq!(keys(&answer), ["documents", "status", "timestamp"]);
    assert_eq!(answer["status"], "success");
    let document = &answer["documents"][0];
    assert_eq!(
        keys(document),
        ["chunks", "created", "document_id", "filename", "status"]
    );
    assert_eq!(document["filename"], "medical.pdf");
    assert_eq!(document["status"], "queued");
    assert_eq!(document["chunks"], 0);
    assert!(answer["timestamp"].as_str().unwrap().ends_with('Z'));
    let documents = service.documents().await;
    assert_eq!(document["document_id"], documents[0].id.to_string());
    assert_eq!(documents[0].blob.size_bytes, PDF.len() as u64);
}

#[tokio::test]
async fn the_mark_of_a_pdf_may_come_late_but_not_too_late() {
    let service = Service::new();
    let late = format!("{}%PDF-1.4", " ".repeat(1024 - 5));
    let answer = service.upload(Form::new().file("late.pdf", &late)).await;
    assert_eq!(answer.status, 200);
    let too_late = format!("{}%PDF-1.4", " ".repeat(1024 - 4));
    let answer = service
        .upload(Form::new().file("too-late.pdf", &too_late))
        .await;
    answer.problem(415, "unsupported-document");
}

#[tokio::test]
async fn the_same_file_twice_is_one_document() {
    let service = Service::new();
    let first = service.upload(Form::new().file("a.pdf", PDF)).await.json();
    service.get(support::PROCESS).await;
    let second = service.upload(Form::new().file("b.pdf", PDF)).await.json();
    let (first, second) = (&first["documents"][0], &second["documents"][0]);
    assert_eq!(first["document_id"], second["document_id"]);
    assert_eq!(
        (&first["created"], &second["created"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(second["filename"], "b.pdf");
    assert_eq!(second["status"], "completed");
    assert!(second["chunks"].as_u64().unwrap() > 0);
    assert_eq!(service.documents().await.len(), 1);
    assert_eq!(service.files(1).await, 1);
}

#[tokio::test]
async fn each_file_answers_for_itself() {
    let service = Service::new();
    let form = Form::new()
        .file("a.pdf", PDF)
        .file("notes.pdf", "just text")
        .file("empty.pdf", "")
        .file("b.pdf", "%PDF-1.7 other bytes");
    let answer = service.upload(form).await;
    assert_eq!(answer.status, 200);
    let documents = &answer.json()["documents"];
    assert_eq!(documents[0]["status"], "queued");
    assert_eq!(keys(&documents[1]), ["error", "filename"]);
    assert_eq!(
        keys(&documents[1]["error"]),
        ["detail", "status", "title", "type"]
    );
    assert_eq!(documents[1]["error"]["status"], 415);
    assert_eq!(
        documents[1]["error"]["type"],
        "urn:kbqueue:problem:unsupported-document"
    );
    assert_eq!(
        documents[2]["error"]["type"],
        "urn:kbqueue:problem:empty-file"
    );
    assert_eq!(documents[3]["filename"], "b.pdf");
    assert_eq!(service.documents().await.len(), 2);
    assert_eq!(service.files(2).await, 2);
}

#[tokio::test]
async fn where_no_file_is_taken_the_answer_is_a_problem() {
    let service = Service::new();
    let problem = service
        .upload(Form::new().file("e.pdf", ""))
        .await
        .problem(415, "empty-file");
    assert_eq!(problem["documents"][0]["filename"], "e.pdf");
    let text = service.upload(Form::new().file("t.pdf", "text")).await;
    text.problem(415, "unsupported-document");
    assert!(service.documents().await.is_empty());
    assert_eq!(service.files(0).await, 0);
}

#[tokio::test]
async fn a_file_over_the_limit_is_refused_and_the_next_one_is_taken() {
    let mut options = ApiOptions::default();
    options.max_upload_bytes = 100_000;
    let service = Service::with(options);
    let large = format!("%PDF-{}", "x".repeat(100_000));
    let answer = service.upload(Form::new().file("large.pdf", &large)).await;
    answer.problem(413, "too-large");
    assert_eq!(service.files(0).await, 0);
    let form = Form::new().file("large.pdf", &large).file("small.pdf", PDF);
    let answer = service.upload(form).await.json();
    assert_eq!(answer["documents"][0]["error"]["status"], 413);
    assert_eq!(answer["documents"][1]["status"], "queued");
    let just = format!("%PDF-{}", "x".repeat(100_000 - 5));
    assert_eq!(
        service
            .upload(Form::new().file("just.pdf", &just))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn names_cannot_lead_anywhere() {
    let service = Service::new();
    for (given, kept) in [
        ("../../etc/passwd.pdf", "passwd.pdf"),
        ("..\\\\..\\\\evil.pdf", "evil.pdf"),
        ("two%0D%0Alines.pdf", "two%0D%0Alines.pdf"),
        ("", "unnamed"),
    ] {
        let form = Form::new().file(given, &format!("{PDF} of {given}"));
        let answer = service.upload(form).await;
        assert_eq!(answer.status, 200, "{given:?}: {:?}", answer.bytes);
        assert_eq!(answer.json()["documents"][0]["filename"], kept, "{given:?}");
    }
}

#[tokio::test]
async fn a_name_with_a_line_break_is_a_malformed_header() {
    let service = Service::new();
    for name in ["two\nlines.pdf", "two\r\nlines.pdf"] {
        let answer = service.upload(Form::new().file(name, PDF)).await;
        assert!(
            answer.status.is_client_error(),
            "{name:?}: {}",
            answer.status
        );
    }
    assert!(service.documents().await.is_empty());
}

#[tokio::test]
async fn form_fields_go_with_the_files_behind_them() {
    let service = Service::new();
    let form = Form::new()
        .field("tenant", "clinic")
        .field("priority", "-7")
        .field("metadata", r#"{"case": 12}"#)
        .field("available_at", "2099-01-01T00:00:00+01:00")
        .file("a.pdf", PDF);
    let id = service.upload(form).await.json()["documents"][0]["document_id"].clone();
    let path = format!("{}/documents/{}", support::PREFIX, id.as_str().unwrap());
    let document = service.get(&path).await.json();
    assert_eq!(document["tenant"], "clinic");
    assert_eq!(document["priority"], -7);
    assert_eq!(document["metadata"], json!({"case": 12}));
    assert_eq!(document["available_at"], "2098-12-31T23:00:00Z");
}

#[tokio::test]
async fn wrong_form_fields_are_named() {
    let service = Service::new();
    for (name, value) in [
        ("tenant", ""),
        ("priority", "high"),
        ("priority", "40000"),
        ("metadata", "{"),
        ("available_at", "tomorrow"),
        ("password", "secret"), // and no key to seal it with
        ("file", PDF),
        ("colour", "blue"),
    ] {
        let answer = service
            .upload(Form::new().field(name, value).file("a.pdf", PDF))
            .await;
        let problem = answer.problem(422, "invalid-value");
        assert!(
            problem["detail"].as_str().unwrap().contains(name),
            "{problem}"
        );
    }
    let answer = service
        .upload(Form::new().field("metadata", &" ".repeat(70_000)))
        .await;
    answer.problem(413, "too-large");
    service
        .upload(Form::new())
        .await
        .problem(422, "invalid-value");
    assert!(service.documents().await.is_empty());
    // Too late for the file before it, which stays taken and is named.
    let late = Form::new().file("a.pdf", PDF).field("priority", "1");
    let problem = service.upload(late).await.problem(422, "invalid-value");
    assert_eq!(problem["documents"][0]["status"], "queued");
}

#[tokio::test]
async fn an_idempotency_key_stands_for_one_request() {
    let service = Service::new();
    let form = |second: &str| {
        Form::new()
            .header("idempotency-key", "k1")
            .file("a.pdf", PDF)
            .file("b.pdf", second)
    };
    let first = service.upload(form("%PDF- second")).await.json();
    let again = service.upload(form("%PDF- second")).await.json();
    for file in [0, 1] {
        let id = |answer: &Value| answer["documents"][file]["document_id"].clone();
        assert_eq!(id(&first), id(&again));
    }
    assert_ne!(
        first["documents"][0]["document_id"],
        first["documents"][1]["document_id"]
    );
    let other = service.upload(form("%PDF- something else")).await.json();
    assert_eq!(other["documents"][1]["error"]["status"], 422);
    let kind = "urn:kbqueue:problem:idempotency-key-reused";
    assert_eq!(other["documents"][1]["error"]["type"], kind);
    assert_eq!(service.documents().await.len(), 2);
    let long = Form::new()
        .header("idempotency-key", &"k".repeat(256))
        .file("a.pdf", PDF);
    service.upload(long).await.problem(422, "invalid-value");
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_nothing_of_its_file() {
    let service = Service::new();
    let long = format!("%PDF-1.7 {}", "x".repeat(1_000_000));
    let form = Form::new().file("half.pdf", &long);
    service
        .send(form.cut_off_request(UPLOAD))
        .await
        .problem(400, "malformed-request");
    assert!(service.documents().await.is_empty());
    assert_eq!(service.files(0).await, 0);

    let form = Form::new().file("whole.pdf", PDF).file("half.pdf", &long);
    let answer = service.send(form.cut_off_request(UPLOAD)).await;
    let problem = answer.problem(400, "malformed-request");
    assert_eq!(problem["documents"][0]["filename"], "whole.pdf");
    assert_eq!(service.documents().await.len(), 1);
    assert_eq!(service.files(1).await, 1);
}

#[tokio::test]
async fn what_is_no_multipart_is_refused() {
    let service = Service::new();
    let send = |content_type: Option<&'static str>, body: &'static str| {
        let mut request = Request::post(UPLOAD);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        service.send(request.body(Body::from(body)).unwrap())
    };
    send(None, PDF)
        .await
        .problem(415, "unsupported-content-type");
    send(Some("application/pdf"), PDF)
        .await
        .problem(415, "unsupported-content-type");
    send(Some("multipart/form-data"), "x")
        .await
        .problem(400, "malformed-request");
    let boundary = Some("multipart/form-data; boundary=b");
    send(boundary, "no boundary here")
        .await
        .problem(400, "malformed-request");
    send(boundary, "").await.problem(400, "malformed-request");
}

#[tokio::test]
async fn a_queue_can_be_named() {
    let service = Service::new();
    let request = Form::new()
        .file("a.pdf", PDF)
        .request(&format!("{UPLOAD}?queue=slow"));
    assert_eq!(service.send(request).await.status, 200);
    assert_eq!(
        service.documents().await[0].queue,
        QueueName::new("slow").unwrap()
    );
    for wrong in ["queue=no%20queue", "queue=", "que=slow"] {
        let request = Form::new()
            .file("a.pdf", PDF)
            .request(&format!("{UPLOAD}?{wrong}"));
        service
            .send(request)
            .await
            .problem(400, "malformed-request");
    }
}
