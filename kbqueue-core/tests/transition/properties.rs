//! Random events from random beginnings.

use std::time::Duration;

use jiff::Timestamp;
use kbqueue_core::lifecycle::{Cursor, Generation, LastSettlement, Lease, LeaseId, Lifecycle};
use kbqueue_core::output::Progress;
use kbqueue_core::state::{
    CrashLimits, Event, MAX_SNOOZES, Outcome, Refusal, State, Transition, transition,
};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use crate::*;

fn counter() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0u32..12, 1 => Just(MAX_SNOOZES), 1 => Just(u32::MAX)]
}

fn length() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::from_nanos(1_999_999)),
        Just(LEASE),
        Just(GRACE),
        Just(Duration::MAX),
    ]
}

/// Any document that could be: in each state, with any counters. Where it is held, then under lease 1.
fn lifecycle() -> impl Strategy<Value = Lifecycle> {
    let state = prop::sample::select(State::ALL.to_vec());
    let counters = (counter(), counter(), counter(), counter(), counter());
    let generation = (1u32..4, 0u32..3, 0u32..4);
    let work = (0u64..5, 0u32..5, any::<bool>(), 0u8..100);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let settled = proptest::option::of((2u128..4).prop_map(lease_id));
    (state, counters, generation, work, flags, settled).prop_map(
        |(state, counters, generation, work, flags, settled)| {
            let (pages, rechunks, completed) = generation;
            let (number, cursor_pages, pages_done, percent) = work;
            let (own, cancel, started) = flags;
            let chunks = pages + rechunks;
            let generation = Generation { chunks, pages };
            let earlier = Generation {
                chunks: completed,
                pages: completed,
            };
            let completed = match state {
                State::Completed => Some(generation),
                _ => Some(earlier).filter(|c| c.chunks > 0 && c.chunks < chunks),
            };
            let held = state == State::Processing;
            let whole = completed == Some(generation);
            Lifecycle {
                state,
                attempt: counters.0,
                retry_count: counters.1,
                crash_count: counters.2,
                crashes_total: counters.3,
                snooze_count: counters.4,
                quarantined: state == State::Failed && own,
                lease: held.then(|| Lease {
                    id: lease_id(1),
                    worker: "w".into(),
                    expires_at: start() + LEASE,
                }),
                last_settlement: settled.map(|lease_id| LastSettlement { lease_id, state }),
                cancel_requested_at: (held && cancel).then(start),
                fingerprint: (held || started).then(|| if own { "a" } else { "b" }.into()),
                generation,
                completed,
                cursor: Cursor {
                    number,
                    pages: cursor_pages,
                    pages_done,
                    ..Cursor::default()
                },
                progress: Progress {
                    percent: if whole { 100 } else { percent },
                    ..Progress::default()
                },
                started_at: (held || started).then(start),
                completed_at: state.is_terminal().then(start),
                ..Lifecycle::new(start())
            }
        },
    )
}

