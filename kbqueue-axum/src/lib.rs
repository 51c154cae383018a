//! kbqueue over HTTP: axum routers to mount in a service of your own.
//!
//! [`api`] is what clients talk to, under any prefix: upload, queue status, documents and what was made
//! of them, live events. [`process`] starts one batch, [`health`] is for probes and monitors,
//! [`dashboard`] is for people, and [`router`] has all four at their usual places, with an OpenAPI
//! description. Errors are `application/problem+json` (RFC 9457)
//! under stable type names, those of axum itself included.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use axum::Router;
//! use kbqueue_axum::{ApiOptions, ApiState};
//! use kbqueue_core::library::Library;
//! use kbqueue_core::{BlobStore, Extractor, Processor, ProcessorOptions};
//!
//! fn service(
//!     store: Arc<dyn Library>,
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
mod body;
mod dashboard;
mod documents;
mod dto;
mod events;
mod fields;
mod files;
mod library;
mod limiter;
mod metrics;
mod openapi;
mod ops;
mod outputs;
mod problem;
mod queue;
mod state;
mod status;
mod text;
mod trigger;
mod upload;

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Redirect;
use axum::routing::get;
use bytes::Bytes;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};
use tower_http::request_id::{
    MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer,
};
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use auth::{Role, Tokens};
pub use state::{ApiOptions, ApiState};
pub use trigger::{TriggerLayer, Triggering};

use problem::Problem;

/// How long a call may take until it begins to answer. Uploads and batches take what they take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// Upload, queue status, documents and what was made of them, events, to be nested under any prefix.
pub fn api(state: ApiState) -> Router {
    finish(api_routes(&state).into(), state)
}

/// `/process`: starts one batch and answers when it is done, for schedulers of all kinds.
pub fn process(state: ApiState) -> Router {
    finish(process_routes(&state).into(), state)
}

/// `/healthz`, `/readyz` and `/metrics`, for probes and monitors; the first two need no token.
pub fn health(state: ApiState) -> Router {
    finish(health_routes(&state).into(), state)
}

/// Pages for people: how the queues stand, live; every document with its chunks and images; uploads
/// and all that can be done to documents. Everything that a page needs is in this program.
///
/// Mount it with [`Router::nest`] under a path of its own. People sign in by pasting one of
/// [`ApiOptions::tokens`]; with none set, everybody may do everything.
pub fn dashboard(state: ApiState) -> Router {
    layered(dashboard::routes(&state), state)
}

/// Everything: [`api`] under [`ApiOptions::prefix`], [`process`] under `/api/queue`, [`health`],
/// [`dashboard`] under `/dashboard`, and the description of the calls as `/openapi.json`.
///
/// # Panics
/// Where the prefix is not empty and does not begin with `/`.
pub fn router(state: ApiState) -> Router {
    let (routes, described) = all_routes(&state).split_for_parts();
    let json = openapi::complete(described).to_json();
    let json = Bytes::from(json.expect("a description is JSON"));
    let description = Router::new().route(
        "/openapi.json",
        get(async move || ([(CONTENT_TYPE, "application/json")], json)),
    );
    let routes = routes
        .merge(allow(description, &state, Role::Reader))
        .nest("/dashboard", dashboard::routes(&state))
        .route("/", get(to_dashboard))
        .route("/dashboard/", get(to_dashboard));
    finish(routes, state)
}

/// The OpenAPI 3.1 description of what [`router`] answers, as JSON.
///
/// # Panics
/// As [`router`].
#[must_use]
pub fn openapi_json(state: &ApiState) -> String {
    let described = openapi::complete(all_routes(state).into_openapi());
    described.to_json().expect("a description is JSON")
}

fn all_routes(state: &ApiState) -> OpenApiRouter<ApiState> {
    let all = OpenApiRouter::new()
        .nest("/api/queue", process_routes(state))
        .merge(health_routes(state));
    match state.prefix() {
        "" => all.merge(api_routes(state)),
        prefix => all.nest(prefix, api_routes(state)),
    }
}

