//! Where the ready documents of each line begin, as far as this process knows.
//!
//! A claim takes documents from the front of an index. What it took stays in the index until it is cleaned
//! away, which nothing can do while anybody has an older transaction open; a claim that began at the start of the
//! index would walk over all that was taken since. So a process remembers the first key that may be ready, with
//! the snapshot in which it looked. Whatever became ready in a transaction that this snapshot does not see
//! has left a row in `arrivals`, and the next claim reads those first, however late they were committed and
//! wherever they belong.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kbqueue_core::store::ClaimRequest;
use uuid::Uuid;

/// For how long what is known may be used, as `claim_front.sql` says, too. Arrivals are kept for twice that.
const VALID: Duration = Duration::from_secs(60);

/// A line's name: its queue, and its tenant as `text::line` puts it.
pub(crate) type Name = (String, String);

/// A place in the order of a line: priority, `available_at`, id.
pub(crate) type Key = (i32, i64, Uuid);

/// What this process knows. It is true of the server that said so, until that is started again, or another
/// one takes its place.
#[derive(Debug, Default)]
pub(crate) struct Fronts(Mutex<HashMap<String, Arc<Front>>>);

/// What is known of a queue: each line with ready documents, and a key that is not behind the first of them.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    /// When the server was started.
    pub(crate) server: String,
    /// What was visible when this was found.
    pub(crate) seen: String,
    /// The server's time then, in microseconds, and ours.
    pub(crate) at: i64,
    pub(crate) since: Instant,
    pub(crate) lines: BTreeMap<String, Key>,
    /// Whether the queue had limits then.
    pub(crate) limited: bool,
}

/// What is known of some queues.
pub(crate) type Known = HashMap<String, Arc<Front>>;

impl Fronts {
    /// What is known of the queues of a claim.
    pub(crate) fn known(&self, request: &ClaimRequest) -> Known {
        let fronts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = request.worker.queues.iter().filter_map(|queue| {
            let front = fronts.get(queue.as_str())?;
            (front.since.elapsed() < VALID).then(|| (queue.as_str().to_owned(), Arc::clone(front)))
        });
        asked.collect()
    }

    /// Takes over what a claim found, once it is committed. Each `Front` is true by itself, so it does not
    /// matter which of two claims comes last.
    pub(crate) fn learn(&self, learned: Known) {
        let mut fronts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        fronts.extend(learned);
    }
}

/// How long arrivals are kept: until no process uses what it knew before them.
const KEPT: Duration = VALID.saturating_mul(2);

/// Which transactions were over how long ago, by what purges saw: the sight that is of use, and the next one.
#[derive(Debug, Default)]
pub(crate) struct Over(Mutex<[Option<(Instant, String)>; 2]>);

impl Over {
    /// Transactions before this one were over [`KEPT`] before `now`.
    pub(crate) fn get(&self, now: Instant) -> Option<String> {
        let sights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut old = sights
            .iter()
            .flatten()
            .rev()
            .filter(|(at, _)| now.duration_since(*at) >= KEPT);
        old.next().map(|(_, over)| over.clone())
    }

    /// A purge saw at `now` that transactions before this one are over.
    pub(crate) fn note(&self, over: String, now: Instant) {
        let mut sights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [useful, next] = &mut *sights;
        // A younger one would only put off the time when the next one is of use.
        if next
            .as_ref()
            .is_none_or(|(at, _)| now.duration_since(*at) >= KEPT)
        {
            *useful = next.replace((now, over));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_kept_while_anybody_may_go_by_what_was_before_them() {
        let over = Over::default();
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut known = None;
        for seconds in 0..1000_u32 {
            let now = start + second * seconds;
            let oldest = start + (second * seconds).saturating_sub(KEPT);
            known = over.get(now);
            let at = known.as_ref().map(|at: &String| at.parse::<u32>().unwrap());
            assert!(at.is_none_or(|at| start + second * at <= oldest));
            over.note(seconds.to_string(), now);
        }
        let at: u32 = known.unwrap().parse().unwrap();
        assert!(at > 700, "{at}: it does not stand still");
    }
}
