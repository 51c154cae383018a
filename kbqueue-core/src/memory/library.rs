//! Reading across documents: by looking at everything.

use async_trait::async_trait;

use super::MemoryStore;
use crate::document::DocumentId;
use crate::library::{FoundImage, Hit, ImageQuery, Library, Listing, Position, SearchQuery, words};
use crate::store::Result;

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Library for MemoryStore {
    async fn all_images(&self, query: ImageQuery) -> Result<Listing<FoundImage>> {
        let tables = self.lock();
        let wanted = tables.newest(None).filter(|record| {
            let document = &record.document;
            document.queue == query.queue && query.wants_document(document.id, document.created_at)
        });
        let images = wanted.flat_map(|record| {
            let document = record.document.id;
            let seen = record.life().visible().pages;
            let images = record.images.range((seen, 0)..=(seen, u32::MAX));
            images.map(move |(_, image)| (document, image))
        });
        let images = images.filter(|(document, image)| {
            is_behind((*document, image.ordinal), query.after) && query.wants_image(image)
        });
        let found = images.map(|(document, image)| FoundImage {
            document,
            image: image.clone(),
        });
        Ok(Listing::first(found, query.limit, FoundImage::position))
    }

    async fn search(&self, query: SearchQuery) -> Result<Listing<Hit>> {
        let wanted = words(&query.text);
        let tables = self.lock();
        let records = tables.newest(None);
        let records = records.filter(|record| record.document.queue == query.queue);
        let chunks = records.flat_map(|record| {
            let document: DocumentId = record.document.id;
            let seen = record.life().visible().chunks;
            let chunks = record.chunks.range((seen, 0)..=(seen, u32::MAX));
            chunks.map(move |(_, chunk)| (document, chunk))
        });
        let chunks =
            chunks.filter(|(document, chunk)| is_behind((*document, chunk.ordinal), query.after));
        let hits = chunks.filter_map(|(document, chunk)| Hit::find(document, chunk, &wanted));
        Ok(Listing::first(hits, query.limit, Hit::position))
    }
}

/// Whether one position comes after another: newest document first, then by ordinal.
fn is_behind((document, ordinal): Position, after: Option<Position>) -> bool {
    after.is_none_or(|(last, passed)| document < last || document == last && ordinal > passed)
}
