//! `kbq cancel`, `kbq retry`, `kbq delete` and `kbq change`.

use std::io::{self, Write};

use clap::Args;
use kbqueue::error::chain;
use kbqueue::store::{Change, Control, DocumentQuery};
use kbqueue::{DocumentId, State, StoreExt};

use crate::{Failure, Place};

/// Which documents: some by id, or all that a filter finds.
#[derive(Args)]
pub(crate) struct Which {
    /// Documents, as `kbq add` printed them
    #[arg(value_name = "ID", required_unless_present_any = ["state", "tenant", "name", "all"])]
    ids: Vec<DocumentId>,

    /// All documents in this state: queued, processing, completed, failed or cancelled
    #[arg(long, conflicts_with = "ids", value_parser = state)]
    state: Option<State>,

    /// All documents of this tenant
    #[arg(long, conflicts_with = "ids")]
    tenant: Option<String>,

    /// All documents whose file names begin with this
    #[arg(long, conflicts_with = "ids", value_name = "PREFIX")]
    name: Option<String>,

    /// All documents of the queue
    #[arg(long, conflicts_with_all = ["ids", "state", "tenant", "name"])]
    all: bool,
}

#[derive(Args)]
#[command(
    after_help = "What is processing is stopped by its worker, within seconds. Filters work on \
                  each of --queue.\n\nExamples:\n  kbq cancel 0198c7a2-…\n  kbq cancel --state queued --tenant acme"
)]
pub(crate) struct Cancel {
    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  kbq retry 0198c7a2-…\n  kbq retry --state failed\n  \
                  kbq retry --state completed --name report --from-scratch"
)]
pub(crate) struct Retry {
    #[command(flatten)]
    which: Which,

    /// Extract everything again, instead of going on where it stopped
    #[arg(long)]
    from_scratch: bool,
}

#[derive(Args)]
#[command(after_help = "What is processing has to be cancelled first.\n\n\
                  Examples:\n  kbq delete 0198c7a2-…\n  kbq delete --state failed --queue slow")]
pub(crate) struct Delete {
    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  kbq change 0198c7a2-… --priority 10\n  \
                  kbq change --tenant acme --state queued --priority=-5")]
pub(crate) struct Changes {
    #[command(flatten)]
    which: Which,

    /// Higher is claimed first, within a tenant
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        required_unless_present = "metadata"
    )]
    priority: Option<i16>,

    /// Data of your own, as JSON
    #[arg(long, value_name = "JSON", value_parser = json)]
    metadata: Option<serde_json::Value>,
}

pub(crate) async fn cancel(place: &Place, options: &Cancel) -> Result<(), Failure> {
    ask(place, &options.which, Control::Cancel, "cancelled").await
}

pub(crate) async fn retry(place: &Place, options: &Retry) -> Result<(), Failure> {
    let from_scratch = options.from_scratch;
    let retry = Control::Retry { from_scratch };
    ask(place, &options.which, retry, "queued again").await
}

pub(crate) async fn delete(place: &Place, options: &Delete) -> Result<(), Failure> {
    ask(place, &options.which, Control::Delete, "deleted").await
}

pub(crate) async fn change(place: &Place, options: &Changes) -> Result<(), Failure> {
    let change = Change {
        priority: options.priority,
        metadata: options.metadata.clone(),
        available_at: None,
    };
    ask(place, &options.which, Control::Change(change), "changed").await
}

/// Of documents that were named, each has to be able to do it; a filter passes over those that cannot.
async fn ask(place: &Place, which: &Which, control: Control, done: &str) -> Result<(), Failure> {
    let store = place.store().await?;
    let (mut affected, mut refused) = (0, 0);
    for id in &which.ids {
        match store.control(*id, control.clone()).await {
            Ok(_) => affected += 1,
            Err(error) => {
                refused += 1;
                eprintln!("kbq: {}", chain(&error));
            }
        }
    }
    if which.ids.is_empty() {
        for queue in &place.queue {
            let mut query = DocumentQuery::default();
            query.queue = Some(queue.clone());
            query.state = which.state;
            query.tenant.clone_from(&which.tenant);
            query.name.clone_from(&which.name);
            affected += store.control_all(query, control.clone()).await?;
        }
    }
    writeln!(io::stdout(), "{done}: {affected}")?;
    match refused {
        0 => Ok(()),
        _ => Err(Failure::Told(format!(
            "{refused} of {} documents were not {done}",
            which.ids.len()
        ))),
    }
}

fn state(word: &str) -> Result<State, &'static str> {
    State::parse(word).ok_or("use queued, processing, completed, failed or cancelled")
}

fn json(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}
