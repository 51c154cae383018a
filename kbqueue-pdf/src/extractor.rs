use async_trait::async_trait;
use futures::future::ready;
use futures::stream::{self, StreamExt};
use kbqueue_core::extract::ExtractRequest;
use kbqueue_core::{ExtractError, Extraction, Extractor};

use crate::error::PdfError;
use crate::options::PdfOptions;
use crate::worker::Engine;

/// Grows with every change to what comes out of a document, and with no other.
const OUTPUT_VERSION: u32 = 2;

/// Pages asked for ahead of the consumer: enough to keep pdfium busy while a checkpoint is written,
/// few enough to hold in memory.
const WINDOW_PAGES: usize = 8;

/// Reads PDFs page by page. Cheap to clone; all extractors of a process share one pdfium.
#[derive(Debug, Clone)]
pub struct PdfExtractor {
    engine: Engine,
}

impl PdfExtractor {
    /// Loads pdfium, unless this process has it loaded already. Takes some milliseconds, once.
    ///
    /// # Errors
    /// The library is not there, is no pdfium that fits, or is another one than this process uses.
    pub fn new(options: PdfOptions) -> Result<Self, PdfError> {
        let engine = Engine::shared(&options.pdfium)?;
        Ok(Self { engine })
    }
}

#[async_trait]
impl Extractor for PdfExtractor {
    fn fingerprint(&self) -> String {
        format!("pdf-text/{OUTPUT_VERSION}")
    }

    async fn extract(&self, request: ExtractRequest) -> Result<Extraction, ExtractError> {
        let opened = self.engine.open(request.file, request.size_bytes).await?;
        let total_pages = opened.total_pages;
        tracing::debug!(document = %request.document, total_pages, "opened a PDF");

        let document = opened.document;
        let mut failed = false;
        let pages = stream::iter(request.first_page.max(1)..=total_pages)
            .map(move |number| document.page(number))
            .buffered(WINDOW_PAGES)
            // An error ends the attempt, so what was asked for behind it is not delivered.
            .take_while(move |page| ready(!std::mem::replace(&mut failed, page.is_err())));
        Ok(Extraction {
            total_pages,
            properties: opened.properties,
            pages: pages.boxed(),
        })
    }
}
