//! Durable events: what happened to documents is written down in the same step, once for each endpoint
//! that wants to hear of it, and delivered from there.
//!
//! Events of one document are delivered to one endpoint in the order of its versions, one after the
//! other: what is claimed is the first one that is not done. Each is delivered at least once, until it is
//! dead or its endpoint disabled.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::document::DocumentId;
use crate::lifecycle::{LeaseId, Lifecycle};
use crate::queue::QueueName;
use crate::state::{State, leased_until, put_off};
use crate::store::{Result, Store};

/// A store that keeps endpoints and what has to be delivered to them.
///
/// # Contract
/// - Wherever a document's lifecycle changes, [`event`] says whether that is one; then the write that
///   changes it also keeps one [`Delivery::new`] for each endpoint of its queue that
///   [wants](Endpoint::wants) it.
/// - Deliveries outlive their documents, and end with their endpoints.
/// - An endpoint and its deliveries belong to one queue.
#[async_trait]
pub trait Outbox: Store {
    /// The endpoints of a queue, by id.
    async fn endpoints(&self, queue: &QueueName) -> Result<Vec<Endpoint>>;

    /// Makes an endpoint, or replaces all that is said of it. What is pending for it stays.
    async fn put_endpoint(&self, endpoint: Endpoint) -> Result<()>;

    /// Removes an endpoint with its deliveries. Answers whether it was there.
    async fn delete_endpoint(&self, queue: &QueueName, id: EndpointId) -> Result<bool>;

    /// Claims deliveries that are due, at most one for each lease id: of each enabled endpoint the
    /// [heads](Delivery::claim) of its documents by (`due_at`, document), no more than leave
    /// `per_endpoint` of it under lease; dealt [round robin](crate::fair::deal) to endpoints, those with
    /// fewer under lease first, then by (queue, id).
    async fn claim_deliveries(&self, request: DeliveryRequest) -> Result<DeliveryClaims>;

    /// Ends leases by [`Delivery::settle`]. Answers in the given order whether each was still held; where
    /// it was not, nothing changed. [`DeliveryOutcome::Gone`] disables the endpoint in the same step.
    async fn settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<Vec<bool>>;

    /// Deliveries of an endpoint by (document, version), those above `query.after`.
    async fn deliveries(&self, query: DeliveryQuery) -> Result<Vec<Delivery>>;

    /// [Replays](Delivery::replay) one delivery, or else all dead ones of an endpoint. Answers how many.
    async fn replay(
        &self,
        queue: &QueueName,
        endpoint: EndpointId,
        one: Option<(DocumentId, u64)>,
    ) -> Result<u64>;

    /// Removes at most `limit` deliveries that were delivered at least `age` ago. Answers how many it
    /// removed.
    async fn purge_deliveries(&self, age: Duration, limit: usize) -> Result<usize>;
}

/// Names an endpoint for ever; made by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EndpointId(pub Uuid);

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for EndpointId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Who wants to hear of what. A store may keep all of it but its id and queue as the JSON that it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its name for ever.
    pub id: EndpointId,
    /// Of the documents of this queue.
    pub queue: QueueName,
    /// Where events are sent.
    pub url: String,
    /// The signing secret, encrypted: no store can read it.
    pub secret: Vec<u8>,
    /// Which events it wants.
    pub events: Vec<EventKind>,
    /// Why it hears nothing, where that is so: nothing is written down for it, and what is pending waits.
    pub disabled: Option<String>,
}

impl Endpoint {
    /// Whether events of this kind are written down for it.
    #[must_use]
    pub fn wants(&self, kind: EventKind) -> bool {
        self.disabled.is_none() && self.events.contains(&kind)
    }
}

/// What can happen to a document that somebody else has to know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// It is done.
    Completed,
    /// It was given up on.
    Failed,
    /// It was stopped on request.
    Cancelled,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Completed, Self::Failed, Self::Cancelled];

    /// The word used in databases and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The event in a change of a document from `before` to `after`, if there is one.
#[must_use]
pub fn event(before: &Lifecycle, after: &Lifecycle) -> Option<EventKind> {
    if before.state == after.state {
        return None;
    }
    match after.state {
        State::Completed => Some(EventKind::Completed),
        State::Failed => Some(EventKind::Failed),
        State::Cancelled => Some(EventKind::Cancelled),
        State::Queued | State::Processing => None,
    }
}

/// Where a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// To be sent, or being sent.
    Pending,
    /// The endpoint took it.
    Delivered,
    /// Given up on: a dead letter.
    Dead,
}

/// One event on its way to one endpoint: named by (endpoint, document, version).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// To whom.
    pub endpoint: EndpointId,
    /// Of the queue, as its document.
    pub queue: QueueName,
    /// What happened to which document,
    pub document: DocumentId,
    /// by which of its versions.
    pub version: u64,
    /// What happened.
    pub kind: EventKind,
    /// When.
    pub occurred_at: Timestamp,
    /// What is known of it, as of then: `document_id`, `queue`, `status`, `version`, `generation`,
    /// `error_message`, `quarantined`, `total_pages`, `total_chunks`.
    pub data: Value,
    /// Where it is.
    pub state: DeliveryState,
    /// How often it was claimed since it was made or replayed.
    pub attempts: u32,
    /// Not claimed before; for one under lease, when that ends.
    pub due_at: Timestamp,
    /// The fence of its claimer. There while it is under lease.
    pub lease_id: Option<LeaseId>,
    /// What went wrong the last time.
    pub error: Option<String>,
    /// When it was delivered or given up on.
    pub ended_at: Option<Timestamp>,
}

