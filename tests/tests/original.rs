//! The session of the original system's page, as its users typed it.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Stdio};

use kbqueue_tests::pdf::text_pdf;
use kbqueue_tests::server::Server;
use serde_json::Value;

/// The page's commands. What is replaced in them: host and port, token, file, and `while true`.
const SESSION: &str = r#"
curl -X POST http://127.0.0.1:8000/api/medical/knowledge/upload \
  -F "files=@medical.pdf" \
  -H "Authorization: Bearer <token>"

while true; do
  curl http://127.0.0.1:8000/api/medical/knowledge/queue-status
  sleep 2
done
"#;

fn session(server: &Server, token: &str, file: &str) -> Command {
    let script = SESSION
        .replace("http://127.0.0.1:8000", &server.url)
        .replace("<token>", token)
        .replace("medical.pdf", file)
        .replace("while true", "for _ in $(seq 60)");
    let mut command = Command::new("sh");
    command
        .args(["-c", &script])
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

#[tokio::test]
async fn the_curl_session_of_the_original_system_works_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("report.pdf"), text_pdf(5)).unwrap();
    let server = Server::start(directory.path(), &[]).await;
    let mut session = session(&server, "any-token", "report.pdf")
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = session.stdout.take().unwrap();
    let answers = tokio::task::spawn_blocking(move || {
        let mut answers: Vec<Value> = Vec::new();
        // What curl prints has no line feeds in between.
        for answer in serde_json::Deserializer::from_reader(stdout).into_iter() {
            answers.push(answer.unwrap());
            if answers.last().unwrap()["queue"]["completed"] == 1 {
                break;
            }
        }
        answers
    });
    let answers = answers.await.unwrap();
    session.kill().unwrap();
    session.wait().unwrap();

    let uploaded = &answers[0];
    assert_eq!(uploaded["status"], "success", "{uploaded}");
    assert!(uploaded["timestamp"].is_string());
    let document = &uploaded["documents"][0];
    assert_eq!(document["filename"], "report.pdf");
    assert!(
        document["document_id"].is_string() && document["chunks"].is_u64(),
        "{document}"
    );
    let last = answers.last().unwrap();
    assert_eq!(last["queue"]["completed"], 1, "{last}");
    assert_eq!(last["queue"]["total"], 1);
    assert_eq!(last["worker_status"], "running");
    assert_eq!(last["processor_config"]["batch_size"], 3);
    assert_eq!(last["processing_details"], serde_json::json!([]));
}

/// Cron, a Lambda and a person may all ask at once.
#[tokio::test]
async fn process_is_safe_to_call_from_everywhere_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(
        directory.path(),
        &["--workers", "on-request", "--check-interval", "1h"],
    )
    .await;
    let mut ids = Vec::new();
    for pages in 1..=6 {
        ids.push(server.upload("a.pdf", text_pdf(pages)).await);
    }
    let calls = (0..8).map(|number| {
        let url = format!("{}/api/queue/process", server.url);
        let call = if number % 2 == 0 {
            server.http.get(url)
        } else {
            server.http.post(url)
        };
        tokio::spawn(call.send())
    });
    let mut processed = 0;
    for call in calls.collect::<Vec<_>>() {
        let answer = call.await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["status"], "success");
        processed += answer["processed"].as_u64().unwrap();
    }
    // Those calls took a batch each, or found nothing left to take.
    while processed < 6 {
        let url = format!("{}/api/queue/process", server.url);
        let answer = server.http.post(url).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let more = answer["processed"].as_u64().unwrap();
        assert!(more > 0, "{processed} of 6 documents, and then {answer}");
        processed += more;
    }
    assert_eq!(processed, 6, "each once");
    for id in &ids {
        let document = server.get(&format!("/documents/{id}")).await;
        assert_eq!(document["status"], "completed", "{document}");
        assert_eq!(
            document["attempts"].as_array().unwrap().len(),
            1,
            "{document}"
        );
    }
}

/// Whatever page a browser on the server's machine shows, and whatever name it gives the server.
#[tokio::test]
async fn without_tokens_web_pages_of_others_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--workers", "off"]).await;
    let upload = |headers: &[(&str, &str)]| {
        let part = reqwest::multipart::Part::bytes(text_pdf(1)).file_name("a.pdf");
        let form = reqwest::multipart::Form::new().part("files", part);
        let mut call = server.http.post(server.api("/upload")).multipart(form);
        for (name, value) in headers {
            call = call.header(*name, *value);
        }
        call.send()
    };
    let rebound = [("Host", "evil.example"), ("Origin", "http://evil.example")];
    for (foreign, status) in [
        (&[("Sec-Fetch-Site", "cross-site")][..], 403),
        (&[("Origin", "http://evil.example")], 403),
        (&[("Origin", "null")], 403),
        (&rebound, 421),
    ] {
        let answer = upload(foreign).await.unwrap();
        assert_eq!(answer.status(), status, "{foreign:?}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    assert_eq!(server.get("/queue-status").await["queue"]["total"], 0);
    // What comes from its own pages, or from no browser, is let through.
    let own = server.url.as_str();
    for local in [&[("Origin", own)][..], &[("Sec-Fetch-Site", "none")], &[]] {
        assert_eq!(upload(local).await.unwrap().status(), 200, "{local:?}");
    }
    let port = server.url.rsplit_once(':').unwrap().1;
    let by_name = server.http.get(server.api("/queue-status"));
    let by_name = by_name.header("Host", format!("localhost:{port}"));
    assert_eq!(by_name.send().await.unwrap().status(), 200);
}
