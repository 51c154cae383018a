//! Calls that are dropped on the way.

use std::future::Future;
use std::task::{Context, Waker};

use kbqueue_core::{DocumentId, Store};
use kbqueue_postgres::PostgresStore;

use crate::support::{Place, claim, document, stored};

/// Polls up to `times`, giving way in between, and drops what is not ready by then. Answers whether it was.
async fn poll_at_most<T>(future: impl Future<Output = T>, times: usize) -> bool {
    let mut future = Box::pin(future);
    for _ in 0..times {
        let mut context = Context::from_waker(Waker::noop());
        if future.as_mut().poll(&mut context).is_ready() {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

#[tokio::test]
async fn a_dropped_call_is_all_there_or_not_at_all() {
    let place = Place::new();
    // One connection, so that what was dropped is committed or rolled back before the next call.
    let options = place.options().pool_size(1).clock(place.clock.clock());
    let store = PostgresStore::open(options).await.unwrap();
    let mut there = 0;
    let mut finished = 0;
    // Dropped after ever more polls, so that it ends at each of its awaits, until some run to their end.
    for times in 0_usize.. {
        let documents: Vec<_> = (0..3).map(|_| document("a.pdf")).collect();
        let ids: Vec<DocumentId> = documents.iter().map(|d| d.id).collect();
        finished += usize::from(poll_at_most(store.enqueue(documents), times).await);
        // The store works at once.
        stored(&store, document("b.pdf")).await;
        let mut found = 0;
        for id in ids {
            found += u64::from(store.document(id).await.unwrap().is_some());
        }
        assert!(found == 0 || found == 3, "{found} of 3 after {times} polls");
        there += found + 1;
        let counts = store.stats(&document("").queue).await.unwrap().counts;
        assert_eq!(counts.queued, there, "after {times} polls");
        if finished == 5 {
            break;
        }
    }
    let left = claim(&store, 10_000).await.documents.len() as u64;
    assert_eq!(left, there);
}
