//! Reading across documents: all images of a queue, and a search in the text of its chunks.
//!
//! What a [word](words) is, is said here and nowhere else: a store indexes these words, not the text, so
//! that every store finds the same.

use std::collections::BTreeSet;
use std::ops::Range;

use async_trait::async_trait;
use jiff::Timestamp;
use unicode_segmentation::UnicodeSegmentation;

use crate::document::DocumentId;
use crate::output::{Chunk, Image};
use crate::queue::QueueName;
use crate::store::{Result, Store};
use crate::walk;

/// Longer words are cut here, in letters: no index is to refuse one.
const LONGEST_WORD: usize = 64;
/// How many letters a snippet shows before its first hit, at most.
const BEFORE_HIT: usize = 60;
/// How many letters a snippet has, at most.
const SNIPPET: usize = 240;

/// A store that can be read across documents.
///
/// # Contract
/// - What is found is what readers see: the [visible](crate::lifecycle::Lifecycle::visible) generation
///   of documents that are not deleted, from the moment on at which a reader of the document sees it.
/// - Newest document (by id) first; within one document by ordinal.
/// - [`Listing::next`] says whether there may be more. A store that has to look at much may answer fewer
///   than asked for, even none, with a next position; whoever goes on there misses nothing.
///
/// What a store does not write itself reads document by document, at most 100 documents and about 2,000
/// outputs a call.
#[async_trait]
pub trait Library: Store {
    /// Images of all documents of a queue.
    async fn all_images(&self, query: ImageQuery) -> Result<Listing<FoundImage>> {
        walk::all_images(self, query).await
    }

    /// Chunks of all documents of a queue in which all words of the query occur. A query without words
    /// finds nothing.
    async fn search(&self, query: SearchQuery) -> Result<Listing<Hit>> {
        walk::search(self, query).await
    }
}

/// Names an output among those of all documents: its document and its ordinal.
pub type Position = (DocumentId, u32);

/// Some of what a query finds.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing<T> {
    /// What was found.
    pub items: Vec<T>,
    /// Where to go on: what a query for the rest has as `after`. `None` where there is no more.
    pub next: Option<Position>,
}

impl<T> Listing<T> {
    /// At most `limit` of the given items, which are all that is left or at least one more than
    /// `limit`; a limit of 0 asks for nothing.
    pub fn first(items: impl IntoIterator<Item = T>, limit: u32, at: fn(&T) -> Position) -> Self {
        let limit = limit as usize;
        let mut items: Vec<T> = items.into_iter().take(limit.saturating_add(1)).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(at);
        Self { items, next }
    }
}

/// Which images to list. Defaults: all of them, 50.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageQuery {
    /// Of the documents of this queue.
    pub queue: QueueName,
    /// Of this document only.
    pub document: Option<DocumentId>,
    /// On pages of this number only.
    pub page: Option<u32>,
    /// At least so many pixels across and down.
    pub min_side: u32,
    /// Of documents enqueued at this instant or later.
    pub created_from: Option<Timestamp>,
    /// Of documents enqueued before this instant.
    pub created_before: Option<Timestamp>,
    /// Behind this one: [`Listing::next`] of the previous call.
    pub after: Option<Position>,
    /// How many at most.
    pub limit: u32,
}

impl ImageQuery {
    /// All images of a queue, the first 50.
    #[must_use]
    pub fn new(queue: QueueName) -> Self {
        Self {
            queue,
            document: None,
            page: None,
            min_side: 0,
            created_from: None,
            created_before: None,
            after: None,
            limit: 50,
        }
    }

    /// Whether it asks for images of a document enqueued at `created_at`.
    #[must_use]
    pub fn wants_document(&self, id: DocumentId, created_at: Timestamp) -> bool {
        self.document.is_none_or(|wanted| wanted == id)
            && self.created_from.is_none_or(|from| created_at >= from)
            && self.created_before.is_none_or(|before| created_at < before)
    }

    /// Whether it asks for this image of such a document.
    #[must_use]
    pub fn wants_image(&self, image: &Image) -> bool {
        self.page.is_none_or(|page| image.page == page)
            && image.width.min(image.height) >= self.min_side
    }
}

/// An image with the document that it is of.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundImage {
    /// The document.
    pub document: DocumentId,
    /// Its image.
    pub image: Image,
}

impl FoundImage {
    /// Where it stands among all.
    #[must_use]
    pub fn position(&self) -> Position {
        (self.document, self.image.ordinal)
    }
}

/// What to look for. Default: the first 50 hits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SearchQuery {
    /// In the documents of this queue.
    pub queue: QueueName,
    /// What a person typed. Nothing in it has a meaning but its [words].
    pub text: String,
    /// Behind this one: [`Listing::next`] of the previous call.
    pub after: Option<Position>,
    /// How many at most.
    pub limit: u32,
}

impl SearchQuery {
    /// The first 50 chunks of a queue with all words of `text`.
    #[must_use]
    pub fn new(queue: QueueName, text: impl Into<String>) -> Self {
        Self {
            queue,
            text: text.into(),
            after: None,
            limit: 50,
        }
    }
}

