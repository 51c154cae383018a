//! The maps: documents, and the orders in which they are looked for.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use super::outbox::OutboxTables;
use crate::document::{Attempt, Document, DocumentId, NewDocument};
use crate::error::StoreError;
use crate::event::DocumentChange;
use crate::lifecycle::Lifecycle;
use crate::limits::{Front, Rate, Room, deal, left};
use crate::outbox;
use crate::output::{Chunk, FailedPage, Image, Page};
use crate::queue::{QueueName, QueueSettings, StateCounts};
use crate::schedule::Schedule;
use crate::state::{Event, Refusal, State, Transition, due_at, transition};
use crate::store::{Checkpoint, ClaimRequest, WorkerId};

/// Outputs by (generation, page number or ordinal).
pub(super) type Outputs<T> = BTreeMap<(u32, u32), T>;

/// One for each (queue, tenant).
type LineName = (QueueName, Option<String>);

/// Everything that the store knows.
#[derive(Debug, Default)]
pub(super) struct Tables {
    records: BTreeMap<DocumentId, Record>,
    pub(super) settings: HashMap<QueueName, QueueSettings>,
    /// When the rate tokens of a queue are all there again.
    full_at: HashMap<QueueName, Timestamp>,
    pub(super) counts: HashMap<QueueName, StateCounts>,
    /// Who works on which queues, and until when that is believed.
    pub(super) workers: HashMap<WorkerId, (Vec<QueueName>, Timestamp)>,
    lines: BTreeMap<LineName, Line>,
    /// Documents dealt to claims so far, in all lines.
    dealt: u64,
    /// Documents under lease, by its expiry.
    leases: BTreeSet<(Timestamp, DocumentId)>,
    /// The document that stands for a dedupe key.
    holders: HashMap<(QueueName, String), DocumentId>,
    /// Documents that may have something to purge.
    unclean: BTreeSet<DocumentId>,
    pub(super) outbox: OutboxTables,
    /// By queue and name.
    pub(super) schedules: BTreeMap<(QueueName, String), Schedule>,
}

/// One document with its outputs.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) document: Document,
    dedupe_key: Option<String>,
    pub(super) pages: Outputs<Page>,
    pub(super) chunks: Outputs<Chunk>,
    pub(super) images: Outputs<Image>,
}

/// What a claim takes.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    pub(super) documents: Vec<DocumentId>,
    /// As in [`Dealt`](crate::limits::Dealt).
    pub(super) held_back: bool,
    /// When a document that waits for nothing but a rate token gets one.
    pub(super) next_token: Option<Timestamp>,
}

/// The documents of one tenant in one queue.
#[derive(Debug, Default)]
struct Line {
    /// The number, among all documents dealt, of the last one that came from here.
    turn: u64,
    /// How many of its documents are processing.
    processing: u64,
    /// By priority, then `available_at`, then id.
    queued: BTreeMap<Reverse<i16>, BTreeSet<(Timestamp, DocumentId)>>,
}

impl Record {
    pub(super) fn new(document: Document, dedupe_key: Option<String>) -> Self {
        Self {
            document,
            dedupe_key,
            pages: Outputs::new(),
            chunks: Outputs::new(),
            images: Outputs::new(),
        }
    }

    pub(super) fn life(&self) -> &Lifecycle {
        &self.document.lifecycle
    }

    fn is_hidden(&self) -> bool {
        self.life().deleted_at.is_some()
    }

    fn line(&self) -> LineName {
        (self.document.queue.clone(), self.document.tenant.clone())
    }

    /// The key that it stands for: while it is queued, processing or completed.
    fn held_key(&self) -> Option<(QueueName, String)> {
        let stands = match self.life().state {
            State::Queued | State::Processing | State::Completed => !self.is_hidden(),
            State::Failed | State::Cancelled => false,
        };
        let key = self.dedupe_key.clone().filter(|_| stands)?;
        Some((self.document.queue.clone(), key))
    }

    /// Removes at most `limit` outputs that neither a reader nor the worker of this document needs.
    fn purge(&mut self, limit: usize) -> usize {
        let hidden = self.is_hidden();
        let (seen, written) = (self.life().visible(), self.life().generation);
        let chunks = [seen.chunks, written.chunks];
        let pages = [seen.pages, written.pages];
        let mut removed = purge_outputs(&mut self.chunks, hidden, chunks, limit);
        removed += purge_outputs(&mut self.pages, hidden, pages, limit - removed);
        removed + purge_outputs(&mut self.images, hidden, pages, limit - removed)
    }
}

