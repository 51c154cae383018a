//! What a real server answers to input that is wrong, and that nothing of it stays.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use kbqueue_tests::pdf::{text_pdf, write_pdf};
use kbqueue_tests::server::Server;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn send(server: &Server, files: Vec<(&str, Vec<u8>)>) -> (u16, Value) {
    let mut form = Form::new();
    for (name, bytes) in files {
        form = form.part("files", Part::bytes(bytes).file_name(name.to_owned()));
    }
    let request = server.http.post(server.api("/upload")).multipart(form);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// All files below a directory.
fn files(directory: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { files(&path) } else { 1 })
        .sum()
}

async fn counts(server: &Server) -> Value {
    server.get("/queue-status").await["queue"].clone()
}

#[tokio::test]
async fn what_is_no_pdf_is_refused_and_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--workers", "off"]).await;
    for (name, bytes) in [
        ("empty.pdf", Vec::new()),
        ("notes.pdf", b"Dear diary, ...".to_vec()),
    ] {
        let (status, problem) = send(&server, vec![(name, bytes)]).await;
        assert_eq!(
            (status, &problem["status"]),
            (415, &json!(415)),
            "{problem}"
        );
        assert!(
            problem["type"]
                .as_str()
                .unwrap()
                .starts_with("urn:kbqueue:problem:"),
            "{problem}"
        );
        assert!(
            problem.to_string().contains(name),
            "the file is named: {problem}"
        );
    }
    // Beside a good one, the bad one answers for itself.
    let (status, answer) = send(
        &server,
        vec![("empty.pdf", Vec::new()), ("good.pdf", text_pdf(1))],
    )
    .await;
    assert_eq!(status, 200);
    assert_eq!(answer["documents"][0]["error"]["status"], 415, "{answer}");
    assert_eq!(answer["documents"][1]["status"], "queued", "{answer}");
    assert_eq!(counts(&server).await["total"], 1);
    assert_eq!(files(&directory.path().join("blobs")), 1);
}

#[tokio::test]
async fn a_truncated_pdf_fails_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]).await;
    let mut pdf = text_pdf(3);
    // Before its first page, so that there is nothing to repair.
    pdf.truncate(20);
    let id = server.upload("stump.pdf", pdf).await;
    let document = server
        .wait_for(&id, |document| document["status"] == "failed")
        .await;
    let error = document["error_message"].as_str().unwrap();
    assert!(error.contains("damaged"), "{error}");
    assert_eq!(document["retry_count"], 0, "no try can help");
    assert!(server.chunks(&id).await.is_empty());
}

#[tokio::test]
async fn what_is_left_of_a_truncated_pdf_is_read_and_it_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]).await;
    let mut pdf = text_pdf(3);
    pdf.truncate(pdf.len() / 2);
    let id = server.upload("half.pdf", pdf).await;
    let document = server
        .wait_for(&id, |document| document["status"] == "completed")
        .await;
    assert_eq!(document["repaired"], true);
    let pages = document["total_pages"].as_u64().unwrap();
    assert!((1..3).contains(&pages), "{pages} pages of half a file of 3");
    let first = server.chunks(&id).await[0].clone();
    let text = first["text"].as_str().unwrap();
    assert!(text.starts_with("Page 1, line 1:"), "{text}");
}

#[tokio::test]
async fn the_same_upload_twice_is_one_document() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]).await;
    let first = server.upload("a.pdf", text_pdf(2)).await;
    server
        .wait_for(&first, |document| document["status"] == "completed")
        .await;
    let (status, answer) = send(&server, vec![("b.pdf", text_pdf(2))]).await;
    assert_eq!(status, 200);
    let document = &answer["documents"][0];
    assert_eq!(document["document_id"], first.as_str());
    assert_eq!(document["status"], "completed");
    assert_eq!(document["chunks"], server.chunks(&first).await.len());
    assert_eq!(counts(&server).await["total"], 1);
}

