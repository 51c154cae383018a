//! `impl Store`, in the trait's order.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use kbqueue_core::library::Library;
use kbqueue_core::state::CrashLimits;
use kbqueue_core::store::{
    Checkpoint, ClaimRequest, Claims, Control, Directive, DocumentQuery, Enqueued, OutputQuery,
    Reaped, RenewRequest, Result, Settled, Settlement, WorkerId,
};
use kbqueue_core::{
    Chunk, Document, DocumentId, Image, NewDocument, Page, QueueName, QueueSettings, QueueStats,
    Store, Subscription,
};
use tokio::sync::{Mutex, MutexGuard};

use crate::connection::Connection;
use crate::error::{failed, malformed};
use crate::options::RedisOptions;
use crate::places::Places;
use crate::schema::Keys;
use crate::wake::Wake;
use crate::{claim, codec, enqueue, open, read, script, settings, wake, write};

/// Documents in Redis. Cloning shares the connection.
#[derive(Debug, Clone)]
pub struct RedisStore {
    inner: Arc<Inner>,
}

/// What clones share.
#[derive(Debug)]
pub(crate) struct Inner {
    options: RedisOptions,
    keys: Keys,
    connection: Connection,
    claiming: Mutex<()>,
    places: Places,
    wake: Wake,
}

impl From<Arc<Inner>> for RedisStore {
    fn from(inner: Arc<Inner>) -> Self {
        Self { inner }
    }
}

impl RedisStore {
    /// Connects to the servers that `url` names, with every default of [`RedisOptions`].
    ///
    /// # Errors
    /// As [`RedisOptions::parse`] and [`open`](Self::open).
    pub async fn connect(url: &str) -> Result<Self> {
        Self::open(RedisOptions::parse(url)?).await
    }

    /// Connects, and checks that the servers are set to keep what is given to them.
    ///
    /// # Errors
    /// [`StoreError::Unusable`](kbqueue_core::StoreError::Unusable) where a server evicts keys, is too
    /// old, or was written to by a newer release;
    /// [`StoreError::Unavailable`](kbqueue_core::StoreError::Unavailable) where none answers.
    pub async fn open(options: RedisOptions) -> Result<Self> {
        let keys = Keys::new(&options.prefix)?;
        let connection = Connection::open(&options).await?;
        open::check(&connection, &keys).await?;
        Ok(Self::from(Arc::new(Inner {
            options,
            keys,
            connection,
            claiming: Mutex::default(),
            places: Places::default(),
            wake: Wake::default(),
        })))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) fn options(&self) -> &RedisOptions {
        &self.inner.options
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.inner.connection
    }

    /// Where documents are that this process claimed.
    pub(crate) fn places(&self) -> &Places {
        &self.inner.places
    }

    pub(crate) fn wake(&self) -> &Wake {
        &self.inner.wake
    }

    /// The right to claim in this process.
    pub(crate) async fn claiming(&self) -> MutexGuard<'_, ()> {
        self.inner.claiming.lock().await
    }

    /// The test clock's time for a script, or nothing, and then it takes the server's.
    pub(crate) fn now(&self) -> String {
        let clock = self.options().clock.as_ref();
        clock
            .map(|clock| clock.now().as_microsecond().to_string())
            .unwrap_or_default()
    }

    /// The server's time, or the test clock's.
    pub(crate) async fn clock(&self) -> Result<Timestamp> {
        if let Some(clock) = &self.options().clock {
            return Ok(clock.now());
        }
        let time = redis::cmd("TIME");
        let (seconds, us): (i64, i64) = self.connection().call(&time).await.map_err(failed)?;
        Timestamp::from_microsecond(seconds.saturating_mul(1_000_000).saturating_add(us))
            .map_err(|error| malformed("the server's clock", error))
    }

    /// The time of the server that holds `queue`, or the test clock's.
    pub(crate) async fn clock_of(&self, queue: &QueueName) -> Result<Timestamp> {
        if let Some(clock) = &self.options().clock {
            return Ok(clock.now());
        }
        let base = self.keys().base(queue);
        let (now, ..): (String, redis::Value, redis::Value, redis::Value) =
            script::NOW.run(self.connection(), &base, &[""]).await?;
        codec::now(&now)
    }

    /// Notes that a queue is used.
    pub(crate) async fn enter_queue(&self, queue: &QueueName) -> Result<()> {
        let mut list = redis::cmd("SADD");
        list.arg(self.keys().queues()).arg(queue.as_str());
        let entered: std::result::Result<i64, _> = self.connection().call(&list).await;
        entered.map(drop).map_err(failed)
    }

    /// All queues that anybody used.
    pub(crate) async fn queues(&self) -> Result<Vec<QueueName>> {
        let list = redis::cmd("SMEMBERS").arg(self.keys().queues()).to_owned();
        let names: Vec<String> = self.connection().call(&list).await.map_err(failed)?;
        names
            .into_iter()
            .map(|name| {
                QueueName::new(name).map_err(|error| malformed("the name of a queue", error))
            })
            .collect()
    }
}

impl Library for RedisStore {}

#[async_trait]
impl Store for RedisStore {
    async fn enqueue(&self, documents: Vec<NewDocument>) -> Result<Vec<Enqueued>> {
        enqueue::enqueue(self, &documents).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claims> {
        claim::claim(self, &request).await
    }

    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<Directive> {
        write::checkpoint(self, &checkpoint).await
    }

    async fn renew(&self, request: RenewRequest) -> Result<Vec<Directive>> {
        write::renew(self, &request).await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>> {
        write::settle(self, &settlements).await
    }

    async fn depart(&self, worker: WorkerId) -> Result<()> {
        write::depart(self, worker).await
    }

    async fn control(&self, id: DocumentId, control: Control) -> Result<Document> {
        write::control(self, id, &control).await
    }

    async fn configure(&self, queue: &QueueName, settings: QueueSettings) -> Result<()> {
        settings::configure(self, queue, settings).await
    }

    async fn reap(&self, limits: CrashLimits, limit: usize) -> Result<Vec<Reaped>> {
        write::reap(self, limits, limit).await
    }

    async fn purge(&self, limit: usize) -> Result<usize> {
        write::purge(self, limit).await
    }

    async fn document(&self, id: DocumentId) -> Result<Option<Document>> {
        read::document(self, id).await
    }

    async fn documents(&self, query: DocumentQuery) -> Result<Vec<Document>> {
        read::documents(self, &query).await
    }

    async fn pages(&self, query: OutputQuery) -> Result<Vec<Page>> {
        read::outputs(self, "pages", &query).await
    }

    async fn chunks(&self, query: OutputQuery) -> Result<Vec<Chunk>> {
        read::outputs(self, "chunks", &query).await
    }

    async fn images(&self, query: OutputQuery) -> Result<Vec<Image>> {
        read::outputs(self, "images", &query).await
    }

    async fn stats(&self, queue: &QueueName) -> Result<QueueStats> {
        read::stats(self, queue).await
    }

    async fn subscribe(&self) -> Result<Subscription> {
        wake::subscribe(self).await
    }
}
