//! Whether a page's text layer is what a reader sees, or its pictures have to be read. No I/O.

/// What a page's characters and pictures tell.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Signals {
    /// Visible characters that are no white space.
    pub(super) chars: usize,
    /// Whether all text is of the invisible kind that scanners lay over their pictures.
    pub(super) hidden: bool,
    /// Share of characters whose font has no word for what they mean.
    pub(super) unmapped: f64,
    /// Share of words that look like words.
    pub(super) plausible: f64,
    /// Share of the page that pictures cover, …
    pub(super) pictures: f64,
    /// … and share of it where they do and no text does.
    pub(super) uncovered: f64,
    /// Drawn lines and shapes.
    pub(super) paths: usize,
}

/// How to read a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Text,
    WholePage,
    Pictures,
}

const FEW_CHARS: usize = 25;
const ENOUGH_CHARS: usize = 50;
const MAX_UNMAPPED: f64 = 0.2;
const MIN_PLAUSIBLE: f64 = 0.3;
const MIN_PLAUSIBLE_HIDDEN: f64 = 0.5;
const SAMPLED_WORDS: usize = 300;
const SCAN: f64 = 0.5;
const PICTURE: f64 = 0.05;
const OUTLINES: usize = 500;

/// The decision, and the reason that is stored with the page.
pub(super) fn decide(signals: &Signals) -> (Decision, &'static str) {
    let s = signals;
    if s.hidden {
        return if s.plausible >= MIN_PLAUSIBLE_HIDDEN && s.chars >= FEW_CHARS {
            (Decision::Text, "hidden_text_layer")
        } else {
            (Decision::WholePage, "poor_hidden_text")
        };
    }
    if s.chars >= FEW_CHARS && s.unmapped > MAX_UNMAPPED
        || s.chars >= ENOUGH_CHARS && s.plausible < MIN_PLAUSIBLE
    {
        return (Decision::WholePage, "unreadable_font");
    }
    if s.chars < FEW_CHARS && s.pictures > SCAN {
        return (Decision::WholePage, "scan");
    }
    if s.uncovered > PICTURE {
        return (Decision::Pictures, "pictures");
    }
    if s.chars < FEW_CHARS && s.paths > OUTLINES {
        return (Decision::WholePage, "outlined_text");
    }
    let reason = if s.chars == 0 {
        "no_text"
    } else {
        "text_layer"
    };
    (Decision::Text, reason)
}

/// Share of words in `text` that look like words; 1 where there are too few to tell.
pub(super) fn plausible(text: &str) -> f64 {
    let (mut words, mut good) = (0_u32, 0_u32);
    for word in text.split_whitespace().take(SAMPLED_WORDS) {
        words += 1;
        good += u32::from(is_plausible(word));
    }
    if words < 10 {
        return 1.0;
    }
    f64::from(good) / f64::from(words)
}

fn is_plausible(word: &str) -> bool {
    let (mut all, mut kept, mut latin, mut turns) = (0, 0, 0, 0);
    let mut has_vowel = false;
    let mut before = ' ';
    for c in word.chars() {
        all += 1;
        kept += usize::from(c.is_alphanumeric());
        latin += usize::from(c.is_ascii_alphabetic());
        has_vowel |= "aeiouyAEIOUY".contains(c);
        // As in `hWRONGv`.
        turns += usize::from(before.is_ascii_lowercase() && c.is_ascii_uppercase());
        before = c;
    }
    if kept == 0 {
        // A dash or a bullet on its own says nothing, signs in a row do.
        return all <= 2;
    }
    if kept * 2 < all {
        return false;
    }
    latin < 5 || latin < kept || has_vowel && turns * 3 < latin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_read_by_the_rule() {
        let text = Signals {
            chars: 2000,
            plausible: 1.0,
            ..Signals::default()
        };
        let cases = [
            (text, Decision::Text, "text_layer"),
            (Signals::default(), Decision::Text, "no_text"),
            (
                Signals {
                    unmapped: 0.3,
                    ..text
                },
                Decision::WholePage,
                "unreadable_font",
            ),
            (
                Signals {
                    plausible: 0.1,
                    ..text
                },
                Decision::WholePage,
                "unreadable_font",
            ),
            (
                Signals {
                    uncovered: 0.2,
                    ..text
                },
                Decision::Pictures,
                "pictures",
            ),
            (
                Signals {
                    hidden: true,
                    ..text
                },
                Decision::Text,
                "hidden_text_layer",
            ),
            (
                Signals {
                    hidden: true,
                    plausible: 0.2,
                    ..text
                },
                Decision::WholePage,
                "poor_hidden_text",
            ),
            // A page number in the text layer of a scan.
            (
                Signals {
                    chars: 3,
                    pictures: 0.95,
                    uncovered: 0.95,
                    ..text
                },
                Decision::WholePage,
                "scan",
            ),
            (
                Signals {
                    chars: 0,
                    paths: 5000,
                    ..text
                },
                Decision::WholePage,
                "outlined_text",
            ),
        ];
        for (signals, decision, reason) in cases {
            assert_eq!(decide(&signals), (decision, reason), "{signals:?}");
        }
    }

    #[test]
    fn words_are_told_from_glyph_numbers() {
        let good = "The quick brown fox jumps over the lazy dog, 12.5 % of it; 数据 и слова.";
        assert!(plausible(good) > 0.9);
        assert!(plausible("12 34 56.7 89 0 1,234 5 6 7 8 9 10") > 0.9);
        let bad = "!\"#$ %&'( )*+, -./: ;<=> ?@[\\ ]^_` {|}~ !\"#$ %&'( )*+, xkcdfrt qwrtpsdf";
        assert!(plausible(bad) < 0.3);
    }
}
