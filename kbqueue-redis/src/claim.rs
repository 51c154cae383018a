//! Documents are given to workers: the fronts of the lines are read, the specification and the deal judge
//! them, and a commit takes what nobody else took meanwhile.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use futures::future::{try_join, try_join_all};
use jiff::Timestamp;
use kbqueue_core::limits::{self, Dealt, Room, left};
use kbqueue_core::state::{Event, due_at, transition};
use kbqueue_core::store::{ClaimRequest, Claims, Result};
use kbqueue_core::{Document, LeaseId, QueueName};

use crate::batch::{Batch, TRIES};
use crate::codec::{self, Held, History, Row};
use crate::error::failed;
use crate::schema;
use crate::script;
use crate::settings::{RawSettings, Settings};
use crate::store::RedisStore;

/// How many documents a script makes ready at most, of each audience: it blocks the server meanwhile.
const PROMOTED: usize = 500;

/// Claims for `request`.
///
/// The cost depends on the documents claimed and those that fell due since the last claim, not on how many
/// wait.
pub(crate) async fn claim(store: &RedisStore, request: &ClaimRequest) -> Result<Claims> {
    let mut claims = Claims::default();
    let queues: BTreeSet<&QueueName> = request.worker.queues.iter().collect();
    let mut lease_ids = request.lease_ids.clone();
    if lease_ids.is_empty() || queues.is_empty() {
        return Ok(claims);
    }
    // Claims of one process would only overtake each other.
    let _alone = store.claiming().await;
    for _ in 0..TRIES {
        let asked = Asked {
            store,
            request,
            lease_ids: &lease_ids,
            audience: schema::audience(Some(&request.fingerprint)),
        };
        let (fronts, turn) = try_join(asked.fronts(&queues), turn(store)).await?;
        let taken = asked.take(fronts, turn).await?;
        let used: HashSet<LeaseId> = taken
            .documents
            .iter()
            .filter_map(|document| Some(document.lifecycle.lease.as_ref()?.id))
            .collect();
        lease_ids.retain(|lease_id| !used.contains(lease_id));
        claims.documents.extend(taken.documents);
        if !taken.overtaken {
            claims.next_due = taken.next_due.filter(|_| !lease_ids.is_empty());
            claims.held_back = taken.held_back && !lease_ids.is_empty();
            return Ok(claims);
        }
    }
    // Others were faster each time: there is work, and the caller may ask again at once.
    claims.next_due = Some(Duration::ZERO);
    Ok(claims)
}

/// How many documents were dealt to claims so far. It is not exact where several claim at once, and then
/// the order of their lines is nobody's promise.
async fn turn(store: &RedisStore) -> Result<u64> {
    let command = redis::cmd("GET").arg(store.keys().turn()).to_owned();
    let turn: Option<u64> = store.connection().call(&command).await.map_err(failed)?;
    Ok(turn.unwrap_or(0))
}

/// A line that has ready documents, and those at its front that were read.
#[derive(Debug)]
struct Line {
    name: String,
    turn: u64,
    /// How many are ready. Some of them may be left to others, or unreadable.
    ready: u64,
    /// The first ones that can be claimed, in order.
    claimable: Vec<(Held, Document)>,
    /// Whether there are no others: that everybody may claim, and that this claimer may.
    exhausted: [bool; 2],
    /// How many were read, those included that cannot be claimed, or not be read, or that were read twice.
    read: usize,
    /// How many of its documents are processing, where the queue has a limit for that.
    processing: u64,
}

impl Line {
    fn exhausted(&self) -> bool {
        self.exhausted == [true; 2]
    }

    /// How many can be claimed, as far as is known.
    fn claimable(&self) -> usize {
        let read = self.claimable.len();
        if self.exhausted() {
            read
        } else {
            usize::try_from(self.ready).unwrap_or(usize::MAX).max(read)
        }
    }

