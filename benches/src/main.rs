//! Measures kbqueue's stores beside the raw limit of their databases: the barest statements that move
//! the same rows, through the same driver, with the same durability and batch size.
//!
//! ```text
//! cargo run --release -p kbqueue-benches -- queue
//! cargo run --release -p kbqueue-benches -- latency
//! cargo run --release -p kbqueue-benches -- depth
//! cargo run --release -p kbqueue-benches -- checkpoint
//! cargo run --release -p kbqueue-benches -- extract --corpus ../corpus
//! cargo build --release -p kbqueue-server && cargo run --release -p kbqueue-benches -- http
//! ```
//!
//! Ours and raw take turns in one run, so that a machine whose speed drifts does not favour one. It
//! prints Markdown, and with `--json FILE` writes the same figures there. Ratios mean something on a
//! shared machine; absolute figures mean little.

mod checkpoint;
mod depth;
mod extract;
mod http;
mod latency;
mod noop;
mod queue;
mod raw;
mod report;
mod stores;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use report::Report;
use stores::Kind;

const AFTER_HELP: &str = "PostgreSQL and Redis are started for the run, from the installed binaries, with durable \
settings; benches/README.md says what is measured, and what raw is.";

#[derive(Parser)]
#[command(about, after_help = AFTER_HELP)]
struct Arguments {
    /// What to measure
    bench: Bench,
    /// On which stores, separated by commas
    #[arg(long, value_delimiter = ',', default_values = ["sqlite", "sqlite-normal", "postgres", "redis", "redis-no-aof"])]
    store: Vec<Kind>,
    /// How often each figure is taken; the median is shown
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Documents in a run of `queue`
    #[arg(long, default_value_t = 20_000)]
    documents: usize,
    /// Documents waiting in the deep run of `depth`; 10000000 takes many minutes
    #[arg(long, default_value_t = 1_000_000)]
    depth: usize,
    /// The directory of PDFs for `extract`, in directories by class
    #[arg(long)]
    corpus: Option<PathBuf>,
    /// Write the figures as JSON, too
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Bench {
    /// Enqueue one by one and in bulk, and drain
    Queue,
    /// From enqueue to claim committed
    Latency,
    /// A claim and a status with few and with many documents waiting
    Depth,
    /// Chunks committed under the fence
    Checkpoint,
    /// Text and OCR of the PDFs in a directory, beside raw pdfium and the tesseract command
    Extract,
    /// 200 uploads at once under 500 event streams, against the reference server
    Http,
}

fn main() -> std::io::Result<()> {
    kbqueue_pdf::init();
    extract::run_if_asked();
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    if let Bench::Http = arguments.bench {
        return runtime.block_on(http::run());
    }
    let mut report = Report::default();
    if let Bench::Extract = arguments.bench {
        runtime.block_on(extract::run(&arguments, &mut report));
        return finish(&arguments, &report);
    }
    for kind in &arguments.store {
        runtime.block_on(async {
            match arguments.bench {
                Bench::Queue => queue::run(*kind, &arguments, &mut report).await,
                Bench::Latency => latency::run(*kind, &arguments, &mut report).await,
                Bench::Depth => depth::run(*kind, &arguments, &mut report).await,
                Bench::Checkpoint => checkpoint::run(*kind, &arguments, &mut report).await,
                // They have no stores to choose from.
                Bench::Extract | Bench::Http => {}
            }
        });
    }
    finish(&arguments, &report)
}

fn finish(arguments: &Arguments, report: &Report) -> std::io::Result<()> {
    print!("{}", report.markdown());
    match &arguments.json {
        Some(path) => std::fs::write(path, report.json()),
        None => Ok(()),
    }
}
