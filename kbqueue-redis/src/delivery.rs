//! Deliveries as they are stored, and as a commit writes them.

use jiff::Timestamp;
use kbqueue_core::lifecycle::Lifecycle;
use kbqueue_core::outbox::{Delivery, DeliveryState, Endpoint, EndpointId, EventKind};
use kbqueue_core::store::Result;
use kbqueue_core::{DocumentId, LeaseId, QueueName};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::codec::{self, Decoded, Token, is_default, optional_time, time};
use crate::commit::{Command, Commit};
use crate::error::malformed;
use crate::schema;

/// A delivery as JSON, without what its key and its place say.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredDelivery {
    kind: EventKind,
    occurred_at: i64,
    data: Value,
    state: DeliveryState,
    #[serde(default, skip_serializing_if = "is_default")]
    attempts: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    lease_id: Option<LeaseId>,
    #[serde(default, skip_serializing_if = "is_default")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    ended_at: Option<i64>,
}

/// Names a delivery to an endpoint; sorts as (document, version) does.
pub(crate) fn key(document: DocumentId, version: u64) -> String {
    format!("{}{version:016x}", schema::id(document))
}

fn encode(token: &Token, delivery: &Delivery) -> Vec<u8> {
    let stored = StoredDelivery {
        kind: delivery.kind,
        occurred_at: delivery.occurred_at.as_microsecond(),
        data: delivery.data.clone(),
        state: delivery.state,
        attempts: delivery.attempts,
        lease_id: delivery.lease_id,
        error: delivery.error.clone(),
        ended_at: delivery.ended_at.map(Timestamp::as_microsecond),
    };
    let due = delivery.due_at.as_microsecond();
    let leased = u8::from(delivery.lease_id.is_some());
    let mut value = format!("{}{due} {leased} ", token.as_str()).into_bytes();
    value.extend(codec::json(&stored));
    value
}

/// A delivery, and what it is compared by.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    token: Token,
    /// As it was read.
    state: DeliveryState,
    pub(crate) delivery: Delivery,
}

impl Read {
    pub(crate) fn decode(
        queue: &QueueName,
        endpoint: EndpointId,
        key: &str,
        value: &[u8],
    ) -> Result<Self> {
        Self::parse(queue, endpoint, key, value)
            .map_err(|error| malformed(format!("delivery {key} to endpoint {endpoint}"), error))
    }

    fn parse(queue: &QueueName, endpoint: EndpointId, key: &str, value: &[u8]) -> Decoded<Self> {
        let (document, version) = key.split_at_checked(32).ok_or("its key is too short")?;
        let (token, rest) = Token::split(value)?;
        let mut parts = rest.splitn(3, |byte| *byte == b' ');
        let mut part = || parts.next().ok_or("it is too short");
        let due: i64 = std::str::from_utf8(part()?)?.parse()?;
        part()?;
        let stored: StoredDelivery = serde_json::from_slice(part()?)?;
        Ok(Self {
            token,
            state: stored.state,
            delivery: Delivery {
                endpoint,
                queue: queue.clone(),
                document: document.parse()?,
                version: u64::from_str_radix(version, 16)?,
                kind: stored.kind,
                occurred_at: time(stored.occurred_at)?,
                data: stored.data,
                state: stored.state,
                attempts: stored.attempts,
                due_at: time(due)?,
                lease_id: stored.lease_id,
                error: stored.error,
                ended_at: optional_time(stored.ended_at)?,
            },
        })
    }

    /// Has `commit` write how it is now, if it still is as it was read.
    pub(crate) fn write(&self, commit: &mut Commit<'_>) {
        let delivery = &self.delivery;
        let hash = hash(delivery.endpoint);
        let key = key(delivery.document, delivery.version);
        commit.expect(hash.clone(), key.clone(), self.token.as_str().to_owned());
        let value = encode(commit.token(), delivery);
        commit.write(Command::Hset, hash.clone(), [key.clone().into(), value]);
        if self.state != delivery.state {
            let key = || key.clone().into_bytes();
            let set = |state| format!("{hash}:{}", name(state));
            commit.write(Command::Zrem, set(self.state), [key()]);
            commit.write(Command::Zadd, set(delivery.state), [b"0".into(), key()]);
            let ended = format!("{hash}:ended");
            match delivery.ended_at {
                Some(at) if delivery.state == DeliveryState::Delivered => {
                    commit.write(Command::Zadd, ended, [codec::us(at), key()]);
                }
                _ => commit.write(Command::Zrem, ended, [key()]),
            }
        }
        commit.head(field(delivery.endpoint), schema::id(delivery.document));
    }
}

pub(crate) fn name(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Pending => "pending",
        DeliveryState::Delivered => "delivered",
        DeliveryState::Dead => "dead",
    }
}

/// An endpoint's id as it is stored; sorts as the id does.
pub(crate) fn field(endpoint: EndpointId) -> String {
    endpoint.0.simple().to_string()
}

/// The hash of an endpoint's deliveries.
pub(crate) fn hash(endpoint: EndpointId) -> String {
    format!("deliveries:{}", field(endpoint))
}

/// What `commit` writes down for each endpoint that wants to hear of it: kind, key and value.
pub(crate) fn event(
    token: &Token,
    queue: &QueueName,
    (document, after): (DocumentId, &Lifecycle),
    kind: EventKind,
    now: Timestamp,
) -> [Vec<u8>; 3] {
    // Whichever: the key says to whom.
    let anybody = Endpoint {
        id: EndpointId(Uuid::nil()),
        queue: queue.clone(),
        url: String::new(),
        secret: Vec::new(),
        events: Vec::new(),
        disabled: None,
    };
    let delivery = Delivery::new(&anybody, document, after, kind, now);
    let key = key(document, delivery.version);
    [kind.as_str().into(), key.into(), encode(token, &delivery)]
}
