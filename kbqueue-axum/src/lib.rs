//! kbqueue over HTTP: axum routers to mount in a service of your own.
//!
//! [`api`] is what clients talk to, under any prefix: upload, queue status, documents, chunks.
//! [`process`] starts one batch, [`health`] is for probes, [`dashboard`] is for people, and
//! [`router`] has all four at their usual places. Errors are `application/problem+json` (RFC 9457)
//! under stable type names, those of axum itself included.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use axum::Router;
//! use kbqueue_axum::{ApiOptions, ApiState};
//! use kbqueue_core::{BlobStore, Extractor, Processor, ProcessorOptions, Store};
//!
//! fn service(
//!     store: Arc<dyn Store>,
//!     blobs: BlobStore,
//!     extractor: Arc<dyn Extractor>,
//! ) -> Router {
//!     let options = ProcessorOptions::default();
//!     let processor = Processor::new(store.clone(), blobs.clone(), extractor, options);
//!     processor.start();
//!     let state = ApiState::new(store, blobs, ApiOptions::default()).with_processor(processor);
//!     Router::new()
//!         .nest("/documents", kbqueue_axum::api(state.clone()))
//!         .nest("/queue", kbqueue_axum::process(state))
//! }
//! ```
//!
//! # What an upload leaves behind
//! Each file is enqueued as soon as it has arrived whole. A request that breaks off leaves nothing of
//! the file that was under way, and keeps those before it: repeating the request answers with them.

mod auth;
mod dashboard;
mod documents;
mod dto;
mod fields;
mod problem;
mod state;
mod status;
mod upload;

use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Redirect;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

pub use auth::Tokens;
pub use state::{ApiOptions, ApiState};

use auth::Role;
use problem::Problem;

/// Upload, queue status, documents and their chunks, to be nested under any prefix.
pub fn api(state: ApiState) -> Router {
    finish(api_routes(&state), state)
}

/// `/process`: starts one batch and answers when it is done, for schedulers of all kinds.
pub fn process(state: ApiState) -> Router {
    finish(process_routes(&state), state)
}

/// `/healthz`: answers while the process lives, without a token.
pub fn health() -> Router {
    Router::new().route("/healthz", get(healthz))
}

/// Pages for people: how the queues stand, live; every document with its chunks and images; uploads
/// and all that can be done to documents. Everything that a page needs is in this program.
///
/// Mount it with [`Router::nest`] under a path of its own. People sign in by pasting one of
/// [`ApiOptions::tokens`]; with none set, everybody may do everything.
pub fn dashboard(state: ApiState) -> Router {
    dashboard::routes(&state).with_state(state)
}

/// Everything: [`api`] under [`ApiOptions::prefix`], [`process`] under `/api/queue`, [`health`], and
/// [`dashboard`] under `/dashboard`.
///
/// # Panics
/// Where the prefix is not empty and does not begin with `/`.
pub fn router(state: ApiState) -> Router {
    let all = Router::new()
        .nest("/api/queue", process_routes(&state))
        .route("/healthz", get(healthz))
        .nest("/dashboard", dashboard::routes(&state))
        .route("/", get(to_dashboard))
        .route("/dashboard/", get(to_dashboard));
    let all = match state.prefix() {
        "" => all.merge(api_routes(&state)),
        prefix => all.nest(prefix, api_routes(&state)),
    };
    finish(all, state)
}

fn api_routes(state: &ApiState) -> Router<ApiState> {
    let upload = Router::new()
        .route("/upload", post(upload::upload))
        // Files are limited one by one, while they are read.
        .layer(DefaultBodyLimit::disable());
    let reads = Router::new()
        .route("/queue-status", get(status::queue_status))
        .route("/documents/{id}", get(documents::document))
        .route("/documents/{id}/chunks", get(documents::chunks));
    allow(reads, state, Role::Reader).merge(allow(upload, state, Role::Uploader))
}

fn process_routes(state: &ApiState) -> Router<ApiState> {
    let process = get(status::process).post(status::process);
    allow(
        Router::new().route("/process", process),
        state,
        Role::Uploader,
    )
}

async fn to_dashboard() -> Redirect {
    Redirect::to("/dashboard")
}

async fn healthz() -> Json<serde_json::Value> {
    Json(json!({ "status": "ok" }))
}

fn allow(routes: Router<ApiState>, state: &ApiState, role: Role) -> Router<ApiState> {
    let guard = auth::Guard {
        state: state.clone(),
        role,
    };
    routes.route_layer(from_fn_with_state(guard, auth::require))
}

/// Makes the routes whole: what matches none of them is a problem document too.
fn finish(routes: Router<ApiState>, state: ApiState) -> Router {
    routes
        .fallback(|| async { Problem::no_such_path() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(from_fn(problem::name_instance))
        .with_state(state)
}
