//! The chunker's promises: slices of the canonical text, within bounds, nothing lost, and the same
//! wherever work was taken up again.
#![allow(clippy::unwrap_used)]

use kbqueue_core::chunk::{ChunkOptions, Chunker, PAGE_SEPARATOR, canonical};
use kbqueue_core::lifecycle::Cursor;
use kbqueue_core::output::{PageSource, Provenance};
use kbqueue_core::{Chunk, Page};
use proptest::prelude::*;

/// Cuts `pages`, beginning anew from the last checkpoint before each page in `crashes`.
fn cut(options: ChunkOptions, pages: &[String], crashes: &[bool]) -> Vec<Chunk> {
    let mut stored: Vec<Page> = Vec::new();
    let mut cursor = Cursor::default();
    let mut chunks = Vec::new();
    let mut chunker = Chunker::new(options);
    for (index, text) in pages.iter().enumerate() {
        if crashes.get(index).copied().unwrap_or(false) {
            chunker = Chunker::resume(options, &cursor);
            let first = Chunker::first_needed_page(&cursor);
            for page in stored.iter().filter(|page| page.number >= first) {
                chunker.restore(page);
            }
        }
        let text = canonical(text);
        let section = Some(format!("section {index}"));
        let (start_offset, end_offset) = chunker.push(&text, section.clone());
        stored.push(Page {
            number: u32::try_from(index).unwrap() + 1,
            label: None,
            section,
            provenance: Provenance {
                source: PageSource::Text,
                reason: "test".into(),
                confidence: None,
            },
            start_offset,
            end_offset,
            text,
            failure: None,
        });
        if index + 1 == pages.len() {
            chunker.finish();
        }
        chunks.extend(chunker.cut());
        chunker.save(&mut cursor);
    }
    chunks
}

fn document_text(pages: &[String]) -> Vec<char> {
    let pages: Vec<String> = pages.iter().map(|text| canonical(text)).collect();
    pages.join(PAGE_SEPARATOR).chars().collect()
}

fn pages() -> impl Strategy<Value = Vec<String>> {
    let word = prop_oneof![
        8 => "[a-z]{1,9}",
        1 => "[A-Z][a-z]{1,6}[.!?]",
        1 => Just("e\u{301}👩‍👩‍👧".to_owned()),
        1 => "[一-十]{1,12}。",
        1 => Just("x".repeat(150)),
        1 => Just(" ".repeat(90)),
    ];
    let gap =
        prop_oneof![10 => Just(" "), 2 => Just("\n"), 1 => Just("\n\n"), 1 => Just("\r\n \n\n")];
    let page = prop::collection::vec((word, gap), 0..120).prop_map(|words| {
        words
            .into_iter()
            .flat_map(|(word, gap)| [word, gap.to_owned()])
            .collect()
    });
    prop::collection::vec(page, 1..12)
}

