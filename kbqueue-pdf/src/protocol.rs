//! What passes between the host and a child that reads a document.
//!
//! A message is its length, four bytes in little-endian order, and so many bytes. The host sends
//! [`Request`]s; the child answers with [`Frame`]s. The child has read a stranger's document, so the
//! host takes a frame for what it is: bytes from a stranger. [`decode`] is pure and allocates no more
//! than the frame is long.

mod reader;
mod writer;

use std::io::{self, Read};

use kbqueue_core::extract::ExtractedPage;
use kbqueue_core::{ExtractError, Password, Properties};

pub(crate) use reader::decode;
pub(crate) use writer::{encode_needs_ocr, encode_opened, encode_page, encode_refused};

/// Longest message. A page whose pictures would make it longer comes without the last of them.
pub(crate) const MAX_FRAME_BYTES: usize = 32 << 20;
/// How long the length of a message is.
pub(crate) const LENGTH_BYTES: usize = 4;

/// Longest document.
pub(crate) const MAX_PAGES: u32 = 100_000;

const MAX_TEXT_BYTES: usize = 8 << 20;
const MAX_NAME_BYTES: usize = 4 << 10;
const MAX_MESSAGE_BYTES: usize = 4 << 10;
const MAX_PROPERTIES: usize = 64;
const MAX_IMAGES: usize = 10_000;
const MAX_CAUSES: usize = 8;

/// What pictures may claim to be. Some are served to browsers as they are, so a child must not be able
/// to call its bytes a web page.
const IMAGE_TYPES: [&str; 2] = ["image/png", "image/jpeg"];

const OPENED: u8 = 1;
const REFUSED: u8 = 2;
const PAGE: u8 = 3;
const NEEDS_OCR: u8 = 4;

/// What a child says.
#[derive(Debug)]
pub(crate) enum Frame {
    /// The document is open.
    Opened {
        /// From 1 to [`MAX_PAGES`].
        total_pages: u32,
        properties: Properties,
    },
    /// The document, or the page asked for, cannot be had: the attempt is over.
    Refused(ExtractError),
    /// A page.
    Page(ExtractedPage),
    /// The page of this number takes OCR, which this child does not have. It waits for the next request.
    NeedsOcr(u32),
}

/// A frame that no honest child sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("it ends too early")]
    Short,
    #[error("it goes on behind its end")]
    Trailing,
    #[error("it is of no known kind")]
    Kind,
    #[error("it is longer than allowed")]
    Length,
    #[error("it has text that is not UTF-8")]
    Utf8,
    #[error("it has a value that makes no sense")]
    Value,
}

/// The first message to a child: the length of the password in one byte, and the password; 0 for none.
/// It comes with no command to the template, which is to see nothing of any document.
pub(crate) fn encode_opening(password: Option<&Password>) -> Vec<u8> {
    let password = password.map_or("", Password::reveal);
    let length = u8::try_from(password.len()).expect("a password has at most 127 bytes");
    let mut message = vec![length];
    message.extend_from_slice(password.as_bytes());
    message
}

/// The opposite, in the child.
pub(crate) fn read_opening(mut from: impl Read) -> io::Result<Option<Password>> {
    let mut length = [0];
    from.read_exact(&mut length)?;
    let mut password = vec![0; length[0].into()];
    from.read_exact(&mut password)?;
    let password = String::from_utf8(password).map_err(io::Error::other)?;
    if password.is_empty() {
        return Ok(None);
    }
    Password::new(password).map(Some).map_err(io::Error::other)
}

/// Pages `first..=last` are wanted, one frame each, in order, up to the first that needs OCR. Two
/// numbers of four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) first: u32,
    pub(crate) last: u32,
}

impl Request {
    pub(crate) const BYTES: usize = 8;

    pub(crate) fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.first.to_le_bytes());
        bytes[4..].copy_from_slice(&self.last.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: [u8; Self::BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Self {
            first: u32::from_le_bytes([a, b, c, d]),
            last: u32::from_le_bytes([e, f, g, h]),
        }
    }
}

/// For tests and fuzzing: whatever the bytes are, they are refused or make a frame, and a frame that is
/// encoded again comes out the same.
#[cfg(any(test, feature = "hostile"))]
pub(crate) fn check(message: &[u8]) {
    let Ok(frame) = decode(message) else { return };
    let shown = format!("{frame:?}");
    let again = match frame {
        Frame::Opened {
            total_pages,
            properties,
        } => encode_opened(total_pages, &properties),
        Frame::Refused(error) => encode_refused(&error),
        Frame::Page(page) => encode_page(page),
        Frame::NeedsOcr(number) => encode_needs_ocr(number),
    };
    let again = decode(&again[LENGTH_BYTES..]).expect("the host takes what a child encodes");
    assert_eq!(format!("{again:?}"), shown);
}

#[cfg(test)]
mod tests;
