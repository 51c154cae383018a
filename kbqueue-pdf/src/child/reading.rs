//! Reads a page's pixels where its text layer does not tell: at which resolution, which parts, which
//! way up.

use super::ocr::{Layout, Ocr, Pixels, Recognised};
use super::raw::{Bitmap, Page, Rect};
use super::text::TextBuilder;

const POINTS_PER_INCH: f64 = 72.0;
const MIN_DPI: f64 = 150.0;
const MAX_DPI: f64 = 300.0;
/// Of a page without pictures, and of a scan with more: the rest costs a third of the time and adds
/// nothing, unless letters are small, which shows in the confidence.
const USUAL_DPI: f64 = 200.0;
/// Pages that claim to be longer are scans that lie about their size; then the long side is taken for
/// that of a letter.
const LONGEST_INCHES: f64 = 17.0;
const LETTER_INCHES: f64 = 11.0;
/// A3 at 300 dpi has 17 million.
const MAX_PIXELS: f64 = 20e6;

/// Below it, a second try with more pixels is worth its time.
const UNSURE: f32 = 75.0;
/// Below it, the page may lie on its side or stand on its head.
const LOST: f32 = 55.0;
/// Out of a picture on a page with text: below it, it is no text.
const MIN_CONFIDENCE: f32 = 60.0;
const MIN_REGION_LETTERS: usize = 5;
const MAX_REGIONS: usize = 10;

/// What a page shows: its size in points, and its pictures with their pixels.
pub(super) struct Shown<'a> {
    pub(super) page: &'a Page<'a>,
    pub(super) pictures: &'a [(Rect, (u32, u32))],
}

impl Shown<'_> {
    /// Reads the whole page.
    pub(super) fn read_page(&self, ocr: &Ocr) -> Option<Recognised> {
        let (width, height) = self.page.size();
        let whole = Rect {
            left: 0.0,
            bottom: height,
            right: width,
            top: 0.0,
        };
        let inches = width.max(height) / POINTS_PER_INCH;
        let inches = if inches > LONGEST_INCHES {
            LETTER_INCHES
        } else {
            inches
        };
        let per_inch = width.max(height) / inches;
        let native = self.biggest_scale().map_or(USUAL_DPI, |scale| {
            (scale * per_inch).clamp(MIN_DPI, USUAL_DPI)
        });
        let mut best = self.try_at(ocr, &whole, per_inch, native, Layout::Page)?;
        // Small letters are read badly, and not as nothing at all.
        if best.confidence < UNSURE && !best.text.is_empty() {
            best = better(
                best,
                self.try_at(ocr, &whole, per_inch, MAX_DPI, Layout::Page),
            );
        }
        if best.confidence < LOST {
            best = self.try_turned(ocr, &whole, per_inch, native, best);
        }
        Some(best)
    }

    /// Reads those parts of the page; what does not seem to be text is left out.
    pub(super) fn read_parts(&self, ocr: &Ocr, parts: &[Rect]) -> Vec<Recognised> {
        let scale = self.biggest_scale().unwrap_or(0.0) * POINTS_PER_INCH;
        let dpi = scale.clamp(MIN_DPI, MAX_DPI);
        let mut found = Vec::new();
        for part in parts.iter().take(MAX_REGIONS) {
            let read = self.try_at(ocr, part, POINTS_PER_INCH, dpi, Layout::Block);
            found.extend(read.filter(|read| {
                let letters = read.text.chars().filter(|c| c.is_alphanumeric()).count();
                read.confidence >= MIN_CONFIDENCE && letters >= MIN_REGION_LETTERS
            }));
        }
        found
    }

    fn try_at(
        &self,
        ocr: &Ocr,
        part: &Rect,
        per_inch: f64,
        dpi: f64,
        layout: Layout,
    ) -> Option<Recognised> {
        let (bitmap, dpi) = self.drawn(part, per_inch, dpi)?;
        let pixels = Pixels {
            bytes: bitmap.bytes(),
            width: bitmap.width,
            height: bitmap.height,
            stride: bitmap.stride,
            dpi,
        };
        ocr.read(&pixels, layout).map(cleaned)
    }

    /// Draws in gray, at fewer dots per inch if there were too many pixels.
    fn drawn(&self, part: &Rect, per_inch: f64, dpi: f64) -> Option<(Bitmap, u32)> {
        let area = (part.right - part.left) * (part.bottom - part.top);
        let scale = (dpi / per_inch).min((MAX_PIXELS / area).sqrt());
        let bitmap = self.page.draw(part, scale, true, MAX_PIXELS * 1.01)?;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and 300"
        )]
        let dpi = (scale * per_inch).clamp(1.0, MAX_DPI).round() as u32;
        Some((bitmap, dpi))
    }

    /// Tries the other three ways up.
    fn try_turned(
        &self,
        ocr: &Ocr,
        whole: &Rect,
        per_inch: f64,
        dpi: f64,
        mut best: Recognised,
    ) -> Recognised {
        let Some((bitmap, dpi)) = self.drawn(whole, per_inch, dpi) else {
            return best;
        };
        let (mut width, mut height) = (bitmap.width, bitmap.height);
        let mut bytes: Vec<u8> = bitmap.rows().flatten().copied().collect();
        drop(bitmap);
        for _ in 0..3 {
            bytes = turned(&bytes, width as usize);
            (width, height) = (height, width);
            let pixels = Pixels {
                bytes: &bytes,
                width,
                height,
                stride: width as usize,
                dpi,
            };
            best = better(best, ocr.read(&pixels, Layout::Page).map(cleaned));
            if best.text.is_empty() {
                // Neither lines nor what they look like on their side: it is blank.
                break;
            }
        }
        best
    }

    /// Pixels a point of the picture that covers most.
    fn biggest_scale(&self) -> Option<f64> {
        let area = |rect: &Rect| (rect.right - rect.left) * (rect.bottom - rect.top);
        let biggest = self
            .pictures
            .iter()
            .max_by(|a, b| area(&a.0).total_cmp(&area(&b.0)))?;
        let pixels = f64::from(biggest.1.0) * f64::from(biggest.1.1);
        Some((pixels / area(&biggest.0)).sqrt()).filter(|scale| scale.is_finite())
    }
}

