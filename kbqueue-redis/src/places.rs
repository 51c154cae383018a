//! In which queue a document is: the directory has one entry for each, in a slot of its own, written before
//! the document is.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures::future::try_join_all;
use kbqueue_core::store::Result;
use kbqueue_core::{DocumentId, QueueName};

use crate::batch::{Known, load};
use crate::error::{failed, malformed};
use crate::store::RedisStore;

/// How many documents are remembered. More are not under lease at a time, or else the server is asked.
const REMEMBERED: usize = 20_000;

/// Where documents are that this process claimed, and how it left them: its own writes need not ask.
///
/// A document never moves. One that was purged, and enqueued elsewhere under the same id, has another lease,
/// so what is remembered here never makes a stale lease good. How it was left counts only as far as a
/// commit finds the same token there.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<HashMap<DocumentId, Place>>);

#[derive(Debug)]
struct Place {
    queue: QueueName,
    left: Option<Known>,
}

impl Places {
    pub(crate) fn remember(&self, documents: Vec<Known>, queue: &QueueName) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= REMEMBERED {
            places.clear();
        }
        for known in documents {
            let id = known.0.id;
            let (queue, left) = (queue.clone(), Some(known));
            places.insert(id, Place { queue, left });
        }
    }

    /// How all of these were left, and forgets it; `None` where it is not known of all.
    pub(crate) fn recall(&self, ids: &[DocumentId]) -> Option<Vec<Known>> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.iter()
            .map(|id| places.get_mut(id)?.left.take())
            .collect()
    }

    pub(crate) fn forget(&self, ids: impl Iterator<Item = DocumentId>) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            places.remove(&id);
        }
    }

    /// The known ones, and those that are not.
    fn split(&self, ids: &[DocumentId]) -> (HashMap<DocumentId, QueueName>, Vec<DocumentId>) {
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = HashMap::with_capacity(ids.len());
        let mut unknown = Vec::new();
        for id in ids {
            match places.get(id) {
                Some(place) => drop(known.insert(*id, place.queue.clone())),
                None => unknown.push(*id),
            }
        }
        (known, unknown)
    }
}

/// Where documents are on which somebody says to have a lease; those that are nowhere are left out.
pub(crate) async fn of_leased(
    store: &RedisStore,
    ids: &[DocumentId],
) -> Result<HashMap<DocumentId, QueueName>> {
    let (mut places, unknown) = store.places().split(ids);
    places.extend(find(store, &unknown).await?);
    Ok(places)
}

/// Where documents are; those that are nowhere are left out.
///
/// One that the directory does not know is looked for in every queue: its entry was on another node of the
/// cluster, and a failover there can have lost it. Then it is entered again.
pub(crate) async fn find(
    store: &RedisStore,
    ids: &[DocumentId],
) -> Result<HashMap<DocumentId, QueueName>> {
    let mut places = directory(store, ids).await?;
    let missing: Vec<DocumentId> = ids
        .iter()
        .copied()
        .filter(|id| !places.contains_key(id))
        .collect();
    if missing.is_empty() {
        return Ok(places);
    }
    let queues = store.queues().await?;
    let looks = queues
        .iter()
        .map(|queue| load(store, queue, &missing, false));
    let mut entries = Vec::new();
    for (queue, (_, rows)) in queues.iter().zip(try_join_all(looks).await?) {
        for row in rows {
            // A deleted one is about to be purged, and was taken out on purpose.
            let held = row.held()?.filter(|held| held.life.deleted_at.is_none());
            if let Some(held) = held {
                let mut entry = redis::cmd("SET");
                entry
                    .arg(store.keys().directory(held.id))
                    .arg(queue.as_str())
                    .arg("NX");
                entries.push(entry);
                places.insert(held.id, queue.clone());
            }
        }
    }
    let _: Vec<redis::Value> = store.connection().call_all(&entries).await?;
    Ok(places)
}

/// What the directory says; those that it does not know are left out.
pub(crate) async fn directory(
    store: &RedisStore,
    ids: &[DocumentId],
) -> Result<HashMap<DocumentId, QueueName>> {
    let mut places = HashMap::with_capacity(ids.len());
    if ids.is_empty() {
        return Ok(places);
    }
    let mut look = redis::cmd("MGET");
    for id in ids {
        look.arg(store.keys().directory(*id));
    }
    let found: Vec<Option<String>> = store.connection().call(&look).await.map_err(failed)?;
    for (id, queue) in ids.iter().zip(found) {
        if let Some(queue) = queue {
            let queue = QueueName::new(queue)
                .map_err(|error| malformed(format!("the queue of document {id}"), error))?;
            places.insert(*id, queue);
        }
    }
    Ok(places)
}
