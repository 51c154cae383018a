//! The specification: random events from random beginnings keep the promises, and the cases that bugs
//! of other systems taught.
#![allow(clippy::unwrap_used)]

mod cases;
mod properties;

use std::time::Duration;

use jiff::Timestamp;
use kbqueue_core::lifecycle::{Cursor, LeaseId, Lifecycle};
use kbqueue_core::output::Progress;
use kbqueue_core::state::{Event, Outcome, Transition, transition};
use uuid::Uuid;

const LEASE: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(600);

fn start() -> Timestamp {
    Timestamp::from_second(1_767_225_600).unwrap()
}

fn lease_id(n: u128) -> LeaseId {
    LeaseId(Uuid::from_u128(n))
}

fn claim(n: u128) -> Event {
    claim_as(n, "a", LEASE, GRACE)
}

fn claim_as(n: u128, fingerprint: &str, lease: Duration, grace: Duration) -> Event {
    Event::Claim {
        lease_id: lease_id(n),
        worker: "w".into(),
        lease,
        fingerprint: fingerprint.into(),
        grace,
    }
}

/// The checkpoint that is due, `pages` further on.
fn checkpoint(n: u128, document: &Lifecycle, pages: u32) -> Event {
    Event::Checkpoint {
        lease_id: lease_id(n),
        lease: LEASE,
        cursor: Cursor {
            number: document.cursor.number + 1,
            pages: document.cursor.pages + pages,
            ..document.cursor
        },
        progress: Progress::default(),
    }
}

fn renew(n: u128) -> Event {
    Event::Renew {
        lease_id: lease_id(n),
        lease: LEASE,
    }
}

fn settle(n: u128, outcome: Outcome) -> Event {
    Event::Settle {
        lease_id: lease_id(n),
        outcome,
    }
}

fn failure(retryable: bool, max_retries: u32) -> Outcome {
    Outcome::Fail {
        error: "no".into(),
        retryable,
        max_retries,
        backoff: Duration::ZERO,
    }
}

const RETRY: Event = Event::Retry {
    from_scratch: false,
};
const FROM_SCRATCH: Event = Event::Retry { from_scratch: true };

fn to(document: &Lifecycle, event: &Event, now: Timestamp) -> Lifecycle {
    match transition(document, event, now).unwrap() {
        Transition::To(next) => *next,
        Transition::Repeated => panic!("{event:?} was applied before"),
    }
}

// ---- random beginnings, random events
