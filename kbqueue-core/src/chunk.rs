//! Pages in, chunks out, resumable at any page.
//!
//! The document's text is its canonical page texts joined by a blank line; chunks are slices of it.
//! Where a chunk ends is decided from exactly the next `2 × max_chars` of text (or what is left of
//! it), never from how much happened to be there, so that boundaries are the same wherever a crash
//! made the work begin again.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use text_splitter::{Characters, ChunkConfig, TextSplitter};
use unicode_segmentation::UnicodeSegmentation;

use crate::lifecycle::Cursor;
use crate::output::{Chunk, Page};

/// What stands between two pages in the document's text.
pub const PAGE_SEPARATOR: &str = "\n\n";

/// How text is cut. Sizes are in Unicode scalar values.
///
/// Defaults: 1,000 to 2,000 characters, no overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct ChunkOptions {
    min_chars: u32,
    max_chars: u32,
    overlap_chars: u32,
}

/// Why sizes cannot be used together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "chunks of {min_chars} to {max_chars} characters with {overlap_chars} overlapping cannot be cut: \
     it takes 1 <= min <= max <= 1000000 and overlap < min"
)]
pub struct InvalidChunkOptions {
    min_chars: u32,
    max_chars: u32,
    overlap_chars: u32,
}

#[derive(Deserialize)]
struct Unchecked {
    min_chars: u32,
    max_chars: u32,
    overlap_chars: u32,
}

impl TryFrom<Unchecked> for ChunkOptions {
    type Error = InvalidChunkOptions;

    fn try_from(raw: Unchecked) -> Result<Self, Self::Error> {
        Self::new(raw.min_chars, raw.max_chars, raw.overlap_chars)
    }
}

impl Default for ChunkOptions {
    fn default() -> Self {
        Self {
            min_chars: 1000,
            max_chars: 2000,
            overlap_chars: 0,
        }
    }
}

impl ChunkOptions {
    /// Chunks of `min_chars` (a target) to `max_chars` (never exceeded), each of which repeats at most
    /// `overlap_chars` of the one before.
    ///
    /// # Errors
    /// Unless `1 <= min <= max <= 1,000,000` and `overlap < min`.
    pub fn new(
        min_chars: u32,
        max_chars: u32,
        overlap_chars: u32,
    ) -> Result<Self, InvalidChunkOptions> {
        if 1 <= min_chars
            && min_chars <= max_chars
            && max_chars <= 1_000_000
            && overlap_chars < min_chars
        {
            Ok(Self {
                min_chars,
                max_chars,
                overlap_chars,
            })
        } else {
            Err(InvalidChunkOptions {
                min_chars,
                max_chars,
                overlap_chars,
            })
        }
    }

    /// The size that a chunk should have at least.
    #[must_use]
    pub fn min_chars(&self) -> u32 {
        self.min_chars
    }

    /// The size that no chunk exceeds.
    #[must_use]
    pub fn max_chars(&self) -> u32 {
        self.max_chars
    }

    /// How much a chunk may repeat of the one before.
    #[must_use]
    pub fn overlap_chars(&self) -> u32 {
        self.overlap_chars
    }
}

/// A page's text as it enters the document's text: `\n` line ends, no white space around it, runs of
/// blank lines collapsed to one.
#[must_use]
pub fn canonical(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut blank = false;
    for line in text.trim().lines() {
        let line = line.trim_end();
        if line.is_empty() {
            blank = true;
            continue;
        }
        if !out.is_empty() {
            out.push_str(if blank { "\n\n" } else { "\n" });
        }
        blank = false;
        out.push_str(line);
    }
    out
}

/// Cuts a growing text into chunks.
#[derive(Debug)]
pub struct Chunker {
    options: ChunkOptions,
    splitter: TextSplitter<Characters>,
    /// The document's text from `buffer_start` on, as far as it is known.
    buffer: String,
    buffer_start: u64,
    /// Length of the known text.
    text_end: u64,
    ended: bool,
    /// Pages that reach into the buffer.
    spans: VecDeque<Span>,
    pages: u32,
    chunks: u32,
    chunk_start: u64,
    chunk_end: u64,
}

#[derive(Debug)]
struct Span {
    page: u32,
    start: u64,
    section: Option<String>,
}

