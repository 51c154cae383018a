//! The embedded store of kbqueue: documents in a SQLite file.
//!
//! ```
//! use kbqueue_core::{BlobRef, NewDocument, QueueName, Store, StoreExt};
//! use kbqueue_sqlite::SqliteStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let url = format!("sqlite:{}/queue.db", directory.path().display());
//! let store = SqliteStore::connect(&url).await?; // "sqlite:queue.db"
//! let blob = BlobRef { sha256: "00".repeat(32), size_bytes: 1 }; // of BlobStore::put
//! let document = NewDocument::new(QueueName::default(), blob, "report.pdf");
//! let answer = store.enqueue_one(document).await?;
//! assert!(answer.created);
//! assert_eq!(store.stats(&QueueName::default()).await?.counts.queued, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # What it gives
//! - **Durability.** A call that returned is on the disk (`synchronous=FULL`, write-ahead log). With
//!   [`Synchronous::Normal`] a power cut can undo the last commits, never half of one.
//! - **No busy errors.** All writes of a process go through one connection, in order; other processes on
//!   the same file are waited for, up to [`SqliteOptions::patience`]. Reads wait for nobody.
//! - **Flat cost.** A claim reads the front of an index, a status page reads one row of counts, whatever
//!   the number of documents.
//! - **Your database too.** Tables are prefixed `kbqueue_` and have their own migrations, so the file can
//!   be the host application's, sqlx migrations included. [`SqliteStore::enqueue_in`] takes documents in
//!   inside the host's own transaction.
//! - **Wake-ups.** Subscribers in this process hear of each commit at once, and of commits of other
//!   connections within a quarter of a second.
//!
//! # What it cannot
//! - Work from several machines: the file has to be on a local disk, because SQLite's locks, and the memory
//!   that its processes share, do not work over network file systems.
//! - Write in parallel: there is one writer at a time, however many processes.
//! - Keep skewed clocks apart: time is this machine's.
//! - Shrink the file: what purge frees is used again; `VACUUM` gives it back.

mod batch;
mod claim;
mod codec;
mod connection;
mod enqueue;
mod error;
mod limits;
mod options;
mod outbox;
mod read;
mod schedule;
mod schema;
mod store;
mod wake;
mod write;

pub use options::{SqliteOptions, Synchronous};
pub use store::SqliteStore;
