//! Where documents live: the trait that a backend implements, and what passes through it.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::chunk::ChunkOptions;
use crate::document::{Document, DocumentId, NewDocument, Properties};
use crate::error::StoreError;
use crate::event::Subscription;
use crate::library::Library;
use crate::lifecycle::{Cursor, LeaseId};
use crate::outbox::Outbox;
use crate::output::{Chunk, Image, Page, Progress};
use crate::queue::{QueueName, QueueSettings, QueueStats};
use crate::schedule::Schedules;
use crate::state::{CrashLimits, Event, Outcome, State};

pub use crate::ext::StoreExt;

/// What every store call answers with.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The least that a backend must write, in the order of a document's life. Comforts written once for
/// every store are in [`StoreExt`].
///
/// # Contract
/// - Every change follows [`transition`](crate::state::transition), and is one atomic step.
/// - A worker's write (checkpoint, renew, settle) applies only while the document is processing under
///   that very lease id; otherwise it answers *lease lost* and changes nothing.
/// - Every write may be repeated when its answer was lost, to the same effect as once.
/// - Time is the store's own: no instant is taken from a caller but `available_at`.
/// - A call that returned is durable as far as the store's settings promise it.
/// - Batches apply whole or not at all; within a batch, one stale lease does not harm the others.
/// - Every change is told to subscribers after it is committed, never before.
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// Takes documents in, in the given order. An id that is there already, or a document that
    /// [`Dedupe`](crate::document::Dedupe) finds, answers for the new one.
    ///
    /// # Errors
    /// [`StoreError::QueueFull`] where a queue would hold more waiting documents than its settings
    /// allow; only those that are made count. Inside a host's own transaction that is approximate.
    async fn enqueue(&self, documents: Vec<NewDocument>) -> Result<Vec<Enqueued>>;

    /// Claims due documents, at most one for each lease id: round robin over (queue, tenant) lines,
    /// least recently served first; within a line by priority, `available_at`, id; and no more than
    /// [`limits::deal`](crate::limits::deal) allows, whoever else claims meanwhile.
    async fn claim(&self, request: ClaimRequest) -> Result<Claims>;

    /// Commits outputs, cursor and progress, and renews the lease, in one step.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where checkpoints were skipped.
    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<Directive>;

    /// Renews a worker's leases, and shows that the worker lives, even with no lease to renew.
    /// Answers in the order of `request.leases`.
    async fn renew(&self, request: RenewRequest) -> Result<Vec<Directive>>;

    /// Ends leases. Answers in the given order.
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>>;

    /// A worker's last word: it no longer counts as live. Its leases stay until they are settled.
    async fn depart(&self, worker: WorkerId) -> Result<()>;

    /// Applies a person's wish to one document, and answers with the document after it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Refused`] where the state forbids it;
    /// [`StoreError::Superseded`] where a retry or rechunk would make two documents of one key.
    async fn control(&self, id: DocumentId, control: Control) -> Result<Document>;

    /// Changes a queue's settings. Its bucket of rate tokens is
    /// [carried over](crate::limits::Rate::carry_over).
    async fn configure(&self, queue: &QueueName, settings: QueueSettings) -> Result<()>;

    /// Takes back at most `limit` documents whose leases ran out, oldest expiry first.
    async fn reap(&self, limits: CrashLimits, limit: usize) -> Result<Vec<Reaped>>;

    /// Removes at most `limit` rows of deleted documents and of superseded generations. Answers with
    /// how many it removed; fewer than `limit` means that nothing is left.
    async fn purge(&self, limit: usize) -> Result<usize>;

    /// One document; `None` where there is none or it was deleted.
    async fn document(&self, id: DocumentId) -> Result<Option<Document>>;

    /// Documents, newest id first.
    async fn documents(&self, query: DocumentQuery) -> Result<Vec<Document>>;

    /// Pages by number, those above `query.after`.
    async fn pages(&self, query: OutputQuery) -> Result<Vec<Page>>;

    /// Chunks by ordinal, those above `query.after`.
    async fn chunks(&self, query: OutputQuery) -> Result<Vec<Chunk>>;

    /// Images by ordinal, those above `query.after`.
    async fn images(&self, query: OutputQuery) -> Result<Vec<Image>>;

    /// Counts and settings of a queue, at the same cost whatever it holds. A queue that nobody used
    /// yet is empty.
    async fn stats(&self, queue: &QueueName) -> Result<QueueStats>;

    /// Notices of what changes from now on, in this process and, sooner or later, in others.
    async fn subscribe(&self) -> Result<Subscription>;
}

