//! What changes something.

use std::num::NonZeroU32;
use std::str::FromStr;

use askama::Template;
use axum::extract::rejection::PathRejection;
use axum::extract::{Form, FromRequest, FromRequestParts, Path, Request, State};
use axum::response::Response;
use kbqueue_core::error::chain;
use kbqueue_core::store::{Change as DocumentChange, Control};
use kbqueue_core::{ChunkOptions, DocumentId, QueueSettings, Rate, StoreExt};

use super::list::{self, ListQuery, newest};
use super::shell::{Around, Section, Shell};
use super::view::Card;
use super::{allowed, render, see_other};
use crate::auth::Role;
use crate::dto::now;
use crate::problem::Problem;
use crate::queue::set_paused;
use crate::state::ApiState;
use crate::status::standing;

/// Documents that one form names, at most.
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
        let change = Self {
            around,
            fields: fields?.0,
        };
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

    /// A number, or nothing at all.
    fn limit<N: FromStr>(&self, name: &str) -> Result<Option<N>, Problem> {
        let text = self.field(name).unwrap_or_default().trim();
        if text.is_empty() {
            return Ok(None);
        }
        let invalid = |_| Problem::invalid(format!("{name}: {text:?} is no number that fits"));
        text.parse().map(Some).map_err(invalid)
    }

    /// Takes over the limits that the form has; a field left empty takes one away.
    fn limits(&self, settings: &mut QueueSettings) -> Result<(), Problem> {
        settings.rate = match (self.limit("documents")?, self.limit("per_seconds")?) {
            (Some(documents), Some(per_seconds)) => {
                let burst = self.limit("burst")?.unwrap_or(NonZeroU32::MIN);
                Some(Rate {
                    documents,
                    per_seconds,
                    burst,
                })
            }
            (None, None) => None,
            _ => {
                let needed = "a rate takes both: how many documents, and in how many seconds";
                return Err(Problem::invalid(needed));
            }
        };
        settings.max_processing = self.limit("max_processing")?;
        settings.max_processing_per_tenant = self.limit("max_processing_per_tenant")?;
        settings.max_queued = self.limit("max_queued")?;
        Ok(())
    }

    /// What the form says of a document anew.
    fn of_document(&self) -> Result<DocumentChange, Problem> {
        let text = self.field("metadata").unwrap_or_default().trim();
        let metadata = if text.is_empty() { "null" } else { text };
        let metadata = serde_json::from_str(metadata)
            .map_err(|error| Problem::invalid(format!("the metadata is no JSON: {error}")))?;
        Ok(DocumentChange {
            priority: self.limit("priority")?,
            metadata: Some(metadata),
            available_at: None,
        })
    }

    /// The list that a bulk form came from.
    fn list(&self) -> ListQuery {
        let value = |name| self.field(name).unwrap_or_default().to_owned();
        ListQuery {
            queue: value("queue"),
            state: value("state"),
            tenant: value("tenant"),
            name: value("name"),
            after: None,
        }
    }

    /// Back to a page of ours, which then says what was done.
    fn back(&self, path: &str, said: &str) -> Response {
        let joint = if path.contains('?') { '&' } else { '?' };
        see_other(&self.around.base, &format!("{path}{joint}{said}"))
    }
}

/// `POST /queue/{action}`: pause, resume, limits, process.
pub(crate) async fn queue(
    State(state): State<ApiState>,
    action: Result<Path<String>, PathRejection>,
    change: Change,
) -> Result<Response, Problem> {
    allowed(&change.around.visitor, Role::Admin)?;
    let Path(action) = action?;
    let asked = list::queue(change.field("queue").unwrap_or_default())?;
    let home = match &asked {
        Some(queue) => format!("/?queue={queue}"),
        None => "/".to_owned(),
    };
    match action.as_str() {
        "pause" | "resume" => {
            let paused = action == "pause";
            for queue in state.queues(asked) {
                set_paused(&state, &queue, paused).await?;
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
        "limits" => {
            let queue = asked.unwrap_or_else(|| state.default_queue());
            let mut settings = state.store.stats(&queue).await?.settings;
            change.limits(&mut settings)?;
            state.store.configure(&queue, settings).await?;
            Ok(change.back(&home, "done=limits"))
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
    /// Whether the filter finds others, which stay.
    rest: bool,
    /// Where somebody who changed their mind goes.
    back: String,
    fields: Vec<(String, String)>,
}

/// `POST /documents/{id}/{action}`: cancel, retry, rechunk, change, delete.
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
        "change" => Control::Change(change.of_document()?),
        "delete" if change.field("confirmed").is_none() => {
            let action = format!("/documents/{id}/delete");
            return confirm(&state, &change, vec![id], false, action).await;
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
    let list = change.list();
    // What is deleted is confirmed first, document by document; the rest needs no list of them.
    if change.field("all").is_some() && action != "delete" {
        let (queues, query) = list.wanted(&state)?;
        let mut done = 0;
        for queue in queues {
            let mut query = query.clone();
            query.queue = Some(queue);
            done += state.store.control_all(query, control.clone()).await?;
        }
        return Ok(change.back(&list.path(), &format!("done={action}&n={done}&left=0")));
    }
    let (ids, rest) = meant(&state, &change).await?;
    if action == "delete" && change.field("confirmed").is_none() && !ids.is_empty() {
        return confirm(&state, &change, ids, rest, "/documents/bulk".to_owned()).await;
    }
    let meant = ids.len() as u64;
    let done = state.store.control_each(ids, control).await?;
    let left = meant - done;
    Ok(change.back(&list.path(), &format!("done={action}&n={done}&left={left}")))
}

/// The documents that a bulk form names, one by one or by filter, and whether the filter finds others.
async fn meant(state: &ApiState, change: &Change) -> Result<(Vec<DocumentId>, bool), Problem> {
    if change.field("all").is_some() {
        let (queues, mut query) = change.list().wanted(state)?;
        query.limit = BULK + 1;
        let mut documents = newest(state, &queues, &query).await?;
        let rest = documents.len() > BULK as usize;
        documents.truncate(BULK as usize);
        let ids = documents.into_iter().map(|document| document.id);
        return Ok((ids.collect(), rest));
    }
    let named = change.fields.iter().filter(|(field, _)| field == "ids");
    let ids: Result<Vec<DocumentId>, Problem> = named
        .map(|(_, id)| {
            id.parse()
                .map_err(|_| Problem::invalid(format!("{id:?} is no id")))
        })
        .collect();
    let ids = ids?;
    if ids.len() > BULK as usize {
        return Err(Problem::invalid(format!("a form takes at most {BULK} ids")));
    }
    Ok((ids, false))
}

fn control(action: &str, from_scratch: bool) -> Result<Control, Problem> {
    match action {
        "retry" => Ok(Control::Retry { from_scratch }),
        "cancel" => Ok(Control::Cancel),
        "delete" => Ok(Control::Delete),
        _ => Err(Problem::no_such_path()),
    }
}

/// Asks whether these documents are really to go.
async fn confirm(
    state: &ApiState,
    change: &Change,
    ids: Vec<DocumentId>,
    rest: bool,
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
        None => change.list().path(),
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
        rest,
        back,
        fields,
    }))
}
