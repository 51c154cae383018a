//! The pictures of a page.

use std::collections::HashMap;

use bytes::Bytes;
use kbqueue_core::extract::ExtractedImage;
use sha2::{Digest, Sha256};

use super::captions::{self, TextLine};
use super::picture;
use super::raw::{Document, Kind, Object, Page, Rect};
use super::text;

/// What is smaller is a bullet, a speck or a line.
const MIN_PIXELS: u32 = 32;
const MAX_RATIO: u32 = 20;
/// In points: what is shown smaller is a letter or an icon.
const MIN_SHOWN: f64 = 24.0;
/// Larger ones would take seconds to decode; the largest scans have 60 million pixels.
const MAX_PIXELS: f64 = 100e6;
/// Pictures that are encoded anew are drawn no larger, since all of it lies in memory.
const MAX_DRAWN_PIXELS: f64 = 12e6;
const MAX_JPEG_BYTES: usize = 32 << 20;
const MAX_PER_PAGE: usize = 200;
/// All that are decoded for one page.
const MAX_PIXELS_PER_PAGE: f64 = 200e6;
const THUMBNAIL_PIXELS: f64 = 320.0;

/// Tiles of one picture touch to within a point.
const TOUCHING: f64 = 1.0;

// Small streams are not recognised again: a square of one colour may stand under many masks.
const CACHED_FROM_BYTES: usize = 8 * 1024;
const CACHE_BYTES: usize = 24 << 20;
const MAX_CAPTION_CHARS: usize = 300;

/// Reads pictures, and knows those that it has read before.
#[derive(Default)]
pub(super) struct Images {
    known: HashMap<[u8; 32], Option<Encoded>>,
    known_bytes: usize,
}

/// A picture as it is stored.
#[derive(Clone)]
struct Encoded {
    bytes: Bytes,
    media_type: &'static str,
    width: u32,
    height: u32,
    thumbnail: Option<Bytes>,
}

/// Images that make one picture, and the box around them as it is shown.
pub(super) struct Group<'a, 'p> {
    parts: Vec<&'a Object<'p>>,
    shown: Rect,
    /// Pixels across and down; of all tiles together.
    pixels: (u32, u32),
}

impl Images {
    /// The pictures among `groups`, with captions out of `lines`.
    pub(super) fn read(
        &mut self,
        document: &Document,
        page: &Page<'_>,
        groups: &[Group<'_, '_>],
        lines: &[TextLine],
    ) -> Vec<ExtractedImage> {
        if groups.is_empty() {
            return Vec::new();
        }
        let alternatives = page.alternative_texts();
        let mut left = MAX_PIXELS_PER_PAGE;
        let mut found = Vec::new();
        for group in groups.iter().filter(|group| is_picture(group)) {
            left -= f64::from(group.pixels.0) * f64::from(group.pixels.1);
            if found.len() >= MAX_PER_PAGE || left < 0.0 {
                break;
            }
            let encoded = match group.parts[..] {
                [image] => self.encode(document, image, group.pixels),
                _ => drawn(page, group),
            };
            let Some(encoded) = encoded else { continue };
            let alternative = || {
                let mark = group.parts[0].mark()?;
                let (_, text) = alternatives.iter().find(|(found, _)| *found == mark)?;
                text::one_line(text, MAX_CAPTION_CHARS)
            };
            found.push(ExtractedImage {
                bytes: encoded.bytes,
                media_type: encoded.media_type.to_owned(),
                width: encoded.width,
                height: encoded.height,
                bbox: bbox(&group.shown),
                caption: captions::beside(&group.shown, lines, MAX_CAPTION_CHARS)
                    .or_else(alternative),
                thumbnail: encoded.thumbnail,
            });
        }
        found
    }

