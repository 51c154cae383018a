//! What goes over the wire: one type for each JSON object of the contract, field for field.

use std::time::Duration;

use jiff::Timestamp;
use kbqueue_core::document::Attempt;
use kbqueue_core::output::FailedPage;
use kbqueue_core::queue::StateCounts;
use kbqueue_core::{
    BatchReport, Clock, Document, DocumentId, Progress, Properties, QueueName, State,
};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};
use utoipa::{IntoParams, ToSchema};

/// Query of calls that take a queue and nothing else.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct QueueQuery {
    /// The queue. Default: the first that this server serves, or all of them where the call is about all.
    #[param(value_type = Option<String>, pattern = r"^[A-Za-z0-9_.-]{1,64}$")]
    pub(crate) queue: Option<QueueName>,
}

/// Query of calls that answer in pages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// Not found where the document is in another queue.
    #[param(value_type = Option<String>, pattern = r"^[A-Za-z0-9_.-]{1,64}$")]
    pub(crate) queue: Option<QueueName>,
    /// Those above this one: `next` of the page before.
    #[param(minimum = 0, maximum = 4_294_967_295_i64)]
    pub(crate) after: Option<u32>,
    /// How many at most. Default: 50.
    #[param(minimum = 1, maximum = 500)]
    pub(crate) limit: Option<u32>,
}

/// Query of a list of documents.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DocumentsQuery {
    /// Of this queue. Default: the first that this server serves.
    #[param(value_type = Option<String>, pattern = r"^[A-Za-z0-9_.-]{1,64}$")]
    pub(crate) queue: Option<QueueName>,
    /// In this state only.
    #[param(inline)]
    pub(crate) state: Option<Status>,
    /// Of this tenant only.
    pub(crate) tenant: Option<String>,
    /// Whose file names begin with this.
    pub(crate) name: Option<String>,
    /// Older than this document: `next` of the page before.
    #[param(value_type = Option<Uuid>)]
    pub(crate) after: Option<DocumentId>,
    /// How many at most. Default: 50.
    #[param(minimum = 1, maximum = 500)]
    pub(crate) limit: Option<u32>,
}

/// Query of an event stream.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// The queue. Default: the first that this server serves.
    #[param(value_type = Option<String>, pattern = r"^[A-Za-z0-9_.-]{1,64}$")]
    pub(crate) queue: Option<QueueName>,
    /// Of this document only.
    #[param(value_type = Option<Uuid>)]
    pub(crate) document_id: Option<DocumentId>,
}

/// State of a document. Scheduled is queued with a later `available_at`; retrying is queued with a
/// `retry_count` above 0.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Queued,
    Processing,
    Completed,
    Failed,
    Cancelled,
}

impl From<State> for Status {
    fn from(state: State) -> Self {
        match state {
            State::Queued => Self::Queued,
            State::Processing => Self::Processing,
            State::Completed => Self::Completed,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
        }
    }
}

impl From<Status> for State {
    fn from(status: Status) -> Self {
        match status {
            Status::Queued => Self::Queued,
            Status::Processing => Self::Processing,
            Status::Completed => Self::Completed,
            Status::Failed => Self::Failed,
            Status::Cancelled => Self::Cancelled,
        }
    }
}

/// Why a call was refused (RFC 9457).
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// A stable name, `urn:kbqueue:problem:…`: what programs decide by.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub(crate) status: u16,
    pub(crate) detail: String,
    /// The path that was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) instance: Option<String>,
    /// What became of each file of an upload.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(no_recursion)]
    pub(crate) documents: Vec<FileAnswer>,
}

/// What became of an upload.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UploadAnswer {
    pub(crate) status: &'static str,
    /// In the order of the files.
    pub(crate) documents: Vec<FileAnswer>,
    pub(crate) timestamp: Timestamp,
}

/// What became of one file of an upload.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum FileAnswer {
    Taken {
        #[schema(value_type = Uuid)]
        document_id: DocumentId,
        filename: String,
        status: Status,
        /// How many chunks are known so far.
        chunks: u32,
        /// False where the same document was there already.
        created: bool,
    },
    Refused {
        filename: String,
        #[schema(no_recursion)]
        error: Box<ProblemBody>,
    },
}

impl FileAnswer {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Taken { filename, .. } | Self::Refused { filename, .. } => filename,
        }
    }

    /// Why it was refused, if it was.
    pub(crate) fn refusal(&self) -> Option<&str> {
        match self {
            Self::Taken { .. } => None,
            Self::Refused { error, .. } => Some(&error.detail),
        }
    }
}

