//! What the processor promises when workers stop, die and lose their leases, and when the store goes away.
//! Time is tokio's paused clock, which the store shares: hours pass in milliseconds.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kbqueue_core::store::{ClaimRequest, Worker, WorkerId};
use kbqueue_core::{MemoryStore, ProcessorOptions, QueueName, State};
use support::{Bench, Fake, Flaky, Step};
use tokio::time::Instant;

const AT_ONCE: Step = Step::Page(Duration::ZERO);
const A_SECOND: Step = Step::Page(Duration::from_secs(1));

fn options(change: impl FnOnce(&mut ProcessorOptions)) -> impl FnOnce(&mut Bench) {
    move |bench| change(&mut bench.options)
}

/// REGRESSIONS 7 and 26: a time limit that is off is off, and leases live as long as their work.
#[tokio::test(start_paused = true)]
async fn a_long_document_is_never_taken_from_its_worker() {
    let mut bench = Bench::new(Fake::new(120, |_, _| Step::Page(Duration::from_secs(60))));
    options(|o| o.max_processing_time = None)(&mut bench);
    let id = bench.add().await;
    let (processor, other) = (bench.processor(), bench.processor());
    processor.start();
    other.start();
    let document = bench.wait_state(id, State::Completed).await;
    processor.stop().await;
    other.stop().await;
    assert_eq!(
        (document.lifecycle.attempt, document.lifecycle.crashes_total),
        (1, 0)
    );
    assert_eq!(bench.fake.asked().len(), 120);
}

/// REGRESSIONS 15: a shutdown releases at once, burns no retry, and another worker goes on there.
#[tokio::test(start_paused = true)]
async fn a_stopped_processor_releases_its_documents_where_they_stand() {
    let bench = Bench::new(Fake::new(10, |_, _| A_SECOND));
    let id = bench.add().await;
    let first = bench.processor();
    first.start();
    bench
        .wait_for(id, |document| document.lifecycle.cursor.pages == 4)
        .await;
    let stopping = Instant::now();
    first.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(2));
    let document = bench.document(id).await;
    assert_eq!(document.lifecycle.state, State::Queued);
    assert_eq!(
        (
            document.lifecycle.retry_count,
            document.lifecycle.crashes_total
        ),
        (0, 0)
    );
    assert_eq!(document.attempts[0].outcome, "released");

    bench.processor().process_once().await.unwrap();
    assert_eq!(bench.fake.asked(), [1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10]);
    bench.assert_whole(id, 10).await;
}

#[tokio::test(start_paused = true)]
async fn a_stopping_processor_claims_nothing_more() {
    let bench = Bench::new(Fake::new(10, |_, _| A_SECOND));
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(bench.add().await);
    }
    let processor = bench.processor();
    processor.start();
    bench
        .wait_for(ids[0], |document| document.lifecycle.cursor.pages == 2)
        .await;
    processor.stop().await;
    let mut attempts = Vec::new();
    for id in ids {
        attempts.push(bench.document(id).await.lifecycle.attempt);
    }
    assert_eq!(attempts, [1, 1, 0, 0, 0, 0], "two slots, two documents");
}

#[tokio::test(start_paused = true)]
async fn a_processor_that_cannot_reach_its_store_still_stops() {
    let bench = Bench::new(Fake::new(10, |_, _| A_SECOND));
    let store = Flaky::new(Arc::clone(&bench.store));
    let id = bench.add().await;
    let processor = bench.processor_on(store.clone());
    processor.start();
    bench
        .wait_for(id, |document| document.lifecycle.cursor.pages == 2)
        .await;
    store.away.store(true, Ordering::SeqCst);
    let stopping = Instant::now();
    processor.stop().await;
    assert!(
        stopping.elapsed() < Duration::from_secs(2),
        "{:?}",
        stopping.elapsed()
    );
    // Its lease runs out, and another worker goes on.
    let other = bench.processor();
    other.start();
    let document = bench.wait_state(id, State::Completed).await;
    other.stop().await;
    assert_eq!(document.lifecycle.crashes_total, 1);
    bench.assert_whole(id, 10).await;
}

/// Promise 3: a dead worker's documents are claimable within one lease plus one reap interval.
#[tokio::test(start_paused = true)]
async fn documents_of_a_dead_worker_are_taken_back() {
    let bench = Bench::new(Fake::new(1, |_, _| AT_ONCE));
    let id = bench.add().await;
    let dead = Worker {
        id: WorkerId(uuid::Uuid::new_v4()),
        name: "dead".into(),
        queues: vec![QueueName::default()],
    };
    let request = ClaimRequest::new(dead, 1, Duration::from_secs(60), "fake/1".into());
    assert_eq!(bench.store.claim(request).await.unwrap().documents.len(), 1);
    // The dead one had other output settings: within the grace they are left alone, too.
    let mut bench = bench;
    options(|o| o.fingerprint_grace = Duration::ZERO)(&mut bench);
    let (processor, since) = (bench.processor(), Instant::now());
    processor.start();
    let document = bench.wait_state(id, State::Completed).await;
    processor.stop().await;
    assert!(
        since.elapsed() <= Duration::from_secs(60 + 10 + 1),
        "{:?}",
        since.elapsed()
    );
    assert_eq!(document.attempts[0].outcome, "crashed");
    assert_eq!(document.attempts[0].worker, "dead");
}

