//! Where "now" comes from.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

/// The source of "now" for a store that has no clock of its own (memory, SQLite), and for tests.
///
/// Stores with a server behind them use that server's clock and take a `Clock` in tests only.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The clock of this machine.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(Timestamp::now))
    }

    /// A clock that follows tokio's, so that a test under `start_paused` moves the store and the
    /// runner together. It begins at 2026-01-01T00:00:00Z.
    ///
    /// # Panics
    /// When called, or read, outside a tokio runtime.
    #[must_use]
    pub fn tokio() -> Self {
        let start = tokio::time::Instant::now();
        Self(Arc::new(move || test_epoch() + start.elapsed()))
    }

    /// The current time in whole microseconds, the resolution that every store keeps.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        whole_us((self.0)())
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

/// A clock that stands still until it is told to move. It begins at 2026-01-01T00:00:00Z.
#[derive(Debug, Clone, Default)]
pub struct TestClock {
    elapsed_us: Arc<AtomicI64>,
}

impl TestClock {
    /// A clock at its beginning.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The [`Clock`] to hand to a store; it shares this clock's time.
    #[must_use]
    pub fn clock(&self) -> Clock {
        let elapsed = Arc::clone(&self.elapsed_us);
        Clock(Arc::new(move || {
            let us = u64::try_from(elapsed.load(Ordering::SeqCst)).unwrap_or(0);
            test_epoch() + Duration::from_micros(us)
        }))
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock().now()
    }

    /// Moves the clock on, in whole microseconds.
    pub fn advance(&self, by: Duration) {
        let us = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.elapsed_us.fetch_add(us, Ordering::SeqCst);
    }
}

/// A time in whole microseconds, the resolution that every store keeps.
pub(crate) fn whole_us(time: Timestamp) -> Timestamp {
    // In its last second jiff counts no microseconds: there they end a little earlier.
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or_else(|_| {
        Timestamp::from_second(Timestamp::MAX.as_second())
            .expect("it is no later than the last one")
    })
}

fn test_epoch() -> Timestamp {
    Timestamp::from_second(1_767_225_600).expect("2026-01-01 is a timestamp")
}