/// How the queues stand.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueStatus {
    /// `running` while any worker, in any process, serves the queues; else `stopped`.
    pub(crate) worker_status: &'static str,
    pub(crate) queue: QueueCounts,
    pub(crate) paused: bool,
    pub(crate) processor_config: ProcessorConfig,
    /// What is processing, at most 500 for each queue.
    pub(crate) processing_details: Vec<ProcessingDetail>,
    pub(crate) timestamp: Timestamp,
}

/// Documents by state.
#[derive(Debug, Serialize, ToSchema)]
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

/// How documents are processed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProcessorConfig {
    pub(crate) batch_size: usize,
    /// Seconds.
    #[schema(value_type = f64)]
    pub(crate) check_interval: Number,
    pub(crate) max_retries: u32,
}

/// How far a document is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProcessingDetail {
    #[schema(value_type = Uuid)]
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

/// What one batch did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchAnswer {
    pub(crate) status: &'static str,
    /// Documents claimed.
    pub(crate) processed: u64,
    /// Of these, completed.
    pub(crate) completed: u64,
    /// Of these, failed for good.
    pub(crate) failed: u64,
    /// Of these, queued again after an error.
    pub(crate) retried: u64,
    pub(crate) timestamp: Timestamp,
}

impl From<BatchReport> for BatchAnswer {
    fn from(report: BatchReport) -> Self {
        Self {
            status: "success",
            processed: report.processed,
            completed: report.completed,
            failed: report.failed,
            retried: report.retried,
            timestamp: now(),
        }
    }
}

/// A document.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Document)]
pub(crate) struct DocumentBody {
    #[schema(value_type = Uuid)]
    document_id: DocumentId,
    #[schema(value_type = String)]
    queue: QueueName,
    filename: String,
    status: Status,
    progress_percent: u8,
    current_chunk: u32,
    total_chunks: u32,
    current_page: u32,
    total_pages: Option<u32>,
    estimated_time_seconds: Option<u64>,
    retry_count: u32,
    crash_count: u32,
    error_message: Option<String>,
    #[schema(value_type = Vec<FailedPageBody>)]
    failed_pages: Vec<FailedPage>,
    created_at: Timestamp,
    available_at: Timestamp,
    started_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
    size_bytes: u64,
    sha256: String,
    media_type: String,
    /// The caller's own.
    metadata: Value,
    /// The PDF's: title, author, …
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    properties: Properties,
    tenant: Option<String>,
    priority: i16,
    /// Of the chunks that readers see.
    generation: u32,
    version: u64,
    /// Whether a damaged file was repaired to read it.
    repaired: bool,
    /// Failed because it killed its workers.
    quarantined: bool,
    /// Somebody asked its worker to stop.
    cancel_requested: bool,
    /// How earlier attempts ended, oldest first.
    #[schema(value_type = Vec<AttemptBody>)]
    attempts: Vec<Attempt>,
}

/// A page that could not be read.
#[derive(ToSchema)]
#[schema(as = FailedPage)]
#[expect(dead_code, reason = "describes core's type of that name")]
pub(crate) struct FailedPageBody {
    page: u32,
    cause: String,
}

/// One worker's hold on a document, after it ended.
#[derive(ToSchema)]
#[schema(as = Attempt)]
#[expect(dead_code, reason = "describes core's type of that name")]
pub(crate) struct AttemptBody {
    worker: String,
    started_at: Timestamp,
    ended_at: Timestamp,
    /// `completed`, `failed`, `retried`, `released`, `snoozed`, `cancelled` or `crashed`.
    outcome: String,
    error: Option<String>,
}

impl From<Document> for DocumentBody {
    fn from(document: Document) -> Self {
        let life = document.lifecycle;
        let repaired = document.properties.is_repaired();
        Self {
            document_id: document.id,
            queue: document.queue,
            filename: document.filename,
            status: life.state.into(),
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
            cancel_requested: life.cancel_requested_at.is_some(),
            attempts: document.attempts,
        }
    }
}

/// One page of documents, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DocumentsPage {
    pub(crate) documents: Vec<DocumentBody>,
    /// `after` of the next page; null on the last one.
    #[schema(value_type = Option<Uuid>)]
    pub(crate) next: Option<DocumentId>,
}

/// How many documents a call changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Affected {
    pub(crate) affected: u64,
    /// Where a filter finds more than one call changes: `after` of the next call. Null where all is done.
    #[schema(value_type = Option<Uuid>)]
    pub(crate) next: Option<DocumentId>,
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

pub(crate) fn estimated_time_seconds(progress: &Progress) -> Option<u64> {
    Some(progress.eta_ms?.div_ceil(1000))
}
