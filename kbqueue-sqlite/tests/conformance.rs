//! `SqliteStore` keeps every promise.

use kbqueue_core::Clock;
use kbqueue_sqlite::{SqliteOptions, SqliteStore};

async fn open(clock: Clock) -> (SqliteStore, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let options = SqliteOptions::new(directory.path().join("kbqueue.db")).clock(clock);
    let store = SqliteStore::open(options).await.expect("it opens");
    (store, directory)
}

kbqueue_conformance::suite!(open);

kbqueue_conformance::outbox_suite!(open);

kbqueue_conformance::schedules_suite!(open);

kbqueue_conformance::library_suite!(open);
