//! `impl Store`, in the trait's order. Every write is one `BEGIN IMMEDIATE` transaction, and tells
//! subscribers after its commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;
use kbqueue_core::library::Library;
use kbqueue_core::state::CrashLimits;
use kbqueue_core::store::{
    Checkpoint, ClaimRequest, Claims, Control, Directive, DocumentQuery, Enqueued, OutputQuery,
    Reaped, RenewRequest, Result, Settled, Settlement, WorkerId,
};
use kbqueue_core::{
    Chunk, Document, DocumentId, Image, NewDocument, Notice, Page, QueueName, QueueSettings,
    QueueStats, Store, StoreError, Subscription,
};
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{Connection, SqliteConnection, SqlitePool};
use tokio::sync::Mutex;

use crate::connection::Writer;
use crate::error::failed;
use crate::options::SqliteOptions;
use crate::wake::Wake;
use crate::{claim, codec, enqueue, read, schema, wake, write};

/// Documents in a SQLite file. Cloning shares the connections.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

/// What clones share.
#[derive(Debug)]
pub(crate) struct Inner {
    options: SqliteOptions,
    writer: Mutex<Option<SqliteConnection>>,
    readers: SqlitePool,
    closed: AtomicBool,
    /// How often the writing connection was opened.
    pub(crate) openings: AtomicU64,
    pub(crate) wake: Wake,
}

impl From<Arc<Inner>> for SqliteStore {
    fn from(inner: Arc<Inner>) -> Self {
        Self { inner }
    }
}

impl SqliteStore {
    /// Opens the file that `url` names, `sqlite:PATH` or `sqlite://PATH`, with every default of
    /// [`SqliteOptions`].
    ///
    /// # Errors
    /// As [`SqliteOptions::parse`] and [`open`](Self::open).
    pub async fn connect(url: &str) -> Result<Self> {
        Self::open(SqliteOptions::parse(url)?).await
    }

    /// Opens a file, creates it and its parent directories where they are missing, and brings its schema
    /// up to date. Several processes may do so at once.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] where the file cannot be created, is no SQLite database, or was written
    /// by a newer release; [`StoreError::Unavailable`] where others kept it locked.
    pub async fn open(options: SqliteOptions) -> Result<Self> {
        if let Some(directory) = options.path().parent() {
            std::fs::create_dir_all(directory).map_err(|error| {
                let directory = directory.display();
                StoreError::Unusable(format!("directory {directory} cannot be created: {error}"))
            })?;
        }
        let readers = SqlitePoolOptions::new()
            .max_connections(options.readers)
            .acquire_timeout(options.patience)
            // A file does not hang up; the ping would double the cost of a small read.
            .test_before_acquire(false)
            .connect_lazy_with(options.reader());
        let store = Self::from(Arc::new(Inner {
            options,
            writer: Mutex::new(None),
            readers,
            closed: AtomicBool::new(false),
            openings: AtomicU64::new(0),
            wake: Wake::default(),
        }));
        schema::migrate(&store).await?;
        Ok(store)
    }

    /// Takes documents in as part of the caller's own transaction, on a connection of the caller's to
    /// the same file. Answers as [`Store::enqueue`].
    ///
    /// `conn` has to be inside a `BEGIN IMMEDIATE` transaction, and a short one: nothing else is written
    /// to the file meanwhile. With a plain `BEGIN`, SQLite may refuse the first write.
    ///
    /// What is rolled back was never there. After the commit, workers hear of the documents within a
    /// quarter of a second; [`notify`](Self::notify) wakes those of this process at once.
    ///
    /// # Errors
    /// As [`Store::enqueue`]; here alone a busy database can reach the caller, as
    /// [`StoreError::Unavailable`]. Roll back after an error.
    pub async fn enqueue_in(
        &self,
        conn: &mut SqliteConnection,
        documents: Vec<NewDocument>,
    ) -> Result<Vec<Enqueued>> {
        let (answers, _) = enqueue::enqueue(conn, &documents, self.now()).await?;
        Ok(answers)
    }

    /// Has this process's subscribers look again, after a commit that this store does not know of.
    pub fn notify(&self) {
        self.inner.wake.tell([Notice::Resync]);
    }