fn purge_outputs<T>(
    outputs: &mut Outputs<T>,
    hidden: bool,
    needed: [u32; 2],
    limit: usize,
) -> usize {
    let useless = |(generation, _): &&(u32, u32)| hidden || !needed.contains(generation);
    let found: Vec<_> = outputs
        .keys()
        .filter(useless)
        .take(limit)
        .copied()
        .collect();
    for key in &found {
        outputs.remove(key);
    }
    found.len()
}

impl Tables {
    /// A document, hidden or not.
    pub(super) fn any(&self, id: DocumentId) -> Option<&Record> {
        self.records.get(&id)
    }

    /// A document that was not deleted.
    pub(super) fn visible(&self, id: DocumentId) -> Option<&Record> {
        self.any(id).filter(|record| !record.is_hidden())
    }

    /// Documents that were not deleted, newest id first, from the one before `after` on.
    pub(super) fn newest(&self, after: Option<DocumentId>) -> impl Iterator<Item = &Record> {
        let end = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        self.records
            .range((std::ops::Bound::Unbounded, end))
            .rev()
            .map(|(_, record)| record)
            .filter(|record| !record.is_hidden())
    }

    /// The document that stands for `key` in `queue`.
    pub(super) fn holder(&self, queue: &QueueName, key: Option<String>) -> Option<DocumentId> {
        self.holders.get(&(queue.clone(), key?)).copied()
    }

    /// The other document that stands for the content or key of this one.
    pub(super) fn successor(&self, record: &Record) -> Option<DocumentId> {
        let holder = self.holder(&record.document.queue, record.dedupe_key.clone());
        holder.filter(|holder| *holder != record.document.id)
    }

    /// The document that answers for a new one: of the same id, or of the same key.
    pub(super) fn existing(&self, new: &NewDocument) -> Option<DocumentId> {
        let known = self.any(new.id).map(|known| known.document.id);
        known.or_else(|| self.holder(&new.queue, new.dedupe_key()))
    }

    /// Checks that all documents of a batch that would be made may be.
    pub(super) fn admit(&self, documents: &[NewDocument]) -> Result<(), StoreError> {
        let mut ids = BTreeSet::new();
        let mut keys = BTreeSet::new();
        let mut made: BTreeMap<&QueueName, u64> = BTreeMap::new();
        for new in documents.iter().filter(|new| self.existing(new).is_none()) {
            let key = new.dedupe_key().map(|key| (&new.queue, key));
            // Of the same in one batch, one is made.
            let known = ids.contains(&new.id) || key.as_ref().is_some_and(|key| keys.contains(key));
            if !known {
                ids.insert(new.id);
                keys.extend(key);
                *made.entry(&new.queue).or_default() += 1;
            }
        }
        for (queue, made) in made {
            let queued = self.counts.get(queue).map_or(0, |counts| counts.queued);
            self.settings(queue).admit(queue, queued, made)?;
        }
        Ok(())
    }

    /// Takes a new document in.
    pub(super) fn insert(&mut self, record: Record) {
        let id = record.document.id;
        self.records.insert(id, record);
        self.list(id);
    }

    /// Lets an event happen: the only way in which a lifecycle changes. Answers with what there is to
    /// tell; `None` where the event was a repeated one.
    ///
    /// # Errors
    /// The specification's; of a document that is not there, as of a deleted one.
    pub(super) fn apply(
        &mut self,
        id: DocumentId,
        event: &Event,
        now: Timestamp,
    ) -> Result<Option<DocumentChange>, Refusal> {
        let record = self.records.get(&id).ok_or(Refusal::Deleted)?;
        let next = match transition(record.life(), event, now)? {
            Transition::To(next) => *next,
            Transition::Repeated => return Ok(None),
        };
        self.unlist(id);
        let record = self.records.get_mut(&id).expect("it was just read");
        let document = &mut record.document;
        let before = std::mem::replace(&mut document.lifecycle, next);
        let after = &document.lifecycle;
        if let Some(ended) = Attempt::ended(&before, event, after, now) {
            ended.remember_in(&mut document.attempts);
        }
        if after.generation.pages != before.generation.pages {
            document.failed_pages.clear();
        }
        let superseded =
            (before.generation, before.visible()) != (after.generation, after.visible());
        if let Some(kind) = outbox::event(&before, after) {
            self.outbox.write(document, kind, now);
        }
        let change = DocumentChange::of(document);
        if superseded || change.deleted {
            self.unclean.insert(id);
        }
        self.list(id);
        Ok(Some(change))
    }

