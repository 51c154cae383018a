//! The thread that owns pdfium, and what the rest of the process knows of it.

use std::collections::HashMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;

use kbqueue_core::extract::ExtractedPage;
use kbqueue_core::{ExtractError, Properties};
use tokio::sync::oneshot;

use crate::child::document::OpenDocument;
use crate::child::page::Wanted;
use crate::child::raw::Library;
use crate::error::PdfError;

/// pdfium recurses on nested objects; only what is used takes memory.
const STACK_BYTES: usize = 16 << 20;

/// The library of this process and the way to its thread. Both last as long as the process, because
/// pdfium's bindings are global and final.
static SHARED: Mutex<Option<(PathBuf, Engine)>> = Mutex::new(None);

/// Access to the thread.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    commands: Sender<Command>,
}

/// A document that the thread has opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) total_pages: u32,
    pub(crate) properties: Properties,
    pub(crate) document: Handle,
}

/// Keeps a document open on the thread, and closes it when dropped.
#[derive(Debug)]
pub(crate) struct Handle {
    id: u64,
    commands: Sender<Command>,
}

#[derive(Debug)]
enum Command {
    Open {
        file: File,
        size_bytes: u64,
        reply: oneshot::Sender<Result<Opened, ExtractError>>,
    },
    Page {
        document: u64,
        number: u32,
        reply: oneshot::Sender<Result<ExtractedPage, ExtractError>>,
    },
    Close {
        document: u64,
    },
}

impl Engine {
    /// The engine of this process, started if there is none.
    pub(crate) fn shared(path: &Path) -> Result<Self, PdfError> {
        let canonical = path.canonicalize().map_err(|source| PdfError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((loaded, engine)) = &*shared {
            if *loaded != canonical {
                return Err(PdfError::OtherLibrary {
                    loaded: loaded.clone(),
                    asked: canonical,
                });
            }
            return Ok(engine.clone());
        }
        let engine = Self::start(path, canonical.clone())?;
        *shared = Some((canonical, engine.clone()));
        Ok(engine)
    }

    fn start(path: &Path, canonical: PathBuf) -> Result<Self, PdfError> {
        let (commands, received) = mpsc::channel();
        let (ready, loaded) = mpsc::channel();
        let for_handles = commands.clone();
        thread::Builder::new()
            .name("kbqueue-pdfium".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                // Here and not by the caller: pdfium belongs to the thread that loads it.
                let library = match Library::load(&canonical) {
                    Ok(library) => library,
                    Err(error) => {
                        let _ = ready.send(Err(error));
                        return;
                    }
                };
                let _ = ready.send(Ok(()));
                Worker {
                    library,
                    commands: for_handles,
                    documents: HashMap::new(),
                    last_id: 0,
                }
                .run(&received);
            })
            .map_err(PdfError::Thread)?;
        let source = match loaded.recv() {
            Ok(Ok(())) => return Ok(Self { commands }),
            Ok(Err(error)) => error.into(),
            Err(_) => "the thread that was to load it panicked".into(),
        };
        Err(PdfError::Load {
            path: path.to_owned(),
            source,
        })
    }

    pub(crate) async fn open(&self, file: File, size_bytes: u64) -> Result<Opened, ExtractError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Open {
            file,
            size_bytes,
            reply,
        };
        // If nobody receives it, the answer says so.
        let _ = self.commands.send(command);
        answer.await.unwrap_or_else(|_| Err(broken()))
    }
}

impl Handle {
    /// Asks for a page at once; the future waits for it. Pages are read in the order of asking, so
    /// that documents take turns.
    pub(crate) fn page(
        &self,
        number: u32,
    ) -> impl Future<Output = Result<ExtractedPage, ExtractError>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Page {
            document: self.id,
            number,
            reply,
        });
        async move { answer.await.unwrap_or_else(|_| Err(broken())) }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Close { document: self.id });
    }
}

/// The answer when a command was dropped unanswered: the thread panicked over it.
fn broken() -> ExtractError {
    ExtractError::transient("the PDF reader failed unexpectedly; the log has the cause")
}

struct Worker {
    library: Library,
    commands: Sender<Command>,
    documents: HashMap<u64, OpenDocument>,
    last_id: u64,
}

impl Worker {
    fn run(mut self, received: &Receiver<Command>) {
        for command in received {
            // A defect that one document meets must not end the work on all others.
            if catch_unwind(AssertUnwindSafe(|| self.execute(command))).is_err() {
                tracing::error!("the PDF thread panicked over a command and goes on with the next");
            }
        }
    }

    /// Answers one command. Those that nobody waits for any more are skipped.
    fn execute(&mut self, command: Command) {
        match command {
            Command::Open {
                file,
                size_bytes,
                reply,
            } => {
                if !reply.is_closed() {
                    // If the caller has gone meanwhile, dropping the answer closes the document.
                    let _ = reply.send(self.open(file, size_bytes));
                }
            }
            Command::Page {
                document,
                number,
                reply,
            } => {
                if let Some(document) = self.documents.get_mut(&document)
                    && !reply.is_closed()
                {
                    let _ = reply.send(document.page(number));
                }
            }
            Command::Close { document } => {
                self.documents.remove(&document);
            }
        }
    }

    fn open(&mut self, file: File, size_bytes: u64) -> Result<Opened, ExtractError> {
        let document = OpenDocument::open(self.library, file, size_bytes, None, Wanted::default())?;
        self.last_id += 1;
        let opened = Opened {
            total_pages: document.total_pages(),
            properties: document.properties(),
            document: Handle {
                id: self.last_id,
                commands: self.commands.clone(),
            },
        };
        self.documents.insert(self.last_id, document);
        Ok(opened)
    }
}
