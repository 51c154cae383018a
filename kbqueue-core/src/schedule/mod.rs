//! Documents that are enqueued again and again, by the clock. There is no leader: whoever finds a tick
//! due [fires](Schedules::fire) it, and the store lets one of them.

mod cron;
mod scheduler;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::cron::{Cron, InvalidCron};
pub use self::scheduler::Scheduler;
use crate::blob::BlobRef;
use crate::chunk::ChunkOptions;
use crate::document::{Dedupe, NewDocument};
use crate::queue::QueueName;
use crate::store::{Enqueued, Result, Store};

/// How late a tick may be before it counts as missed.
pub const MISSED_AFTER: Duration = Duration::from_secs(60);

/// A store that keeps schedules. Each belongs to one queue, and is named by (queue, name).
#[async_trait]
pub trait Schedules: Store {
    /// Makes a schedule, or replaces what is said of it; its revision is then one above the last, or 1.
    async fn put_schedule(
        &self,
        queue: &QueueName,
        name: &str,
        plan: Plan,
        next_at: Timestamp,
    ) -> Result<()>;

    /// Removes a schedule. Answers whether it was there.
    async fn delete_schedule(&self, queue: &QueueName, name: &str) -> Result<bool>;

    /// The schedules of a queue, by name, and the store's clock.
    async fn schedules(&self, queue: &QueueName) -> Result<Timetable>;

    /// In one step: where the schedule is there with this revision and its `next_at` has come by the
    /// store's own clock, enqueues the documents, as [`enqueue`](Store::enqueue) does, sets `next_at`,
    /// and counts the revision up. Otherwise it answers `None` and nothing changes: somebody else was
    /// faster, this very call whose answer got lost included.
    ///
    /// # Errors
    /// Those of `enqueue`; nothing has changed then.
    async fn fire(&self, firing: Firing) -> Result<Option<Vec<Enqueued>>>;
}

/// When something is enqueued, and what. A store may keep it as the JSON that it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// A cron expression of five fields, or six with seconds first; see [`Cron`].
    pub cron: String,
    /// The IANA time zone in which it is read.
    pub time_zone: String,
    /// What becomes of ticks at which nobody was there.
    #[serde(default)]
    pub missed: Missed,
    /// What is enqueued.
    pub template: Template,
}

/// What becomes of ticks that are more than [`MISSED_AFTER`] late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// All of them together are made up for once.
    #[default]
    Once,
    /// They are left out.
    Skip,
}

/// What a tick enqueues: a document whose bytes are in the blob store, with the fields of
/// [`NewDocument`]. Its idempotency key is made of the schedule and the tick.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Template {
    /// Its bytes.
    pub blob: BlobRef,
    /// Its name, for people.
    pub filename: String,
    /// Media type of its bytes.
    pub media_type: String,
    /// Whose it is.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Higher is claimed first.
    #[serde(default)]
    pub priority: i16,
    /// How its text is cut.
    #[serde(default)]
    pub chunking: Option<ChunkOptions>,
    /// The caller's own data.
    #[serde(default)]
    pub metadata: Value,
}

/// A schedule as a store keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Where it enqueues.
    pub queue: QueueName,
    /// Its name, unique in the queue.
    pub name: String,
    /// When and what.
    pub plan: Plan,
    /// Its next tick.
    pub next_at: Timestamp,
    /// Grows with every change and every tick.
    pub revision: u64,
}

/// The schedules of a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Timetable {
    /// By name.
    pub schedules: Vec<Schedule>,
    /// The store's clock: what ticks come next is counted from here.
    pub now: Timestamp,
}

/// A tick.
#[derive(Debug, Clone, PartialEq)]
pub struct Firing {
    /// The queue of the schedule,
    pub queue: QueueName,
    /// and its name.
    pub name: String,
    /// The revision at which it was found due.
    pub revision: u64,
    /// The tick after this one.
    pub next_at: Timestamp,
    /// What is enqueued, in the schedule's queue; nothing where a missed tick is left out.
    pub documents: Vec<NewDocument>,
}

impl Schedule {
    /// What to do about its tick at `now`, the store's clock; `None` where that is still to come.
    ///
    /// # Errors
    /// [`InvalidCron`], where this release cannot read it, or there is no tick after this one.
    pub fn due(&self, now: Timestamp) -> std::result::Result<Option<Firing>, InvalidCron> {
        if self.next_at > now {
            return Ok(None);
        }
        let cron = Cron::parse(&self.plan.cron, &self.plan.time_zone)?;
        let late = now.duration_since(self.next_at).unsigned_abs();
        let left_out = self.plan.missed == Missed::Skip && late > MISSED_AFTER;
        let documents = if left_out {
            Vec::new()
        } else {
            vec![self.document()]
        };
        Ok(Some(Firing {
            queue: self.queue.clone(),
            name: self.name.clone(),
            revision: self.revision,
            // After now and not after the tick: ticks between are made up for by this one, or left out.
            next_at: cron.after(now)?,
            documents,
        }))
    }

    fn document(&self) -> NewDocument {
        let template = self.plan.template.clone();
        let queue = self.queue.clone();
        let mut new = NewDocument::new(queue, template.blob, &template.filename);
        new.media_type = template.media_type;
        new.tenant = template.tenant;
        new.priority = template.priority;
        new.chunking = template.chunking;
        new.metadata = template.metadata;
        new.dedupe = Dedupe::Key(format!("schedule {} {}", self.name, self.next_at));
        new
    }
}

/// Checks a plan, and puts it into effect from the store's now on.
///
/// # Errors
/// [`ScheduleError`]; nothing has changed then.
pub async fn put(
    store: &dyn Schedules,
    queue: &QueueName,
    name: &str,
    plan: Plan,
) -> std::result::Result<Timestamp, ScheduleError> {
    let cron = Cron::parse(&plan.cron, &plan.time_zone)?;
    let next_at = cron.after(store.schedules(queue).await?.now)?;
    store.put_schedule(queue, name, plan, next_at).await?;
    Ok(next_at)
}

/// Why a plan was not put into effect.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// It cannot be read.
    #[error(transparent)]
    Invalid(#[from] InvalidCron),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] crate::error::StoreError),
}
