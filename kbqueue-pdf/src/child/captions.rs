//! Finds the line beside a picture that names it.

use super::layout::Break;
use super::raw::Rect;

/// Words that begin a caption, in small letters; a number follows.
const WORDS: [&str; 14] = [
    "fig",
    "figure",
    "table",
    "tab",
    "abb",
    "abbildung",
    "tabelle",
    "figura",
    "tabla",
    "tableau",
    "scheme",
    "chart",
    "plate",
    "рис",
];
const SIGNS: [char; 4] = ['图', '図', '圖', '表'];
/// In heights of the caption's line.
const NEAR: f64 = 1.5;
const MAX_LINES: usize = 4;

/// A line of a page: its text, its box as it is shown, and what stands behind it.
pub(super) struct TextLine {
    pub(super) text: String,
    pub(super) shown: Rect,
    pub(super) end: Break,
}

/// The caption of what is shown at `picture`, up to `max_chars` characters.
pub(super) fn beside(picture: &Rect, lines: &[TextLine], max_chars: usize) -> Option<String> {
    let distance = |line: &TextLine| {
        let beside = line.shown.left < picture.right && line.shown.right > picture.left;
        let below = line.shown.top - picture.bottom;
        let above = picture.top - line.shown.bottom;
        let height = line.shown.bottom - line.shown.top;
        let distance = below.max(above);
        (beside && distance <= NEAR * height && is_caption(&line.text)).then_some(distance)
    };
    let (at, _) = lines
        .iter()
        .enumerate()
        .filter_map(|(at, line)| distance(line).map(|distance| (at, distance)))
        .min_by(|a, b| a.1.total_cmp(&b.1))?;
    let mut caption = String::new();
    for line in lines[at..].iter().take(MAX_LINES) {
        if !caption.is_empty() {
            caption.push(' ');
        }
        caption.push_str(line.text.trim());
        if line.end == Break::Paragraph {
            break;
        }
    }
    super::text::one_line(&caption, max_chars)
}

fn is_caption(line: &str) -> bool {
    let line = line.trim_start();
    if line.starts_with(SIGNS) {
        return line.chars().take(4).any(char::is_numeric);
    }
    let end = line
        .find(|c: char| !c.is_alphabetic())
        .unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    let number = rest.trim_start_matches(|c: char| c == '.' || c.is_whitespace());
    let numbered = number.starts_with(|c: char| c.is_numeric())
        || number.starts_with(['I', 'V', 'X']) && rest.starts_with([' ', '.']);
    numbered && WORDS.contains(&word.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_begin_with_a_word_and_a_number() {
        for line in [
            "Figure 3: A",
            "FIG. 2a",
            "Table IV. B",
            "Abb. 1",
            "图 3 水",
            "Рис. 5",
        ] {
            assert!(is_caption(line), "{line}");
        }
        for line in [
            "Figures 3 and 4",
            "Table of contents",
            "The figure 3",
            "图书馆",
            "",
        ] {
            assert!(!is_caption(line), "{line}");
        }
    }

    #[test]
    fn the_nearest_caption_is_taken_with_its_paragraph() {
        let line = |text: &str, top: f64, end| TextLine {
            text: text.to_owned(),
            shown: Rect {
                left: 100.0,
                bottom: top + 12.0,
                right: 300.0,
                top,
            },
            end,
        };
        let lines = [
            line("Figure 1: far above", 20.0, Break::Line),
            line("Figure 2: below,", 205.0, Break::Line),
            line("in two lines", 219.0, Break::Paragraph),
            line("Text", 240.0, Break::Line),
        ];
        let picture = Rect {
            left: 90.0,
            top: 100.0,
            right: 310.0,
            bottom: 200.0,
        };
        assert_eq!(
            beside(&picture, &lines, 100).as_deref(),
            Some("Figure 2: below, in two lines")
        );
        assert_eq!(beside(&picture, &lines[2..], 100), None);
    }
}
