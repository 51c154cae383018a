//! How fast documents go in, and through.

use std::time::{Duration, Instant};

use kbqueue_core::{QueueName, StoreExt};

use crate::Arguments;
use crate::noop;
use crate::raw::{Raw, rows, rusqlite};
use crate::report::Report;
use crate::stores::{Fresh, Kind, new_documents};

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
        measure_raw(kind, count, &mut raw).await;
        barest
            .bulk
            .push(per_second(count, rusqlite::enqueue(kind, count, BULK)));
        barest
            .drain
            .push(per_second(count, rusqlite::drain(kind, count, BATCH)));
    }
    let name = kind.name();
    let sqlx = "raw sqlx";
    report.add(name, "enqueue one", "/s", &ours.single, (sqlx, &raw.single));
    report.add(
        name,
        "enqueue, 1000 a call",
        "/s",
        &ours.bulk,
        (sqlx, &raw.bulk),
    );
    report.add(
        name,
        "enqueue, 1000 a call",
        "/s",
        &ours.bulk,
        ("barest rusqlite", &barest.bulk),
    );
    report.add(
        name,
        "drain, 500 slots",
        "/s",
        &ours.drain,
        (sqlx, &raw.drain),
    );
    report.add(
        name,
        "drain, 500 slots",
        "/s",
        &ours.drain,
        ("barest rusqlite", &barest.drain),
    );
}

#[derive(Default)]
struct Figures {
    single: Vec<f64>,
    bulk: Vec<f64>,
    drain: Vec<f64>,
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
}

async fn measure_raw(kind: Kind, count: usize, figures: &mut Figures) {
    let mut raw = Raw::new(kind).await;
    let batches: Vec<_> = (0..SINGLES).map(|_| rows(1)).collect();
    let began = Instant::now();
    for batch in &batches {
        raw.enqueue(batch).await;
    }
    figures.single.push(per_second(SINGLES, began.elapsed()));
    let batches: Vec<_> = (0..count / BULK).map(|_| rows(BULK)).collect();
    let began = Instant::now();
    for batch in &batches {
        raw.enqueue(batch).await;
    }
    figures
        .bulk
        .push(per_second(count / BULK * BULK, began.elapsed()));
    let began = Instant::now();
    let mut drained = 0;
    loop {
        let claimed = raw.claim(BATCH).await;
        if claimed.is_empty() {
            break;
        }
        drained += claimed.len();
        raw.complete(&claimed).await;
    }
    figures.drain.push(per_second(drained, began.elapsed()));
}
