//! The first page: how the queues stand.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use kbqueue_core::store::DocumentQuery;
use kbqueue_core::{QueueName, State as DocumentState};
use serde::Deserialize;

use super::list::newest;
use super::render;
use super::shell::{Around, Section, Shell};
use super::view::{Card, grouped};
use crate::dto::now;
use crate::problem::Problem;
use crate::state::ApiState;
use crate::status::overview;

/// How many documents under work are shown; the list has the others.
const SHOWN_PROCESSING: usize = 20;
const SHOWN_FAILURES: u32 = 5;
const SHOWN_NEWEST: u32 = 8;

#[derive(Debug, Deserialize)]
pub(crate) struct OverviewQuery {
    queue: Option<QueueName>,
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
    more_processing: usize,
    failures: Vec<Card>,
    newest: Vec<Card>,
    upload_url: String,
}

/// `GET /`.
pub(crate) async fn page(
    State(state): State<ApiState>,
    around: Around,
    Query(query): Query<OverviewQuery>,
) -> Result<Response, Problem> {
    let queues = state.queues(query.queue.clone());
    let (stats, mut processing) = overview(&*state.store, &queues).await?;
    let mut failed = DocumentQuery::default();
    failed.state = Some(DocumentState::Failed);
    failed.limit = SHOWN_FAILURES;
    let mut any = DocumentQuery::default();
    any.limit = SHOWN_NEWEST;
    let failures = newest(&state, &queues, &failed);
    let newest = newest(&state, &queues, &any);
    let (failures, newest) = futures::try_join!(failures, newest)?;
    let now = now();
    let cards = |documents: Vec<_>| {
        let cards = documents.into_iter().map(|one| Card::new(one, now));
        cards.collect::<Vec<_>>()
    };
    let more_processing = processing.len().saturating_sub(SHOWN_PROCESSING);
    // Those that began first stand first, so that bars do not jump about.
    processing.sort_by_key(|document| (document.lifecycle.started_at, document.id));
    processing.truncate(SHOWN_PROCESSING);
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
    let all = state.queues(None);
    let mut shell = Shell::live(&around, Section::Overview, &stats);
    if let Some(queue) = &query.queue {
        shell.live = Some(format!("{}/live?queue={queue}", around.base));
    }
    Ok(render(&OverviewPage {
        shell,
        queues: if all.len() > 1 { all } else { Vec::new() },
        queue: query.queue,
        paused: stats.settings.paused,
        works: state.processor.is_some(),
        empty: stats.counts.total() == 0,
        tiles: tiles.into(),
        processing: cards(processing),
        more_processing,
        failures: cards(failures),
        newest: cards(newest),
        upload_url: around.url(&format!("{}/upload", state.prefix())),
    }))
}
