//! The release before this one: what it left is taken over, and it may go on beside this one.

use kbqueue_core::limits::Rate;
use kbqueue_core::state::{CrashLimits, Outcome};
use kbqueue_core::store::{Control, DocumentQuery, OutputQuery, Settled, Settlement};
use kbqueue_core::{DocumentId, LeaseId, QueueName, QueueSettings, State, Store};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::support::{Place, checkpoint, claim, document, stored};

const QUEUED: u128 = 1;
const PROCESSING: u128 = 2;
const DEAD: u128 = 3;
const COMPLETED: u128 = 4;
const NEWER: u128 = 5;

fn id(number: u128) -> DocumentId {
    DocumentId(Uuid::from_u128(number))
}

/// A schema as the first release left it.
async fn left_by_the_first_release() -> Place {
    let place = Place::new();
    let mut conn = place.connection().await;
    let tables = include_str!("../../migrations/0001_documents.sql");
    let rows = include_str!("fixtures/0001.sql");
    let sql = format!(
        "create schema kbqueue.;
         create table kbqueue.migrations (
             version bigint primary key, name text not null,
             applied_at timestamptz not null default now()
         );
         {tables}
         insert into kbqueue.migrations (version, name) values (1, '0001_documents');
         {rows}"
    );
    let sql = sql.replace(
        "create schema kbqueue.",
        &format!("create schema {}", place.schema()),
    );
    let sql = sql.replace("kbqueue.", &format!("{}.", place.schema()));
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut conn)
        .await
        .unwrap();
    place
}

/// REGRESSIONS 37.
#[tokio::test]
async fn what_the_release_before_left_is_gone_on_with() {
    let place = left_by_the_first_release().await;
    let store = place.store().await;
    let queue = QueueName::default();
    let stats = store.stats(&queue).await.unwrap();
    assert_eq!(stats.settings, QueueSettings::default());
    let counts = stats.counts;
    assert_eq!(
        (counts.queued, counts.processing, counts.completed),
        (2, 2, 1)
    );

    let done = store.document(id(COMPLETED)).await.unwrap().unwrap();
    assert_eq!(done.attempts[0].pages, 0, "nobody noted it");
    let read = store.pages(OutputQuery::new(done.id, 9)).await.unwrap();
    assert_eq!(read[0].text, "one page");

    // The worker of the release before goes on with its lease, and the reaper takes back what another one had.
    let held = store.document(id(PROCESSING)).await.unwrap().unwrap();
    store.checkpoint(checkpoint(&held)).await.unwrap();
    let settlement = Settlement {
        document: held.id,
        lease_id: LeaseId(Uuid::from_u128(102)),
        outcome: Outcome::Complete,
    };
    let settled = store.settle(vec![settlement]).await.unwrap();
    assert_eq!(settled, [Settled::In(State::Completed)]);
    let reaped = store.reap(CrashLimits::default(), 9).await.unwrap();
    let reaped: Vec<_> = reaped
        .iter()
        .map(|reaped| (reaped.id, reaped.state))
        .collect();
    assert_eq!(reaped, [(id(DEAD), State::Queued)]);
    let dead = store.document(id(DEAD)).await.unwrap().unwrap();
    let pages: Vec<_> = dead.attempts.iter().map(|attempt| attempt.pages).collect();
    assert_eq!(pages, [0, 3]);

    // What waits is claimed, but for what only a newer release can read.
    let ids: Vec<_> = claim(&store, 9)
        .await
        .documents
        .iter()
        .map(|d| d.id)
        .collect();
    assert_eq!(ids, [id(QUEUED), id(DEAD)]);
    assert!(store.document(id(NEWER)).await.is_err());
    let listed = store.documents(DocumentQuery::default()).await.unwrap();
    assert_eq!(listed.len(), 4);
    let again = Control::Retry {
        from_scratch: false,
    };
    store.control(id(COMPLETED), again).await.unwrap();
    stored(&store, document("new.pdf")).await;
    assert_eq!(claim(&store, 9).await.documents.len(), 2);
    let counts = store.stats(&queue).await.unwrap().counts;
    assert_eq!(
        (counts.queued, counts.processing, counts.completed),
        (1, 4, 1)
    );
}

/// The release before knows `paused` alone, and leaves the rest of the settings as they are.
#[tokio::test]
async fn the_release_before_can_pause_a_queue_with_limits() {
    let place = left_by_the_first_release().await;
    let store = place.store().await;
    let queue = QueueName::default();
    let mut settings = QueueSettings {
        rate: Rate::new(1, 60),
        ..QueueSettings::default()
    };
    store.configure(&queue, settings).await.unwrap();
    let mut conn = place.connection().await;
    for paused in [true, false] {
        let sql = "insert into kbqueue.queues (name, paused) values ('default', $1)
            on conflict (name) do update set paused = excluded.paused";
        let query = sqlx::query(place.sql(sql)).bind(paused);
        query.execute(&mut conn).await.unwrap();
        settings.paused = paused;
        assert_eq!(store.stats(&queue).await.unwrap().settings, settings);
        let claimed = claim(&store, 9).await.documents.len();
        assert_eq!(claimed, usize::from(!paused));
    }
}