    /// Closes all connections, after the write that runs. Calls answer [`StoreError::Unavailable`] from
    /// then on, in every clone.
    pub async fn close(&self) {
        let mut writer = self.inner.writer.lock().await;
        self.inner.closed.store(true, Ordering::SeqCst);
        self.inner.readers.close().await;
        if let Some(connection) = writer.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the database was not closed cleanly");
        }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) fn options(&self) -> &SqliteOptions {
        &self.inner.options
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.options().clock.now()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::SeqCst)
    }

    /// The right to write, waited for in the order of the calls.
    pub(crate) async fn writer(&self) -> Result<Writer<'_>> {
        let writer = self.inner.writer.lock().await;
        if self.is_closed() {
            return Err(failed(sqlx::Error::PoolClosed));
        }
        Ok(writer)
    }

    pub(crate) fn readers(&self) -> &SqlitePool {
        &self.inner.readers
    }

    pub(crate) fn tell(&self, notices: Vec<Notice>) {
        self.inner.wake.tell(notices);
    }
}

/// One write: `$work` inside `BEGIN IMMEDIATE`, the commit, then the notices. Dropped on the way, it is
/// rolled back.
macro_rules! writing {
    ($store:expr, |$conn:ident, $now:ident| $work:expr) => {{
        let mut writer = $store.writer().await?;
        let mut tx = crate::connection::begin!($store, writer);
        // Read under the lock, so that no write is dated before the one that it follows.
        let $now = $store.now();
        let $conn: &mut sqlx::SqliteConnection = &mut tx;
        let (answer, notices) = $work.await?;
        tx.commit().await.map_err(crate::error::failed)?;
        drop(writer);
        $store.tell(notices);
        Ok(answer)
    }};
}

pub(crate) use writing;

impl Library for SqliteStore {}

#[async_trait]
impl Store for SqliteStore {
    async fn enqueue(&self, documents: Vec<NewDocument>) -> Result<Vec<Enqueued>> {
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        let mut writer = self.writer().await?;
        // Taken out: where this call is dropped on the way, the connection is closed, and that rolls back.
        if let Some(mut conn) = writer.take()
            && let Ok(done) = enqueue::enqueue_new(&mut conn, &documents, self.now()).await
        {
            *writer = Some(conn);
            if let Some((answers, notices)) = done {
                drop(writer);
                self.tell(notices);
                return Ok(answers);
            }
        }
        drop(writer);
        writing!(self, |conn, now| enqueue::enqueue(conn, &documents, now))
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claims> {
        writing!(self, |conn, now| claim::claim(conn, &request, now))
    }

    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<Directive> {
        writing!(self, |conn, now| write::checkpoint(conn, &checkpoint, now))
    }

    async fn renew(&self, request: RenewRequest) -> Result<Vec<Directive>> {
        writing!(self, |conn, now| write::renew(conn, &request, now))
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>> {
        writing!(self, |conn, now| write::settle(conn, &settlements, now))
    }

    async fn depart(&self, worker: WorkerId) -> Result<()> {
        writing!(self, |conn, _now| write::depart(conn, worker))
    }

    async fn control(&self, id: DocumentId, control: Control) -> Result<Document> {
        writing!(self, |conn, now| write::control(conn, id, &control, now))
    }

    async fn configure(&self, queue: &QueueName, settings: QueueSettings) -> Result<()> {
        writing!(self, |conn, now| write::configure(
            conn, queue, settings, now
        ))
    }

    async fn reap(&self, limits: CrashLimits, limit: usize) -> Result<Vec<Reaped>> {
        writing!(self, |conn, now| write::reap(conn, limits, limit, now))
    }

    async fn purge(&self, limit: usize) -> Result<usize> {
        writing!(self, |conn, now| write::purge(conn, limit, now))
    }

    async fn document(&self, id: DocumentId) -> Result<Option<Document>> {
        read::document(&self.inner.readers, id).await
    }

    async fn documents(&self, query: DocumentQuery) -> Result<Vec<Document>> {
        read::documents(&self.inner.readers, &query).await
    }

    async fn pages(&self, query: OutputQuery) -> Result<Vec<Page>> {
        let sql = include_str!("../queries/pages.sql");
        read::outputs(&self.inner.readers, sql, &query, codec::page).await
    }

    async fn chunks(&self, query: OutputQuery) -> Result<Vec<Chunk>> {
        let sql = include_str!("../queries/chunks.sql");
        read::outputs(&self.inner.readers, sql, &query, codec::chunk).await
    }

    async fn images(&self, query: OutputQuery) -> Result<Vec<Image>> {
        let sql = include_str!("../queries/images.sql");
        read::outputs(&self.inner.readers, sql, &query, codec::image).await
    }

    async fn stats(&self, queue: &QueueName) -> Result<QueueStats> {
        read::stats(&self.inner.readers, queue, self.now()).await
    }

    async fn subscribe(&self) -> Result<Subscription> {
        wake::subscribe(self).await
    }
}
