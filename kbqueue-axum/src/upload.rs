//! Taking files in.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::extract::multipart::{Field, MultipartRejection};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Multipart, Query, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::Bytes;
use kbqueue_core::document::clean_filename;
use kbqueue_core::{BlobError, BlobRef, Dedupe, NewDocument, QueueName, StoreExt};
use tokio::time::{Instant, timeout};
use utoipa::ToSchema;

use crate::body;
use crate::dto::{FileAnswer, ProblemBody, QueueQuery, UploadAnswer, now};
use crate::fields::Settings;
use crate::problem::Problem;
use crate::state::ApiState;

/// Where a PDF has to say that it is one: the header need not be its very first bytes.
const SNIFFED_BYTES: usize = 1024;
const PDF_MARK: &[u8] = b"%PDF-";
const MAX_KEY_BYTES: usize = 255;

/// Slower than this, over all, is no upload but a way to hold a connection.
const MIN_BYTES_PER_SECOND: u64 = 1024;

/// An upload's form.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes the form, which is read as a stream")]
pub(crate) struct UploadForm {
    /// Whose the files are; form fields go before the files.
    #[schema(
        max_length = 255,
        min_length = 1,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]+$"
    )]
    tenant: Option<String>,
    /// Higher is processed first, within a tenant. Default: 0.
    #[schema(nullable = false, minimum = -32768, maximum = 32767)]
    priority: Option<i16>,
    /// The caller's own data, as JSON.
    #[schema(nullable = false, example = r#"{"source":"intake"}"#)]
    metadata: Option<String>,
    /// Not processed before.
    #[schema(nullable = false)]
    available_at: Option<jiff::Timestamp>,
    /// What opens the files, where they are encrypted. Stored only sealed, under the server's secret key,
    /// and refused where it has none.
    #[schema(nullable = false, max_length = 127, format = Password)]
    password: Option<String>,
    /// One or more PDFs.
    #[schema(content_media_type = "application/pdf", value_type = Vec<String>, format = Binary, min_items = 1)]
    files: Vec<Vec<u8>>,
}

