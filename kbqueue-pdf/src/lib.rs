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
//! lies outside the visible part of the page; its label; and the heading of the outline under which
//! it falls. Of the document: title, author, subject, keywords, creator, producer, creation_date and
//! modification_date, as far as it has them. Pages without a text layer come out empty.
//!
//! # How it is read
//! DOCS

#[cfg(not(unix))]
compile_error!("kbqueue-pdf passes open files between processes, which takes a Unix");

mod child;
mod control;
mod death;
mod error;
mod extractor;
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
pub use options::PdfOptions;

use child::raw::Library;
use child::{serve, template};

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
            let library = Library::load(&setup.pdfium).map_err(|error| error.to_string())?;
            Ok(serve::pdfs(library))
        });
    }
    INITIALISED.store(true, Ordering::Relaxed);
}

fn is_initialised() -> bool {
    INITIALISED.load(Ordering::Relaxed)
}
