//! STUB
#![allow(missing_docs)]
pub struct SqliteStore; impl SqliteStore { pub async fn connect(_: &str) -> Result<kbqueue_core::MemoryStore, kbqueue_core::StoreError> { Ok(kbqueue_core::MemoryStore::new()) } }
