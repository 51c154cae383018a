//! Random events against the specification: whatever happens, the promises hold.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use jiff::Timestamp;
use kbqueue_core::lifecycle::{Cursor, LeaseId, Lifecycle};
use kbqueue_core::output::Progress;
use kbqueue_core::state::{CrashLimits, Event, Outcome, Refusal, State, Transition, transition};
use proptest::prelude::*;
use uuid::Uuid;

/// An event whose lease is the holder's (`None`) or an earlier one's.
#[derive(Debug, Clone)]
enum Step {
    Claim(bool),
    Checkpoint(Option<usize>, u32, u8),
    Renew(Option<usize>),
    Settle(Option<usize>, Outcome),
    Expire,
    Cancel,
    Retry(bool),
    Rechunk,
    Wait(Duration),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let delay = prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::from_secs(60)),
        Just(Duration::MAX)
    ];
    let fail =
        (any::<bool>(), 0u32..4, delay.clone()).prop_map(|(retryable, max_retries, backoff)| {
            Outcome::Fail {
                error: "no".into(),
                retryable,
                max_retries,
                backoff,
            }
        });
    prop_oneof![
        Just(Outcome::Complete),
        fail,
        Just(Outcome::Release),
        delay.prop_map(|delay| Outcome::Snooze { delay }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let lease = || prop_oneof![3 => Just(None), 1 => (0usize..4).prop_map(Some)];
    prop_oneof![
        4 => any::<bool>().prop_map(Step::Claim),
        4 => (lease(), 0u32..3, 0u8..=100).prop_map(|(l, p, n)| Step::Checkpoint(l, p, n)),
        1 => lease().prop_map(Step::Renew),
        3 => (lease(), outcome()).prop_map(|(l, o)| Step::Settle(l, o)),
        2 => Just(Step::Expire),
        1 => Just(Step::Cancel),
        1 => any::<bool>().prop_map(Step::Retry),
        1 => Just(Step::Rechunk),
        3 => prop_oneof![Just(1u64), Just(61), Just(700)].prop_map(|s| Step::Wait(Duration::from_secs(s))),
    ]
}

const LEASE: Duration = Duration::from_secs(60);

/// The lease ids given out so far, the holder's last.
fn event(step: &Step, document: &Lifecycle, leases: &[LeaseId], made: &mut u128) -> Event {
    let lease_of = |which: &Option<usize>, leases: &[LeaseId]| {
        let unknown = LeaseId(Uuid::from_u128(u128::MAX));
        match which {
            None => leases.last().copied().unwrap_or(unknown),
            Some(index) => leases.get(*index).copied().unwrap_or(unknown),
        }
    };
    match step {
        Step::Claim(own) => {
            *made += 1;
            let lease_id = LeaseId(Uuid::from_u128(*made));
            let fingerprint = if *own { "a" } else { "b" }.to_owned();
            let grace = Duration::from_secs(600);
            Event::Claim {
                lease_id,
                worker: "w".into(),
                lease: LEASE,
                fingerprint,
                grace,
            }
        }
        Step::Checkpoint(which, pages, percent) => Event::Checkpoint {
            lease_id: lease_of(which, leases),
            lease: LEASE,
            cursor: Cursor {
                number: document.cursor.number + 1,
                pages: document.cursor.pages + pages,
                ..document.cursor
            },
            progress: Progress {
                percent: *percent,
                ..Progress::default()
            },
        },
        Step::Renew(which) => Event::Renew {
            lease_id: lease_of(which, leases),
            lease: LEASE,
        },
        Step::Settle(which, outcome) => Event::Settle {
            lease_id: lease_of(which, leases),
            outcome: outcome.clone(),
        },
        Step::Expire => Event::Expire(CrashLimits::default()),
        Step::Cancel => Event::Cancel,
        Step::Retry(from_scratch) => Event::Retry {
            from_scratch: *from_scratch,
        },
        Step::Rechunk => Event::Rechunk,
        Step::Wait(_) => unreachable!("time is no event"),
    }
}

fn to(document: &Lifecycle, event: &Event, now: Timestamp) -> Lifecycle {
    match transition(document, event, now).unwrap() {
        Transition::To(next) => *next,
        Transition::Repeated => panic!("{event:?} was applied before"),
    }
}

fn start() -> Timestamp {
    Timestamp::from_second(1_767_225_600).unwrap()
}

fn claim(id: u128) -> Event {
    Event::Claim {
        lease_id: LeaseId(Uuid::from_u128(id)),
        worker: "w".into(),
        lease: LEASE,
        fingerprint: "a".into(),
        grace: Duration::from_secs(600),
    }
}

fn settle(id: u128, outcome: Outcome) -> Event {
    Event::Settle {
        lease_id: LeaseId(Uuid::from_u128(id)),
        outcome,
    }
}

fn failure(max_retries: u32) -> Outcome {
    Outcome::Fail {
        error: "no".into(),
        retryable: true,
        max_retries,
        backoff: Duration::ZERO,
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_promises_hold(steps in prop::collection::vec(step(), 1..120)) {
        let mut now = start();
        let mut document = Lifecycle::new(now);
        let (mut leases, mut made) = (Vec::new(), 0);
        for step in &steps {
            if let Step::Wait(time) = step {
                now += *time;
                continue;
            }
            let event = event(step, &document, &leases, &mut made);
            let before = document.clone();
            let Ok(Transition::To(after)) = transition(&before, &event, now) else { continue };
            document = *after;
            if let Event::Claim { lease_id, .. } = &event {
                leases.push(*lease_id);
            }

            prop_assert_eq!(document.lease.is_some(), document.state == State::Processing);
            prop_assert_eq!(document.completed_at.is_some(), document.state.is_terminal());
            let quiet = matches!(event, Event::Checkpoint { .. } | Event::Renew { .. });
            prop_assert_eq!(document.version, before.version + u64::from(!quiet));
            prop_assert_eq!(document.progress.percent == 100, document.completed == Some(document.generation));
            if document.generation == before.generation {
                prop_assert!(document.progress.percent >= before.progress.percent);
                prop_assert!(!before.cursor.is_past(&document.cursor), "the cursor goes on");
            }
            // Only the holder changes what is processing; nobody else's lease is good for anything.
            if let Event::Checkpoint { lease_id, .. } | Event::Renew { lease_id, .. }
                | Event::Settle { lease_id, .. } = &event
            {
                prop_assert!(before.is_held_under(*lease_id));
            }
            if before.cancel_requested_at.is_some() && document.state != State::Processing {
                let complete = matches!(event, Event::Settle { outcome: Outcome::Complete, .. });
                let ended = if complete { State::Completed } else { State::Cancelled };
                prop_assert!(before.state != State::Processing || document.state == ended);
            }
        }
    }

    /// REGRESSIONS 29: any counter against any maximum comes to an end.
    #[test]
    fn failing_and_crashing_end(
        retry_count in 0u32..20, crash_count in 0u32..20, crashes_total in 0u32..20,
        max_retries in 0u32..6, crash: bool,
    ) {
        let now = start();
        let mut document = Lifecycle { retry_count, crash_count, crashes_total, ..Lifecycle::new(now) };
        for id in 1..20 {
            document = to(&document, &claim(id), now);
            document = if crash {
                to(&document, &Event::Expire(CrashLimits::default()), now + LEASE)
            } else {
                to(&document, &settle(id, failure(max_retries)), now)
            };
            document.available_at = now;
            if document.state.is_terminal() {
                prop_assert_eq!(document.state, State::Failed);
                prop_assert_eq!(document.quarantined, crash);
                return Ok(());
            }
        }
        prop_assert!(false, "still {} after 19 attempts", document.state);
    }
}

/// REGRESSIONS 1, 2 and 30: after release, cancel and retry, the old lease is good for nothing.
#[test]
fn an_old_lease_is_refused_for_ever() {
    let now = start();
    let released = to(
        &to(&Lifecycle::new(now), &claim(1), now),
        &settle(1, Outcome::Release),
        now,
    );
    let cancelled = to(&released, &Event::Cancel, now);
    let retried = to(&cancelled, &Event::Retry { from_scratch: true }, now);
    let claimed = to(&retried, &claim(2), now);
    let lease_id = LeaseId(Uuid::from_u128(1));
    let cursor = Cursor {
        number: 1,
        pages: 1,
        ..Cursor::default()
    };
    let checkpoint = Event::Checkpoint {
        lease_id,
        lease: LEASE,
        cursor,
        progress: Progress::default(),
    };
    for document in [&released, &cancelled, &retried, &claimed] {
        assert_eq!(
            transition(document, &checkpoint, now),
            Err(Refusal::LeaseLost)
        );
        let renew = Event::Renew {
            lease_id,
            lease: LEASE,
        };
        assert_eq!(transition(document, &renew, now), Err(Refusal::LeaseLost));
        // Its own settlement repeated is known, and changes nothing.
        assert_eq!(
            transition(document, &settle(1, Outcome::Complete), now),
            Ok(Transition::Repeated)
        );
    }
}

/// REGRESSIONS 31: what was applied and is sent again changes nothing.
#[test]
fn a_repeated_checkpoint_or_settlement_is_recognised() {
    let now = start();
    let claimed = to(&Lifecycle::new(now), &claim(1), now);
    let cursor = Cursor {
        number: 1,
        pages: 3,
        ..Cursor::default()
    };
    let lease_id = LeaseId(Uuid::from_u128(1));
    let checkpoint = Event::Checkpoint {
        lease_id,
        lease: LEASE,
        cursor,
        progress: Progress::default(),
    };
    let moved = to(&claimed, &checkpoint, now);
    assert_eq!(
        transition(&moved, &checkpoint, now),
        Ok(Transition::Repeated)
    );
    let skipped = Event::Checkpoint {
        lease_id,
        lease: LEASE,
        cursor: Cursor {
            number: 3,
            ..cursor
        },
        progress: Progress::default(),
    };
    assert_eq!(
        transition(&moved, &skipped, now),
        Err(Refusal::OutOfOrder { last: 1, got: 3 })
    );
    let done = to(&moved, &settle(1, Outcome::Complete), now);
    assert_eq!(
        transition(&done, &settle(1, Outcome::Complete), now),
        Ok(Transition::Repeated)
    );
}

#[test]
fn progress_between_crashes_forgives_them_up_to_ten() {
    let mut now = start();
    let mut document = Lifecycle::new(now);
    for crash in 1..=10u32 {
        let id = u128::from(crash);
        document = to(&document, &claim(id), now);
        let number = document.cursor.number + 1;
        let cursor = Cursor {
            number,
            pages: crash,
            ..document.cursor
        };
        let lease_id = LeaseId(Uuid::from_u128(id));
        let progress = Progress::default();
        document = to(
            &document,
            &Event::Checkpoint {
                lease_id,
                lease: LEASE,
                cursor,
                progress,
            },
            now,
        );
        assert_eq!(document.crash_count, 0);
        now += LEASE;
        document = to(&document, &Event::Expire(CrashLimits::default()), now);
        assert_eq!(
            document.state,
            if crash < 10 {
                State::Queued
            } else {
                State::Failed
            }
        );
    }
    assert!(document.quarantined);
}

#[test]
fn a_started_document_is_left_to_its_own_kind_for_the_grace_and_then_starts_over() {
    let now = start();
    let claimed = to(&Lifecycle::new(now), &claim(1), now);
    let released = to(&claimed, &settle(1, Outcome::Release), now);
    let Event::Claim {
        lease_id,
        worker,
        lease,
        grace,
        ..
    } = claim(2)
    else {
        unreachable!()
    };
    let foreign = Event::Claim {
        lease_id,
        worker,
        lease,
        grace,
        fingerprint: "b".into(),
    };
    assert_eq!(transition(&released, &foreign, now), Err(Refusal::NotDue));
    let taken = to(&released, &foreign, now + Duration::from_secs(600));
    assert_eq!((taken.generation.chunks, taken.generation.pages), (2, 2));
    assert_eq!(taken.cursor, Cursor::default());
    assert_eq!(taken.fingerprint.as_deref(), Some("b"));
}

#[test]
fn a_deleted_document_refuses_everything() {
    let now = start();
    let deleted = to(&Lifecycle::new(now), &Event::Delete, now);
    for event in [
        claim(1),
        Event::Cancel,
        Event::Retry {
            from_scratch: false,
        },
        Event::Rechunk,
        Event::Delete,
    ] {
        assert_eq!(
            transition(&deleted, &event, now),
            Err(Refusal::Deleted),
            "{event:?}"
        );
    }
    assert_eq!(
        transition(&deleted, &settle(1, Outcome::Complete), now),
        Err(Refusal::LeaseLost)
    );
    let claimed = to(&Lifecycle::new(now), &claim(1), now);
    assert_eq!(
        transition(&claimed, &Event::Delete, now),
        Err(Refusal::WrongState(State::Processing))
    );
}
