//! Documents: looking at them, and what people do to them.

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use kbqueue_core::store::{Control, DocumentQuery};
use kbqueue_core::{ChunkOptions, Document, DocumentId, QueueName, StoreError, StoreExt};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::body;
use crate::dto::{Affected, DocumentBody, DocumentsPage, DocumentsQuery, ProblemBody, QueueQuery};
use crate::problem::Problem;
use crate::state::ApiState;

pub(crate) const DEFAULT_LIMIT: u32 = 50;
pub(crate) const MAX_LIMIT: u32 = 500;
const MAX_BULK: usize = 1000;
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
    #[schema(value_type = Vec<Uuid>, min_items = 1, max_items = 1000)]
    ids: Vec<DocumentId>,
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
    let Bulk { action, ids } = body::json(&headers, body)?;
    if !(1..=MAX_BULK).contains(&ids.len()) {
        return Err(Problem::invalid(format!("ids takes 1 to {MAX_BULK} ids")));
    }
    let control = match action {
        Action::Retry => Control::Retry {
            from_scratch: false,
        },
        Action::Cancel => Control::Cancel,
        Action::Delete => Control::Delete,
    };
    let ids = match queue {
        Some(queue) => of_queue(&state, ids, &queue).await?,
        None => ids,
    };
    let affected = state.store.control_each(ids, control).await?;
    Ok(Json(Affected { affected }))
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
