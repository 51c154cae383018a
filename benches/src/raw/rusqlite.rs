//! A lean table without an async driver: what SQLite itself can do.

use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use tempfile::TempDir;

use crate::stores::{Kind, metadata};

const TABLE: &str = "
    create table jobs (
        id integer primary key, state integer not null, priority integer not null,
        run_at integer not null, lease_id text, lease_until integer, payload text not null
    );
    create index jobs_ready on jobs (priority, run_at, id) where state = 0;";
const ENQUEUE: &str = "
    insert into jobs (state, priority, run_at, payload)
    select 0, 0, 1, value from json_each(?1)";
const CLAIM: &str = "
    update jobs set state = 1, lease_id = ?1, lease_until = 2
    where id in (
        select id from jobs where state = 0 and run_at <= 1 order by priority, run_at, id limit ?2
    )
    returning id, payload";
const COMPLETE: &str = "
    update jobs set state = 2, lease_id = null, lease_until = null
    where id in (select value from json_each(?1)) and state = 1 and lease_id = ?2";

fn open(kind: Kind) -> (Connection, TempDir) {
    let directory = tempfile::tempdir().expect("there is room");
    let connection = Connection::open(directory.path().join("raw.db")).expect("it opens");
    let pragmas = format!(
        "pragma journal_mode = wal; pragma synchronous = {};",
        kind.pragma()
    );
    connection
        .execute_batch(&(pragmas + TABLE))
        .expect("it is new");
    (connection, directory)
}

fn fill(connection: &Connection, count: usize, batch: usize) -> Duration {
    let mut insert = connection.prepare(ENQUEUE).expect("it is SQL");
    let rows = vec![metadata().to_string(); batch];
    let rows = serde_json::to_string(&rows).expect("plain data is JSON");
    let began = Instant::now();
    for _ in 0..count / batch {
        insert.execute(params![rows]).expect("they are taken");
    }
    began.elapsed()
}

/// How long so many rows take to go in.
pub(crate) fn enqueue(kind: Kind, count: usize, batch: usize) -> Duration {
    let (connection, _directory) = open(kind);
    fill(&connection, count, batch)
}

/// How long so many rows take to be claimed and completed.
pub(crate) fn drain(kind: Kind, count: usize, batch: usize) -> Duration {
    let (connection, _directory) = open(kind);
    fill(&connection, count, batch);
    let mut claim = connection.prepare(CLAIM).expect("it is SQL");
    let mut complete = connection.prepare(COMPLETE).expect("it is SQL");
    let began = Instant::now();
    loop {
        let batch = i64::try_from(batch).expect("a small number");
        let ids: Vec<i64> = claim
            .query_map(params!["lease", batch], |row| {
                row.get::<_, String>(1)?;
                row.get(0)
            })
            .expect("it answers")
            .map(|id| id.expect("it is a number"))
            .collect();
        if ids.is_empty() {
            return began.elapsed();
        }
        let ids = serde_json::to_string(&ids).expect("plain data is JSON");
        complete
            .execute(params![ids, "lease"])
            .expect("they are there");
    }
}
