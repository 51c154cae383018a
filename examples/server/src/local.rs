//! Without tokens, whoever reaches this server may do everything. Other machines cannot; web pages that a
//! browser on this machine shows could, by giving a name of theirs this machine's address.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

const REFUSAL: &str = r#"{"type":"urn:kbqueue:problem:foreign-host","title":"The request is for another host","status":421,"detail":"without tokens this server answers to localhost and loopback addresses only; use one of these, or set a token (--admin-token or KBQUEUE_ADMIN_TOKEN)"}"#;

/// Refuses what was not sent to this machine by a name or address that only it has.
pub(crate) async fn only(request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST);
    if host.is_some_and(|host| host.to_str().is_ok_and(is_local)) {
        return next.run(request).await;
    }
    let media_type = [(CONTENT_TYPE, "application/problem+json")];
    (StatusCode::MISDIRECTED_REQUEST, media_type, REFUSAL).into_response()
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let address = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let address: Option<IpAddr> = address.unwrap_or(name).parse().ok();
    name.eq_ignore_ascii_case("localhost") || address.is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn only_what_nobody_else_can_be_called_is_local() {
        for local in [
            "localhost",
            "LOCALHOST:8080",
            "localhost.:80",
            "127.0.0.1",
            "127.0.0.1:8080",
            "127.1.2.3:1",
            "[::1]",
            "[::1]:8080",
        ] {
            assert!(is_local(local), "{local}");
        }
        for other in [
            "",
            "example.com",
            "example.com:8080",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "10.0.0.1:8080",
            "[::2]:8080",
            "[::1",
            ":8080",
        ] {
            assert!(!is_local(other), "{other}");
        }
    }
}
