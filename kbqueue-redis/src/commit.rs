//! The parameters of `commit.lua`: what has to be as it was read, and what is then written.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kbqueue_core::event::DocumentChange;
use kbqueue_core::lifecycle::{Generation, Lifecycle};
use kbqueue_core::store::Result;
use kbqueue_core::{DocumentId, Notice, QueueName, State};

use crate::codec::{self, Held, History, Token};
use crate::delivery;
use crate::schema::{self, MOST_ARGUMENTS};
use crate::script;
use crate::settings::Settings;
use crate::store::RedisStore;

/// Commands, those first that take something away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Command {
    Hdel,
    Srem,
    Zrem,
    Hset,
    Rpush,
    Sadd,
    Zadd,
}

impl Command {
    fn as_str(self) -> &'static str {
        match self {
            Self::Hdel => "HDEL",
            Self::Srem => "SREM",
            Self::Zrem => "ZREM",
            Self::Hset => "HSET",
            Self::Rpush => "RPUSH",
            Self::Sadd => "SADD",
            Self::Zadd => "ZADD",
        }
    }
}

/// Changes of one queue that are written together or not at all.
#[derive(Debug)]
pub(crate) struct Commit<'a> {
    queue: &'a QueueName,
    now: Timestamp,
    token: Token,
    /// By hash: fields, and what their values have to begin with.
    expected: BTreeMap<Cow<'static, str>, Vec<(String, String)>>,
    writes: BTreeMap<(Command, Cow<'static, str>), Vec<Vec<u8>>>,
    counts: [i64; State::ALL.len()],
    /// Lines whose ready documents change, by audience.
    lines: BTreeMap<(String, String), Option<u64>>,
    changes: Vec<DocumentChange>,
    queue_changes: bool,
    /// Kind, key and value.
    events: Vec<[Vec<u8>; 3]>,
    /// Endpoint and document.
    heads: BTreeSet<(String, String)>,
}

impl<'a> Commit<'a> {
    pub(crate) fn new(queue: &'a QueueName, now: Timestamp) -> Self {
        Self {
            queue,
            now,
            token: Token::random(),
            expected: BTreeMap::new(),
            writes: BTreeMap::new(),
            counts: [0; State::ALL.len()],
            lines: BTreeMap::new(),
            changes: Vec::new(),
            queue_changes: false,
            events: Vec::new(),
            heads: BTreeSet::new(),
        }
    }

    /// What every document of it has from then on.
    pub(crate) fn token(&self) -> &Token {
        &self.token
    }

    /// Writes only if the value of `field` begins with `value`, or is not there where that is empty.
    pub(crate) fn expect(
        &mut self,
        hash: impl Into<Cow<'static, str>>,
        field: String,
        value: String,
    ) {
        let expected = self.expected.entry(hash.into()).or_default();
        expected.push((field, value));
    }

    /// Adds arguments to the one command of this kind on a key.
    pub(crate) fn write(
        &mut self,
        command: Command,
        key: impl Into<Cow<'static, str>>,
        arguments: impl IntoIterator<Item = Vec<u8>>,
    ) {
        let all = self.writes.entry((command, key.into())).or_default();
        all.extend(arguments);
    }

    /// Writes only if the settings of the queue are those that were read, and it is not paused; keeps its
    /// bucket. Where they limit claims, whoever else looked at them until now does not get through.
    pub(crate) fn claim_under(&mut self, read: &Settings) {
        self.expect("settings", "token".to_owned(), read.token.clone());
        self.expect("settings", "paused".to_owned(), String::new());
        if read.settings.limits_claims() {
            let token = self.token.as_str().into();
            self.write(Command::Hset, "settings", [b"token".into(), token]);
            if let Some(full_at) = read.full_at {
                let full_at = codec::us(full_at);
                self.write(Command::Hset, "settings", [b"full_at".into(), full_at]);
            }
        }
    }

    /// Tells subscribers that the queue itself changed.
    pub(crate) fn tell_queue(&mut self) {
        self.queue_changes = true;
    }

    /// Looks again which delivery to an endpoint is a document's first.
    pub(crate) fn head(&mut self, endpoint: String, document: String) {
        self.heads.insert((endpoint, document));
    }

    /// Gives a line its turn.
    pub(crate) fn turn(&mut self, tenant: Option<&str>, turn: u64) {
        let line = (schema::EVERYBODY.to_owned(), schema::line(tenant));
        self.lines.insert(line, Some(turn));
    }

    /// Enters a new document.
    pub(crate) fn insert(&mut self, held: &Held, fixed: &codec::Fixed<'_>) {
        let id = schema::id(held.id);
        self.expect("lives", id.clone(), String::new());
        let life = codec::encode_life(&self.token, held, &held.life, held.priority);
        self.write(Command::Hset, "lives", [id.clone().into(), life]);
        self.write(Command::Hset, "documents", [id.into(), codec::json(fixed)]);
        self.place(held, None, Some((&held.life, held.priority)));
        self.changes.push(change(held.id, self.queue, &held.life));
    }

