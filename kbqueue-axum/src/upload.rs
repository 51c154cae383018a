//! Taking files in.

use axum::Json;
use axum::extract::multipart::{Field, MultipartError, MultipartRejection};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Multipart, Query, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use kbqueue_core::document::clean_filename;
use kbqueue_core::{BlobError, BlobRef, Dedupe, NewDocument, QueueName, StoreExt};

use crate::dto::{FileAnswer, QueueQuery, UploadAnswer, now};
use crate::fields::Settings;
use crate::problem::Problem;
use crate::state::ApiState;

/// Where a PDF has to say that it is one: the header need not be its very first bytes.
const SNIFFED_BYTES: usize = 1024;
const PDF_MARK: &[u8] = b"%PDF-";
const MAX_KEY_BYTES: usize = 255;

/// `POST {prefix}/upload`. Each file is enqueued when it is whole, and answers for itself.
pub(crate) async fn upload(
    State(state): State<ApiState>,
    query: Result<Query<QueueQuery>, QueryRejection>,
    headers: HeaderMap,
    multipart: Result<Multipart, MultipartRejection>,
) -> Result<Json<UploadAnswer>, Problem> {
    let queue = query?.0.queue.unwrap_or_else(|| state.default_queue());
    let key = idempotency_key(&headers)?;
    let multipart = multipart.map_err(|rejection| {
        if is_multipart(&headers) {
            Problem::malformed(rejection.body_text())
        } else {
            Problem::not_multipart()
        }
    })?;
    let mut taking = Taking {
        state,
        queue,
        key,
        settings: Settings::default(),
        documents: Vec::new(),
        refused: Vec::new(),
    };
    match taking.take_all(multipart).await {
        Ok(()) => taking.answer(),
        // What was taken before stays taken, and is named.
        Err(problem) => Err(problem.with_documents(taking.documents)),
    }
}

/// One upload as it comes in.
struct Taking {
    state: ApiState,
    queue: QueueName,
    key: Option<String>,
    settings: Settings,
    documents: Vec<FileAnswer>,
    refused: Vec<Problem>,
}

/// Why a file is not taken.
enum Fault {
    /// Nothing more can be read from the request.
    Request(Problem),
    /// This file is refused; others may follow.
    File(Problem),
}

impl Taking {
    async fn take_all(&mut self, mut multipart: Multipart) -> Result<(), Problem> {
        while let Some(field) = multipart.next_field().await? {
            if field.name() == Some("files") {
                self.take_file(field).await?;
            } else if self.documents.is_empty() {
                self.settings.take(field).await?;
            } else {
                let detail = "form fields go before the files they are for";
                return Err(Problem::invalid(detail));
            }
        }
        Ok(())
    }

    /// # Errors
    /// Where the request cannot be read any further. A refused file is noted, and no error.
    async fn take_file(&mut self, mut field: Field<'_>) -> Result<(), Problem> {
        let filename = clean_filename(field.file_name().unwrap_or_default());
        let taken = match self.receive(&mut field).await {
            Ok(blob) => self.enqueue(blob, &filename).await.map_err(Fault::File),
            Err(fault) => Err(fault),
        };
        match taken {
            Ok(taken) => self.documents.push(taken),
            Err(Fault::Request(problem)) => return Err(problem),
            Err(Fault::File(problem)) => {
                self.documents.push(FileAnswer::Refused {
                    filename,
                    error: Box::new(problem.body(None)),
                });
                self.refused.push(problem);
            }
        }
        Ok(())
    }

    /// Streams the file into the blob store. What is refused, or breaks off, leaves nothing there.
    async fn receive(&self, field: &mut Field<'_>) -> Result<BlobRef, Fault> {
        let mut head = Vec::new();
        while head.len() < SNIFFED_BYTES {
            match field.chunk().await? {
                Some(bytes) => head.extend_from_slice(&bytes),
                None => break,
            }
        }
        if head.is_empty() {
            return Err(Fault::File(Problem::empty_file()));
        }
        let sniffed = &head[..head.len().min(SNIFFED_BYTES)];
        if !sniffed
            .windows(PDF_MARK.len())
            .any(|bytes| bytes == PDF_MARK)
        {
            return Err(Fault::File(Problem::not_a_pdf()));
        }
        self.check_size(head.len() as u64)?;
        let mut upload = self.state.blobs.upload().await?;
        upload.write(&head).await?;
        drop(head);
        while let Some(bytes) = field.chunk().await? {
            self.check_size(upload.size_bytes() + bytes.len() as u64)?;
            upload.write(&bytes).await?;
        }
        Ok(upload.finish().await?)
    }

    fn check_size(&self, size_bytes: u64) -> Result<(), Fault> {
        let limit = self.state.options.max_upload_bytes;
        if size_bytes > limit {
            let detail = format!("the file is larger than {limit} bytes, the most taken here");
            return Err(Fault::File(Problem::too_large(detail)));
        }
        Ok(())
    }

    async fn enqueue(&self, blob: BlobRef, filename: &str) -> Result<FileAnswer, Problem> {
        let mut document = NewDocument::new(self.queue.clone(), blob, filename);
        document.tenant.clone_from(&self.settings.tenant);
        document.priority = self.settings.priority;
        document.available_at = self.settings.available_at;
        document.metadata.clone_from(&self.settings.metadata);
        if let Some(key) = &self.key {
            // The files of one request share its key, and are told apart by their place in it.
            document.dedupe = Dedupe::Key(format!("{key}/{}", self.documents.len()));
        }
        let sha256 = document.blob.sha256.clone();
        let store = &self.state.store;
        let enqueued = store.enqueue_one(document).await?;
        tracing::info!(
            document = %enqueued.id, queue = %self.queue, filename, created = enqueued.created,
            "document uploaded"
        );
        let mut chunks = 0;
        if !enqueued.created
            && let Some(existing) = store.document(enqueued.id).await?
        {
            if existing.blob.sha256 != sha256 {
                return Err(Problem::key_reused(existing.id));
            }
            chunks = existing.lifecycle.progress.current_chunk;
        }
        Ok(FileAnswer::Taken {
            document_id: enqueued.id,
            filename: filename.to_owned(),
            status: enqueued.state,
            chunks,
            created: enqueued.created,
        })
    }

    /// Success where any file was taken; else the files' problem, a passing one before a lasting one.
    fn answer(self) -> Result<Json<UploadAnswer>, Problem> {
        if self.documents.is_empty() {
            return Err(Problem::invalid("the request has no part named files"));
        }
        if self.refused.len() < self.documents.len() {
            return Ok(Json(UploadAnswer {
                status: "success",
                documents: self.documents,
                timestamp: now(),
            }));
        }
        let passing = self.refused.iter().find(|p| p.status().is_server_error());
        let problem = passing.or(self.refused.first()).cloned();
        let problem = problem.expect("every file was refused, and there is one");
        Err(problem.with_documents(self.documents))
    }
}

impl From<MultipartError> for Fault {
    fn from(error: MultipartError) -> Self {
        Self::Request(error.into())
    }
}

impl From<BlobError> for Fault {
    fn from(error: BlobError) -> Self {
        Self::File(error.into())
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(key) if (1..=MAX_KEY_BYTES).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(Problem::invalid(
            "Idempotency-Key takes 1 to 255 visible ASCII characters",
        )),
    }
}

fn is_multipart(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next());
    media_type.is_some_and(|value| value.trim().eq_ignore_ascii_case("multipart/form-data"))
}
