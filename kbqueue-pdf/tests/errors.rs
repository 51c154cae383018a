//! Documents that cannot be read, and what people are told.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File, OpenOptions};

use common::{Pdf, extractor, file_of, open, texts};
use kbqueue_core::extract::ExtractRequest;
use kbqueue_core::{DocumentId, ExtractError, Extractor};

async fn refusal(bytes: &[u8]) -> String {
    match open(bytes, 1).await {
        Err(ExtractError::Permanent { message, .. }) => message,
        other => panic!("{other:?}"),
    }
}

fn encrypted(encrypt: &str) -> Vec<u8> {
    let mut pdf = Pdf::of(&["secret"]);
    pdf.trailer = format!("/ID [<00> <00>] /Encrypt << {encrypt} >>");
    pdf.bytes()
}

#[tokio::test]
async fn an_empty_file() {
    assert_eq!(refusal(b"").await, "the file is empty");
}

#[tokio::test]
async fn a_text_file_named_pdf() {
    let far_away = [&[b' '; 1024], &*Pdf::of(&["x"]).bytes()].concat();
    for bytes in [b"Dear Sir or Madam".as_slice(), b"%", &far_away] {
        assert_eq!(
            refusal(bytes).await,
            "not a PDF: there is no %PDF- header in its first 1,024 bytes"
        );
    }
}

#[tokio::test]
async fn junk_before_the_header_is_forgiven() {
    let bytes = [&[b' '; 1019], &*Pdf::of(&["x"]).bytes()].concat();
    assert_eq!(texts(&bytes).await, ["x"]);
}

#[tokio::test]
async fn a_truncated_document() {
    let whole = Pdf::of(&["first", "second"]).bytes();
    for kept in [10, 100] {
        let message = refusal(&whole[..kept]).await;
        assert!(message.starts_with("the PDF is damaged: "), "{message}");
    }
}

#[tokio::test]
async fn a_password() {
    let zeros = "0".repeat(64);
    let message = refusal(&encrypted(&format!(
        "/Filter /Standard /V 2 /R 3 /Length 128 /P -4 /O <{zeros}> /U <{zeros}>"
    )))
    .await;
    assert!(
        message.starts_with("the PDF is encrypted and needs a password to open"),
        "{message}"
    );
}

#[tokio::test]
async fn an_unknown_security_handler() {
    let message = refusal(&encrypted("/Filter /Acme /V 9")).await;
    assert!(
        message.starts_with("the PDF uses a security handler that is not supported"),
        "{message}"
    );
}

/// A success does not reset pdfium's last error, so it must not be asked for after one.
#[tokio::test]
async fn a_document_without_pages_also_after_an_encrypted_one() {
    refusal(&encrypted("/Filter /Acme /V 9")).await;
    assert_eq!(refusal(&Pdf::new().bytes()).await, "the PDF has no pages");
}

#[tokio::test]
async fn too_many_pages() {
    let mut pdf = Pdf::of(&["only one"]);
    pdf.count = Some(100_001);
    assert_eq!(
        refusal(&pdf.bytes()).await,
        "the PDF has 100001 pages, and at most 100000 are supported: split it"
    );
}

#[tokio::test]
async fn a_file_that_is_not_as_long_as_announced_may_be_whole_next_time() {
    let bytes = Pdf::of(&["x"]).bytes();
    let request = ExtractRequest::new(DocumentId::new(), file_of(&bytes), bytes.len() as u64 + 1);
    match extractor().extract(request).await {
        Err(ExtractError::Transient { message, .. }) => {
            assert!(message.contains("announced"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_may_be_readable_next_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pdf");
    let bytes = Pdf::of(&["x"]).bytes();
    fs::write(&path, &bytes).unwrap();
    let write_only = OpenOptions::new().write(true).open(&path).unwrap();
    let request = ExtractRequest::new(DocumentId::new(), write_only, bytes.len() as u64);
    match extractor().extract(request).await {
        Err(ExtractError::Transient { source, .. }) => assert!(source.is_some()),
        other => panic!("{other:?}"),
    }
}

/// The file is cut while its pages are read: no page may pass for empty or damaged.
#[tokio::test]
async fn a_file_that_is_cut_off_meanwhile_ends_the_attempt() {
    use futures::StreamExt;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pdf");
    // Larger than what pdfium reads ahead.
    let long = "word ".repeat(40_000);
    let bytes = Pdf::of(&[&long, &long, &long]).bytes();
    fs::write(&path, &bytes).unwrap();
    let file = File::open(&path).unwrap();
    let request = ExtractRequest::new(DocumentId::new(), file, bytes.len() as u64);
    let extraction = extractor().extract(request).await.unwrap();
    OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1000)
        .unwrap();
    let pages: Vec<_> = extraction.pages.collect().await;
    assert_eq!(pages.len(), 1, "nothing follows an error");
    assert!(
        matches!(pages[0], Err(ExtractError::Transient { .. })),
        "{:?}",
        pages[0]
    );
}
