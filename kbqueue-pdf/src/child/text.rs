//! From pdfium's characters to the text that a reader sees. No I/O, no pdfium.

/// Collects a page's characters in pdfium's order, and leaves out what is no text.
///
/// - Line ends become `\n`, tabs a space; other control characters and codes that are no character
///   are dropped.
/// - Characters that are not visible are dropped, together with the white space behind them.
/// - A word that was hyphenated at a line's end is whole again. The hyphen stays where it belongs to
///   the word: before a digit (COVID-19) and between a small and a capital letter (Jean-Paul).
/// - Latin ligatures are spelled out.
#[derive(Debug, Default)]
pub(crate) struct TextBuilder {
    text: String,
    /// White space since the last visible character.
    gap: String,
    /// Whether a character was left out within the gap.
    left_out: bool,
    hyphen: bool,
    after_return: bool,
    high_surrogate: Option<u16>,
}

impl TextBuilder {
    /// Adds the character with this code, unless it is not `visible`.
    pub(crate) fn push(&mut self, code: u32, visible: bool) {
        let Some(c) = self.decode(code) else {
            return;
        };
        let after_return = std::mem::replace(&mut self.after_return, c == '\r');
        match c {
            '\n' if after_return => {}
            '\r' | '\n' | '\u{2028}' | '\u{2029}' => self.gap.push('\n'),
            '\t' => self.gap.push(' '),
            '\u{FFFE}' | '\u{FFFF}' => {}
            _ if c.is_control() => {}
            _ if c.is_whitespace() => self.gap.push(c),
            _ if visible => self.push_visible(c),
            _ => self.left_out = true,
        }
    }

    /// Ends the word, unless white space has.
    pub(crate) fn end_word(&mut self) {
        if self.gap.is_empty() {
            self.gap.push(' ');
        }
    }

    /// Ends the line.
    pub(crate) fn end_line(&mut self) {
        self.gap.push('\n');
    }

    /// Adds a hyphen at the end of a line behind which the word goes on.
    pub(crate) fn push_line_end_hyphen(&mut self, visible: bool) {
        if visible {
            self.close_gap();
            self.hyphen = true;
        } else {
            self.left_out = true;
        }
    }

    /// The text, without white space at its end.
    pub(crate) fn finish(mut self) -> String {
        if self.hyphen {
            self.text.push('-');
        }
        self.text
    }

    fn push_visible(&mut self, c: char) {
        self.close_gap();
        if std::mem::take(&mut self.hyphen) {
            let after_small = self.text.ends_with(char::is_lowercase);
            if c.is_numeric() || (after_small && c.is_uppercase()) {
                self.text.push('-');
            }
        }
        match ligature(c) {
            Some(letters) => self.text.push_str(letters),
            None => self.text.push(c),
        }
    }

    fn close_gap(&mut self) {
        if std::mem::take(&mut self.left_out) {
            // The white space around what was left out is not that of a blank line.
            if self.gap.contains('\n') {
                self.gap.replace_range(.., "\n");
            } else if !self.gap.is_empty() {
                self.gap.replace_range(.., " ");
            }
        }
        if self.gap.is_empty() {
            return;
        }
        // Not at a line's end after all.
        if std::mem::take(&mut self.hyphen) {
            self.text.push('-');
        }
        if !self.text.is_empty() {
            self.text.push_str(&self.gap);
        }
        self.gap.clear();
    }

    /// The character of a code; two halves of a UTF-16 pair make one.
    fn decode(&mut self, code: u32) -> Option<char> {
        let high = self.high_surrogate.take();
        match u16::try_from(code) {
            Ok(unit @ 0xD800..0xDC00) => {
                self.high_surrogate = Some(unit);
                None
            }
            Ok(low @ 0xDC00..0xE000) => char::decode_utf16([high?, low]).next()?.ok(),
            _ => char::from_u32(code),
        }
    }
}

fn ligature(c: char) -> Option<&'static str> {
    Some(match c {
        '\u{FB00}' => "ff",
        '\u{FB01}' => "fi",
        '\u{FB02}' => "fl",
        '\u{FB03}' => "ffi",
        '\u{FB04}' => "ffl",
        '\u{FB05}' | '\u{FB06}' => "st",
        _ => return None,
    })
}

/// A title or label as one line of at most `max_chars` characters: white space collapsed, control
/// characters dropped. `None` when nothing is left.
pub(crate) fn one_line(raw: &str, max_chars: usize) -> Option<String> {
    let mut line = String::new();
    for word in raw.split_whitespace() {
        let start = line.len();
        line.extend(word.chars().filter(|c| !c.is_control()));
        if start > 0 && line.len() > start {
            line.insert(start, ' ');
        }
    }
    if let Some((end, _)) = line.char_indices().nth(max_chars) {
        line.truncate(end);
    }
    (!line.is_empty()).then_some(line)
}

/// A PDF date (`D:20240131235959+01'00'`) as RFC 3339, or the parts of it that are there
/// (`2024`, `2024-01`, `2024-01-31`). Anything else comes back as it is.
pub(crate) fn date(raw: &str) -> String {
    parse_date(raw).unwrap_or_else(|| raw.to_owned())
}

