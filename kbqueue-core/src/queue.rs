//! Queues: their names, their settings, their counts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::limits::Rate;
use crate::state::State;

/// The name of a queue: 1 to 64 ASCII letters, digits, `_`, `-` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueueName(String);

/// Why a text cannot name a queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot name a queue: use 1 to 64 letters, digits, '_', '-' and '.'")]
pub struct InvalidQueueName(String);

impl QueueName {
    /// Checks `name` and takes it.
    ///
    /// # Errors
    /// [`InvalidQueueName`] where it is empty, too long, or has another character.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidQueueName> {
        let name = name.into();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if (1..=64).contains(&name.len()) && name.chars().all(allowed) {
            Ok(Self(name))
        } else {
            Err(InvalidQueueName(name))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for QueueName {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for QueueName {
    type Err = InvalidQueueName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl TryFrom<String> for QueueName {
    type Error = InvalidQueueName;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(name)
    }
}

impl From<QueueName> for String {
    fn from(name: QueueName) -> Self {
        name.0
    }
}

/// What an operator can set on a queue while it runs; every process obeys.
///
/// Defaults: not paused, and no limits. A store may keep them as the JSON that they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueSettings {
    /// Nothing new is claimed; what is processing goes on, and uploads are taken.
    pub paused: bool,
    /// How many documents may start in a time.
    pub rate: Option<Rate>,
    /// How many may be processing at once, in all processes.
    pub max_processing: Option<u32>,
    /// How many of one tenant may be processing at once. Documents of nobody count as one tenant's.
    pub max_processing_per_tenant: Option<u32>,
    /// How many may be queued, scheduled and retrying ones included; what is enqueued beyond that is
    /// refused with [`QueueFull`](crate::StoreError::QueueFull).
    pub max_queued: Option<u64>,
}

impl QueueSettings {
    /// Whether a claim has to look at more than whether the queue is paused.
    #[must_use]
    pub fn limits_claims(&self) -> bool {
        self.rate.is_some()
            || self.max_processing.is_some()
            || self.max_processing_per_tenant.is_some()
    }

    /// Checks that `new` more documents may be queued where `queued` are.
    ///
    /// # Errors
    /// [`QueueFull`](crate::StoreError::QueueFull).
    pub fn admit(&self, queue: &QueueName, queued: u64, new: u64) -> Result<(), StoreError> {
        match self.max_queued {
            Some(limit) if new > 0 && queued.saturating_add(new) > limit => {
                let queue = queue.clone();
                Err(StoreError::QueueFull {
                    queue,
                    limit,
                    queued,
                })
            }
            _ => Ok(()),
        }
    }
}

/// How many documents of a queue are in each state. Hidden (deleted) documents are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StateCounts {
    /// Waiting, scheduled and retrying ones included.
    pub queued: u64,
    /// Held by a worker.
    pub processing: u64,
    /// Done.
    pub completed: u64,
    /// Dead letters, quarantined ones included.
    pub failed: u64,
    /// Stopped on request.
    pub cancelled: u64,
}

impl StateCounts {
    /// The count of one state.
    #[must_use]
    pub fn of(&self, state: State) -> u64 {
        match state {
            State::Queued => self.queued,
            State::Processing => self.processing,
            State::Completed => self.completed,
            State::Failed => self.failed,
            State::Cancelled => self.cancelled,
        }
    }

    /// The count of one state, to be changed.
    pub fn of_mut(&mut self, state: State) -> &mut u64 {
        match state {
            State::Queued => &mut self.queued,
            State::Processing => &mut self.processing,
            State::Completed => &mut self.completed,
            State::Failed => &mut self.failed,
            State::Cancelled => &mut self.cancelled,
        }
    }

    /// All documents.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.queued + self.processing + self.completed + self.failed + self.cancelled
    }
}

/// A queue as it stands: counts, settings, and how many workers serve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QueueStats {
    /// Documents by state.
    pub counts: StateCounts,
    /// What the operator set.
    pub settings: QueueSettings,
    /// Workers, in any process, whose last sign of life has not run out.
    pub live_workers: u64,
}
