//! Our tables, in versions.

use kbqueue_core::StoreError;
use kbqueue_core::store::Result;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use crate::error::{failed, is_disconnected, is_lock_timeout};
use crate::session::begin;
use crate::sql::splice;
use crate::store::PostgresStore;

/// Every migration, oldest first; its version is its place, from 1. One that was released never changes.
const MIGRATIONS: &[(&str, &str)] = &[
    (
        "0001_documents",
        include_str!("../migrations/0001_documents.sql"),
    ),
    (
        "0002_production",
        include_str!("../migrations/0002_production.sql"),
    ),
];

/// Our own bookkeeping, apart from the host's `_sqlx_migrations`.
const BOOKKEEPING: &str = "create table if not exists kbqueue.migrations (
    version bigint primary key, name text not null, applied_at timestamptz not null default now()
)";

/// Counts everything anew. The lock keeps out whoever counts differences, from before to after this.
const RECOUNT: &str = "
    set local lock_timeout = '2s';
    lock table kbqueue.deltas, kbqueue.totals in share row exclusive mode;
    delete from kbqueue.deltas;
    delete from kbqueue.totals;
    insert into kbqueue.totals (queue, seen, queued, processing, completed, failed, cancelled)
    select
        queue, pg_current_snapshot(), count(*) filter (where state = 'queued'),
        count(*) filter (where state = 'processing'), count(*) filter (where state = 'completed'),
        count(*) filter (where state = 'failed'), count(*) filter (where state = 'cancelled')
    from kbqueue.documents where deleted_at is null group by queue;
    delete from kbqueue.cluster;
    insert into kbqueue.cluster select system_identifier from pg_control_system();";

/// How often a migration is begun again while others keep it from a lock.
const TRIES: u32 = 30;

/// All that [`migrate`] would run on an empty database.
pub(crate) fn sql(schema: &str) -> String {
    let mut sql = format!("create schema if not exists {schema};\n\n{BOOKKEEPING};\n");
    for (index, (name, migration)) in MIGRATIONS.iter().enumerate() {
        let version = index + 1;
        sql.push_str(&format!(
            "\n-- {name}\n{migration}\n\
             insert into kbqueue.migrations (version, name) values ({version}, '{name}');\n"
        ));
    }
    splice(&sql, schema)
}

/// Brings the schema to this release's version.
///
/// Safe in several processes at once: all is done in one transaction under a lock of that transaction.
/// Where everything is there already, nothing is locked and nothing written, so that a user who may not
/// create anything can open a store that an administrator migrated.
pub(crate) async fn migrate(store: &PostgresStore) -> Result<()> {
    let migrated = found(store).await? == Some(MIGRATIONS.len());
    if migrated && !moved(store).await? {
        return Ok(());
    }
    let mut tries = 1;
    loop {
        let done = match migrated {
            true => try_recount(store).await,
            false => try_migrate(store).await,
        };
        match done {
            Err(Stop::Again(_)) if tries < TRIES => {
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            Err(Stop::Again(error)) => return Err(failed(error)),
            Err(Stop::Error(error)) => return Err(error),
            Ok(()) => return Ok(()),
        }
    }
}

/// Whether the tables came here from another cluster, by a dump or by logical replication.
async fn moved(store: &PostgresStore) -> Result<bool> {
    let mut tx = begin(store).await?;
    let row = store.sql().query(&store.sql().cluster);
    let row = row.fetch_one(&mut *tx).await.map_err(failed)?;
    row.try_get("moved").map_err(failed)
}

async fn try_recount(store: &PostgresStore) -> std::result::Result<(), Stop> {
    let mut tx = begin(store).await.map_err(Stop::Error)?;
    run(&mut tx, splice(RECOUNT, &store.options().schema)).await?;
    tx.commit().await?;
    Ok(())
}

/// Why a migration ended early.
enum Stop {
    /// Somebody else holds what it needs.
    Again(sqlx::Error),
    Error(StoreError),
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        if is_lock_timeout(&error) || is_disconnected(&error) {
            Self::Again(error)
        } else {
            Self::Error(failed(error))
        }
    }
}

async fn try_migrate(store: &PostgresStore) -> std::result::Result<(), Stop> {
    let schema = &store.options().schema;
    let mut tx = begin(store).await.map_err(Stop::Error)?;
    // A lock that is waited for blocks everybody behind it: rather give up soon and come again. Locked by
    // the schema's name, for the transaction only: a session's lock would not survive a pooler.
    let prelude = format!(
        "set local lock_timeout = '2s';
         select pg_advisory_xact_lock(hashtextextended('kbqueue migrations of {schema}', 0));
         create schema if not exists {schema};
         {};",
        splice(BOOKKEEPING, schema)
    );
    run(&mut tx, prelude).await?;
    let found = version(store, &mut tx).await?;
    check(store, found).map_err(Stop::Error)?;
    for (index, (name, sql)) in MIGRATIONS.iter().enumerate().skip(found) {
        let version = index + 1;
        run(&mut tx, splice(sql, schema)).await?;
        let note =
            format!("insert into {schema}.migrations (version, name) values ({version}, '{name}')");
        run(&mut tx, note).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Runs SQL made of our own files and the checked name of the schema.
async fn run(conn: &mut PgConnection, sql: String) -> std::result::Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await?;
    Ok(())
}

/// The version that is there; `None` where nothing is.
async fn found(store: &PostgresStore) -> Result<Option<usize>> {
    let mut tx = begin(store).await?;
    let encoding = "select current_setting('server_encoding'), to_regclass($1) is not null";
    let (encoding, there): (String, bool) = sqlx::query_as(encoding)
        .persistent(false)
        .bind(format!("{}.migrations", store.options().schema))
        .fetch_one(&mut *tx)
        .await
        .map_err(failed)?;
    if encoding != "UTF8" {
        return Err(StoreError::Unusable(format!(
            "{} is encoded in {encoding}, which cannot hold every text: create one in UTF8",
            store.options().place()
        )));
    }
    if !there {
        return Ok(None);
    }
    let found = version(store, &mut tx).await.map_err(failed)?;
    check(store, found)?;
    tx.commit().await.map_err(failed)?;
    Ok(Some(found))
}

/// Refuses a schema from the future.
fn check(store: &PostgresStore, found: usize) -> Result<()> {
    if found <= MIGRATIONS.len() {
        return Ok(());
    }
    Err(StoreError::Unusable(format!(
        "schema {:?} in {} has version {found} of kbqueue, written by a newer release; this one knows {}: \
         upgrade this program, or give it a copy of the schema from before the upgrade",
        store.options().schema,
        store.options().place(),
        MIGRATIONS.len(),
    )))
}

async fn version(
    store: &PostgresStore,
    conn: &mut PgConnection,
) -> std::result::Result<usize, sqlx::Error> {
    let row = store.sql().query(&store.sql().schema_version);
    let version: i64 = row.fetch_one(conn).await?.try_get(0)?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}
