//! JSON bodies of requests.

use axum::extract::rejection::BytesRejection;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::problem::Problem;

/// The largest JSON body taken.
pub(crate) const MAX_BYTES: usize = 256 * 1024;

/// Reads a body that has to be there.
pub(crate) fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<T, Problem> {
    let bytes = bytes(body)?;
    if !is_json(headers) {
        return Err(Problem::not_json());
    }
    parse(&bytes)
}

/// Reads a body that may be left out, or null.
pub(crate) fn json_or_default<T: DeserializeOwned + Default>(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<T, Problem> {
    let bytes = bytes(body)?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    if !is_json(headers) {
        return Err(Problem::not_json());
    }
    Ok(parse::<Option<T>>(&bytes)?.unwrap_or_default())
}

fn bytes(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Problem::too_large(format!("a JSON body has at most {MAX_BYTES} bytes"))
        } else {
            Problem::malformed(rejection.body_text())
        }
    })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        Category::Data => Problem::invalid(error.to_string()),
        Category::Syntax | Category::Eof | Category::Io => {
            Problem::malformed(format!("the body is not JSON: {error}"))
        }
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|name| name.eq_ignore_ascii_case("application/json"))
}

/// The media type of a request's body, without parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or(value).trim())
}
