//! A document and its chunks.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use kbqueue_core::error::chain;
use kbqueue_core::store::OutputQuery;
use kbqueue_core::{Chunk, Document, DocumentId, QueueName, StoreError};

use crate::dto::{ChunksPage, DocumentBody, PageQuery, QueueQuery};
use crate::problem::Problem;
use crate::state::ApiState;

const NDJSON: &str = "application/x-ndjson";
const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 500;

/// `GET {prefix}/documents/{id}`.
pub(crate) async fn document(
    State(state): State<ApiState>,
    id: Result<Path<DocumentId>, PathRejection>,
    query: Result<Query<QueueQuery>, QueryRejection>,
) -> Result<Json<DocumentBody>, Problem> {
    let document = find(&state, id?.0, query?.0.queue).await?;
    Ok(Json(document.into()))
}

/// `GET {prefix}/documents/{id}/chunks`: one page, or all of them as lines of JSON.
pub(crate) async fn chunks(
    State(state): State<ApiState>,
    id: Result<Path<DocumentId>, PathRejection>,
    query: Result<Query<PageQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let PageQuery {
        queue,
        after,
        limit,
    } = query?.0;
    if limit.is_some_and(|limit| !(1..=MAX_LIMIT).contains(&limit)) {
        return Err(Problem::invalid(format!(
            "limit goes from 1 to {MAX_LIMIT}"
        )));
    }
    let document = find(&state, id?.0, queue).await?;
    let mut query = OutputQuery::new(document.id, limit.unwrap_or(DEFAULT_LIMIT));
    query.after = after;
    let response = if accepts_ndjson(&headers) {
        // Not from one page to the next may a new generation take the place of this one.
        query.generation = Some(document.lifecycle.visible().chunks);
        let lines = Body::from_stream(lines(state, query, limit));
        ([(CONTENT_TYPE, NDJSON), (VARY, "accept")], lines).into_response()
    } else {
        let page = Json(page(&state, query).await?);
        ([(VARY, "accept")], page).into_response()
    };
    Ok(response)
}

async fn find(
    state: &ApiState,
    id: DocumentId,
    queue: Option<QueueName>,
) -> Result<Document, Problem> {
    let document = state.store.document(id).await?;
    document
        .filter(|document| queue.is_none_or(|queue| document.queue == queue))
        .ok_or_else(|| Problem::no_such_document(id))
}

async fn page(state: &ApiState, mut query: OutputQuery) -> Result<ChunksPage, StoreError> {
    let limit = query.limit as usize;
    // One more than asked for tells whether another page follows.
    query.limit += 1;
    let mut chunks = state.store.chunks(query).await?;
    let more = chunks.len() > limit;
    chunks.truncate(limit);
    let last = chunks.last().map(|chunk| chunk.ordinal);
    Ok(ChunksPage {
        chunks,
        next: last.filter(|_| more),
    })
}

/// The chunks from `query.after` on, one a line, at most `limit`. They are read piece by piece, as
/// fast as the client takes them. Where reading fails half-way the transfer breaks off, so that the
/// client can tell.
fn lines(
    state: ApiState,
    query: OutputQuery,
    limit: Option<u32>,
) -> impl stream::Stream<Item = Result<Bytes, StoreError>> {
    let begin = (query.after, limit.unwrap_or(u32::MAX));
    stream::try_unfold(begin, move |(after, left)| {
        let mut query = query.clone();
        query.after = after;
        query.limit = left.min(MAX_LIMIT);
        let store = state.store.clone();
        async move {
            if query.limit == 0 {
                return Ok(None);
            }
            let chunks = store.chunks(query).await.inspect_err(|error| {
                tracing::error!(error = chain(error), "could not read on in chunks");
            })?;
            let Some(last) = chunks.last().map(|chunk| chunk.ordinal) else {
                return Ok(None);
            };
            let sent = u32::try_from(chunks.len()).unwrap_or(left);
            let next = (Some(last), left.saturating_sub(sent));
            Ok(Some((json_lines(&chunks), next)))
        }
    })
}

fn json_lines(chunks: &[Chunk]) -> Bytes {
    let mut lines = Vec::new();
    for chunk in chunks {
        serde_json::to_writer(&mut lines, chunk).expect("plain data is JSON");
        lines.push(b'\n');
    }
    lines.into()
}

fn accepts_ndjson(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|media_type| media_type.trim().eq_ignore_ascii_case(NDJSON))
}
