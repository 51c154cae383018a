//! Documents are given to workers.

mod limited;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kbqueue_core::error::BoxError;
use kbqueue_core::state::{Event, due_at, transition};
use kbqueue_core::store::{ClaimRequest, Claims, Result};
use kbqueue_core::{Document, LeaseId, Notice, fair};
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::batch::{Batch, Turns, readable};
use crate::codec::{self, Held};
use crate::error::{failed, malformed};
use crate::fronts::{Front, Key, Known, Name};
use crate::session::Session;
use crate::text;

use self::limited::{HeldUp, Limits};

/// When to come back for documents that somebody else held for a moment. Most of these will have been
/// claimed by then, but one whose change was refused is still there, and nobody tells of that.
const HELD: Duration = Duration::from_millis(20);

/// Claims for `request`, with what is known of its queues. Answers with what is known of them once this is
/// committed, too, and with what to tell subscribers then.
///
/// Where queues have limits, their rows are locked first, so claims of them come one after the other; where they
/// have none, that costs no round trip.
///
/// The cost depends on the documents claimed, on the lines that have some, and on what came in since the
/// last claim, not on how many wait or were claimed before.
pub(crate) async fn claim(
    session: &mut Session<'_>,
    request: &ClaimRequest,
    known: &Known,
) -> Result<((Claims, Known), Vec<Notice>)> {
    let slots = request.lease_ids.len();
    if slots == 0 {
        return Ok(((Claims::default(), Known::new()), Vec::new()));
    }
    let queues: BTreeSet<&str> = request.worker.queues.iter().map(|q| q.as_str()).collect();
    let asked = Asked {
        request,
        queues: queues.into_iter().map(str::to_owned).collect(),
        audience: text::audience(Some(&request.fingerprint)),
        known,
        since: Instant::now(),
    };
    let mut limits = Limits::default();
    let limited = known.iter().filter(|(_, front)| front.limited);
    let limited: BTreeSet<String> = limited.map(|(queue, _)| queue.clone()).collect();
    limits.keep(session, limited).await?;
    let (moment, mut lines) = asked.front(session, slots, &mut limits).await?;
    let (places, held_up) = if limits.is_empty() {
        let places = deal(slots, &lines).into_iter();
        (places.map(|line| (line, 0)).collect(), HeldUp::default())
    } else {
        limits.deal(session, &asked, &moment, &lines).await?
    };
    let mut turns: BTreeMap<Name, (i64, Option<i64>)> = BTreeMap::new();
    let mut claimed = Vec::with_capacity(slots);
    for (place, (line, nth)) in (0..).zip(places) {
        let line = &mut lines[line];
        if let Some(document) = line.claimable.remove(nth) {
            turns.insert(line.name.clone(), (place, line.turn));
            claimed.push(document);
        }
    }
    let (members, mut documents): (Vec<Held>, Vec<Document>) = claimed.into_iter().unzip();
    let taken: HashSet<Uuid> = documents.iter().map(|document| document.id.0).collect();
    let mut batch = Batch::new(members, moment.now);
    for (document, lease_id) in documents.iter_mut().zip(&request.lease_ids) {
        let applied = batch.apply(document.id, &asked.event(*lease_id));
        debug_assert_eq!(applied, Some(Ok(true)), "it was tried before the deal");
        if let Some(member) = batch.get(document.id) {
            member.show_in(document);
        }
    }
    let notices = batch.save_with(session, turns_of(turns)).await?;
    let next_due = if documents.len() < slots {
        let next_due = asked.next_due(session, moment.now, &lines, &taken).await?;
        next_due.into_iter().chain(held_up.next_token).min()
    } else {
        None
    };
    let claims = Claims {
        documents,
        next_due,
        held_back: held_up.held_back,
    };
    Ok(((claims, asked.learned(moment, &lines, &taken)), notices))
}

fn turns_of(served: BTreeMap<Name, (i64, Option<i64>)>) -> Turns {
    let mut turns = Turns::default();
    for ((queue, line), (place, before)) in served {
        turns.queues.push(queue);
        turns.lines.push(line);
        turns.places.push(place);
        turns.before.push(before);
    }
    turns
}

