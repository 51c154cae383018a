//! Writes of workers and of people: checkpoint, renew, settle, control, reap, purge.

use std::time::Instant;

use jiff::Timestamp;
use kbqueue_core::error::chain;
use kbqueue_core::limits::Rate;
use kbqueue_core::state::{CrashLimits, Event, Refusal};
use kbqueue_core::store::{
    Checkpoint, Control, Directive, Reaped, RenewRequest, Result, Settled, Settlement, WorkerId,
};
use kbqueue_core::{
    Chunk, Document, DocumentId, Image, LeaseId, Notice, Page, QueueName, QueueSettings, StoreError,
};
use sqlx::Row;
use uuid::Uuid;

use crate::batch::{Batch, Member, int, json, readable};
use crate::codec;
use crate::error::{failed, malformed};
use crate::fronts::Over;
use crate::session::{Session, now_of};
use crate::text::escape;

/// Every function of this file is called inside a transaction that its caller commits, and answers with what
/// to tell subscribers then, too.
type Told<T> = Result<(T, Vec<Notice>)>;

pub(crate) async fn checkpoint(
    session: &mut Session<'_>,
    checkpoint: &Checkpoint,
) -> Told<Directive> {
    let id = checkpoint.document;
    let mut batch = Batch::load(session, [id].into_iter()).await?;
    let event = Event::Checkpoint {
        lease_id: checkpoint.lease_id,
        lease: checkpoint.lease,
        cursor: checkpoint.cursor,
        progress: checkpoint.progress,
    };
    match batch.apply(id, &event) {
        Some(Ok(true)) => {
            if let Some(member) = batch.get(id) {
                outputs(session, checkpoint, member).await?;
            }
        }
        Some(Ok(false)) => {}
        None | Some(Err(Refusal::LeaseLost)) => {
            return Ok((Directive::LeaseLost, Vec::new()));
        }
        Some(Err(refusal)) => return Err(StoreError::refused(id, refusal)),
    }
    let directive = batch.get(id).map_or(Directive::LeaseLost, directive);
    Ok((directive, batch.save(session).await?))
}

/// What the holder of a lease is to do next.
fn directive(member: &Member) -> Directive {
    if member.life.cancel_requested_at.is_some() {
        Directive::Cancel
    } else {
        Directive::Continue
    }
}

async fn outputs(
    session: &mut Session<'_>,
    checkpoint: &Checkpoint,
    member: &Member,
) -> Result<()> {
    let id = member.held.id.0;
    let generation = member.life.generation;
    if !checkpoint.pages.is_empty() {
        add_pages(session, id, generation.pages, &checkpoint.pages).await?;
    }
    if !checkpoint.chunks.is_empty() {
        add_chunks(session, id, generation.chunks, &checkpoint.chunks).await?;
    }
    if !checkpoint.images.is_empty() {
        add_images(session, id, generation.pages, &checkpoint.images).await?;
    }
    if let Some(properties) = &checkpoint.properties {
        let query = session.query(|sql| &sql.checkpoint_properties);
        session.run(query.bind(id).bind(json(properties))).await?;
    }
    Ok(())
}

/// One column of rows.
fn column<'a, T, C>(rows: &'a [T], of: impl Fn(&'a T) -> C) -> Vec<C> {
    rows.iter().map(of).collect()
}

/// One column of texts.
fn texts<'a, T>(rows: &'a [T], of: impl Fn(&'a T) -> &'a str) -> Vec<String> {
    column(rows, |row| escape(of(row)).into_owned())
}

/// One column of texts that may be missing.
fn optional_texts<'a, T>(
    rows: &'a [T],
    of: impl Fn(&'a T) -> &'a Option<String>,
) -> Vec<Option<String>> {
    column(rows, |row| {
        of(row).as_deref().map(|text| escape(text).into_owned())
    })
}

async fn add_pages(
    session: &mut Session<'_>,
    id: Uuid,
    generation: u32,
    rows: &[Page],
) -> Result<()> {
    let query = session
        .query(|sql| &sql.checkpoint_pages)
        .bind(id)
        .bind(i64::from(generation))
        .bind(column(rows, |p| i64::from(p.number)))
        .bind(optional_texts(rows, |p| &p.label))
        .bind(optional_texts(rows, |p| &p.section))
        .bind(column(rows, |p| p.provenance.source.as_str()))
        .bind(texts(rows, |p| &p.provenance.reason))
        .bind(column(rows, |p| p.provenance.confidence))
        .bind(column(rows, |p| int(p.start_offset)))
        .bind(column(rows, |p| int(p.end_offset)))
        .bind(texts(rows, |p| &p.text))
        .bind(optional_texts(rows, |p| &p.failure));
    session.run(query).await.map(drop)
}

