//! The host's end of one child.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kbqueue_core::error::chain;
use kbqueue_core::{ExtractError, extract::ExtractedPage};
use kbqueue_core::{Password, Properties};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::template::Template;
use crate::control::End;
use crate::death::Death;
use crate::options::OcrMode;
use crate::protocol::{self, Frame, LENGTH_BYTES, MAX_FRAME_BYTES, Malformed, Request};

/// How long a child may live on that has hung up: one that ends by itself does so last.
const GRACE: Duration = Duration::from_millis(200);
/// How long to wait for word of the end of a child that was killed. A process that hangs in the
/// kernel dies later.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What children are made for: a document, and how to treat it.
#[derive(Debug)]
pub(crate) struct Source {
    templates: Templates,
    pub(crate) file: File,
    pub(crate) size_bytes: u64,
    password: Option<Password>,
    pub(crate) page_timeout: Duration,
    pub(crate) memory_bytes: u64,
    pub(crate) strict: bool,
    /// What it takes to read a page of which nothing is known.
    pub(super) skill: Skill,
    alive: Mutex<Alive>,
}

/// From where children come.
#[derive(Debug, Clone)]
pub(crate) struct Templates {
    pub(crate) text: Arc<Template>,
    /// Twenty times the memory, of which each fork costs time.
    pub(crate) ocr: Option<Arc<Template>>,
}

/// What a child can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Skill {
    Text,
    Ocr,
}

#[derive(Debug, Default)]
struct Alive {
    ids: HashSet<(Skill, u64)>,
    closed: bool,
}

/// A child that has the document open.
#[derive(Debug)]
pub(super) struct Child {
    source: Arc<Source>,
    skill: Skill,
    id: u64,
    session: BufReader<UnixStream>,
    end: oneshot::Receiver<Option<End>>,
    pub(super) born: Instant,
}

/// What a child said first.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) child: Child,
    pub(super) total_pages: u32,
    pub(super) properties: Properties,
}

/// Why a child is of no more use.
#[derive(Debug)]
pub(super) enum Broken {
    Late,
    Gone,
    Malformed(Malformed),
}

impl Source {
    pub(crate) fn new(
        templates: Templates,
        file: File,
        size_bytes: u64,
        password: Option<Password>,
        options: &crate::PdfOptions,
    ) -> Self {
        Self {
            templates,
            file,
            size_bytes,
            password,
            page_timeout: options.page_timeout,
            memory_bytes: options.memory_bytes,
            strict: options.strict,
            skill: match options.ocr {
                OcrMode::Off | OcrMode::Auto => Skill::Text,
                OcrMode::Always => Skill::Ocr,
            },
            alive: Mutex::default(),
        }
    }

    /// Kills all children, and every one that is still to come.
    pub(crate) fn close(&self) {
        let mut alive = self.alive();
        alive.closed = true;
        for (skill, id) in alive.ids.drain() {
            self.kill(skill, id);
        }
    }

    fn kill(&self, skill: Skill, id: u64) {
        self.template(skill).kill(id);
    }

    fn template(&self, skill: Skill) -> &Template {
        match (skill, &self.templates.ocr) {
            (Skill::Ocr, Some(template)) => template,
            // Without OCR, no child is believed that a page takes it.
            (Skill::Text | Skill::Ocr, _) => &self.templates.text,
        }
    }

