//! The maps: documents, and the orders in which they are looked for.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use crate::document::{Attempt, Document, DocumentId};
use crate::event::DocumentChange;
use crate::fair::deal;
use crate::lifecycle::Lifecycle;
use crate::output::{Chunk, FailedPage, Image, Page};
use crate::queue::{QueueName, QueueSettings, StateCounts};
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

/// The queued documents of one tenant in one queue.
#[derive(Debug, Default)]
struct Line {
    /// The number, among all documents dealt, of the last one that came from here.
    turn: u64,
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
        document
            .attempts
            .extend(Attempt::ended(&before, event, after, now));
        if after.generation.pages != before.generation.pages {
            document.failed_pages.clear();
        }
        let superseded =
            (before.generation, before.visible()) != (after.generation, after.visible());
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

    /// Sets how the text of a document is cut.
    pub(super) fn set_chunking(&mut self, id: DocumentId, options: crate::ChunkOptions) {
        if let Some(record) = self.records.get_mut(&id) {
            record.document.chunking = Some(options);
        }
    }

    /// The documents to claim now, in the order of [`deal`], and the new turns of their lines.
    pub(super) fn deal(&mut self, request: &ClaimRequest, now: Timestamp) -> Vec<DocumentId> {
        let slots = request.lease_ids.len();
        let mut lines: Vec<(u64, LineName, Vec<DocumentId>)> = self
            .served_lines(request)
            .map(|(name, line)| (line.turn, name.clone(), self.front(line, request, now)))
            .filter(|(_, _, front)| !front.is_empty())
            .collect();
        lines.sort();
        let claimable: Vec<u64> = lines
            .iter()
            .map(|(_, _, front)| front.len() as u64)
            .collect();
        let mut taken = vec![0; lines.len()];
        let mut dealt = Vec::with_capacity(slots);
        for index in deal(slots, &claimable) {
            let (_, name, front) = &lines[index];
            dealt.push(front[taken[index]]);
            taken[index] += 1;
            self.dealt += 1;
            if let Some(line) = self.lines.get_mut(name) {
                line.turn = self.dealt;
            }
        }
        dealt
    }

    /// When the next document falls due for this worker. Looks at every document that waits, which
    /// happens only where these are all that is left.
    pub(super) fn next_due(&self, request: &ClaimRequest) -> Option<Timestamp> {
        self.served_lines(request)
            .flat_map(|(_, line)| line.queued.values().flatten())
            .map(|(_, id)| due_at(self.records[id].life(), &request.fingerprint, request.grace))
            .min()
    }

    /// The lines of the queues that a worker serves, but not those that are paused.
    fn served_lines<'a>(
        &'a self,
        request: &ClaimRequest,
    ) -> impl Iterator<Item = (&'a LineName, &'a Line)> {
        let queues: BTreeSet<QueueName> = request.worker.queues.iter().cloned().collect();
        let paused = |queue: &QueueName| self.settings.get(queue).is_some_and(|s| s.paused);
        queues
            .into_iter()
            .filter(move |queue| !paused(queue))
            .flat_map(|queue| {
                self.lines
                    .range((queue.clone(), None)..)
                    .take_while(move |((other, _), _)| *other == queue)
            })
    }

    /// What a worker could take from one line now, at most as many as it has slots. Passes over
    /// documents that are left to workers with another fingerprint; these are few.
    fn front(&self, line: &Line, request: &ClaimRequest, now: Timestamp) -> Vec<DocumentId> {
        let due = |id: &DocumentId| {
            due_at(self.records[id].life(), &request.fingerprint, request.grace) <= now
        };
        line.queued
            .values()
            .flat_map(|level| level.iter().take_while(|(available, _)| *available <= now))
            .map(|(_, id)| *id)
            .filter(due)
            .take(request.lease_ids.len())
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
