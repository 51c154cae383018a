//! A document, before and after it is enqueued.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::blob::BlobRef;
use crate::chunk::ChunkOptions;
use crate::extract::ExtractError;
use crate::lifecycle::Lifecycle;
use crate::output::FailedPage;
use crate::queue::QueueName;
use crate::secret::{Password, SealedPassword, SecretKey};
use crate::state::{Event, Outcome, State};

/// Names a document for ever. A `UUIDv7`, so that ids sort by the time they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DocumentId(pub Uuid);

impl DocumentId {
    /// A fresh id.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl Default for DocumentId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for DocumentId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// When an enqueue answers with a document that is already there instead of making one.
///
/// Only queued, processing and completed documents of the same queue are looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Dedupe {
    /// By what is in it: the same tenant, the same bytes, the same settings.
    #[default]
    Content,
    /// By a key that the caller chose.
    Key(String),
    /// Never.
    Off,
}

/// A document to be enqueued. Its bytes are in the blob store already.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NewDocument {
    /// Made by the caller, so that an enqueue whose answer got lost can be repeated.
    pub id: DocumentId,
    /// Where it waits.
    pub queue: QueueName,
    /// Its bytes.
    pub blob: BlobRef,
    /// Its name, for people; see [`clean_filename`].
    pub filename: String,
    /// Media type of its bytes. Default: `application/pdf`.
    pub media_type: String,
    /// Whose it is; claims go round robin over tenants. Default: nobody's.
    pub tenant: Option<String>,
    /// Higher is claimed first, within a tenant. Default: 0.
    pub priority: i16,
    /// Not claimed before. Default: at once.
    pub available_at: Option<Timestamp>,
    /// What counts as the same document. Default: [`Dedupe::Content`].
    pub dedupe: Dedupe,
    /// How its text is cut. Default: as the worker is set.
    pub chunking: Option<ChunkOptions>,
    /// The caller's own data, carried along. Default: `null`.
    pub metadata: Value,
    /// What opens it, sealed for `id` under the key that the workers have. Default: none.
    pub password: Option<SealedPassword>,
}

impl NewDocument {
    /// A document with every default, and `filename` cleaned.
    #[must_use]
    pub fn new(queue: QueueName, blob: BlobRef, filename: &str) -> Self {
        Self {
            id: DocumentId::new(),
            queue,
            blob,
            filename: clean_filename(filename),
            media_type: "application/pdf".to_owned(),
            tenant: None,
            priority: 0,
            available_at: None,
            dedupe: Dedupe::default(),
            chunking: None,
            metadata: Value::Null,
            password: None,
        }
    }

    /// The text under which a store remembers what this document is the same as.
    #[must_use]
    pub fn dedupe_key(&self) -> Option<String> {
        match &self.dedupe {
            Dedupe::Off => None,
            Dedupe::Key(key) => Some(format!("key:{key}")),
            Dedupe::Content => {
                let settings = serde_json::to_string(&self.chunking).expect("plain data is JSON");
                // The tenant last: it is the only part that may contain the separator.
                let tenant = self
                    .tenant
                    .as_deref()
                    .map(|t| format!("of {t}"))
                    .unwrap_or_default();
                // One without a password does not stand for one that has it. Which one it is stays out
                // of it: the key is stored as it is.
                let password = match self.password {
                    Some(_) => "+password",
                    None => "",
                };
                let sha256 = &self.blob.sha256;
                Some(format!("content:{sha256}:{settings}{password}:{tenant}"))
            }
        }
    }
}

/// What the document says about itself: title, author, dates.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Properties(pub std::collections::BTreeMap<String, String>);

impl Properties {
    /// Under this name, `true` says that the file was damaged and was repaired to read it.
    pub const REPAIRED: &str = "repaired";

    /// Whether the file was damaged and was repaired to read it.
    #[must_use]
    pub fn is_repaired(&self) -> bool {
        self.0
            .get(Self::REPAIRED)
            .is_some_and(|word| word == "true")
    }
}

/// How many of its last attempts a document remembers.
pub const MAX_ATTEMPTS: usize = 20;

/// One worker's hold on a document, after it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The worker's name.
    pub worker: String,
    /// When it claimed the document.
    pub started_at: Timestamp,
    /// When it settled, or was presumed dead.
    pub ended_at: Timestamp,
    /// `completed`, `failed`, `retried`, `released`, `snoozed`, `cancelled` or `crashed`.
    pub outcome: String,
    /// What went wrong, with its causes, where something did.
    pub error: Option<String>,
    /// How many pages were done by then: it stopped at the next one, or had all of them.
    #[serde(default)]
    pub pages: u32,
}

impl Attempt {
    /// The record of the attempt that `event` ended when it took `before` to `after` at `now`;
    /// `None` where it ended none.
    #[must_use]
    pub fn ended(
        before: &Lifecycle,
        event: &Event,
        after: &Lifecycle,
        now: Timestamp,
    ) -> Option<Self> {
        let lease = before.lease.as_ref()?;
        if after.state == State::Processing {
            return None;
        }
        let outcome = match (after.state, event) {
            (State::Completed, _) => "completed",
            (State::Cancelled, _) => "cancelled",
            (_, Event::Expire(_)) => "crashed",
            (State::Failed, _) => "failed",
            (
                _,
                Event::Settle {
                    outcome: Outcome::Release,
                    ..
                },
            ) => "released",
            (
                _,
                Event::Settle {
                    outcome: Outcome::Snooze { .. },
                    ..
                },
            ) => "snoozed",
            (State::Queued | State::Processing, _) => "retried",
        };
        let error = match outcome {
            "crashed" | "failed" | "retried" => after.error.clone(),
            _ => None,
        };
        let started_at = before.started_at.unwrap_or(now);
        let worker = lease.worker.clone();
        Some(Self {
            worker,
            started_at,
            ended_at: now,
            outcome: outcome.to_owned(),
            error,
            pages: before.cursor.pages,
        })
    }

