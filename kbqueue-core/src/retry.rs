//! How often, and how long after, a failed document is tried again.

use std::time::Duration;

/// How errors are retried.
///
/// Defaults: 3 retries, [`Backoff::default`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Retries after the first failure; 0 means that the first retryable error is final.
    pub max_retries: u32,
    /// How long to wait before each of them.
    pub backoff: Backoff,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_retries: 3,
            backoff: Backoff::default(),
        }
    }
}

/// Exponential backoff with full jitter: the delay before retry `n` (from 0) is drawn evenly from
/// zero to `min(cap, base × 2ⁿ)`.
///
/// Defaults: base 10 s, cap 15 min.
///
/// # Source
/// Marc Brooker, "Exponential Backoff And Jitter", 2015: full jitter spreads a herd of retries best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The upper bound of the first delay.
    pub base: Duration,
    /// The upper bound of every delay.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(10),
            cap: Duration::from_secs(15 * 60),
        }
    }
}

impl Backoff {
    /// The longest delay before retry `retry_count` (the number of retries already used).
    #[must_use]
    pub fn ceiling(&self, retry_count: u32) -> Duration {
        let factor = 2u32.checked_pow(retry_count).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// Draws the delay before retry `retry_count`, in whole milliseconds.
    #[must_use]
    pub fn delay(&self, retry_count: u32, rng: &mut fastrand::Rng) -> Duration {
        let ceiling_ms = u64::try_from(self.ceiling(retry_count).as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(rng.u64(0..=ceiling_ms))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn delays_stay_below_a_ceiling_that_doubles_up_to_the_cap(
            base_ms in 0u64..100_000, cap_ms in 0u64..10_000_000, retry in 0u32..200, seed: u64,
        ) {
            let backoff = Backoff { base: Duration::from_millis(base_ms), cap: Duration::from_millis(cap_ms) };
            let ceiling = backoff.ceiling(retry);
            let delay = backoff.delay(retry, &mut fastrand::Rng::with_seed(seed));
            prop_assert!(delay <= ceiling && ceiling <= backoff.cap);
            let doubled = ceiling.saturating_mul(2).min(backoff.cap);
            prop_assert!(backoff.ceiling(retry + 1) >= doubled || retry >= 31);
        }
    }

    #[test]
    fn jitter_uses_the_whole_range() {
        let backoff = Backoff {
            base: Duration::from_millis(1000),
            cap: Duration::from_secs(60),
        };
        let mut rng = fastrand::Rng::with_seed(7);
        let delays: Vec<u128> = (0..1000)
            .map(|_| backoff.delay(0, &mut rng).as_millis())
            .collect();
        assert!(delays.iter().any(|ms| *ms < 100) && delays.iter().any(|ms| *ms > 900));
    }
}