    fn encode(
        &mut self,
        document: &Document,
        image: &Object<'_>,
        pixels: (u32, u32),
    ) -> Option<Encoded> {
        let raw = image.raw_data(MAX_JPEG_BYTES);
        let cached = raw.as_ref().filter(|raw| raw.len() >= CACHED_FROM_BYTES);
        let key = cached.map(|raw| {
            let size = [pixels.0.to_le_bytes(), pixels.1.to_le_bytes()].concat();
            <[u8; 32]>::from(
                Sha256::new()
                    .chain_update(size)
                    .chain_update(raw)
                    .finalize(),
            )
        });
        if let Some(known) = key.and_then(|key| self.known.get(&key)) {
            return known.clone();
        }
        let encoded = encode(document, image, pixels, raw);
        if let Some(key) = key {
            let size = encoded.as_ref().map_or(0, |encoded| encoded.bytes.len());
            if self.known_bytes + size <= CACHE_BYTES {
                self.known_bytes += size;
                self.known.insert(key, encoded.clone());
            }
        }
        encoded
    }
}

fn encode(
    document: &Document,
    image: &Object<'_>,
    (width, height): (u32, u32),
    raw: Option<Vec<u8>>,
) -> Option<Encoded> {
    let (small_width, small_height) = fitted(width, height, THUMBNAIL_PIXELS);
    let is_small = (small_width, small_height) == (width, height);
    let small = image.draw(document, small_width, small_height)?;
    let is_jpeg = image.last_filter().as_deref() == Some("DCTDecode")
        && image.is_gray_or_rgb()
        && !picture::is_transparent(&small);
    let jpeg = raw
        .filter(|raw| is_jpeg && picture::is_plain_jpeg(raw))
        // Packed once more around the JPEG.
        .or_else(|| {
            is_jpeg
                .then(|| image.filtered_data(MAX_JPEG_BYTES))
                .flatten()
        })
        .filter(|data| picture::is_plain_jpeg(data));
    if let Some(jpeg) = jpeg {
        let bytes = Bytes::from(jpeg);
        return Some(Encoded {
            thumbnail: if is_small {
                Some(bytes.clone())
            } else {
                picture::jpeg(&small)
            },
            bytes,
            media_type: picture::JPEG,
            width,
            height,
        });
    }
    let thumbnail = picture::png(&small)?;
    if is_small {
        return Some(Encoded {
            bytes: thumbnail.clone(),
            media_type: picture::PNG,
            width,
            height,
            thumbnail: Some(thumbnail),
        });
    }
    drop(small);
    let drawable = (MAX_DRAWN_PIXELS / (f64::from(width) * f64::from(height))).sqrt();
    let longest = f64::from(width.max(height)) * drawable.min(1.0);
    let (width, height) = fitted(width, height, longest);
    let full = image.draw(document, width, height)?;
    Some(Encoded {
        bytes: picture::png(&full)?,
        media_type: picture::PNG,
        width: full.width,
        height: full.height,
        thumbnail: Some(thumbnail),
    })
}

/// Draws the part of the page where the tiles lie.
fn drawn(page: &Page<'_>, group: &Group<'_, '_>) -> Option<Encoded> {
    let (width, height) = (f64::from(group.pixels.0), f64::from(group.pixels.1));
    let most = (MAX_DRAWN_PIXELS / (width * height)).sqrt().min(1.0);
    let scale = width * most / group.shown.width();
    let full = page.draw(&group.shown, scale, false, MAX_DRAWN_PIXELS * 1.1)?;
    let longest = f64::from(full.width.max(full.height));
    let smaller = scale * (THUMBNAIL_PIXELS / longest).min(1.0);
    let small = page.draw(&group.shown, smaller, false, MAX_DRAWN_PIXELS)?;
    Some(Encoded {
        bytes: picture::png(&full)?,
        media_type: picture::PNG,
        width: full.width,
        height: full.height,
        thumbnail: picture::png(&small),
    })
}

/// Where pictures can be seen, with their pixels.
pub(super) fn places(groups: &[Group<'_, '_>]) -> Vec<(Rect, (u32, u32))> {
    groups
        .iter()
        .filter(|group| is_picture(group))
        .map(|group| (group.shown, group.pixels))
        .collect()
}

