//! Claims from queues whose settings limit them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use kbqueue_core::QueueSettings;
use kbqueue_core::limits::{Dealt, Front, Room, deal, left};
use kbqueue_core::store::Result;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::batch::array;
use crate::claim::{Asked, Candidate, Chosen, Line, line};
use crate::codec;
use crate::error::{failed, malformed};

/// What holds back claims of a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    settings: QueueSettings,
    processing: u64,
    full_at: Option<Timestamp>,
}

/// How many lines of each queue are read at least: more than most queues have.
///
/// Behind these, a claim that found no token looks for documents to go on with, and for no others. What may
/// be missing then is `held_back`, of a document that could not start without a token anyway.
const LINES: usize = 64;

/// The limits of the queue in a row of `claim_lines`.
pub(crate) fn read(row: &SqliteRow, queue: &str) -> Result<Option<Limits>> {
    let settings: Option<&str> = row.try_get("settings").map_err(failed)?;
    if settings.is_none() {
        return Ok(None);
    }
    // No line of a paused queue is read.
    let settings = codec::settings(queue, false, settings)?;
    let processing: i64 = row.try_get("processing").map_err(failed)?;
    let limits = Limits {
        settings,
        processing: u64::try_from(processing).unwrap_or(0),
        full_at: instant(queue, row.try_get("full_at").map_err(failed)?)?,
    };
    Ok(settings.limits_claims().then_some(limits))
}

/// When a queue's rate tokens are all there again, as it is stored.
pub(crate) fn instant(queue: &str, us: Option<i64>) -> Result<Option<Timestamp>> {
    us.map(Timestamp::from_microsecond)
        .transpose()
        .map_err(|error| malformed(format!("the rate tokens of queue {queue}"), error))
}

/// Lines in the order of their turns, and what their queues and tenants have room for.
struct Within {
    lines: Vec<Line>,
    /// Those that were read out of turn, because the worker can go on there.
    extra: BTreeSet<i64>,
    /// The limits of each queue that has a line.
    queues: Vec<(String, Option<Limits>)>,
    rooms: Vec<Room>,
    /// How many documents of each line are processing, where that is limited.
    processing: HashMap<i64, u64>,
}

impl Asked<'_> {
    /// What to claim where at least one of the queues has limits.
    pub(crate) async fn choose_within_limits(
        &self,
        conn: &mut SqliteConnection,
        slots: usize,
    ) -> Result<Chosen> {
        let mut at_most = slots.max(LINES);
        loop {
            let mut within = self.within(conn, at_most).await?;
            let dealt = self.deal(conn, &mut within, slots).await?;
            if within.is_enough(&dealt, self, at_most) {
                return Ok(within.chosen(&dealt, self));
            }
            at_most = at_most.saturating_mul(4);
        }
    }

    async fn within(&self, conn: &mut SqliteConnection, at_most: usize) -> Result<Within> {
        let mut lines = self.lines(conn, at_most).await?;
        let mut extra = BTreeSet::new();
        let has = |limit: fn(&QueueSettings) -> bool, lines: &[Line]| {
            lines
                .iter()
                .any(|line| line.limits.is_some_and(|l| limit(&l.settings)))
        };
        if has(|settings| settings.rate.is_some(), &lines) {
            let known: BTreeSet<i64> = lines.iter().map(|line| line.id).collect();
            let rows = sqlx::query(include_str!("../queries/claim_own_lines.sql"))
                .bind(&self.queues)
                .bind(&self.audience)
                .fetch_all(&mut *conn)
                .await
                .map_err(failed)?;
            for row in &rows {
                let line = line(row)?;
                if !known.contains(&line.id) {
                    extra.insert(line.id);
                    lines.push(line);
                }
            }
            lines.sort_by(|a, b| a.place().cmp(&b.place()));
        }
        let mut processing = HashMap::new();
        if has(
            |settings| settings.max_processing_per_tenant.is_some(),
            &lines,
        ) {
            let held: String = sqlx::query_scalar(include_str!("../queries/claim_tenants.sql"))
                .fetch_one(conn)
                .await
                .map_err(failed)?;
            for line in array::<i64>("lines", &held)? {
                *processing.entry(line).or_default() += 1;
            }
        }
        let queues: BTreeMap<&str, Option<Limits>> = lines
            .iter()
            .map(|line| (line.queue.as_str(), line.limits))
            .collect();
        let rooms = queues.values().map(|limits| match limits {
            Some(limits) => {
                let Limits {
                    settings,
                    processing,
                    full_at,
                } = limits;
                Room::of(settings, *processing, *full_at, self.now)
            }
            None => Room {
                processing: u64::MAX,
                starts: u64::MAX,
            },
        });
        Ok(Within {
            rooms: rooms.collect(),
            queues: queues
                .into_iter()
                .map(|(name, limits)| (name.to_owned(), limits))
                .collect(),
            lines,
            extra,
            processing,
        })
    }

    /// Deals, after each line was read until something is left of each kind of its documents: then those
    /// behind it change nothing. (Only a document to go on with that workers with another fingerprint
    /// opened to everybody, and that nobody took since, waits behind others for a token.)
    async fn deal(
        &self,
        conn: &mut SqliteConnection,
        within: &mut Within,
        slots: usize,
    ) -> Result<Dealt> {
        let mut limit = slots / within.lines.len().max(1) + 1;
        let mut which: HashMap<i64, usize> = within
            .lines
            .iter()
            .enumerate()
            .map(|(index, line)| (line.id, index))
            .collect();
        loop {
            if !which.is_empty() {
                self.read(conn, &mut within.lines, &which, limit).await?;
            }
            let dealt = deal(slots, &within.rooms, &within.fronts(self));
            which = within.used_up(&dealt);
            if which.is_empty() {
                return Ok(dealt);
            }
            limit = limit.saturating_mul(2);
        }
    }
}

