//! Pixels: of images, and of pages that are drawn.

use std::ffi::c_int;

use pdfium_render::prelude::FPDF_BITMAP;

use super::{Library, Page, Rect};

const GRAY: c_int = 1;
const WHITE: u32 = 0xFFFF_FFFF;
/// Forms and notes are drawn too.
const ANNOTATIONS: c_int = 1;

/// A picture in memory.
pub(crate) struct Bitmap {
    library: Library,
    handle: FPDF_BITMAP,
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Bytes from one row to the next.
    pub(crate) stride: usize,
    /// 1 for gray, 3 or 4 for blue, green, red and perhaps opacity.
    pub(crate) pixel_bytes: usize,
    /// Whether the fourth byte is the opacity.
    pub(crate) has_alpha: bool,
}

impl Bitmap {
    /// Takes over what pdfium made. `None` for nothing, or for a format that it has not announced.
    ///
    /// # Safety
    /// `handle` is null or a bitmap that nothing else owns.
    pub(super) unsafe fn new(library: Library, handle: FPDF_BITMAP) -> Option<Self> {
        if handle.is_null() {
            return None;
        }
        let ffi = library.ffi;
        // SAFETY: the bitmap is there.
        let (width, height, stride, format) = unsafe {
            (
                ffi.FPDFBitmap_GetWidth(handle),
                ffi.FPDFBitmap_GetHeight(handle),
                ffi.FPDFBitmap_GetStride(handle),
                ffi.FPDFBitmap_GetFormat(handle),
            )
        };
        // Owns the handle from here on, so that it is freed whatever follows.
        let mut bitmap = Self {
            library,
            handle,
            width: u32::try_from(width).unwrap_or(0),
            height: u32::try_from(height).unwrap_or(0),
            stride: usize::try_from(stride).unwrap_or(0),
            pixel_bytes: 0,
            has_alpha: format == 4,
        };
        bitmap.pixel_bytes = match format {
            1 => 1,
            2 => 3,
            3 | 4 => 4,
            _ => return None,
        };
        let row = bitmap.width as usize * bitmap.pixel_bytes;
        (row > 0 && bitmap.height > 0 && bitmap.stride >= row).then_some(bitmap)
    }

    /// All rows, each with its padding.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the bitmap is there, and has `height` rows of `stride` bytes that nothing writes to.
        unsafe {
            let start = self.library.ffi.FPDFBitmap_GetBuffer(self.handle);
            if start.is_null() {
                return &[];
            }
            std::slice::from_raw_parts(start.cast(), self.stride * self.height as usize)
        }
    }

    /// The rows without padding.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[u8]> {
        let length = self.width as usize * self.pixel_bytes;
        self.bytes()
            .chunks_exact(self.stride)
            .map(move |row| &row[..length])
    }
}

impl Drop for Bitmap {
    fn drop(&mut self) {
        // SAFETY: owned until now.
        unsafe { self.library.ffi.FPDFBitmap_Destroy(self.handle) }
    }
}

impl Page<'_> {
    /// The page's size as it is shown, turned, in points.
    pub(crate) fn size(&self) -> (f64, f64) {
        let ffi = self.library.ffi;
        // SAFETY: the page is open.
        let (width, height) = unsafe {
            (
                ffi.FPDF_GetPageWidthF(self.handle),
                ffi.FPDF_GetPageHeightF(self.handle),
            )
        };
        (width.into(), height.into())
    }

    /// A box of the page's own coordinates as it is shown: in points from the top left corner, so
    /// that `top` is less than `bottom`.
    pub(crate) fn shown(&self, rect: &Rect) -> Rect {
        let (width, height) = self.size();
        // pdfium counts whole pixels.
        let scale = (1_000_000.0 / width.max(height).max(1.0)).min(1000.0);
        let at = |x: f64, y: f64| {
            let (mut left, mut top) = (0, 0);
            // SAFETY: the page is open, and the targets are writable.
            unsafe {
                self.library.ffi.FPDF_PageToDevice(
                    self.handle,
                    0,
                    0,
                    whole(width * scale),
                    whole(height * scale),
                    0,
                    x,
                    y,
                    &raw mut left,
                    &raw mut top,
                )
            };
            (f64::from(left) / scale, f64::from(top) / scale)
        };
        let (a, b) = (at(rect.left, rect.bottom), at(rect.right, rect.top));
        Rect {
            left: a.0.min(b.0),
            top: a.1.min(b.1),
            right: a.0.max(b.0),
            bottom: a.1.max(b.1),
        }
    }

    /// Draws a part of the page, given as [`shown`](Self::shown) gives it, with so many pixels a
    /// point; in gray, or in colour. `None` when it has no pixels or more than `max_pixels`.
    pub(crate) fn draw(
        &self,
        part: &Rect,
        scale: f64,
        gray: bool,
        max_pixels: f64,
    ) -> Option<Bitmap> {
        let (width, height) = (
            ((part.right - part.left) * scale).round(),
            ((part.bottom - part.top) * scale).round(),
        );
        let drawable = width >= 1.0 && height >= 1.0 && width * height <= max_pixels;
        if !drawable {
            return None;
        }
        let format = if gray { GRAY } else { 3 };
        let (page_width, page_height) = self.size();
        let ffi = self.library.ffi;
        // SAFETY: the page is open; the bitmap is checked, and owned before it is drawn on.
        unsafe {
            let handle = ffi.FPDFBitmap_CreateEx(
                whole(width),
                whole(height),
                format,
                std::ptr::null_mut(),
                0,
            );
            let bitmap = Bitmap::new(self.library, handle)?;
            ffi.FPDFBitmap_FillRect(handle, 0, 0, whole(width), whole(height), WHITE.into());
            ffi.FPDF_RenderPageBitmap(
                handle,
                self.handle,
                whole(-part.left * scale),
                whole(-part.top * scale),
                whole(page_width * scale),
                whole(page_height * scale),
                0,
                ANNOTATIONS,
            );
            Some(bitmap)
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "a cast of what is too large gives the largest"
)]
fn whole(value: f64) -> c_int {
    value.round() as c_int
}
