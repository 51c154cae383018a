//! How SQLite means to run each statement.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kbqueue_core::Store;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use crate::support::{File, claim, document};

/// Every statement that runs at work or on a status page, by name; reading of outputs and purging too.
fn statements() -> Vec<(String, String)> {
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("queries");
    let mut statements: Vec<_> = std::fs::read_dir(queries)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    statements.sort();
    statements
}

async fn plan(conn: &mut SqliteConnection, sql: &str) -> Vec<String> {
    let sql = AssertSqlSafe(format!("explain query plan {sql}"));
    let rows = sqlx::query(sql).fetch_all(conn).await.unwrap();
    rows.iter().map(|row| row.get("detail")).collect()
}

/// Whether a line of a plan (`r` is the few fingerprints that have documents) walks over a whole table of ours, or sorts.
fn is_costly(line: &str) -> bool {
    // Constant subqueries, and what json_each makes of a parameter, are scanned by their nature.
    let ours = [
        "SCAN d",
        "SCAN kbqueue_",
        "SCAN p",
        "SCAN c",
        "SCAN i",
        "SCAN t",
        "SCAN l ",
    ];
    let walks = ours.iter().any(|scan| line.starts_with(scan)) && !line.contains("VIRTUAL TABLE");
    // A range of ids is the whole table from there on.
    let walks = walks || line.ends_with("kbqueue_documents_1 (id<?)");
    walks
        || line.contains("TEMP B-TREE")
        || line.contains("AUTOMATIC") && !line.starts_with("SEARCH r ")
}

/// What grows with something else than documents.
const ALLOWED: &[(&str, &str)] = &[
    // Queues are few, and what is sorted is at most one page for each of them and state.
    ("documents", "SCAN kbqueue_queues"),
    ("documents", "USE TEMP B-TREE FOR ORDER BY"),
    // The check of the foreign key of `documents.line`; skipped unless the same statement broke one before.
    ("enqueue_lines", "SCAN kbqueue_documents"),
    // Endpoints are few, and the first enabled one ends it.
    ("load", "SCAN kbqueue_endpoints"),
    // From the front on, up to the limit.
    ("purge_entries", "SCAN kbqueue_obsolete"),
    // Workers are few.
    ("purge_workers", "SCAN kbqueue_workers"),
    ("stats", "SCAN w"),
];

#[tokio::test]
async fn no_statement_walks_over_the_documents_or_sorts_them() {
    let file = File::new();
    let store = file.store().await;
    let mut conn = file.connection().await;
    for analyzed in [false, true] {
        for (name, sql) in statements() {
            let plan = plan(&mut conn, &sql).await;
            let costly: Vec<_> = plan
                .iter()
                .filter(|line| {
                    is_costly(line) && !ALLOWED.contains(&(name.as_str(), line.as_str()))
                })
                .collect();
            assert!(
                costly.is_empty(),
                "{name}, analyzed: {analyzed}: {costly:#?}\n{plan:#?}"
            );
        }
        // The host may run ANALYZE, on many documents of one queue; that must not change the answer.
        for _ in 0..4 {
            let many = (0..500).map(|_| document("a.pdf")).collect();
            store.enqueue(many).await.unwrap();
        }
        claim(&store, 3).await;
        sqlx::query("analyze").execute(&mut conn).await.unwrap();
        conn = file.connection().await;
    }
}

/// REGRESSIONS 18: SQLite's machine takes as many steps for a claim and a status page with many documents
/// waiting as with few.
#[tokio::test]
async fn a_claim_reads_as_much_of_a_long_queue_as_of_a_short_one() {
    let mut steps = Vec::new();
    for documents in [100, 20_000] {
        let file = File::new();
        let store = file.store().await;
        for _ in 0..documents / 100 {
            let many = (0..100).map(|_| document("a.pdf")).collect();
            store.enqueue(many).await.unwrap();
        }
        let mut conn = file.connection().await;
        steps.push(work(&mut conn).await);
    }
    assert!(steps[0].iter().all(|(_, steps)| *steps > 0), "{steps:?}");
    assert_eq!(steps[0], steps[1]);
}

/// Steps of SQLite's machine that the reads of one claim, and a status page, take.
async fn work(conn: &mut SqliteConnection) -> Vec<(&'static str, u64)> {
    let queues = r#"["default"]"#;
    let now = jiff::Timestamp::now().as_microsecond();
    let mut steps = Vec::new();
    macro_rules! count {
        ($name:literal $(, $value:expr)*) => {{
            let counter = Arc::new(AtomicU64::new(0));
            let counted = Arc::clone(&counter);
            conn.lock_handle().await.unwrap().set_progress_handler(1, move || {
                counted.fetch_add(1, Ordering::SeqCst);
                true
            });
            let sql = include_str!(concat!("../../queries/", $name, ".sql"));
            sqlx::query(sql)$(.bind($value))*.fetch_all(&mut *conn).await.unwrap();
            steps.push(($name, counter.load(Ordering::SeqCst)));
        }};
    }
    count!("claim_due", queues, "=fake/1", now, now);
    count!("claim_lines", queues, 1, None::<i64>, None::<i64>, 1);
    count!("claim_candidates", "[1]", "=fake/1", 1);
    count!("claim_next_due", queues, "=fake/1");
    count!("reap", now, 10);
    count!("stats", "default", now);
    count!("documents", None::<&str>, None::<&str>, None::<&str>, 50);
    count!("documents", "default", "failed", None::<&str>, 50);
    steps
}
