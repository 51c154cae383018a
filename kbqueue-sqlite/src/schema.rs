//! Our tables, in versions.

use kbqueue_core::StoreError;
use kbqueue_core::store::Result;
use sqlx::SqliteConnection;

use crate::connection::begin;
use crate::error::failed;
use crate::store::SqliteStore;

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
const BOOKKEEPING: &str = "create table if not exists kbqueue_migrations (
    version integer primary key, name text not null, applied_at integer not null
)";

/// Brings the file's schema to this release's version.
///
/// Safe in several processes at once: the version is read and all is done under the write lock.
pub(crate) async fn migrate(store: &SqliteStore) -> Result<()> {
    let mut writer = store.writer().await?;
    let mut tx = begin!(store, writer);
    sqlx::query(BOOKKEEPING)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    let found = version(&mut tx).await?;
    if found > MIGRATIONS.len() {
        return Err(StoreError::Unusable(format!(
            "{} has schema version {found} of kbqueue, written by a newer release; this one knows {}: \
             upgrade this program, or give it a copy of the file from before the upgrade",
            store.options().path().display(),
            MIGRATIONS.len(),
        )));
    }
    for (index, (name, sql)) in MIGRATIONS.iter().enumerate().skip(found) {
        sqlx::raw_sql(*sql)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        sqlx::query(
            "insert into kbqueue_migrations (version, name, applied_at) values (?1, ?2, ?3)",
        )
        .bind(i64::try_from(index + 1).expect("there are few migrations"))
        .bind(name)
        .bind(store.now().as_microsecond())
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    }
    tx.commit().await.map_err(failed)
}

async fn version(conn: &mut SqliteConnection) -> Result<usize> {
    let version: i64 = sqlx::query_scalar(include_str!("../queries/schema_version.sql"))
        .fetch_one(conn)
        .await
        .map_err(failed)?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}
