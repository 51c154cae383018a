//! Stored bytes: the uploaded PDFs, and the pictures in them.

use std::fs::File;
use std::io::SeekFrom;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::response::Builder;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::stream;
use kbqueue_core::store::OutputQuery;
use kbqueue_core::{BlobRef, DocumentId, Image, QueueName};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use utoipa::IntoParams;

use crate::documents::find;
use crate::dto::{ProblemBody, QueueQuery};
use crate::problem::Problem;
use crate::state::ApiState;
use crate::text::percent_encoded;

/// How much of a file is in memory at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Query of a picture's bytes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ImageQuery {
    /// Not found where the document is in another queue.
    #[param(value_type = Option<String>, pattern = r"^[A-Za-z0-9_.-]{1,64}$")]
    queue: Option<QueueName>,
    /// Not found where the bytes are others.
    #[param(pattern = "^[0-9a-f]{64}$")]
    sha256: Option<String>,
}

/// The uploaded file
///
/// With `Range` a part of it.
#[utoipa::path(
    get, path = "/documents/{id}/source", tag = "outputs", params(("id" = Uuid, Path), QueueQuery),
    responses(
        (status = 200, content_type = "application/pdf", body = [u8]),
        (status = 206, description = "The part asked for", content_type = "application/pdf", body = [u8]),
        (status = 304, description = "It is what the client has"),
        (status = 416, description = "The file has no such part", content_type = "application/problem+json", body = ProblemBody),
    )
)]
pub(crate) async fn source(
    State(state): State<ApiState>,
    id: Result<Path<DocumentId>, PathRejection>,
    query: Result<Query<QueueQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let document = find(&state, id?.0, query?.0.queue).await?;
    let name = disposition(&document.filename);
    let response = Response::builder()
        .header(CONTENT_TYPE, value(&document.media_type))
        .header(CONTENT_DISPOSITION, value(&name))
        // Always asked for again, so that a document that was deleted is not shown out of a cache.
        .header(CACHE_CONTROL, "private, no-cache");
    send(&state, &document.blob, &headers, response).await
}

/// A picture's bytes
#[utoipa::path(
    get, path = "/documents/{id}/images/{ordinal}", tag = "outputs",
    params(("id" = Uuid, Path), ("ordinal" = u32, Path), ImageQuery),
    responses(
        (status = 200, content_type = "image/*", body = [u8]),
        (status = 206, description = "The part asked for", content_type = "image/*", body = [u8]),
        (status = 304, description = "It is what the client has"),
        (status = 416, description = "The file has no such part", content_type = "application/problem+json", body = ProblemBody),
    )
)]
pub(crate) async fn image(
    State(state): State<ApiState>,
    path: Result<Path<(DocumentId, u32)>, PathRejection>,
    query: Result<Query<ImageQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (Path((id, ordinal)), query) = (path?, query?.0);
    find(&state, id, query.queue).await?;
    let (image, _) = find_image(&state, id, ordinal).await?;
    send_image(
        &state,
        &image.media_type,
        &image.blob,
        query.sha256,
        &headers,
    )
    .await?
    .ok_or_else(|| Problem::no_such_image(id, ordinal))
}

/// A picture, smaller
#[utoipa::path(
    get, path = "/documents/{id}/images/{ordinal}/thumbnail", tag = "outputs",
    params(("id" = Uuid, Path), ("ordinal" = u32, Path), ImageQuery),
    responses(
        (status = 200, content_type = "image/*", body = [u8]),
        (status = 206, description = "The part asked for", content_type = "image/*", body = [u8]),
        (status = 304, description = "It is what the client has"),
        (status = 416, description = "The file has no such part", content_type = "application/problem+json", body = ProblemBody),
    )
)]
pub(crate) async fn thumbnail(
    State(state): State<ApiState>,
    path: Result<Path<(DocumentId, u32)>, PathRejection>,
    query: Result<Query<ImageQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (Path((id, ordinal)), query) = (path?, query?.0);
    let missing = || Problem::no_such_image(id, ordinal);
    find(&state, id, query.queue).await?;
    let (image, _) = find_image(&state, id, ordinal).await?;
    let blob = image.thumbnail.ok_or_else(missing)?;
    let media_type = thumbnail_type(&state, &blob).await?;
    send_image(&state, media_type, &blob, query.sha256, &headers)
        .await?
        .ok_or_else(missing)
}

/// One image of a document, and the ordinal of the one after it.
pub(crate) async fn find_image(
    state: &ApiState,
    id: DocumentId,
    ordinal: u32,
) -> Result<(Image, Option<u32>), Problem> {
    let mut query = OutputQuery::new(id, 2);
    query.after = ordinal.checked_sub(1);
    let mut images = state.store.images(query).await?.into_iter();
    match images.next() {
        Some(image) if image.ordinal == ordinal => Ok((image, images.next().map(|i| i.ordinal))),
        _ => Err(Problem::no_such_image(id, ordinal)),
    }
}

/// `None` where other bytes were asked for.
async fn send_image(
    state: &ApiState,
    media_type: &str,
    blob: &BlobRef,
    sha256: Option<String>,
    headers: &HeaderMap,
) -> Result<Option<Response>, Problem> {
    if sha256.as_ref().is_some_and(|asked| *asked != blob.sha256) {
        return Ok(None);
    }
    // What a document calls a picture is shown as one, or not at all.
    let media_type = if media_type.starts_with("image/") {
        value(media_type)
    } else {
        HeaderValue::from_static("application/octet-stream")
    };
    // Only an address that says which bytes it means never stands for others: what an ordinal stands for
    // changes when its document is processed again.
    let cache = if sha256.is_some() {
        "private, max-age=31536000, immutable"
    } else {
        "private, no-cache"
    };
    let response = Response::builder()
        .header(CONTENT_TYPE, media_type)
        .header(CACHE_CONTROL, cache);
    send(state, blob, headers, response).await.map(Some)
}

