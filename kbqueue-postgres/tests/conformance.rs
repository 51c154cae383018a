//! `PostgresStore` keeps every promise.

use kbqueue_core::Clock;
use kbqueue_postgres::{PostgresOptions, PostgresStore};
use kbqueue_tests::postgres::Schema;

async fn open(clock: Clock) -> (PostgresStore, Schema) {
    let schema = Schema::new();
    let options = PostgresOptions::parse(schema.url()).and_then(|o| o.schema(schema.name()));
    let options = options.expect("they are right").pool_size(4).clock(clock);
    let store = PostgresStore::open(options).await.expect("it opens");
    (store, schema)
}

kbqueue_conformance::suite!(open);
kbqueue_conformance::outbox_suite!(open);
kbqueue_conformance::schedules_suite!(open);

kbqueue_conformance::library_suite!(open);