fn options() -> impl Strategy<Value = ChunkOptions> {
    (1u32..80, 0u32..120, 0u32..40).prop_map(|(min, more, overlap)| {
        ChunkOptions::new(min, min + more, overlap.min(min - 1)).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn chunks_are_the_same_wherever_work_was_taken_up_again(
        pages in pages(), options in options(), crashes in prop::collection::vec(any::<bool>(), 12),
    ) {
        prop_assert_eq!(cut(options, &pages, &[]), cut(options, &pages, &crashes));
    }

    #[test]
    fn chunks_are_slices_within_bounds_that_lose_nothing(pages in pages(), options in options()) {
        let text = document_text(&pages);
        let chunks = cut(options, &pages, &[]);
        let mut covered = 0;
        for (index, chunk) in chunks.iter().enumerate() {
            prop_assert_eq!(chunk.ordinal as usize, index);
            let start = usize::try_from(chunk.start_offset).unwrap();
            let end = usize::try_from(chunk.end_offset).unwrap();
            prop_assert_eq!(text[start..end].iter().collect::<String>(), chunk.text.as_str());
            prop_assert!(end - start <= options.max_chars() as usize, "{} characters", end - start);
            prop_assert!(!chunk.text.trim().is_empty());
            if start < covered {
                prop_assert!(covered - start <= options.overlap_chars() as usize);
            } else {
                prop_assert!(text[covered..start].iter().all(|c| c.is_whitespace()));
            }
            prop_assert!(end > covered, "each chunk goes on");
            covered = end;
        }
        prop_assert!(text[covered..].iter().all(|c| c.is_whitespace()));
    }
}

fn lorem(chars: usize) -> String {
    let sentence = "The quick brown fox jumps over the lazy dog near the river bank. ";
    sentence
        .repeat(chars / sentence.len() + 1)
        .chars()
        .take(chars)
        .collect::<String>()
        .trim()
        .to_owned()
}

#[test]
fn chunks_end_at_paragraphs_and_sentences() {
    let text = [lorem(700), lorem(900), lorem(1500)].join("\n\n");
    let chunks = cut(ChunkOptions::default(), &[text], &[]);
    let lengths: Vec<u64> = chunks
        .iter()
        .map(|c| c.end_offset - c.start_offset)
        .collect();
    assert_eq!(
        lengths.len(),
        2,
        "700 and 900 share a chunk, 1500 stands alone: {lengths:?}"
    );
    assert!(chunks[1].text.starts_with("The quick"));

    let sentences = cut(ChunkOptions::default(), &[lorem(9000)], &[]);
    assert!(
        sentences
            .iter()
            .rev()
            .skip(1)
            .all(|c| c.text.ends_with('.')),
        "{sentences:#?}"
    );
}

#[test]
fn a_line_that_the_paper_ended_is_no_place_to_cut() {
    let wrapped = lorem(9000).replace("the lazy", "the\nlazy");
    let chunks = cut(ChunkOptions::default(), &[wrapped], &[]);
    assert!(chunks.len() > 3);
    assert!(
        chunks.iter().rev().skip(1).all(|c| c.text.ends_with('.')),
        "{chunks:#?}"
    );
}

#[test]
fn a_short_chunk_joins_its_neighbour_where_both_fit() {
    let options = ChunkOptions::new(1000, 2000, 0).unwrap();
    // 300 + 1600 fit in one; the paragraph boundary alone would leave 300 by itself.
    let chunks = cut(options, &[[lorem(300), lorem(1600)].join("\n\n")], &[]);
    assert_eq!(
        chunks.len(),
        1,
        "{:?}",
        chunks.iter().map(|c| c.text.len()).collect::<Vec<_>>()
    );
    // The last page is a short one: it goes with the chunk before it.
    let chunks = cut(options, &[lorem(1700), lorem(200)], &[]);
    assert_eq!(chunks.len(), 1);
    assert_eq!((chunks[0].first_page, chunks[0].last_page), (1, 2));
    // 1900 + 300 do not fit: the short one stays short.
    let chunks = cut(options, &[lorem(1900), lorem(300)], &[]);
    assert_eq!(chunks.len(), 2);
}

#[test]
fn overlap_repeats_whole_sentences() {
    let options = ChunkOptions::new(400, 600, 100).unwrap();
    let chunks = cut(options, &[lorem(3000)], &[]);
    for pair in chunks.windows(2) {
        assert!(pair[1].start_offset < pair[0].end_offset, "they overlap");
        assert!(
            pair[1].text.starts_with("The quick"),
            "at a sentence: {:?}",
            &pair[1].text[..20]
        );
    }
}

#[test]
fn a_document_without_text_has_no_chunks() {
    assert!(
        cut(
            ChunkOptions::default(),
            &[String::new(), "  \n ".into()],
            &[]
        )
        .is_empty()
    );
}

#[test]
fn pages_are_trimmed_and_blank_lines_collapse() {
    assert_eq!(canonical("\r\n  a \r\nb\n\n \n\nc  \n\n"), "a\nb\n\nc");
    assert_eq!(canonical(" \n\t\n"), "");
}

#[test]
fn sections_and_pages_are_those_where_a_chunk_begins_and_ends() {
    let options = ChunkOptions::new(20, 50, 0).unwrap();
    let chunks = cut(
        options,
        &[
            "One two three.".into(),
            String::new(),
            "Four five six.".into(),
        ],
        &[],
    );
    assert_eq!(chunks.len(), 1);
    assert_eq!((chunks[0].first_page, chunks[0].last_page), (1, 3));
    assert_eq!(chunks[0].section.as_deref(), Some("section 0"));
}
