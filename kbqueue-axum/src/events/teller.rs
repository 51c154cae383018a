//! Reads what changed and tells those whom it concerns.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use kbqueue_core::event::DocumentChange;
use kbqueue_core::{Document, DocumentId, Progress, QueueName, State, Store, StoreError};
use tokio::sync::broadcast;

use super::frame::{self, Frames, QueueChange};
use super::hub::{Join, Joined, Pending, Scope};
use crate::dto::DocumentBody;
use crate::problem::Problem;
use crate::state::ApiOptions;
use crate::status;

/// Frames that a client may be behind before it gets a snapshot instead.
const CAPACITY: usize = 32;
/// Reads at once: stores have only so many connections.
const READS: usize = 4;

/// Who listens, and what they know.
pub(super) struct Teller {
    store: Arc<dyn Store>,
    options: Arc<ApiOptions>,
    topics: HashMap<Scope, Topic>,
    /// Documents that were last told of as processing, and how far they were: what goes on under the
    /// same version is progress, and what is behind that is old.
    under_work: HashMap<DocumentId, (u64, Progress)>,
}

struct Topic {
    updates: broadcast::Sender<Bytes>,
    /// The document's version as told last, of a topic that is a document.
    version: u64,
}

/// What was read of one scope.
struct Snapshot {
    frame: Bytes,
    version: u64,
    processing: Vec<(DocumentId, u64, Progress)>,
}

/// What is to be told of one document.
enum News {
    Progress(DocumentChange),
    Transition(Box<Document>),
    Deleted(DocumentChange),
}

impl Teller {
    pub(super) fn new(store: Arc<dyn Store>, options: Arc<ApiOptions>) -> Self {
        Self {
            store,
            options,
            topics: HashMap::new(),
            under_work: HashMap::new(),
        }
    }

    /// Whether nobody listens any more.
    pub(super) fn is_alone(&mut self) -> bool {
        self.topics
            .retain(|_, topic| topic.updates.receiver_count() > 0);
        self.topics.is_empty()
    }

    /// Gives each client that comes a snapshot, which those of one scope share.
    pub(super) async fn admit(&mut self, joining: Vec<Join>) {
        let mut scopes: HashMap<Scope, Vec<Join>> = HashMap::new();
        for join in joining {
            scopes.entry(join.scope.clone()).or_default().push(join);
        }
        let (store, options) = (self.store.clone(), self.options.clone());
        let mut read = stream::iter(scopes)
            .map(|(scope, joins)| {
                let (store, options) = (&store, &options);
                async move { (joins, snapshot(&**store, options, &scope).await, scope) }
            })
            .buffer_unordered(READS);
        while let Some((joins, read, scope)) = read.next().await {
            let snapshot = read
                .map_err(Problem::from)
                .and_then(|found| found.ok_or_else(|| missing(&scope)));
            if let Ok(snapshot) = &snapshot {
                self.know(&snapshot.processing);
            }
            for join in joins {
                let joined = snapshot.as_ref().map_err(Clone::clone).map(|snapshot| {
                    let topic = self.topics.entry(scope.clone()).or_insert_with(|| Topic {
                        updates: broadcast::channel(CAPACITY).0,
                        version: snapshot.version,
                    });
                    Joined {
                        snapshot: snapshot.frame.clone(),
                        updates: topic.updates.subscribe(),
                    }
                });
                // Whoever went away meanwhile needs no answer.
                let _ = join.answer.send(joined);
            }
        }
    }

    /// Tells what was heard: first what changed, then, where something was missed, how all of it stands.
    pub(super) async fn tell(&mut self, heard: Pending) -> Result<(), StoreError> {
        if self.is_alone() {
            self.under_work.clear();
            return Ok(());
        }
        let Pending {
            resync,
            mut documents,
            mut queues,
        } = heard;
        documents.retain(|id, change| {
            let concerns_somebody = self.concerns_somebody(change);
            if !concerns_somebody {
                // How it goes on is not heard, so what is known of it is soon no longer true.
                self.under_work.remove(id);
            }
            concerns_somebody
        });
        let news = self.read(documents).await?;
        let gone: HashSet<DocumentId> = news
            .iter()
            .filter(|news| matches!(news, News::Deleted(_)))
            .map(News::id)
            .collect();
        let mut frames: HashMap<Scope, Frames> = HashMap::new();
        for news in news {
            self.write(news, &mut frames, &mut queues);
        }
        if !resync {
            self.count(queues, &mut frames).await?;
        }
        for (scope, frames) in frames {
            self.send(&scope, frames.take());
        }
        // Their streams end here: there is nothing more to tell.
        self.topics
            .retain(|scope, _| !matches!(scope, Scope::Document(id) if gone.contains(id)));
        if resync {
            self.begin_anew().await?;
        }
        Ok(())
    }

