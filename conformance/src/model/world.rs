//! Both stores, and what a sequence of operations has made so far.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

use kbqueue_core::output::Progress;
use kbqueue_core::state::{CrashLimits, Outcome};
use kbqueue_core::store::{
    Checkpoint, ClaimRequest, Control, DocumentQuery, OutputQuery, RenewRequest, Settlement,
    Worker, WorkerId,
};
use kbqueue_core::{
    BlobRef, ChunkOptions, Dedupe, Document, DocumentId, LeaseId, MemoryStore, NewDocument,
    Properties, QueueName, State, Store, StoreError, TestClock,
};
use uuid::Uuid;

use super::ops::{New, Op, Same, Step, Target, Which};
use crate::support::{GRACE, chunk, failed_page, image, page, queue};

/// What is different, in words.
type Difference = String;

pub(super) struct World<'a> {
    store: &'a dyn Store,
    reference: MemoryStore,
    clock: &'a TestClock,
    queues: [QueueName; 3],
    /// Every document ever enqueued.
    documents: Vec<DocumentId>,
    deleted: BTreeSet<DocumentId>,
    /// Every lease ever given out.
    leases: Vec<(DocumentId, LeaseId)>,
    ids_made: u64,
}

impl<'a> World<'a> {
    pub(super) fn new(store: &'a dyn Store, clock: &'a TestClock) -> Self {
        Self {
            store,
            reference: MemoryStore::with_clock(clock.clock()),
            clock,
            queues: [queue("a"), queue("b"), queue("c")],
            documents: Vec::new(),
            deleted: BTreeSet::new(),
            leases: Vec::new(),
            ids_made: 0,
        }
    }

    /// Runs a sequence on both stores, and compares after each step.
    pub(super) async fn run(mut self, sequence: &[Op]) -> Result<(), Difference> {
        for (number, op) in sequence.iter().enumerate() {
            let at = |difference| format!("at step {number}, {difference}");
            self.step(op).await.map_err(at)?;
            self.compare().await.map_err(at)?;
        }
        self.compare_outputs().await
    }

    /// Makes a call on both, and answers with what both said; `None` for an error.
    async fn both<T: Debug>(
        &self,
        what: &str,
        call: impl AsyncFn(&dyn Store) -> Result<T, StoreError>,
    ) -> Result<Option<T>, Difference> {
        let expected = call(&self.reference).await;
        let got = call(self.store).await;
        // Compared as they print, because errors have no equality.
        if format!("{expected:?}") == format!("{got:?}") {
            return Ok(expected.ok());
        }
        Err(format!(
            "{what}\n  should be {expected:#?}\n  but is    {got:#?}"
        ))
    }

    async fn step(&mut self, op: &Op) -> Result<(), Difference> {
        match op {
            Op::Wait(time) => self.clock.advance(*time),
            Op::Enqueue(batch) => {
                let batch: Vec<_> = batch.iter().map(|new| self.document(new)).collect();
                let call = async |s: &dyn Store| s.enqueue(batch.clone()).await;
                let answers = self.both("the answer to an enqueue", call).await?;
                let made = answers
                    .into_iter()
                    .flatten()
                    .filter(|answer| answer.created);
                self.documents.extend(made.map(|answer| answer.id));
            }
            Op::Claim {
                worker,
                slots,
                lease,
            } => {
                let worker = self.worker(*worker);
                let fingerprint = if worker.name == "worker 2" { "b" } else { "a" };
                let mut request = ClaimRequest::new(worker, 0, *lease, fingerprint.to_owned());
                request.lease_ids = (0..*slots).map(|_| LeaseId(self.fresh())).collect();
                request.grace = GRACE;
                let call = async |s: &dyn Store| s.claim(request.clone()).await;
                let claims = self.both("the answer to a claim", call).await?;
                let documents = claims.map(|claims| claims.documents).unwrap_or_default();
                self.leases.extend(documents.iter().filter_map(held));
            }
            Op::Checkpoint(step) => {
                let checkpoint = self.checkpoint(step).await?;
                let call = async |s: &dyn Store| s.checkpoint(checkpoint.clone()).await;
                self.both("the answer to a checkpoint", call).await?;
            }
            Op::Renew {
                worker,
                leases,
                lease,
            } => {
                let live = self.live().await?;
                let leases = leases
                    .iter()
                    .map(|which| self.lease(which, &live))
                    .collect();
                let request = RenewRequest::new(self.worker(*worker), leases, *lease);
                let call = async |s: &dyn Store| s.renew(request.clone()).await;
                self.both("the answer to a renewal", call).await?;
            }
            Op::Settle(batch) => {
                let live = self.live().await?;
                let settlement = |(which, outcome): &(Which, Outcome)| {
                    let (document, lease_id) = self.lease(which, &live);
                    Settlement {
                        document,
                        lease_id,
                        outcome: outcome.clone(),
                    }
                };
                let batch: Vec<_> = batch.iter().map(settlement).collect();
                let call = async |s: &dyn Store| s.settle(batch.clone()).await;
                self.both("the answer to a settlement", call).await?;
            }
            Op::Depart(worker) => {
                let id = self.worker(*worker).id;
                let call = async |s: &dyn Store| s.depart(id).await;
                self.both("the answer to a departure", call).await?;
            }
            Op::Control(target, control) => self.control(target, control).await?,
            Op::Configure { queue, settings } => {
                let queue = &self.queues[*queue];
                let call = async |s: &dyn Store| s.configure(queue, *settings).await;
                self.both("the answer to new settings", call).await?;
            }
            Op::Reap { limits, limit } => self.reap(*limits, *limit).await?,
            Op::AllDie => {
                // The longest lease there is.
                self.clock.advance(Duration::from_secs(60));
                self.reap(CrashLimits::default(), 1000).await?;
            }
            Op::Purge(limit) => {
                let call = async |s: &dyn Store| s.purge(*limit).await;
                self.both("how much was purged", call).await?;
            }
        }
        Ok(())
    }

