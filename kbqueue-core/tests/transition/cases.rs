//! Single cases, each a way in which another system went wrong.

use std::time::Duration;

use kbqueue_core::lifecycle::{Cursor, LeaseId, Lifecycle};
use kbqueue_core::output::Progress;
use kbqueue_core::state::{CrashLimits, Event, Outcome, Refusal, State, Transition, transition};
use uuid::Uuid;

use crate::*;

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
