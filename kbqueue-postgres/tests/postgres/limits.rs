//! Limits of queues, whoever claims: several processes, and more tenants than a claim has slots.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kbqueue_core::limits::Rate;
use kbqueue_core::state::Outcome;
use kbqueue_core::store::{Claims, Settlement};
use kbqueue_core::{
    Document, MemoryStore, NewDocument, QueueName, QueueSettings, Store, StoreError,
};
use kbqueue_postgres::PostgresStore;
use sqlx::Connection;

use crate::support::{Place, claim, document, queued, request, soon, stored};

fn of(tenant: usize) -> NewDocument {
    let mut new = document("a.pdf");
    new.tenant = Some(format!("tenant {tenant:03}"));
    new
}

async fn configure(store: &dyn Store, settings: QueueSettings) {
    let queue = QueueName::default();
    store.configure(&queue, settings).await.unwrap();
}

async fn settle(store: &dyn Store, held: &Document, outcome: Outcome) {
    let settlement = Settlement {
        document: held.id,
        lease_id: held.lifecycle.lease.as_ref().unwrap().id,
        outcome,
    };
    store.settle(vec![settlement]).await.unwrap();
}

/// Four processes with connections of their own, on the server's clock.
async fn four_processes(place: &Place) -> Vec<PostgresStore> {
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(PostgresStore::open(place.options()).await.unwrap());
    }
    stores
}

