//! Endpoints and deliveries. A claim looks at all that is pending.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::MemoryStore;
use crate::document::{Document, DocumentId};
use crate::fair::deal;
use crate::outbox::{
    Delivery, DeliveryClaims, DeliveryOutcome, DeliveryQuery, DeliveryRequest, DeliverySettlement,
    DeliveryState, Endpoint, EndpointId, EventKind, Outbox,
};
use crate::queue::QueueName;
use crate::state::put_off;
use crate::store::Result;

type EndpointName = (QueueName, EndpointId);

#[derive(Debug, Default)]
pub(super) struct OutboxTables {
    endpoints: BTreeMap<EndpointName, Registered>,
}

#[derive(Debug)]
struct Registered {
    endpoint: Endpoint,
    deliveries: BTreeMap<(DocumentId, u64), Delivery>,
}

impl Registered {
    /// The first pending delivery of each document.
    fn heads(&self) -> impl Iterator<Item = &Delivery> {
        let mut last = None;
        self.deliveries
            .values()
            .filter(|delivery| delivery.state == DeliveryState::Pending)
            .filter(move |delivery| last.replace(delivery.document) != Some(delivery.document))
    }
}

impl OutboxTables {
    /// Writes down what just happened to a document.
    pub(super) fn write(&mut self, document: &Document, kind: EventKind, now: Timestamp) {
        let life = &document.lifecycle;
        for ((queue, _), registered) in &mut self.endpoints {
            let endpoint = &registered.endpoint;
            if *queue == document.queue && endpoint.wants(kind) {
                let delivery = Delivery::new(endpoint, document.id, life, kind, now);
                let key = (document.id, delivery.version);
                registered.deliveries.insert(key, delivery);
            }
        }
    }

    fn claim(&mut self, request: &DeliveryRequest, now: Timestamp) -> DeliveryClaims {
        let mut next_due = None;
        let mut lines = Vec::new();
        for (name, registered) in &self.endpoints {
            if !request.queues.contains(&name.0) || registered.endpoint.disabled.is_some() {
                continue;
            }
            let mut heads: Vec<&Delivery> = registered.heads().collect();
            heads.sort_by_key(|head| (head.due_at, head.document));
            let leased = heads.iter().filter(|head| head.is_leased(now)).count();
            let due = heads.partition_point(|head| head.due_at <= now);
            next_due = heads[due..]
                .iter()
                .map(|head| head.due_at)
                .chain(next_due)
                .min();
            let room = (request.per_endpoint as usize).saturating_sub(leased);
            let front = heads[..due].iter().take(room);
            let front: Vec<_> = front.map(|head| (head.document, head.version)).collect();
            lines.push((leased, name.clone(), front));
        }
        lines.sort();
        let claimable: Vec<u64> = lines
            .iter()
            .map(|(_, _, front)| front.len() as u64)
            .collect();
        let mut claims = DeliveryClaims::default();
        let mut fronts: Vec<_> = lines
            .iter()
            .map(|(_, name, front)| (name, front.iter()))
            .collect();
        let dealt = deal(request.lease_ids.len(), &claimable);
        for (line, lease_id) in dealt.into_iter().zip(&request.lease_ids) {
            let (name, front) = &mut fronts[line];
            let key = front.next().expect("no more is dealt than is there");
            let registered = self.endpoints.get_mut(*name).expect("it was just read");
            let delivery = registered
                .deliveries
                .get_mut(key)
                .expect("it was just read");
            delivery.claim(*lease_id, request.lease, now);
            let claimed = (delivery.clone(), registered.endpoint.clone());
            claims.deliveries.push(claimed);
        }
        if claims.deliveries.len() < request.lease_ids.len() {
            claims.next_due = next_due.map(|at| at.duration_since(now).unsigned_abs());
        }
        claims
    }

