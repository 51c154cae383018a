//! `kbq add`.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use kbqueue::error::chain;
use kbqueue::store::Enqueued;
use kbqueue::{BlobStore, NewDocument, Password, SecretKey, Store, StoreExt};

use crate::{Failure, Place};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  kbq add report.pdf\n  kbq add *.pdf --queue slow\n  \
                  kbq add sealed.pdf --password-file password.txt\n  \
                  pass show sealed.pdf | kbq add sealed.pdf --password-file -"
)]
pub(crate) struct Options {
    /// PDFs to put into the queue
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// A file whose first line is the password of these PDFs, or - for standard input. It is stored only
    /// sealed, under the secret key. There is no way to give it in the command line itself, which others
    /// on this machine can read
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Adds what it can, and fails where it could not add all.
pub(crate) async fn add(place: &Place, options: &Options) -> Result<(), Failure> {
    let store = place.store().await?;
    let blobs = place.blobs()?;
    let password = options.password(place)?;
    let mut refused = 0;
    for path in &options.files {
        match add_one(place, &*store, &blobs, path, password.as_ref()).await {
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

impl Options {
    /// The password, and the key to seal it with.
    fn password<'a>(&self, place: &'a Place) -> Result<Option<(Password, &'a SecretKey)>, Failure> {
        let Some(path) = &self.password_file else {
            return Ok(None);
        };
        let key = place.secret_key.as_ref().ok_or_else(|| {
            Failure::Told(
                "a password needs a key to be stored under: set KBQUEUE_SECRET_KEY, here and for the \
                 workers, to what `openssl rand -base64 32` gives"
                    .to_owned(),
            )
        })?;
        let about = |error: &dyn std::fmt::Display| {
            Failure::Told(format!("--password-file {}: {error}", path.display()))
        };
        let text = if path.as_os_str() == "-" {
            io::read_to_string(io::stdin())
        } else {
            fs::read_to_string(path)
        };
        let text = text.map_err(|error| about(&error))?;
        let line = text.lines().next().unwrap_or_default();
        let password = Password::new(line.to_owned()).map_err(|error| about(&error))?;
        Ok(Some((password, key)))
    }
}

async fn add_one(
    place: &Place,
    store: &dyn Store,
    blobs: &BlobStore,
    path: &Path,
    password: Option<&(Password, &SecretKey)>,
) -> Result<Enqueued, String> {
    check(path)?;
    let blob = blobs.put_file(path).await.map_err(|error| chain(&error))?;
    let queue = place.queue.first().cloned().unwrap_or_default();
    let mut document = NewDocument::new(queue, blob, &path.to_string_lossy());
    document.password = password.map(|(password, key)| password.seal(key, document.id));
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
