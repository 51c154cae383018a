//! What an operator sets on a queue.

use axum::Json;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use bytes::Bytes;
use kbqueue_core::{QueueName, StoreError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::body;
use crate::dto::{ProblemBody, QueueQuery};
use crate::problem::Problem;
use crate::state::ApiState;

/// Settings of a queue.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Nothing new is claimed; what is processing goes on, and uploads are taken.
    paused: bool,
}

/// Settings of a queue
#[utoipa::path(
    get, path = "/queue", tag = "queue", params(QueueQuery),
    responses((status = 200, body = Settings))
)]
pub(crate) async fn settings(
    State(state): State<ApiState>,
    query: Result<Query<QueueQuery>, QueryRejection>,
) -> Result<Json<Settings>, Problem> {
    let queue = query?.0.queue.unwrap_or_else(|| state.default_queue());
    let paused = state.store.stats(&queue).await?.settings.paused;
    Ok(Json(Settings { paused }))
}

/// Change a queue's settings
///
/// Every process obeys.
#[utoipa::path(
    put, path = "/queue", tag = "queue", params(QueueQuery), request_body = Settings,
    responses(
        (status = 200, body = Settings),
        (status = 415, description = "The body is not JSON", content_type = "application/problem+json", body = ProblemBody),
    )
)]
pub(crate) async fn configure(
    State(state): State<ApiState>,
    query: Result<Query<QueueQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Settings>, Problem> {
    let queue = query?.0.queue.unwrap_or_else(|| state.default_queue());
    let asked: Settings = body::json(&headers, body)?;
    set_paused(&state, &queue, asked.paused).await?;
    Ok(Json(asked))
}

/// Pauses or resumes a queue, and leaves its other settings as they are.
pub(crate) async fn set_paused(
    state: &ApiState,
    queue: &QueueName,
    paused: bool,
) -> Result<(), StoreError> {
    let mut settings = state.store.stats(queue).await?.settings;
    settings.paused = paused;
    state.store.configure(queue, settings).await
}