    /// Keeps what a checkpoint brought, after it was applied.
    pub(super) fn store_outputs(&mut self, checkpoint: Checkpoint) {
        let Some(record) = self.records.get_mut(&checkpoint.document) else {
            return;
        };
        let generation = record.life().generation;
        for page in checkpoint.pages {
            if let Some(cause) = page.failure.clone() {
                let page = page.number;
                record
                    .document
                    .failed_pages
                    .push(FailedPage { page, cause });
            }
            record.pages.insert((generation.pages, page.number), page);
        }
        for chunk in checkpoint.chunks {
            let key = (generation.chunks, chunk.ordinal);
            record.chunks.insert(key, chunk);
        }
        for image in checkpoint.images {
            let key = (generation.pages, image.ordinal);
            record.images.insert(key, image);
        }
        if let Some(properties) = checkpoint.properties {
            record.document.properties = properties;
        }
    }

    /// Changes what the specification does not own.
    pub(super) fn edit(&mut self, id: DocumentId, edit: impl FnOnce(&mut Document)) {
        // Its priority is part of where it is looked for.
        self.unlist(id);
        if let Some(record) = self.records.get_mut(&id) {
            edit(&mut record.document);
        }
        self.list(id);
    }

    /// Changes a queue's settings.
    pub(super) fn configure(&mut self, queue: &QueueName, settings: QueueSettings, now: Timestamp) {
        let full_at = self.full_at.remove(queue);
        if let Some(full_at) = Rate::carry_over(settings.rate, full_at, now) {
            self.full_at.insert(queue.clone(), full_at);
        }
        self.settings.insert(queue.clone(), settings);
    }

    /// The documents to claim now, in the order of [`deal`], and the new turns of their lines.
    pub(super) fn deal(&mut self, request: &ClaimRequest, now: Timestamp) -> Chosen {
        let slots = request.lease_ids.len();
        let mut lines: Vec<(u64, LineName, Vec<DocumentId>)> = self
            .served_lines(request)
            .map(|(name, line)| (line.turn, name.clone(), self.front(name, request, now)))
            .filter(|(_, _, front)| !front.is_empty())
            .collect();
        lines.sort();
        let queues: BTreeSet<QueueName> = lines.iter().map(|(_, (q, _), _)| q.clone()).collect();
        let queues: Vec<QueueName> = queues.into_iter().collect();
        let rooms: Vec<Room> = queues.iter().map(|queue| self.room(queue, now)).collect();
        let starts = |id: &DocumentId| self.records[id].life().starts_under(&request.fingerprint);
        let fronts: Vec<Front> = lines
            .iter()
            .map(|(_, name, front)| Front {
                queue: queues
                    .iter()
                    .position(|q| *q == name.0)
                    .expect("it is one of them"),
                room: left(
                    self.settings(&name.0).max_processing_per_tenant,
                    self.lines[name].processing,
                ),
                starts: front.iter().map(starts).collect(),
            })
            .collect();
        let dealt = deal(slots, &rooms, &fronts);
        let mut chosen = Chosen {
            held_back: dealt.held_back,
            ..Chosen::default()
        };
        for (index, place) in dealt.taken {
            let (_, name, front) = &lines[index];
            chosen.documents.push(front[place]);
            self.dealt += 1;
            if let Some(line) = self.lines.get_mut(name) {
                line.turn = self.dealt;
            }
            if fronts[index].starts[place]
                && let Some(rate) = self.settings(&name.0).rate
            {
                let full_at = self.full_at.get(&name.0).copied();
                self.full_at
                    .insert(name.0.clone(), rate.spend(full_at, now, 1));
            }
        }
        for queue in dealt.short_of_tokens {
            let rate = self.settings(&queues[queue]).rate;
            let full_at = self.full_at.get(&queues[queue]).copied();
            let next = rate.map(|rate| rate.next_token(full_at, now));
            chosen.next_token = chosen.next_token.into_iter().chain(next).min();
        }
        chosen
    }

    pub(super) fn settings(&self, queue: &QueueName) -> QueueSettings {
        self.settings.get(queue).copied().unwrap_or_default()
    }

    fn room(&self, queue: &QueueName, now: Timestamp) -> Room {
        let processing = self.counts.get(queue).map_or(0, |counts| counts.processing);
        let full_at = self.full_at.get(queue).copied();
        Room::of(&self.settings(queue), processing, full_at, now)
    }

    /// When the next document that is not due yet falls due for this worker. Looks at every document
    /// that waits, which happens only where a claim left slots free.
    pub(super) fn next_due(&self, request: &ClaimRequest, now: Timestamp) -> Option<Timestamp> {
        self.served_lines(request)
            .flat_map(|(_, line)| line.queued.values().flatten())
            .map(|(_, id)| due_at(self.records[id].life(), &request.fingerprint, request.grace))
            .filter(|due| *due > now)
            .min()
    }

