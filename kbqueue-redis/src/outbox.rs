//! Endpoints, and deliveries to them. What is to be delivered is written down by the commit that changes a
//! document, for the endpoints that want it then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{try_join, try_join_all};
use jiff::Timestamp;
use kbqueue_core::error::BoxError;
use kbqueue_core::outbox::{
    Delivery, DeliveryClaims, DeliveryOutcome, DeliveryQuery, DeliveryRequest, DeliverySettlement,
    DeliveryState, Endpoint, EndpointId, EventKind, Outbox,
};
use kbqueue_core::store::Result;
use kbqueue_core::{DocumentId, LeaseId, QueueName, fair};

use crate::batch::{TRIES, contended};
use crate::codec::{self, Token, time};
use crate::commit::{Command, Commit};
use crate::delivery::{Read, field, hash, key, name};
use crate::error::{failed, malformed};
use crate::schema::MOST_ARGUMENTS;
use crate::script;
use crate::store::RedisStore;

const STATES: [DeliveryState; 3] = [
    DeliveryState::Pending,
    DeliveryState::Delivered,
    DeliveryState::Dead,
];

fn decode_endpoint(id: &str, value: &[u8]) -> Result<(Token, Endpoint)> {
    let parse = || {
        let (token, rest) = Token::split(value)?;
        let json = rest.get(1..).ok_or("it is too short")?;
        Ok((token, serde_json::from_slice(json)?))
    };
    parse().map_err(|error: BoxError| malformed(format!("endpoint {id}"), error))
}

fn write_endpoint(commit: &mut Commit<'_>, endpoint: &Endpoint) {
    let id = || field(endpoint.id).into_bytes();
    let enabled = u8::from(endpoint.disabled.is_none());
    let mut value = format!("{}{enabled}", commit.token().as_str()).into_bytes();
    value.extend(codec::json(endpoint));
    commit.write(Command::Hset, "endpoints", [id(), value]);
    for kind in EventKind::ALL {
        let command = match endpoint.wants(kind) {
            true => Command::Sadd,
            false => Command::Srem,
        };
        commit.write(command, format!("wanting:{}", kind.as_str()), [id()]);
    }
}

/// An endpoint that has something to deliver, or will have.
struct Line<'a> {
    queue: &'a QueueName,
    now: Timestamp,
    endpoint: Endpoint,
    /// What the endpoint and the right to claim for it are compared by.
    tokens: (Token, String),
    leased: u64,
    front: Vec<Read>,
}

/// The lines of a queue, and how long until the next delivery falls due.
async fn lines<'a>(
    store: &RedisStore,
    queue: &'a QueueName,
    slots: usize,
    per_endpoint: u32,
) -> Result<(Vec<Line<'a>>, Option<Duration>)> {
    type RawLine = (
        String,
        Vec<u8>,
        Option<String>,
        u64,
        Option<i64>,
        Vec<String>,
        Vec<Vec<u8>>,
    );
    let base = store.keys().base(queue);
    let arguments = [store.now(), slots.to_string(), per_endpoint.to_string()];
    let (now, raw): (String, Vec<RawLine>) = script::OUTBOX
        .run(store.connection(), &base, &arguments)
        .await?;
    let now = codec::now(&now)?;
    let mut lines = Vec::with_capacity(raw.len());
    let mut next_due = None;
    for (id, value, claimed, leased, next, keys, values) in raw {
        let (token, endpoint) = match decode_endpoint(&id, &value) {
            Ok(endpoint) => endpoint,
            Err(error) => {
                codec::report(&error);
                continue;
            }
        };
        let heads = keys.iter().zip(&values);
        let heads =
            heads.map(|(key, value)| Read::decode(queue, endpoint.id, key, value).map(Some));
        let front = codec::readable(heads);
        let until = next.and_then(|us| time(us).ok());
        let until = until.map(|at| at.duration_since(now).unsigned_abs());
        next_due = until.into_iter().chain(next_due).min();
        lines.push(Line {
            queue,
            now,
            endpoint,
            tokens: (token, claimed.unwrap_or_default()),
            leased,
            front,
        });
    }
    Ok((lines, next_due))
}

