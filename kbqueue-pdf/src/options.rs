use std::path::PathBuf;
use std::time::Duration;

/// Which pages are read by OCR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OcrMode {
    /// None: pages come with what text they have.
    Off,
    /// Those whose text is missing or broken, and pictures that no text covers.
    Auto,
    /// All, whatever text they have.
    Always,
}

impl OcrMode {
    /// The word used in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Auto => "auto",
            Self::Always => "always",
        }
    }

    /// The inverse of [`as_str`](Self::as_str); `None` for any other word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Off, Self::Auto, Self::Always]
            .into_iter()
            .find(|mode| mode.as_str() == word)
    }
}

/// How PDFs are extracted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PdfOptions {
    /// The pdfium library file (`libpdfium.so`). Programs may look for it with
    /// [`find_pdfium`](crate::find_pdfium).
    pub pdfium: PathBuf,
    /// An executable whose `main` begins with [`init`](crate::init), to be started as the process
    /// that reads documents. Default: none, that is this executable. For programs that cannot call
    /// `init` first, such as test binaries: the package has one, `kbqueue-pdf-child`.
    pub child: Option<PathBuf>,
    /// How long a page, or the opening of a document, may take. Default: 60 seconds.
    pub page_timeout: Duration,
    /// How much memory a process may take for one document, beside the document's own size. In
    /// address space, which is somewhat more than what is used. Default: 1 GiB.
    pub memory_bytes: u64,
    /// Whether a page that cannot be read fails its document. Default: no, the page is recorded
    /// with its cause and the document goes on.
    pub strict: bool,
    /// Whether pictures come with the pages. Default: yes. They cost as much time as the text, where
    /// there are some.
    pub images: bool,
    /// Which pages are read by OCR. Default: [`OcrMode::Auto`] where the feature `ocr` is on, which takes
    /// tesseract's language data on this machine; otherwise [`OcrMode::Off`].
    pub ocr: OcrMode,
    /// The languages that OCR looks for, by tesseract's names. Default: `eng`.
    pub ocr_languages: Vec<String>,
    /// The directory of tesseract's language data. Default: none, that is `TESSDATA_PREFIX`, or where
    /// systems put it.
    pub tessdata: Option<PathBuf>,
    #[cfg(feature = "hostile")]
    pub(crate) layers: crate::isolation::Layers,
}

impl PdfOptions {
    /// The defaults, with this library file.
    #[must_use]
    pub fn new(pdfium: impl Into<PathBuf>) -> Self {
        Self {
            pdfium: pdfium.into(),
            child: None,
            page_timeout: Duration::from_secs(60),
            memory_bytes: 1 << 30,
            strict: false,
            images: true,
            ocr: if cfg!(feature = "ocr") {
                OcrMode::Auto
            } else {
                OcrMode::Off
            },
            ocr_languages: vec!["eng".to_owned()],
            tessdata: None,
            #[cfg(feature = "hostile")]
            layers: crate::isolation::Layers::ALL,
        }
    }
}
