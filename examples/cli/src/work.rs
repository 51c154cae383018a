//! `kbq work`.

use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use kbqueue::pdf::{OcrMode, PdfExtractor, PdfOptions, find_pdfium};
use kbqueue::queue::StateCounts;
use kbqueue::{ChunkOptions, Processor, ProcessorOptions, Store, StoreError};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{Failure, Place};

#[derive(Args)]
#[command(
    after_help = "Unfinished documents are released on Ctrl-C, and go on where they were.\n\n\
                  Examples:\n  kbq work\n  kbq work --drain --concurrency 2"
)]
pub(crate) struct Options {
    /// End when nothing is queued or being processed any more
    #[arg(long)]
    drain: bool,

    /// Documents processed at once [default: the number of cores]
    #[arg(long, env = "KBQUEUE_CONCURRENCY", value_name = "N")]
    concurrency: Option<NonZeroUsize>,

    /// How often an error is tried again
    #[arg(
        long,
        env = "KBQUEUE_MAX_RETRIES",
        default_value_t = 3,
        value_name = "N"
    )]
    max_retries: u32,

    /// Characters that a chunk has at least, where its document has them
    #[arg(
        long,
        env = "KBQUEUE_CHUNK_MIN",
        default_value_t = 1000,
        value_name = "CHARS"
    )]
    chunk_min: u32,

    /// Characters that a chunk has at most
    #[arg(
        long,
        env = "KBQUEUE_CHUNK_MAX",
        default_value_t = 2000,
        value_name = "CHARS"
    )]
    chunk_max: u32,

    /// Characters that a chunk repeats of the one before, at most
    #[arg(
        long,
        env = "KBQUEUE_CHUNK_OVERLAP",
        default_value_t = 0,
        value_name = "CHARS"
    )]
    chunk_overlap: u32,

    /// Which pages are read by OCR: off, auto (those whose text is missing or broken), or always
    #[arg(long, env = "KBQUEUE_OCR", default_value = OCR, value_parser = ocr, value_name = "MODE")]
    ocr: OcrMode,

    /// Languages that OCR looks for, by tesseract's names, separated by commas
    #[arg(
        long,
        env = "KBQUEUE_OCR_LANGUAGES",
        default_value = "eng",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    ocr_languages: Vec<String>,
}

/// What a build without OCR can do is off.
const OCR: &str = if cfg!(feature = "ocr") { "auto" } else { "off" };

fn ocr(word: &str) -> Result<OcrMode, &'static str> {
    OcrMode::parse(word).ok_or("use off, auto or always")
}

/// Works until Ctrl-C or SIGTERM, or until the queues are empty; then it fails where a document did.
pub(crate) async fn work(place: &Place, options: &Options) -> Result<(), Failure> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let processing = options.processing(place)?;
    let store = place.store().await?;
    let pdfium = find_pdfium().map_err(|error| Failure::about("no PDFs", &error))?;
    let mut pdf = PdfOptions::new(pdfium);
    pdf.ocr = options.ocr;
    pdf.ocr_languages.clone_from(&options.ocr_languages);
    let extractor = PdfExtractor::new(pdf).map_err(|error| Failure::about("no PDFs", &error))?;
    let processor = Processor::new(
        store.clone(),
        place.blobs()?,
        Arc::new(extractor),
        processing,
    );

    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| Failure::about("no signals", &error))?;
    let failed_before = counts(&*store, place).await?.failed;
    let mut result = Ok(());
    processor
        .run(async {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
                drained = drained(&*store, place), if options.drain => result = drained,
            }
        })
        .await;
    result?;
    let failed = counts(&*store, place)
        .await?
        .failed
        .saturating_sub(failed_before);
    match failed {
        0 => Ok(()),
        _ => Err(Failure::Told(format!(
            "{failed} documents failed; kbq status says why"
        ))),
    }
}

impl Options {
    fn processing(&self, place: &Place) -> Result<ProcessorOptions, Failure> {
        let mut processing = ProcessorOptions::default();
        processing.queues.clone_from(&place.queue);
        processing.retry.max_retries = self.max_retries;
        if let Some(concurrency) = self.concurrency {
            processing.concurrency = concurrency.get();
        }
        processing.chunking = ChunkOptions::new(self.chunk_min, self.chunk_max, self.chunk_overlap)
            .map_err(|error| Failure::Told(error.to_string()))?;
        processing.secret_key.clone_from(&place.secret_key);
        Ok(processing)
    }
}

async fn drained(store: &dyn Store, place: &Place) -> Result<(), Failure> {
    loop {
        let counts = counts(store, place).await?;
        if counts.queued + counts.processing == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn counts(store: &dyn Store, place: &Place) -> Result<StateCounts, StoreError> {
    let mut all = StateCounts::default();
    for queue in &place.queue {
        let counts = store.stats(queue).await?.counts;
        all.queued += counts.queued;
        all.processing += counts.processing;
        all.failed += counts.failed;
    }
    Ok(all)
}
