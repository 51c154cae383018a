//! An extractor that does as it is told, a store that can go away, and a processor around both.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use kbqueue_core::error::StoreError;
use kbqueue_core::extract::{ExtractRequest, ExtractedPage};
use kbqueue_core::output::{PageSource, Provenance};
use kbqueue_core::queue::{QueueSettings, QueueStats};
use kbqueue_core::state::CrashLimits;
use kbqueue_core::store::{
    Checkpoint, ClaimRequest, Claims, Control, Directive, DocumentQuery, Enqueued, OutputQuery,
    Reaped, RenewRequest, Result, Settled, Settlement, WorkerId,
};
use kbqueue_core::{
    BlobStore, Chunk, Clock, Document, DocumentId, ExtractError, Extraction, Extractor, Image,
    MemoryStore, NewDocument, Page, Processor, ProcessorOptions, Properties, QueueName, State,
    Store, StoreExt, Subscription,
};

/// What the extractor does when it comes to a page.
pub enum Step {
    /// Gives the page after so long.
    Page(Duration),
    /// Gives a page that could not be read.
    BadPage,
    /// Never answers.
    Hang,
    /// Keeps its thread busy until the flag is set.
    Block(Arc<AtomicBool>),
    /// Ends the attempt.
    Error(ExtractError),
    /// Does what nobody expects.
    Panic,
}

type Script = dyn Fn(u32, usize) -> Step + Send + Sync;

/// Documents of `pages` pages; what happens at a page is up to the script, which is told the page and
/// how often it was asked for before.
pub struct Fake {
    pages: u32,
    script: Box<Script>,
    /// Every page asked for, in order.
    pub asked: Mutex<Vec<u32>>,
}

impl Fake {
    pub fn new(
        pages: u32,
        script: impl Fn(u32, usize) -> Step + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            pages,
            script: Box::new(script),
            asked: Mutex::default(),
        })
    }

    pub fn asked(&self) -> Vec<u32> {
        self.asked.lock().unwrap().clone()
    }
}

/// Each page is two sentences that say where they stand.
pub fn page_text(page: u32) -> String {
    format!("This is page {page} of the document. It has {page} reasons to be here.")
}

#[derive(Clone)]
pub struct SharedFake(pub Arc<Fake>);

#[async_trait]
impl Extractor for SharedFake {
    fn fingerprint(&self) -> String {
        "fake/1".to_owned()
    }

    async fn extract(
        &self,
        request: ExtractRequest,
    ) -> std::result::Result<Extraction, ExtractError> {
        let fake = Arc::clone(&self.0);
        let numbers = request.first_page..=fake.pages;
        let total_pages = fake.pages;
        let pages = futures::stream::iter(numbers).then(move |number| {
            let fake = Arc::clone(&fake);
            async move {
                let before = fake.asked().iter().filter(|page| **page == number).count();
                fake.asked.lock().unwrap().push(number);
                let failure = match (fake.script)(number, before) {
                    Step::Page(after) => {
                        if !after.is_zero() {
                            tokio::time::sleep(after).await;
                        }
                        None
                    }
                    Step::BadPage => Some("no ink".to_owned()),
                    Step::Hang => std::future::pending().await,
                    Step::Block(until) => {
                        while !until.load(Ordering::SeqCst) {
                            std::thread::yield_now();
                        }
                        None
                    }
                    Step::Error(error) => return Err(error),
                    Step::Panic => panic!("a page fell out"),
                };
                Ok(ExtractedPage {
                    number,
                    label: None,
                    section: None,
                    provenance: Provenance {
                        source: PageSource::Text,
                        reason: "fake".into(),
                        confidence: None,
                    },
                    text: page_text(number),
                    failure,
                    images: Vec::new(),
                })
            }
        });
        Ok(Extraction {
            total_pages,
            properties: Properties::default(),
            pages: pages.boxed(),
        })
    }
}

/// A store, what it holds, and everything to run a processor on it.
pub struct Bench {
    pub store: Arc<dyn Store>,
    pub blobs: BlobStore,
    pub fake: Arc<Fake>,
    pub options: ProcessorOptions,
}

impl Bench {
    pub fn new(fake: Arc<Fake>) -> Self {
        Self::on(Arc::new(MemoryStore::with_clock(Clock::tokio())), fake)
    }

    pub fn on(store: Arc<dyn Store>, fake: Arc<Fake>) -> Self {
        let mut options = ProcessorOptions::default();
        options.concurrency = 2;
        Self {
            store,
            blobs: BlobStore::connect("memory:").unwrap(),
            fake,
            options,
        }
    }

    pub fn processor(&self) -> Processor {
        self.processor_on(Arc::clone(&self.store))
    }

    pub fn processor_on(&self, store: Arc<dyn Store>) -> Processor {
        let extractor = Arc::new(SharedFake(Arc::clone(&self.fake)));
        Processor::new(store, self.blobs.clone(), extractor, self.options.clone())
    }

    /// Enqueues a document whose bytes nobody has seen before.
    pub async fn add(&self) -> DocumentId {
        let id = DocumentId::new();
        let blob = self
            .blobs
            .put(id.to_string().into_bytes().into())
            .await
            .unwrap();
        let mut document = NewDocument::new(QueueName::default(), blob, "test.pdf");
        document.id = id;
        self.store.enqueue_one(document).await.unwrap().id
    }

