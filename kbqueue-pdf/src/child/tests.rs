//! What only the inside of a child can do: passwords and OCR.
//!
//! One test, because pdfium belongs to one thread of a process.

use std::fs::File;
use std::io::Write as _;
use std::rc::Rc;

use kbqueue_core::Password;
use kbqueue_core::extract::ExtractedPage;
use kbqueue_core::output::PageSource;

use super::document::OpenDocument;
use super::page::{Reader, Wanted};
use super::raw::{Document, Library, Rect};
use super::source::Source;

const LINES: [&str; 4] = [
    "The quick brown fox jumps over the lazy dog.",
    "Pack my box with five dozen liquor jugs.",
    "How vexingly quick daft zebras jump.",
    "Sphinx of black quartz, judge my vow.",
];

/// A file of a page with this content, these entries and these further objects, from number 5 on.
fn file(entries: &str, content: &str, objects: &[&[u8]], trailer: &str) -> (File, u64) {
    let mut out = b"%PDF-1.7\n\
        1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n\
        2 0 obj\n<< /Type /Pages /Count 1 /Kids [3 0 R] >>\nendobj\n"
        .to_vec();
    write!(
        out,
        "3 0 obj\n<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R {entries} >>\n\
         endobj\n4 0 obj\n<< /Length {} >>\nstream\n{content}\nendstream\nendobj\n",
        content.len()
    )
    .unwrap();
    for (number, object) in (5..).zip(objects) {
        writeln!(out, "{number} 0 obj").unwrap();
        out.extend_from_slice(object);
        out.extend_from_slice(b"\nendobj\n");
    }
    // pdfium finds the objects without a table.
    write!(
        out,
        "trailer\n<< /Root 1 0 R /Size 20 {trailer} >>\n%%EOF\n"
    )
    .unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&out).unwrap();
    (file, out.len() as u64)
}

fn text_page() -> (File, u64) {
    let lines: Vec<_> = LINES.iter().map(|line| format!("({line}) Tj T*")).collect();
    let content = format!("BT /F1 14 Tf 20 TL 72 700 Td {} ET", lines.join(" "));
    let font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>";
    file(
        "/Resources << /Font << /F1 5 0 R >> >>",
        &content,
        &[font],
        "",
    )
}

/// The same page as a picture, drawn at `dpi`, shown by `content` as `/Im`.
fn scan(library: Library, dpi: f64, entries: &str, content: &str) -> (File, u64) {
    let (file_of_text, len) = text_page();
    let source = Rc::new(Source::new(file_of_text, len));
    let document = Document::open(library, &source, None).unwrap();
    let page = document.page(0).unwrap();
    let whole = Rect {
        left: 0.0,
        bottom: 842.0,
        right: 595.0,
        top: 0.0,
    };
    let drawn = page.draw(&whole, dpi / 72.0, true, 20e6).unwrap();
    let pixels: Vec<u8> = drawn.rows().flatten().copied().collect();
    let mut image = format!(
        "<< /Type /XObject /Subtype /Image /Width {} /Height {} /BitsPerComponent 8 \
         /ColorSpace /DeviceGray /Length {} >>\nstream\n",
        drawn.width,
        drawn.height,
        pixels.len()
    )
    .into_bytes();
    image.extend(pixels);
    image.extend(b"\nendstream");
    let font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>";
    let entries =
        format!("/Resources << /XObject << /Im 5 0 R >> /Font << /F1 6 0 R >> >> {entries}");
    file(&entries, content, &[&image, font], "")
}

fn read(library: Library, (file, len): (File, u64), ocr: Reader) -> ExtractedPage {
    let wanted = Wanted {
        ocr,
        ..Wanted::default()
    };
    let mut document = OpenDocument::open(library, file, len, None, wanted).unwrap();
    document.page(1).unwrap().unwrap()
}

#[test]
fn documents_in_one_process() {
    let library = Library::load(&crate::find_pdfium().unwrap()).unwrap();
    passwords(library);
    pages_without_ocr(library);
    #[cfg(feature = "ocr")]
    pages_with_ocr(library);
}

