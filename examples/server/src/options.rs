//! The command line and its environment variables.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use jiff::SignedDuration;
use kbqueue::axum::{ApiOptions, Tokens};
use kbqueue::pdf::{OcrMode, PdfOptions};
use kbqueue::state::CrashLimits;
use kbqueue::{ChunkOptions, ProcessorOptions, QueueName, SecretKey};

/// Takes PDFs in over HTTP and gives their text back in chunks.
///
/// Durations take a unit: 500ms, 10s, 1h. Logs go to standard error (RUST_LOG sets how much), the
/// address to standard output.
#[derive(Parser)]
#[command(
    name = "kbqueue-server",
    version,
    after_help = "Example:\n  kbqueue-server --listen 127.0.0.1:8080\n  \
                  curl -F files=@report.pdf http://127.0.0.1:8080/api/medical/knowledge/upload"
)]
pub(crate) struct Options {
    /// Where to listen; port 0 takes a free one. Other than loopback addresses need tokens;
    /// without, requests have to name localhost or a loopback address as their host
    #[arg(
        long,
        env = "KBQUEUE_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "HOST:PORT"
    )]
    pub(crate) listen: String,

    /// Where documents are kept
    #[arg(
        long,
        env = "KBQUEUE_STORE",
        default_value = "sqlite:kbqueue-data/kbqueue.db",
        value_name = "URL"
    )]
    pub(crate) store: String,

    /// Where uploaded files are kept
    #[arg(
        long,
        env = "KBQUEUE_BLOBS",
        default_value = "file:kbqueue-data/blobs",
        value_name = "URL"
    )]
    pub(crate) blobs: String,

    /// Token that allows everything
    #[arg(long, env = "KBQUEUE_ADMIN_TOKEN", hide_env_values = true, value_parser = token, value_name = "TOKEN")]
    admin_token: Option<String>,

    /// Token that allows reading, uploading and starting batches
    #[arg(long, env = "KBQUEUE_UPLOADER_TOKEN", hide_env_values = true, value_parser = token, value_name = "TOKEN")]
    uploader_token: Option<String>,

    /// Token that allows reading
    #[arg(long, env = "KBQUEUE_READER_TOKEN", hide_env_values = true, value_parser = token, value_name = "TOKEN")]
    reader_token: Option<String>,

    /// What passwords of documents are stored under: 32 bytes in Base64 (`openssl rand -base64 32`), the same
    /// for all servers and workers of a store. Without it, uploads with a password are refused
    #[arg(long, env = "KBQUEUE_SECRET_KEY", hide_env_values = true, value_parser = SecretKey::parse, value_name = "KEY")]
    secret_key: Option<SecretKey>,

    /// Where the API is mounted
    #[arg(long, env = "KBQUEUE_PREFIX", default_value = "/api/medical/knowledge", value_parser = prefix, value_name = "PATH")]
    pub(crate) prefix: String,

    /// Queues to serve, separated by commas; uploads that name none go to the first
    #[arg(
        long,
        env = "KBQUEUE_QUEUE",
        default_value = "default",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    queue: Vec<QueueName>,

    /// The largest file taken; an upload of several may be four times as large
    #[arg(long, env = "KBQUEUE_MAX_UPLOAD_BYTES", default_value_t = 1 << 30, value_name = "BYTES")]
    max_upload_bytes: u64,

    /// Whether identical content answers with the document that has it already
    #[arg(
        long,
        env = "KBQUEUE_DEDUPE",
        default_value = "on",
        value_name = "ON|OFF"
    )]
    dedupe: Switch,

    /// Requests that each token may make a minute [default: no limit]
    #[arg(long, env = "KBQUEUE_REQUESTS_PER_MINUTE", value_name = "N")]
    requests_per_minute: Option<NonZeroU32>,

    /// Which pages are read by OCR: off, auto (those whose text is missing or broken), or always
    #[arg(long, env = "KBQUEUE_OCR", default_value = OCR, value_parser = ocr, value_name = "MODE")]
    ocr: OcrMode,

    /// Languages that OCR looks for, by tesseract's names, separated by commas
    #[arg(
        long,
        env = "KBQUEUE_OCR_LANGUAGES",
        default_value = "eng",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    ocr_languages: Vec<String>,

    /// Whether to process documents: always, when a request comes by, or not at all
    #[arg(long, env = "KBQUEUE_WORKERS", default_value = "on")]
    pub(crate) workers: Workers,

    /// Documents processed at once [default: the number of cores]
    #[arg(long, env = "KBQUEUE_CONCURRENCY", value_name = "N")]
    concurrency: Option<NonZeroUsize>,

    /// Documents claimed at once, at most
    #[arg(
        long,
        env = "KBQUEUE_BATCH_SIZE",
        default_value = "3",
        value_name = "N"
    )]
    batch_size: NonZeroUsize,

    /// How long to wait for news before looking for work
    #[arg(long, env = "KBQUEUE_CHECK_INTERVAL", default_value = "10s", value_parser = duration, value_name = "DURATION")]
    check_interval: Duration,

    /// How long a worker holds a document without a sign of life
    #[arg(long, env = "KBQUEUE_LEASE", default_value = "60s", value_parser = duration, value_name = "DURATION")]
    lease: Duration,

    /// How often an error is tried again
    #[arg(
        long,
        env = "KBQUEUE_MAX_RETRIES",
        default_value_t = 3,
        value_name = "N"
    )]
    max_retries: u32,

    /// How long one attempt at a document may take, or `off`
    #[arg(long, env = "KBQUEUE_MAX_PROCESSING_TIME", default_value = "1h", value_parser = limit, value_name = "DURATION")]
    max_processing_time: Limit,

    /// How long an attempt may go without a new page
    #[arg(long, env = "KBQUEUE_STALL_TIMEOUT", default_value = "10m", value_parser = duration, value_name = "DURATION")]
    stall_timeout: Duration,

    /// Workers that a document may kill in a row before it is given up
    #[arg(
        long,
        env = "KBQUEUE_MAX_CRASHES",
        default_value = "3",
        value_name = "N"
    )]
    max_crashes: NonZeroU32,

    /// Characters that a chunk has at least, where its document has them
    #[arg(
        long,
        env = "KBQUEUE_CHUNK_MIN",
        default_value_t = 1000,
        value_name = "CHARS"
    )]
    chunk_min: u32,

    /// Characters that a chunk has at most
    #[arg(
        long,
        env = "KBQUEUE_CHUNK_MAX",
        default_value_t = 2000,
        value_name = "CHARS"
    )]
    chunk_max: u32,

    /// Characters that a chunk repeats of the one before, at most
    #[arg(
        long,
        env = "KBQUEUE_CHUNK_OVERLAP",
        default_value_t = 0,
        value_name = "CHARS"
    )]
    chunk_overlap: u32,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// When documents are processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workers {
    /// As soon as there are any
    On,
    /// A batch at a time, set off by requests, at most one every check interval
    OnRequest,
    /// By others
    Off,
}

