//! Starting: what an extractor needs, and errors that say what to do.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::PathBuf;

use common::options;
use kbqueue_pdf::{PdfError, PdfExtractor, PdfOptions, find_pdfium};

fn refusal(options: PdfOptions) -> PdfError {
    PdfExtractor::new(options).unwrap_err()
}

#[test]
fn a_program_that_does_not_begin_with_init_is_told_so_and_so_is_one_that_calls_it_too_late() {
    let without_child = || PdfOptions::new(find_pdfium().unwrap());
    let error = refusal(without_child());
    assert!(matches!(error, PdfError::NotInitialised), "{error:?}");
    assert!(error.to_string().contains("kbqueue_pdf::init()"), "{error}");

    // This test binary's main is the test harness, which knows nothing of init.
    kbqueue_pdf::init();
    let error = refusal(without_child());
    assert!(matches!(error, PdfError::NoAnswer { .. }), "{error:?}");
    assert!(error.to_string().contains("kbqueue_pdf::init()"), "{error}");
}

#[test]
fn a_missing_or_wrong_library_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut missing = options();
    missing.pdfium = dir.path().join("missing.so");
    let error = refusal(missing);
    assert!(matches!(error, PdfError::Unreadable { .. }), "{error:?}");
    assert!(error.to_string().contains("make setup"), "{error}");

    let mut wrong = options();
    wrong.pdfium = dir.path().join("text.so");
    fs::write(&wrong.pdfium, "no library").unwrap();
    let error = refusal(wrong);
    assert!(matches!(error, PdfError::Load { .. }), "{error:?}");
    assert!(error.to_string().contains("text.so"), "{error}");
}

/// And not what else is missing, which would be in vain to get.
#[test]
#[cfg(not(feature = "ocr"))]
fn a_program_without_ocr_says_so_at_the_start() {
    let mut options = options();
    options.ocr = kbqueue_pdf::OcrMode::Auto;
    options.tessdata = Some(PathBuf::from("/no/such/data"));
    let error = refusal(options);
    assert!(matches!(error, PdfError::Ocr { .. }), "{error:?}");
    let message = kbqueue_core::error::chain(&error);
    assert!(message.contains("built without OCR"), "{message}");
}

#[test]
fn a_missing_or_wrong_executable_is_named() {
    let mut missing = options();
    missing.child = Some(PathBuf::from("/no/such/child"));
    let error = refusal(missing);
    assert!(matches!(error, PdfError::Start { .. }), "{error:?}");
    assert!(error.to_string().contains("/no/such/child"), "{error}");

    let mut wrong = options();
    wrong.child = Some(PathBuf::from("/bin/true"));
    let error = refusal(wrong);
    assert!(matches!(error, PdfError::NoAnswer { .. }), "{error:?}");
}

#[test]
fn the_child_that_is_shipped_says_that_it_is_not_run_by_hand() {
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_kbqueue-pdf-child"))
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&run.stderr).contains("not by hand"));
}

#[test]
#[cfg(target_os = "linux")]
fn all_layers_are_up_on_a_kernel_that_has_them() {
    let isolation = PdfExtractor::new(options()).unwrap().isolation();
    assert!(isolation.is_complete(), "{isolation}");
    assert_eq!(
        isolation.to_string(),
        "limits, landlock (files, network, signals), seccomp"
    );
}
