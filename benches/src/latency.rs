//! How long a document waits for an idle worker: from the call that enqueues it to its claim
//! committed.

use std::time::{Duration, Instant};

use kbqueue_core::StoreExt;
use tokio::sync::mpsc;

use crate::Arguments;
use crate::noop;
use crate::raw;
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
        ("raw", &raw.p50),
    );
    report.add(
        kind.name(),
        "pick-up p99",
        "ms",
        &ours.p99,
        ("raw", &raw.p99),
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
    let (processor, mut starts, blob) =
        noop::processor(fresh.elsewhere().await, fresh.path(), 1).await;
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
    fresh.end().await;
    waits_ms
}

async fn measure_raw(kind: Kind) -> Vec<f64> {
    let mut raw = raw::open(kind).await;
    let (claimed, mut claims) = mpsc::unbounded_channel();
    let mut side = raw.worker().await;
    let worker = tokio::spawn(async move {
        loop {
            side.woken().await;
            if side.claim(1).await == 0 {
                continue;
            }
            // A bench that ended no longer listens.
            let _ = claimed.send(());
            side.complete().await;
        }
    });
    let mut waits_ms = Vec::new();
    for _ in 0..DOCUMENTS {
        tokio::time::sleep(GAP).await;
        let began = Instant::now();
        raw.announce().await;
        claims.recv().await.expect("the worker works");
        waits_ms.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    worker.abort();
    let _ = worker.await;
    raw.end().await;
    waits_ms
}
