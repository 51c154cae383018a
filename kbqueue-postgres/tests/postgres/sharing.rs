//! Several stores on one schema.

use kbqueue_core::state::Outcome;
use kbqueue_core::store::{OutputQuery, Settlement};
use kbqueue_core::{DocumentId, Notice, QueueSettings, State, Store, StoreError};

use crate::support::{Place, checkpoint, claim, document, soon, stored, subscribe};

#[tokio::test]
async fn two_stores_wake_each_other() {
    let place = Place::new();
    let stores = [place.store().await, place.store().await];
    let mut heard = [subscribe(&stores[0]).await, subscribe(&stores[1]).await];
    for (here, there) in [(0, 1), (1, 0)] {
        let id = stored(&stores[here], document("a.pdf")).await.id;
        let held = claim(&stores[here], 1).await.documents.remove(0);
        let mut step = checkpoint(&held);
        step.progress.percent = 40;
        step.progress.total_pages = Some(7);
        stores[here].checkpoint(step).await.unwrap();
        let settlement = Settlement {
            document: id,
            lease_id: held.lifecycle.lease.unwrap().id,
            outcome: Outcome::Complete,
        };
        stores[here].settle(vec![settlement]).await.unwrap();
        let expected = [
            (State::Queued, 0),
            (State::Processing, 0),
            (State::Processing, 40),
            (State::Completed, 100),
        ];
        // Each hears of each step once, in order: the one at once, the other by message.
        for who in [here, there] {
            for (state, percent) in expected {
                let Notice::Document(change) = soon(heard[who].next()).await else {
                    panic!("not a document's notice");
                };
                assert_eq!(
                    (change.id, change.state, change.progress.percent),
                    (id, state, percent)
                );
            }
        }
    }
    let settings = QueueSettings {
        paused: true,
        ..QueueSettings::default()
    };
    let queue = document("").queue;
    stores[0].configure(&queue, settings).await.unwrap();
    for heard in &mut heard {
        assert_eq!(soon(heard.next()).await, Notice::Queue(queue.clone()));
    }
}

/// A batch whose message would be too long is told in one word.
#[tokio::test]
async fn a_large_batch_is_told_too() {
    let place = Place::new();
    let (here, there) = (place.store().await, place.store().await);
    let mut heard = subscribe(&there).await;
    let many = (0..2000).map(|_| document("a.pdf")).collect();
    here.enqueue(many).await.unwrap();
    assert_eq!(soon(heard.next()).await, Notice::Resync);
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let place = Place::new();
    let store = place.store().await;
    let clone = store.clone();
    store.close().await;
    let errors = [
        clone.enqueue(vec![document("a.pdf")]).await.unwrap_err(),
        clone.document(DocumentId::new()).await.unwrap_err(),
        clone
            .pages(OutputQuery::new(DocumentId::new(), 1))
            .await
            .unwrap_err(),
        clone.subscribe().await.unwrap_err(),
    ];
    assert!(errors.iter().all(StoreError::is_transient), "{errors:?}");
}

/// With nobody left to tell, the connection that listens is given back.
#[tokio::test]
async fn a_dropped_store_stops_listening() {
    let place = Place::new();
    let store = place.store().await;
    let subscription = subscribe(&store).await;
    let mut conn = place.connection().await;
    let listeners = "select count(*) from pg_stat_activity where query = $1";
    let listen = format!("LISTEN \"{}_changes\"", place.schema());
    let mut count = async || -> i64 {
        sqlx::query_scalar(listeners)
            .bind(&listen)
            .fetch_one(&mut conn)
            .await
            .unwrap()
    };
    assert_eq!(count().await, 1);
    drop(subscription);
    drop(store);
    soon(async { while count().await != 0 {} }).await;
}

/// The clock is the server's, not this machine's, unless a test sets one.
#[tokio::test]
async fn the_servers_clock_decides() {
    let place = Place::new();
    let store = kbqueue_postgres::PostgresStore::open(place.options())
        .await
        .unwrap();
    let mut conn = place.connection().await;
    let clock = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
    let before: i64 = sqlx::query_scalar(clock)
        .fetch_one(&mut conn)
        .await
        .unwrap();
    let id = stored(&store, document("a.pdf")).await.id;
    claim(&store, 1).await;
    let after: i64 = sqlx::query_scalar(clock)
        .fetch_one(&mut conn)
        .await
        .unwrap();
    let found = store.document(id).await.unwrap().unwrap();
    let times = [found.created_at, found.lifecycle.started_at.unwrap()];
    assert!(times.is_sorted());
    let between = |at: &jiff::Timestamp| (before - 1..=after).contains(&at.as_microsecond());
    assert!(times.iter().all(between), "{times:?}");
}
