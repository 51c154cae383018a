//! What comes out of a document: pages, their order, their text.
#![allow(clippy::unwrap_used)]

mod common;

use common::{A4, Pdf, line, open, page_object, pages_from, texts};
use futures::StreamExt;
use futures::future::join_all;
use kbqueue_core::Extractor;
use kbqueue_core::extract::ExtractedPage;
use kbqueue_core::output::PageSource;

fn numbered(pages: usize) -> Vec<u8> {
    let texts: Vec<String> = (1..=pages).map(|n| format!("This is page {n}.")).collect();
    Pdf::of(&texts.iter().map(String::as_str).collect::<Vec<_>>()).bytes()
}

fn described(pages: &[ExtractedPage]) -> Vec<(u32, &str, Option<&str>)> {
    pages
        .iter()
        .map(|p| (p.number, p.text.as_str(), p.section.as_deref()))
        .collect()
}

#[tokio::test]
async fn pages_come_in_order_with_their_text() {
    let extraction = open(&numbered(3), 1).await.unwrap();
    assert_eq!(extraction.total_pages, 3);
    let pages: Vec<_> = extraction.pages.map(Result::unwrap).collect().await;
    assert_eq!(pages.len(), 3);
    for (n, page) in (1..).zip(&pages) {
        assert_eq!(page.number, n);
        assert_eq!(page.text, format!("This is page {n}."));
        assert_eq!(page.provenance.source, PageSource::Text);
        assert_eq!(page.provenance.reason, "text_layer");
        assert_eq!(page.provenance.confidence, None);
        assert_eq!(
            (&page.label, &page.section, &page.failure),
            (&None, &None, &None)
        );
        assert!(page.images.is_empty());
    }
}

#[tokio::test]
async fn a_resumed_run_gives_the_same_pages() {
    // More pages than pdfium keeps a document open for.
    let mut pdf = Pdf::new();
    for n in 1..=120 {
        pdf.page(A4, &line(72, 700, &format!("This is page {n}.")));
    }
    pdf.catalog = "/Outlines 5000 0 R".to_owned();
    pdf.add(5000, "<< /First 5001 0 R /Last 5001 0 R >>");
    pdf.add(
        5001,
        &format!(
            "<< /Title (Later) /Parent 5000 0 R /Dest [{} 0 R /Fit] >>",
            page_object(60)
        ),
    );
    let bytes = pdf.bytes();
    let whole = pages_from(&bytes, 1).await;
    assert_eq!(whole.len(), 120);
    assert_eq!(described(&whole)[59], (60, "This is page 60.", None));
    assert_eq!(
        described(&whole)[60],
        (61, "This is page 61.", Some("Later"))
    );
    for first in [0, 1, 2, 50, 51, 100, 120, 121, 500] {
        let rest = pages_from(&bytes, first).await;
        let skipped = (first.max(1) as usize - 1).min(120);
        assert_eq!(described(&rest), described(&whole[skipped..]));
    }
}

#[tokio::test]
async fn documents_are_extracted_side_by_side() {
    let documents: Vec<Vec<u8>> = (1..=6).map(|n| numbered(n * 10)).collect();
    // Opened all before the first page is asked for.
    let opened = join_all(documents.iter().map(|bytes| open(bytes, 1))).await;
    let runs = opened.into_iter().map(|extraction| async {
        let pages: Vec<_> = extraction
            .unwrap()
            .pages
            .map(Result::unwrap)
            .collect()
            .await;
        pages
    });
    for (n, pages) in (1..).zip(join_all(runs).await) {
        assert_eq!(pages.len(), n * 10);
        for (number, page) in (1..).zip(pages) {
            assert_eq!(page.number, number);
            assert_eq!(page.text, format!("This is page {number}."));
        }
    }
}

#[tokio::test]
async fn text_is_whole_on_rotated_and_offset_pages() {
    let content = line(20, 30, "at the bottom") + &line(300, 800, "at the top");
    let mut pdf = Pdf::new();
    for entries in [
        "/MediaBox [0 0 595 842] /Rotate 90",
        "/MediaBox [0 0 595 842] /Rotate 270",
        "/MediaBox [595 842 0 0] /Rotate 180",
        "/MediaBox [0 0 595 842] /UserUnit 4",
    ] {
        pdf.page(entries, &content);
    }
    pdf.page(
        "/MediaBox [1000 -2000 1595 -1158]",
        &(line(1020, -1970, "at the bottom") + &line(1300, -1200, "at the top")),
    );
    for text in texts(&pdf.bytes()).await {
        assert!(
            text.contains("at the bottom") && text.contains("at the top"),
            "{text:?}"
        );
    }
}