    /// Adds this one to a document's history, and forgets what is too long ago.
    pub fn remember_in(self, history: &mut Vec<Self>) {
        history.push(self);
        let forgotten = history.len().saturating_sub(MAX_ATTEMPTS);
        history.drain(..forgotten);
    }
}

/// A document as a store keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its name for ever.
    pub id: DocumentId,
    /// Where it waits.
    pub queue: QueueName,
    /// Whose it is.
    pub tenant: Option<String>,
    /// Higher is claimed first, within a tenant.
    pub priority: i16,
    /// Its name, for people.
    pub filename: String,
    /// Media type of its bytes.
    pub media_type: String,
    /// Its bytes.
    pub blob: BlobRef,
    /// How its text is cut, where that was asked for.
    pub chunking: Option<ChunkOptions>,
    /// The caller's own data.
    pub metadata: Value,
    /// What opens it, sealed, where one was given.
    pub password: Option<SealedPassword>,
    /// What it says about itself; empty until it was opened.
    pub properties: Properties,
    /// Pages of the generation being written, or written last, that could not be read.
    pub failed_pages: Vec<FailedPage>,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// State, counters, lease, cursor, progress.
    pub lifecycle: Lifecycle,
    /// How the last [`MAX_ATTEMPTS`] attempts ended, oldest first.
    pub attempts: Vec<Attempt>,
}

impl Document {
    /// The password that it was given, if any.
    ///
    /// # Errors
    /// Permanent where there is no key, or where it was sealed with another one.
    pub fn open_password(&self, key: Option<&SecretKey>) -> Result<Option<Password>, ExtractError> {
        let Some(sealed) = &self.password else {
            return Ok(None);
        };
        let Some(key) = key else {
            return Err(ExtractError::permanent(
                "it has a password that nothing here opens: set the secret key (KBQUEUE_SECRET_KEY) \
                 that it was uploaded under, and retry it",
            ));
        };
        let password = sealed.open(key, self.id);
        password.map(Some).map_err(|_| {
            ExtractError::permanent(
                "its password was sealed with another secret key than KBQUEUE_SECRET_KEY is now: set \
                 the key that it was uploaded under and retry it, or upload it again",
            )
        })
    }
}

/// The longest file name that is kept, in bytes.
const MAX_FILENAME_BYTES: usize = 255;

/// A file name that is safe to show and to log: the last part of a path, without control
/// characters and text-direction overrides, at most 255 bytes; `unnamed` where nothing is left.
#[must_use]
pub fn clean_filename(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    // Direction overrides make "exe.pdf" out of "fdp.exe" on the screen.
    let hidden =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut clean: String = last.chars().filter(|c| !hidden(*c)).collect();
    let mut end = clean.len().min(MAX_FILENAME_BYTES);
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    clean.truncate(end);
    let clean = clean.trim();
    if clean.is_empty() || clean == "." || clean == ".." {
        "unnamed".to_owned()
    } else {
        clean.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_lose_paths_and_what_cannot_be_seen() {
        for (given, kept) in [
            ("report.pdf", "report.pdf"),
            ("../../etc/passwd", "passwd"),
            ("C:\\docs\\report.pdf", "report.pdf"),
            ("a\r\nSet-Cookie: x.pdf", "aSet-Cookie: x.pdf"),
            ("..", "unnamed"),
            ("  ", "unnamed"),
            ("\u{202e}fdp.exe", "fdp.exe"),
        ] {
            assert_eq!(clean_filename(given), kept, "{given:?}");
        }
        let long = clean_filename(&"ü".repeat(300));
        assert!(long.len() <= 255 && long.chars().all(|c| c == 'ü'));
    }

    #[test]
    fn the_same_bytes_for_another_tenant_or_with_other_settings_are_another_document() {
        let blob = BlobRef {
            sha256: "00".repeat(32),
            size_bytes: 1,
        };
        let plain = NewDocument::new(QueueName::default(), blob, "a.pdf");
        let tenant = NewDocument {
            tenant: Some("t".into()),
            ..plain.clone()
        };
        let nameless = NewDocument {
            tenant: Some(String::new()),
            ..plain.clone()
        };
        let cut = NewDocument {
            chunking: Some(ChunkOptions::default()),
            ..plain.clone()
        };
        let locked = NewDocument {
            password: Some(SealedPassword::from_stored("sealed".into())),
            ..plain.clone()
        };
        let keys: std::collections::HashSet<_> = [&plain, &tenant, &nameless, &cut, &locked]
            .map(NewDocument::dedupe_key)
            .into();
        assert_eq!(keys.len(), 5);
        let again = NewDocument {
            id: DocumentId::new(),
            filename: "b.pdf".into(),
            ..plain.clone()
        };
        assert_eq!(again.dedupe_key(), plain.dedupe_key());
    }
}
