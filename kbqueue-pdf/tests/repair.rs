//! Damaged files: what is left of them is read, and nothing hangs.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/damage.rs"]
mod damage;

use std::io::Write as _;

use common::{A4, Pdf, line, open, texts};
use damage::Seeded;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use futures::StreamExt;

/// The file up to where `mark` begins, so that all tables are gone.
fn cut_before(bytes: &[u8], mark: &str) -> Vec<u8> {
    let at = bytes
        .windows(mark.len())
        .position(|window| window == mark.as_bytes())
        .unwrap();
    bytes[..at].to_vec()
}

/// The texts of a document that was repaired.
async fn repaired(bytes: &[u8]) -> Vec<String> {
    let extraction = open(bytes, 1).await.unwrap();
    assert!(extraction.properties.is_repaired());
    texts(bytes).await
}

/// Packs objects into an object stream, cut off after so many of its bytes.
fn object_stream(objects: &[(u32, &str)], kept_percent: usize) -> Vec<u8> {
    let (mut table, mut bodies) = (String::new(), String::new());
    for (number, body) in objects {
        table += &format!("{number} {} ", bodies.len());
        bodies += &format!("{body}\n");
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(1));
    encoder
        .write_all((table.clone() + &bodies).as_bytes())
        .unwrap();
    let data = encoder.finish().unwrap();
    let kept = data.len() * kept_percent / 100;
    let (count, first) = (objects.len(), table.len());
    let head = format!(
        "50 0 obj\n<< /Type /ObjStm /N {count} /First {first} /Filter /FlateDecode /Length {} >>\nstream\n",
        data.len()
    );
    [head.as_bytes(), &data[..kept]].concat()
}

#[tokio::test]
async fn a_whole_document_is_not_called_repaired() {
    let extraction = open(&Pdf::of(&["whole"]).bytes(), 1).await.unwrap();
    assert!(!extraction.properties.is_repaired());
}

#[tokio::test]
async fn a_file_without_its_end_gives_the_pages_that_are_left() {
    let bytes = Pdf::of(&["one", "two", "three", "four"]).bytes();
    assert_eq!(
        repaired(&cut_before(&bytes, "xref")).await,
        ["one", "two", "three", "four"]
    );
    // The content of the second page is cut off in its middle.
    assert_eq!(repaired(&cut_before(&bytes, "two) Tj")).await, ["one", ""]);
    assert_eq!(repaired(&cut_before(&bytes, "12 0 obj")).await, ["one"]);
}

#[tokio::test]
async fn pages_inherit_from_what_is_left_of_the_tree() {
    let mut pdf = Pdf::new();
    pdf.page("", &line(72, 2700, "high up"));
    let bytes = String::from_utf8(cut_before(&pdf.bytes(), "xref")).unwrap();
    let bytes = bytes.replace("/Type /Pages", "/Type /Pages /MediaBox [0 2000 595 2842]");
    assert_eq!(repaired(bytes.as_bytes()).await, ["high up"]);
}

#[tokio::test]
async fn pages_come_in_the_order_of_the_tree_that_is_left() {
    let bytes = String::from_utf8(Pdf::of(&["one", "two", "three"]).bytes()).unwrap();
    let bytes = bytes.replace("[10 0 R 12 0 R 14 0 R]", "[14 0 R 10 0 R]");
    let cut = cut_before(bytes.as_bytes(), "xref");
    // What the tree does not name follows.
    assert_eq!(repaired(&cut).await, ["three", "one", "two"]);
}

#[tokio::test]
async fn the_last_version_of_an_object_counts() {
    let mut cut = cut_before(&Pdf::of(&["before"]).bytes(), "xref");
    let content = line(72, 700, "after");
    write!(
        cut,
        "11 0 obj\n<< /Length {} >>\nstream\n{content}\nendstream\nendobj\n",
        content.len()
    )
    .unwrap();
    assert_eq!(repaired(&cut).await, ["after"]);
    // Unless it is cut off.
    write!(cut, "10 0 obj\n<< /Type /Page /Conte").unwrap();
    assert_eq!(repaired(&cut).await, ["after"]);
}

