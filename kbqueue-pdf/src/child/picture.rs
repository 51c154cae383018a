//! Pixels as files: JPEG and PNG.

use bytes::Bytes;
use jpeg_encoder::{ColorType, Encoder};

use super::raw::Bitmap;

pub(super) const JPEG: &str = "image/jpeg";
pub(super) const PNG: &str = "image/png";
const JPEG_QUALITY: u8 = 80;

/// What the pixels need to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colours {
    Bilevel,
    Gray,
    Rgb,
    Rgba,
}

/// Whether something behind the picture shines through.
pub(super) fn is_transparent(bitmap: &Bitmap) -> bool {
    bitmap.has_alpha
        && bitmap
            .rows()
            .any(|row| row.chunks_exact(4).any(|pixel| pixel[3] != 0xFF))
}

/// The picture as PNG, in the fewest channels that keep it.
pub(super) fn png(bitmap: &Bitmap) -> Option<Bytes> {
    let colours = colours(bitmap);
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, bitmap.width, bitmap.height);
    encoder.set_compression(png::Compression::Fast);
    let (kind, depth) = match colours {
        Colours::Bilevel => (png::ColorType::Grayscale, png::BitDepth::One),
        Colours::Gray => (png::ColorType::Grayscale, png::BitDepth::Eight),
        Colours::Rgb => (png::ColorType::Rgb, png::BitDepth::Eight),
        Colours::Rgba => (png::ColorType::Rgba, png::BitDepth::Eight),
    };
    encoder.set_color(kind);
    encoder.set_depth(depth);
    let mut writer = encoder.write_header().ok()?;
    let mut stream = writer.stream_writer().ok()?;
    let mut line = Vec::new();
    for row in bitmap.rows() {
        line.clear();
        convert(row, bitmap.pixel_bytes, colours, &mut line);
        std::io::Write::write_all(&mut stream, &line).ok()?;
    }
    stream.finish().ok()?;
    writer.finish().ok()?;
    Some(out.into())
}

/// The picture as JPEG, without what shines through it.
pub(super) fn jpeg(bitmap: &Bitmap) -> Option<Bytes> {
    let (colours, kind) = match colours(bitmap) {
        Colours::Bilevel | Colours::Gray => (Colours::Gray, ColorType::Luma),
        Colours::Rgb | Colours::Rgba => (Colours::Rgb, ColorType::Rgb),
    };
    let mut pixels = Vec::with_capacity(bitmap.width as usize * bitmap.height as usize * 3);
    for row in bitmap.rows() {
        convert(row, bitmap.pixel_bytes, colours, &mut pixels);
    }
    let (width, height) = (
        bitmap.width.try_into().ok()?,
        bitmap.height.try_into().ok()?,
    );
    let mut out = Vec::new();
    Encoder::new(&mut out, JPEG_QUALITY)
        .encode(&pixels, width, height, kind)
        .ok()?;
    Some(out.into())
}

fn colours(bitmap: &Bitmap) -> Colours {
    if is_transparent(bitmap) {
        return Colours::Rgba;
    }
    let mut found = Colours::Bilevel;
    for row in bitmap.rows() {
        for pixel in row.chunks_exact(bitmap.pixel_bytes) {
            if pixel.len() > 1 && (pixel[0] != pixel[1] || pixel[1] != pixel[2]) {
                return Colours::Rgb;
            }
            if pixel[0] != 0 && pixel[0] != 0xFF {
                found = Colours::Gray;
            }
        }
    }
    found
}

/// Appends a row of pdfium's (blue first) to `out`.
fn convert(row: &[u8], pixel_bytes: usize, colours: Colours, out: &mut Vec<u8>) {
    let pixels = row.chunks_exact(pixel_bytes);
    match colours {
        Colours::Bilevel => {
            for eight in row.chunks(8 * pixel_bytes) {
                let bits = eight
                    .chunks_exact(pixel_bytes)
                    .enumerate()
                    .filter(|(_, pixel)| pixel[0] != 0);
                out.push(bits.fold(0, |byte, (at, _)| byte | (0x80 >> at)));
            }
        }
        Colours::Gray => out.extend(pixels.map(|pixel| pixel[0])),
        Colours::Rgb if pixel_bytes == 1 => {
            out.extend(pixels.flat_map(|pixel| [pixel[0]; 3]));
        }
        Colours::Rgb => out.extend(pixels.flat_map(|pixel| [pixel[2], pixel[1], pixel[0]])),
        Colours::Rgba => {
            out.extend(pixels.flat_map(|pixel| [pixel[2], pixel[1], pixel[0], pixel[3]]));
        }
    }
}

/// Whether the bytes are a JPEG of gray or of three colours, which every viewer shows alike.
pub(super) fn is_plain_jpeg(bytes: &[u8]) -> bool {
    if !bytes.starts_with(b"\xFF\xD8\xFF") {
        return false;
    }
    let mut at = 2;
    while let Some([0xFF, marker, high, low]) = bytes.get(at..at + 4) {
        match marker {
            // The frame: its header ends in the number of components.
            0xC0..=0xC2 => return matches!(bytes.get(at + 9), Some(1 | 3)),
            _ => at += 2 + usize::from(u16::from_be_bytes([*high, *low])),
        }
    }
    false
}
