use std::path::PathBuf;

/// How PDFs are extracted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PdfOptions {
    /// The pdfium library file (`libpdfium.so`). Programs may look for it with
    /// [`find_pdfium`](crate::find_pdfium).
    pub pdfium: PathBuf,
}

impl PdfOptions {
    /// The defaults, with this library file.
    #[must_use]
    pub fn new(pdfium: impl Into<PathBuf>) -> Self {
        Self {
            pdfium: pdfium.into(),
        }
    }
}
