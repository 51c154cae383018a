//! Telling pages that something changed.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{self, BoxStream, SelectAll, StreamExt};
use kbqueue_core::{DocumentId, QueueName};
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};

use crate::events::Scope;
use crate::problem::Problem;
use crate::state::ApiState;

/// The least time between two hints: a page is fetched anew for each.
const PACE: Duration = Duration::from_millis(150);
const ALIVE: Duration = Duration::from_secs(15);

/// Which changes to hear of. Without either, those of all queues.
#[derive(Debug, Deserialize)]
pub(crate) struct LiveQuery {
    document: Option<DocumentId>,
    queue: Option<QueueName>,
}

/// Something changed; what, the page will show.
type Changes = SelectAll<BoxStream<'static, ()>>;

/// `GET /live`: a hint at once, and one for each change. It ends with the events it is made of.
pub(crate) async fn live(
    State(state): State<ApiState>,
    query: Result<Query<LiveQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let scopes = match query.document {
        Some(id) => vec![Scope::Document(id)],
        None => {
            let queues = state.queues(query.queue).into_iter();
            queues.map(Scope::Queue).collect()
        }
    };
    let mut changes = Changes::new();
    for scope in scopes {
        let joined = state.events.join(scope).await?;
        changes.push(heard(joined.updates).boxed());
    }
    let later = stream::unfold(
        (changes, Instant::now()),
        |(mut changes, not_before)| async move {
            changes.next().await?;
            // What else happens meanwhile is covered by the same hint.
            while let Ok(Some(())) = timeout_at(not_before, changes.next()).await {}
            Some(((), (changes, Instant::now() + PACE)))
        },
    );
    let hints = stream::once(async {}).chain(later);
    let hints = hints.map(|()| Ok::<_, Infallible>(Event::default().data("changed")));
    let alive = KeepAlive::new().interval(ALIVE);
    Ok(Sse::new(hints).keep_alive(alive).into_response())
}

fn heard(updates: Receiver<Bytes>) -> impl futures::Stream<Item = ()> + Send + 'static {
    stream::unfold(updates, |mut updates| async move {
        match updates.recv().await {
            // Whoever missed something has all the more reason to look again.
            Ok(_) | Err(RecvError::Lagged(_)) => Some(((), updates)),
            Err(RecvError::Closed) => None,
        }
    })
}
