//! The model, the traits and the runner of kbqueue.
//!
//! kbqueue is a durable document-processing queue: a service hands it PDFs, it hands back text chunks
//! and images. This crate knows no database, no HTTP and no PDF: it holds
//!
//! - the specification: [`state::transition`], a pure function that every store follows;
//! - the traits that the other crates implement: [`Store`] and [`Extractor`];
//! - the [`Processor`], which claims documents, extracts, cuts and commits them;
//! - [`BlobStore`], for the bytes, and [`MemoryStore`], the reference store.
//!
//! Most programs depend on the `kbqueue` crate, which re-exports all of this.

pub mod blob;
pub mod chunk;
pub mod clock;
pub mod document;
pub mod error;
pub mod event;
mod ext;
pub mod extract;
pub mod fair;
pub mod library;
pub mod lifecycle;
pub mod limits;
pub mod memory;
pub mod outbox;
pub mod output;
pub mod processor;
pub mod queue;
pub mod retry;
pub mod schedule;
pub mod secret;
pub mod state;
pub mod store;
mod walk;

pub use blob::{BlobError, BlobRef, BlobStore};
pub use chunk::ChunkOptions;
pub use clock::{Clock, TestClock};
pub use document::{Dedupe, Document, DocumentId, NewDocument, Properties};
pub use error::StoreError;
pub use event::{Notice, Subscription};
pub use extract::{ExtractError, Extraction, Extractor};
pub use lifecycle::LeaseId;
pub use limits::Rate;
pub use memory::MemoryStore;
pub use output::{Chunk, Image, Page, Progress};
pub use processor::{BatchReport, Processor, ProcessorOptions};
pub use queue::{QueueName, QueueSettings, QueueStats};
pub use retry::{Backoff, RetryPolicy};
pub use secret::{Password, SealedPassword, SecretKey};
pub use state::State;
pub use store::{FullStore, Store, StoreExt};
