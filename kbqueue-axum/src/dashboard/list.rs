//! All documents, newest first, page by page.

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use kbqueue_core::store::DocumentQuery;
use kbqueue_core::{Document, DocumentId, QueueName, State as DocumentState, StoreError};
use serde::Deserialize;

use super::render;
use super::shell::{Around, Section, Shell};
use super::view::{Card, grouped};
use crate::dto::now;
use crate::problem::Problem;
use crate::state::ApiState;
use crate::status::standing;
use crate::text::percent_encoded;

const PAGE: u32 = 50;

/// Which documents. An empty field is as good as none: forms send them so.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ListQuery {
    #[serde(default)]
    pub(crate) queue: String,
    #[serde(default)]
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) tenant: String,
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) after: Option<DocumentId>,
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
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let (queues, mut found) = query.wanted(&state)?;
    found.after = query.after;
    found.limit = PAGE + 1;
    let wanted = found.state;
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
    let rest = query.rest();
    let all = state.queues(None);
    let mut shell = Shell::live(&around, Section::Documents, &stats);
    // Loading the page anew would undo what somebody has just ticked.
    shell.refresh = !shell.can_change;
    let now = now();
    Ok(render(&ListPage {
        shell,
        queues: if all.len() > 1 { all } else { Vec::new() },
        next: last.filter(|_| more).map(|last| {
            format!(
                "state={}&{rest}&after={last}",
                percent_encoded(&query.state)
            )
        }),
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

impl ListQuery {
    /// The queues that are meant, and what is wanted of each.
    pub(crate) fn wanted(
        &self,
        state: &ApiState,
    ) -> Result<(Vec<QueueName>, DocumentQuery), Problem> {
        let mut wanted = DocumentQuery::default();
        if !self.state.is_empty() {
            let known = DocumentState::parse(&self.state);
            let unknown = || Problem::invalid(format!("there is no state {:?}", self.state));
            wanted.state = Some(known.ok_or_else(unknown)?);
        }
        let given = |field: &str| (!field.is_empty()).then(|| field.to_owned());
        wanted.tenant = given(&self.tenant);
        wanted.name = given(&self.name);
        Ok((state.queues(queue(&self.queue)?), wanted))
    }

    /// The part of the query that is kept when another state is chosen.
    fn rest(&self) -> String {
        format!(
            "queue={}&tenant={}&name={}",
            percent_encoded(&self.queue),
            percent_encoded(&self.tenant),
            percent_encoded(&self.name)
        )
    }

    /// Where this list is.
    pub(crate) fn path(&self) -> String {
        format!(
            "/documents?state={}&{}",
            percent_encoded(&self.state),
            self.rest()
        )
    }
}

/// The queue that a form's field names; an empty one names none.
pub(crate) fn queue(field: &str) -> Result<Option<QueueName>, Problem> {
    if field.is_empty() {
        return Ok(None);
    }
    let queue = QueueName::new(field);
    queue
        .map(Some)
        .map_err(|error| Problem::invalid(error.to_string()))
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
