//! A batch of documents on its way through the specification: loaded by one statement, judged one by one,
//! saved by one statement.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use kbqueue_core::document::{Attempt, MAX_ATTEMPTS};
use kbqueue_core::error::chain;
use kbqueue_core::event::DocumentChange;
use kbqueue_core::lifecycle::{Generation, Lifecycle};
use kbqueue_core::outbox::{self, Delivery, Endpoint, EndpointId};
use kbqueue_core::state::{Event, Refusal, Transition, transition};
use kbqueue_core::store::Result;
use kbqueue_core::{Document, DocumentId, Notice, QueueName, State, StoreError};
use serde::Serialize;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::codec::{self, Held, Rest};
use crate::session::{Session, now_of};
use crate::sql::Statement;
use crate::text;

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
        }
    }

    /// Locks and loads the documents of these ids; those that are not there, or cannot be read, are left
    /// out.
    pub(crate) async fn load(
        session: &mut Session<'_>,
        ids: impl Iterator<Item = DocumentId>,
    ) -> Result<Self> {
        let ids: BTreeSet<Uuid> = ids.map(|id| id.0).collect();
        let query = session
            .query(|sql| &sql.load)
            .bind(ids.into_iter().collect::<Vec<_>>())
            .bind(session.now);
        let rows = session.all(query).await?;
        Ok(Self::new(readable(&rows, codec::held), now_of(&rows)?))
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

    /// Writes what changed: documents, dedupe keys, what purge has to remove, counts, and the message to other
    /// processes. Answers with what to tell subscribers after the commit.
    pub(crate) async fn save(self, session: &mut Session<'_>) -> Result<Vec<Notice>> {
        self.save_with(session, Turns::default()).await
    }

    /// As [`save`](Self::save), with the turns of the lines that a claim served.
    pub(crate) async fn save_with(
        self,
        session: &mut Session<'_>,
        turns: Turns,
    ) -> Result<Vec<Notice>> {
        let changed: Vec<&Member> = self.members.iter().filter(|m| m.changed).collect();
        if changed.is_empty() {
            return Ok(Vec::new());
        }
        save_keys(session, &changed).await?;
        save_obsolete(session, &changed).await?;
        let mut counts = Counts::default();
        let mut notices = Vec::with_capacity(changed.len());
        for member in &changed {
            for (life, by) in [(&member.held.life, -1), (&member.life, 1)] {
                if life.deleted_at.is_none() {
                    counts.count(&member.held.queue, life.state, by);
                }
            }
            notices.extend(member.notice());
        }
        let query = Written::of(&changed, self.now).bind(session.query(|sql| &sql.save));
        let query = turns.bind(counts.bind(query));
        let query = query
            .bind(session.sender.channel())
            .bind(session.sender.message(&notices))
            .bind(i32::try_from(MAX_ATTEMPTS).unwrap_or(i32::MAX));
        let query = Happened::of(&changed, self.now).bind(query);
        session.one(query).await?;
        Ok(notices)
    }
}

async fn save_keys(session: &mut Session<'_>, changed: &[&Member]) -> Result<()> {
    let ids = |holds: bool| -> Vec<Uuid> {
        let moved = changed.iter().filter(|member| {
            let (before, after) = (&member.held.life, &member.life);
            codec::holds_key(before) != holds && codec::holds_key(after) == holds
        });
        moved.map(|member| member.held.id.0).collect()
    };
    let (free, take) = (ids(false), ids(true));
    if !free.is_empty() {
        let query = session.query(|sql| &sql.keys_free).bind(free);
        session.run(query).await?;
    }
    if !take.is_empty() {
        let query = session.query(|sql| &sql.keys_take).bind(take);
        session.run(query).await?;
    }
    Ok(())
}

