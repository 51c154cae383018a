//! A browser without a script, at a dashboard that is mounted elsewhere than usual.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use kbqueue_axum::{ApiOptions, ApiState, Tokens};
use kbqueue_core::library::Library;
use kbqueue_core::state::Outcome;
use kbqueue_core::store::{Checkpoint, ClaimRequest, Settlement, Worker, WorkerId};
use kbqueue_core::{
    BlobStore, Chunk, Document, DocumentId, Image, MemoryStore, NewDocument, QueueName, StoreExt,
};
use tower::ServiceExt;
use uuid::Uuid;

use super::blobs;

/// A dashboard, mounted elsewhere than usual, and a browser's cookie.
pub struct Browser {
    pub app: Router,
    pub store: Arc<dyn Library>,
    pub blobs: BlobStore,
    _dir: tempfile::TempDir,
    pub cookie: Option<String>,
}

pub struct Page {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub html: String,
}

impl Browser {
    pub fn new(tokens: Tokens) -> Self {
        let mut options = ApiOptions::default();
        options.tokens = tokens;
        Self::over(Arc::new(MemoryStore::new()), options)
    }

    pub fn over(store: Arc<dyn Library>, options: ApiOptions) -> Self {
        let (dir, blobs) = blobs();
        let state = ApiState::new(store.clone(), blobs.clone(), options);
        let app = Router::new()
            .nest("/host/board", kbqueue_axum::dashboard(state.clone()))
            .merge(kbqueue_axum::router(state));
        Self {
            app,
            store,
            blobs,
            _dir: dir,
            cookie: None,
        }
    }

    pub fn guarded() -> Self {
        Self::new(Tokens {
            admin: Some("token-a".into()),
            uploader: Some("token-u".into()),
            reader: Some("token-r".into()),
        })
    }

    pub async fn send(&mut self, mut request: Request<Body>) -> Page {
        if let Some(cookie) = &self.cookie {
            let cookie = cookie.parse().unwrap();
            request.headers_mut().insert(COOKIE, cookie);
        }
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        if let Some(set) = parts.headers.get(SET_COOKIE) {
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            self.cookie = Some(pair.to_owned());
        }
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        Page {
            status: parts.status,
            headers: parts.headers,
            html: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    pub async fn get(&mut self, path: &str) -> Page {
        let request = Request::get(format!("/host/board{path}"));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub async fn post(&mut self, path: &str, form: &str) -> Page {
        let request = Request::post(format!("/host/board{path}"))
            .header("content-type", "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(form.to_owned())).unwrap())
            .await
    }

    pub async fn sign_in(&mut self, token: &str) -> Page {
        self.cookie = None;
        self.post("/login", &format!("token={token}&next=/documents"))
            .await
    }

    /// The token that forms of this browser carry.
    pub async fn form_token(&mut self) -> String {
        let page = self.get("/documents").await;
        let (_, rest) = page
            .html
            .split_once("name=\"form_token\" value=\"")
            .unwrap();
        rest.split('"').next().unwrap().to_owned()
    }

    pub async fn document(&self, name: &str) -> DocumentId {
        let bytes = Bytes::from(format!("%PDF- {name}"));
        let blob = self.blobs.put(bytes).await.unwrap();
        let new = NewDocument::new(QueueName::default(), blob, name);
        self.store.enqueue_one(new).await.unwrap().id
    }

    /// Claims the next document, gives it a chunk and two images, and ends it.
    pub async fn work(&self, outcome: Outcome) -> Document {
        let worker = Worker {
            id: WorkerId(Uuid::new_v4()),
            name: "worker-1".into(),
            queues: vec![QueueName::default()],
        };
        let lease = std::time::Duration::from_secs(60);
        let request = ClaimRequest::new(worker, 1, lease, "f".into());
        let document = self.store.claim(request).await.unwrap().documents.remove(0);
        let lease_id = document.lifecycle.lease.clone().unwrap().id;
        let mut cursor = document.lifecycle.cursor;
        cursor.number += 1;
        (cursor.pages, cursor.chunks, cursor.images) = (3, 1, 2);
        let mut progress = document.lifecycle.progress;
        (progress.current_page, progress.total_pages) = (3, Some(3));
        (
            progress.current_chunk,
            progress.total_chunks,
            progress.percent,
        ) = (1, 1, 90);
        let mut checkpoint = Checkpoint::new(document.id, lease_id, lease, cursor, progress);
        checkpoint.chunks.push(Chunk {
            ordinal: 0,
            text: "first <b>line</b>\nsecond line".into(),
            first_page: 1,
            last_page: 3,
            start_offset: 0,
            end_offset: 29,
            section: Some("Introduction".into()),
        });
        for ordinal in 0..2 {
            let blob = self.blobs.put(Bytes::from(format!("png {ordinal}"))).await;
            checkpoint.images.push(Image {
                ordinal,
                page: ordinal + 1,
                media_type: "image/png".into(),
                width: 40,
                height: 30,
                bbox: [0.0; 4],
                caption: Some(format!("Figure {ordinal}")),
                blob: blob.unwrap(),
                thumbnail: None,
            });
        }
        self.store.checkpoint(checkpoint).await.unwrap();
        let settlement = Settlement {
            document: document.id,
            lease_id,
            outcome,
        };
        self.store.settle(vec![settlement]).await.unwrap();
        self.store.find(document.id).await.unwrap()
    }
}

pub fn failed(error: &str) -> Outcome {
    Outcome::Fail {
        error: error.into(),
        retryable: false,
        max_retries: 0,
        backoff: std::time::Duration::ZERO,
    }
}
