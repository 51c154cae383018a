//! The reference server under load: 200 uploads of 5 MB at once, while 500 clients listen.
//!
//! The driver runs on the same cores, so the figures are those of both. Latency is from the instant that
//! the store gave a change (`created_at`, `started_at`, `completed_at`) to the instant that a client has
//! read it.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use futures::stream;
use jiff::Timestamp;
use kbqueue_tests::pdf::write_pdf;
use reqwest::multipart::{Form, Part};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::report::quantile;

const UPLOADS: usize = 200;
const UPLOAD_BYTES: usize = 5_000_000;
const CLIENTS: usize = 500;
/// The run is given up after this.
const PATIENCE: Duration = Duration::from_secs(600);

/// What is read of an event.
#[derive(Deserialize)]
struct Event {
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
}

/// What one client heard.
#[derive(Default)]
struct Heard {
    latencies_ms: Vec<f64>,
    snapshots: usize,
    completed: usize,
}

/// Runs it, and prints the figures.
pub(crate) async fn run() -> io::Result<()> {
    let directory = tempfile::tempdir()?;
    let (mut server, address) = start(&directory).await?;
    let pid = server.id().expect("it runs");
    let base = format!("http://{address}/api/medical/knowledge");
    let idle = memory_mib(pid, "VmRSS:")?;

    let listening = Arc::new(AtomicUsize::new(0));
    let clients: Vec<JoinHandle<io::Result<Heard>>> = (0..CLIENTS)
        .map(|_| tokio::spawn(listen(address.clone(), listening.clone())))
        .collect();
    while listening.load(Ordering::SeqCst) < CLIENTS {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let with_clients = memory_mib(pid, "VmRSS:")?;

    let mut pdf = Vec::new();
    write_pdf(&mut pdf, 1, UPLOAD_BYTES)?;
    let pdf = bytes_of(pdf);
    let began = Instant::now();
    let http = reqwest::Client::new();
    let uploads = (0..UPLOADS).map(|number| upload(&http, &base, &pdf, number));
    let uploads = try_join_all(uploads).await.map_err(io::Error::other)?;
    let taken = uploads.iter().filter(|(taken, _)| *taken).count();
    let all_uploaded = began.elapsed();
    let heard = tokio::time::timeout(PATIENCE, join_all(clients)).await?;
    let all_completed = began.elapsed();

    let mut all = Heard::default();
    let mut satisfied = 0;
    for client in heard {
        let client = client.map_err(io::Error::other)??;
        satisfied += usize::from(client.completed == UPLOADS);
        all.latencies_ms.extend(client.latencies_ms);
        all.snapshots += client.snapshots;
    }
    let peak = memory_mib(pid, "VmHWM:")?;
    server.kill().await?;
    let seconds: Vec<f64> = uploads.iter().map(|(_, took)| took.as_secs_f64()).collect();
    println!("| measure | figure |\n| --- | --: |");
    println!("| uploads of 5 MB at once, taken | {taken} of {UPLOADS} |");
    println!(
        "| all uploaded after | {:.1} s |",
        all_uploaded.as_secs_f64()
    );
    println!(
        "| an upload: median, p99 | {:.1} s, {:.1} s |",
        quantile(&seconds, 0.5),
        quantile(&seconds, 0.99)
    );
    println!(
        "| all processed after | {:.1} s |",
        all_completed.as_secs_f64()
    );
    println!("| clients that heard of every document | {satisfied} of {CLIENTS} |");
    println!(
        "| events read, all clients together | {} |",
        all.latencies_ms.len()
    );
    println!(
        "| snapshots beyond the first | {} |",
        all.snapshots - CLIENTS
    );
    for (name, q) in [("median", 0.5), ("p99", 0.99), ("most", 1.0)] {
        let ms = quantile(&all.latencies_ms, q);
        println!("| from a change to a client, {name} | {ms:.0} ms |");
    }
    println!(
        "| server's memory: idle, with clients, most | {idle} MiB, {with_clients} MiB, {peak} MiB |"
    );
    Ok(())
}

type Body = reqwest::Body;

fn bytes_of(pdf: Vec<u8>) -> Arc<[u8]> {
    pdf.into()
}

/// Uploads one file that is like no other, and says whether it was taken and how long that took.
async fn upload(
    http: &reqwest::Client,
    base: &str,
    pdf: &Arc<[u8]>,
    number: usize,
) -> reqwest::Result<(bool, Duration)> {
    const PIECE: usize = 64 * 1024;
    let pdf = pdf.clone();
    let last = format!("% {number:06}\n");
    let length = pdf.len() + last.len();
    let pieces = (0..pdf.len()).step_by(PIECE).map(move |at| {
        let end = pdf.len().min(at + PIECE);
        Ok::<_, io::Error>(pdf[at..end].to_vec())
    });
    let pieces = pieces.chain([Ok(last.into_bytes())]);
    let body = Body::wrap_stream(stream::iter(pieces));
    let part = Part::stream_with_length(body, length as u64).file_name(format!("{number}.pdf"));
    let form = Form::new().part("files", part);
    let began = Instant::now();
    let answer = http
        .post(format!("{base}/upload"))
        .multipart(form)
        .send()
        .await?;
    let taken = answer.status() == 200;
    if !taken {
        eprintln!("{}", answer.text().await?);
    }
    Ok((taken, began.elapsed()))
}

/// Listens to the queue until every document is completed.
async fn listen(address: String, listening: Arc<AtomicUsize>) -> io::Result<Heard> {
    let mut socket = TcpStream::connect(&address).await?;
    let request = format!("GET /api/medical/knowledge/events HTTP/1.1\r\nHost: {address}\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut lines = BufReader::new(socket).lines();
    let mut heard = Heard::default();
    let mut name = String::new();
    while heard.completed < UPLOADS {
        let Some(line) = lines.next_line().await? else {
            break;
        };
        if let Some(event) = line.strip_prefix("event: ") {
            event.clone_into(&mut name);
        }
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        match name.as_str() {
            "snapshot" => {
                if heard.snapshots == 0 {
                    listening.fetch_add(1, Ordering::SeqCst);
                }
                heard.snapshots += 1;
            }
            "queued" | "processing" | "completed" => {
                let event: Event = serde_json::from_str(data)?;
                let (queued, processing) = (name == "queued", name == "processing");
                let at = match (queued, processing) {
                    (true, _) => Some(event.created_at),
                    (_, true) => event.started_at,
                    _ => event.completed_at,
                };
                let at = at.expect("it has that time");
                let late = Timestamp::now().duration_since(at);
                heard.latencies_ms.push(late.as_secs_f64() * 1000.0);
                heard.completed += usize::from(!queued && !processing);
            }
            _ => {}
        }
    }
    Ok(heard)
}

/// Starts the server that was built beside this program, and waits until it listens.
async fn start(directory: &tempfile::TempDir) -> io::Result<(Child, String)> {
    let beside: PathBuf = std::env::current_exe()?.with_file_name("kbqueue-server");
    let mut server = Command::new(&beside)
        .args([
            "--listen",
            "127.0.0.1:0",
            "--store",
            "sqlite:kbqueue.db",
            "--blobs",
            "file:blobs",
        ])
        .current_dir(directory.path())
        .env("KBQUEUE_PDFIUM", kbqueue_tests::program::pdfium())
        .env("RUST_LOG", "warn")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| io::Error::other(format!("{}: {error}", beside.display())))?;
    let stdout = server.stdout.take().expect("it is piped");
    let line = BufReader::new(stdout).lines().next_line().await?;
    let address = line
        .as_deref()
        .and_then(|line| line.strip_prefix("listening on http://"));
    let address = address.ok_or_else(|| io::Error::other("the server did not come up"))?;
    Ok((server, address.to_owned()))
}

/// A figure of the process, in MiB.
fn memory_mib(pid: u32, name: &str) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with(name));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    Ok(kib.unwrap_or_default() / 1024)
}
