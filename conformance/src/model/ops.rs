//! The operations, and how they are drawn. They name documents, leases and workers by small numbers,
//! so that a sequence stays meaningful when some of it is taken away.

use std::num::NonZeroU32;
use std::time::Duration;

use kbqueue_core::state::{CrashLimits, Outcome};
use kbqueue_core::store::{Change, Control};
use kbqueue_core::{ChunkOptions, QueueSettings, Rate, TestClock};
use proptest::prelude::*;

/// One call, or some time that passes.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Enqueue(Vec<New>),
    Claim {
        worker: usize,
        slots: usize,
        lease: Duration,
    },
    Checkpoint(Step),
    Renew {
        worker: usize,
        leases: Vec<Which>,
        lease: Duration,
    },
    Settle(Vec<(Which, Outcome)>),
    Depart(usize),
    Control(Target, Control),
    Configure {
        queue: usize,
        settings: QueueSettings,
    },
    Reap {
        limits: CrashLimits,
        limit: usize,
    },
    Purge(usize),
    Wait(Duration),
    /// All workers die: their leases run out, and the reaper comes.
    AllDie,
}

/// A document.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// Of all ever enqueued, one.
    Any(usize),
    /// Of those that are processing, one.
    Live(usize),
}

/// A document to enqueue.
#[derive(Debug, Clone)]
pub(super) struct New {
    /// An earlier document's id once more, instead of a fresh one.
    pub(super) again: Option<usize>,
    pub(super) queue: usize,
    pub(super) tenant: usize,
    pub(super) priority: i16,
    pub(super) delay: Option<Duration>,
    pub(super) same_as: Same,
    pub(super) chunked: bool,
}

/// What it is the same as.
#[derive(Debug, Clone)]
pub(super) enum Same {
    Content(u8),
    Key(u8),
    Off,
}

/// A lease, with the document that it is used on.
#[derive(Debug, Clone)]
pub(super) enum Which {
    /// Of the documents that are processing, one.
    Live(usize),
    /// Of all leases ever given out, one, counted from the last.
    Old(usize),
    /// The lease of one on another.
    Crossed(usize),
    /// One that nobody ever had.
    Unknown,
}

/// A checkpoint.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) lease: Which,
    /// By how much its number differs from the one that is due.
    pub(super) off_by: i64,
    pub(super) pages: u32,
    pub(super) failed_page: bool,
    pub(super) chunks: u32,
    pub(super) images: u32,
    pub(super) done: bool,
    pub(super) percent: u8,
    pub(super) title: Option<u8>,
    pub(super) length: Duration,
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let enqueue = proptest::collection::vec(new(), 0..4).prop_map(Op::Enqueue);
    let claim = (0usize..3, 0usize..4, lease()).prop_map(|(worker, slots, lease)| Op::Claim {
        worker,
        slots,
        lease,
    });
    let leases = proptest::collection::vec(which(), 0..4);
    let renew = (0usize..3, leases, lease()).prop_map(|(worker, leases, lease)| Op::Renew {
        worker,
        leases,
        lease,
    });
    let settle = proptest::collection::vec((which(), outcome()), 1..4).prop_map(Op::Settle);
    let reap = (limits(), 0usize..5).prop_map(|(limits, limit)| Op::Reap { limits, limit });
    prop_oneof![
        6 => enqueue,
        8 => claim,
        8 => step().prop_map(Op::Checkpoint),
        2 => renew,
        7 => settle,
        1 => (0usize..3).prop_map(Op::Depart),
        10 => (target(), control()).prop_map(|(target, control)| Op::Control(target, control)),
        3 => configure(),
        3 => reap,
        2 => prop_oneof![0usize..8, Just(1000)].prop_map(Op::Purge),
        5 => wait().prop_map(Op::Wait),
        2 => Just(Op::AllDie),
    ]
}

/// Of new settings, half have no limits. Only the last queue has a rate, which is served by workers of one
/// fingerprint: what was opened to others may wait for a token or not.
fn configure() -> impl Strategy<Value = Op> {
    let rate = (1u32..4, prop_oneof![Just(1u32), Just(7), Just(60)], 1u32..4).prop_map(
        |(documents, per_seconds, burst)| Rate {
            burst: NonZeroU32::new(burst).expect("it is drawn above zero"),
            ..Rate::new(documents, per_seconds).expect("they are drawn above zero")
        },
    );
    let limits = (
        proptest::option::of(rate),
        proptest::option::of(0u32..4),
        proptest::option::of(0u32..3),
        proptest::option::of(0u64..6),
    );
    let limits = prop_oneof![Just((None, None, None, None)), limits];
    let paused = prop_oneof![3 => Just(false), 1 => Just(true)];
    (0usize..3, paused, limits).prop_map(|(queue, paused, limits)| {
        let (rate, max_processing, max_processing_per_tenant, max_queued) = limits;
        let settings = QueueSettings {
            paused,
            rate: rate.filter(|_| queue == 2),
            max_processing,
            max_processing_per_tenant,
            max_queued,
        };
        Op::Configure { queue, settings }
    })
}

