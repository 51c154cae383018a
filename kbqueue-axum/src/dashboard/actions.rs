//! What changes something.

use askama::Template;
use axum::extract::rejection::PathRejection;
use axum::extract::{Form, FromRequest, FromRequestParts, Path, Request, State};
use axum::response::Response;
use kbqueue_core::error::chain;
use kbqueue_core::store::{Control, DocumentQuery};
use kbqueue_core::{
    ChunkOptions, DocumentId, QueueName, State as DocumentState, StoreError, StoreExt as _,
};

use super::list::{given, newest, rest};
use super::shell::{Around, Section, Shell};
use super::view::Card;
use super::{allowed, render, see_other};
use crate::auth::Role;
use crate::dto::now;
use crate::problem::Problem;
use crate::state::ApiState;
use crate::status::standing;

/// Documents that one form changes, at most: what is left is said, and can be asked for again.
const BULK: u32 = 1000;

/// A form that was sent from one of our own pages.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) around: Around,
    fields: Vec<(String, String)>,
}

impl<S: Send + Sync> FromRequest<S> for Change {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let around = Around::from_request_parts(&mut parts, state).await?;
        let request = Request::from_parts(parts, body);
        let fields = Form::<Vec<(String, String)>>::from_request(request, state).await;
        let Form(fields) = fields.map_err(|error| Problem::malformed(error.body_text()))?;
        let change = Self { around, fields };
        let token = change.field("form_token").unwrap_or_default();
        if !change.around.visitor.owns_form_token(token) {
            return Err(Problem::foreign_form());
        }
        Ok(change)
    }
}

