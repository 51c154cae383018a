//! A processor whose documents have no pages, so that what is left is the queue.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use kbqueue_core::extract::ExtractRequest;
use kbqueue_core::{
    BlobRef, BlobStore, DocumentId, ExtractError, Extraction, Extractor, Processor,
    ProcessorOptions, Properties, Store,
};
use tokio::sync::mpsc;

/// Says which document it was given, and has nothing to say about it.
pub(crate) struct Noop(pub(crate) mpsc::UnboundedSender<DocumentId>);

#[async_trait]
impl Extractor for Noop {
    fn fingerprint(&self) -> String {
        "noop/1".to_owned()
    }

    async fn extract(&self, request: ExtractRequest) -> Result<Extraction, ExtractError> {
        // A bench that ended no longer listens.
        let _ = self.0.send(request.document);
        Ok(Extraction {
            total_pages: 0,
            properties: Properties::default(),
            pages: futures::stream::empty().boxed(),
        })
    }
}

/// A processor of `slots` documents at once, the documents that it starts, and a blob for them.
pub(crate) async fn processor(
    store: Arc<dyn Store>,
    directory: &Path,
    slots: usize,
) -> (Processor, mpsc::UnboundedReceiver<DocumentId>, BlobRef) {
    let blobs = BlobStore::connect(&format!("file:{}", directory.join("blobs").display()));
    let blobs = blobs.expect("there is room");
    let blob = blobs.put("%PDF-".into()).await.expect("there is room");
    let (started, starts) = mpsc::unbounded_channel();
    let mut options = ProcessorOptions::default();
    options.concurrency = slots;
    options.batch_size = slots;
    (
        Processor::new(store, blobs, Arc::new(Noop(started)), options),
        starts,
        blob,
    )
}
