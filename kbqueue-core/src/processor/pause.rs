//! Waiting: for a store that was away, and for others that come along.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::retry::Backoff;

/// Growing, jittered pauses: up to 100 ms at first, up to 5 s in the end.
#[derive(Debug, Default)]
pub(super) struct Pause {
    failures: u32,
}

const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(100),
    cap: Duration::from_secs(5),
};

impl Pause {
    /// The next pause's length.
    pub(super) fn next(&mut self) -> Duration {
        let delay = BACKOFF.delay(self.failures, &mut fastrand::Rng::new());
        self.failures = self.failures.saturating_add(1);
        delay
    }

    /// Waits it out; `false` where `stop` came first.
    pub(super) async fn wait(&mut self, stop: &CancellationToken) -> bool {
        stop.run_until_cancelled(tokio::time::sleep(self.next()))
            .await
            .is_some()
    }
}

/// Waits while others come along: until there are `enough`, or for a millisecond at the most.
pub(super) async fn linger(enough: impl Fn() -> bool) {
    if !enough() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