impl Delivery {
    /// The delivery of what took `document` to `after` at `now`.
    #[must_use]
    pub fn new(
        endpoint: &Endpoint,
        document: DocumentId,
        after: &Lifecycle,
        kind: EventKind,
        now: Timestamp,
    ) -> Self {
        let progress = &after.progress;
        Self {
            endpoint: endpoint.id,
            queue: endpoint.queue.clone(),
            document,
            version: after.version,
            kind,
            occurred_at: now,
            data: json!({
                "document_id": document,
                "queue": endpoint.queue,
                "status": after.state,
                "version": after.version,
                "generation": after.generation.chunks,
                "error_message": after.error,
                "quarantined": after.quarantined,
                "total_pages": progress.total_pages,
                "total_chunks": progress.current_chunk,
            }),
            state: DeliveryState::Pending,
            attempts: 0,
            due_at: now,
            lease_id: None,
            error: None,
            ended_at: None,
        }
    }

    /// Whether somebody holds it at `now`.
    #[must_use]
    pub fn is_leased(&self, now: Timestamp) -> bool {
        self.lease_id.is_some() && self.due_at > now
    }

    /// Claims it, where it is pending, due (an ended lease included), and the head of its (endpoint,
    /// document): the pending one of the lowest version. The store sees to the last.
    pub fn claim(&mut self, lease_id: LeaseId, lease: Duration, now: Timestamp) -> bool {
        let due = self.state == DeliveryState::Pending && self.due_at <= now;
        if due {
            self.attempts = self.attempts.saturating_add(1);
            self.lease_id = Some(lease_id);
            self.due_at = leased_until(now, lease);
        }
        due
    }

    /// Ends a lease, where it is the one that holds it, also when it has run out but nobody else came.
    pub fn settle(&mut self, lease_id: LeaseId, outcome: &DeliveryOutcome, now: Timestamp) -> bool {
        if self.lease_id != Some(lease_id) {
            return false;
        }
        self.lease_id = None;
        self.due_at = now;
        match outcome {
            DeliveryOutcome::Delivered => {
                self.state = DeliveryState::Delivered;
                self.error = None;
                self.ended_at = Some(now);
            }
            DeliveryOutcome::Retry { error, delay } => {
                self.error = Some(error.clone());
                self.due_at = put_off(now, *delay);
            }
            DeliveryOutcome::Dead { error } | DeliveryOutcome::Gone { error } => {
                self.state = DeliveryState::Dead;
                self.error = Some(error.clone());
                self.ended_at = Some(now);
            }
        }
        true
    }

    /// Makes one that is delivered or dead pending again, as if it were new. Of one that is pending, it
    /// does nothing.
    pub fn replay(&mut self, now: Timestamp) -> bool {
        let ended = self.state != DeliveryState::Pending;
        if ended {
            self.state = DeliveryState::Pending;
            self.attempts = 0;
            self.due_at = now;
            self.ended_at = None;
        }
        ended
    }
}

/// What a deliverer asks for.
#[derive(Debug, Clone)]
pub struct DeliveryRequest {
    /// From which queues.
    pub queues: Vec<QueueName>,
    /// A fresh id for each delivery that it can send now.
    pub lease_ids: Vec<LeaseId>,
    /// How long each lease lasts, in whole milliseconds. Longer than a request may take.
    pub lease: Duration,
    /// How many of one endpoint may be under lease at once, whoever holds them.
    pub per_endpoint: u32,
}

/// What a claim of deliveries brought.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeliveryClaims {
    /// Each with its endpoint, in the order in which they were dealt.
    pub deliveries: Vec<(Delivery, Endpoint)>,
    /// Where fewer came than were asked for: how long until the next head of an enabled endpoint falls due
    /// that was not before this claim, if there is one; the end of another one's lease included.
    pub next_due: Option<Duration>,
}

/// The end of one lease on a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliverySettlement {
    /// The queue,
    pub queue: QueueName,
    /// the endpoint,
    pub endpoint: EndpointId,
    /// the document,
    pub document: DocumentId,
    /// and its version.
    pub version: u64,
    /// The fence.
    pub lease_id: LeaseId,
    /// How it ends.
    pub outcome: DeliveryOutcome,
}

/// How a lease on a delivery ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The endpoint took it.
    Delivered,
    /// It did not; once more later.
    Retry {
        /// What went wrong.
        error: String,
        /// How much later.
        delay: Duration,
    },
    /// It did not, and is not asked again.
    Dead {
        /// What went wrong.
        error: String,
    },
    /// The endpoint wants nothing more: it is disabled, and this one is dead.
    Gone {
        /// What it said.
        error: String,
    },
}

/// Which deliveries to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryQuery {
    /// Of this queue,
    pub queue: QueueName,
    /// and of this endpoint.
    pub endpoint: EndpointId,
    /// In this state only.
    pub state: Option<DeliveryState>,
    /// Above this one: the last of the previous page.
    pub after: Option<(DocumentId, u64)>,
    /// How many at most.
    pub limit: u32,
}
