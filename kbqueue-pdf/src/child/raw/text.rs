//! The characters of a page.

use std::ffi::{c_int, c_ushort};
use std::marker::PhantomData;

use pdfium_render::prelude::FPDF_TEXTPAGE;

use super::{Library, NOWHERE, Page, Rect};

/// The characters of a page, in reading order as far as the document tells it.
pub(crate) struct TextPage<'p> {
    library: Library,
    handle: FPDF_TEXTPAGE,
    _page: PhantomData<&'p Page<'p>>,
}

impl Page<'_> {
    /// The page's characters. `None` when pdfium cannot tell them.
    pub(crate) fn text(&self) -> Option<TextPage<'_>> {
        // SAFETY: the page is open.
        let handle = unsafe { self.library.ffi.FPDFText_LoadPage(self.handle) };
        (!handle.is_null()).then_some(TextPage {
            library: self.library,
            handle,
            _page: PhantomData,
        })
    }
}

impl TextPage<'_> {
    /// How many there are; negative on an error.
    pub(crate) fn count(&self) -> c_int {
        // SAFETY: the text page is open.
        unsafe { self.library.ffi.FPDFText_CountChars(self.handle) }
    }

    /// The first `count` characters at once, as UTF-16. Those without a code and those above U+FFFF
    /// are missing.
    pub(crate) fn units(&self, count: c_int) -> Vec<u16> {
        let capacity = usize::try_from(count).expect("a count") + 1;
        let mut units = vec![0_u16; capacity];
        let buffer: *mut c_ushort = units.as_mut_ptr();
        // SAFETY: the text page is open, and the buffer has `count` units and one for the terminator.
        let written = unsafe {
            self.library
                .ffi
                .FPDFText_GetText(self.handle, 0, count, buffer)
        };
        units.truncate(usize::try_from(written - 1).unwrap_or(0));
        units
    }

    /// The character's code. Not always a Unicode scalar value.
    pub(crate) fn code(&self, index: c_int) -> u32 {
        // SAFETY: the text page is open; pdfium checks the index.
        unsafe { self.library.ffi.FPDFText_GetUnicode(self.handle, index) }
    }

    /// Whether the character is a hyphen at the end of a line that the word goes on behind.
    pub(crate) fn is_hyphen(&self, index: c_int) -> bool {
        // SAFETY: the text page is open; pdfium checks the index.
        unsafe { self.library.ffi.FPDFText_IsHyphen(self.handle, index) == 1 }
    }

    /// Whether pdfium has added the character, because of a distance between others.
    pub(crate) fn is_generated(&self, index: c_int) -> bool {
        // SAFETY: the text page is open; pdfium checks the index.
        unsafe { self.library.ffi.FPDFText_IsGenerated(self.handle, index) == 1 }
    }

    /// Whether the font has no word for what the glyph means.
    pub(crate) fn is_unmapped(&self, index: c_int) -> bool {
        // SAFETY: the text page is open; pdfium checks the index.
        unsafe {
            self.library
                .ffi
                .FPDFText_HasUnicodeMapError(self.handle, index)
                == 1
        }
    }

    /// The centre of the character's box, in the page's own coordinates.
    pub(crate) fn centre(&self, index: c_int) -> Option<(f64, f64)> {
        let (mut left, mut right, mut bottom, mut top) = (0.0, 0.0, 0.0, 0.0);
        // SAFETY: the text page is open, pdfium checks the index, and the targets are writable.
        let found = unsafe {
            self.library.ffi.FPDFText_GetCharBox(
                self.handle,
                index,
                &raw mut left,
                &raw mut right,
                &raw mut bottom,
                &raw mut top,
            )
        };
        (found != 0).then_some((f64::midpoint(left, right), f64::midpoint(bottom, top)))
    }

    /// The character's box as high as its line: from the font's descent to its ascent.
    pub(crate) fn line_box(&self, index: c_int) -> Option<Rect> {
        let mut rect = NOWHERE;
        // SAFETY: the text page is open, pdfium checks the index, and `rect` is writable.
        let found = unsafe {
            self.library
                .ffi
                .FPDFText_GetLooseCharBox(self.handle, index, &raw mut rect)
        };
        (found != 0).then(|| rect.into())
    }

    /// Boxes around all characters, one around each run on a line.
    pub(crate) fn runs(&self) -> Vec<Rect> {
        // SAFETY: the text page is open; -1 stands for all characters.
        let count = unsafe { self.library.ffi.FPDFText_CountRects(self.handle, 0, -1) };
        (0..count).filter_map(|index| self.run(index)).collect()
    }

    fn run(&self, index: c_int) -> Option<Rect> {
        let (mut left, mut top, mut right, mut bottom) = (0.0, 0.0, 0.0, 0.0);
        // SAFETY: the text page is open, pdfium checks the index, and the targets are writable.
        let found = unsafe {
            self.library.ffi.FPDFText_GetRect(
                self.handle,
                index,
                &raw mut left,
                &raw mut top,
                &raw mut right,
                &raw mut bottom,
            )
        };
        (found != 0).then(|| Rect {
            left: left.min(right),
            bottom: bottom.min(top),
            right: left.max(right),
            top: bottom.max(top),
        })
    }
}

impl Drop for TextPage<'_> {
    fn drop(&mut self) {
        // SAFETY: open until now.
        unsafe { self.library.ffi.FPDFText_ClosePage(self.handle) }
    }
}
