//! What all event streams of a process share: one subscription, one reader, one encoding of each event.
//!
//! A task listens while there are clients. What it hears within a window becomes one event a document,
//! read once and sent to all whom it concerns. Each scope (a queue, or a document) has a ring of a few
//! frames, so that a slow client costs no memory: it misses some, and asks for a snapshot instead.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kbqueue_core::error::chain;
use kbqueue_core::event::DocumentChange;
use kbqueue_core::{DocumentId, Notice, QueueName, Store, Subscription};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::teller::Teller;
use crate::problem::Problem;
use crate::state::ApiOptions;

/// How long changes are collected before they are told: many changes of a document become one.
const WINDOW: Duration = Duration::from_millis(100);
/// How long clients that come are collected, so that a crowd costs one snapshot.
const JOIN_WINDOW: Duration = Duration::from_millis(10);
/// How long to wait for a store that is away.
const RETRY: Duration = Duration::from_secs(1);
/// How often the task looks whether there is still somebody to tell.
const IDLE: Duration = Duration::from_secs(5);
/// Changes in one window beyond which a snapshot tells more than they do.
const MAX_CHANGES: usize = 2_000;
/// What a client wants to hear about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    Queue(QueueName),
    Document(DocumentId),
}

/// What a client that came gets.
pub(crate) struct Joined {
    /// The frame to begin with.
    pub(crate) snapshot: Bytes,
    /// What comes after it.
    pub(crate) updates: broadcast::Receiver<Bytes>,
}

/// A client that comes.
pub(super) struct Join {
    pub(super) scope: Scope,
    pub(super) answer: oneshot::Sender<Result<Joined, Problem>>,
}

/// Where event streams begin. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Shared>);

struct Shared {
    store: Arc<dyn Store>,
    options: Arc<ApiOptions>,
    task: Mutex<Task>,
}

enum Task {
    Idle,
    Running(mpsc::UnboundedSender<Join>),
    Closed,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

impl Hub {
    pub(crate) fn new(store: Arc<dyn Store>, options: Arc<ApiOptions>) -> Self {
        Self(Arc::new(Shared {
            store,
            options,
            task: Mutex::new(Task::Idle),
        }))
    }

    /// Ends all streams, and begins no more.
    pub(crate) fn close(&self) {
        *self.0.task() = Task::Closed;
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(*self.0.task(), Task::Closed)
    }

    /// A snapshot, and all that comes after it.
    pub(crate) async fn join(&self, scope: Scope) -> Result<Joined, Problem> {
        let (answer, joined) = oneshot::channel();
        let join = Join { scope, answer };
        {
            let mut task = self.0.task();
            let join = match &*task {
                Task::Closed => return Err(Problem::stopping()),
                Task::Running(joins) => match joins.send(join) {
                    Ok(()) => None,
                    // It panicked, then. A new one may fare better.
                    Err(unsent) => Some(unsent.0),
                },
                Task::Idle => Some(join),
            };
            if let Some(join) = join {
                let (sender, joins) = mpsc::unbounded_channel();
                let _ = sender.send(join);
                *task = Task::Running(sender);
                tokio::spawn(run(self.0.clone(), joins));
            }
        }
        joined.await.unwrap_or_else(|_| Err(Problem::stopping()))
    }
}

impl Shared {
    fn task(&self) -> MutexGuard<'_, Task> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the task unless somebody came meanwhile; who comes later finds no task and starts one.
    fn leave(&self, joins: &mpsc::UnboundedReceiver<Join>) -> bool {
        let mut task = self.task();
        let leaves = joins.is_empty();
        if leaves && matches!(*task, Task::Running(_)) {
            *task = Task::Idle;
        }
        leaves
    }

    /// Ends the task before it began: those who wait are told, and the next one tries again.
    fn refuse(&self, joins: &mut mpsc::UnboundedReceiver<Join>, problem: &Problem) {
        let mut task = self.task();
        while let Ok(join) = joins.try_recv() {
            // Whoever went away meanwhile needs no answer.
            let _ = join.answer.send(Err(problem.clone()));
        }
        if matches!(*task, Task::Running(_)) {
            *task = Task::Idle;
        }
    }
}

/// What was heard and not told yet.
#[derive(Default)]
pub(super) struct Pending {
    /// Something was missed.
    pub(super) resync: bool,
    pub(super) documents: HashMap<DocumentId, DocumentChange>,
    /// Queues with new settings.
    pub(super) queues: HashSet<QueueName>,
}

impl Pending {
    fn add(&mut self, notice: Notice) {
        match notice {
            Notice::Document(change) => {
                match self.documents.entry(change.id) {
                    // Of several, the newest; notices of two processes may overtake each other.
                    Entry::Occupied(mut known) if known.get().version <= change.version => {
                        known.insert(change);
                    }
                    Entry::Occupied(_) => {}
                    Entry::Vacant(free) => {
                        free.insert(change);
                    }
                }
                if self.documents.len() > MAX_CHANGES {
                    *self = Self {
                        resync: true,
                        ..Self::default()
                    };
                }
            }
            Notice::Queue(queue) => {
                self.queues.insert(queue);
            }
            // What this release does not know it has missed.
            _ => self.resync = true,
        }
    }

    fn is_empty(&self) -> bool {
        !self.resync && self.documents.is_empty() && self.queues.is_empty()
    }
}

/// When a clock strikes, if it was set.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Goes on hearing while something is done, because a subscription holds only so many notices.
async fn hearing<T>(
    notices: &mut Subscription,
    pending: &mut Pending,
    work: impl Future<Output = T>,
) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            notice = notices.next() => pending.add(notice),
        }
    }
}

async fn run(shared: Arc<Shared>, mut joins: mpsc::UnboundedReceiver<Join>) {
    let mut notices = match shared.store.subscribe().await {
        Ok(notices) => notices,
        Err(error) => return shared.refuse(&mut joins, &error.into()),
    };
    // The first notice says that the subscription begins, and nobody was told anything yet.
    notices.next().await;
    let mut teller = Teller::new(shared.store.clone(), shared.options.clone());
    let mut pending = Pending::default();
    let mut waiting: Vec<Join> = Vec::new();
    let (mut tell_at, mut admit_at) = (None, None);
    let mut not_before = Instant::now();
    let mut look_around = tokio::time::interval(IDLE);
    loop {
        tokio::select! {
            join = joins.recv() => match join {
                Some(join) => {
                    waiting.push(join);
                    admit_at.get_or_insert(Instant::now() + JOIN_WINDOW);
                }
                None => return,
            },
            notice = notices.next() => pending.add(notice),
            () = at(tell_at) => {
                tell_at = None;
                let began = Instant::now();
                let told = teller.tell(std::mem::take(&mut pending));
                let told = hearing(&mut notices, &mut pending, told).await;
                // A store that is slow to answer is asked less often.
                not_before = Instant::now() + began.elapsed();
                if let Err(error) = told {
                    tracing::warn!(error = chain(&error), "events wait for the store");
                    pending.resync = true;
                    not_before = Instant::now() + RETRY;
                }
            }
            () = at(admit_at) => {
                admit_at = None;
                let admitted = teller.admit(std::mem::take(&mut waiting));
                hearing(&mut notices, &mut pending, admitted).await;
            }
            _ = look_around.tick() => {
                if teller.is_alone() && waiting.is_empty() && shared.leave(&joins) {
                    return;
                }
            }
        }
        if !pending.is_empty() {
            tell_at.get_or_insert_with(|| not_before.max(Instant::now() + WINDOW));
        }
    }
}
