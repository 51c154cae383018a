//! The leases that this process holds, and what their holders have to hear.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::document::DocumentId;
use crate::lifecycle::LeaseId;

/// What interrupts an attempt. A later one in this order outweighs an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Interrupt {
    /// Nothing does.
    None,
    /// The processor stops: release the document.
    Shutdown,
    /// Somebody wants the document stopped.
    Cancel,
    /// Somebody else may hold it: write nothing more.
    LeaseLost,
}

/// All leases held, by document.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<HashMap<DocumentId, Entry>>);

#[derive(Debug)]
struct Entry {
    lease_id: LeaseId,
    watchdog: Arc<Watchdog>,
    interrupt: watch::Sender<Interrupt>,
}

impl Leases {
    /// Enters a lease; it is renewed until the [`Hold`] is dropped or its watchdog fires.
    pub(super) fn hold(
        self: &Arc<Self>,
        document: DocumentId,
        lease_id: LeaseId,
        watchdog: Arc<Watchdog>,
    ) -> Hold {
        let (interrupt, interrupted) = watch::channel(Interrupt::None);
        self.lock().insert(
            document,
            Entry {
                lease_id,
                watchdog,
                interrupt,
            },
        );
        Hold {
            leases: Arc::clone(self),
            document,
            lease_id,
            interrupted,
        }
    }

    /// What is to be renewed. A lease whose watchdog fired is left to run out, so that even an
    /// extractor that never yields cannot keep its document.
    pub(super) fn renewable(&self) -> Vec<(DocumentId, LeaseId)> {
        self.lock()
            .iter()
            .filter(|(_, entry)| !entry.watchdog.has_fired())
            .map(|(document, entry)| (*document, entry.lease_id))
            .collect()
    }

    /// Interrupts the attempt at `document`, if this process has one.
    pub(super) fn interrupt(&self, document: DocumentId, reason: Interrupt) {
        if let Some(entry) = self.lock().get(&document) {
            entry.raise(reason);
        }
    }

    /// Interrupts all attempts.
    pub(super) fn interrupt_all(&self, reason: Interrupt) {
        self.lock().values().for_each(|entry| entry.raise(reason));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DocumentId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn raise(&self, reason: Interrupt) {
        self.interrupt.send_if_modified(|now| {
            let outweighs = reason > *now;
            if outweighs {
                *now = reason;
            }
            outweighs
        });
    }
}

/// One attempt's place in [`Leases`].
#[derive(Debug)]
pub(super) struct Hold {
    leases: Arc<Leases>,
    document: DocumentId,
    lease_id: LeaseId,
    interrupted: watch::Receiver<Interrupt>,
}

impl Hold {
    /// Waits for the first interrupt. Cancel safe.
    pub(super) async fn interrupted(&mut self) -> Interrupt {
        match self
            .interrupted
            .wait_for(|reason| *reason != Interrupt::None)
            .await
        {
            Ok(reason) => *reason,
            // The entry is gone only when another claim of this process took the document over.
            Err(_) => Interrupt::LeaseLost,
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut leases = self.leases.lock();
        // The document may have been claimed again under another lease.
        if leases
            .get(&self.document)
            .is_some_and(|entry| entry.lease_id == self.lease_id)
        {
            leases.remove(&self.document);
        }
    }
}

/// Tells when an attempt has stood still, or gone on, for too long.
#[derive(Debug)]
pub(super) struct Watchdog {
    started: Instant,
    moved: Mutex<Instant>,
    stall_timeout: Duration,
    max_processing_time: Option<Duration>,
}

impl Watchdog {
    pub(super) fn new(stall_timeout: Duration, max_processing_time: Option<Duration>) -> Self {
        let now = Instant::now();
        Self {
            started: now,
            moved: Mutex::new(now),
            stall_timeout,
            max_processing_time,
        }
    }

    /// The page cursor moved.
    pub(super) fn touch(&self) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether it fired.
    pub(super) fn has_fired(&self) -> bool {
        Instant::now() >= self.deadline().0
    }

    /// Waits until it fires, and says why it did. Cancel safe.
    pub(super) async fn wait(&self) -> String {
        loop {
            let (deadline, limit) = self.deadline();
            tokio::time::sleep_until(deadline).await;
            if self.deadline().0 > deadline {
                continue;
            }
            return match limit {
                Limit::Stall => format!("no page was finished for {:?}", self.stall_timeout),
                Limit::Whole(limit) => {
                    format!("the attempt took longer than the {limit:?} that it may")
                }
            };
        }
    }

    fn deadline(&self) -> (Instant, Limit) {
        let moved = *self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        let stalled = far(moved, self.stall_timeout);
        match self
            .max_processing_time
            .map(|limit| (far(self.started, limit), limit))
        {
            Some((over, limit)) if over <= stalled => (over, Limit::Whole(limit)),
            _ => (stalled, Limit::Stall),
        }
    }
}

/// Which of its limits a watchdog goes by.
enum Limit {
    Stall,
    Whole(Duration),
}

/// `start + by`, or as far in the future as timers reach.
fn far(start: Instant, by: Duration) -> Instant {
    const DECADE: Duration = Duration::from_secs(10 * 365 * 86_400);
    start + by.min(DECADE)
}
