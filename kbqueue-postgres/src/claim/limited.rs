//! Claims of queues with limits.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use kbqueue_core::limits::{self, Dealt, Front, Room, left};
use kbqueue_core::queue::QueueSettings;
use kbqueue_core::store::Result;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::{Asked, Line, Moment};
use crate::batch::readable;
use crate::codec;
use crate::error::{failed, malformed};
use crate::fronts::Name;
use crate::session::Session;

/// What is known of the limits of queues while their rows are locked.
#[derive(Default)]
pub(super) struct Limits {
    queues: BTreeMap<String, Limit>,
    /// Whether there are lines that were not read, because they could get nothing.
    unread: bool,
}

#[derive(Default)]
struct Limit {
    settings: QueueSettings,
    full_at: Option<Timestamp>,
    /// How many documents of each line are processing.
    processing: HashMap<String, u64>,
}

/// What kept slots free.
#[derive(Default)]
pub(super) struct HeldUp {
    pub(super) held_back: bool,
    pub(super) next_token: Option<Duration>,
}

impl Limits {
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    pub(super) fn has(&self, queue: &str) -> bool {
        self.queues.contains_key(queue)
    }

    pub(super) fn queues(&self) -> Vec<String> {
        self.queues.keys().cloned().collect()
    }

    /// Locks the rows of these queues, those that have limits, and counts what is processing.
    pub(super) async fn keep(
        &mut self,
        session: &mut Session<'_>,
        queues: BTreeSet<String>,
    ) -> Result<()> {
        if queues.is_empty() {
            return Ok(());
        }
        let query = session.query(|sql| &sql.claim_limits);
        let query = query.bind(queues.into_iter().collect::<Vec<_>>());
        let mut counted = Vec::new();
        for row in &session.all(query).await? {
            let queue: String = row.try_get("name").map_err(failed)?;
            let settings = codec::settings(row, &queue)?;
            let full_at = row.try_get("full_at").map_err(failed)?;
            let full_at = codec::optional_time(full_at)
                .map_err(|error| malformed(format!("the rate tokens of queue {queue}"), error))?;
            if settings.max_processing.is_some() || settings.max_processing_per_tenant.is_some() {
                counted.push(queue.clone());
            }
            let limit = Limit {
                // Paused queues are left out by the statements.
                settings: QueueSettings {
                    paused: false,
                    ..settings
                },
                full_at,
                processing: HashMap::new(),
            };
            self.queues.insert(queue, limit);
        }
        if counted.is_empty() {
            return Ok(());
        }
        let query = session.query(|sql| &sql.claim_processing).bind(counted);
        for row in &session.all(query).await? {
            let queue: &str = row.try_get("queue").map_err(failed)?;
            let processing: i64 = row.try_get("processing").map_err(failed)?;
            if let Some(limit) = self.queues.get_mut(queue) {
                let line = row.try_get("line").map_err(failed)?;
                limit
                    .processing
                    .insert(line, u64::try_from(processing).unwrap_or(0));
            }
        }
        Ok(())
    }

