//! A store of kbqueue for many machines: documents in Redis, or in a Redis Cluster.
//!
//! ```
//! use kbqueue_core::{BlobRef, NewDocument, QueueName, Store, StoreExt};
//! use kbqueue_redis::RedisStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let url = kbqueue_tests::redis::shared();
//! let store = RedisStore::connect(url).await?; // "redis://localhost"
//! let blob = BlobRef { sha256: "00".repeat(32), size_bytes: 1 }; // of BlobStore::put
//! let document = NewDocument::new(QueueName::default(), blob, "report.pdf");
//! let answer = store.enqueue_one(document).await?;
//! assert!(store.document(answer.id).await?.is_some());
//! # Ok(())
//! # }
//! ```
//!
//! # What it gives
//! - **One step for each change.** What a change depends on is read, or was left like that by this process,
//!   the specification judges it in Rust, and one script compares it before it writes anything. Documents carry a random token that
//!   each write replaces, so a worker whose lease was lost changes nothing, not even in the same
//!   microsecond.
//! - **Many machines, one clock.** Leases and delays go by the clock of the server, however skewed those of
//!   the workers are.
//! - **Wake-ups** by pub/sub, on a connection of their own. When that was broken, subscribers are told to look
//!   again.
//! - **Flat cost.** A claim reads the front of sorted sets, a status page reads one hash of counts, and
//!   every script touches a bounded number of entries at a time.
//! - **Limits, an outbox and schedules** of a queue, each in the keys of that queue: what depends on them is one
//!   commit that compares the queue's, the endpoint's or the schedule's own record.
//! - **A Redis Cluster** where one answers: the keys of one queue share one slot, and queues spread over the
//!   nodes. (What concerns several queues is one step in each of them.)
//!
//! # What can be lost
//! A call that returned is in the server's memory. Whether it is on a disk, too, is up to the server:
//!
//! | setting | a crash of the server or a power cut loses |
//! | --- | --- |
//! | `appendonly yes`, `appendfsync always` | nothing that was answered |
//! | `appendonly yes`, `appendfsync everysec` | up to about two seconds |
//! | `appendonly no`, with snapshots | all since the last snapshot: minutes |
//! | `appendonly no`, `save ""` | everything |
//!
//! No half of a change is ever left: a script is in the append-only file as a whole or not at all. Without
//! such a file [`RedisStore::open`] logs a warning.
//!
//! **Replication is asynchronous.** A failover, by Sentinel or in a cluster, loses what the old primary
//! answered and had not yet passed on, commonly less than a second, and all that it still answered while it
//! was cut off. Documents go back to how they were a moment before: one that was enqueued may be gone, one
//! that was completed may be processed again. They do not get mixed up: lease ids and tokens are random, so
//! nobody who read or claimed what was lost can write on top of what is there now. `min-replicas-to-write`
//! shortens that moment.
//!
//! **Eviction** would throw documents away, so a server whose `maxmemory-policy` is not `noeviction` is
//! refused. When its memory is full, such a server refuses writes, and calls answer
//! [`StoreError::Unavailable`](kbqueue_core::StoreError::Unavailable) until there is room.
//!
//! # What it cannot
//! - Hold more than the server's memory: page texts and chunks are in it, uploads and images are not.
//! - Enqueue inside a transaction of the host's database.
//! - Change documents of several queues in one step: a batch applies to each of its queues whole or not at
//!   all.
//! - Have limits and endpoints obeyed by a release that does not know them yet: set them when every process is
//!   upgraded. Pauses are obeyed by all.
//! - Look documents up by tenant or name: such a list reads what queue and state leave, a thousand at a time.

mod batch;
mod claim;
mod codec;
mod commit;
mod connection;
mod delivery;
mod enqueue;
mod error;
mod open;
mod options;
mod outbox;
mod places;
mod read;
mod schedule;
mod schema;
mod script;
mod settings;
mod store;
mod wake;
mod write;

pub use options::RedisOptions;
pub use store::RedisStore;
