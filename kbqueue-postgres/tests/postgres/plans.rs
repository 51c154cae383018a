//! What calls cost on a table that was filled and never analysed, counted by the server itself.

use std::num::NonZeroU32;

use kbqueue_core::lifecycle::Lifecycle;
use kbqueue_core::limits::Rate;
use kbqueue_core::outbox::{
    DeliveryOutcome, DeliveryRequest, DeliverySettlement, Endpoint, EndpointId, EventKind, Outbox,
};
use kbqueue_core::state::{CrashLimits, Outcome};
use kbqueue_core::store::{DocumentQuery, Settlement};
use kbqueue_core::{LeaseId, QueueName, QueueSettings, State, Store};
use kbqueue_postgres::PostgresStore;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use uuid::Uuid;

use crate::support::{LEASE, Place, claim, document, soon, stored};

/// Rows read from indexes and tables, and pages looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    rows: i64,
    pages: i64,
}

/// A session under the store's name: once it is closed, what it did is waited for and not counted as cost.
async fn filler(place: &Place) -> PgConnection {
    let mut conn = place.connection().await;
    let name = format!("set application_name = {}", place.schema());
    sqlx::query(AssertSqlSafe(name))
        .execute(&mut conn)
        .await
        .unwrap();
    conn
}

/// Fills a place with waiting documents, as no number of enqueues would in the time, and keeps the server
/// from finding out what it has.
async fn fill(place: &Place, documents: i32) {
    let mut conn = filler(place).await;
    for table in [
        "documents",
        "details",
        "deltas",
        "totals",
        "turns",
        "arrivals",
        "queues",
        "keys",
        "deliveries",
    ] {
        let off = format!("alter table kbqueue.{table} set (autovacuum_enabled = off)");
        sqlx::query(place.sql(&off))
            .execute(&mut conn)
            .await
            .unwrap();
    }
    let inserted = sqlx::query(place.sql(
        "with ids as materialized (
            select gen_random_uuid() as id, n from generate_series(1, $1) as n
        ),
        documents as (
            insert into kbqueue.documents (
                id, queue, line, priority, state, due, audience, available_at, version,
                pages_generation, visible_pages, visible_chunks, lifecycle
            )
            select id, 'default', '-', 0, 'queued', 1, '*', n, 1, 1, 1, 1, '{}' from ids
        ),
        arrivals as (
            insert into kbqueue.arrivals (queue, line, priority, available_at, id)
            select 'default', '-', 0, n, id from ids where n = 1
        ),
        deltas as (insert into kbqueue.deltas (queue, queued) values ('default', $1))
        insert into kbqueue.details (
            id, filename, media_type, sha256, size_bytes, metadata, created_at
        )
        select id, 'a.pdf', 'application/pdf', '00', 1, 'null', n from ids",
    ))
    .bind(documents)
    .execute(&mut conn)
    .await
    .unwrap();
    assert_eq!(inserted.rows_affected(), u64::try_from(documents).unwrap());
    conn.close().await.unwrap();
}

/// What the sessions of a store cost in all, once it is closed: a session reports when it ends.
async fn cost(place: &Place, conn: &mut PgConnection, work: impl AsyncFn(&PostgresStore)) -> Cost {
    settled(place, conn).await;
    let before = counted(place, conn).await;
    // A new store, so that its plans are made now, for the table as it is.
    let store = place.store().await;
    work(&store).await;
    store.close().await;
    settled(place, conn).await;
    let after = counted(place, conn).await;
    let cost = Cost {
        rows: after.rows - before.rows,
        pages: after.pages - before.pages,
    };
    assert!(
        cost.rows > 0 && cost.pages > 0,
        "{cost:?} was counted too early"
    );
    cost
}

/// Until the sessions that worked on this place before are gone, and with them what they had not reported.
async fn settled(place: &Place, conn: &mut PgConnection) {
    let sessions = "select count(*) from pg_stat_activity where application_name = $1";
    soon(async {
        loop {
            let left: i64 = sqlx::query_scalar(sessions)
                .bind(place.schema())
                .fetch_one(&mut *conn)
                .await
                .unwrap();
            if left == 0 {
                return;
            }
        }
    })
    .await;
}

async fn counted(place: &Place, conn: &mut PgConnection) -> Cost {
    let (rows, pages) = sqlx::query_as(
        "select
            (select sum(seq_tup_read) from pg_stat_all_tables where schemaname = $1)::bigint
            + (select sum(idx_tup_read) from pg_stat_all_indexes where schemaname = $1)::bigint,
            (
                select sum(heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit + idx_blks_read, 0))
                from pg_statio_all_tables where schemaname = $1
            )::bigint",
    )
    .bind(place.schema())
    .fetch_one(conn)
    .await
    .unwrap();
    Cost { rows, pages }
}

