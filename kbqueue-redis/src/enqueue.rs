//! Documents come in: a look, their entries in the directory, then one commit for each queue.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::future::{try_join, try_join_all};
use jiff::Timestamp;
use kbqueue_core::lifecycle::Lifecycle;
use kbqueue_core::schedule::Firing;
use kbqueue_core::store::{Enqueued, Result};
use kbqueue_core::{DocumentId, NewDocument, QueueName, State, StoreError};
use redis::Cmd;

use crate::batch::{TRIES, contended, load};
use crate::codec::{self, Fixed, Held, Token};
use crate::commit::Commit;
use crate::places;
use crate::schedule::Tick;
use crate::schema;
use crate::script;
use crate::settings::{Admission, RawSettings};
use crate::store::RedisStore;

/// Takes documents in. Answers in their order.
///
/// All of one queue are taken in at once or not at all; queues follow each other.
pub(crate) async fn enqueue(
    store: &RedisStore,
    documents: &[NewDocument],
) -> Result<Vec<Enqueued>> {
    let enqueued = enqueue_with(store, documents, None).await?;
    Ok(enqueued.unwrap_or_default())
}

/// Takes the documents of a tick in, in the commit that sets the next one; `None` where the tick is not due
/// or was fired by somebody else.
pub(crate) async fn fire(store: &RedisStore, firing: &Firing) -> Result<Option<Vec<Enqueued>>> {
    if let Some(other) = firing
        .documents
        .iter()
        .find(|new| new.queue != firing.queue)
    {
        return Err(StoreError::Unusable(format!(
            "a schedule of queue {} cannot enqueue document {} in queue {}",
            firing.queue, other.id, other.queue
        )));
    }
    enqueue_with(store, &firing.documents, Some(firing)).await
}

/// `None` where there is a tick to go with it that is not to be fired.
async fn enqueue_with(
    store: &RedisStore,
    documents: &[NewDocument],
    firing: Option<&Firing>,
) -> Result<Option<Vec<Enqueued>>> {
    let keys: Vec<Option<String>> = documents.iter().map(NewDocument::dedupe_key).collect();
    let mut made: Vec<bool> = vec![false; documents.len()];
    for round in 0..TRIES {
        let tick = match firing {
            Some(firing) => match Tick::look(store, firing).await? {
                Some(tick) => Some((&firing.queue, tick)),
                None => return Ok(None),
            },
            None if documents.is_empty() => return Ok(Some(Vec::new())),
            None => None,
        };
        // Documents with keys may turn out not to be made, so they are looked for before they are entered.
        let unseen = if round == 0 && !keys.is_empty() && keys.iter().all(Option::is_none) {
            Known::enter_unseen(store, documents).await?
        } else {
            None
        };
        let mut known = match unseen {
            Some(known) => known,
            None => Known::look(store, documents, &keys).await?,
        };
        if let Some((queue, _)) = &tick
            && !known.admissions.contains_key(queue)
        {
            let admission = Admission::look(store, queue).await?;
            known.admissions.insert((*queue).clone(), admission);
        }
        let mut answers = Vec::with_capacity(documents.len());
        let mut new: BTreeMap<&QueueName, Vec<usize>> = BTreeMap::new();
        for (index, (document, key)) in documents.iter().zip(&keys).enumerate() {
            let found = known.find(document, key.as_deref());
            let (id, state) = found.unwrap_or((document.id, State::Queued));
            // What an earlier round of this call made is found by now.
            let created = found.is_none() || made[index];
            if found.is_none() {
                known.add(document, key.as_deref());
                new.entry(&document.queue).or_default().push(index);
            }
            answers.push(Enqueued { id, state, created });
        }
        if let Some((queue, _)) = tick {
            // Its next tick is set even where nothing is made.
            new.entry(queue).or_default();
        }
        if new.is_empty() {
            return Ok(Some(answers));
        }
        for (queue, indices) in &new {
            if let Err(error) = known.admissions[*queue].admit(queue, indices.len()) {
                if known.entered || round > 0 {
                    let refused = new.values().flatten().map(|index| &documents[*index]);
                    forget(store, refused).await?;
                }
                return Err(error);
            }
        }
        if !known.entered && !known.enter(store, documents, &new).await? {
            continue;
        }
        let mut done = true;
        for (queue, indices) in new {
            let admission = &known.admissions[queue];
            let now = admission.now;
            let mut commit = Commit::new(queue, now);
            admission.hold(&mut commit);
            if let Some((_, tick)) = &tick {
                tick.write(&mut commit);
            }
            for index in &indices {
                let (document, key) = (&documents[*index], keys[*index].as_ref());
                commit.insert(&first(document, key, now), &Fixed::of(document, now));
            }
            if commit.run(store).await? {
                for index in indices {
                    made[index] = true;
                }
            } else {
                done = false;
            }
        }
        if done {
            return Ok(Some(answers));
        }
    }
    Err(contended())
}

