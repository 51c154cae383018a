//! Looks for due ticks, in every process that wants to.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::Schedules;
use crate::error::chain;
use crate::queue::QueueName;
use crate::store::Result;

/// Fires the ticks of some queues. Any number of them may run at once: each tick is one's.
#[derive(Debug, Clone)]
pub struct Scheduler {
    store: Arc<dyn Schedules>,
    queues: Vec<QueueName>,
    check_interval: Duration,
}

impl Scheduler {
    /// A scheduler that looks for new and changed schedules every `check_interval`, and is up at every
    /// tick that it knows of.
    #[must_use]
    pub fn new(
        store: Arc<dyn Schedules>,
        queues: Vec<QueueName>,
        check_interval: Duration,
    ) -> Self {
        Self {
            store,
            queues,
            check_interval,
        }
    }

    /// Fires until `stop`. What the store refuses, or this release cannot read, is logged and tried again.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            let wait = match self.tick().await {
                Ok(until_next) => until_next.unwrap_or(self.check_interval),
                Err(error) => {
                    tracing::warn!(error = chain(&error), "cannot look for due schedules");
                    self.check_interval
                }
            };
            let wait = wait.min(self.check_interval);
            let sleep = tokio::time::sleep(wait);
            if stop.run_until_cancelled(sleep).await.is_none() {
                return;
            }
        }
    }

    /// Fires what is due now, and answers how long it is until the next tick, if there is one.
    ///
    /// # Errors
    /// Where the schedules cannot be read.
    pub async fn tick(&self) -> Result<Option<Duration>> {
        let mut next: Option<Duration> = None;
        for queue in &self.queues {
            let timetable = self.store.schedules(queue).await?;
            for schedule in timetable.schedules {
                let firing = match schedule.due(timetable.now) {
                    Ok(firing) => firing,
                    Err(error) => {
                        let name = &schedule.name;
                        tracing::error!(%queue, name, error = chain(&error), "a schedule cannot tick");
                        continue;
                    }
                };
                let until = |at: Timestamp| at.duration_since(timetable.now).unsigned_abs();
                let Some(firing) = firing else {
                    next = next.into_iter().chain([until(schedule.next_at)]).min();
                    continue;
                };
                let (name, next_at) = (firing.name.clone(), firing.next_at);
                match self.store.fire(firing).await {
                    Ok(fired) => {
                        tracing::debug!(%queue, name, won = fired.is_some(), "a schedule was due");
                        next = next.into_iter().chain([until(next_at)]).min();
                    }
                    Err(error) => {
                        tracing::warn!(%queue, name, error = chain(&error), "a tick has to wait");
                    }
                }
            }
        }
        Ok(next)
    }
}
