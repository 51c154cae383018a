//! What was made of a document: chunks, pages, images.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{OriginalUri, Path, Query, State};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use kbqueue_core::error::chain;
use kbqueue_core::output::PageSource;
use kbqueue_core::store::OutputQuery;
use kbqueue_core::{Chunk, DocumentId, Image, Page, StoreError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::documents::{MAX_LIMIT, find, limit};
use crate::dto::PageQuery;
use crate::problem::Problem;
use crate::state::ApiState;

const NDJSON: &str = "application/x-ndjson";

/// A piece of the document's text, fit for an index.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Chunk)]
pub(crate) struct ChunkBody {
    /// Counted from 0 without gaps.
    ordinal: u32,
    text: String,
    first_page: u32,
    last_page: u32,
    /// In Unicode scalar values of the document's text.
    start_offset: u64,
    /// Exclusive.
    end_offset: u64,
    /// The heading of the outline under which its first page falls.
    section: Option<String>,
}

impl From<Chunk> for ChunkBody {
    fn from(chunk: Chunk) -> Self {
        Self {
            ordinal: chunk.ordinal,
            text: chunk.text,
            first_page: chunk.first_page,
            last_page: chunk.last_page,
            start_offset: chunk.start_offset,
            end_offset: chunk.end_offset,
            section: chunk.section,
        }
    }
}

/// One page of chunks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChunksPage {
    chunks: Vec<ChunkBody>,
    /// `after` of the next page; null on the last one.
    next: Option<u32>,
}

/// A page's text, or why there is none.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Page)]
pub(crate) struct PageBody {
    /// Counted from 1.
    page: u32,
    /// The label that the document gives it, such as `iv`.
    label: Option<String>,
    section: Option<String>,
    #[schema(value_type = String, pattern = "^(text|ocr|mixed|none)$")]
    source: PageSource,
    /// Why the text was taken from there.
    reason: String,
    /// Of the OCR, 0 to 100; null where there was none.
    confidence: Option<f32>,
    start_offset: u64,
    end_offset: u64,
    text: String,
    /// Why the page could not be read; null for one that was.
    failure: Option<String>,
}

impl From<Page> for PageBody {
    fn from(page: Page) -> Self {
        Self {
            page: page.number,
            label: page.label,
            section: page.section,
            source: page.provenance.source,
            reason: page.provenance.reason,
            confidence: page.provenance.confidence,
            start_offset: page.start_offset,
            end_offset: page.end_offset,
            text: page.text,
            failure: page.failure,
        }
    }
}

/// One page of pages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PagesPage {
    pages: Vec<PageBody>,
    /// `after` of the next page; null on the last one.
    next: Option<u32>,
}

/// A picture of the document.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Image)]
pub(crate) struct ImageBody {
    #[schema(value_type = Uuid)]
    document_id: DocumentId,
    /// Counted from 0 without gaps.
    ordinal: u32,
    /// The page that shows it.
    page: u32,
    media_type: String,
    width: u32,
    height: u32,
    /// Left, top, right, bottom on the page, in points from the top left corner.
    bbox: [f32; 4],
    /// Text found beside it that names it.
    caption: Option<String>,
    /// Where the bytes are, on this server.
    url: String,
    thumbnail_url: Option<String>,
}

impl ImageBody {
    /// `base` is the path of the document's images.
    pub(crate) fn new(document_id: DocumentId, base: &str, image: Image) -> Self {
        // The name of the content makes the address change with it: it is cached for ever.
        let url =
            |path: &str, sha256: &str| format!("{base}/{}{path}?sha256={sha256}", image.ordinal);
        Self {
            document_id,
            ordinal: image.ordinal,
            page: image.page,
            url: url("", &image.blob.sha256),
            thumbnail_url: image.thumbnail.map(|blob| url("/thumbnail", &blob.sha256)),
            media_type: image.media_type,
            width: image.width,
            height: image.height,
            bbox: image.bbox,
            caption: image.caption,
        }
    }
}

/// One page of images.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImagesPage {
    images: Vec<ImageBody>,
    /// `after` of the next page; null on the last one.
    next: Option<u32>,
}

