use std::io;
use std::path::PathBuf;

/// Why there is no extractor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PdfError {
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
    /// This process has loaded another pdfium, and there can be only one: use the same path.
    #[error(
        "this process already uses pdfium from {}, so it cannot use {}: give every extractor the \
         same library",
        loaded.display(),
        asked.display()
    )]
    OtherLibrary {
        /// The library in use.
        loaded: PathBuf,
        /// The one that was asked for.
        asked: PathBuf,
    },
    /// The thread that owns pdfium could not be started.
    #[error("the thread for pdfium could not be started")]
    Thread(#[source] io::Error),
}
