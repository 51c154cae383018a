//! Events of one server tell what another one does, on every store.
#![allow(clippy::unwrap_used)]

use kbqueue_tests::pdf::text_pdf;
use kbqueue_tests::server::{PATIENCE, Server, fresh_queue};
use serde_json::Value;

/// An open event stream.
struct Events {
    answer: reqwest::Response,
    text: String,
}

impl Events {
    async fn open(server: &Server, query: &str) -> Self {
        let answer = server
            .http
            .get(server.api(&format!("/events{query}")))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let text = String::new();
        Self { answer, text }
    }

    /// The next event's name and data.
    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let frame: String = self.text.drain(..end + 2).collect();
                let line = |name| frame.lines().find_map(|line| line.strip_prefix(name));
                if let Some(data) = line("data: ") {
                    let name = line("event: ").unwrap().to_owned();
                    return (name, serde_json::from_str(data).unwrap());
                }
                continue;
            }
            let more = tokio::time::timeout(PATIENCE, self.answer.chunk()).await;
            let more = more.expect("something happens").unwrap();
            self.text += std::str::from_utf8(&more.expect("the stream goes on")).unwrap();
        }
    }

    /// Reads until what was said comes to this, and says what that was.
    async fn until(&mut self, is: impl Fn(&str, &Value) -> bool) -> Value {
        loop {
            let (name, data) = self.next().await;
            if is(&name, &data) {
                return data;
            }
        }
    }
}

async fn one_shows_what_the_other_does(store: &str) {
    let directory = tempfile::tempdir().unwrap();
    let name = fresh_queue("live");
    let flags = ["--store", store, "--workers", "off", "--queue", &name];
    let shows = Server::start(directory.path(), &flags).await;
    let flags = ["--store", store, "--queue", &name];
    let works = Server::start(directory.path(), &flags).await;
    let mut queue = Events::open(&shows, "").await;
    let (name, first) = queue.next().await;
    assert_eq!(name, "snapshot");
    assert_eq!(first["queue"]["total"], 0);
    let id = works.upload("report.pdf", text_pdf(3)).await;
    let mut document = Events::open(&shows, &format!("?document_id={id}")).await;
    assert_eq!(document.next().await.0, "snapshot");
    // What a client makes of it: an event of the document, or counts in a snapshot.
    queue
        .until(|name, data| match name {
            "completed" => data["document_id"] == id.as_str(),
            "snapshot" | "queue" => data["queue"]["completed"] == 1,
            _ => false,
        })
        .await;
    let told = document
        .until(|_, data| data["status"] == "completed")
        .await;
    assert_eq!(told["document_id"], id.as_str());
    assert_eq!(told["progress_percent"], 100);
    // The server that shows it dies; another one begins with how things stand.
    shows.kill().await;
    let mut again = Events::open(&works, "").await;
    let (name, data) = again.next().await;
    assert_eq!(
        (name.as_str(), &data["queue"]["completed"]),
        ("snapshot", &1.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite() {
    one_shows_what_the_other_does("sqlite:kbqueue.db").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres() {
    one_shows_what_the_other_does(kbqueue_tests::postgres::shared()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_redis() {
    one_shows_what_the_other_does(kbqueue_tests::redis::shared()).await;
}
