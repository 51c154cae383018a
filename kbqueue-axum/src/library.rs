//! Reading across documents: a search in their text, and all of their images.

use std::fmt;
use std::str::FromStr;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{OriginalUri, Query, State};
use jiff::Timestamp;
use kbqueue_core::library::{Hit, ImageQuery, Position, SearchQuery};
use kbqueue_core::{DocumentId, QueueName};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::documents::limit;
use crate::outputs::ImageBody;
use crate::problem::Problem;
use crate::state::ApiState;

/// Longer searches are refused, in characters.
pub(crate) const MAX_SEARCH: usize = 1000;

/// Query of a search.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SearchParams {
    /// In this queue. Default: the first that this server serves.
    #[param(value_type = Option<String>, pattern = r"^[A-Za-z0-9_.-]{1,64}$")]
    queue: Option<QueueName>,
    /// Words that all occur in a chunk, in any order and case.
    #[param(max_length = 1000)]
    q: String,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<Place>,
    /// How many at most. Default: 50.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Query of a list of images.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ImagesParams {
    /// In this queue. Default: the first that this server serves.
    #[param(value_type = Option<String>, pattern = r"^[A-Za-z0-9_.-]{1,64}$")]
    queue: Option<QueueName>,
    /// Of this document only.
    #[param(value_type = Option<Uuid>)]
    document_id: Option<DocumentId>,
    /// On pages of this number only.
    #[param(minimum = 0, maximum = 4_294_967_295_i64)]
    page: Option<u32>,
    /// At least so many pixels across and down.
    #[param(minimum = 0, maximum = 4_294_967_295_i64)]
    min_side: Option<u32>,
    /// Of documents taken in at this time or later.
    created_from: Option<Timestamp>,
    /// Of documents taken in before this time.
    created_before: Option<Timestamp>,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<Place>,
    /// How many at most. Default: 50.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// A position among the outputs of all documents, as clients carry it from page to page.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Place(pub(crate) Position);

impl TryFrom<String> for Place {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let place = text.split_once(':').and_then(|(document, ordinal)| {
            let document = DocumentId::from_str(document).ok()?;
            Some(Self((document, ordinal.parse().ok()?)))
        });
        place.ok_or("after is not what an answer had as next")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (document, ordinal) = self.0;
        write!(f, "{document}:{ordinal}")
    }
}

fn next(position: Position) -> String {
    Place(position).to_string()
}

/// One page of hits, of the newest document first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HitsPage {
    /// Perhaps fewer than asked for, even none, where there is a next page all the same.
    hits: Vec<HitBody>,
    /// `after` of the next page; null on the last one.
    next: Option<String>,
}

/// A chunk in which all words occur.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Hit)]
pub(crate) struct HitBody {
    #[schema(value_type = Uuid)]
    document_id: DocumentId,
    /// The chunk's.
    ordinal: u32,
    /// The page on which it begins.
    first_page: u32,
    /// The text around the first of the words.
    snippet: String,
    /// Where in the snippet words stand: from and up to, in Unicode scalar values.
    marks: Vec<[usize; 2]>,
}

impl From<Hit> for HitBody {
    fn from(hit: Hit) -> Self {
        let text = hit.snippet.text;
        let scalars = |bytes: usize| text[..bytes].chars().count();
        let marks = hit.snippet.marks.iter();
        let marks = marks.map(|at| [scalars(at.start), scalars(at.end)]);
        Self {
            document_id: hit.document,
            ordinal: hit.ordinal,
            first_page: hit.first_page,
            marks: marks.collect(),
            snippet: text,
        }
    }
}

/// One page of images, those of the newest document first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AllImagesPage {
    /// Perhaps fewer than asked for, even none, where there is a next page all the same.
    images: Vec<ImageBody>,
    /// `after` of the next page; null on the last one.
    next: Option<String>,
}

/// Search in the text of all documents
#[utoipa::path(
    get, path = "/search", tag = "outputs", params(SearchParams),
    responses((status = 200, body = HitsPage))
)]
pub(crate) async fn search(
    State(state): State<ApiState>,
    query: Result<Query<SearchParams>, QueryRejection>,
) -> Result<Json<HitsPage>, Problem> {
    let asked = query?.0;
    if asked.q.chars().count() > MAX_SEARCH {
        return Err(Problem::invalid(format!(
            "q has at most {MAX_SEARCH} characters"
        )));
    }
    let queue = asked.queue.unwrap_or_else(|| state.default_queue());
    let mut query = SearchQuery::new(queue, asked.q);
    query.limit = limit(asked.limit)?;
    query.after = asked.after.map(|place| place.0);
    let found = state.store.search(query).await?;
    Ok(Json(HitsPage {
        hits: found.items.into_iter().map(Into::into).collect(),
        next: found.next.map(next),
    }))
}

/// Images of all documents
#[utoipa::path(
    get, path = "/images", tag = "outputs", params(ImagesParams),
    responses((status = 200, body = AllImagesPage))
)]
pub(crate) async fn all_images(
    State(state): State<ApiState>,
    OriginalUri(uri): OriginalUri,
    query: Result<Query<ImagesParams>, QueryRejection>,
) -> Result<Json<AllImagesPage>, Problem> {
    let asked = query?.0;
    let queue = asked.queue.unwrap_or_else(|| state.default_queue());
    let mut query = ImageQuery::new(queue);
    query.document = asked.document_id;
    query.page = asked.page;
    query.min_side = asked.min_side.unwrap_or(0);
    query.created_from = asked.created_from;
    query.created_before = asked.created_before;
    query.after = asked.after.map(|place| place.0);
    query.limit = limit(asked.limit)?;
    let found = state.store.all_images(query).await?;
    let root = uri.path().strip_suffix("/images").unwrap_or_default();
    let images = found.items.into_iter().map(|found| {
        let base = format!("{root}/documents/{}/images", found.document);
        ImageBody::new(found.document, &base, found.image)
    });
    Ok(Json(AllImagesPage {
        images: images.collect(),
        next: found.next.map(next),
    }))
}
