use std::io;
use std::path::PathBuf;

/// Why there is no extractor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PdfError {
    /// This program does not begin with [`init`](crate::init), and the options name no other.
    #[error(
        "documents are read in processes of their own, which are this program started again, so its \
         main must begin with kbqueue_pdf::init(); a program that cannot names another executable \
         in PdfOptions::child, for instance kbqueue-pdf-child"
    )]
    NotInitialised,
    /// The library file is not there or cannot be read.
    #[error(
        "there is no readable pdfium library at {}; `make setup` in kbqueue's directory fetches one",
        path.display()
    )]
    Unreadable {
        /// The path as it was given.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The file is no pdfium library for this machine, or one that is too old.
    #[error(
        "{} cannot be loaded as pdfium: it takes the library of build 8125 or later for this \
         machine; `make setup` in kbqueue's directory fetches one",
        path.display()
    )]
    Load {
        /// The path as it was given.
        path: PathBuf,
        /// What the loader said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// OCR is wanted, and what it takes is not there.
    #[error("text cannot be read out of pictures")]
    Ocr {
        /// What is missing, and how to get it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The executable that is to read documents could not be started.
    #[error("{} could not be started to read documents", executable.display())]
    Start {
        /// The executable.
        executable: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The executable was started and did not do what [`init`](crate::init) does.
    #[error(
        "{} was started to read documents, and did not answer as such a process: its main must \
         begin with kbqueue_pdf::init(), of the same version as this one",
        executable.display()
    )]
    NoAnswer {
        /// The executable.
        executable: PathBuf,
    },
    /// The executable answered that it cannot serve.
    #[error("{} cannot read documents: {reason}", executable.display())]
    Unfit {
        /// The executable.
        executable: PathBuf,
        /// Why not.
        reason: String,
    },
}
