//! Writes of workers and of people: checkpoint, renew, settle, control, reap, purge.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures::future::{try_join, try_join_all};
use jiff::Timestamp;
use kbqueue_core::error::chain;
use kbqueue_core::output::FailedPage;
use kbqueue_core::state::{CrashLimits, Event, Refusal, leased_until};
use kbqueue_core::store::{
    Checkpoint, Control, Directive, Reaped, RenewRequest, Result, Settled, Settlement, WorkerId,
};
use kbqueue_core::{Document, DocumentId, QueueName, StoreError};
use redis::Cmd;

use crate::batch::{Batch, Member, TRIES, change, contended, load};
use crate::codec::{self, Fixed, Row};
use crate::commit::Command;
use crate::error::failed;
use crate::places;
use crate::schema::{self, MOST_ARGUMENTS};
use crate::script;
use crate::store::RedisStore;

pub(crate) async fn checkpoint(store: &RedisStore, checkpoint: &Checkpoint) -> Result<Directive> {
    let id = checkpoint.document;
    let Some(queue) = places::of_leased(store, &[id]).await?.remove(&id) else {
        return Ok(Directive::LeaseLost);
    };
    let event = Event::Checkpoint {
        lease_id: checkpoint.lease_id,
        lease: checkpoint.lease,
        cursor: checkpoint.cursor,
        progress: checkpoint.progress,
    };
    change(store, &queue, &[id], |batch| {
        match batch.apply(id, &event) {
            Some(Ok(applied)) => {
                if applied {
                    outputs(batch, checkpoint);
                }
                Ok(batch.get(id).map_or(Directive::LeaseLost, directive))
            }
            None | Some(Err(Refusal::LeaseLost)) => Ok(Directive::LeaseLost),
            Some(Err(refusal)) => Err(StoreError::refused(id, refusal)),
        }
    })
    .await?
}

/// What the holder of a lease is to do next.
fn directive(member: &Member) -> Directive {
    if member.life.cancel_requested_at.is_some() {
        Directive::Cancel
    } else {
        Directive::Continue
    }
}

/// Adds what a checkpoint brought to the batch that it is committed with.
fn outputs(batch: &mut Batch<'_>, checkpoint: &Checkpoint) {
    let Some(member) = batch.get_mut(checkpoint.document) else {
        return;
    };
    let generation = member.life.generation;
    let failed = checkpoint.pages.iter().filter_map(|page| {
        let cause = page.failure.clone()?;
        let page = page.number;
        Some(FailedPage { page, cause })
    });
    let failed: Vec<FailedPage> = failed.collect();
    if !failed.is_empty() {
        member.remember(|history| history.failed_pages.extend(failed));
    }
    if let Some(properties) = &checkpoint.properties {
        member.remember(|history| history.properties.clone_from(properties));
    }
    let id = schema::id(checkpoint.document);
    let mut add = |kind: &str, generation: u32, outputs: Vec<(u32, Vec<u8>)>| {
        if !outputs.is_empty() {
            let scored = outputs
                .into_iter()
                .flat_map(|(number, json)| [number.to_string().into(), json]);
            let key = format!("{kind}:{id}:{generation}");
            batch.write(Command::Zadd, key, scored.collect());
        }
    };
    let pages = checkpoint.pages.iter();
    let pages = pages.map(|page| (page.number, codec::json(page)));
    add("pages", generation.pages, pages.collect());
    let chunks = checkpoint.chunks.iter();
    let chunks = chunks.map(|chunk| (chunk.ordinal, codec::json(chunk)));
    add("chunks", generation.chunks, chunks.collect());
    let images = checkpoint.images.iter();
    let images = images.map(|image| (image.ordinal, codec::json(image)));
    add("images", generation.pages, images.collect());
}

pub(crate) async fn renew(store: &RedisStore, request: &RenewRequest) -> Result<Vec<Directive>> {
    let ids = request.leases.iter().map(|(id, _)| *id);
    let renewals = in_each_queue(store, ids, Directive::LeaseLost, |batch, index| {
        let (id, lease_id) = request.leases[index];
        let lease = request.lease;
        match batch.apply(id, &Event::Renew { lease_id, lease }) {
            Some(Ok(_)) => batch.get(id).map_or(Directive::LeaseLost, directive),
            Some(Err(_)) | None => Directive::LeaseLost,
        }
    });
    let (directives, ()) = try_join(renewals, sign_of_life(store, request)).await?;
    Ok(directives)
}

