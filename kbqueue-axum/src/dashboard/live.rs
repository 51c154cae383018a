//! Telling pages that something changed.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use kbqueue_core::{DocumentId, Notice, QueueName, Subscription};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::problem::Problem;
use crate::state::ApiState;

/// The least time between two hints: a page is fetched anew for each.
const PACE: Duration = Duration::from_millis(150);
const ALIVE: Duration = Duration::from_secs(15);

/// Which changes to hear of.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LiveQuery {
    document: Option<DocumentId>,
    queue: Option<QueueName>,
}

/// `GET /live`: a hint for each change, the first one at once.
pub(crate) async fn live(
    State(state): State<ApiState>,
    Query(query): Query<LiveQuery>,
) -> Result<Response, Problem> {
    let subscription = state.store.subscribe().await?;
    let hints = stream::unfold(
        (subscription, query, Instant::now()),
        |(mut subscription, query, not_before)| async move {
            while !concerns(&query, &subscription.next().await) {}
            drain_until(&mut subscription, not_before).await;
            let hint: Result<Event, Infallible> = Ok(Event::default().data("changed"));
            Some((hint, (subscription, query, Instant::now() + PACE)))
        },
    );
    let alive = KeepAlive::new().interval(ALIVE);
    Ok(Sse::new(hints).keep_alive(alive).into_response())
}

/// What happens meanwhile is covered by the hint that follows.
async fn drain_until(subscription: &mut Subscription, until: Instant) {
    while Instant::now() < until {
        if timeout_at(until, subscription.next()).await.is_err() {
            return;
        }
    }
    sleep_until(until).await;
}

fn concerns(query: &LiveQuery, notice: &Notice) -> bool {
    let of_queue = |queue: &QueueName| query.queue.as_ref().is_none_or(|wanted| wanted == queue);
    match notice {
        Notice::Document(change) => {
            of_queue(&change.queue) && query.document.is_none_or(|wanted| wanted == change.id)
        }
        Notice::Queue(queue) => of_queue(queue),
        // A kind of notice that this crate does not know yet may concern any page.
        _ => true,
    }
}
