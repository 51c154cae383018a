//! PostgreSQL: one statement, and so one commit, for each step.

use std::str::FromStr;

use async_trait::async_trait;
use kbqueue_core::{DocumentId, LeaseId};
use kbqueue_tests::postgres::Schema;
use sqlx::postgres::{PgConnectOptions, PgListener};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};
use uuid::Uuid;

use crate::stores::{drop_schema, metadata};

const TABLES: &str = "
    create table jobs (
        id uuid primary key, queue text not null, state smallint not null default 0,
        priority smallint not null default 0, run_at timestamptz not null default clock_timestamp(),
        attempt integer not null default 0, lease_id uuid, lease_until timestamptz, worker text,
        filename text not null, media_type text not null, sha256 text not null, size_bytes bigint not null,
        metadata text not null, created_at timestamptz not null default clock_timestamp(),
        started_at timestamptz, completed_at timestamptz
    );
    create index jobs_ready on jobs (queue, priority, run_at, id) where state = 0;
    create table chunks (
        document uuid not null, ordinal bigint not null, text text not null, first_page bigint not null,
        last_page bigint not null, start_offset bigint not null, end_offset bigint not null,
        primary key (document, ordinal)
    );";
const ENQUEUE: &str = "
    insert into jobs (id, queue, filename, media_type, sha256, size_bytes, metadata)
    select id, 'default', filename, 'application/pdf', sha256, 5, metadata
    from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) as n (id, filename, sha256, metadata)";
const ANNOUNCE: &str = "
    with made as (
        insert into jobs (id, queue, filename, media_type, sha256, size_bytes, metadata)
        values ($1, 'default', $2, 'application/pdf', $3, 5, $4)
        returning true
    )
    select pg_notify($5, '') from made";
const CLAIM: &str = "
    update jobs
    set state = 1, attempt = attempt + 1, lease_id = $1, worker = 'bench', started_at = clock_timestamp(),
        lease_until = clock_timestamp() + interval '1 minute'
    where id = any (array(
        select id from jobs where queue = 'default' and state = 0 and run_at <= clock_timestamp()
        order by priority, run_at, id limit $2 for update skip locked
    ))
    returning id, attempt, filename, media_type, sha256, size_bytes, metadata";
const COMPLETE: &str = "
    update jobs
    set state = 2, lease_id = null, lease_until = null, completed_at = clock_timestamp()
    where id = any ($1) and state = 1 and lease_id = $2";
const WRITE_CHUNKS: &str = "
    with held as (
        update jobs set lease_until = clock_timestamp() + interval '1 minute'
        where id = $1 and state = 1 and lease_id = $2
        returning id
    )
    insert into chunks (document, ordinal, text, first_page, last_page, start_offset, end_offset)
    select held.id, $3 + n.ordinal, n.text, 1, 1, 0, 1485
    from held, unnest($4::text[]) with ordinality as n (text, ordinal)";
/// Without statistics the planner would sort the whole table for a claim.
const PLANNER: [(&str, &str); 5] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_sort", "off"),
    ("jit", "off"),
];

pub(super) struct Raw {
    connection: PgConnection,
    /// There on the worker's side.
    listener: Option<PgListener>,
    schema: String,
    lease_id: Uuid,
    claimed: Vec<Uuid>,
    chunks: i64,
}

impl Raw {
    pub(super) async fn new() -> Self {
        let schema = Schema::new().name().to_owned();
        let mut raw = Self::open(schema).await;
        let tables = format!("create schema {};{TABLES}", raw.schema);
        sqlx::raw_sql(AssertSqlSafe(tables))
            .execute(&mut raw.connection)
            .await
            .expect("they are new");
        // So that none falls due while others measure.
        sqlx::query("checkpoint")
            .execute(&mut raw.connection)
            .await
            .expect("a superuser may");
        raw
    }

    async fn open(schema: String) -> Self {
        let options = PgConnectOptions::from_str(kbqueue_tests::postgres::shared());
        let options = options.expect("it is a URL").options(PLANNER);
        let options = options.options([("search_path", schema.as_str())]);
        Self {
            connection: options.connect().await.expect("it answers"),
            listener: None,
            schema,
            lease_id: Uuid::nil(),
            claimed: Vec::new(),
            chunks: 0,
        }
    }
}

#[async_trait]
impl super::Raw for Raw {
    async fn enqueue(&mut self, count: usize) {
        let ids: Vec<Uuid> = (0..count).map(|_| DocumentId::new().0).collect();
        sqlx::query(ENQUEUE)
            .bind(ids)
            .bind(vec!["bench.pdf"; count])
            .bind(vec!["0".repeat(64); count])
            .bind(vec![metadata().to_string(); count])
            .execute(&mut self.connection)
            .await
            .expect("they are taken");
    }

    async fn announce(&mut self) {
        sqlx::query(ANNOUNCE)
            .bind(DocumentId::new().0)
            .bind("bench.pdf")
            .bind("0".repeat(64))
            .bind(metadata().to_string())
            .bind(&self.schema)
            .execute(&mut self.connection)
            .await
            .expect("it is taken");
    }

    async fn worker(&self) -> Box<dyn super::Raw> {
        let mut worker = Self::open(self.schema.clone()).await;
        let mut listener = PgListener::connect(kbqueue_tests::postgres::shared())
            .await
            .expect("it answers");
        listener.listen(&self.schema).await.expect("it answers");
        worker.listener = Some(listener);
        Box::new(worker)
    }

    async fn woken(&mut self) {
        let listener = self.listener.as_mut().expect("it is the worker's side");
        listener.recv().await.expect("it stays connected");
    }

    async fn claim(&mut self, limit: usize) -> usize {
        self.lease_id = LeaseId::random().0;
        let claim = sqlx::query(CLAIM)
            .bind(self.lease_id)
            .bind(i64::try_from(limit).expect("a small number"));
        let rows = claim
            .fetch_all(&mut self.connection)
            .await
            .expect("it answers");
        self.claimed.clear();
        for row in &rows {
            let _attempt: i32 = row.get(1);
            let _texts: [&str; 3] = [2, 3, 4].map(|column| row.get(column));
            let _size_bytes: i64 = row.get(5);
            let _metadata: &str = row.get(6);
            self.claimed.push(row.get(0));
        }
        rows.len()
    }

    async fn complete(&mut self) {
        let done = sqlx::query(COMPLETE)
            .bind(&self.claimed)
            .bind(self.lease_id)
            .execute(&mut self.connection)
            .await
            .expect("it answers");
        assert_eq!(done.rows_affected(), self.claimed.len() as u64);
    }

    async fn write_chunks(&mut self, texts: &[String]) {
        let written = sqlx::query(WRITE_CHUNKS)
            .bind(self.claimed[0])
            .bind(self.lease_id)
            .bind(self.chunks)
            .bind(texts)
            .execute(&mut self.connection)
            .await
            .expect("they are taken");
        assert_eq!(written.rows_affected(), texts.len() as u64);
        self.chunks += i64::try_from(texts.len()).expect("a small number");
    }

    async fn end(self: Box<Self>) {
        self.connection.close().await.expect("it answers");
        drop_schema(&self.schema).await;
    }
}