/// A status page, a claim, and all that follows.
async fn use_it(store: &PostgresStore) {
    let queue = QueueName::default();
    store.stats(&queue).await.unwrap();
    store.documents(DocumentQuery::default()).await.unwrap();
    for state in [State::Queued, State::Failed] {
        let query = DocumentQuery::in_state(queue.clone(), state);
        store.documents(query).await.unwrap();
    }
    // More often than PostgreSQL takes to go over to a plan for all parameters.
    for _ in 0..8 {
        let held = claim(store, 3).await.documents;
        assert_eq!(held.len(), 3);
        store.reap(CrashLimits::default(), 10).await.unwrap();
        let settlement = |held: &kbqueue_core::Document| Settlement {
            document: held.id,
            lease_id: held.lifecycle.lease.as_ref().unwrap().id,
            outcome: Outcome::Release,
        };
        let settlements = held.iter().map(settlement).collect();
        store.settle(settlements).await.unwrap();
    }
    stored(store, document("a.pdf")).await;
}

/// A claim, a settlement, an enqueue and a status page read as much of many documents as of few, on a
/// table that the planner knows nothing of.
#[tokio::test]
async fn calls_cost_as_much_with_many_documents_as_with_few() {
    let mut costs = Vec::new();
    for documents in [1_000, 60_000] {
        let place = Place::new();
        place.store().await.close().await;
        let mut conn = place.connection().await;
        fill(&place, documents).await;
        costs.push(cost(&place, &mut conn, use_it).await);
    }
    let [few, many] = costs[..] else {
        unreachable!()
    };
    // Not to the row: what other tests keep alive decides how soon changed rows are passed over. And the
    // indexes are a level or two deeper.
    assert!(many.rows <= few.rows * 2, "{few:?}, then {many:?}");
    assert!(many.pages <= few.pages * 2, "{few:?}, then {many:?}");
}

/// The same of a queue with limits of every kind.
#[tokio::test]
async fn limits_cost_as_much_with_many_documents_as_with_few() {
    let mut costs = Vec::new();
    for documents in [1_000, 60_000] {
        let place = Place::new();
        let store = place.store().await;
        let settings = QueueSettings {
            rate: Some(Rate {
                burst: NonZeroU32::MAX,
                ..Rate::new(1, 1).unwrap()
            }),
            max_processing: Some(9),
            max_processing_per_tenant: Some(9),
            max_queued: Some(100_000),
            ..QueueSettings::default()
        };
        let queue = QueueName::default();
        store.configure(&queue, settings).await.unwrap();
        store.close().await;
        let mut conn = place.connection().await;
        fill(&place, documents).await;
        costs.push(cost(&place, &mut conn, use_it).await);
    }
    let [few, many] = costs[..] else {
        unreachable!()
    };
    assert!(many.rows <= few.rows * 2, "{few:?}, then {many:?}");
    assert!(many.pages <= few.pages * 2, "{few:?}, then {many:?}");
}

/// Deliveries that are done, that wait for their time, and of another endpoint, make a claim no dearer.
#[tokio::test]
async fn deliveries_cost_as_much_with_many_as_with_few() {
    let mut costs = Vec::new();
    for count in [500, 20_000] {
        let place = Place::new();
        let store = place.store().await;
        for number in [1, 2] {
            let endpoint = Endpoint {
                id: EndpointId(Uuid::from_u128(number)),
                queue: QueueName::default(),
                url: "https://example.com".to_owned(),
                secret: Vec::new(),
                events: EventKind::ALL.to_vec(),
                disabled: None,
            };
            store.put_endpoint(endpoint).await.unwrap();
        }
        store.close().await;
        let mut conn = place.connection().await;
        fill(&place, 100).await;
        let later = place.clock.now().as_microsecond() + 1_000_000_000;
        let mut filler = filler(&place).await;
        let filled = sqlx::query(place.sql(
            "insert into kbqueue.deliveries (
                queue, endpoint, document, version, kind, occurred_at, data, state, attempts, due_at, ended_at
            )
            select 'default', ('00000000-0000-0000-0000-00000000000' || e)::uuid, gen_random_uuid(), 3,
                'completed', n, '{}', s, 1, $2, case when s = 'delivered' then $2 end
            from generate_series(1, $1) as n, generate_series(1, 2) as e,
                unnest(array['delivered', 'pending']) as s",
        ));
        filled
            .bind(count)
            .bind(later)
            .execute(&mut filler)
            .await
            .unwrap();
        filler.close().await.unwrap();
        let deliver = async |store: &PostgresStore| {
            for _ in 0..8 {
                work(store, 1).await;
                let claims = store
                    .claim_deliveries(DeliveryRequest {
                        queues: vec![QueueName::default()],
                        lease_ids: (0..30).map(|_| LeaseId::random()).collect(),
                        lease: LEASE,
                        per_endpoint: 50,
                    })
                    .await
                    .unwrap();
                assert_eq!(claims.deliveries.len(), 20);
                let settlements = claims
                    .deliveries
                    .into_iter()
                    .map(|(d, _)| DeliverySettlement {
                        queue: d.queue,
                        endpoint: d.endpoint,
                        document: d.document,
                        version: d.version,
                        lease_id: d.lease_id.unwrap(),
                        outcome: DeliveryOutcome::Delivered,
                    });
                let settled = store
                    .settle_deliveries(settlements.collect())
                    .await
                    .unwrap();
                assert!(settled.iter().all(|settled| *settled));
                let age = std::time::Duration::from_secs(60);
                assert_eq!(store.purge_deliveries(age, 10).await.unwrap(), 0);
            }
        };
        costs.push(cost(&place, &mut conn, deliver).await);
    }
    let [few, many] = costs[..] else {
        unreachable!()
    };
    assert!(many.rows <= few.rows * 2, "{few:?}, then {many:?}");
    assert!(many.pages <= few.pages * 2, "{few:?}, then {many:?}");
}

