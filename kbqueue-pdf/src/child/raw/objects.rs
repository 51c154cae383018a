//! What a page draws: images above all, wherever they are nested.

use std::ffi::{c_int, c_uint, c_ulong, c_void};
use std::ptr;

use pdfium_render::prelude::{FPDF_IMAGEOBJ_METADATA, FPDF_PAGEOBJECT, FS_MATRIX};

use super::bitmap::Bitmap;
use super::{Document, Library, Page, Rect};

/// Forms may contain each other; pdfium draws no deeper either.
const MAX_DEPTH: u32 = 12;

/// The rest of `FPDF_PAGEOBJ_*` is of no use here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Path,
    Image,
    Other,
}

/// One thing that a page draws.
pub(crate) struct Object<'p> {
    library: Library,
    page: &'p Page<'p>,
    handle: FPDF_PAGEOBJECT,
    to_page: Matrix,
    pub(crate) kind: Kind,
}

impl Page<'_> {
    /// The first `limit` objects of the page, those within forms in place of the forms.
    pub(crate) fn objects(&self, limit: usize) -> Vec<Object<'_>> {
        let ffi = self.library.ffi;
        let mut found = Vec::new();
        // SAFETY: the page is open, and its objects live as long.
        let count = unsafe { ffi.FPDFPage_CountObjects(self.handle) };
        for index in 0..count {
            // SAFETY: as above; pdfium checks the index.
            let handle = unsafe { ffi.FPDFPage_GetObject(self.handle, index) };
            self.collect(handle, Matrix::IDENTITY, 0, limit, &mut found);
        }
        found
    }

    fn collect<'p>(
        &'p self,
        handle: FPDF_PAGEOBJECT,
        to_page: Matrix,
        depth: u32,
        limit: usize,
        found: &mut Vec<Object<'p>>,
    ) {
        if handle.is_null() || found.len() >= limit {
            return;
        }
        let ffi = self.library.ffi;
        // SAFETY: the object belongs to this page, which is open.
        let kind = match unsafe { ffi.FPDFPageObj_GetType(handle) } {
            1 => Kind::Text,
            2 => Kind::Path,
            3 => Kind::Image,
            5 if depth < MAX_DEPTH => {
                let to_page = self.matrix_of(handle).then(&to_page);
                // SAFETY: the object is a form of this page.
                let count = unsafe { ffi.FPDFFormObj_CountObjects(handle) };
                for index in 0..c_ulong::try_from(count).unwrap_or(0) {
                    // SAFETY: as above; pdfium checks the index.
                    let inner = unsafe { ffi.FPDFFormObj_GetObject(handle, index) };
                    self.collect(inner, to_page, depth + 1, limit, found);
                }
                return;
            }
            _ => Kind::Other,
        };
        found.push(Object {
            library: self.library,
            page: self,
            handle,
            to_page,
            kind,
        });
    }

    fn matrix_of(&self, handle: FPDF_PAGEOBJECT) -> Matrix {
        let mut matrix = Matrix::IDENTITY.into();
        // SAFETY: the object belongs to this page, which is open, and `matrix` is writable.
        unsafe {
            self.library
                .ffi
                .FPDFPageObj_GetMatrix(handle, &raw mut matrix)
        };
        matrix.into()
    }
}

