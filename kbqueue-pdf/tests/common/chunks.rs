//! What the chunker promises of any text, for tests and for fuzzing.
#![allow(clippy::unwrap_used)]

use kbqueue_core::Chunk;
use kbqueue_core::chunk::{ChunkOptions, Chunker, canonical};
use kbqueue_core::lifecycle::Cursor;
use kbqueue_core::output::{Page, PageSource, Provenance};

/// The first two bytes are sizes; the rest is text, with form feeds between pages. Every chunk slices
/// back out of the document's text, none is longer than it may be, nothing visible is left out, and a
/// chunker that is stopped behind any page and resumed cuts the same chunks.
pub(crate) fn check(input: &[u8]) {
    let Some(([least, more], text)) = input.split_first_chunk() else {
        return;
    };
    let min = u32::from(*least) + 1;
    let max = min + u32::from(*more) + 1;
    let Ok(options) = ChunkOptions::new(min, max, min / 4) else {
        return;
    };
    let text = String::from_utf8_lossy(text);
    let pages: Vec<String> = text.split('\u{C}').map(canonical).collect();

    let mut chunker = Chunker::new(options);
    let (mut whole, mut chunks) = (Vec::<char>::new(), Vec::new());
    let (mut resumed, mut stored) = (Chunker::new(options), Vec::<Page>::new());
    let mut chunks_resumed = Vec::new();
    for (number, page) in (1..).zip(&pages) {
        let (start, end) = chunker.push(page, None);
        whole.resize(usize::try_from(start).unwrap(), '\n');
        whole.extend(page.chars());
        assert_eq!(whole.len() as u64, end);
        chunks.extend(chunker.cut());

        resumed.push(page, None);
        stored.push(stored_page(number, page, start, end));
        chunks_resumed.extend(resumed.cut());
        let mut cursor = Cursor {
            pages: number,
            ..Cursor::default()
        };
        resumed.save(&mut cursor);
        resumed = Chunker::resume(options, &cursor);
        for page in &stored[Chunker::first_needed_page(&cursor) as usize - 1..] {
            resumed.restore(page);
        }
    }
    chunker.finish();
    chunks.extend(chunker.cut());
    resumed.finish();
    chunks_resumed.extend(resumed.cut());
    assert_eq!(chunks, chunks_resumed);
    complete(&whole, &chunks, max);
}

fn complete(whole: &[char], chunks: &[Chunk], max: u32) {
    let mut covered = 0;
    for (ordinal, chunk) in (0..).zip(chunks) {
        let [start, end] =
            [chunk.start_offset, chunk.end_offset].map(|offset| usize::try_from(offset).unwrap());
        assert_eq!(chunk.ordinal, ordinal);
        assert_eq!(whole[start..end].iter().collect::<String>(), chunk.text);
        assert!(end - start <= max as usize, "{chunk:?}");
        assert!(end > covered, "{chunk:?}");
        let between = whole.get(covered..start).unwrap_or(&[]);
        assert!(between.iter().all(|c| c.is_whitespace()), "{between:?}");
        covered = end;
    }
    let rest = &whole[covered..];
    assert!(rest.iter().all(|c| c.is_whitespace()), "{rest:?}");
}

fn stored_page(number: u32, text: &str, start_offset: u64, end_offset: u64) -> Page {
    Page {
        number,
        label: None,
        section: None,
        provenance: Provenance {
            source: PageSource::Text,
            reason: "text_layer".to_owned(),
            confidence: None,
        },
        start_offset,
        end_offset,
        text: text.to_owned(),
        failure: None,
    }
}
