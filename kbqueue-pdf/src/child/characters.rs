//! A page's characters as pdfium has them, and where they stand.

use std::ffi::c_int;

use super::captions::TextLine;
use super::layout::{self, Break, Line};
use super::raw::{Page, Rect, TextPage};
use super::text::TextBuilder;

/// Alef, bare and with its marks: the second half of a ligature with lam.
const ALEFS: [u32; 4] = [0x622, 0x623, 0x625, 0x627];
const LAM: u32 = 0x644;

/// A space that a reader sees is at least as wide, in heights of the line.
const SEEN_GAP: f64 = 0.2;

/// So many characters tell whether a font can be trusted.
const SAMPLE: usize = 100;

/// All characters of a page.
pub(super) struct Characters<'p> {
    page: &'p TextPage<'p>,
    codes: Vec<u32>,
    /// Whether each can be seen; empty where all can.
    visible: Vec<bool>,
}

impl<'p> Characters<'p> {
    /// The first `count` characters of `page`, of which those within `bounds` can be seen.
    pub(super) fn read(page: &'p TextPage<'p>, count: c_int, bounds: Option<Rect>) -> Self {
        let expected = usize::try_from(count).unwrap_or(0);
        let units = page.units(count);
        // Asked for at once they cost a fifth, but those without a code and above U+FFFF are missing.
        let whole = units.len() == expected && !units.iter().any(|u| (0xD800..0xE000).contains(u));
        let codes = if whole {
            units.into_iter().map(u32::from).collect()
        } else {
            (0..count).map(|index| page.code(index)).collect()
        };
        // Where the boxes around all of them lie inside, none need be asked for its own.
        let outside = |bounds: &Rect| !page.runs().iter().all(|run| bounds.encloses(run));
        let visible = match bounds.filter(outside) {
            None => Vec::new(),
            Some(bounds) => (0..count)
                .map(|index| {
                    page.centre(index)
                        .is_none_or(|(x, y)| bounds.contains(x, y))
                })
                .collect(),
        };
        let mut characters = Self {
            page,
            codes,
            visible,
        };
        characters.order_ligatures();
        characters
    }

    /// How many are visible and no white space.
    pub(super) fn seen(&self) -> usize {
        let seen = |at: &usize| self.codes[*at] > 0x20 && self.is_visible(*at);
        (0..self.codes.len()).filter(seen).count()
    }

    /// Share of those whose meaning the font does not tell, out of a sample.
    pub(super) fn unmapped(&self) -> f64 {
        let (mut asked, mut found) = (0_u32, 0_u32);
        for at in (0..self.codes.len()).step_by((self.codes.len() / SAMPLE).max(1)) {
            let code = self.codes[at];
            let is_private = matches!(code, 0xE000..=0xF8FF | 0xFFFD);
            if code == 0x20 || code == 0x0A || code == 0x0D || !self.is_visible(at) {
                continue;
            }
            asked += 1;
            found += u32::from(code == 0 || is_private || self.page.is_unmapped(index(at)));
        }
        f64::from(found) / f64::from(asked.max(1))
    }

    /// The text that a reader sees, out of its [`lines`](Self::lines).
    pub(super) fn text(&self, lines: &[(Line, Break)]) -> String {
        let mut builder = TextBuilder::default();
        let mut next = 0;
        for (line, end) in lines {
            self.push(&mut builder, next..line.end);
            next = line.end;
            match end {
                Break::Line => builder.end_line(),
                Break::Paragraph => {
                    builder.end_line();
                    builder.end_line();
                }
                // Where the document has a space there as well, one is enough.
                Break::Space if self.codes.get(line.end) != Some(&0x20) => builder.end_word(),
                Break::Space | Break::None => {}
            }
        }
        self.push(&mut builder, next..self.codes.len());
        builder.finish()
    }