fn new() -> impl Strategy<Value = New> {
    let again = prop_oneof![6 => Just(None), 1 => (0usize..12).prop_map(Some)];
    let delay = prop_oneof![3 => Just(None), 1 => wait().prop_map(Some)];
    let same_as = prop_oneof![
        2 => Just(Same::Off),
        2 => (0u8..4).prop_map(Same::Content),
        2 => (0u8..4).prop_map(Same::Key),
    ];
    let chunked = any::<bool>();
    let drawn = (
        again,
        0usize..3,
        0usize..3,
        -1i16..=1,
        delay,
        same_as,
        chunked,
    );
    drawn.prop_map(
        |(again, queue, tenant, priority, delay, same_as, chunked)| New {
            again,
            queue,
            tenant,
            priority,
            delay,
            same_as,
            chunked,
        },
    )
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        3 => (0usize..12).prop_map(Target::Any),
        1 => (0usize..6).prop_map(Target::Live),
    ]
}

fn control() -> impl Strategy<Value = Control> {
    let rechunk = (10u32..13).prop_map(|max_chars| {
        Control::Rechunk(ChunkOptions::new(1, max_chars, 0).expect("valid sizes"))
    });
    prop_oneof![
        3 => Just(Control::Cancel),
        3 => any::<bool>().prop_map(|from_scratch| Control::Retry { from_scratch }),
        2 => rechunk,
        2 => Just(Control::Delete),
        2 => change(),
    ]
}

fn change() -> impl Strategy<Value = Control> {
    let time = (0u64..90).prop_map(|s| TestClock::new().now() + Duration::from_secs(s));
    let metadata = any::<u8>().prop_map(serde_json::Value::from);
    let drawn = (
        proptest::option::of(-1i16..=1),
        proptest::option::of(metadata),
        proptest::option::of(time),
    );
    drawn.prop_map(|(priority, metadata, available_at)| {
        Control::Change(Change {
            priority,
            metadata,
            available_at,
        })
    })
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![
        8 => (0usize..6).prop_map(Which::Live),
        2 => (0usize..6).prop_map(Which::Old),
        1 => (0usize..6).prop_map(Which::Crossed),
        1 => Just(Which::Unknown),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let off_by = prop_oneof![8 => Just(0i64), 2 => Just(-1), 1 => Just(1), 1 => Just(-3)];
    let amounts = (0u32..3, any::<bool>(), 0u32..3, 0u32..2, any::<bool>());
    let title = proptest::option::of(0u8..3);
    let drawn = (which(), off_by, amounts, 0u8..=110, title, lease());
    drawn.prop_map(|(lease, off_by, amounts, percent, title, length)| {
        let (pages, failed_page, chunks, images, done) = amounts;
        Step {
            lease,
            off_by,
            pages,
            failed_page,
            chunks,
            images,
            done,
            percent,
            title,
            length,
        }
    })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let failure = (any::<bool>(), 0u32..3, wait()).prop_map(|(retryable, max_retries, backoff)| {
        Outcome::Fail {
            error: "out of paper".to_owned(),
            retryable,
            max_retries,
            backoff,
        }
    });
    prop_oneof![
        4 => Just(Outcome::Complete),
        3 => failure,
        2 => Just(Outcome::Release),
        1 => wait().prop_map(|delay| Outcome::Snooze { delay }),
    ]
}

fn limits() -> impl Strategy<Value = CrashLimits> {
    let few = (0u32..3, 1u32..4).prop_map(|(max_crashes, max_crashes_total)| CrashLimits {
        max_crashes,
        max_crashes_total,
    });
    prop_oneof![3 => Just(CrashLimits::default()), 1 => few]
}

fn lease() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(Duration::from_secs(60)), Just(Duration::from_secs(10))]
}

/// Times on both sides of leases (10 s, 60 s) and of the grace (600 s), and odd ones.
fn wait() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::from_micros(1)),
        Just(Duration::from_nanos(1_500_700)),
        (1u64..12).prop_map(Duration::from_secs),
        Just(Duration::from_secs(60)),
        Just(Duration::from_secs(600)),
    ]
}
