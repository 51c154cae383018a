//! The runner: claims documents, extracts them, commits what comes out.

mod attempt;
mod claims;
mod leases;
mod options;
mod pause;
mod settler;
mod upkeep;
mod work;

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use options::ProcessorOptions;

use crate::blob::BlobStore;
use crate::error::chain;
use crate::extract::Extractor;
use crate::state::State;
use crate::store::{Result, Store, Worker, WorkerId};
use attempt::Ended;
use leases::{Interrupt, Leases};
use settler::Settler;

/// How long a stop waits for the store to hear of the released documents.
const STOP_PATIENCE: Duration = Duration::from_millis(1500);

/// Claims documents of its queues and sees them through. Cloning shares it.
///
/// It runs in the background ([`start`](Self::start), [`stop`](Self::stop)), in the foreground
/// ([`run`](Self::run)), or one batch at a time ([`process_once`](Self::process_once)); all three may
/// be mixed, and share the slots. Dropping it does not stop it.
#[derive(Clone)]
pub struct Processor {
    options: Arc<ProcessorOptions>,
    store: Arc<dyn Store>,
    blobs: BlobStore,
    extractor: Arc<dyn Extractor>,
    slots: Arc<Semaphore>,
    running: Arc<Mutex<Option<Running>>>,
}

/// A processor between start and stop.
struct Running {
    inner: Arc<Inner>,
    claiming: JoinHandle<()>,
}

/// What claims, attempts and upkeep share. One for each run: a stopped one is never used again.
struct Inner {
    options: Arc<ProcessorOptions>,
    store: Arc<dyn Store>,
    blobs: BlobStore,
    extractor: Arc<dyn Extractor>,
    worker: Worker,
    fingerprint: String,
    slots: Arc<Semaphore>,
    leases: Arc<Leases>,
    settler: Settler,
    attempts: TaskTracker,
    /// There may be something to claim.
    wake: Notify,
    /// The last claim was held back by limits on what is processing.
    held_back: AtomicBool,
    /// How many documents were heard to be no longer processing.
    ended: AtomicU64,
    /// Claim nothing more, and release what is held.
    stop: CancellationToken,
    /// Wait for the store no longer.
    give_up: CancellationToken,
}

/// What one batch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct BatchReport {
    /// Documents claimed.
    pub processed: u64,
    /// Of these, completed.
    pub completed: u64,
    /// Of these, failed for good.
    pub failed: u64,
    /// Of these, queued again after an error.
    pub retried: u64,
}

impl BatchReport {
    fn count(&mut self, ended: Ended) {
        self.processed += 1;
        match ended {
            Ended::In(State::Completed) => self.completed += 1,
            Ended::In(State::Failed) => self.failed += 1,
            Ended::Retried => self.retried += 1,
            Ended::In(State::Queued | State::Processing | State::Cancelled) | Ended::Unknown => {}
        }
    }
}

impl Processor {
    /// A processor that does nothing until it is told to.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        blobs: BlobStore,
        extractor: Arc<dyn Extractor>,
        options: ProcessorOptions,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(options.concurrency.max(1)));
        Self {
            options: Arc::new(options),
            store,
            blobs,
            extractor,
            slots,
            running: Arc::default(),
        }
    }

    /// The options that it was made with.
    #[must_use]
    pub fn options(&self) -> &ProcessorOptions {
        &self.options
    }

    /// Whether it works in the background now.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running().is_some()
    }

    /// Claims and processes one batch, at most `batch_size` documents, and returns when each of them
    /// is settled. Documents of dead workers are taken back first. May be called concurrently.
    ///
    /// # Errors
    /// What the store answered to the first claim.
    pub async fn process_once(&self) -> Result<BatchReport> {
        let background = self
            .running()
            .as_ref()
            .map(|running| Arc::clone(&running.inner));
        if let Some(inner) = background {
            return claims::one_batch(&inner).await;
        }
        let inner = self.inner();
        // Attempts outlive a caller that goes away, and with them what keeps their leases.
        let batch = tokio::spawn(async move {
            let upkeep = tokio::spawn(upkeep::run(Arc::clone(&inner), inner.stop.clone()));
            upkeep::reap(&inner).await;
            let report = claims::one_batch(&inner).await;
            inner.stop.cancel();
            let _ = upkeep.await;
            inner.depart().await;
            report
        });
        batch
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// Works until `shutdown` completes, then [`stop`](Self::stop)s.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        self.start();
        shutdown.await;
        self.stop().await;
    }

    /// Works in the background of the current tokio runtime. A second start changes nothing.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(&self) {
        let mut running = self.running();
        if running.is_some() {
            return;
        }
        let inner = self.inner();
        let options = &inner.options;
        tracing::info!(
            worker = inner.worker.name, queues = ?options.queues.iter().map(ToString::to_string).collect::<Vec<_>>(),
            concurrency = options.concurrency, batch_size = options.batch_size,
            "processor started"
        );
        let claiming = tokio::spawn(claims::keep_claiming(Arc::clone(&inner)));
        tokio::spawn(upkeep::run(Arc::clone(&inner), inner.stop.clone()));
        *running = Some(Running { inner, claiming });
    }

    /// Claims nothing more, releases unfinished documents at their last checkpoint without using up a
    /// retry, and returns when the store has heard of it, after about two seconds at the latest.
    pub async fn stop(&self) {
        let Some(Running { inner, claiming }) = self.running().take() else {
            return;
        };
        inner.stop.cancel();
        // A claim under way may still bring documents: they are released as they come.
        let released = async {
            let _ = claiming.await;
            inner.leases.interrupt_all(Interrupt::Shutdown);
            inner.attempts.close();
            inner.attempts.wait().await;
            inner.depart().await;
        };
        inner.leases.interrupt_all(Interrupt::Shutdown);
        if tokio::time::timeout(STOP_PATIENCE, released).await.is_err() {
            tracing::warn!(
                documents = inner.attempts.len(),
                "stopped without releasing some documents: they go on when their leases end"
            );
        }
        inner.give_up.cancel();
        tracing::info!(worker = inner.worker.name, "processor stopped");
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inner(&self) -> Arc<Inner> {
        let options = &self.options;
        let chunking = options.chunking;
        Arc::new(Inner {
            options: Arc::clone(options),
            store: Arc::clone(&self.store),
            blobs: self.blobs.clone(),
            extractor: Arc::clone(&self.extractor),
            worker: Worker {
                id: WorkerId(Uuid::new_v4()),
                name: options.worker_name.clone(),
                queues: options.queues.clone(),
            },
            fingerprint: format!(
                "{} chunks/1:{}-{}+{}",
                self.extractor.fingerprint(),
                chunking.min_chars(),
                chunking.max_chars(),
                chunking.overlap_chars()
            ),
            slots: Arc::clone(&self.slots),
            leases: Arc::default(),
            settler: Settler::new(Arc::clone(&self.store)),
            attempts: TaskTracker::new(),
            wake: Notify::new(),
            held_back: AtomicBool::new(false),
            ended: AtomicU64::new(0),
            stop: CancellationToken::new(),
            give_up: CancellationToken::new(),
        })
    }
}

impl Inner {
    async fn depart(&self) {
        if let Err(error) = self.store.depart(self.worker.id).await {
            tracing::warn!(error = chain(&error), "could not say good-bye to the store");
        }
    }
}

impl fmt::Debug for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processor")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