    /// Reads as much of the first lines as may be dealt to them, and what can go on without a token wherever
    /// it stands. Answers whether lines behind these could get nothing.
    pub(super) async fn read(
        &mut self,
        session: &mut Session<'_>,
        asked: &Asked<'_>,
        moment: &Moment,
        lines: &mut Vec<Line>,
        at_most: usize,
    ) -> Result<bool> {
        let slots = asked.request.lease_ids.len();
        loop {
            let short: Vec<(usize, i64)> = (0..lines.len())
                .filter(|i| lines[*i].place.is_some_and(|place| place <= at_most))
                .filter(|i| !lines[*i].exhausted && lines[*i].claimable.len() < slots)
                .map(|i| (i, slots + lines[i].left.len() * 2))
                .map(|(i, limit)| (i, i64::try_from(limit).unwrap_or(i64::MAX)))
                .collect();
            if short.is_empty() {
                break;
            }
            asked.read(session, lines, &short, moment.now).await?;
        }
        self.read_going_on(session, asked, moment, lines).await?;
        lines.sort_by(|a, b| (a.turn.unwrap_or(0), &a.name).cmp(&(b.turn.unwrap_or(0), &b.name)));
        self.unread = moment.lines > at_most;
        if !self.unread {
            return Ok(true);
        }
        // Only what starts can be in the lines behind. They get nothing where the first round, in which each
        // line gets one, uses up the slots or whatever else there is of.
        let open = |rooms: &[Room]| rooms.iter().any(|r| r.processing > 0 && r.starts > 0);
        let (dealt, rooms) = self.try_deal(asked, moment, lines);
        let lines: BTreeSet<usize> = dealt.taken.iter().map(|(line, _)| *line).collect();
        let one_round = lines.len() == dealt.taken.len();
        let used_up = dealt.taken.len() == slots || !open(&rooms);
        Ok(!open(&self.rooms(moment)) || (one_round && used_up))
    }

    async fn read_going_on(
        &self,
        session: &mut Session<'_>,
        asked: &Asked<'_>,
        moment: &Moment,
        lines: &mut Vec<Line>,
    ) -> Result<()> {
        let rated = moment.served.iter().filter(|queue| {
            let limit = self.queues.get(*queue);
            limit.is_some_and(|limit| limit.settings.rate.is_some())
        });
        let rated: Vec<String> = rated.cloned().collect();
        if rated.is_empty() {
            return Ok(());
        }
        let slots = asked.request.lease_ids.len();
        let query = session
            .query(|sql| &sql.claim_going_on)
            .bind(rated)
            .bind(asked.audience.clone())
            .bind(asked.audience.replacen('=', "~", 1))
            .bind(i64::try_from(slots).unwrap_or(i64::MAX));
        let rows = session.all(query).await?;
        let mut found: BTreeMap<Name, (Option<i64>, Vec<&PgRow>)> = BTreeMap::new();
        for row in &rows {
            let queue = row.try_get("queue").map_err(failed)?;
            let name: Name = (queue, row.try_get("line").map_err(failed)?);
            let turn = row.try_get("turn").map_err(failed)?;
            let line = found.entry(name).or_insert_with(|| (turn, Vec::new()));
            line.1.push(row);
        }
        for (name, (turn, rows)) in found {
            let index = lines.iter().position(|line| line.name == name);
            let index = index.unwrap_or_else(|| {
                lines.push(Line::without_front(name, turn));
                lines.len() - 1
            });
            let line = &mut lines[index];
            for (held, document) in readable(rows, codec::document) {
                let known = line.claimable.iter().any(|(other, _)| other.id == held.id);
                if !known && asked.may_have(&held, moment.now) {
                    line.claimable.push_back((held, document));
                }
            }
            line.sort();
        }
        Ok(())
    }

    /// What each queue that is served leaves room for.
    fn rooms(&self, moment: &Moment) -> Vec<Room> {
        let room = |queue: &String| {
            let Limit {
                settings,
                full_at,
                processing,
            } = self.queues.get(queue)?;
            let processing = processing.values().sum();
            Some(Room::of(settings, processing, *full_at, moment.now))
        };
        let unlimited = Room {
            processing: u64::MAX,
            starts: u64::MAX,
        };
        let rooms = moment.served.iter().map(room);
        rooms.map(|room| room.unwrap_or(unlimited)).collect()
    }

