//! `kbq failed`.

use std::io::{self, BufWriter, Write};

use clap::Args;
use kbqueue::store::DocumentQuery;
use kbqueue::{Document, State};

use crate::{Failure, Place};

/// How many documents are read at once.
const AT_ONCE: u32 = 200;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  kbq failed\n  kbq failed --quarantined --queue default,slow\n  \
                  kbq retry --state failed"
)]
pub(crate) struct Options {
    /// Only those that were given up because their workers died
    #[arg(long)]
    quarantined: bool,
}

/// Prints every failed document, with why, and what happened in each of its attempts.
pub(crate) async fn failed(place: &Place, options: &Options) -> Result<(), Failure> {
    let store = place.store().await?;
    let mut out = BufWriter::new(io::stdout().lock());
    for queue in &place.queue {
        let mut query = DocumentQuery::in_state(queue.clone(), State::Failed);
        query.limit = AT_ONCE;
        loop {
            let documents = store.documents(query.clone()).await?;
            for document in &documents {
                if document.lifecycle.quarantined || !options.quarantined {
                    print(&mut out, document)?;
                }
            }
            match documents.last() {
                Some(last) => query.after = Some(last.id),
                None => break,
            }
        }
    }
    Ok(out.flush()?)
}

fn print(out: &mut impl Write, document: &Document) -> io::Result<()> {
    let life = &document.lifecycle;
    let reason = life.error.as_deref().unwrap_or("no reason is known");
    let quarantined = if life.quarantined {
        "quarantined: "
    } else {
        ""
    };
    writeln!(
        out,
        "{}  {}  {quarantined}{reason}",
        document.id, document.filename
    )?;
    for attempt in &document.attempts {
        write!(
            out,
            "  {}  {}  {} after {} pages",
            attempt.started_at, attempt.worker, attempt.outcome, attempt.pages
        )?;
        match &attempt.error {
            Some(error) => writeln!(out, ": {error}")?,
            None => writeln!(out)?,
        }
    }
    for page in &document.failed_pages {
        writeln!(out, "  page {}: {}", page.page, page.cause)?;
    }
    Ok(())
}
