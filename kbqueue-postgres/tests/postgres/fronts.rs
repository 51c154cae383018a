//! Processes remember how far they emptied a line; what comes in before that place is found all the same.

use std::time::Duration;

use jiff::Timestamp;
use kbqueue_core::state::{CrashLimits, Outcome};
use kbqueue_core::store::{Control, Settlement};
use kbqueue_core::{DocumentId, NewDocument, QueueSettings, Store};
use kbqueue_postgres::PostgresStore;
use sqlx::Connection;

use crate::support::{LEASE, Place, claim, document, soon};

async fn claimed(store: &PostgresStore, slots: usize) -> Vec<DocumentId> {
    let claims = claim(store, slots).await;
    claims.documents.iter().map(|d| d.id).collect()
}

fn early() -> NewDocument {
    let mut early = document("early.pdf");
    early.available_at = Some(Timestamp::UNIX_EPOCH);
    early
}

/// Two processes that have both been far behind the place already.
async fn two_busy_stores(place: &Place) -> [PostgresStore; 2] {
    let stores = [place.store().await, place.store().await];
    let many = (0..60).map(|_| document("a.pdf")).collect();
    stores[0].enqueue(many).await.unwrap();
    for store in &stores {
        assert_eq!(claimed(store, 10).await.len(), 10);
        assert_eq!(claimed(store, 10).await.len(), 10);
    }
    stores
}

#[tokio::test]
async fn what_is_committed_late_is_claimed_by_whoever_comes_first() {
    for who in [0, 1] {
        let place = Place::new();
        let stores = two_busy_stores(&place).await;
        let mut host = place.connection().await;
        let mut tx = host.begin().await.unwrap();
        let late = early();
        stores[0]
            .enqueue_in(&mut tx, vec![late.clone()])
            .await
            .unwrap();
        for store in &stores {
            assert_eq!(claimed(store, 5).await.len(), 5);
        }
        tx.commit().await.unwrap();
        assert_eq!(claimed(&stores[who], 1).await, [late.id]);
        assert_eq!(claimed(&stores[1 - who], 11).await.len(), 10);
    }
}

#[tokio::test]
async fn what_comes_back_or_goes_first_is_claimed_first() {
    let place = Place::new();
    let stores = two_busy_stores(&place).await;
    let mut urgent = document("urgent.pdf");
    urgent.priority = 9;
    stores[0].enqueue(vec![urgent.clone()]).await.unwrap();
    stores[0].enqueue(vec![early()]).await.unwrap();
    let held = claim(&stores[1], 2).await.documents.remove(0);
    assert_eq!(held.id, urgent.id);
    let settlement = Settlement {
        document: held.id,
        lease_id: held.lifecycle.lease.unwrap().id,
        outcome: Outcome::Release,
    };
    stores[1].settle(vec![settlement]).await.unwrap();
    assert_eq!(claimed(&stores[0], 1).await, [urgent.id]);
    // Its worker dies, and a person wants it done again.
    place.clock.advance(LEASE);
    stores[0].reap(CrashLimits::default(), 99).await.unwrap();
    assert_eq!(claimed(&stores[1], 1).await, [urgent.id]);
    place.clock.advance(LEASE);
    let once = CrashLimits {
        max_crashes: 1,
        ..CrashLimits::default()
    };
    stores[1].reap(once, 99).await.unwrap();
    let again = Control::Retry {
        from_scratch: false,
    };
    stores[1].control(urgent.id, again).await.unwrap();
    assert_eq!(claimed(&stores[0], 1).await, [urgent.id]);
}

#[tokio::test]
async fn what_falls_due_or_waits_in_a_pause_is_claimed() {
    let place = Place::new();
    let stores = two_busy_stores(&place).await;
    let mut later = document("later.pdf");
    later.priority = 9;
    later.available_at = Some(place.clock.now() + Duration::from_secs(5));
    stores[0].enqueue(vec![later.clone()]).await.unwrap();
    assert_eq!(claimed(&stores[0], 5).await.len(), 5);
    place.clock.advance(Duration::from_secs(5));
    assert_eq!(claimed(&stores[1], 1).await, [later.id]);
    let queue = later.queue.clone();
    for paused in [true, false] {
        let settings = QueueSettings {
            paused,
            ..QueueSettings::default()
        };
        stores[0].configure(&queue, settings).await.unwrap();
        if paused {
            assert_eq!(claimed(&stores[0], 1).await, []);
            stores[1].enqueue(vec![early()]).await.unwrap();
            assert_eq!(claimed(&stores[0], 1).await, []);
        }
    }
    assert_eq!(claimed(&stores[0], 99).await.len(), 16);
}

/// Two claimers at work, one whose transaction is undone: what it had is free again, and nobody may have
/// gone past it for good.
#[tokio::test]
async fn what_a_claim_held_that_was_undone_is_found_again() {
    let place = Place::new();
    let stores = two_busy_stores(&place).await;
    let mut other = place.connection().await;
    let mut tx = other.begin().await.unwrap();
    let held: Vec<uuid::Uuid> = sqlx::query_scalar(place.sql(
        "select id from kbqueue.documents where due = 1
         order by priority desc, available_at, id limit 3 for update",
    ))
    .fetch_all(&mut *tx)
    .await
    .unwrap();
    soon(async {
        for store in &stores {
            assert_eq!(claimed(store, 5).await.len(), 5);
        }
    })
    .await;
    tx.rollback().await.unwrap();
    let held: Vec<DocumentId> = held.into_iter().map(DocumentId).collect();
    assert_eq!(claimed(&stores[0], 3).await, held);
    assert_eq!(claimed(&stores[1], 99).await.len(), 7);
}