impl Object<'_> {
    /// Whether this is text that is not drawn, as a scanner's software lays it over its picture.
    pub(crate) fn is_invisible_text(&self) -> bool {
        // SAFETY: the object belongs to an open page.
        self.kind == Kind::Text
            && unsafe { self.library.ffi.FPDFTextObj_GetTextRenderMode(self.handle) } == 3
    }

    /// Where an image lies on the page.
    pub(crate) fn image_box(&self) -> Rect {
        self.page
            .matrix_of(self.handle)
            .then(&self.to_page)
            .unit_square()
    }

    /// Columns and rows of an image.
    pub(crate) fn pixels(&self) -> Option<(u32, u32)> {
        let (mut width, mut height): (c_uint, c_uint) = (0, 0);
        // SAFETY: the object belongs to an open page, and the targets are writable.
        let found = unsafe {
            self.library.ffi.FPDFImageObj_GetImagePixelSize(
                self.handle,
                &raw mut width,
                &raw mut height,
            )
        };
        (found != 0 && width > 0 && height > 0).then_some((width, height))
    }

    /// Whether an image's colours are levels of gray or of red, green and blue.
    pub(crate) fn is_gray_or_rgb(&self) -> bool {
        let mut metadata = FPDF_IMAGEOBJ_METADATA {
            width: 0,
            height: 0,
            horizontal_dpi: 0.0,
            vertical_dpi: 0.0,
            bits_per_pixel: 0,
            colorspace: 0,
            marked_content_id: 0,
        };
        // SAFETY: the object belongs to this open page, and `metadata` is writable.
        let found = unsafe {
            self.library.ffi.FPDFImageObj_GetImageMetadata(
                self.handle,
                self.page.handle,
                &raw mut metadata,
            )
        };
        // Device, calibrated, or with a profile.
        found != 0 && matches!(metadata.colorspace, 1 | 2 | 4 | 5 | 7)
    }

    /// The mark by which the document's structure names the object.
    pub(crate) fn mark(&self) -> Option<c_int> {
        // SAFETY: the object belongs to an open page.
        let mark = unsafe { self.library.ffi.FPDFPageObj_GetMarkedContentID(self.handle) };
        (mark >= 0).then_some(mark)
    }

    /// The name of the last filter of an image's stream.
    pub(crate) fn last_filter(&self) -> Option<String> {
        let ffi = self.library.ffi;
        let mut name = [0_u8; 32];
        // SAFETY: the object belongs to an open page, and the buffer has the size that is told.
        let length = unsafe {
            let count = ffi.FPDFImageObj_GetImageFilterCount(self.handle);
            let buffer: *mut c_void = name.as_mut_ptr().cast();
            ffi.FPDFImageObj_GetImageFilter(self.handle, count - 1, buffer, 32)
        };
        let length = usize::try_from(length).ok()?.checked_sub(1)?;
        Some(String::from_utf8_lossy(name.get(..length)?).into_owned())
    }

    /// An image's stream as it lies in the file; `None` if it has more than `max` bytes.
    pub(crate) fn raw_data(&self, max: usize) -> Option<Vec<u8>> {
        self.data(max, |buffer, size| {
            // SAFETY: the object belongs to an open page, and `buffer` has `size` bytes or is null.
            unsafe {
                self.library
                    .ffi
                    .FPDFImageObj_GetImageDataRaw(self.handle, buffer, size)
            }
        })
    }

    /// The same after all filters but one for pictures.
    pub(crate) fn filtered_data(&self, max: usize) -> Option<Vec<u8>> {
        self.data(max, |buffer, size| {
            // SAFETY: the object belongs to an open page, and `buffer` has `size` bytes or is null.
            unsafe {
                self.library
                    .ffi
                    .FPDFImageObj_GetImageDataDecoded(self.handle, buffer, size)
            }
        })
    }

    /// Asked with no buffer, `call` says how many bytes there are; asked again, it fills them in.
    fn data(&self, max: usize, call: impl Fn(*mut c_void, c_ulong) -> c_ulong) -> Option<Vec<u8>> {
        let size = call(ptr::null_mut(), 0);
        let mut data = vec![0; usize::try_from(size).ok().filter(|size| *size <= max)?];
        call(data.as_mut_ptr().cast(), size);
        Some(data)
    }

    /// Draws an image upright, with its masks, in so many pixels.
    pub(crate) fn draw(&self, document: &Document, width: u32, height: u32) -> Option<Bitmap> {
        let own = self.page.matrix_of(self.handle).into();
        #[allow(clippy::cast_precision_loss, reason = "pictures are smaller")]
        let upright = FS_MATRIX {
            a: width as f32,
            b: 0.0,
            c: 0.0,
            d: height as f32,
            e: 0.0,
            f: 0.0,
        };
        let ffi = self.library.ffi;
        // pdfium draws an image as large as its matrix says.
        // SAFETY: object, page and document belong together and are open; the object gets back the
        // matrix that it had.
        unsafe {
            ffi.FPDFPageObj_SetMatrix(self.handle, &raw const upright);
            let bitmap =
                ffi.FPDFImageObj_GetRenderedBitmap(document.handle, self.page.handle, self.handle);
            ffi.FPDFPageObj_SetMatrix(self.handle, &raw const own);
            Bitmap::new(self.library, bitmap)
        }
    }
}

/// How coordinates change: `x' = ax + cy + e`, `y' = bx + dy + f`.
#[derive(Debug, Clone, Copy)]
struct Matrix([f64; 6]);

impl Matrix {
    const IDENTITY: Self = Self([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);

    /// This change, and `next` after it.
    fn then(&self, next: &Self) -> Self {
        let [a, b, c, d, e, f] = self.0;
        let [na, nb, nc, nd, ne, nf] = next.0;
        Self([
            a * na + b * nc,
            a * nb + b * nd,
            c * na + d * nc,
            c * nb + d * nd,
            e * na + f * nc + ne,
            e * nb + f * nd + nf,
        ])
    }

    /// The box around what becomes of the square from 0, 0 to 1, 1.
    fn unit_square(&self) -> Rect {
        let [a, b, c, d, e, f] = self.0;
        let x = [e, e + a, e + c, e + a + c];
        let y = [f, f + b, f + d, f + b + d];
        let least = |values: [f64; 4]| values.into_iter().fold(f64::INFINITY, f64::min);
        let most = |values: [f64; 4]| values.into_iter().fold(f64::NEG_INFINITY, f64::max);
        Rect {
            left: least(x),
            bottom: least(y),
            right: most(x),
            top: most(y),
        }
    }
}

impl From<FS_MATRIX> for Matrix {
    fn from(m: FS_MATRIX) -> Self {
        Self([m.a, m.b, m.c, m.d, m.e, m.f].map(f64::from))
    }
}

impl From<Matrix> for FS_MATRIX {
    #[allow(clippy::cast_possible_truncation, reason = "it came out of as much")]
    fn from(matrix: Matrix) -> Self {
        let [a, b, c, d, e, f] = matrix.0.map(|value| value as f32);
        Self { a, b, c, d, e, f }
    }
}
