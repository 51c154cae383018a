//! Documents are given to workers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use kbqueue_core::state::{Event, due_at, transition};
use kbqueue_core::store::{ClaimRequest, Claims, Result};
use kbqueue_core::{Document, LeaseId, fair};
use sqlx::Row;
use uuid::Uuid;

use crate::batch::{Batch, Effects, readable};
use crate::codec::{self, Held};
use crate::error::failed;
use crate::session::{Session, now_of};
use crate::text;

/// When to come back for documents that somebody else held for a moment. Most of these will have been
/// claimed by then, but one whose change was refused is still there, and nobody tells of that.
const HELD: Duration = Duration::from_millis(20);

/// A line's name: its queue, and its tenant as `text::line` puts it.
type Name = (String, String);

/// Claims for `request`. Answers also with what to tell subscribers after the commit.
///
/// The cost depends on the documents claimed, on the lines that have some, and on those that fell due
/// since the last claim, not on how many wait.
pub(crate) async fn claim(
    session: &mut Session<'_>,
    request: &ClaimRequest,
) -> Result<(Claims, Effects)> {
    let slots = request.lease_ids.len();
    if slots == 0 {
        return Ok((Claims::default(), Effects::default()));
    }
    let queues: BTreeSet<&str> = request.worker.queues.iter().map(|q| q.as_str()).collect();
    let mut asked = Asked {
        request,
        queues: queues.into_iter().map(str::to_owned).collect(),
        audience: text::audience(Some(&request.fingerprint)),
        now: Timestamp::UNIX_EPOCH,
    };
    asked.promote(session).await?;
    let front = asked.front(session, slots).await?;
    let refused = front.iter().filter_map(|line| line.refused).min();
    let left: Vec<Uuid> = front.iter().flat_map(|line| line.left.clone()).collect();

    let mut turns: BTreeMap<Name, i64> = BTreeMap::new();
    let mut claimed = Vec::with_capacity(slots);
    for (place, (name, held, document)) in (0..).zip(deal_out(front, slots)) {
        turns.insert(name, place);
        claimed.push((held, document));
    }
    let (members, mut documents): (Vec<Held>, Vec<Document>) = claimed.into_iter().unzip();
    let mut batch = Batch::new(members, asked.now);
    for (document, lease_id) in documents.iter_mut().zip(&request.lease_ids) {
        let applied = batch.apply(document.id, &asked.event(*lease_id));
        debug_assert_eq!(applied, Some(Ok(true)), "it was tried before the deal");
        if let Some(member) = batch.get(document.id) {
            member.show_in(document);
        }
    }
    let effects = batch.save(session).await?;
    save_turns(session, turns).await?;
    let next_due = if documents.len() < slots {
        asked.next_due(session, refused, left).await?
    } else {
        None
    };
    let claims = Claims {
        documents,
        next_due,
        held_back: false,
    };
    Ok((claims, effects))
}

async fn save_turns(session: &mut Session<'_>, turns: BTreeMap<Name, i64>) -> Result<()> {
    if turns.is_empty() {
        return Ok(());
    }
    let (names, places): (Vec<Name>, Vec<i64>) = turns.into_iter().unzip();
    let (queues, lines): (Vec<String>, Vec<String>) = names.into_iter().unzip();
    let query = session
        .query(|sql| &sql.claim_turns)
        .bind(queues)
        .bind(lines)
        .bind(places);
    session.run(query).await.map(drop)
}

/// A line that has ready documents, and those at its front that were read.
struct Line {
    name: Name,
    /// The first ones that can be claimed, in order.
    claimable: Vec<(Held, Document)>,
    /// Whether there are no others.
    exhausted: bool,
    /// When the first of those met falls due that may not be claimed yet.
    refused: Option<Timestamp>,
    /// Those that were read, but cannot be claimed.
    left: Vec<Uuid>,
}

impl Line {
    /// How many can be claimed, as far as is known.
    fn claimable(&self) -> u64 {
        if self.exhausted {
            self.claimable.len() as u64
        } else {
            u64::MAX
        }
    }
}

fn deal(slots: usize, lines: &[Line]) -> Vec<usize> {
    let claimable: Vec<u64> = lines.iter().map(Line::claimable).collect();
    fair::deal(slots, &claimable)
}

/// The documents of the deal, in its order.
fn deal_out(lines: Vec<Line>, slots: usize) -> Vec<(Name, Held, Document)> {
    let deal = deal(slots, &lines);
    let mut fronts: Vec<_> = lines
        .into_iter()
        .map(|line| (line.name, line.claimable.into_iter()))
        .collect();
    deal.into_iter()
        .filter_map(|line| {
            let (name, front) = &mut fronts[line];
            let (held, document) = front.next()?;
            Some((name.clone(), held, document))
        })
        .collect()
}

