//! Several stores, and a host, on one file.

use std::time::Duration;

use kbqueue_core::store::OutputQuery;
use kbqueue_core::{DocumentId, Notice, State, Store, StoreError};
use kbqueue_sqlite::SqliteStore;
use sqlx::migrate::Migrator;
use sqlx::{Connection, SqliteConnection};

use crate::support::{File, checkpoint, claim, document, stored};

/// REGRESSIONS 20: two processes, a long reader, checkpoints of the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_writer_hears_that_the_file_is_busy() {
    let file = File::new();
    let stores = [file.store().await, file.store().await];
    stored(&stores[0], document("old.pdf")).await;
    // A reader that keeps its snapshot, and so the log, for as long as the test runs.
    let mut reader = file.connection().await;
    sqlx::query("begin").execute(&mut reader).await.unwrap();
    let count = "select count(*) from kbqueue_documents";
    let seen: i64 = sqlx::query_scalar(count)
        .fetch_one(&mut reader)
        .await
        .unwrap();

    let writers = stores.map(|store| {
        tokio::spawn(async move {
            for _ in 0..40 {
                store.enqueue(vec![document("a.pdf")]).await?;
                let request = crate::support::request(1);
                for held in store.claim(request).await?.documents {
                    store.checkpoint(checkpoint(&held)).await?;
                }
                store.stats(&document("").queue).await?;
            }
            Ok::<_, StoreError>(())
        })
    });
    let mut cleaner = file.connection().await;
    // With time to wait it would keep the write lock for as long as the reader reads.
    sqlx::query("pragma busy_timeout = 0")
        .execute(&mut cleaner)
        .await
        .unwrap();
    for writer in writers {
        while !writer.is_finished() {
            // Answers "busy" in its first column instead of failing; what counts is what the others hear.
            sqlx::query("pragma wal_checkpoint(truncate)")
                .fetch_all(&mut cleaner)
                .await
                .unwrap();
        }
        writer.await.unwrap().unwrap();
    }
    let still: i64 = sqlx::query_scalar(count)
        .fetch_one(&mut reader)
        .await
        .unwrap();
    assert_eq!(still, seen, "the reader's snapshot");
    assert_eq!(count_documents(&mut cleaner).await, 81);
}

#[tokio::test]
async fn a_writer_outwaits_a_long_transaction_of_the_host() {
    let file = File::new();
    let store = file.store().await;
    let mut host = file.connection().await;
    let held = host.begin_with("begin immediate").await.unwrap();
    let mut enqueue = store.enqueue(vec![document("a.pdf")]);
    // Longer than SQLite waits by itself, so that the store begins anew at least once.
    let early = tokio::time::timeout(Duration::from_millis(400), &mut enqueue).await;
    assert!(early.is_err(), "{early:?}");
    // Whoever only reads has nothing to wait for.
    assert_eq!(queued(&store).await, 0);
    held.rollback().await.unwrap();
    assert!(enqueue.await.unwrap()[0].created);
}

#[tokio::test]
async fn a_lock_that_stays_is_reported_after_the_patience() {
    let file = File::new();
    let options = file.options().patience(Duration::from_millis(20));
    let store = SqliteStore::open(options).await.unwrap();
    let mut host = file.connection().await;
    let held = host.begin_with("begin immediate").await.unwrap();
    let error = store.enqueue(vec![document("a.pdf")]).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    held.rollback().await.unwrap();
    store.enqueue(vec![document("a.pdf")]).await.unwrap();
}

