//! The reference store: plain maps behind one lock. It calls
//! [`transition`] and decides nothing itself.
//!
//! It is for tests and for trying things out: nothing survives the process, and claims look at every
//! queued document.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::clock::Clock;
use crate::document::{Attempt, Document, DocumentId, NewDocument, Properties};
use crate::error::StoreError;
use crate::event::{DocumentChange, Notice, Notifier, Subscription};
use crate::fair::deal;
use crate::lifecycle::Lifecycle;
use crate::output::{Chunk, FailedPage, Image, Page};
use crate::queue::{QueueName, QueueSettings, QueueStats, StateCounts};
use crate::state::{CrashLimits, Event, Refusal, State, Transition, transition};
use crate::store::{
    Checkpoint, ClaimRequest, Claims, Control, Directive, DocumentQuery, Enqueued, OutputQuery,
    Reaped, RenewRequest, Result, Settled, Settlement, Store, WorkerId,
};

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    clock: Clock,
    notifier: Notifier,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    records: BTreeMap<DocumentId, Record>,
    settings: HashMap<QueueName, QueueSettings>,
    counts: HashMap<QueueName, StateCounts>,
    /// When each line of documents was served last, in documents dealt.
    turns: HashMap<Line, u64>,
    dealt: u64,
    workers: HashMap<WorkerId, (Vec<QueueName>, Timestamp)>,
}

type Line = (QueueName, Option<String>);

#[derive(Debug)]
struct Record {
    document: Document,
    dedupe_key: Option<String>,
    /// Outputs by (generation, page number or ordinal).
    pages: BTreeMap<(u32, u32), Page>,
    chunks: BTreeMap<(u32, u32), Chunk>,
    images: BTreeMap<(u32, u32), Image>,
}

impl Record {
    fn life(&self) -> &Lifecycle {
        &self.document.lifecycle
    }

    /// Whether an enqueue of the same content or key finds it.
    fn stands_for(&self, queue: &QueueName, key: &str) -> bool {
        let life = self.life();
        let live = matches!(
            life.state,
            State::Queued | State::Processing | State::Completed
        );
        live && life.deleted_at.is_none()
            && self.document.queue == *queue
            && self.dedupe_key.as_deref() == Some(key)
    }

    /// When a worker with these output settings may claim it.
    fn due_at(&self, request: &ClaimRequest) -> Timestamp {
        let life = self.life();
        let foreign = life
            .fingerprint
            .as_ref()
            .is_some_and(|own| *own != request.fingerprint);
        let grace = if foreign {
            request.grace
        } else {
            Duration::ZERO
        };
        life.available_at
            .checked_add(grace)
            .unwrap_or(Timestamp::MAX)
    }

    /// Removes one output that no reader and no worker needs; `false` where there is none.
    fn drop_superseded(&mut self) -> bool {
        let life = &self.document.lifecycle;
        let gone = life.deleted_at.is_some();
        let (visible, current) = (life.visible(), life.generation);
        let needless = |(generation, _): &(u32, u32), seen: u32, written: u32| {
            gone || (*generation != seen && *generation != written)
        };
        let chunk = self
            .chunks
            .keys()
            .find(|k| needless(k, visible.chunks, current.chunks))
            .copied();
        let page = self
            .pages
            .keys()
            .find(|k| needless(k, visible.pages, current.pages))
            .copied();
        let image = self
            .images
            .keys()
            .find(|k| needless(k, visible.pages, current.pages))
            .copied();
        chunk.is_some_and(|key| self.chunks.remove(&key).is_some())
            || page.is_some_and(|key| self.pages.remove(&key).is_some())
            || image.is_some_and(|key| self.images.remove(&key).is_some())
    }
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

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, changes: Vec<DocumentChange>) {
        for change in changes {
            self.notifier.send(Notice::Document(change));
        }
    }

    fn read<T: Clone>(
        &self,
        query: &OutputQuery,
        of: impl Fn(&Record) -> (u32, &BTreeMap<(u32, u32), T>),
    ) -> Vec<T> {
        let inner = self.lock();
        let Some(record) = inner.records.get(&query.document) else {
            return Vec::new();
        };
        if record.life().deleted_at.is_some() {
            return Vec::new();
        }
        let (visible, outputs) = of(record);
        let generation = query.generation.unwrap_or(visible);
        let first = query.after.map_or(0, |after| after.saturating_add(1));
        let range = outputs.range((generation, first)..=(generation, u32::MAX));
        range
            .take(query.limit as usize)
            .map(|(_, output)| output.clone())
            .collect()
    }
}

impl Inner {
    fn find(&self, id: DocumentId) -> Result<&Record> {
        let record = self
            .records
            .get(&id)
            .filter(|record| record.life().deleted_at.is_none());
        record.ok_or(StoreError::NotFound(id))
    }