    /// Of each that was read, whether it starts rather than goes on.
    fn starts(&self, fingerprint: &str) -> Vec<bool> {
        let starts = |held: &Held| held.life.starts_under(fingerprint);
        self.claimable
            .iter()
            .map(|(held, _)| starts(held))
            .collect()
    }
}

/// A line as the script answers it: name, turn, ready documents, whether all of them were read (everybody's,
/// the claimer's), processing ones, and those that were read.
type RawLine = (String, u64, u64, bool, bool, u64, Vec<RawRows>);
/// Entries, lives, fixed parts, histories.
type RawRows = (Vec<String>, Part, Part, Part);
type Part = Vec<Option<Vec<u8>>>;

/// What was read of one queue.
#[derive(Debug)]
struct Front<'a> {
    queue: &'a QueueName,
    now: Timestamp,
    lines: Vec<Line>,
    /// Whether there may be lines behind these: with documents that are everybody's, and this claimer's.
    full: [bool; 2],
    /// When documents fall due for this worker that may not be claimed yet, as far as was seen.
    due: Vec<Timestamp>,
    /// How many lines were asked for.
    most_lines: usize,
    settings: Settings,
    /// How many documents are processing.
    processing: u64,
}

impl Front<'_> {
    fn is_limited(&self) -> bool {
        self.settings.settings.limits_claims()
    }

    fn room(&self) -> Room {
        let Settings {
            settings, full_at, ..
        } = &self.settings;
        Room::of(settings, self.processing, *full_at, self.now)
    }

    /// How many more documents of a line may be processing.
    fn room_of(&self, line: &Line) -> u64 {
        left(
            self.settings.settings.max_processing_per_tenant,
            line.processing,
        )
    }

    /// Whether lines that were not read could have their turn before those that were.
    fn lacks_lines(&self, slots: usize, fingerprint: &str) -> bool {
        // A line is left out only behind at least as many with a document each as there are slots. Where
        // tokens may run out, so it is with documents to go on with.
        let lines = self.lines.iter().filter(|line| self.room_of(line) > 0);
        let with_some = lines.clone().filter(|line| line.claimable() > 0).count();
        let to_go_on = || {
            let goes_on = |line: &&Line| line.starts(fingerprint).contains(&false);
            lines.clone().filter(goes_on).count()
        };
        let [everybodys, own] = self.full;
        (everybodys || own) && with_some < slots
            || own && self.room().starts < slots as u64 && to_go_on() < slots
    }

    /// Takes lines over that were read again. Their documents were compared with the clock of that time,
    /// which is not earlier.
    fn replace(&mut self, later: Self) {
        self.due.extend(later.due);
        for line in later.lines {
            if let Some(place) = self.lines.iter_mut().find(|own| own.name == line.name) {
                *place = line;
            }
        }
        self.now = later.now;
    }
}

/// What is still to be read of a queue.
#[derive(Debug)]
enum More {
    /// More lines than so far: at most this many.
    Lines(usize),
    /// These lines, each as far as this many documents of each audience.
    Documents(Vec<(String, usize)>),
}

/// What was read of a line, until it is taken.
type Takeable = Vec<Option<(Held, Document)>>;

/// What a claim took, and why no more.
#[derive(Debug, Default)]
struct Taken {
    documents: Vec<Document>,
    /// Whether others were faster in some queue, and nothing of it was taken.
    overtaken: bool,
    next_due: Option<Duration>,
    held_back: bool,
}

#[derive(Debug)]
struct Fronts<'a>(Vec<Front<'a>>);

