//! A batch of documents on its way through the specification: loaded by one statement, judged one by one,
//! saved by one statement.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use kbqueue_core::document::{Attempt, MAX_ATTEMPTS};
use kbqueue_core::error::chain;
use kbqueue_core::event::DocumentChange;
use kbqueue_core::lifecycle::{Generation, Lifecycle};
use kbqueue_core::state::{Event, Refusal, Transition, transition};
use kbqueue_core::store::Result;
use kbqueue_core::{Document, DocumentId, Notice, QueueName, State, StoreError};
use serde::Deserialize;
use serde::ser::{Serialize, SerializeTuple, Serializer};
use serde_json::value::RawValue;
use sqlx::SqliteConnection;

use crate::codec::{self, Held, Rest};
use crate::error::{failed, malformed};
use crate::outbox;

/// The text of a statement with `?1`, if one is named, and of those that count; together, so that they
/// cross to the driver's thread once.
macro_rules! counting {
    ($($name:literal)?) => {
        concat!(
            $(include_str!(concat!("../queries/", $name, ".sql")),)?
            include_str!("../queries/count_queues.sql"),
            include_str!("../queries/count_lines.sql"),
        )
    };
}

/// One document of the batch.
#[derive(Debug)]
pub(crate) struct Member {
    /// As it was loaded; its `life` is how it was before.
    pub(crate) held: Held,
    /// How it is now.
    pub(crate) life: Lifecycle,
    attempt: Option<Attempt>,
    changed: bool,
}

/// Documents that change together.
#[derive(Debug)]
pub(crate) struct Batch {
    now: Timestamp,
    members: Vec<Member>,
    by_id: HashMap<DocumentId, usize>,
    /// Whether anybody may want to hear of what happens.
    heard: bool,
}

impl Batch {
    pub(crate) fn new(documents: impl IntoIterator<Item = Held>, now: Timestamp) -> Self {
        let members: Vec<Member> = documents
            .into_iter()
            .map(|held| Member {
                life: held.life.clone(),
                held,
                attempt: None,
                changed: false,
            })
            .collect();
        let by_id = members
            .iter()
            .enumerate()
            .map(|(index, member)| (member.held.id, index))
            .collect();
        Self {
            now,
            members,
            by_id,
            heard: true,
        }
    }

    /// Loads the documents of these ids; those that are not there, or cannot be read, are left out.
    pub(crate) async fn load(
        conn: &mut SqliteConnection,
        ids: impl Iterator<Item = DocumentId>,
        now: Timestamp,
    ) -> Result<Self> {
        let ids: std::collections::BTreeSet<DocumentId> = ids.collect();
        let (rows, heard): (String, bool) = sqlx::query_as(include_str!("../queries/load.sql"))
            .bind(json(&ids))
            .fetch_one(conn)
            .await
            .map_err(failed)?;
        let rows: Vec<&RawValue> = array("documents", &rows)?;
        let documents = readable(rows.iter().map(|row| row.get()), codec::held);
        Ok(Self {
            heard,
            ..Self::new(documents, now)
        })
    }

    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(crate) fn get(&self, id: DocumentId) -> Option<&Member> {
        self.by_id.get(&id).map(|index| &self.members[*index])
    }

    /// Lets `event` happen to a document; `None` where it is not in the batch. Answers whether it did
    /// happen now, or had happened before.
    pub(crate) fn apply(
        &mut self,
        id: DocumentId,
        event: &Event,
    ) -> Option<std::result::Result<bool, Refusal>> {
        let member = &mut self.members[*self.by_id.get(&id)?];
        Some(match transition(&member.life, event, self.now) {
            Ok(Transition::To(next)) => {
                let ended = Attempt::ended(&member.life, event, &next, self.now);
                member.attempt = ended.or(member.attempt.take());
                member.life = *next;
                member.changed = true;
                Ok(true)
            }
            Ok(Transition::Repeated) => Ok(false),
            Err(refusal) => Err(refusal),
        })
    }

    /// Writes what changed: documents, dedupe keys, what purge has to remove, counts. `turns` are the new
    /// turns of lines. Answers with what to tell subscribers after the commit.
    pub(crate) async fn save(
        self,
        conn: &mut SqliteConnection,
        turns: &HashMap<i64, i64>,
    ) -> Result<Vec<Notice>> {
        let changed: Vec<&Member> = self.members.iter().filter(|m| m.changed).collect();
        if changed.is_empty() {
            return Ok(Vec::new());
        }
        let written: Vec<Written<'_>> = changed.iter().map(|m| Written(m, self.now)).collect();
        let mut counts = Counts::default();
        for member in &changed {
            counts.member(member, self.now);
        }
        for (line, turn) in turns {
            counts.lines.entry(*line).or_default().1 = *turn;
        }
        counts.save_with(conn, counting!("save"), &written).await?;
        forget_attempts(conn, &changed).await?;
        let keys: Vec<(i64, u8)> = changed.iter().filter_map(|m| m.key_change()).collect();
        run_for(conn, include_str!("../queries/save_keys.sql"), &keys).await?;
        let visible: Vec<_> = changed.iter().filter_map(|m| m.visible_change()).collect();
        run_for(conn, include_str!("../queries/save_visible.sql"), &visible).await?;
        let obsolete: Vec<_> = changed.iter().flat_map(|m| m.obsolete()).collect();
        run_for(
            conn,
            include_str!("../queries/save_obsolete.sql"),
            &obsolete,
        )
        .await?;
        let events: Vec<_> = changed.iter().filter_map(|m| m.event()).collect();
        if self.heard && !events.is_empty() {
            outbox::write_down(conn, &events, self.now).await?;
        }
        Ok(changed.iter().filter_map(|m| m.notice()).collect())
    }
}

