//! The words in which promises are told: documents to enqueue, and a worker that holds one.

use std::fmt::Debug;
use std::time::Duration;

use kbqueue_core::lifecycle::{Cursor, Lifecycle};
use kbqueue_core::output::{PageSource, Provenance};
use kbqueue_core::state::{CrashLimits, Outcome};
use kbqueue_core::store::{
    Checkpoint, ClaimRequest, Claims, Control, Directive, OutputQuery, RenewRequest, Settled,
    Settlement, Worker, WorkerId,
};
use kbqueue_core::{
    BlobRef, Chunk, Dedupe, Document, DocumentId, Image, LeaseId, NewDocument, Page, Progress,
    QueueName, State, Store, StoreError, StoreExt, TestClock,
};
use uuid::Uuid;

/// How long leases last here.
pub(crate) const LEASE: Duration = Duration::from_secs(60);
/// How long started documents are left to workers of their own fingerprint.
pub(crate) const GRACE: Duration = Duration::from_secs(600);

pub(crate) const RETRY: Control = Control::Retry {
    from_scratch: false,
};
pub(crate) const FROM_SCRATCH: Control = Control::Retry { from_scratch: true };

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn queue(name: &str) -> QueueName {
    QueueName::new(name).expect("tests use valid names")
}

/// A document whose content nobody has seen before, in the default queue.
pub(crate) fn document() -> NewDocument {
    let id = DocumentId::new();
    let blob = BlobRef {
        sha256: id.0.simple().to_string().repeat(2),
        size_bytes: 1000,
    };
    let mut document = NewDocument::new(QueueName::default(), blob, "document.pdf");
    document.id = id;
    document
}

/// The same document but for what `change` does to it.
pub(crate) fn with(
    mut document: NewDocument,
    change: impl FnOnce(&mut NewDocument),
) -> NewDocument {
    change(&mut document);
    document
}

/// A document that is the same as all others of this key.
pub(crate) fn keyed(key: &str) -> NewDocument {
    with(document(), |d| d.dedupe = Dedupe::Key(key.to_owned()))
}

/// Enqueues a new document.
pub(crate) async fn add(store: &dyn Store) -> DocumentId {
    put(store, document()).await
}

/// Enqueues this document, which has to be a new one.
pub(crate) async fn put(store: &dyn Store, document: NewDocument) -> DocumentId {
    let id = document.id;
    let answer = store.enqueue_one(document).await;
    let answer = answer.expect("an enqueue succeeds");
    assert_eq!((answer.id, answer.created), (id, true), "a new one is made");
    id
}

pub(crate) async fn find(store: &dyn Store, id: DocumentId) -> Document {
    store.find(id).await.expect("the document is there")
}

pub(crate) async fn life(store: &dyn Store, id: DocumentId) -> Lifecycle {
    find(store, id).await.lifecycle
}

pub(crate) async fn state(store: &dyn Store, id: DocumentId) -> State {
    life(store, id).await.state
}

pub(crate) async fn control(store: &dyn Store, id: DocumentId, control: Control) -> Document {
    let answer = store.control(id, control).await;
    answer.expect("the document's state allows it")
}

/// Takes back what has expired, by the default limits.
pub(crate) async fn reap(store: &dyn Store) -> Vec<(DocumentId, State)> {
    reap_by(store, CrashLimits::default()).await
}

pub(crate) async fn reap_by(store: &dyn Store, limits: CrashLimits) -> Vec<(DocumentId, State)> {
    let reaped = store.reap(limits, 1000).await.expect("reaping succeeds");
    reaped
        .iter()
        .map(|reaped| (reaped.id, reaped.state))
        .collect()
}

/// The error of an answer.
pub(crate) fn error<T: Debug>(answer: Result<T, StoreError>) -> StoreError {
    answer.expect_err("the store refuses this")
}

/// A worker of the default queue, fresh with each call whatever its name.
pub(crate) fn worker(name: &str) -> Worker {
    worker_of(name, &[QueueName::default()])
}

pub(crate) fn worker_of(name: &str, queues: &[QueueName]) -> Worker {
    Worker {
        id: WorkerId(Uuid::new_v4()),
        name: name.to_owned(),
        queues: queues.to_vec(),
    }
}

/// What a worker of the default queue with the usual settings asks for.
pub(crate) fn request(name: &str, slots: usize) -> ClaimRequest {
    request_of(worker(name), slots)
}

pub(crate) fn request_of(worker: Worker, slots: usize) -> ClaimRequest {
    let mut request = ClaimRequest::new(worker, slots, LEASE, "fingerprint".to_owned());
    request.grace = GRACE;
    request
}

pub(crate) async fn claim(store: &dyn Store, request: ClaimRequest) -> Claims {
    store.claim(request).await.expect("a claim succeeds")
}

/// Claims from these queues: the ids in the order in which they came.
pub(crate) async fn claim_ids(
    store: &dyn Store,
    queues: &[QueueName],
    slots: usize,
) -> Vec<DocumentId> {
    let claims = claim(store, request_of(worker_of("worker", queues), slots)).await;
    claims
        .documents
        .iter()
        .map(|document| document.id)
        .collect()
}

