//! How fast chunks are committed under the fence.

use std::time::{Duration, Instant};

use kbqueue_core::lifecycle::Cursor;
use kbqueue_core::store::{Checkpoint, ClaimRequest, Directive, Worker, WorkerId};
use kbqueue_core::{BlobRef, Chunk, LeaseId, Progress, QueueName};

use crate::Arguments;
use crate::raw::Raw;
use crate::report::Report;
use crate::stores::{Fresh, Kind};

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
        ("raw sqlx", &raw),
    );
}

fn text() -> String {
    "The quick brown fox jumps over the lazy dog. ".repeat(33)
}

async fn measure_ours(kind: Kind) -> Duration {
    let fresh = Fresh::new(kind).await;
    fresh
        .fill(
            1,
            &BlobRef {
                sha256: "0".repeat(64),
                size_bytes: 1,
            },
        )
        .await;
    let worker = Worker {
        id: WorkerId(LeaseId::random().0),
        name: "bench".to_owned(),
        queues: vec![QueueName::default()],
    };
    let request = ClaimRequest::new(worker, 1, LEASE, "noop/1".to_owned());
    let document = fresh
        .store
        .claim(request)
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
    began.elapsed()
}

async fn measure_raw(kind: Kind) -> Duration {
    let mut raw = Raw::new(kind).await;
    raw.make_chunks().await;
    let texts = vec![text(); CHUNKS as usize];
    let began = Instant::now();
    for _ in 0..CHECKPOINTS {
        raw.write_chunks(&texts).await;
    }
    began.elapsed()
}
