//! What came out of a document, and the document itself.

use askama::Template;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use kbqueue_core::store::OutputQuery;
use kbqueue_core::{Chunk, DocumentId, Image};
use serde::Deserialize;

use super::document::find;
use super::render;
use super::shell::{Around, Shell};
use super::view::{Card, size};
use crate::dto::QueueQuery;
use crate::files::{self, ImageQuery, find_image};
use crate::problem::Problem;
use crate::state::ApiState;

const CHUNKS: u32 = 20;
const IMAGES: u32 = 60;

#[derive(Debug, Deserialize)]
pub(crate) struct AfterQuery {
    after: Option<u32>,
}

#[derive(Template)]
#[template(path = "chunks.html")]
struct ChunksPage {
    shell: Shell,
    card: Card,
    tab: &'static str,
    chunks: Vec<Chunk>,
    later: bool,
    next: Option<u32>,
}

/// `GET /documents/{id}/chunks`.
pub(crate) async fn chunks(
    State(state): State<ApiState>,
    around: Around,
    id: Result<Path<DocumentId>, PathRejection>,
    query: Result<Query<AfterQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let (card, stats) = find(&state, id?.0).await?;
    let mut wanted = OutputQuery::new(card.document.id, CHUNKS + 1);
    wanted.after = query.after;
    let mut chunks = state.store.chunks(wanted).await?;
    let more = chunks.len() > CHUNKS as usize;
    chunks.truncate(CHUNKS as usize);
    let mut shell = Shell::of_document(&around, &stats, card.document.id);
    shell.refresh = !card.document.lifecycle.state.is_terminal();
    Ok(render(&ChunksPage {
        shell,
        card,
        tab: "chunks",
        next: chunks.last().map(|chunk| chunk.ordinal).filter(|_| more),
        chunks,
        later: query.after.is_some(),
    }))
}

#[derive(Template)]
#[template(path = "images.html")]
struct ImagesPage {
    shell: Shell,
    card: Card,
    tab: &'static str,
    images: Vec<Image>,
    later: bool,
    next: Option<u32>,
}

/// `GET /documents/{id}/images`.
pub(crate) async fn images(
    State(state): State<ApiState>,
    around: Around,
    id: Result<Path<DocumentId>, PathRejection>,
    query: Result<Query<AfterQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let (card, stats) = find(&state, id?.0).await?;
    let mut wanted = OutputQuery::new(card.document.id, IMAGES + 1);
    wanted.after = query.after;
    let mut images = state.store.images(wanted).await?;
    let more = images.len() > IMAGES as usize;
    images.truncate(IMAGES as usize);
    let mut shell = Shell::of_document(&around, &stats, card.document.id);
    shell.refresh = !card.document.lifecycle.state.is_terminal();
    Ok(render(&ImagesPage {
        shell,
        card,
        tab: "images",
        next: images.last().map(|image| image.ordinal).filter(|_| more),
        images,
        later: query.after.is_some(),
    }))
}

#[derive(Template)]
#[template(path = "image.html")]
struct ImagePage {
    shell: Shell,
    card: Card,
    tab: &'static str,
    image: Image,
    bytes: String,
    previous: Option<u32>,
    next: Option<u32>,
}

/// `GET /documents/{id}/images/{ordinal}`: one image, for browsers without JavaScript and for links.
pub(crate) async fn image(
    State(state): State<ApiState>,
    around: Around,
    path: Result<Path<(DocumentId, u32)>, PathRejection>,
) -> Result<Response, Problem> {
    let Path((id, ordinal)) = path?;
    let (card, stats) = find(&state, id).await?;
    let (image, next) = find_image(&state, id, ordinal).await?;
    Ok(render(&ImagePage {
        shell: Shell::still(&around, super::Section::Documents, &stats),
        card,
        tab: "images",
        bytes: size(image.blob.size_bytes),
        image,
        previous: ordinal.checked_sub(1),
        next,
    }))
}

/// `GET /documents/{id}/images/{ordinal}/full` and `…/thumbnail`, which is the image itself where there
/// is no smaller one.
pub(crate) async fn image_bytes(
    state: State<ApiState>,
    path: Result<Path<(DocumentId, u32, String)>, PathRejection>,
    query: Result<Query<ImageQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Path((id, ordinal, which)) = path?;
    let (image, _) = find_image(&state, id, ordinal).await?;
    let path = Ok(Path((id, ordinal)));
    match which.as_str() {
        "thumbnail" if image.thumbnail.is_some() => {
            files::thumbnail(state, path, query, headers).await
        }
        "thumbnail" | "full" => files::image(state, path, query, headers).await,
        _ => Err(Problem::no_such_path()),
    }
}

#[derive(Template)]
#[template(path = "pdf.html")]
struct PdfPage {
    shell: Shell,
    card: Card,
    tab: &'static str,
    page: Option<u32>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PdfQuery {
    page: Option<u32>,
}

/// `GET /documents/{id}/pdf`.
pub(crate) async fn pdf(
    State(state): State<ApiState>,
    around: Around,
    id: Result<Path<DocumentId>, PathRejection>,
    query: Result<Query<PdfQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let (card, stats) = find(&state, id?.0).await?;
    Ok(render(&PdfPage {
        shell: Shell::still(&around, super::Section::Documents, &stats),
        card,
        tab: "pdf",
        page: query.page,
    }))
}

/// `GET /documents/{id}/source`: the file, to be shown in a frame of ours.
pub(crate) async fn source(
    state: State<ApiState>,
    id: Result<Path<DocumentId>, PathRejection>,
    query: Result<Query<QueueQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut response = files::source(state, id, query, headers).await?;
    // Browsers show no PDF in a sandbox.
    response.headers_mut().insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'",
        ),
    );
    Ok(response)
}