/// Missing and wrong are two errors, and the right one opens.
fn passwords(library: Library) {
    // Of "open sesame", computed once.
    let encrypt = "/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 \
        /O <8eeb095811aa015a6b5a146ef5738f0163a1708027c4864f3411c83c0e76a901> \
        /U <66d251e0099be354ea505fdd0236494c137bab0051db36ee613d7dc2fdcd850c> >> /ID [<00> <00>]";
    let open = |password: Option<&str>| {
        let (file, len) = file("", "", &[], encrypt);
        let password = password.map(|text| Password::new(text.to_owned()).unwrap());
        OpenDocument::open(library, file, len, password.as_ref(), Wanted::default())
    };
    assert_eq!(open(Some("open sesame")).ok().unwrap().total_pages(), 1);
    for (password, expected) in [(None, "needs a password"), (Some("guess"), "another one")] {
        let opened = open(password);
        let error = opened.err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("guess"), "{error}");
    }
}

/// What would take OCR says so, and comes without.
fn pages_without_ocr(library: Library) {
    let page = read(library, text_page(), Reader::Nobody);
    assert_eq!(page.text, LINES.join("\n"));
    let page = read(
        library,
        scan(library, 150.0, "", "595 0 0 842 0 0 cm /Im Do"),
        Reader::Nobody,
    );
    assert_eq!(page.text, "");
    assert_eq!(page.provenance.source, PageSource::None);
    assert_eq!(page.provenance.reason, "scan");
    assert_eq!(page.provenance.confidence, None);
}

#[cfg(feature = "ocr")]
fn pages_with_ocr(library: Library) {
    use super::ocr::{Ocr, tessdata};

    let missing = tessdata(&["eng".to_owned(), "tlh".to_owned()], None);
    let message = missing.err().unwrap().to_string();
    assert!(
        message.contains("\"tlh\"") && message.contains("tesseract-ocr-tlh"),
        "{message}"
    );
    let languages = ["eng".to_owned()];
    let directory = tessdata(&languages, None).unwrap();
    let ocr = Reader::Here(Rc::new(Ocr::load(&languages, &directory).unwrap()));

    let whole = "595 0 0 842 0 0 cm /Im Do";
    for (name, entries, content) in [
        ("upright", "", whole),
        (
            "turned by the page",
            "/Rotate 90",
            "0 595 -842 0 842 0 cm /Im Do",
        ),
        ("on its side", "", "0 595 -842 0 842 0 cm /Im Do"),
        ("on its head", "", "-595 0 0 -842 595 842 cm /Im Do"),
    ] {
        let entries = match name {
            "turned by the page" | "on its side" => format!("/CropBox [0 0 842 595] {entries}"),
            _ => entries.to_owned(),
        };
        let entries = entries.replace("/CropBox", "/MediaBox [0 0 842 595] /CropBox");
        let page = read(
            library,
            scan(library, 200.0, &entries, content),
            ocr.clone(),
        );
        assert_eq!(page.provenance.source, PageSource::Ocr, "{name}");
        assert_eq!(page.provenance.reason, "scan", "{name}");
        assert!(page.provenance.confidence.unwrap() > 80.0, "{name}");
        for line in LINES {
            assert!(page.text.contains(line), "{name}: {:?}", page.text);
        }
    }

    // A page with text and a picture of text: both, once each.
    let mixed = "q 300 0 0 420 72 50 cm /Im Do Q BT /F1 12 Tf 72 780 Td \
                 (This is the text layer of the page.) Tj ET";
    let page = read(library, scan(library, 300.0, "", mixed), ocr.clone());
    assert_eq!(page.provenance.source, PageSource::Mixed);
    assert_eq!(page.provenance.reason, "pictures");
    assert!(
        page.text
            .starts_with("This is the text layer of the page.\n\n")
    );
    assert!(page.text.contains("quick brown fox"), "{:?}", page.text);
    assert_eq!(page.text.matches("text layer").count(), 1);

    // Text that needs none gets none.
    let page = read(library, text_page(), ocr);
    assert_eq!(page.provenance.source, PageSource::Text);
    assert_eq!(page.provenance.confidence, None);
}
