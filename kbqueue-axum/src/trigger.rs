//! Processing that requests set off, as in the original system.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::Request;
use kbqueue_core::Processor;
use kbqueue_core::error::chain;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tower::{Layer, Service};

/// A tower layer under which each request may start one batch in the background, at most one every check
/// interval and never two at a time.
///
/// For services that cannot have a worker running all the time. A request only looks at a clock: it waits
/// for nothing, and a batch that fails, hangs or panics is none of its business. What nobody asks for is
/// not processed, either: call [`process`](crate::process) from a scheduler, or start the processor, where
/// that matters.
///
/// ```no_run
/// # fn app(router: axum::Router, processor: kbqueue_core::Processor) -> axum::Router {
/// router.layer(kbqueue_axum::TriggerLayer::new(processor))
/// # }
/// ```
#[derive(Clone)]
pub struct TriggerLayer(Arc<Trigger>);

struct Trigger {
    processor: Processor,
    interval: Duration,
    /// When the next batch may start; `None` while one is under way.
    due: Mutex<Option<Instant>>,
}

impl TriggerLayer {
    /// Starts batches of `processor`, at most one every
    /// [`check_interval`](kbqueue_core::ProcessorOptions::check_interval) of its options.
    #[must_use]
    pub fn new(processor: Processor) -> Self {
        Self(Arc::new(Trigger {
            interval: processor.options().check_interval,
            processor,
            due: Mutex::new(Some(Instant::now())),
        }))
    }
}

impl fmt::Debug for TriggerLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TriggerLayer").finish_non_exhaustive()
    }
}

impl<S> Layer<S> for TriggerLayer {
    type Service = Triggering<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Triggering {
            inner,
            trigger: self.0.clone(),
        }
    }
}

/// The service that [`TriggerLayer`] makes.
#[derive(Clone)]
pub struct Triggering<S> {
    inner: S,
    trigger: Arc<Trigger>,
}

impl<S> fmt::Debug for Triggering<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Triggering").finish_non_exhaustive()
    }
}

impl<S: Service<Request>> Service<Request> for Triggering<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.trigger.pull();
        self.inner.call(request)
    }
}

impl Trigger {
    fn pull(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let began = Instant::now();
        {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            if due.is_none_or(|due| due > began) {
                return;
            }
            *due = None;
        }
        // Held by the task, and dropped with it however it ends.
        let under_way = UnderWay {
            trigger: self.clone(),
            began,
        };
        runtime.spawn(async move {
            match under_way.trigger.processor.process_once().await {
                Ok(report) if report.processed > 0 => {
                    tracing::info!(?report, "a request set off a batch");
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(error = chain(&error), "a batch did not begin");
                }
            }
        });
    }
}

/// A batch that a request set off.
struct UnderWay {
    trigger: Arc<Trigger>,
    began: Instant,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut due = self
            .trigger
            .due
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *due = Some(self.began + self.trigger.interval);
    }
}
