//! Whoever stops listening leaves nothing open. Counted in `/proc`, hence Linux only.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Pdf, extractor};
use futures::{FutureExt, StreamExt};
use kbqueue_core::extract::ExtractRequest;
use kbqueue_core::{DocumentId, Extractor};

struct Stored {
    path: PathBuf,
    size_bytes: u64,
    _dir: tempfile::TempDir,
}

fn stored(bytes: &[u8]) -> Stored {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap().join("a.pdf");
    fs::write(&path, bytes).unwrap();
    Stored {
        path,
        size_bytes: bytes.len() as u64,
        _dir: dir,
    }
}

impl Stored {
    fn request(&self) -> ExtractRequest {
        let file = File::open(&self.path).unwrap();
        ExtractRequest::new(DocumentId::new(), file, self.size_bytes)
    }
}

fn descriptors_of(path: &Path) -> usize {
    fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter(|entry| {
            let link = entry.as_ref().unwrap().path();
            fs::read_link(link).is_ok_and(|target| target == path)
        })
        .count()
}

/// Closing happens on pdfium's thread, a moment later.
async fn closes(path: &Path) {
    let start = Instant::now();
    while descriptors_of(path) > 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "still open");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn many_pages() -> Stored {
    stored(&Pdf::of(&["page"; 200]).bytes())
}

#[tokio::test]
async fn a_stream_that_was_read_to_its_end_closes_the_file() {
    let document = many_pages();
    let extraction = extractor().extract(document.request()).await.unwrap();
    assert_eq!(descriptors_of(&document.path), 1);
    assert_eq!(extraction.pages.count().await, 200);
    closes(&document.path).await;
}

#[tokio::test]
async fn a_dropped_stream_closes_the_file() {
    let document = many_pages();
    let mut extraction = extractor().extract(document.request()).await.unwrap();
    extraction.pages.next().await.unwrap().unwrap();
    assert_eq!(descriptors_of(&document.path), 1);
    drop(extraction);
    closes(&document.path).await;
}

#[tokio::test]
async fn a_dropped_future_closes_the_file() {
    let document = many_pages();
    let extractor = extractor();
    for _ in 0..20 {
        // Polled once, so that the file is on its way, and given up.
        let opening = extractor.extract(document.request()).now_or_never();
        drop(opening);
    }
    closes(&document.path).await;
}

#[tokio::test]
async fn a_refused_document_closes_the_file() {
    let document = stored(b"%PDF-1.7 and nothing else");
    extractor().extract(document.request()).await.unwrap_err();
    closes(&document.path).await;
}