impl Chunker {
    /// A chunker at the beginning of a document.
    #[must_use]
    pub fn new(options: ChunkOptions) -> Self {
        let body = body_sizes(options);
        Self {
            options,
            splitter: TextSplitter::new(ChunkConfig::new(body)),
            buffer: String::new(),
            buffer_start: 0,
            text_end: 0,
            ended: false,
            spans: VecDeque::new(),
            pages: 0,
            chunks: 0,
            chunk_start: 0,
            chunk_end: 0,
        }
    }

    /// A chunker that goes on at `cursor`. It wants the stored pages from
    /// [`first_needed_page`](Self::first_needed_page) on through [`restore`](Self::restore) before any
    /// new one.
    #[must_use]
    pub fn resume(options: ChunkOptions, cursor: &Cursor) -> Self {
        let mut chunker = Self::new(options);
        chunker.chunks = cursor.chunks;
        chunker.chunk_start = cursor.chunk_start;
        chunker.chunk_end = cursor.chunk_end;
        chunker.buffer_start = cursor.chunk_start;
        chunker.text_end = cursor.chunk_start;
        chunker.pages = cursor.chunk_page.saturating_sub(1);
        chunker
    }

    /// The first stored page that a chunker at `cursor` needs to see again.
    #[must_use]
    pub fn first_needed_page(cursor: &Cursor) -> u32 {
        cursor.chunk_page.max(1)
    }

    /// Takes a stored page in again.
    pub fn restore(&mut self, page: &Page) {
        self.spans.push_back(Span {
            page: page.number,
            start: page.start_offset,
            section: page.section.clone(),
        });
        self.pages = page.number;
        // The first page may begin before the next chunk does: only its rest is needed.
        let skip = self.text_end.saturating_sub(page.start_offset);
        if page.start_offset > self.text_end {
            self.append(PAGE_SEPARATOR.chars().skip(usize_of(
                self.text_end + PAGE_SEPARATOR.len() as u64 - page.start_offset,
            )));
        }
        self.append(page.text.chars().skip(usize_of(skip)));
    }

    /// Appends the next page's canonical text and says where it lies: `(start_offset, end_offset)`.
    pub fn push(&mut self, text: &str, section: Option<String>) -> (u64, u64) {
        if self.pages > 0 {
            self.append(PAGE_SEPARATOR.chars());
        }
        self.pages += 1;
        let start = self.text_end;
        self.spans.push_back(Span {
            page: self.pages,
            start,
            section,
        });
        self.append(text.chars());
        (start, self.text_end)
    }

    /// Says that no page follows, so that what is left can be cut.
    pub fn finish(&mut self) {
        self.ended = true;
    }

    /// How it cuts.
    #[must_use]
    pub fn options(&self) -> ChunkOptions {
        self.options
    }

    /// Whether [`finish`](Self::finish) was called.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Length of the text so far, in characters.
    #[must_use]
    pub fn text_chars(&self) -> u64 {
        self.text_end
    }

    /// Writes the chunker's position into `cursor`.
    pub fn save(&self, cursor: &mut Cursor) {
        cursor.chunks = self.chunks;
        cursor.chunk_start = self.chunk_start;
        cursor.chunk_end = self.chunk_end;
        cursor.chunk_page = self.span_at(self.chunk_start).map_or(0, |span| span.page);
    }

