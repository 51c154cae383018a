//! Documents of one queue on their way through the specification: read by one script, judged one by one,
//! written by one script that compares what was read.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use kbqueue_core::document::Attempt;
use kbqueue_core::lifecycle::Lifecycle;
use kbqueue_core::state::{Event, Refusal, Transition, transition};
use kbqueue_core::store::Result;
use kbqueue_core::{Document, DocumentId, QueueName, StoreError};

use crate::codec::{self, Held, History, Row, readable};
use crate::commit::{Command, Commit};
use crate::error::unavailable;
use crate::schema::{self, MOST_ARGUMENTS};
use crate::script;
use crate::store::RedisStore;

/// How often a change is tried again that others overtook. Each time at least one of them got through, so
/// only a fault comes this far.
pub(crate) const TRIES: usize = 1000;

/// A document as far as the specification goes, and what is known of it; `None` where that cannot be read.
pub(crate) type Known = (Held, Option<History>);

/// One document of the batch.
#[derive(Debug)]
pub(crate) struct Member {
    /// As it was read; its `life` is how it was before.
    pub(crate) held: Held,
    /// How it is now.
    pub(crate) life: Lifecycle,
    /// Its priority now.
    pub(crate) priority: i16,
    /// What is known of it; `None` where that cannot be read, and then it stays as it is.
    history: Option<History>,
    changed: bool,
    remembered: bool,
}

impl Member {
    /// Changes what is known of it.
    pub(crate) fn remember(&mut self, note: impl FnOnce(&mut History)) {
        if let Some(history) = &mut self.history {
            note(history);
            self.remembered = true;
        }
    }

    /// Brings `document`, as it was read, to how it is now.
    pub(crate) fn show_in(&self, document: &mut Document) {
        if let Some(history) = &self.history {
            document.failed_pages.clone_from(&history.failed_pages);
            document.attempts.clone_from(&history.attempts);
            document.properties.clone_from(&history.properties);
        }
        document.lifecycle = self.life.clone();
    }
}

/// Documents of one queue that change together.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) queue: &'a QueueName,
    pub(crate) now: Timestamp,
    members: Vec<Member>,
    by_id: HashMap<DocumentId, usize>,
    beside: Vec<(Command, String, Vec<Vec<u8>>)>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(
        queue: &'a QueueName,
        now: Timestamp,
        documents: impl IntoIterator<Item = Known>,
    ) -> Self {
        let members: Vec<Member> = documents
            .into_iter()
            .map(|(held, history)| Member {
                life: held.life.clone(),
                priority: held.priority,
                held,
                history,
                changed: false,
                remembered: false,
            })
            .collect();
        let by_id = members
            .iter()
            .enumerate()
            .map(|(index, member)| (member.held.id, index))
            .collect();
        Self {
            queue,
            now,
            members,
            by_id,
            beside: Vec::new(),
        }
    }

    /// Of these rows; those that are not there, or cannot be read, are left out.
    pub(crate) fn of(queue: &'a QueueName, now: Timestamp, rows: &[Row]) -> Self {
        let documents = readable(rows.iter().map(Row::held)).into_iter();
        let histories: HashMap<_, _> = rows.iter().map(|row| (row.id, row)).collect();
        let with_history = documents.map(|held| {
            let history = histories[&held.id].history.as_deref();
            let history = codec::history(held.id, history);
            // A history that cannot be read must not keep its document from ending.
            (held, history.inspect_err(codec::report).ok())
        });
        Self::new(queue, now, with_history)
    }

    pub(crate) fn get(&self, id: DocumentId) -> Option<&Member> {
        self.by_id.get(&id).map(|index| &self.members[*index])
    }

    pub(crate) fn get_mut(&mut self, id: DocumentId) -> Option<&mut Member> {
        self.by_id.get(&id).map(|index| &mut self.members[*index])
    }

    /// Lets `event` happen to a document; `None` where it is not in the batch. Answers whether it did
    /// happen now, or had happened before.
    pub(crate) fn apply(
        &mut self,
        id: DocumentId,
        event: &Event,
    ) -> Option<std::result::Result<bool, Refusal>> {
        let now = self.now;
        let member = self.get_mut(id)?;
        Some(match transition(&member.life, event, now) {
            Ok(Transition::To(next)) => {
                let ended = Attempt::ended(&member.life, event, &next, now);
                if let Some(ended) = ended {
                    member.remember(|history| ended.remember_in(&mut history.attempts));
                }
                if next.generation.pages != member.life.generation.pages {
                    member.remember(|history| history.failed_pages.clear());
                }
                member.life = *next;
                member.changed = true;
                Ok(true)
            }
            Ok(Transition::Repeated) => Ok(false),
            Err(refusal) => Err(refusal),
        })
    }

    /// Writes something beside the documents, together with them.
    pub(crate) fn write(&mut self, command: Command, key: String, arguments: Vec<Vec<u8>>) {
        self.beside.push((command, key, arguments));
    }

    /// Writes the changes so far, and remembers how it left what is under lease. `false` where something is
    /// no longer as it was read.
    pub(crate) async fn write_to(self, store: &RedisStore) -> Result<bool> {
        self.write_with(store, |_| {}).await
    }

    /// The same, after `more` was added to the commit.
    pub(crate) async fn write_with(
        self,
        store: &RedisStore,
        more: impl FnOnce(&mut Commit<'_>),
    ) -> Result<bool> {
        let queue = self.queue;
        let leased = self.members.iter();
        let leased = leased.filter(|member| member.changed && member.life.lease.is_some());
        let mut leased: Vec<Known> = leased
            .map(|member| {
                let held = Held {
                    life: member.life.clone(),
                    priority: member.priority,
                    ..member.held.clone()
                };
                (held, member.history.clone())
            })
            .collect();
        let mut commit = self.commit();
        more(&mut commit);
        for (held, _) in &mut leased {
            held.token = commit.token().clone();
        }
        let written = commit.run(store).await?;
        if written {
            store.places().remember(leased, queue);
        }
        Ok(written)
    }

    fn commit(self) -> Commit<'a> {
        let mut commit = Commit::new(self.queue, self.now);
        for member in self.members.iter().filter(|member| member.changed) {
            commit.update(&member.held, &member.life, member.priority);
            if let Some(history) = member.history.as_ref().filter(|_| member.remembered) {
                commit.history(member.held.id, history);
            }
        }
        for (command, key, arguments) in self.beside {
            commit.write(command, key, arguments);
        }
        commit
    }
}