/// Cuts histories back now and then, so that an ending attempt need not read them: they are never longer
/// than twice what is kept.
async fn forget_attempts(conn: &mut SqliteConnection, changed: &[&Member]) -> Result<()> {
    let is_full = |m: &&&Member| {
        m.attempt.is_some() && (m.life.attempt as usize).is_multiple_of(MAX_ATTEMPTS)
    };
    let full: Vec<i64> = changed.iter().filter(is_full).map(|m| m.held.key).collect();
    if full.is_empty() {
        return Ok(());
    }
    sqlx::query(include_str!("../queries/save_attempts.sql"))
        .bind(json(&full))
        .bind(i64::try_from(MAX_ATTEMPTS).unwrap_or(i64::MAX))
        .execute(conn)
        .await
        .map_err(failed)?;
    Ok(())
}

impl Member {
    /// Brings `document`, as it was loaded, to how it is now.
    pub(crate) fn show_in(&self, document: &mut Document) {
        if self.life.generation.pages != self.held.life.generation.pages {
            document.failed_pages.clear();
        }
        document.lifecycle = self.life.clone();
    }

    fn key_change(&self) -> Option<(i64, u8)> {
        let holds = codec::holds_key(&self.life, self.held.dedupe_key.as_deref());
        (holds != self.held.holds_key).then_some((self.held.key, u8::from(holds)))
    }

    /// What is to be seen of it, where that changes: in the order of `save_visible.sql`'s parameter.
    fn visible_change(&self) -> Option<(i64, Option<i64>, u32, u32, u32)> {
        let shown = |life: &Lifecycle| {
            let visible = life.visible();
            let deleted_at = life.deleted_at.map(Timestamp::as_microsecond);
            let pages = life.generation.pages;
            (
                self.held.key,
                deleted_at,
                pages,
                visible.pages,
                visible.chunks,
            )
        };
        let now = shown(&self.life);
        (now != shown(&self.held.life)).then_some(now)
    }

    /// What nobody can see any more: (document, kind, generation).
    fn obsolete(&self) -> Vec<(i64, &'static str, Option<u32>)> {
        let (before, after) = (&self.held.life, &self.life);
        let key = self.held.key;
        if after.deleted_at.is_some() {
            return vec![(key, "document", None)];
        }
        let kept = |life: &Lifecycle| [Some(life.generation), life.completed];
        if kept(before) == kept(after) {
            return Vec::new();
        }
        let gone = |part: fn(Generation) -> u32| {
            let mut gone: Vec<u32> = kept(before).into_iter().flatten().map(part).collect();
            gone.dedup();
            gone.retain(|number| {
                !kept(after)
                    .into_iter()
                    .flatten()
                    .any(|g| part(g) == *number)
            });
            gone
        };
        let chunks = gone(|g| g.chunks)
            .into_iter()
            .map(|n| (key, "chunks", Some(n)));
        let pages = gone(|g| g.pages)
            .into_iter()
            .map(|n| (key, "pages", Some(n)));
        chunks.chain(pages).collect()
    }

    fn event(&self) -> Option<outbox::Event<'_>> {
        let kind = kbqueue_core::outbox::event(&self.held.life, &self.life)?;
        Some(outbox::Event {
            queue: &self.held.queue,
            document: self.held.id,
            after: &self.life,
            kind,
        })
    }

    /// What subscribers hear; nothing of a mere renewal, which changes nothing that they see.
    fn notice(&self) -> Option<Notice> {
        let (before, after) = (&self.held.life, &self.life);
        (before.version != after.version || before.cursor != after.cursor)
            .then(|| Notice::Document(change(self.held.id, &self.held.queue, after)))
    }
}

/// The notice of a document that is now like this.
pub(crate) fn change(id: DocumentId, queue: &QueueName, life: &Lifecycle) -> DocumentChange {
    DocumentChange {
        id,
        queue: queue.clone(),
        state: life.state,
        version: life.version,
        progress: life.progress,
        cancel_requested: life.cancel_requested_at.is_some(),
        deleted: life.deleted_at.is_some(),
    }
}

