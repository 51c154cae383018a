//! All documents, newest first, page by page.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use kbqueue_core::store::DocumentQuery;
use kbqueue_core::{Document, DocumentId, QueueName, State as DocumentState, StoreError};
use serde::Deserialize;

use super::shell::{Around, Section, Shell};
use super::view::{Card, grouped};
use super::{encoded, render};
use crate::dto::now;
use crate::problem::Problem;
use crate::state::ApiState;
use crate::status::standing;

const PAGE: u32 = 50;

/// Which documents. An empty field is as good as none: forms send them so.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ListQuery {
    #[serde(default)]
    queue: String,
    #[serde(default)]
    state: String,
    after: Option<DocumentId>,
}

/// One of the states to filter by.
struct Filter {
    state: &'static str,
    label: &'static str,
    count: String,
    chosen: bool,
}

#[derive(Template)]
#[template(path = "documents.html")]
struct ListPage {
    shell: Shell,
    queues: Vec<QueueName>,
    queue: String,
    state: String,
    filters: Vec<Filter>,
    documents: Vec<Card>,
    /// Whether this is not the first page.
    later: bool,
    /// Query of the next page.
    next: Option<String>,
}

/// `GET /documents`.
pub(crate) async fn page(
    State(state): State<ApiState>,
    around: Around,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    let asked = match query.queue.as_str() {
        "" => None,
        name => Some(QueueName::new(name).map_err(|error| Problem::invalid(error.to_string()))?),
    };
    let wanted = match query.state.as_str() {
        "" => None,
        word => {
            let known = DocumentState::parse(word);
            Some(known.ok_or_else(|| Problem::invalid(format!("there is no state {word:?}")))?)
        }
    };
    let queues = state.queues(asked.clone());
    let stats = standing(&*state.store, &queues).await?;
    let mut documents = newest(&state, &queues, wanted, query.after, PAGE + 1).await?;
    let more = documents.len() > PAGE as usize;
    documents.truncate(PAGE as usize);
    let last = documents.last().map(|document| document.id);
    let filter = |one: Option<DocumentState>, label, count| Filter {
        state: one.map_or("", DocumentState::as_str),
        label,
        count: grouped(count),
        chosen: one == wanted,
    };
    let counts = stats.counts;
    let filters = vec![
        filter(None, "All", counts.total()),
        filter(Some(DocumentState::Queued), "Queued", counts.queued),
        filter(
            Some(DocumentState::Processing),
            "Processing",
            counts.processing,
        ),
        filter(
            Some(DocumentState::Completed),
            "Completed",
            counts.completed,
        ),
        filter(Some(DocumentState::Failed), "Failed", counts.failed),
        filter(
            Some(DocumentState::Cancelled),
            "Cancelled",
            counts.cancelled,
        ),
    ];
    let filter_query = format!(
        "state={}&queue={}",
        encoded(&query.state),
        encoded(&query.queue)
    );
    let all = state.queues(None);
    let mut shell = Shell::live(&around, Section::Documents, &stats);
    // Loading the page anew would undo what somebody has just ticked.
    shell.refresh = !shell.can_change;
    let now = now();
    Ok(render(&ListPage {
        shell,
        queues: if all.len() > 1 { all } else { Vec::new() },
        next: last
            .filter(|_| more)
            .map(|last| format!("{filter_query}&after={last}")),
        later: query.after.is_some(),
        queue: query.queue,
        state: query.state,
        filters,
        documents: documents
            .into_iter()
            .map(|document| Card::new(document, now))
            .collect(),
    }))
}

/// The newest documents of `queues`, older than `after`, at most `limit`.
pub(crate) async fn newest(
    state: &ApiState,
    queues: &[QueueName],
    wanted: Option<DocumentState>,
    after: Option<DocumentId>,
    limit: u32,
) -> Result<Vec<Document>, StoreError> {
    let mut documents = Vec::new();
    for queue in queues {
        let mut query = DocumentQuery::default();
        query.queue = Some(queue.clone());
        query.state = wanted;
        query.after = after;
        query.limit = limit;
        documents.extend(state.store.documents(query).await?);
    }
    documents.sort_by_key(|document| std::cmp::Reverse(document.id));
    documents.truncate(limit as usize);
    Ok(documents)
}