    /// Applies an event, keeps the counts and the history, and says what changed.
    fn apply(
        &mut self,
        id: DocumentId,
        event: &Event,
        now: Timestamp,
    ) -> Result<std::result::Result<Option<DocumentChange>, Refusal>> {
        let record = self.records.get_mut(&id).ok_or(StoreError::NotFound(id))?;
        let after = match transition(record.life(), event, now) {
            Ok(Transition::To(after)) => *after,
            Ok(Transition::Repeated) => return Ok(Ok(None)),
            Err(refusal) => return Ok(Err(refusal)),
        };
        let document = &mut record.document;
        let before = std::mem::replace(&mut document.lifecycle, after);
        let after = &document.lifecycle;
        document
            .attempts
            .extend(Attempt::ended(&before, event, after, now));
        if before.generation.pages != after.generation.pages {
            document.failed_pages.clear();
            document.properties = Properties::default();
        }
        let counts = self.counts.entry(document.queue.clone()).or_default();
        *counts.of_mut(before.state) -= 1;
        if after.deleted_at.is_none() {
            *counts.of_mut(after.state) += 1;
        }
        Ok(Ok(Some(DocumentChange::of(document))))
    }

    fn same_as(&self, queue: &QueueName, key: Option<&str>) -> Option<&Record> {
        let key = key?;
        self.records
            .values()
            .find(|record| record.stands_for(queue, key))
    }

    /// Queued documents that the worker may hear of: of its queues, where these are not paused.
    fn waiting<'a>(&'a self, request: &'a ClaimRequest) -> impl Iterator<Item = &'a Record> {
        let paused = |queue| {
            self.settings
                .get(queue)
                .is_some_and(|settings| settings.paused)
        };
        self.records.values().filter(move |record| {
            record.life().state == State::Queued
                && record.life().deleted_at.is_none()
                && request.worker.queues.contains(&record.document.queue)
                && !paused(&record.document.queue)
        })
    }

    /// The documents to claim, in the order of `fair`, and the lines' new turns.
    fn pick(&mut self, request: &ClaimRequest, now: Timestamp) -> Vec<DocumentId> {
        let mut lines: BTreeMap<(u64, Line), Vec<_>> = BTreeMap::new();
        for record in self
            .waiting(request)
            .filter(|record| record.due_at(request) <= now)
        {
            let document = &record.document;
            let line = (document.queue.clone(), document.tenant.clone());
            let turn = self.turns.get(&line).copied().unwrap_or(0);
            let rank = (
                -document.priority,
                document.lifecycle.available_at,
                document.id,
            );
            lines.entry((turn, line)).or_default().push(rank);
        }
        let mut lines: Vec<(Line, Vec<_>)> = lines
            .into_iter()
            .map(|((_, line), ranks)| (line, ranks))
            .collect();
        for (_, ranks) in &mut lines {
            ranks.sort_unstable();
        }
        let claimable: Vec<u64> = lines.iter().map(|(_, ranks)| ranks.len() as u64).collect();
        let mut next = vec![0; lines.len()];
        let mut picked = Vec::new();
        for line in deal(request.lease_ids.len(), &claimable) {
            picked.push(lines[line].1[next[line]].2);
            next[line] += 1;
            self.dealt += 1;
            self.turns.insert(lines[line].0.clone(), self.dealt);
        }
        picked
    }
}

