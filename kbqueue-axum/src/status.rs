//! How the queues stand, and starting a batch.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::Method;
use kbqueue_core::store::DocumentQuery;
use kbqueue_core::{Document, QueueName, QueueStats, State as DocumentState, Store, StoreError};

use crate::dto::{
    BatchAnswer, ProblemBody, ProcessorConfig, QueueQuery, QueueStatus, now, seconds,
};
use crate::problem::Problem;
use crate::state::{ApiOptions, ApiState};

/// How many documents under work are listed, at most, for each queue: fleets are smaller, and an
/// answer that is polled stays small.
const DETAILS: u32 = 500;

/// How the queues stand
///
/// All queues that this server serves taken together, or the one asked for.
#[utoipa::path(
    get, path = "/queue-status", tag = "queue", params(QueueQuery),
    responses((status = 200, body = QueueStatus))
)]
pub(crate) async fn queue_status(
    State(state): State<ApiState>,
    query: Result<Query<QueueQuery>, QueryRejection>,
) -> Result<Json<QueueStatus>, Problem> {
    let queues = state.queues(query?.0.queue);
    let (stats, processing) = overview(&*state.store, &queues).await?;
    Ok(Json(body(&state.options, &stats, processing)))
}

/// The answer of the original system, key for key, and some more.
pub(crate) fn body(
    options: &ApiOptions,
    stats: &QueueStats,
    processing: Vec<Document>,
) -> QueueStatus {
    let processing_options = &options.processing;
    QueueStatus {
        worker_status: worker_status(stats),
        queue: stats.counts.into(),
        paused: stats.settings.paused,
        processor_config: ProcessorConfig {
            batch_size: processing_options.batch_size,
            check_interval: seconds(processing_options.check_interval),
            max_retries: processing_options.retry.max_retries,
        },
        processing_details: processing.into_iter().map(Into::into).collect(),
        timestamp: now(),
    }
}

/// Process one batch
///
/// Claims up to a batch of documents, and answers when they are done. Safe to call from anywhere, any
/// number of times at once.
#[utoipa::path(
    method(get, post), path = "/process", tag = "queue", params(QueueQuery),
    responses(
        (status = 200, body = BatchAnswer),
        (status = 409, description = "Nothing is processed here", content_type = "application/problem+json", body = ProblemBody),
    )
)]
pub(crate) async fn process(
    State(state): State<ApiState>,
    method: Method,
    query: Result<Query<QueueQuery>, QueryRejection>,
) -> Result<Json<BatchAnswer>, Problem> {
    // HEAD is for looking, and whoever looks (a probe, a proxy) expects that nothing happens.
    if method == Method::HEAD {
        return Err(Problem::no_head());
    }
    let asked = query?.0.queue;
    let nothing = "this server takes and shows documents, and leaves their processing to others";
    let processor = state.processor.as_ref();
    let processor = processor.ok_or_else(|| Problem::no_workers(nothing))?;
    if let Some(queue) = asked {
        // A processor's batch is over all of its queues.
        let served = &processor.options().queues;
        if *served != [queue] {
            let served: Vec<&str> = served.iter().map(QueueName::as_str).collect();
            let served = served.join(", ");
            return Err(Problem::no_workers(format!(
                "a batch here is of: {served}; leave out queue"
            )));
        }
    }
    Ok(Json(processor.process_once().await?.into()))
}

/// The queues taken together, and what is processing in them.
pub(crate) async fn overview(
    store: &dyn Store,
    queues: &[QueueName],
) -> Result<(QueueStats, Vec<Document>), StoreError> {
    let stats = standing(store, queues).await?;
    let mut processing = Vec::new();
    if stats.counts.processing > 0 {
        for queue in queues {
            let mut query = DocumentQuery::in_state(queue.clone(), DocumentState::Processing);
            query.limit = DETAILS;
            processing.extend(store.documents(query).await?);
        }
    }
    Ok((stats, processing))
}

/// The queues taken together. They count as paused when all are; a queue alone has all of its settings.
pub(crate) async fn standing(
    store: &dyn Store,
    queues: &[QueueName],
) -> Result<QueueStats, StoreError> {
    if let [one] = queues {
        return store.stats(one).await;
    }
    let mut all = QueueStats::default();
    all.settings.paused = !queues.is_empty();
    for queue in queues {
        let stats = store.stats(queue).await?;
        for one in DocumentState::ALL {
            *all.counts.of_mut(one) += stats.counts.of(one);
        }
        all.settings.paused &= stats.settings.paused;
        // A worker of two queues counts twice; what is asked is whether there is any.
        all.live_workers += stats.live_workers;
    }
    Ok(all)
}

/// The word of the original system.
pub(crate) fn worker_status(stats: &QueueStats) -> &'static str {
    if stats.live_workers > 0 {
        "running"
    } else {
        "stopped"
    }
}
