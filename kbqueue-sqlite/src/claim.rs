//! Documents are given to workers.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use kbqueue_core::state::{Event, due_at, transition};
use kbqueue_core::store::{ClaimRequest, Claims, Result};
use kbqueue_core::{Document, LeaseId, Notice, fair};
use serde_json::value::RawValue;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::batch::{Batch, Counts, array, json, readable, run_for};
use crate::codec::{self, Held};
use crate::error::failed;
use crate::limits::{self, Limits};

/// Claims for `request`. Answers also with what to tell subscribers after the commit.
///
/// The caller holds the write lock. The cost depends on the documents claimed and those that fell due
/// since the last claim, not on how many wait.
pub(crate) async fn claim(
    conn: &mut SqliteConnection,
    request: &ClaimRequest,
    now: Timestamp,
) -> Result<(Claims, Vec<Notice>)> {
    let slots = request.lease_ids.len();
    if slots == 0 {
        return Ok((Claims::default(), Vec::new()));
    }
    let queues: BTreeSet<&str> = request.worker.queues.iter().map(|q| q.as_str()).collect();
    let asked = Asked {
        request,
        queues: json(&queues),
        audience: codec::audience(Some(&request.fingerprint)),
        now,
    };
    let chosen = asked.choose(conn, slots).await?;
    let mut turn = chosen.dealt;
    let mut turns = HashMap::new();
    for (held, _) in &chosen.documents {
        turn += 1;
        turns.insert(held.line, turn);
    }
    let (members, mut documents): (Vec<Held>, Vec<Document>) = chosen.documents.into_iter().unzip();
    let mut batch = Batch::new(members, now);
    for (document, lease_id) in documents.iter_mut().zip(&request.lease_ids) {
        let applied = batch.apply(document.id, &asked.event(*lease_id));
        debug_assert_eq!(applied, Some(Ok(true)), "it was tried before the deal");
        if let Some(member) = batch.get(document.id) {
            member.show_in(document);
        }
    }
    let notices = batch.save(conn, &turns).await?;
    run_for(
        conn,
        include_str!("../queries/claim_spend.sql"),
        &chosen.full_at,
    )
    .await?;
    let next_due = if documents.len() < slots {
        asked.next_due(conn, chosen.next_known).await?
    } else {
        None
    };
    let claims = Claims {
        documents,
        next_due,
        held_back: chosen.held_back,
    };
    Ok((claims, notices))
}

/// What a claim takes, and what it was told on the way.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    /// In the order of the deal.
    pub(crate) documents: Vec<(Held, Document)>,
    /// How many documents were ever dealt, of all lines.
    pub(crate) dealt: i64,
    /// When the rate tokens of queues are all there again, where some were spent.
    pub(crate) full_at: Vec<(String, i64)>,
    /// A document waits until others are no longer processing.
    pub(crate) held_back: bool,
    /// When something falls due, or a token comes, as far as the lines that were read tell.
    pub(crate) next_known: Option<i64>,
}

/// A line that has ready documents, and those at its front that were read.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) id: i64,
    pub(crate) queue: String,
    tenant: Option<String>,
    turn: i64,
    /// How many documents were ever dealt, of all lines.
    pub(crate) dealt: i64,
    /// How many are ready. Some of them may be reserved for another fingerprint, or unreadable.
    ready: u64,
    /// The limits of its queue, if that has any.
    pub(crate) limits: Option<Limits>,
    /// The first ones that can be claimed, in order.
    pub(crate) claimable: Vec<Candidate>,
    /// Whether there may be others, of those open to everybody and of those reserved for the worker.
    pub(crate) more: [bool; 2],
    /// When the first of those met falls due that may not be claimed yet.
    pub(crate) refused: Option<i64>,
}

/// A document that can be claimed.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) held: Held,
    pub(crate) document: Document,
    /// Whether it is reserved for workers of the claimer's fingerprint.
    pub(crate) reserved: bool,
}

impl Line {
    /// How many can be claimed, as far as is known.
    fn claimable(&self) -> u64 {
        let read = self.claimable.len() as u64;
        if self.more == [false; 2] {
            read
        } else {
            self.ready.max(read)
        }
    }

    /// The place of its turn.
    pub(crate) fn place(&self) -> (i64, &str, Option<&str>) {
        (self.turn, &self.queue, self.tenant.as_deref())
    }
}

fn deal(slots: usize, lines: &[Line]) -> Vec<usize> {
    let claimable: Vec<u64> = lines.iter().map(Line::claimable).collect();
    fair::deal(slots, &claimable)
}

