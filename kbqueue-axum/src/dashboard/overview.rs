//! The first page: how the queues stand.

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use kbqueue_core::store::DocumentQuery;
use kbqueue_core::{QueueName, QueueSettings, State as DocumentState};
use serde::Deserialize;

use super::list::{newest, queue};
use super::render;
use super::shell::{Around, Section, Shell};
use super::view::{Card, grouped};
use crate::auth::Role;
use crate::dto::now;
use crate::problem::Problem;
use crate::state::ApiState;
use crate::status::standing;

/// How many documents under work are shown; the list has the others.
const SHOWN_PROCESSING: u32 = 20;
const SHOWN_FAILURES: u32 = 5;
const SHOWN_NEWEST: u32 = 8;

#[derive(Debug, Deserialize)]
pub(crate) struct OverviewQuery {
    /// An empty one is as good as none: forms send it so.
    #[serde(default)]
    queue: String,
}

/// The count of one state.
struct Tile {
    state: &'static str,
    label: &'static str,
    count: String,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    shell: Shell,
    /// All that are served here, where there are several.
    queues: Vec<QueueName>,
    queue: Option<QueueName>,
    paused: bool,
    /// Whether batches can be started here.
    works: bool,
    /// Whether there is no document at all.
    empty: bool,
    tiles: Vec<Tile>,
    processing: Vec<Card>,
    more_processing: u64,
    failures: Vec<Card>,
    newest: Vec<Card>,
    upload_url: String,
    /// The limits of the one queue that is shown, for whoever may change them.
    limits: Option<(QueueName, QueueSettings)>,
}

/// `GET /`.
pub(crate) async fn page(
    State(state): State<ApiState>,
    around: Around,
    query: Result<Query<OverviewQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let queue = queue(&query?.0.queue)?;
    let queues = state.queues(queue.clone());
    let stats = standing(&*state.store, &queues).await?;
    let mut under_work = DocumentQuery::default();
    under_work.state = Some(DocumentState::Processing);
    under_work.limit = SHOWN_PROCESSING;
    let mut failed = DocumentQuery::default();
    failed.state = Some(DocumentState::Failed);
    failed.limit = SHOWN_FAILURES;
    let mut any = DocumentQuery::default();
    any.limit = SHOWN_NEWEST;
    let processing = newest(&state, &queues, &under_work);
    let failures = newest(&state, &queues, &failed);
    let newest = newest(&state, &queues, &any);
    let (mut processing, failures, newest) = futures::try_join!(processing, failures, newest)?;
    let now = now();
    let cards = |documents: Vec<_>| {
        let cards = documents.into_iter().map(|one| Card::new(one, now));
        cards.collect::<Vec<_>>()
    };
    let shown = processing.len() as u64;
    let more_processing = stats.counts.processing.saturating_sub(shown);
    // Those that began first stand first, so that bars do not jump about.
    processing.sort_by_key(|document| (document.lifecycle.started_at, document.id));
    let tiles = DocumentState::ALL.map(|one| Tile {
        state: one.as_str(),
        label: match one {
            DocumentState::Queued => "Queued",
            DocumentState::Processing => "Processing",
            DocumentState::Completed => "Completed",
            DocumentState::Failed => "Failed",
            DocumentState::Cancelled => "Cancelled",
        },
        count: grouped(stats.counts.of(one)),
    });
    let limits = match queues.as_slice() {
        [one] if around.visitor.role == Role::Admin => Some((one.clone(), stats.settings)),
        _ => None,
    };
    let all = state.queues(None);
    let mut shell = Shell::live(&around, Section::Overview, &stats);
    if let Some(queue) = &queue {
        shell.live = Some(format!("{}/live?queue={queue}", around.base));
    }
    Ok(render(&OverviewPage {
        shell,
        queues: if all.len() > 1 { all } else { Vec::new() },
        queue,
        paused: stats.settings.paused,
        works: state.processor.is_some(),
        empty: stats.counts.total() == 0,
        tiles: tiles.into(),
        processing: cards(processing),
        more_processing,
        failures: cards(failures),
        newest: cards(newest),
        limits,
        upload_url: around.url(&format!("{}/upload", state.prefix())),
    }))
}
