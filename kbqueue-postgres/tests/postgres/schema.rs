//! Our tables beside others, in versions.

use kbqueue_core::{Store, StoreError};
use kbqueue_postgres::PostgresStore;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use crate::support::{Place, document, queued, stored};

/// A database of the test's own, because the host's tables have no schema of ours.
async fn database(place: &Place) -> String {
    let name = place.schema().to_owned();
    let mut admin = place.connection().await;
    let create = AssertSqlSafe(format!("create database {name}"));
    sqlx::query(create).execute(&mut admin).await.unwrap();
    name
}

/// REGRESSIONS 19.
#[tokio::test]
async fn the_hosts_own_migrations_run_before_or_after_ours() {
    let migrations = tempfile::tempdir().unwrap();
    let sql = "create table documents (id integer primary key);
        create table migrations (x integer); create table deltas (x integer);";
    std::fs::write(migrations.path().join("1_host.sql"), sql).unwrap();
    let host = Migrator::new(migrations.path()).await.unwrap();
    for host_first in [true, false] {
        let place = Place::new();
        let name = database(&place).await;
        let url = kbqueue_tests::postgres::shared();
        let url = format!("{}/{name}", url.rsplit_once('/').unwrap().0);
        let mut conn = PgConnection::connect(&url).await.unwrap();
        if host_first {
            host.run(&mut conn).await.unwrap();
        }
        let store = PostgresStore::connect(&url).await.unwrap();
        if !host_first {
            host.run(&mut conn).await.unwrap();
        }
        // And again, as at the next start of both.
        host.run(&mut conn).await.unwrap();
        PostgresStore::connect(&url).await.unwrap();
        stored(&store, document("a.pdf")).await;
        let tables: Vec<(String, String)> = sqlx::query_as(
            "select schemaname::text, tablename::text from pg_tables
             where schemaname in ('public', 'kbqueue') order by 1, 2",
        )
        .fetch_all(&mut conn)
        .await
        .unwrap();
        let public = tables.iter().filter(|(schema, _)| schema == "public");
        assert_eq!(
            public.count(),
            4,
            "the host's, and its bookkeeping: {tables:?}"
        );
        assert!(tables.len() > 10, "{tables:?}");
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_advice() {
    let place = Place::new();
    place.store().await.close().await;
    let mut conn = place.connection().await;
    sqlx::query(place.sql("insert into kbqueue.migrations values (99, '0099_later')"))
        .execute(&mut conn)
        .await
        .unwrap();
    let error = PostgresStore::open(place.options()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unusable(_)), "{error}");
    let message = error.to_string();
    for part in [
        place.schema(),
        "version 99",
        "newer release",
        "upgrade this program",
    ] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_open_a_new_schema_at_the_same_time_all_can() {
    for _ in 0..3 {
        let place = Place::new();
        let opening: Vec<_> = (0..4)
            .map(|_| tokio::spawn(PostgresStore::open(place.options())))
            .collect();
        let mut stores = Vec::new();
        for store in opening {
            stores.push(store.await.unwrap().unwrap());
            stored(stores.last().unwrap(), document("a.pdf")).await;
        }
        let mut conn = place.connection().await;
        let versions: Vec<i64> =
            sqlx::query_scalar(place.sql("select version from kbqueue.migrations"))
                .fetch_all(&mut conn)
                .await
                .unwrap();
        assert_eq!(versions, [1, 2]);
        assert_eq!(queued(&stores[0]).await, 4);
    }
}

/// What is printed for review is what would run: an administrator can run it, and then a user who may
/// create nothing can work.
#[tokio::test]
async fn an_administrator_can_run_the_printed_sql() {
    let place = Place::new();
    let schema = place.schema();
    let printed = PostgresStore::migrations_sql(schema).unwrap();
    assert!(!printed.contains("kbqueue.documents"));
    let mut admin = place.connection().await;
    sqlx::raw_sql(AssertSqlSafe(printed))
        .execute(&mut admin)
        .await
        .unwrap();
    let grants = format!(
        "create role {schema} login;
         grant usage on schema {schema} to {schema};
         grant select, insert, update, delete on all tables in schema {schema} to {schema};
         grant usage on all sequences in schema {schema} to {schema};"
    );
    sqlx::raw_sql(AssertSqlSafe(grants))
        .execute(&mut admin)
        .await
        .unwrap();
    let url = kbqueue_tests::postgres::shared();
    let url = url.replace("postgres://postgres@", &format!("postgres://{schema}@"));
    let options = kbqueue_postgres::PostgresOptions::parse(&url).unwrap();
    let store = PostgresStore::open(options.schema(schema).unwrap())
        .await
        .unwrap();
    stored(&store, document("a.pdf")).await;
    assert_eq!(crate::support::claim(&store, 1).await.documents.len(), 1);
    let names = PostgresStore::migrations_sql("no; drop table x");
    assert!(matches!(names, Err(StoreError::Unusable(_))));
}

#[tokio::test]
async fn a_database_in_another_encoding_is_refused() {
    let place = Place::new();
    let name = format!("{}_latin", place.schema());
    let mut admin = place.connection().await;
    let create = format!("create database {name} encoding 'LATIN1' template template0 locale 'C'");
    sqlx::query(AssertSqlSafe(create))
        .execute(&mut admin)
        .await
        .unwrap();
    let url = kbqueue_tests::postgres::shared();
    let url = format!("{}/{name}", url.rsplit_once('/').unwrap().0);
    let error = PostgresStore::connect(&url).await.unwrap_err();
    assert!(matches!(error, StoreError::Unusable(_)), "{error}");
    assert!(error.to_string().contains("UTF8"), "{error}");
}

/// Two schemas of one database are two stores.
#[tokio::test]
async fn schemas_keep_stores_apart() {
    let (here, there) = (Place::new(), Place::new());
    let (here, there) = (here.store().await, there.store().await);
    let id = stored(&here, document("a.pdf")).await.id;
    assert_eq!(there.document(id).await.unwrap(), None);
    assert_eq!((queued(&here).await, queued(&there).await), (1, 0));
}

/// Tables that were restored into another cluster, whose transactions have smaller numbers.
#[tokio::test]
async fn counts_are_right_in_another_cluster() {
    let place = Place::new();
    let store = place.store().await;
    for _ in 0..3 {
        stored(&store, document("a.pdf")).await;
    }
    store.purge(0).await.unwrap();
    store.close().await;
    let mut conn = place.connection().await;
    for sql in [
        "update kbqueue.totals set seen = '900000000:900000000:'",
        "update kbqueue.cluster set system_identifier = 1",
    ] {
        sqlx::query(place.sql(sql))
            .execute(&mut conn)
            .await
            .unwrap();
    }
    let store = place.store().await;
    assert_eq!(queued(&store).await, 3);
    stored(&store, document("a.pdf")).await;
    assert_eq!(queued(&store).await, 4);
    store.purge(0).await.unwrap();
    assert_eq!(queued(&store).await, 4);
}
