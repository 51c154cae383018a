//! The reference store: plain maps behind one lock. It calls
//! [`transition`] and decides nothing itself.
//!
//! It is for tests and for trying things out: nothing survives the process, and nothing is tuned. A
//! claim looks at each line of its queues, and at each waiting document where it finds too few.

mod library;
mod outbox;
mod schedule;
mod tables;

use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;

use self::tables::{Outputs, Record, Tables};
use crate::clock::Clock;
use crate::document::{Document, DocumentId, NewDocument, Properties};
use crate::error::StoreError;
use crate::event::{DocumentChange, Notice, Notifier, Subscription};
use crate::lifecycle::Lifecycle;
use crate::output::{Chunk, Image, Page};
use crate::queue::{QueueName, QueueSettings, QueueStats};
use crate::state::{CrashLimits, Event, Refusal, leased_until, transition};
use crate::store::{
    Checkpoint, ClaimRequest, Claims, Control, Directive, DocumentQuery, Enqueued, OutputQuery,
    Reaped, RenewRequest, Result, Settled, Settlement, Store, WorkerId,
};

/// A store in memory. Nothing of it survives the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    clock: Clock,
    notifier: Notifier,
    tables: Mutex<Tables>,
}

impl MemoryStore {
    /// An empty store on this machine's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store on another clock.
    #[must_use]
    pub fn with_clock(clock: Clock) -> Self {
        Self {
            clock,
            ..Self::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables
            .lock()
            .expect("no call panics while it holds the lock")
    }

    /// Tells listeners. Called when the lock is free again: then they find the change.
    fn tell(&self, changes: impl IntoIterator<Item = DocumentChange>) {
        for change in changes {
            self.notifier.send(Notice::Document(change));
        }
    }

    /// Outputs of the generation asked for, or else of the one that readers see.
    fn read<T: Clone>(
        &self,
        query: &OutputQuery,
        of: impl Fn(&Record) -> (&Outputs<T>, u32),
    ) -> Vec<T> {
        let tables = self.lock();
        let Some(record) = tables.visible(query.document) else {
            return Vec::new();
        };
        let (outputs, seen) = of(record);
        let generation = query.generation.unwrap_or(seen);
        let after = query.after;
        outputs
            .range((generation, 0)..=(generation, u32::MAX))
            .filter(|((_, number), _)| after.is_none_or(|after| *number > after))
            .take(query.limit as usize)
            .map(|(_, output)| output.clone())
            .collect()
    }
}

fn directive(life: &Lifecycle) -> Directive {
    if life.cancel_requested_at.is_some() {
        Directive::Cancel
    } else {
        Directive::Continue
    }
}

fn new_document(new: NewDocument, now: jiff::Timestamp) -> Document {
    Document {
        id: new.id,
        queue: new.queue,
        tenant: new.tenant,
        priority: new.priority,
        filename: new.filename,
        media_type: new.media_type,
        blob: new.blob,
        chunking: new.chunking,
        metadata: new.metadata,
        password: new.password,
        properties: Properties::default(),
        failed_pages: Vec::new(),
        created_at: now,
        lifecycle: Lifecycle::new(new.available_at.unwrap_or(now)),
        attempts: Vec::new(),
    }
}

/// Takes documents in, all or none. Answers also with what there is to tell.
fn enqueue(
    tables: &mut Tables,
    documents: Vec<NewDocument>,
    now: jiff::Timestamp,
) -> Result<(Vec<Enqueued>, Vec<DocumentChange>)> {
    tables.admit(&documents)?;
    let mut changes = Vec::new();
    let mut answers = Vec::new();
    for new in documents {
        let key = new.dedupe_key();
        let existing = tables.existing(&new);
        let created = existing.is_none();
        let id = existing.unwrap_or(new.id);
        if created {
            let document = new_document(new, now);
            changes.push(DocumentChange::of(&document));
            tables.insert(Record::new(document, key));
        }
        let record = tables.any(id).expect("it was found or made");
        let state = record.life().state;
        answers.push(Enqueued { id, state, created });
    }
    Ok((answers, changes))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for MemoryStore {
    async fn enqueue(&self, documents: Vec<NewDocument>) -> Result<Vec<Enqueued>> {
        let now = self.clock.now();
        let (answers, changes) = enqueue(&mut self.lock(), documents, now)?;
        self.tell(changes);
        Ok(answers)
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claims> {
        let now = self.clock.now();
        let mut changes = Vec::new();
        let mut claims = Claims::default();
        {
            let mut tables = self.lock();
            let dealt = tables.deal(&request, now);
            for (id, lease_id) in dealt.documents.into_iter().zip(&request.lease_ids) {
                let event = Event::Claim {
                    lease_id: *lease_id,
                    worker: request.worker.name.clone(),
                    lease: request.lease,
                    fingerprint: request.fingerprint.clone(),
                    grace: request.grace,
                };
                let change = tables.apply(id, &event, now);
                changes.extend(change.expect("only what can be claimed is dealt"));
                let record = tables.any(id).expect("it was just claimed");
                claims.documents.push(record.document.clone());
            }
            if claims.documents.len() < request.lease_ids.len() {
                let due = tables.next_due(&request, now).into_iter();
                let due = due.chain(dealt.next_token).min();
                claims.next_due = due.map(|due| due.duration_since(now).unsigned_abs());
                claims.held_back = dealt.held_back;
            }
        }
        self.tell(changes);
        Ok(claims)
    }

    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<Directive> {
        let now = self.clock.now();
        let id = checkpoint.document;
        let event = Event::Checkpoint {
            lease_id: checkpoint.lease_id,
            lease: checkpoint.lease,
            cursor: checkpoint.cursor,
            progress: checkpoint.progress,
        };
        let (change, answer) = {
            let mut tables = self.lock();
            let change = match tables.apply(id, &event, now) {
                Ok(change) => change,
                Err(Refusal::LeaseLost | Refusal::Deleted) => return Ok(Directive::LeaseLost),
                Err(refusal) => return Err(StoreError::refused(id, refusal)),
            };
            if change.is_some() {
                tables.store_outputs(checkpoint);
            }
            let record = tables.any(id).expect("it was just changed");
            (change, directive(record.life()))
        };
        self.tell(change);
        Ok(answer)
    }

    async fn renew(&self, request: RenewRequest) -> Result<Vec<Directive>> {
        let now = self.clock.now();
        let mut tables = self.lock();
        let alive_until = leased_until(now, request.lease);
        let worker = request.worker;
        tables
            .workers
            .insert(worker.id, (worker.queues, alive_until));
        let mut answers = Vec::new();
        for (id, lease_id) in request.leases {
            let lease = request.lease;
            let event = Event::Renew { lease_id, lease };
            // Nothing to tell: a renewal changes nothing that anybody shows.
            let renewed = tables.apply(id, &event, now).is_ok();
            let record = tables.any(id).filter(|_| renewed);
            answers.push(record.map_or(Directive::LeaseLost, |record| directive(record.life())));
        }
        Ok(answers)
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>> {
        let now = self.clock.now();
        let mut changes = Vec::new();
        let mut answers = Vec::new();
        {
            let mut tables = self.lock();
            for settlement in settlements {
                let id = settlement.document;
                let event = Event::Settle {
                    lease_id: settlement.lease_id,
                    outcome: settlement.outcome,
                };
                let Ok(change) = tables.apply(id, &event, now) else {
                    answers.push(Settled::LeaseLost);
                    continue;
                };
                changes.extend(change);
                let last = tables
                    .any(id)
                    .and_then(|record| record.life().last_settlement);
                let last = last.expect("it was just settled, or had been by this lease");
                answers.push(Settled::In(last.state));
            }
        }
        self.tell(changes);
        Ok(answers)
    }

    async fn depart(&self, worker: WorkerId) -> Result<()> {
        self.lock().workers.remove(&worker);
        Ok(())
    }

    async fn control(&self, id: DocumentId, control: Control) -> Result<Document> {
        let now = self.clock.now();
        let event = control.event();
        let (change, document) = {
            let mut tables = self.lock();
            let record = tables.visible(id).ok_or(StoreError::NotFound(id))?;
            let refused = |refusal| StoreError::refused(id, refusal);
            // Judged first: what the state forbids is refused as such, whoever took its place.
            transition(record.life(), &event, now).map_err(refused)?;
            let queues_again = matches!(event, Event::Retry { .. } | Event::Rechunk);
            if let Some(by) = tables.successor(record).filter(|_| queues_again) {
                return Err(StoreError::Superseded { id, by });
            }
            let change = tables.apply(id, &event, now).map_err(refused)?;
            if change.is_some() {
                tables.edit(id, |document| control.edit(document));
            }
            let record = tables.any(id).expect("it was just changed");
            (change, record.document.clone())
        };
        self.tell(change);
        Ok(document)
    }

    async fn configure(&self, queue: &QueueName, settings: QueueSettings) -> Result<()> {
        let now = self.clock.now();
        self.lock().configure(queue, settings, now);
        self.notifier.send(Notice::Queue(queue.clone()));
        Ok(())
    }

    async fn reap(&self, limits: CrashLimits, limit: usize) -> Result<Vec<Reaped>> {
        let now = self.clock.now();
        let mut changes = Vec::new();
        let mut reaped = Vec::new();
        {
            let mut tables = self.lock();
            for (id, worker) in tables.expired(now, limit) {
                let change = tables.apply(id, &Event::Expire(limits), now);
                let change = change
                    .expect("its lease ran out")
                    .expect("nobody was before us");
                let state = change.state;
                reaped.push(Reaped { id, state, worker });
                changes.push(change);
            }
        }
        self.tell(changes);
        Ok(reaped)
    }

    async fn purge(&self, limit: usize) -> Result<usize> {
        Ok(self.lock().purge(limit))
    }

    async fn document(&self, id: DocumentId) -> Result<Option<Document>> {
        let tables = self.lock();
        Ok(tables.visible(id).map(|record| record.document.clone()))
    }

    async fn documents(&self, query: DocumentQuery) -> Result<Vec<Document>> {
        let tables = self.lock();
        let wanted = |document: &&Document| {
            let queue = query.queue.as_ref();
            let state = query.state;
            let tenant = query.tenant.as_ref();
            let name = query.name.as_ref();
            tenant.is_none_or(|tenant| document.tenant.as_ref() == Some(tenant))
                && name.is_none_or(|name| document.filename.starts_with(name))
                && queue.is_none_or(|queue| *queue == document.queue)
                && state.is_none_or(|state| state == document.lifecycle.state)
        };
        let documents = tables.newest(query.after).map(|record| &record.document);
        let page = documents.filter(wanted).take(query.limit as usize);
        Ok(page.cloned().collect())
    }

    async fn pages(&self, query: OutputQuery) -> Result<Vec<Page>> {
        Ok(self.read(&query, |record| {
            (&record.pages, record.life().visible().pages)
        }))
    }

    async fn chunks(&self, query: OutputQuery) -> Result<Vec<Chunk>> {
        Ok(self.read(&query, |record| {
            (&record.chunks, record.life().visible().chunks)
        }))
    }

    async fn images(&self, query: OutputQuery) -> Result<Vec<Image>> {
        Ok(self.read(&query, |record| {
            (&record.images, record.life().visible().pages)
        }))
    }

    async fn stats(&self, queue: &QueueName) -> Result<QueueStats> {
        let now = self.clock.now();
        let tables = self.lock();
        let serves = tables
            .workers
            .values()
            .filter(|(queues, alive_until)| *alive_until > now && queues.contains(queue));
        Ok(QueueStats {
            counts: tables.counts.get(queue).copied().unwrap_or_default(),
            settings: tables.settings.get(queue).copied().unwrap_or_default(),
            live_workers: serves.count() as u64,
        })
    }

    async fn subscribe(&self) -> Result<Subscription> {
        Ok(self.notifier.subscribe())
    }
}
