//! How often each token may call.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::auth::Role;
use crate::problem::Problem;

/// A minute's requests may come at once; then they come back one by one.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// How long until a request comes back; `None` without a limit.
    interval: Option<Duration>,
    /// When each role's token has all of its requests back.
    full_at: Mutex<[Instant; 3]>,
}

impl Limiter {
    pub(crate) fn new(requests_per_minute: Option<NonZeroU32>) -> Self {
        Self {
            interval: requests_per_minute.map(|count| Duration::from_secs(60) / count.get()),
            full_at: Mutex::new([Instant::now(); 3]),
        }
    }

    /// Counts one request.
    pub(crate) fn take(&self, role: Role) -> Result<(), Problem> {
        let Some(interval) = self.interval else {
            return Ok(());
        };
        let now = Instant::now();
        let mut all = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = &mut all[role as usize];
        let taken = now.max(*full_at) + interval;
        let wait = taken.saturating_duration_since(now + Duration::from_secs(60));
        if wait.is_zero() {
            *full_at = taken;
            return Ok(());
        }
        Err(Problem::too_many_requests(wait.as_secs() + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_minute_s_requests_come_back_one_by_one() {
        let limiter = Limiter::new(NonZeroU32::new(60));
        let take = |role| limiter.take(role).is_ok();
        assert_eq!((0..100).filter(|_| take(Role::Reader)).count(), 60);
        assert!(take(Role::Admin), "another token has its own");
        tokio::time::advance(Duration::from_millis(2500)).await;
        assert_eq!((0..100).filter(|_| take(Role::Reader)).count(), 2);
    }

    #[tokio::test]
    async fn without_a_limit_there_is_none() {
        let limiter = Limiter::new(None);
        assert!((0..10_000).all(|_| limiter.take(Role::Reader).is_ok()));
    }
}