fn directive(life: &Lifecycle) -> Directive {
    if life.cancel_requested_at.is_some() {
        Directive::Cancel
    } else {
        Directive::Continue
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for MemoryStore {
    async fn enqueue(&self, documents: Vec<NewDocument>) -> Result<Vec<Enqueued>> {
        let now = self.clock.now();
        let mut changes = Vec::new();
        let mut answers = Vec::new();
        {
            let mut inner = self.lock();
            for new in documents {
                let dedupe_key = new.dedupe_key();
                let existing = inner.records.get(&new.id);
                let existing =
                    existing.or_else(|| inner.same_as(&new.queue, dedupe_key.as_deref()));
                if let Some(Record { document, .. }) = existing {
                    let (id, state) = (document.id, document.lifecycle.state);
                    answers.push(Enqueued {
                        id,
                        state,
                        created: false,
                    });
                    continue;
                }
                let document = Document {
                    id: new.id,
                    queue: new.queue,
                    tenant: new.tenant,
                    priority: new.priority,
                    filename: new.filename,
                    media_type: new.media_type,
                    blob: new.blob,
                    chunking: new.chunking,
                    metadata: new.metadata,
                    properties: Properties::default(),
                    failed_pages: Vec::new(),
                    created_at: now,
                    lifecycle: Lifecycle::new(new.available_at.unwrap_or(now)),
                    attempts: Vec::new(),
                };
                inner
                    .counts
                    .entry(document.queue.clone())
                    .or_default()
                    .queued += 1;
                changes.push(DocumentChange::of(&document));
                answers.push(Enqueued {
                    id: document.id,
                    state: State::Queued,
                    created: true,
                });
                let record = Record {
                    document,
                    dedupe_key,
                    pages: BTreeMap::new(),
                    chunks: BTreeMap::new(),
                    images: BTreeMap::new(),
                };
                inner.records.insert(new.id, record);
            }
        }
        self.tell(changes);
        Ok(answers)
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claims> {
        let now = self.clock.now();
        let mut changes = Vec::new();
        let mut claims = Claims::default();
        {
            let mut inner = self.lock();
            let picked = inner.pick(&request, now);
            for (id, lease_id) in picked.into_iter().zip(&request.lease_ids) {
                let event = Event::Claim {
                    lease_id: *lease_id,
                    worker: request.worker.name.clone(),
                    lease: request.lease.max(Duration::from_millis(1)),
                    fingerprint: request.fingerprint.clone(),
                    grace: request.grace,
                };
                let change = inner.apply(id, &event, now)?;
                changes.extend(change.map_err(|refusal| StoreError::refused(id, refusal))?);
                claims.documents.push(inner.find(id)?.document.clone());
            }
            if claims.documents.len() < request.lease_ids.len() {
                let due = inner
                    .waiting(&request)
                    .map(|record| record.due_at(&request))
                    .min();
                claims.next_due = due.map(|at| at.duration_since(now).unsigned_abs());
            }
        }
        self.tell(changes);
        Ok(claims)
    }

    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<Directive> {
        let now = self.clock.now();
        let id = checkpoint.document;
        let mut inner = self.lock();
        let event = Event::Checkpoint {
            lease_id: checkpoint.lease_id,
            lease: checkpoint.lease,
            cursor: checkpoint.cursor,
            progress: checkpoint.progress,
        };
        let change = match inner.apply(id, &event, now) {
            Ok(Ok(change)) => change,
            Ok(Err(Refusal::LeaseLost)) | Err(StoreError::NotFound(_)) => {
                return Ok(Directive::LeaseLost);
            }
            Ok(Err(refusal)) => return Err(StoreError::refused(id, refusal)),
            Err(error) => return Err(error),
        };
        let record = inner.records.get_mut(&id).ok_or(StoreError::NotFound(id))?;
        if change.is_some() {
            let generation = record.life().generation;
            for page in checkpoint.pages {
                if let Some(cause) = page.failure.clone() {
                    record.document.failed_pages.push(FailedPage {
                        page: page.number,
                        cause,
                    });
                }
                record.pages.insert((generation.pages, page.number), page);
            }
            for chunk in checkpoint.chunks {
                record
                    .chunks
                    .insert((generation.chunks, chunk.ordinal), chunk);
            }
            for image in checkpoint.images {
                record
                    .images
                    .insert((generation.pages, image.ordinal), image);
            }
            if let Some(properties) = checkpoint.properties {
                record.document.properties = properties;
            }
        }
        let answer = directive(record.life());
        drop(inner);
        self.tell(change.into_iter().collect());
        Ok(answer)
    }

    async fn renew(&self, request: RenewRequest) -> Result<Vec<Directive>> {
        let now = self.clock.now();
        let mut inner = self.lock();
        let until = now.checked_add(request.lease).unwrap_or(Timestamp::MAX);
        inner
            .workers
            .insert(request.worker.id, (request.worker.queues, until));
        let mut answers = Vec::new();
        for (id, lease_id) in request.leases {
            let event = Event::Renew {
                lease_id,
                lease: request.lease,
            };
            answers.push(match inner.apply(id, &event, now) {
                Ok(Ok(_)) => directive(inner.find(id)?.life()),
                Ok(Err(_)) | Err(_) => Directive::LeaseLost,
            });
        }
        Ok(answers)
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>> {
        let now = self.clock.now();
        let mut changes = Vec::new();
        let mut answers = Vec::new();
        {
            let mut inner = self.lock();
            for Settlement {
                document: id,
                lease_id,
                outcome,
            } in settlements
            {
                let event = Event::Settle { lease_id, outcome };
                answers.push(match inner.apply(id, &event, now) {
                    Ok(Ok(change)) => {
                        changes.extend(change);
                        let last = inner.records[&id].life().last_settlement;
                        last.map_or(Settled::LeaseLost, |last| Settled::In(last.state))
                    }
                    Ok(Err(_)) | Err(_) => Settled::LeaseLost,
                });
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
        let (change, document) = {
            let mut inner = self.lock();
            let record = inner.find(id)?;
            let event = match &control {
                Control::Cancel => Event::Cancel,
                Control::Retry { from_scratch } => Event::Retry {
                    from_scratch: *from_scratch,
                },
                Control::Rechunk(_) => Event::Rechunk,
                Control::Delete => Event::Delete,
            };
            // Asked first, so that a state that forbids it is what the caller hears of.
            transition(record.life(), &event, now).map_err(|r| StoreError::refused(id, r))?;
            if matches!(control, Control::Retry { .. } | Control::Rechunk(_)) {
                let key = record.dedupe_key.as_deref();
                let other = inner
                    .same_as(&record.document.queue, key)
                    .map(|other| other.document.id);
                if let Some(by) = other.filter(|other| *other != id) {
                    return Err(StoreError::Superseded { id, by });
                }
            }
            let change = inner.apply(id, &event, now)?;
            let change = change.map_err(|refusal| StoreError::refused(id, refusal))?;
            let record = inner.records.get_mut(&id).ok_or(StoreError::NotFound(id))?;
            if let Control::Rechunk(options) = control {
                record.document.chunking = Some(options);
            }
            (change, record.document.clone())
        };
        self.tell(change.into_iter().collect());
        Ok(document)
    }

    async fn configure(&self, queue: &QueueName, settings: QueueSettings) -> Result<()> {
        self.lock().settings.insert(queue.clone(), settings);
        self.notifier.send(Notice::Queue(queue.clone()));
        Ok(())
    }

    async fn reap(&self, limits: CrashLimits, limit: usize) -> Result<Vec<Reaped>> {
        let now = self.clock.now();
        let mut changes = Vec::new();
        let mut reaped = Vec::new();
        {
            let mut inner = self.lock();
            let mut expired: Vec<_> = inner
                .records
                .values()
                .filter_map(|record| Some((record.life().lease.as_ref()?, record.document.id)))
                .filter(|(lease, _)| lease.expires_at <= now)
                .map(|(lease, id)| (lease.expires_at, id, lease.worker.clone()))
                .collect();
            expired.sort_unstable();
            for (_, id, worker) in expired.into_iter().take(limit) {
                let change = inner.apply(id, &Event::Expire(limits), now)?;
                let change = change.map_err(|refusal| StoreError::refused(id, refusal))?;
                reaped.extend(change.as_ref().map(|c| Reaped {
                    id,
                    state: c.state,
                    worker,
                }));
                changes.extend(change);
            }
        }
        self.tell(changes);
        Ok(reaped)
    }

    async fn purge(&self, limit: usize) -> Result<usize> {
        let mut inner = self.lock();
        let mut removed = 0;
        let mut empty = Vec::new();
        for (id, record) in &mut inner.records {
            while removed < limit && record.drop_superseded() {
                removed += 1;
            }
            if removed < limit && record.life().deleted_at.is_some() {
                empty.push(*id);
                removed += 1;
            }
        }
        for id in empty {
            inner.records.remove(&id);
        }
        Ok(removed)
    }

    async fn document(&self, id: DocumentId) -> Result<Option<Document>> {
        Ok(self
            .lock()
            .find(id)
            .ok()
            .map(|record| record.document.clone()))
    }

    async fn documents(&self, query: DocumentQuery) -> Result<Vec<Document>> {
        let inner = self.lock();
        let documents = inner.records.values().rev().map(|record| &record.document);
        let wanted = documents.filter(|document| {
            document.lifecycle.deleted_at.is_none()
                && query
                    .queue
                    .as_ref()
                    .is_none_or(|queue| *queue == document.queue)
                && query
                    .state
                    .is_none_or(|state| state == document.lifecycle.state)
                && query.after.is_none_or(|after| document.id < after)
        });
        Ok(wanted.take(query.limit as usize).cloned().collect())
    }

    async fn pages(&self, query: OutputQuery) -> Result<Vec<Page>> {
        Ok(self.read(&query, |record| {
            (record.life().visible().pages, &record.pages)
        }))
    }

    async fn chunks(&self, query: OutputQuery) -> Result<Vec<Chunk>> {
        Ok(self.read(&query, |record| {
            (record.life().visible().chunks, &record.chunks)
        }))
    }

    async fn images(&self, query: OutputQuery) -> Result<Vec<Image>> {
        Ok(self.read(&query, |record| {
            (record.life().visible().pages, &record.images)
        }))
    }

    async fn stats(&self, queue: &QueueName) -> Result<QueueStats> {
        let now = self.clock.now();
        let inner = self.lock();
        let serves =
            |(queues, until): &&(Vec<QueueName>, Timestamp)| queues.contains(queue) && *until > now;
        Ok(QueueStats {
            counts: inner.counts.get(queue).copied().unwrap_or_default(),
            settings: inner.settings.get(queue).copied().unwrap_or_default(),
            live_workers: inner.workers.values().filter(serves).count() as u64,
        })
    }

    async fn subscribe(&self) -> Result<Subscription> {
        Ok(self.notifier.subscribe())
    }
}
