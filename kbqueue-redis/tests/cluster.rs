//! `RedisStore` keeps every promise on a cluster of three nodes.

use kbqueue_core::Clock;
use kbqueue_redis::{RedisOptions, RedisStore};
use kbqueue_tests::redis;

kbqueue_conformance::suite!(store);
kbqueue_conformance::outbox_suite!(store);
kbqueue_conformance::schedules_suite!(store);
kbqueue_conformance::library_suite!(store);

async fn store(clock: Clock) -> (RedisStore, ()) {
    let options = RedisOptions::parse(redis::shared_cluster()).expect("it is a URL");
    let options = options.prefix(redis::prefix()).clock(clock);
    (RedisStore::open(options).await.expect("it opens"), ())
}