impl Fronts<'_> {
    /// Lines in the order of their turns, each as its place in its queue.
    fn lines(&self) -> Vec<(usize, usize)> {
        let mut lines: Vec<_> = (0..self.0.len())
            .flat_map(|front| (0..self.0[front].lines.len()).map(move |line| (front, line)))
            .collect();
        lines.sort_by_key(|(front, line)| {
            let Line { turn, name, .. } = &self.0[*front].lines[*line];
            (*turn, self.0[*front].queue, name)
        });
        lines
    }

    /// Deals slots within the limits, and answers also with the lines as [`Dealt`] numbers them.
    fn deal(&self, slots: usize, fingerprint: &str) -> (Dealt, Vec<(usize, usize)>) {
        let lines = self.lines();
        let rooms: Vec<Room> = self.0.iter().map(Front::room).collect();
        let fronts = lines.iter().map(|(queue, line)| {
            let front = &self.0[*queue];
            let line = &front.lines[*line];
            let mut starts = line.starts(fingerprint);
            if !front.is_limited() {
                // What was not read yet counts, whatever it is.
                starts.resize(line.claimable().min(slots).max(starts.len()), true);
            }
            limits::Front {
                queue: *queue,
                room: front.room_of(line),
                starts,
            }
        });
        let fronts: Vec<_> = fronts.collect();
        (limits::deal(slots, &rooms, &fronts), lines)
    }

    /// What more to read, by queue, before the deal is fair.
    fn short(&self, slots: usize, fingerprint: &str) -> Vec<(usize, More)> {
        let (dealt, lines) = self.deal(slots, fingerprint);
        let mut shares: HashMap<(usize, usize), usize> = HashMap::new();
        for (line, _) in dealt.taken {
            *shares.entry(lines[line]).or_default() += 1;
        }
        let mut short = Vec::new();
        for (index, front) in self.0.iter().enumerate() {
            if front.lacks_lines(slots, fingerprint) {
                short.push((index, More::Lines(front.most_lines.saturating_mul(4))));
                continue;
            }
            let lacking = front.lines.iter().enumerate().filter_map(|(place, line)| {
                let (lacks, deeper) = if front.is_limited() {
                    let starts = line.starts(fingerprint);
                    let going_on = starts.iter().filter(|starts| !**starts).count();
                    let [everybodys, own] = line.exhausted;
                    let lacks = !everybodys && starts.len() - going_on < slots;
                    (lacks || !own && going_on < slots, slots + line.read)
                } else {
                    let share = shares.get(&(index, place)).copied().unwrap_or(0);
                    let in_the_way = line.read - line.claimable.len();
                    let lacks = !line.exhausted() && line.claimable.len() < share;
                    (lacks, share + 2 * in_the_way)
                };
                // What cannot be read, or not be claimed, stood in the way: look further behind it.
                lacks.then(|| (line.name.clone(), deeper))
            });
            let lacking: Vec<_> = lacking.collect();
            if !lacking.is_empty() {
                short.push((index, More::Documents(lacking)));
            }
        }
        short
    }

    /// How long until the next document falls due for this worker.
    fn next_due(&self) -> Option<Duration> {
        let until = |front: &Front<'_>| {
            let first = front.due.iter().min()?;
            let left = first.duration_since(front.now);
            Some(Duration::try_from(left).unwrap_or(Duration::ZERO))
        };
        self.0.iter().filter_map(until).min()
    }
}

