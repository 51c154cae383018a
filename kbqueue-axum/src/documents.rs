//! Documents: looking at them, and what people do to them.

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use kbqueue_core::store::{Change, Control, DocumentQuery};
use kbqueue_core::{ChunkOptions, Document, DocumentId, QueueName, StoreError, StoreExt};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::body;
use crate::dto::{
    Affected, DocumentBody, DocumentsPage, DocumentsQuery, ProblemBody, QueueQuery, Status,
};
use crate::problem::Problem;
use crate::state::ApiState;

pub(crate) const DEFAULT_LIMIT: u32 = 50;
pub(crate) const MAX_LIMIT: u32 = 500;
const MAX_BULK: usize = 1000;
/// How many documents a call by filter changes: answers take no longer than clients wait.
const MAX_FILTERED: u32 = 1000;
/// Documents that are looked at at once: stores have only so many connections.
const READS: usize = 16;

/// How a document is to be tried again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Retry {
    /// Drop what was extracted before. Default: false.
    from_scratch: bool,
}

/// How a document's text is to be cut again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rechunk {
    /// Characters that a chunk has at least, where its document has them.
    #[schema(example = 1000, minimum = 1, maximum = 1_000_000)]
    min_chars: u32,
    /// Characters that a chunk has at most.
    #[schema(example = 2000, minimum = 1, maximum = 1_000_000)]
    max_chars: u32,
    /// Characters that a chunk repeats of the one before, at most. Default: 0.
    #[serde(default)]
    #[schema(maximum = 999_999)]
    overlap_chars: u32,
}

/// What to do to many documents.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bulk {
    #[schema(inline)]
    action: Action,
    /// To which. Those that are not there, or whose state forbids it, are passed over.
    #[serde(default)]
    #[schema(value_type = Vec<Uuid>, min_items = 1, max_items = 1000)]
    ids: Option<Vec<DocumentId>>,
    /// Instead of `ids`: to all of the queue's documents that are like this, newest first.
    #[serde(default)]
    #[schema(inline)]
    filter: Option<Filter>,
    /// With a filter: only those older than this document, which is `next` of the call before.
    #[serde(default)]
    #[schema(value_type = Option<Uuid>)]
    after: Option<DocumentId>,
}

/// Which documents; all of them where it is empty.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Filter {
    /// In this state only.
    #[schema(inline)]
    state: Option<Status>,
    /// Of this tenant only.
    tenant: Option<String>,
    /// Whose file names begin with this.
    name: Option<String>,
}

/// What is to be different about a document. What is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Patch {
    /// Higher goes first within its tenant.
    #[serde(default)]
    priority: Option<i16>,
    /// Any JSON but null.
    #[serde(default)]
    metadata: Option<Value>,
    /// Not before this time; of a queued document only.
    #[serde(default)]
    available_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Action {
    Retry,
    Cancel,
    Delete,
}

/// List documents
///
/// Newest first.
#[utoipa::path(
    get, path = "/documents", tag = "documents", params(DocumentsQuery),
    responses((status = 200, body = DocumentsPage))
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    query: Result<Query<DocumentsQuery>, QueryRejection>,
) -> Result<Json<DocumentsPage>, Problem> {
    let asked = query?.0;
    let limit = limit(asked.limit)?;
    let mut query = DocumentQuery::default();
    query.queue = Some(asked.queue.unwrap_or_else(|| state.default_queue()));
    query.state = asked.state.map(Into::into);
    query.tenant = asked.tenant;
    query.name = asked.name;
    query.after = asked.after;
    // One more than asked for tells whether another page follows.
    query.limit = limit + 1;
    let mut documents = state.store.documents(query).await?;
    let more = documents.len() > limit as usize;
    documents.truncate(limit as usize);
    let last = documents.last().map(|document| document.id);
    Ok(Json(DocumentsPage {
        documents: documents.into_iter().map(Into::into).collect(),
        next: last.filter(|_| more),
    }))
}

