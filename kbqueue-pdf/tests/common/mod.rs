//! A writer of tiny PDFs, and short ways to extract them.
#![allow(clippy::unwrap_used)]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io::Write as _;

use futures::StreamExt;
use kbqueue_core::extract::{ExtractRequest, ExtractedPage};
use kbqueue_core::{DocumentId, ExtractError, Extraction, Extractor};
use kbqueue_pdf::{OcrMode, PdfExtractor, PdfOptions, find_pdfium};

const CATALOG: u32 = 1;
const PAGES: u32 = 2;
const FONT: u32 = 3;
const INFO: u32 = 4;
const FIRST_PAGE: u32 = 10;

/// A document that grows page by page; `add` puts any other object in.
pub(crate) struct Pdf {
    objects: BTreeMap<u32, String>,
    kids: Vec<String>,
    pub(crate) catalog: String,
    pub(crate) info: String,
    pub(crate) trailer: String,
    /// `/Count` of the page tree, where it is not to be the truth.
    pub(crate) count: Option<u32>,
}

impl Pdf {
    pub(crate) fn new() -> Self {
        let mut pdf = Self {
            objects: BTreeMap::new(),
            kids: Vec::new(),
            catalog: String::new(),
            info: String::new(),
            trailer: String::new(),
            count: None,
        };
        pdf.add(
            FONT,
            "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        );
        pdf
    }

    /// A document with a page for each text, on A4 paper.
    pub(crate) fn of(texts: &[&str]) -> Self {
        let mut pdf = Self::new();
        for text in texts {
            pdf.page(A4, &line(72, 700, text));
        }
        pdf
    }

    /// Adds a page with these entries in its dictionary and this content.
    pub(crate) fn page(&mut self, entries: &str, content: &str) -> &mut Self {
        let number = page_object(self.kids.len());
        self.kids.push(format!("{number} 0 R"));
        self.add(
            number,
            &format!(
                "<< /Type /Page /Parent {PAGES} 0 R /Contents {} 0 R \
                 /Resources << /Font << /F1 {FONT} 0 R /F2 7 0 R >> >> {entries} >>",
                number + 1
            ),
        );
        self.stream(number + 1, content)
    }

    /// Adds a page whose object does not exist.
    pub(crate) fn missing_page(&mut self) -> &mut Self {
        self.kids
            .push(format!("{} 0 R", page_object(self.kids.len())));
        self
    }

    pub(crate) fn add(&mut self, number: u32, body: &str) -> &mut Self {
        self.objects.insert(number, body.to_owned());
        self
    }

    pub(crate) fn stream(&mut self, number: u32, data: &str) -> &mut Self {
        let body = format!(
            "<< /Length {} >>\nstream\n{data}\nendstream",
            data.len() + 1
        );
        self.add(number, &body)
    }

    /// A font F2 whose letter `A` means the UTF-16BE characters `hex`.
    pub(crate) fn font_with_unicode(&mut self, hex: &str) -> &mut Self {
        self.add(
            7,
            "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 8 0 R >>",
        );
        self.stream(
            8,
            &format!(
                "/CIDInit /ProcSet findresource begin begincmap /CMapType 2 def\n\
                 1 begincodespacerange <00> <FF> endcodespacerange\n\
                 1 beginbfchar <41> <{hex}> endbfchar\nendcmap end"
            ),
        )
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut objects = self.objects.clone();
        objects.insert(
            CATALOG,
            format!("<< /Type /Catalog /Pages {PAGES} 0 R {} >>", self.catalog),
        );
        let count = self.count.map_or(self.kids.len(), |count| count as usize);
        objects.insert(
            PAGES,
            format!(
                "<< /Type /Pages /Count {count} /Kids [{}] >>",
                self.kids.join(" ")
            ),
        );
        objects.insert(INFO, format!("<< {} >>", self.info));

        let mut out = "%PDF-1.7\n".to_owned();
        let mut xref = "xref\n0 1\n0000000000 65535 f \n".to_owned();
        for (number, body) in &objects {
            write!(xref, "{number} 1\n{:010} 00000 n \n", out.len()).unwrap();
            writeln!(out, "{number} 0 obj\n{body}\nendobj").unwrap();
        }
        let size = objects.keys().max().unwrap() + 1;
        let start = out.len();
        write!(
            out,
            "{xref}trailer\n<< /Size {size} /Root {CATALOG} 0 R /Info {INFO} 0 R {} >>\n\
             startxref\n{start}\n%%EOF\n",
            self.trailer
        )
        .unwrap();
        out.into_bytes()
    }
}

pub(crate) const A4: &str = "/MediaBox [0 0 595 842]";

/// The object number of the page at `index`, for destinations.
pub(crate) fn page_object(index: usize) -> u32 {
    FIRST_PAGE + 2 * u32::try_from(index).unwrap()
}

/// Content that shows a line of text at a place.
pub(crate) fn line(x: i32, y: i32, text: &str) -> String {
    format!("BT /F1 12 Tf {x} {y} Td ({text}) Tj ET\n")
}

/// A test binary cannot begin with `init`, so another one reads for it. Without OCR, which takes time to
/// start.
pub(crate) fn options() -> PdfOptions {
    let mut options = PdfOptions::new(find_pdfium().unwrap());
    options.child = Some(env!("CARGO_BIN_EXE_kbqueue-pdf-child").into());
    options.ocr = OcrMode::Off;
    options
}

pub(crate) fn extractor() -> PdfExtractor {
    PdfExtractor::new(options()).unwrap()
}

/// A file that has no name any more.
pub(crate) fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

pub(crate) async fn open(bytes: &[u8], first_page: u32) -> Result<Extraction, ExtractError> {
    let mut request = ExtractRequest::new(DocumentId::new(), file_of(bytes), bytes.len() as u64);
    request.first_page = first_page;
    extractor().extract(request).await
}

/// All pages from `first_page` on.
pub(crate) async fn pages_from(bytes: &[u8], first_page: u32) -> Vec<ExtractedPage> {
    let extraction = open(bytes, first_page).await.unwrap();
    extraction.pages.map(Result::unwrap).collect().await
}

/// The texts of all pages, none of which may have failed.
pub(crate) async fn texts(bytes: &[u8]) -> Vec<String> {
    let pages = pages_from(bytes, 1).await;
    pages
        .into_iter()
        .map(|page| {
            assert_eq!(page.failure, None);
            page.text
        })
        .collect()
}
