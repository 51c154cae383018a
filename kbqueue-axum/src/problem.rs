//! What goes wrong, as clients see it: RFC 9457 problem documents.

use axum::Json;
use axum::extract::OriginalUri;
use axum::extract::multipart::MultipartError;
use axum::extract::rejection::{FormRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Request};
use axum::http::header::{
    ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use kbqueue_core::error::chain;
use kbqueue_core::{BlobError, DocumentId, StoreError};

use crate::auth::Role;
use crate::dto::{FileAnswer, ProblemBody};

/// How long clients are asked to wait for a store that is away.
const RETRY_AFTER_SECONDS: u64 = 5;

/// How long for a full queue: until workers have taken some of it, by guess.
const FULL_RETRY_AFTER_SECONDS: u64 = 10;

/// What axum says of a page.
const HTML: &str = "text/html; charset=utf-8";

/// Why a call, or one file of it, was refused.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    status: StatusCode,
    /// The last part of the stable type name: what programs decide by.
    name: &'static str,
    title: &'static str,
    detail: String,
    /// In how many seconds another try may help.
    retry_after: Option<u64>,
    /// A header that belongs to it.
    header: Option<Box<(HeaderName, HeaderValue)>>,
    /// What became of an upload's files.
    documents: Vec<FileAnswer>,
}

