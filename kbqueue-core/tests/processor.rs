//! What the processor promises, with an extractor that misbehaves. (Stops, deaths and a store that goes away
//! are in `leases.rs`.) Time is
//! tokio's paused clock, which the store shares: hours pass in milliseconds.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kbqueue_core::store::{Control, OutputQuery};
use kbqueue_core::{
    BatchReport, ChunkOptions, ExtractError, ProcessorOptions, QueueName, QueueSettings, State,
    StoreExt,
};
use support::{Bench, Fake, Flaky, Step};
use tokio::time::Instant;

const AT_ONCE: Step = Step::Page(Duration::ZERO);
const A_SECOND: Step = Step::Page(Duration::from_secs(1));

fn options(change: impl FnOnce(&mut ProcessorOptions)) -> impl FnOnce(&mut Bench) {
    move |bench| change(&mut bench.options)
}

#[tokio::test(start_paused = true)]
async fn a_document_is_extracted_cut_and_completed() {
    let bench = Bench::new(Fake::new(100, |_, _| AT_ONCE));
    let id = bench.add().await;
    let report = bench.processor().process_once().await.unwrap();
    assert_eq!(
        report,
        BatchReport {
            processed: 1,
            completed: 1,
            failed: 0,
            retried: 0
        }
    );
    let document = bench.document(id).await;
    assert_eq!(document.lifecycle.state, State::Completed);
    assert_eq!(document.lifecycle.progress.percent, 100);
    assert_eq!(document.lifecycle.progress.total_pages, Some(100));
    assert_eq!(document.attempts.len(), 1);
    bench.assert_whole(id, 100).await;
}

