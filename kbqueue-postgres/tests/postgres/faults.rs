//! Connections that break, and a server that restarts.

use kbqueue_core::state::Outcome;
use kbqueue_core::store::Settled;
use kbqueue_core::store::Settlement;
use kbqueue_core::{Notice, State, Store, StoreError};
use kbqueue_postgres::{PostgresOptions, PostgresStore};
use kbqueue_tests::postgres::Postgres;

use crate::support::{Place, checkpoint, claim, document, queued, soon, stored, subscribe};

/// Waits until a subscriber was told to look again.
async fn resync(notices: &mut kbqueue_core::Subscription) {
    soon(async { while notices.next().await != Notice::Resync {} }).await;
}

#[tokio::test]
async fn a_lost_connection_reaches_no_caller_and_no_subscriber_misses_anything() {
    let place = Place::new();
    let options = place.options().pool_size(3);
    let store = PostgresStore::open(options).await.unwrap();
    let other = place.store().await;
    let mut notices = subscribe(&store).await;
    let mut admin = place.connection().await;
    for round in 1..=3 {
        // Fill the pool, so that several connections die at once.
        let (a, b, c) = tokio::join!(queued(&store), queued(&store), queued(&store));
        assert_eq!([a, b, c], [0; 3]);
        let killed: i64 = sqlx::query_scalar(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = $1",
        )
        .bind(place.schema())
        .fetch_one(&mut admin)
        .await
        .unwrap();
        assert!(killed >= 2, "only {killed} in round {round}");
        let id = stored(&store, document("a.pdf")).await.id;
        let held = claim(&store, 1).await.documents.remove(0);
        assert_eq!(held.id, id);
        store.checkpoint(checkpoint(&held)).await.unwrap();
        let settlement = Settlement {
            document: id,
            lease_id: held.lifecycle.lease.unwrap().id,
            outcome: Outcome::Complete,
        };
        let settled = store.settle(vec![settlement]).await.unwrap();
        assert_eq!(settled, [Settled::In(State::Completed)]);
        resync(&mut notices).await;
        let told = stored(&other, document("b.pdf")).await.id;
        soon(async {
            loop {
                if let Notice::Document(change) = notices.next().await
                    && change.id == told
                {
                    return;
                }
            }
        })
        .await;
        other
            .control(told, kbqueue_core::store::Control::Cancel)
            .await
            .unwrap();
    }
}

/// REGRESSIONS 8: the server is away for a while; calls say so, and all goes on when it is back.
#[tokio::test]
async fn a_restart_of_the_server_is_survived() {
    let mut server = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
    let options = PostgresOptions::parse(&server.url()).unwrap();
    let options = options.patience(std::time::Duration::from_millis(300));
    let store = PostgresStore::open(options).await.unwrap();
    let mut notices = subscribe(&store).await;
    stored(&store, document("a.pdf")).await;
    let held = claim(&store, 1).await.documents.remove(0);

    let mut server = tokio::task::spawn_blocking(move || {
        server.stop();
        server
    })
    .await
    .unwrap();
    for error in [
        store.enqueue(vec![document("b.pdf")]).await.unwrap_err(),
        store.document(held.id).await.unwrap_err(),
        store.checkpoint(checkpoint(&held)).await.unwrap_err(),
    ] {
        assert!(error.is_transient(), "{error}");
    }
    let again = PostgresOptions::parse(&server.url()).unwrap();
    let again = again.patience(std::time::Duration::from_millis(300));
    let error = PostgresStore::open(again).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");

    let server = tokio::task::spawn_blocking(move || {
        server.launch();
        server
    })
    .await
    .unwrap();
    resync(&mut notices).await;
    // The lease outlived the server.
    store.checkpoint(checkpoint(&held)).await.unwrap();
    let id = stored(&store, document("b.pdf")).await.id;
    soon(async {
        loop {
            if let Notice::Document(change) = notices.next().await
                && change.id == id
            {
                return;
            }
        }
    })
    .await;
    drop(server);
}