/// One document
#[utoipa::path(
    get, path = "/documents/{id}", tag = "documents", params(("id" = Uuid, Path), QueueQuery),
    responses((status = 200, body = DocumentBody))
)]
pub(crate) async fn document(
    State(state): State<ApiState>,
    id: Result<Path<DocumentId>, PathRejection>,
    query: Result<Query<QueueQuery>, QueryRejection>,
) -> Result<Json<DocumentBody>, Problem> {
    let document = find(&state, id?.0, query?.0.queue).await?;
    Ok(Json(document.into()))
}

/// Cancel a document
///
/// One that waits is cancelled at once, one that is processing as soon as its worker hears of it.
#[utoipa::path(
    post, path = "/documents/{id}/cancel", tag = "documents", params(("id" = Uuid, Path), QueueQuery),
    responses(
        (status = 200, body = DocumentBody),
        (status = 409, description = "It is in a terminal state", content_type = "application/problem+json", body = ProblemBody),
    )
)]
pub(crate) async fn cancel(
    State(state): State<ApiState>,
    id: Result<Path<DocumentId>, PathRejection>,
    query: Result<Query<QueueQuery>, QueryRejection>,
) -> Result<Json<DocumentBody>, Problem> {
    control(&state, id?.0, query?.0.queue, Control::Cancel).await
}

