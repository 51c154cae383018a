//! Taking files in from a page.

use askama::Template;
use axum::extract::multipart::MultipartRejection;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Multipart, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::shell::{Around, Section, Shell, said};
use super::view::size;
use super::{allowed, render, see_other};
use crate::auth::Role;
use crate::dto::{FileAnswer, QueueQuery};
use crate::problem::Problem;
use crate::state::ApiState;
use crate::status::standing;

#[derive(Template)]
#[template(path = "upload.html")]
struct UploadPage {
    shell: Shell,
    largest: String,
    upload_url: String,
    tokens: bool,
    /// What was sent just now and not taken.
    refused: Vec<FileAnswer>,
}

/// Stands in the address, because whether a form is ours is asked before its files are read.
#[derive(Debug, Deserialize)]
pub(crate) struct UploadQuery {
    #[serde(default)]
    form_token: String,
}

/// `GET /upload`.
pub(crate) async fn page(
    State(state): State<ApiState>,
    around: Around,
) -> Result<Response, Problem> {
    allowed(&around.visitor, Role::Uploader)?;
    Ok(render(&upload_page(&state, &around).await?))
}

/// `POST /upload`: as the API's, for the script; a form without it goes on to the list.
pub(crate) async fn take(
    State(state): State<ApiState>,
    around: Around,
    query: Result<Query<UploadQuery>, QueryRejection>,
    headers: HeaderMap,
    multipart: Result<Multipart, MultipartRejection>,
) -> Result<Response, Problem> {
    allowed(&around.visitor, Role::Uploader)?;
    let by_script = headers
        .get("x-form-token")
        .and_then(|token| token.to_str().ok());
    let Query(query) = query?;
    let token = by_script.unwrap_or(&query.form_token);
    if !around.visitor.owns_form_token(token) {
        return Err(Problem::foreign_form());
    }
    let by_script = by_script.is_some();
    let queue = Ok(Query(QueueQuery { queue: None }));
    let answer = crate::upload::upload(State(state.clone()), queue, headers, multipart).await?;
    if by_script {
        return Ok(answer.into_response());
    }
    let (refused, taken): (Vec<FileAnswer>, Vec<FileAnswer>) = answer
        .0
        .documents
        .into_iter()
        .partition(|file| matches!(file, FileAnswer::Refused { .. }));
    let done = format!("done=upload&n={}", taken.len());
    if refused.is_empty() {
        return Ok(see_other(&around.base, &format!("/documents?{done}")));
    }
    let mut page = upload_page(&state, &around).await?;
    page.shell.said = said(&done);
    page.refused = refused;
    Ok(render(&page))
}

async fn upload_page(state: &ApiState, around: &Around) -> Result<UploadPage, Problem> {
    let stats = standing(&*state.store, &state.queues(None)).await?;
    Ok(UploadPage {
        shell: Shell::still(around, Section::Upload, &stats),
        largest: size(state.options.max_upload_bytes),
        upload_url: around.url(&format!("{}/upload", state.prefix())),
        tokens: state.options.tokens.any(),
        refused: Vec::new(),
    })
}