/// A store that can do everything: what a service with webhooks, schedules and a dashboard needs.
/// Whatever implements its parts is one.
pub trait FullStore: Outbox + Schedules + Library {}

impl<S: Outbox + Schedules + Library> FullStore for S {}

/// What an enqueue answers for one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    /// The document that stands for the one given: its own id, or an existing one's.
    pub id: DocumentId,
    /// Its state.
    pub state: State,
    /// Whether this call made it.
    pub created: bool,
}

/// Identity of a worker: fresh with every start of a process, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WorkerId(pub Uuid);

/// Who claims and renews.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Fresh with every start.
    pub id: WorkerId,
    /// For people; need not be unique.
    pub name: String,
    /// The queues that it serves.
    pub queues: Vec<QueueName>,
}

/// What a worker asks for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClaimRequest {
    /// Who asks, and from which queues.
    pub worker: Worker,
    /// A fresh id for each free slot.
    pub lease_ids: Vec<LeaseId>,
    /// How long each lease lasts, in whole milliseconds, at least one.
    pub lease: Duration,
    /// The worker's output settings.
    pub fingerprint: String,
    /// How long a started document with another fingerprint is left to others once it is due.
    pub grace: Duration,
}

impl ClaimRequest {
    /// A request for up to `slots` documents under fresh lease ids.
    #[must_use]
    pub fn new(worker: Worker, slots: usize, lease: Duration, fingerprint: String) -> Self {
        let lease_ids = (0..slots).map(|_| LeaseId::random()).collect();
        Self {
            worker,
            lease_ids,
            lease,
            fingerprint,
            grace: Duration::from_secs(600),
        }
    }
}

/// What a claim brought.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Claims {
    /// The claimed documents, each processing under the lease in its lifecycle.
    pub documents: Vec<Document>,
    /// Where fewer came than were asked for: how long until the next one falls due, if any waits, or
    /// until a queue whose documents wait for nothing else has a rate token.
    pub next_due: Option<Duration>,
    /// Where fewer came than were asked for: a document is due, but waits until others are no longer
    /// processing. No time tells when that is.
    pub held_back: bool,
}

/// Outputs, progress and cursor, committed in one step.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// The document.
    pub document: DocumentId,
    /// The fence.
    pub lease_id: LeaseId,
    /// The renewed lease's length.
    pub lease: Duration,
    /// Where work goes on from; its number is one above the last checkpoint's.
    pub cursor: Cursor,
    /// How far the document is.
    pub progress: Progress,
    /// New pages, in order.
    pub pages: Vec<Page>,
    /// New chunks, in order.
    pub chunks: Vec<Chunk>,
    /// New images, in order.
    pub images: Vec<Image>,
    /// What the document says about itself, where that became known.
    pub properties: Option<Properties>,
}

impl Checkpoint {
    /// A checkpoint without outputs.
    #[must_use]
    pub fn new(
        document: DocumentId,
        lease_id: LeaseId,
        lease: Duration,
        cursor: Cursor,
        progress: Progress,
    ) -> Self {
        Self {
            document,
            lease_id,
            lease,
            cursor,
            progress,
            pages: Vec::new(),
            chunks: Vec::new(),
            images: Vec::new(),
            properties: None,
        }
    }
}

/// What the holder of a lease is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directive {
    /// Go on.
    Continue,
    /// Somebody wants it stopped: settle it.
    Cancel,
    /// Somebody else may hold it by now: drop everything, write nothing more.
    LeaseLost,
}

/// A worker's sign of life.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RenewRequest {
    /// Who lives.
    pub worker: Worker,
    /// The leases to renew.
    pub leases: Vec<(DocumentId, LeaseId)>,
    /// How long from now on, for the leases as for the worker itself.
    pub lease: Duration,
}

