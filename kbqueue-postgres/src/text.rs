//! Texts in a form that PostgreSQL can hold and index.

use std::borrow::Cow;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// `text` without U+0000, which PostgreSQL stores nowhere: it becomes U+0001 U+0001, and U+0001 becomes
/// U+0001 U+0002. Different texts stay different, and in the same order.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', '\u{1}']) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\0' => escaped.push_str("\u{1}\u{1}"),
            '\u{1}' => escaped.push_str("\u{1}\u{2}"),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// The inverse of [`escape`]. What it did not make is left as it is.
pub(crate) fn unescape(text: String) -> String {
    if !text.contains('\u{1}') {
        return text;
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let escaped = match (c, chars.peek()) {
            ('\u{1}', Some('\u{1}')) => Some('\0'),
            ('\u{1}', Some('\u{2}')) => Some('\u{1}'),
            _ => None,
        };
        if escaped.is_some() {
            chars.next();
        }
        plain.push(escaped.unwrap_or(c));
    }
    plain
}

/// A tenant as its line is named: so that nobody's comes first, then tenants in their order.
pub(crate) fn line(tenant: Option<&str>) -> String {
    named('-', tenant)
}

/// Who may claim a document that was started with this fingerprint once it is due.
pub(crate) fn audience(fingerprint: Option<&str>) -> String {
    named('*', fingerprint)
}

/// `nothing`, or `=name`; a name too long for an index entry is cut, and told apart by its hash.
fn named(nothing: char, name: Option<&str>) -> String {
    const LONGEST: usize = 512;
    let Some(name) = name else {
        return nothing.to_string();
    };
    let escaped = escape(name);
    if escaped.len() <= LONGEST {
        return format!("={escaped}");
    }
    let mut end = LONGEST;
    while !escaped.is_char_boundary(end) {
        end -= 1;
    }
    let mut short = format!("={}\u{1}#", &escaped[..end]);
    for byte in hash(name) {
        let _ = write!(short, "{byte:02x}");
    }
    short
}

/// What a dedupe key, of any length, is stored as.
pub(crate) fn hash(text: &str) -> Vec<u8> {
    Sha256::digest(text.as_bytes()).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ODD: &[&str] = &[
        "",
        "\0",
        "\0\0",
        "\0\u{1}",
        "\0a",
        "\u{1}",
        "\u{1}\0",
        "\u{1}\u{1}",
        "\u{1}\u{2}",
        "\u{2}",
        "a",
        "a\0",
        "a\0b",
        "a\u{1}",
        "ab",
        "\u{10ffff}",
    ];

    #[test]
    fn any_text_comes_back_as_it_was() {
        for text in ODD {
            let escaped = escape(text).into_owned();
            assert!(!escaped.contains('\0'));
            assert_eq!(unescape(escaped), *text);
        }
        // Nothing is lost of a text that somebody else wrote.
        for foreign in ["\u{1}", "a\u{1}b", "\u{1}#"] {
            assert_eq!(unescape(foreign.to_owned()), foreign);
        }
    }

    #[test]
    fn escaped_texts_are_in_the_order_of_the_texts() {
        assert!(ODD.is_sorted());
        let escaped: Vec<_> = ODD.iter().map(|text| escape(text)).collect();
        assert!(escaped.is_sorted());
        let mut lines = vec![line(None)];
        lines.extend(ODD.iter().map(|tenant| line(Some(tenant))));
        assert!(lines.is_sorted());
    }

    #[test]
    fn long_names_stay_different_and_fit_an_index() {
        let long = "ü".repeat(5000);
        let (one, two) = (line(Some(&long)), line(Some(&format!("{long}x"))));
        assert_ne!(one, two);
        assert!(one.len() < 600 && two.len() < 600);
    }
}
