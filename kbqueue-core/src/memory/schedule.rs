//! Schedules.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{MemoryStore, enqueue};
use crate::clock::whole_us;
use crate::queue::QueueName;
use crate::schedule::{Firing, Plan, Schedule, Schedules, Timetable};
use crate::store::{Enqueued, Result};

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Schedules for MemoryStore {
    async fn put_schedule(
        &self,
        queue: &QueueName,
        name: &str,
        plan: Plan,
        next_at: Timestamp,
    ) -> Result<()> {
        let mut tables = self.lock();
        let key = (queue.clone(), name.to_owned());
        let revision = tables
            .schedules
            .get(&key)
            .map_or(0, |before| before.revision);
        let schedule = Schedule {
            queue: queue.clone(),
            name: name.to_owned(),
            plan,
            next_at: whole_us(next_at),
            revision: revision + 1,
        };
        tables.schedules.insert(key, schedule);
        Ok(())
    }

    async fn delete_schedule(&self, queue: &QueueName, name: &str) -> Result<bool> {
        let key = (queue.clone(), name.to_owned());
        Ok(self.lock().schedules.remove(&key).is_some())
    }

    async fn schedules(&self, queue: &QueueName) -> Result<Timetable> {
        let now = self.clock.now();
        let tables = self.lock();
        let schedules = tables.schedules.values();
        let schedules = schedules.filter(|schedule| schedule.queue == *queue);
        Ok(Timetable {
            schedules: schedules.cloned().collect(),
            now,
        })
    }

    async fn fire(&self, firing: Firing) -> Result<Option<Vec<Enqueued>>> {
        let now = self.clock.now();
        let (answers, changes) = {
            let mut tables = self.lock();
            let key = (firing.queue, firing.name);
            let schedule = tables.schedules.get(&key);
            let due = schedule.is_some_and(|s| s.revision == firing.revision && s.next_at <= now);
            if !due {
                return Ok(None);
            }
            let enqueued = enqueue(&mut tables, firing.documents, now)?;
            if let Some(schedule) = tables.schedules.get_mut(&key) {
                schedule.next_at = whole_us(firing.next_at);
                schedule.revision += 1;
            }
            enqueued
        };
        self.tell(changes);
        Ok(Some(answers))
    }
}