    fn alive(&self) -> MutexGuard<'_, Alive> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A child that has opened the document. One that dies over it has one successor.
    pub(super) async fn open(self: &Arc<Self>, skill: Skill) -> Result<Opened, ExtractError> {
        let mut died_before = false;
        let mut lost = 0;
        loop {
            let mut child = Child::fork(self, skill).await?;
            let frame = child.frame().await;
            let broken = match frame {
                Ok(Frame::Opened {
                    total_pages,
                    properties,
                }) => {
                    return Ok(Opened {
                        child,
                        total_pages,
                        properties,
                    });
                }
                Ok(Frame::Refused(error)) => return Err(error),
                Ok(Frame::Page(_) | Frame::NeedsOcr(_)) => Broken::Malformed(Malformed::Kind),
                Err(broken) => broken,
            };
            match child.autopsy(broken).await {
                Death::OfDocument(cause) if died_before => {
                    return Err(ExtractError::permanent(format!(
                        "the PDF could not be opened: {cause}, and so did the next one"
                    )));
                }
                Death::OfDocument(cause) => {
                    tracing::warn!(cause, "a PDF could not be opened and is tried once more");
                    died_before = true;
                }
                Death::Elsewhere(cause) => lost = lost_again(lost, &cause)?,
            }
        }
    }
}

/// Counts deaths that no document is to blame for. After a few of them, it is the machine.
pub(super) fn lost_again(lost: u32, cause: &str) -> Result<u32, ExtractError> {
    if lost == 2 {
        return Err(ExtractError::transient(format!(
            "the processes that read PDFs do not stay alive: {cause}"
        )));
    }
    Ok(lost + 1)
}

impl Child {
    async fn fork(source: &Arc<Source>, skill: Skill) -> Result<Self, ExtractError> {
        let not_forked = |error: io::Error| ExtractError::Transient {
            message: "no process could be started to read the PDF".to_owned(),
            source: Some(error.into()),
        };
        let template = source.template(skill);
        let forked = template.fork(&source.file, source.size_bytes).await;
        let forked = forked.map_err(not_forked)?;
        {
            let mut alive = source.alive();
            if alive.closed {
                template.kill(forked.id);
            } else {
                alive.ids.insert((skill, forked.id));
            }
        }
        let session = UnixStream::from_std(forked.session).map_err(not_forked)?;
        let mut child = Self {
            source: Arc::clone(source),
            skill,
            id: forked.id,
            session: BufReader::with_capacity(64 << 10, session),
            end: forked.end,
            born: Instant::now(),
        };
        let opening = protocol::encode_opening(source.password.as_ref());
        // Fits into the socket of a child that has yet to read; of one that is dead its autopsy tells.
        let _ = child.session.get_mut().write_all(&opening).await;
        Ok(child)
    }

    /// Asks for pages.
    pub(super) async fn ask(&mut self, first: u32, last: u32) -> Result<(), Broken> {
        let request = Request { first, last }.encode();
        let sent = self.session.get_mut().write_all(&request).await;
        sent.map_err(|_| Broken::Gone)
    }

    /// How long the next message is, once it begins to arrive: within the time for a page.
    pub(super) async fn length(&mut self) -> Result<usize, Broken> {
        let mut length = [0; LENGTH_BYTES];
        let read = timeout(
            self.source.page_timeout,
            self.session.read_exact(&mut length),
        )
        .await;
        read.map_err(|_| Broken::Late)?.map_err(|_| Broken::Gone)?;
        let length = usize::try_from(u32::from_le_bytes(length)).expect("32 bits fit");
        if length > MAX_FRAME_BYTES {
            return Err(Broken::Malformed(Malformed::Length));
        }
        Ok(length)
    }

    /// The message of this length.
    pub(super) async fn message(&mut self, length: usize) -> Result<Frame, Broken> {
        // Grows as bytes arrive: the length is only a claim.
        let mut message = Vec::with_capacity(length.min(64 << 10));
        let mut body = (&mut self.session).take(length as u64);
        let read = timeout(self.source.page_timeout, body.read_to_end(&mut message)).await;
        read.map_err(|_| Broken::Late)?.map_err(|_| Broken::Gone)?;
        if message.len() < length {
            return Err(Broken::Gone);
        }
        protocol::decode(&message).map_err(Broken::Malformed)
    }

    async fn frame(&mut self) -> Result<Frame, Broken> {
        let length = self.length().await?;
        self.message(length).await
    }