#[tokio::test]
async fn text_outside_the_visible_part_of_a_page_is_left_out() {
    let content = [
        line(72, 820, "slug above"),
        line(72, 700, "visible text"),
        line(72, 680, "over two lines"),
        line(500, 660, "slug at the right"),
        line(72, 10, "slug below"),
    ]
    .concat();
    let mut pdf = Pdf::new();
    pdf.page("/MediaBox [0 0 700 842] /CropBox [50 50 450 800]", &content)
        .page(
            "/MediaBox [0 0 700 842] /CropBox [50 50 450 800] /Rotate 90",
            &content,
        )
        .page("/MediaBox [50 50 450 800]", &content)
        // A box that leaves nothing to see is ignored, as viewers do.
        .page(
            "/MediaBox [0 0 700 842] /CropBox [2000 2000 2400 2400]",
            &content,
        );
    let texts = texts(&pdf.bytes()).await;
    assert_eq!(texts[0], "visible text\nover two lines");
    // pdfium reads lines as they stand on the page that is shown.
    assert_eq!(texts[1], "over two lines\nvisible text");
    assert_eq!(texts[2], "visible text\nover two lines");
    assert!(texts[3].contains("slug above") && texts[3].contains("slug below"));
}

#[tokio::test]
async fn a_word_hyphenated_at_the_end_of_a_line_is_whole_again() {
    let content = [
        line(72, 700, "All the infor-"),
        line(72, 686, "mation on COVID-"),
        line(72, 672, "19 is well-known."),
    ]
    .concat();
    let bytes = Pdf::new().page(A4, &content).bytes();
    assert_eq!(
        texts(&bytes).await,
        ["All the information on COVID-19 is well-known."]
    );
}

#[tokio::test]
async fn ligatures_are_spelled_out_and_no_character_is_too_large() {
    for (hex, expected) in [("FB03", "office"), ("D83DDE00", "o😀ce"), ("FB06", "ostce")] {
        let bytes = Pdf::new()
            .font_with_unicode(hex)
            .page(
                A4,
                "BT /F1 12 Tf 72 700 Td (o) Tj /F2 12 Tf (A) Tj /F1 12 Tf (ce) Tj ET",
            )
            .bytes();
        assert_eq!(texts(&bytes).await, [expected]);
    }
}

#[tokio::test]
async fn glyphs_that_stand_for_no_character_leave_no_trace() {
    let bytes = Pdf::new()
        .page(A4, &line(72, 700, "one\\000\\000\\000 two three"))
        .bytes();
    assert_eq!(texts(&bytes).await, ["one two three"]);
}

#[tokio::test]
async fn a_page_without_text_says_so() {
    let bytes = Pdf::new()
        .page(A4, "0 0 100 100 re f")
        .page(A4, &line(72, 700, "   "))
        .bytes();
    for page in pages_from(&bytes, 1).await {
        assert_eq!(page.text, "");
        assert_eq!(page.failure, None);
        assert_eq!(page.provenance.source, PageSource::None);
        assert_eq!(page.provenance.reason, "no_text");
    }
}

#[tokio::test]
async fn a_page_that_cannot_be_loaded_is_named_and_the_next_ones_follow() {
    let mut pdf = Pdf::of(&["first"]);
    pdf.missing_page().page(A4, &line(72, 700, "third"));
    let pages = pages_from(&pdf.bytes(), 1).await;
    assert_eq!(pages.len(), 3);
    assert_eq!(
        (pages[0].text.as_str(), &pages[0].failure),
        ("first", &None)
    );
    assert_eq!(
        (pages[2].text.as_str(), &pages[2].failure),
        ("third", &None)
    );
    assert_eq!(
        pages[1].failure.as_deref(),
        Some("page 2 could not be loaded: it is missing or damaged")
    );
    assert_eq!(pages[1].text, "");
    assert_eq!(pages[1].provenance.source, PageSource::None);
}

