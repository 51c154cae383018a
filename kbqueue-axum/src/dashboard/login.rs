//! Signing in by pasting a token, and out again.

use askama::Template;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Form, FromRequestParts, Query, State};
use axum::http::header::SET_COOKIE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::actions::Change;
use super::session;
use super::shell::{Section, Shell};
use super::{Base, render, see_other};
use crate::dto::now;
use crate::problem::Problem;
use crate::state::ApiState;

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    shell: Shell,
    next: String,
    wrong: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct LoginQuery {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub(crate) struct LoginForm {
    token: String,
    #[serde(default)]
    next: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Base {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let base = parts.extensions.get::<Self>().cloned();
        Ok(base.unwrap_or_else(|| Self(String::new())))
    }
}

/// `GET /login`.
pub(crate) async fn page(
    base: Base,
    headers: HeaderMap,
    query: Result<Query<LoginQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    Ok(show(&base, &headers, query?.0.next, false))
}

/// `POST /login`.
pub(crate) async fn sign_in(
    State(state): State<ApiState>,
    base: Base,
    headers: HeaderMap,
    form: Result<Form<LoginForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form?;
    let token = form.token.trim();
    let Some(set) = session::sign_in(&state.options.tokens, token, &headers, now()) else {
        let page = show(&base, &headers, form.next, true);
        return Ok((StatusCode::UNAUTHORIZED, page).into_response());
    };
    let response = see_other(&base.0, local(&form.next));
    Ok(with_cookie(response, &set))
}

/// `POST /logout`.
pub(crate) async fn sign_out(headers: HeaderMap, change: Change) -> Result<Response, Problem> {
    let to_login = see_other(&change.around.base, "/login");
    Ok(with_cookie(to_login, &session::sign_out(&headers)))
}

fn show(base: &Base, headers: &HeaderMap, next: String, wrong: bool) -> Response {
    let shell = Shell::bare(&base.0, Section::None, None, headers);
    render(&LoginPage { shell, next, wrong })
}

fn with_cookie(mut response: Response, set: &str) -> Response {
    if let Ok(set) = HeaderValue::from_str(set) {
        response.headers_mut().append(SET_COOKIE, set);
    }
    response
}

/// A path of the dashboard, or its first page: nobody is sent elsewhere by a link to the sign-in page.
fn local(path: &str) -> &str {
    let plain = |c: char| c.is_ascii_graphic() && c != '\\';
    if path.starts_with('/') && !path.starts_with("//") && path.chars().all(plain) {
        path
    } else {
        "/"
    }
}

#[cfg(test)]
mod tests {
    use super::local;

    #[test]
    fn signing_in_leads_nowhere_else() {
        assert_eq!(local("/documents?state=failed"), "/documents?state=failed");
        for elsewhere in [
            "//evil.example",
            "https://evil.example",
            "/\\evil",
            "/a\r\nb",
            "",
        ] {
            assert_eq!(local(elsewhere), "/", "{elsewhere}");
        }
    }
}
