//! `GET /metrics`, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use kbqueue_core::{QueueName, QueueStats, State as DocumentState};

use crate::problem::Problem;
use crate::state::ApiState;

/// Upper bounds of the buckets of request times, in seconds.
const BUCKETS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// What is counted while requests come and go.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// By method, route (not path: there are only so many) and status.
    requests: Mutex<BTreeMap<(String, String, u16), u64>>,
    /// By route, until the answer begins.
    seconds: Mutex<BTreeMap<String, Times>>,
    pub(crate) event_streams: AtomicU64,
    pub(crate) upload_bytes: AtomicU64,
    pub(crate) files_taken: AtomicU64,
    pub(crate) files_refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Times {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Metrics {
    fn count(&self, method: &str, route: &str, status: u16, took: Duration) {
        let key = (method.to_owned(), route.to_owned(), status);
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry(key).or_default() += 1;
        drop(requests);
        let seconds = took.as_secs_f64();
        let mut all = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let times = all.entry(route.to_owned()).or_default();
        for (bucket, bound) in times.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
        times.count += 1;
        times.sum += seconds;
    }
}

/// Counts requests by their route.
pub(crate) async fn record(
    State(state): State<ApiState>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let method = request.method().as_str();
    // Anybody can invent methods, and each would be kept.
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let method = known
        .into_iter()
        .find(|known| *known == method)
        .unwrap_or("other");
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("none", MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    state.metrics.count(method, &route, status, began.elapsed());
    response
}

/// Figures for Prometheus
#[utoipa::path(
    get, path = "/metrics", tag = "operations",
    responses((status = 200, content_type = "text/plain", body = String))
)]
pub(crate) async fn metrics(State(state): State<ApiState>) -> Result<Response, Problem> {
    let mut queues = Vec::new();
    for queue in state.queues(None) {
        let stats = state.store.stats(&queue).await?;
        queues.push((queue, stats));
    }
    let mut text = String::new();
    write(&mut text, &state.metrics, &queues).expect("writing to a String succeeds");
    Ok((
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response())
}

fn write(text: &mut String, metrics: &Metrics, queues: &[(QueueName, QueueStats)]) -> fmt::Result {
    head(
        text,
        "kbqueue_documents",
        "gauge",
        "Documents by queue and state.",
    )?;
    for (queue, stats) in queues {
        for state in DocumentState::ALL {
            let count = stats.counts.of(state);
            writeln!(
                text,
                "kbqueue_documents{{queue=\"{queue}\",state=\"{state}\"}} {count}"
            )?;
        }
    }
    head(
        text,
        "kbqueue_workers",
        "gauge",
        "Workers that live, in any process.",
    )?;
    for (queue, stats) in queues {
        writeln!(
            text,
            "kbqueue_workers{{queue=\"{queue}\"}} {}",
            stats.live_workers
        )?;
    }
    head(
        text,
        "kbqueue_paused",
        "gauge",
        "1 while a queue is paused.",
    )?;
    for (queue, stats) in queues {
        let paused = u8::from(stats.settings.paused);
        writeln!(text, "kbqueue_paused{{queue=\"{queue}\"}} {paused}")?;
    }
    for (name, kind, help, value) in [
        (
            "kbqueue_event_streams",
            "gauge",
            "Clients that listen to events.",
            &metrics.event_streams,
        ),
        (
            "kbqueue_upload_bytes_total",
            "counter",
            "Bytes of files taken.",
            &metrics.upload_bytes,
        ),
        (
            "kbqueue_files_taken_total",
            "counter",
            "Files taken.",
            &metrics.files_taken,
        ),
        (
            "kbqueue_files_refused_total",
            "counter",
            "Files refused.",
            &metrics.files_refused,
        ),
    ] {
        head(text, name, kind, help)?;
        writeln!(text, "{name} {}", value.load(Ordering::Relaxed))?;
    }
    head(
        text,
        "kbqueue_http_requests_total",
        "counter",
        "Requests answered.",
    )?;
    let requests = metrics
        .requests
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    for ((method, route, status), count) in &*requests {
        writeln!(
            text,
            "kbqueue_http_requests_total{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}} {count}"
        )?;
    }
    drop(requests);
    let name = "kbqueue_http_request_duration_seconds";
    head(text, name, "histogram", "Until an answer begins.")?;
    let all = metrics
        .seconds
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    for (route, times) in &*all {
        for (bucket, bound) in times.buckets.iter().zip(BUCKETS) {
            writeln!(
                text,
                "{name}_bucket{{route=\"{route}\",le=\"{bound}\"}} {bucket}"
            )?;
        }
        let Times { count, sum, .. } = times;
        writeln!(
            text,
            "{name}_bucket{{route=\"{route}\",le=\"+Inf\"}} {count}"
        )?;
        writeln!(text, "{name}_sum{{route=\"{route}\"}} {sum}")?;
        writeln!(text, "{name}_count{{route=\"{route}\"}} {count}")?;
    }
    Ok(())
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
}