/// A duration, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit(Option<Duration>);

impl Options {
    /// How documents are to be processed.
    ///
    /// # Errors
    /// In words, where chunks of these sizes cannot be cut.
    pub(crate) fn processing(&self) -> Result<ProcessorOptions, String> {
        let mut options = ProcessorOptions::default();
        options.queues.clone_from(&self.queue);
        options.batch_size = self.batch_size.get();
        options.check_interval = self.check_interval;
        options.lease = self.lease;
        options.retry.max_retries = self.max_retries;
        options.max_processing_time = self.max_processing_time.0;
        options.stall_timeout = self.stall_timeout;
        let max_crashes = self.max_crashes.get();
        options.crash_limits = CrashLimits {
            max_crashes,
            max_crashes_total: CrashLimits::default().max_crashes_total.max(max_crashes),
        };
        if let Some(concurrency) = self.concurrency {
            options.concurrency = concurrency.get();
        }
        options.chunking = ChunkOptions::new(self.chunk_min, self.chunk_max, self.chunk_overlap)
            .map_err(|error| format!("{error} (--chunk-min, --chunk-max, --chunk-overlap)"))?;
        options.secret_key.clone_from(&self.secret_key);
        Ok(options)
    }

    /// How the API is to work.
    pub(crate) fn api(&self, processing: ProcessorOptions) -> ApiOptions {
        let mut options = ApiOptions::default();
        options.prefix.clone_from(&self.prefix);
        options.tokens = Tokens {
            admin: self.admin_token.clone(),
            uploader: self.uploader_token.clone(),
            reader: self.reader_token.clone(),
        };
        options.max_upload_bytes = self.max_upload_bytes;
        options.max_request_bytes = self.max_upload_bytes.saturating_mul(4);
        options.requests_per_minute = self.requests_per_minute;
        options.dedupe_content = self.dedupe == Switch::On;
        options.processing = processing;
        options
    }

    pub(crate) fn pdf(&self, pdfium: PathBuf) -> PdfOptions {
        let mut options = PdfOptions::new(pdfium);
        options.ocr = self.ocr;
        options.ocr_languages.clone_from(&self.ocr_languages);
        options
    }
}

/// What a build without OCR can do is off.
const OCR: &str = if cfg!(feature = "ocr") { "auto" } else { "off" };

fn ocr(word: &str) -> Result<OcrMode, &'static str> {
    OcrMode::parse(word).ok_or("use off, auto or always")
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration: SignedDuration = text
        .parse()
        .map_err(|_| "use a number and a unit, such as 500ms, 10s or 1h".to_owned())?;
    Duration::try_from(duration)
        .ok()
        .filter(|duration| *duration >= Duration::from_millis(1))
        .ok_or_else(|| "use at least 1ms".to_owned())
}

fn limit(text: &str) -> Result<Limit, String> {
    if text == "off" {
        return Ok(Limit(None));
    }
    duration(text).map(|limit| Limit(Some(limit)))
}

/// An empty variable in a container's environment must not count as "no token needed".
fn token(text: &str) -> Result<String, &'static str> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("a token is ASCII letters, digits and signs without spaces, and not empty")
    }
}

fn prefix(text: &str) -> Result<String, &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
    let path = text.trim_end_matches('/');
    if text.starts_with('/') && path.chars().all(plain) && !path.contains("//") {
        Ok(path.to_owned())
    } else {
        Err("a path begins with / and has letters, digits and -_.~ between slashes")
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(args: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from(["kbqueue-server"].iter().chain(args))
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        Options::command().debug_assert();
        let options = parse(&[]).unwrap().processing().unwrap();
        assert_eq!(
            format!("{options:?}"),
            format!("{:?}", ProcessorOptions::default())
        );
    }

    #[test]
    fn durations_take_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        for wrong in ["10", "-1s", "0s", "soon", ""] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(limit("off"), Ok(Limit(None)));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for wrong in [
            ["--admin-token", ""],
            ["--reader-token", "two words"],
            ["--prefix", "api"],
            ["--prefix", "/a/{b}"],
            ["--queue", "a,b c"],
            ["--batch-size", "0"],
            ["--workers", "maybe"],
            ["--ocr", "sometimes"],
        ] {
            assert!(parse(&wrong).is_err(), "{wrong:?}");
        }
        assert!(
            parse(&["--chunk-min", "3000"])
                .unwrap()
                .processing()
                .is_err()
        );
        assert_eq!(parse(&["--prefix", "/"]).unwrap().prefix, "");
    }
}