/// Chunks of a document
///
/// One page of them; or, with `Accept: application/x-ndjson`, all of them as lines of JSON.
#[utoipa::path(
    get, path = "/documents/{id}/chunks", tag = "outputs", params(("id" = Uuid, Path), PageQuery),
    responses((status = 200, content((ChunksPage = "application/json"), (String = "application/x-ndjson"))))
)]
pub(crate) async fn chunks(
    State(state): State<ApiState>,
    id: Result<Path<DocumentId>, PathRejection>,
    query: Result<Query<PageQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asked = query?.0;
    let limit = limit(asked.limit)?;
    let document = find(&state, id?.0, asked.queue).await?;
    let mut query = OutputQuery::new(document.id, limit);
    query.after = asked.after;
    if accepts_ndjson(&headers) {
        // Not from one page to the next may a new generation take the place of this one.
        query.generation = Some(document.lifecycle.visible().chunks);
        let lines = Body::from_stream(lines(state, query, asked.limit));
        return Ok(([(CONTENT_TYPE, NDJSON), (VARY, "accept")], lines).into_response());
    }
    query.limit += 1;
    let (chunks, next) = page(state.store.chunks(query).await?, limit, |c| c.ordinal);
    let chunks = chunks.into_iter().map(Into::into).collect();
    Ok(([(VARY, "accept")], Json(ChunksPage { chunks, next })).into_response())
}

/// Pages of a document
#[utoipa::path(
    get, path = "/documents/{id}/pages", tag = "outputs", params(("id" = Uuid, Path), PageQuery),
    responses((status = 200, body = PagesPage))
)]
pub(crate) async fn pages(
    State(state): State<ApiState>,
    id: Result<Path<DocumentId>, PathRejection>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<PagesPage>, Problem> {
    let asked = query?.0;
    let limit = limit(asked.limit)?;
    let document = find(&state, id?.0, asked.queue).await?;
    let mut query = OutputQuery::new(document.id, limit + 1);
    query.after = asked.after;
    let (pages, next) = page(state.store.pages(query).await?, limit, |p| p.number);
    let pages = pages.into_iter().map(Into::into).collect();
    Ok(Json(PagesPage { pages, next }))
}

/// Images of a document
#[utoipa::path(
    get, path = "/documents/{id}/images", tag = "outputs", params(("id" = Uuid, Path), PageQuery),
    responses((status = 200, body = ImagesPage))
)]
pub(crate) async fn images(
    State(state): State<ApiState>,
    OriginalUri(uri): OriginalUri,
    id: Result<Path<DocumentId>, PathRejection>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<ImagesPage>, Problem> {
    let asked = query?.0;
    let limit = limit(asked.limit)?;
    let document = find(&state, id?.0, asked.queue).await?;
    let mut query = OutputQuery::new(document.id, limit + 1);
    query.after = asked.after;
    let (images, next) = page(state.store.images(query).await?, limit, |i| i.ordinal);
    let images = images
        .into_iter()
        .map(|image| ImageBody::new(document.id, uri.path(), image))
        .collect();
    Ok(Json(ImagesPage { images, next }))
}

/// Cuts a page out of what was read, one more than asked for, which tells whether another page follows.
fn page<T>(mut items: Vec<T>, limit: u32, number: fn(&T) -> u32) -> (Vec<T>, Option<u32>) {
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let last = items.last().map(number);
    (items, last.filter(|_| more))
}

/// The chunks from `query.after` on, one a line, at most `limit`. They are read piece by piece, as
/// fast as the client takes them. Where reading fails half-way the transfer breaks off, so that the
/// client can tell.
fn lines(
    state: ApiState,
    query: OutputQuery,
    limit: Option<u32>,
) -> impl stream::Stream<Item = Result<Bytes, StoreError>> {
    let begin = (query.after, limit.unwrap_or(u32::MAX));
    stream::try_unfold(begin, move |(after, left)| {
        let mut query = query.clone();
        query.after = after;
        query.limit = left.min(MAX_LIMIT);
        let store = state.store.clone();
        async move {
            if query.limit == 0 {
                return Ok(None);
            }
            let chunks = store.chunks(query).await.inspect_err(|error| {
                tracing::error!(error = chain(error), "could not read on in chunks");
            })?;
            let Some(last) = chunks.last().map(|chunk| chunk.ordinal) else {
                return Ok(None);
            };
            let sent = u32::try_from(chunks.len()).unwrap_or(left);
            let next = (Some(last), left.saturating_sub(sent));
            Ok(Some((json_lines(chunks), next)))
        }
    })
}

fn json_lines(chunks: Vec<Chunk>) -> Bytes {
    let mut lines = Vec::new();
    for chunk in chunks {
        serde_json::to_writer(&mut lines, &ChunkBody::from(chunk)).expect("plain data is JSON");
        lines.push(b'\n');
    }
    lines.into()
}

fn accepts_ndjson(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|media_type| media_type.trim().eq_ignore_ascii_case(NDJSON))
}
