//! Durable document processing: PDFs in, text chunks and images out, whatever crashes in between.

pub use kbqueue_core::*;

#[cfg(feature = "axum")]
pub use kbqueue_axum as axum;
#[cfg(feature = "pdf")]
pub use kbqueue_pdf as pdf;
#[cfg(feature = "sqlite")]
pub use kbqueue_sqlite as sqlite;
