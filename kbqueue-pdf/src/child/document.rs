//! One open document: checks, pages, and the errors that people read.

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::rc::Rc;

use kbqueue_core::extract::ExtractedPage;
use kbqueue_core::{ExtractError, Password, Properties};

use super::images::Images;
use super::info::{self, Outline};
use super::page::{self, ReadPage, Wanted};
use super::raw::{Document, Library, OpenFailure};
use super::repair::repair;
use super::source::Source;
use super::text;
use crate::protocol::MAX_PAGES;

const HEADER: &[u8] = b"%PDF-";
const HEADER_WITHIN_BYTES: usize = 1024;
const MAX_LABEL_CHARS: usize = 100;

// pdfium keeps every object and stream that a page touched until the document is closed, so it is
// opened again after so many bytes or pages. For the pages alone not more than so many times, since
// the first page behind it costs a walk over all pages before.
const REOPEN_AFTER_BYTES: u64 = 16 << 20;
const REOPEN_AFTER_PAGES: u32 = 50;
const REOPEN_AT_MOST: u32 = 20;

/// A document that gives its pages, in any order.
pub(crate) struct OpenDocument {
    library: Library,
    source: Rc<Source>,
    password: Option<Password>,
    document: Document,
    outline: Outline,
    images: Images,
    wanted: Wanted,
    total_pages: u32,
    repaired: bool,
    /// What opening it cost, and how far the source was read then.
    opening_bytes: u64,
    opened_at_bytes: u64,
    pages_since: u32,
}

impl OpenDocument {
    /// Opens the PDF in the first `size_bytes` of `file`, with `password` where it takes one. A
    /// damaged one is repaired in memory, as far as pages are left of it.
    pub(crate) fn open(
        library: Library,
        file: File,
        size_bytes: u64,
        password: Option<&Password>,
        wanted: Wanted,
    ) -> Result<Self, ExtractError> {
        let mut source = Rc::new(Source::new(file, size_bytes));
        let header = find_header(&source)?;
        let mut before = source.bytes_read();
        let mut opened = try_open(library, &source, password)?;
        let mut repaired = false;
        if is_damaged(&opened)
            && let Some(whole) = repair(source.from(header)).map_err(unreadable)?
        {
            source = Rc::new(whole);
            before = 0;
            opened = try_open(library, &source, password)?;
            repaired = true;
        }
        let document = opened.map_err(|failure| refused(failure, password.is_some()))?;
        let total_pages = total_pages(document.page_count())?;
        let outline = Outline::read(&document);
        let opened_at_bytes = source.bytes_read();
        Ok(Self {
            library,
            password: password.cloned(),
            document,
            outline,
            images: Images::default(),
            wanted,
            total_pages,
            repaired,
            opening_bytes: opened_at_bytes - before,
            opened_at_bytes,
            pages_since: 0,
            source,
        })
    }

    pub(crate) fn total_pages(&self) -> u32 {
        self.total_pages
    }

    pub(crate) fn properties(&self) -> Properties {
        let mut properties = info::properties(&self.document);
        if self.repaired {
            let (name, value) = (Properties::REPAIRED.to_owned(), "true".to_owned());
            properties.0.insert(name, value);
        }
        properties
    }

    /// Reads the page `number`, from 1. `None`: it takes OCR, which is to be had elsewhere. A page
    /// that cannot be read says so in its `failure`; an error means that the file could not be read.
    pub(crate) fn page(&mut self, number: u32) -> Result<Option<ExtractedPage>, ExtractError> {
        self.reopen_when_due();
        self.pages_since += 1;
        let index = number - 1;
        let c_index = c_int::try_from(index).expect("a document has at most MAX_PAGES pages");
        let read = page::read(&self.document, c_index, &mut self.images, &self.wanted);
        let label = self.document.page_label(c_index);
        if let Some(error) = self.source.take_failure() {
            return Err(unreadable(error));
        }
        let (read, failure) = match read {
            Ok(Some(read)) => (read, None),
            Ok(None) => return Ok(None),
            Err(cause) => (ReadPage::failed(), Some(format!("page {number} {cause}"))),
        };
        Ok(Some(ExtractedPage {
            number,
            label: label.and_then(|raw| text::one_line(&raw, MAX_LABEL_CHARS)),
            section: self.outline.section(index).map(str::to_owned),
            provenance: read.provenance,
            text: read.text,
            failure,
            images: read.images,
        }))
    }