    /// What is dealt, and what room is left then.
    fn try_deal(&self, asked: &Asked<'_>, moment: &Moment, lines: &[Line]) -> (Dealt, Vec<Room>) {
        let front = |line: &Line| {
            let (queue, name) = &line.name;
            let limit = self.queues.get(queue);
            let max = limit.and_then(|limit| limit.settings.max_processing_per_tenant);
            let processing = limit.and_then(|limit| limit.processing.get(name));
            let queue = moment.served.iter().position(|served| served == queue);
            Front {
                queue: queue.unwrap_or(0),
                room: left(max, processing.copied().unwrap_or(0)),
                starts: starts(asked, line),
            }
        };
        let fronts: Vec<Front> = lines.iter().map(front).collect();
        let mut rooms = self.rooms(moment);
        let dealt = limits::deal(asked.request.lease_ids.len(), &rooms, &fronts);
        for (line, place) in &dealt.taken {
            let room = &mut rooms[fronts[*line].queue];
            room.processing -= 1;
            room.starts -= u64::from(fronts[*line].starts[*place]);
        }
        (dealt, rooms)
    }

    /// Deals, and spends the tokens: line and place in its front for each slot, in serving order.
    pub(super) async fn deal(
        &mut self,
        session: &mut Session<'_>,
        asked: &Asked<'_>,
        moment: &Moment,
        lines: &[Line],
    ) -> Result<(Vec<(usize, usize)>, HeldUp)> {
        let now = moment.now;
        let (mut dealt, rooms) = self.try_deal(asked, moment, lines);
        if self.unread && dealt.taken.len() < asked.request.lease_ids.len() {
            dealt.held_back |= rooms.iter().any(|room| room.processing == 0);
            let short = |queue: &usize| rooms[*queue].starts == 0;
            dealt.short_of_tokens.extend((0..rooms.len()).filter(short));
        }
        let mut spent = BTreeMap::new();
        for (line, place) in &dealt.taken {
            let starts = starts(asked, &lines[*line])[*place];
            let queue = &lines[*line].name.0;
            if let Some(limit) = self.queues.get_mut(queue).filter(|_| starts)
                && let Some(rate) = limit.settings.rate
            {
                let full_at = rate.spend(limit.full_at, now, 1);
                limit.full_at = Some(full_at);
                spent.insert(queue.clone(), full_at.as_microsecond());
            }
        }
        if !spent.is_empty() {
            let (queues, instants): (Vec<String>, Vec<i64>) = spent.into_iter().unzip();
            let query = session.query(|sql| &sql.claim_spend);
            session.run(query.bind(queues).bind(instants)).await?;
        }
        let mut held_up = HeldUp {
            held_back: dealt.held_back,
            next_token: None,
        };
        for queue in dealt.short_of_tokens {
            let limit = self.queues.get(&moment.served[queue]);
            let next = limit.and_then(|limit| {
                let next = limit.settings.rate?.next_token(limit.full_at, now);
                Some(next.duration_since(now).unsigned_abs())
            });
            held_up.next_token = held_up.next_token.into_iter().chain(next).min();
        }
        // A line's documents are numbered as they were before any was taken.
        let mut gone: HashMap<usize, Vec<usize>> = HashMap::new();
        let places = dealt.taken.into_iter().map(|(line, place)| {
            let gone = gone.entry(line).or_default();
            let before = gone.iter().filter(|other| **other < place).count();
            gone.push(place);
            (line, place - before)
        });
        Ok((places.collect(), held_up))
    }
}

/// Whether a claim starts each document of a line.
fn starts(asked: &Asked<'_>, line: &Line) -> Vec<bool> {
    let fingerprint = &asked.request.fingerprint;
    let claimable = line.claimable.iter();
    claimable
        .map(|(held, _)| held.life.starts_under(fingerprint))
        .collect()
}

impl Line {
    /// One of which only some documents are known.
    fn without_front(name: Name, turn: Option<i64>) -> Self {
        Self {
            name,
            turn,
            place: None,
            start: (0, 0, Uuid::nil()),
            ahead: Vec::new(),
            goes_on: false,
            claimable: VecDeque::new(),
            exhausted: true,
            refused: None,
            left: Vec::new(),
        }
    }
}
