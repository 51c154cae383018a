//! `kbq status`.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use kbqueue::queue::StateCounts;
use kbqueue::store::DocumentQuery;
use kbqueue::{Document, DocumentId, State, Store, StoreError};

use crate::{Failure, Place};

/// How often a watched status is looked at anew.
const INTERVAL: Duration = Duration::from_millis(500);
/// How many documents of a state are listed, for each queue.
const LISTED: u32 = 20;

#[derive(Args)]
#[command(after_help = "Examples:\n  kbq status\n  kbq status --watch --queue default,slow")]
pub(crate) struct Options {
    /// Keep showing it, with a bar for each document being processed, until Ctrl-C
    #[arg(long)]
    watch: bool,
}

/// The queues as they stand, taken together.
struct Overview {
    counts: StateCounts,
    working: bool,
    paused: bool,
    processing: Vec<Document>,
    failed: Vec<Document>,
}

pub(crate) async fn status(place: &Place, options: &Options) -> Result<(), Failure> {
    let store = place.store().await?;
    if !options.watch {
        return Ok(print(&overview(&*store, place).await?)?);
    }
    if io::stdout().is_terminal() {
        return watch(&*store, place).await;
    }
    // Bars are for people: a file or a pipe gets the plain text, again and again.
    loop {
        print(&overview(&*store, place).await?)?;
        writeln!(io::stdout())?;
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn overview(store: &dyn Store, place: &Place) -> Result<Overview, StoreError> {
    let mut all = Overview {
        counts: StateCounts::default(),
        working: false,
        paused: true,
        processing: Vec::new(),
        failed: Vec::new(),
    };
    for queue in &place.queue {
        let stats = store.stats(queue).await?;
        for state in State::ALL {
            *all.counts.of_mut(state) += stats.counts.of(state);
        }
        all.working |= stats.live_workers > 0;
        all.paused &= stats.settings.paused;
        let list = async |state| {
            let mut query = DocumentQuery::in_state(queue.clone(), state);
            query.limit = LISTED;
            store.documents(query).await
        };
        all.processing.extend(list(State::Processing).await?);
        all.failed.extend(list(State::Failed).await?);
    }
    Ok(all)
}

fn print(overview: &Overview) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", summary(overview))?;
    for document in &overview.processing {
        let percent = document.lifecycle.progress.percent;
        writeln!(
            out,
            "processing  {}  {}  {percent} %, {}",
            document.id,
            document.filename,
            progress(document)
        )?;
    }
    for document in &overview.failed {
        let reason = document
            .lifecycle
            .error
            .as_deref()
            .unwrap_or("no reason is known");
        writeln!(
            out,
            "failed      {}  {}: {reason}",
            document.id, document.filename
        )?;
    }
    Ok(())
}

async fn watch(store: &dyn Store, place: &Place) -> Result<(), Failure> {
    let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
    let head = screen.add(ProgressBar::new_spinner().with_style(style("{msg}")));
    let mut bars: HashMap<DocumentId, ProgressBar> = HashMap::new();
    loop {
        let overview = overview(store, place).await?;
        head.set_message(summary(&overview));
        bars.retain(|id, bar| {
            let still = overview
                .processing
                .iter()
                .any(|document| document.id == *id);
            if !still {
                bar.finish_and_clear();
                screen.remove(bar);
            }
            still
        });
        for document in &overview.processing {
            let bar = bars.entry(document.id).or_insert_with(|| {
                let style = style("{bar:30} {pos:>3} %  {prefix}  {msg}");
                let bar = ProgressBar::new(100).with_style(style);
                screen.add(bar.with_prefix(document.filename.clone()))
            });
            bar.set_position(document.lifecycle.progress.percent.into());
            bar.set_message(progress(document));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates here are sound")
}

fn summary(overview: &Overview) -> String {
    let mut line = if overview.working {
        "workers running"
    } else {
        "no workers"
    }
    .to_owned();
    if overview.paused {
        line += ", paused";
    }
    for state in State::ALL {
        line += &format!("  {state} {}", overview.counts.of(state));
    }
    line + &format!("  total {}", overview.counts.total())
}

fn progress(document: &Document) -> String {
    let progress = &document.lifecycle.progress;
    let mut text = match progress.total_pages {
        Some(pages) => format!("page {} of {pages}", progress.current_page),
        None => "opening".to_owned(),
    };
    if let Some(eta_ms) = progress.eta_ms {
        text += &format!(", about {} s left", eta_ms.div_ceil(1000));
    }
    text
}
