//! Pages that are pictures, through the whole path: children behind all walls.
#![cfg(feature = "ocr")]
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::LazyLock;

use common::{A4, Pdf, file_of, line, options};
use futures::StreamExt;
use kbqueue_core::extract::{ExtractRequest, ExtractedPage};
use kbqueue_core::output::PageSource;
use kbqueue_core::{DocumentId, Extractor};
use kbqueue_pdf::{OcrMode, PdfError, PdfExtractor, PdfOptions, find_pdfium};
use pdfium_render::prelude::{PdfRenderConfig, Pdfium};

const LINES: [&str; 3] = [
    "The quick brown fox jumps over the lazy dog.",
    "Pack my box with five dozen liquor jugs.",
    "How vexingly quick daft zebras jump.",
];
const SCAN_OBJECT: u32 = 6000;
const SCAN_PAGE: &str = "/MediaBox [0 0 400 120] /Resources << /XObject << /Im 6000 0 R >> >>";

/// The lines as pixels: width, height, and a hexadecimal number for each. Drawn once, since pdfium
/// belongs to one thread of a process.
static SCAN: LazyLock<(i32, i32, String)> = LazyLock::new(|| {
    let mut drawn = Pdf::new();
    let lines = (0..).zip(LINES);
    let content: String = lines.map(|(n, text)| line(20, 90 - 30 * n, text)).collect();
    drawn.page("/MediaBox [0 0 400 120]", &content);
    let drawn = drawn.bytes();

    let pdfium = Pdfium::new(Pdfium::bind_to_library(find_pdfium().unwrap()).unwrap());
    let document = pdfium.load_pdf_from_byte_slice(&drawn, None).unwrap();
    let config = PdfRenderConfig::new().set_target_width(1200);
    let page = document.pages().get(0).unwrap();
    let bitmap = page.render_with_config(&config).unwrap();
    // Blue, green, red, and how opaque: black on white has all alike.
    let gray = bitmap.as_raw_bytes().into_iter().step_by(4);
    let hex = gray.map(|byte| format!("{byte:02x}")).collect();
    (bitmap.width(), bitmap.height(), hex)
});

/// A document of so many scanned pages between two pages with text.
fn scanned(scans: usize) -> Vec<u8> {
    scanned_between(scans, 1)
}

/// The same with so many pages of text behind the scans.
fn scanned_between(scans: usize, behind: usize) -> Vec<u8> {
    let mut pdf = Pdf::new();
    pdf.page(A4, &line(72, 700, "The page before the scans."));
    for _ in 0..scans {
        pdf.page(SCAN_PAGE, "400 0 0 120 0 0 cm /Im Do");
    }
    for _ in 0..behind {
        pdf.page(A4, &line(72, 700, "The page behind the scans."));
    }
    let (width, height, hex) = &*SCAN;
    pdf.add(
        SCAN_OBJECT,
        &format!(
            "<< /Type /XObject /Subtype /Image /Width {width} /Height {height} /BitsPerComponent 8 \
             /ColorSpace /DeviceGray /Filter /ASCIIHexDecode /Length {} >>\nstream\n{hex}>\nendstream",
            hex.len() + 1,
        ),
    );
    pdf.bytes()
}

async fn read(options: PdfOptions, bytes: &[u8]) -> Vec<ExtractedPage> {
    let request = ExtractRequest::new(DocumentId::new(), file_of(bytes), bytes.len() as u64);
    let extractor = PdfExtractor::new(options).unwrap();
    let extraction = extractor.extract(request).await.unwrap();
    extraction.pages.map(Result::unwrap).collect().await
}

fn with_ocr() -> PdfOptions {
    let mut options = options();
    options.ocr = OcrMode::Auto;
    options
}

#[tokio::test]
async fn scanned_pages_come_with_their_text_in_order_among_those_with_a_text_layer() {
    let pages = read(with_ocr(), &scanned(3)).await;
    let numbers: Vec<u32> = pages.iter().map(|page| page.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    assert_eq!(pages[0].text, "The page before the scans.");
    assert_eq!(pages[4].text, "The page behind the scans.");
    for page in [&pages[0], &pages[4]] {
        assert_eq!(page.provenance.source, PageSource::Text);
    }
    for page in &pages[1..4] {
        assert_eq!(page.failure, None);
        for line in LINES {
            assert!(page.text.contains(line), "{:?}", page.text);
        }
        assert_eq!(page.provenance.source, PageSource::Ocr);
        assert_eq!(page.provenance.reason, "scan");
        assert!(page.provenance.confidence.unwrap() > 80.0);
        assert_eq!(page.images.len(), 1);
    }
}

/// The pages behind it in its range go to someone else meanwhile.
#[tokio::test]
async fn one_scan_early_in_a_long_text_leaves_no_page_out() {
    let pages = read(with_ocr(), &scanned_between(1, 60)).await;
    let numbers: Vec<u32> = pages.iter().map(|page| page.number).collect();
    assert_eq!(numbers, (1..=62).collect::<Vec<_>>());
    assert_eq!(pages[1].provenance.source, PageSource::Ocr);
    assert!(pages[1].text.contains(LINES[0]), "{:?}", pages[1].text);
    for page in &pages[2..] {
        assert_eq!(page.text, "The page behind the scans.");
    }
}

#[tokio::test]
async fn without_ocr_a_scan_says_what_it_is() {
    let mut options = options();
    options.ocr = OcrMode::Off;
    let pages = read(options, &scanned(1)).await;
    assert_eq!(pages[1].text, "");
    assert_eq!(pages[1].provenance.source, PageSource::None);
    assert_eq!(pages[1].provenance.reason, "scan");
}

#[tokio::test]
async fn ocr_of_every_page_is_to_be_had() {
    let mut options = with_ocr();
    options.ocr = OcrMode::Always;
    let pages = read(options, &Pdf::of(&["Read from pixels."]).bytes()).await;
    assert_eq!(pages[0].text, "Read from pixels.");
    assert_eq!(pages[0].provenance.source, PageSource::Ocr);
    assert_eq!(pages[0].provenance.reason, "always");
}

#[test]
fn a_missing_language_is_named_at_the_start() {
    let mut options = with_ocr();
    options.ocr_languages = vec!["eng".to_owned(), "tlh".to_owned()];
    let error = PdfExtractor::new(options).unwrap_err();
    assert!(matches!(error, PdfError::Ocr { .. }), "{error:?}");
    let message = kbqueue_core::error::chain(&error);
    assert!(message.contains("tesseract-ocr-tlh"), "{message}");
}

#[test]
fn broken_language_data_are_named_at_the_start() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("eng.traineddata"), "none").unwrap();
    let mut options = with_ocr();
    options.tessdata = Some(data.path().to_owned());
    let error = PdfExtractor::new(options).unwrap_err();
    assert!(matches!(error, PdfError::Ocr { .. }), "{error:?}");
    let message = kbqueue_core::error::chain(&error);
    assert!(message.contains(data.path().to_str().unwrap()), "{message}");
}
