//! What turns a file into pages.

use std::fmt;
use std::fs::File;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::document::{DocumentId, Properties};
use crate::output::Provenance;
use crate::secret::Password;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Turns a document's bytes into pages, in order.
///
/// # Contract
/// - Pages come as numbers `first_page..=total_pages`, each once, in order.
/// - The same file gives the same pages while [`fingerprint`](Self::fingerprint) stays the same.
/// - Dropping the future or the stream stops the work.
/// - A page that cannot be read is an [`ExtractedPage`] with a `failure`; an error ends the document's
///   attempt.
#[async_trait]
pub trait Extractor: Send + Sync + 'static {
    /// Names the output version and every setting that shapes outputs. A change makes started
    /// documents start over.
    fn fingerprint(&self) -> String;

    /// Opens the document and begins at `request.first_page`.
    ///
    /// # Errors
    /// Permanent where the file can never be read, transient where another try may help.
    async fn extract(&self, request: ExtractRequest) -> Result<Extraction, ExtractError>;
}

/// What to extract, and from where on.
#[derive(Debug)]
#[non_exhaustive]
pub struct ExtractRequest {
    /// The document, for logs and errors.
    pub document: DocumentId,
    /// The bytes, open for reading and seeking.
    pub file: File,
    /// How many there are.
    pub size_bytes: u64,
    /// Their media type, as it was declared.
    pub media_type: String,
    /// The page to begin with, from 1.
    pub first_page: u32,
    /// What opens them, where one was given.
    pub password: Option<Password>,
}

impl ExtractRequest {
    /// A request for all pages of a PDF.
    #[must_use]
    pub fn new(document: DocumentId, file: File, size_bytes: u64) -> Self {
        Self {
            document,
            file,
            size_bytes,
            media_type: "application/pdf".to_owned(),
            first_page: 1,
            password: None,
        }
    }
}

/// An opened document.
pub struct Extraction {
    /// Pages in all, those before `first_page` included.
    pub total_pages: u32,
    /// Title, author, dates.
    pub properties: Properties,
    /// The pages from `first_page` on.
    pub pages: BoxStream<'static, Result<ExtractedPage, ExtractError>>,
}

impl fmt::Debug for Extraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extraction")
            .field("total_pages", &self.total_pages)
            .finish_non_exhaustive()
    }
}

/// One page as it was found.
#[derive(Debug, Clone)]
pub struct ExtractedPage {
    /// Counted from 1.
    pub number: u32,
    /// The document's own label for it.
    pub label: Option<String>,
    /// The outline's heading that it falls under.
    pub section: Option<String>,
    /// Where the text came from.
    pub provenance: Provenance,
    /// The text as a reader sees it; need not be trimmed.
    pub text: String,
    /// Why the page could not be read.
    pub failure: Option<String>,
    /// Pictures on it.
    pub images: Vec<ExtractedImage>,
}

/// One picture as it was found.
#[derive(Debug, Clone)]
pub struct ExtractedImage {
    /// Encoded bytes.
    pub bytes: Bytes,
    /// Their media type.
    pub media_type: String,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Left, top, right, bottom on the page, in points from the top left corner.
    pub bbox: [f32; 4],
    /// Text found beside it that names it.
    pub caption: Option<String>,
    /// A small version, encoded alike.
    pub thumbnail: Option<Bytes>,
}

/// Why a document was not extracted. The variant decides what happens to it.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// No other try can help: not a PDF, encrypted, damaged, unsupported.
    #[error("{message}")]
    Permanent {
        /// What is wrong, and what a person can do about it.
        message: String,
        /// What was underneath.
        #[source]
        source: Option<BoxError>,
    },
    /// Another try may help: the machine was out of memory, a file was away.
    #[error("{message}")]
    Transient {
        /// What went wrong.
        message: String,
        /// What was underneath.
        #[source]
        source: Option<BoxError>,
    },
    /// Not now: come back later, without using up a retry.
    #[error("{reason}")]
    Snooze {
        /// Why not now.
        reason: String,
        /// How much later.
        delay: Duration,
    },
}

impl ExtractError {
    /// A permanent error with no cause underneath.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::Permanent {
            message: message.into(),
            source: None,
        }
    }

    /// A transient error with no cause underneath.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::Transient {
            message: message.into(),
            source: None,
        }
    }
}
