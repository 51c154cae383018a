//! pdfium's C functions behind types that own what they opened.
//!
//! The only module with unsafe code. What makes it sound: every type here is `!Send`, so all calls
//! come from the thread that loaded the library; a handle is only made from a non-null pointer and
//! closed exactly once, in `Drop`; borrows keep a document open for as long as its pages are.
#![allow(
    unsafe_code,
    reason = "pdfium is a C library, and pdfium-render's safe half loses text on rotated pages"
)]

mod bitmap;
mod objects;
mod structure;
mod text;

use std::ffi::{c_int, c_uchar, c_ulong, c_void};
use std::marker::PhantomData;
use std::path::Path;
use std::ptr;
use std::rc::Rc;

use kbqueue_core::Password;
use pdfium_render::prelude::{
    FPDF_BOOKMARK, FPDF_DOCUMENT, FPDF_FILEACCESS, FPDF_PAGE, FS_RECTF, Pdfium, PdfiumError,
    PdfiumLibraryBindings, PdfiumLibraryBindingsAccessor,
};

pub(crate) use self::bitmap::Bitmap;
pub(crate) use self::objects::{Kind, Object};
pub(crate) use self::text::TextPage;
use super::source::Source;

/// Longest string that is fetched from a document, in bytes of UTF-16.
const MAX_STRING_BYTES: c_ulong = 1 << 20;

/// `PDFACTION_GOTO` of fpdf_doc.h: a jump within the same document.
const ACTION_GOTO: c_ulong = 1;

/// The loaded library. Copies are equal; none leaves the thread.
#[derive(Clone, Copy)]
pub(crate) struct Library {
    ffi: &'static dyn PdfiumLibraryBindings,
    _stays_on_its_thread: PhantomData<*const ()>,
}

impl Library {
    /// Loads and initialises the library. It stays loaded until the process ends.
    pub(crate) fn load(path: &Path) -> Result<Self, PdfiumError> {
        let pdfium = Pdfium::new(Pdfium::bind_to_library(path)?);
        Ok(Self {
            ffi: pdfium.bindings(),
            _stays_on_its_thread: PhantomData,
        })
    }
}

/// `m_GetBlock` of `FPDF_FILEACCESS`: 1 when the whole block was read, else 0. It must not panic,
/// since no panic may cross C++.
unsafe extern "C" fn read_block(
    param: *mut c_void,
    position: c_ulong,
    buffer: *mut c_uchar,
    size: c_ulong,
) -> c_int {
    // SAFETY: `Document::open` passed a `Source` that it keeps alive until the document is closed,
    // and only shared references to it exist.
    let source = unsafe { &*param.cast::<Source>() };
    let Ok(size) = usize::try_from(size) else {
        return 0;
    };
    // SAFETY: pdfium passes a buffer of `size` writable bytes that nothing else uses meanwhile.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer, size) };
    // `c_ulong` is 32 bits wide on some systems.
    #[allow(clippy::unnecessary_cast)]
    match source.read(buffer, position as u64) {
        Ok(()) => 1,
        Err(error) => {
            source.fail(error);
            0
        }
    }
}

/// Why pdfium did not open a document: `FPDF_GetLastError`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenFailure {
    Format,
    Password,
    Security,
    Other(c_ulong),
}

/// An open document.
pub(crate) struct Document {
    library: Library,
    handle: FPDF_DOCUMENT,
    /// Dropped after the handle is closed.
    _source: Rc<Source>,
}

