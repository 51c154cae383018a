//! How fast chunks are committed under the fence.

use std::time::{Duration, Instant};

use kbqueue_core::lifecycle::Cursor;
use kbqueue_core::store::{Checkpoint, Directive};
use kbqueue_core::{Chunk, Progress};

use crate::Arguments;
use crate::raw;
use crate::report::Report;
use crate::stores::{Fresh, Kind, blob, request};

const CHECKPOINTS: u32 = 50;
const CHUNKS: u32 = 100;
const LEASE: Duration = Duration::from_secs(600);

pub(crate) async fn run(kind: Kind, arguments: &Arguments, report: &mut Report) {
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    let per_second = |took: Duration| f64::from(CHECKPOINTS * CHUNKS) / took.as_secs_f64();
    for _ in 0..arguments.repeats {
        ours.push(per_second(measure_ours(kind).await));
        raw.push(per_second(measure_raw(kind).await));
    }
    report.add(
        kind.name(),
        "chunks, 100 a checkpoint",
        "/s",
        &ours,
        ("raw", &raw),
    );
}

fn text() -> String {
    "The quick brown fox jumps over the lazy dog. ".repeat(33)
}

async fn measure_ours(kind: Kind) -> Duration {
    let fresh = Fresh::new(kind).await;
    fresh.fill(1, &blob()).await;
    let document = fresh
        .store
        .claim(request(1))
        .await
        .expect("it answers")
        .documents
        .remove(0);
    let lease_id = document
        .lifecycle
        .lease
        .as_ref()
        .expect("it was claimed")
        .id;
    let mut checkpoints = Vec::new();
    for number in 1..=CHECKPOINTS {
        let cursor = Cursor {
            number: number.into(),
            pages: number,
            chunks: number * CHUNKS,
            ..Cursor::default()
        };
        let mut checkpoint =
            Checkpoint::new(document.id, lease_id, LEASE, cursor, Progress::default());
        checkpoint.chunks = (0..CHUNKS)
            .map(|index| Chunk {
                ordinal: (number - 1) * CHUNKS + index,
                text: text(),
                first_page: number,
                last_page: number,
                start_offset: 0,
                end_offset: 1485,
                section: None,
            })
            .collect();
        checkpoints.push(checkpoint);
    }
    let began = Instant::now();
    for checkpoint in checkpoints {
        let answer = fresh
            .store
            .checkpoint(checkpoint)
            .await
            .expect("it answers");
        assert_eq!(answer, Directive::Continue);
    }
    let took = began.elapsed();
    fresh.end().await;
    took
}

async fn measure_raw(kind: Kind) -> Duration {
    let mut raw = raw::open(kind).await;
    raw.enqueue(1).await;
    raw.claim(1).await;
    let texts = vec![text(); CHUNKS as usize];
    let began = Instant::now();
    for _ in 0..CHECKPOINTS {
        raw.write_chunks(&texts).await;
    }
    let took = began.elapsed();
    raw.end().await;
    took
}
