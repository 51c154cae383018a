//! One document: what it is, how far it is, and what happened to it.

use askama::Template;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use jiff::Timestamp;
use kbqueue_core::{ChunkOptions, Document, DocumentId, QueueStats, State as DocumentState};

use super::render;
use super::shell::{Around, Shell};
use super::view::{Card, Moment, lasted};
use crate::dto::now;
use crate::problem::Problem;
use crate::state::ApiState;
use crate::status::standing;

/// One thing that happened.
struct Step {
    /// Names its icon and colour.
    kind: &'static str,
    title: String,
    at: Moment,
    detail: String,
    error: Option<String>,
}

#[derive(Template)]
#[template(path = "document.html")]
struct DocumentPage {
    shell: Shell,
    card: Card,
    tab: &'static str,
    steps: Vec<Step>,
    metadata: Option<String>,
    chunking: ChunkOptions,
}

/// `GET /documents/{id}`.
pub(crate) async fn page(
    State(state): State<ApiState>,
    around: Around,
    id: Result<Path<DocumentId>, PathRejection>,
) -> Result<Response, Problem> {
    let (card, stats) = find(&state, id?.0).await?;
    let mut shell = Shell::of_document(&around, &stats, card.document.id);
    shell.refresh = !card.document.lifecycle.state.is_terminal();
    let metadata = &card.document.metadata;
    Ok(render(&DocumentPage {
        shell,
        tab: "overview",
        steps: steps(&card.document, now()),
        metadata: (!metadata.is_null()).then(|| format!("{metadata:#}")),
        chunking: card
            .document
            .chunking
            .unwrap_or(state.options.processing.chunking),
        card,
    }))
}

/// A document of any queue, and how all queues stand.
pub(crate) async fn find(state: &ApiState, id: DocumentId) -> Result<(Card, QueueStats), Problem> {
    let document = state.store.document(id).await?;
    let document = document.ok_or_else(|| Problem::no_such_document(id))?;
    let stats = standing(&*state.store, &state.queues(None)).await?;
    Ok((Card::new(document, now()), stats))
}

/// What happened to a document, newest first.
fn steps(document: &Document, now: Timestamp) -> Vec<Step> {
    let life = &document.lifecycle;
    let step = |kind, title: &str, at, detail: String, error| Step {
        kind,
        title: title.to_owned(),
        at: Moment::of(at, now),
        detail,
        error,
    };
    let size = super::view::size(document.blob.size_bytes);
    let mut steps = vec![step(
        "queued",
        "Uploaded and queued",
        document.created_at,
        size,
        None,
    )];
    for attempt in &document.attempts {
        let (kind, title) = match attempt.outcome.as_str() {
            "completed" => ("completed", "Completed"),
            "failed" => ("failed", "Failed"),
            "retried" => ("retried", "Failed, to be tried again"),
            "released" => ("released", "Released: its worker stopped"),
            "snoozed" => ("released", "Put off by its extractor"),
            "cancelled" => ("cancelled", "Cancelled"),
            "crashed" => ("failed", "Its worker died"),
            other => ("released", other),
        };
        let took = lasted(attempt.started_at, attempt.ended_at);
        let detail = format!("{} · after {took}", attempt.worker);
        steps.push(step(
            kind,
            title,
            attempt.ended_at,
            detail,
            attempt.error.clone(),
        ));
    }
    let ended = document.attempts.last().map(|attempt| attempt.ended_at);
    match (life.state, &life.lease) {
        (DocumentState::Processing, Some(lease)) => {
            let at = life.started_at.unwrap_or(now);
            let mut detail = format!("{} · attempt {}", lease.worker, life.attempt);
            if life.cursor.number > 0 {
                let pages = super::view::counted(life.cursor.pages, "page");
                let chunks = super::view::counted(life.cursor.chunks, "chunk");
                let number = life.cursor.number;
                detail += &format!(" · at checkpoint {number}: {pages}, {chunks} committed");
            }
            steps.push(step("processing", "Claimed", at, detail, None));
        }
        (DocumentState::Queued, _) if life.available_at > now => {
            let detail = "to be claimed then".to_owned();
            steps.push(step("queued", "Scheduled", life.available_at, detail, None));
        }
        (DocumentState::Cancelled, _) if life.completed_at > ended => {
            let at = life.completed_at.unwrap_or(now);
            steps.push(step("cancelled", "Cancelled", at, String::new(), None));
        }
        _ => {}
    }
    if let Some(at) = life.cancel_requested_at {
        let detail = "its worker is being told".to_owned();
        steps.push(step("cancelled", "Cancel requested", at, detail, None));
    }
    steps.reverse();
    steps
}
