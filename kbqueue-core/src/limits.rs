//! What the limits of queues leave room for. Pure: every store reads counts, asks here, and keeps what
//! it is answered.
//!
//! A store keeps two things for the limits of a queue: how many documents are processing, in the queue
//! and of each tenant; and one instant, at which its bucket of rate tokens will be full again (`None`
//! for a full one). A claim that is bounded by limits locks these first, in a statement of its own.
//!
//! # Source
//! The generic cell rate algorithm, ITU-T I.371, 1996: a token bucket whose only state is an instant.

use std::num::NonZeroU32;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::whole_us;
use crate::queue::QueueSettings;

/// How many documents may start in a time: a bucket of `burst` tokens, refilled evenly. In any `t`
/// seconds at most `documents × t / per_seconds + burst` documents start.
///
/// A token is spent where a claim starts a document in a generation of outputs; going on with a started
/// one is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How many,
    pub documents: NonZeroU32,
    /// in how many seconds.
    pub per_seconds: NonZeroU32,
    /// How many at once after a quiet time. Default: 1.
    #[serde(default = "one")]
    pub burst: NonZeroU32,
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

impl Rate {
    /// A rate with a burst of 1. `None` where one of the numbers is zero.
    #[must_use]
    pub fn new(documents: u32, per_seconds: u32) -> Option<Self> {
        Some(Self {
            documents: NonZeroU32::new(documents)?,
            per_seconds: NonZeroU32::new(per_seconds)?,
            burst: one(),
        })
    }

    /// How many tokens there are at `now` in a bucket that is full at `full_at`.
    #[must_use]
    pub fn tokens(&self, full_at: Option<Timestamp>, now: Timestamp) -> u32 {
        let missing = full_at.map_or(0, |full_at| us(full_at) - us(now)).max(0);
        let burst = i128::from(self.burst.get());
        let tokens = (burst * self.period() - missing * self.documents()) / self.period();
        u32::try_from(tokens).unwrap_or(0)
    }

    /// When the bucket is full after `spent` tokens were taken from it at `now`.
    #[must_use]
    pub fn spend(&self, full_at: Option<Timestamp>, now: Timestamp, spent: u32) -> Timestamp {
        let from = full_at.map_or(now, |full_at| full_at.max(now));
        // Rounded up: a microsecond too late breaks no limit.
        instant(us(from) + self.refill(spent))
    }

    /// When there is at least one token, `now` included.
    #[must_use]
    pub fn next_token(&self, full_at: Option<Timestamp>, now: Timestamp) -> Timestamp {
        let Some(full_at) = full_at else { return now };
        let spare = i128::from(self.burst.get() - 1) * self.period() / self.documents();
        instant(us(full_at) - spare).max(now)
    }

    /// When a bucket is full after its queue's rate was set to `rate`, the same one included: what it
    /// held stays, but for what the new bucket cannot hold, and none owes more than a whole one.
    #[must_use]
    pub fn carry_over(
        rate: Option<Self>,
        full_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let rate = rate?;
        let latest = instant(us(now) + rate.refill(rate.burst.get()));
        full_at.map(|full_at| full_at.min(latest))
    }

    /// How long `tokens` take to come, in microseconds.
    fn refill(&self, tokens: u32) -> i128 {
        let period = i128::from(tokens) * self.period();
        (period + self.documents() - 1) / self.documents()
    }

    fn documents(&self) -> i128 {
        i128::from(self.documents.get())
    }

    fn period(&self) -> i128 {
        i128::from(self.per_seconds.get()) * 1_000_000
    }
}

fn us(at: Timestamp) -> i128 {
    at.as_microsecond().into()
}

fn instant(us: i128) -> Timestamp {
    let us = i64::try_from(us).unwrap_or(i64::MAX);
    whole_us(Timestamp::from_microsecond(us).unwrap_or(Timestamp::MAX))
}

/// How many documents of a queue a claim may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// In all.
    pub processing: u64,
    /// Of those that start, not go on.
    pub starts: u64,
}

