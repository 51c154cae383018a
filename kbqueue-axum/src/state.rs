//! What the routers need.

use std::sync::Arc;

use kbqueue_core::{BlobStore, Processor, ProcessorOptions, QueueName, Store};

use crate::auth::Tokens;

/// What the routers need. Cloning shares it.
#[derive(Debug, Clone)]
pub struct ApiState {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) blobs: BlobStore,
    pub(crate) options: Arc<ApiOptions>,
    pub(crate) processor: Option<Processor>,
}

/// How the routers work. Defaults stand at each field.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ApiOptions {
    /// Where clients find [`api`](crate::api); pages name it, and [`router`](crate::router) mounts it
    /// there. Default: `/api/medical/knowledge`.
    pub prefix: String,
    /// Who may do what. Default: no tokens, everybody may do everything.
    pub tokens: Tokens,
    /// The largest file taken. Default: 1 GiB.
    pub max_upload_bytes: u64,
    /// What queue status shows as `processor_config`, and the queues: the first one takes uploads that
    /// name none, and status covers them all. [`ApiState::with_processor`] sets it.
    pub processing: ProcessorOptions,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            prefix: "/api/medical/knowledge".to_owned(),
            tokens: Tokens::default(),
            max_upload_bytes: 1 << 30,
            processing: ProcessorOptions::default(),
        }
    }
}

impl ApiState {
    /// A service that takes documents in and shows them; others process them.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, blobs: BlobStore, options: ApiOptions) -> Self {
        Self {
            store,
            blobs,
            options: Arc::new(options),
            processor: None,
        }
    }

    /// Lets [`process`](crate::process) start batches of `processor`, whose options become
    /// [`ApiOptions::processing`]. Starting and stopping it stays with the host.
    #[must_use]
    pub fn with_processor(mut self, processor: Processor) -> Self {
        let options = Arc::make_mut(&mut self.options);
        options.processing = processor.options().clone();
        self.processor = Some(processor);
        self
    }

    /// Where the API is, to be put before its paths.
    pub(crate) fn prefix(&self) -> &str {
        self.options.prefix.trim_end_matches('/')
    }

    /// The queues to cover: the one asked for, or all that are served here.
    pub(crate) fn queues(&self, asked: Option<QueueName>) -> Vec<QueueName> {
        asked.map_or_else(
            || self.options.processing.queues.clone(),
            |queue| vec![queue],
        )
    }

    /// The queue for what names none.
    pub(crate) fn default_queue(&self) -> QueueName {
        let first = self.options.processing.queues.first();
        first.cloned().unwrap_or_default()
    }
}
