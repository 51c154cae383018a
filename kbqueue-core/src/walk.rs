//! Reading across documents where a store keeps no index for it: document by document, until enough was
//! found or as much was looked at as one call may cost.

use async_trait::async_trait;

use crate::document::{Document, DocumentId};
use crate::library::{FoundImage, Hit, ImageQuery, Listing, Position, SearchQuery, words};
use crate::output::{Chunk, Image};
use crate::queue::QueueName;
use crate::store::{DocumentQuery, OutputQuery, Result, Store};

/// How many documents a call looks at, besides the one in which the last call stopped.
const DOCUMENTS: u32 = 100;
/// How many outputs are read at once.
const OUTPUTS: u32 = 200;
/// Behind so many outputs a call reads no more of them.
const ENOUGH_OUTPUTS: usize = 2000;
/// The ordinal of a position behind all of a document's outputs.
const WHOLE: u32 = u32::MAX;

pub(crate) async fn all_images<S: Store + ?Sized>(
    store: &S,
    query: ImageQuery,
) -> Result<Listing<FoundImage>> {
    let place = Place {
        queue: &query.queue,
        document: query.document,
        after: query.after,
        limit: query.limit,
    };
    let wants = |document: &Document| query.wants_document(document.id, document.created_at);
    let find = |document, image| {
        let found = FoundImage { document, image };
        query.wants_image(&found.image).then_some(found)
    };
    walk(store, place, wants, find).await
}

pub(crate) async fn search<S: Store + ?Sized>(
    store: &S,
    query: SearchQuery,
) -> Result<Listing<Hit>> {
    let wanted = words(&query.text);
    let place = Place {
        queue: &query.queue,
        document: None,
        after: query.after,
        limit: if wanted.is_empty() { 0 } else { query.limit },
    };
    let find = |document, chunk: Chunk| Hit::find(document, &chunk, &wanted);
    walk(store, place, |_| true, find).await
}

/// Where to look, and for how many.
struct Place<'a> {
    queue: &'a QueueName,
    document: Option<DocumentId>,
    after: Option<Position>,
    limit: u32,
}

/// What documents have many of, by ordinal.
#[async_trait]
trait Output: Sized {
    async fn read<S: Store + ?Sized>(store: &S, query: OutputQuery) -> Result<Vec<Self>>;
    fn ordinal(&self) -> u32;
}

#[async_trait]
impl Output for Image {
    async fn read<S: Store + ?Sized>(store: &S, query: OutputQuery) -> Result<Vec<Self>> {
        store.images(query).await
    }

    fn ordinal(&self) -> u32 {
        self.ordinal
    }
}

#[async_trait]
impl Output for Chunk {
    async fn read<S: Store + ?Sized>(store: &S, query: OutputQuery) -> Result<Vec<Self>> {
        store.chunks(query).await
    }

    fn ordinal(&self) -> u32 {
        self.ordinal
    }
}

async fn walk<S: Store + ?Sized, O: Output, T>(
    store: &S,
    place: Place<'_>,
    wants: impl Fn(&Document) -> bool,
    find: impl Fn(DocumentId, O) -> Option<T>,
) -> Result<Listing<T>> {
    let (mut items, mut read) = (Vec::new(), 0);
    if place.limit == 0 {
        return Ok(Listing { items, next: None });
    }
    let (documents, mut next) = documents(store, &place).await?;
    for document in documents {
        let id = document.id;
        let mut after = place.after.filter(|(last, _)| *last == id);
        while document.queue == *place.queue && wants(&document) {
            let query = OutputQuery {
                after: after.map(|(_, ordinal)| ordinal),
                ..OutputQuery::new(id, OUTPUTS)
            };
            let outputs = O::read(store, query).await?;
            let are_all = outputs.len() < OUTPUTS as usize;
            read += outputs.len();
            for output in outputs {
                after = Some((id, output.ordinal()));
                items.extend(find(id, output));
                if items.len() == place.limit as usize {
                    return Ok(Listing { items, next: after });
                }
            }
            if are_all {
                break;
            }
            if read >= ENOUGH_OUTPUTS {
                return Ok(Listing { items, next: after });
            }
        }
        if read >= ENOUGH_OUTPUTS {
            next = Some((id, WHOLE));
            break;
        }
    }
    Ok(Listing { items, next })
}

/// The documents to look at, newest first, and where to go on behind all of them.
async fn documents<S: Store + ?Sized>(
    store: &S,
    place: &Place<'_>,
) -> Result<(Vec<Document>, Option<Position>)> {
    if let Some(id) = place.document {
        let is_left = place
            .after
            .is_none_or(|(last, passed)| id < last || id == last && passed < WHOLE);
        let document = if is_left {
            store.document(id).await?
        } else {
            None
        };
        return Ok((document.into_iter().collect(), None));
    }
    let mut documents = Vec::new();
    if let Some((id, passed)) = place.after
        && passed < WHOLE
    {
        documents.extend(store.document(id).await?);
    }
    let older = store.documents(DocumentQuery {
        queue: Some(place.queue.clone()),
        after: place.after.map(|(id, _)| id),
        limit: DOCUMENTS,
        ..DocumentQuery::default()
    });
    let older = older.await?;
    let last = older.last().filter(|_| older.len() == DOCUMENTS as usize);
    let next = last.map(|document| (document.id, WHOLE));
    documents.extend(older);
    Ok((documents, next))
}