impl Room {
    /// What `settings` leave at `now`, where `processing` documents of the queue are processing and its
    /// bucket is full at `full_at`. A paused queue has no room.
    #[must_use]
    pub fn of(
        settings: &QueueSettings,
        processing: u64,
        full_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Self {
        let tokens = settings.rate.map(|rate| rate.tokens(full_at, now).into());
        let room = left(settings.max_processing, processing);
        Self {
            processing: if settings.paused { 0 } else { room },
            starts: tokens.unwrap_or(u64::MAX),
        }
    }
}

/// How many more documents may be processing where at most `max` are and `processing` are already.
#[must_use]
pub fn left(max: Option<u32>, processing: u64) -> u64 {
    // A maximum may be lowered below what is processing.
    max.map_or(u64::MAX, |max| u64::from(max).saturating_sub(processing))
}

/// The front of one line, (queue, tenant), in the order of its documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Front {
    /// Which of the queues it belongs to.
    pub queue: usize,
    /// How many more of this tenant may be processing: [`left`] of `max_processing_per_tenant`.
    pub room: u64,
    /// Of each document that the claimer may take now, whether that [starts](crate::lifecycle::Lifecycle::starts_under) it.
    /// At least the first `slots` of the line; and where the queue has a rate, at least the first `slots`
    /// of those that are only to go on, wherever they stand.
    pub starts: Vec<bool>,
}

/// What a claim takes, and why no more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dealt {
    /// For each slot that is used, the line and the place in its front, in serving order.
    pub taken: Vec<(usize, usize)>,
    /// Slots were left, and a document that is due waits until another one is no longer processing.
    pub held_back: bool,
    /// Slots were left, and these queues have a document that is due and waits for a token alone.
    pub short_of_tokens: Vec<usize>,
}