/// Takes documents that are refused out of the directory again: whoever fills a queue up must not fill that.
async fn forget(store: &RedisStore, refused: impl Iterator<Item = &NewDocument>) -> Result<()> {
    let forgets = refused.map(async |document| {
        let entry = store.keys().directory(document.id);
        script::FORGET
            .run::<u8>(store.connection(), &entry, &[document.queue.as_str()])
            .await
    });
    try_join_all(forgets).await.map(drop)
}

fn first(document: &NewDocument, key: Option<&String>, now: Timestamp) -> Held {
    Held {
        id: document.id,
        token: Token::random(),
        tenant: document.tenant.clone(),
        priority: document.priority,
        dedupe_key: key.cloned(),
        life: Lifecycle::new(document.available_at.unwrap_or(now)),
    }
}

/// Documents that answer for new ones, those of the same batch included.
#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<DocumentId, State>,
    by_key: HashMap<(QueueName, String), (DocumentId, State)>,
    /// In which queue the directory says that a document is.
    directory: HashMap<DocumentId, QueueName>,
    /// Whether all of them are in the directory.
    entered: bool,
    admissions: HashMap<QueueName, Admission>,
}

impl Known {
    /// Takes it that nobody knows any of them, and enters them into the directory; `None` where that is not so
    /// by what the directory says. The commit compares.
    async fn enter_unseen(store: &RedisStore, documents: &[NewDocument]) -> Result<Option<Self>> {
        let queues: BTreeSet<&QueueName> = documents.iter().map(|d| &d.queue).collect();
        let looks = queues.iter().map(|queue| Admission::look(store, queue));
        let entered = enter_all(store, documents, &queues);
        let (admissions, entered) = try_join(try_join_all(looks), entered).await?;
        Ok(entered.then(|| Self {
            entered,
            admissions: queues.into_iter().cloned().zip(admissions).collect(),
            ..Self::default()
        }))
    }

    async fn look(
        store: &RedisStore,
        documents: &[NewDocument],
        keys: &[Option<String>],
    ) -> Result<Self> {
        let mut queues: BTreeMap<&QueueName, Vec<usize>> = BTreeMap::new();
        for (index, document) in documents.iter().enumerate() {
            queues.entry(&document.queue).or_default().push(index);
        }
        let ids: Vec<DocumentId> = documents.iter().map(|document| document.id).collect();
        let looks = queues.iter().map(|(queue, indices)| {
            let asked: Vec<_> = indices
                .iter()
                .map(|index| (ids[*index], keys[*index].as_deref()))
                .collect();
            look_in(store, queue, asked)
        });
        let (found, directory) =
            try_join(try_join_all(looks), places::directory(store, &ids)).await?;
        let mut known = Self {
            directory,
            ..Self::default()
        };
        for (queue, part) in queues.keys().zip(found) {
            known.admissions.insert((*queue).clone(), part.admission);
            known.by_id.extend(part.by_id);
            for (key, holder) in part.by_key {
                known.by_key.insert(((*queue).clone(), key), holder);
            }
        }
        known.look_elsewhere(store, documents).await?;
        Ok(known)
    }

    /// Looks for ids where they are in another queue than they are now enqueued in.
    async fn look_elsewhere(
        &mut self,
        store: &RedisStore,
        documents: &[NewDocument],
    ) -> Result<()> {
        let mut elsewhere: BTreeMap<&QueueName, Vec<DocumentId>> = BTreeMap::new();
        for document in documents {
            match self.directory.get(&document.id) {
                Some(queue) if *queue != document.queue => {
                    elsewhere.entry(queue).or_default().push(document.id);
                }
                _ => {}
            }
        }
        let looks = elsewhere
            .iter()
            .map(|(queue, ids)| load(store, queue, ids, false));
        for (_, rows) in try_join_all(looks).await? {
            for row in rows {
                if let Some(held) = row.held()? {
                    self.by_id.insert(held.id, held.life.state);
                }
            }
        }
        Ok(())
    }