    /// Changes a document from how it was read.
    pub(crate) fn update(&mut self, held: &Held, life: &Lifecycle, priority: i16) {
        let id = schema::id(held.id);
        self.expect("lives", id.clone(), held.token.as_str().to_owned());
        let value = codec::encode_life(&self.token, held, life, priority);
        self.write(Command::Hset, "lives", [id.into(), value]);
        self.place(held, Some(&held.life), Some((life, priority)));
        self.obsolete(held.id, &held.life, life);
        if let Some(kind) = kbqueue_core::outbox::event(&held.life, life) {
            let event = delivery::event(&self.token, self.queue, (held.id, life), kind, self.now);
            self.events.push(event);
        }
        // Nothing is told of a mere renewal, which changes nothing that anybody shows.
        if held.life.version != life.version || held.life.cursor != life.cursor {
            self.changes.push(change(held.id, self.queue, life));
        }
    }

    pub(crate) fn history(&mut self, id: DocumentId, history: &History) {
        let value = codec::json(history);
        self.write(Command::Hset, "histories", [schema::id(id).into(), value]);
    }

    /// Moves a document in everything by which it is found and counted.
    fn place(&mut self, held: &Held, before: Option<&Lifecycle>, after: Option<(&Lifecycle, i16)>) {
        let (after, priority) = after.unzip();
        let id = schema::id(held.id);
        let shown = |life: Option<&Lifecycle>| {
            life.filter(|life| life.deleted_at.is_none())
                .map(|life| life.state)
        };
        let (from, to) = (shown(before), shown(after));
        if from != to {
            for (state, command, by) in [(from, Command::Zrem, -1), (to, Command::Zadd, 1)] {
                let Some(state) = state else { continue };
                let place = State::ALL.iter().position(|s| *s == state);
                self.counts[place.expect("all states are in State::ALL")] += by;
                if state == State::Processing {
                    // Found by their leases.
                    continue;
                }
                let key = match state {
                    State::Queued => "state:queued",
                    State::Processing => "state:processing",
                    State::Completed => "state:completed",
                    State::Failed => "state:failed",
                    State::Cancelled => "state:cancelled",
                };
                match command {
                    Command::Zadd => self.write(command, key, [b"0".into(), id.clone().into()]),
                    _ => self.write(command, key, [id.clone().into()]),
                }
            }
        }
        if let (Some(State::Queued), Some(life)) = (from, before) {
            // Only what is ready is claimed.
            self.remove_entry(held, life, to != Some(State::Processing));
        }
        if let (Some(State::Queued), Some(life), Some(priority)) = (to, after, priority) {
            self.add_entry(held, life, priority);
        }
        let expiry = |life: Option<&Lifecycle>| Some(life?.lease.as_ref()?.expires_at);
        match (expiry(before), expiry(after)) {
            (before, Some(at)) if before != Some(at) => {
                self.write(Command::Zadd, "leases", [codec::us(at), id.clone().into()]);
            }
            (Some(_), None) => self.write(Command::Zrem, "leases", [id.clone().into()]),
            _ => {}
        }
        let holds = |life: Option<&Lifecycle>| life.is_some_and(|life| held.holds_key(life));
        if let Some(key) = &held.dedupe_key {
            match (holds(before), holds(after)) {
                (true, false) => self.write(Command::Hdel, "keys", [key.clone().into()]),
                (false, true) => {
                    self.expect("keys", key.clone(), String::new());
                    self.write(Command::Hset, "keys", [key.clone().into(), id.into()]);
                }
                _ => {}
            }
        }
    }

    /// Takes a queued document out of wherever it may wait: when it fell due, and whether it was opened to
    /// everybody, only the sets themselves know.
    fn remove_entry(&mut self, held: &Held, life: &Lifecycle, may_wait: bool) {
        let line = schema::line(held.tenant.as_deref());
        let entry = schema::entry(held.priority, life.available_at, held.id, &line);
        let audience = schema::audience(life.fingerprint.as_deref());
        let mut remove = |key: String| self.write(Command::Zrem, key, [entry.clone().into()]);
        if may_wait {
            remove(format!("waiting:{audience}"));
        }
        remove(format!("ready:{audience}:{line}"));
        if audience != schema::EVERYBODY {
            remove(format!("reserved:{audience}"));
            remove(format!("ready:{}:{line}", schema::EVERYBODY));
            let everybody = (schema::EVERYBODY.to_owned(), line.clone());
            self.lines.entry(everybody).or_default();
        }
        self.lines.entry((audience, line)).or_default();
    }