    /// The lines of the queues that a worker serves, but not those that are paused.
    fn served_lines<'a>(
        &'a self,
        request: &ClaimRequest,
    ) -> impl Iterator<Item = (&'a LineName, &'a Line)> {
        let queues: BTreeSet<QueueName> = request.worker.queues.iter().cloned().collect();
        queues
            .into_iter()
            .filter(move |queue| !self.settings(queue).paused)
            .flat_map(|queue| {
                self.lines
                    .range((queue.clone(), None)..)
                    .take_while(move |((other, _), _)| *other == queue)
            })
    }

    /// What a worker could take from one line now: at most as many as it has slots, of those to start and
    /// of those to go on with. Passes over documents that are left to workers with another fingerprint;
    /// these are few.
    fn front(&self, name: &LineName, request: &ClaimRequest, now: Timestamp) -> Vec<DocumentId> {
        let life = |id: &DocumentId| self.records[id].life();
        let due = |id: &DocumentId| due_at(life(id), &request.fingerprint, request.grace) <= now;
        let due = self.lines[name]
            .queued
            .values()
            .flat_map(|level| level.iter().take_while(|(available, _)| *available <= now))
            .map(|(_, id)| *id)
            .filter(due);
        let slots = request.lease_ids.len();
        if self.settings(&name.0).rate.is_none() {
            return due.take(slots).collect();
        }
        let mut found = [0, 0];
        due.filter(|id| {
            let kind = usize::from(life(id).starts_under(&request.fingerprint));
            found[kind] += 1;
            found[kind] <= slots
        })
        .collect()
    }

    /// Documents whose leases ran out, oldest expiry first, and who held them.
    pub(super) fn expired(&self, now: Timestamp, limit: usize) -> Vec<(DocumentId, String)> {
        let expired = self.leases.iter().take_while(|(at, _)| *at <= now);
        let holder = |id| {
            let lease = self.records[&id].life().lease.as_ref();
            lease.map(|lease| (id, lease.worker.clone()))
        };
        expired
            .take(limit)
            .filter_map(|(_, id)| holder(*id))
            .collect()
    }

    /// Removes at most `limit` rows that nobody can see, and says how many it found.
    pub(super) fn purge(&mut self, limit: usize) -> usize {
        let mut removed = 0;
        while removed < limit {
            let Some(id) = self.unclean.first().copied() else {
                break;
            };
            let record = self.records.get_mut(&id).expect("only purge removes one");
            removed += record.purge(limit - removed);
            if removed < limit {
                // Its outputs are gone, so nothing is left of it but itself.
                if record.is_hidden() {
                    self.records.remove(&id);
                    removed += 1;
                }
                self.unclean.remove(&id);
            }
        }
        removed
    }

    /// Enters a document wherever it is looked for.
    fn list(&mut self, id: DocumentId) {
        let record = &self.records[&id];
        if record.is_hidden() {
            return;
        }
        let life = record.life();
        let counts = self
            .counts
            .entry(record.document.queue.clone())
            .or_default();
        *counts.of_mut(life.state) += 1;
        let line = self.lines.entry(record.line()).or_default();
        line.processing += u64::from(life.state == State::Processing);
        if life.state == State::Queued {
            let level = line.queued.entry(Reverse(record.document.priority));
            level.or_default().insert((life.available_at, id));
        }
        self.leases
            .extend(life.lease.as_ref().map(|lease| (lease.expires_at, id)));
        self.holders.extend(record.held_key().map(|key| (key, id)));
    }

    /// The opposite of `list`, to be called before the document changes.
    fn unlist(&mut self, id: DocumentId) {
        let record = &self.records[&id];
        if record.is_hidden() {
            return;
        }
        let life = record.life();
        let counts = self
            .counts
            .entry(record.document.queue.clone())
            .or_default();
        *counts.of_mut(life.state) -= 1;
        if let Some(line) = self.lines.get_mut(&record.line()) {
            line.processing -= u64::from(life.state == State::Processing);
            let priority = Reverse(record.document.priority);
            if let Some(level) = line.queued.get_mut(&priority) {
                level.remove(&(life.available_at, id));
            }
        }
        if let Some(lease) = &life.lease {
            self.leases.remove(&(lease.expires_at, id));
        }
        if let Some(key) = record.held_key() {
            self.holders.remove(&key);
        }
    }
}
