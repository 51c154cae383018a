//! Durable document processing: PDFs in, text chunks and images out, whatever crashes in between.
//!
//! A service hands kbqueue its PDFs; workers, in the same process or in others, extract their text
//! and cut it into chunks; whatever dies on the way, no document is lost, none is stuck, and no output
//! is written twice.
//!
//! ```no_run
//! use kbqueue::{BlobStore, NewDocument, Processor, ProcessorOptions, QueueName, StoreExt, pdf};
//!
//! async fn run() -> Result<(), Box<dyn std::error::Error>> {
//!     let (store, blobs) = (kbqueue::connect("sqlite:kbqueue.db").await?, BlobStore::connect("file:blobs")?);
//!     let pdfs = std::sync::Arc::new(pdf::PdfExtractor::new(pdf::PdfOptions::new(pdf::find_pdfium()?))?);
//!     let processor = Processor::new(store.clone(), blobs.clone(), pdfs, ProcessorOptions::default());
//!     processor.start();
//!     let upload = blobs.put_file("report.pdf").await?;
//!     let id = store.enqueue_one(NewDocument::new(QueueName::default(), upload, "report.pdf")).await?.id;
//!     store.wait_finished(id).await?;
//!     for chunk in store.all_chunks(id).await? { println!("page {}: {}", chunk.first_page, chunk.text); }
//!     Ok(processor.stop().await)
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     pdf::init(); // before anything else: parser processes start here
//!     tokio::runtime::Runtime::new()?.block_on(run())
//! }
//! ```
//!
//! # Features
//! - `sqlite`: the embedded store, [`sqlite`].
//! - `postgres`: the store for many machines, [`postgres`].
//! - `redis`: the store for many machines, in memory, [`redis`].
//! - `pdf`: the PDF extractor, [`pdf`].
//! - `ocr`: the same with OCR; takes tesseract to build and to run.
//! - `axum`: mountable HTTP routers, [`axum`].
//! - `webhook`: signed delivery of what happened to documents, [`webhook`].
//!
//! # What is promised
//! Delivery is at least once; what is stored is as if once. Every write of a worker carries the id of
//! its lease and applies only while it holds it; outputs, progress and the place to go on from are one
//! write. The defaults are durable: a call that returned survives a power cut as far as the disk does.

use std::sync::Arc;

#[cfg(feature = "axum")]
pub use kbqueue_axum as axum;
pub use kbqueue_core::*;
#[cfg(feature = "pdf")]
pub use kbqueue_pdf as pdf;
#[cfg(feature = "postgres")]
pub use kbqueue_postgres as postgres;
#[cfg(feature = "redis")]
pub use kbqueue_redis as redis;
#[cfg(feature = "sqlite")]
pub use kbqueue_sqlite as sqlite;
#[cfg(feature = "webhook")]
pub use kbqueue_webhook as webhook;

/// Opens a store by address, and brings it to this release's schema where it is older:
/// - `sqlite:PATH`, relative to the working directory, made where it is missing (feature `sqlite`);
/// - `postgres://USER:PASSWORD@HOST/DATABASE` (feature `postgres`);
/// - `redis://HOST:PORT` (feature `redis`), or the address of any node of a Redis Cluster.
///
/// Each of them is a [`Store`], an [`Outbox`](outbox::Outbox), a
/// [`Schedules`](schedule::Schedules) and a [`Library`](library::Library).
///
/// # Errors
/// [`StoreError::Unusable`] where the address names no store that this build knows, or one that it
/// cannot work with; [`StoreError::Unavailable`] where it does not answer.
pub async fn connect(url: &str) -> Result<Arc<dyn FullStore>, StoreError> {
    let scheme = url.split_once(':').map(|(scheme, _)| scheme);
    let kind = match scheme {
        Some("postgresql") => Some("postgres"),
        Some("unix" | "redis+unix") => Some("redis"),
        other => other,
    };
    match kind {
        #[cfg(feature = "sqlite")]
        Some("sqlite") => Ok(Arc::new(kbqueue_sqlite::SqliteStore::connect(url).await?)),
        #[cfg(feature = "postgres")]
        Some("postgres") => Ok(Arc::new(
            kbqueue_postgres::PostgresStore::connect(url).await?,
        )),
        #[cfg(feature = "redis")]
        Some("redis") => Ok(Arc::new(kbqueue_redis::RedisStore::connect(url).await?)),
        // An address of a store that was left out of this build says so.
        #[allow(unreachable_patterns)]
        Some(feature @ ("sqlite" | "postgres" | "redis")) => Err(StoreError::Unusable(format!(
            "this program was built without the feature `{feature}`"
        ))),
        _ => Err(StoreError::Unusable(format!(
            "{url:?} is no store: use sqlite:PATH, postgres://HOST/DATABASE or redis://HOST"
        ))),
    }
}
