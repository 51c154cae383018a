use std::path::PathBuf;
use std::time::Duration;

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
            #[cfg(feature = "hostile")]
            layers: crate::isolation::Layers::ALL,
        }
    }
}
