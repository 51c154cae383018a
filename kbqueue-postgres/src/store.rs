//! `impl Store`, in the trait's order. Every write is one transaction, and tells subscribers after its
//! commit.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use kbqueue_core::error::chain;
use kbqueue_core::library::Library;
use kbqueue_core::state::CrashLimits;
use kbqueue_core::store::{
    Checkpoint, ClaimRequest, Claims, Control, Directive, DocumentQuery, Enqueued, OutputQuery,
    Reaped, RenewRequest, Result, Settled, Settlement, WorkerId,
};
use kbqueue_core::{
    Chunk, Document, DocumentId, Image, NewDocument, Notice, Page, QueueName, QueueSettings,
    QueueStats, Store, Subscription,
};
use sqlx::PgPool;
use sqlx::postgres::{PgConnection, PgPoolOptions};

use crate::enqueue::Admission;
use crate::error::{failed, is_conflict, is_lost};
use crate::fronts::{Fronts, Over};
use crate::options::{Pooler, PostgresOptions, check_schema};
use crate::session::{Session, begin};
use crate::sql::Sql;
use crate::wake::Wake;
use crate::{claim, codec, enqueue, read, schema, wake, write};

/// How often a transaction is begun again that others got in the way of.
pub(crate) const TRIES: u32 = 10;

/// After how many of this process's writes the differences of counts are folded.
const FOLD_EVERY: usize = 128;

/// Documents in PostgreSQL. Cloning shares the connections.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    inner: Arc<Inner>,
}

/// What clones share.
#[derive(Debug)]
pub(crate) struct Inner {
    options: PostgresOptions,
    sql: Sql,
    pool: PgPool,
    pub(crate) wake: Wake,
    fronts: Fronts,
    over: Over,
    unfolded: Mutex<Unfolded>,
}

/// What was written since the last fold.
#[derive(Debug, Default)]
struct Unfolded {
    writes: usize,
    queues: BTreeSet<QueueName>,
}

impl PostgresStore {
    /// Connects to the database that `url` names, `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with
    /// every default of [`PostgresOptions`].
    ///
    /// # Errors
    /// As [`PostgresOptions::parse`] and [`open`](Self::open).
    pub async fn connect(url: &str) -> Result<Self> {
        Self::open(PostgresOptions::parse(url)?).await
    }