async fn add_chunks(
    session: &mut Session<'_>,
    id: Uuid,
    generation: u32,
    rows: &[Chunk],
) -> Result<()> {
    let query = session
        .query(|sql| &sql.checkpoint_chunks)
        .bind(id)
        .bind(i64::from(generation))
        .bind(column(rows, |c| i64::from(c.ordinal)))
        .bind(texts(rows, |c| &c.text))
        .bind(column(rows, |c| i64::from(c.first_page)))
        .bind(column(rows, |c| i64::from(c.last_page)))
        .bind(column(rows, |c| int(c.start_offset)))
        .bind(column(rows, |c| int(c.end_offset)))
        .bind(optional_texts(rows, |c| &c.section));
    session.run(query).await.map(drop)
}

async fn add_images(
    session: &mut Session<'_>,
    id: Uuid,
    generation: u32,
    rows: &[Image],
) -> Result<()> {
    let query = session
        .query(|sql| &sql.checkpoint_images)
        .bind(id)
        .bind(i64::from(generation))
        .bind(column(rows, |i| i64::from(i.ordinal)))
        .bind(column(rows, |i| i64::from(i.page)))
        .bind(texts(rows, |i| &i.media_type))
        .bind(column(rows, |i| i64::from(i.width)))
        .bind(column(rows, |i| i64::from(i.height)))
        .bind(column(rows, |i| json(&i.bbox)))
        .bind(optional_texts(rows, |i| &i.caption))
        .bind(texts(rows, |i| &i.blob.sha256))
        .bind(column(rows, |i| int(i.blob.size_bytes)))
        .bind(column(rows, |i| i.thumbnail.as_ref().map(json)));
    session.run(query).await.map(drop)
}

pub(crate) async fn renew(
    session: &mut Session<'_>,
    request: &RenewRequest,
) -> Told<Vec<Directive>> {
    let worker = &request.worker;
    let queues: Vec<&str> = worker.queues.iter().map(QueueName::as_str).collect();
    let query = session
        .query(|sql| &sql.renew_worker)
        .bind(worker.id.0)
        .bind(escape(&worker.name))
        .bind(queues)
        .bind(codec::whole_ms_in_us(request.lease).max(1000))
        .bind(session.now);
    session.run(query).await?;
    if request.leases.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut batch = Batch::load(session, request.leases.iter().map(|(id, _)| *id)).await?;
    let mut renew = |(id, lease_id): &(DocumentId, LeaseId)| {
        let event = Event::Renew {
            lease_id: *lease_id,
            lease: request.lease,
        };
        match batch.apply(*id, &event) {
            Some(Ok(_)) => batch.get(*id).map_or(Directive::LeaseLost, directive),
            Some(Err(_)) | None => Directive::LeaseLost,
        }
    };
    let directives = request.leases.iter().map(&mut renew).collect();
    Ok((directives, batch.save(session).await?))
}

pub(crate) async fn settle(
    session: &mut Session<'_>,
    settlements: &[Settlement],
) -> Told<Vec<Settled>> {
    let mut batch = Batch::load(session, settlements.iter().map(|s| s.document)).await?;
    let mut settle = |settlement: &Settlement| {
        let id = settlement.document;
        let event = Event::Settle {
            lease_id: settlement.lease_id,
            outcome: settlement.outcome.clone(),
        };
        match batch.apply(id, &event) {
            Some(Ok(_)) => batch
                .get(id)
                .and_then(|member| member.life.last_settlement)
                .map_or(Settled::LeaseLost, |last| Settled::In(last.state)),
            Some(Err(_)) | None => Settled::LeaseLost,
        }
    };
    let settled = settlements.iter().map(&mut settle).collect();
    Ok((settled, batch.save(session).await?))
}

pub(crate) async fn depart(session: &mut Session<'_>, worker: WorkerId) -> Told<()> {
    let query = session.query(|sql| &sql.depart).bind(worker.0);
    session.run(query).await?;
    Ok(((), Vec::new()))
}

