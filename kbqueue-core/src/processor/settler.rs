//! Ends leases, many in one call.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::pause::{Pause, linger};
use crate::error::chain;
use crate::store::{Settled, Settlement, Store};

type Waiting = (Settlement, oneshot::Sender<Settled>);

/// Group commit: while one call is under way the next settlements gather, and whoever comes through the
/// gate first takes all of them along.
#[derive(Debug)]
pub(super) struct Settler {
    store: Arc<dyn Store>,
    waiting: Mutex<Vec<Waiting>>,
    gate: tokio::sync::Mutex<()>,
}

impl Settler {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            waiting: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
        }
    }

    /// Settles, however long the store is away, until `give_up`. `None` where that came first or the
    /// store refused: the lease will run out. `running` documents are being worked on, this one included.
    pub(super) async fn settle(
        &self,
        settlement: Settlement,
        running: impl Fn() -> usize,
        give_up: &CancellationToken,
    ) -> Option<Settled> {
        let (answer, mut answered) = oneshot::channel();
        self.lock().push((settlement, answer));
        tokio::select! {
            biased;
            // Not through the gate: there they would wake one after the other.
            settled = &mut answered => return settled.ok(),
            _gate = self.gate.lock() => {
                linger(|| self.lock().len() >= running()).await;
                let batch = std::mem::take(&mut *self.lock());
                if !batch.is_empty() {
                    self.send(batch, give_up).await;
                }
            }
        }
        answered.try_recv().ok()
    }

    async fn send(&self, batch: Vec<Waiting>, give_up: &CancellationToken) {
        let settlements: Vec<Settlement> = batch.iter().map(|(one, _)| one.clone()).collect();
        let mut pause = Pause::default();
        loop {
            let error = match self.store.settle(settlements.clone()).await {
                Ok(answers) => {
                    for ((_, waiting), answer) in batch.into_iter().zip(answers) {
                        // Nobody waits for it any more: the store has it, and that is what counts.
                        let _ = waiting.send(answer);
                    }
                    return;
                }
                Err(error) => error,
            };
            if !error.is_transient() && batch.len() > 1 {
                // One of them is the trouble; the others must not suffer for it.
                for one in batch {
                    Box::pin(self.send(vec![one], give_up)).await;
                }
                return;
            }
            if !error.is_transient() {
                tracing::error!(error = chain(&error), "a document could not be settled");
                return;
            }
            tracing::warn!(
                error = chain(&error),
                documents = batch.len(),
                "cannot settle, trying again"
            );
            if !pause.wait(give_up).await {
                return;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
