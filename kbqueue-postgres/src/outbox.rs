//! `impl Outbox`: endpoints, and what is delivered to them. Deliveries are written by `save`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use kbqueue_core::error::BoxError;
use kbqueue_core::fair::deal;
use kbqueue_core::outbox::{
    Delivery, DeliveryClaims, DeliveryOutcome, DeliveryQuery, DeliveryRequest, DeliverySettlement,
    DeliveryState, Endpoint, EndpointId, EventKind, Outbox,
};
use kbqueue_core::store::Result;
use kbqueue_core::{DocumentId, LeaseId, Notice, QueueName};
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::batch::{int, json, readable};
use crate::codec::{self, Decoded};
use crate::error::{failed, malformed};
use crate::read;
use crate::session::{Session, now_of};
use crate::store::{PostgresStore, transact};
use crate::text::{escape, unescape};

type Told<T> = Result<(T, Vec<Notice>)>;

/// What names a delivery.
type Key = (QueueName, EndpointId, DocumentId, u64);

fn state_word(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Pending => "pending",
        DeliveryState::Delivered => "delivered",
        DeliveryState::Dead => "dead",
    }
}

fn endpoint(row: &PgRow) -> Result<Endpoint> {
    let decode = || -> Decoded<Endpoint> { Ok(serde_json::from_str(row.try_get("endpoint")?)?) };
    decode().map_err(|error| malformed("an endpoint", error))
}

fn delivery(row: &PgRow) -> Result<Delivery> {
    let decode = || -> Decoded<Delivery> {
        let state = match row.try_get("state")? {
            "pending" => DeliveryState::Pending,
            "delivered" => DeliveryState::Delivered,
            "dead" => DeliveryState::Dead,
            word => return Err(BoxError::from(format!("{word:?} is no state"))),
        };
        let word: &str = row.try_get("kind")?;
        let kind = EventKind::ALL.into_iter().find(|k| k.as_str() == word);
        let error: Option<String> = row.try_get("error")?;
        Ok(Delivery {
            endpoint: EndpointId(row.try_get("endpoint")?),
            queue: QueueName::new(row.try_get::<String, _>("queue")?)?,
            document: DocumentId(row.try_get("document")?),
            version: u64::try_from(row.try_get::<i64, _>("version")?)?,
            kind: kind.ok_or_else(|| format!("{word:?} is no event"))?,
            occurred_at: codec::time(row.try_get("occurred_at")?)?,
            data: serde_json::from_str(row.try_get("data")?)?,
            state,
            attempts: u32::try_from(row.try_get::<i64, _>("attempts")?)?,
            due_at: codec::time(row.try_get("due_at")?)?,
            lease_id: row.try_get::<Option<Uuid>, _>("lease_id")?.map(LeaseId),
            error: error.map(unescape),
            ended_at: codec::optional_time(row.try_get("ended_at")?)?,
        })
    };
    decode().map_err(|error| malformed("a delivery", error))
}

fn key(delivery: &Delivery) -> Key {
    let queue = delivery.queue.clone();
    (
        queue,
        delivery.endpoint,
        delivery.document,
        delivery.version,
    )
}

/// Writes deliveries, each with the lease that it had; an error (22012) where one has another by now.
async fn save(session: &mut Session<'_>, changed: &[(Option<LeaseId>, Delivery)]) -> Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let of = || changed.iter().map(|(_, delivery)| delivery);
    let query = session
        .query(|sql| &sql.deliveries_save)
        .bind(of().map(|d| d.queue.as_str()).collect::<Vec<_>>())
        .bind(of().map(|d| d.endpoint.0).collect::<Vec<_>>())
        .bind(of().map(|d| d.document.0).collect::<Vec<_>>())
        .bind(of().map(|d| int(d.version)).collect::<Vec<_>>())
        .bind(
            changed
                .iter()
                .map(|(lease, _)| lease.map(|lease| lease.0))
                .collect::<Vec<_>>(),
        )
        .bind(of().map(|d| state_word(d.state)).collect::<Vec<_>>())
        .bind(of().map(|d| i64::from(d.attempts)).collect::<Vec<_>>())
        .bind(of().map(|d| d.due_at.as_microsecond()).collect::<Vec<_>>())
        .bind(
            of().map(|d| d.lease_id.map(|lease| lease.0))
                .collect::<Vec<_>>(),
        )
        .bind(
            of().map(|d| d.error.as_deref().map(|error| escape(error).into_owned()))
                .collect::<Vec<_>>(),
        )
        .bind(
            of().map(|d| d.ended_at.map(|at| at.as_microsecond()))
                .collect::<Vec<_>>(),
        );
    session.one(query).await.map(drop)
}

