//! Bytes as text.

use std::fmt::Write;

/// Lower-case hexadecimal digits, two a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Text as one value in an address or a header: only what RFC 3986 calls unreserved stays as it is.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_one_value() {
        assert_eq!(percent_encoded("a-Z/ü&b=%"), "a-Z%2F%C3%BC%26b%3D%25");
        assert_eq!(hex(&[0, 10, 255]), "000aff");
    }
}