pub(crate) async fn control(
    session: &mut Session<'_>,
    id: DocumentId,
    control: &Control,
) -> Told<Document> {
    let query = session
        .query(|sql| &sql.control_document)
        .bind(id.0)
        .bind(session.now);
    let row = session
        .first(query)
        .await?
        .ok_or(StoreError::NotFound(id))?;
    let (held, mut document) = codec::document(&row)?;
    let mut batch = Batch::new([held], now_of([&row])?);
    let event = control.event();
    let applied = match batch.apply(id, &event) {
        Some(Err(Refusal::Deleted)) => return Err(StoreError::NotFound(id)),
        Some(Err(refusal)) => return Err(StoreError::refused(id, refusal)),
        Some(Ok(applied)) => applied,
        None => false,
    };
    if let Some(member) = batch.get(id) {
        if let Some(by) = rival(session, member).await? {
            return Err(StoreError::Superseded { id, by });
        }
        member.show_in(&mut document);
    }
    if applied {
        edit(session, &mut document, control).await?;
    }
    Ok((document, batch.save(session).await?))
}

/// Changes what the specification does not own. What is saved afterwards goes by the new priority.
async fn edit(session: &mut Session<'_>, document: &mut Document, control: &Control) -> Result<()> {
    let id = document.id.0;
    let priority = document.priority;
    control.edit(document);
    if document.priority != priority {
        let query = session.query(|sql| &sql.control_priority);
        session.run(query.bind(id).bind(document.priority)).await?;
    }
    if matches!(control, Control::Rechunk(_) | Control::Change(_)) {
        let query = session
            .query(|sql| &sql.control_details)
            .bind(id)
            .bind(document.chunking.as_ref().map(json))
            .bind(json(&document.metadata));
        session.run(query).await?;
    }
    Ok(())
}

/// The other document that stands for the key that `member` now wants back.
async fn rival(session: &mut Session<'_>, member: &Member) -> Result<Option<DocumentId>> {
    let (before, after) = (&member.held.life, &member.life);
    if codec::holds_key(before) || !codec::holds_key(after) {
        return Ok(None);
    }
    let query = session.query(|sql| &sql.key_holder).bind(member.held.id.0);
    let by = session.first(query).await?;
    let by = by.map(|row| row.try_get(0).map_err(failed)).transpose()?;
    Ok(by.map(DocumentId))
}

pub(crate) async fn configure(
    session: &mut Session<'_>,
    queue: &QueueName,
    settings: QueueSettings,
) -> Told<()> {
    let query = session
        .query(|sql| &sql.configure_lock)
        .bind(queue.as_str())
        .bind(session.now);
    let row = session.one(query).await?;
    let full_at = codec::optional_time(row.try_get("full_at").map_err(failed)?)
        .map_err(|error| malformed(format!("the rate tokens of queue {queue}"), error))?;
    let full_at = Rate::carry_over(settings.rate, full_at, now_of([&row])?);
    let query = session
        .query(|sql| &sql.configure)
        .bind(queue.as_str())
        .bind(settings.paused)
        .bind(json(&settings))
        .bind(settings.limits_claims())
        .bind(settings.max_queued.map(int))
        .bind(full_at.map(Timestamp::as_microsecond));
    session.run(query).await?;
    let notices = vec![Notice::Queue(queue.clone())];
    let query = session
        .query(|sql| &sql.tell)
        .bind(session.sender.channel())
        .bind(session.sender.message(&notices));
    session.run(query).await?;
    Ok(((), notices))
}

/// Writes new totals of these queues, or of all that need it, unless somebody else is at it.
pub(crate) async fn fold(session: &mut Session<'_>, queues: Option<Vec<String>>) -> Result<()> {
    let query = session.query(|sql| &sql.fold_lock);
    let row = session.one(query).await?;
    if row.try_get(0).map_err(failed)? {
        let query = session.query(|sql| &sql.fold).bind(queues);
        session.run(query).await?;
    }
    Ok(())
}

