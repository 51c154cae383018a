//! The store of kbqueue for many machines: documents in PostgreSQL.
//!
//! ```no_run
//! use kbqueue_core::{BlobRef, NewDocument, QueueName, Store, StoreExt};
//! use kbqueue_postgres::PostgresStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = PostgresStore::connect("postgres://me:secret@localhost/docs").await?;
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
//! - **Durability** as the server is configured: with `fsync` and `synchronous_commit` on, which is the
//!   default, a call that returned survives a power cut of the server.
//! - **Many machines.** Claims skip what other claims hold instead of waiting for it. Time is the server's,
//!   so skewed clocks of workers do no harm.
//! - **Flat cost.** A claim reads the front of an index for each tenant that has work, a status page one
//!   row and what was not added to it yet, whatever the number of documents, on a table that was never
//!   analysed too, and while somebody's long transaction keeps the server from cleaning up: a process
//!   remembers up to where it emptied each line, and learns of whatever comes in before that place.
//! - **Limits for all processes.** Rate, documents at once, of one tenant, and waiting ones hold whoever claims
//!   and enqueues: claims of a queue that has some come one after the other, by a lock on its row. A queue without
//!   any pays nothing for that. Inside a host's transaction, `max_queued` is approximate: nobody waits for it.
//! - **An outbox and schedules** ([`Outbox`](kbqueue_core::outbox::Outbox),
//!   [`Schedules`](kbqueue_core::schedule::Schedules)): what has to be delivered is written by the statement that
//!   changes the document, and a tick enqueues in the transaction that sets the next one. While somebody's
//!   transaction is open for long, a claim of deliveries walks over all that were claimed since.
//! - **Upgrades while it runs.** The release before goes on beside this one, on a schema that this one migrated; it
//!   obeys `paused`, but no limits, and writes nothing down for endpoints.
//! - **Your database too.** Everything is in one schema with its own record of migrations, so the host's own
//!   tables and sqlx migrations are not touched. [`PostgresStore::enqueue_in`] takes documents in inside
//!   the host's own transaction, however long that is open; [`PostgresStore::migrations_sql`] prints the
//!   SQL for review.
//! - **Restores.** Tables that come back from a dump in another cluster are counted once, by the first store
//!   that opens them; see to it that no running program writes to them before that.
//! - **Wake-ups** by LISTEN and NOTIFY on one connection of their own, one message for each transaction,
//!   sent by its commit. Where that connection breaks, it is opened again, and subscribers look again.
//! - **Poolers.** See [`Pooler`] for PgBouncer in transaction mode.
//!
//! # What it cannot
//! - Be quite flat while a transaction is open for long: the first claim of a process, and its first one after a
//!   minute of none, walk over what was claimed since that transaction began; so do claims behind documents
//!   that are left to another fingerprint or cannot be read, claims among what was retried or scheduled, claims of
//!   queues with limits on what is processing, and each call of the reaper and of purge. All of it is over when the transaction ends and vacuum was there.
//! - Claim from a queue with limits faster than the server commits one transaction after the other.
//! - Survive an asynchronous failover whole: what the old primary committed and the new one never got is
//!   gone. Documents that were enqueued then are gone with their ids, so enqueueing them again makes them
//!   anew; leases that were given then are lost, and their holders' writes refused.
//! - Hold U+0000: PostgreSQL has no such character. It is kept escaped (U+0001 U+0001; U+0001 itself is
//!   U+0001 U+0002) and comes back as it was, but SQL of one's own over these tables sees the escapes.
//! - Work in a database with another encoding than UTF8; opening says so.
//! - Encrypt: this release has no TLS. Use a tunnel, or a proxy beside the process.

mod batch;
mod claim;
mod codec;
mod enqueue;
mod error;
mod fronts;
mod options;
mod outbox;
mod read;
mod schedule;
mod schema;
mod session;
mod sql;
mod store;
mod text;
mod wake;
mod write;

pub use options::{Pooler, PostgresOptions};
pub use store::PostgresStore;
