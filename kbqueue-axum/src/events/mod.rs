//! `GET {prefix}/events`: what happens, as it happens, as server-sent events.
//!
//! A stream begins with `event: snapshot`, and another follows every gap, so that a client that keeps
//! what it was told last always ends up with the truth. See `hub.rs` for what is shared among clients.

mod frame;
mod hub;
mod teller;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderName;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::stream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::timeout;

use crate::documents;
use crate::dto::{EventsQuery, ProblemBody};
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::state::ApiState;

pub(crate) use hub::{Hub, Joined, Scope};

/// How often a stream with nothing to say says so, so that neither end takes it for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
const COMMENT: Bytes = Bytes::from_static(b":\n\n");
/// The most that is put into one write to a client that fell behind a little.
const MERGED_BYTES: usize = 32 * 1024;
/// How long a client that fell behind waits for a store that is away before it asks again.
const REJOIN_PAUSE: Duration = Duration::from_secs(1);

/// Live events of a queue, or of one document
///
/// Server-sent events. The first is a `snapshot` (the queue as in `queue-status`, or the document), which
/// is sent again after every gap. Then `queued`, `processing`, `progress`, `completed`, `failed`,
/// `cancelled` and `deleted` tell of documents, each with `document_id`, `version` and the changed fields,
/// and `queue` of counts and settings. A stream of one document ends when it is deleted.
#[utoipa::path(
    get, path = "/events", tag = "events", params(EventsQuery),
    responses(
        (status = 200, description = "A stream that does not end", content_type = "text/event-stream", body = String),
        (status = 404, description = "No such document", content_type = "application/problem+json", body = ProblemBody),
    )
)]
pub(crate) async fn events(
    State(state): State<ApiState>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let EventsQuery { queue, document_id } = query?.0;
    let scope = match document_id {
        Some(id) => Scope::Document(documents::find(&state, id, queue).await?.id),
        None => Scope::Queue(queue.unwrap_or_else(|| state.default_queue())),
    };
    let hub = state.events.clone();
    let Joined { snapshot, updates } = hub.join(scope.clone()).await?;
    let client = Client {
        hub,
        scope,
        updates,
        behind: false,
        _open: Open::new(state.metrics.clone()),
    };
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
        // Or nginx would collect events until it has a page of them.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    // A server that comes back is found again soon.
    let begin: Bytes = [&b"retry: 2000\n\n"[..], &snapshot].concat().into();
    let frames = stream::unfold((client, Some(begin)), async |(mut client, begin)| {
        let frame = match begin {
            Some(begin) => begin,
            None => client.next().await?,
        };
        Some((Ok::<_, Infallible>(frame), (client, None)))
    });
    Ok((headers, Body::from_stream(frames)).into_response())
}

/// One client of the hub.
struct Client {
    hub: Hub,
    scope: Scope,
    updates: Receiver<Bytes>,
    /// It missed something, and needs a snapshot before anything else.
    behind: bool,
    _open: Open,
}

/// Counts a stream while it is open.
struct Open(Arc<Metrics>);

impl Open {
    fn new(metrics: Arc<Metrics>) -> Self {
        metrics.event_streams.fetch_add(1, Ordering::Relaxed);
        Self(metrics)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.event_streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Client {
    /// What is to be sent next; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.behind {
                match self.hub.join(self.scope.clone()).await {
                    Ok(Joined { snapshot, updates }) => {
                        self.behind = false;
                        self.updates = updates;
                        return Some(snapshot);
                    }
                    Err(_) if self.hub.is_closed() => return None,
                    Err(problem) if problem.status().is_server_error() => {
                        tokio::time::sleep(REJOIN_PAUSE).await;
                        return Some(COMMENT);
                    }
                    Err(_) => return None,
                }
            }
            match timeout(HEARTBEAT, self.updates.recv()).await {
                Err(_) => return Some(COMMENT),
                Ok(Ok(frame)) => return Some(self.merge(frame)),
                Ok(Err(RecvError::Lagged(_))) => self.behind = true,
                Ok(Err(RecvError::Closed)) => return None,
            }
        }
    }

    /// Adds what is there already, for one write instead of many.
    fn merge(&mut self, first: Bytes) -> Bytes {
        if self.updates.is_empty() {
            return first;
        }
        let mut all = BytesMut::from(first);
        while all.len() < MERGED_BYTES {
            match self.updates.try_recv() {
                Ok(frame) => all.extend_from_slice(&frame),
                Err(TryRecvError::Lagged(_)) => {
                    self.behind = true;
                    break;
                }
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        all.freeze()
    }
}
