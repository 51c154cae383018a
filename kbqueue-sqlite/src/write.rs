//! Writes of workers and of people: checkpoint, renew, settle, control, reap, purge.

use std::collections::HashMap;

use jiff::Timestamp;
use kbqueue_core::error::chain;
use kbqueue_core::state::{CrashLimits, Event, Refusal};
use kbqueue_core::store::{
    Checkpoint, Control, Directive, Reaped, RenewRequest, Result, Settled, Settlement, WorkerId,
};
use kbqueue_core::{
    BlobRef, Document, DocumentId, LeaseId, Notice, QueueName, QueueSettings, Rate, StoreError,
};
use sqlx::{Row, SqliteConnection};

use crate::batch::{Batch, Member, json, readable, run_for};
use crate::codec;
use crate::error::failed;
use crate::{limits, read};

/// Every function of this file is called under the write lock, inside a transaction that its caller commits.
pub(crate) type Told<T> = Result<(T, Vec<Notice>)>;

pub(crate) async fn checkpoint(
    conn: &mut SqliteConnection,
    checkpoint: &Checkpoint,
    now: Timestamp,
) -> Told<Directive> {
    let id = checkpoint.document;
    let mut batch = Batch::load(conn, [id].into_iter(), now).await?;
    let event = Event::Checkpoint {
        lease_id: checkpoint.lease_id,
        lease: checkpoint.lease,
        cursor: checkpoint.cursor,
        progress: checkpoint.progress,
    };
    match batch.apply(id, &event) {
        Some(Ok(true)) => {
            if let Some(member) = batch.get(id) {
                outputs(conn, checkpoint, member).await?;
            }
        }
        Some(Ok(false)) => {}
        None | Some(Err(Refusal::LeaseLost)) => return Ok((Directive::LeaseLost, Vec::new())),
        Some(Err(refusal)) => return Err(StoreError::refused(id, refusal)),
    }
    let directive = batch.get(id).map_or(Directive::LeaseLost, directive);
    Ok((directive, batch.save(conn, &HashMap::new()).await?))
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
    conn: &mut SqliteConnection,
    checkpoint: &Checkpoint,
    member: &Member,
) -> Result<()> {
    let key = member.held.key;
    let generation = member.life.generation;
    let pages: Vec<_> = checkpoint
        .pages
        .iter()
        .map(|page| {
            let provenance = &page.provenance;
            (
                page.number,
                &page.label,
                &page.section,
                provenance.source.as_str(),
                &provenance.reason,
                provenance.confidence,
                page.start_offset,
                page.end_offset,
                &page.text,
                &page.failure,
            )
        })
        .collect();
    let sql = include_str!("../queries/checkpoint_pages.sql");
    add(conn, sql, key, generation.pages, &pages).await?;
    let chunks: Vec<_> = checkpoint
        .chunks
        .iter()
        .map(|chunk| {
            (
                chunk.ordinal,
                &chunk.text,
                chunk.first_page,
                chunk.last_page,
                chunk.start_offset,
                chunk.end_offset,
                &chunk.section,
            )
        })
        .collect();
    let sql = include_str!("../queries/checkpoint_chunks.sql");
    add(conn, sql, key, generation.chunks, &chunks).await?;
    let images: Vec<_> = checkpoint
        .images
        .iter()
        .map(|image| {
            let BlobRef { sha256, size_bytes } = &image.blob;
            (
                image.ordinal,
                image.page,
                &image.media_type,
                image.width,
                image.height,
                image.bbox,
                &image.caption,
                sha256,
                size_bytes,
                &image.thumbnail,
            )
        })
        .collect();
    let sql = include_str!("../queries/checkpoint_images.sql");
    add(conn, sql, key, generation.pages, &images).await?;
    if let Some(properties) = &checkpoint.properties {
        sqlx::query(include_str!("../queries/checkpoint_properties.sql"))
            .bind(key)
            .bind(json(properties))
            .execute(conn)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

async fn add<T: serde::Serialize>(
    conn: &mut SqliteConnection,
    sql: &'static str,
    key: i64,
    generation: u32,
    rows: &[T],
) -> Result<()> {
    if !rows.is_empty() {
        sqlx::query(sql)
            .bind(key)
            .bind(generation)
            .bind(json(rows))
            .execute(conn)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

pub(crate) async fn renew(
    conn: &mut SqliteConnection,
    request: &RenewRequest,
    now: Timestamp,
) -> Told<Vec<Directive>> {
    let worker = &request.worker;
    let alive_until = now
        .as_microsecond()
        .saturating_add(codec::whole_ms_in_us(request.lease));
    sqlx::query(include_str!("../queries/renew_worker.sql"))
        .bind(worker.id.0.to_string())
        .bind(&worker.name)
        .bind(json(&worker.queues))
        .bind(alive_until)
        .execute(&mut *conn)
        .await
        .map_err(failed)?;
    if request.leases.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut batch = Batch::load(conn, request.leases.iter().map(|(id, _)| *id), now).await?;
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
    Ok((directives, batch.save(conn, &HashMap::new()).await?))
}

pub(crate) async fn settle(
    conn: &mut SqliteConnection,
    settlements: &[Settlement],
    now: Timestamp,
) -> Told<Vec<Settled>> {
    let mut batch = Batch::load(conn, settlements.iter().map(|s| s.document), now).await?;
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
    Ok((settled, batch.save(conn, &HashMap::new()).await?))
}

pub(crate) async fn depart(conn: &mut SqliteConnection, worker: WorkerId) -> Told<()> {
    sqlx::query(include_str!("../queries/depart.sql"))
        .bind(worker.0.to_string())
        .execute(conn)
        .await
        .map_err(failed)?;
    Ok(((), Vec::new()))
}

pub(crate) async fn control(
    conn: &mut SqliteConnection,
    id: DocumentId,
    control: &Control,
    now: Timestamp,
) -> Told<Document> {
    let row: String = sqlx::query_scalar(include_str!("../queries/document.sql"))
        .bind(id.to_string())
        .fetch_optional(&mut *conn)
        .await
        .map_err(failed)?
        .ok_or(StoreError::NotFound(id))?;
    let (held, mut document) = codec::document(&row)?;
    let mut batch = Batch::new([held], now);
    let event = control.event();
    let applied = match batch.apply(id, &event) {
        Some(Ok(applied)) => applied,
        None | Some(Err(Refusal::Deleted)) => return Err(StoreError::NotFound(id)),
        Some(Err(refusal)) => return Err(StoreError::refused(id, refusal)),
    };
    if let Some(member) = batch.get(id) {
        if let Some(by) = rival(conn, member).await? {
            return Err(StoreError::Superseded { id, by });
        }
        member.show_in(&mut document);
        if applied {
            edit(conn, member, control).await?;
            control.edit(&mut document);
        }
    }
    Ok((document, batch.save(conn, &HashMap::new()).await?))
}

/// Writes what `control` changes outside the lifecycle.
async fn edit(conn: &mut SqliteConnection, member: &Member, control: &Control) -> Result<()> {
    let key = member.held.key;
    let edit = match control {
        Control::Rechunk(options) => {
            let sql = include_str!("../queries/control_chunking.sql");
            sqlx::query(sql).bind(key).bind(json(options))
        }
        Control::Change(change) => {
            let sql = include_str!("../queries/control_change.sql");
            let metadata = change.metadata.as_ref().map(json);
            sqlx::query(sql)
                .bind(key)
                .bind(change.priority)
                .bind(metadata)
        }
        Control::Cancel | Control::Retry { .. } | Control::Delete => return Ok(()),
    };
    edit.execute(conn).await.map_err(failed)?;
    Ok(())
}

/// The other document that stands for the key that `member` now wants back.
async fn rival(conn: &mut SqliteConnection, member: &Member) -> Result<Option<DocumentId>> {
    let held = &member.held;
    let key = held.dedupe_key.as_deref();
    if held.holds_key || !codec::holds_key(&member.life, key) {
        return Ok(None);
    }
    let by: Option<String> = sqlx::query_scalar(include_str!("../queries/key_holder.sql"))
        .bind(held.queue.as_str())
        .bind(key)
        .fetch_optional(conn)
        .await
        .map_err(failed)?;
    by.map(|by| read::id(&by)).transpose()
}

pub(crate) async fn configure(
    conn: &mut SqliteConnection,
    queue: &QueueName,
    settings: QueueSettings,
    now: Timestamp,
) -> Told<()> {
    let full_at: Option<Option<i64>> =
        sqlx::query_scalar(include_str!("../queries/configure_full_at.sql"))
            .bind(queue.as_str())
            .fetch_optional(&mut *conn)
            .await
            .map_err(failed)?;
    let full_at = limits::instant(queue.as_str(), full_at.flatten())?;
    let full_at = Rate::carry_over(settings.rate, full_at, now);
    let unlimited = QueueSettings {
        paused: settings.paused,
        ..QueueSettings::default()
    };
    sqlx::query(include_str!("../queries/configure.sql"))
        .bind(queue.as_str())
        .bind(settings.paused)
        .bind((settings != unlimited).then(|| json(&settings)))
        .bind(full_at.map(Timestamp::as_microsecond))
        .execute(conn)
        .await
        .map_err(failed)?;
    Ok(((), vec![Notice::Queue(queue.clone())]))
}

pub(crate) async fn reap(
    conn: &mut SqliteConnection,
    limits: CrashLimits,
    limit: usize,
    now: Timestamp,
) -> Told<Vec<Reaped>> {
    let mut at_most = limit;
    let held = loop {
        let rows: Vec<String> = sqlx::query_scalar(include_str!("../queries/reap.sql"))
            .bind(now.as_microsecond())
            .bind(i64::try_from(at_most).unwrap_or(i64::MAX))
            .fetch_all(&mut *conn)
            .await
            .map_err(failed)?;
        let held = readable(rows.iter().map(String::as_str), codec::held);
        // Rows that cannot be read must not stand in the way of those behind them for ever.
        if rows.len() < at_most || held.len() >= limit {
            break held;
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
    Ok((reaped, batch.save(conn, &HashMap::new()).await?))
}

fn taken_back(member: &Member) -> Reaped {
    let lease = member.held.life.lease.as_ref();
    Reaped {
        id: member.held.id,
        state: member.life.state,
        worker: lease.map(|l| l.worker.clone()).unwrap_or_default(),
    }
}

pub(crate) async fn purge(
    conn: &mut SqliteConnection,
    limit: usize,
    now: Timestamp,
) -> Told<usize> {
    sqlx::query(include_str!("../queries/purge_workers.sql"))
        .bind(now.as_microsecond())
        .execute(&mut *conn)
        .await
        .map_err(failed)?;
    let mut left = limit;
    while left > 0 {
        let rows = sqlx::query(include_str!("../queries/purge_entries.sql"))
            .bind(i64::try_from(left).unwrap_or(i64::MAX))
            .fetch_all(&mut *conn)
            .await
            .map_err(failed)?;
        if rows.is_empty() {
            break;
        }
        let mut entries: Vec<(i64, Option<i64>)> = Vec::with_capacity(rows.len());
        for row in &rows {
            let document = match row.try_get::<&str, _>("what").map_err(failed)? {
                "document" => Some(row.try_get("document").map_err(failed)?),
                _ => None,
            };
            entries.push((row.try_get("entry").map_err(failed)?, document));
        }
        left -= purge_outputs(conn, &entries, left).await?;
        // Only with something left of the limit is it sure that all outputs of these entries are gone.
        if left > 0 {
            left -= purge_entries(conn, &entries, left).await?;
        }
    }
    Ok((limit - left, Vec::new()))
}

/// Removes outputs that the entries name; answers with how many.
async fn purge_outputs(
    conn: &mut SqliteConnection,
    entries: &[(i64, Option<i64>)],
    limit: usize,
) -> Result<usize> {
    let entries: Vec<i64> = entries.iter().map(|(entry, _)| *entry).collect();
    let mut removed = 0;
    for sql in [
        include_str!("../queries/purge_pages.sql"),
        include_str!("../queries/purge_chunks.sql"),
        include_str!("../queries/purge_images.sql"),
    ] {
        let rows = sqlx::query(sql)
            .bind(json(&entries))
            .bind(i64::try_from(limit - removed).unwrap_or(i64::MAX))
            .execute(&mut *conn)
            .await
            .map_err(failed)?
            .rows_affected();
        removed += usize::try_from(rows).unwrap_or(usize::MAX);
    }
    Ok(removed)
}

/// Removes at most `limit` deleted documents, whose outputs are gone, and the entries that are done;
/// answers with how many documents.
async fn purge_entries(
    conn: &mut SqliteConnection,
    entries: &[(i64, Option<i64>)],
    limit: usize,
) -> Result<usize> {
    let mut documents = Vec::new();
    let mut done = Vec::with_capacity(entries.len());
    for (entry, document) in entries {
        if let Some(key) = document {
            if documents.len() == limit {
                continue;
            }
            documents.push(*key);
        }
        done.push(*entry);
    }
    run_for(
        conn,
        include_str!("../queries/purge_documents.sql"),
        &documents,
    )
    .await?;
    run_for(conn, include_str!("../queries/purge_done.sql"), &done).await?;
    Ok(documents.len())
}