pub(crate) async fn reap(
    session: &mut Session<'_>,
    limits: CrashLimits,
    limit: usize,
) -> Told<Vec<Reaped>> {
    let mut at_most = limit;
    let (held, now) = loop {
        let query = session
            .query(|sql| &sql.reap)
            .bind(i64::try_from(at_most).unwrap_or(i64::MAX))
            .bind(session.now);
        let rows = session.all(query).await?;
        let held = readable(&rows, codec::held);
        // Rows that cannot be read must not stand in the way of those behind them for ever.
        if rows.len() < at_most || held.len() >= limit {
            break (held, now_of(&rows)?);
        }
        at_most = at_most.saturating_mul(2);
    };
    let mut batch = Batch::new(held.into_iter().take(limit), now);
    let ids: Vec<DocumentId> = batch.members().iter().map(|m| m.held.id).collect();
    let mut reaped = Vec::with_capacity(ids.len());
    for id in ids {
        match batch.apply(id, &Event::Expire(limits)) {
            Some(Ok(_)) => reaped.extend(batch.get(id).map(taken_back)),
            Some(Err(refusal)) => {
                tracing::error!(document = %id, error = chain(&refusal), "not taken back");
            }
            None => {}
        }
    }
    Ok((reaped, batch.save(session).await?))
}

fn taken_back(member: &Member) -> Reaped {
    let lease = member.held.life.lease.as_ref();
    Reaped {
        id: member.held.id,
        state: member.life.state,
        worker: lease.map(|l| l.worker.clone()).unwrap_or_default(),
    }
}

pub(crate) async fn purge(session: &mut Session<'_>, limit: usize, over: &Over) -> Told<usize> {
    let query = session.query(|sql| &sql.purge_workers).bind(session.now);
    session.run(query).await?;
    let mut left = limit;
    while left > 0 {
        let query = session
            .query(|sql| &sql.purge_entries)
            .bind(i64::try_from(left).unwrap_or(i64::MAX));
        let rows = session.all(query).await?;
        if rows.is_empty() {
            break;
        }
        let mut entries: Vec<(i64, Option<Uuid>)> = Vec::with_capacity(rows.len());
        for row in &rows {
            let document = match row.try_get::<&str, _>("what").map_err(failed)? {
                "document" => Some(row.try_get("document").map_err(failed)?),
                _ => None,
            };
            entries.push((row.try_get("entry").map_err(failed)?, document));
        }
        left -= purge_outputs(session, &entries, left).await?;
        // Only with something left of the limit is it sure that all outputs of these entries are gone.
        if left > 0 {
            left -= purge_entries(session, &entries, left).await?;
        }
    }
    fold(session, None).await?;
    for statement in [&session.sql.purge_totals, &session.sql.purge_turns] {
        session.run(session.sql.query(statement)).await?;
    }
    let query = session
        .query(|sql| &sql.purge_arrivals)
        .bind(over.get(Instant::now()));
    let row = session.one(query).await?;
    // The time after the look: it has to be true by then.
    over.note(row.try_get("over").map_err(failed)?, Instant::now());
    Ok((limit - left, Vec::new()))
}

/// Removes outputs that the entries name; answers with how many.
async fn purge_outputs(
    session: &mut Session<'_>,
    entries: &[(i64, Option<Uuid>)],
    limit: usize,
) -> Result<usize> {
    let entries: Vec<i64> = entries.iter().map(|(entry, _)| *entry).collect();
    let mut removed = 0;
    let sql = session.sql;
    for statement in [&sql.purge_pages, &sql.purge_chunks, &sql.purge_images] {
        let query = sql
            .query(statement)
            .bind(entries.clone())
            .bind(i64::try_from(limit - removed).unwrap_or(i64::MAX));
        let rows = session.run(query).await?;
        removed += usize::try_from(rows).unwrap_or(usize::MAX);
    }
    Ok(removed)
}

/// Removes at most `limit` deleted documents, whose outputs are gone, and the entries that are done;
/// answers with how many documents.
async fn purge_entries(
    session: &mut Session<'_>,
    entries: &[(i64, Option<Uuid>)],
    limit: usize,
) -> Result<usize> {
    let mut documents = Vec::new();
    let mut done = Vec::with_capacity(entries.len());
    for (entry, document) in entries {
        if let Some(id) = document {
            if documents.len() == limit {
                continue;
            }
            documents.push(*id);
        }
        done.push(*entry);
    }
    let removed = documents.len();
    if removed > 0 {
        let query = session.query(|sql| &sql.purge_documents).bind(documents);
        session.run(query).await?;
    }
    let query = session.query(|sql| &sql.purge_done).bind(done);
    session.run(query).await?;
    Ok(removed)
}
