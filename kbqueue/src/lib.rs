//! Durable document processing: documents in, text chunks and images out, whatever crashes in between.
//!
//! A service hands kbqueue its documents; workers, in the same process or in others, extract their text
//! and cut it into chunks; whatever dies on the way, no document is lost, none is stuck, and no output
//! is written twice.
//!
//! So far this crate has the model, the processor and the store in memory; stores in databases and the
//! PDF extractor are being built. A host brings its own [`Extractor`] meanwhile:
//!
//! ```
//! use std::sync::Arc;
//! use kbqueue::{BlobStore, Extractor, MemoryStore, NewDocument, Processor, ProcessorOptions};
//! use kbqueue::{QueueName, StoreExt};
//!
//! async fn chunks_of(bytes: Vec<u8>, extractor: Arc<dyn Extractor>) -> Vec<kbqueue::Chunk> {
//!     let (store, blobs) = (Arc::new(MemoryStore::new()), BlobStore::connect("memory:").unwrap());
//!     let processor = Processor::new(store.clone(), blobs.clone(), extractor, ProcessorOptions::default());
//!     processor.start();
//!     let blob = blobs.put(bytes.into()).await.unwrap();
//!     let document = NewDocument::new(QueueName::default(), blob, "report.pdf");
//!     let id = store.enqueue_one(document).await.unwrap().id;
//!     store.wait_finished(id).await.unwrap();
//!     processor.stop().await;
//!     store.all_chunks(id).await.unwrap()
//! }
//! ```
//!
//! # Features
//! - `axum`: mountable HTTP routers.

#[cfg(feature = "axum")]
pub use kbqueue_axum as axum;
pub use kbqueue_core::*;