    fn concerns_somebody(&self, change: &DocumentChange) -> bool {
        self.topics.contains_key(&Scope::Document(change.id))
            || self
                .topics
                .contains_key(&Scope::Queue(change.queue.clone()))
    }

    /// Reads the documents that did more than get on: a notice does not have all of what changed.
    async fn read(
        &self,
        changes: HashMap<DocumentId, DocumentChange>,
    ) -> Result<Vec<News>, StoreError> {
        let changes = changes.into_values().filter(|change| {
            let old = self.under_work.get(&change.id);
            old.is_none_or(|old| is_newer(change, *old))
        });
        let mut news: Vec<News> = stream::iter(changes)
            .map(|change| async move {
                let known = self.under_work.get(&change.id);
                if change.deleted {
                    return Ok(News::Deleted(change));
                }
                if change.state == State::Processing
                    && known.is_some_and(|(version, _)| *version == change.version)
                {
                    return Ok(News::Progress(change));
                }
                Ok::<_, StoreError>(match self.store.document(change.id).await? {
                    Some(document) => News::Transition(Box::new(document)),
                    None => News::Deleted(change),
                })
            })
            .buffered(READS)
            .try_collect()
            .await?;
        // Ids go by age, so that readers see documents in the order in which they came.
        news.sort_by_key(News::id);
        Ok(news)
    }

    /// Puts one piece of news into the frames of those whom it concerns.
    fn write(
        &mut self,
        news: News,
        frames: &mut HashMap<Scope, Frames>,
        counted: &mut HashSet<QueueName>,
    ) {
        let id = news.id();
        let (queue, version, frame) = match news {
            News::Progress(change) => {
                self.know(&[(id, change.version, change.progress)]);
                let frame = frame::progress(&change);
                (change.queue, change.version, frame)
            }
            News::Transition(document) => {
                let life = &document.lifecycle;
                if life.state == State::Processing {
                    self.know(&[(id, life.version, life.progress)]);
                } else {
                    self.under_work.remove(&id);
                }
                let (queue, version) = (document.queue.clone(), life.version);
                counted.insert(queue.clone());
                (queue, version, frame::transition(*document))
            }
            News::Deleted(change) => {
                self.under_work.remove(&id);
                counted.insert(change.queue.clone());
                let frame = frame::deleted(id, change.version);
                (change.queue, change.version, frame)
            }
        };
        for scope in [Scope::Document(id), Scope::Queue(queue)] {
            if let Some(topic) = self.topics.get_mut(&scope) {
                topic.version = version;
                frames.entry(scope).or_default().push(&frame);
            }
        }
    }

    /// Adds how many documents are where to the frames of queues in which that changed.
    async fn count(
        &self,
        queues: HashSet<QueueName>,
        frames: &mut HashMap<Scope, Frames>,
    ) -> Result<(), StoreError> {
        for queue in queues {
            let scope = Scope::Queue(queue.clone());
            if self.topics.contains_key(&scope) {
                let stats = self.store.stats(&queue).await?;
                let change = QueueChange {
                    queue_name: &queue,
                    worker_status: status::worker_status(&stats),
                    queue: stats.counts.into(),
                    paused: stats.settings.paused,
                };
                let frame = frame::frame("queue", &change);
                frames.entry(scope).or_default().push(&frame);
            }
        }
        Ok(())
    }

    /// Sends everybody a snapshot.
    async fn begin_anew(&mut self) -> Result<(), StoreError> {
        self.under_work.clear();
        let scopes: Vec<Scope> = self.topics.keys().cloned().collect();
        let (store, options) = (self.store.clone(), self.options.clone());
        let mut read = stream::iter(scopes)
            .map(|scope| {
                let (store, options) = (&store, &options);
                async move { (snapshot(&**store, options, &scope).await, scope) }
            })
            .buffer_unordered(READS);
        while let Some((read, scope)) = read.next().await {
            match read? {
                Some(snapshot) => {
                    self.know(&snapshot.processing);
                    if let Some(topic) = self.topics.get_mut(&scope) {
                        topic.version = snapshot.version;
                    }
                    self.send(&scope, snapshot.frame);
                }
                None => {
                    if let (Scope::Document(id), Some(topic)) = (&scope, self.topics.remove(&scope))
                    {
                        let _ = topic.updates.send(frame::deleted(*id, topic.version));
                    }
                }
            }
        }
        Ok(())
    }

