//! The images of all documents.

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use kbqueue_core::store::{DocumentQuery, OutputQuery};
use kbqueue_core::{DocumentId, Image};
use serde::Deserialize;
use uuid::Uuid;

use super::list::newest;
use super::render;
use super::shell::{Around, Section, Shell};
use super::view::Card;
use crate::dto::now;
use crate::problem::Problem;
use crate::state::ApiState;
use crate::status::standing;

/// Documents looked at for one page, and those shown on it: most have no images, and a page is not to
/// take longer for that.
const LOOKED_AT: u32 = 100;
const SHOWN: usize = 12;

#[derive(Debug, Deserialize)]
pub(crate) struct GalleryQuery {
    after: Option<DocumentId>,
    /// Documents of this day (UTC) and before.
    #[serde(default)]
    until: String,
    /// Images of each document.
    #[serde(default)]
    each: Option<u32>,
}

/// A document and its first images.
struct Group {
    card: Card,
    images: Vec<Image>,
    more: bool,
}

#[derive(Template)]
#[template(path = "gallery.html")]
struct GalleryPage {
    shell: Shell,
    groups: Vec<Group>,
    until: String,
    each: u32,
    later: bool,
    next: Option<DocumentId>,
    looked_at: u32,
}

/// `GET /images`.
pub(crate) async fn page(
    State(state): State<ApiState>,
    around: Around,
    query: Result<Query<GalleryQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let each = query.each.unwrap_or(12).clamp(1, 60);
    let queues = state.queues(None);
    let after = match (query.after, query.until.as_str()) {
        (Some(after), _) => Some(after),
        (None, "") => None,
        (None, day) => Some(first_after(day)?),
    };
    let stats = standing(&*state.store, &queues).await?;
    let mut wanted = DocumentQuery::default();
    wanted.after = after;
    wanted.limit = LOOKED_AT;
    let documents = newest(&state, &queues, &wanted).await?;
    let looked_at = documents.len();
    let mut seen = 0;
    let mut last = None;
    let mut groups = Vec::new();
    let now = now();
    for document in documents {
        if groups.len() == SHOWN {
            break;
        }
        seen += 1;
        last = Some(document.id);
        let mut images = state
            .store
            .images(OutputQuery::new(document.id, each + 1))
            .await?;
        if images.is_empty() {
            continue;
        }
        let more = images.len() > each as usize;
        images.truncate(each as usize);
        let card = Card::new(document, now);
        groups.push(Group { card, images, more });
    }
    let whole = seen == looked_at && looked_at < LOOKED_AT as usize;
    Ok(render(&GalleryPage {
        shell: Shell::still(&around, Section::Images, &stats),
        groups,
        until: query.until,
        each,
        later: query.after.is_some(),
        next: last.filter(|_| !whole),
        looked_at: LOOKED_AT,
    }))
}

/// The least id of the day after `day`: ids sort by the time they were made.
fn first_after(day: &str) -> Result<DocumentId, Problem> {
    let malformed = || Problem::invalid(format!("{day:?} is no day: use YYYY-MM-DD"));
    let date: Date = day.parse().map_err(|_| malformed())?;
    let end = date.tomorrow().map_err(|_| malformed())?;
    let end = TimeZone::UTC
        .to_timestamp(end.into())
        .map_err(|_| malformed())?;
    let ms = u128::try_from(end.as_millisecond()).map_err(|_| malformed())?;
    Ok(DocumentId(Uuid::from_u128(ms << 80)))
}
