//! What the ends of pdfium's lines mean, by where the lines stand. No I/O, no pdfium.

use super::raw::Rect;

/// A line of pdfium's: the boxes of its first and its last character, and where it ends in the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) first: Option<Rect>,
    pub(super) last: Option<Rect>,
    pub(super) end: usize,
}

/// What stands in place of a line's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Break {
    /// Nothing: what follows is set higher or lower on the same line.
    None,
    /// The same, at some distance.
    Space,
    Line,
    Paragraph,
}

// In heights of a line.
/// Two characters stand on one line when they share so much of it, …
const SHARED: f64 = 0.5;
/// … and are no further apart than this, …
const NEAR: f64 = 0.6;
/// … and as two words from here on.
const WORD_GAP: f64 = 0.15;
const MIN_INDENT: f64 = 0.8;
const MAX_INDENT: f64 = 4.0;
const ALIGNED: f64 = 0.3;

/// A paragraph begins where lines are so much further apart than usual.
const WIDE: f64 = 1.3;
/// What is usual, where few lines tell.
const USUAL_PITCH: f64 = 1.25;
const FEW_LINES: usize = 4;

/// What the end of each line means.
pub(super) fn breaks(lines: &[Line]) -> Vec<Break> {
    let pitches: Vec<_> = lines
        .windows(2)
        .map(|pair| pitch(&pair[0], &pair[1]))
        .collect();
    let usual = usual(&pitches);
    let ends = lines.iter().enumerate().map(|(at, line)| {
        let Some(next) = lines.get(at + 1) else {
            return Break::Line;
        };
        if let Some(found) = on_one_line(line, next) {
            return found;
        }
        let wide = pitches[at].is_some_and(|pitch| pitch > usual * WIDE);
        let after = lines.get(at + 2);
        if wide || after.is_some_and(|after| is_indented(line, next, after)) {
            Break::Paragraph
        } else {
            Break::Line
        }
    });
    ends.collect()
}

/// How far `next` lies below `line`, in heights of the higher one. `None` where it does not.
fn pitch(line: &Line, next: &Line) -> Option<f64> {
    let (first, last, below) = (line.first?, line.last?, next.first?);
    let height = first.height().max(last.height()).max(below.height());
    // A line of pdfium's with hyphenated words spans several of the page's, and its last character
    // may be raised.
    let down = first.bottom.min(last.bottom) - below.bottom;
    (height > 0.0 && down > 0.0).then(|| down / height)
}

fn usual(pitches: &[Option<f64>]) -> f64 {
    let mut known: Vec<f64> = pitches.iter().copied().flatten().collect();
    if known.len() < FEW_LINES {
        return USUAL_PITCH;
    }
    known.sort_by(f64::total_cmp);
    known[known.len() / 2]
}

fn on_one_line(line: &Line, next: &Line) -> Option<Break> {
    let (a, b) = (line.last?, next.first?);
    let shared = a.top.min(b.top) - a.bottom.max(b.bottom);
    let height = a.height().max(b.height());
    let gap = b.left - a.right;
    let near = (-NEAR * height..=NEAR * height).contains(&gap) && b.left > a.left;
    // The smaller one has to lie half within the other, and not below the whole of it.
    if height <= 0.0 || !near || shared < SHARED * a.height().min(b.height()) {
        return None;
    }
    Some(if gap > WORD_GAP * height {
        Break::Space
    } else {
        Break::None
    })
}

/// Whether `next` begins further right than the lines around it.
fn is_indented(line: &Line, next: &Line, after: &Line) -> bool {
    let (Some(line), Some(next), Some(after)) = (line.first, next.first, after.first) else {
        return false;
    };
    let height = next.height();
    let indent = next.left - line.left;
    (MIN_INDENT * height..=MAX_INDENT * height).contains(&indent)
        && (after.left - line.left).abs() < ALIGNED * height
        && line.bottom > next.bottom
        && next.bottom > after.bottom
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line from `left` to `right` on a baseline, of some size.
    fn line(left: f64, right: f64, bottom: f64, height: f64) -> Line {
        let at = |x: f64| {
            Some(Rect {
                left: x,
                bottom,
                right: x + height / 2.0,
                top: bottom + height,
            })
        };
        Line {
            first: at(left),
            last: at(right - height / 2.0),
            end: 0,
        }
    }

    #[test]
    fn raised_and_lowered_characters_stay_on_their_line() {
        let lines = [
            line(72.0, 100.0, 700.0, 12.0),
            line(100.5, 104.0, 705.0, 8.0),
            line(108.0, 300.0, 700.0, 12.0),
        ];
        assert_eq!(breaks(&lines), [Break::None, Break::Space, Break::Line]);
    }

    #[test]
    fn words_of_two_columns_stay_on_their_own_lines() {
        let lines = [
            line(72.0, 100.0, 700.0, 12.0),
            line(300.0, 400.0, 700.0, 12.0),
        ];
        assert_eq!(breaks(&lines)[0], Break::Line);
    }

    #[test]
    fn paragraphs_are_told_by_distance_and_by_indentation() {
        let by_distance: Vec<_> = [700.0, 686.0, 672.0, 650.0, 636.0, 622.0]
            .map(|bottom| line(72.0, 500.0, bottom, 12.0))
            .into();
        let ends = breaks(&by_distance);
        assert_eq!(
            ends.iter().filter(|end| **end == Break::Paragraph).count(),
            1
        );
        assert_eq!(ends[2], Break::Paragraph);

        let lefts = [72.0, 72.0, 90.0, 72.0, 72.0];
        let bottoms = [700.0, 686.0, 672.0, 658.0, 644.0];
        let by_indentation: Vec<_> = lefts
            .into_iter()
            .zip(bottoms)
            .map(|(left, bottom)| line(left, 500.0, bottom, 12.0))
            .collect();
        let ends = breaks(&by_indentation);
        assert_eq!(
            ends.iter().filter(|end| **end == Break::Paragraph).count(),
            1
        );
        assert_eq!(ends[1], Break::Paragraph);
    }
}