/// REGRESSIONS 19.
#[tokio::test]
async fn the_hosts_own_migrations_run_before_or_after_ours() {
    let migrations = tempfile::tempdir().unwrap();
    let sql = "create table documents (id integer primary key); create table migrations (x);";
    std::fs::write(migrations.path().join("1_host.sql"), sql).unwrap();
    let host = Migrator::new(migrations.path()).await.unwrap();
    for host_first in [true, false] {
        let file = File::new();
        let mut conn = file.connection().await;
        if host_first {
            host.run(&mut conn).await.unwrap();
        }
        let store = file.store().await;
        if !host_first {
            host.run(&mut conn).await.unwrap();
        }
        // And again, as at the next start of both.
        host.run(&mut conn).await.unwrap();
        file.store().await;
        stored(&store, document("a.pdf")).await;
        let names: Vec<String> = sqlx::query_scalar(
            "select name from sqlite_master where name not like 'sqlite_%' and name not like 'kbqueue_%'",
        )
        .fetch_all(&mut conn)
        .await
        .unwrap();
        assert_eq!(names.len(), 3, "ours all have the prefix: {names:?}");
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_advice() {
    let file = File::new();
    file.store().await.close().await;
    let mut conn = file.connection().await;
    sqlx::query("insert into kbqueue_migrations values (99, '0099_later', 0)")
        .execute(&mut conn)
        .await
        .unwrap();
    let error = SqliteStore::open(file.options()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unusable(_)), "{error}");
    let message = error.to_string();
    for part in [
        "queue.db",
        "version 99",
        "newer release",
        "upgrade this program",
    ] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_open_a_new_file_at_the_same_time_all_can() {
    for _ in 0..5 {
        let file = File::new();
        let opening: Vec<_> = (0..4)
            .map(|_| tokio::spawn(SqliteStore::open(file.options())))
            .collect();
        for store in opening {
            stored(&store.await.unwrap().unwrap(), document("a.pdf")).await;
        }
        let mut conn = file.connection().await;
        let versions: Vec<i64> = sqlx::query_scalar("select version from kbqueue_migrations")
            .fetch_all(&mut conn)
            .await
            .unwrap();
        assert_eq!(versions, [1, 2]);
        assert_eq!(count_documents(&mut conn).await, 4);
    }
}

/// REGRESSIONS 12.
#[tokio::test]
async fn an_enqueue_in_the_hosts_transaction_shares_its_fate() {
    let file = File::new();
    let store = file.store().await;
    let mut host = file.connection().await;
    let mut notices = store.subscribe().await.unwrap();
    assert_eq!(notices.next().await, Notice::Resync);

    let mut tx = host.begin_with("begin immediate").await.unwrap();
    let lost = document("lost.pdf");
    let answers = store.enqueue_in(&mut tx, vec![lost.clone()]).await.unwrap();
    assert!(answers[0].created && answers[0].id == lost.id);
    tx.rollback().await.unwrap();
    assert_eq!(store.document(lost.id).await.unwrap(), None);
    assert_eq!(queued(&store).await, 0);

    let mut tx = host.begin_with("begin immediate").await.unwrap();
    let kept = document("kept.pdf");
    store.enqueue_in(&mut tx, vec![kept.clone()]).await.unwrap();
    assert_eq!(
        store.document(kept.id).await.unwrap(),
        None,
        "before the commit"
    );
    tx.commit().await.unwrap();
    store.notify();
    assert_eq!(notices.next().await, Notice::Resync);
    assert_eq!(queued(&store).await, 1);
    assert_eq!(claim(&store, 2).await.documents[0].id, kept.id);
}

#[tokio::test]
async fn another_store_hears_of_a_change() {
    let file = File::new();
    let (here, there) = (file.store().await, file.store().await);
    let mut notices = there.subscribe().await.unwrap();
    assert_eq!(notices.next().await, Notice::Resync);
    let id = stored(&here, document("a.pdf")).await.id;
    // The bound is there for the day on which this never comes.
    let heard = tokio::time::timeout(Duration::from_secs(20), notices.next()).await;
    assert_eq!(heard.unwrap(), Notice::Resync);
    assert_eq!(
        there.document(id).await.unwrap().unwrap().lifecycle.state,
        State::Queued
    );
}

/// The number by which changes are seen counts afresh with the connection.
#[tokio::test]
async fn a_change_is_heard_of_though_the_writing_connection_broke_before_it() {
    let file = File::new();
    let store = file.store().await;
    let mut notices = store.subscribe().await.unwrap();
    assert_eq!(notices.next().await, Notice::Resync);
    let mut host = file.connection().await;
    let mut held = host.begin_with("begin immediate").await.unwrap();
    // Dropped on the way, it leaves no connection behind; before the next look at the file, as a rule.
    let dropped = store.enqueue(vec![document("a.pdf")]);
    let dropped = tokio::time::timeout(Duration::from_millis(20), dropped).await;
    assert!(dropped.is_err(), "{dropped:?}");
    sqlx::query("create table host (x)")
        .execute(&mut *held)
        .await
        .unwrap();
    held.commit().await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(20), notices.next()).await;
    assert_eq!(heard.unwrap(), Notice::Resync);
}

#[tokio::test]
async fn a_subscriber_of_the_same_store_hears_of_each_commit_by_name() {
    let file = File::new();
    let store = file.store().await;
    let mut notices = store.subscribe().await.unwrap();
    assert_eq!(notices.next().await, Notice::Resync);
    let id = stored(&store, document("a.pdf")).await.id;
    claim(&store, 1).await;
    for expected in [State::Queued, State::Processing] {
        let Notice::Document(change) = notices.next().await else {
            panic!("not a document's notice");
        };
        assert_eq!((change.id, change.state), (id, expected));
    }
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let file = File::new();
    let store = file.store().await;
    let clone = store.clone();
    store.close().await;
    let errors = [
        clone.enqueue(vec![document("a.pdf")]).await.unwrap_err(),
        clone.document(DocumentId::new()).await.unwrap_err(),
        clone
            .pages(OutputQuery::new(DocumentId::new(), 1))
            .await
            .unwrap_err(),
    ];
    assert!(errors.iter().all(StoreError::is_transient), "{errors:?}");
}

async fn queued(store: &SqliteStore) -> u64 {
    store
        .stats(&document("").queue)
        .await
        .unwrap()
        .counts
        .queued
}

async fn count_documents(conn: &mut SqliteConnection) -> i64 {
    let sql = "select count(*) from kbqueue_documents";
    sqlx::query_scalar(sql).fetch_one(conn).await.unwrap()
}
