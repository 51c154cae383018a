//! A store that counts what is read of it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use kbqueue_core::library::Library;
use kbqueue_core::queue::{QueueSettings, QueueStats};
use kbqueue_core::state::CrashLimits;
use kbqueue_core::store::{
    Checkpoint, ClaimRequest, Claims, Control, Directive, DocumentQuery, Enqueued, OutputQuery,
    Reaped, RenewRequest, Result, Settled, Settlement, WorkerId,
};
use kbqueue_core::{
    Chunk, Document, DocumentId, Image, MemoryStore, NewDocument, Page, QueueName, Store,
    Subscription,
};

#[derive(Debug, Default)]
pub struct Counting {
    pub inner: MemoryStore,
    pub reads: AtomicUsize,
    /// Documents that were answered with, in lists.
    pub listed: AtomicUsize,
    pub subscriptions: AtomicUsize,
    /// Whether it does not answer how queues stand.
    pub stuck: AtomicBool,
}

impl Counting {
    fn count(&self) {
        self.reads.fetch_add(1, Ordering::SeqCst);
    }
}

impl Library for Counting {}

#[async_trait]
impl Store for Counting {
    async fn enqueue(&self, documents: Vec<NewDocument>) -> Result<Vec<Enqueued>> {
        self.inner.enqueue(documents).await
    }
    async fn claim(&self, request: ClaimRequest) -> Result<Claims> {
        self.inner.claim(request).await
    }
    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<Directive> {
        self.inner.checkpoint(checkpoint).await
    }
    async fn renew(&self, request: RenewRequest) -> Result<Vec<Directive>> {
        self.inner.renew(request).await
    }
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>> {
        self.inner.settle(settlements).await
    }
    async fn depart(&self, worker: WorkerId) -> Result<()> {
        self.inner.depart(worker).await
    }
    async fn control(&self, id: DocumentId, control: Control) -> Result<Document> {
        self.inner.control(id, control).await
    }
    async fn configure(&self, queue: &QueueName, settings: QueueSettings) -> Result<()> {
        self.inner.configure(queue, settings).await
    }
    async fn reap(&self, limits: CrashLimits, limit: usize) -> Result<Vec<Reaped>> {
        self.inner.reap(limits, limit).await
    }
    async fn purge(&self, limit: usize) -> Result<usize> {
        self.inner.purge(limit).await
    }
    async fn document(&self, id: DocumentId) -> Result<Option<Document>> {
        self.count();
        self.inner.document(id).await
    }
    async fn documents(&self, query: DocumentQuery) -> Result<Vec<Document>> {
        self.count();
        let documents = self.inner.documents(query).await?;
        self.listed.fetch_add(documents.len(), Ordering::SeqCst);
        Ok(documents)
    }
    async fn pages(&self, query: OutputQuery) -> Result<Vec<Page>> {
        self.inner.pages(query).await
    }
    async fn chunks(&self, query: OutputQuery) -> Result<Vec<Chunk>> {
        self.inner.chunks(query).await
    }
    async fn images(&self, query: OutputQuery) -> Result<Vec<Image>> {
        self.inner.images(query).await
    }
    async fn stats(&self, queue: &QueueName) -> Result<QueueStats> {
        self.count();
        if self.stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.inner.stats(queue).await
    }
    async fn subscribe(&self) -> Result<Subscription> {
        self.subscriptions.fetch_add(1, Ordering::SeqCst);
        self.inner.subscribe().await
    }
}
