//! What a document says of itself: properties and outline.

use std::collections::HashSet;

use kbqueue_core::Properties;

use super::raw::Document;
use super::text;

/// Entries of the information dictionary, and what they are called outside.
const PROPERTIES: [(&str, &str); 8] = [
    ("Title", "title"),
    ("Author", "author"),
    ("Subject", "subject"),
    ("Keywords", "keywords"),
    ("Creator", "creator"),
    ("Producer", "producer"),
    ("CreationDate", "creation_date"),
    ("ModDate", "modification_date"),
];
const MAX_PROPERTY_CHARS: usize = 1000;
const MAX_HEADING_CHARS: usize = 500;

// An outline is a linked structure that a document can tie into a knot or blow up, and finding an
// entry's page takes pdfium longer the more pages there are.
const MAX_OUTLINE_ENTRIES: usize = 5000;
const MAX_OUTLINE_DEPTH: u32 = 32;

pub(crate) fn properties(document: &Document) -> Properties {
    let mut properties = Properties::default();
    for (tag, name) in PROPERTIES {
        let value = document
            .meta_text(tag)
            .and_then(|raw| text::one_line(&raw, MAX_PROPERTY_CHARS));
        if let Some(value) = value {
            let value = if tag.ends_with("Date") {
                text::date(&value)
            } else {
                value
            };
            properties.0.insert(name.to_owned(), value);
        }
    }
    properties
}

/// The headings of a document's outline.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    /// Page index and heading, by page; entries of one page in the outline's order.
    headings: Vec<(u32, String)>,
}

impl Outline {
    pub(crate) fn read(document: &Document) -> Self {
        let mut headings = Vec::new();
        let mut seen = HashSet::new();
        let mut pending: Vec<_> = document
            .first_bookmark(None)
            .map(|first| (first, 0))
            .into_iter()
            .collect();
        while let Some((bookmark, depth)) = pending.pop() {
            if !seen.insert(bookmark.id()) {
                continue;
            }
            if seen.len() > MAX_OUTLINE_ENTRIES {
                break;
            }
            // Taken from the end, so that children come before the next sibling.
            pending.extend(document.next_bookmark(bookmark).map(|next| (next, depth)));
            if depth + 1 < MAX_OUTLINE_DEPTH {
                let child = document.first_bookmark(Some(bookmark));
                pending.extend(child.map(|child| (child, depth + 1)));
            }
            let heading = document
                .bookmark_title(bookmark)
                .and_then(|title| text::one_line(&title, MAX_HEADING_CHARS));
            if let (Some(page), Some(heading)) = (document.bookmark_page(bookmark), heading) {
                headings.push((page, heading));
            }
        }
        headings.sort_by_key(|(page, _)| *page);
        Self { headings }
    }

    /// The last heading on the page with this index or before it.
    pub(crate) fn section(&self, page_index: u32) -> Option<&str> {
        let behind = self
            .headings
            .partition_point(|(page, _)| *page <= page_index);
        let (_, heading) = self.headings.get(behind.checked_sub(1)?)?;
        Some(heading)
    }
}
