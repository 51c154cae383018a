//! One document being read: its pages as a stream, and those who work on it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, Stream};
use kbqueue_core::extract::ExtractedPage;
use kbqueue_core::{ExtractError, Properties};
use tokio::task::JoinSet;

use super::budget;
use super::child::{Opened, Skill, Source};
use super::window::Window;
use super::worker::Worker;

/// Work given to a child at once takes about so long: long enough for asking to cost nothing, short
/// enough for all cores to be busy to the end.
const RANGE_MICROS: u64 = 25_000;
const MAX_RANGE_PAGES: u64 = 16;
/// A page of text, until it is known better, and …
const TEXT_TIME: Duration = Duration::from_micros(1500);
/// … one that takes OCR.
pub(super) const OCR_TIME: Duration = Duration::from_millis(500);
/// Below so much work another child costs more than it brings.
const HELP_MICROS: u64 = 15_000;

#[derive(Debug)]
pub(crate) struct Document {
    pub(super) source: Arc<Source>,
    pub(super) window: Window,
    pub(super) total_pages: u32,
    workers: AtomicUsize,
    /// What a page takes, lately.
    page_micros: AtomicU64,
    tasks: Mutex<JoinSet<()>>,
}

/// What is known once a document is open.
pub(crate) struct Reading {
    pub(crate) total_pages: u32,
    pub(crate) properties: Properties,
    document: Arc<Document>,
}

/// Opens a document, as soon as there is a child to be had, and begins to read at `first_page`.
pub(crate) async fn read(source: Source, first_page: u32) -> Result<Reading, ExtractError> {
    let slot = budget::slot().await;
    let source = Arc::new(source);
    let Opened {
        child,
        total_pages,
        properties,
    } = source.open(source.skill).await?;
    let page_time = match source.skill {
        Skill::Text => TEXT_TIME,
        Skill::Ocr => OCR_TIME,
    };
    let document = Arc::new(Document {
        source,
        window: Window::new(first_page.max(1), total_pages),
        total_pages,
        workers: AtomicUsize::new(0),
        page_micros: AtomicU64::new(micros(page_time)),
        tasks: Mutex::default(),
    });
    document.employ(|document| Worker::first(document, slot, child));
    document.recruit();
    Ok(Reading {
        total_pages,
        properties,
        document,
    })
}

impl Reading {
    /// The pages. Dropping the stream ends all work on the document at once.
    pub(crate) fn pages(
        self,
    ) -> impl Stream<Item = Result<ExtractedPage, ExtractError>> + Send + 'static {
        let open = Some(Closes(self.document));
        stream::unfold(open, async |open| {
            let open = open?;
            let page = open.0.window.next().await?;
            // An error ends the attempt: nothing follows it.
            let open = page.is_ok().then_some(open);
            Some((page, open))
        })
    }
}

/// Ends the work on a document when dropped.
struct Closes(Arc<Document>);

impl Drop for Closes {
    fn drop(&mut self) {
        // The children first, by hand: the runtime drops the tasks when it gets to it.
        self.0.source.close();
        self.0.tasks().abort_all();
    }
}

impl Document {
    fn tasks(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn employ(self: &Arc<Self>, worker: impl FnOnce(Arc<Self>) -> Worker) {
        self.workers.fetch_add(1, Ordering::Relaxed);
        let worker = worker(Arc::clone(self));
        let watched = Watched(Arc::clone(self));
        self.tasks().spawn(async move {
            let _watched = watched;
            worker.run().await;
        });
    }

    /// Puts idle cores to work, where there is enough of it.
    pub(super) fn recruit(self: &Arc<Self>) {
        while self.workers.load(Ordering::Relaxed) < *budget::CORES
            && u64::from(self.window.unassigned()) * self.page_micros() >= HELP_MICROS
            && let Some(slot) = budget::spare_slot()
        {
            self.employ(|document| Worker::helper(document, slot));
        }
    }

    /// How many pages to ask a child for.
    pub(super) fn range_pages(&self) -> u32 {
        let by_time = (RANGE_MICROS / self.page_micros()).clamp(1, MAX_RANGE_PAGES);
        // So that nobody is left with a long range when the others are done.
        let workers = u64::try_from(self.workers.load(Ordering::Relaxed)).unwrap_or(1);
        let by_share = u64::from(self.window.unassigned()) / (2 * workers.max(1));
        u32::try_from(by_time.min(by_share).max(1)).expect("at most MAX_RANGE_PAGES")
    }

    /// Takes note of how long so many pages took.
    pub(super) fn took(&self, pages: u32, time: Duration) {
        let lately = micros(time) / u64::from(pages.max(1));
        // Two workers may do this at once; it is an estimate.
        let smoothed = u64::midpoint(self.page_micros(), lately);
        self.page_micros.store(smoothed.max(1), Ordering::Relaxed);
    }

    fn page_micros(&self) -> u64 {
        self.page_micros.load(Ordering::Relaxed)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Counts a worker out, and has the consumer told if it ends in a panic.
struct Watched(Arc<Document>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.workers.fetch_sub(1, Ordering::Relaxed);
        if std::thread::panicking() {
            self.0.window.give_up();
        }
    }
}
