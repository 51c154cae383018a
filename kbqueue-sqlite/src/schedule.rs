//! `impl Schedules`.

use async_trait::async_trait;
use jiff::Timestamp;
use kbqueue_core::schedule::{Firing, Plan, Schedule, Schedules, Timetable};
use kbqueue_core::store::{Enqueued, Result};
use kbqueue_core::{Notice, QueueName};
use sqlx::SqliteConnection;

use crate::batch::json;
use crate::enqueue;
use crate::error::{failed, malformed};
use crate::store::{SqliteStore, writing};
use crate::write::Told;

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Schedules for SqliteStore {
    async fn put_schedule(
        &self,
        queue: &QueueName,
        name: &str,
        plan: Plan,
        next_at: Timestamp,
    ) -> Result<()> {
        writing!(self, |conn, _now| put(conn, queue, name, &plan, next_at))
    }

    async fn delete_schedule(&self, queue: &QueueName, name: &str) -> Result<bool> {
        writing!(self, |conn, _now| delete(conn, queue, name))
    }

    async fn schedules(&self, queue: &QueueName) -> Result<Timetable> {
        let rows: Vec<(String, String, i64, i64)> =
            sqlx::query_as(include_str!("../queries/schedules.sql"))
                .bind(queue.as_str())
                .fetch_all(self.readers())
                .await
                .map_err(failed)?;
        let now = self.now();
        let schedules = rows.iter().map(|row| schedule(queue, row));
        Ok(Timetable {
            schedules: schedules.collect::<Result<_>>()?,
            now,
        })
    }

    async fn fire(&self, firing: Firing) -> Result<Option<Vec<Enqueued>>> {
        writing!(self, |conn, now| fire(conn, &firing, now))
    }
}

fn schedule(queue: &QueueName, row: &(String, String, i64, i64)) -> Result<Schedule> {
    let (name, plan, next_at, revision) = row;
    let bad = |error: kbqueue_core::error::BoxError| {
        malformed(format!("schedule {name} of queue {queue}"), error)
    };
    Ok(Schedule {
        queue: queue.clone(),
        name: name.clone(),
        plan: serde_json::from_str(plan).map_err(|error| bad(error.into()))?,
        next_at: Timestamp::from_microsecond(*next_at).map_err(|error| bad(error.into()))?,
        revision: u64::try_from(*revision).map_err(|error| bad(error.into()))?,
    })
}

async fn put(
    conn: &mut SqliteConnection,
    queue: &QueueName,
    name: &str,
    plan: &Plan,
    next_at: Timestamp,
) -> Told<()> {
    sqlx::query(include_str!("../queries/schedule_put.sql"))
        .bind(queue.as_str())
        .bind(name)
        .bind(json(plan))
        .bind(next_at.as_microsecond())
        .execute(conn)
        .await
        .map_err(failed)?;
    Ok(((), Vec::new()))
}

async fn delete(conn: &mut SqliteConnection, queue: &QueueName, name: &str) -> Told<bool> {
    let deleted = sqlx::query(include_str!("../queries/schedule_delete.sql"))
        .bind(queue.as_str())
        .bind(name)
        .execute(conn)
        .await
        .map_err(failed)?;
    Ok((deleted.rows_affected() > 0, Vec::new()))
}

async fn fire(
    conn: &mut SqliteConnection,
    firing: &Firing,
    now: Timestamp,
) -> Result<(Option<Vec<Enqueued>>, Vec<Notice>)> {
    let taken = sqlx::query(include_str!("../queries/schedule_fire.sql"))
        .bind(firing.queue.as_str())
        .bind(&firing.name)
        .bind(i64::try_from(firing.revision).unwrap_or(i64::MAX))
        .bind(now.as_microsecond())
        .bind(firing.next_at.as_microsecond())
        .execute(&mut *conn)
        .await
        .map_err(failed)?;
    if taken.rows_affected() == 0 {
        return Ok((None, Vec::new()));
    }
    let (answers, notices) = enqueue::enqueue(conn, &firing.documents, now).await?;
    Ok((Some(answers), notices))
}
