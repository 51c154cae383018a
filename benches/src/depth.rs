//! What a claim and a status cost with few and with many documents waiting.

use std::time::Instant;

use kbqueue_core::QueueName;

use crate::Arguments;
use crate::report::Report;
use crate::stores::{Fresh, Kind, blob, request};

const SHALLOW: usize = 10_000;
const CALLS: usize = 200;

pub(crate) async fn run(kind: Kind, arguments: &Arguments, report: &mut Report) {
    let shallow = measure(kind, SHALLOW).await;
    let deep = measure(kind, arguments.depth).await;
    let measure =
        |what: &str| format!("{what} with {} waiting, against {SHALLOW}", arguments.depth);
    let beside = "the same store";
    report.add(
        kind.name(),
        &measure("claim of 1"),
        "ms",
        &deep.claims,
        (beside, &shallow.claims),
    );
    report.add(
        kind.name(),
        &measure("status"),
        "ms",
        &deep.stats,
        (beside, &shallow.stats),
    );
}

#[derive(Default)]
struct Costs {
    claims: Vec<f64>,
    stats: Vec<f64>,
}

async fn measure(kind: Kind, depth: usize) -> Costs {
    let fresh = Fresh::new(kind).await;
    fresh.fill(depth, &blob()).await;
    // Folds the counts, as a processor does every few seconds.
    fresh.store.purge(1).await.expect("it answers");
    let queue = QueueName::default();
    let mut costs = Costs::default();
    for _ in 0..CALLS {
        let request = request(1);
        let began = Instant::now();
        let claims = fresh.store.claim(request).await.expect("it answers");
        costs.claims.push(began.elapsed().as_secs_f64() * 1000.0);
        assert_eq!(claims.documents.len(), 1);
        let began = Instant::now();
        let stats = fresh.store.stats(&queue).await.expect("it answers");
        costs.stats.push(began.elapsed().as_secs_f64() * 1000.0);
        assert_eq!(stats.counts.total(), depth as u64);
    }
    fresh.end().await;
    costs
}
