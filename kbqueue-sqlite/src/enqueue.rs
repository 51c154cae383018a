//! Documents come in.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use kbqueue_core::error::BoxError;
use kbqueue_core::lifecycle::Lifecycle;
use kbqueue_core::store::{Enqueued, Result};
use kbqueue_core::{ChunkOptions, DocumentId, NewDocument, Notice, State};
use serde::Serialize;
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::batch::{Counts, change, counting, json};
use crate::codec;
use crate::error::{failed, malformed};

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
    let mut known = Known::look(conn, documents, &keys).await?;
    let mut answers = Vec::with_capacity(documents.len());
    let mut made = Vec::new();
    for (document, key) in documents.iter().zip(&keys) {
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
    insert(conn, &made, now).await?;
    let notices = made
        .iter()
        .map(|(document, _, life)| Notice::Document(change(document.id, &document.queue, life)))
        .collect();
    Ok((answers, notices))
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
    i64,
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
);

async fn insert(
    conn: &mut SqliteConnection,
    made: &[(&NewDocument, Option<&str>, Lifecycle)],
    now: Timestamp,
) -> Result<()> {
    if made.is_empty() {
        return Ok(());
    }
    let mut counts = Counts::default();
    let mut ready: BTreeMap<(&str, Option<&str>), u64> = BTreeMap::new();
    for (document, _, life) in made {
        counts.state(&document.queue, life.state, 1);
        let line = (document.queue.as_str(), document.tenant.as_deref());
        *ready.entry(line).or_default() += u64::from(codec::due(life, now) == Some(true));
    }
    let lines = lines(conn, &ready).await?;
    let rows: Vec<Inserted<'_>> = made
        .iter()
        .map(|(document, key, life)| {
            let line = (document.queue.as_str(), document.tenant.as_deref());
            Inserted(
                document.id,
                document.queue.as_str(),
                lines[&line],
                document.priority,
                codec::due(life, now) == Some(true),
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
            )
        })
        .collect();
    counts
        .save_with(conn, counting!("enqueue_insert"), &rows)
        .await
}

/// Adds to the lines' ready counts, and answers with their ids.
async fn lines<'a>(
    conn: &mut SqliteConnection,
    ready: &BTreeMap<(&'a str, Option<&'a str>), u64>,
) -> Result<HashMap<(&'a str, Option<&'a str>), i64>> {
    let rows: Vec<_> = ready.iter().map(|((q, t), n)| (q, t, n)).collect();
    let rows = sqlx::query(include_str!("../queries/enqueue_lines.sql"))
        .bind(json(&rows))
        .fetch_all(conn)
        .await
        .map_err(failed)?;
    let mut ids: HashMap<(String, Option<String>), i64> = HashMap::with_capacity(rows.len());
    for row in &rows {
        let queue = row.try_get("queue").map_err(failed)?;
        let tenant = row.try_get("tenant").map_err(failed)?;
        ids.insert((queue, tenant), row.try_get("id").map_err(failed)?);
    }
    Ok(ready
        .keys()
        .map(|line| {
            let (queue, tenant) = line;
            let stored = ((*queue).to_owned(), tenant.map(str::to_owned));
            (*line, ids[&stored])
        })
        .collect())
}