    /// The page `number` out of a message, as it was asked for. `None`: it takes OCR.
    pub(super) fn page(
        &self,
        frame: Frame,
        number: u32,
    ) -> Result<Result<Option<ExtractedPage>, ExtractError>, Broken> {
        match frame {
            Frame::Page(page) if page.number == number => Ok(Ok(Some(page))),
            Frame::NeedsOcr(of)
                if of == number
                    && self.skill == Skill::Text
                    && self.source.templates.ocr.is_some() =>
            {
                Ok(Ok(None))
            }
            Frame::Refused(error) => Ok(Err(error)),
            Frame::Page(_) | Frame::NeedsOcr(_) => Err(Broken::Malformed(Malformed::Value)),
            Frame::Opened { .. } => Err(Broken::Malformed(Malformed::Kind)),
        }
    }

    /// Makes sure that the child is dead, and says what it died of.
    pub(super) async fn autopsy(mut self, broken: Broken) -> Death {
        // One that has gone by itself tells more of the cause before it is killed.
        if matches!(broken, Broken::Gone)
            && let Ok(end) = timeout(GRACE, &mut self.end).await
        {
            return gone(end.ok().flatten(), self.source.memory_bytes);
        }
        self.source.kill(self.skill, self.id);
        let end = timeout(LAST_WORD, &mut self.end).await;
        match broken {
            Broken::Late => Death::late(self.source.page_timeout),
            Broken::Malformed(malformed) => Death::nonsense(&chain(&malformed)),
            Broken::Gone => match end.map(|end| end.ok().flatten()) {
                // Word of its own end comes late on a busy machine.
                Ok(end) if !end.is_some_and(End::was_killed) => gone(end, self.source.memory_bytes),
                Ok(_) | Err(_) => Death::nonsense("it hung up and lived on"),
            },
        }
    }
}

/// What a child died of that ended by itself, or with its template.
fn gone(end: Option<End>, memory_bytes: u64) -> Death {
    match end {
        Some(end) => Death::of(end, memory_bytes),
        None => Death::Elsewhere("the process from which they come has died".to_owned()),
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.source.alive().ids.remove(&(self.skill, self.id)) {
            self.source.kill(self.skill, self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::thread;

    use super::*;
    use crate::PdfOptions;
    use crate::control::Command;
    use crate::pool::template::tests::played;

    /// What is said of a child that has hung up, whose end is told when it is to be killed.
    async fn told_late(end: Option<End>) -> Death {
        let (template, commands) = played();
        let templates = Templates {
            text: Arc::new(template),
            ocr: None,
        };
        let document = File::open("/dev/null").unwrap();
        let (session, _theirs) = UnixStream::pair().unwrap();
        let (ended, told) = oneshot::channel();
        let child = Child {
            source: Arc::new(Source::new(
                templates,
                document,
                0,
                None,
                &PdfOptions::new(""),
            )),
            skill: Skill::Text,
            id: 1,
            session: BufReader::new(session),
            end: told,
            born: Instant::now(),
        };
        thread::spawn(move || {
            Command::receive(commands.as_fd()).unwrap();
            ended.send(end)
        });
        child.autopsy(Broken::Gone).await
    }

    #[tokio::test]
    async fn an_end_that_is_told_late_counts_unless_this_host_made_it() {
        let by = |signal| {
            Some(End {
                status: signal,
                peak_kib: 0,
            })
        };
        let Death::OfDocument(cause) = told_late(by(libc::SIGSEGV)).await else {
            panic!("of its document");
        };
        assert!(cause.contains("SIGSEGV"), "{cause}");
        let Death::OfDocument(cause) = told_late(by(libc::SIGKILL)).await else {
            panic!("of its document");
        };
        assert!(cause.contains("hung up and lived on"), "{cause}");
        assert!(matches!(told_late(None).await, Death::Elsewhere(_)));
    }
}
