//! `impl Outbox`, and what writes deliveries down where documents change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use kbqueue_core::fair;
use kbqueue_core::lifecycle::Lifecycle;
use kbqueue_core::outbox::{
    Delivery, DeliveryClaims, DeliveryOutcome, DeliveryQuery, DeliveryRequest, DeliverySettlement,
    DeliveryState, Endpoint, EndpointId, EventKind, Outbox,
};
use kbqueue_core::store::Result;
use kbqueue_core::{DocumentId, LeaseId, QueueName, StoreError};
use serde::de::DeserializeOwned;
use sqlx::{Row, SqliteConnection};

use crate::batch::{array, json, readable, run_for};
use crate::codec;
use crate::error::{failed, malformed};
use crate::store::{SqliteStore, writing};
use crate::write::Told;

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Outbox for SqliteStore {
    async fn endpoints(&self, queue: &QueueName) -> Result<Vec<Endpoint>> {
        let rows: Vec<String> = sqlx::query_scalar(include_str!("../queries/endpoints.sql"))
            .bind(queue.as_str())
            .fetch_all(self.readers())
            .await
            .map_err(failed)?;
        rows.iter().map(|row| read("an endpoint", row)).collect()
    }

    async fn put_endpoint(&self, endpoint: Endpoint) -> Result<()> {
        writing!(self, |conn, _now| put(conn, &endpoint))
    }

    async fn delete_endpoint(&self, queue: &QueueName, id: EndpointId) -> Result<bool> {
        writing!(self, |conn, _now| delete(conn, queue, id))
    }

    async fn claim_deliveries(&self, request: DeliveryRequest) -> Result<DeliveryClaims> {
        writing!(self, |conn, now| claim(conn, &request, whole_us(now)))
    }

    async fn settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<Vec<bool>> {
        writing!(self, |conn, now| settle(conn, &settlements, whole_us(now)))
    }

    async fn deliveries(&self, query: DeliveryQuery) -> Result<Vec<Delivery>> {
        let after = query.after.map(|(document, _)| document.to_string());
        let version = query.after.map_or(0, |(_, version)| signed(version));
        let rows: Vec<(i64, String)> = sqlx::query_as(include_str!("../queries/deliveries.sql"))
            .bind(query.queue.as_str())
            .bind(query.endpoint.to_string())
            .bind(query.state.map(word))
            // Below every id.
            .bind(after.unwrap_or_default())
            .bind(version)
            .bind(query.limit)
            .fetch_all(self.readers())
            .await
            .map_err(failed)?;
        rows.iter()
            .map(|(_, row)| read("a delivery", row))
            .collect()
    }

    async fn replay(
        &self,
        queue: &QueueName,
        endpoint: EndpointId,
        one: Option<(DocumentId, u64)>,
    ) -> Result<u64> {
        writing!(self, |conn, now| replay(
            conn,
            queue,
            endpoint,
            one,
            whole_us(now)
        ))
    }

    async fn purge_deliveries(&self, age: Duration, limit: usize) -> Result<usize> {
        writing!(self, |conn, now| purge(conn, age, limit, now))
    }
}

/// A delivery as it was read, and as it is now.
struct Changed {
    key: i64,
    was: Option<LeaseId>,
    now: Delivery,
}

/// Deliveries to be changed; those that cannot be read are reported and left out.
fn changed<'a>(rows: impl IntoIterator<Item = &'a (i64, String)>) -> Vec<Changed> {
    let read = |(key, row): &(i64, String)| {
        let read = |row: &str| read::<Delivery>(format!("the delivery in row {key}"), row);
        let now = readable([row.as_str()].into_iter(), read).pop()?;
        let was = now.lease_id;
        Some(Changed {
            key: *key,
            was,
            now,
        })
    };
    rows.into_iter().filter_map(read).collect()
}

fn read<T: DeserializeOwned>(what: impl Into<String>, row: &str) -> Result<T> {
    serde_json::from_str(row).map_err(|error| malformed(what, error))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn word(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Pending => "pending",
        DeliveryState::Delivered => "delivered",
        DeliveryState::Dead => "dead",
    }
}

