//! What an operator sets on a queue.

use std::num::NonZeroU32;

use axum::Json;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use bytes::Bytes;
use kbqueue_core::{QueueName, QueueSettings, Rate, StoreError};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::body;
use crate::dto::{ProblemBody, QueueQuery};
use crate::problem::Problem;
use crate::state::ApiState;

/// Settings of a queue.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Settings {
    /// Nothing new is claimed; what is processing goes on, and uploads are taken.
    paused: bool,
    /// How many documents may start in a time; null for no limit.
    rate: Option<RateBody>,
    /// How many may be processing at once, in all processes; null for no limit.
    max_processing: Option<u32>,
    /// How many of one tenant may be processing at once; null for no limit.
    max_processing_per_tenant: Option<u32>,
    /// How many may be queued; more are refused with 429. Null for no limit.
    max_queued: Option<u64>,
}

/// What is to be different about a queue. What is left out stays, null takes a limit away.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSettings {
    /// Nothing new is claimed; what is processing goes on, and uploads are taken.
    #[serde(default)]
    paused: Option<bool>,
    /// How many documents may start in a time.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<RateBody>)]
    rate: Option<Option<RateBody>>,
    /// How many may be processing at once, in all processes.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    max_processing: Option<Option<u32>>,
    /// How many of one tenant may be processing at once.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    max_processing_per_tenant: Option<Option<u32>>,
    /// How many may be queued; more are refused with 429.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>)]
    max_queued: Option<Option<u64>>,
}

/// How many documents may start in a time: at most `documents × t / per_seconds + burst` in any t seconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[schema(as = Rate)]
#[serde(deny_unknown_fields)]
pub(crate) struct RateBody {
    #[schema(value_type = u32, minimum = 1)]
    documents: NonZeroU32,
    #[schema(value_type = u32, minimum = 1)]
    per_seconds: NonZeroU32,
    /// How many at once after a quiet time. Default: 1.
    #[serde(default = "one")]
    #[schema(value_type = u32, minimum = 1)]
    burst: NonZeroU32,
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

/// Tells null, which is a value, from a field that is not there.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(field: D) -> Result<Option<T>, D::Error> {
    T::deserialize(field).map(Some)
}

impl From<QueueSettings> for Settings {
    fn from(settings: QueueSettings) -> Self {
        Self {
            paused: settings.paused,
            rate: settings.rate.map(|rate| RateBody {
                documents: rate.documents,
                per_seconds: rate.per_seconds,
                burst: rate.burst,
            }),
            max_processing: settings.max_processing,
            max_processing_per_tenant: settings.max_processing_per_tenant,
            max_queued: settings.max_queued,
        }
    }
}

impl NewSettings {
    fn apply(self, settings: &mut QueueSettings) {
        settings.paused = self.paused.unwrap_or(settings.paused);
        if let Some(rate) = self.rate {
            settings.rate = rate.map(|rate| Rate {
                documents: rate.documents,
                per_seconds: rate.per_seconds,
                burst: rate.burst,
            });
        }
        settings.max_processing = self.max_processing.unwrap_or(settings.max_processing);
        settings.max_processing_per_tenant = self
            .max_processing_per_tenant
            .unwrap_or(settings.max_processing_per_tenant);
        settings.max_queued = self.max_queued.unwrap_or(settings.max_queued);
    }
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
    Ok(Json(state.store.stats(&queue).await?.settings.into()))
}

/// Change a queue's settings
///
/// Every process obeys from its next claim on.
#[utoipa::path(
    put, path = "/queue", tag = "queue", params(QueueQuery), request_body = NewSettings,
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
    let asked: NewSettings = body::json(&headers, body)?;
    let mut settings = state.store.stats(&queue).await?.settings;
    asked.apply(&mut settings);
    state.store.configure(&queue, settings).await?;
    Ok(Json(settings.into()))
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