/// An event whose lease is the holder's (`None`) or an earlier one's, or time that passes.
#[derive(Debug, Clone)]
enum Step {
    Claim(&'static str, Duration, Duration),
    Checkpoint(Option<usize>, i64, u32, u8, Duration),
    Renew(Option<usize>, Duration),
    Settle(Option<usize>, Outcome),
    Expire(CrashLimits),
    Other(Event),
    Wait(Duration),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let fail =
        (any::<bool>(), counter(), length()).prop_map(|(retryable, max_retries, backoff)| {
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
        length().prop_map(|delay| Outcome::Snooze { delay }),
    ]
}

fn limits() -> impl Strategy<Value = CrashLimits> {
    (counter(), counter()).prop_map(|(max_crashes, max_crashes_total)| CrashLimits {
        max_crashes,
        max_crashes_total,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let lease = || prop_oneof![3 => Just(None), 1 => (0usize..6).prop_map(Some)];
    let off_by = prop_oneof![6 => Just(0i64), 1 => -2i64..3];
    let own = prop_oneof![3 => Just("a"), 1 => Just("b")];
    let other = prop::sample::select(vec![
        Event::Cancel,
        RETRY,
        FROM_SCRATCH,
        Event::Rechunk,
        Event::Change {
            available_at: Some(start() + Duration::from_secs(30)),
        },
        Event::Change { available_at: None },
    ]);
    prop_oneof![
        8 => (own, length(), length()).prop_map(|(f, l, g)| Step::Claim(f, l, g)),
        8 => (lease(), off_by, 0u32..3, any::<u8>(), length())
            .prop_map(|(l, o, p, n, d)| Step::Checkpoint(l, o, p, n, d)),
        2 => (lease(), length()).prop_map(|(l, d)| Step::Renew(l, d)),
        6 => (lease(), outcome()).prop_map(|(l, o)| Step::Settle(l, o)),
        3 => prop_oneof![Just(CrashLimits::default()), limits()].prop_map(Step::Expire),
        6 => other.prop_map(Step::Other),
        6 => prop::sample::select(vec![1u64, 60, 600]).prop_map(|s| Step::Wait(Duration::from_secs(s))),
    ]
}

/// `leases` are those given out so far, the newest last.
fn event(step: &Step, document: &Lifecycle, leases: &[LeaseId]) -> Event {
    let pick = |which: &Option<usize>| {
        let index = which.map_or(leases.len() - 1, |n| n % leases.len());
        leases[index]
    };
    match step {
        Step::Claim(fingerprint, lease, grace) => {
            let fresh = 100 + leases.len() as u128;
            claim_as(fresh, fingerprint, *lease, *grace)
        }
        Step::Checkpoint(which, off_by, pages, percent, lease) => Event::Checkpoint {
            lease_id: pick(which),
            lease: *lease,
            cursor: Cursor {
                number: (document.cursor.number + 1).saturating_add_signed(*off_by),
                pages: document.cursor.pages + pages,
                ..document.cursor
            },
            progress: Progress {
                percent: *percent,
                ..Progress::default()
            },
        },
        Step::Renew(which, lease) => Event::Renew {
            lease_id: pick(which),
            lease: *lease,
        },
        Step::Settle(which, outcome) => Event::Settle {
            lease_id: pick(which),
            outcome: outcome.clone(),
        },
        Step::Expire(limits) => Event::Expire(*limits),
        Step::Other(event) => event.clone(),
        Step::Wait(_) => unreachable!("time is no event"),
    }
}

// ---- the promises

/// What is true of every document.
fn assert_sound(document: &Lifecycle) -> TestCaseResult {
    let life = document;
    let held = life.state == State::Processing;
    prop_assert_eq!(
        life.lease.is_some(),
        held,
        "a lease exactly while processing"
    );
    prop_assert_eq!(life.completed_at.is_some(), life.state.is_terminal());
    prop_assert!(life.state != State::Queued || life.cancel_requested_at.is_none());
    let whole = life.completed == Some(life.generation);
    prop_assert_eq!(life.progress.percent == 100, whole, "100 when completed");
    prop_assert!(life.progress.percent <= 100);
    prop_assert!(life.state != State::Completed || whole);
    prop_assert!(life.generation.pages <= life.generation.chunks);
    let visible = life.visible();
    prop_assert!(visible == life.generation || visible.chunks < life.generation.chunks);
    Ok(())
}

/// No lease but the holder's is good for anything, whatever it is used for.
fn assert_fenced(document: &Lifecycle, leases: &[LeaseId], now: Timestamp) -> TestCaseResult {
    for id in leases.iter().filter(|id| !document.is_held_under(**id)) {
        let n = id.0.as_u128();
        for write in [
            checkpoint(n, document, 1),
            checkpoint(n, document, 0),
            renew(n),
        ] {
            prop_assert_eq!(transition(document, &write, now), Err(Refusal::LeaseLost));
        }
        let known = document
            .last_settlement
            .is_some_and(|last| last.lease_id == *id);
        let answer = if known {
            Ok(Transition::Repeated)
        } else {
            Err(Refusal::LeaseLost)
        };
        for outcome in [Outcome::Complete, Outcome::Release, failure(true, 9)] {
            prop_assert_eq!(
                transition(document, &settle(n, outcome), now),
                answer.clone()
            );
        }
    }
    Ok(())
}

/// What is true of every step that was taken.
fn assert_step(
    before: &Lifecycle,
    event: &Event,
    after: &Lifecycle,
    now: Timestamp,
) -> TestCaseResult {
    let quiet = matches!(event, Event::Checkpoint { .. } | Event::Renew { .. });
    prop_assert_eq!(after.version, before.version + u64::from(!quiet));
    let claimed = matches!(event, Event::Claim { .. });
    prop_assert_eq!(
        after.attempt,
        before.attempt.saturating_add(u32::from(claimed))
    );
    if after.generation == before.generation {
        prop_assert!(
            after.progress.percent >= before.progress.percent,
            "never backward"
        );
        prop_assert!(!before.cursor.is_past(&after.cursor), "the cursor goes on");
    }
    let rechunk = *event == Event::Rechunk;
    if after.generation.pages != before.generation.pages || rechunk {
        prop_assert!(
            after.generation.chunks > before.generation.chunks,
            "never seen before"
        );
        prop_assert_eq!((after.cursor.number, after.cursor.chunks), (0, 0));
        prop_assert_eq!(after.progress.percent, 0);
    }
    if rechunk {
        prop_assert_eq!(after.generation.pages, before.generation.pages);
        prop_assert_eq!(after.cursor.pages, before.cursor.pages);
        prop_assert_eq!(after.cursor.pages_done, before.cursor.pages_done);
    }

    // Who may do it, and what it costs.
    let by_admin = matches!(event, Event::Retry { .. } | Event::Rechunk);
    let counters = [
        after.retry_count,
        after.crash_count,
        after.crashes_total,
        after.snooze_count,
    ];
    if by_admin {
        prop_assert_eq!(counters, [0; 4]);
        prop_assert_eq!((after.state, after.available_at), (State::Queued, now));
        prop_assert!(!after.quarantined && after.error.is_none());
    } else {
        let moved = after.cursor.is_past(&before.cursor);
        let died = matches!(event, Event::Expire(_));
        let mut expected = [
            before.retry_count,
            before.crash_count,
            before.crashes_total,
            before.snooze_count,
        ];
        match event {
            Event::Checkpoint { .. } if moved => expected[1] = 0,
            Event::Settle {
                outcome: Outcome::Fail {
                    retryable: true, ..
                },
                ..
            } if after.state == State::Queued => expected[0] += 1,
            Event::Settle {
                outcome: Outcome::Snooze { .. },
                ..
            } if after.state == State::Queued => expected[3] += 1,
            Event::Expire(_) => {
                expected[1] = expected[1].saturating_add(1);
                expected[2] = expected[2].saturating_add(1);
            }
            _ => {}
        }
        prop_assert_eq!(counters, expected, "nothing else is counted");
        prop_assert!(
            !died
                || before
                    .lease
                    .as_ref()
                    .is_some_and(|lease| lease.expires_at <= now)
        );
    }

    // How processing ends.
    if before.state == State::Processing && after.state != State::Processing {
        let complete = matches!(
            event,
            Event::Settle {
                outcome: Outcome::Complete,
                ..
            }
        );
        prop_assert_eq!(after.state == State::Completed, complete, "complete wins");
        let cancelled = before.cancel_requested_at.is_some() && !complete;
        prop_assert_eq!(
            after.state == State::Cancelled,
            cancelled,
            "a cancel is kept"
        );
        if let (Event::Expire(limits), false) = (event, cancelled) {
            let over = after.crash_count >= limits.max_crashes
                || after.crashes_total >= limits.max_crashes_total;
            prop_assert_eq!(after.state == State::Failed, over);
            prop_assert_eq!(after.quarantined, over);
        }
    }
    if let Event::Claim { fingerprint, .. } = event {
        let foreign = before
            .fingerprint
            .as_ref()
            .is_some_and(|own| own != fingerprint);
        prop_assert_eq!(after.generation != before.generation, foreign);
        prop_assert_eq!(after.fingerprint.as_ref(), Some(fingerprint));
        prop_assert!(now >= before.available_at);
    }
    Ok(())
}

proptest! {
    #[test]
    fn whatever_happens_the_promises_hold(
        beginning in prop_oneof![Just(Lifecycle::new(start())), lifecycle()],
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut now = start();
        let mut document = beginning;
        // Those that the beginning may name, and the holder's.
        let mut leases = vec![lease_id(2), lease_id(3), lease_id(1)];
        assert_sound(&document)?;
        for step in &steps {
            if let Step::Wait(time) = step {
                now += *time;
                continue;
            }
            let event = event(step, &document, &leases);
            let Ok(Transition::To(after)) = transition(&document, &event, now) else { continue };
            assert_sound(&after)?;
            assert_step(&document, &event, &after, now)?;
            match &event {
                Event::Claim { lease_id, .. } => leases.push(*lease_id),
                // REGRESSIONS 31: what was applied and is sent again changes nothing.
                Event::Checkpoint { .. } | Event::Settle { .. } => {
                    prop_assert_eq!(transition(&after, &event, now), Ok(Transition::Repeated));
                }
                _ => {}
            }
            document = *after;
            assert_fenced(&document, &leases, now)?;
        }
    }

    /// REGRESSIONS 29: failing and crashing come to an end from any document, with any counters, against
    /// any maximum, after no more steps than are left of it.
    #[test]
    fn failing_and_crashing_end(beginning in lifecycle(), max in 0u32..6, crash: bool, again: bool) {
        let mut now = start();
        let mut document = beginning;
        if document.state.is_terminal() {
            prop_assume!(again);
            document = to(&document, &RETRY, now);
        }
        let limits = CrashLimits { max_crashes: max, max_crashes_total: max };
        for n in 10..(12 + u128::from(max)) {
            if document.state == State::Queued {
                document = to(&document, &claim_as(n, "a", LEASE, Duration::ZERO), now);
            }
            let held = document.lease.as_ref().unwrap().id.0.as_u128();
            let asked = document.cancel_requested_at.is_some();
            now += LEASE;
            document = if crash {
                to(&document, &Event::Expire(limits), now)
            } else {
                to(&document, &settle(held, failure(true, max)), now)
            };
            if document.state.is_terminal() {
                let ended = if asked { State::Cancelled } else { State::Failed };
                prop_assert_eq!(document.state, ended);
                return Ok(());
            }
        }
        prop_assert!(false, "still {} after all that", document.state);
    }

    /// Snoozing comes to an end, too.
    #[test]
    fn snoozing_ends(snooze_count in prop_oneof![0u32..=MAX_SNOOZES, Just(u32::MAX)]) {
        let now = start();
        let mut document = Lifecycle { snooze_count, ..Lifecycle::new(now) };
        for n in 1..=u128::from(MAX_SNOOZES) + 1 {
            document = to(&document, &claim(n), now);
            document = to(&document, &settle(n, Outcome::Snooze { delay: Duration::ZERO }), now);
            if document.state == State::Failed {
                return Ok(());
            }
        }
        prop_assert!(false, "still {}", document.state);
    }

    /// Every event has an answer at every time, from the first to the last there is.
    #[test]
    fn no_time_is_out_of_range(
        beginning in lifecycle(), step in step(), deleted: bool,
        now in prop::sample::select(vec![Timestamp::MIN, start(), Timestamp::MAX]),
    ) {
        let deleted_at = deleted.then_some(now);
        let document = Lifecycle { deleted_at, ..beginning };
        if !matches!(step, Step::Wait(_)) {
            let event = event(&step, &document, &[lease_id(2), lease_id(1)]);
            let _ = transition(&document, &event, now);
        }
    }
}
