//! As much of PDF's syntax as a repair needs: where values begin and end. Nothing recurses.

/// A dictionary's entries: names without the slash, and values as they are written.
pub(super) type Entries<'a> = Vec<(&'a [u8], &'a [u8])>;

/// The object at the start of `bytes`, white space before it skipped: a dictionary's entries and
/// where it ends. `None` when it is something else, or not complete.
pub(super) fn dictionary(bytes: &[u8]) -> Option<(Entries<'_>, usize)> {
    let mut at = skip_space(bytes, 0);
    if !bytes[at..].starts_with(b"<<") {
        return None;
    }
    at += 2;
    let mut entries = Vec::new();
    loop {
        at = skip_space(bytes, at);
        match bytes.get(at)? {
            b'>' => return bytes[at..].starts_with(b">>").then_some((entries, at + 2)),
            b'/' => {
                let name_end = skip_regular(bytes, at + 1);
                let start = skip_space(bytes, name_end);
                let end = value_end(bytes, start)?;
                entries.push((&bytes[at + 1..name_end], &bytes[start..end]));
                at = end;
            }
            // Damage: what is no name is passed over.
            _ => at = value_end(bytes, at)?.max(at + 1),
        }
    }
}

/// Where the value that begins at `at` ends. `None` when it is not complete.
pub(super) fn value_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0_u32;
    let mut at = at;
    loop {
        at = skip_space(bytes, at);
        let rest = &bytes[at..];
        at += match rest.first()? {
            b'(' => string_length(rest)?,
            b'<' if rest.starts_with(b"<<") => {
                depth += 1;
                2
            }
            b'<' => rest.iter().position(|byte| *byte == b'>')? + 1,
            b'[' => {
                depth += 1;
                1
            }
            b'>' | b']' => {
                if depth == 0 {
                    // The end of what is around: an empty value.
                    return Some(at);
                }
                depth -= 1;
                1 + usize::from(rest.starts_with(b">>"))
            }
            b')' | b'{' | b'}' => 1,
            b'/' => skip_regular(rest, 1),
            _ => match reference_length(rest) {
                Some(length) => length,
                None => skip_regular(rest, 0),
            },
        };
        if depth == 0 {
            return Some(at);
        }
    }
}

/// The value of an entry.
pub(super) fn get<'a>(entries: &Entries<'a>, name: &str) -> Option<&'a [u8]> {
    entries
        .iter()
        .find(|(found, _)| *found == name.as_bytes())
        .map(|(_, value)| *value)
}

/// The object number of a value `12 0 R`.
pub(super) fn reference(value: &[u8]) -> Option<u32> {
    reference_length(value)?;
    number(value).map(|(number, _)| number)
}

/// The object numbers of an array of references.
pub(super) fn references(array: &[u8]) -> Vec<u32> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < array.len() {
        let rest = &array[at..];
        match reference_length(rest) {
            Some(length) => {
                found.extend(reference(rest));
                at += length;
            }
            None => at += skip_regular(rest, 0).max(1),
        }
    }
    found
}

/// The digits at the start of `bytes` as a number, and how many there are.
pub(super) fn number(bytes: &[u8]) -> Option<(u32, usize)> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.count();
    let text = std::str::from_utf8(&bytes[..length]).ok()?;
    Some((text.parse().ok()?, length))
}

/// White space and comments from `at` on.
pub(super) fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'%' => {
                let line = bytes[at..].iter().position(|byte| is_line_end(*byte));
                at = line.map_or(bytes.len(), |length| at + length);
            }
            byte if is_space(*byte) => at += 1,
            _ => break,
        }
    }
    at
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, 0 | b'\t' | b'\n' | 0x0C | b'\r' | b' ')
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

fn is_delimiter(byte: u8) -> bool {
    matches!(
        byte,
        b'(' | b')' | b'<' | b'>' | b'[' | b']' | b'{' | b'}' | b'/' | b'%'
    )
}

fn skip_regular(bytes: &[u8], at: usize) -> usize {
    let regular = |byte: &&u8| !is_space(**byte) && !is_delimiter(**byte);
    at + bytes[at..].iter().take_while(regular).count()
}

/// The length of a string in parentheses.
fn string_length(bytes: &[u8]) -> Option<usize> {
    let mut depth = 0_u32;
    let mut escaped = false;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' => depth += 1,
            b')' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// The length of `12 0 R`.
fn reference_length(bytes: &[u8]) -> Option<usize> {
    let (_, mut at) = number(bytes)?;
    let generation = skip_space(bytes, at);
    at = generation + number(&bytes[generation..])?.1;
    at = skip_space(bytes, at);
    let followed = bytes.get(at + 1);
    let ends = followed.is_none_or(|byte| is_space(*byte) || is_delimiter(*byte));
    (bytes.get(at) == Some(&b'R') && ends).then_some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_end_where_their_values_do() {
        let text = b" << /A(x\\)(y))/B<</C[1 2]>>/D 12 0 R/E[<41>]%>>\n/F/G/H true/I -1.5>> rest";
        let (entries, end) = dictionary(text).unwrap();
        let shown: Vec<_> = entries
            .iter()
            .map(|(name, value)| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                (text(name), text(value))
            })
            .collect();
        let expected = [
            ("A", "(x\\)(y))"),
            ("B", "<</C[1 2]>>"),
            ("D", "12 0 R"),
            ("E", "[<41>]"),
            ("F", "/G"),
            ("H", "true"),
            ("I", "-1.5"),
        ];
        assert_eq!(shown, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
        assert_eq!(&text[end..], b" rest");
    }

    #[test]
    fn what_is_cut_off_is_no_dictionary() {
        let whole = b"<< /A (x) /B << /C [1 2 3] >> /D 12 0 R >>";
        assert!(dictionary(whole).is_some());
        for cut in 0..whole.len() - 1 {
            assert!(dictionary(&whole[..cut]).is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn nesting_costs_no_stack() {
        let deep = [b"<</A".repeat(1_000_000), b">>".repeat(1_000_000)].concat();
        assert!(value_end(&deep, 0).is_some());
    }

    #[test]
    fn references_are_found_in_arrays() {
        assert_eq!(references(b"[1 0 R 22 0 R\n333 1 R]"), [1, 22, 333]);
        assert_eq!(references(b"[1 0 null 4 0 R]"), [4]);
        assert_eq!(reference(b"12 0 R"), Some(12));
        assert_eq!(reference(b"12 0 Rx"), None);
        assert_eq!(reference(b"99999999999 0 R"), None);
    }
}
