//! The dashboard: pages for people, whole without JavaScript, live with it.
//!
//! Every page is rendered here, whole. The script hears from `live` that something changed, fetches the
//! page that it shows once more, and takes over what is different, so there is one way to render a thing.

mod actions;
mod assets;
mod document;
mod gallery;
mod list;
mod live;
mod login;
mod outputs;
mod overview;
mod search;
mod session;
mod shell;
mod upload;
mod view;

use askama::Template;
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, NestedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, HeaderName, LOCATION, REFERRER_POLICY,
    SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};

use crate::auth::{Role, same_origin};
use crate::dto::{FileAnswer, now};
use crate::problem::Problem;
use crate::state::ApiState;
use crate::text::percent_encoded;
use session::Visitor;
use shell::{Section, Shell};

/// Nothing but what this server sends itself, and no script or style inside a page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

pub(crate) fn routes(state: &ApiState) -> Router<ApiState> {
    let upload = Router::new()
        .route(
            "/upload",
            get(upload::page)
                .route_layer(crate::timeout())
                .post(upload::take),
        )
        // Files are limited one by one, while they are read.
        .layer(DefaultBodyLimit::disable());
    // Of however many documents.
    let bulk = Router::new().route("/documents/bulk", post(actions::bulk));
    Router::new()
        .route("/", get(overview::page))
        .route("/live", get(live::live))
        .route("/login", get(login::page).post(login::sign_in))
        .route("/logout", post(login::sign_out))
        .route("/assets/{name}", get(assets::asset))
        .route("/queue/{action}", post(actions::queue))
        .route("/documents", get(list::page))
        .route("/documents/{id}", get(document::page))
        .route("/documents/{id}/chunks", get(outputs::chunks))
        .route("/documents/{id}/images", get(outputs::images))
        .route("/documents/{id}/images/{ordinal}", get(outputs::image))
        .route(
            "/documents/{id}/images/{ordinal}/{size}",
            get(outputs::image_bytes),
        )
        .route("/documents/{id}/pdf", get(outputs::pdf))
        .route("/documents/{id}/source", get(outputs::source))
        .route("/documents/{id}/{action}", post(actions::document))
        .route("/images", get(gallery::page))
        .route("/search", get(search::page))
        .route_layer(crate::timeout())
        .merge(upload)
        .merge(bulk)
        .fallback(|| async { Problem::no_such_path() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(from_fn_with_state(state.clone(), enter))
}

/// Where the dashboard is mounted, to be put before its paths.
#[derive(Debug, Clone)]
struct Base(String);

/// Finds out who is there, sends those who have to sign in to do so, and shows problems as pages.
async fn enter(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let base = match NestedPath::from_request_parts(&mut parts, &state).await {
        Ok(path) => path.as_str().trim_end_matches('/').to_owned(),
        Err(_) => String::new(),
    };
    let headers = parts.headers.clone();
    let path = parts.uri.path().to_owned();
    let options = &state.options;
    let (visitor, remember) = if options.roles_from_host {
        match parts.extensions.get::<Role>() {
            Some(role) => Some(Visitor::known(*role, &headers)).unzip(),
            None => (None, None),
        }
    } else if options.tokens.any() {
        (Visitor::of(&options.tokens, &headers, now()), None)
    } else {
        Some(Visitor::known(Role::Admin, &headers)).unzip()
    };
    let remember = remember.flatten();
    let open = path == "/login" || path.starts_with("/assets/");
    let problem = if visitor.is_none() && !open {
        if parts.method == Method::GET && path != "/live" && !options.roles_from_host {
            let next = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            return sealed(see_other(
                &base,
                &format!("/login?next={}", percent_encoded(next)),
            ));
        }
        Some(Problem::unauthorized("sign in with a token first"))
    } else if parts.method != Method::GET && parts.method != Method::HEAD && !same_origin(&headers)
    {
        // Browsers that say nothing still need the form's token.
        Some(Problem::foreign_form())
    } else if !open && !options.roles_from_host {
        let role = visitor.as_ref().map(|visitor| visitor.role);
        role.and_then(|role| state.limiter.take(role).err())
    } else {
        None
    };
    let mut response = match problem {
        Some(problem) => problem.into_response(),
        None => {
            if let Some(visitor) = visitor.clone() {
                parts.extensions.insert(visitor);
            }
            parts.extensions.insert(Base(base.clone()));
            next.run(Request::from_parts(parts, body)).await
        }
    };
    let wants_json = path == "/upload" && headers.contains_key("x-form-token");
    if !wants_json {
        let problem = response.extensions_mut().remove::<Problem>();
        if let Some(problem) = problem.or_else(|| Problem::of_bare(&response)) {
            let shell = Shell::bare(&base, Section::None, visitor.as_ref(), &headers);
            let mut page = error_page(shell, &problem);
            // Such as Retry-After and Allow.
            for (name, value) in response.headers() {
                if !page.headers().contains_key(name) && *name != CONTENT_LENGTH {
                    page.headers_mut().append(name, value.clone());
                }
            }
            response = page;
        }
    }
    if let Some(cookie) = remember.and_then(|set| HeaderValue::from_str(&set).ok()) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    sealed(response)
}

/// Adds the headers that every answer of the dashboard has, unless its handler knew better.
fn sealed(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ] {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    shell: Shell,
    status: u16,
    title: String,
    detail: String,
    /// What became of each file of an upload.
    files: Vec<FileAnswer>,
}

fn error_page(shell: Shell, problem: &Problem) -> Response {
    let body = problem.body(None);
    let page = ErrorPage {
        shell,
        status: body.status,
        title: body.title.to_owned(),
        detail: body.detail,
        files: body.documents,
    };
    (problem.status(), render(&page)).into_response()
}

/// A page as a response.
fn render(page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// To a path of the dashboard with a GET; `/` is its first page.
fn see_other(base: &str, path: &str) -> Response {
    // Mounted at /dashboard, the first page is there and not at /dashboard/.
    let location = match path.strip_prefix('/') {
        Some(rest) if !base.is_empty() && (rest.is_empty() || rest.starts_with('?')) => {
            format!("{base}{rest}")
        }
        _ => format!("{base}{path}"),
    };
    let mut response = StatusCode::SEE_OTHER.into_response();
    // What goes into an address here is encoded, so it is always a header's value.
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// # Errors
/// Unless the visitor has `needed`.
fn allowed(visitor: &Visitor, needed: Role) -> Result<(), Problem> {
    if visitor.role < needed {
        return Err(Problem::forbidden(visitor.role, needed));
    }
    Ok(())
}
