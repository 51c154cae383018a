//! A file that the release before left behind.

use kbqueue_core::outbox::{EndpointId, Outbox};
use kbqueue_core::schedule::Schedules;
use kbqueue_core::state::{CrashLimits, Outcome};
use kbqueue_core::store::{
    DocumentQuery, OutputQuery, RenewRequest, Settled, Settlement, Worker, WorkerId,
};
use kbqueue_core::{Dedupe, Document, NewDocument, QueueName, State, Store, StoreError};
use kbqueue_sqlite::SqliteStore;
use sqlx::Executor;

use crate::support::{File, LEASE, checkpoint, claim, document, request};

/// A file at migration 0001 with documents in it, opened half a minute later by this release.
async fn migrated(file: &File) -> SqliteStore {
    let mut conn = file.connection().await;
    for sql in [
        include_str!("../../migrations/0001_documents.sql"),
        "create table kbqueue_migrations (
            version integer primary key, name text not null, applied_at integer not null
        );
        insert into kbqueue_migrations values (1, '0001_documents', 1767225600000000);",
        include_str!("../fixtures/0001.sql"),
    ] {
        conn.execute(sql).await.unwrap();
    }
    file.clock.advance(std::time::Duration::from_secs(10));
    file.store().await
}

async fn named(store: &SqliteStore, name: &str) -> Document {
    let listed = store.documents(DocumentQuery::default()).await.unwrap();
    let mut listed = listed.into_iter().filter(|d| d.filename == name);
    listed.next().unwrap()
}

/// A new document under the key of one that the release before took in.
fn again(name: &str) -> NewDocument {
    let mut again = document(name);
    again.dedupe = Dedupe::Key(name.to_owned());
    again
}

/// REGRESSIONS 37: what is queued, processing and completed goes on under this release.
#[tokio::test]
async fn documents_of_the_release_before_go_on() {
    let file = File::new();
    let store = migrated(&file).await;
    let completed = named(&store, "completed.pdf").await;
    assert_eq!(completed.lifecycle.state, State::Completed);
    assert_eq!(completed.attempts.len(), 1);
    let chunks = OutputQuery::new(completed.id, 9);
    assert_eq!(store.chunks(chunks).await.unwrap()[0].text, "text");
    let answer = store.enqueue(vec![again("completed.pdf")]).await.unwrap();
    assert_eq!((answer[0].id, answer[0].created), (completed.id, false));

    // Its worker, of the release before, still holds this one, and then completes it.
    let held = named(&store, "processing.pdf").await;
    let lease_id = held.lifecycle.lease.as_ref().unwrap().id;
    let worker = Worker {
        id: WorkerId(uuid::Uuid::new_v4()),
        name: "worker".to_owned(),
        queues: vec![QueueName::default()],
    };
    let renew = RenewRequest::new(worker, vec![(held.id, lease_id)], LEASE);
    store.renew(renew).await.unwrap();
    store.checkpoint(checkpoint(&held)).await.unwrap();
    let settlement = Settlement {
        document: held.id,
        lease_id,
        outcome: Outcome::Complete,
    };
    let settled = store.settle(vec![settlement]).await.unwrap();
    assert_eq!(settled, [Settled::In(State::Completed)]);

    let claimed = claim(&store, 9).await.documents;
    assert_eq!(claimed.len(), 1, "{claimed:#?}");
    assert_eq!(claimed[0].filename, "queued.pdf");
    assert_eq!(claimed[0].tenant.as_deref(), Some("acme"));
    let counts = store.stats(&QueueName::default()).await.unwrap().counts;
    assert_eq!(
        (counts.queued, counts.processing, counts.completed),
        (1, 1, 2)
    );
    let paused = QueueName::new("paused").unwrap();
    assert!(store.stats(&paused).await.unwrap().settings.paused);
    let queue = QueueName::default();
    assert!(store.schedules(&queue).await.unwrap().schedules.is_empty());
    assert!(
        !store
            .delete_endpoint(&queue, EndpointId(uuid::Uuid::nil()))
            .await
            .unwrap()
    );
}

/// REGRESSIONS 37: a lease of the release before runs out under this one, and its outputs are gone on with.
#[tokio::test]
async fn a_crashed_worker_of_the_release_before_is_succeeded() {
    let file = File::new();
    let store = migrated(&file).await;
    let held = named(&store, "processing.pdf").await;
    file.clock.advance(LEASE);
    let reaped = store.reap(CrashLimits::default(), 9).await.unwrap();
    assert_eq!((reaped.len(), reaped[0].id), (1, held.id));
    let claimed = claim(&store, 9).await.documents;
    let next = claimed.iter().find(|d| d.id == held.id).unwrap();
    assert_eq!(next.lifecycle.cursor, held.lifecycle.cursor);
    assert_eq!(next.lifecycle.crashes_total, 1);
}

/// REGRESSIONS 37: a document of a newer format is left alone, as it is.
#[tokio::test]
async fn a_document_of_a_newer_format_is_skipped() {
    let file = File::new();
    let store = migrated(&file).await;
    let mut conn = file.connection().await;
    let row = "select id, lifecycle, state, version from kbqueue_documents
        where filename = 'newer.pdf'";
    let before: (String, String, String, i64) =
        sqlx::query_as(row).fetch_one(&mut conn).await.unwrap();
    let claims = store.claim(request(9)).await.unwrap();
    assert!(
        claims
            .documents
            .iter()
            .all(|d| d.id.to_string() != before.0)
    );
    let error = store.document(before.0.parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, StoreError::Malformed { .. }), "{error}");
    assert!(error.to_string().contains(&before.0), "{error}");
    let after: (String, String, String, i64) =
        sqlx::query_as(row).fetch_one(&mut conn).await.unwrap();
    assert_eq!(before, after);
}

/// A file that was migrated is at the same schema as one made anew.
#[tokio::test]
async fn a_migrated_file_has_the_schema_of_a_new_one() {
    let (old, new) = (File::new(), File::new());
    migrated(&old).await;
    new.store().await;
    let mut schemas = Vec::new();
    for file in [&old, &new] {
        let sql = "select name, replace(sql, char(10), ' ') from sqlite_master
            where name <> 'kbqueue_migrations' and sql is not null order by name";
        let mut conn = file.connection().await;
        let schema: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(&mut conn).await.unwrap();
        schemas.push(schema);
    }
    assert_eq!(schemas[0], schemas[1]);
    assert!(
        schemas[0]
            .iter()
            .any(|(name, _)| name == "kbqueue_deliveries")
    );
}