async fn claim(store: &RedisStore, request: &DeliveryRequest) -> Result<DeliveryClaims> {
    let mut claims = DeliveryClaims::default();
    let queues: BTreeSet<&QueueName> = request.queues.iter().collect();
    let mut lease_ids = request.lease_ids.clone();
    for _ in 0..TRIES {
        if lease_ids.is_empty() {
            return Ok(claims);
        }
        let looks = queues
            .iter()
            .map(|queue| lines(store, queue, lease_ids.len(), request.per_endpoint));
        let (looks, next_due): (Vec<_>, Vec<_>) = try_join_all(looks).await?.into_iter().unzip();
        let mut lines: Vec<Line<'_>> = looks.into_iter().flatten().collect();
        lines.sort_by_key(|line| (line.leased, line.queue, line.endpoint.id));
        let claimable: Vec<u64> = lines.iter().map(|line| line.front.len() as u64).collect();
        let dealt = fair::deal(lease_ids.len(), &claimable);
        let mut fronts: Vec<_> = lines
            .iter_mut()
            .map(|line| std::mem::take(&mut line.front).into_iter())
            .collect();
        let mut by_queue: BTreeMap<&QueueName, (Commit<'_>, Vec<usize>)> = BTreeMap::new();
        let mut dealt_out = Vec::with_capacity(dealt.len());
        for (slot, line) in dealt.into_iter().enumerate() {
            let Some(mut head) = fronts[line].next() else {
                continue;
            };
            let line = &lines[line];
            let (commit, slots) = by_queue
                .entry(line.queue)
                .or_insert_with(|| (Commit::new(line.queue, line.now), Vec::new()));
            head.delivery
                .claim(lease_ids[slot], request.lease, line.now);
            hold(commit, line);
            head.write(commit);
            slots.push(dealt_out.len());
            dealt_out.push(Some((head.delivery, line.endpoint.clone())));
        }
        let commits = by_queue.into_values().map(async |(commit, slots)| {
            let written = commit.run(store).await?;
            Ok(if written { Vec::new() } else { slots })
        });
        let overtaken: Vec<usize> = try_join_all(commits).await?.into_iter().flatten().collect();
        for slot in &overtaken {
            dealt_out[*slot] = None;
        }
        claims.deliveries.extend(dealt_out.into_iter().flatten());
        let used = claims.deliveries.iter().filter_map(|(d, _)| d.lease_id);
        let used: BTreeSet<LeaseId> = used.collect();
        lease_ids.retain(|lease_id| !used.contains(lease_id));
        if overtaken.is_empty() {
            claims.next_due = next_due.into_iter().flatten().min();
            claims.next_due = claims.next_due.filter(|_| !lease_ids.is_empty());
            return Ok(claims);
        }
    }
    // Others were faster each time: there is work, and the caller may ask again at once.
    claims.next_due = Some(Duration::ZERO);
    Ok(claims)
}

/// Has `commit` write only if the endpoint is as it was read, and nobody else claimed for it since: its share
/// is everybody's together.
fn hold(commit: &mut Commit<'_>, line: &Line<'_>) {
    let id = field(line.endpoint.id);
    let (endpoint, claimed) = &line.tokens;
    commit.expect("claimed", id.clone(), claimed.clone());
    let token = commit.token().as_str().into();
    commit.write(Command::Hset, "claimed", [id.clone().into(), token]);
    commit.expect("endpoints", id, endpoint.as_str().to_owned());
}

/// Reads deliveries of a queue by endpoint and key; those that are not there are left out.
async fn load(
    store: &RedisStore,
    queue: &QueueName,
    wanted: &BTreeSet<(EndpointId, String)>,
) -> Result<BTreeMap<(EndpointId, String), Read>> {
    let base = store.keys().base(queue);
    let look = |(endpoint, key): &(EndpointId, String)| {
        let mut look = redis::cmd("HGET");
        look.arg(format!("{base}:{}", hash(*endpoint))).arg(key);
        look
    };
    let looks: Vec<_> = wanted.iter().map(look).collect();
    let values: Vec<Option<Vec<u8>>> = store.connection().call_all(&looks).await?;
    let mut read = BTreeMap::new();
    for ((endpoint, key), value) in wanted.iter().zip(values) {
        if let Some(value) = value {
            let one = Read::decode(queue, *endpoint, key, &value)?;
            read.insert((*endpoint, key.clone()), one);
        }
    }
    Ok(read)
}

async fn read_endpoint(
    store: &RedisStore,
    queue: &QueueName,
    id: EndpointId,
) -> Result<Option<(Token, Endpoint)>> {
    let mut look = redis::cmd("HGET");
    look.arg(format!("{}:endpoints", store.keys().base(queue)));
    look.arg(field(id));
    let value: Option<Vec<u8>> = store.connection().call(&look).await.map_err(failed)?;
    let decode = |value: Vec<u8>| decode_endpoint(&id.to_string(), &value);
    value.map(decode).transpose()
}

/// Ends leases in one queue, of which `settlements` are. Answers in their order.
async fn settle(
    store: &RedisStore,
    queue: &QueueName,
    settlements: &[&DeliverySettlement],
) -> Result<Vec<bool>> {
    let named = |s: &DeliverySettlement| (s.endpoint, key(s.document, s.version));
    let wanted: BTreeSet<_> = settlements.iter().map(|s| named(s)).collect();
    for _ in 0..TRIES {
        let (now, mut read) = try_join(store.clock_of(queue), load(store, queue, &wanted)).await?;
        let mut commit = Commit::new(queue, now);
        let (mut settled, mut changed) = (Vec::new(), BTreeSet::new());
        for settlement in settlements {
            let named = named(settlement);
            let outcome = &settlement.outcome;
            let ends = read
                .get_mut(&named)
                .is_some_and(|one| one.delivery.settle(settlement.lease_id, outcome, now));
            settled.push(ends);
            if !ends {
                continue;
            }
            changed.insert(named);
            if let DeliveryOutcome::Gone { error } = outcome
                && let Some((token, mut endpoint)) =
                    read_endpoint(store, queue, settlement.endpoint).await?
            {
                let id = field(endpoint.id);
                commit.expect("endpoints", id, token.as_str().to_owned());
                endpoint.disabled = Some(error.clone());
                write_endpoint(&mut commit, &endpoint);
            }
        }
        for named in &changed {
            read[named].write(&mut commit);
        }
        if commit.run(store).await? {
            return Ok(settled);
        }
    }
    Err(contended())
}

/// A page of deliveries, at most 1000.
async fn page(
    store: &RedisStore,
    queue: &QueueName,
    endpoint: EndpointId,
    (after, most): (Option<&str>, usize),
    states: &[DeliveryState],
) -> Result<(Vec<String>, Vec<Read>)> {
    let mut arguments = vec![
        field(endpoint),
        after.unwrap_or_default().to_owned(),
        most.min(MOST_ARGUMENTS).to_string(),
    ];
    arguments.extend(states.iter().map(|state| name(*state).to_owned()));
    let (keys, values): (Vec<String>, Vec<Option<Vec<u8>>>) = script::DELIVERIES
        .run(store.connection(), &store.keys().base(queue), &arguments)
        .await?;
    let rows = keys.iter().zip(values);
    let rows = rows.map(|(key, value)| {
        let decode = |value: Vec<u8>| Read::decode(queue, endpoint, key, &value);
        value.map(decode).transpose()
    });
    let read = codec::readable(rows);
    Ok((keys, read))
}

/// Removes deliveries of one endpoint that were delivered long enough ago, at most 1000.
async fn purge(
    store: &RedisStore,
    queue: &QueueName,
    endpoint: &str,
    (age, limit): (Duration, usize),
) -> Result<usize> {
    let hash = format!("deliveries:{endpoint}");
    let base = store.keys().base(queue);
    let now = store.clock_of(queue).await?;
    let latest = now
        .as_microsecond()
        .saturating_sub(codec::whole_ms_in_us(age));
    let mut look = redis::cmd("ZRANGEBYSCORE");
    look.arg(format!("{base}:{hash}:ended"))
        .arg("-inf")
        .arg(latest);
    look.arg("LIMIT").arg(0).arg(limit.min(MOST_ARGUMENTS));
    let keys: Vec<String> = store.connection().call(&look).await.map_err(failed)?;
    if keys.is_empty() {
        return Ok(0);
    }
    let mut look = redis::cmd("HMGET");
    look.arg(format!("{base}:{hash}")).arg(&keys);
    let values: Vec<Option<Vec<u8>>> = store.connection().call(&look).await.map_err(failed)?;
    let mut commit = Commit::new(queue, now);
    for (key, value) in keys.iter().zip(values) {
        let token = value.as_deref().and_then(|value| Token::split(value).ok());
        let token = token.map(|(token, _)| token.as_str().to_owned());
        commit.expect(hash.clone(), key.clone(), token.unwrap_or_default());
        commit.write(Command::Hdel, hash.clone(), [key.clone().into()]);
        for part in ["delivered", "ended"] {
            commit.write(
                Command::Zrem,
                format!("{hash}:{part}"),
                [key.clone().into()],
            );
        }
    }
    // Where one was replayed meanwhile, the next call finds the others.
    Ok(if commit.run(store).await? {
        keys.len()
    } else {
        0
    })
}

#[async_trait]
impl Outbox for RedisStore {
    async fn endpoints(&self, queue: &QueueName) -> Result<Vec<Endpoint>> {
        let mut look = redis::cmd("HGETALL");
        look.arg(format!("{}:endpoints", self.keys().base(queue)));
        let found: BTreeMap<String, Vec<u8>> =
            self.connection().call(&look).await.map_err(failed)?;
        let decode = |(id, value): (&String, &Vec<u8>)| {
            decode_endpoint(id, value).map(|(_, endpoint)| Some(endpoint))
        };
        Ok(codec::readable(found.iter().map(decode)))
    }

    async fn put_endpoint(&self, endpoint: Endpoint) -> Result<()> {
        self.enter_queue(&endpoint.queue).await?;
        let now = self.clock_of(&endpoint.queue).await?;
        let mut commit = Commit::new(&endpoint.queue, now);
        write_endpoint(&mut commit, &endpoint);
        commit.run(self).await.map(drop)
    }

    async fn delete_endpoint(&self, queue: &QueueName, id: EndpointId) -> Result<bool> {
        let mut arguments = vec![field(id)];
        arguments.extend(EventKind::ALL.map(|kind| kind.as_str().to_owned()));
        script::DELETE_ENDPOINT
            .run(self.connection(), &self.keys().base(queue), &arguments)
            .await
    }

    async fn claim_deliveries(&self, request: DeliveryRequest) -> Result<DeliveryClaims> {
        claim(self, &request).await
    }

    async fn settle_deliveries(&self, settlements: Vec<DeliverySettlement>) -> Result<Vec<bool>> {
        let mut answers = vec![false; settlements.len()];
        let mut queues: BTreeMap<&QueueName, Vec<usize>> = BTreeMap::new();
        for (index, settlement) in settlements.iter().enumerate() {
            queues.entry(&settlement.queue).or_default().push(index);
        }
        let settles = queues.into_iter().map(async |(queue, indices)| {
            let some: Vec<_> = indices.iter().map(|index| &settlements[*index]).collect();
            let settled = settle(self, queue, &some).await?;
            Ok(indices.into_iter().zip(settled).collect::<Vec<_>>())
        });
        for (index, settled) in try_join_all(settles).await?.into_iter().flatten() {
            answers[index] = settled;
        }
        Ok(answers)
    }

    async fn deliveries(&self, query: DeliveryQuery) -> Result<Vec<Delivery>> {
        let states = STATES.into_iter();
        let states = states.filter(|state| query.state.is_none_or(|wanted| wanted == *state));
        let states: Vec<_> = states.collect();
        let limit = query.limit as usize;
        let mut after = query
            .after
            .map(|(document, version)| key(document, version));
        let mut found = Vec::new();
        while found.len() < limit {
            let part = (after.as_deref(), limit - found.len());
            let (keys, read) = page(self, &query.queue, query.endpoint, part, &states).await?;
            found.extend(read.into_iter().map(|one| one.delivery));
            let Some(last) = keys.into_iter().next_back() else {
                break;
            };
            after = Some(last);
        }
        Ok(found)
    }

    async fn replay(
        &self,
        queue: &QueueName,
        endpoint: EndpointId,
        one: Option<(DocumentId, u64)>,
    ) -> Result<u64> {
        let mut replayed = 0;
        let mut after: Option<String> = None;
        let mut tries = 0;
        while tries < TRIES {
            let now = self.clock_of(queue).await?;
            let (keys, read) = match one {
                Some((document, version)) => {
                    let wanted = BTreeSet::from([(endpoint, key(document, version))]);
                    let read = load(self, queue, &wanted).await?;
                    (Vec::new(), read.into_values().collect())
                }
                None => {
                    let part = (after.as_deref(), MOST_ARGUMENTS);
                    page(self, queue, endpoint, part, &[DeliveryState::Dead]).await?
                }
            };
            let mut commit = Commit::new(queue, now);
            let mut count = 0;
            for mut one in read {
                if one.delivery.replay(now) {
                    one.write(&mut commit);
                    count += 1;
                }
            }
            if !commit.run(self).await? {
                tries += 1;
                continue;
            }
            replayed += count;
            // Each page once: what dies again meanwhile is for the next replay.
            match keys.into_iter().next_back() {
                Some(last) => after = Some(last),
                None => return Ok(replayed),
            }
        }
        Err(contended())
    }

    async fn purge_deliveries(&self, age: Duration, limit: usize) -> Result<usize> {
        let mut removed = 0;
        for queue in self.queues().await? {
            let mut look = redis::cmd("HKEYS");
            look.arg(format!("{}:endpoints", self.keys().base(&queue)));
            let endpoints: Vec<String> = self.connection().call(&look).await.map_err(failed)?;
            for endpoint in endpoints {
                while removed < limit {
                    let most = (age, limit - removed);
                    match purge(self, &queue, &endpoint, most).await? {
                        0 => break,
                        some => removed += some,
                    }
                }
            }
        }
        Ok(removed)
    }
}