    pub async fn document(&self, id: DocumentId) -> Document {
        self.store.find(id).await.unwrap()
    }

    /// Waits, for an hour of the clock's time at most, until the document is as it should be.
    pub async fn wait_for(&self, id: DocumentId, is: impl Fn(&Document) -> bool) -> Document {
        let reached = async {
            let mut notices = self.store.subscribe().await.unwrap();
            loop {
                let document = self.document(id).await;
                if is(&document) {
                    return document;
                }
                // Progress and renewals are not all told of: look every now and then, too.
                let _ = tokio::time::timeout(Duration::from_millis(50), notices.next()).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(4 * 3600), reached).await;
        match waited {
            Ok(document) => document,
            Err(_) => panic!("never reached: {:#?}", self.document(id).await),
        }
    }

    pub async fn wait_state(&self, id: DocumentId, state: State) -> Document {
        self.wait_for(id, |document| document.lifecycle.state == state)
            .await
    }

    /// Asserts that the outputs are those of a run that nothing disturbed.
    pub async fn assert_whole(&self, id: DocumentId, pages: u32) {
        let text = (1..=pages).map(page_text).collect::<Vec<_>>().join("\n\n");
        let stored = self
            .store
            .pages(OutputQuery::new(id, 10_000))
            .await
            .unwrap();
        let numbers: Vec<u32> = stored.iter().map(|page| page.number).collect();
        assert_eq!(numbers, (1..=pages).collect::<Vec<_>>());
        let chunks = self.store.all_chunks(id).await.unwrap();
        let joined: Vec<&str> = chunks.iter().map(|chunk| chunk.text.as_str()).collect();
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeeze(&joined.join(" ")), squeeze(&text));
        for (ordinal, chunk) in chunks.iter().enumerate() {
            assert_eq!(chunk.ordinal as usize, ordinal);
        }
    }
}

/// Passes everything on to a store, unless it is away.
#[derive(Debug)]
pub struct Flaky {
    store: Arc<dyn Store>,
    pub away: AtomicBool,
    /// Checkpoints whose answers are still to be lost after they were written.
    pub lose_checkpoint_answers: AtomicUsize,
    pub settle_calls: AtomicUsize,
}

impl Flaky {
    pub fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            store,
            away: AtomicBool::new(false),
            lose_checkpoint_answers: AtomicUsize::new(0),
            settle_calls: AtomicUsize::new(0),
        })
    }

    fn up(&self) -> Result<&Arc<dyn Store>> {
        if self.away.load(Ordering::SeqCst) {
            Err(unavailable())
        } else {
            Ok(&self.store)
        }
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable {
        store: "flaky",
        source: "it is away".into(),
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Flaky {
    async fn enqueue(&self, documents: Vec<NewDocument>) -> Result<Vec<Enqueued>> {
        self.up()?.enqueue(documents).await
    }
    async fn claim(&self, request: ClaimRequest) -> Result<Claims> {
        self.up()?.claim(request).await
    }
    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<Directive> {
        let answer = self.up()?.checkpoint(checkpoint).await;
        let lose = |left: usize| left.checked_sub(1);
        match self
            .lose_checkpoint_answers
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose)
        {
            Ok(_) => Err(unavailable()),
            Err(_) => answer,
        }
    }
    async fn renew(&self, request: RenewRequest) -> Result<Vec<Directive>> {
        self.up()?.renew(request).await
    }
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>> {
        self.settle_calls.fetch_add(1, Ordering::SeqCst);
        // A round trip, in which others may join the queue.
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.up()?.settle(settlements).await
    }
    async fn depart(&self, worker: WorkerId) -> Result<()> {
        self.up()?.depart(worker).await
    }
    async fn control(&self, id: DocumentId, control: Control) -> Result<Document> {
        self.up()?.control(id, control).await
    }
    async fn configure(&self, queue: &QueueName, settings: QueueSettings) -> Result<()> {
        self.up()?.configure(queue, settings).await
    }
    async fn reap(&self, limits: CrashLimits, limit: usize) -> Result<Vec<Reaped>> {
        self.up()?.reap(limits, limit).await
    }
    async fn purge(&self, limit: usize) -> Result<usize> {
        self.up()?.purge(limit).await
    }
    async fn document(&self, id: DocumentId) -> Result<Option<Document>> {
        self.up()?.document(id).await
    }
    async fn documents(&self, query: DocumentQuery) -> Result<Vec<Document>> {
        self.up()?.documents(query).await
    }
    async fn pages(&self, query: OutputQuery) -> Result<Vec<Page>> {
        self.up()?.pages(query).await
    }
    async fn chunks(&self, query: OutputQuery) -> Result<Vec<Chunk>> {
        self.up()?.chunks(query).await
    }
    async fn images(&self, query: OutputQuery) -> Result<Vec<Image>> {
        self.up()?.images(query).await
    }
    async fn stats(&self, queue: &QueueName) -> Result<QueueStats> {
        self.up()?.stats(queue).await
    }
    async fn subscribe(&self) -> Result<Subscription> {
        self.up()?.subscribe().await
    }
}
