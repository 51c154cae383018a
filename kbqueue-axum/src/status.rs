//! How the queues stand, and starting a batch.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use kbqueue_core::store::DocumentQuery;
use kbqueue_core::{Document, QueueName, QueueStats, State as DocumentState, StoreError};

use crate::dto::{BatchAnswer, ProcessorConfig, QueueQuery, QueueStatus, now, seconds};
use crate::problem::Problem;
use crate::state::ApiState;

/// How many documents under work are listed, at most, for each queue: fleets are smaller, and an
/// answer that is polled stays small.
const DETAILS: u32 = 500;

/// `GET {prefix}/queue-status`.
pub(crate) async fn queue_status(
    State(state): State<ApiState>,
    query: Result<Query<QueueQuery>, QueryRejection>,
) -> Result<Json<QueueStatus>, Problem> {
    let queues = state.queues(query?.0.queue);
    let (stats, processing) = overview(&state, &queues).await?;
    let options = &state.options.processing;
    Ok(Json(QueueStatus {
        worker_status: worker_status(&stats),
        queue: stats.counts.into(),
        paused: stats.settings.paused,
        processor_config: ProcessorConfig {
            batch_size: options.batch_size,
            check_interval: seconds(options.check_interval),
            max_retries: options.retry.max_retries,
        },
        processing_details: processing.into_iter().map(Into::into).collect(),
        timestamp: now(),
    }))
}

/// `GET` or `POST /api/queue/process`.
pub(crate) async fn process(
    State(state): State<ApiState>,
    query: Result<Query<QueueQuery>, QueryRejection>,
) -> Result<Json<BatchAnswer>, Problem> {
    let asked = query?.0.queue;
    let processor = state.processor.as_ref().ok_or_else(Problem::no_workers)?;
    if let Some(queue) = asked {
        // A processor's batch is over all of its queues.
        let served = &processor.options().queues;
        if *served != [queue] {
            let served: Vec<&str> = served.iter().map(QueueName::as_str).collect();
            let served = served.join(", ");
            return Err(Problem::invalid(format!(
                "a batch here is of: {served}; leave out queue"
            )));
        }
    }
    let report = processor.process_once().await?;
    Ok(Json(BatchAnswer {
        status: "success",
        report,
        timestamp: now(),
    }))
}

/// The queues taken together, and what is processing in them. They count as paused when all are.
pub(crate) async fn overview(
    state: &ApiState,
    queues: &[QueueName],
) -> Result<(QueueStats, Vec<Document>), StoreError> {
    let mut all = QueueStats::default();
    all.settings.paused = !queues.is_empty();
    let mut processing = Vec::new();
    for queue in queues {
        let stats = state.store.stats(queue).await?;
        for one in DocumentState::ALL {
            *all.counts.of_mut(one) += stats.counts.of(one);
        }
        all.settings.paused &= stats.settings.paused;
        // A worker of two queues counts twice; what is asked is whether there is any.
        all.live_workers += stats.live_workers;
        if stats.counts.processing > 0 {
            let mut query = DocumentQuery::in_state(queue.clone(), DocumentState::Processing);
            query.limit = DETAILS;
            processing.extend(state.store.documents(query).await?);
        }
    }
    Ok((all, processing))
}

/// The word of the original system.
pub(crate) fn worker_status(stats: &QueueStats) -> &'static str {
    if stats.live_workers > 0 {
        "running"
    } else {
        "stopped"
    }
}
