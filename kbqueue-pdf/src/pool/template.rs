//! The host's hold on its template process: starts it, has it fork, hears of the ends of children,
//! and starts it again should it die.

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{self, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::control::{Command, End, Part, Report, Setup};
use crate::error::PdfError;
use crate::isolation::{Isolation, Layers};

/// Loading takes milliseconds, on a machine that is starved of everything perhaps seconds.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// What a template needs of the environment: where libraries are.
const KEPT_VARIABLES: [&str; 2] = ["LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"];

/// Templates in use, by what they were started with. Extractors with equal settings share one.
static TEMPLATES: Mutex<Vec<(Launch, Weak<Template>)>> = Mutex::new(Vec::new());

/// How to start a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Launch {
    /// `None`: this process's own executable.
    pub(crate) executable: Option<PathBuf>,
    pub(crate) setup: Setup,
}

/// A running template. It ends when this is dropped, and its children with it.
#[derive(Debug)]
pub(crate) struct Template {
    shared: Arc<Shared>,
    layers: Layers,
}

#[derive(Debug)]
struct Shared {
    launch: Launch,
    state: Mutex<State>,
    /// Told when a template is wanted, or no longer is.
    changed: Condvar,
    /// Counts the attempts to start one.
    starts: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    control: Option<UnixStream>,
    children: HashMap<u64, oneshot::Sender<Option<End>>>,
    last_id: u64,
    wanted: bool,
    closed: bool,
    failure: Option<String>,
}

/// A template that has just come up.
struct Started {
    process: process::Child,
    control: UnixStream,
    /// The same socket, for the one who listens.
    reports: UnixStream,
    layers: Layers,
}

/// A child that was asked for.
#[derive(Debug)]
pub(crate) struct Forked {
    pub(crate) id: u64,
    pub(crate) session: UnixStream,
    /// How it ended; `None` if it went with its template.
    pub(crate) end: oneshot::Receiver<Option<End>>,
}

impl Template {
    /// The template for these settings, started if there is none.
    pub(crate) fn shared(launch: &Launch) -> Result<Arc<Self>, PdfError> {
        let mut templates = TEMPLATES.lock().unwrap_or_else(PoisonError::into_inner);
        templates.retain(|(_, template)| template.strong_count() > 0);
        let running = templates.iter().find(|(other, _)| other == launch);
        if let Some(template) = running.and_then(|(_, template)| template.upgrade()) {
            return Ok(template);
        }
        let template = Arc::new(Self::start(launch.clone())?);
        template.report();
        templates.push((launch.clone(), Arc::downgrade(&template)));
        Ok(template)
    }

    fn start(launch: Launch) -> Result<Self, PdfError> {
        let executable = launch.executable();
        let shared = Arc::new(Shared {
            launch,
            state: Mutex::default(),
            changed: Condvar::new(),
            starts: watch::Sender::new(0),
        });
        let (started, outcome) = mpsc::channel();
        let supervised = Arc::clone(&shared);
        // A thread of its own also because the kernel takes the end of the thread that started a
        // process for the death of the parent.
        thread::Builder::new()
            .name("kbqueue-pdf".to_owned())
            .spawn(move || supervised.supervise(&started))
            .map_err(|source| PdfError::Start { executable, source })?;
        let layers = outcome
            .recv()
            .expect("the thread always sends an outcome")?;
        Ok(Self { shared, layers })
    }

    fn report(&self) {
        let isolation = Isolation::new(self.layers);
        if isolation.is_complete() {
            tracing::info!(%isolation, "PDFs are read in processes of their own");
        } else {
            tracing::warn!(
                %isolation,
                "PDFs are read in processes of their own, but this system lacks a part of the sandbox"
            );
        }
    }

    /// The layers around every child.
    pub(crate) fn layers(&self) -> Layers {
        self.layers
    }