    fn find(&self, document: &NewDocument, key: Option<&str>) -> Option<(DocumentId, State)> {
        if let Some(state) = self.by_id.get(&document.id) {
            return Some((document.id, *state));
        }
        let key = (document.queue.clone(), key?.to_owned());
        self.by_key.get(&key).copied()
    }

    fn add(&mut self, document: &NewDocument, key: Option<&str>) {
        self.by_id.insert(document.id, State::Queued);
        if let Some(key) = key {
            let key = (document.queue.clone(), key.to_owned());
            self.by_key.insert(key, (document.id, State::Queued));
        }
    }

    /// Enters new documents into the directory, before they are there. `false` where somebody else entered
    /// one of them meanwhile.
    async fn enter(
        &self,
        store: &RedisStore,
        documents: &[NewDocument],
        new: &BTreeMap<&QueueName, Vec<usize>>,
    ) -> Result<bool> {
        // The queues themselves each time, so that a server that lost them has them again.
        let mut list = redis::cmd("SADD");
        list.arg(store.keys().queues());
        let mut entries: Vec<Cmd> = Vec::new();
        for (queue, indices) in new {
            list.arg(queue.as_str());
            for index in indices {
                let id = documents[*index].id;
                let mut entry = redis::cmd("SET");
                entry.arg(store.keys().directory(id)).arg(queue.as_str());
                match self.directory.get(&id) {
                    Some(entered) if entered == *queue => continue,
                    // Of an enqueue that came no further, or of one that is purged.
                    Some(_) => {}
                    None => {
                        entry.arg("NX");
                    }
                }
                entries.push(entry);
            }
        }
        entries.push(list);
        let mut entered: Vec<redis::Value> = store.connection().call_all(&entries).await?;
        entered.pop();
        Ok(entered.iter().all(|answer| *answer != redis::Value::Nil))
    }
}

/// Enters documents into the directory where none of them is in it; `false` where some are.
async fn enter_all(
    store: &RedisStore,
    documents: &[NewDocument],
    queues: &BTreeSet<&QueueName>,
) -> Result<bool> {
    let mut list = redis::cmd("SADD");
    list.arg(store.keys().queues());
    for queue in queues {
        list.arg(queue.as_str());
    }
    let mut first: BTreeMap<DocumentId, &QueueName> = BTreeMap::new();
    for document in documents {
        first.entry(document.id).or_insert(&document.queue);
    }
    let entries = first
        .into_iter()
        .map(|(id, queue)| (store.keys().directory(id), queue.as_str()))
        .collect::<Vec<_>>();
    store.connection().set_new(&entries, list).await
}

/// What one queue knows.
struct Part {
    admission: Admission,
    by_id: Vec<(DocumentId, State)>,
    by_key: Vec<(String, (DocumentId, State))>,
}

async fn look_in(
    store: &RedisStore,
    queue: &QueueName,
    asked: Vec<(DocumentId, Option<&str>)>,
) -> Result<Part> {
    type Lives = Vec<Option<Vec<u8>>>;
    let mut arguments = vec![store.now(), asked.len().to_string()];
    arguments.extend(asked.iter().map(|(id, _)| schema::id(*id)));
    let keys = asked.iter().map(|(_, key)| *key);
    if keys.clone().any(|key| key.is_some()) {
        arguments.extend(keys.map(|key| key.unwrap_or_default().to_owned()));
    }
    type Answer = (
        String,
        u64,
        RawSettings,
        Option<String>,
        Lives,
        Vec<Option<String>>,
        Lives,
    );
    let (now, queued, settings, admitted, lives, holders, theirs): Answer = script::ENQUEUE
        .run(store.connection(), &store.keys().base(queue), &arguments)
        .await?;
    let mut part = Part {
        admission: Admission::decode(queue, (now, queued, settings, admitted))?,
        by_id: Vec::new(),
        by_key: Vec::new(),
    };
    for ((id, _), life) in asked.iter().zip(lives) {
        if let Some(life) = life {
            part.by_id.push((*id, codec::held(*id, &life)?.life.state));
        }
    }
    for ((_, key), (holder, theirs)) in asked.into_iter().zip(holders.into_iter().zip(theirs)) {
        if let (Some(key), Some(holder), Some(theirs)) = (key, holder, theirs) {
            let holder = codec::id(&holder)?;
            let state = codec::held(holder, &theirs)?.life.state;
            part.by_key.push((key.to_owned(), (holder, state)));
        }
    }
    Ok(part)
}