    async fn control(&mut self, target: &Target, control: &Control) -> Result<(), Difference> {
        let id = match *target {
            Target::Any(n) => nth(&self.documents, n).copied(),
            Target::Live(n) => nth(&self.live().await?, n).map(|document| document.id),
        };
        let Some(id) = id else { return Ok(()) };
        let call = async |s: &dyn Store| s.control(id, control.clone()).await;
        let what = format!("the answer to {control:?} of {id}");
        if self.both(&what, call).await?.is_some() && *control == Control::Delete {
            self.deleted.insert(id);
        }
        Ok(())
    }

    async fn reap(&self, limits: CrashLimits, limit: usize) -> Result<(), Difference> {
        let call = async |s: &dyn Store| s.reap(limits, limit).await;
        self.both("what was reaped", call).await.map(drop)
    }

    /// Compares everything that says something about a document or a queue.
    async fn compare(&self) -> Result<(), Difference> {
        let mut query = DocumentQuery::default();
        query.limit = 1000;
        let list = async |s: &dyn Store| s.documents(query.clone()).await;
        self.both("the list of documents", list).await?;
        for queue in &self.queues {
            let stats = async |s: &dyn Store| s.stats(queue).await;
            self.both(&format!("the stats of queue {queue}"), stats)
                .await?;
        }
        Ok(())
    }

    /// Compares the outputs that readers see, and those that are being written.
    async fn compare_outputs(&self) -> Result<(), Difference> {
        for id in &self.documents {
            let find = async |s: &dyn Store| s.document(*id).await;
            let found = self.both("a document", find).await?;
            let written = found.flatten().map(|found| found.lifecycle.generation);
            let mut query = OutputQuery::new(*id, 1000);
            for (pages, chunks) in [
                (None, None),
                (written.map(|g| g.pages), written.map(|g| g.chunks)),
            ] {
                query.generation = chunks;
                let read = async |s: &dyn Store| s.chunks(query.clone()).await;
                self.both(&format!("the chunks of {id}"), read).await?;
                query.generation = pages;
                let read = async |s: &dyn Store| s.pages(query.clone()).await;
                self.both(&format!("the pages of {id}"), read).await?;
                let read = async |s: &dyn Store| s.images(query.clone()).await;
                self.both(&format!("the images of {id}"), read).await?;
            }
        }
        Ok(())
    }

