//! The outbox and schedules over several connections, and among rows that cannot be read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kbqueue_core::outbox::{
    DeliveryOutcome, DeliveryRequest, DeliverySettlement, Endpoint, EndpointId, EventKind, Outbox,
};
use kbqueue_core::schedule::{Missed, Plan, Schedules, Template, put};
use kbqueue_core::store::Control;
use kbqueue_core::{BlobRef, DocumentId, LeaseId, QueueName, Store};
use kbqueue_sqlite::SqliteStore;
use sqlx::SqliteConnection;

use crate::support::{File, LEASE, document, stored};

fn endpoint() -> Endpoint {
    Endpoint {
        id: EndpointId(uuid::Uuid::new_v4()),
        queue: QueueName::default(),
        url: "https://example.com/hook".to_owned(),
        secret: vec![1, 2, 3],
        events: EventKind::ALL.to_vec(),
        disabled: None,
    }
}

fn asked(slots: usize) -> DeliveryRequest {
    DeliveryRequest {
        queues: vec![QueueName::default()],
        lease_ids: (0..slots).map(|_| LeaseId::random()).collect(),
        lease: LEASE,
        per_endpoint: 100,
    }
}

async fn cancel(store: &SqliteStore) -> DocumentId {
    let id = stored(store, document("a.pdf")).await.id;
    store.control(id, Control::Cancel).await.unwrap();
    id
}

fn plan() -> Plan {
    Plan {
        cron: "* * * * *".to_owned(),
        time_zone: "UTC".to_owned(),
        missed: Missed::Once,
        template: Template {
            blob: BlobRef {
                sha256: "00".repeat(32),
                size_bytes: 1,
            },
            filename: "daily.pdf".to_owned(),
            media_type: "application/pdf".to_owned(),
            tenant: None,
            priority: 0,
            chunking: None,
            metadata: serde_json::Value::Null,
        },
    }
}

/// Four deliverers on connections of their own, one of which dies: each event reaches the endpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliverers_on_four_connections_share_without_overlap() {
    let file = File::new();
    let store = file.store().await;
    store.put_endpoint(endpoint()).await.unwrap();
    let mut ids = BTreeSet::new();
    for _ in 0..40 {
        ids.insert(cancel(&store).await);
    }
    let dead = store.claim_deliveries(asked(10)).await.unwrap();
    assert_eq!(dead.deliveries.len(), 10);
    let mut told = BTreeSet::new();
    for left in [30, 10] {
        let mut deliverers = Vec::new();
        for _ in 0..4 {
            let store = file.store().await;
            deliverers.push(tokio::spawn(async move {
                let mut told = Vec::new();
                loop {
                    let claims = store.claim_deliveries(asked(3)).await.unwrap();
                    if claims.deliveries.is_empty() {
                        return told;
                    }
                    let settlement =
                        |delivery: &kbqueue_core::outbox::Delivery| DeliverySettlement {
                            queue: delivery.queue.clone(),
                            endpoint: delivery.endpoint,
                            document: delivery.document,
                            version: delivery.version,
                            lease_id: delivery.lease_id.unwrap(),
                            outcome: DeliveryOutcome::Delivered,
                        };
                    let settlements = claims.deliveries.iter().map(|(d, _)| settlement(d));
                    let settled = store
                        .settle_deliveries(settlements.collect())
                        .await
                        .unwrap();
                    assert!(settled.into_iter().all(|settled| settled));
                    told.extend(claims.deliveries.into_iter().map(|(d, _)| d.document));
                }
            }));
        }
        let mut now = Vec::new();
        for deliverer in deliverers {
            now.extend(deliverer.await.unwrap());
        }
        assert_eq!(now.len(), left, "each once");
        told.extend(now);
        file.clock.advance(LEASE);
    }
    assert_eq!(told, ids);
}