/// The pixels turned by a quarter, clockwise.
fn turned(bytes: &[u8], width: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for column in 0..width {
        out.extend(bytes[column..].iter().step_by(width).rev());
    }
    out
}

/// The one with more words that are sure.
fn better(one: Recognised, other: Option<Recognised>) -> Recognised {
    #[allow(clippy::cast_precision_loss, reason = "a page has some thousands")]
    let weight = |read: &Recognised| {
        let letters = read.text.chars().filter(|c| c.is_alphanumeric()).count();
        read.confidence.powi(2) * (letters as f32)
    };
    match other {
        Some(other) if weight(&other) > weight(&one) => other,
        _ => one,
    }
}

/// With hyphens at line ends joined, as in any text.
fn cleaned(read: Recognised) -> Recognised {
    let mut builder = TextBuilder::default();
    let mut chars = read.text.trim().chars().peekable();
    let mut before = ' ';
    while let Some(c) = chars.next() {
        if c == '-' && before.is_alphabetic() && chars.peek() == Some(&'\n') {
            chars.next();
            if chars.peek().is_some_and(|next| next.is_lowercase()) {
                builder.push_line_end_hyphen(true);
            } else {
                builder.push(c.into(), true);
                builder.end_line();
            }
        } else {
            builder.push(c.into(), true);
        }
        before = c;
    }
    Recognised {
        text: builder.finish(),
        ..read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_turn_is_clockwise() {
        // 1 2 3      4 1
        // 4 5 6  to  5 2
        //            6 3
        assert_eq!(turned(&[1, 2, 3, 4, 5, 6], 3), [4, 1, 5, 2, 6, 3]);
    }

    #[test]
    fn words_cut_at_line_ends_are_whole() {
        let read = Recognised {
            text: "infor-\nmation about Jean-\nPaul and x -\ny\n\n".to_owned(),
            confidence: 90.0,
        };
        assert_eq!(
            cleaned(read).text,
            "information about Jean-\nPaul and x -\ny"
        );
    }
}