/// Notes in each queue of a worker until when it counts as live.
async fn sign_of_life(store: &RedisStore, request: &RenewRequest) -> Result<()> {
    let worker = &request.worker;
    let alive_until = leased_until(store.clock().await?, request.lease);
    let mut notes: Vec<Cmd> = Vec::new();
    for queue in &worker.queues {
        let mut note = redis::cmd("ZADD");
        note.arg(format!("{}:workers", store.keys().base(queue)))
            .arg(alive_until.as_microsecond())
            .arg(worker.id.0.simple().to_string());
        notes.push(note);
    }
    if !worker.queues.is_empty() {
        let mut list = redis::cmd("SADD");
        list.arg(store.keys().queues());
        list.arg(
            worker
                .queues
                .iter()
                .map(|queue| queue.as_str())
                .collect::<Vec<_>>(),
        );
        notes.push(list);
    }
    store.connection().call_all::<i64>(&notes).await?;
    Ok(())
}

pub(crate) async fn settle(store: &RedisStore, settlements: &[Settlement]) -> Result<Vec<Settled>> {
    let ids = || settlements.iter().map(|settlement| settlement.document);
    let settled = in_each_queue(store, ids(), Settled::LeaseLost, |batch, index| {
        let settlement = &settlements[index];
        let event = Event::Settle {
            lease_id: settlement.lease_id,
            outcome: settlement.outcome.clone(),
        };
        match batch.apply(settlement.document, &event) {
            Some(Ok(_)) => batch
                .get(settlement.document)
                .and_then(|member| member.life.last_settlement)
                .map_or(Settled::LeaseLost, |last| Settled::In(last.state)),
            Some(Err(_)) | None => Settled::LeaseLost,
        }
    });
    let settled = settled.await?;
    store.places().forget(ids());
    Ok(settled)
}

