//! The reference server of kbqueue: the HTTP API and the workers in one process, over the embedded
//! store. Run it with `make serve`; `--help` lists its settings.

mod local;
mod options;
mod serve;

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use kbqueue::axum::{ApiOptions, ApiState, TriggerLayer};
use kbqueue::error::chain;
use kbqueue::pdf::{PdfExtractor, find_pdfium};
use kbqueue::{BlobStore, Processor, ProcessorOptions};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use options::{Options, Workers};
use serve::Connections;

/// What went wrong, and what to do about it, in one line.
type Failure = String;

fn main() -> ExitCode {
    kbqueue::pdf::init();
    let options = Options::parse();
    let processing = options.processing().unwrap_or_else(|error| {
        Options::command()
            .error(ErrorKind::ValueValidation, error)
            .exit()
    });
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("could not start: {error}")),
    };
    let result = runtime.block_on(run(&options, processing));
    // Not dropped: that would wait for whatever parser is still at a page.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &str) -> ExitCode {
    eprintln!("kbqueue-server: {failure}");
    ExitCode::FAILURE
}

async fn run(options: &Options, processing: ProcessorOptions) -> Result<(), Failure> {
    let api = options.api(processing.clone());
    let addresses = addresses(&options.listen, &api).await?;
    let stop = serve::shutdown_signal().map_err(|error| format!("no signals: {error}"))?;
    let store = kbqueue::connect(&options.store)
        .await
        .map_err(|error| format!("--store {}: {}", shown(&options.store), chain(&error)))?;
    let blobs = BlobStore::connect(&options.blobs)
        .map_err(|error| format!("--blobs {}: {}", shown(&options.blobs), chain(&error)))?;
    log_settings(options, &api);

    let mut state = ApiState::new(store.clone(), blobs.clone(), api.clone());
    let processor = if options.workers == Workers::Off {
        None
    } else {
        let extractor = extractor(options)?;
        Some(Processor::new(store, blobs, extractor, processing))
    };
    if let Some(processor) = &processor {
        state = state.with_processor(processor.clone());
    }
    let listener = TcpListener::bind(&*addresses).await.map_err(|error| {
        let listen = &options.listen;
        format!("cannot listen on {listen}: {error}; choose another address with --listen")
    })?;
    let address = listener
        .local_addr()
        .map_err(|error| format!("no address: {error}"))?;
    let mut app = kbqueue::axum::router(state.clone());
    match &processor {
        Some(processor) if options.workers == Workers::OnRequest => {
            app = app.layer(TriggerLayer::new(processor.clone()));
        }
        Some(processor) => processor.start(),
        None => {}
    }
    if !api.tokens.any() {
        app = app.layer(axum::middleware::from_fn(local::only));
    }
    announce(address, &api);

    let mut connections = Connections::default();
    connections.serve(listener, app, stop).await;
    tracing::info!("stopping");
    state.end_events();
    // Both give up in time: neither a slow client nor a slow store keeps the process from ending.
    let released = async {
        if let Some(processor) = &processor {
            processor.stop().await;
        }
    };
    tokio::join!(connections.close(), released);
    tracing::info!("stopped");
    Ok(())
}

fn extractor(options: &Options) -> Result<Arc<PdfExtractor>, Failure> {
    let hint = "(to serve without processing: --workers off)";
    let pdfium = find_pdfium().map_err(|error| format!("{} {hint}", chain(&error)))?;
    let extractor = PdfExtractor::new(options.pdf(pdfium));
    Ok(Arc::new(
        extractor.map_err(|error| format!("{} {hint}", chain(&error)))?,
    ))
}

/// Where to listen. Without tokens only addresses that other machines cannot reach.
async fn addresses(listen: &str, api: &ApiOptions) -> Result<Vec<SocketAddr>, Failure> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(listen)
        .await
        .map_err(|error| format!("--listen {listen}: {error}; use HOST:PORT"))?
        .collect();
    if !api.tokens.any() && !addresses.iter().all(|address| address.ip().is_loopback()) {
        return Err(format!(
            "{listen} can be reached from other machines: set a token (--admin-token or \
             KBQUEUE_ADMIN_TOKEN), or listen on 127.0.0.1"
        ));
    }
    Ok(addresses)
}

fn log_settings(options: &Options, api: &ApiOptions) {
    let processing = &api.processing;
    let queues: Vec<&str> = processing
        .queues
        .iter()
        .map(|queue| queue.as_str())
        .collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        store = shown(&options.store),
        blobs = shown(&options.blobs),
        queues = queues.join(","),
        prefix = api.prefix,
        tokens = ?api.tokens,
        max_upload_bytes = api.max_upload_bytes,
        workers = ?options.workers,
        "starting"
    );
    if options.workers != Workers::Off {
        let chunking = processing.chunking;
        tracing::info!(
            concurrency = processing.concurrency,
            batch_size = processing.batch_size,
            check_interval = ?processing.check_interval,
            lease = ?processing.lease,
            max_retries = processing.retry.max_retries,
            max_processing_time = ?processing.max_processing_time,
            stall_timeout = ?processing.stall_timeout,
            max_crashes = processing.crash_limits.max_crashes,
            chunk_min = chunking.min_chars(),
            chunk_max = chunking.max_chars(),
            chunk_overlap = chunking.overlap_chars(),
            "processing"
        );
    }
    if !api.tokens.any() {
        tracing::warn!("no tokens are set: everybody on this machine may do everything");
    }
}

/// Says where the server is: to programs on standard output, to people what to try there.
fn announce(address: SocketAddr, api: &ApiOptions) {
    let mut stdout = io::stdout();
    // Whoever started this may have closed its end; that is no reason not to serve.
    let _ = writeln!(stdout, "listening on http://{address}");
    let _ = stdout.flush();
    let token = if api.tokens.any() {
        " -H 'Authorization: Bearer TOKEN'"
    } else {
        ""
    };
    let prefix = &api.prefix;
    eprintln!(
        "try: curl{token} -F files=@report.pdf http://{address}{prefix}/upload\n\
         then: curl{token} http://{address}{prefix}/queue-status, or http://{address}/ in a browser"
    );
}

/// An address as it may be logged: without a password.
fn shown(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}://…{}", &url[..scheme], &url[at..]),
        _ => url.to_owned(),
    }
}
