//! The PDF extractor beside one process that does nothing but call pdfium, and beside the `tesseract`
//! command, on the documents of a directory.
//!
//! Text goes the whole way: a processor, children, chunks in SQLite. Time is given as it passes and as
//! the processors were busy, all processes together, since on a shared machine the first is noise.

mod pdfium;
mod scans;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kbqueue_core::{
    BlobStore, Dedupe, NewDocument, Processor, ProcessorOptions, QueueName, Store, StoreExt,
};
use kbqueue_pdf::{OcrMode, PdfExtractor, PdfOptions, find_pdfium};

use crate::Arguments;
use crate::report::Report;
use crate::stores::{Fresh, Kind};

pub(crate) use pdfium::run_if_asked;

/// Long enough for starting to be of no account.
const LEAST_PAGES: u32 = 2000;
const MAX_SMALL_PAGES: u32 = 5;
/// What is no measure of speed: it is damaged, locked, or read by OCR.
const OTHER_CLASSES: [&str; 6] = [
    "damaged",
    "encrypted",
    "zeropage",
    "synthetic",
    "scanned",
    "pagesize",
];

/// Time as it passed, and as the processors worked.
#[derive(Clone, Copy)]
struct Took {
    wall: Duration,
    cpu: Duration,
}

struct Sample {
    path: PathBuf,
    pages: u32,
}

/// Measures, and prints what there is.
pub(crate) async fn run(arguments: &Arguments, report: &mut Report) {
    let corpus = arguments.corpus.as_deref();
    let corpus = corpus.expect("`extract` takes --corpus DIR");
    let samples = samples(corpus);
    let long = |sample: &Sample| sample.pages > 50;
    let small = |sample: &Sample| sample.pages <= MAX_SMALL_PAGES;
    for (name, chosen) in [
        ("text of long documents", choose(&samples, long)),
        ("text of small documents", choose(&samples, small)),
    ] {
        text(name, &chosen, arguments, report).await;
    }
    scans::run(corpus, arguments, report).await;
}

