//! Rows that this release cannot read.

use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use kbqueue_core::state::CrashLimits;
use kbqueue_core::store::DocumentQuery;
use kbqueue_core::{Store, StoreError};
use sqlx::AssertSqlSafe;

use crate::support::{File, LEASE, claim, document, stored};

/// What the tests of this file log, all of them: tracing remembers of each place in the code whether anybody
/// listens, and a listener of one thread alone may come too late for that.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn open() -> Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        let open = || {
            let log = Self::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone());
            tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
            log
        };
        LOG.get_or_init(open).clone()
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// REGRESSIONS 9.
#[tokio::test]
async fn a_row_that_cannot_be_read_is_named_and_keeps_nobody_waiting() {
    let log = Log::open();
    let file = File::new();
    let store = file.store().await;
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(stored(&store, document("a.pdf")).await.id);
    }
    // More at the front than one claim reads at first; each broken in another way.
    let mut conn = file.connection().await;
    for (index, id) in ids.iter().take(38).enumerate() {
        let sql = [
            "update kbqueue_documents set lifecycle = '{\"unheard_of\":1}' where id = ?",
            "update kbqueue_documents set lifecycle = 'no json' where id = ?",
            "update kbqueue_documents set metadata = '' where id = ?",
            "update kbqueue_documents set version = 'x' where id = ?",
            "update kbqueue_documents set metadata = x'00ff' where id = ?",
            "update kbqueue_documents set dedupe_key = x'00' where id = ?",
            "update kbqueue_documents set lifecycle = x'00' where id = ?",
        ][index % 7];
        let done = sqlx::query(sql).bind(id.to_string()).execute(&mut conn);
        assert_eq!(done.await.unwrap().rows_affected(), 1);
    }
    let claimed: Vec<_> = claim(&store, 1).await.documents;
    assert_eq!(
        claimed.iter().map(|d| d.id).collect::<Vec<_>>(),
        ids[38..39]
    );
    let claimed: Vec<_> = claim(&store, 9).await.documents;
    assert_eq!(claimed.iter().map(|d| d.id).collect::<Vec<_>>(), ids[39..]);
    for id in &ids[..38] {
        assert!(log.text().contains(&id.to_string()), "{id} is not named");
        let error = store.document(*id).await.unwrap_err();
        assert!(matches!(error, StoreError::Malformed { .. }), "{error}");
    }
    assert_eq!(
        store
            .documents(DocumentQuery::default())
            .await
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn the_reaper_looks_behind_rows_that_cannot_be_read() {
    let file = File::new();
    let store = file.store().await;
    for _ in 0..5 {
        stored(&store, document("a.pdf")).await;
    }
    let held = claim(&store, 5).await.documents;
    let mut conn = file.connection().await;
    for (document, to) in held[..3].iter().zip(["''", "x'00'", "'no json'"]) {
        let sql = format!("update kbqueue_documents set lifecycle = {to} where id = ?");
        sqlx::query(AssertSqlSafe(sql))
            .bind(document.id.to_string())
            .execute(&mut conn)
            .await
            .unwrap();
    }
    file.clock.advance(LEASE);
    let log = Log::open();
    let reaped = store.reap(CrashLimits::default(), 1).await.unwrap();
    assert_eq!(reaped.len(), 1);
    assert_eq!(reaped[0].id, held[3].id);
    let log = log.text();
    assert!(held[..3].iter().all(|d| log.contains(&d.id.to_string())));
}