impl Change {
    fn field(&self, name: &str) -> Option<&str> {
        let mut named = self.fields.iter().filter(|(field, _)| field == name);
        named.next().map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> Result<u32, Problem> {
        let number = self.field(name).and_then(|text| text.parse().ok());
        number.ok_or_else(|| Problem::invalid(format!("{name} has to be a number")))
    }

    /// Back to a page of ours, which then says what was done.
    fn back(&self, path: &str, said: &str) -> Response {
        let joint = if path.contains('?') { '&' } else { '?' };
        see_other(&self.around.base, &format!("{path}{joint}{said}"))
    }
}

/// `POST /queue/{action}`: pause, resume, process.
pub(crate) async fn queue(
    State(state): State<ApiState>,
    Path(action): Path<String>,
    change: Change,
) -> Result<Response, Problem> {
    allowed(&change.around.visitor, Role::Admin)?;
    let asked = match change.field("queue") {
        None | Some("") => None,
        Some(name) => Some(
            name.parse()
                .map_err(|_| Problem::invalid("no such queue"))?,
        ),
    };
    let home = match &asked {
        Some(queue) => format!("/?queue={queue}"),
        None => "/".to_owned(),
    };
    match action.as_str() {
        "pause" | "resume" => {
            let paused = action == "pause";
            for queue in state.queues(asked) {
                let mut settings = state.store.stats(&queue).await?.settings;
                settings.paused = paused;
                state.store.configure(&queue, settings).await?;
            }
            Ok(change.back(
                &home,
                if paused {
                    "done=paused"
                } else {
                    "done=resumed"
                },
            ))
        }
        "process" => {
            let processor = state.processor.clone();
            let nothing =
                "this server takes and shows documents, and leaves their processing to others";
            let processor = processor.ok_or_else(|| Problem::no_workers(nothing))?;
            tokio::spawn(async move {
                if let Err(error) = processor.process_once().await {
                    tracing::warn!(error = chain(&error), "a batch could not be started");
                }
            });
            Ok(change.back(&home, "done=process"))
        }
        _ => Err(Problem::no_such_path()),
    }
}

#[derive(Template)]
#[template(path = "confirm.html")]
struct ConfirmPage {
    shell: Shell,
    /// Where the form goes once more.
    action: String,
    cards: Vec<Card>,
    /// Of the documents that are meant but not shown.
    more: usize,
    /// Where somebody who changed their mind goes.
    back: String,
    fields: Vec<(String, String)>,
}

/// `POST /documents/{id}/{action}`: cancel, retry, rechunk, delete.
pub(crate) async fn document(
    State(state): State<ApiState>,
    path: Result<Path<(DocumentId, String)>, PathRejection>,
    change: Change,
) -> Result<Response, Problem> {
    let Path((id, action)) = path?;
    allowed(&change.around.visitor, Role::Admin)?;
    let control = match action.as_str() {
        "rechunk" => {
            let (min, max) = (change.number("min_chars")?, change.number("max_chars")?);
            let chunking = ChunkOptions::new(min, max, change.number("overlap_chars")?);
            Control::Rechunk(chunking.map_err(|error| Problem::invalid(error.to_string()))?)
        }
        "delete" if change.field("confirmed").is_none() => {
            return confirm(&state, &change, vec![id], format!("/documents/{id}/delete")).await;
        }
        other => control(other, change.field("from_scratch").is_some())?,
    };
    state.store.control(id, control).await?;
    let path = match (action.as_str(), change.field("to")) {
        ("delete", _) => "/documents".to_owned(),
        (_, Some("overview")) => "/".to_owned(),
        _ => format!("/documents/{id}"),
    };
    Ok(change.back(&path, &format!("done={action}")))
}

/// `POST /documents/bulk`: the ticked documents, or all that the list's filter lets through.
pub(crate) async fn bulk(
    State(state): State<ApiState>,
    change: Change,
) -> Result<Response, Problem> {
    allowed(&change.around.visitor, Role::Admin)?;
    let action = change.field("action").unwrap_or_default().to_owned();
    let control = control(&action, change.field("from_scratch").is_some())?;
    let list = list_path(&change);
    // What is deleted is confirmed first, document by document; the rest needs no list of them.
    if change.field("all").is_some() && action != "delete" {
        let (queues, query) = filtered(&state, &change)?;
        let mut done = 0;
        for queue in queues {
            let mut query = query.clone();
            query.queue = Some(queue);
            done += state.store.control_all(query, control.clone()).await?;
        }
        return Ok(change.back(&list, &format!("done={action}&n={done}&left=0")));
    }
    let ids = meant(&state, &change).await?;
    if action == "delete" && change.field("confirmed").is_none() && !ids.is_empty() {
        return confirm(&state, &change, ids, "/documents/bulk".to_owned()).await;
    }
    let (mut done, mut left) = (0u64, 0u64);
    for id in ids {
        match state.store.control(id, control.clone()).await {
            Ok(_) => done += 1,
            Err(
                StoreError::NotFound(_)
                | StoreError::Refused { .. }
                | StoreError::Superseded { .. },
            ) => left += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(change.back(&list, &format!("done={action}&n={done}&left={left}")))
}

/// What the filter of the list lets through, of these queues.
fn filtered(state: &ApiState, change: &Change) -> Result<(Vec<QueueName>, DocumentQuery), Problem> {
    let value = |name| change.field(name).and_then(given);
    let queue = value("queue").map(|name| name.parse());
    let queue = queue.transpose();
    let queue = queue.map_err(|_| Problem::invalid("no such queue"))?;
    let mut query = DocumentQuery::default();
    query.state = match value("state") {
        None => None,
        Some(word) => {
            let known = DocumentState::parse(&word);
            Some(known.ok_or_else(|| Problem::invalid(format!("there is no state {word:?}")))?)
        }
    };
    query.tenant = value("tenant");
    query.name = value("name");
    Ok((state.queues(queue), query))
}

/// The documents that a bulk form names, one by one or by filter.
async fn meant(state: &ApiState, change: &Change) -> Result<Vec<DocumentId>, Problem> {
    if change.field("all").is_some() {
        let (queues, mut query) = filtered(state, change)?;
        query.limit = BULK;
        let documents = newest(state, &queues, &query).await?;
        return Ok(documents.into_iter().map(|document| document.id).collect());
    }
    let named = change.fields.iter().filter(|(field, _)| field == "ids");
    named
        .take(BULK as usize)
        .map(|(_, id)| {
            id.parse()
                .map_err(|_| Problem::invalid(format!("{id:?} is no id")))
        })
        .collect()
}

fn control(action: &str, from_scratch: bool) -> Result<Control, Problem> {
    match action {
        "retry" => Ok(Control::Retry { from_scratch }),
        "cancel" => Ok(Control::Cancel),
        "delete" => Ok(Control::Delete),
        _ => Err(Problem::no_such_path()),
    }
}

/// Where the list that a bulk form came from is.
fn list_path(change: &Change) -> String {
    let value = |name| change.field(name).unwrap_or_default();
    let state = super::encoded(value("state"));
    let rest = rest(value("queue"), value("tenant"), value("name"));
    format!("/documents?state={state}&{rest}")
}

/// Asks whether these documents are really to go.
async fn confirm(
    state: &ApiState,
    change: &Change,
    ids: Vec<DocumentId>,
    action: String,
) -> Result<Response, Problem> {
    const SHOWN: usize = 20;
    let stats = standing(&*state.store, &state.queues(None)).await?;
    let (more, now) = (ids.len().saturating_sub(SHOWN), now());
    let mut cards = Vec::new();
    for id in ids.iter().take(SHOWN) {
        if let Some(document) = state.store.document(*id).await? {
            cards.push(Card::new(document, now));
        }
    }
    let back = match action.strip_suffix("/delete") {
        Some(document) => document.to_owned(),
        None => list_path(change),
    };
    // A filter could let others through by the time it is confirmed, so ids are what is confirmed.
    let kept = ["action", "state", "queue", "tenant", "name"];
    let fields = change
        .fields
        .iter()
        .filter(|(field, _)| kept.contains(&field.as_str()))
        .cloned()
        .chain(ids.iter().map(|id| ("ids".to_owned(), id.to_string())))
        .collect();
    Ok(render(&ConfirmPage {
        shell: Shell::still(&change.around, Section::Documents, &stats),
        action,
        cards,
        more,
        back,
        fields,
    }))
}