#[tokio::test(start_paused = true)]
async fn one_batch_is_at_most_batch_size_documents() {
    let bench = Bench::new(Fake::new(3, |_, _| AT_ONCE));
    for _ in 0..5 {
        bench.add().await;
    }
    let processor = bench.processor();
    let batches = [3, 2, 0].map(|n| BatchReport {
        processed: n,
        completed: n,
        failed: 0,
        retried: 0,
    });
    for expected in batches {
        assert_eq!(processor.process_once().await.unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_process_ends_wakes_who_was_held_back() {
    let mut bench = Bench::new(Fake::new(1, |_, _| A_SECOND));
    options(|o| o.check_interval = Duration::from_secs(3600))(&mut bench);
    let settings = QueueSettings {
        max_processing: Some(1),
        ..QueueSettings::default()
    };
    let queue = QueueName::default();
    bench.store.configure(&queue, settings).await.unwrap();
    let processors = [bench.processor(), bench.processor()];
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(bench.add().await);
    }
    let started = Instant::now();
    let batch = async {
        let report = processors[0].process_once().await.unwrap();
        assert_eq!(report.processed, 1, "one at a time");
    };
    let other = async {
        bench.wait_state(ids[0], State::Processing).await;
        processors[1].start();
    };
    tokio::join!(batch, other);
    for id in ids {
        bench.wait_state(id, State::Completed).await;
    }
    assert!(started.elapsed() < Duration::from_secs(60));
}

/// What is cancelled while it is processing makes room like anything else that ends.
#[tokio::test(start_paused = true)]
async fn what_is_cancelled_wakes_who_was_held_back() {
    let mut bench = Bench::new(Fake::new(
        1,
        |_, before| {
            if before == 0 { Step::Hang } else { AT_ONCE }
        },
    ));
    options(|o| {
        o.check_interval = Duration::from_secs(3600);
        o.concurrency = 2;
    })(&mut bench);
    let settings = QueueSettings {
        max_processing: Some(1),
        ..QueueSettings::default()
    };
    let queue = QueueName::default();
    bench.store.configure(&queue, settings).await.unwrap();
    let processor = bench.processor();
    let (first, second) = (bench.add().await, bench.add().await);
    processor.start();
    bench.wait_state(first, State::Processing).await;
    let cancelled = Instant::now();
    bench.store.control(first, Control::Cancel).await.unwrap();
    bench.wait_state(first, State::Cancelled).await;
    bench.wait_state(second, State::Completed).await;
    assert!(cancelled.elapsed() < Duration::from_secs(60));
    processor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_document_does_not_wait_for_the_check_interval() {
    let mut bench = Bench::new(Fake::new(1, |_, _| AT_ONCE));
    options(|o| o.check_interval = Duration::from_secs(3600))(&mut bench);
    let processor = bench.processor();
    processor.start();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let enqueued = Instant::now();
    let id = bench.add().await;
    bench.wait_state(id, State::Completed).await;
    assert!(
        enqueued.elapsed() < Duration::from_secs(1),
        "{:?}",
        enqueued.elapsed()
    );
    processor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_retryable_error_goes_on_at_the_page_where_it_happened() {
    let bench = Bench::new(Fake::new(10, |page, before| match (page, before) {
        (7, 0) => Step::Error(ExtractError::transient("out of paper")),
        _ => A_SECOND,
    }));
    let id = bench.add().await;
    let processor = bench.processor();
    processor.start();
    let document = bench.wait_state(id, State::Completed).await;
    processor.stop().await;
    assert_eq!(bench.fake.asked(), [1, 2, 3, 4, 5, 6, 7, 7, 8, 9, 10]);
    assert_eq!(document.lifecycle.retry_count, 1);
    let outcomes: Vec<&str> = document
        .attempts
        .iter()
        .map(|a| a.outcome.as_str())
        .collect();
    assert_eq!(outcomes, ["retried", "completed"]);
    assert_eq!(document.attempts[0].error.as_deref(), Some("out of paper"));
    bench.assert_whole(id, 10).await;
}

#[tokio::test(start_paused = true)]
async fn retries_end() {
    let bench = Bench::new(Fake::new(2, |_, _| {
        Step::Error(ExtractError::transient("no"))
    }));
    let id = bench.add().await;
    let processor = bench.processor();
    processor.start();
    let document = bench.wait_state(id, State::Failed).await;
    processor.stop().await;
    assert_eq!(bench.fake.asked().len(), 4, "one try and three retries");
    assert_eq!(document.lifecycle.error.as_deref(), Some("no"));
    assert!(!document.lifecycle.quarantined);
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_burns_no_retries() {
    let bench = Bench::new(Fake::new(2, |_, _| {
        Step::Error(ExtractError::permanent("not a PDF"))
    }));
    let id = bench.add().await;
    let report = bench.processor().process_once().await.unwrap();
    assert_eq!(
        report,
        BatchReport {
            processed: 1,
            completed: 0,
            failed: 1,
            retried: 0
        }
    );
    assert_eq!(bench.document(id).await.lifecycle.retry_count, 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_of_its_document_alone() {
    let bench = Bench::new(Fake::new(2, |page, before| match (page, before) {
        (2, 0) => Step::Panic,
        _ => AT_ONCE,
    }));
    let id = bench.add().await;
    let report = bench.processor().process_once().await.unwrap();
    assert_eq!(
        report,
        BatchReport {
            processed: 1,
            completed: 0,
            failed: 0,
            retried: 1
        }
    );
    let error = bench.document(id).await.lifecycle.error.unwrap();
    assert!(error.contains("panicked: a page fell out"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn coming_back_later_uses_no_retry() {
    let bench = Bench::new(Fake::new(1, |_, before| match before {
        0 => Step::Error(ExtractError::Snooze {
            reason: "too early".into(),
            delay: Duration::from_secs(1800),
        }),
        _ => AT_ONCE,
    }));
    let id = bench.add().await;
    let (processor, enqueued) = (bench.processor(), Instant::now());
    processor.start();
    let document = bench.wait_state(id, State::Completed).await;
    processor.stop().await;
    assert_eq!(
        (
            document.lifecycle.retry_count,
            document.lifecycle.snooze_count
        ),
        (0, 1)
    );
    assert!(enqueued.elapsed() >= Duration::from_secs(1800));
}

#[tokio::test(start_paused = true)]
async fn standing_still_is_an_error_and_slow_pages_are_none() {
    let bench = Bench::new(Fake::new(3, |page, before| match (page, before) {
        (2, 0) => Step::Hang,
        _ => Step::Page(Duration::from_secs(500)),
    }));
    let id = bench.add().await;
    let processor = bench.processor();
    processor.start();
    let document = bench.wait_state(id, State::Completed).await;
    processor.stop().await;
    assert_eq!(bench.fake.asked(), [1, 2, 2, 3]);
    let error = document.attempts[0].error.as_deref().unwrap();
    assert_eq!(error, "no page was finished for 600s");
    assert_eq!(document.lifecycle.crashes_total, 0);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_ends_when_its_time_is_over_and_the_next_one_goes_on() {
    let mut bench = Bench::new(Fake::new(10, |_, _| Step::Page(Duration::from_secs(60))));
    options(|o| o.max_processing_time = Some(Duration::from_secs(330)))(&mut bench);
    let id = bench.add().await;
    let processor = bench.processor();
    processor.start();
    let document = bench.wait_state(id, State::Completed).await;
    processor.stop().await;
    assert_eq!(document.lifecycle.retry_count, 1);
    assert_eq!(bench.fake.asked(), [1, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10]);
    bench.assert_whole(id, 10).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_is_heard_in_the_middle_of_a_page() {
    let bench = Bench::new(Fake::new(
        2,
        |page, _| if page == 2 { Step::Hang } else { AT_ONCE },
    ));
    let id = bench.add().await;
    let processor = bench.processor();
    processor.start();
    bench
        .wait_for(id, |document| document.lifecycle.cursor.pages == 1)
        .await;
    let asked = Instant::now();
    bench.store.control(id, Control::Cancel).await.unwrap();
    bench.wait_state(id, State::Cancelled).await;
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    processor.stop().await;
}

/// REGRESSIONS 27: one bad page costs that page; only bad pages cost the document.
#[tokio::test(start_paused = true)]
async fn a_bad_page_is_named_and_the_rest_delivered() {
    let bench = Bench::new(Fake::new(5, |page, _| {
        if page == 3 { Step::BadPage } else { AT_ONCE }
    }));
    let id = bench.add().await;
    bench.processor().process_once().await.unwrap();
    let document = bench.document(id).await;
    assert_eq!(document.lifecycle.state, State::Completed);
    assert_eq!(document.failed_pages.len(), 1);
    assert_eq!(
        (
            document.failed_pages[0].page,
            document.failed_pages[0].cause.as_str()
        ),
        (3, "no ink")
    );
    let pages = bench.store.pages(OutputQuery::new(id, 10)).await.unwrap();
    assert_eq!(
        (pages[2].text.as_str(), pages[2].failure.as_deref()),
        ("", Some("no ink"))
    );

    let hopeless = Bench::new(Fake::new(5, |_, _| Step::BadPage));
    let id = hopeless.add().await;
    hopeless.processor().process_once().await.unwrap();
    let document = hopeless.document(id).await;
    assert_eq!(document.lifecycle.state, State::Failed);
    let error = document.lifecycle.error.unwrap();
    assert_eq!(error, "none of its 5 pages could be read; page 1: no ink");
}

#[tokio::test(start_paused = true)]
async fn a_rechunk_extracts_nothing_again() {
    let bench = Bench::new(Fake::new(200, |_, _| AT_ONCE));
    let id = bench.add().await;
    let processor = bench.processor();
    processor.process_once().await.unwrap();
    let before = bench.store.all_chunks(id).await.unwrap().len();
    let smaller = ChunkOptions::new(100, 200, 0).unwrap();
    bench
        .store
        .control(id, Control::Rechunk(smaller))
        .await
        .unwrap();
    processor.process_once().await.unwrap();
    let chunks = bench.store.all_chunks(id).await.unwrap();
    assert!(chunks.len() > 4 * before, "{} after {before}", chunks.len());
    assert!(chunks.iter().all(|chunk| chunk.text.chars().count() <= 200));
    assert_eq!(bench.fake.asked().len(), 200);
    bench.assert_whole(id, 200).await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_queue_gives_nothing_until_it_goes_on() {
    let bench = Bench::new(Fake::new(1, |_, _| AT_ONCE));
    let (processor, queue) = (bench.processor(), QueueName::default());
    bench
        .store
        .configure(
            &queue,
            QueueSettings {
                paused: true,
                ..QueueSettings::default()
            },
        )
        .await
        .unwrap();
    let id = bench.add().await;
    processor.start();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(bench.document(id).await.lifecycle.state, State::Queued);
    let resumed = Instant::now();
    bench
        .store
        .configure(
            &queue,
            QueueSettings {
                paused: false,
                ..QueueSettings::default()
            },
        )
        .await
        .unwrap();
    bench.wait_state(id, State::Completed).await;
    assert!(resumed.elapsed() < Duration::from_secs(1));
    processor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn documents_that_end_together_are_settled_together() {
    let mut bench = Bench::new(Fake::new(1, |_, _| A_SECOND));
    options(|o| (o.concurrency, o.batch_size) = (50, 50))(&mut bench);
    let store = Flaky::new(Arc::clone(&bench.store));
    for _ in 0..50 {
        bench.add().await;
    }
    let report = bench
        .processor_on(store.clone())
        .process_once()
        .await
        .unwrap();
    assert_eq!(report.completed, 50);
    let calls = store.settle_calls.load(Ordering::SeqCst);
    assert!(calls <= 3, "{calls} calls for 50 documents");
}