/// The same of sessions whose plans were made when there was next to nothing, and that nobody tells of the
/// rest: nothing was analysed.
#[tokio::test]
async fn plans_made_for_an_empty_table_are_good_for_a_full_one() {
    let mut costs = Vec::new();
    for documents in [1_000, 60_000] {
        let place = Place::new();
        place.store().await.close().await;
        let mut conn = place.connection().await;
        let work = async |store: &PostgresStore| {
            store
                .enqueue((0..3).map(|_| document("a.pdf")).collect())
                .await
                .unwrap();
            use_it(store).await;
            fill(&place, documents).await;
            use_it(store).await;
        };
        // The pages that the filling looked at are among these, so only rows are compared.
        costs.push(cost(&place, &mut conn, work).await.rows);
    }
    assert!(costs[1] <= costs[0] * 2, "{costs:?}");
}

/// Claims and settles, and looks at the counts, as one process does for long.
async fn work(store: &PostgresStore, rounds: usize) {
    for _ in 0..rounds {
        let held = claim(store, 10).await.documents;
        assert_eq!(held.len(), 10);
        let settlement = |held: &kbqueue_core::Document| Settlement {
            document: held.id,
            lease_id: held.lifecycle.lease.as_ref().unwrap().id,
            outcome: Outcome::Complete,
        };
        let settlements = held.iter().map(settlement).collect();
        store.settle(settlements).await.unwrap();
        stored(store, document("a.pdf")).await;
        store.stats(&QueueName::default()).await.unwrap();
    }
}

/// REGRESSIONS 18: somebody's transaction is open for long, so nothing that was changed since can be
/// cleaned away, and whoever looks for the front of the queue from its start walks over all that was there.
#[tokio::test]
async fn a_long_transaction_of_anybody_makes_claims_and_status_no_dearer() {
    let mut costs = Vec::new();
    for rounds in [50, 400] {
        let place = Place::new();
        place.store().await.close().await;
        let mut conn = place.connection().await;
        fill(&place, 100_000).await;
        let mut reader = place.connection().await;
        let mut tx = reader.begin().await.unwrap();
        for sql in [
            "set transaction isolation level repeatable read",
            "select 1",
        ] {
            sqlx::query(sql).execute(&mut *tx).await.unwrap();
        }
        let cost = cost(&place, &mut conn, async |store| work(store, rounds).await).await;
        costs.push((cost.rows / rounds as i64, cost.pages / rounds as i64));
        let store = place.store().await;
        let counts = store.stats(&QueueName::default()).await.unwrap().counts;
        let done = rounds as u64 * 10;
        assert_eq!((counts.completed, counts.processing), (done, 0));
        assert_eq!(counts.total(), 100_000 + rounds as u64);
        tx.rollback().await.unwrap();
    }
    let [(few_rows, few_pages), (many_rows, many_pages)] = costs[..] else {
        unreachable!()
    };
    assert!(
        many_rows <= few_rows * 3 / 2,
        "rows, pages a round: {costs:?}"
    );
    assert!(
        many_pages <= few_pages * 3 / 2,
        "rows, pages a round: {costs:?}"
    );
}

/// The filling above makes what an enqueue makes.
#[tokio::test]
async fn what_was_filled_in_can_be_read() {
    let place = Place::new();
    let store = place.store().await;
    fill(&place, 2).await;
    let found = claim(&store, 3).await.documents;
    assert_eq!(found.len(), 2);
    let fresh = Lifecycle::new(jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(found[0].lifecycle.generation, fresh.generation);
    let counts = store.stats(&QueueName::default()).await.unwrap().counts;
    assert_eq!(counts.processing, 2);
}