/// REGRESSIONS 8: the store is away for a minute; nobody has to be restarted, nothing starts over.
#[tokio::test(start_paused = true)]
async fn work_goes_on_when_the_store_comes_back() {
    let bench = Bench::new(Fake::new(30, |_, _| A_SECOND));
    let store = Flaky::new(Arc::clone(&bench.store));
    let first = bench.add().await;
    let processor = bench.processor_on(store.clone());
    processor.start();
    bench
        .wait_for(first, |document| document.lifecycle.cursor.pages == 5)
        .await;
    store.away.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let second = bench.add().await;
    store.away.store(false, Ordering::SeqCst);
    for id in [first, second] {
        let document = bench.wait_state(id, State::Completed).await;
        assert_eq!(
            (document.lifecycle.attempt, document.lifecycle.retry_count),
            (1, 0)
        );
        bench.assert_whole(id, 30).await;
    }
    processor.stop().await;
    assert_eq!(bench.fake.asked().len(), 60, "no page was extracted twice");
}

/// REGRESSIONS 1 at the runner: cut off from the store, it loses its document to another and then
/// comes back with its own results.
#[tokio::test(start_paused = true)]
async fn a_worker_that_lost_its_lease_writes_nothing() {
    let bench = Bench::new(Fake::new(40, |_, _| Step::Page(Duration::from_secs(5))));
    let store = Flaky::new(Arc::clone(&bench.store));
    let id = bench.add().await;
    let zombie = bench.processor_on(store.clone());
    zombie.start();
    bench
        .wait_for(id, |document| document.lifecycle.cursor.pages == 3)
        .await;
    store.away.store(true, Ordering::SeqCst);
    let successor = bench.processor();
    successor.start();
    bench
        .wait_for(id, |document| document.lifecycle.attempt == 2)
        .await;
    store.away.store(false, Ordering::SeqCst);
    let document = bench.wait_state(id, State::Completed).await;
    zombie.stop().await;
    successor.stop().await;
    let outcomes: Vec<&str> = document
        .attempts
        .iter()
        .map(|a| a.outcome.as_str())
        .collect();
    assert_eq!(outcomes, ["crashed", "completed"]);
    bench.assert_whole(id, 40).await;
}

/// REGRESSIONS 31: the answer to a checkpoint is lost, and the same checkpoint is sent again.
#[tokio::test(start_paused = true)]
async fn a_checkpoint_whose_answer_was_lost_counts_once() {
    let bench = Bench::new(Fake::new(20, |_, _| A_SECOND));
    let store = Flaky::new(Arc::clone(&bench.store));
    store.lose_checkpoint_answers.store(5, Ordering::SeqCst);
    let id = bench.add().await;
    bench.processor_on(store).process_once().await.unwrap();
    assert_eq!(bench.document(id).await.lifecycle.state, State::Completed);
    bench.assert_whole(id, 20).await;
}

#[tokio::test(start_paused = true)]
async fn a_live_worker_shows_in_the_stats_until_it_stops() {
    let bench = Bench::new(Fake::new(1, |_, _| AT_ONCE));
    let (processor, queue) = (bench.processor(), QueueName::default());
    let live = async || bench.store.stats(&queue).await.unwrap().live_workers;
    assert_eq!(live().await, 0);
    processor.start();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(live().await, 1);
    processor.stop().await;
    assert_eq!(live().await, 0);
}

/// An extractor that never yields cannot keep its lease: on real threads and real time.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_extractor_that_blocks_its_thread_loses_its_lease() {
    let until = Arc::new(AtomicBool::new(false));
    let blocked = Arc::clone(&until);
    let fake = Fake::new(1, move |_, before| match before {
        0 => Step::Block(Arc::clone(&blocked)),
        _ => AT_ONCE,
    });
    let mut bench = Bench::on(Arc::new(MemoryStore::new()), fake);
    options(|o| {
        o.stall_timeout = Duration::from_millis(300);
        o.lease = Duration::from_millis(300);
    })(&mut bench);
    let id = bench.add().await;
    let stuck = bench.processor();
    stuck.start();
    let other = bench.processor();
    let taken_over = bench.wait_for(id, |document| document.lifecycle.crashes_total == 1);
    let document = tokio::time::timeout(Duration::from_secs(30), taken_over)
        .await
        .unwrap();
    assert_ne!(document.lifecycle.state, State::Failed);
    other.start();
    bench.wait_state(id, State::Completed).await;
    until.store(true, Ordering::SeqCst);
    stuck.stop().await;
    other.stop().await;
    bench.assert_whole(id, 1).await;
}
