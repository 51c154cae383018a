//! `kbq add`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use kbqueue::error::chain;
use kbqueue::store::Enqueued;
use kbqueue::{BlobStore, NewDocument, Store, StoreExt};

use crate::{Failure, Place};

#[derive(Args)]
#[command(after_help = "Examples:\n  kbq add report.pdf\n  kbq add *.pdf --queue slow")]
pub(crate) struct Options {
    /// PDFs to put into the queue
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Adds what it can, and fails where it could not add all.
pub(crate) async fn add(place: &Place, options: &Options) -> Result<(), Failure> {
    let store = place.store().await?;
    let blobs = place.blobs()?;
    let mut refused = 0;
    for path in &options.files {
        match add_one(place, &*store, &blobs, path).await {
            Ok(taken) => {
                let (id, path) = (taken.id, path.display());
                let mut out = io::stdout().lock();
                if taken.created {
                    writeln!(out, "{id}  {path}")?;
                } else {
                    writeln!(out, "{id}  {path}  (there already: {})", taken.state)?;
                }
            }
            Err(reason) => {
                refused += 1;
                eprintln!("kbq: {}: {reason}", path.display());
            }
        }
    }
    match refused {
        0 => Ok(()),
        _ => Err(Failure::Told(format!(
            "{refused} of {} files were not added",
            options.files.len()
        ))),
    }
}

async fn add_one(
    place: &Place,
    store: &dyn Store,
    blobs: &BlobStore,
    path: &Path,
) -> Result<Enqueued, String> {
    check(path)?;
    let blob = blobs.put_file(path).await.map_err(|error| chain(&error))?;
    let queue = place.queue.first().cloned().unwrap_or_default();
    let document = NewDocument::new(queue, blob, &path.to_string_lossy());
    store
        .enqueue_one(document)
        .await
        .map_err(|error| chain(&error))
}

/// What can be known at once is told at once: a PDF says in its first 1,024 bytes that it is one.
fn check(path: &Path) -> Result<(), String> {
    let mut head = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(1024)
        .read_to_end(&mut head)
        .map_err(|error| error.to_string())?;
    if head.is_empty() {
        return Err("the file is empty".to_owned());
    }
    if !head.windows(5).any(|bytes| bytes == b"%PDF-") {
        return Err("the file is not a PDF".to_owned());
    }
    Ok(())
}