/// All documents that count, and how many pages pdfium finds in them.
fn samples(corpus: &Path) -> Vec<Sample> {
    let mut found = Vec::new();
    for class in fs::read_dir(corpus).expect("the corpus is a directory") {
        let class = class.expect("it can be listed").path();
        let other = |name: &str| OTHER_CLASSES.contains(&name);
        if !class.is_dir()
            || class
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(other)
        {
            continue;
        }
        for file in fs::read_dir(class).expect("it can be listed") {
            let path = file.expect("it can be listed").path();
            if path.extension().is_some_and(|extension| extension == "pdf") {
                let pages = pdfium::pages(&path);
                found.extend((pages > 0).then_some(Sample { path, pages }));
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// The chosen documents, all of them as often as it takes for enough pages.
fn choose(samples: &[Sample], wanted: impl Fn(&Sample) -> bool) -> Vec<(PathBuf, u32)> {
    let once: Vec<_> = samples.iter().filter(|sample| wanted(sample)).collect();
    let pages: u32 = once.iter().map(|sample| sample.pages).sum();
    assert!(pages > 0, "the corpus has no such documents");
    let times = LEAST_PAGES.div_ceil(pages) as usize;
    let all = once.iter().cycle().take(once.len() * times);
    all.map(|sample| (sample.path.clone(), sample.pages))
        .collect()
}

async fn text(
    name: &str,
    documents: &[(PathBuf, u32)],
    arguments: &Arguments,
    report: &mut Report,
) {
    let pages: u32 = documents.iter().map(|(_, pages)| pages).sum();
    let paths: Vec<PathBuf> = documents.iter().map(|(path, _)| path.clone()).collect();
    let (mut wall, mut cpu) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for _ in 0..arguments.repeats {
        let ours = through_the_queue(&paths).await;
        let raw = pdfium::text(&paths);
        wall.0.push(f64::from(pages) / ours.wall.as_secs_f64());
        wall.1.push(f64::from(pages) / raw.wall.as_secs_f64());
        cpu.0
            .push(ours.cpu.as_secs_f64() * 1000.0 / f64::from(pages));
        cpu.1
            .push(raw.cpu.as_secs_f64() * 1000.0 / f64::from(pages));
    }
    let of = format!("{name} ({} of them, {pages} pages)", documents.len());
    report.add(
        "SQLite, FULL",
        &of,
        "pages/s",
        &wall.0,
        ("raw pdfium, one process", &wall.1),
    );
    report.add(
        "SQLite, FULL",
        "CPU time of it",
        "ms/page",
        &cpu.0,
        ("raw pdfium", &cpu.1),
    );
}

/// From documents that wait to all of them completed.
async fn through_the_queue(paths: &[PathBuf]) -> Took {
    let fresh = Fresh::new(Kind::SqliteFull).await;
    let blobs = BlobStore::connect(&format!("file:{}", fresh.path().join("blobs").display()));
    let blobs = blobs.expect("there is room");
    for path in paths {
        let blob = blobs.put_file(path).await.expect("there is room");
        let mut document = NewDocument::new(QueueName::default(), blob, "bench.pdf");
        document.dedupe = Dedupe::Off;
        fresh
            .store
            .enqueue_one(document)
            .await
            .expect("it is taken");
    }
    let mut options = PdfOptions::new(find_pdfium().expect("there is a library"));
    (options.images, options.ocr) = (false, OcrMode::Off);
    let extractor = PdfExtractor::new(options).expect("it starts");
    let processor = Processor::new(
        Arc::clone(&fresh.store) as Arc<dyn Store>,
        blobs,
        Arc::new(extractor),
        ProcessorOptions::default(),
    );
    let (began, busy) = (Instant::now(), cpu_time());
    processor.start();
    let queue = QueueName::default();
    loop {
        let counts = fresh.store.stats(&queue).await.expect("it answers").counts;
        if counts.completed == paths.len() as u64 {
            break;
        }
        assert_eq!(counts.failed, 0, "a document cannot be read");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let took = Took {
        wall: began.elapsed(),
        cpu: cpu_time() - busy,
    };
    processor.stop().await;
    drop(processor);
    fresh.end().await;
    took
}

/// How long a command takes.
fn timed(command: &mut Command) -> (Took, Vec<u8>) {
    let (began, busy) = (Instant::now(), cpu_time());
    let output = command.output().expect("it can be started");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let took = Took {
        wall: began.elapsed(),
        cpu: cpu_time() - busy,
    };
    (took, output.stdout)
}

/// The processor time that this process has had, and all that come from it, those that have ended as
/// well.
fn cpu_time() -> Duration {
    let mut parents = HashMap::new();
    let mut ticks = HashMap::new();
    for entry in fs::read_dir("/proc").expect("this is Linux") {
        let entry = entry.expect("it can be listed");
        let id = entry
            .file_name()
            .to_str()
            .and_then(|id| id.parse::<u32>().ok());
        let stat = fs::read_to_string(entry.path().join("stat"));
        // Others come and go.
        let (Some(id), Ok(stat)) = (id, stat) else {
            continue;
        };
        let (_, fields) = stat.rsplit_once(") ").expect("the name is in parentheses");
        let fields: Vec<&str> = fields.split(' ').collect();
        let field = |number: usize| fields[number - 3].parse::<u64>().unwrap_or(0);
        parents.insert(id, u32::try_from(field(4)).unwrap_or(0));
        ticks.insert(id, (14..=17).map(field).sum::<u64>());
    }
    let own = std::process::id();
    let is_of_us = |id: u32| {
        let mut line = std::iter::successors(Some(id), |id| parents.get(id).copied());
        line.any(|id| id == own)
    };
    let ours = ticks.iter().filter(|(id, _)| is_of_us(**id));
    Duration::from_millis(ours.map(|(_, ticks)| ticks * 10).sum())
}

fn open(path: &Path) -> (File, u64) {
    let file = File::open(path).expect("it can be read");
    let size = file.metadata().expect("it is a file").len();
    (file, size)
}
