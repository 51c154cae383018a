//! Documents come in.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use kbqueue_core::error::BoxError;
use kbqueue_core::lifecycle::Lifecycle;
use kbqueue_core::store::{Enqueued, Result};
use kbqueue_core::{
    ChunkOptions, DocumentId, NewDocument, Notice, QueueName, SealedPassword, State,
};
use serde::Serialize;
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::batch::{Counts, change, json};
use crate::codec;
use crate::error::{failed, is_busy, malformed};

/// The statements of [`Parameters`].
macro_rules! inserting {
    () => {
        concat!(
            include_str!("../queries/enqueue_lines.sql"),
            include_str!("../queries/enqueue_insert.sql"),
            include_str!("../queries/count_queues.sql"),
        )
    };
}

/// Takes documents in. Answers in their order, and with what to tell subscribers after the commit.
///
/// The caller holds the write lock, so what is looked up stays true.
pub(crate) async fn enqueue(
    conn: &mut SqliteConnection,
    documents: &[NewDocument],
    now: Timestamp,
) -> Result<(Vec<Enqueued>, Vec<Notice>)> {
    if documents.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let keys: Vec<Option<String>> = documents.iter().map(NewDocument::dedupe_key).collect();
    let known = Known::look(conn, documents, &keys).await?;
    let taken = Taken::of(documents, &keys, known, now);
    if !taken.made.is_empty() {
        taken.admit(conn).await?;
        Parameters::of(&taken.made, now)
            .run(conn, inserting!())
            .await
            .map_err(failed)?;
    }
    Ok(taken.answers())
}

/// Takes documents in as [`enqueue`] does, in a transaction of its own that crosses to the driver's thread
/// once: in the hope that none is there yet, and that no queue limits how many are queued. `None`, and
/// nothing is written, where that or anything else went wrong.
///
/// The connection is outside a transaction, and is not to be used again after `Err`.
pub(crate) async fn enqueue_new(
    conn: &mut SqliteConnection,
    documents: &[NewDocument],
    now: Timestamp,
) -> std::result::Result<Option<(Vec<Enqueued>, Vec<Notice>)>, sqlx::Error> {
    let keys: Vec<Option<String>> = documents.iter().map(NewDocument::dedupe_key).collect();
    let taken = Taken::of(documents, &keys, Known::default(), now);
    if taken.made.len() < documents.len() {
        // One answers for another of the same key, unless its own id is there: that has to be looked at.
        return Ok(None);
    }
    let sql = concat!(
        "begin immediate;",
        include_str!("../queries/enqueue_guard.sql"),
        inserting!(),
        "commit"
    );
    match Parameters::of(&taken.made, now).run(conn, sql).await {
        Ok(()) => Ok(Some(taken.answers())),
        // It did not begin.
        Err(error) if is_busy(&error) => Ok(None),
        Err(_) => {
            sqlx::raw_sql("rollback").execute(conn).await?;
            Ok(None)
        }
    }
}

/// What becomes of documents, in the order in which they came.
struct Taken<'a> {
    answers: Vec<Enqueued>,
    made: Vec<(&'a NewDocument, Option<&'a str>, Lifecycle)>,
}

impl<'a> Taken<'a> {
    fn of(
        documents: &'a [NewDocument],
        keys: &'a [Option<String>],
        mut known: Known,
        now: Timestamp,
    ) -> Self {
        let mut answers = Vec::with_capacity(documents.len());
        let mut made = Vec::new();
        for (document, key) in documents.iter().zip(keys) {
            let key = key.as_deref();
            if let Some((id, state)) = known.find(document, key) {
                let created = false;
                answers.push(Enqueued { id, state, created });
                continue;
            }
            let life = Lifecycle::new(document.available_at.unwrap_or(now));
            known.add(document, key, life.state);
            answers.push(Enqueued {
                id: document.id,
                state: life.state,
                created: true,
            });
            made.push((document, key, life));
        }
        Self { answers, made }
    }

    /// Checks that the queues may hold them, before anything is written.
    async fn admit(&self, conn: &mut SqliteConnection) -> Result<()> {
        let mut made: BTreeMap<&QueueName, u64> = BTreeMap::new();
        for (document, ..) in &self.made {
            *made.entry(&document.queue).or_default() += 1;
        }
        let queues: Vec<&QueueName> = made.keys().copied().collect();
        let rows: Vec<(String, String, i64)> =
            sqlx::query_as(include_str!("../queries/enqueue_room.sql"))
                .bind(json(&queues))
                .fetch_all(conn)
                .await
                .map_err(failed)?;
        for (queue, made) in made {
            let limited = rows.iter().find(|(name, ..)| name == queue.as_str());
            if let Some((_, settings, queued)) = limited {
                let settings = codec::settings(queue.as_str(), false, Some(settings))?;
                let queued = u64::try_from(*queued).unwrap_or(0);
                settings.admit(queue, queued, made)?;
            }
        }
        Ok(())
    }

