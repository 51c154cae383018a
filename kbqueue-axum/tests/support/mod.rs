//! A service over a `MemoryStore` and blobs in a directory of its own, and ways to call it.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

pub mod browser;
pub mod counting;
pub mod events;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use futures::{StreamExt, stream};
use kbqueue_axum::{ApiOptions, ApiState};
use kbqueue_core::extract::{ExtractRequest, ExtractedPage};
use kbqueue_core::library::Library;
use kbqueue_core::output::{PageSource, Provenance};
use kbqueue_core::store::DocumentQuery;
use kbqueue_core::{
    BlobStore, Document, ExtractError, Extraction, Extractor, MemoryStore, Processor,
    ProcessorOptions, Properties,
};
use serde_json::Value;
use tower::ServiceExt;

pub const PREFIX: &str = "/api/medical/knowledge";
pub const UPLOAD: &str = "/api/medical/knowledge/upload";
pub const STATUS: &str = "/api/medical/knowledge/queue-status";
pub const PROCESS: &str = "/api/queue/process";
pub const BOUNDARY: &str = "the-boundary";

/// Documents of five pages, long enough for a few chunks; those that say so are broken.
pub struct FivePages;

#[async_trait]
impl Extractor for FivePages {
    fn fingerprint(&self) -> String {
        "five-pages/1".to_owned()
    }

    async fn extract(&self, mut request: ExtractRequest) -> Result<Extraction, ExtractError> {
        let mut bytes = String::new();
        std::io::Read::read_to_string(&mut request.file, &mut bytes).unwrap();
        if bytes.contains("broken") {
            return Err(ExtractError::permanent("the file is damaged"));
        }
        let pages = (request.first_page..=5).map(|number| {
            Ok(ExtractedPage {
                number,
                label: None,
                section: None,
                provenance: Provenance {
                    source: PageSource::Text,
                    reason: "fake".to_owned(),
                    confidence: None,
                },
                text: format!("Page {number} has something to say. ").repeat(40),
                failure: None,
                images: Vec::new(),
            })
        });
        Ok(Extraction {
            total_pages: 5,
            properties: Properties::default(),
            pages: stream::iter(pages).boxed(),
        })
    }
}

pub struct Service {
    pub store: Arc<dyn Library>,
    pub dir: tempfile::TempDir,
    pub app: Router,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Bytes,
}

impl Service {
    pub fn new() -> Self {
        Self::with(ApiOptions::default())
    }

    pub fn with(options: ApiOptions) -> Self {
        Self::over(Arc::new(MemoryStore::new()), options)
    }

    pub fn over(store: Arc<dyn Library>, options: ApiOptions) -> Self {
        let (dir, blobs) = blobs();
        let processor = Processor::new(
            store.clone(),
            blobs.clone(),
            Arc::new(FivePages),
            ProcessorOptions::default(),
        );
        let state = ApiState::new(store.clone(), blobs, options).with_processor(processor);
        let app = kbqueue_axum::router(state);
        Self { store, dir, app }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        assert!(!parts.headers.contains_key(LOCATION));
        Answer {
            status: parts.status,
            headers: parts.headers,
            bytes,
        }
    }

    pub async fn get(&self, uri: &str) -> Answer {
        self.send(request(Method::GET, uri, None)).await
    }

    pub async fn upload(&self, form: Form) -> Answer {
        self.send(form.request(UPLOAD)).await
    }

    /// Uploads one file that is taken, and answers with its id.
    pub async fn add(&self, bytes: &str) -> String {
        let answer = self.upload(Form::new().file("a.pdf", bytes)).await;
        assert_eq!(answer.status, 200, "{:?}", answer.bytes);
        answer.json()["documents"][0]["document_id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub async fn documents(&self) -> Vec<Document> {
        self.store
            .documents(DocumentQuery::default())
            .await
            .unwrap()
    }

    /// How many files are in the blob store, temporary ones included. A dropped upload is removed in
    /// the background, so this waits for there to be at most `expected`.
    pub async fn files(&self, expected: usize) -> usize {
        for _ in 0..200 {
            if files(self.dir.path()) <= expected {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        files(self.dir.path())
    }
}

pub fn blobs() -> (tempfile::TempDir, BlobStore) {
    let dir = tempfile::tempdir().unwrap();
    let blobs = BlobStore::connect(&format!("file:{}", dir.path().display())).unwrap();
    (dir, blobs)
}

fn files(dir: &Path) -> usize {
    let count = |entry: std::fs::DirEntry| {
        if entry.path().is_dir() {
            files(&entry.path())
        } else {
            1
        }
    };
    std::fs::read_dir(dir).unwrap().flatten().map(count).sum()
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.bytes))
    }

    /// Asserts that it is a problem of this status and type, and answers with it.
    #[track_caller]
    pub fn problem(&self, status: u16, kind: &str) -> Value {
        let problem = self.json();
        assert_eq!(self.status, status, "{problem}");
        assert_eq!(self.headers[CONTENT_TYPE], "application/problem+json");
        assert_eq!(problem["type"], format!("urn:kbqueue:problem:{kind}"));
        assert_eq!(problem["status"], status);
        for text in ["title", "detail", "instance"] {
            assert!(
                !problem[text].as_str().unwrap().is_empty(),
                "{text}: {problem}"
            );
        }
        problem
    }
}

pub fn request(method: Method, uri: &str, token: Option<&str>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(uri);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(Body::empty()).unwrap()
}

/// A multipart body.
#[derive(Default)]
pub struct Form {
    body: String,
    headers: Vec<(&'static str, String)>,
}

impl Form {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn file(mut self, name: &str, bytes: &str) -> Self {
        self.body += &format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"files\"; filename=\"{name}\"\r\n\
             Content-Type: application/pdf\r\n\r\n{bytes}\r\n"
        );
        self
    }

    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.body += &format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        );
        self
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub fn request(self, uri: &str) -> Request<Body> {
        let body = format!("{}--{BOUNDARY}--\r\n", self.body);
        self.request_with(uri, body.into())
    }

    /// The request breaks off at the end of what was put into the form.
    pub fn cut_off_request(self, uri: &str) -> Request<Body> {
        let bytes = self.body.trim_end_matches("\r\n").to_owned();
        let mut parts: Vec<Result<Bytes, std::io::Error>> = bytes
            .as_bytes()
            .chunks(64 * 1024)
            .map(|part| Ok(Bytes::copy_from_slice(part)))
            .collect();
        parts.push(Err(std::io::Error::other("connection reset")));
        // As over a network, where what comes next is not there yet.
        let parts = stream::iter(parts).then(async |part| {
            tokio::task::yield_now().await;
            part
        });
        self.request_with(uri, Body::from_stream(parts))
    }

    fn request_with(self, uri: &str, body: Body) -> Request<Body> {
        let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
        let mut request = Request::post(uri).header(CONTENT_TYPE, content_type);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.body(body).unwrap()
    }
}