/// The images that can be seen, tiles of one picture put together.
pub(super) fn groups<'a, 'p>(page: &Page<'_>, objects: &'a [Object<'p>]) -> Vec<Group<'a, 'p>> {
    let (width, height) = page.size();
    let mut groups = Vec::new();
    for object in objects.iter().filter(|object| object.kind == Kind::Image) {
        let Some(pixels) = object.pixels() else {
            continue;
        };
        let whole = page.shown(&object.image_box());
        let shown = Rect {
            left: whole.left.max(0.0),
            bottom: whole.bottom.min(height),
            right: whole.right.min(width),
            top: whole.top.max(0.0),
        };
        let is_seen = shown.left < shown.right && shown.top < shown.bottom;
        let can_be_read = f64::from(pixels.0) * f64::from(pixels.1) <= MAX_PIXELS;
        if is_seen && can_be_read {
            groups.push(Group {
                parts: vec![object],
                shown,
                pixels,
            });
        }
    }
    let stacked = |a: &Group<'_, '_>, b: &Group<'_, '_>| {
        near(a.shown.left, b.shown.left)
            && near(a.shown.right, b.shown.right)
            && near(a.shown.bottom, b.shown.top)
            && a.pixels.0 == b.pixels.0
    };
    let in_a_row = |a: &Group<'_, '_>, b: &Group<'_, '_>| {
        near(a.shown.top, b.shown.top)
            && near(a.shown.bottom, b.shown.bottom)
            && near(a.shown.right, b.shown.left)
            && a.pixels.1 == b.pixels.1
    };
    // Columns of strips, rows of tiles, and columns of such rows.
    let groups = merged(groups, stacked, |a, b| (a.0, a.1 + b.1));
    let groups = merged(groups, in_a_row, |a, b| (a.0 + b.0, a.1));
    merged(groups, stacked, |a, b| (a.0, a.1 + b.1))
}

/// Puts each group to the one before it, in the order in which they are drawn, where they touch.
fn merged<'a, 'p>(
    groups: Vec<Group<'a, 'p>>,
    touch: impl Fn(&Group<'_, '_>, &Group<'_, '_>) -> bool,
    pixels: impl Fn((u32, u32), (u32, u32)) -> (u32, u32),
) -> Vec<Group<'a, 'p>> {
    let mut out: Vec<Group<'a, 'p>> = Vec::new();
    for group in groups {
        match out.last_mut() {
            Some(last) if touch(last, &group) => {
                last.pixels = pixels(last.pixels, group.pixels);
                last.shown.right = last.shown.right.max(group.shown.right);
                last.shown.bottom = last.shown.bottom.max(group.shown.bottom);
                last.parts.extend(group.parts);
            }
            // Some software draws from the bottom up.
            Some(last) if touch(&group, last) => {
                last.pixels = pixels(last.pixels, group.pixels);
                last.shown.left = last.shown.left.min(group.shown.left);
                last.shown.top = last.shown.top.min(group.shown.top);
                last.parts.extend(group.parts);
            }
            _ => out.push(group),
        }
    }
    out
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOUCHING
}

fn is_picture(group: &Group<'_, '_>) -> bool {
    let (width, height) = group.pixels;
    let (short, long) = (width.min(height), width.max(height));
    let shown = (group.shown.right - group.shown.left).max(group.shown.bottom - group.shown.top);
    short >= MIN_PIXELS && long / short <= MAX_RATIO && shown >= MIN_SHOWN
}

/// The size that fits in a square of `longest`, no larger than it was.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and smaller than what came in"
)]
fn fitted(width: u32, height: u32, longest: f64) -> (u32, u32) {
    let scale = (longest / f64::from(width.max(height))).min(1.0);
    let scaled = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
    (scaled(width), scaled(height))
}

#[allow(clippy::cast_possible_truncation, reason = "points of a page")]
fn bbox(shown: &Rect) -> [f32; 4] {
    [shown.left, shown.top, shown.right, shown.bottom].map(|value| value as f32)
}