/// What happened to a document that somebody else may have to know of.
#[derive(Debug)]
pub(crate) struct Event<'a> {
    pub(crate) queue: &'a QueueName,
    pub(crate) document: DocumentId,
    pub(crate) after: &'a Lifecycle,
    pub(crate) kind: EventKind,
}

/// In the resolution of our columns, so that they and the JSON beside them say the same.
fn whole_us(now: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// Writes new deliveries down, in the transaction of what they tell of.
pub(crate) async fn write_down(
    conn: &mut SqliteConnection,
    events: &[Event<'_>],
    now: Timestamp,
) -> Result<()> {
    let now = whole_us(now);
    let queues: BTreeSet<&QueueName> = events.iter().map(|event| event.queue).collect();
    let endpoints: Vec<String> =
        sqlx::query_scalar(include_str!("../queries/outbox_endpoints.sql"))
            .bind(json(&queues))
            .fetch_all(&mut *conn)
            .await
            .map_err(failed)?;
    let endpoints = readable(endpoints.iter().map(String::as_str), |row| {
        read::<Endpoint>("an endpoint", row)
    });
    let mut rows = Vec::new();
    for Event {
        queue,
        document,
        after,
        kind,
    } in events
    {
        for endpoint in endpoints
            .iter()
            .filter(|e| e.queue == **queue && e.wants(*kind))
        {
            let delivery = Delivery::new(endpoint, *document, after, *kind, now);
            let Delivery {
                version, due_at, ..
            } = delivery;
            rows.push((
                queue,
                endpoint.id,
                document,
                version,
                due_at.as_microsecond(),
                delivery,
            ));
        }
    }
    run_for(conn, include_str!("../queries/outbox_write.sql"), &rows).await
}

async fn put(conn: &mut SqliteConnection, endpoint: &Endpoint) -> Told<()> {
    sqlx::query(include_str!("../queries/endpoint_put.sql"))
        .bind(endpoint.queue.as_str())
        .bind(endpoint.id.to_string())
        .bind(endpoint.disabled.is_some())
        .bind(json(endpoint))
        .execute(conn)
        .await
        .map_err(failed)?;
    Ok(((), Vec::new()))
}

async fn delete(conn: &mut SqliteConnection, queue: &QueueName, id: EndpointId) -> Told<bool> {
    let mut removed = 0;
    for sql in [
        include_str!("../queries/endpoint_deliveries_delete.sql"),
        include_str!("../queries/endpoint_delete.sql"),
    ] {
        let done = sqlx::query(sql).bind(queue.as_str()).bind(id.to_string());
        removed = done
            .execute(&mut *conn)
            .await
            .map_err(failed)?
            .rows_affected();
    }
    Ok((removed > 0, Vec::new()))
}

/// An endpoint with what it has for a claim.
struct Line {
    leased: u64,
    endpoint: Endpoint,
    front: Vec<Changed>,
}

async fn claim(
    conn: &mut SqliteConnection,
    request: &DeliveryRequest,
    now: Timestamp,
) -> Told<DeliveryClaims> {
    let slots = request.lease_ids.len();
    let queues: BTreeSet<&QueueName> = request.queues.iter().collect();
    let rows = sqlx::query(include_str!("../queries/deliveries_look.sql"))
        .bind(json(&queues))
        .bind(now.as_microsecond())
        .bind(i64::try_from(slots.min(request.per_endpoint as usize)).unwrap_or(i64::MAX))
        .fetch_all(&mut *conn)
        .await
        .map_err(failed)?;
    let mut lines = Vec::with_capacity(rows.len());
    let mut next_due: Option<i64> = None;
    for row in &rows {
        let leased: i64 = row.try_get("leased").map_err(failed)?;
        let leased = u64::try_from(leased).unwrap_or(0);
        let due: Option<i64> = row.try_get("next_due").map_err(failed)?;
        next_due = due.into_iter().chain(next_due).min();
        let room = u64::from(request.per_endpoint).saturating_sub(leased);
        let front: Vec<(i64, String)> = array("deliveries", row.try_get("front").map_err(failed)?)?;
        let front = front
            .iter()
            .take(usize::try_from(room).unwrap_or(usize::MAX));
        let queue: &str = row.try_get("queue").map_err(failed)?;
        let id: &str = row.try_get("id").map_err(failed)?;
        let endpoint = row.try_get("endpoint").map_err(failed)?;
        let read = |row: &str| read(format!("endpoint {id} of queue {queue}"), row);
        let Some(endpoint) = readable([endpoint].into_iter(), read).pop() else {
            continue;
        };
        lines.push(Line {
            leased,
            endpoint,
            front: changed(front),
        });
    }
    lines.sort_by(|a, b| {
        let key = |line: &Line| (line.leased, line.endpoint.queue.clone(), line.endpoint.id);
        key(a).cmp(&key(b))
    });
    let claimable: Vec<u64> = lines.iter().map(|line| line.front.len() as u64).collect();
    let dealt = fair::deal(slots, &claimable);
    let mut fronts: Vec<_> = lines
        .into_iter()
        .map(|line| (line.endpoint, line.front.into_iter()))
        .collect();
    let mut claims = DeliveryClaims::default();
    let mut changed = Vec::with_capacity(dealt.len());
    for (line, lease_id) in dealt.into_iter().zip(&request.lease_ids) {
        let (endpoint, front) = &mut fronts[line];
        let mut claimed = front.next().expect("no more is dealt than is there");
        if claimed.now.claim(*lease_id, request.lease, now) {
            claims
                .deliveries
                .push((claimed.now.clone(), endpoint.clone()));
            changed.push(claimed);
        }
    }
    save(conn, &changed).await?;
    if claims.deliveries.len() < slots {
        claims.next_due = next_due.map(|at| {
            let us = at.saturating_sub(now.as_microsecond());
            Duration::from_micros(u64::try_from(us).unwrap_or(0))
        });
    }
    Ok((claims, Vec::new()))
}

/// Writes deliveries as they are now.
async fn save(conn: &mut SqliteConnection, changed: &[Changed]) -> Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let row = |changed: &Changed| {
        let Delivery {
            state,
            due_at,
            lease_id,
            ended_at,
            ..
        } = &changed.now;
        let ended_at = ended_at.map(Timestamp::as_microsecond);
        json(&(
            changed.key,
            changed.was,
            word(*state),
            due_at.as_microsecond(),
            lease_id,
            ended_at,
            &changed.now,
        ))
    };
    let rows: Vec<String> = changed.iter().map(row).collect();
    let saved = sqlx::query(include_str!("../queries/deliveries_save.sql"))
        .bind(format!("[{}]", rows.join(",")))
        .execute(conn)
        .await
        .map_err(failed)?
        .rows_affected();
    if saved != changed.len() as u64 {
        return Err(StoreError::Unusable(format!(
            "{saved} of {} deliveries were as they had been read in the same transaction",
            changed.len()
        )));
    }
    Ok(())
}

/// Writes deliveries of which some became pending or no longer are.
async fn save_heads(conn: &mut SqliteConnection, changed: &[Changed]) -> Result<()> {
    save(conn, changed).await?;
    let of: BTreeSet<(&QueueName, EndpointId, DocumentId)> = changed
        .iter()
        .map(|c| (&c.now.queue, c.now.endpoint, c.now.document))
        .collect();
    let of: Vec<_> = of.into_iter().collect();
    run_for(conn, include_str!("../queries/deliveries_heads.sql"), &of).await
}

type Name<'a> = (&'a str, EndpointId, DocumentId, u64);