    fn add_entry(&mut self, held: &Held, life: &Lifecycle, priority: i16) {
        let line = schema::line(held.tenant.as_deref());
        let entry = schema::entry(priority, life.available_at, held.id, &line);
        let audience = schema::audience(life.fingerprint.as_deref());
        let reserved = audience != schema::EVERYBODY;
        if reserved {
            self.write(Command::Sadd, "audiences", [audience.clone().into()]);
        }
        let scored = [codec::us(life.available_at), entry.clone().into()];
        if life.available_at > self.now {
            self.write(Command::Zadd, format!("waiting:{audience}"), scored);
            return;
        }
        if reserved {
            self.write(Command::Zadd, format!("reserved:{audience}"), scored);
        }
        let ready = format!("ready:{audience}:{line}");
        self.write(Command::Zadd, ready, [b"0".into(), entry.into()]);
        self.lines.entry((audience, line)).or_default();
    }

    /// Notes for `purge` what nobody can see any more.
    fn obsolete(&mut self, id: DocumentId, before: &Lifecycle, after: &Lifecycle) {
        let id = schema::id(id);
        if after.deleted_at.is_some() {
            let (own, seen) = (after.generation, after.visible());
            let entry = format!(
                "document {id} {} {} {} {}",
                own.pages, own.chunks, seen.pages, seen.chunks
            );
            return self.write(Command::Rpush, "obsolete", [entry.into()]);
        }
        let kept = |life: &Lifecycle| [Some(life.generation), life.completed];
        let gone = |part: fn(Generation) -> u32| {
            let numbers = |life| kept(life).into_iter().flatten().map(part);
            let mut gone: Vec<u32> = numbers(before).collect();
            gone.dedup();
            gone.retain(|number| !numbers(after).any(|kept| kept == *number));
            gone
        };
        for pages in gone(|g| g.pages) {
            let entry = format!("pages {id} {pages} 0");
            self.write(Command::Rpush, "obsolete", [entry.into()]);
        }
        for chunks in gone(|g| g.chunks) {
            let entry = format!("chunks {id} 0 {chunks}");
            self.write(Command::Rpush, "obsolete", [entry.into()]);
        }
    }

    /// Writes it all, and tells subscribers. `false` where something is no longer as it was read: then
    /// nothing is written.
    pub(crate) async fn run(self, store: &RedisStore) -> Result<bool> {
        if self.writes.is_empty() {
            return Ok(true);
        }
        let base = store.keys().base(self.queue);
        let arguments = self.arguments(store);
        let written: u8 = script::COMMIT
            .run(store.connection(), &base, &arguments)
            .await?;
        if written == 0 {
            return Ok(false);
        }
        store
            .wake()
            .tell(self.changes.into_iter().map(Notice::Document));
        let queue = self
            .queue_changes
            .then(|| Notice::Queue(self.queue.clone()));
        store.wake().tell(queue);
        Ok(true)
    }

    fn arguments(&self, store: &RedisStore) -> Vec<Vec<u8>> {
        let mut list = vec![self.token.as_str().into()];
        let number = |n: usize| n.to_string().into_bytes();
        // The lives come first: there the script sees that it ran before.
        let (lives, others): (Vec<_>, Vec<_>) =
            self.expected.iter().partition(|(hash, _)| *hash == "lives");
        let groups: Vec<_> = lives
            .into_iter()
            .chain(others)
            .flat_map(|(hash, all)| all.chunks(MOST_ARGUMENTS).map(move |some| (hash, some)))
            .collect();
        list.push(number(groups.len()));
        for (hash, some) in groups {
            list.push(format!(":{hash}").into());
            list.push(number(some.len()));
            list.extend(some.iter().map(|(field, _)| field.clone().into()));
            list.extend(some.iter().map(|(_, value)| value.clone().into()));
        }
        let counts: Vec<_> = State::ALL
            .into_iter()
            .zip(self.counts)
            .filter(|(_, by)| *by != 0)
            .collect();
        let writes: Vec<_> = self
            .writes
            .iter()
            .flat_map(|(what, all)| all.chunks(MOST_ARGUMENTS).map(move |some| (what, some)))
            .collect();
        list.push(number(writes.len() + counts.len()));
        for ((command, key), some) in writes {
            list.push(command.as_str().into());
            list.push(format!(":{key}").into());
            list.push(number(some.len()));
            list.extend_from_slice(some);
        }
        for (state, by) in counts {
            list.extend(["HINCRBY", ":counts", "2", state.as_str()].map(Vec::from));
            list.push(by.to_string().into());
        }
        list.push(number(self.lines.len()));
        for ((audience, line), turn) in &self.lines {
            list.push(audience.clone().into());
            list.push(line.clone().into());
            list.push(turn.map(|turn| turn.to_string()).unwrap_or_default().into());
        }
        list.push(number(self.events.len()));
        list.extend(self.events.iter().flatten().cloned());
        list.push(number(self.heads.len()));
        for (endpoint, document) in &self.heads {
            list.extend([endpoint, document].map(|id| id.clone().into()));
        }
        list.push(store.keys().channel().into());
        let queue = self.queue_changes.then_some(self.queue);
        list.push(store.wake().message(&self.changes, queue));
        list
    }
}

/// The notice of a document that is now like this.
fn change(id: DocumentId, queue: &QueueName, life: &Lifecycle) -> DocumentChange {
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