    /// The answers, and what to tell subscribers after the commit.
    fn answers(self) -> (Vec<Enqueued>, Vec<Notice>) {
        let told = |(document, _, life): &(&NewDocument, _, Lifecycle)| {
            Notice::Document(change(document.id, &document.queue, life))
        };
        let notices = self.made.iter().map(told).collect();
        (self.answers, notices)
    }
}

/// Documents that answer for new ones, those made a moment ago in the same batch included.
#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<DocumentId, State>,
    by_key: HashMap<(String, String), (DocumentId, State)>,
}

impl Known {
    async fn look(
        conn: &mut SqliteConnection,
        documents: &[NewDocument],
        keys: &[Option<String>],
    ) -> Result<Self> {
        let ids: Vec<DocumentId> = documents.iter().map(|d| d.id).collect();
        let keys: Vec<(&str, &str)> = documents
            .iter()
            .zip(keys)
            .filter_map(|(d, key)| Some((d.queue.as_str(), key.as_deref()?)))
            .collect();
        let rows = sqlx::query(include_str!("../queries/enqueue_existing.sql"))
            .bind(json(&ids))
            .bind(json(&keys))
            .fetch_all(conn)
            .await
            .map_err(failed)?;
        let mut known = Self::default();
        for row in &rows {
            known
                .read(row)
                .map_err(|error| malformed("a document that may stand for a new one", error))?;
        }
        Ok(known)
    }

    fn read(&mut self, row: &SqliteRow) -> std::result::Result<(), BoxError> {
        let id: DocumentId = row.try_get::<&str, _>("id")?.parse()?;
        let state = codec::decode_state(row)?;
        let key: Option<String> = row.try_get("dedupe_key")?;
        match key {
            Some(key) => {
                let queue: String = row.try_get("queue")?;
                self.by_key.insert((queue, key), (id, state));
            }
            None => {
                self.by_id.insert(id, state);
            }
        }
        Ok(())
    }

    fn find(&self, document: &NewDocument, key: Option<&str>) -> Option<(DocumentId, State)> {
        if let Some(state) = self.by_id.get(&document.id) {
            return Some((document.id, *state));
        }
        let key = (document.queue.as_str().to_owned(), key?.to_owned());
        self.by_key.get(&key).copied()
    }

    fn add(&mut self, document: &NewDocument, key: Option<&str>, state: State) {
        self.by_id.insert(document.id, state);
        if let Some(key) = key {
            let key = (document.queue.as_str().to_owned(), key.to_owned());
            self.by_key.insert(key, (document.id, state));
        }
    }
}

/// In the order of `enqueue_insert.sql`'s parameter.
#[derive(Serialize)]
struct Inserted<'a>(
    DocumentId,
    &'a str,
    Option<&'a str>,
    i16,
    bool,
    i64,
    i64,
    bool,
    Option<&'a str>,
    &'a str,
    &'a str,
    &'a str,
    u64,
    Option<ChunkOptions>,
    &'a Value,
    Option<&'a SealedPassword>,
);

/// New documents as the parameters of the statements that take them in.
struct Parameters {
    rows: String,
    queues: String,
    lines: String,
}

impl Parameters {
    fn of(made: &[(&NewDocument, Option<&str>, Lifecycle)], now: Timestamp) -> Self {
        let mut counts = Counts::default();
        let mut ready: BTreeMap<(&str, Option<&str>), u64> = BTreeMap::new();
        let mut rows = Vec::with_capacity(made.len());
        for (document, key, life) in made {
            let (queue, tenant) = (document.queue.as_str(), document.tenant.as_deref());
            let due = codec::due(life, now) == Some(true);
            counts.state(&document.queue, life.state, 1);
            *ready.entry((queue, tenant)).or_default() += u64::from(due);
            rows.push(Inserted(
                document.id,
                queue,
                tenant,
                document.priority,
                due,
                life.available_at.as_microsecond(),
                now.as_microsecond(),
                codec::holds_key(life, *key),
                *key,
                &document.filename,
                &document.media_type,
                &document.blob.sha256,
                document.blob.size_bytes,
                document.chunking,
                &document.metadata,
                document.password.as_ref(),
            ));
        }
        let lines: Vec<_> = ready.iter().map(|((q, t), n)| (q, t, n)).collect();
        Self {
            rows: json(&rows),
            queues: json(&counts.queues()),
            lines: json(&lines),
        }
    }

    async fn run(
        self,
        conn: &mut SqliteConnection,
        sql: &'static str,
    ) -> std::result::Result<(), sqlx::Error> {
        let statements = sqlx::query(sql).bind(self.rows);
        statements
            .bind(self.queues)
            .bind(self.lines)
            .execute(conn)
            .await?;
        Ok(())
    }
}
