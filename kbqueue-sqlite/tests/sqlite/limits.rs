//! Limits over several connections, and many tenants.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kbqueue_core::state::Outcome;
use kbqueue_core::store::{Settled, Settlement};
use kbqueue_core::{Document, QueueName, QueueSettings, Rate, Store};
use kbqueue_sqlite::SqliteStore;

use crate::support::{File, claim, document};

async fn limited(store: &SqliteStore, settings: QueueSettings) {
    store
        .configure(&QueueName::default(), settings)
        .await
        .unwrap();
}

async fn settle(store: &SqliteStore, document: &Document, outcome: Outcome) {
    let settlement = Settlement {
        document: document.id,
        lease_id: document.lifecycle.lease.as_ref().unwrap().id,
        outcome,
    };
    let settled = store.settle(vec![settlement]).await.unwrap();
    assert!(matches!(settled[..], [Settled::In(_)]));
}

async fn fill(store: &SqliteStore, count: usize, tenant: impl Fn(usize) -> Option<String>) {
    let new = |n| {
        let mut new = document("a.pdf");
        new.tenant = tenant(n);
        new
    };
    store.enqueue((0..count).map(new).collect()).await.unwrap();
}

/// REGRESSIONS 24: four processes at full speed start no more than the rate allows, and lose none of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_holds_over_four_connections() {
    let file = File::new();
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(file.store().await);
    }
    let settings = QueueSettings {
        rate: Some(Rate {
            burst: NonZeroU32::new(3).unwrap(),
            ..Rate::new(10, 60).unwrap()
        }),
        ..QueueSettings::default()
    };
    limited(&stores[0], settings).await;
    fill(&stores[0], 200, |_| None).await;
    let mut started = 0;
    for second in 0..=60 {
        let claims = stores.iter().map(|store| {
            let store = store.clone();
            tokio::spawn(async move { claim(&store, 5).await.documents.len() })
        });
        for claimed in claims.collect::<Vec<_>>() {
            started += claimed.await.unwrap();
        }
        assert_eq!(started, 3 + second / 6, "after {second} seconds");
        file.clock.advance(Duration::from_secs(1));
    }
}

/// REGRESSIONS 33: four processes that claim and complete as fast as they can never hold more than may be
/// processing, in all and of one tenant, and get everything done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_maximum_holds_over_four_connections() {
    const DOCUMENTS: usize = 120;
    let file = File::new();
    let first = file.store().await;
    let settings = QueueSettings {
        max_processing: Some(5),
        max_processing_per_tenant: Some(2),
        ..QueueSettings::default()
    };
    limited(&first, settings).await;
    let tenant = |n: usize| [None, Some("a"), Some("b"), Some("c")][n % 4].map(str::to_owned);
    fill(&first, DOCUMENTS, tenant).await;
    let done = Arc::new(AtomicUsize::new(0));
    let mut workers = Vec::new();
    for _ in 0..4 {
        let (store, done) = (file.store().await, Arc::clone(&done));
        workers.push(tokio::spawn(async move {
            let mut most = 0;
            while done.load(Ordering::SeqCst) < DOCUMENTS {
                let claimed = claim(&store, 3).await.documents;
                if claimed.is_empty() {
                    tokio::task::yield_now().await;
                    continue;
                }
                let held = store.stats(&QueueName::default()).await.unwrap();
                most = held.counts.processing.max(most);
                let settlements = claimed.iter().map(|document| Settlement {
                    document: document.id,
                    lease_id: document.lifecycle.lease.as_ref().unwrap().id,
                    outcome: Outcome::Complete,
                });
                let settled = store.settle(settlements.collect()).await.unwrap();
                assert!(settled.iter().all(|s| matches!(s, Settled::In(_))));
                done.fetch_add(settled.len(), Ordering::SeqCst);
            }
            most
        }));
    }
    let mut conn = file.connection().await;
    let held = "select line, count(*) from kbqueue_documents where state = 'processing' group by 1";
    while done.load(Ordering::SeqCst) < DOCUMENTS && workers.iter().any(|w| !w.is_finished()) {
        let held: Vec<(i64, i64)> = sqlx::query_as(held).fetch_all(&mut conn).await.unwrap();
        assert!(held.iter().all(|(_, count)| *count <= 2), "{held:?}");
        assert!(
            held.iter().map(|(_, count)| count).sum::<i64>() <= 5,
            "{held:?}"
        );
    }
    for worker in workers {
        assert!(worker.await.unwrap() <= 5);
    }
}

/// More tenants at their limit stand before the one that is not than a claim reads at first.
#[tokio::test]
async fn a_tenant_behind_many_at_their_limit_is_served() {
    let file = File::new();
    let store = file.store().await;
    let settings = QueueSettings {
        max_processing_per_tenant: Some(1),
        ..QueueSettings::default()
    };
    limited(&store, settings).await;
    fill(&store, 600, |n| Some(format!("{:03}", n / 2))).await;
    let held = claim(&store, 300).await.documents;
    assert_eq!(held.len(), 300);
    // Its turn is the last one, because it was served last.
    settle(&store, &held[299], Outcome::Complete).await;
    let claims = claim(&store, 9).await;
    let tenants: Vec<_> = claims.documents.iter().map(|d| d.tenant.clone()).collect();
    assert_eq!(tenants, [held[299].tenant.clone()]);
    assert!(claims.held_back);
}

/// A document to go on with is found in a line that no claim would read for its turn, while its queue has
/// no token.
#[tokio::test]
async fn what_goes_on_is_found_behind_many_tenants() {
    let file = File::new();
    let store = file.store().await;
    fill(&store, 1, |_| Some("last".to_owned())).await;
    let held = claim(&store, 1).await.documents.remove(0);
    settle(&store, &held, Outcome::Release).await;
    fill(&store, 400, |n| Some(format!("{n:03}"))).await;
    let settings = QueueSettings {
        rate: Rate::new(1, 3600),
        ..QueueSettings::default()
    };
    limited(&store, settings).await;
    let claims = claim(&store, 3).await;
    let tenants: HashMap<_, _> = claims
        .documents
        .iter()
        .map(|d| (d.tenant.clone().unwrap(), d.id))
        .collect();
    assert_eq!(tenants.len(), 2, "{tenants:?}");
    assert_eq!(tenants["last"], held.id);
    assert_eq!(claims.next_due, Some(Duration::from_secs(3600)));
}

/// What another process allows counts at the next call.
#[tokio::test]
async fn an_admission_limit_of_another_process_counts_at_once() {
    let file = File::new();
    let (here, there) = (file.store().await, file.store().await);
    fill(&here, 3, |_| None).await;
    let settings = QueueSettings {
        max_queued: Some(4),
        ..QueueSettings::default()
    };
    limited(&there, settings).await;
    here.enqueue(vec![document("a.pdf")]).await.unwrap();
    let error = here.enqueue(vec![document("b.pdf")]).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    limited(&there, QueueSettings::default()).await;
    here.enqueue(vec![document("b.pdf")]).await.unwrap();
}