impl Within {
    fn queue(&self, line: &Line) -> usize {
        let place = self
            .queues
            .binary_search_by(|(name, _)| name.as_str().cmp(&line.queue));
        place.expect("they are the queues of the lines")
    }

    fn fronts(&self, asked: &Asked<'_>) -> Vec<Front> {
        let front = |line: &Line| {
            let max = line
                .limits
                .and_then(|l| l.settings.max_processing_per_tenant);
            let processing = self.processing.get(&line.id).copied().unwrap_or(0);
            let starts = |c: &Candidate| c.held.life.starts_under(&asked.request.fingerprint);
            Front {
                queue: self.queue(line),
                room: left(max, processing),
                starts: line.claimable.iter().map(starts).collect(),
            }
        };
        self.lines.iter().map(front).collect()
    }

    /// The lines of which all that was read of one kind was taken, and there may be more of it.
    fn used_up(&self, dealt: &Dealt) -> HashMap<i64, usize> {
        let taken: BTreeSet<&(usize, usize)> = dealt.taken.iter().collect();
        let is_used_up = |(index, line): &(usize, &Line)| {
            let left = |reserved: bool| {
                let mut places = line.claimable.iter().enumerate();
                places.any(|(place, c)| c.reserved == reserved && !taken.contains(&(*index, place)))
            };
            line.more[0] && !left(false) || line.more[1] && !left(true)
        };
        let lines = self.lines.iter().enumerate().filter(is_used_up);
        lines.map(|(index, line)| (line.id, index)).collect()
    }

    /// Whether no line that was not read could change anything.
    fn is_enough(&self, dealt: &Dealt, asked: &Asked<'_>, at_most: usize) -> bool {
        let slots = asked.request.lease_ids.len();
        let fingerprint = &asked.request.fingerprint;
        // Before any line is served twice.
        let rising = dealt
            .taken
            .windows(2)
            .take_while(|pair| pair[0].0 < pair[1].0)
            .count();
        let first_round = &dealt.taken[..dealt.taken.len().min(rising + 1)];
        (0..self.queues.len()).all(|queue| {
            let read = |(_, line): &(usize, &Line)| {
                self.queue(line) == queue && !self.extra.contains(&line.id)
            };
            let read: Vec<usize> = self
                .lines
                .iter()
                .enumerate()
                .filter(read)
                .map(|(i, _)| i)
                .collect();
            let Some(last) = read.last().filter(|_| read.len() >= at_most) else {
                return true;
            };
            let served = first_round.iter().take_while(|(line, _)| line <= last);
            let own = served
                .clone()
                .filter(|(line, _)| self.queue(&self.lines[*line]) == queue);
            let starts = own.clone().filter(|(line, place)| {
                let candidate = &self.lines[*line].claimable[*place];
                candidate.held.life.starts_under(fingerprint)
            });
            let (own, starts) = (own.count() as u64, starts.count() as u64);
            let no_slot = dealt.taken.len() == slots;
            // It takes nothing, because every slot, or the queue's room, is used up before its turn.
            served.count() >= slots
                || own >= self.rooms[queue].processing && (no_slot || dealt.held_back)
                || starts >= self.rooms[queue].starts
                    && (no_slot || dealt.short_of_tokens.contains(&queue))
        })
    }

    fn chosen(self, dealt: &Dealt, asked: &Asked<'_>) -> Chosen {
        let mut full_at: BTreeMap<usize, Timestamp> = BTreeMap::new();
        let queues: Vec<usize> = self.lines.iter().map(|line| self.queue(line)).collect();
        let mut chosen = Chosen {
            dealt: self.lines.first().map_or(0, |line| line.dealt),
            held_back: dealt.held_back,
            next_known: self.lines.iter().filter_map(|line| line.refused).min(),
            ..Chosen::default()
        };
        let claimable = self.lines.into_iter().map(|line| line.claimable);
        let mut fronts: Vec<Vec<Option<Candidate>>> = claimable
            .map(|front| front.into_iter().map(Some).collect())
            .collect();
        for (line, place) in &dealt.taken {
            let taken = fronts[*line][*place].take();
            let Candidate { held, document, .. } = taken.expect("it is dealt once");
            let queue = queues[*line];
            if let Some(limits) = &self.queues[queue].1
                && let Some(rate) = limits.settings.rate
                && held.life.starts_under(&asked.request.fingerprint)
            {
                let before = full_at.get(&queue).copied().or(limits.full_at);
                full_at.insert(queue, rate.spend(before, asked.now, 1));
            }
            chosen.documents.push((held, document));
        }
        let next_token = |queue: &usize| {
            let limits = self.queues[*queue].1.as_ref()?;
            let full_at = full_at.get(queue).copied().or(limits.full_at);
            let rate = limits.settings.rate?;
            Some(rate.next_token(full_at, asked.now).as_microsecond())
        };
        let next_token = dealt.short_of_tokens.iter().filter_map(next_token);
        chosen.next_known = next_token.chain(chosen.next_known).min();
        let spent = full_at
            .iter()
            .map(|(queue, full_at)| (self.queues[*queue].0.clone(), full_at.as_microsecond()));
        chosen.full_at = spent.collect();
        chosen
    }
}
