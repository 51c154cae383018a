//! `kbq`: the library's command-line tool. It works on the same stores as the server, and needs none.
//! `--help` lists its commands.

mod add;
mod chunks;
mod control;
mod failed;
mod queue;
mod status;
mod work;

use std::error::Error;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use kbqueue::error::chain;
use kbqueue::{BlobStore, FullStore, QueueName, SecretKey};

/// Processes PDFs from the command line: in goes a file, out come chunks of text.
#[derive(Parser)]
#[command(
    name = "kbq",
    version,
    after_help = "Example:\n  kbq add report.pdf\n  kbq work --drain\n  kbq status\n  kbq chunks DOCUMENT_ID"
)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

/// Where everything is. Names and defaults are those of the server.
#[derive(Args)]
struct Place {
    /// Where documents are kept
    #[arg(
        long,
        env = "KBQUEUE_STORE",
        default_value = "sqlite:kbqueue-data/kbqueue.db",
        value_name = "URL",
        global = true
    )]
    store: String,

    /// Where their files are kept
    #[arg(
        long,
        env = "KBQUEUE_BLOBS",
        default_value = "file:kbqueue-data/blobs",
        value_name = "URL",
        global = true
    )]
    blobs: String,

    /// Queues, separated by commas; documents are added to the first
    #[arg(
        long,
        env = "KBQUEUE_QUEUE",
        default_value = "default",
        value_delimiter = ',',
        value_name = "NAME",
        global = true
    )]
    queue: Vec<QueueName>,

    /// What passwords of documents are stored under: 32 bytes in Base64 (`openssl rand -base64 32`), the
    /// same for all servers and workers of a store
    #[arg(long, env = "KBQUEUE_SECRET_KEY", hide_env_values = true, value_parser = SecretKey::parse, value_name = "KEY", global = true)]
    secret_key: Option<SecretKey>,
}

#[derive(Subcommand)]
enum Command {
    /// Put PDFs into the queue; prints the id and name of each
    Add(add::Options),
    /// Process what is in the queue, until Ctrl-C
    Work(work::Options),
    /// Show how many documents are in which state, and how far those being processed are
    Status(status::Options),
    /// Print the text of a document, chunk by chunk
    Chunks(chunks::Options),
    /// List what failed: why, when, at which page, and in whose hands
    Failed(failed::Options),
    /// Do documents again: failed, cancelled and completed ones
    Retry(control::Retry),
    /// Stop documents
    Cancel(control::Cancel),
    /// Remove documents with all that was made of them
    Delete(control::Delete),
    /// Give documents another priority or other metadata
    Change(control::Changes),
    /// Let nothing new start; what is processing goes on
    Pause,
    /// Let documents start again
    Resume,
    /// Show or set how many documents may start, be processed and wait
    Limits(queue::Options),
}

/// Why a command did not do all that it was asked to.
enum Failure {
    /// In one line, with what to do about it where that can be said.
    Told(String),
    /// Whoever reads the output has read enough.
    OutputClosed,
}

fn main() -> ExitCode {
    kbqueue::pdf::init();
    let cli = Cli::parse();
    let result = match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let result = runtime.block_on(run(&cli));
            // Not dropped: that would wait for whatever parser is still at a page.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) | Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(Failure::Told(message)) => {
            eprintln!("kbq: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: &Cli) -> Result<(), Failure> {
    match &cli.command {
        Command::Add(options) => add::add(&cli.place, options).await,
        Command::Work(options) => work::work(&cli.place, options).await,
        Command::Status(options) => status::status(&cli.place, options).await,
        Command::Chunks(options) => chunks::chunks(&cli.place, options).await,
        Command::Failed(options) => failed::failed(&cli.place, options).await,
        Command::Retry(options) => control::retry(&cli.place, options).await,
        Command::Cancel(options) => control::cancel(&cli.place, options).await,
        Command::Delete(options) => control::delete(&cli.place, options).await,
        Command::Change(options) => control::change(&cli.place, options).await,
        Command::Pause => queue::pause(&cli.place, true).await,
        Command::Resume => queue::pause(&cli.place, false).await,
        Command::Limits(options) => queue::limits(&cli.place, options).await,
    }
}

impl Place {
    async fn store(&self) -> Result<Arc<dyn FullStore>, Failure> {
        let store = kbqueue::connect(&self.store).await;
        store.map_err(|error| Failure::about(&format!("--store {}", self.store), &error))
    }

    fn blobs(&self) -> Result<BlobStore, Failure> {
        let blobs = BlobStore::connect(&self.blobs);
        blobs.map_err(|error| Failure::about(&format!("--blobs {}", self.blobs), &error))
    }
}

impl Failure {
    fn about(what: &str, error: &(dyn Error + 'static)) -> Self {
        Self::Told(format!("{what}: {}", chain(error)))
    }
}

impl From<kbqueue::StoreError> for Failure {
    fn from(error: kbqueue::StoreError) -> Self {
        Self::Told(chain(&error))
    }
}

/// For output; errors of files are told with their names.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::Told(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
