//! A plain page that shows how the queues stand.

use std::fmt::{self, Display, Write};

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST};
use axum::response::{Html, IntoResponse, Response};
use kbqueue_core::store::DocumentQuery;
use kbqueue_core::{Document, QueueStats, State as DocumentState};

use crate::problem::Problem;
use crate::state::ApiState;
use crate::status::{overview, worker_status};

/// How many of the newest documents are shown.
const NEWEST: u32 = 20;
const STYLE: &str = include_str!("index.css");

/// `GET /`.
pub(crate) async fn index(
    State(state): State<ApiState>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let queues = state.queues(None);
    let (stats, processing) = overview(&*state.store, &queues).await?;
    let mut newest = Vec::new();
    for queue in queues {
        let mut query = DocumentQuery::default();
        query.queue = Some(queue);
        query.limit = NEWEST;
        newest.extend(state.store.documents(query).await?);
    }
    newest.sort_by_key(|document| std::cmp::Reverse(document.id));
    newest.truncate(NEWEST as usize);
    let upload = format!("http://{}{}/upload", host(&headers), state.prefix());
    let html = Html(page(&stats, &processing, &newest, &upload));
    let headers = [
        (CACHE_CONTROL, "no-store"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
    ];
    Ok((headers, html).into_response())
}

fn page(stats: &QueueStats, processing: &[Document], newest: &[Document], upload: &str) -> String {
    let mut html = String::new();
    write(&mut html, stats, processing, newest, upload).expect("writing to a String succeeds");
    html
}

fn write(
    html: &mut String,
    stats: &QueueStats,
    processing: &[Document],
    newest: &[Document],
    upload: &str,
) -> fmt::Result {
    let status = worker_status(stats);
    write!(
        html,
        r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="5">
<title>kbqueue</title>
<style>{STYLE}</style>
<h1>kbqueue</h1>
<p>Workers: <b class="{status}">{status}</b>"#
    )?;
    if stats.settings.paused {
        write!(html, " · the queue is <b>paused</b>")?;
    }
    write!(html, "\n<dl>")?;
    for state in DocumentState::ALL {
        let count = stats.counts.of(state);
        write!(html, "<div><dt>{state}</dt><dd>{count}</dd></div>")?;
    }
    writeln!(html, "</dl>")?;
    if !processing.is_empty() {
        write!(html, "<h2>Processing</h2>\n<table>")?;
        processing.iter().try_for_each(|d| progress_row(html, d))?;
        writeln!(html, "</table>")?;
    }
    if newest.is_empty() {
        let upload = Escaped(upload);
        return write!(
            html,
            "<h2>Nothing here yet</h2>\n<p>Upload a PDF and watch it here:</p>\n\
             <pre>curl -F files=@document.pdf {upload}</pre>\n"
        );
    }
    write!(html, "<h2>Newest documents</h2>\n<table>")?;
    newest.iter().try_for_each(|d| newest_row(html, d))?;
    writeln!(html, "</table>")
}

fn progress_row(html: &mut String, document: &Document) -> fmt::Result {
    let progress = &document.lifecycle.progress;
    let (name, percent) = (Escaped(&document.filename), progress.percent);
    write!(
        html,
        r#"<tr><td>{name}<td><progress max="100" value="{percent}"></progress> {percent} %<td>"#
    )?;
    match progress.total_pages {
        Some(pages) => write!(html, "page {} of {pages}", progress.current_page)?,
        None => write!(html, "opening")?,
    }
    if let Some(eta_ms) = progress.eta_ms {
        write!(html, ", about {} s left", eta_ms.div_ceil(1000))?;
    }
    writeln!(html)
}

fn newest_row(html: &mut String, document: &Document) -> fmt::Result {
    let (life, name, id) = (
        &document.lifecycle,
        Escaped(&document.filename),
        document.id,
    );
    let state = life.state;
    write!(
        html,
        r#"<tr><td>{name}<br><small>{id}</small><td class="{state}">{state}<td>"#
    )?;
    if let Some(error) = &life.error {
        write!(html, "{}", Escaped(error))?;
    } else if state == DocumentState::Completed {
        let pages = life.progress.total_pages.unwrap_or_default();
        let chunks = life.progress.current_chunk;
        let plural = |count: u32| if count == 1 { "" } else { "s" };
        write!(
            html,
            "{pages} page{}, {chunks} chunk{}",
            plural(pages),
            plural(chunks)
        )?;
    }
    writeln!(html)
}

/// Where the browser found this server, to be shown in a command that may be copied into a shell: so
/// nothing is taken over that a host name cannot contain.
fn host(headers: &HeaderMap) -> &str {
    let host = headers.get(HOST).and_then(|value| value.to_str().ok());
    let named = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    host.filter(|host| host.chars().all(named))
        .unwrap_or("127.0.0.1:8080")
}

/// Text as HTML text.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            _ => f.write_char(c),
        })
    }
}
