//! The smallest program that embeds kbqueue: it processes the PDFs named on its command line, in a
//! database of its own, and prints their chunks.
//!
//! Run it with `cargo run -p kbqueue-embed -- FILE.pdf`. It prints, for each chunk, the page on which
//! it begins and its text, and ends. Started again, it finds the documents done.

use std::error::Error;
use std::sync::Arc;

use kbqueue::pdf::{PdfExtractor, PdfOptions, find_pdfium};
use kbqueue::{BlobStore, NewDocument, Processor, ProcessorOptions, QueueName, State, StoreExt};

fn main() -> Result<(), Box<dyn Error>> {
    kbqueue::pdf::init();
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let store = kbqueue::connect("sqlite:kbqueue-data/embed.db").await?;
    let blobs = BlobStore::connect("file:kbqueue-data/blobs")?;
    let extractor = Arc::new(PdfExtractor::new(PdfOptions::new(find_pdfium()?))?);
    let processor = Processor::new(
        store.clone(),
        blobs.clone(),
        extractor,
        ProcessorOptions::default(),
    );
    processor.start();

    for path in std::env::args().skip(1) {
        let upload = blobs.put_file(&path).await?;
        let document = NewDocument::new(QueueName::default(), upload, &path);
        let id = store.enqueue_one(document).await?.id;
        let document = store.wait_finished(id).await?;
        if document.lifecycle.state != State::Completed {
            eprintln!("{path}: {}", document.lifecycle.error.unwrap_or_default());
            continue;
        }
        for chunk in store.all_chunks(id).await? {
            println!("--- {path}, page {}\n{}", chunk.first_page, chunk.text);
        }
    }
    processor.stop().await;
    Ok(())
}