/// What the server said when the front was read.
struct Moment {
    now: Timestamp,
    server: String,
    server_now: i64,
    seen: String,
    /// The queues that are not paused,
    served: Vec<String>,
    /// those of them of which what was known was good.
    known: Vec<String>,
    /// and those of them that have limits.
    limited: BTreeSet<String>,
    /// Whether something fell due that is not claimable yet.
    promotable: bool,
    /// How many lines may have something.
    lines: usize,
}

impl Moment {
    fn of(row: &PgRow) -> std::result::Result<Self, BoxError> {
        let lines: Option<i64> = row.try_get("lines")?;
        Ok(Self {
            now: Timestamp::from_microsecond(row.try_get("now")?)?,
            server: row.try_get("server")?,
            server_now: row.try_get("server_now")?,
            seen: row.try_get("seen")?,
            served: row.try_get("served")?,
            known: row.try_get("known")?,
            limited: row.try_get::<Vec<_>, _>("limited")?.into_iter().collect(),
            promotable: row.try_get("promotable")?,
            lines: usize::try_from(lines.unwrap_or(0))?,
        })
    }
}

/// A line that may have ready documents, and those at its front that were read.
struct Line {
    name: Name,
    turn: Option<i64>,
    /// From 1, in the order of turns; `None` for one that was found in another way than by its front.
    place: Option<usize>,
    /// Nothing is ready before this.
    start: Key,
    /// The first ready documents as they were at that moment, whoever held them, and for whom they are.
    ahead: Vec<(Key, String)>,
    /// Whether there may have been others behind these.
    goes_on: bool,
    /// The first ones that can be claimed, in order.
    claimable: VecDeque<(Held, Document)>,
    /// Whether there are no others.
    exhausted: bool,
    /// When the first of those met falls due that may not be claimed yet.
    refused: Option<Timestamp>,
    /// Those that were read, but cannot be claimed.
    left: Vec<Uuid>,
}

impl Line {
    /// As `claim_front` found it.
    fn of(row: &PgRow) -> std::result::Result<Self, BoxError> {
        let share: i64 = row.try_get("share")?;
        let priorities: Option<Vec<i32>> = row.try_get("priorities")?;
        let availables: Option<Vec<i64>> = row.try_get("availables")?;
        let ids: Option<Vec<Uuid>> = row.try_get("ids")?;
        let audiences: Option<Vec<String>> = row.try_get("audiences")?;
        let keys = priorities.into_iter().flatten();
        let keys = keys.zip(availables.into_iter().flatten());
        let keys = keys.zip(ids.into_iter().flatten());
        let ahead: Vec<(Key, String)> = keys
            .zip(audiences.into_iter().flatten())
            .map(|(((priority, at), id), audience)| ((priority, at, id), audience))
            .collect();
        Ok(Self {
            name: (row.try_get("line_queue")?, row.try_get("line_name")?),
            turn: row.try_get("turn")?,
            place: Some(usize::try_from(row.try_get::<i64, _>("place")?)?),
            start: (
                row.try_get("front_priority")?,
                row.try_get("front_available_at")?,
                row.try_get("front_id")?,
            ),
            goes_on: i64::try_from(ahead.len())? > share,
            exhausted: ahead.is_empty(),
            ahead,
            claimable: VecDeque::new(),
            refused: None,
            left: Vec::new(),
        })
    }

    /// Brings what can be claimed into its order.
    fn sort(&mut self) {
        let claimable = self.claimable.make_contiguous();
        claimable.sort_by_key(|(_, document)| {
            let available_at = document.lifecycle.available_at;
            (Reverse(document.priority), available_at, document.id)
        });
    }

    /// How many can be claimed, as far as is known.
    fn claimable(&self) -> u64 {
        if self.exhausted {
            self.claimable.len() as u64
        } else {
            u64::MAX
        }
    }

