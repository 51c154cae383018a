//! Random operations on the store under test and on [`MemoryStore`](kbqueue_core::MemoryStore), under
//! one clock: every answer has to be the same, and so has everything that can be read.

mod ops;
mod world;

use std::fmt::Write as _;

use kbqueue_core::{Clock, Store, TestClock};
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

use self::world::World;
use crate::runtime;

/// How many sequences of operations are tried.
const CASES: u32 = 48;
/// How long a sequence may be.
const MAX_OPS: usize = 60;

/// Tries `KBQUEUE_CONFORMANCE_CASES` (48) random sequences of up to 60 operations, each on a fresh
/// store, from `KBQUEUE_CONFORMANCE_SEED` (0) on, so that a run can be repeated.
///
/// # Panics
/// At the first difference, with the shortest sequence found that leads to one.
pub fn check<S: Store, G>(factory: impl AsyncFn(Clock) -> (S, G)) {
    let cases = number("KBQUEUE_CONFORMANCE_CASES").and_then(|n| u32::try_from(n).ok());
    let seed = number("KBQUEUE_CONFORMANCE_SEED").unwrap_or(0);
    check_cases(factory, cases.unwrap_or(CASES), seed);
}

/// Tries `cases` sequences, the same ones for the same seed.
///
/// # Panics
/// As [`check`].
pub fn check_cases<S: Store, G>(factory: impl AsyncFn(Clock) -> (S, G), cases: u32, seed: u64) {
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        // A file beside this crate's source would be of no use to whoever runs it against a store.
        failure_persistence: None,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let runtime = runtime();
    let sequence = proptest::collection::vec(ops::op(), 1..=MAX_OPS);
    let result = TestRunner::new(config).run(&sequence, |sequence| {
        runtime.block_on(async {
            let clock = TestClock::new();
            let (store, guard) = factory(clock.clock()).await;
            let answer = World::new(&store, &clock).run(&sequence).await;
            drop(store);
            drop(guard);
            answer.map_err(TestCaseError::fail)
        })
    });
    match result {
        Ok(()) => {}
        Err(TestError::Abort(reason)) => panic!("the test could not be run: {reason}"),
        Err(TestError::Fail(difference, sequence)) => {
            let mut steps = String::new();
            for (number, op) in sequence.iter().enumerate() {
                let _ = write!(steps, "\n  {number}: {op:?}");
            }
            panic!(
                "the store and the specification differ: {difference}\n\
                 the shortest sequence found that shows it (KBQUEUE_CONFORMANCE_SEED={seed}):{steps}"
            );
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    let number = value.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable}={value:?} is no number")))
}