#[tokio::test]
async fn pages_in_compressed_objects_are_found() {
    let page = |content: u32| {
        format!(
            "<< /Type /Page {A4} /Contents {content} 0 R \
             /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>"
        )
    };
    let mut pdf = Pdf::new();
    pdf.stream(20, &line(72, 700, "packed"))
        .stream(21, &line(72, 700, "lost"));
    let bytes = String::from_utf8(pdf.bytes()).unwrap();
    let bytes = bytes.replace("/Type /Pages", "/Type /Lost");
    let mut cut = cut_before(bytes.as_bytes(), "xref");
    cut.extend(object_stream(&[(30, &page(20)), (31, &page(21))], 100));
    assert_eq!(repaired(&cut).await, ["packed", "lost"]);

    // Behind the pages lies what does not repeat itself, so that half of the stream holds the first.
    let mut seeded = Seeded(1);
    let noise: String = (0..200).map(|_| format!("{} ", seeded.next())).collect();
    let mut half = cut_before(bytes.as_bytes(), "xref");
    let noise = format!("[{noise}]");
    half.extend(object_stream(
        &[(30, &page(20)), (32, &noise), (31, &page(21))],
        50,
    ));
    assert_eq!(repaired(&half).await, ["packed"]);
}

#[tokio::test]
async fn text_whose_page_is_lost_is_read_with_a_stock_font() {
    let text = "the quick brown fox jumps over the lazy dog";
    let bytes = String::from_utf8(Pdf::of(&[text]).bytes()).unwrap();
    let cut = cut_before(bytes.as_bytes(), "xref");
    let damaged = String::from_utf8(cut)
        .unwrap()
        .replace("10 0 obj", "10 0 xxx");
    assert_eq!(repaired(damaged.as_bytes()).await, [text]);
}

#[tokio::test]
async fn junk_before_the_header_and_no_end() {
    let cut = cut_before(&Pdf::of(&["found"]).bytes(), "xref");
    let junk = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &cut].concat();
    assert_eq!(repaired(&junk).await, ["found"]);
}

#[tokio::test]
async fn what_is_no_pdf_is_named() {
    let named = [
        ("\u{FEFF}\n<!DOCTYPE html><title>404</title>", "web page"),
        ("PK\u{3}\u{4} and so on", "office document"),
        ("\0\0\0\0\0\0\0\0", "file of zeros"),
        ("Dear reader", "not a PDF: there is no %PDF- header"),
        ("", "the file is empty"),
    ];
    for (bytes, word) in named {
        let error = open(bytes.as_bytes(), 1).await.unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[tokio::test]
async fn most_truncated_files_open() {
    let many: Vec<String> = (1..=20).map(|n| format!("This is page {n}.")).collect();
    let bytes = Pdf::of(&many.iter().map(String::as_str).collect::<Vec<_>>()).bytes();
    let mut seeded = Seeded(1);
    for _ in 0..20 {
        let cut = damage::truncated(&bytes, &mut seeded);
        let texts = repaired(&cut).await;
        assert!(
            texts.len() >= 5,
            "{} pages of {} bytes",
            texts.len(),
            cut.len()
        );
        assert_eq!(texts[0], "This is page 1.");
    }
}

#[tokio::test]
async fn mutants_end_in_pages_or_in_an_error() {
    let mut pdf = Pdf::of(&["one", "two", "three"]);
    pdf.font_with_unicode("00410042");
    pdf.page(A4, "BT /F2 12 Tf 72 700 Td (AAA) Tj ET");
    let bytes = pdf.bytes();
    let mut seeded = Seeded(100);
    for n in 0..100 {
        let mutant = damage::mutant(&bytes, &mut seeded);
        let Ok(extraction) = open(&mutant, 1).await else {
            continue;
        };
        let total = extraction.total_pages;
        let pages: Vec<_> = extraction.pages.collect().await;
        assert!(pages.len() == total as usize, "mutant {n}");
    }
}
