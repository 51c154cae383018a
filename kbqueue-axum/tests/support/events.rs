//! A client of event streams.

use std::collections::VecDeque;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::http::Request;
use futures::StreamExt;
use serde_json::Value;
use tower::ServiceExt;

/// An open stream.
pub struct Events {
    body: BodyDataStream,
    text: String,
    read: VecDeque<(String, Value)>,
}

impl Events {
    /// Opens a stream.
    pub async fn open(app: &Router, uri: &str) -> Self {
        let request = Request::get(uri).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200, "{uri}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            body: response.into_body().into_data_stream(),
            text: String::new(),
            read: VecDeque::new(),
        }
    }

    /// The next event's name and data; `None` at the end of the stream. Comments are passed over.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(event) = self.read.pop_front() {
                return Some(event);
            }
            let more = tokio::time::timeout(Duration::from_secs(60), self.body.next());
            let more = more.await.expect("something happens")?.unwrap();
            self.text += std::str::from_utf8(&more).unwrap();
            while let Some(end) = self.text.find("\n\n") {
                let frame: String = self.text.drain(..end + 2).collect();
                let line = |name: &str| {
                    let mut lines = frame.lines();
                    lines.find_map(|line| line.strip_prefix(name).map(str::to_owned))
                };
                if let Some(data) = line("data: ") {
                    let data = serde_json::from_str(&data).unwrap();
                    self.read.push_back((line("event: ").unwrap(), data));
                }
            }
        }
    }

    /// The next event of this name.
    pub async fn wait_for(&mut self, name: &str) -> Value {
        loop {
            let (event, data) = self.next().await.expect("the stream goes on");
            if event == name {
                return data;
            }
        }
    }

    /// What comes next as it is, comments and all.
    pub async fn raw(&mut self) -> String {
        let bytes = self.body.next().await.unwrap().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }
}