impl Problem {
    fn new(
        status: StatusCode,
        name: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            name,
            title,
            detail: detail.into(),
            retry_after: (status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_SECONDS),
            header: None,
            documents: Vec::new(),
        }
    }

    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        let title = "The request cannot be understood";
        Self::new(StatusCode::BAD_REQUEST, "malformed-request", title, detail)
    }

    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        let title = "A valid token is needed";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", title, detail)
    }

    pub(crate) fn forbidden(has: Role, needed: Role) -> Self {
        let detail = format!("this token is for the role {has:?}, and this call needs {needed:?}");
        let title = "The token does not allow this";
        Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            title,
            detail.to_lowercase(),
        )
    }

    /// A form of the dashboard that was not filled in there, or too long ago.
    pub(crate) fn foreign_form() -> Self {
        let detail = "this form is not from a page of this dashboard, or the session it was made for \
                      has ended; load the page again, and repeat what you did";
        let title = "The form is out of date";
        Self::new(StatusCode::FORBIDDEN, "foreign-form", title, detail)
    }

    /// A web page of another site wants to change something here.
    pub(crate) fn foreign_origin() -> Self {
        let detail = "a web page of another site sent this, and without tokens such pages may not change \
                      anything; set tokens, and send one with the request";
        let title = "The request comes from another site";
        Self::new(StatusCode::FORBIDDEN, "foreign-origin", title, detail)
    }

    pub(crate) fn no_such_path() -> Self {
        let detail = "no call has this path";
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    pub(crate) fn no_such_document(id: DocumentId) -> Self {
        let detail = format!("there is no document {id}");
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let detail = "the header Allow lists the methods of this path";
        let title = "The path has no such method";
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            title,
            detail,
        )
    }

    /// HEAD of what a GET sets going.
    pub(crate) fn no_head() -> Self {
        let mut problem = Self::method_not_allowed();
        problem.header = Some(Box::new((ALLOW, HeaderValue::from_static("GET,POST"))));
        problem
    }

    pub(crate) fn no_workers(detail: impl Into<String>) -> Self {
        let title = "Nothing is processed here";
        Self::new(StatusCode::CONFLICT, "no-workers", title, detail)
    }

    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        let title = "Too large";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", title, detail)
    }

    pub(crate) fn no_such_image(id: DocumentId, ordinal: u32) -> Self {
        let detail = format!("document {id} has no such image {ordinal}");
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    pub(crate) fn no_such_range(size_bytes: u64) -> Self {
        let detail = format!("the file has {size_bytes} bytes");
        let title = "The file has no such part";
        let status = StatusCode::RANGE_NOT_SATISFIABLE;
        let mut problem = Self::new(status, "range-not-satisfiable", title, detail);
        let range = HeaderValue::from_str(&format!("bytes */{size_bytes}"));
        problem.header = Some(Box::new((CONTENT_RANGE, range.expect("digits are fine"))));
        problem
    }

    pub(crate) fn too_many_requests(retry_after: u64) -> Self {
        let detail = format!("this token has used up its requests; try again in {retry_after} s");
        let title = "Too many requests";
        let status = StatusCode::TOO_MANY_REQUESTS;
        let mut problem = Self::new(status, "too-many-requests", title, detail);
        problem.retry_after = Some(retry_after);
        problem
    }

    pub(crate) fn too_slow() -> Self {
        let detail = "the request came too slowly, and nothing of the file under way was kept";
        let title = "The request did not come";
        Self::new(StatusCode::REQUEST_TIMEOUT, "too-slow", title, detail)
    }

    pub(crate) fn stopping() -> Self {
        let title = "The server is stopping";
        let detail = "this server takes no more of these; repeat the request";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", title, detail)
    }

    pub(crate) fn not_json() -> Self {
        let title = "The content type is not supported";
        let detail = "send JSON as Content-Type: application/json";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-content-type",
            title,
            detail,
        )
    }

    pub(crate) fn not_multipart() -> Self {
        let title = "The content type is not supported";
        let detail = "send multipart/form-data with one or more parts named files";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-content-type",
            title,
            detail,
        )
    }

    pub(crate) fn empty_file() -> Self {
        let title = "The file is empty";
        let detail = "the file has no bytes";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "empty-file",
            title,
            detail,
        )
    }

    pub(crate) fn not_a_pdf() -> Self {
        let title = "Not a supported document";
        let detail = "the file is not a PDF: its first 1024 bytes do not contain %PDF-";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-document",
            title,
            detail,
        )
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        let title = "A value is not valid";
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid-value",
            title,
            detail,
        )
    }

    pub(crate) fn key_reused(id: DocumentId) -> Self {
        let title = "The idempotency key stands for other content";
        let detail = format!("document {id} was uploaded under this key, and has other content");
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency-key-reused",
            title,
            detail,
        )
    }

    fn unavailable() -> Self {
        let title = "Storage is unavailable";
        let detail = "storage did not answer; repeating the request later is safe";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            title,
            detail,
        )
    }

    fn internal() -> Self {
        let title = "Internal error";
        let detail = "something went wrong here; the server's log has the cause";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", title, detail)
    }

    /// The problem of an answer that only has a status.
    pub(crate) fn of_bare(response: &Response) -> Option<Self> {
        // A page says what is wrong itself.
        if response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind == HTML)
        {
            return None;
        }
        match response.status() {
            StatusCode::REQUEST_TIMEOUT => Some(Self::too_slow()),
            StatusCode::PAYLOAD_TOO_LARGE => Some(Self::too_large("the request is too large")),
            StatusCode::SERVICE_UNAVAILABLE => Some(Self::unavailable()),
            status if status.is_server_error() => Some(Self::internal()),
            status if status.is_client_error() => {
                let reason = status
                    .canonical_reason()
                    .unwrap_or("the request was refused");
                let mut problem = Self::malformed(reason.to_lowercase());
                problem.status = status;
                Some(problem)
            }
            _ => None,
        }
    }

    /// Says along with the problem what became of each file.
    pub(crate) fn with_documents(mut self, documents: Vec<FileAnswer>) -> Self {
        self.documents = documents;
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// As JSON; `instance` is the path that was called.
    pub(crate) fn body(&self, instance: Option<String>) -> ProblemBody {
        ProblemBody {
            kind: format!("urn:kbqueue:problem:{}", self.name),
            title: self.title,
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            instance,
            documents: self.documents.clone(),
        }
    }

    fn response(&self, instance: Option<String>) -> Response {
        let mut response = (self.status, Json(self.body(instance))).into_response();
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(CONTENT_TYPE, json);
        if let Some(challenge) = self.challenge() {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some((name, value)) = self.header.as_deref() {
            headers.insert(name, value.clone());
        }
        response
    }

    fn challenge(&self) -> Option<&'static str> {
        match self.status {
            StatusCode::UNAUTHORIZED => Some(r#"Bearer realm="kbqueue""#),
            StatusCode::FORBIDDEN => Some(r#"Bearer realm="kbqueue", error="insufficient_scope""#),
            _ => None,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.response(None);
        // For `name_instance`, which knows the path.
        response.extensions_mut().insert(self);
        response
    }
}

/// Adds to each problem the path that was called, which handlers below do not know whole, and makes one
/// of each refusal that comes from a layer instead of a handler.
pub(crate) async fn name_instance(request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let uri = match OriginalUri::from_request_parts(&mut parts, &()).await {
        Ok(OriginalUri(uri)) => uri,
    };
    let mut response = next.run(Request::from_parts(parts, body)).await;
    let problem = response.extensions_mut().remove::<Problem>();
    let Some(problem) = problem.or_else(|| Problem::of_bare(&response)) else {
        return response;
    };
    let mut named = problem.response(Some(uri.path().to_owned()));
    // Such as Allow, which axum adds.
    for (name, value) in response.headers() {
        if !named.headers().contains_key(name) && *name != CONTENT_LENGTH {
            named.headers_mut().append(name, value.clone());
        }
    }
    named
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(id) => Self::no_such_document(id),
            StoreError::Refused { .. } | StoreError::Superseded { .. } => {
                let title = "The document's state does not allow this";
                Self::new(StatusCode::CONFLICT, "conflict", title, error.to_string())
            }
            StoreError::QueueFull { .. } => {
                let title = "The queue is full";
                let status = StatusCode::TOO_MANY_REQUESTS;
                let mut problem = Self::new(status, "queue-full", title, error.to_string());
                problem.retry_after = Some(FULL_RETRY_AFTER_SECONDS);
                problem
            }
            StoreError::Unavailable { .. } => {
                tracing::warn!(error = chain(&error), "the store did not answer");
                Self::unavailable()
            }
            _ => {
                tracing::error!(error = chain(&error), "the store failed");
                Self::internal()
            }
        }
    }
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Self {
        tracing::error!(error = chain(&error), "the blob store failed");
        match error {
            BlobError::Store(_) | BlobError::Io(_) => Self::unavailable(),
            _ => Self::internal(),
        }
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::malformed(rejection.body_text())
    }
}

impl From<FormRejection> for Problem {
    fn from(rejection: FormRejection) -> Self {
        Self::malformed(rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::malformed(rejection.body_text())
    }
}

impl From<MultipartError> for Problem {
    fn from(error: MultipartError) -> Self {
        // A host may limit whole requests.
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::too_large("the request is larger than this server takes");
        }
        Self::malformed(format!(
            "the multipart body cannot be read: {}",
            error.body_text()
        ))
    }
}