/// A chunk in which all words of a query occur.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The document.
    pub document: DocumentId,
    /// The chunk's ordinal.
    pub ordinal: u32,
    /// The page on which the chunk begins.
    pub first_page: u32,
    /// Where in the chunk.
    pub snippet: Snippet,
}

impl Hit {
    /// The hit in a chunk, where all of `wanted` occur in it. Of no words there is no hit.
    #[must_use]
    pub fn find(document: DocumentId, chunk: &Chunk, wanted: &BTreeSet<String>) -> Option<Self> {
        let occur = words(&chunk.text);
        (!wanted.is_empty() && wanted.is_subset(&occur)).then(|| Self {
            document,
            ordinal: chunk.ordinal,
            first_page: chunk.first_page,
            snippet: Snippet::new(&chunk.text, wanted),
        })
    }

    /// Where it stands among all.
    #[must_use]
    pub fn position(&self) -> Position {
        (self.document, self.ordinal)
    }
}

/// A piece of a chunk's text around its first hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The text as it stands in the chunk, at most 240 letters, without markup.
    pub text: String,
    /// Where in it the words stand: byte ranges, in order, apart from each other.
    pub marks: Vec<Range<usize>>,
}

impl Snippet {
    /// The piece of `text` from shortly before the first of `wanted` on.
    #[must_use]
    pub fn new(text: &str, wanted: &BTreeSet<String>) -> Self {
        let spans: Vec<_> = word_spans(text).collect();
        let is_hit = |(_, word): &&(Range<usize>, String)| wanted.contains(word);
        let first = spans.iter().find(is_hit).map_or(0, |(at, _)| at.start);
        // Counted back by letters, then forward to the beginning of a word.
        let earliest = text[..first].char_indices().rev().take(BEFORE_HIT).last();
        let earliest = earliest.map_or(first, |(at, _)| at);
        let mut starts = spans.iter().map(|(at, _)| at.start);
        let start = match earliest {
            0 => 0,
            _ => starts.find(|start| *start >= earliest).unwrap_or(first),
        };
        let rest = &text[start..];
        let end = rest.char_indices().nth(SNIPPET).map(|(at, _)| start + at);
        let end = end.map_or(text.len(), |end| {
            let whole = spans.iter().map(|(at, _)| at.end);
            let last = whole.take_while(|word_end| *word_end <= end).last();
            last.filter(|last| *last > start).unwrap_or(end)
        });
        let shown = spans.iter().filter(is_hit).map(|(at, _)| at);
        let shown = shown.filter(|at| at.start >= start && at.end <= end);
        Self {
            text: text[start..end].to_owned(),
            marks: shown.map(|at| at.start - start..at.end - start).collect(),
        }
    }
}

/// The words of a text, each once: as Unicode divides it (an ideograph is one), divided at ASCII
/// punctuation and apostrophes too, in lower case, cut after 64 letters.
#[must_use]
pub fn words(text: &str) -> BTreeSet<String> {
    word_spans(text).map(|(_, word)| word).collect()
}

/// The words of a text with their byte ranges.
fn word_spans(text: &str) -> impl Iterator<Item = (Range<usize>, String)> {
    text.unicode_word_indices().flat_map(|(at, word)| {
        word.split(|c: char| c.is_ascii_punctuation() || c == '\u{2019}')
            .filter(|part| !part.is_empty())
            .map(move |part| {
                let start = at + (part.as_ptr() as usize - word.as_ptr() as usize);
                let lower = part.to_lowercase().chars().take(LONGEST_WORD).collect();
                (start..start + part.len(), lower)
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn words_are_what_people_type() {
        for (text, expected) in [
            ("", &[][..]),
            (" -- * \" ", &[]),
            ("The cat's CAT", &["cat", "s", "the"]),
            ("l\u{2019}hôpital ÄRZTE", &["hôpital", "l", "ärzte"]),
            ("report.final_2.pdf", &["2", "final", "pdf", "report"]),
            ("肺炎 MRT", &["mrt", "炎", "肺"]),
            ("e\u{301}tude", &["e\u{301}tude"]),
        ] {
            assert_eq!(words(text), set(expected), "{text:?}");
        }
        assert_eq!(words(&"ä".repeat(5000)), set(&[&"ä".repeat(64)]));
    }

    #[test]
    fn a_snippet_marks_what_it_shows() {
        let text = format!(
            "{} Fever, fever and chills. {}",
            "noise ".repeat(50),
            "ü".repeat(900)
        );
        let snippet = Snippet::new(&text, &set(&["fever", "chills"]));
        let marked: Vec<_> = snippet
            .marks
            .iter()
            .map(|at| &snippet.text[at.clone()])
            .collect();
        assert_eq!(marked, ["Fever", "fever", "chills"]);
        assert!(
            snippet.text.starts_with("noise "),
            "whole words: {}",
            snippet.text
        );
        assert!(snippet.text.chars().count() <= SNIPPET);
        let short = Snippet::new("a fever", &set(&["fever"]));
        let (begin, end) = (short.marks[0].start, short.marks[0].end);
        assert_eq!((short.text.as_str(), begin, end), ("a fever", 2, 7));
        let long = Snippet::new(&"x".repeat(1000), &words(&"x".repeat(1000)));
        assert_eq!((long.text.len(), long.marks), (SNIPPET, vec![]));
    }
}