/// Stores keep no media type of thumbnails: the bytes say it.
async fn thumbnail_type(state: &ApiState, blob: &BlobRef) -> Result<&'static str, Problem> {
    let mut file = tokio::fs::File::from_std(state.blobs.open(blob).await?);
    let mut head = Vec::new();
    let read = (&mut file).take(12).read_to_end(&mut head).await;
    read.map_err(kbqueue_core::BlobError::from)?;
    Ok(match head.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P'] => "image/webp",
        _ => "application/octet-stream",
    })
}

/// Sends stored bytes, or the part of them that was asked for.
async fn send(
    state: &ApiState,
    blob: &BlobRef,
    headers: &HeaderMap,
    response: Builder,
) -> Result<Response, Problem> {
    let etag = format!("\"{}\"", blob.sha256);
    let response = response
        .header(ETAG, value(&etag))
        .header(ACCEPT_RANGES, "bytes")
        .header(X_CONTENT_TYPE_OPTIONS, "nosniff")
        // A stranger's file is looked at, and does nothing here.
        .header(CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox");
    if lists(headers, IF_NONE_MATCH.as_str(), &etag) {
        return Ok(finish(
            response.status(StatusCode::NOT_MODIFIED),
            Body::empty(),
        ));
    }
    let size = blob.size_bytes;
    let fresh = !headers.contains_key(IF_RANGE) || lists(headers, IF_RANGE.as_str(), &etag);
    let range = headers.get(RANGE).filter(|_| fresh);
    let range = range.and_then(|range| part(range.to_str().ok()?, size));
    let (response, begin, length) = match range {
        Some(Part::None) => return Err(Problem::no_such_range(size)),
        Some(Part::Of { first, last }) => {
            let named = format!("bytes {first}-{last}/{size}");
            let response = response.status(StatusCode::PARTIAL_CONTENT);
            let response = response.header(CONTENT_RANGE, value(&named));
            (response, first, last - first + 1)
        }
        None => (response, 0, size),
    };
    let file = state.blobs.open(blob).await?;
    let body = Body::from_stream(pieces(file, begin, length));
    Ok(finish(response.header(CONTENT_LENGTH, length), body))
}

fn finish(response: Builder, body: Body) -> Response {
    response.body(body).expect("every header was checked")
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"))
}

/// Whether a header of entity tags has this one, or all of them.
fn lists(headers: &HeaderMap, name: &str, etag: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == etag || tag == "*")
}

/// What a range asks for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// From the first to the last byte, both included.
    Of { first: u64, last: u64 },
    /// Nothing that the file has.
    None,
}

/// One range of bytes. `None` for anything else, several ranges among it: that may be ignored, and the
/// whole file is then the answer.
fn part(range: &str, size: u64) -> Option<Part> {
    let (first, last) = range.trim().strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // What is too large for a number is beyond every file.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (first, last) = match (first, last) {
        ("", last) => (size.saturating_sub(number(last)?), size.saturating_sub(1)),
        (first, "") => (number(first)?, size.saturating_sub(1)),
        (first, last) => (number(first)?, number(last)?.min(size.saturating_sub(1))),
    };
    if first >= size {
        return Some(Part::None);
    }
    (first <= last).then_some(Part::Of { first, last })
}

/// A part of a file, piece by piece, as fast as the client takes it.
fn pieces(
    file: File,
    begin: u64,
    length: u64,
) -> impl stream::Stream<Item = std::io::Result<Bytes>> {
    let file = tokio::fs::File::from_std(file);
    stream::try_unfold(
        (file, Some(begin), length),
        |(mut file, begin, left)| async move {
            if let Some(begin) = begin.filter(|begin| *begin > 0) {
                file.seek(SeekFrom::Start(begin)).await?;
            }
            let size = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
            if size == 0 {
                return Ok(None);
            }
            let mut piece = BytesMut::with_capacity(size);
            let read = (&mut file).take(size as u64).read_buf(&mut piece).await?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let left = left - read as u64;
            Ok(Some((piece.freeze(), (file, None, left))))
        },
    )
}

/// Shows the file, under its name where it is saved.
fn disposition(filename: &str) -> String {
    let plain: String = filename
        .chars()
        .map(|c| match c {
            '"' | '\\' => '_',
            c if c.is_ascii() => c,
            _ => '_',
        })
        .collect();
    let encoded = percent_encoded(filename);
    format!("inline; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_as_http_says() {
        let of = |first, last| Some(Part::Of { first, last });
        for (range, expected) in [
            ("bytes=0-0", of(0, 0)),
            ("bytes=2-", of(2, 9)),
            ("bytes=-3", of(7, 9)),
            ("bytes=-30", of(0, 9)),
            ("bytes=5-99999999999999999999999", of(5, 9)),
            ("bytes=10-", Some(Part::None)),
            ("bytes=-0", Some(Part::None)),
            ("bytes=5-4", None),
            ("bytes=0-1,3-4", None),
            ("bytes=a-b", None),
            ("bytes=+1-2", None),
            ("pages=1-2", None),
            ("", None),
        ] {
            assert_eq!(part(range, 10), expected, "{range}");
        }
    }

    #[test]
    fn a_name_ends_no_header() {
        assert_eq!(
            disposition("a\"b\\ü.pdf"),
            "inline; filename=\"a_b__.pdf\"; filename*=UTF-8''a%22b%5C%C3%BC.pdf"
        );
    }
}
