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
    #[serde(default)]
    tenant: String,
    #[serde(default)]
    name: String,
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
    tenant: String,
    name: String,
    /// The query of this list without its state, for links to the other states.
    rest: String,
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
    let mut found = DocumentQuery::default();
    found.state = match query.state.as_str() {
        "" => None,
        word => {
            let known = DocumentState::parse(word);
            Some(known.ok_or_else(|| Problem::invalid(format!("there is no state {word:?}")))?)
        }
    };
    let wanted = found.state;
    found.tenant = given(&query.tenant);
    found.name = given(&query.name);
    found.after = query.after;
    found.limit = PAGE + 1;
    let queues = state.queues(asked.clone());
    let stats = standing(&*state.store, &queues).await?;
    let mut documents = newest(&state, &queues, &found).await?;
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
    let rest = rest(&query.queue, &query.tenant, &query.name);
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
            .map(|last| format!("state={}&{rest}&after={last}", encoded(&query.state))),
        later: query.after.is_some(),
        queue: query.queue,
        state: query.state,
        tenant: query.tenant,
        name: query.name,
        rest,
        filters,
        documents: documents
            .into_iter()
            .map(|document| Card::new(document, now))
            .collect(),
    }))
}

/// What a form's field holds, none where it is empty.
pub(crate) fn given(field: &str) -> Option<String> {
    (!field.is_empty()).then(|| field.to_owned())
}

/// The part of a list's query that is kept when another state is chosen.
pub(crate) fn rest(queue: &str, tenant: &str, name: &str) -> String {
    format!(
        "queue={}&tenant={}&name={}",
        encoded(queue),
        encoded(tenant),
        encoded(name)
    )
}

/// The newest documents of `queues` that `wanted` finds, at most its limit.
pub(crate) async fn newest(
    state: &ApiState,
    queues: &[QueueName],
    wanted: &DocumentQuery,
) -> Result<Vec<Document>, StoreError> {
    let mut documents = Vec::new();
    for queue in queues {
        let mut query = wanted.clone();
        query.queue = Some(queue.clone());
        documents.extend(state.store.documents(query).await?);
    }
    documents.sort_by_key(|document| std::cmp::Reverse(document.id));
    documents.truncate(wanted.limit as usize);
    Ok(documents)
}