impl Document {
    pub(crate) fn open(
        library: Library,
        source: &Rc<Source>,
        password: Option<&Password>,
    ) -> Result<Self, OpenFailure> {
        let source = Rc::clone(source);
        let mut access = FPDF_FILEACCESS {
            m_FileLen: c_ulong::try_from(source.len()).map_err(|_| OpenFailure::Format)?,
            m_GetBlock: Some(read_block),
            m_Param: Rc::as_ptr(&source).cast_mut().cast(),
        };
        // SAFETY: pdfium copies `access`, and what its `m_Param` points to is freed after the
        // document, by the order of `Drop`.
        let handle = unsafe {
            library
                .ffi
                .FPDF_LoadCustomDocument(&raw mut access, password.map(Password::reveal))
        };
        if handle.is_null() {
            // Only now: a success does not reset the code.
            // SAFETY: no arguments.
            let code = unsafe { library.ffi.FPDF_GetLastError() };
            return Err(match code {
                3 => OpenFailure::Format,
                4 => OpenFailure::Password,
                5 => OpenFailure::Security,
                other => OpenFailure::Other(other),
            });
        }
        Ok(Self {
            library,
            handle,
            _source: source,
        })
    }

    /// Pages in the document, 0 included.
    pub(crate) fn page_count(&self) -> c_int {
        // SAFETY: the handle is open.
        unsafe { self.library.ffi.FPDF_GetPageCount(self.handle) }
    }

    /// The page at `index`, from 0. `None` when pdfium cannot load it.
    pub(crate) fn page(&self, index: c_int) -> Option<Page<'_>> {
        // SAFETY: the handle is open; any index is allowed.
        let handle = unsafe { self.library.ffi.FPDF_LoadPage(self.handle, index) };
        (!handle.is_null()).then_some(Page {
            library: self.library,
            handle,
            _document: PhantomData,
        })
    }

    /// The page's own label, as the document has it.
    pub(crate) fn page_label(&self, index: c_int) -> Option<String> {
        utf16_string(|buffer, size| {
            // SAFETY: the handle is open, and `buffer` has `size` bytes or is null with 0.
            unsafe {
                self.library
                    .ffi
                    .FPDF_GetPageLabel(self.handle, index, buffer, size)
            }
        })
    }

    /// An entry of the document's information dictionary, such as `Title`.
    pub(crate) fn meta_text(&self, tag: &'static str) -> Option<String> {
        utf16_string(|buffer, size| {
            // SAFETY: the handle is open, and `buffer` has `size` bytes or is null with 0.
            unsafe {
                self.library
                    .ffi
                    .FPDF_GetMetaText(self.handle, tag, buffer, size)
            }
        })
    }

    /// The first outline entry below `parent`, or of the whole outline.
    pub(crate) fn first_bookmark<'d>(
        &'d self,
        parent: Option<Bookmark<'d>>,
    ) -> Option<Bookmark<'d>> {
        let parent = parent.map_or(ptr::null_mut(), |parent| parent.handle);
        // SAFETY: the handle is open, and a bookmark of it lives as long; null is the root.
        Bookmark::new(unsafe {
            self.library
                .ffi
                .FPDFBookmark_GetFirstChild(self.handle, parent)
        })
    }

    /// The outline entry behind `bookmark` on its level.
    pub(crate) fn next_bookmark<'d>(&'d self, bookmark: Bookmark<'d>) -> Option<Bookmark<'d>> {
        // SAFETY: both handles belong to this document, which is open.
        Bookmark::new(unsafe {
            self.library
                .ffi
                .FPDFBookmark_GetNextSibling(self.handle, bookmark.handle)
        })
    }

    /// What the outline calls the entry.
    pub(crate) fn bookmark_title(&self, bookmark: Bookmark<'_>) -> Option<String> {
        utf16_string(|buffer, size| {
            // SAFETY: the bookmark's document is open, and `buffer` has `size` bytes or is null.
            unsafe {
                self.library
                    .ffi
                    .FPDFBookmark_GetTitle(bookmark.handle, buffer, size)
            }
        })
    }

    /// The page, from 0, to which the entry leads; `None` when it leads out of the document.
    pub(crate) fn bookmark_page(&self, bookmark: Bookmark<'_>) -> Option<u32> {
        // SAFETY: both handles belong to this document, which is open, and what they give lives as
        // long; each is checked before it is passed on.
        let index = unsafe {
            let ffi = self.library.ffi;
            let action = ffi.FPDFBookmark_GetAction(bookmark.handle);
            // The destination of any other action counts pages of another file.
            if !action.is_null() && ffi.FPDFAction_GetType(action) != ACTION_GOTO {
                return None;
            }
            let destination = ffi.FPDFBookmark_GetDest(self.handle, bookmark.handle);
            if destination.is_null() {
                return None;
            }
            ffi.FPDFDest_GetDestPageIndex(self.handle, destination)
        };
        u32::try_from(index).ok()
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        // SAFETY: open until now, and no page of it is left, since pages borrow the document.
        unsafe { self.library.ffi.FPDF_CloseDocument(self.handle) }
    }
}