/// Process a document again
///
/// From where it stopped, or from scratch.
#[utoipa::path(
    post, path = "/documents/{id}/retry", tag = "documents", params(("id" = Uuid, Path), QueueQuery),
    request_body = Option<Retry>,
    responses(
        (status = 200, body = DocumentBody),
        (status = 409, description = "It waits or is processing, or another document took its place", content_type = "application/problem+json", body = ProblemBody),
        (status = 415, description = "The body is not JSON", content_type = "application/problem+json", body = ProblemBody),
    )
)]
pub(crate) async fn retry(
    State(state): State<ApiState>,
    id: Result<Path<DocumentId>, PathRejection>,
    query: Result<Query<QueueQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<DocumentBody>, Problem> {
    let (id, queue) = (id?.0, query?.0.queue);
    let Retry { from_scratch } = body::json_or_default(&headers, body)?;
    control(&state, id, queue, Control::Retry { from_scratch }).await
}

/// Cut a document's text again
///
/// Out of its stored pages: nothing is extracted again.
#[utoipa::path(
    post, path = "/documents/{id}/rechunk", tag = "documents", params(("id" = Uuid, Path), QueueQuery),
    request_body = Rechunk,
    responses(
        (status = 200, body = DocumentBody),
        (status = 409, description = "It is not completed, or another document took its place", content_type = "application/problem+json", body = ProblemBody),
        (status = 415, description = "The body is not JSON", content_type = "application/problem+json", body = ProblemBody),
    )
)]
pub(crate) async fn rechunk(
    State(state): State<ApiState>,
    id: Result<Path<DocumentId>, PathRejection>,
    query: Result<Query<QueueQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<DocumentBody>, Problem> {
    let (id, queue) = (id?.0, query?.0.queue);
    let asked: Rechunk = body::json(&headers, body)?;
    let options = ChunkOptions::new(asked.min_chars, asked.max_chars, asked.overlap_chars)
        .map_err(|error| Problem::invalid(error.to_string()))?;
    control(&state, id, queue, Control::Rechunk(options)).await
}

/// Change what is said of a document
///
/// Its priority and metadata in any state; when it is due, while it is queued.
#[utoipa::path(
    patch, path = "/documents/{id}", tag = "documents", params(("id" = Uuid, Path), QueueQuery),
    request_body = Patch,
    responses(
        (status = 200, body = DocumentBody),
        (status = 409, description = "`available_at` of a document that is not queued", content_type = "application/problem+json", body = ProblemBody),
        (status = 415, description = "The body is not JSON", content_type = "application/problem+json", body = ProblemBody),
    )
)]
pub(crate) async fn change(
    State(state): State<ApiState>,
    id: Result<Path<DocumentId>, PathRejection>,
    query: Result<Query<QueueQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<DocumentBody>, Problem> {
    let (id, queue) = (id?.0, query?.0.queue);
    let asked: Patch = body::json(&headers, body)?;
    let change = Change {
        priority: asked.priority,
        metadata: asked.metadata,
        available_at: asked.available_at,
    };
    control(&state, id, queue, Control::Change(change)).await
}

/// Delete a document
///
/// With all that was made of it. Not while it is processing: cancel it first.
#[utoipa::path(
    delete, path = "/documents/{id}", tag = "documents", params(("id" = Uuid, Path), QueueQuery),
    responses(
        (status = 204, description = "It is gone"),
        (status = 409, description = "It is processing", content_type = "application/problem+json", body = ProblemBody),
    )
)]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    id: Result<Path<DocumentId>, PathRejection>,
    query: Result<Query<QueueQuery>, QueryRejection>,
) -> Result<StatusCode, Problem> {
    let Json(_) = control(&state, id?.0, query?.0.queue, Control::Delete).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Retry, cancel or delete many documents
///
/// By their ids, or by a filter: then 1,000 a call, and `next` says where to go on.
#[utoipa::path(
    post, path = "/documents/bulk", tag = "documents", params(QueueQuery), request_body = Bulk,
    responses(
        (status = 200, body = Affected),
        (status = 415, description = "The body is not JSON", content_type = "application/problem+json", body = ProblemBody),
    )
)]
pub(crate) async fn bulk(
    State(state): State<ApiState>,
    query: Result<Query<QueueQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Affected>, Problem> {
    let queue = query?.0.queue;
    let asked: Bulk = body::json(&headers, body)?;
    let control = match asked.action {
        Action::Retry => Control::Retry {
            from_scratch: false,
        },
        Action::Cancel => Control::Cancel,
        Action::Delete => Control::Delete,
    };
    let (affected, next) = match (asked.ids, asked.filter) {
        (Some(ids), None) if asked.after.is_none() => {
            if !(1..=MAX_BULK).contains(&ids.len()) {
                return Err(Problem::invalid(format!("ids takes 1 to {MAX_BULK} ids")));
            }
            let ids = match queue {
                Some(queue) => of_queue(&state, ids, &queue).await?,
                None => ids,
            };
            (state.store.control_each(ids, control).await?, None)
        }
        (None, Some(filter)) => {
            let mut query = DocumentQuery::default();
            query.queue = Some(queue.unwrap_or_else(|| state.default_queue()));
            query.state = filter.state.map(Into::into);
            query.tenant = filter.tenant;
            query.name = filter.name;
            query.after = asked.after;
            query.limit = MAX_FILTERED;
            state.store.control_page(query, control).await?
        }
        _ => {
            let needed = "a bulk call takes either ids, or a filter with or without after";
            return Err(Problem::invalid(needed));
        }
    };
    Ok(Json(Affected { affected, next }))
}

/// Those of `ids` that are in `queue`.
async fn of_queue(
    state: &ApiState,
    ids: Vec<DocumentId>,
    queue: &QueueName,
) -> Result<Vec<DocumentId>, StoreError> {
    stream::iter(ids)
        .map(|id| state.store.document(id))
        .buffered(READS)
        .try_filter_map(async |document| {
            let document = document.filter(|document| document.queue == *queue);
            Ok(document.map(|document| document.id))
        })
        .try_collect()
        .await
}

async fn control(
    state: &ApiState,
    id: DocumentId,
    queue: Option<QueueName>,
    control: Control,
) -> Result<Json<DocumentBody>, Problem> {
    if queue.is_some() {
        find(state, id, queue).await?;
    }
    Ok(Json(state.store.control(id, control).await?.into()))
}

/// A document that has to be there, and in `queue` where that was said.
pub(crate) async fn find(
    state: &ApiState,
    id: DocumentId,
    queue: Option<QueueName>,
) -> Result<Document, Problem> {
    let document = state.store.document(id).await?;
    document
        .filter(|document| queue.is_none_or(|queue| document.queue == queue))
        .ok_or_else(|| Problem::no_such_document(id))
}

/// The size of a page.
pub(crate) fn limit(asked: Option<u32>) -> Result<u32, Problem> {
    match asked {
        None => Ok(DEFAULT_LIMIT),
        Some(limit) if (1..=MAX_LIMIT).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::invalid(format!(
            "limit goes from 1 to {MAX_LIMIT}"
        ))),
    }
}
