//! Comforts, written once for every store.

use async_trait::async_trait;
use futures::stream::{self, StreamExt};

use crate::document::{Document, DocumentId, NewDocument};
use crate::error::StoreError;
use crate::event::Notice;
use crate::output::Chunk;
use crate::store::{Control, DocumentQuery, Enqueued, OutputQuery, Result, Store};

/// Of how many documents the same is asked at once: stores commit what comes together together.
const CONTROLS_AT_ONCE: usize = 32;

/// What can be said in terms of [`Store`], for every store.
#[async_trait]
pub trait StoreExt: Store {
    /// Takes one document in.
    async fn enqueue_one(&self, document: NewDocument) -> Result<Enqueued> {
        let answers = self.enqueue(vec![document]).await?;
        Ok(*answers.first().expect("a store answers for each document"))
    }

    /// One document that has to be there.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn find(&self, id: DocumentId) -> Result<Document> {
        self.document(id).await?.ok_or(StoreError::NotFound(id))
    }

    /// Asks the same of many documents, and answers of how many it became so. Those that are not there,
    /// or whose state forbids it, are passed over.
    async fn control_each(&self, ids: Vec<DocumentId>, control: Control) -> Result<u64> {
        let asked = ids.into_iter().map(|id| self.control(id, control.clone()));
        let mut answers = stream::iter(asked).buffer_unordered(CONTROLS_AT_ONCE);
        let mut affected = 0;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(_) => affected += 1,
                Err(
                    StoreError::NotFound(_)
                    | StoreError::Refused { .. }
                    | StoreError::Superseded { .. },
                ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(affected)
    }

    /// As [`control_each`](Self::control_each), of all documents that `query` finds, whatever its limit,
    /// a batch at a time. Those enqueued meanwhile may be among them or not.
    async fn control_all(&self, mut query: DocumentQuery, control: Control) -> Result<u64> {
        query.limit = 200;
        let mut affected = 0;
        loop {
            let (more, next) = self.control_page(query.clone(), control.clone()).await?;
            affected += more;
            query.after = next;
            if next.is_none() {
                return Ok(affected);
            }
        }
    }

    /// As [`control_each`](Self::control_each), of the documents that `query` finds, its limit included.
    /// Answers also with `after` of a query for the rest; `None` where there is no more.
    async fn control_page(
        &self,
        query: DocumentQuery,
        control: Control,
    ) -> Result<(u64, Option<DocumentId>)> {
        let limit = query.limit as usize;
        let found = self.documents(query).await?;
        let ids: Vec<DocumentId> = found.iter().map(|document| document.id).collect();
        let last = ids.last().copied().filter(|_| ids.len() == limit);
        Ok((self.control_each(ids, control).await?, last))
    }

    /// Waits until a document is completed, failed or cancelled.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], also where it is deleted meanwhile.
    async fn wait_finished(&self, id: DocumentId) -> Result<Document> {
        // Subscribed before the first look, so that nothing can happen unseen between the two.
        let mut notices = self.subscribe().await?;
        loop {
            match notices.next().await {
                Notice::Document(change) if change.id != id => {}
                Notice::Queue(_) => {}
                Notice::Document(_) | Notice::Resync => {
                    let document = self.find(id).await?;
                    if document.lifecycle.state.is_terminal() {
                        return Ok(document);
                    }
                }
            }
        }
    }

    /// All chunks that readers see, in memory at once.
    async fn all_chunks(&self, document: DocumentId) -> Result<Vec<Chunk>> {
        const AT_ONCE: u32 = 500;
        let mut chunks: Vec<Chunk> = Vec::new();
        loop {
            let after = chunks.last().map(|c| c.ordinal);
            let more = self
                .chunks(OutputQuery {
                    after,
                    ..OutputQuery::new(document, AT_ONCE)
                })
                .await?;
            let last = more.len() < AT_ONCE as usize;
            chunks.extend(more);
            if last {
                return Ok(chunks);
            }
        }
    }
}

impl<S: Store + ?Sized> StoreExt for S {}