fn parse_date(raw: &str) -> Option<String> {
    let rest = raw.strip_prefix("D:").unwrap_or(raw);
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, zone) = rest.split_at(end);
    let part = |from: usize, most: u8| {
        let text = digits.get(from..from + 2)?;
        (text.parse::<u8>().ok()? <= most).then_some(text)
    };
    let year = digits.get(..4)?;
    match digits.len() {
        4 => Some(year.to_owned()),
        6 => Some(format!("{year}-{}", part(4, 12)?)),
        8 => Some(format!("{year}-{}-{}", part(4, 12)?, part(6, 31)?)),
        12 | 14 => {
            let seconds = if digits.len() == 14 {
                part(12, 59)?
            } else {
                "00"
            };
            Some(format!(
                "{year}-{}-{}T{}:{}:{seconds}{}",
                part(4, 12)?,
                part(6, 31)?,
                part(8, 23)?,
                part(10, 59)?,
                parse_zone(zone)?,
            ))
        }
        _ => None,
    }
}

/// `Z`, `+01'00'`, `+01'00`, `+01:00`, `+0100` or `+01` as RFC 3339 has it; nothing for nothing.
fn parse_zone(zone: &str) -> Option<String> {
    let digits: String = zone.chars().filter(char::is_ascii_digit).collect();
    match (zone.chars().next(), digits.len()) {
        (None, _) => Some(String::new()),
        (Some('Z' | 'z'), _) => Some("Z".to_owned()),
        (Some(sign @ ('+' | '-')), 2) => Some(format!("{sign}{digits}:00")),
        (Some(sign @ ('+' | '-')), 4) => Some(format!("{sign}{}:{}", &digits[..2], &digits[2..])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(text: &str) -> String {
        let mut builder = TextBuilder::default();
        for c in text.chars() {
            match c {
                // `¬` stands for pdfium's line-end hyphen, capital X for a character that is cut off.
                '¬' => builder.push_line_end_hyphen(true),
                c => builder.push(c.into(), c != 'X'),
            }
        }
        builder.finish()
    }

    #[test]
    fn line_ends_are_newlines_and_tabs_are_spaces() {
        assert_eq!(build("a\r\nb\nc\rd\r\n\r\ne\tf"), "a\nb\nc\nd\n\ne f");
    }

    #[test]
    fn control_characters_and_noncharacters_are_dropped() {
        assert_eq!(
            build("a\0b\u{C}c\u{85}d\u{93}e\u{FFFE}f\u{FFFF}g\u{2}h"),
            "abcdefgh"
        );
    }

    #[test]
    fn hyphenated_words_are_joined() {
        assert_eq!(build("infor¬mation, DOCU¬MENT"), "information, DOCUMENT");
    }

    #[test]
    fn hyphens_that_belong_to_a_word_stay() {
        assert_eq!(build("COVID¬19, Jean¬Paul"), "COVID-19, Jean-Paul");
        assert_eq!(build("the end¬"), "the end-");
        assert_eq!(build("half¬\r\nway"), "half-\nway");
    }

    #[test]
    fn ligatures_are_spelled_out() {
        assert_eq!(
            build("e\u{FB00}ect \u{FB01}n \u{FB02}y o\u{FB03}ce wa\u{FB04}e \u{FB05}ep \u{FB06}op"),
            "effect fin fly office waffle step stop"
        );
    }

    #[test]
    fn characters_that_are_cut_off_leave_no_trace() {
        assert_eq!(build("one\r\nXXX\r\ntwo"), "one\ntwo");
        assert_eq!(build("one XX two"), "one two");
        assert_eq!(build("oneXXtwo"), "onetwo");
        assert_eq!(build("XX\r\none\r\nXX"), "one");
    }

    #[test]
    fn surrogate_pairs_make_one_character_and_lone_ones_none() {
        let mut builder = TextBuilder::default();
        for code in [
            0x61,
            0xD83D,
            0xDE00,
            0xD83D,
            0x62,
            0xDE00,
            0x1F600,
            0xF0A8_A780,
        ] {
            builder.push(code, true);
        }
        assert_eq!(builder.finish(), "a😀b😀");
    }

    #[test]
    fn a_line_is_one_line() {
        assert_eq!(
            one_line(" a\r\n b\u{1}\t\u{2} c ", 10).as_deref(),
            Some("a b c")
        );
        assert_eq!(one_line("äöüß", 3).as_deref(), Some("äöü"));
        assert_eq!(one_line(" \u{1} \n", 10), None);
    }

    #[test]
    fn dates_become_rfc_3339() {
        for (raw, expected) in [
            ("D:20240131235959+01'00'", "2024-01-31T23:59:59+01:00"),
            ("D:20240131235959-05'30", "2024-01-31T23:59:59-05:30"),
            ("20240131235959Z", "2024-01-31T23:59:59Z"),
            ("D:20240131235959Z00'00'", "2024-01-31T23:59:59Z"),
            ("D:202401312359", "2024-01-31T23:59:00"),
            ("D:20240131", "2024-01-31"),
            ("D:2024", "2024"),
            ("D:20249931235959", "D:20249931235959"),
            ("Mon Jan 31 2024", "Mon Jan 31 2024"),
            ("", ""),
        ] {
            assert_eq!(date(raw), expected);
        }
    }
}
