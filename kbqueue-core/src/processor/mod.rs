//! The runner: claims documents, extracts them, commits what comes out.

mod options;

use std::sync::Arc;

use serde::Serialize;

pub use options::ProcessorOptions;

use crate::blob::BlobStore;
use crate::extract::Extractor;
use crate::store::{Result, Store};

/// Claims documents of its queues and sees them through. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Processor {
    options: Arc<ProcessorOptions>,
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

impl Processor {
    /// A processor that does nothing until [`start`](Self::start), [`run`](Self::run) or
    /// [`process_once`](Self::process_once).
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        blobs: BlobStore,
        extractor: Arc<dyn Extractor>,
        options: ProcessorOptions,
    ) -> Self {
        let _ = (store, blobs, extractor);
        Self {
            options: Arc::new(options),
        }
    }

    /// The options that it was made with.
    #[must_use]
    pub fn options(&self) -> &ProcessorOptions {
        &self.options
    }

    /// Claims and processes one batch, at most `batch_size` documents, and returns when each is settled.
    ///
    /// # Errors
    /// What the store answered to the claim.
    pub async fn process_once(&self) -> Result<BatchReport> {
        todo!()
    }

    /// Works until [`stop`](Self::stop).
    pub async fn run(&self) {
        todo!()
    }

    /// Runs in the background of the current tokio runtime.
    pub fn start(&self) {
        todo!()
    }

    /// Claims nothing more, releases unfinished documents at their last checkpoint, and returns when
    /// the store has heard of it.
    pub async fn stop(&self) {
        todo!()
    }
}