/// Upload documents
///
/// Answers at once; they are processed behind. Each file is taken when it is whole, and answers for
/// itself: with a document, or with an error where at least one other was taken.
#[utoipa::path(
    post, path = "/upload", tag = "documents",
    params(
        QueueQuery,
        ("Idempotency-Key" = inline(Option<String>), Header, nullable = false, min_length = 1, max_length = 255, pattern = "^[!-~]+$",
         description = "An upload that is repeated under its key answers with the documents of the first"),
    ),
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = UploadAnswer),
        (status = 415, description = "No file is a PDF, or the body is no form", content_type = "application/problem+json", body = ProblemBody),
    )
)]
pub(crate) async fn upload(
    State(state): State<ApiState>,
    query: Result<Query<QueueQuery>, QueryRejection>,
    headers: HeaderMap,
    multipart: Result<Multipart, MultipartRejection>,
) -> Result<Json<UploadAnswer>, Problem> {
    let queue = query?.0.queue.unwrap_or_else(|| state.default_queue());
    let key = idempotency_key(&headers)?;
    check_length(&headers, state.options.max_request_bytes)?;
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
        waited: Duration::ZERO,
        received: 0,
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
    /// How long it has been waited for, the time apart that storing took.
    waited: Duration,
    /// Bytes of files so far.
    received: u64,
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
        while let Some(field) = self.in_time(multipart.next_field()).await? {
            if field.name() == Some("files") {
                let limit = self.state.options.max_files;
                if self.documents.len() >= limit {
                    let detail = format!("an upload has at most {limit} files");
                    return Err(Problem::too_large(detail));
                }
                self.take_file(field).await?;
            } else if self.documents.is_empty() {
                let mut settings = std::mem::take(&mut self.settings);
                let has_key = self.state.secret_key().is_some();
                self.in_time(settings.take(field, has_key)).await?;
                self.settings = settings;
            } else {
                let detail = "form fields go before the files they are for";
                return Err(Problem::invalid(detail));
            }
        }
        Ok(())
    }

    /// Waits for the next piece of the request, as long as its sender may take.
    async fn in_time<T, E: Into<Problem>>(
        &mut self,
        piece: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Problem> {
        let patience = self.state.options.upload_patience;
        let earned = Duration::from_secs(self.received / MIN_BYTES_PER_SECOND);
        let left = (patience + earned).saturating_sub(self.waited);
        let began = Instant::now();
        let piece = timeout(left.min(patience), piece).await;
        self.waited += began.elapsed();
        match piece {
            Ok(piece) => piece.map_err(Into::into),
            Err(_) => Err(Problem::too_slow()),
        }
    }

    /// The next piece of a file.
    async fn chunk(&mut self, field: &mut Field<'_>) -> Result<Option<Bytes>, Fault> {
        let chunk = self.in_time(field.chunk()).await.map_err(Fault::Request)?;
        self.received += chunk.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let limit = self.state.options.max_request_bytes;
        if self.received > limit {
            return Err(Fault::Request(request_too_large(limit)));
        }
        Ok(chunk)
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
            Ok(taken) => {
                self.state
                    .metrics
                    .files_taken
                    .fetch_add(1, Ordering::Relaxed);
                self.documents.push(taken);
            }
            Err(Fault::Request(problem)) => return Err(problem),
            Err(Fault::File(problem)) => {
                // What is left of it is read here, piece by piece, each in its time: the next file comes
                // behind it.
                loop {
                    match self.chunk(&mut field).await {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(Fault::Request(problem) | Fault::File(problem)) => return Err(problem),
                    }
                }
                self.state
                    .metrics
                    .files_refused
                    .fetch_add(1, Ordering::Relaxed);
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
    async fn receive(&mut self, field: &mut Field<'_>) -> Result<BlobRef, Fault> {
        let mut head = Vec::new();
        while head.len() < SNIFFED_BYTES {
            match self.chunk(field).await? {
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
        self.check_room().await?;
        let mut upload = self.state.blobs.upload().await?;
        upload.write(&head).await?;
        drop(head);
        while let Some(bytes) = self.chunk(field).await? {
            self.check_size(upload.size_bytes() + bytes.len() as u64)?;
            upload.write(&bytes).await?;
        }
        let blob = upload.finish().await?;
        let bytes = &self.state.metrics.upload_bytes;
        bytes.fetch_add(blob.size_bytes, Ordering::Relaxed);
        Ok(blob)
    }

    /// Refuses what a full queue would not take, before anything of it is stored.
    async fn check_room(&self) -> Result<(), Fault> {
        let stats = self.state.store.stats(&self.queue).await;
        let admitted = stats.and_then(|stats| {
            let queued = stats.counts.queued;
            stats.settings.admit(&self.queue, queued, 1)
        });
        admitted.map_err(|error| Fault::File(error.into()))
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
        if let (Some(password), Some(key)) = (&self.settings.password, self.state.secret_key()) {
            document.password = Some(password.seal(key, document.id));
        }
        if let Some(key) = &self.key {
            // The files of one request share its key, and are told apart by their place in it.
            document.dedupe = Dedupe::Key(format!("{key}/{}", self.documents.len()));
        } else if !self.state.options.dedupe_content {
            document.dedupe = Dedupe::Off;
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
            status: enqueued.state.into(),
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
    let name = body::media_type(headers);
    name.is_some_and(|name| name.eq_ignore_ascii_case("multipart/form-data"))
}

/// Refuses at once what says itself that it is too large.
fn check_length(headers: &HeaderMap, limit: u64) -> Result<(), Problem> {
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    let length: Option<u64> = length.and_then(|text| text.parse().ok());
    match length {
        Some(length) if length > limit => Err(request_too_large(limit)),
        _ => Ok(()),
    }
}

fn request_too_large(limit: u64) -> Problem {
    Problem::too_large(format!(
        "the upload is larger than {limit} bytes, the most taken here"
    ))
}