async fn put_endpoint(session: &mut Session<'_>, endpoint: &Endpoint) -> Result<()> {
    let kinds = endpoint.events.iter().map(|kind| kind.as_str());
    let query = session
        .query(|sql| &sql.endpoint_put)
        .bind(endpoint.queue.as_str())
        .bind(endpoint.id.0)
        .bind(json(endpoint))
        .bind(kinds.collect::<Vec<_>>())
        .bind(endpoint.disabled.is_none());
    session.run(query).await.map(drop)
}

async fn delete_endpoint(
    session: &mut Session<'_>,
    queue: &QueueName,
    id: EndpointId,
) -> Told<bool> {
    let query = session
        .query(|sql| &sql.endpoint_delete)
        .bind(queue.as_str())
        .bind(id.0);
    let removed = session.run(query).await?;
    // A statement of its own: it sees what was written by those that the first one waited for.
    let query = session
        .query(|sql| &sql.endpoint_deliveries_delete)
        .bind(queue.as_str())
        .bind(id.0);
    session.run(query).await?;
    Ok((removed > 0, Vec::new()))
}

/// An endpoint with what can be claimed for it.
struct Line {
    endpoint: Endpoint,
    leased: u64,
    due: Vec<Delivery>,
}

async fn claim(session: &mut Session<'_>, request: &DeliveryRequest) -> Told<DeliveryClaims> {
    let slots = request.lease_ids.len();
    let queues: BTreeSet<&str> = request.queues.iter().map(QueueName::as_str).collect();
    let query = session
        .query(|sql| &sql.deliveries_lock)
        .bind(queues.into_iter().collect::<Vec<_>>());
    let endpoints = readable(&session.all(query).await?, endpoint);
    let per_endpoint = i64::from(request.per_endpoint);
    let query = session
        .query(|sql| &sql.deliveries_front)
        .bind(
            endpoints
                .iter()
                .map(|e| e.queue.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(endpoints.iter().map(|e| e.id.0).collect::<Vec<_>>())
        .bind(i64::try_from(slots).unwrap_or(i64::MAX))
        .bind(per_endpoint)
        .bind(session.now);
    let rows = session.all(query).await?;
    if rows.is_empty() {
        return Ok((DeliveryClaims::default(), Vec::new()));
    }
    let now = now_of(&rows)?;
    let mut lines: Vec<Line> = endpoints
        .into_iter()
        .map(|endpoint| Line {
            endpoint,
            leased: 0,
            due: Vec::new(),
        })
        .collect();
    let mut next_due: Option<i64> = None;
    for row in &rows {
        let place: i64 = row.try_get("place").map_err(failed)?;
        let place = usize::try_from(place - 1).unwrap_or(usize::MAX);
        let Some(line) = lines.get_mut(place) else {
            continue;
        };
        let leased: i64 = row.try_get("leased").map_err(failed)?;
        line.leased = u64::try_from(leased).unwrap_or(0);
        let next: Option<i64> = row.try_get("next_due").map_err(failed)?;
        next_due = next_due.into_iter().chain(next).min();
        if row
            .try_get::<Option<Uuid>, _>("document")
            .map_err(failed)?
            .is_some()
        {
            line.due.extend(readable([row], delivery));
        }
    }
    for line in &mut lines {
        line.due
            .sort_by_key(|delivery| (delivery.due_at, delivery.document));
    }
    lines.sort_by_key(|line| (line.leased, line.endpoint.queue.clone(), line.endpoint.id));
    let claimable: Vec<u64> = lines.iter().map(|line| line.due.len() as u64).collect();
    let mut fronts: Vec<_> = lines
        .into_iter()
        .map(|line| (line.endpoint, line.due.into_iter()))
        .collect();
    let mut claims = DeliveryClaims::default();
    let mut changed = Vec::new();
    for (line, lease_id) in deal(slots, &claimable).into_iter().zip(&request.lease_ids) {
        let (endpoint, due) = &mut fronts[line];
        let Some(mut delivery) = due.next() else {
            continue;
        };
        let before = delivery.lease_id;
        delivery.claim(*lease_id, request.lease, now);
        changed.push((before, delivery.clone()));
        claims.deliveries.push((delivery, endpoint.clone()));
    }
    save(session, &changed).await?;
    if claims.deliveries.len() < slots {
        claims.next_due = next_due.map(|at| {
            let us = at.saturating_sub(now.as_microsecond());
            Duration::from_micros(u64::try_from(us).unwrap_or(0))
        });
    }
    Ok((claims, Vec::new()))
}

async fn settle(session: &mut Session<'_>, settlements: &[DeliverySettlement]) -> Told<Vec<bool>> {
    let of = || settlements.iter();
    // Endpoints before deliveries, as a claim locks them.
    let mut gone: BTreeMap<(QueueName, EndpointId), Option<Endpoint>> = of()
        .filter(|s| matches!(s.outcome, DeliveryOutcome::Gone { .. }))
        .map(|s| ((s.queue.clone(), s.endpoint), None))
        .collect();
    for ((queue, id), endpoint_of) in &mut gone {
        let query = session
            .query(|sql| &sql.endpoint_lock)
            .bind(queue.as_str())
            .bind(id.0);
        let row = session.first(query).await?;
        *endpoint_of = row.as_ref().map(endpoint).transpose()?;
    }
    let query = session
        .query(|sql| &sql.deliveries_load)
        .bind(of().map(|s| s.queue.as_str()).collect::<Vec<_>>())
        .bind(of().map(|s| s.endpoint.0).collect::<Vec<_>>())
        .bind(of().map(|s| s.document.0).collect::<Vec<_>>())
        .bind(of().map(|s| int(s.version)).collect::<Vec<_>>())
        .bind(session.now);
    let rows = session.all(query).await?;
    let now = now_of(&rows)?;
    let mut known: BTreeMap<Key, (Option<LeaseId>, Delivery, bool)> = readable(&rows, delivery)
        .into_iter()
        .map(|delivery| (key(&delivery), (delivery.lease_id, delivery, false)))
        .collect();
    let mut answers = Vec::with_capacity(settlements.len());
    for s in settlements {
        let found = known.get_mut(&(s.queue.clone(), s.endpoint, s.document, s.version));
        let settled = found.is_some_and(|(_, delivery, changed)| {
            let settled = delivery.settle(s.lease_id, &s.outcome, now);
            *changed |= settled;
            settled
        });
        if let DeliveryOutcome::Gone { error } = &s.outcome
            && settled
            && let Some(Some(endpoint)) = gone.get_mut(&(s.queue.clone(), s.endpoint))
        {
            endpoint.disabled = Some(error.clone());
            put_endpoint(session, endpoint).await?;
        }
        answers.push(settled);
    }
    let changed = known.into_values().filter(|(_, _, changed)| *changed);
    let changed: Vec<_> = changed
        .map(|(before, delivery, _)| (before, delivery))
        .collect();
    save(session, &changed).await?;
    Ok((answers, Vec::new()))
}

async fn replay(
    session: &mut Session<'_>,
    queue: &QueueName,
    endpoint: EndpointId,
    one: Option<(DocumentId, u64)>,
) -> Told<u64> {
    let query = session
        .query(|sql| &sql.deliveries_replay)
        .bind(queue.as_str())
        .bind(endpoint.0)
        .bind(one.map(|(document, _)| document.0))
        .bind(one.map(|(_, version)| int(version)))
        .bind(session.now);
    Ok((session.run(query).await?, Vec::new()))
}

async fn purge(session: &mut Session<'_>, age: Duration, limit: usize) -> Told<usize> {
    let query = session
        .query(|sql| &sql.deliveries_purge)
        .bind(codec::whole_ms_in_us(age).min(codec::LONGEST))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .bind(session.now);
    let removed = session.run(query).await?;
    Ok((usize::try_from(removed).unwrap_or(usize::MAX), Vec::new()))
}

#[async_trait]
impl Outbox for PostgresStore {
    async fn endpoints(&self, queue: &QueueName) -> Result<Vec<Endpoint>> {
        let rows = read::rows(self, |sql| {
            sql.query(&sql.endpoints).bind(queue.as_str().to_owned())
        })
        .await?;
        Ok(readable(&rows, endpoint))
    }

    async fn put_endpoint(&self, endpoint: Endpoint) -> Result<()> {
        transact!(self, |session| async {
            put_endpoint(session, &endpoint).await?;
            Ok(((), Vec::new()))
        })
    }

    async fn delete_endpoint(&self, queue: &QueueName, id: EndpointId) -> Result<bool> {
        transact!(self, |session| delete_endpoint(session, queue, id))
    }

    async fn claim_deliveries(&self, request: DeliveryRequest) -> Result<DeliveryClaims> {
        transact!(self, |session| claim(session, &request))
    }

    async fn settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<Vec<bool>> {
        transact!(self, |session| settle(session, &settlements))
    }

    async fn deliveries(&self, query: DeliveryQuery) -> Result<Vec<Delivery>> {
        let rows = read::rows(self, |sql| {
            sql.query(&sql.deliveries)
                .bind(query.queue.as_str().to_owned())
                .bind(query.endpoint.0)
                .bind(query.state.map(state_word))
                .bind(query.after.map_or(Uuid::nil(), |(document, _)| document.0))
                .bind(query.after.map_or(-1, |(_, version)| int(version)))
                .bind(i64::from(query.limit))
        })
        .await?;
        Ok(readable(&rows, delivery))
    }

    async fn replay(
        &self,
        queue: &QueueName,
        endpoint: EndpointId,
        one: Option<(DocumentId, u64)>,
    ) -> Result<u64> {
        transact!(self, |session| replay(session, queue, endpoint, one))
    }

    async fn purge_deliveries(&self, age: Duration, limit: usize) -> Result<usize> {
        transact!(self, |session| purge(session, age, limit))
    }
}
