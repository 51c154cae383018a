//! The PDF extractor of kbqueue: text page by page, through [pdfium](https://pdfium.googlesource.com/pdfium/).
//!
//! ```no_run
//! use kbqueue_pdf::{PdfExtractor, PdfOptions};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     kbqueue_pdf::init();
//!     let pdfium = kbqueue_pdf::find_pdfium()?;
//!     let extractor = PdfExtractor::new(PdfOptions::new(pdfium))?;
//!     // … hand it to a processor.
//!     # drop(extractor);
//!     Ok(())
//! }
//! ```
//!
//! # What comes out
//! Of each page: the text that a reader sees, in the order of the document's text layer, without what
//! lies outside the visible part of the page, with a blank line between paragraphs; its label; the
//! heading of the outline under which it falls; and its pictures. Of the document: title, author,
//! subject, keywords, creator, producer, creation_date and modification_date, as far as it has them,
//! and `repaired` where the file was damaged.
//!
//! Pictures of at least 32 pixels and 24 points are given, also those within forms, up to 200 a page:
//! a JPEG of gray or RGB as it is, all others as PNG of at most 12 million pixels with their masks
//! applied; strips and tiles that touch as one. A picture's box is in points from the top left corner
//! of the page as it is shown. Its caption is the line beside it that begins like `Figure 1`, or the
//! alternative text of a tagged document.
//!
//! A page's `reason` tells why its text comes from where it does: `text_layer`, `hidden_text_layer`
//! (a scan with text laid over it), `no_text`, `failed`; and, where its pixels have to be read: `scan`,
//! `pictures` (beside text), `unreadable_font`, `poor_hidden_text`, `outlined_text`.
//!
//! A file that pdfium cannot open, or in which it finds no page, is searched for objects from end to
//! end, and what leads to the pages is written anew in memory.
//!
//! # Hostile documents
//! pdfium is C++, and documents come from strangers. So this process never loads pdfium. Each document
//! is read by child processes of its own, and one that crashes, hangs or uses up memory ends such a
//! child and nothing else:
//!
//! - The page is tried once more, alone in a fresh child. Should that die as well, the page is
//!   delivered with the cause as its failure, and the document goes on; with
//!   [`strict`](PdfOptions::strict), the document fails.
//! - A page has [`page_timeout`](PdfOptions::page_timeout), a child [`memory_bytes`](PdfOptions::memory_bytes).
//! - Dropping the future or the stream kills the children; they die with this process, too.
//! - What they send is taken for what a stranger says: bounded, checked, and refused where it makes no
//!   sense.
//!
//! On Linux, children are behind walls before they read a byte. They get the document as an open file
//! and find nothing else: no files, no network, no other processes (landlock, and a filter of system
//! calls), and limits on memory and CPU time. A layer that the kernel lacks is left out, and
//! [`PdfExtractor::isolation`] tells which are there. **On other systems than Linux, children are
//! processes like any other**, with limits alone: a document that takes over pdfium can do there what
//! this program can.
//!
//! # Processes
//! Children are this program's executable, started again: hence [`init`]. It is started once, as a
//! template that loads pdfium and waits; children are forks of it, which take a millisecond. They share
//! its memory layout, so that address randomisation is per template, not per document.
//!
//! Pages that take OCR are left to the children of a second template, which has tesseract's languages in
//! memory as well: a fork of it costs several times as much, and most documents need none. Tesseract adapts
//! to the letters of what it reads, and does so for one document: each has children of its own.
//!
//! At most one child a core runs at any time, over all documents. A small document has one; a large one
//! is read by several where cores are idle; where there are more documents than cores they take
//! turns. Pages wait for their consumer in a window of 64 pages and a few megabytes, so that memory
//! stays flat however large the document is. The file is read block by block.
//!
//! The extractor needs a tokio runtime with I/O and time enabled.
//!
//! # What it does not do yet
//! Fonts that a document does not embed are replaced by pdfium's own: children cannot open the
//! system's.

#[cfg(not(unix))]
compile_error!("kbqueue-pdf passes open files between processes, which takes a Unix");

mod child;
mod control;
mod death;
mod error;
mod extractor;
#[cfg(feature = "hostile")]
#[doc(hidden)]
pub mod hostile;
mod isolation;
mod locate;
mod options;
mod pool;
mod protocol;

use std::env;
use std::sync::atomic::{AtomicBool, Ordering};

pub use error::PdfError;
pub use extractor::PdfExtractor;
pub use isolation::Isolation;
pub use locate::{NotFound, find_pdfium};
pub use options::{OcrMode, PdfOptions};

use child::raw::Library;
use child::{serve, template};
use control::Part;

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// Must be the first line of every `main` that uses this crate, before any thread or runtime.
///
/// The processes that read pages are this executable, started again: in one of them this function
/// does that work and does not return. Everywhere else it returns at once.
pub fn init() {
    if let Some((setup, host)) = control::Setup::from_args(env::args_os().skip(1))
        && control::has_host()
    {
        template::run(setup, host, |setup| {
            let library = Library::load(&setup.pdfium);
            let library = library.map_err(|error| (Part::Pdfium, error.to_string()))?;
            let wanted = serve::wanted(&setup.wanted).map_err(|reason| (Part::Ocr, reason))?;
            Ok(serve::pdfs(library, wanted))
        });
    }
    set_initialised();
}

fn set_initialised() {
    INITIALISED.store(true, Ordering::Relaxed);
}

fn is_initialised() -> bool {
    INITIALISED.load(Ordering::Relaxed)
}