/// Deals `slots` round robin to lines, given in the order of their turns, within the limits.
///
/// Without limits it is [`fair::deal`](crate::fair::deal).
#[must_use]
pub fn deal(slots: usize, queues: &[Room], fronts: &[Front]) -> Dealt {
    let mut queues = queues.to_vec();
    let mut room: Vec<u64> = fronts.iter().map(|front| front.room).collect();
    let mut taken: Vec<Vec<bool>> = fronts.iter().map(|f| vec![false; f.starts.len()]).collect();
    let mut dealt = Dealt::default();
    loop {
        let before = dealt.taken.len();
        for (line, front) in fronts.iter().enumerate() {
            let queue = &mut queues[front.queue];
            if dealt.taken.len() == slots || queue.processing == 0 || room[line] == 0 {
                continue;
            }
            let fits = |place: &usize| !front.starts[*place] || queue.starts > 0;
            let free = (0..front.starts.len()).filter(|place| !taken[line][*place]);
            let Some(place) = free.into_iter().find(fits) else {
                continue;
            };
            taken[line][place] = true;
            queue.processing -= 1;
            queue.starts -= u64::from(front.starts[place]);
            room[line] -= 1;
            dealt.taken.push((line, place));
        }
        if dealt.taken.len() == before {
            break;
        }
    }
    if dealt.taken.len() < slots {
        for (line, front) in fronts.iter().enumerate() {
            if taken[line].iter().all(|taken| *taken) {
                continue;
            }
            if queues[front.queue].processing == 0 || room[line] == 0 {
                dealt.held_back = true;
            } else if !dealt.short_of_tokens.contains(&front.queue) {
                dealt.short_of_tokens.push(front.queue);
            }
        }
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fair;
    use proptest::prelude::*;

    fn at(us: i64) -> Timestamp {
        Timestamp::from_microsecond(us).unwrap()
    }

    fn rate() -> impl Strategy<Value = Rate> {
        (1u32..2000, 1u32..4000, 1u32..9).prop_map(|(documents, per_seconds, burst)| Rate {
            burst: NonZeroU32::new(burst).unwrap(),
            ..Rate::new(documents, per_seconds).unwrap()
        })
    }

    proptest! {
        /// Whoever takes all that is there, at odd times, never takes more than the rate allows in any
        /// stretch of time, and what it is told to wait for is there then and not before.
        #[test]
        fn no_stretch_of_time_sees_more_than_the_rate(
            rate in rate(), waits in proptest::collection::vec(0i64..9_000_000_000, 1..40),
        ) {
            let (mut now, mut full_at) = (0, None);
            let mut starts: Vec<(i64, i128)> = Vec::new();
            for wait in waits {
                now += wait;
                let next = rate.next_token(full_at, at(now)).as_microsecond();
                if next > now {
                    prop_assert_eq!(rate.tokens(full_at, at(next - 1)), 0);
                }
                prop_assert!(rate.tokens(full_at, at(next)) >= 1);
                let tokens = rate.tokens(full_at, at(now));
                full_at = Some(rate.spend(full_at, at(now), tokens));
                starts.push((now, tokens.into()));
                for first in 0..starts.len() {
                    let started: i128 = starts[first..].iter().map(|(_, n)| n).sum();
                    let time = i128::from(now - starts[first].0);
                    let most = time * rate.documents() + i128::from(rate.burst.get()) * rate.period();
                    prop_assert!(started * rate.period() <= most);
                }
            }
        }

        /// Whoever takes each token when it comes loses next to nothing of the rate.
        #[test]
        fn the_rate_can_be_used_up(rate in rate()) {
            let (mut now, mut full_at) = (at(0), None);
            for _ in 0..1000 {
                now = rate.next_token(full_at, now);
                full_at = Some(rate.spend(full_at, now, 1));
            }
            let time = us(now) * rate.documents();
            prop_assert!(time <= 1000 * rate.period() + 1000 * rate.documents());
        }

        #[test]
        fn without_limits_it_is_the_fair_deal(
            slots in 0usize..9, fronts in proptest::collection::vec(0usize..6, 0..6),
        ) {
            let unlimited = Room { processing: u64::MAX, starts: u64::MAX };
            let lines: Vec<_> = fronts
                .iter()
                .map(|n| Front { queue: 0, room: u64::MAX, starts: vec![true; *n] })
                .collect();
            let dealt = deal(slots, &[unlimited], &lines);
            let claimable: Vec<u64> = fronts.iter().map(|n| *n as u64).collect();
            let order: Vec<_> = dealt.taken.iter().map(|(line, _)| *line).collect();
            prop_assert_eq!(order, fair::deal(slots, &claimable));
            prop_assert!(!dealt.held_back && dealt.short_of_tokens.is_empty());
        }
    }

    #[test]
    fn a_new_rate_waits_no_longer_than_for_a_whole_bucket() {
        let hourly = Rate::new(1, 3600).unwrap();
        let full_at = Some(hourly.spend(None, at(0), 1));
        let fast = Rate::new(1, 1).unwrap();
        let carried = Rate::carry_over(Some(fast), full_at, at(0));
        assert_eq!(fast.next_token(carried, at(0)), at(1_000_000));
        assert_eq!(Rate::carry_over(Some(hourly), full_at, at(0)), full_at);
        assert_eq!(Rate::carry_over(None, full_at, at(0)), None);
    }

    #[test]
    fn what_goes_on_passes_what_waits_for_a_token() {
        let queues = [Room {
            processing: 3,
            starts: 1,
        }];
        let fronts = [Front {
            queue: 0,
            room: u64::MAX,
            starts: vec![true, true, false, false],
        }];
        let dealt = deal(9, &queues, &fronts);
        assert_eq!(dealt.taken, [(0, 0), (0, 2), (0, 3)]);
        assert!(dealt.held_back, "the queue is full, token or not");
        assert_eq!(dealt.short_of_tokens, [] as [usize; 0]);
        assert_eq!(left(Some(1), 5), 0, "lowered below what is processing");
    }

    #[test]
    fn a_tenant_at_its_limit_leaves_its_turn_to_others() {
        let free = Room {
            processing: u64::MAX,
            starts: u64::MAX,
        };
        let line = |room| Front {
            queue: 0,
            room,
            starts: vec![true; 9],
        };
        let dealt = deal(5, &[free], &[line(1), line(9)]);
        let order: Vec<_> = dealt.taken.iter().map(|(line, _)| *line).collect();
        assert_eq!(order, [0, 1, 1, 1, 1]);
        assert!(!dealt.held_back, "no slot was left");
    }
}