/// One claim, with what its statements are asked.
struct Asked<'a> {
    request: &'a ClaimRequest,
    queues: Vec<String>,
    audience: String,
    now: Timestamp,
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

    /// Makes claimable what fell due, or out of its reservation, and notes the time.
    async fn promote(&mut self, session: &mut Session<'_>) -> Result<()> {
        let query = session
            .query(|sql| &sql.claim_promote)
            .bind(self.queues.clone())
            .bind(self.audience.clone())
            .bind(codec::whole_ms_in_us(self.request.grace).min(codec::LONGEST))
            .bind(session.now);
        let rows = session.all(query).await?;
        self.now = now_of(&rows)?;
        Ok(())
    }

    /// The lines to deal to, each read as far as its share goes.
    async fn front(&self, session: &mut Session<'_>, slots: usize) -> Result<Vec<Line>> {
        let mut at_most = slots;
        loop {
            let mut lines = self.lines(session, at_most).await?;
            self.read_shares(session, &mut lines, slots).await?;
            // A line is left out only behind at least as many with a document each as there are slots;
            // otherwise it could be its turn.
            let full = lines.iter().filter(|line| line.claimable() > 0).count();
            if lines.len() < at_most || full >= slots {
                return Ok(lines);
            }
            at_most = at_most.saturating_mul(4);
        }
    }

    /// At most `at_most` lines, in the order of their turns.
    async fn lines(&self, session: &mut Session<'_>, at_most: usize) -> Result<Vec<Line>> {
        let query = session
            .query(|sql| &sql.claim_lines)
            .bind(self.queues.clone())
            .bind(i64::try_from(at_most).unwrap_or(i64::MAX));
        let rows = session.all(query).await?;
        rows.iter()
            .map(|row| {
                let queue = row.try_get("queue").map_err(failed)?;
                let line = row.try_get("line").map_err(failed)?;
                Ok(Line {
                    name: (queue, line),
                    claimable: Vec::new(),
                    exhausted: false,
                    refused: None,
                    left: Vec::new(),
                })
            })
            .collect()
    }

    /// Reads the front of each line as far as its share of the deal goes. Where one turns out to hold
    /// less, it is dealt again with the true number, until every share is covered. Shares only grow, so
    /// nothing is locked that is not claimed, but for what cannot be.
    async fn read_shares(
        &self,
        session: &mut Session<'_>,
        lines: &mut [Line],
        slots: usize,
    ) -> Result<()> {
        loop {
            let mut shares = vec![0_usize; lines.len()];
            for line in deal(slots, lines) {
                shares[line] += 1;
            }
            let short: Vec<(usize, usize)> = (0..lines.len())
                .filter(|i| !lines[*i].exhausted && lines[*i].claimable.len() < shares[*i])
                // What cannot be read, or not be claimed, stands in the way: look further behind it.
                .map(|i| (i, shares[i] + lines[i].left.len() * 2))
                .collect();
            if short.is_empty() {
                return Ok(());
            }
            self.read(session, lines, &short).await?;
        }
    }

    /// Reads the front of some lines, each up to its limit.
    async fn read(
        &self,
        session: &mut Session<'_>,
        lines: &mut [Line],
        which: &[(usize, usize)],
    ) -> Result<()> {
        let names = which.iter().map(|(line, _)| lines[*line].name.clone());
        let (queues, names): (Vec<String>, Vec<String>) = names.unzip();
        let limits = which.iter().map(|(_, limit)| *limit);
        let limits = limits.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let query = session
            .query(|sql| &sql.claim_candidates)
            .bind(queues)
            .bind(names)
            .bind(limits.collect::<Vec<_>>())
            .bind(self.audience.clone());
        let rows = session.all(query).await?;
        // Counted before anything is left out: a line that filled its limit may go on.
        let mut read: HashMap<Name, usize> = HashMap::new();
        let mut ids: HashMap<Uuid, Name> = HashMap::with_capacity(rows.len());
        for row in &rows {
            let queue = row.try_get("queue").map_err(failed)?;
            let name: Name = (queue, row.try_get("line").map_err(failed)?);
            *read.entry(name.clone()).or_default() += 1;
            ids.insert(row.try_get("id").map_err(failed)?, name);
        }
        let mut by_name = HashMap::with_capacity(which.len());
        for (index, limit) in which {
            let line = &mut lines[*index];
            line.claimable.clear();
            line.left.clear();
            line.exhausted = read.get(&line.name).is_none_or(|rows| rows < limit);
            by_name.insert(line.name.clone(), *index);
        }
        for (held, document) in readable(&rows, codec::document) {
            let name = (held.queue.as_str().to_owned(), held.line.clone());
            let line = &mut lines[by_name[&name]];
            match transition(&held.life, &self.event(self.request.lease_ids[0]), self.now) {
                Ok(_) => {
                    ids.remove(&held.id.0);
                    line.claimable.push((held, document));
                }
                Err(_) => {
                    let due_at = due_at(&held.life, &self.request.fingerprint, self.request.grace);
                    line.refused = line.refused.into_iter().chain([due_at]).min();
                }
            }
        }
        for (id, name) in ids {
            lines[by_name[&name]].left.push(id);
        }
        for (index, _) in which {
            lines[*index].claimable.sort_by_key(|(_, document)| {
                let available_at = document.lifecycle.available_at;
                (Reverse(document.priority), available_at, document.id)
            });
        }
        Ok(())
    }

    /// How long until the next document falls due for this worker.
    async fn next_due(
        &self,
        session: &mut Session<'_>,
        refused: Option<Timestamp>,
        left: Vec<Uuid>,
    ) -> Result<Option<Duration>> {
        let query = session
            .query(|sql| &sql.claim_next_due)
            .bind(self.queues.clone())
            .bind(self.audience.clone())
            .bind(left);
        let row = session.one(query).await?;
        let at = |column: &str| -> Result<Option<i64>> { row.try_get(column).map_err(failed) };
        let skipped = row.try_get("skipped").map_err(failed)?;
        let grace = codec::whole_ms_in_us(self.request.grace);
        let reserved = at("reserved")?.map(|at| at.saturating_add(grace));
        let refused = refused.map(Timestamp::as_microsecond);
        let next = [at("waiting")?, reserved, refused]
            .into_iter()
            .flatten()
            .min();
        let next = next.map(|at| {
            let us = at.saturating_sub(self.now.as_microsecond());
            Duration::from_micros(u64::try_from(us).unwrap_or(0))
        });
        let held = Some(HELD).filter(|_| skipped);
        Ok(next.into_iter().chain(held).min())
    }
}
