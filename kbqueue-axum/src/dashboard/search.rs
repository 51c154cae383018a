//! A search in the text of all documents.

use std::collections::HashMap;

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use kbqueue_core::library::{Hit, SearchQuery, Snippet};
use kbqueue_core::{DocumentId, QueueName};
use serde::Deserialize;

use super::list::queue;
use super::render;
use super::shell::{Around, Section, Shell};
use crate::library::{MAX_SEARCH, Place};
use crate::problem::Problem;
use crate::state::ApiState;
use crate::status::standing;
use crate::text::percent_encoded;

const SHOWN: u32 = 25;

#[derive(Debug, Deserialize)]
pub(crate) struct SearchParams {
    #[serde(default)]
    q: String,
    /// An empty one is as good as none: forms send it so.
    #[serde(default)]
    queue: String,
    after: Option<Place>,
}

/// A hit with what a page shows of it.
struct Found {
    hit: Hit,
    name: String,
    /// The snippet, cut where marks begin and end, and whether a piece is marked.
    pieces: Vec<(bool, String)>,
}

#[derive(Template)]
#[template(path = "search.html")]
struct SearchPage {
    shell: Shell,
    q: String,
    /// All that are served here, where there are several.
    queues: Vec<QueueName>,
    queue: QueueName,
    found: Vec<Found>,
    later: bool,
    /// The query of the next page.
    next: Option<String>,
}

/// `GET /search`.
pub(crate) async fn page(
    State(state): State<ApiState>,
    around: Around,
    query: Result<Query<SearchParams>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(asked) = query?;
    if asked.q.chars().count() > MAX_SEARCH {
        let detail = format!("a search has at most {MAX_SEARCH} characters");
        return Err(Problem::invalid(detail));
    }
    let queue = queue(&asked.queue)?.unwrap_or_else(|| state.default_queue());
    let all = state.queues(None);
    let stats = standing(&*state.store, &all).await?;
    let later = asked.after.is_some();
    let mut query = SearchQuery::new(queue.clone(), asked.q.clone());
    query.limit = SHOWN;
    query.after = asked.after.map(|place| place.0);
    let listing = state.store.search(query).await?;
    let next = listing.next.map(|position| {
        let (q, queue) = (percent_encoded(&asked.q), percent_encoded(queue.as_str()));
        format!("q={q}&queue={queue}&after={}", Place(position))
    });
    let mut names: HashMap<DocumentId, String> = HashMap::new();
    let mut found = Vec::new();
    for hit in listing.items {
        if !names.contains_key(&hit.document)
            && let Some(document) = state.store.document(hit.document).await?
        {
            names.insert(document.id, document.filename);
        }
        // One that was deleted meanwhile is left out.
        if let Some(name) = names.get(&hit.document) {
            let (name, pieces) = (name.clone(), pieces(&hit.snippet));
            found.push(Found { hit, name, pieces });
        }
    }
    Ok(render(&SearchPage {
        shell: Shell::still(&around, Section::Search, &stats),
        q: asked.q,
        queues: if all.len() > 1 { all } else { Vec::new() },
        queue,
        found,
        later,
        next,
    }))
}

impl Found {
    /// Where in the list of chunks it stands.
    fn chunk(&self) -> String {
        let ordinal = self.hit.ordinal;
        match ordinal.checked_sub(1) {
            Some(before) => format!("?after={before}#c-{ordinal}"),
            None => format!("#c-{ordinal}"),
        }
    }
}

fn pieces(snippet: &Snippet) -> Vec<(bool, String)> {
    let text = &snippet.text;
    let mut pieces = Vec::new();
    let mut shown = 0;
    for mark in &snippet.marks {
        pieces.push((false, text[shown..mark.start].to_owned()));
        pieces.push((true, text[mark.clone()].to_owned()));
        shown = mark.end;
    }
    pieces.push((false, text[shown..].to_owned()));
    pieces
}
