//! A process of its own that calls pdfium and does nothing else.
#![allow(
    unsafe_code,
    reason = "the barest calls are what ours is compared with, and they are C"
)]

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;

use kbqueue_pdf::find_pdfium;
use pdfium_render::prelude::{PdfRenderConfig, Pdfium, PdfiumLibraryBindingsAccessor};

use super::{Took, timed};

const MARK: &str = "raw-pdfium";

/// Does this process's work and ends it, if that is what it was started for.
pub(crate) fn run_if_asked() {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != MARK) {
        return;
    }
    let what = arguments.next().expect("there is something to do");
    let rest: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    let library = find_pdfium().expect("there is a library");
    let pdfium = Pdfium::new(Pdfium::bind_to_library(library).expect("it loads"));
    match what.to_str() {
        Some("pages") => {
            let document = pdfium.load_pdf_from_file(&rest[0], None);
            println!("{}", document.map_or(0, |document| document.pages().len()));
        }
        Some("text") => {
            let list = fs::read_to_string(&rest[0]).expect("it was written");
            for path in list.lines() {
                read(&pdfium, Path::new(path), |text| drop(black_box(text)));
            }
        }
        Some("scan") => scan(&pdfium, &rest[0], &rest[1], &rest[2]),
        _ => panic!("nobody asks for {}", what.display()),
    }
    std::process::exit(0);
}

fn command(what: &str, arguments: &[&OsStr]) -> Command {
    let mut command = Command::new(env::current_exe().expect("it has a name"));
    command.arg(MARK).arg(what).args(arguments);
    command
}

/// How many pages a document has; 0 if it does not open.
pub(super) fn pages(path: &Path) -> u32 {
    let (_, said) = timed(&mut command("pages", &[path.as_os_str()]));
    String::from_utf8_lossy(&said).trim().parse().unwrap_or(0)
}

/// Takes the text of all pages, one process for all documents.
pub(super) fn text(paths: &[PathBuf]) -> Took {
    let list = tempfile::NamedTempFile::new().expect("there is room");
    let lines: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    fs::write(list.path(), lines.join("\n")).expect("there is room");
    timed(&mut command("text", &[list.path().as_os_str()])).0
}

/// Draws the pages named by `numbers`, from 0 and with commas between, at 300 dots per inch, as
/// `N.pgm`, with their text beside it as `N.txt`.
pub(super) fn draw(path: &Path, numbers: &str, into: &Path) {
    let arguments = [path.as_os_str(), OsStr::new(numbers), into.as_os_str()];
    timed(&mut command("scan", &arguments));
}

fn read(pdfium: &Pdfium, path: &Path, mut each: impl FnMut(String)) {
    let ffi = pdfium.bindings();
    let path = path.to_str().expect("its name is UTF-8");
    // SAFETY: every handle is used while it is open, by one thread.
    unsafe {
        let document = ffi.FPDF_LoadDocument(path, None);
        if document.is_null() {
            return;
        }
        for number in 0..ffi.FPDF_GetPageCount(document) {
            let page = ffi.FPDF_LoadPage(document, number);
            if page.is_null() {
                continue;
            }
            let text = ffi.FPDFText_LoadPage(page);
            let count = ffi.FPDFText_CountChars(text);
            let mut units = vec![0_u16; usize::try_from(count).unwrap_or(0) + 1];
            ffi.FPDFText_GetText(text, 0, count, units.as_mut_ptr());
            each(String::from_utf16_lossy(&units));
            ffi.FPDFText_ClosePage(text);
            ffi.FPDF_ClosePage(page);
        }
        ffi.FPDF_CloseDocument(document);
    }
}

fn scan(pdfium: &Pdfium, path: &Path, numbers: &Path, into: &Path) {
    let mut texts = Vec::new();
    read(pdfium, path, |text| texts.push(text));
    let document = pdfium.load_pdf_from_file(path, None).expect("it opens");
    let numbers = numbers.to_str().expect("they are numbers").split(',');
    for number in numbers {
        let number: usize = number.parse().expect("it is a number");
        let index = number.try_into().expect("it is a page");
        let page = document.pages().get(index).expect("there is such a page");
        let scale = PdfRenderConfig::new().scale_page_by_factor(300.0 / 72.0);
        let bitmap = page.render_with_config(&scale).expect("it can be drawn");
        let mut out = format!("P5\n{} {}\n255\n", bitmap.width(), bitmap.height()).into_bytes();
        // Blue, green, red, and how opaque; the eye sees them so.
        out.extend(bitmap.as_raw_bytes().chunks_exact(4).map(|pixel| {
            let [blue, green, red] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
            u8::try_from((red * 299 + green * 587 + blue * 114) / 1000).unwrap_or(u8::MAX)
        }));
        fs::write(into.join(format!("{number}.pgm")), out).expect("there is room");
        fs::write(into.join(format!("{number}.txt")), &texts[number]).expect("there is room");
    }
}