/// Differences of what is counted, to be saved together.
#[derive(Debug, Default)]
pub(crate) struct Counts<'a> {
    queues: BTreeMap<&'a str, [i64; State::ALL.len()]>,
    /// Ready documents, and the new turn or 0.
    lines: BTreeMap<i64, (i64, i64)>,
}

impl<'a> Counts<'a> {
    /// Counts `by` documents more in a state.
    pub(crate) fn state(&mut self, queue: &'a QueueName, state: State, by: i64) {
        let place = State::ALL.iter().position(|s| *s == state);
        self.queues.entry(queue.as_str()).or_default()
            [place.expect("all states are in State::ALL")] += by;
    }

    /// Counts `by` claimable documents more in a line.
    pub(crate) fn ready(&mut self, line: i64, by: i64) {
        self.lines.entry(line).or_default().0 += by;
    }

    fn member(&mut self, member: &'a Member, now: Timestamp) {
        let held = &member.held;
        for (life, by) in [(&held.life, -1), (&member.life, 1)] {
            if life.deleted_at.is_none() {
                self.state(&held.queue, life.state, by);
            }
        }
        let ready = codec::due(&member.life, now) == Some(true);
        self.ready(held.line, i64::from(ready) - i64::from(held.ready));
    }

    /// What is not zero, in the order of `count_queues.sql`'s parameter.
    pub(crate) fn queues(&self) -> Vec<(&'a str, [i64; State::ALL.len()])> {
        let queues = self.queues.iter().map(|(name, by)| (*name, *by));
        queues
            .filter(|(_, by)| by.iter().any(|by| *by != 0))
            .collect()
    }

    /// Writes what is not zero.
    pub(crate) async fn save(self, conn: &mut SqliteConnection) -> Result<()> {
        self.save_with(conn, counting!(), &[(); 0]).await
    }

    /// Runs `sql`, made by [`counting`], with the JSON array of `rows`, and writes what is not zero.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] where not as many rows changed as were given: roll back.
    pub(crate) async fn save_with<T: Serialize>(
        self,
        conn: &mut SqliteConnection,
        sql: &'static str,
        rows: &[T],
    ) -> Result<()> {
        let queues = self.queues();
        let lines: Vec<_> = self
            .lines
            .into_iter()
            .filter(|(_, change)| *change != (0, 0))
            .map(|(line, (ready, turn))| (line, ready, turn))
            .collect();
        let changed = sqlx::query(sql)
            .bind(json(rows))
            .bind(json(&queues))
            .bind(json(&lines))
            .execute(conn)
            .await
            .map_err(failed)?
            .rows_affected();
        let given = rows.len() + queues.len() + lines.len();
        if changed != given as u64 {
            return Err(StoreError::Unusable(format!(
                "{changed} of {given} rows were as they had been read in the same transaction"
            )));
        }
        Ok(())
    }
}

/// Runs a statement whose one parameter is a JSON array, unless that is empty.
pub(crate) async fn run_for<T: Serialize>(
    conn: &mut SqliteConnection,
    sql: &'static str,
    rows: &[T],
) -> Result<()> {
    if !rows.is_empty() {
        sqlx::query(sql)
            .bind(json(rows))
            .execute(conn)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data is JSON")
}

/// A JSON array that SQL made of `what`.
pub(crate) fn array<'a, T: Deserialize<'a>>(what: &str, json: &'a str) -> Result<Vec<T>> {
    serde_json::from_str(json).map_err(|error| malformed(what, error))
}

/// Decodes rows and leaves out those that cannot be read, so that one does not stop the others.
pub(crate) fn readable<'a, T>(
    rows: impl Iterator<Item = &'a str>,
    decode: impl Fn(&str) -> Result<T>,
) -> Vec<T> {
    let report = |error: StoreError| {
        tracing::error!(error = chain(&error), "a row was left out");
    };
    rows.filter_map(|row| decode(row).map_err(report).ok())
        .collect()
}

/// A document in the shape of `save.sql`'s parameter.
struct Written<'a>(&'a Member, Timestamp);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let Self(Member { held, life, .. }, now) = self;
        let before = &held.life;
        let was = before.lease.as_ref().map(|lease| lease.id);
        let mut row = serializer.serialize_tuple(10)?;
        row.serialize_element(&(held.key, before.version, before.state, was))?;
        row.serialize_element(&life.state)?;
        row.serialize_element(&codec::due(life, *now).map(u8::from))?;
        row.serialize_element(&codec::audience(life.fingerprint.as_deref()))?;
        row.serialize_element(&life.available_at.as_microsecond())?;
        row.serialize_element(&life.lease.as_ref().map(|lease| lease.id))?;
        let expires_at = life.lease.as_ref().map(|lease| lease.expires_at);
        row.serialize_element(&expires_at.map(Timestamp::as_microsecond))?;
        row.serialize_element(&life.version)?;
        row.serialize_element(&Rest::of(life))?;
        row.serialize_element(&self.0.attempt)?;
        row.end()
    }
}
