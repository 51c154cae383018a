//! How many children may run at once, over all documents of this process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How many children run at most: one a core.
pub(crate) static CORES: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

static BUDGET: LazyLock<Budget> = LazyLock::new(|| Budget {
    slots: Arc::new(Semaphore::new(*CORES)),
    waiting: AtomicUsize::new(0),
    arrived: Notify::new(),
});

/// The right to have one child running.
pub(crate) type Slot = OwnedSemaphorePermit;

struct Budget {
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Told when someone begins to wait.
    arrived: Notify,
}

/// Waits for a slot, behind whoever waits already.
pub(crate) async fn slot() -> Slot {
    if let Some(slot) = spare_slot() {
        return slot;
    }
    struct Waiting;
    impl Drop for Waiting {
        fn drop(&mut self) {
            BUDGET.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
    BUDGET.waiting.fetch_add(1, Ordering::Relaxed);
    let _waiting = Waiting;
    BUDGET.arrived.notify_waiters();
    Arc::clone(&BUDGET.slots)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed")
}

/// A slot that nobody waits for.
pub(crate) fn spare_slot() -> Option<Slot> {
    // Those who wait are served first, so that there is none to be had while they do.
    Arc::clone(&BUDGET.slots).try_acquire_owned().ok()
}

/// Whether someone waits for a slot.
pub(crate) fn in_demand() -> bool {
    BUDGET.waiting.load(Ordering::Relaxed) > 0
}

/// Returns once someone waits for a slot.
pub(crate) async fn demand() {
    loop {
        let mut arrived = std::pin::pin!(BUDGET.arrived.notified());
        arrived.as_mut().enable();
        if in_demand() {
            return;
        }
        arrived.await;
    }
}