fn api_routes(state: &ApiState) -> OpenApiRouter<ApiState> {
    let reads = OpenApiRouter::new()
        .routes(routes!(status::queue_status))
        .routes(routes!(queue::settings))
        .routes(routes!(events::events))
        .routes(routes!(documents::list))
        .routes(routes!(documents::document))
        .routes(routes!(outputs::chunks))
        .routes(routes!(outputs::pages))
        .routes(routes!(outputs::images))
        .routes(routes!(library::all_images))
        .routes(routes!(library::search))
        .routes(routes!(files::image))
        .routes(routes!(files::thumbnail))
        .routes(routes!(files::source));
    let controls = OpenApiRouter::new()
        .routes(routes!(queue::configure))
        .routes(routes!(documents::bulk))
        .routes(routes!(documents::cancel))
        .routes(routes!(documents::retry))
        .routes(routes!(documents::rechunk))
        .routes(routes!(documents::change))
        .routes(routes!(documents::delete))
        .layer(DefaultBodyLimit::max(body::MAX_BYTES));
    let upload = OpenApiRouter::new()
        .routes(routes!(upload::upload))
        // Files are limited one by one, while they are read.
        .layer(DefaultBodyLimit::disable());
    let quick = guard(reads, state, Role::Reader)
        .merge(guard(controls, state, Role::Admin))
        .route_layer(timeout());
    quick.merge(guard(upload, state, Role::Uploader))
}

fn process_routes(state: &ApiState) -> OpenApiRouter<ApiState> {
    let process = OpenApiRouter::new().routes(routes!(status::process));
    guard(process, state, Role::Uploader)
}

fn health_routes(state: &ApiState) -> OpenApiRouter<ApiState> {
    let metrics = OpenApiRouter::new().routes(routes!(metrics::metrics));
    OpenApiRouter::new()
        .routes(routes!(ops::healthz))
        .routes(routes!(ops::readyz))
        .merge(guard(metrics, state, Role::Reader))
        .route_layer(timeout())
}

async fn to_dashboard() -> Redirect {
    Redirect::to("/dashboard")
}

fn timeout() -> TimeoutLayer {
    TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, ANSWER_PATIENCE)
}

fn guard(routes: OpenApiRouter<ApiState>, state: &ApiState, role: Role) -> OpenApiRouter<ApiState> {
    let guard = auth::Guard {
        state: state.clone(),
        role,
    };
    routes.route_layer(from_fn_with_state(guard, auth::require))
}

fn allow(routes: Router<ApiState>, state: &ApiState, role: Role) -> Router<ApiState> {
    let guard = auth::Guard {
        state: state.clone(),
        role,
    };
    routes.route_layer(from_fn_with_state(guard, auth::require))
}

/// Makes the routes whole: what matches none of them is a problem document too, and every request has an
/// id and a span.
fn finish(routes: Router<ApiState>, state: ApiState) -> Router {
    let routes = routes
        .fallback(|| async { Problem::no_such_path() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() });
    layered(routes, state)
}

/// Puts around the routes what every request passes. The last layer is the first to see a request.
fn layered(routes: Router<ApiState>, state: ApiState) -> Router {
    // What is compressed already, or asked for in parts, stays as it is.
    let compressed = DefaultPredicate::new().and(NotForContentType::new("application/pdf"));
    routes
        .layer(CatchPanicLayer::new())
        .layer(from_fn(problem::name_instance))
        .layer(from_fn_with_state(state.clone(), metrics::record))
        .layer(CompressionLayer::new().compress_when(compressed))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(TraceLayer::new_for_http().make_span_with(span))
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .with_state(state)
}

fn span(request: &Request) -> tracing::Span {
    let id = request.extensions().get::<RequestId>();
    let id = id.and_then(|id| id.header_value().to_str().ok());
    // Not the query: it may say more than belongs into a log.
    tracing::info_span!("http", method = %request.method(), path = request.uri().path(), id)
}