#[tokio::test]
async fn a_file_name_leads_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--workers", "off"]).await;
    // Clients encode the line feeds of a name; one that does not has broken its own header.
    let (status, problem) = send(&server, vec![("two\r\nlines.pdf", text_pdf(2))]).await;
    assert_eq!(
        (status, &problem["status"]),
        (400, &json!(400)),
        "{problem}"
    );
    let id = server
        .upload("../../../etc/pass%0D%0Awd.pdf", text_pdf(1))
        .await;
    let document = server.get(&format!("/documents/{id}")).await;
    assert_eq!(document["filename"], "pass%0D%0Awd.pdf");
    assert_eq!(counts(&server).await["total"], 1);
    assert_eq!(files(&directory.path().join("blobs")), 1);
}

#[tokio::test]
async fn tokens_are_asked_for_where_there_are_any() {
    let directory = tempfile::tempdir().unwrap();
    let flags = [
        "--workers",
        "off",
        "--admin-token",
        "secret-a",
        "--reader-token",
        "secret-r",
    ];
    let server = Server::start(directory.path(), &flags).await;
    for (token, read, write) in [
        (None, 401, 401),
        (Some("secret"), 401, 401),
        (Some("secret-r"), 200, 403),
        (Some("secret-a"), 200, 200),
    ] {
        let with_token = |request: reqwest::RequestBuilder| match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let status = with_token(server.http.get(server.api("/queue-status")))
            .send()
            .await
            .unwrap();
        assert_eq!(status.status(), read, "{token:?} reads");
        let form = Form::new().part("files", Part::bytes(text_pdf(1)).file_name("a.pdf"));
        let upload = server.http.post(server.api("/upload")).multipart(form);
        let upload = with_token(upload).send().await.unwrap();
        assert_eq!(upload.status(), write, "{token:?} uploads");
        if write != 200 {
            let kind = upload.headers()["content-type"]
                .to_str()
                .unwrap()
                .to_owned();
            assert_eq!(kind, "application/problem+json");
            assert_eq!(upload.json::<Value>().await.unwrap()["status"], write);
        }
    }
    let health = server
        .http
        .get(format!("{}/healthz", server.url))
        .send()
        .await
        .unwrap();
    assert_eq!(health.status(), 200, "liveness needs no token");
}

#[tokio::test]
async fn ten_gigabytes_are_refused_before_they_come() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--workers", "off"]).await;
    let mut socket = tokio::net::TcpStream::connect(server.url.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    let head = "POST /api/medical/knowledge/upload HTTP/1.1\r\nHost: localhost\r\n\
                Content-Length: 10000000000\r\nContent-Type: multipart/form-data; boundary=x\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert_eq!(files(&directory.path().join("blobs")), 0);
    assert_eq!(counts(&server).await["total"], 0);
}

/// A body cut off half-way: the connection ends in the middle of a file.
#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--workers", "off"]).await;
    let mut socket = tokio::net::TcpStream::connect(server.url.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    let mut pdf = Vec::new();
    write_pdf(&mut pdf, 2, 1_000_000).unwrap();
    let head = format!(
        "POST /api/medical/knowledge/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\
         Content-Type: multipart/form-data; boundary=cut\r\n\r\n\
         --cut\r\nContent-Disposition: form-data; name=\"files\"; filename=\"cut.pdf\"\r\n\r\n",
        pdf.len() + 1000
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&pdf[..pdf.len() / 2]).await.unwrap();
    let blobs = directory.path().join("blobs");
    let patience = std::time::Instant::now();
    while files(&blobs) == 0 {
        assert!(
            patience.elapsed() < kbqueue_tests::server::PATIENCE,
            "the upload never began"
        );
        tokio::task::yield_now().await;
    }
    socket.shutdown().await.unwrap();
    // The server may answer before it hangs up, or just hang up.
    let mut answer = String::new();
    let _ = socket.read_to_string(&mut answer).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
        "{answer}"
    );
    while files(&blobs) > 0 {
        assert!(
            patience.elapsed() < kbqueue_tests::server::PATIENCE,
            "a piece of it stayed"
        );
        tokio::task::yield_now().await;
    }
    assert_eq!(counts(&server).await["total"], 0);
}
