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
//! # What it takes
//! The file is read block by block, never as a whole, and the pages wait for their consumer in a
//! window of a few, so that memory stays flat however large the document is.
//!
//! pdfium is not thread-safe. One thread owns it, for the whole process; documents that are
//! extracted at the same time take turns on it, page by page.
//!
//! # What it does not do yet
//! **There is no isolation.** pdfium runs within this process: a document that crashes it, or makes
//! it use up all memory, takes the process with it, and a page that it does not finish holds up all
//! documents. Until pages are read in sandboxed children, hand it documents that you trust, or a
//! process of its own.

mod child;
mod error;
mod extractor;
mod locate;
mod options;
mod worker;

pub use error::PdfError;
pub use extractor::PdfExtractor;
pub use locate::{NotFound, find_pdfium};
pub use options::PdfOptions;

/// Must be the first line of every `main` that uses this crate, before any thread or runtime.
///
/// The processes that read pages will be this executable, started again: in one of them this
/// function will do that work and not return. It does nothing yet.
pub fn init() {}