/// What an empty claim says about the next document.
pub(crate) async fn next_due(store: &dyn Store) -> Option<Duration> {
    let claims = claim(store, request("worker", 1)).await;
    assert!(claims.documents.is_empty(), "nothing is due");
    claims.next_due
}

pub(crate) fn failure(retryable: bool, max_retries: u32, backoff: Duration) -> Outcome {
    Outcome::Fail {
        error: "out of paper".to_owned(),
        retryable,
        max_retries,
        backoff,
    }
}

/// Every way to settle, with room for another try.
pub(crate) fn outcomes() -> [Outcome; 5] {
    [
        Outcome::Complete,
        failure(true, 3, seconds(5)),
        failure(false, 3, seconds(5)),
        Outcome::Release,
        Outcome::Snooze { delay: seconds(5) },
    ]
}

pub(crate) fn page(number: u32) -> Page {
    let start = u64::from(number - 1) * 100;
    Page {
        number,
        label: None,
        section: None,
        provenance: Provenance {
            source: PageSource::Text,
            reason: "text_layer".to_owned(),
            confidence: None,
        },
        start_offset: start,
        end_offset: start + 98,
        text: format!("This is page {number}."),
        failure: None,
    }
}

pub(crate) fn failed_page(number: u32, cause: &str) -> Page {
    let mut page = page(number);
    page.provenance.source = PageSource::None;
    page.end_offset = page.start_offset;
    page.text = String::new();
    page.failure = Some(cause.to_owned());
    page
}

pub(crate) fn chunk(ordinal: u32) -> Chunk {
    let start = u64::from(ordinal) * 100;
    Chunk {
        ordinal,
        text: format!("This is chunk {ordinal}."),
        first_page: ordinal + 1,
        last_page: ordinal + 1,
        start_offset: start,
        end_offset: start + 98,
        section: None,
    }
}

pub(crate) fn image(ordinal: u32) -> Image {
    Image {
        ordinal,
        page: ordinal + 1,
        media_type: "image/png".to_owned(),
        width: 640,
        height: 480,
        bbox: [10.0, 20.0, 30.5, 40.25],
        caption: None,
        blob: BlobRef {
            sha256: format!("{ordinal:064x}"),
            size_bytes: 99,
        },
        thumbnail: None,
    }
}

/// The outputs of one document.
#[derive(Debug, PartialEq)]
pub(crate) struct Outputs {
    pub(crate) pages: Vec<Page>,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) images: Vec<Image>,
}

impl Outputs {
    /// What `count` calls of [`Holder::commit`] leave behind.
    pub(crate) fn of_commits(count: u32) -> Self {
        Self {
            pages: (1..=count).map(page).collect(),
            chunks: (0..count).map(chunk).collect(),
            images: (0..count).map(image).collect(),
        }
    }

    pub(crate) fn none() -> Self {
        Self::of_commits(0)
    }
}

/// All outputs that readers see.
pub(crate) async fn outputs(store: &dyn Store, id: DocumentId) -> Outputs {
    outputs_of(store, id, None, None).await
}

/// All outputs of one generation of pages (and images), and of one of chunks.
pub(crate) async fn outputs_of(
    store: &dyn Store,
    id: DocumentId,
    pages: Option<u32>,
    chunks: Option<u32>,
) -> Outputs {
    let mut query = OutputQuery::new(id, 10_000);
    query.generation = chunks;
    let chunks = store.chunks(query.clone()).await.expect("chunks are read");
    query.generation = pages;
    let pages = store.pages(query.clone()).await.expect("pages are read");
    let images = store.images(query).await.expect("images are read");
    Outputs {
        pages,
        chunks,
        images,
    }
}

/// A worker's hold on one document.
pub(crate) struct Holder<'a> {
    store: &'a dyn Store,
    pub(crate) id: DocumentId,
    pub(crate) lease_id: LeaseId,
    /// Where it stands, as far as this worker knows.
    pub(crate) cursor: Cursor,
}

impl<'a> Holder<'a> {
    /// Claims the next document of the default queue, which has to be there.
    pub(crate) async fn claim(store: &'a dyn Store, name: &str) -> Self {
        Self::claim_with(store, request(name, 1)).await
    }

    pub(crate) async fn claim_with(store: &'a dyn Store, request: ClaimRequest) -> Self {
        let claims = claim(store, request).await;
        Self::of(store, claims.documents.first().expect("a document is due"))
    }

    /// The holder of a document that was just claimed.
    pub(crate) fn of(store: &'a dyn Store, document: &Document) -> Self {
        let life = &document.lifecycle;
        let lease = life.lease.as_ref().expect("a claimed document has a lease");
        Self {
            store,
            id: document.id,
            lease_id: lease.id,
            cursor: life.cursor,
        }
    }

