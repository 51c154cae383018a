//! What processing a document gives: pages, chunks, images.

use serde::{Deserialize, Serialize};

use crate::blob::BlobRef;

/// Where a page's text came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PageSource {
    /// The document's own text layer.
    Text,
    /// Optical character recognition.
    Ocr,
    /// Both, on different regions of the page.
    Mixed,
    /// Nowhere: the page is blank, or it failed.
    None,
}

impl PageSource {
    /// The word used in databases and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Ocr => "ocr",
            Self::Mixed => "mixed",
            Self::None => "none",
        }
    }

    /// The inverse of [`as_str`](Self::as_str); `None` for any other word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Text, Self::Ocr, Self::Mixed, Self::None]
            .into_iter()
            .find(|s| s.as_str() == word)
    }
}

/// How a page's text came about, and how sure that is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Text layer, OCR, both or neither.
    pub source: PageSource,
    /// Why that source was chosen, as a short code (`text_layer`, `blank`, …).
    pub reason: String,
    /// Mean confidence of the OCR, 0 to 100; `None` where no OCR ran.
    pub confidence: Option<f32>,
}

/// One page's committed outcome: its text, or why there is none. Final for its generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// Counted from 1.
    pub number: u32,
    /// The label that the document gives this page ("iv", "A-3"), where it has one.
    pub label: Option<String>,
    /// The heading of the outline that this page falls under.
    pub section: Option<String>,
    /// Where the text came from.
    pub provenance: Provenance,
    /// Where the page begins in the document's text, in Unicode scalar values.
    pub start_offset: u64,
    /// Where it ends, exclusive.
    pub end_offset: u64,
    /// The page's text as it stands in the document's text; empty for a failed page.
    pub text: String,
    /// Why the page could not be read; `None` for a page that was.
    pub failure: Option<String>,
}

/// A piece of the document's text, fit for an index: `text[start_offset..end_offset]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Counted from 0 without gaps.
    pub ordinal: u32,
    /// The slice itself.
    pub text: String,
    /// The page on which it begins.
    pub first_page: u32,
    /// The page on which it ends.
    pub last_page: u32,
    /// Where it begins in the document's text, in Unicode scalar values.
    pub start_offset: u64,
    /// Where it ends, exclusive.
    pub end_offset: u64,
    /// The heading of the outline under which its first page falls.
    pub section: Option<String>,
}

/// A picture found in the document. The bytes lie in the blob store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Counted from 0 without gaps.
    pub ordinal: u32,
    /// The page that shows it.
    pub page: u32,
    /// Media type of the bytes, such as `image/jpeg`.
    pub media_type: String,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Left, top, right, bottom on the page, in points from the top left corner.
    pub bbox: [f32; 4],
    /// Text found beside it that names it.
    pub caption: Option<String>,
    /// The bytes.
    pub blob: BlobRef,
    /// A small version, where there is one.
    pub thumbnail: Option<BlobRef>,
}

/// A page that could not be read, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedPage {
    /// Counted from 1.
    pub page: u32,
    /// What went wrong, in words.
    pub cause: String,
}

/// How far a document is. Only [`percent`](Self::percent) promises never to go backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Pages done.
    pub current_page: u32,
    /// Pages in all; `None` until the document was opened once.
    pub total_pages: Option<u32>,
    /// Chunks done.
    pub current_chunk: u32,
    /// Chunks in all: an estimate until the last page is read.
    pub total_chunks: u32,
    /// 0 to 100, and 100 only when completed. Never goes backward within a generation.
    pub percent: u8,
    /// Milliseconds that the rest is expected to take; `None` before anything was measured.
    pub eta_ms: Option<u64>,
}