/// The documents of the deal, in its order.
fn deal_out(lines: Vec<Line>, slots: usize) -> Chosen {
    let deal = deal(slots, &lines);
    let dealt = lines.first().map_or(0, |line| line.dealt);
    let next_known = lines.iter().filter_map(|line| line.refused).min();
    let mut fronts: Vec<_> = lines.into_iter().map(|l| l.claimable.into_iter()).collect();
    let next = deal.into_iter().filter_map(|line| fronts[line].next());
    Chosen {
        documents: next.map(|next| (next.held, next.document)).collect(),
        dealt,
        next_known,
        ..Chosen::default()
    }
}

/// One claim, with what its statements are asked.
pub(crate) struct Asked<'a> {
    pub(crate) request: &'a ClaimRequest,
    pub(crate) queues: String,
    pub(crate) audience: String,
    pub(crate) now: Timestamp,
}

impl Asked<'_> {
    fn event(&self, lease_id: LeaseId) -> Event {
        Event::Claim {
            lease_id,
            worker: self.request.worker.name.clone(),
            lease: self.request.lease,
            fingerprint: self.request.fingerprint.clone(),
            grace: self.request.grace,
        }
    }

    /// Now less the grace.
    fn grace_over(&self) -> i64 {
        let grace = codec::whole_ms_in_us(self.request.grace);
        self.now.as_microsecond().saturating_sub(grace)
    }

    /// Makes claimable what fell due, or out of its reservation.
    async fn promote(&self, conn: &mut SqliteConnection, open: bool) -> Result<()> {
        let now = self.now.as_microsecond();
        let grace_over = self.grace_over();
        let lines: Vec<i64> = sqlx::query_scalar(include_str!("../queries/claim_promote.sql"))
            .bind(&self.queues)
            .bind(&self.audience)
            .bind(now)
            .bind(grace_over)
            .fetch_all(&mut *conn)
            .await
            .map_err(failed)?;
        let mut counts = Counts::default();
        for line in lines {
            counts.ready(line, 1);
        }
        counts.save(conn).await?;
        if open {
            sqlx::query(include_str!("../queries/claim_open.sql"))
                .bind(&self.queues)
                .bind(&self.audience)
                .bind(grace_over)
                .execute(conn)
                .await
                .map_err(failed)?;
        }
        Ok(())
    }

    /// What to claim: of the lines whose turn it is, each read as far as its share goes.
    async fn choose(&self, conn: &mut SqliteConnection, slots: usize) -> Result<Chosen> {
        let mut at_most = slots;
        loop {
            let mut lines = self.lines(conn, at_most).await?;
            if lines.iter().any(|line| line.limits.is_some()) {
                return self.choose_within_limits(conn, slots).await;
            }
            self.read_shares(conn, &mut lines, slots).await?;
            // A line of a queue is left out only behind at least as many with a document each as there
            // are slots; otherwise it could be its turn.
            let mut queues: HashMap<&str, (usize, usize)> = HashMap::new();
            for line in &lines {
                let (all, empty) = queues.entry(&line.queue).or_default();
                *all += 1;
                *empty += usize::from(line.claimable() == 0);
            }
            if queues
                .values()
                .all(|(all, empty)| *all < at_most || all - empty >= slots)
            {
                return Ok(deal_out(lines, slots));
            }
            at_most = at_most.saturating_mul(4);
        }
    }

    /// Two statements, which cross to the driver's thread together: one row that says whether something
    /// fell due, and the lines.
    async fn look(&self, conn: &mut SqliteConnection, at_most: usize) -> Result<Vec<SqliteRow>> {
        let look = concat!(
            include_str!("../queries/claim_due.sql"),
            include_str!("../queries/claim_lines.sql"),
        );
        sqlx::query(look)
            .bind(&self.queues)
            .bind(&self.audience)
            .bind(self.now.as_microsecond())
            .bind(self.grace_over())
            .bind(i64::try_from(at_most).unwrap_or(i64::MAX))
            .fetch_all(conn)
            .await
            .map_err(failed)
    }

    /// At most `at_most` lines of each queue, in the order of their turns, after what is due was made
    /// claimable.
    pub(crate) async fn lines(
        &self,
        conn: &mut SqliteConnection,
        at_most: usize,
    ) -> Result<Vec<Line>> {
        let mut rows = self.look(conn, at_most).await?;
        let due: bool = rows[0].try_get(0).map_err(failed)?;
        let open: bool = rows[0].try_get(1).map_err(failed)?;
        if due || open {
            self.promote(conn, open).await?;
            rows = self.look(conn, at_most).await?;
        }
        let mut lines = rows[1..].iter().map(line).collect::<Result<Vec<_>>>()?;
        lines.sort_by(|a, b| a.place().cmp(&b.place()));
        Ok(lines)
    }

    /// Reads the front of each line as far as its share of the deal goes. Where one turns out to hold
    /// less, it is dealt again with the true number, until every share is covered.
    async fn read_shares(
        &self,
        conn: &mut SqliteConnection,
        lines: &mut [Line],
        slots: usize,
    ) -> Result<()> {
        let mut spare = 0;
        loop {
            let mut shares = vec![0_usize; lines.len()];
            for line in deal(slots, lines) {
                shares[line] += 1;
            }
            let short: HashMap<i64, usize> = (0..lines.len())
                .filter(|i| lines[*i].more != [false; 2] && lines[*i].claimable.len() < shares[*i])
                .map(|i| (lines[i].id, i))
                .collect();
            let Some(share) = short.values().map(|i| shares[*i]).max() else {
                return Ok(());
            };
            self.read(conn, lines, &short, share + spare).await?;
            // What cannot be read, or not be claimed, stood in the way: look further behind it.
            spare = (spare * 2).max(16);
        }
    }

    /// Reads the first `limit` documents, of each kind, of some lines.
    pub(crate) async fn read(
        &self,
        conn: &mut SqliteConnection,
        lines: &mut [Line],
        which: &HashMap<i64, usize>,
        limit: usize,
    ) -> Result<()> {
        let ids: Vec<i64> = which.keys().copied().collect();
        let rows: String = sqlx::query_scalar(include_str!("../queries/claim_candidates.sql"))
            .bind(json(&ids))
            .bind(&self.audience)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_one(conn)
            .await
            .map_err(failed)?;
        let rows: Vec<(i64, String, &RawValue)> = array("documents", &rows)?;
        // Counted by kind before anything is left out: a kind that filled its limit may go on.
        let mut read: HashMap<(i64, &str), usize> = HashMap::new();
        for (line, audience, _) in &rows {
            *read.entry((*line, audience)).or_default() += 1;
        }
        for index in which.values() {
            let line = &mut lines[*index];
            line.claimable.clear();
            line.more = ["*", &self.audience]
                .map(|kind| read.get(&(line.id, kind)).is_some_and(|n| *n >= limit));
        }
        let event = self.event(self.request.lease_ids[0]);
        for (line, audience, document) in rows {
            let line = &mut lines[which[&line]];
            let document = [document.get()].into_iter();
            let Some((held, document)) = readable(document, codec::document).pop() else {
                continue;
            };
            match transition(&held.life, &event, self.now) {
                Ok(_) => line.claimable.push(Candidate {
                    held,
                    document,
                    reserved: audience != "*",
                }),
                Err(_) => {
                    let (fingerprint, grace) = (&self.request.fingerprint, self.request.grace);
                    let due_at = due_at(&held.life, fingerprint, grace).as_microsecond();
                    line.refused = line.refused.into_iter().chain([due_at]).min();
                }
            }
        }
        for index in which.values() {
            lines[*index].claimable.sort_by_key(|candidate| {
                let Document { priority, id, .. } = &candidate.document;
                (Reverse(*priority), candidate.held.life.available_at, *id)
            });
        }
        Ok(())
    }

    /// How long until the next document falls due for this worker.
    async fn next_due(
        &self,
        conn: &mut SqliteConnection,
        refused: Option<i64>,
    ) -> Result<Option<Duration>> {
        let (waiting, reserved): (Option<i64>, Option<i64>) =
            sqlx::query_as(include_str!("../queries/claim_next_due.sql"))
                .bind(&self.queues)
                .bind(&self.audience)
                .fetch_one(conn)
                .await
                .map_err(failed)?;
        let grace = codec::whole_ms_in_us(self.request.grace);
        let reserved = reserved.map(|at| at.saturating_add(grace));
        let next = [waiting, reserved, refused].into_iter().flatten().min();
        Ok(next.map(|at| {
            let us = at.saturating_sub(self.now.as_microsecond());
            Duration::from_micros(u64::try_from(us).unwrap_or(0))
        }))
    }
}

/// Reads a row of `claim_lines`.
pub(crate) fn line(row: &SqliteRow) -> Result<Line> {
    let ready: i64 = row.try_get("ready").map_err(failed)?;
    let queue: String = row.try_get("queue").map_err(failed)?;
    Ok(Line {
        id: row.try_get("id").map_err(failed)?,
        limits: limits::read(row, &queue)?,
        queue,
        tenant: row.try_get("tenant").map_err(failed)?,
        turn: row.try_get("turn").map_err(failed)?,
        dealt: row.try_get("dealt").map_err(failed)?,
        ready: u64::try_from(ready).unwrap_or(0),
        claimable: Vec::new(),
        more: [true; 2],
        refused: None,
    })
}