/// Reads documents of a queue, with their fixed parts where `whole`.
pub(crate) async fn load(
    store: &RedisStore,
    queue: &QueueName,
    ids: &[DocumentId],
    whole: bool,
) -> Result<(Timestamp, Vec<Row>)> {
    type Part = Vec<Option<Vec<u8>>>;
    let base = store.keys().base(queue);
    let mut now = None;
    let mut rows = Vec::with_capacity(ids.len());
    for some in ids.chunks(MOST_ARGUMENTS) {
        let mut arguments = vec![store.now(), u8::from(whole).to_string()];
        arguments.extend(some.iter().map(|id| schema::id(*id)));
        let (at, lives, histories, fixed): (String, Part, Part, Part) = script::LOAD
            .run(store.connection(), &base, &arguments)
            .await?;
        // The first: later than when anything was read it must not be.
        now.get_or_insert(codec::now(&at)?);
        let mut fixed = fixed.into_iter();
        for ((id, life), history) in some.iter().zip(lives).zip(histories) {
            rows.push(Row {
                id: *id,
                life,
                history,
                fixed: fixed.next().flatten(),
            });
        }
    }
    let now = now.ok_or_else(|| unavailable("nothing was asked for"))?;
    Ok((now, rows))
}

/// Has documents of a queue judged as this process left them, or else as they are read now, and writes what
/// changed; all over again where others were faster.
pub(crate) async fn change<T>(
    store: &RedisStore,
    queue: &QueueName,
    ids: &[DocumentId],
    mut judge: impl FnMut(&mut Batch<'_>) -> T,
) -> Result<T> {
    let distinct: BTreeSet<DocumentId> = ids.iter().copied().collect();
    let ids: Vec<DocumentId> = distinct.into_iter().collect();
    if let Some(left) = store.places().recall(&ids) {
        let mut batch = Batch::new(queue, store.clock_of(queue).await?, left);
        let answer = judge(&mut batch);
        // Only what the commit compares is true now: a refusal needs a look.
        if batch.members.iter().all(|member| member.changed) && batch.write_to(store).await? {
            return Ok(answer);
        }
    }
    for _ in 0..TRIES {
        let (now, rows) = load(store, queue, &ids, false).await?;
        let mut batch = Batch::of(queue, now, &rows);
        let answer = judge(&mut batch);
        if batch.write_to(store).await? {
            return Ok(answer);
        }
    }
    Err(contended())
}

pub(crate) fn contended() -> StoreError {
    unavailable("others were faster each time")
}
