//! `kbq chunks`.

use std::io::{self, BufWriter, Write};

use clap::Args;
use kbqueue::store::OutputQuery;
use kbqueue::{Chunk, Document, DocumentId, State};

use crate::{Failure, Place};

/// How many chunks are read at once.
const AT_ONCE: u32 = 500;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  kbq chunks 0198c7a2-… | less\n  kbq chunks 0198c7a2-… --json | jq -r .text"
)]
pub(crate) struct Options {
    /// The document, as `kbq add` printed it
    id: DocumentId,

    /// One JSON object a line instead of text
    #[arg(long)]
    json: bool,
}

/// Prints what there is so far, and says where that is not all.
pub(crate) async fn chunks(place: &Place, options: &Options) -> Result<(), Failure> {
    let store = place.store().await?;
    let document = store.document(options.id).await?.ok_or_else(|| {
        Failure::Told(format!(
            "there is no document {} in {}",
            options.id, place.store
        ))
    })?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut query = OutputQuery::new(document.id, AT_ONCE);
    // One generation, even if another becomes visible on the way.
    query.generation = Some(document.lifecycle.visible().chunks);
    loop {
        let chunks = store.chunks(query.clone()).await?;
        for chunk in &chunks {
            print(&mut out, chunk, options.json)?;
        }
        match chunks.last() {
            Some(last) => query.after = Some(last.ordinal),
            None => break,
        }
    }
    out.flush()?;
    verdict(&document)
}

fn print(out: &mut impl Write, chunk: &Chunk, json: bool) -> io::Result<()> {
    if json {
        serde_json::to_writer(&mut *out, chunk)?;
        return writeln!(out);
    }
    let (first, last) = (chunk.first_page, chunk.last_page);
    write!(out, "--- chunk {}, ", chunk.ordinal)?;
    if first == last {
        write!(out, "page {first}")?;
    } else {
        write!(out, "pages {first} to {last}")?;
    }
    if let Some(section) = &chunk.section {
        write!(out, ", {section}")?;
    }
    writeln!(out, "\n{}\n", chunk.text)
}

fn verdict(document: &Document) -> Result<(), Failure> {
    let (life, name) = (&document.lifecycle, &document.filename);
    if life.completed.is_some() {
        for page in &document.failed_pages {
            eprintln!(
                "kbq: {name}: page {} could not be read: {}",
                page.page, page.cause
            );
        }
        return Ok(());
    }
    if life.state == State::Failed {
        let reason = life.error.as_deref().unwrap_or("no reason is known");
        return Err(Failure::Told(format!("{name} failed: {reason}")));
    }
    eprintln!("kbq: {name} is {}: these are its chunks so far", life.state);
    Ok(())
}