/// An entry of a document's outline.
#[derive(Clone, Copy)]
pub(crate) struct Bookmark<'d> {
    handle: FPDF_BOOKMARK,
    _document: PhantomData<&'d Document>,
}

impl Bookmark<'_> {
    fn new(handle: FPDF_BOOKMARK) -> Option<Self> {
        (!handle.is_null()).then_some(Self {
            handle,
            _document: PhantomData,
        })
    }

    /// The same for the same entry, however it was reached.
    pub(crate) fn id(self) -> usize {
        self.handle.addr()
    }
}

/// A loaded page.
pub(crate) struct Page<'d> {
    library: Library,
    handle: FPDF_PAGE,
    _document: PhantomData<&'d Document>,
}

impl Page<'_> {
    /// The part of the page that is shown, in its own coordinates: the CropBox within the MediaBox.
    pub(crate) fn bounds(&self) -> Option<Rect> {
        let mut rect = NOWHERE;
        // SAFETY: the page is open, and `rect` is writable.
        let found = unsafe {
            self.library
                .ffi
                .FPDF_GetPageBoundingBox(self.handle, &raw mut rect)
        };
        (found != 0).then(|| rect.into())
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        // SAFETY: open until now, and no text page of it is left, since those borrow the page.
        unsafe { self.library.ffi.FPDF_ClosePage(self.handle) }
    }
}

/// A rectangle with its origin at the bottom left, in points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rect {
    pub(crate) left: f64,
    pub(crate) bottom: f64,
    pub(crate) right: f64,
    pub(crate) top: f64,
}

impl Rect {
    pub(crate) fn width(&self) -> f64 {
        self.right - self.left
    }

    pub(crate) fn height(&self) -> f64 {
        self.top - self.bottom
    }

    /// Whether the point lies in it or on its edge.
    pub(crate) fn contains(&self, x: f64, y: f64) -> bool {
        (self.left..=self.right).contains(&x) && (self.bottom..=self.top).contains(&y)
    }

    /// Whether all of `other` does.
    pub(crate) fn encloses(&self, other: &Self) -> bool {
        self.contains(other.left, other.bottom) && self.contains(other.right, other.top)
    }
}

const NOWHERE: FS_RECTF = FS_RECTF {
    left: 0.0,
    top: 0.0,
    right: 0.0,
    bottom: 0.0,
};

impl From<FS_RECTF> for Rect {
    fn from(rect: FS_RECTF) -> Self {
        Self {
            left: rect.left.min(rect.right).into(),
            bottom: rect.bottom.min(rect.top).into(),
            right: rect.left.max(rect.right).into(),
            top: rect.bottom.max(rect.top).into(),
        }
    }
}

/// Fetches a string by pdfium's convention: asked with no buffer, `call` says how many bytes of
/// UTF-16LE there are, the terminator included; asked again, it fills them in. `None` for an empty
/// string and for one longer than anyone would name a thing.
fn utf16_string(mut call: impl FnMut(*mut c_void, c_ulong) -> c_ulong) -> Option<String> {
    let size = call(ptr::null_mut(), 0);
    if !(4..=MAX_STRING_BYTES).contains(&size) {
        return None;
    }
    let mut units = vec![0_u16; usize::try_from(size).ok()?.div_ceil(2)];
    call(units.as_mut_ptr().cast(), size);
    let end = units.iter().position(|unit| *unit == 0);
    units.truncate(end.unwrap_or(units.len()));
    let units = units.into_iter().map(u16::from_le);
    Some(
        char::decode_utf16(units)
            .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect(),
    )
}
