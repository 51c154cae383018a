//! The life of a child: one document, page by page, as it is asked.

use std::fs::File;
use std::io::{self, Read, Write};
use std::rc::Rc;

use kbqueue_core::extract::ExtractedPage;
use kbqueue_core::{ExtractError, Password, Properties};

use super::document::OpenDocument;
use super::ocr::Ocr;
use super::page::{Reader, Wanted};
use super::raw::Library;
use crate::control::WantedSetup;
use crate::options::OcrMode;
use crate::protocol::{
    Request, encode_needs_ocr, encode_opened, encode_page, encode_refused, read_opening,
};

/// A document that gives its pages.
#[cfg_attr(
    not(feature = "hostile"),
    allow(unreachable_pub, reason = "tests implement it")
)]
pub trait Pages {
    /// How many it has, at least one.
    fn total_pages(&self) -> u32;

    /// Title, author, dates.
    fn properties(&self) -> Properties;

    /// The page `number`, from 1.
    ///
    /// `None`: it takes OCR, which this child does not have.
    ///
    /// # Errors
    /// The document cannot be read any further.
    fn page(&mut self, number: u32) -> Result<Option<ExtractedPage>, ExtractError>;
}

impl Pages for OpenDocument {
    fn total_pages(&self) -> u32 {
        OpenDocument::total_pages(self)
    }

    fn properties(&self) -> Properties {
        OpenDocument::properties(self)
    }

    fn page(&mut self, number: u32) -> Result<Option<ExtractedPage>, ExtractError> {
        OpenDocument::page(self, number)
    }
}

/// Opens the document in the first so many bytes of a file, with its password where it was given one.
pub(crate) type Open =
    Box<dyn Fn(File, u64, Option<&Password>) -> Result<Box<dyn Pages>, ExtractError>>;

/// Loads what is wanted, so that nothing has to be read from files later.
///
/// # Errors
/// OCR is wanted and does not start.
pub(crate) fn wanted(setup: &WantedSetup) -> Result<Wanted, String> {
    let ocr = match (setup.ocr, &setup.engine) {
        (OcrMode::Off, _) => Reader::Nobody,
        (OcrMode::Auto | OcrMode::Always, None) => Reader::Elsewhere,
        (OcrMode::Auto | OcrMode::Always, Some(engine)) => {
            let ocr = Ocr::load(&engine.languages, &engine.tessdata);
            Reader::Here(Rc::new(ocr.map_err(|error| error.to_string())?))
        }
    };
    Ok(Wanted {
        images: setup.images,
        ocr,
        always: setup.ocr == OcrMode::Always,
    })
}

/// What opens PDFs.
pub(crate) fn pdfs(library: Library, wanted: Wanted) -> Open {
    Box::new(move |file, size_bytes, password| {
        let document = OpenDocument::open(library, file, size_bytes, password, wanted.clone())?;
        Ok(Box::new(document))
    })
}

/// Serves the document until the host has enough. The session is standard input.
///
/// # Errors
/// The host has gone.
pub(crate) fn serve(open: &Open, document: File, size_bytes: u64) -> io::Result<()> {
    let mut session = HostSocket;
    let password = read_opening(&mut session)?;
    let mut pages = match open(document, size_bytes, password.as_ref()) {
        Ok(pages) => pages,
        Err(error) => return session.write_all(&encode_refused(&error)),
    };
    session.write_all(&encode_opened(pages.total_pages(), &pages.properties()))?;
    loop {
        let mut request = [0; Request::BYTES];
        session.read_exact(&mut request)?;
        let request = Request::decode(request);
        for number in request.first..=request.last {
            match pages.page(number) {
                // At once and not in batches, so that the host knows which page is in work.
                Ok(Some(page)) => session.write_all(&encode_page(page))?,
                // The rest of the pages may be wanted of someone else now.
                Ok(None) => {
                    session.write_all(&encode_needs_ocr(number))?;
                    break;
                }
                Err(error) => return session.write_all(&encode_refused(&error)),
            }
        }
    }
}

/// Standard input, which is the socket to the host. Read and written by plain `read` and `write`, which
/// is what the sandbox lets through.
pub(super) struct HostSocket;

impl Read for HostSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| {
            rustix::io::read(rustix::stdio::stdin(), &mut *buffer)
        })?)
    }
}

impl Write for HostSocket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| {
            rustix::io::write(rustix::stdio::stdin(), buffer)
        })?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
