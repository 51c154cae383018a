//! `impl Schedules`.

use async_trait::async_trait;
use jiff::Timestamp;
use kbqueue_core::schedule::{Firing, Plan, Schedule, Schedules, Timetable};
use kbqueue_core::store::{Enqueued, Result};
use kbqueue_core::{Notice, QueueName};
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::batch::{int, json, readable};
use crate::codec::{self, Decoded};
use crate::enqueue::{self, Admission};
use crate::error::malformed;
use crate::read;
use crate::session::{Session, now_of};
use crate::store::{PostgresStore, transact};
use crate::text::{escape, unescape};

/// In whole microseconds, as the specification rounds it.
fn us(at: Timestamp) -> i64 {
    kbqueue_core::lifecycle::Lifecycle::new(at)
        .available_at
        .as_microsecond()
}

fn schedule(row: &PgRow) -> Result<Option<Schedule>> {
    let decode = || -> Decoded<Option<Schedule>> {
        let Some(name) = row.try_get::<Option<String>, _>("name")? else {
            return Ok(None);
        };
        Ok(Some(Schedule {
            queue: QueueName::new(row.try_get::<String, _>("queue")?)?,
            name: unescape(name),
            plan: serde_json::from_str(row.try_get("plan")?)?,
            next_at: codec::time(row.try_get("next_at")?)?,
            revision: u64::try_from(row.try_get::<i64, _>("revision")?)?,
        }))
    };
    decode().map_err(|error| malformed("a schedule", error))
}

async fn fire(
    session: &mut Session<'_>,
    firing: &Firing,
) -> Result<(Option<Vec<Enqueued>>, Vec<Notice>)> {
    let query = session
        .query(|sql| &sql.schedule_fire)
        .bind(firing.queue.as_str())
        .bind(escape(&firing.name))
        .bind(int(firing.revision))
        .bind(us(firing.next_at))
        .bind(session.now);
    if session.run(query).await? == 0 {
        return Ok((None, Vec::new()));
    }
    let done = enqueue::enqueue(session, &firing.documents, Admission::Exact).await?;
    let (answers, notices) = done.unwrap_or_default();
    Ok((Some(answers), notices))
}

#[async_trait]
impl Schedules for PostgresStore {
    async fn put_schedule(
        &self,
        queue: &QueueName,
        name: &str,
        plan: Plan,
        next_at: Timestamp,
    ) -> Result<()> {
        transact!(self, |session| async {
            let query = session
                .query(|sql| &sql.schedule_put)
                .bind(queue.as_str())
                .bind(escape(name))
                .bind(json(&plan))
                .bind(us(next_at));
            session.run(query).await?;
            Ok(((), Vec::new()))
        })
    }

    async fn delete_schedule(&self, queue: &QueueName, name: &str) -> Result<bool> {
        transact!(self, |session| async {
            let query = session
                .query(|sql| &sql.schedule_delete)
                .bind(queue.as_str())
                .bind(escape(name));
            let removed = session.run(query).await?;
            Ok((removed > 0, Vec::new()))
        })
    }

    async fn schedules(&self, queue: &QueueName) -> Result<Timetable> {
        let rows = read::rows(self, |sql| {
            sql.query(&sql.schedules)
                .bind(queue.as_str().to_owned())
                .bind(self.now())
        })
        .await?;
        Ok(Timetable {
            schedules: readable(&rows, schedule).into_iter().flatten().collect(),
            now: now_of(&rows)?,
        })
    }

    async fn fire(&self, firing: Firing) -> Result<Option<Vec<Enqueued>>> {
        transact!(self, |session| fire(session, &firing))
    }
}
