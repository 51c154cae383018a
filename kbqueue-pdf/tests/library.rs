//! Loading pdfium. One test, because a process loads it once.

use std::fs;

use kbqueue_pdf::{PdfError, PdfExtractor, PdfOptions, find_pdfium};

#[test]
fn a_library_is_loaded_once_and_errors_say_what_to_do() {
    kbqueue_pdf::init();
    let dir = tempfile::tempdir().unwrap();

    let missing = PdfExtractor::new(PdfOptions::new(dir.path().join("missing.so"))).unwrap_err();
    assert!(
        matches!(missing, PdfError::Unreadable { .. }),
        "{missing:?}"
    );
    assert!(missing.to_string().contains("make setup"), "{missing}");

    let text = dir.path().join("text.so");
    fs::write(&text, "no library").unwrap();
    let wrong = PdfExtractor::new(PdfOptions::new(&text)).unwrap_err();
    assert!(matches!(wrong, PdfError::Load { .. }), "{wrong:?}");
    assert!(wrong.to_string().contains("text.so"), "{wrong}");

    // Neither failure is in the way of the right one, which all extractors share.
    let pdfium = find_pdfium().unwrap();
    PdfExtractor::new(PdfOptions::new(&pdfium)).unwrap();
    PdfExtractor::new(PdfOptions::new(&pdfium)).unwrap();

    #[cfg(unix)]
    {
        let link = dir.path().join("link.so");
        std::os::unix::fs::symlink(pdfium.canonicalize().unwrap(), &link).unwrap();
        PdfExtractor::new(PdfOptions::new(link)).unwrap();
    }
    let other = PdfExtractor::new(PdfOptions::new(&text)).unwrap_err();
    assert!(matches!(other, PdfError::OtherLibrary { .. }), "{other:?}");
}
