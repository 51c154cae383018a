//! What the routers need.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use kbqueue_core::library::Library;
use kbqueue_core::{BlobStore, Processor, ProcessorOptions, QueueName, SecretKey};

use crate::auth::Tokens;
use crate::events::Hub;
use crate::limiter::Limiter;
use crate::metrics::Metrics;

/// What the routers need. Cloning shares it.
#[derive(Debug, Clone)]
pub struct ApiState {
    pub(crate) store: Arc<dyn Library>,
    pub(crate) blobs: BlobStore,
    pub(crate) options: Arc<ApiOptions>,
    pub(crate) processor: Option<Processor>,
    pub(crate) events: Hub,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) metrics: Arc<Metrics>,
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
    /// Roles come from a layer of the host's, as a [`Role`](crate::Role) in each request's extensions, and
    /// tokens are not looked at. Who comes without one is refused. Default: false.
    pub roles_from_host: bool,
    /// How many requests each token may make a minute; the others answer 429. Default: no limit.
    pub requests_per_minute: Option<NonZeroU32>,
    /// The largest file taken. Default: 1 GiB.
    pub max_upload_bytes: u64,
    /// The largest upload taken, all of its files together. Default: 4 GiB.
    pub max_request_bytes: u64,
    /// The most files taken in one upload. Default: 1,000.
    pub max_files: usize,
    /// How long an upload may go without bringing anything before it is given up. Over its whole length it
    /// has to bring 1 KiB a second. Default: 30 s.
    pub upload_patience: Duration,
    /// Whether a file whose content is there already (of the same tenant, with the same settings) answers
    /// with the document that has it. Default: true.
    pub dedupe_content: bool,
    /// What queue status shows as `processor_config`, and the queues: the first one takes uploads that
    /// name none, and status covers them all; and the secret key, without which uploads with a password
    /// are refused. [`ApiState::with_processor`] sets it.
    pub processing: ProcessorOptions,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            prefix: "/api/medical/knowledge".to_owned(),
            tokens: Tokens::default(),
            roles_from_host: false,
            requests_per_minute: None,
            max_upload_bytes: 1 << 30,
            max_request_bytes: 4 << 30,
            max_files: 1000,
            upload_patience: Duration::from_secs(30),
            dedupe_content: true,
            processing: ProcessorOptions::default(),
        }
    }
}

impl ApiState {
    /// A service that takes documents in and shows them; others process them.
    #[must_use]
    pub fn new(store: Arc<dyn Library>, blobs: BlobStore, options: ApiOptions) -> Self {
        let options = Arc::new(options);
        Self {
            events: Hub::new(store.clone(), options.clone()),
            limiter: Arc::new(Limiter::new(options.requests_per_minute)),
            metrics: Arc::default(),
            store,
            blobs,
            options,
            processor: None,
        }
    }

    /// Lets [`process`](crate::process) start batches of `processor`, whose options become
    /// [`ApiOptions::processing`]. Starting and stopping it stays with the host.
    #[must_use]
    pub fn with_processor(mut self, processor: Processor) -> Self {
        let options = Arc::make_mut(&mut self.options);
        options.processing = processor.options().clone();
        self.events = Hub::new(self.store.clone(), self.options.clone());
        self.processor = Some(processor);
        self
    }

    /// Ends all event streams, and begins no more: without it a server that waits for open connections to
    /// end would wait for ever.
    pub fn end_events(&self) {
        self.events.close();
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

    /// What passwords are sealed with, and opened.
    pub(crate) fn secret_key(&self) -> Option<&SecretKey> {
        self.options.processing.secret_key.as_ref()
    }

    /// The queue for what names none.
    pub(crate) fn default_queue(&self) -> QueueName {
        let first = self.options.processing.queues.first();
        first.cloned().unwrap_or_default()
    }
}