    /// The next checkpoint: one page, one chunk and one image more.
    pub(crate) fn next(&self) -> Checkpoint {
        let mut checkpoint = self.still();
        let cursor = &mut checkpoint.cursor;
        cursor.pages += 1;
        cursor.chunks += 1;
        cursor.images += 1;
        checkpoint.pages = vec![page(cursor.pages)];
        checkpoint.chunks = vec![chunk(cursor.chunks - 1)];
        checkpoint.images = vec![image(cursor.images - 1)];
        checkpoint.progress = Progress {
            current_page: cursor.pages,
            total_pages: Some(20),
            current_chunk: cursor.chunks,
            total_chunks: 20,
            percent: u8::try_from(cursor.pages * 5).unwrap_or(u8::MAX),
            eta_ms: Some(5000),
        };
        checkpoint
    }

    /// The next checkpoint, without outputs: the cursor does not move.
    pub(crate) fn still(&self) -> Checkpoint {
        let mut cursor = self.cursor;
        cursor.number += 1;
        Checkpoint::new(self.id, self.lease_id, LEASE, cursor, Progress::default())
    }

    /// Sends a checkpoint, and moves on where the store took it.
    pub(crate) async fn send(&mut self, checkpoint: Checkpoint) -> Directive {
        let cursor = checkpoint.cursor;
        let answer = self.store.checkpoint(checkpoint).await;
        let answer = answer.expect("a checkpoint is answered");
        if answer != Directive::LeaseLost {
            self.cursor = cursor;
        }
        answer
    }

    /// Sends the next checkpoint.
    pub(crate) async fn commit(&mut self) -> Directive {
        self.send(self.next()).await
    }

    /// Sends `count` checkpoints, all of which are taken.
    pub(crate) async fn commit_times(&mut self, count: u32) {
        for _ in 0..count {
            assert_eq!(self.commit().await, Directive::Continue);
        }
    }

    pub(crate) async fn renew(&self) -> Directive {
        self.renew_for(LEASE).await
    }

    pub(crate) async fn renew_for(&self, lease: Duration) -> Directive {
        let leases = vec![(self.id, self.lease_id)];
        let request = RenewRequest::new(worker("renewer"), leases, lease);
        let answers = self.store.renew(request).await.expect("a renewal succeeds");
        assert_eq!(answers.len(), 1, "one answer for one lease");
        answers[0]
    }

    pub(crate) fn settlement(&self, outcome: Outcome) -> Settlement {
        Settlement {
            document: self.id,
            lease_id: self.lease_id,
            outcome,
        }
    }

    pub(crate) async fn settle(&self, outcome: Outcome) -> Settled {
        let answers = self.store.settle(vec![self.settlement(outcome)]).await;
        let answers = answers.expect("a settlement is answered");
        assert_eq!(answers.len(), 1, "one answer for one settlement");
        answers[0]
    }

    /// Settles, to a state that has to be this one.
    pub(crate) async fn settle_to(&self, outcome: Outcome, state: State) {
        assert_eq!(self.settle(outcome).await, Settled::In(state));
    }

    /// The document as the store has it.
    pub(crate) async fn document(&self) -> Document {
        find(self.store, self.id).await
    }

    pub(crate) async fn life(&self) -> Lifecycle {
        self.document().await.lifecycle
    }

    /// Asserts that the store takes nothing of what this worker can send, and that nothing changes.
    pub(crate) async fn assert_fenced_off(&self) {
        let before = self.document().await;
        let outputs_before = outputs(self.store, self.id).await;
        for checkpoint in [self.next(), self.still()] {
            let answer = self.store.checkpoint(checkpoint).await;
            let answer = answer.expect("a checkpoint is answered");
            assert_eq!(answer, Directive::LeaseLost, "a checkpoint");
        }
        assert_eq!(self.renew().await, Directive::LeaseLost, "a renewal");
        // The lease that was settled last is known: that answer is repeated, and does nothing.
        let last = before.lifecycle.last_settlement;
        let known = last.filter(|last| last.lease_id == self.lease_id);
        let answer = known.map_or(Settled::LeaseLost, |last| Settled::In(last.state));
        for outcome in outcomes() {
            assert_eq!(self.settle(outcome.clone()).await, answer, "{outcome:?}");
        }
        assert_eq!(self.document().await, before, "refused, so unchanged");
        assert_eq!(outputs(self.store, self.id).await, outputs_before);
    }
}

/// Enqueues a document of the default queue and brings it to `state`, after `commits` checkpoints.
/// Nothing else may be due there.
pub(crate) async fn bring_to(
    store: &dyn Store,
    new: NewDocument,
    state: State,
    commits: u32,
) -> DocumentId {
    let id = put(store, new).await;
    let mut holder = Holder::claim(store, "worker").await;
    assert_eq!(holder.id, id, "nothing else is due");
    holder.commit_times(commits).await;
    match state {
        State::Processing => return id,
        State::Queued => holder.settle_to(Outcome::Release, state).await,
        State::Completed => holder.settle_to(Outcome::Complete, state).await,
        State::Failed => {
            let failure = failure(false, 3, Duration::ZERO);
            holder.settle_to(failure, state).await;
        }
        State::Cancelled => {
            control(store, id, Control::Cancel).await;
            holder.settle_to(Outcome::Release, state).await;
        }
    }
    id
}

/// Lets the clock run past all leases given out so far.
pub(crate) fn outlive_leases(clock: &TestClock) {
    clock.advance(LEASE);
}