    /// Opens the document again once it holds much, so that memory stays flat.
    fn reopen_when_due(&mut self) {
        let read = self.source.bytes_read() - self.opened_at_bytes;
        let pages = REOPEN_AFTER_PAGES.max(self.total_pages / REOPEN_AT_MOST);
        let due = self.pages_since >= pages || read >= REOPEN_AFTER_BYTES;
        // Where opening reads much (a damaged file is searched from end to end), the pages have to
        // be worth it.
        if !due || read < self.opening_bytes {
            return;
        }
        // If it fails, the old one still serves.
        if let Ok(document) = Document::open(self.library, &self.source, self.password.as_ref()) {
            self.document = document;
        }
        self.opened_at_bytes = self.source.bytes_read();
        self.pages_since = 0;
    }
}

/// Where the document begins in its file.
fn find_header(source: &Source) -> Result<u64, ExtractError> {
    if source.len() == 0 {
        return Err(ExtractError::permanent("the file is empty"));
    }
    let start = source.bytes(0, HEADER_WITHIN_BYTES).map_err(unreadable)?;
    let found = start
        .windows(HEADER.len())
        .position(|bytes| bytes == HEADER);
    match found {
        Some(position) => Ok(position as u64),
        None => Err(ExtractError::permanent(format!(
            "not a PDF{}: there is no %PDF- header in its first 1,024 bytes",
            what_else(&start)
        ))),
    }
}

/// What a file that is no PDF seems to be.
fn what_else(start: &[u8]) -> &'static str {
    let text = String::from_utf8_lossy(start).to_ascii_lowercase();
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{FEFF}');
    if text.starts_with("<!doctype html") || text.contains("<html") {
        " but a web page (often what a server answers in place of the document: download it again)"
    } else if start.starts_with(b"PK\x03\x04") {
        " but a ZIP archive or an office document (export it as PDF)"
    } else if start.starts_with(b"\x89PNG") || start.starts_with(b"\xFF\xD8\xFF") {
        " but an image (print it as PDF)"
    } else if start.iter().all(|byte| *byte == 0) {
        " but a file of zeros (an upload or a copy that broke off: do it again)"
    } else {
        ""
    }
}

/// What pdfium says to the document; an error when the file could not be read.
fn try_open(
    library: Library,
    source: &Rc<Source>,
    password: Option<&Password>,
) -> Result<Result<Document, OpenFailure>, ExtractError> {
    let opened = Document::open(library, source, password);
    match source.take_failure() {
        Some(error) => Err(unreadable(error)),
        None => Ok(opened),
    }
}

/// Whether a repair may help: pdfium takes a document without a page for a good one.
fn is_damaged(opened: &Result<Document, OpenFailure>) -> bool {
    match opened {
        Ok(document) => document.page_count() <= 0,
        Err(failure) => matches!(failure, OpenFailure::Format),
    }
}

fn total_pages(count: c_int) -> Result<u32, ExtractError> {
    match u32::try_from(count) {
        Ok(0) | Err(_) => Err(ExtractError::permanent("the PDF has no pages")),
        Ok(count) if count > MAX_PAGES => Err(ExtractError::permanent(format!(
            "the PDF has {count} pages, and at most {MAX_PAGES} are supported: split it"
        ))),
        Ok(count) => Ok(count),
    }
}

fn refused(failure: OpenFailure, with_password: bool) -> ExtractError {
    ExtractError::permanent(match failure {
        OpenFailure::Password if with_password => {
            "the PDF is encrypted and its password is another one than was given: upload it again \
             with the right password"
                .to_owned()
        }
        OpenFailure::Password => {
            "the PDF is encrypted and needs a password to open: upload it again with its password, or \
             without the encryption"
                .to_owned()
        }
        OpenFailure::Security => {
            "the PDF uses a security handler that is not supported: save it without encryption and \
             upload it again"
                .to_owned()
        }
        OpenFailure::Format => {
            "the PDF is damaged: its structure cannot be read, and no page of it was found; open it in a PDF viewer and save or \
             print it as a new PDF"
                .to_owned()
        }
        OpenFailure::Other(code) => {
            format!("the PDF is damaged: it could not be opened (pdfium error {code})")
        }
    })
}

fn unreadable(error: io::Error) -> ExtractError {
    ExtractError::Transient {
        message: "the file could not be read".to_owned(),
        source: Some(error.into()),
    }
}