    /// Asks for a child that reads the document in the first `size_bytes` of `document`.
    pub(crate) async fn fork(&self, document: &File, size_bytes: u64) -> io::Result<Forked> {
        let mut starts = self.shared.starts.subscribe();
        // Once more, should the template turn out to be dead; and then it cannot be started.
        for _ in 0..3 {
            starts.mark_unchanged();
            match self.shared.try_fork(document, size_bytes)? {
                Some(forked) => return Ok(forked),
                None => {
                    let _ = starts.changed().await;
                }
            }
        }
        let state = self.shared.state();
        let failure = state.failure.clone();
        Err(io::Error::other(failure.unwrap_or_else(|| {
            "the process from which readers come does not stay alive".to_owned()
        })))
    }

    /// Kills the child, if it is alive.
    pub(crate) fn kill(&self, id: u64) {
        if let Some(control) = &self.shared.state().control {
            // If the template has gone, so have its children.
            let _ = (Command::Kill { id }).send(control, &[]);
        }
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closed = true;
        if let Some(control) = state.control.take() {
            let _ = control.shutdown(Shutdown::Both);
        }
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None`: there is no template, and one is on its way.
    fn try_fork(&self, document: &File, size_bytes: u64) -> io::Result<Option<Forked>> {
        let mut state = self.state();
        if let Some(control) = &state.control {
            let (session, theirs) = UnixStream::pair()?;
            session.set_nonblocking(true)?;
            let id = state.last_id + 1;
            let fds = [document.as_fd(), theirs.as_fd()];
            let sent = (Command::Fork { id, size_bytes }).send(control, &fds);
            if sent.is_ok() {
                let (ended, end) = oneshot::channel();
                state.last_id = id;
                state.children.insert(id, ended);
                return Ok(Some(Forked { id, session, end }));
            }
            // Most likely it has died. If it has not, it ends now, and the thread finds out either way.
            let _ = control.shutdown(Shutdown::Both);
            state.control = None;
        }
        state.wanted = true;
        self.changed.notify_all();
        Ok(None)
    }

    /// Keeps a template running while one is wanted.
    fn supervise(&self, started: &mpsc::Sender<Result<Layers, PdfError>>) {
        loop {
            match self.launch.start() {
                Ok(Started {
                    mut process,
                    control,
                    reports,
                    layers,
                }) => {
                    if self.install(control) {
                        let _ = started.send(Ok(layers));
                        self.starts.send_modify(|count| *count += 1);
                        self.listen(&reports);
                    }
                    let _ = process.kill();
                    let _ = process.wait();
                    self.bury_all();
                }
                Err(error) => {
                    self.state().failure = Some(kbqueue_core::error::chain(&error));
                    if started.send(Err(error)).is_ok() && *self.starts.borrow() == 0 {
                        return;
                    }
                    self.starts.send_modify(|count| *count += 1);
                }
            }
            let mut state = self.state();
            while !state.closed && !state.wanted {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                return;
            }
            state.wanted = false;
        }
    }

    /// Whether it is still wanted.
    fn install(&self, control: UnixStream) -> bool {
        let mut state = self.state();
        if state.closed {
            return false;
        }
        state.control = Some(control);
        state.wanted = false;
        state.failure = None;
        true
    }

    /// Passes on the ends of children, until the template has gone or the host wants no more of it.
    fn listen(&self, reports: &UnixStream) {
        while let Ok(report) = Report::receive(reports) {
            if let Report::Ended { id, end } = report
                && let Some(ended) = self.state().children.remove(&id)
            {
                // Nobody may want to know.
                let _ = ended.send(Some(end));
            }
        }
    }

    fn bury_all(&self) {
        let mut state = self.state();
        state.control = None;
        for (_, ended) in state.children.drain() {
            let _ = ended.send(None);
        }
    }
}

impl Launch {
    /// For errors.
    pub(crate) fn executable(&self) -> PathBuf {
        self.executable
            .clone()
            .unwrap_or_else(|| env::current_exe().unwrap_or_else(|_| PathBuf::from("this program")))
    }

    fn start(&self) -> Result<Started, PdfError> {
        let executable = self.executable();
        let failed = |source| PdfError::Start {
            executable: executable.clone(),
            source,
        };
        let (control, theirs) = UnixStream::pair().map_err(failed)?;
        let reports = control.try_clone().map_err(failed)?;
        let mut command = process::Command::new(self.program());
        let process = command
            .arg0(&executable)
            .args(self.setup.to_args(process::id()))
            .env_clear()
            .envs(kept_variables())
            // Before it starts: tesseract's threads take several times as long as one alone, and
            // the library that starts them reads this when it is loaded.
            .env("OMP_THREAD_LIMIT", "1")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        // What holds the other end open here is gone with it.
        drop(command);
        let mut process = process.map_err(failed)?;

        let answer = self.first_report(&control);
        match answer {
            Ok(layers) => Ok(Started {
                process,
                control,
                reports,
                layers,
            }),
            Err(error) => {
                let _ = process.kill();
                let _ = process.wait();
                Err(error)
            }
        }
    }

    fn first_report(&self, mut control: &UnixStream) -> Result<Layers, PdfError> {
        let executable = self.executable();
        let _ = control.set_read_timeout(Some(START_TIMEOUT));
        let report = Report::receive(control);
        match report {
            Ok(Report::Ready { layers }) => {
                let _ = control.set_read_timeout(None);
                Ok(layers)
            }
            Ok(Report::Failed { part }) => {
                let mut reason = String::new();
                let _ = control.read_to_string(&mut reason);
                Err(match part {
                    Part::Program => PdfError::Unfit { executable, reason },
                    Part::Pdfium => PdfError::Load {
                        path: self.setup.pdfium.clone(),
                        source: reason.into(),
                    },
                    Part::Ocr => PdfError::Ocr {
                        source: reason.into(),
                    },
                })
            }
            Ok(Report::Ended { .. }) | Err(_) => Err(PdfError::NoAnswer { executable }),
        }
    }

    /// The running executable by a name that stays right when its file is replaced.
    fn program(&self) -> PathBuf {
        match &self.executable {
            Some(executable) => executable.clone(),
            None if cfg!(target_os = "linux") => PathBuf::from("/proc/self/exe"),
            None => self.executable(),
        }
    }
}

fn kept_variables() -> impl Iterator<Item = (&'static str, OsString)> {
    KEPT_VARIABLES
        .iter()
        .filter_map(|name| Some((*name, env::var_os(name)?)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::control::WantedSetup;
    use crate::options::OcrMode;

    /// A template that is this test's to play.
    pub(in super::super) fn played() -> (Template, UnixStream) {
        let shared = Arc::new(shared());
        let (control, theirs) = UnixStream::pair().unwrap();
        assert!(shared.install(control));
        let layers = Layers::NONE;
        (Template { shared, layers }, theirs)
    }

    fn shared() -> Shared {
        let setup = Setup {
            pdfium: PathBuf::new(),
            memory_bytes: 0,
            cpu_seconds: 0,
            layers: Layers::NONE,
            wanted: WantedSetup {
                images: false,
                ocr: OcrMode::Off,
                engine: None,
            },
        };
        Shared {
            launch: Launch {
                executable: None,
                setup,
            },
            state: Mutex::default(),
            changed: Condvar::new(),
            starts: watch::Sender::new(0),
        }
    }

    /// Else nobody would start another one.
    #[test]
    fn a_template_that_takes_no_commands_is_left_though_it_lives() {
        let shared = Arc::new(shared());
        let (control, _alive) = UnixStream::pair().unwrap();
        let reports = control.try_clone().unwrap();
        assert!(shared.install(control.try_clone().unwrap()));
        let (left, has_left) = mpsc::channel();
        let listening = Arc::clone(&shared);
        thread::spawn(move || {
            listening.listen(&reports);
            let _ = left.send(());
        });
        control.shutdown(Shutdown::Write).unwrap();
        let document = File::open("/dev/null").unwrap();
        assert!(shared.try_fork(&document, 0).unwrap().is_none());
        has_left.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(shared.state().wanted);
    }

    #[test]
    fn a_template_that_comes_up_too_late_is_not_taken() {
        let shared = shared();
        shared.state().closed = true;
        let (control, _theirs) = UnixStream::pair().unwrap();
        assert!(!shared.install(control));
        assert!(shared.state().control.is_none());
    }
}