/// REGRESSIONS 33, at full speed: at no time are more held than may be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_hold_no_more_than_may_be_processing() {
    const DOCUMENTS: u64 = 60;
    let place = Place::new();
    let stores = four_processes(&place).await;
    let settings = QueueSettings {
        max_processing: Some(3),
        max_processing_per_tenant: Some(2),
        ..QueueSettings::default()
    };
    configure(&stores[0], settings).await;
    let batch = (0..DOCUMENTS)
        .map(|n| of(usize::from(n % 3 == 0)))
        .collect();
    stores[0].enqueue(batch).await.unwrap();
    let held: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let done = Arc::new(AtomicU64::new(0));
    let workers = stores.into_iter().map(|store| {
        let (held, done) = (Arc::clone(&held), Arc::clone(&done));
        tokio::spawn(async move {
            while done.load(Ordering::Relaxed) < DOCUMENTS {
                let documents = claim(&store, 5).await.documents;
                for document in &documents {
                    let mut held = held.lock().unwrap();
                    *held.entry(document.tenant.clone().unwrap()).or_default() += 1;
                    let all: u32 = held.values().sum();
                    assert!(all <= 3 && held.values().all(|n| *n <= 2), "{held:?}");
                }
                for document in &documents {
                    let tenant = document.tenant.as_ref().unwrap();
                    *held.lock().unwrap().get_mut(tenant).unwrap() -= 1;
                    settle(&store, document, Outcome::Complete).await;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        soon(worker).await.unwrap();
    }
    assert_eq!(done.load(Ordering::Relaxed), DOCUMENTS);
}

/// REGRESSIONS 24, at full speed and on the server's clock: in no stretch of time start more than the rate
/// allows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_start_no_more_than_the_rate_allows() {
    const DOCUMENTS: u64 = 120;
    let place = Place::new();
    let stores = four_processes(&place).await;
    let rate = Rate {
        burst: NonZeroU32::new(5).unwrap(),
        ..Rate::new(100, 1).unwrap()
    };
    let settings = QueueSettings {
        rate: Some(rate),
        ..QueueSettings::default()
    };
    configure(&stores[0], settings).await;
    let batch = (0..DOCUMENTS).map(|_| document("a.pdf")).collect();
    stores[0].enqueue(batch).await.unwrap();
    let starts: Arc<Mutex<Vec<i64>>> = Arc::default();
    let workers = stores.into_iter().map(|store| {
        let starts = Arc::clone(&starts);
        tokio::spawn(async move {
            while (starts.lock().unwrap().len() as u64) < DOCUMENTS {
                let claims = claim(&store, 5).await;
                let times = claims.documents.iter();
                let times = times.map(|d| d.lifecycle.started_at.unwrap().as_microsecond());
                starts.lock().unwrap().extend(times);
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        soon(worker).await.unwrap();
    }
    let mut starts = starts.lock().unwrap().clone();
    starts.sort_unstable();
    assert_eq!(starts.len() as u64, DOCUMENTS);
    for (first, from) in starts.iter().enumerate() {
        for (last, to) in starts.iter().enumerate().skip(first) {
            let beyond_burst = (last - first + 1).saturating_sub(5) as i64;
            assert!(beyond_burst * 10_000 <= to - from, "{starts:?}");
        }
    }
}

/// An enqueue of many processes at once fills a queue, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_fill_a_queue_and_no_more() {
    let place = Place::new();
    let stores = four_processes(&place).await;
    let settings = QueueSettings {
        max_queued: Some(10),
        ..QueueSettings::default()
    };
    configure(&stores[0], settings).await;
    let clients = stores.iter().cloned().map(|store| {
        tokio::spawn(async move {
            let mut taken = 0;
            loop {
                match store.enqueue(vec![document("a.pdf")]).await {
                    Ok(_) => taken += 1,
                    Err(StoreError::QueueFull { limit: 10, .. }) => return taken,
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    let mut taken = 0;
    for client in clients.collect::<Vec<_>>() {
        taken += soon(client).await.unwrap();
    }
    assert_eq!((taken, queued(&stores[0]).await), (10, 10));
}

/// A host's transaction may be open for long: it is refused by what it sees, and nobody waits for it.
#[tokio::test]
async fn a_hosts_transaction_keeps_nobody_from_a_limited_queue() {
    let place = Place::new();
    let store = place.store().await;
    let settings = QueueSettings {
        max_queued: Some(2),
        max_processing: Some(5),
        ..QueueSettings::default()
    };
    configure(&store, settings).await;
    let mut host = place.connection().await;
    let mut tx = host.begin().await.unwrap();
    let one = vec![document("a.pdf")];
    store.enqueue_in(&mut tx, one.clone()).await.unwrap();
    soon(async {
        stored(&store, document("b.pdf")).await;
        stored(&store, document("c.pdf")).await;
        assert_eq!(claim(&store, 5).await.documents.len(), 2);
        stored(&store, document("d.pdf")).await;
    })
    .await;
    let two = vec![document("e.pdf"), document("f.pdf")];
    let refused = store.enqueue_in(&mut tx, two).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::QueueFull { queued: 2, .. }),
        "its own counts too: {refused}"
    );
    tx.rollback().await.unwrap();
}

/// Who enqueues what the host is about to enqueue has to wait for it, and alone.
#[tokio::test]
async fn who_waits_for_a_host_keeps_nobody_from_a_limited_queue() {
    let place = Place::new();
    let store = place.store().await;
    let settings = QueueSettings {
        max_queued: Some(9),
        max_processing: Some(9),
        ..QueueSettings::default()
    };
    configure(&store, settings).await;
    let mut host = place.connection().await;
    let mut tx = host.begin().await.unwrap();
    let same = document("a.pdf");
    store.enqueue_in(&mut tx, vec![same.clone()]).await.unwrap();
    let waiting = tokio::spawn({
        let (store, same) = (store.clone(), same.clone());
        async move { store.enqueue(vec![document("b.pdf"), same]).await }
    });
    crate::host::wait_for_a_waiter(&place).await;
    let other = stored(&store, document("c.pdf"));
    let other = soon(other).await.id;
    let held = soon(claim(&store, 5)).await.documents;
    assert_eq!(held.iter().map(|d| d.id).collect::<Vec<_>>(), [other]);
    tx.commit().await.unwrap();
    let answers = soon(waiting).await.unwrap().unwrap();
    assert_eq!((answers[0].created, answers[1].created), (true, false));
    assert_eq!(queued(&store).await, 2);
}

/// The same asked of the reference.
struct Pair {
    store: PostgresStore,
    reference: MemoryStore,
    place: Place,
}

impl Pair {
    async fn new(settings: QueueSettings, documents: Vec<NewDocument>) -> Self {
        let place = Place::new();
        let store = place.store().await;
        let reference = MemoryStore::with_clock(place.clock.clock());
        for each in [&store as &dyn Store, &reference] {
            configure(each, settings).await;
            each.enqueue(documents.clone()).await.unwrap();
        }
        Self {
            store,
            reference,
            place,
        }
    }

    async fn claim(&self, slots: usize) -> Claims {
        let request = request(slots);
        let expected = self.reference.claim(request.clone()).await.unwrap();
        let claims = self.store.claim(request).await.unwrap();
        assert_eq!(claims, expected);
        claims
    }

    async fn settle(&self, held: &Document, outcome: Outcome) {
        settle(&self.store, held, outcome.clone()).await;
        settle(&self.reference, held, outcome).await;
    }
}

/// More tenants than slots, many of them at their limit: their turn goes to those behind them.
#[tokio::test]
async fn tenants_behind_those_at_their_limit_are_found() {
    let settings = QueueSettings {
        max_processing_per_tenant: Some(1),
        max_processing: Some(35),
        ..QueueSettings::default()
    };
    let batch = (0..120).map(|n| of(n % 40)).collect();
    let pair = Pair::new(settings, batch).await;
    let mut all = Vec::new();
    for slots in [2, 5, 1, 7, 3, 12, 9, 2] {
        let held = pair.claim(slots).await.documents;
        if let Some(first) = all.first() {
            pair.settle(first, Outcome::Complete).await;
            all.remove(0);
        }
        all.extend(held);
    }
    assert!(all.len() > 25);
    for held in all.drain(20..) {
        pair.settle(&held, Outcome::Release).await;
    }
    for _ in 0..4 {
        pair.claim(6).await;
    }
}

/// More tenants than slots, and a rate: what has a token goes in turn, and what needs none is found behind
/// all others.
#[tokio::test]
async fn what_goes_on_is_found_behind_tenants_that_wait_for_tokens() {
    let rate = Rate {
        burst: NonZeroU32::new(4).unwrap(),
        ..Rate::new(1, 10).unwrap()
    };
    let settings = QueueSettings {
        rate: Some(rate),
        ..QueueSettings::default()
    };
    let batch = (0..90).map(|n| of(n % 30)).collect();
    let pair = Pair::new(settings, batch).await;
    for round in 0..6 {
        let held = pair.claim(3).await.documents;
        pair.claim(7).await;
        for document in &held {
            let backoff = Duration::from_secs(5);
            let failure = Outcome::Fail {
                error: "out of paper".to_owned(),
                retryable: true,
                max_retries: 9,
                backoff,
            };
            let outcome = if round % 2 == 0 {
                failure
            } else {
                Outcome::Release
            };
            pair.settle(document, outcome).await;
        }
        pair.claim(1).await;
        pair.place.clock.advance(Duration::from_secs(7));
    }
}