/// A claim of deliveries takes as many steps with many pending as with few.
#[tokio::test]
async fn a_claim_of_deliveries_reads_as_much_of_many_as_of_few() {
    let mut steps = Vec::new();
    for pending in [100, 5000] {
        let file = File::new();
        let store = file.store().await;
        let endpoint = endpoint();
        store.put_endpoint(endpoint.clone()).await.unwrap();
        let mut conn = file.connection().await;
        let many = "with recursive n(i) as (select 1 union all select i + 1 from n where i < ?2)
            insert into kbqueue_deliveries
                (queue, endpoint, document, version, state, head, due_at, delivery)
            select 'default', ?1, printf('%09d', i), 2, 'pending', 1, i, '{}' from n";
        sqlx::query(many)
            .bind(endpoint.id.to_string())
            .bind(pending)
            .execute(&mut conn)
            .await
            .unwrap();
        for now in [50, 0] {
            steps.push((pending, now, look(&mut conn, now).await));
        }
    }
    assert!(steps[0].2 > 0);
    assert_eq!(steps[0].2, steps[2].2, "{steps:?}");
    assert_eq!(steps[1].2, steps[3].2, "{steps:?}");
}

/// Steps of SQLite's machine that a look for due deliveries takes.
async fn look(conn: &mut SqliteConnection, now: i64) -> u64 {
    let counter = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&counter);
    conn.lock_handle()
        .await
        .unwrap()
        .set_progress_handler(1, move || {
            counted.fetch_add(1, Ordering::SeqCst);
            true
        });
    let sql = include_str!("../../queries/deliveries_look.sql");
    let look = sqlx::query(sql).bind(r#"["default"]"#).bind(now).bind(10);
    assert_eq!(look.fetch_all(&mut *conn).await.unwrap().len(), 1);
    counter.load(Ordering::SeqCst)
}

/// An endpoint, a delivery and a schedule of a newer release keep the others from nothing.
#[tokio::test]
async fn what_cannot_be_read_keeps_nobody_waiting() {
    let file = File::new();
    let store = file.store().await;
    let (broken, whole) = (endpoint(), endpoint());
    for endpoint in [&broken, &whole] {
        store.put_endpoint(endpoint.clone()).await.unwrap();
    }
    let queue = QueueName::default();
    for name in ["newer", "whole"] {
        put(&store, &queue, name, plan()).await.unwrap();
    }
    let mut conn = file.connection().await;
    for sql in [
        "update kbqueue_endpoints set endpoint = replace(endpoint, 'completed', 'unheard_of')
            where id = ?",
        "update kbqueue_schedules set plan = replace(plan, 'once', 'unheard_of')
            where name = 'newer' and ? is not null",
    ] {
        let done = sqlx::query(sql).bind(broken.id.to_string());
        assert_eq!(done.execute(&mut conn).await.unwrap().rows_affected(), 1);
    }
    let (first, second) = (cancel(&store).await, cancel(&store).await);
    let sql = "update kbqueue_deliveries set delivery = '{}' where document = ?";
    let done = sqlx::query(sql).bind(first.to_string()).execute(&mut conn);
    assert_eq!(done.await.unwrap().rows_affected(), 1, "of the whole one");
    let claims = store.claim_deliveries(asked(9)).await.unwrap().deliveries;
    let claimed: Vec<_> = claims.iter().map(|(d, e)| (d.document, e.id)).collect();
    assert_eq!(claimed, [(second, whole.id)]);
    assert_eq!(store.endpoints(&queue).await.unwrap(), [whole]);
    let schedules = store.schedules(&queue).await.unwrap().schedules;
    assert_eq!(schedules.len(), 1);
    assert_eq!(schedules[0].name, "whole");
}

/// Whoever finds the tick, one enqueues it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tick_that_four_connections_find_is_taken_once() {
    let file = File::new();
    let store = file.store().await;
    let queue = QueueName::default();
    put(&store, &queue, "daily", plan()).await.unwrap();
    for tick in 1..=5 {
        file.clock.advance(Duration::from_secs(60));
        let mut found_due = Vec::new();
        for _ in 0..4 {
            let store = file.store().await;
            let found = store.schedules(&queue).await.unwrap();
            let due = found.schedules[0].due(found.now).unwrap().unwrap();
            found_due.push((store, due));
        }
        let fire = |(store, due): (SqliteStore, _)| {
            tokio::spawn(async move { store.fire(due).await.unwrap() })
        };
        let firing: Vec<_> = found_due.into_iter().map(fire).collect();
        let mut taken = 0;
        for fired in firing {
            taken += usize::from(fired.await.unwrap().is_some());
        }
        assert_eq!(taken, 1);
        let counts = store.stats(&queue).await.unwrap().counts;
        assert_eq!(counts.queued, tick);
    }
}