    /// Connects to a database, and brings the schema up to date. Several processes may do so at once.
    ///
    /// # Errors
    /// [`StoreError::Unusable`](kbqueue_core::StoreError::Unusable) where the server refuses us, or the
    /// schema was written by a newer release; [`StoreError::Unavailable`](kbqueue_core::StoreError) where
    /// the server does not answer.
    pub async fn open(options: PostgresOptions) -> Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(options.pool_size)
            .acquire_timeout(options.patience)
            // A dead connection shows at the first statement, before anything is done; asking each time
            // would double the cost of a small read.
            .test_before_acquire(false)
            .connect_lazy_with(options.connection());
        let persistent = options.pooler == Pooler::Direct;
        let store = Self {
            inner: Arc::new(Inner {
                sql: Sql::new(&options.schema, persistent),
                wake: Wake::new(&options.schema),
                fronts: Fronts::default(),
                pool,
                options,
                over: Over::default(),
                unfolded: Mutex::default(),
            }),
        };
        schema::migrate(&store).await?;
        Ok(store)
    }

    /// The SQL that [`open`](Self::open) runs on an empty database, for review, or for an administrator
    /// to run.
    ///
    /// # Errors
    /// [`StoreError::Unusable`](kbqueue_core::StoreError::Unusable) for a name as
    /// [`PostgresOptions::schema`] refuses it.
    pub fn migrations_sql(schema: &str) -> Result<String> {
        check_schema(schema)?;
        Ok(schema::sql(schema))
    }

    /// Takes documents in as part of the caller's own transaction, on a connection of the caller's to
    /// the same database. Answers as [`Store::enqueue`].
    ///
    /// What is rolled back was never there. After the commit, workers in every process hear of it. Keep the
    /// transaction open for as long as you like: nobody waits for it but another enqueue of the same id or
    /// key, which cannot know its answer before.
    ///
    /// # Errors
    /// As [`Store::enqueue`]. Roll back after an error.
    pub async fn enqueue_in(
        &self,
        conn: &mut PgConnection,
        documents: Vec<NewDocument>,
    ) -> Result<Vec<Enqueued>> {
        // This process hears of it as others do: when the caller's commit sends the message.
        let anybody = wake::Sender::anonymous(&self.inner.wake.sender);
        let mut session = self.session(conn);
        session.sender = &anybody;
        let done = enqueue::enqueue(&mut session, &documents, Admission::Rough).await?;
        Ok(done.unwrap_or_default().0)
    }

    /// Closes all connections. Calls answer
    /// [`StoreError::Unavailable`](kbqueue_core::StoreError::Unavailable) from then on, in every clone.
    pub async fn close(&self) {
        self.inner.wake.close();
        self.inner.pool.close().await;
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) fn options(&self) -> &PostgresOptions {
        &self.inner.options
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.inner.pool
    }

    pub(crate) fn sql(&self) -> &Sql {
        &self.inner.sql
    }

    /// What statements take for now, in tests; otherwise the server decides.
    pub(crate) fn now(&self) -> Option<i64> {
        let clock = self.options().clock.as_ref();
        clock.map(|clock| clock.now().as_microsecond())
    }

    pub(crate) fn session<'a>(&'a self, conn: &'a mut PgConnection) -> Session<'a> {
        Session {
            conn,
            sql: self.sql(),
            alone: false,
            sender: &self.inner.wake.sender,
            now: self.now(),
        }
    }

    /// Enqueues without the two round trips that a transaction of several statements takes. `None` where
    /// somebody was in the way, a queue is limited, the connection broke, or settings hold for a transaction only: a
    /// repeated enqueue does no harm.
    async fn enqueue_at_once(&self, documents: &[NewDocument]) -> Result<Option<Vec<Enqueued>>> {
        if self.options().pooler == Pooler::Transaction {
            return Ok(None);
        }
        let mut conn = self.pool().acquire().await.map_err(failed)?;
        let mut session = self.session(&mut conn);
        session.alone = true;
        match enqueue::enqueue(&mut session, documents, Admission::Exact).await {
            Ok(Some((answers, notices))) => {
                self.committed(notices).await;
                Ok(Some(answers))
            }
            Ok(None) => Ok(None),
            Err(error) if is_conflict(&error) || is_lost(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Tells subscribers what was just committed, and folds the counts once in a while.
    pub(crate) async fn committed(&self, notices: Vec<Notice>) {
        let queues = self.to_fold(&notices);
        self.inner.wake.tell(notices);
        if let Some(queues) = queues
            && let Err(error) = self.fold(queues).await
        {
            // Counts are right without it, too.
            tracing::debug!(error = chain(&error), "counts were not folded");
        }
    }

    /// The queues to fold if it is this write's turn.
    fn to_fold(&self, notices: &[Notice]) -> Option<Vec<String>> {
        let unfolded = &self.inner.unfolded;
        let mut unfolded = unfolded.lock().unwrap_or_else(PoisonError::into_inner);
        for notice in notices {
            if let Notice::Document(change) = notice
                && !unfolded.queues.contains(&change.queue)
            {
                unfolded.queues.insert(change.queue.clone());
            }
        }
        unfolded.writes += 1;
        if unfolded.writes < FOLD_EVERY {
            return None;
        }
        let Unfolded { queues, .. } = std::mem::take(&mut *unfolded);
        Some(
            queues
                .iter()
                .map(|queue| queue.as_str().to_owned())
                .collect(),
        )
    }

    async fn fold(&self, queues: Vec<String>) -> Result<()> {
        let mut tx = begin(self).await?;
        write::fold(&mut self.session(&mut tx), Some(queues)).await?;
        tx.commit().await.map_err(failed)
    }
}

/// One write: `$work` inside a transaction, the commit, then the notices. Dropped on the way,
/// it is rolled back. Begun again where another transaction got in the way, which undid all of it.
macro_rules! transact {
    ($store:expr, |$session:ident| $work:expr) => {{
        let mut tries = 1;
        loop {
            let mut tx = $crate::session::begin($store).await?;
            let work = async {
                let mut session = $store.session(&mut tx);
                let $session = &mut session;
                $work.await
            };
            match work.await {
                Ok((answer, notices)) => {
                    tx.commit().await.map_err($crate::error::failed)?;
                    $store.committed(notices).await;
                    break Ok(answer);
                }
                Err(error) => {
                    // Waited for, so that whoever hears of the error finds nothing locked any more.
                    // Where it fails, the connection is gone, and the transaction with it.
                    let _ = tx.rollback().await;
                    if !$crate::error::is_conflict(&error) || tries == $crate::store::TRIES {
                        break Err(error);
                    }
                    tries += 1;
                }
            }
        }
    }};
}
pub(crate) use transact;

impl Library for PostgresStore {}

#[async_trait]
impl Store for PostgresStore {
    async fn enqueue(&self, documents: Vec<NewDocument>) -> Result<Vec<Enqueued>> {
        if let Some(answers) = self.enqueue_at_once(&documents).await? {
            return Ok(answers);
        }
        transact!(self, |session| async {
            let done = enqueue::enqueue(session, &documents, Admission::Exact).await?;
            Ok(done.unwrap_or_default())
        })
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claims> {
        let known = self.inner.fronts.known(&request);
        let claimed = transact!(self, |session| claim::claim(session, &request, &known));
        let (claims, learned) = claimed?;
        // Only now is it true that those are taken.
        self.inner.fronts.learn(learned);
        Ok(claims)
    }

    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<Directive> {
        transact!(self, |session| write::checkpoint(session, &checkpoint))
    }

    async fn renew(&self, request: RenewRequest) -> Result<Vec<Directive>> {
        transact!(self, |session| write::renew(session, &request))
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>> {
        transact!(self, |session| write::settle(session, &settlements))
    }

    async fn depart(&self, worker: WorkerId) -> Result<()> {
        transact!(self, |session| write::depart(session, worker))
    }

    async fn control(&self, id: DocumentId, control: Control) -> Result<Document> {
        transact!(self, |session| write::control(session, id, &control))
    }

    async fn configure(&self, queue: &QueueName, settings: QueueSettings) -> Result<()> {
        transact!(self, |session| write::configure(session, queue, settings))
    }

    async fn reap(&self, limits: CrashLimits, limit: usize) -> Result<Vec<Reaped>> {
        transact!(self, |session| write::reap(session, limits, limit))
    }

    async fn purge(&self, limit: usize) -> Result<usize> {
        let over = &self.inner.over;
        transact!(self, |session| write::purge(session, limit, over))
    }

    async fn document(&self, id: DocumentId) -> Result<Option<Document>> {
        read::document(self, id).await
    }

    async fn documents(&self, query: DocumentQuery) -> Result<Vec<Document>> {
        read::documents(self, &query).await
    }

    async fn pages(&self, query: OutputQuery) -> Result<Vec<Page>> {
        read::outputs(self, |sql| &sql.pages, &query, codec::page).await
    }

    async fn chunks(&self, query: OutputQuery) -> Result<Vec<Chunk>> {
        read::outputs(self, |sql| &sql.chunks, &query, codec::chunk).await
    }

    async fn images(&self, query: OutputQuery) -> Result<Vec<Image>> {
        read::outputs(self, |sql| &sql.images, &query, codec::image).await
    }

    async fn stats(&self, queue: &QueueName) -> Result<QueueStats> {
        read::stats(self, queue).await
    }

    async fn subscribe(&self) -> Result<Subscription> {
        wake::subscribe(self).await
    }
}
