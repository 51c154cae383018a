//! What is asked of the servers before anything is entrusted to them.

use kbqueue_core::StoreError;
use kbqueue_core::store::Result;
use redis::InfoDict;

use crate::connection::Connection;
use crate::error::failed;
use crate::schema::{Keys, VERSION};

/// Checks versions and settings.
pub(crate) async fn check(connection: &Connection, keys: &Keys) -> Result<()> {
    for info in connection.info().await? {
        check_server(&info)?;
    }
    let command = |name: &str| redis::cmd(name).arg(keys.version()).to_owned();
    let first = command("SET").arg(VERSION).arg("NX").to_owned();
    let _: redis::Value = connection.call(&first).await.map_err(failed)?;
    let version: u64 = connection.call(&command("GET")).await.map_err(failed)?;
    if version > VERSION {
        return Err(StoreError::Unusable(format!(
            "the keys were written by a newer release (layout {version}, this one knows {VERSION}): \
             upgrade this program too"
        )));
    }
    Ok(())
}

fn check_server(info: &InfoDict) -> Result<()> {
    let version: Option<String> = info.get("redis_version");
    let major = version
        .as_deref()
        .and_then(|v| v.split('.').next()?.parse::<u32>().ok());
    if major.is_some_and(|major| major < 6) {
        let version = version.unwrap_or_default();
        return Err(StoreError::Unusable(format!(
            "Redis {version} is too old: use 6.2 or newer, or Valkey"
        )));
    }
    let policy: Option<String> = info.get("maxmemory_policy");
    match policy.as_deref() {
        None | Some("noeviction") => {}
        Some(policy) => {
            return Err(StoreError::Unusable(format!(
                "Redis would throw documents away when memory runs out (maxmemory-policy {policy}): \
                 run CONFIG SET maxmemory-policy noeviction, and put it into redis.conf"
            )));
        }
    }
    let appends: Option<u8> = info.get("aof_enabled");
    if appends == Some(0) {
        tracing::warn!(
            "Redis keeps no append-only file: a restart loses what came after its last snapshot; \
             run CONFIG SET appendonly yes, and put it into redis.conf"
        );
    }
    Ok(())
}