    /// The lines, each with its text and its place on the page that is shown.
    pub(super) fn text_lines(&self, lines: &[(Line, Break)], page: &Page<'_>) -> Vec<TextLine> {
        let mut next = 0;
        let mut found = Vec::new();
        for (line, end) in lines {
            let range = std::mem::replace(&mut next, line.end)..line.end;
            let Some((first, last)) = line.first.zip(line.last) else {
                continue;
            };
            let mut builder = TextBuilder::default();
            self.push(&mut builder, range);
            let around = Rect {
                left: first.left.min(last.left),
                bottom: first.bottom.min(last.bottom),
                right: first.right.max(last.right),
                top: first.top.max(last.top),
            };
            found.push(TextLine {
                text: builder.finish(),
                shown: page.shown(&around),
                end: *end,
            });
        }
        found
    }

    fn push(&self, builder: &mut TextBuilder, range: std::ops::Range<usize>) {
        for at in range {
            let visible = self.is_visible(at);
            match self.codes[at] {
                0x0A | 0x0D => {}
                0x02 | 0xFFFE if self.page.is_hyphen(index(at)) => {
                    builder.push_line_end_hyphen(visible);
                }
                0x20 if self.is_needless(at) => {}
                code => builder.push(code, visible),
            }
        }
    }

    fn is_visible(&self, at: usize) -> bool {
        self.visible.get(at).is_none_or(|visible| *visible)
    }

    /// Whether this is a space between two characters of a script without spaces that nobody sees:
    /// pdfium has put it there, or it takes no room.
    fn is_needless(&self, at: usize) -> bool {
        let spaceless = |at: Option<usize>| {
            at.and_then(|at| self.codes.get(at))
                .is_some_and(|code| is_spaceless(*code))
        };
        if !spaceless(at.checked_sub(1)) || !spaceless(Some(at + 1)) {
            return false;
        }
        if self.page.is_generated(index(at)) {
            return true;
        }
        let before = self.page.line_box(index(at - 1));
        let after = self.page.line_box(index(at + 1));
        before.zip(after).is_some_and(|(before, after)| {
            (after.left - before.right).abs() < SEEN_GAP * after.height()
        })
    }

    /// The lines, up to the last line end, and what is between each and the next.
    pub(super) fn lines(&self) -> Vec<(Line, Break)> {
        let mut lines = Vec::new();
        let (mut first, mut last) = (None, None);
        for (at, code) in self.codes.iter().enumerate() {
            match *code {
                // pdfium ends lines with both.
                0x0D if self.codes.get(at + 1) == Some(&0x0A) => {}
                0x0A | 0x0D => {
                    let first = first.take().map(index);
                    let last = last.take().map(index);
                    lines.push(Line {
                        first: first.and_then(|first| self.page.line_box(first)),
                        last: last.and_then(|last| self.page.line_box(last)),
                        end: at + 1,
                    });
                }
                code if code <= 0x20 || !self.is_visible(at) => {}
                _ => {
                    first.get_or_insert(at);
                    last = Some(at);
                }
            }
        }
        if let (Some(first), Some(last)) = (first, last) {
            lines.push(Line {
                first: self.page.line_box(index(first)),
                last: self.page.line_box(index(last)),
                end: self.codes.len(),
            });
        }
        let breaks = layout::breaks(&lines);
        lines.into_iter().zip(breaks).collect()
    }

    /// A ligature of lam and alef comes as two characters in one place, which turning the line around
    /// has swapped.
    fn order_ligatures(&mut self) {
        for at in 1..self.codes.len() {
            if self.codes[at] == LAM
                && ALEFS.contains(&self.codes[at - 1])
                && self.page.centre(index(at)) == self.page.centre(index(at - 1))
            {
                self.codes.swap(at - 1, at);
            }
        }
    }
}

fn index(at: usize) -> c_int {
    c_int::try_from(at).expect("a page has at most MAX_PAGE_CHARS characters")
}

/// Ideographs, kana, and the punctuation between them.
fn is_spaceless(code: u32) -> bool {
    matches!(code, 0x2014 | 0x2026 | 0x2E80..=0x312F | 0x31A0..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF
        | 0xFE30..=0xFE4F | 0xFF00..=0xFFEF | 0x2_0000..=0x3_FFFF)
}
