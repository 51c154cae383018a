//! What anybody can look up.

use std::cmp::Reverse;

use futures::future::try_join_all;
use kbqueue_core::queue::StateCounts;
use kbqueue_core::store::{DocumentQuery, OutputQuery, Result};
use kbqueue_core::{Document, DocumentId, QueueName, QueueStats, State};
use serde::de::DeserializeOwned;

use crate::batch::load;
use crate::codec::{self, Row};
use crate::error::malformed;
use crate::places;
use crate::schema::{self, MOST_ARGUMENTS};
use crate::script;
use crate::settings::{RawSettings, Settings};
use crate::store::RedisStore;

pub(crate) async fn document(store: &RedisStore, id: DocumentId) -> Result<Option<Document>> {
    let Some(queue) = places::find(store, &[id]).await?.remove(&id) else {
        return Ok(None);
    };
    let (_, rows) = load(store, &queue, &[id], true).await?;
    let found = rows.first().map(|row| row.document(&queue)).transpose()?;
    let found = found.flatten().map(|(_, document)| document);
    Ok(found.filter(|document| document.lifecycle.deleted_at.is_none()))
}

pub(crate) async fn documents(store: &RedisStore, query: &DocumentQuery) -> Result<Vec<Document>> {
    let queues = match &query.queue {
        Some(queue) => vec![queue.clone()],
        None => store.queues().await?,
    };
    let pages = queues.iter().map(|queue| of_queue(store, queue, query));
    let mut documents: Vec<Document> = try_join_all(pages).await?.into_iter().flatten().collect();
    documents.sort_by_key(|document| Reverse(document.id));
    documents.truncate(query.limit as usize);
    Ok(documents)
}

/// The newest documents of a queue that are wanted. Which names and tenants these have is found out by
/// reading them.
async fn of_queue(
    store: &RedisStore,
    queue: &QueueName,
    query: &DocumentQuery,
) -> Result<Vec<Document>> {
    let filtered = query.tenant.is_some() || query.name.is_some();
    let wanted = |document: &Document| {
        let (tenant, name) = (query.tenant.as_ref(), query.name.as_ref());
        tenant.is_none_or(|tenant| document.tenant.as_ref() == Some(tenant))
            && name.is_none_or(|name| document.filename.starts_with(name))
    };
    let limit = query.limit as usize;
    let most = if filtered { MOST_ARGUMENTS } else { limit };
    let mut after = query.after;
    let mut found = Vec::new();
    loop {
        let rows = page(store, queue, query.state, after, most).await?;
        let ended = rows.len() < most;
        after = rows.last().map(|row| row.id).or(after);
        let documents = rows.into_iter().map(|row| row.document(queue));
        let documents = codec::readable(documents).into_iter();
        found.extend(documents.map(|(_, document)| document).filter(&wanted));
        if ended || !filtered || found.len() >= limit {
            found.truncate(limit);
            return Ok(found);
        }
    }
}

/// At most so many documents of a queue, newest id first, from the one before `after` on.
async fn page(
    store: &RedisStore,
    queue: &QueueName,
    state: Option<State>,
    after: Option<DocumentId>,
    most: usize,
) -> Result<Vec<Row>> {
    type Part = Vec<Option<Vec<u8>>>;
    let mut arguments = vec![after.map(schema::id).unwrap_or_default(), most.to_string()];
    let states = State::ALL.into_iter();
    let states = states.filter(|one| state.is_none_or(|wanted| wanted == *one));
    arguments.extend(states.map(|state| state.as_str().to_owned()));
    let (ids, lives, histories, fixed): (Vec<String>, Part, Part, Part) = script::DOCUMENTS
        .run(store.connection(), &store.keys().base(queue), &arguments)
        .await?;
    let rows = ids
        .iter()
        .zip(lives.into_iter().zip(histories.into_iter().zip(fixed)));
    let rows = rows.map(|(id, (life, (history, fixed)))| {
        Ok(Row {
            id: codec::id(id)?,
            life,
            history,
            fixed,
        })
    });
    rows.collect()
}

/// Outputs of one kind: `pages`, `chunks` or `images`.
pub(crate) async fn outputs<T: DeserializeOwned>(
    store: &RedisStore,
    kind: &str,
    query: &OutputQuery,
) -> Result<Vec<T>> {
    let id = query.document;
    let Some(queue) = places::find(store, &[id]).await?.remove(&id) else {
        return Ok(Vec::new());
    };
    let number = |n: Option<u32>| n.map(|n| n.to_string());
    let arguments = [
        schema::id(id),
        kind.to_owned(),
        number(query.generation).unwrap_or_default(),
        // Below every number and ordinal.
        number(query.after).unwrap_or_else(|| "-1".to_owned()),
        query.limit.to_string(),
    ];
    let outputs: Vec<Vec<u8>> = script::OUTPUTS
        .run(store.connection(), &store.keys().base(&queue), &arguments)
        .await?;
    let decode = |json: &Vec<u8>| {
        serde_json::from_slice(json)
            .map_err(|error| malformed(format!("an output of document {id}"), error))
    };
    outputs.iter().map(decode).collect()
}

pub(crate) async fn stats(store: &RedisStore, queue: &QueueName) -> Result<QueueStats> {
    let base = store.keys().base(queue);
    let (settings, counts, live_workers): (RawSettings, [u64; 5], u64) = script::STATS
        .run(store.connection(), &base, &[store.now()])
        .await?;
    let [queued, processing, completed, failed, cancelled] = counts;
    Ok(QueueStats {
        counts: StateCounts {
            queued,
            processing,
            completed,
            failed,
            cancelled,
        },
        settings: Settings::decode(queue, settings)?.settings,
        live_workers,
    })
}
