//! `SqliteStore` keeps every promise.

use kbqueue_core::Clock;
use kbqueue_sqlite::{SqliteOptions, SqliteStore};

kbqueue_conformance::suite!(async |clock: Clock| {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let options = SqliteOptions::new(directory.path().join("kbqueue.db")).clock(clock);
    (
        SqliteStore::open(options).await.expect("it opens"),
        directory,
    )
});