    fn know(&mut self, processing: &[(DocumentId, u64, Progress)]) {
        for (id, version, progress) in processing {
            self.under_work.insert(*id, (*version, *progress));
        }
    }

    fn send(&mut self, scope: &Scope, frame: Bytes) {
        if let Some(topic) = self.topics.get(scope) {
            // Nobody may be left to hear it.
            let _ = topic.updates.send(frame);
        }
    }
}

impl News {
    fn id(&self) -> DocumentId {
        match self {
            Self::Progress(change) | Self::Deleted(change) => change.id,
            Self::Transition(document) => document.id,
        }
    }
}

/// Whether a change says more than what is known already. Notices of two processes may overtake each
/// other, and one may tell of what a snapshot had.
fn is_newer(change: &DocumentChange, (version, progress): (u64, Progress)) -> bool {
    let at = |progress: &Progress| {
        (
            progress.percent,
            progress.current_page,
            progress.current_chunk,
        )
    };
    change.version > version
        || change.version == version
            && change.state == State::Processing
            && at(&change.progress) > at(&progress)
}

/// How a scope stands; `None` for a document that is not there.
async fn snapshot(
    store: &dyn Store,
    options: &ApiOptions,
    scope: &Scope,
) -> Result<Option<Snapshot>, StoreError> {
    match scope {
        Scope::Queue(queue) => {
            let (stats, documents) = status::overview(store, std::slice::from_ref(queue)).await?;
            let processing = documents.iter().map(under_work).collect();
            let body = status::body(options, &stats, documents);
            Ok(Some(Snapshot {
                frame: frame::snapshot(queue, &body),
                version: 0,
                processing,
            }))
        }
        Scope::Document(id) => Ok(store.document(*id).await?.map(|document| {
            let state = document.lifecycle.state;
            Snapshot {
                version: document.lifecycle.version,
                processing: (state == State::Processing)
                    .then(|| under_work(&document))
                    .into_iter()
                    .collect(),
                frame: frame::frame("snapshot", &DocumentBody::from(document)),
            }
        })),
    }
}

fn missing(scope: &Scope) -> Problem {
    match scope {
        Scope::Document(id) => Problem::no_such_document(*id),
        Scope::Queue(_) => Problem::no_such_path(),
    }
}

fn under_work(document: &Document) -> (DocumentId, u64, Progress) {
    let life = &document.lifecycle;
    (document.id, life.version, life.progress)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kbqueue_core::store::{ClaimRequest, Control, Worker, WorkerId};
    use kbqueue_core::{BlobRef, MemoryStore, NewDocument, StoreExt};
    use tokio::sync::oneshot;

    use super::*;

    async fn join(teller: &mut Teller, scope: Scope) -> Joined {
        let (answer, joined) = oneshot::channel();
        teller.admit(vec![Join { scope, answer }]).await;
        joined.await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn nothing_is_kept_of_documents_that_nobody_watches_any_more() {
        let store = Arc::new(MemoryStore::new());
        let queue = QueueName::default();
        let blob = BlobRef {
            sha256: "ab".repeat(32),
            size_bytes: 5,
        };
        let new = NewDocument::new(queue.clone(), blob, "a.pdf");
        let id = store.enqueue_one(new).await.unwrap().id;
        let worker = Worker {
            id: WorkerId(DocumentId::new().0),
            name: "w1".to_owned(),
            queues: vec![queue.clone()],
        };
        let claim = ClaimRequest::new(worker, 1, Duration::from_secs(60), "f".to_owned());
        store.claim(claim).await.unwrap();
        let mut teller = Teller::new(store.clone(), Arc::default());
        let watching = join(&mut teller, Scope::Queue(queue.clone())).await;
        let other = Scope::Queue(QueueName::new("other").unwrap());
        let _stays = join(&mut teller, other).await;
        assert_eq!(teller.under_work.len(), 1);
        drop(watching);
        let document = store.control(id, Control::Cancel).await.unwrap();
        let mut heard = Pending::default();
        let change = DocumentChange::of(&document);
        heard.documents.insert(id, change);
        teller.tell(heard).await.unwrap();
        assert!(teller.under_work.is_empty());
    }
}
