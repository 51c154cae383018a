//! Children that attack on purpose (`child.rs`): each is contained and named, and the next page comes.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod attacks;
mod lives;

use std::fs::{self, File};
use std::io::Write;
use std::time::Duration;

use futures::StreamExt;
use kbqueue_core::extract::{ExtractRequest, ExtractedPage};
use kbqueue_core::{DocumentId, ExtractError, Extraction, Extractor};
use kbqueue_pdf::hostile::{Walls, set_walls};
use kbqueue_pdf::{OcrMode, PdfExtractor, PdfOptions};

/// No child of these tests is late before that, unless it means to.
const PATIENCE: Duration = Duration::from_secs(60);

fn options(walls: Walls) -> PdfOptions {
    // Any readable file: this child loads none.
    let mut options = PdfOptions::new(env!("CARGO_BIN_EXE_hostile-child"));
    options.child = Some(env!("CARGO_BIN_EXE_hostile-child").into());
    options.page_timeout = PATIENCE;
    options.ocr = OcrMode::Off;
    options.memory_bytes = 256 << 20;
    set_walls(&mut options, walls);
    options
}

fn script(lines: &[&str]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(lines.join("\n").as_bytes()).unwrap();
    file
}

/// Opens a document whose opening and pages do these things.
async fn open(options: PdfOptions, lines: &[&str]) -> Result<Extraction, ExtractError> {
    let file = script(lines);
    let size_bytes = file.metadata().unwrap().len();
    let request = ExtractRequest::new(DocumentId::new(), file, size_bytes);
    PdfExtractor::new(options).unwrap().extract(request).await
}

async fn pages(options: PdfOptions, lines: &[&str]) -> Vec<ExtractedPage> {
    let extraction = open(options, lines).await.unwrap();
    extraction.pages.map(Result::unwrap).collect().await
}

/// What becomes of a page with this content, whose neighbours have to be well.
async fn page(options: PdfOptions, line: &str) -> ExtractedPage {
    let mut pages = pages(options, &["ok", "ok", line, "ok"]).await;
    let numbers: Vec<u32> = pages.iter().map(|page| page.number).collect();
    assert_eq!(numbers, [1, 2, 3], "{line}");
    for neighbour in [&pages[0], &pages[2]] {
        assert_eq!(
            (neighbour.text.as_str(), &neighbour.failure),
            ("done", &None),
            "{line}"
        );
    }
    pages.swap_remove(1)
}

/// The processes whose parent is `parent`.
fn children_of(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap();
    let ids = processes.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    ids.filter(|id| parent_of(*id) == Some(parent)).collect()
}

/// `None` for a process that has ended, if only just.
fn parent_of(id: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z").then_some(parent)
}

/// This process's template with this page timeout, by which tests tell theirs apart.
fn template_of(options: &PdfOptions) -> u32 {
    let memory = options.memory_bytes.to_string();
    let of = |id: &u32| {
        let arguments = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        arguments
            .split(|byte| *byte == 0)
            .any(|argument| argument == memory.as_bytes())
    };
    let mine: Vec<u32> = children_of(std::process::id())
        .into_iter()
        .filter(of)
        .collect();
    assert_eq!(mine.len(), 1, "{mine:?}");
    mine[0]
}

/// Waits for something that happens in another process.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "not yet: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
