//! Finds the objects of a damaged file, wherever its tables say they are.

use std::io;

use super::super::source::Source;
use super::syntax;

const BLOCK_BYTES: usize = 64 * 1024;
/// Longer than `4294967295 65535 obj` with some space in it.
const LOOK_BACK: usize = 64;
/// More than any real file; what is behind them is not looked for.
const MAX_FOUND: usize = 1_000_000;
/// pdfium knows no higher object number.
const MAX_NUMBER: u32 = 4_000_000;

/// Something found in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// `12 0 obj` stands at `offset`; the object itself begins at `body`.
    Object {
        number: u32,
        generation: u16,
        offset: u64,
        body: u64,
    },
    /// Behind the word `trailer`.
    Trailer { body: u64 },
}

impl Found {
    /// Where it begins in the file.
    pub(super) fn offset(&self) -> u64 {
        match self {
            Self::Object { offset, .. } => *offset,
            Self::Trailer { body } => *body,
        }
    }

    /// Where its value begins.
    pub(super) fn body(&self) -> u64 {
        let (Self::Object { body, .. } | Self::Trailer { body }) = self;
        *body
    }
}

/// All of them, in the file's order.
pub(super) fn scan(source: &Source) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut window = Vec::new();
    // Where the window begins in the file.
    let mut start = 0;
    let mut next = 0;
    while next < source.len() && found.len() < MAX_FOUND {
        let block = source.bytes(next, BLOCK_BYTES)?;
        next += block.len() as u64;
        let searched = window.len().min(LOOK_BACK);
        let dropped = window.len() - searched;
        window.drain(..dropped);
        start += dropped as u64;
        window.extend_from_slice(&block);
        // A word at the very end is found with the next block, by which it is known to have ended.
        let last = next == source.len();
        search(
            &window,
            start,
            searched.saturating_sub(WORD_BYTES),
            last,
            &mut found,
        );
    }
    Ok(found)
}

/// `trailer` and the byte behind it.
const WORD_BYTES: usize = 8;

/// Searches for words that begin at `from` or behind it, and are followed by a byte or by the end.
fn search(window: &[u8], start: u64, from: usize, last: bool, found: &mut Vec<Found>) {
    let end = if last {
        window.len()
    } else {
        window.len().saturating_sub(WORD_BYTES)
    };
    let mut at = from;
    while at < end {
        let rest = &window[at..];
        if rest.starts_with(b"obj") {
            found.extend(object_before(window, at, start));
            at += 3;
        } else if rest.starts_with(b"trailer") {
            let body = start + at as u64 + 7;
            found.push(Found::Trailer { body });
            at += 7;
        } else {
            at += 1;
        }
    }
}

/// The object whose word `obj` stands at `at`.
fn object_before(window: &[u8], at: usize, start: u64) -> Option<Found> {
    let followed = window.get(at + 3);
    if followed.is_some_and(u8::is_ascii_alphanumeric) {
        return None;
    }
    let (generation, rest) = number_before(&window[..at])?;
    let (number, rest) = number_before(&window[..rest])?;
    if number == 0 || number > MAX_NUMBER {
        return None;
    }
    Some(Found::Object {
        number,
        generation: u16::try_from(generation).ok()?,
        offset: start + rest as u64,
        body: start + at as u64 + 3,
    })
}

/// The number at the end of `bytes`, with white space behind it, and where it begins.
fn number_before(bytes: &[u8]) -> Option<(u32, usize)> {
    let space = bytes
        .iter()
        .rev()
        .take_while(|byte| syntax::is_space(**byte));
    let end = bytes.len() - space.count();
    if end == bytes.len() {
        return None;
    }
    let digits = bytes[..end]
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_digit());
    let begin = end - digits.count();
    let (number, _) = syntax::number(&bytes[begin..end])?;
    Some((number, begin))
}
