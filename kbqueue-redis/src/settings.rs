//! What an operator set on a queue, and its bucket of rate tokens: the queue's own record, which those who
//! share its limits compare.

use jiff::Timestamp;
use kbqueue_core::error::BoxError;
use kbqueue_core::limits::Rate;
use kbqueue_core::store::Result;
use kbqueue_core::{QueueName, QueueSettings};

use crate::batch::{TRIES, contended};
use crate::codec;
use crate::commit::{Command, Commit};
use crate::error::malformed;
use crate::script;
use crate::store::RedisStore;

/// Settings as scripts answer them: token, JSON, when the bucket is full, and whether the queue is paused.
pub(crate) type RawSettings = (Option<String>, Option<String>, Option<i64>, Option<String>);

/// What a look before an enqueue answers: now, how many are queued, the settings, and `admitted`.
pub(crate) type RawAdmission = (String, u64, RawSettings, Option<String>);

/// The record of a queue.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// What it is compared by; empty where nothing was ever set.
    pub(crate) token: String,
    pub(crate) settings: QueueSettings,
    pub(crate) full_at: Option<Timestamp>,
}

impl Settings {
    pub(crate) fn decode(queue: &QueueName, raw: RawSettings) -> Result<Self> {
        let unreadable =
            |error: BoxError| malformed(format!("the settings of queue {queue}"), error);
        let (token, json, full_at, paused) = raw;
        let mut settings: QueueSettings = match json {
            Some(json) => serde_json::from_str(&json).map_err(|error| unreadable(error.into()))?,
            None => QueueSettings::default(),
        };
        // A field of its own: it is all that a release before this one reads and writes.
        settings.paused = paused.is_some();
        let full_at = full_at.map(Timestamp::from_microsecond).transpose();
        Ok(Self {
            token: token.unwrap_or_default(),
            settings,
            full_at: full_at.map_err(|error| unreadable(error.into()))?,
        })
    }
}

/// A queue before an enqueue.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    pub(crate) now: Timestamp,
    queued: u64,
    settings: Settings,
    /// Names the last enqueue into a queue that takes only so many, which the next one compares: two at once
    /// must not both find the same room.
    admitted: String,
}

impl Admission {
    pub(crate) async fn look(store: &RedisStore, queue: &QueueName) -> Result<Self> {
        let base = store.keys().base(queue);
        let answer = script::NOW
            .run(store.connection(), &base, &[store.now()])
            .await?;
        Self::decode(queue, answer)
    }

    pub(crate) fn decode(queue: &QueueName, answer: RawAdmission) -> Result<Self> {
        let (now, queued, settings, admitted) = answer;
        Ok(Self {
            now: codec::now(&now)?,
            queued,
            settings: Settings::decode(queue, settings)?,
            admitted: admitted.unwrap_or_default(),
        })
    }

    /// Checks that `new` more documents may be queued.
    pub(crate) fn admit(&self, queue: &QueueName, new: usize) -> Result<()> {
        self.settings.settings.admit(queue, self.queued, new as u64)
    }

    /// Has `commit` write only if nobody else was admitted since this look.
    pub(crate) fn hold(&self, commit: &mut Commit<'_>) {
        if self.settings.settings.max_queued.is_some() {
            let field = || "admitted".to_owned();
            commit.expect("settings", field(), self.admitted.clone());
            let token = commit.token().as_str().into();
            commit.write(Command::Hset, "settings", [field().into(), token]);
        }
    }
}

pub(crate) async fn configure(
    store: &RedisStore,
    queue: &QueueName,
    settings: QueueSettings,
) -> Result<()> {
    store.enter_queue(queue).await?;
    for _ in 0..TRIES {
        let look = Admission::look(store, queue).await?;
        let (now, before) = (look.now, look.settings);
        let mut commit = Commit::new(queue, now);
        commit.expect("settings", "token".to_owned(), before.token);
        let limited = match (
            settings.limits_claims(),
            settings.max_processing_per_tenant.is_some(),
        ) {
            (false, _) => None,
            (true, false) => Some("any".into()),
            (true, true) => Some("tenant".into()),
        };
        let full_at = Rate::carry_over(settings.rate, before.full_at, now);
        let token = commit.token().as_str().into();
        for (field, value) in [
            ("token", Some(token)),
            ("json", Some(codec::json(&settings))),
            ("paused", settings.paused.then(|| "1".into())),
            ("limited", limited),
            ("full_at", full_at.map(codec::us)),
        ] {
            match value {
                Some(value) => commit.write(Command::Hset, "settings", [field.into(), value]),
                None => commit.write(Command::Hdel, "settings", [field.into()]),
            }
        }
        commit.tell_queue();
        if commit.run(store).await? {
            return Ok(());
        }
    }
    Err(contended())
}