#[tokio::test]
async fn labels_sections_and_properties_are_told() {
    let mut pdf = Pdf::of(&["a", "b", "c", "d", "e"]);
    pdf.catalog = "/PageLabels 5000 0 R /Outlines 5001 0 R".to_owned();
    pdf.add(
        5000,
        "<< /Nums [0 << /S /r >> 2 << /S /D /St 1 /P (A-) >>] >>",
    );
    pdf.add(5001, "<< /First 5002 0 R /Last 5004 0 R >>");
    let mut entry = |number: u32, entries: String| {
        pdf.add(number, &format!("<< /Parent 5001 0 R {entries} >>"));
    };
    let dest = |index| format!("/Dest [{} 0 R /Fit]", page_object(index));
    entry(
        5002,
        format!(
            "/Title (One\\r\\n  \\001chapter) /Next 5003 0 R /First 5005 0 R /Last 5005 0 R {}",
            dest(1)
        ),
    );
    entry(5005, format!("/Title (A section) {}", dest(2)));
    // Leads to the fourth page of another file.
    entry(
        5003,
        "/Title (Elsewhere) /Next 5004 0 R /A << /S /GoToR /F (other.pdf) /D [3 /Fit] >>"
            .to_owned(),
    );
    entry(
        5004,
        format!(
            "/Title <FEFF00DC0062> /A << /S /GoTo /D [{} 0 R /Fit] >>",
            page_object(4)
        ),
    );
    pdf.info = "/Title (  A \\(small\\)\\ntitle\\000 ) /Author () /Subject (\\001) \
                /Keywords <FEFF65E5672C> /Creator (tests) \
                /CreationDate (D:20240131235959+01'00') /ModDate (yesterday) /Trapped /True"
        .to_owned();
    let extraction = open(&pdf.bytes(), 1).await.unwrap();

    let properties: Vec<_> = extraction
        .properties
        .0
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(
        properties,
        [
            ("creation_date", "2024-01-31T23:59:59+01:00"),
            ("creator", "tests"),
            ("keywords", "日本"),
            ("modification_date", "yesterday"),
            ("title", "A (small) title"),
        ]
    );
    let pages: Vec<_> = extraction.pages.map(Result::unwrap).collect().await;
    let labels: Vec<_> = pages.iter().map(|p| p.label.as_deref()).collect();
    assert_eq!(labels, ["i", "ii", "A-1", "A-2", "A-3"].map(Some));
    let sections: Vec<_> = pages.iter().map(|p| p.section.as_deref()).collect();
    assert_eq!(
        sections,
        [
            None,
            Some("One chapter"),
            Some("A section"),
            Some("A section"),
            Some("Üb")
        ]
    );
}

#[tokio::test]
async fn an_outline_that_goes_in_circles_ends() {
    let mut pdf = Pdf::of(&["a", "b"]);
    pdf.catalog = "/Outlines 5000 0 R".to_owned();
    pdf.add(5000, "<< /First 5001 0 R /Last 5002 0 R >>");
    for (number, next, page) in [(5001, 5002, 0), (5002, 5001, 1)] {
        pdf.add(
            number,
            &format!(
                "<< /Title (Heading {number}) /Parent 5000 0 R /Next {next} 0 R \
                 /First {next} 0 R /Dest [{} 0 R /Fit] >>",
                page_object(page)
            ),
        );
    }
    let pages = pages_from(&pdf.bytes(), 1).await;
    let sections: Vec<_> = pages.iter().map(|p| p.section.as_deref()).collect();
    assert_eq!(sections, [Some("Heading 5001"), Some("Heading 5002")]);
}

#[tokio::test]
async fn raised_and_lowered_characters_stay_on_their_line() {
    let mut pdf = Pdf::new();
    pdf.page(
        A4,
        "BT /F1 12 Tf 72 700 Td (E = mc) Tj 7 Ts /F1 8 Tf (2) Tj 0 Ts /F1 12 Tf ( and H) Tj \
         -4 Ts /F1 8 Tf (2) Tj 0 Ts /F1 12 Tf (O) Tj 0 -14 Td (next line) Tj ET",
    );
    assert_eq!(texts(&pdf.bytes()).await, ["E = mc2 and H2O\nnext line"]);
}

#[tokio::test]
async fn paragraphs_are_kept() {
    let lines = [700, 686, 672, 644, 630, 616];
    let content: String = lines.map(|y| line(72, y, &format!("at {y}"))).concat();
    let mut pdf = Pdf::new();
    pdf.page(A4, &content);
    assert_eq!(
        texts(&pdf.bytes()).await,
        ["at 700\nat 686\nat 672\n\nat 644\nat 630\nat 616"]
    );
}

#[tokio::test]
async fn ideographs_come_without_spaces_that_nobody_sees() {
    let mut pdf = Pdf::new();
    pdf.font_with_unicode("4E2D");
    // As wide apart as pdfium takes for a space between words.
    pdf.page(A4, "BT /F2 12 Tf 4 Tc 72 700 Td (AAAA) Tj ET");
    assert_eq!(texts(&pdf.bytes()).await, ["中中中中"]);
}

#[tokio::test]
async fn a_ligature_of_lam_and_alef_is_in_reading_order() {
    let mut pdf = Pdf::new();
    pdf.font_with_unicode("06440627");
    pdf.page(A4, "BT /F2 12 Tf 72 700 Td (A) Tj ET");
    assert_eq!(texts(&pdf.bytes()).await, ["\u{644}\u{627}"]);
}

#[tokio::test]
async fn the_fingerprint_names_the_output_version() {
    assert_eq!(common::extractor().fingerprint(), "pdf/4+images");
}