    /// The chunks that can be cut by now.
    pub fn cut(&mut self) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        while let Some(chunk) = self.cut_one() {
            chunks.push(chunk);
        }
        chunks
    }

    fn cut_one(&mut self) -> Option<Chunk> {
        let window_chars = 2 * u64::from(self.options.max_chars);
        if !self.ended && self.text_end < self.chunk_end + window_chars {
            return None;
        }
        let from = self.byte_at(self.chunk_end);
        let rest = &self.buffer[from..];
        let window = match rest.char_indices().nth(usize_of(window_chars)) {
            Some((end, _)) => &rest[..end],
            None => rest,
        };
        let Some((lead, length)) = self.body(window) else {
            // Nothing but white space: pass over it, or be done.
            let skipped = window.chars().count() as u64;
            if skipped > 0 {
                self.move_to(self.chunk_end + skipped, self.chunk_end + skipped);
                return self.cut_one();
            }
            return None;
        };
        let body_start = self.chunk_end + lead;
        let end = body_start + length;
        // An overlap is kept only where it and the white space behind it fit what is set aside for it.
        let repeated = body_start - self.chunk_start;
        let overlaps =
            self.chunk_start < self.chunk_end && repeated <= u64::from(self.options.overlap_chars);
        let start = if overlaps {
            self.chunk_start
        } else {
            body_start
        };
        let text = self.buffer[self.byte_at(start)..self.byte_at(end)].to_owned();
        let first = self.span_at(start)?;
        let chunk = Chunk {
            ordinal: self.chunks,
            first_page: first.page,
            last_page: self.span_at(end - 1)?.page,
            start_offset: start,
            end_offset: end,
            section: first.section.clone(),
            text,
        };
        self.chunks += 1;
        let next_start = end - overlap_of(&chunk.text, self.options.overlap_chars);
        self.move_to(next_start, end);
        Some(chunk)
    }

    /// Where the next chunk's own text lies in the window: characters before it, and its length.
    fn body(&self, window: &str) -> Option<(u64, u64)> {
        let sizes = body_sizes(self.options);
        let window = unwrapped(window);
        let mut pieces = self.splitter.chunk_char_indices(&window);
        let first = pieces.next()?;
        let start = first.char_offset;
        let mut end = start + first.chunk.chars().count();
        // A piece below the target, on either side, joins its neighbour where both fit.
        for piece in pieces {
            let piece_chars = piece.chunk.chars().count();
            let joined = piece.char_offset + piece_chars;
            let short = end - start < *sizes.start() || piece_chars < *sizes.start();
            if !short || joined - start > *sizes.end() {
                break;
            }
            end = joined;
        }
        Some((start as u64, (end - start) as u64))
    }

    /// Puts the next chunk's start and the last one's end, and forgets the text before.
    fn move_to(&mut self, start: u64, end: u64) {
        let drop = self.byte_at(start);
        self.buffer.drain(..drop);
        self.buffer_start = start;
        self.chunk_start = start;
        self.chunk_end = end;
        while self
            .spans
            .get(1)
            .is_some_and(|second| second.start <= start)
        {
            self.spans.pop_front();
        }
    }

    fn append(&mut self, text: impl Iterator<Item = char>) {
        for c in text {
            self.buffer.push(c);
            self.text_end += 1;
        }
    }

    /// The page that holds the character at `offset`; a separator belongs to the page before it.
    fn span_at(&self, offset: u64) -> Option<&Span> {
        let after = self.spans.partition_point(|span| span.start <= offset);
        self.spans.get(after.saturating_sub(1))
    }

    fn byte_at(&self, offset: u64) -> usize {
        let chars = usize_of(offset - self.buffer_start);
        self.buffer
            .char_indices()
            .nth(chars)
            .map_or(self.buffer.len(), |(byte, _)| byte)
    }
}

/// The text with single line feeds as blanks, of the same length: a PDF breaks lines where the paper
/// ends, so that only blank lines say more about where to cut than the end of a sentence.
fn unwrapped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    let mut before = None;
    while let Some(c) = rest.next() {
        let single = c == '\n' && before != Some('\n') && rest.peek() != Some(&'\n');
        out.push(if single { ' ' } else { c });
        before = Some(c);
    }
    out
}

/// Sizes of a chunk's own text, without what it repeats.
fn body_sizes(options: ChunkOptions) -> std::ops::RangeInclusive<usize> {
    let min = options.min_chars - options.overlap_chars;
    let max = options.max_chars - options.overlap_chars;
    usize_of(u64::from(min))..=usize_of(u64::from(max))
}

/// How many characters at the end of `text` the next chunk repeats: whole sentences where one fits,
/// else whole words, and at most `limit`.
fn overlap_of(text: &str, limit: u32) -> u64 {
    if limit == 0 {
        return 0;
    }
    let total = text.chars().count();
    let limit = usize_of(u64::from(limit)).min(total.saturating_sub(1));
    let Some((tail_start, _)) = text.char_indices().nth(total - limit) else {
        return 0;
    };
    let fits = |start: &usize| {
        *start >= tail_start && text[*start..].starts_with(|c: char| !c.is_whitespace())
    };
    let start = text
        .split_sentence_bound_indices()
        .map(|(at, _)| at)
        .find(fits)
        .or_else(|| text.split_word_bound_indices().map(|(at, _)| at).find(fits));
    start.map_or(0, |start| text[start..].chars().count() as u64)
}

fn usize_of(chars: u64) -> usize {
    usize::try_from(chars).expect("text in memory is smaller than the address space")
}