fn name(delivery: &Delivery) -> Name<'_> {
    (
        delivery.queue.as_str(),
        delivery.endpoint,
        delivery.document,
        delivery.version,
    )
}

async fn find(conn: &mut SqliteConnection, names: &[Name<'_>]) -> Result<Vec<Changed>> {
    let rows: Vec<(i64, String)> = sqlx::query_as(include_str!("../queries/deliveries_find.sql"))
        .bind(json(names))
        .fetch_all(conn)
        .await
        .map_err(failed)?;
    Ok(changed(&rows))
}

async fn settle(
    conn: &mut SqliteConnection,
    settlements: &[DeliverySettlement],
    now: Timestamp,
) -> Told<Vec<bool>> {
    let of = |s: &DeliverySettlement| (s.queue.clone(), s.endpoint, s.document, s.version);
    let names: BTreeSet<_> = settlements.iter().map(of).collect();
    let names: Vec<Name<'_>> = names
        .iter()
        .map(|(q, e, d, v)| (q.as_str(), *e, *d, *v))
        .collect();
    let mut found = find(conn, &names).await?;
    let places: BTreeMap<_, usize> = found
        .iter()
        .enumerate()
        .map(|(place, c)| {
            let (_, endpoint, document, version) = name(&c.now);
            ((c.now.queue.clone(), endpoint, document, version), place)
        })
        .collect();
    let mut answers = Vec::with_capacity(settlements.len());
    let mut gone: BTreeMap<(&QueueName, EndpointId), &str> = BTreeMap::new();
    let mut touched = BTreeSet::new();
    for settlement in settlements {
        let place = places.get(&of(settlement)).copied();
        let settled = place.filter(|place| {
            found[*place]
                .now
                .settle(settlement.lease_id, &settlement.outcome, now)
        });
        touched.extend(settled);
        answers.push(settled.is_some());
        if let DeliveryOutcome::Gone { error } = &settlement.outcome
            && settled.is_some()
        {
            gone.insert((&settlement.queue, settlement.endpoint), error);
        }
    }
    let mut place = 0..;
    found.retain(|_| place.next().is_some_and(|place| touched.contains(&place)));
    save_heads(conn, &found).await?;
    for ((queue, id), error) in gone {
        disable(conn, queue, id, error).await?;
    }
    Ok((answers, Vec::new()))
}

async fn disable(
    conn: &mut SqliteConnection,
    queue: &QueueName,
    id: EndpointId,
    error: &str,
) -> Result<()> {
    let rows: Vec<String> = sqlx::query_scalar(include_str!("../queries/endpoints.sql"))
        .bind(queue.as_str())
        .fetch_all(&mut *conn)
        .await
        .map_err(failed)?;
    for row in &rows {
        let mut endpoint: Endpoint = read("an endpoint", row)?;
        if endpoint.id == id {
            endpoint.disabled = Some(error.to_owned());
            put(conn, &endpoint).await?;
        }
    }
    Ok(())
}

async fn replay(
    conn: &mut SqliteConnection,
    queue: &QueueName,
    endpoint: EndpointId,
    one: Option<(DocumentId, u64)>,
    now: Timestamp,
) -> Told<u64> {
    let mut found = match one {
        Some((document, version)) => {
            find(conn, &[(queue.as_str(), endpoint, document, version)]).await?
        }
        None => {
            let rows: Vec<(i64, String)> =
                sqlx::query_as(include_str!("../queries/deliveries_dead.sql"))
                    .bind(queue.as_str())
                    .bind(endpoint.to_string())
                    .fetch_all(&mut *conn)
                    .await
                    .map_err(failed)?;
            changed(&rows)
        }
    };
    found.retain_mut(|changed| changed.now.replay(now));
    save_heads(conn, &found).await?;
    Ok((found.len() as u64, Vec::new()))
}

async fn purge(
    conn: &mut SqliteConnection,
    age: Duration,
    limit: usize,
    now: Timestamp,
) -> Told<usize> {
    // As `put_off` rounds: in whole milliseconds.
    let ended_by = now
        .as_microsecond()
        .saturating_sub(codec::whole_ms_in_us(age));
    let removed = sqlx::query(include_str!("../queries/deliveries_purge.sql"))
        .bind(ended_by)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .execute(conn)
        .await
        .map_err(failed)?
        .rows_affected();
    Ok((usize::try_from(removed).unwrap_or(usize::MAX), Vec::new()))
}