    /// An id that looks random and is the same in every run, so that the order of ids is not the order
    /// in which they were made.
    fn fresh(&mut self) -> Uuid {
        self.ids_made += 1;
        let half = |n: u64| {
            // SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
            let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let id = Uuid::from_u64_pair(half(self.ids_made * 2), half(self.ids_made * 2 + 1));
        uuid::Builder::from_random_bytes(id.into_bytes()).into_uuid()
    }

    fn worker(&self, number: usize) -> Worker {
        let [a, b, c] = self.queues.clone();
        let queues = match number {
            0 => vec![a, b, c],
            1 => vec![c, a],
            _ => vec![b, a],
        };
        Worker {
            id: WorkerId(Uuid::from_u64_pair(1, number as u64)),
            name: format!("worker {number}"),
            queues,
        }
    }

    fn document(&mut self, new: &New) -> NewDocument {
        let content = |letter: u8| BlobRef {
            sha256: format!("{letter:02x}").repeat(32),
            size_bytes: u64::from(letter),
        };
        let (blob, dedupe) = match new.same_as {
            Same::Content(letter) => (content(letter), Dedupe::Content),
            Same::Key(letter) => (content(9), Dedupe::Key(format!("key {letter}"))),
            Same::Off => (content(0), Dedupe::Off),
        };
        let queue = self.queues[new.queue].clone();
        let mut document = NewDocument::new(queue, blob, "document.pdf");
        // Not that of a deleted one: when that is gone for good depends on the order of purging, which
        // stores may choose.
        let again = new.again.and_then(|n| nth(&self.documents, n).copied());
        let again = again.filter(|id| !self.deleted.contains(id));
        document.id = again.unwrap_or_else(|| DocumentId(self.fresh()));
        document.tenant = [None, Some(""), Some("tenant")][new.tenant].map(str::to_owned);
        document.priority = new.priority;
        document.available_at = new.delay.map(|delay| self.clock.now() + delay);
        document.dedupe = dedupe;
        document.chunking = new.chunked.then(ChunkOptions::default);
        document
    }

    /// What is processing, the same on both stores by now.
    async fn live(&self) -> Result<Vec<Document>, Difference> {
        let mut query = DocumentQuery::default();
        query.state = Some(State::Processing);
        let list = async |s: &dyn Store| s.documents(query.clone()).await;
        Ok(self
            .both("what is processing", list)
            .await?
            .unwrap_or_default())
    }

    fn lease(&self, which: &Which, live: &[Document]) -> (DocumentId, LeaseId) {
        let unknown = (DocumentId(Uuid::nil()), LeaseId(Uuid::nil()));
        let old = |n: usize| {
            let last = self.leases.len().checked_sub(1)?;
            Some(self.leases[last - n % (last + 1)])
        };
        match *which {
            Which::Live(n) => nth(live, n).and_then(held).or_else(|| old(n)),
            Which::Old(n) => old(n),
            Which::Crossed(n) => {
                let document = nth(&self.documents, n).copied();
                document.zip(old(0)).map(|(id, (_, lease))| (id, lease))
            }
            Which::Unknown => None,
        }
        .unwrap_or(unknown)
    }

    async fn checkpoint(&self, step: &Step) -> Result<Checkpoint, Difference> {
        let live = self.live().await?;
        let (id, lease_id) = self.lease(&step.lease, &live);
        let find = async |s: &dyn Store| s.document(id).await;
        let found = self.both("a document", find).await?.flatten();
        let mut cursor = found
            .map(|found| found.lifecycle.cursor)
            .unwrap_or_default();
        let (page_before, chunk_before) = (cursor.pages, cursor.chunks);
        let image_before = cursor.images;
        cursor.number = (cursor.number + 1).saturating_add_signed(step.off_by);
        cursor.pages += step.pages;
        cursor.chunks += step.chunks;
        cursor.images += step.images;
        cursor.pages_done |= step.done;
        cursor.chunk_start += u64::from(step.chunks);
        cursor.chunk_page = cursor.pages;
        cursor.chunk_end = cursor.chunk_start + 1;
        let progress = Progress {
            current_page: cursor.pages,
            total_pages: step.done.then_some(cursor.pages),
            current_chunk: cursor.chunks,
            total_chunks: cursor.chunks + 1,
            percent: step.percent,
            eta_ms: (!step.done).then_some(u64::from(step.percent)),
        };
        let mut checkpoint = Checkpoint::new(id, lease_id, step.length, cursor, progress);
        checkpoint.pages = (page_before + 1..=cursor.pages)
            .map(|number| match step.failed_page && number == cursor.pages {
                true => failed_page(number, "torn"),
                false => page(number),
            })
            .collect();
        checkpoint.chunks = (chunk_before..cursor.chunks).map(chunk).collect();
        checkpoint.images = (image_before..cursor.images).map(image).collect();
        checkpoint.properties = step.title.map(|title| {
            let pair = ("title".to_owned(), format!("title {title}"));
            Properties(BTreeMap::from([pair]))
        });
        Ok(checkpoint)
    }
}

/// The element at `n`, counted round; `None` where there is none at all.
fn nth<T>(all: &[T], n: usize) -> Option<&T> {
    all.get(n.checked_rem(all.len())?)
}

fn held(document: &Document) -> Option<(DocumentId, LeaseId)> {
    let lease = document.lifecycle.lease.as_ref()?;
    Some((document.id, lease.id))
}
