//! How fast documents go in, and through.

use std::time::{Duration, Instant};

use kbqueue_core::state::Outcome;
use kbqueue_core::store::{Settled, Settlement};
use kbqueue_core::{QueueName, State, StoreExt};

use crate::Arguments;
use crate::noop;
use crate::raw::{self, rusqlite};
use crate::report::Report;
use crate::stores::{Fresh, Kind, blob, new_documents, request};

const SINGLES: usize = 500;
const BATCH: usize = 500;
const BULK: usize = 1000;

pub(crate) async fn run(kind: Kind, arguments: &Arguments, report: &mut Report) {
    let count = arguments.documents;
    let mut ours = Figures::default();
    let mut raw = Figures::default();
    let mut barest = Figures::default();
    for _ in 0..arguments.repeats {
        measure_ours(kind, count, &mut ours).await;
        measure_alone(kind, count, &mut ours).await;
        measure_raw(kind, count, &mut raw).await;
        if kind.is_sqlite() {
            let bulk = rusqlite::enqueue(kind, count, BULK);
            barest.bulk.push(per_second(count, bulk));
            let drain = rusqlite::drain(kind, count, BATCH);
            barest.drain.push(per_second(count, drain));
        }
    }
    let name = kind.name();
    let mut add = |measure, ours: &[f64], beside: (&'static str, &[f64])| {
        report.add(name, measure, "/s", ours, beside);
    };
    let (bulk, drain) = ("enqueue, 1000 a call", "drain, 500 slots");
    add("enqueue one", &ours.single, ("raw", &raw.single));
    add(bulk, &ours.bulk, ("raw", &raw.bulk));
    add(drain, &ours.drain, ("raw", &raw.drain));
    let alone = "claim and settle 500 a call, no processor";
    add(alone, &ours.alone, ("raw", &raw.drain));
    if kind.is_sqlite() {
        add(bulk, &ours.bulk, ("barest rusqlite", &barest.bulk));
        add(drain, &ours.drain, ("barest rusqlite", &barest.drain));
    }
}

#[derive(Default)]
struct Figures {
    single: Vec<f64>,
    bulk: Vec<f64>,
    drain: Vec<f64>,
    /// The drain by the store alone: what the processor adds is the difference.
    alone: Vec<f64>,
}

#[allow(clippy::cast_precision_loss)]
fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

async fn measure_ours(kind: Kind, count: usize, figures: &mut Figures) {
    let fresh = Fresh::new(kind).await;
    let (processor, _, blob) = noop::processor(fresh.store.clone(), fresh.path(), BATCH).await;
    let documents = new_documents(SINGLES, &blob);
    let began = Instant::now();
    for document in documents {
        fresh
            .store
            .enqueue_one(document)
            .await
            .expect("it is taken");
    }
    figures.single.push(per_second(SINGLES, began.elapsed()));

    let batches: Vec<_> = (0..count / BULK)
        .map(|_| new_documents(BULK, &blob))
        .collect();
    let began = Instant::now();
    for batch in batches {
        fresh.store.enqueue(batch).await.expect("they are taken");
    }
    figures
        .bulk
        .push(per_second(count / BULK * BULK, began.elapsed()));

    let all = count / BULK * BULK + SINGLES;
    let began = Instant::now();
    processor.start();
    // Asked rather rarely, not to be measured itself.
    let queue = QueueName::default();
    while fresh
        .store
        .stats(&queue)
        .await
        .expect("it answers")
        .counts
        .completed
        < all as u64
    {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    figures.drain.push(per_second(all, began.elapsed()));
    processor.stop().await;
    fresh.end().await;
}

async fn measure_alone(kind: Kind, count: usize, figures: &mut Figures) {
    let fresh = Fresh::new(kind).await;
    fresh.fill(count, &blob()).await;
    let began = Instant::now();
    loop {
        let claims = fresh.store.claim(request(BATCH)).await.expect("it answers");
        if claims.documents.is_empty() {
            break;
        }
        let settlements = claims.documents.iter().map(|document| {
            let lease = document.lifecycle.lease.as_ref();
            Settlement {
                document: document.id,
                lease_id: lease.expect("it was claimed").id,
                outcome: Outcome::Complete,
            }
        });
        let settled = fresh.store.settle(settlements.collect()).await;
        let settled = settled.expect("it answers");
        assert!(
            settled
                .iter()
                .all(|one| *one == Settled::In(State::Completed))
        );
    }
    figures.alone.push(per_second(count, began.elapsed()));
    fresh.end().await;
}

async fn measure_raw(kind: Kind, count: usize, figures: &mut Figures) {
    let mut raw = raw::open(kind).await;
    let began = Instant::now();
    for _ in 0..SINGLES {
        raw.enqueue(1).await;
    }
    figures.single.push(per_second(SINGLES, began.elapsed()));
    let began = Instant::now();
    for _ in 0..count / BULK {
        raw.enqueue(BULK).await;
    }
    figures
        .bulk
        .push(per_second(count / BULK * BULK, began.elapsed()));
    let began = Instant::now();
    let mut drained = 0;
    loop {
        let claimed = raw.claim(BATCH).await;
        if claimed == 0 {
            break;
        }
        drained += claimed;
        raw.complete().await;
    }
    figures.drain.push(per_second(drained, began.elapsed()));
    raw.end().await;
}