/// One claim, with what its scripts are asked.
struct Asked<'a> {
    store: &'a RedisStore,
    request: &'a ClaimRequest,
    lease_ids: &'a [LeaseId],
    audience: String,
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

    /// The fronts to deal from, each line read as far as its share goes.
    async fn fronts<'q>(&self, queues: &BTreeSet<&'q QueueName>) -> Result<Fronts<'q>> {
        let slots = self.lease_ids.len();
        let reads = queues
            .iter()
            .map(|queue| self.front(queue, More::Lines(slots)));
        let mut fronts = Fronts(try_join_all(reads).await?);
        loop {
            let short = fronts.short(slots, &self.request.fingerprint);
            if short.is_empty() {
                return Ok(fronts);
            }
            let again = short.into_iter().map(async |(index, more)| {
                let whole = matches!(more, More::Lines(_));
                let front = self.front(fronts.0[index].queue, more).await?;
                Ok((index, whole, front))
            });
            for (index, whole, front) in try_join_all(again).await? {
                if whole {
                    fronts.0[index] = front;
                } else {
                    fronts.0[index].replace(front);
                }
            }
        }
    }

    /// Makes ready what is due in a queue, and reads of it what is asked for.
    async fn front<'q>(&self, queue: &'q QueueName, more: More) -> Result<Front<'q>> {
        type Entries = Vec<String>;
        let base = self.store.keys().base(queue);
        let mut arguments = vec![
            self.store.now(),
            self.audience.clone(),
            codec::whole_ms_in_us(self.request.grace).to_string(),
            self.lease_ids.len().to_string(),
            PROMOTED.to_string(),
        ];
        let most_lines = match more {
            More::Lines(most) => {
                arguments.push(most.to_string());
                most
            }
            More::Documents(lines) => {
                arguments.push("0".to_owned());
                arguments.extend(
                    lines
                        .into_iter()
                        .flat_map(|(line, n)| [line, n.to_string()]),
                );
                0
            }
        };
        loop {
            let (now, what, full, lines, own, others, settings, processing): (
                String,
                String,
                [bool; 2],
                Vec<RawLine>,
                Entries,
                Entries,
                RawSettings,
                u64,
            ) = script::CLAIM
                .run(self.store.connection(), &base, &arguments)
                .await?;
            if what == "more" {
                continue;
            }
            let mut front = Front {
                queue,
                now: codec::now(&now)?,
                lines: Vec::with_capacity(lines.len()),
                full,
                due: Vec::new(),
                most_lines,
                settings: Settings::decode(queue, settings)?,
                processing,
            };
            let grace = self.request.grace;
            let own = own.iter().filter_map(|entry| schema::time_of(entry));
            front.due.extend(own);
            let others = others.iter().filter_map(|entry| schema::time_of(entry));
            front.due.extend(others.map(|at| later(at, grace)));
            for line in lines {
                let line = self.line(&mut front, line);
                front.lines.push(line);
            }
            return Ok(front);
        }
    }

    /// Decodes a line, and finds out what of it can be claimed.
    fn line(&self, front: &mut Front<'_>, raw: RawLine) -> Line {
        let (name, turn, ready, everybodys, own, processing, rows) = raw;
        let mut seen = HashSet::new();
        let count: usize = rows.iter().map(|(entries, ..)| entries.len()).sum();
        let rows = rows
            .into_iter()
            .flat_map(|(entries, lives, fixed, histories)| {
                entries
                    .into_iter()
                    .zip(lives)
                    .zip(fixed.into_iter().zip(histories))
            });
        let rows = rows.map(|((entry, life), (fixed, history))| {
            let row = Row {
                id: codec::id(entry.get(20..52).unwrap_or_default())?,
                life,
                history,
                fixed,
            };
            row.document(front.queue)
        });
        let read = codec::readable(rows);
        let mut claimable = Vec::with_capacity(read.len());
        for (held, document) in read {
            // What was left to others for long enough is both everybody's and theirs.
            if !seen.insert(held.id) {
                continue;
            }
            let event = self.event(self.lease_ids[0]);
            match transition(&held.life, &event, front.now) {
                Ok(_) => claimable.push((held, document)),
                Err(_) => {
                    let fingerprint = &self.request.fingerprint;
                    let grace = self.request.grace;
                    front.due.push(due_at(&held.life, fingerprint, grace));
                }
            }
        }
        claimable
            .sort_by_key(|(held, _)| (Reverse(held.priority), held.life.available_at, held.id));
        Line {
            name,
            turn,
            ready,
            exhausted: [everybodys, own],
            processing,
            read: count,
            claimable,
        }
    }

    /// Takes what is dealt.
    async fn take(&self, fronts: Fronts<'_>, turn: u64) -> Result<Taken> {
        let fingerprint = &self.request.fingerprint;
        let (dealt, lines) = fronts.deal(self.lease_ids.len(), fingerprint);
        let mut taken = Taken {
            held_back: dealt.held_back,
            next_due: fronts.next_due(),
            ..Taken::default()
        };
        let mut fronts = fronts.0;
        let mut by_queue: BTreeMap<usize, Vec<(usize, Held, Document)>> = BTreeMap::new();
        let mut rows: Vec<Vec<Takeable>> = Vec::with_capacity(fronts.len());
        for front in &mut fronts {
            let lines = front.lines.iter_mut();
            let lines = lines.map(|line| line.claimable.drain(..).map(Some).collect());
            rows.push(lines.collect());
        }
        for (slot, (line, place)) in dealt.taken.into_iter().enumerate() {
            let (queue, line) = lines[line];
            let row = rows[queue][line].get_mut(place).and_then(Option::take);
            if let Some((held, document)) = row {
                let front = &mut fronts[queue];
                if let Some(rate) = front.settings.settings.rate
                    && held.life.starts_under(fingerprint)
                {
                    let full_at = &mut front.settings.full_at;
                    *full_at = Some(rate.spend(*full_at, front.now, 1));
                }
                by_queue
                    .entry(queue)
                    .or_default()
                    .push((slot, held, document));
            }
        }
        for front in dealt
            .short_of_tokens
            .into_iter()
            .map(|queue| &fronts[queue])
        {
            let Settings {
                settings, full_at, ..
            } = &front.settings;
            let next = settings
                .rate
                .map(|rate| rate.next_token(*full_at, front.now));
            let until = next.map(|next| next.duration_since(front.now).unsigned_abs());
            taken.next_due = taken.next_due.into_iter().chain(until).min();
        }
        let count = by_queue.values().map(Vec::len).sum::<usize>() as u64;
        if count == 0 {
            return Ok(taken);
        }
        let takes = by_queue
            .into_iter()
            .map(|(queue, dealt)| self.take_from(&fronts[queue], dealt, turn));
        let counted = async {
            let mut command = redis::cmd("INCRBY");
            command.arg(self.store.keys().turn()).arg(count);
            self.store
                .connection()
                .call::<u64>(&command)
                .await
                .map_err(failed)
        };
        let (written, _) = try_join(try_join_all(takes), counted).await?;
        taken.overtaken = written.iter().any(Option::is_none);
        let mut documents: Vec<_> = written.into_iter().flatten().flatten().collect();
        documents.sort_by_key(|(slot, _)| *slot);
        taken.documents = documents
            .into_iter()
            .map(|(_, document)| document)
            .collect();
        Ok(taken)
    }

    /// Takes documents of one queue, all or none of them.
    async fn take_from(
        &self,
        front: &Front<'_>,
        dealt: Vec<(usize, Held, Document)>,
        turn: u64,
    ) -> Result<Option<Vec<(usize, Document)>>> {
        let mut documents = Vec::with_capacity(dealt.len());
        let mut members = Vec::with_capacity(dealt.len());
        for (place, held, document) in dealt {
            let history = History {
                attempts: document.attempts.clone(),
                failed_pages: document.failed_pages.clone(),
                properties: document.properties.clone(),
            };
            members.push((held, Some(history)));
            documents.push((place, document));
        }
        let mut batch = Batch::new(front.queue, front.now, members);
        for (place, document) in &mut documents {
            let applied = batch.apply(document.id, &self.event(self.lease_ids[*place]));
            debug_assert_eq!(applied, Some(Ok(true)), "it was tried before the deal");
            if let Some(member) = batch.get(document.id) {
                member.show_in(document);
            }
        }
        let written = batch.write_with(self.store, |commit| {
            for (place, document) in &documents {
                commit.turn(document.tenant.as_deref(), turn + *place as u64 + 1);
            }
            // A queue that was paused after the look gives nothing any more.
            commit.claim_under(&front.settings);
        });
        Ok(written.await?.then_some(documents))
    }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    let us = codec::whole_ms_in_us(by).saturating_add(at.as_microsecond());
    Timestamp::from_microsecond(us).unwrap_or(Timestamp::MAX)
}
