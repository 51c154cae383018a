//! Reads text out of pixels, with tesseract.

use std::path::{Path, PathBuf};

/// How a picture is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A page, with columns and headings.
    Page,
    /// One block of text.
    Block,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Recognised {
    pub(crate) text: String,
    /// Mean over all words, 0 to 100.
    pub(crate) confidence: f32,
}

/// Gray pixels, row by row.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(feature = "ocr"),
    allow(dead_code, reason = "without OCR nobody looks at them")
)]
pub(crate) struct Pixels<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Bytes from one row to the next.
    pub(crate) stride: usize,
    pub(crate) dpi: u32,
}

/// Why text cannot be read out of pictures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OcrError {
    #[error(
        "there is no language data for OCR of {language:?} in {}: install it (on Debian: apt-get \
         install tesseract-ocr-{language}), name another directory or other languages, or turn OCR off",
        directory.display()
    )]
    Language {
        language: String,
        directory: PathBuf,
    },
    #[error(
        "there is no directory with tesseract's language data (looked in {looked}): install it (on \
         Debian: apt-get install tesseract-ocr-eng), set TESSDATA_PREFIX, or turn OCR off"
    )]
    Directory { looked: String },
    #[cfg(feature = "ocr")]
    #[error("tesseract does not start with the language data in {}", .0.display())]
    Start(PathBuf),
    #[error("this program was built without OCR: build it with the feature `ocr`, or turn OCR off")]
    NotBuilt,
}

const DIRECTORIES: [&str; 4] = [
    "/usr/share/tesseract-ocr/5/tessdata",
    "/usr/share/tesseract-ocr/4.00/tessdata",
    "/usr/share/tessdata",
    "/usr/local/share/tessdata",
];

/// The directory of the language data: the one given, `TESSDATA_PREFIX`, or where systems put it.
/// Every language has to be in it, and OCR in this program.
pub(crate) fn tessdata(languages: &[String], given: Option<&Path>) -> Result<PathBuf, OcrError> {
    if !cfg!(feature = "ocr") {
        return Err(OcrError::NotBuilt);
    }
    let from_environment = || std::env::var_os("TESSDATA_PREFIX").map(PathBuf::from);
    let usual = || {
        let mut usual = DIRECTORIES.iter().map(PathBuf::from);
        usual.find(|directory| directory.is_dir())
    };
    let directory = given
        .map(Path::to_owned)
        .or_else(from_environment)
        .or_else(usual)
        .ok_or_else(|| OcrError::Directory {
            looked: DIRECTORIES.join(", "),
        })?;
    for language in languages {
        if !directory.join(format!("{language}.traineddata")).is_file() {
            return Err(OcrError::Language {
                language: language.clone(),
                directory,
            });
        }
    }
    Ok(directory)
}

#[cfg(feature = "ocr")]
pub(crate) use engine::Ocr;

#[cfg(feature = "ocr")]
mod engine {
    use std::cell::RefCell;
    use std::ffi::{CStr, c_int};
    use std::path::Path;

    use leptess::tesseract::TessApi;

    use super::{Layout, OcrError, Pixels, Recognised};

    /// Tesseract with its languages. There is one in a process, since each takes 50 MB.
    pub(crate) struct Ocr {
        api: RefCell<TessApi>,
    }

    impl Ocr {
        /// Loads the languages, such as `eng`. Nothing is read from files after that.
        pub(crate) fn load(languages: &[String], directory: &Path) -> Result<Self, OcrError> {
            let start = || OcrError::Start(directory.to_owned());
            let path = directory.to_str().ok_or_else(start)?;
            let mut api = TessApi::new(Some(path), &languages.join("+")).map_err(|_| start())?;
            // Light text on dark is rare, and looking for it costs a twentieth.
            set(&mut api, c"tessedit_do_invert", c"0");
            Ok(Self {
                api: RefCell::new(api),
            })
        }

        /// Reads a picture; `None` if tesseract refuses it.
        pub(crate) fn read(&self, pixels: &Pixels<'_>, layout: Layout) -> Option<Recognised> {
            let mut api = self.api.borrow_mut();
            let mode = match layout {
                Layout::Page => c"3",
                Layout::Block => c"6",
            };
            set(&mut api, c"tessedit_pageseg_mode", mode);
            api.raw
                .set_image(
                    pixels.bytes,
                    c_int::try_from(pixels.width).ok()?,
                    c_int::try_from(pixels.height).ok()?,
                    1,
                    c_int::try_from(pixels.stride).ok()?,
                )
                .ok()?;
            api.raw
                .set_source_resolution(c_int::try_from(pixels.dpi).ok()?);
            api.raw.recognize().ok()?;
            let text = api.get_utf8_text().ok()?;
            #[allow(clippy::cast_precision_loss, reason = "0 to 100")]
            let confidence = api.mean_text_conf().clamp(0, 100) as f32;
            Some(Recognised { text, confidence })
        }
    }

    fn set(api: &mut TessApi, name: &CStr, value: &CStr) {
        // Fails for unknown names alone, and these are known.
        let _ = api.raw.set_variable(name, value);
    }
}

/// Nothing: this build has no OCR.
#[cfg(not(feature = "ocr"))]
pub(crate) enum Ocr {}

#[cfg(not(feature = "ocr"))]
impl Ocr {
    pub(crate) fn load(_: &[String], _: &Path) -> Result<Self, OcrError> {
        Err(OcrError::NotBuilt)
    }

    pub(crate) fn read(&self, _: &Pixels<'_>, _: Layout) -> Option<Recognised> {
        match *self {}
    }
}