async fn save_obsolete(session: &mut Session<'_>, changed: &[&Member]) -> Result<()> {
    let (mut documents, mut whats, mut generations) = (Vec::new(), Vec::new(), Vec::new());
    for member in changed {
        for (what, generation) in member.obsolete() {
            documents.push(member.held.id.0);
            whats.push(what);
            generations.push(generation.map(i64::from));
        }
    }
    if !documents.is_empty() {
        let query = session
            .query(|sql| &sql.save_obsolete)
            .bind(documents)
            .bind(whats)
            .bind(generations);
        session.run(query).await?;
    }
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

    /// What nobody can see any more: its kind and generation.
    fn obsolete(&self) -> Vec<(&'static str, Option<u32>)> {
        let (before, after) = (&self.held.life, &self.life);
        if after.deleted_at.is_some() {
            return vec![("document", None)];
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
        let chunks = gone(|g| g.chunks).into_iter().map(|n| ("chunks", Some(n)));
        let pages = gone(|g| g.pages).into_iter().map(|n| ("pages", Some(n)));
        chunks.chain(pages).collect()
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

/// Differences of counts.
#[derive(Debug, Default)]
struct Counts(BTreeMap<QueueName, [i64; State::ALL.len()]>);

impl Counts {
    /// Counts `by` documents more in a state.
    fn count(&mut self, queue: &QueueName, state: State, by: i64) {
        let place = State::ALL.iter().position(|s| *s == state);
        let place = place.expect("all states are in State::ALL");
        match self.0.get_mut(queue) {
            Some(counts) => counts[place] += by,
            None => {
                let mut counts = [0; State::ALL.len()];
                counts[place] = by;
                self.0.insert(queue.clone(), counts);
            }
        }
    }

    fn bind(mut self, query: Statement<'_>) -> Statement<'_> {
        self.0.retain(|_, counts| counts.iter().any(|by| *by != 0));
        let queues: Vec<String> = self
            .0
            .keys()
            .map(|queue| queue.as_str().to_owned())
            .collect();
        let mut query = query.bind(queues);
        for place in 0..State::ALL.len() {
            let by: Vec<i64> = self.0.values().map(|counts| counts[place]).collect();
            query = query.bind(by);
        }
        query
    }
}

/// The lines that a claim served, in the shape of `save.sql`'s parameters.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    pub(crate) queues: Vec<String>,
    pub(crate) lines: Vec<String>,
    /// The place in the deal of the last document that the line was dealt.
    pub(crate) places: Vec<i64>,
    /// The turn that the line had before.
    pub(crate) before: Vec<Option<i64>>,
}

impl Turns {
    fn bind(self, query: Statement<'_>) -> Statement<'_> {
        query
            .bind(self.queues)
            .bind(self.lines)
            .bind(self.places)
            .bind(self.before)
    }
}

/// What endpoints may want to hear, in the shape of `save.sql`'s parameters.
#[derive(Default)]
struct Happened {
    queues: Vec<String>,
    documents: Vec<Uuid>,
    versions: Vec<i64>,
    kinds: Vec<&'static str>,
    data: Vec<String>,
    at: i64,
}

impl Happened {
    fn of(members: &[&Member], now: Timestamp) -> Self {
        let mut happened = Self {
            at: now.as_microsecond(),
            ..Self::default()
        };
        for member in members {
            let Some(kind) = outbox::event(&member.held.life, &member.life) else {
                continue;
            };
            // What is written down is the same for each endpoint.
            let anybody = Endpoint {
                id: EndpointId(Uuid::nil()),
                queue: member.held.queue.clone(),
                url: String::new(),
                secret: Vec::new(),
                events: Vec::new(),
                disabled: None,
            };
            let delivery = Delivery::new(&anybody, member.held.id, &member.life, kind, now);
            happened.queues.push(anybody.queue.as_str().to_owned());
            happened.documents.push(delivery.document.0);
            happened.versions.push(int(delivery.version));
            happened.kinds.push(kind.as_str());
            happened.data.push(json(&delivery.data));
        }
        happened
    }

    fn bind(self, query: Statement<'_>) -> Statement<'_> {
        query
            .bind(self.queues)
            .bind(self.documents)
            .bind(self.versions)
            .bind(self.kinds)
            .bind(self.data)
            .bind(self.at)
    }
}

pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data is JSON")
}

/// Numbers up to `u64` where PostgreSQL has `i64`. None that we write is near the end.
pub(crate) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Decodes rows and leaves out those that cannot be read, so that one does not stop the others.
pub(crate) fn readable<'r, T>(
    rows: impl IntoIterator<Item = &'r PgRow>,
    decode: fn(&PgRow) -> Result<T>,
) -> Vec<T> {
    let report = |error: StoreError| {
        tracing::error!(error = chain(&error), "a row was left out");
    };
    rows.into_iter()
        .filter_map(|row| decode(row).map_err(report).ok())
        .collect()
}

/// Documents in the shape of `save.sql`'s parameters.
#[derive(Default)]
struct Written {
    ids: Vec<Uuid>,
    old_versions: Vec<i64>,
    old_leases: Vec<Option<Uuid>>,
    states: Vec<&'static str>,
    dues: Vec<Option<i16>>,
    audiences: Vec<String>,
    available: Vec<i64>,
    leases: Vec<Option<Uuid>>,
    expiries: Vec<Option<i64>>,
    versions: Vec<i64>,
    deleted: Vec<Option<i64>>,
    generations: Vec<i64>,
    visible_pages: Vec<i64>,
    visible_chunks: Vec<i64>,
    lifecycles: Vec<String>,
    attempts: Vec<Option<String>>,
}

impl Written {
    fn of(members: &[&Member], now: Timestamp) -> Self {
        let mut written = Self::default();
        for member in members {
            let Member { held, life, .. } = member;
            let lease = |life: &Lifecycle| life.lease.as_ref().map(|lease| lease.id.0);
            let expires_at = life.lease.as_ref().map(|lease| lease.expires_at);
            let visible = life.visible();
            written.ids.push(held.id.0);
            written.old_versions.push(int(held.life.version));
            written.old_leases.push(lease(&held.life));
            written.states.push(life.state.as_str());
            written.dues.push(codec::due(life, now).map(i16::from));
            written
                .audiences
                .push(text::audience(life.fingerprint.as_deref()));
            written.available.push(life.available_at.as_microsecond());
            written.leases.push(lease(life));
            written
                .expiries
                .push(expires_at.map(Timestamp::as_microsecond));
            written.versions.push(int(life.version));
            written
                .deleted
                .push(life.deleted_at.map(Timestamp::as_microsecond));
            written.generations.push(life.generation.pages.into());
            written.visible_pages.push(visible.pages.into());
            written.visible_chunks.push(visible.chunks.into());
            written.lifecycles.push(json(&Rest::of(life)));
            written.attempts.push(member.attempt.as_ref().map(json));
        }
        written
    }

    fn bind(self, query: Statement<'_>) -> Statement<'_> {
        query
            .bind(self.ids)
            .bind(self.old_versions)
            .bind(self.old_leases)
            .bind(self.states)
            .bind(self.dues)
            .bind(self.audiences)
            .bind(self.available)
            .bind(self.leases)
            .bind(self.expiries)
            .bind(self.versions)
            .bind(self.deleted)
            .bind(self.generations)
            .bind(self.visible_pages)
            .bind(self.visible_chunks)
            .bind(self.lifecycles)
            .bind(self.attempts)
    }
}
