//! How long a document waits for an idle worker: from the call that enqueues it to its claim
//! committed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kbqueue_core::StoreExt;
use tokio::sync::Notify;

use crate::Arguments;
use crate::noop;
use crate::raw::{Raw, rows};
use crate::report::{Report, quantile};
use crate::stores::{Fresh, Kind, new_documents};

const DOCUMENTS: usize = 300;
/// Long enough that the worker is idle again.
const GAP: Duration = Duration::from_millis(5);

pub(crate) async fn run(kind: Kind, arguments: &Arguments, report: &mut Report) {
    let (mut ours, mut raw) = (Quantiles::default(), Quantiles::default());
    for _ in 0..arguments.repeats {
        ours.add(&measure_ours(kind).await);
        raw.add(&measure_raw(kind).await);
    }
    report.add(
        kind.name(),
        "pick-up p50",
        "ms",
        &ours.p50,
        ("raw sqlx + notify", &raw.p50),
    );
    report.add(
        kind.name(),
        "pick-up p99",
        "ms",
        &ours.p99,
        ("raw sqlx + notify", &raw.p99),
    );
}

#[derive(Default)]
struct Quantiles {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Quantiles {
    fn add(&mut self, waits_ms: &[f64]) {
        self.p50.push(quantile(waits_ms, 0.5));
        self.p99.push(quantile(waits_ms, 0.99));
    }
}

async fn measure_ours(kind: Kind) -> Vec<f64> {
    let fresh = Fresh::new(kind).await;
    let (processor, mut starts, blob) = noop::processor(fresh.store.clone(), fresh.path(), 1).await;
    processor.start();
    let mut waits_ms = Vec::new();
    for document in new_documents(DOCUMENTS, &blob) {
        tokio::time::sleep(GAP).await;
        let began = Instant::now();
        fresh
            .store
            .enqueue_one(document)
            .await
            .expect("it is taken");
        starts.recv().await.expect("the processor works");
        waits_ms.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    processor.stop().await;
    waits_ms
}

/// One connection, as ours has one writer: the claimer waits for a notification in the process.
async fn measure_raw(kind: Kind) -> Vec<f64> {
    let raw = Arc::new(tokio::sync::Mutex::new(Raw::new(kind).await));
    let (wake, claimed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let worker = tokio::spawn({
        let (raw, wake, claimed) = (Arc::clone(&raw), Arc::clone(&wake), Arc::clone(&claimed));
        async move {
            loop {
                wake.notified().await;
                let ids = raw.lock().await.claim(1).await;
                claimed.notify_one();
                raw.lock().await.complete(&ids).await;
            }
        }
    });
    let mut waits_ms = Vec::new();
    for _ in 0..DOCUMENTS {
        let row = rows(1);
        tokio::time::sleep(GAP).await;
        let began = Instant::now();
        raw.lock().await.enqueue(&row).await;
        wake.notify_one();
        claimed.notified().await;
        waits_ms.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    worker.abort();
    waits_ms
}
