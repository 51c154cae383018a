//! How much one script touches.

use std::collections::BTreeMap;
use std::time::Duration;

use kbqueue_core::state::CrashLimits;
use kbqueue_core::store::{Control, Settled};
use kbqueue_core::{QueueName, State, Store};
use kbqueue_tests::redis::RedisServer;

use crate::support::*;

/// More than Lua can unpack at once.
const MANY: usize = 9000;

/// How often each command ran, those inside scripts included.
pub(crate) async fn calls(raw: &mut Raw) -> BTreeMap<String, u64> {
    let info: String = raw.run(&["INFO", "commandstats"]).await;
    let lines = info
        .lines()
        .filter_map(|line| line.strip_prefix("cmdstat_"));
    lines
        .map(|line| {
            let (name, rest) = line.split_once(":calls=").unwrap();
            (
                name.to_owned(),
                rest.split(',').next().unwrap().parse().unwrap(),
            )
        })
        .collect()
}

pub(crate) async fn reset(raw: &mut Raw) {
    let _: String = raw.run(&["CONFIG", "RESETSTAT"]).await;
}

/// REGRESSIONS 23: very many leases that expire at once are taken back in steps, each of which touches no
/// more than a thousand; and so it is with documents that fall due, and with those that are purged.
#[tokio::test]
async fn many_at_once_are_handled_in_steps() {
    let server = RedisServer::start(&["--appendonly", "no"]);
    let space = Space::on(&server.url());
    let store = space.store().await;
    let mut raw = space.raw().await;

    // Due at once, later.
    let due = space.clock.now() + Duration::from_secs(60);
    let batch = (0..MANY).map(|_| {
        let mut new = document();
        new.available_at = Some(due);
        new
    });
    let answers = store.enqueue(batch.collect()).await.unwrap();
    space.clock.advance(Duration::from_secs(60));
    reset(&mut raw).await;
    let first = claim(&store, 1).await;
    assert_eq!(first.len(), 1);
    let promotions = calls(&mut raw).await["evalsha"];
    assert!(promotions >= MANY as u64 / 1000, "{promotions} steps");

    // All leased, by claims large and small.
    let held = claim(&store, MANY).await;
    assert_eq!(held.len(), MANY - 1);
    space.clock.advance(LEASE);
    reset(&mut raw).await;
    let reaped = store
        .reap(CrashLimits::default(), usize::MAX)
        .await
        .unwrap();
    assert_eq!(reaped.len(), MANY);
    let steps = calls(&mut raw).await["evalsha"];
    assert!(steps >= 2 * MANY as u64 / 1000, "{steps} steps");
    let counts = store.stats(&QueueName::default()).await.unwrap().counts;
    assert_eq!((counts.queued, counts.processing), (MANY as u64, 0));

    // All purged; the limit is kept.
    for answer in answers {
        store.control(answer.id, Control::Delete).await.unwrap();
    }
    assert_eq!(store.purge(10).await.unwrap(), 10);
    assert_eq!(store.purge(usize::MAX).await.unwrap(), MANY - 10);
    assert_eq!(store.purge(10).await.unwrap(), 0);
    let counts = store.stats(&QueueName::default()).await.unwrap().counts;
    assert_eq!(counts.total(), 0);
}

/// What this process claimed it does not read again: a checkpoint and a settlement compare, and write.
#[tokio::test]
async fn own_leases_are_not_read_again() {
    let server = RedisServer::start(&[]);
    let space = Space::on(&server.url());
    let store = space.store().await;
    let mut raw = space.raw().await;
    add_many(&store, 3).await;
    let held = claim(&store, 3).await;
    reset(&mut raw).await;
    store.checkpoint(checkpoint(&held[0])).await.unwrap();
    let settled = store.settle(held.iter().map(completion).collect()).await;
    assert!(
        settled
            .unwrap()
            .iter()
            .all(|one| *one == Settled::In(State::Completed))
    );
    let calls = calls(&mut raw).await;
    // Two commits, each with one comparison.
    assert_eq!((calls["evalsha"], calls["hmget"]), (2, 2), "{calls:?}");
}

/// REGRESSIONS 18: a claim, its end and a look at the counts cost the same with ten documents as with thousands.
#[tokio::test]
async fn costs_do_not_grow_with_the_queue() {
    let server = RedisServer::start(&[]);
    let space = Space::on(&server.url());
    let store = space.store().await;
    let mut raw = space.raw().await;
    let mut costs = Vec::new();
    for more in [10, 3000] {
        add_many(&store, more).await;
        reset(&mut raw).await;
        let held = claim(&store, 3).await;
        store
            .settle(held.iter().map(completion).collect())
            .await
            .unwrap();
        store.stats(&QueueName::default()).await.unwrap();
        let mut calls = calls(&mut raw).await;
        // Scripts are sent in full the first time; the rest is this test's own.
        for name in ["eval", "evalsha", "config|resetstat", "info"] {
            calls.remove(name);
        }
        costs.push(calls);
    }
    assert_eq!(costs[0], costs[1]);
    let total: u64 = costs[0].values().sum();
    assert!(
        total < 60,
        "{total} commands for three documents: {costs:?}"
    );
}

/// Documents of a newer release do not keep others from being claimed, taken back or listed.
#[tokio::test]
async fn what_cannot_be_read_stands_in_nobodys_way() {
    let space = Space::new();
    let store = space.store().await;
    let mut raw = space.raw().await;
    let strange = add_many(&store, 5).await;
    let lives = space.key("lives");
    let spoil = async |raw: &mut Raw, id: &str| {
        let life: String = raw.run(&["HGET", &lives, id]).await;
        let newer = life.replacen('{', r#"{"newer":1,"#, 1);
        let _: u8 = raw.run(&["HSET", &lives, id, &newer]).await;
    };
    for id in &strange {
        spoil(&mut raw, &id.0.simple().to_string()).await;
    }
    let plain = add(&store).await;
    let held = claim(&store, 2).await;
    assert_eq!(held.iter().map(|d| d.id).collect::<Vec<_>>(), [plain]);
    let listed = store.documents(Default::default()).await.unwrap();
    assert_eq!(listed.len(), 1, "the others are reported");
    // Two leases, the older of which cannot be read any more.
    space.clock.advance(Duration::from_secs(1));
    let later = add(&store).await;
    assert_eq!(claim(&store, 1).await[0].id, later);
    spoil(&mut raw, &plain.0.simple().to_string()).await;
    space.clock.advance(LEASE);
    let reaped = store.reap(CrashLimits::default(), 1).await.unwrap();
    assert_eq!((reaped.len(), reaped[0].id), (1, later));
    assert_eq!(reaped[0].state, State::Queued);
}
