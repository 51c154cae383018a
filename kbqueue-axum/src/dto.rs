//! What goes over the wire: one type for each JSON object of the contract, field for field.

use std::time::Duration;

use jiff::Timestamp;
use kbqueue_core::document::Attempt;
use kbqueue_core::output::FailedPage;
use kbqueue_core::queue::StateCounts;
use kbqueue_core::{
    BatchReport, Chunk, Clock, Document, DocumentId, Progress, Properties, QueueName, State,
};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

/// Query of calls that take a queue and nothing else.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueQuery {
    pub(crate) queue: Option<QueueName>,
}

/// Query of calls that answer in pages.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    pub(crate) queue: Option<QueueName>,
    pub(crate) after: Option<u32>,
    pub(crate) limit: Option<u32>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct ProblemBody {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) title: &'static str,
    pub(crate) status: u16,
    pub(crate) detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) instance: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) documents: Vec<FileAnswer>,
}

#[derive(Debug, Serialize)]
pub(crate) struct UploadAnswer {
    pub(crate) status: &'static str,
    pub(crate) documents: Vec<FileAnswer>,
    pub(crate) timestamp: Timestamp,
}

/// What became of one file of an upload.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum FileAnswer {
    Taken {
        document_id: DocumentId,
        filename: String,
        status: State,
        chunks: u32,
        /// False where the same document was there already.
        created: bool,
    },
    Refused {
        filename: String,
        error: Box<ProblemBody>,
    },
}

#[derive(Debug, Serialize)]
pub(crate) struct QueueStatus {
    pub(crate) worker_status: &'static str,
    pub(crate) queue: QueueCounts,
    pub(crate) paused: bool,
    pub(crate) processor_config: ProcessorConfig,
    pub(crate) processing_details: Vec<ProcessingDetail>,
    pub(crate) timestamp: Timestamp,
}

#[derive(Debug, Serialize)]
pub(crate) struct QueueCounts {
    pub(crate) queued: u64,
    pub(crate) processing: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    pub(crate) total: u64,
}

impl From<StateCounts> for QueueCounts {
    fn from(counts: StateCounts) -> Self {
        let StateCounts {
            queued,
            processing,
            completed,
            failed,
            cancelled,
        } = counts;
        let total = counts.total();
        Self {
            queued,
            processing,
            completed,
            failed,
            cancelled,
            total,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct ProcessorConfig {
    pub(crate) batch_size: usize,
    /// Seconds.
    pub(crate) check_interval: Number,
    pub(crate) max_retries: u32,
}

#[derive(Debug, Serialize)]
pub(crate) struct ProcessingDetail {
    pub(crate) document_id: DocumentId,
    pub(crate) filename: String,
    pub(crate) progress_percent: u8,
    pub(crate) current_chunk: u32,
    pub(crate) total_chunks: u32,
    pub(crate) current_page: u32,
    pub(crate) total_pages: Option<u32>,
    pub(crate) estimated_time_seconds: Option<u64>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) worker: Option<String>,
    pub(crate) retry_count: u32,
}

impl From<Document> for ProcessingDetail {
    fn from(document: Document) -> Self {
        let life = document.lifecycle;
        Self {
            document_id: document.id,
            filename: document.filename,
            progress_percent: life.progress.percent,
            current_chunk: life.progress.current_chunk,
            total_chunks: life.progress.total_chunks,
            current_page: life.progress.current_page,
            total_pages: life.progress.total_pages,
            estimated_time_seconds: estimated_time_seconds(&life.progress),
            started_at: life.started_at,
            worker: life.lease.map(|lease| lease.worker),
            retry_count: life.retry_count,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct BatchAnswer {
    pub(crate) status: &'static str,
    #[serde(flatten)]
    pub(crate) report: BatchReport,
    pub(crate) timestamp: Timestamp,
}

#[derive(Debug, Serialize)]
pub(crate) struct DocumentBody {
    document_id: DocumentId,
    queue: QueueName,
    filename: String,
    status: State,
    progress_percent: u8,
    current_chunk: u32,
    total_chunks: u32,
    current_page: u32,
    total_pages: Option<u32>,
    estimated_time_seconds: Option<u64>,
    retry_count: u32,
    crash_count: u32,
    error_message: Option<String>,
    failed_pages: Vec<FailedPage>,
    created_at: Timestamp,
    available_at: Timestamp,
    started_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
    size_bytes: u64,
    sha256: String,
    media_type: String,
    metadata: Value,
    properties: Properties,
    tenant: Option<String>,
    priority: i16,
    /// Of the chunks that readers see.
    generation: u32,
    version: u64,
    /// Whether a damaged file was repaired to read it.
    repaired: bool,
    quarantined: bool,
    attempts: Vec<Attempt>,
}

impl From<Document> for DocumentBody {
    fn from(document: Document) -> Self {
        let life = document.lifecycle;
        let repaired = document.properties.is_repaired();
        Self {
            document_id: document.id,
            queue: document.queue,
            filename: document.filename,
            status: life.state,
            progress_percent: life.progress.percent,
            current_chunk: life.progress.current_chunk,
            total_chunks: life.progress.total_chunks,
            current_page: life.progress.current_page,
            total_pages: life.progress.total_pages,
            estimated_time_seconds: estimated_time_seconds(&life.progress),
            retry_count: life.retry_count,
            crash_count: life.crash_count,
            generation: life.visible().chunks,
            error_message: life.error,
            failed_pages: document.failed_pages,
            created_at: document.created_at,
            available_at: life.available_at,
            started_at: life.started_at,
            completed_at: life.completed_at,
            size_bytes: document.blob.size_bytes,
            sha256: document.blob.sha256,
            media_type: document.media_type,
            metadata: document.metadata,
            properties: document.properties,
            tenant: document.tenant,
            priority: document.priority,
            version: life.version,
            repaired,
            quarantined: life.quarantined,
            attempts: document.attempts,
        }
    }
}

/// One page of chunks. A chunk is the same in core as on the wire.
#[derive(Debug, Serialize)]
pub(crate) struct ChunksPage {
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) next: Option<u32>,
}

/// The time of an answer, in the resolution that stores keep.
pub(crate) fn now() -> Timestamp {
    Clock::system().now()
}

/// A whole number where it is one, as in the original system.
pub(crate) fn seconds(duration: Duration) -> Number {
    if duration.subsec_nanos() == 0 {
        return duration.as_secs().into();
    }
    Number::from_f64(duration.as_secs_f64()).expect("a duration is a finite number")
}

fn estimated_time_seconds(progress: &Progress) -> Option<u64> {
    Some(progress.eta_ms?.div_ceil(1000))
}