    fn settle(&mut self, settlement: DeliverySettlement, now: Timestamp) -> bool {
        let name = (settlement.queue, settlement.endpoint);
        let Some(registered) = self.endpoints.get_mut(&name) else {
            return false;
        };
        let key = (settlement.document, settlement.version);
        let delivery = registered.deliveries.get_mut(&key);
        let outcome = &settlement.outcome;
        let settled = delivery.is_some_and(|d| d.settle(settlement.lease_id, outcome, now));
        if let DeliveryOutcome::Gone { error } = outcome
            && settled
        {
            registered.endpoint.disabled = Some(error.clone());
        }
        settled
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Outbox for MemoryStore {
    async fn endpoints(&self, queue: &QueueName) -> Result<Vec<Endpoint>> {
        let tables = self.lock();
        let endpoints = tables.outbox.endpoints.values().map(|r| &r.endpoint);
        Ok(endpoints.filter(|e| e.queue == *queue).cloned().collect())
    }

    async fn put_endpoint(&self, endpoint: Endpoint) -> Result<()> {
        let name = (endpoint.queue.clone(), endpoint.id);
        let mut tables = self.lock();
        let before = tables.outbox.endpoints.remove(&name);
        let deliveries = before.map(|before| before.deliveries).unwrap_or_default();
        let registered = Registered {
            endpoint,
            deliveries,
        };
        tables.outbox.endpoints.insert(name, registered);
        Ok(())
    }

    async fn delete_endpoint(&self, queue: &QueueName, id: EndpointId) -> Result<bool> {
        let mut tables = self.lock();
        Ok(tables
            .outbox
            .endpoints
            .remove(&(queue.clone(), id))
            .is_some())
    }

    async fn claim_deliveries(&self, request: DeliveryRequest) -> Result<DeliveryClaims> {
        let now = self.clock.now();
        Ok(self.lock().outbox.claim(&request, now))
    }

    async fn settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<Vec<bool>> {
        let now = self.clock.now();
        let mut tables = self.lock();
        let settle = |settlement| tables.outbox.settle(settlement, now);
        Ok(settlements.into_iter().map(settle).collect())
    }

    async fn deliveries(&self, query: DeliveryQuery) -> Result<Vec<Delivery>> {
        let tables = self.lock();
        let Some(of) = tables.outbox.endpoints.get(&(query.queue, query.endpoint)) else {
            return Ok(Vec::new());
        };
        let deliveries = of.deliveries.iter();
        let deliveries = deliveries
            .filter(|(key, _)| query.after.is_none_or(|after| **key > after))
            .filter(|(_, delivery)| query.state.is_none_or(|state| state == delivery.state));
        let page = deliveries.take(query.limit as usize);
        Ok(page.map(|(_, delivery)| delivery.clone()).collect())
    }

    async fn replay(
        &self,
        queue: &QueueName,
        endpoint: EndpointId,
        one: Option<(DocumentId, u64)>,
    ) -> Result<u64> {
        let now = self.clock.now();
        let mut tables = self.lock();
        let Some(of) = tables.outbox.endpoints.get_mut(&(queue.clone(), endpoint)) else {
            return Ok(0);
        };
        let mut replayed = 0;
        for (key, delivery) in &mut of.deliveries {
            let wanted = one.map_or(delivery.state == DeliveryState::Dead, |one| one == *key);
            replayed += u64::from(wanted && delivery.replay(now));
        }
        Ok(replayed)
    }

    async fn purge_deliveries(&self, age: Duration, limit: usize) -> Result<usize> {
        let now = self.clock.now();
        let mut removed = 0;
        for of in self.lock().outbox.endpoints.values_mut() {
            of.deliveries.retain(|_, delivery| {
                let old = |ended_at: Timestamp| put_off(ended_at, age) <= now;
                let useless = delivery.state == DeliveryState::Delivered
                    && delivery.ended_at.is_some_and(old)
                    && removed < limit;
                removed += usize::from(useless);
                !useless
            });
        }
        Ok(removed)
    }
}
