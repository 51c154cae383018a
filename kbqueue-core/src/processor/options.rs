//! How a processor works.

use std::time::Duration;

use crate::chunk::ChunkOptions;
use crate::queue::QueueName;
use crate::retry::RetryPolicy;
use crate::secret::SecretKey;
use crate::state::CrashLimits;

/// How a processor works. Defaults stand at each field.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProcessorOptions {
    /// Shown as the holder of its documents. Default: `PROCESS-ID@HOST`.
    pub worker_name: String,
    /// The queues that it serves. Default: `default`.
    pub queues: Vec<QueueName>,
    /// Documents claimed at once, at most. Default: 3.
    pub batch_size: usize,
    /// Documents processed at once. Default: the number of cores.
    pub concurrency: usize,
    /// How long it waits for a wake-up before it looks for itself. Default: 10 s.
    pub check_interval: Duration,
    /// How long a lease lasts; it is renewed every third of that. Default: 60 s.
    pub lease: Duration,
    /// How errors are retried. Default: 3 retries.
    pub retry: RetryPolicy,
    /// How long one attempt at a document may take; `None` for no limit. Default: 1 h.
    pub max_processing_time: Option<Duration>,
    /// How long an attempt may go without a new page. Default: 10 min.
    pub stall_timeout: Duration,
    /// When crashes of its workers end a document. Default: 3 in a row, 10 in all.
    pub crash_limits: CrashLimits,
    /// How long a document that workers with other output settings began is left to them, once it is
    /// due. Default: 10 min.
    pub fingerprint_grace: Duration,
    /// How text is cut where the document does not say. Default: 1,000 to 2,000 characters.
    pub chunking: ChunkOptions,
    /// What opens the passwords that documents are stored with. Default: none, and those documents fail.
    pub secret_key: Option<SecretKey>,
}

impl Default for ProcessorOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            worker_name: default_worker_name(),
            queues: vec![QueueName::default()],
            batch_size: 3,
            concurrency: cores,
            check_interval: Duration::from_secs(10),
            lease: Duration::from_secs(60),
            retry: RetryPolicy::default(),
            max_processing_time: Some(Duration::from_secs(3600)),
            stall_timeout: Duration::from_secs(600),
            crash_limits: CrashLimits::default(),
            fingerprint_grace: Duration::from_secs(600),
            chunking: ChunkOptions::default(),
            secret_key: None,
        }
    }
}

fn default_worker_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() {
        "localhost"
    } else {
        host.trim()
    };
    format!("{}@{host}", std::process::id())
}
