//! Schedules: a tick is one commit, which compares the schedule and enqueues.

use async_trait::async_trait;
use jiff::Timestamp;
use kbqueue_core::QueueName;
use kbqueue_core::error::BoxError;
use kbqueue_core::schedule::{Firing, Plan, Schedule, Schedules, Timetable};
use kbqueue_core::store::{Enqueued, Result};
use serde::{Deserialize, Serialize};

use crate::batch::{TRIES, contended};
use crate::codec::{self, Token, time};
use crate::commit::{Command, Commit};
use crate::enqueue;
use crate::error::{failed, malformed};
use crate::store::RedisStore;

/// A schedule as JSON, without its queue and name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSchedule {
    plan: Plan,
    next_at: i64,
    revision: u64,
}

/// A schedule as it was read.
#[derive(Debug)]
struct Read {
    token: Token,
    stored: StoredSchedule,
}

impl Read {
    fn decode(name: &str, value: &[u8]) -> Result<Self> {
        let parse = || {
            let (token, json) = Token::split(value)?;
            let stored = serde_json::from_slice(json)?;
            Ok(Self { token, stored })
        };
        parse().map_err(|error: BoxError| malformed(format!("schedule {name:?}"), error))
    }

    fn next_at(&self, name: &str) -> Result<Timestamp> {
        time(self.stored.next_at).map_err(|error| malformed(format!("schedule {name:?}"), error))
    }
}

async fn read(store: &RedisStore, queue: &QueueName, name: &str) -> Result<Option<Read>> {
    let mut look = redis::cmd("HGET");
    look.arg(key(store, queue)).arg(name);
    let value: Option<Vec<u8>> = store.connection().call(&look).await.map_err(failed)?;
    value.map(|value| Read::decode(name, &value)).transpose()
}

fn key(store: &RedisStore, queue: &QueueName) -> String {
    format!("{}:schedules", store.keys().base(queue))
}

/// Has `commit` write a schedule where it still has the token that was read, or is still not there.
fn write(commit: &mut Commit<'_>, name: &str, before: Option<&Token>, stored: &StoredSchedule) {
    let expected = before.map(|token| token.as_str().to_owned());
    commit.expect("schedules", name.to_owned(), expected.unwrap_or_default());
    let mut value = commit.token().as_str().as_bytes().to_vec();
    value.extend(codec::json(stored));
    commit.write(Command::Hset, "schedules", [name.into(), value]);
}

/// A tick that is due, to be written with what it enqueues.
#[derive(Debug)]
pub(crate) struct Tick<'a> {
    name: &'a str,
    token: Token,
    next: StoredSchedule,
}

impl<'a> Tick<'a> {
    /// What there is to do about a firing now; `None` where somebody was faster, or it is not due.
    pub(crate) async fn look(store: &RedisStore, firing: &'a Firing) -> Result<Option<Self>> {
        let Some(read) = read(store, &firing.queue, &firing.name).await? else {
            return Ok(None);
        };
        let now = store.clock_of(&firing.queue).await?;
        let due = read.stored.revision == firing.revision && read.next_at(&firing.name)? <= now;
        Ok(due.then(|| Self {
            name: &firing.name,
            token: read.token,
            next: StoredSchedule {
                next_at: firing.next_at.as_microsecond(),
                revision: firing.revision + 1,
                plan: read.stored.plan,
            },
        }))
    }

    /// Has `commit` write only if nobody was faster, and then the next tick.
    pub(crate) fn write(&self, commit: &mut Commit<'_>) {
        write(commit, self.name, Some(&self.token), &self.next);
    }
}

#[async_trait]
impl Schedules for RedisStore {
    async fn put_schedule(
        &self,
        queue: &QueueName,
        name: &str,
        plan: Plan,
        next_at: Timestamp,
    ) -> Result<()> {
        self.enter_queue(queue).await?;
        for _ in 0..TRIES {
            let now = self.clock_of(queue).await?;
            let before = read(self, queue, name).await?;
            let stored = StoredSchedule {
                plan: plan.clone(),
                next_at: next_at.as_microsecond(),
                revision: before.as_ref().map_or(0, |before| before.stored.revision) + 1,
            };
            let mut commit = Commit::new(queue, now);
            write(
                &mut commit,
                name,
                before.as_ref().map(|before| &before.token),
                &stored,
            );
            if commit.run(self).await? {
                return Ok(());
            }
        }
        Err(contended())
    }

    async fn delete_schedule(&self, queue: &QueueName, name: &str) -> Result<bool> {
        let mut delete = redis::cmd("HDEL");
        delete.arg(key(self, queue)).arg(name);
        self.connection().call(&delete).await.map_err(failed)
    }

    async fn schedules(&self, queue: &QueueName) -> Result<Timetable> {
        let mut look = redis::cmd("HGETALL");
        look.arg(key(self, queue));
        let mut found: Vec<(String, Vec<u8>)> =
            self.connection().call(&look).await.map_err(failed)?;
        found.sort();
        let schedules = found.into_iter().map(|(name, value)| {
            let read = Read::decode(&name, &value)?;
            Ok(Some(Schedule {
                queue: queue.clone(),
                next_at: read.next_at(&name)?,
                name,
                plan: read.stored.plan,
                revision: read.stored.revision,
            }))
        });
        Ok(Timetable {
            schedules: codec::readable(schedules),
            now: self.clock_of(queue).await?,
        })
    }

    async fn fire(&self, firing: Firing) -> Result<Option<Vec<Enqueued>>> {
        enqueue::fire(self, &firing).await
    }
}
