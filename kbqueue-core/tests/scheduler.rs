//! Schedulers in many processes, on a paused clock that the store shares.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use kbqueue_core::schedule::{Missed, Plan, Scheduler, Template, put};
use kbqueue_core::{BlobRef, Clock, MemoryStore, QueueName, Store};
use tokio_util::sync::CancellationToken;

/// REGRESSIONS 14: each tick is one document's while three schedulers run, of which two are killed.
#[tokio::test(start_paused = true)]
async fn each_tick_is_one_documents_whoever_lives() {
    let store = Arc::new(MemoryStore::with_clock(Clock::tokio()));
    let queue = QueueName::default();
    let plan = Plan {
        cron: "*/5 * * * *".to_owned(),
        time_zone: "UTC".to_owned(),
        missed: Missed::Skip,
        template: Template {
            blob: BlobRef {
                sha256: "00".repeat(32),
                size_bytes: 1,
            },
            filename: "report.pdf".to_owned(),
            media_type: "application/pdf".to_owned(),
            tenant: None,
            priority: 0,
            chunking: None,
            metadata: serde_json::Value::Null,
        },
    };
    put(store.as_ref(), &queue, "five", plan).await.unwrap();
    let stop = CancellationToken::new();
    let start = || {
        let interval = Duration::from_secs(3600);
        let scheduler = Scheduler::new(store.clone(), vec![queue.clone()], interval);
        let stop = stop.clone();
        tokio::spawn(async move { scheduler.run(stop).await })
    };
    let mut running = vec![start(), start(), start()];
    let queued = async || store.stats(&queue).await.unwrap().counts.queued;
    tokio::time::sleep(Duration::from_secs(1805)).await;
    assert_eq!(queued().await, 6);
    for killed in running.drain(..2) {
        killed.abort();
    }
    tokio::time::sleep(Duration::from_secs(1800)).await;
    assert_eq!(queued().await, 12);
    stop.cancel();
    for stopped in running {
        stopped.await.unwrap();
    }
}