    /// The first key that may be ready without those taken; `None` where nothing is.
    fn next_start(&self, taken: &HashSet<Uuid>) -> Option<Key> {
        let next = self
            .ahead
            .iter()
            .find(|((_, _, id), _)| !taken.contains(id));
        let last = self.ahead.last().filter(|_| self.goes_on);
        next.or(last).map(|(key, _)| *key)
    }

    /// Whether there was one for this audience that somebody else held.
    fn skipped(&self, taken: &HashSet<Uuid>, audience: &str) -> bool {
        // What was read and not taken is held back by limits; where there is more, so is that.
        let read = |id: &Uuid| self.claimable.iter().any(|(held, _)| held.id.0 == *id);
        self.exhausted
            && self.ahead.iter().any(|((_, _, id), for_whom)| {
                (for_whom == "*" || for_whom == audience || for_whom.starts_with('~'))
                    && !taken.contains(id)
                    && !self.left.contains(id)
                    && !read(id)
            })
    }
}

fn deal(slots: usize, lines: &[Line]) -> Vec<usize> {
    let claimable: Vec<u64> = lines.iter().map(Line::claimable).collect();
    fair::deal(slots, &claimable)
}

/// One claim, with what its statements are asked.
struct Asked<'a> {
    request: &'a ClaimRequest,
    queues: Vec<String>,
    audience: String,
    known: &'a Known,
    /// When it began.
    since: Instant,
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

    /// Whether the specification lets this worker have it.
    fn may_have(&self, held: &Held, now: Timestamp) -> bool {
        let event = self.event(self.request.lease_ids[0]);
        transition(&held.life, &event, now).is_ok()
    }

    fn grace(&self) -> i64 {
        codec::whole_ms_in_us(self.request.grace).min(codec::LONGEST)
    }

    /// The lines to deal to, each read as far as its share goes.
    async fn front(
        &self,
        session: &mut Session<'_>,
        slots: usize,
        limits: &mut Limits,
    ) -> Result<(Moment, Vec<Line>)> {
        let mut at_most = slots;
        let mut promoted = false;
        loop {
            let kept = limits.queues();
            let (moment, mut lines) = self.read_front(session, slots, at_most, kept).await?;
            if moment.limited.iter().any(|queue| !limits.has(queue)) {
                limits.keep(session, moment.limited).await?;
                continue;
            }
            // Once is enough: what falls due from now on is the next claim's.
            if moment.promotable && !promoted {
                self.promote(session).await?;
                promoted = true;
                continue;
            }
            if !limits.is_empty() {
                let sufficient = limits
                    .read(session, self, &moment, &mut lines, at_most)
                    .await?;
                if sufficient {
                    return Ok((moment, lines));
                }
                at_most = at_most.saturating_mul(4);
                continue;
            }
            self.read_shares(session, &mut lines, slots, moment.now)
                .await?;
            // A line is left out only behind at least as many with a document each as there are slots;
            // otherwise it could be its turn.
            let full = lines.iter().filter(|line| line.claimable() > 0).count();
            if moment.lines <= at_most || full >= slots {
                return Ok((moment, lines));
            }
            at_most = at_most.saturating_mul(4);
        }
    }

    /// Makes claimable what fell due, or out of its reservation.
    async fn promote(&self, session: &mut Session<'_>) -> Result<()> {
        let query = session
            .query(|sql| &sql.claim_promote)
            .bind(self.queues.clone())
            .bind(self.audience.clone())
            .bind(self.grace())
            .bind(session.now);
        session.run(query).await.map(drop)
    }

    /// The first lines in the order of their turns, at most so many and those with news, each with a share of
    /// the slots.
    async fn read_front(
        &self,
        session: &mut Session<'_>,
        slots: usize,
        at_most: usize,
        kept: Vec<String>,
    ) -> Result<(Moment, Vec<Line>)> {
        let fronts = || self.queues.iter().map(|queue| self.known.get(queue));
        let lines = || {
            let fronts = self
                .queues
                .iter()
                .filter_map(|q| Some((q, self.known.get(q)?)));
            fronts.flat_map(|(queue, front)| front.lines.iter().map(move |line| (queue, line)))
        };
        let query = session
            .query(|sql| &sql.claim_front)
            .bind(self.queues.clone())
            .bind(
                fronts()
                    .map(|f| f.map(|f| f.seen.clone()))
                    .collect::<Vec<_>>(),
            )
            .bind(fronts().map(|f| f.map(|f| f.at)).collect::<Vec<_>>())
            .bind(
                fronts()
                    .map(|f| f.map(|f| f.server.clone()))
                    .collect::<Vec<_>>(),
            )
            .bind(lines().map(|(queue, _)| queue.clone()).collect::<Vec<_>>())
            .bind(
                lines()
                    .map(|(_, (line, _))| line.clone())
                    .collect::<Vec<_>>(),
            )
            .bind(lines().map(|(_, (_, key))| key.0).collect::<Vec<_>>())
            .bind(lines().map(|(_, (_, key))| key.1).collect::<Vec<_>>())
            .bind(lines().map(|(_, (_, key))| key.2).collect::<Vec<_>>())
            .bind(self.audience.clone())
            .bind(i64::try_from(slots).unwrap_or(i64::MAX))
            .bind(i64::try_from(at_most).unwrap_or(i64::MAX))
            .bind(self.grace())
            .bind(session.now)
            .bind(kept);
        let rows = session.all(query).await?;
        let odd = |error| malformed("the front of the queues", error);
        let first = rows
            .first()
            .ok_or_else(|| failed(sqlx::Error::RowNotFound))?;
        let moment = Moment::of(first).map_err(odd)?;
        let mut lines = Vec::new();
        let mut read = Vec::new();
        let mut shares = Vec::new();
        for row in &rows {
            let queue: Option<&str> = row.try_get("line_queue").map_err(failed)?;
            let nth: Option<i64> = row.try_get("nth").map_err(failed)?;
            if queue.is_some() && nth.is_none_or(|nth| nth == 1) {
                shares.push((lines.len(), row.try_get("share").map_err(failed)?));
                lines.push(Line::of(row).map_err(odd)?);
            }
            if nth.is_some() {
                read.push(row);
            }
        }
        shares.retain(|(_, share)| *share > 0);
        self.sort_in(&mut lines, &shares, &read, moment.now)?;
        Ok((moment, lines))
    }

    /// Reads the front of each line as far as its share of the deal goes. Where one turns out to hold
    /// less, it is dealt again with the true number, until every share is covered. Shares only grow, so
    /// nothing is locked that is not claimed, but for what cannot be.
    async fn read_shares(
        &self,
        session: &mut Session<'_>,
        lines: &mut [Line],
        slots: usize,
        now: Timestamp,
    ) -> Result<()> {
        loop {
            let mut shares = vec![0_usize; lines.len()];
            for line in deal(slots, lines) {
                shares[line] += 1;
            }
            let short: Vec<(usize, i64)> = (0..lines.len())
                .filter(|i| !lines[*i].exhausted && lines[*i].claimable.len() < shares[*i])
                // What cannot be read, or not be claimed, stands in the way: look further behind it.
                .map(|i| (i, shares[i] + lines[i].left.len() * 2))
                .map(|(i, limit)| (i, i64::try_from(limit).unwrap_or(i64::MAX)))
                .collect();
            if short.is_empty() {
                return Ok(());
            }
            self.read(session, lines, &short, now).await?;
        }
    }

    /// Reads the front of some lines, each up to its limit.
    async fn read(
        &self,
        session: &mut Session<'_>,
        lines: &mut [Line],
        which: &[(usize, i64)],
        now: Timestamp,
    ) -> Result<()> {
        let lines_of = || which.iter().map(|(line, _)| &lines[*line]);
        let query = session
            .query(|sql| &sql.claim_candidates)
            .bind(lines_of().map(|l| l.name.0.clone()).collect::<Vec<_>>())
            .bind(lines_of().map(|l| l.name.1.clone()).collect::<Vec<_>>())
            .bind(lines_of().map(|l| l.start.0).collect::<Vec<_>>())
            .bind(lines_of().map(|l| l.start.1).collect::<Vec<_>>())
            .bind(lines_of().map(|l| l.start.2).collect::<Vec<_>>())
            .bind(which.iter().map(|(_, limit)| *limit).collect::<Vec<_>>())
            .bind(self.audience.clone());
        let rows = session.all(query).await?;
        self.sort_in(lines, which, &rows.iter().collect::<Vec<_>>(), now)
    }

    /// Gives lines their documents, of which each was read up to a limit.
    fn sort_in(
        &self,
        lines: &mut [Line],
        which: &[(usize, i64)],
        rows: &[&PgRow],
        now: Timestamp,
    ) -> Result<()> {
        // Counted before anything is left out: a line that filled its limit may go on.
        let mut read: HashMap<Name, i64> = HashMap::new();
        let mut ids: HashMap<Uuid, Name> = HashMap::with_capacity(rows.len());
        for row in rows {
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
        for (held, document) in readable(rows.iter().copied(), codec::document) {
            let name = (held.queue.as_str().to_owned(), held.line.clone());
            let line = &mut lines[by_name[&name]];
            if self.may_have(&held, now) {
                ids.remove(&held.id.0);
                line.claimable.push_back((held, document));
            } else {
                let due_at = due_at(&held.life, &self.request.fingerprint, self.request.grace);
                line.refused = line.refused.into_iter().chain([due_at]).min();
            }
        }
        for (id, name) in ids {
            lines[by_name[&name]].left.push(id);
        }
        for (index, _) in which {
            lines[*index].sort();
        }
        Ok(())
    }

    /// How long until the next document falls due for this worker.
    async fn next_due(
        &self,
        session: &mut Session<'_>,
        now: Timestamp,
        lines: &[Line],
        taken: &HashSet<Uuid>,
    ) -> Result<Option<Duration>> {
        let query = session
            .query(|sql| &sql.claim_next_due)
            .bind(self.queues.clone())
            .bind(self.audience.clone());
        let row = session.one(query).await?;
        let at = |column: &str| -> Result<Option<i64>> { row.try_get(column).map_err(failed) };
        let grace = codec::whole_ms_in_us(self.request.grace);
        let reserved = at("reserved")?.map(|at| at.saturating_add(grace));
        let refused = lines.iter().filter_map(|line| line.refused).min();
        let refused = refused.map(Timestamp::as_microsecond);
        let next = [at("waiting")?, reserved, refused]
            .into_iter()
            .flatten()
            .min();
        let next = next.map(|at| {
            let us = at.saturating_sub(now.as_microsecond());
            Duration::from_micros(u64::try_from(us).unwrap_or(0))
        });
        let skipped = |line: &Line| line.skipped(taken, &self.audience);
        let held = lines.iter().any(skipped).then_some(HELD);
        Ok(next.into_iter().chain(held).min())
    }

    /// What is known of the queues from now on.
    fn learned(&self, moment: Moment, lines: &[Line], taken: &HashSet<Uuid>) -> Known {
        let mut starts: HashMap<&str, BTreeMap<String, Key>> = HashMap::new();
        for queue in &moment.served {
            let known = self
                .known
                .get(queue)
                .filter(|_| moment.known.contains(queue));
            let known = known.map(|front| front.lines.clone()).unwrap_or_default();
            starts.insert(queue, known);
        }
        for line in lines.iter().filter(|line| line.place.is_some()) {
            let (queue, name) = &line.name;
            let Some(starts) = starts.get_mut(queue.as_str()) else {
                continue;
            };
            match line.next_start(taken) {
                Some(start) => starts.insert(name.clone(), start),
                None => starts.remove(name),
            };
        }
        let front = |(queue, lines): (&str, BTreeMap<String, Key>)| {
            let front = Front {
                server: moment.server.clone(),
                seen: moment.seen.clone(),
                at: moment.server_now,
                since: self.since,
                limited: moment.limited.contains(queue),
                lines,
            };
            (queue.to_owned(), Arc::new(front))
        };
        starts.into_iter().map(front).collect()
    }
}
