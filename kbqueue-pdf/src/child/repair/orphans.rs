//! Content of pages whose own objects are lost.

use std::io;

use super::super::source::Source;
use super::streams;
use super::syntax::{self, Entries};

pub(super) const MAX: usize = 5000;
const LOOKED_AT_BYTES: usize = 64 * 1024;
/// So much of a content stream's text has to be letters as they are in ASCII.
const MIN_LETTERS: usize = 20;

/// A stream that nothing names.
pub(super) struct Orphan {
    number: u32,
    /// Where its dictionary and its data begin.
    body: u64,
    data: u64,
}

impl Orphan {
    /// `None` for what is no stream, or one of another kind.
    pub(super) fn new(number: u32, entries: &Entries<'_>, body: u64, data: u64) -> Option<Self> {
        let other = ["Subtype", "N", "Length1", "FunctionType", "ShadingType"];
        let is_other = other
            .iter()
            .any(|name| syntax::get(entries, name).is_some());
        let is_stream = syntax::get(entries, "Length").is_some();
        (is_stream && !is_other).then_some(Self { number, body, data })
    }

    /// What it begins with; nothing if it cannot be read.
    pub(super) fn content(&self, source: &Source) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.data - self.body).unwrap_or(usize::MAX);
        let dictionary = source.bytes(self.body, length)?;
        let Some((entries, _)) = syntax::dictionary(&dictionary) else {
            return Ok(Vec::new());
        };
        let data = streams::data(source, &entries, self.data, LOOKED_AT_BYTES)?;
        Ok(data.unwrap_or_default())
    }

    /// A page that shows it, on paper that holds both A4 and Letter.
    pub(super) fn page(&self) -> String {
        let number = self.number;
        format!("<< /Type /Page /MediaBox [0 0 612 842] /Resources << >> /Contents {number} 0 R >>")
    }
}

/// Whether the content has text whose codes are letters, rather than numbers of glyphs.
pub(super) fn shows_latin_text(content: &[u8]) -> bool {
    if !content.windows(2).any(|word| word == b"BT") {
        return false;
    }
    let (mut letters, mut others) = (0, 0);
    let mut inside = false;
    for byte in content {
        match byte {
            b'(' => inside = true,
            b')' => inside = false,
            _ if !inside => {}
            byte if byte.is_ascii_alphabetic() => letters += 1,
            _ => others += 1,
        }
    }
    letters >= MIN_LETTERS && letters > others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_from_numbers_of_glyphs() {
        assert!(shows_latin_text(
            b"BT /F1 9 Tf [(The quick)-300(brown fox jumps)] TJ ET"
        ));
        assert!(!shows_latin_text(b"BT /F1 9 Tf <004100420043> Tj ET"));
        assert!(!shows_latin_text(
            b"q 1 0 0 1 0 0 cm (The quick brown fox jumps over) Q"
        ));
        assert!(!shows_latin_text(
            b"BT (\\000\\001\\002\\003\\004\\005\\006\\007abcdefghijklmnopqrst) ET"
        ));
    }
}
