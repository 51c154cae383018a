//! STUB
#![allow(missing_docs, clippy::all)]
use kbqueue_core::extract::*; use kbqueue_core::output::*; use kbqueue_core::*;
use futures::StreamExt;
pub fn init() {}
#[derive(Debug)] pub struct E; impl std::fmt::Display for E { fn fmt(&self,f:&mut std::fmt::Formatter<'_>)->std::fmt::Result{f.write_str("stub")} } impl std::error::Error for E {}
pub fn find_pdfium() -> Result<std::path::PathBuf, E> { Ok("x".into()) }
pub struct PdfOptions; impl PdfOptions { pub fn new(_: std::path::PathBuf) -> Self { Self } }
pub struct PdfExtractor; impl PdfExtractor { pub fn new(_: PdfOptions) -> Result<Self, E> { Ok(Self) } }
#[async_trait::async_trait]
impl Extractor for PdfExtractor {
    fn fingerprint(&self) -> String { "stub".into() }
    async fn extract(&self, request: ExtractRequest) -> Result<Extraction, ExtractError> {
        let pages = futures::stream::iter(request.first_page..=20).then(|number| async move { tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            Ok(ExtractedPage { number, label: None, section: None, provenance: Provenance { source: PageSource::Text, reason: "fake".to_owned(), confidence: None },
                text: format!("Page {number} has something to say. ").repeat(40), failure: None, images: Vec::new() })
        });
        Ok(Extraction { total_pages: 20, properties: Properties::default(), pages: pages.boxed() })
    }
}