/// Judges each of `ids` in the batch of its queue; `otherwise` is the answer for those that are in none.
/// Queues change independently of each other.
async fn in_each_queue<T: Copy>(
    store: &RedisStore,
    ids: impl Iterator<Item = DocumentId>,
    otherwise: T,
    judge: impl Fn(&mut Batch<'_>, usize) -> T,
) -> Result<Vec<T>> {
    let ids: Vec<DocumentId> = ids.collect();
    let mut answers = vec![otherwise; ids.len()];
    if ids.is_empty() {
        return Ok(answers);
    }
    let places = places::of_leased(store, &ids).await?;
    let mut queues: BTreeMap<&QueueName, Vec<usize>> = BTreeMap::new();
    for (index, id) in ids.iter().enumerate() {
        if let Some(queue) = places.get(id) {
            queues.entry(queue).or_default().push(index);
        }
    }
    let changes = queues.iter().map(async |(queue, indices)| {
        let ids: Vec<DocumentId> = indices.iter().map(|index| ids[*index]).collect();
        change(store, queue, &ids, |batch| {
            let answers = indices.iter().map(|index| (*index, judge(batch, *index)));
            answers.collect::<Vec<_>>()
        })
        .await
    });
    for (index, answer) in try_join_all(changes).await?.into_iter().flatten() {
        answers[index] = answer;
    }
    Ok(answers)
}

pub(crate) async fn depart(store: &RedisStore, worker: WorkerId) -> Result<()> {
    let worker = worker.0.simple().to_string();
    let forget = |queue: &QueueName| {
        let mut forget = redis::cmd("ZREM");
        forget.arg(format!("{}:workers", store.keys().base(queue)));
        forget.arg(&worker).to_owned()
    };
    let queues = store.queues().await?;
    let forget: Vec<Cmd> = queues.iter().map(forget).collect();
    store.connection().call_all::<i64>(&forget).await?;
    Ok(())
}

pub(crate) async fn control(
    store: &RedisStore,
    id: DocumentId,
    control: &Control,
) -> Result<Document> {
    let not_found = || StoreError::NotFound(id);
    let queue = places::find(store, &[id]).await?.remove(&id);
    let queue = queue.ok_or_else(not_found)?;
    let event = control.event();
    for _ in 0..TRIES {
        let (now, rows) = load(store, &queue, &[id], true).await?;
        let found = rows.first().map(|row| row.document(&queue)).transpose()?;
        let (_, mut document) = found.flatten().ok_or_else(not_found)?;
        let mut batch = Batch::of(&queue, now, &rows);
        let applied = match batch.apply(id, &event) {
            Some(Ok(applied)) => applied,
            None | Some(Err(Refusal::Deleted)) => return Err(not_found()),
            Some(Err(refusal)) => return Err(StoreError::refused(id, refusal)),
        };
        if let Some(member) = batch.get_mut(id) {
            if let Some(by) = rival(store, &queue, member).await? {
                return Err(StoreError::Superseded { id, by });
            }
            member.show_in(&mut document);
            if applied {
                control.edit(&mut document);
                member.priority = document.priority;
                let fixed = codec::json(&Fixed::of_document(&document));
                if rows.iter().any(|row| row.fixed.as_ref() != Some(&fixed)) {
                    let written = vec![schema::id(id).into(), fixed];
                    batch.write(Command::Hset, "documents".to_owned(), written);
                }
            }
        }
        if batch.write_to(store).await? {
            return Ok(document);
        }
    }
    Err(contended())
}

/// The other document that stands for the key that `member` now wants back.
async fn rival(
    store: &RedisStore,
    queue: &QueueName,
    member: &Member,
) -> Result<Option<DocumentId>> {
    let held = &member.held;
    let wants = !held.holds_key(&held.life) && held.holds_key(&member.life);
    let Some(key) = held.dedupe_key.as_ref().filter(|_| wants) else {
        return Ok(None);
    };
    let mut look = redis::cmd("HGET");
    look.arg(format!("{}:keys", store.keys().base(queue)))
        .arg(key);
    let by: Option<String> = store.connection().call(&look).await.map_err(failed)?;
    by.map(|by| codec::id(&by)).transpose()
}

pub(crate) async fn reap(
    store: &RedisStore,
    limits: CrashLimits,
    limit: usize,
) -> Result<Vec<Reaped>> {
    let mut reaped: Vec<Reaped> = Vec::new();
    let queues = store.queues().await?;
    // How many cannot be taken back: they must not stand in the way of those behind them for ever.
    let mut in_the_way: Vec<usize> = vec![0; queues.len()];
    while reaped.len() < limit {
        let most = (limit - reaped.len()).min(MOST_ARGUMENTS);
        let looks = queues.iter().zip(&in_the_way);
        let looks = looks.map(|(queue, others)| Expired::look(store, queue, most + others));
        let looks = try_join_all(looks).await?;
        let mut oldest: Vec<(Timestamp, DocumentId)> = Vec::new();
        let mut more = false;
        for ((expired, others), queue) in looks.iter().zip(&mut in_the_way).zip(&queues) {
            more |= expired.rows.len() >= most + *others;
            let leases = expired.leases(queue, limits);
            *others = expired.rows.len() - leases.len();
            oldest.extend(leases);
        }
        oldest.sort();
        oldest.truncate(most);
        let chosen: HashSet<DocumentId> = oldest.iter().map(|(_, id)| *id).collect();
        let takes = queues.iter().zip(looks).map(|(queue, mut expired)| {
            expired.rows.retain(|row| chosen.contains(&row.id));
            expired.take_back(store, queue, limits)
        });
        let mut taken: HashMap<DocumentId, Reaped> = HashMap::new();
        for of_queue in try_join_all(takes).await? {
            // Where others were faster with one of them, all are looked at again.
            more |= of_queue.is_none();
            taken.extend(of_queue.into_iter().flatten().map(|one| (one.id, one)));
        }
        reaped.extend(oldest.iter().filter_map(|(_, id)| taken.remove(id)));
        if !more {
            break;
        }
    }
    Ok(reaped)
}

/// Documents of a queue whose leases ran out, oldest expiry first.
struct Expired {
    now: Timestamp,
    rows: Vec<Row>,
}

impl Expired {
    async fn look(store: &RedisStore, queue: &QueueName, most: usize) -> Result<Self> {
        type Part = Vec<Option<Vec<u8>>>;
        let (now, ids, lives, histories): (String, Vec<String>, Part, Part) = script::REAP
            .run(
                store.connection(),
                &store.keys().base(queue),
                &[store.now(), most.to_string()],
            )
            .await?;
        let rows = ids.iter().zip(lives.into_iter().zip(histories));
        let rows = rows.map(|(id, (life, history))| {
            Ok(Row {
                id: codec::id(id)?,
                life,
                history,
                fixed: None,
            })
        });
        Ok(Self {
            now: codec::now(&now)?,
            rows: rows.collect::<Result<_>>()?,
        })
    }

    /// The leases of those that can be taken back.
    fn leases(&self, queue: &QueueName, limits: CrashLimits) -> Vec<(Timestamp, DocumentId)> {
        let mut batch = Batch::of(queue, self.now, &self.rows);
        let mut leases = Vec::with_capacity(self.rows.len());
        for Row { id, .. } in &self.rows {
            match batch.apply(*id, &Event::Expire(limits)) {
                Some(Ok(_)) => leases.extend(batch.get(*id).and_then(|member| {
                    let lease = member.held.life.lease.as_ref()?;
                    Some((lease.expires_at, *id))
                })),
                Some(Err(refusal)) => {
                    tracing::error!(document = %id, error = chain(&refusal), "not taken back");
                }
                None => {}
            }
        }
        leases
    }

    /// Takes them back; `None` where others were faster with one of them.
    async fn take_back(
        self,
        store: &RedisStore,
        queue: &QueueName,
        limits: CrashLimits,
    ) -> Result<Option<Vec<Reaped>>> {
        let mut batch = Batch::of(queue, self.now, &self.rows);
        let mut reaped = Vec::with_capacity(self.rows.len());
        for Row { id, .. } in self.rows {
            if let Some(Ok(_)) = batch.apply(id, &Event::Expire(limits)) {
                reaped.extend(batch.get(id).map(taken_back));
            }
        }
        Ok(batch.write_to(store).await?.then_some(reaped))
    }
}

fn taken_back(member: &Member) -> Reaped {
    let lease = member.held.life.lease.as_ref();
    Reaped {
        id: member.held.id,
        state: member.life.state,
        worker: lease.map(|l| l.worker.clone()).unwrap_or_default(),
    }
}

pub(crate) async fn purge(store: &RedisStore, limit: usize) -> Result<usize> {
    let mut left = limit;
    for queue in store.queues().await? {
        let base = store.keys().base(&queue);
        loop {
            let step = left.min(MOST_ARGUMENTS);
            let going = forget(store, &queue, step).await?;
            let mut arguments = vec![store.now(), step.to_string()];
            arguments.extend(going.iter().map(|id| schema::id(*id)));
            let (removed, more): (usize, bool) = script::PURGE
                .run(store.connection(), &base, &arguments)
                .await?;
            left -= removed;
            if left == 0 || !more {
                break;
            }
        }
    }
    Ok(limit - left)
}

/// Takes the deleted documents that are removed next out of the directory, first: what is left of one that
/// is not in it is nobody's any more, and its id is free.
async fn forget(store: &RedisStore, queue: &QueueName, most: usize) -> Result<Vec<DocumentId>> {
    if most == 0 {
        return Ok(Vec::new());
    }
    let mut look = redis::cmd("LRANGE");
    look.arg(format!("{}:obsolete", store.keys().base(queue)));
    look.arg(0).arg(most - 1);
    let entries: Vec<String> = store.connection().call(&look).await.map_err(failed)?;
    let mut going = Vec::new();
    for entry in entries {
        if let Some(rest) = entry.strip_prefix("document ") {
            going.push(codec::id(rest.split(' ').next().unwrap_or_default())?);
        }
    }
    let forgets = going.iter().map(async |id| {
        let entry = store.keys().directory(*id);
        script::FORGET
            .run::<u8>(store.connection(), &entry, &[queue.as_str()])
            .await
    });
    try_join_all(forgets).await?;
    Ok(going)
}
