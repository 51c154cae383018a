//! What pdfium itself has, by the plainest calls there are.
#![allow(
    unsafe_code,
    reason = "the reference must not share code with what it checks"
)]

use std::collections::BTreeMap;
use std::path::Path;

use kbqueue_pdf::find_pdfium;
use pdfium_render::prelude::{FS_RECTF, Pdfium, PdfiumLibraryBindingsAccessor};

/// Prints a line for each page: its visible characters, one after the other.
pub(crate) fn print(path: &Path) {
    let pdfium = Pdfium::new(Pdfium::bind_to_library(find_pdfium().unwrap()).unwrap());
    let ffi = pdfium.bindings();
    // SAFETY: every handle is used while it is open, by one thread.
    unsafe {
        let document = ffi.FPDF_LoadDocument(path.to_str().unwrap(), None);
        for number in 0..ffi.FPDF_GetPageCount(document) {
            let page = ffi.FPDF_LoadPage(document, number);
            if page.is_null() {
                println!();
                continue;
            }
            let text = ffi.FPDFText_LoadPage(page);
            let mut bounds = FS_RECTF {
                left: 0.0,
                top: 0.0,
                right: 0.0,
                bottom: 0.0,
            };
            ffi.FPDF_GetPageBoundingBox(page, &raw mut bounds);
            let shown = bounds.left < bounds.right && bounds.bottom < bounds.top;
            let mut units = Vec::new();
            for index in 0..ffi.FPDFText_CountChars(text) {
                let (mut left, mut right, mut bottom, mut top) = (0.0, 0.0, 0.0, 0.0);
                let has_box = ffi.FPDFText_GetCharBox(
                    text,
                    index,
                    &raw mut left,
                    &raw mut right,
                    &raw mut bottom,
                    &raw mut top,
                ) != 0;
                let (x, y) = (f64::midpoint(left, right), f64::midpoint(bottom, top));
                let inside = x >= f64::from(bounds.left)
                    && x <= f64::from(bounds.right)
                    && y >= f64::from(bounds.bottom)
                    && y <= f64::from(bounds.top);
                let hyphen = ffi.FPDFText_IsHyphen(text, index) == 1;
                if (inside || !has_box || !shown) && !hyphen {
                    let code = ffi.FPDFText_GetUnicode(text, index);
                    match u16::try_from(code) {
                        Ok(unit) => units.push(unit),
                        Err(_) => units.extend(
                            char::from_u32(code)
                                .map(|c| c.encode_utf16(&mut [0; 2]).to_vec())
                                .unwrap_or_default(),
                        ),
                    }
                }
            }
            let line = char::decode_utf16(units).filter_map(Result::ok);
            println!(
                "{}",
                line.filter(|c| !c.is_whitespace()).collect::<String>()
            );
            ffi.FPDFText_ClosePage(text);
            ffi.FPDF_ClosePage(page);
        }
        ffi.FPDF_CloseDocument(document);
    }
}

/// How often each character occurs that a reader sees. Hyphens are not counted, since those at the
/// ends of lines go.
pub(crate) fn counted(text: &str) -> BTreeMap<char, i64> {
    let mut counts = BTreeMap::new();
    let text = text
        .replace('\u{FB00}', "ff")
        .replace('\u{FB01}', "fi")
        .replace('\u{FB02}', "fl")
        .replace('\u{FB03}', "ffi")
        .replace('\u{FB04}', "ffl")
        .replace(['\u{FB05}', '\u{FB06}'], "st");
    for c in text.chars() {
        let seen = !c.is_whitespace() && !c.is_control() && !matches!(c, '\u{FFFE}' | '\u{FFFF}');
        if seen && c != '-' {
            *counts.entry(c).or_default() += 1;
        }
    }
    counts
}

pub(crate) fn difference(found: &BTreeMap<char, i64>, expected: &BTreeMap<char, i64>) -> String {
    let mut out = String::new();
    for (c, count) in expected {
        let less = count - found.get(c).unwrap_or(&0);
        if less != 0 {
            out += &format!("{c:?} {:+} ", -less);
        }
    }
    for (c, count) in found {
        if !expected.contains_key(c) {
            out += &format!("{c:?} {count:+} ");
        }
    }
    out
}
