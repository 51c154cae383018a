//! Events as they go over the wire.

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use kbqueue_core::event::DocumentChange;
use kbqueue_core::{Document, DocumentId, Progress, QueueName, State};
use serde::Serialize;

use crate::dto::{QueueCounts, QueueStatus, estimated_time_seconds};

/// How far a document is.
#[derive(Serialize)]
struct ProgressData {
    document_id: DocumentId,
    version: u64,
    status: State,
    progress_percent: u8,
    current_chunk: u32,
    total_chunks: u32,
    current_page: u32,
    total_pages: Option<u32>,
    estimated_time_seconds: Option<u64>,
}

/// All that a transition may change.
#[derive(Serialize)]
struct TransitionData {
    #[serde(flatten)]
    progress: ProgressData,
    queue: QueueName,
    filename: String,
    tenant: Option<String>,
    priority: i16,
    worker: Option<String>,
    retry_count: u32,
    crash_count: u32,
    error_message: Option<String>,
    quarantined: bool,
    cancel_requested: bool,
    created_at: Timestamp,
    available_at: Timestamp,
    started_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
}

/// A queue and its name.
#[derive(Serialize)]
struct QueueSnapshot<'a> {
    queue_name: &'a QueueName,
    #[serde(flatten)]
    status: &'a QueueStatus,
}

/// A queue's counts or settings.
#[derive(Serialize)]
pub(super) struct QueueChange<'a> {
    pub(super) queue_name: &'a QueueName,
    pub(super) worker_status: &'static str,
    pub(super) queue: QueueCounts,
    pub(super) paused: bool,
}

/// One event.
pub(super) fn frame(event: &str, data: &impl Serialize) -> Bytes {
    // JSON as serde writes it has no line feeds, which would end the data.
    let data = serde_json::to_string(data).expect("plain data is JSON");
    format!("event: {event}\ndata: {data}\n\n").into()
}

/// How a queue stands.
pub(super) fn snapshot(queue_name: &QueueName, status: &QueueStatus) -> Bytes {
    frame("snapshot", &QueueSnapshot { queue_name, status })
}

fn progress_data(
    document_id: DocumentId,
    version: u64,
    status: State,
    progress: &Progress,
) -> ProgressData {
    ProgressData {
        document_id,
        version,
        status,
        progress_percent: progress.percent,
        current_chunk: progress.current_chunk,
        total_chunks: progress.total_chunks,
        current_page: progress.current_page,
        total_pages: progress.total_pages,
        estimated_time_seconds: estimated_time_seconds(progress),
    }
}

/// A document got on without a change of its state.
pub(super) fn progress(change: &DocumentChange) -> Bytes {
    let data = progress_data(change.id, change.version, change.state, &change.progress);
    frame("progress", &data)
}

/// A document changed its state, or something else that people do to it.
pub(super) fn transition(document: Document) -> Bytes {
    let life = document.lifecycle;
    let data = TransitionData {
        progress: progress_data(document.id, life.version, life.state, &life.progress),
        queue: document.queue,
        filename: document.filename,
        tenant: document.tenant,
        priority: document.priority,
        worker: life.lease.map(|lease| lease.worker),
        retry_count: life.retry_count,
        crash_count: life.crash_count,
        error_message: life.error,
        quarantined: life.quarantined,
        cancel_requested: life.cancel_requested_at.is_some(),
        created_at: document.created_at,
        available_at: life.available_at,
        started_at: life.started_at,
        completed_at: life.completed_at,
    };
    frame(life.state.as_str(), &data)
}

/// A document is gone.
pub(super) fn deleted(id: DocumentId, version: u64) -> Bytes {
    #[derive(Serialize)]
    struct Deleted {
        document_id: DocumentId,
        version: u64,
    }
    let data = Deleted {
        document_id: id,
        version,
    };
    frame("deleted", &data)
}

/// Frames for one scope, sent in one piece.
#[derive(Default)]
pub(super) struct Frames(BytesMut);

impl Frames {
    pub(super) fn push(&mut self, frame: &[u8]) {
        self.0.extend_from_slice(frame);
    }

    pub(super) fn take(self) -> Bytes {
        self.0.freeze()
    }
}
