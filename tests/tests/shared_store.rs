//! Two servers on one store share its work.
#![allow(clippy::unwrap_used)]

use kbqueue_tests::pdf::text_pdf;
use kbqueue_tests::server::{Server, fresh_queue};
use serde_json::Value;

const DOCUMENTS: u32 = 1000;
/// Files that go in with one request.
const AT_ONCE: u32 = 50;

/// REGRESSIONS 6: both call their worker alike, and are told apart.
async fn two_servers_share_the_work_on(store: &str) {
    let directory = tempfile::tempdir().unwrap();
    let queue = fresh_queue("shared");
    let flags = ["--store", store, "--concurrency", "4", "--queue", &queue];
    let servers = [
        Server::start(directory.path(), &flags).await,
        Server::start(directory.path(), &flags).await,
    ];
    let mut ids = Vec::new();
    for first in (0..DOCUMENTS).step_by(AT_ONCE as usize) {
        let mut form = reqwest::multipart::Form::new();
        for number in first..first + AT_ONCE {
            // Each of its own, so that none is taken for another.
            let mut bytes = text_pdf(1);
            bytes.extend_from_slice(format!("% {number}\n").as_bytes());
            let part = reqwest::multipart::Part::bytes(bytes).file_name("one.pdf");
            form = form.part("files", part);
        }
        let server = &servers[usize::try_from(first / AT_ONCE).unwrap() % 2];
        let request = server.http.post(server.api("/upload")).multipart(form);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        for document in answer["documents"].as_array().unwrap() {
            ids.push(document["document_id"].as_str().unwrap().to_owned());
        }
    }
    let started = std::time::Instant::now();
    loop {
        let queue = servers[0].get("/queue-status").await["queue"].clone();
        assert_eq!(queue["failed"], 0);
        if queue["completed"] == DOCUMENTS {
            break;
        }
        assert!(
            started.elapsed() < kbqueue_tests::server::PATIENCE,
            "{queue}"
        );
    }
    let mut workers = std::collections::BTreeSet::new();
    for id in &ids {
        let document = servers[1].get(&format!("/documents/{id}")).await;
        let attempts = document["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 1, "{document}");
        assert_eq!(attempts[0]["outcome"], "completed");
        workers.insert(attempts[0]["worker"].as_str().unwrap().to_owned());
    }
    assert_eq!(workers.len(), 2, "both worked: {workers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres() {
    let server = kbqueue_tests::postgres::shared();
    two_servers_share_the_work_on(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_redis() {
    two_servers_share_the_work_on(kbqueue_tests::redis::shared()).await;
}