impl RenewRequest {
    /// A sign of life that renews `leases`.
    #[must_use]
    pub fn new(worker: Worker, leases: Vec<(DocumentId, LeaseId)>, lease: Duration) -> Self {
        Self {
            worker,
            leases,
            lease,
        }
    }
}

/// The end of one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The document.
    pub document: DocumentId,
    /// The fence.
    pub lease_id: LeaseId,
    /// How it ends.
    pub outcome: Outcome,
}

/// What a settlement led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The document is in this state, by this settlement or by an earlier one of the same lease.
    In(State),
    /// The lease was gone; nothing changed.
    LeaseLost,
}

/// What a person can ask of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// Stop it.
    Cancel,
    /// Do it again: from where it stopped, or from scratch.
    Retry {
        /// In a new generation of outputs.
        from_scratch: bool,
    },
    /// Cut its stored pages into chunks again.
    Rechunk(ChunkOptions),
    /// Hide it, and remove it with its outputs.
    Delete,
    /// Say something else about it.
    Change(Change),
}

/// What is to be different about a document; what is `None` stays. What it is the same as
/// ([`Dedupe`](crate::document::Dedupe)) was said when it was enqueued, and is not touched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// In any state: the next claim goes by it.
    pub priority: Option<i16>,
    /// In any state.
    pub metadata: Option<Value>,
    /// While it is queued only.
    pub available_at: Option<Timestamp>,
}

impl Control {
    /// What happens to the document's lifecycle.
    #[must_use]
    pub fn event(&self) -> Event {
        match self {
            Self::Cancel => Event::Cancel,
            Self::Retry { from_scratch } => Event::Retry {
                from_scratch: *from_scratch,
            },
            Self::Rechunk(_) => Event::Rechunk,
            Self::Delete => Event::Delete,
            Self::Change(change) => Event::Change {
                available_at: change.available_at,
            },
        }
    }

    /// What happens to the rest of the document, in the same step.
    pub fn edit(&self, document: &mut Document) {
        match self {
            Self::Rechunk(options) => document.chunking = Some(*options),
            Self::Change(change) => {
                document.priority = change.priority.unwrap_or(document.priority);
                if let Some(metadata) = &change.metadata {
                    document.metadata.clone_from(metadata);
                }
            }
            Self::Cancel | Self::Retry { .. } | Self::Delete => {}
        }
    }
}

/// A document taken back from a worker presumed dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaped {
    /// The document.
    pub id: DocumentId,
    /// Its state now: queued, failed (quarantined) or cancelled.
    pub state: State,
    /// The worker that held it.
    pub worker: String,
}

/// Which documents to list. Defaults: of all queues and states, the newest 50.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentQuery {
    /// Of this queue only.
    pub queue: Option<QueueName>,
    /// In this state only.
    pub state: Option<State>,
    /// Of this tenant only.
    pub tenant: Option<String>,
    /// Whose file names begin with this, letter by letter. A store may look at every document that the
    /// rest of the query leaves.
    pub name: Option<String>,
    /// Older than this one: the last of the previous page.
    pub after: Option<DocumentId>,
    /// How many at most.
    pub limit: u32,
}

impl Default for DocumentQuery {
    fn default() -> Self {
        Self {
            queue: None,
            state: None,
            tenant: None,
            name: None,
            after: None,
            limit: 50,
        }
    }
}

impl DocumentQuery {
    /// The documents of `queue` in `state`.
    #[must_use]
    pub fn in_state(queue: QueueName, state: State) -> Self {
        Self {
            queue: Some(queue),
            state: Some(state),
            ..Self::default()
        }
    }
}

/// Which outputs of a document to read. Of a document that is not there, there are none.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputQuery {
    /// The document.
    pub document: DocumentId,
    /// A generation of pages (for pages and images) or of chunks; `None` for what readers see.
    pub generation: Option<u32>,
    /// Those above this page number or ordinal; `None` from the first on.
    pub after: Option<u32>,
    /// How many at most.
    pub limit: u32,
}

impl OutputQuery {
    /// The first `limit` outputs that readers see.
    #[must_use]
    pub fn new(document: DocumentId, limit: u32) -> Self {
        Self {
            document,
            generation: None,
            after: None,
            limit,
        }
    }
}
