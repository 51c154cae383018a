//! What a tagged document says of its pictures.

use std::ffi::c_int;

use super::{Page, utf16_string};

/// A structure is a tree that a document can tie into a knot or blow up.
const MAX_ELEMENTS: usize = 20_000;

impl Page<'_> {
    /// Texts that stand for pictures, each with the mark of what it stands for.
    pub(crate) fn alternative_texts(&self) -> Vec<(c_int, String)> {
        let ffi = self.library.ffi;
        let mut found = Vec::new();
        // SAFETY: the page is open; every element belongs to the tree, which is closed last, and is
        // checked before it is used.
        unsafe {
            let tree = ffi.FPDF_StructTree_GetForPage(self.handle);
            if tree.is_null() {
                return found;
            }
            let mut pending = Vec::new();
            for index in 0..ffi.FPDF_StructTree_CountChildren(tree) {
                pending.push(ffi.FPDF_StructTree_GetChildAtIndex(tree, index));
            }
            let mut seen = 0;
            while let Some(element) = pending.pop() {
                seen += 1;
                if seen > MAX_ELEMENTS {
                    break;
                }
                if element.is_null() {
                    continue;
                }
                let count = ffi.FPDF_StructElement_CountChildren(element);
                let text = utf16_string(|buffer, size| {
                    ffi.FPDF_StructElement_GetAltText(element, buffer, size)
                });
                for index in 0..count {
                    if let Some(text) = &text {
                        let mark = ffi.FPDF_StructElement_GetChildMarkedContentID(element, index);
                        if mark >= 0 {
                            found.push((mark, text.clone()));
                        }
                    }
                    if pending.len() < MAX_ELEMENTS {
                        pending.push(ffi.FPDF_StructElement_GetChildAtIndex(element, index));
                    }
                }
            }
            ffi.FPDF_StructTree_Close(tree);
        }
        found
    }
}
