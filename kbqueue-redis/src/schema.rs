//! The names of keys, and what stands in them.
//!
//! Keys of a queue begin with its base, `{PREFIX:QUEUE}`, whose braces put all of them into one slot of a
//! Redis Cluster:
//!
//! | key | type | what |
//! | --- | --- | --- |
//! | `lives` | hash | id → token, then the part that the specification owns, as JSON |
//! | `histories` | hash | id → attempts, failed pages, properties, as JSON; where there are any |
//! | `documents` | hash | id → the part that stays as it was enqueued, as JSON |
//! | `keys` | hash | dedupe key → id of the document that stands for it |
//! | `state:STATE` | set by id | visible documents in that state, `processing` apart |
//! | `waiting:AUDIENCE` | zset by time | entries of queued documents that were not due when they were written |
//! | `ready:AUDIENCE:LINE` | set by entry | entries of queued documents that are due, in claiming order |
//! | `reserved:AUDIENCE` | zset by time | entries of ready documents that only this audience may have yet |
//! | `lines:AUDIENCE` | zset by turn | lines that have ready documents |
//! | `turns` | hash | line → turn |
//! | `audiences` | set | audiences but `*` that have queued documents |
//! | `leases` | zset by expiry | ids of processing documents |
//! | `pages:ID:GENERATION`, `chunks:…`, `images:…` | zset by number | outputs, as JSON |
//! | `obsolete` | list | what purge has to remove |
//! | `counts` | hash | state → visible documents |
//! | `settings` | hash | `json`, `paused` and `limited` of it; `full_at` of its bucket; tokens of the last change or limited claim, and of the last limited enqueue (`admitted`) |
//! | `endpoints` | hash | id → token, 1 where it is enabled, the endpoint as JSON |
//! | `wanting:KIND` | set | endpoints for which such events are written down |
//! | `claimed` | hash | endpoint → token of the last claim of its deliveries |
//! | `deliveries:ENDPOINT` | hash | delivery (document, version) → token, when it is due, 1 where it is under lease, the rest as JSON |
//! | `…:pending`, `…:delivered`, `…:dead` | set by delivery | deliveries in that state |
//! | `…:ended` | zset by time | those that are delivered |
//! | `…:due`, `…:sending` | zset by time | documents, by their first pending delivery; by the end of its lease |
//! | `schedules` | hash | name → token, the schedule as JSON |
//! | `workers` | zset by expiry | ids of workers that serve the queue |
//!
//! Beside the queues: `PREFIX:directory:ID` → queue, `PREFIX:queues`, `PREFIX:turn`, `PREFIX:version`, and
//! the channel `PREFIX:changes`.

use jiff::Timestamp;
use kbqueue_core::{DocumentId, QueueName, StoreError};

/// The layout that this release reads and writes.
pub(crate) const VERSION: u64 = 1;

/// How many arguments a script unpacks at most at a time.
pub(crate) const MOST_ARGUMENTS: usize = 1000;

/// Who may claim a document that nobody started.
pub(crate) const EVERYBODY: &str = "*";

/// Makes the names of keys.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    /// Names that begin with `prefix`.
    pub(crate) fn new(prefix: &str) -> Result<Self, StoreError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
        if prefix.is_empty() || !prefix.chars().all(allowed) {
            return Err(StoreError::Unusable(format!(
                "{prefix:?} cannot begin the names of keys: use letters, digits, '_', '-', '.' and ':'"
            )));
        }
        Ok(Self {
            prefix: prefix.to_owned(),
        })
    }

    /// What the names of a queue's keys begin with.
    pub(crate) fn base(&self, queue: &QueueName) -> String {
        format!("{{{}:{queue}}}", self.prefix)
    }

    pub(crate) fn directory(&self, id: DocumentId) -> String {
        format!("{}:directory:{}", self.prefix, id.0.simple())
    }

    pub(crate) fn queues(&self) -> String {
        format!("{}:queues", self.prefix)
    }

    pub(crate) fn turn(&self) -> String {
        format!("{}:turn", self.prefix)
    }

    pub(crate) fn version(&self) -> String {
        format!("{}:version", self.prefix)
    }

    pub(crate) fn channel(&self) -> String {
        format!("{}:changes", self.prefix)
    }
}

/// A document's id as it is stored; sorts as the id does.
pub(crate) fn id(id: DocumentId) -> String {
    id.0.simple().to_string()
}

/// The line of a tenant; sorts as the tenant does, nobody's first.
pub(crate) fn line(tenant: Option<&str>) -> String {
    tenant.map_or_else(|| "n".to_owned(), |tenant| format!("t{tenant}"))
}

/// Who may claim a document with this fingerprint once it is due. The length in front keeps it apart from
/// what follows in a key.
pub(crate) fn audience(fingerprint: Option<&str>) -> String {
    fingerprint.map_or_else(
        || EVERYBODY.to_owned(),
        |own| format!("{}={own}", own.len()),
    )
}

/// Where a queued document stands: entries of one line sort in claiming order.
pub(crate) fn entry(
    priority: i16,
    available_at: Timestamp,
    document: DocumentId,
    line: &str,
) -> String {
    // Both are turned into numbers without a sign, the higher priority into the lower number.
    let priority = u16::MAX - priority.cast_unsigned().wrapping_add(1 << 15);
    let time = available_at.as_microsecond().cast_unsigned() ^ (1 << 63);
    format!("{priority:04x}{time:016x}{}{line}", id(document))
}

/// The time in an [`entry`].
pub(crate) fn time_of(entry: &str) -> Option<Timestamp> {
    let time = u64::from_str_radix(entry.get(4..20)?, 16).ok()?;
    Timestamp::from_microsecond((time ^ (1 << 63)).cast_signed()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_sort_in_claiming_order_and_tell_their_time() {
        let id = DocumentId::new();
        let at = |us| Timestamp::from_microsecond(us).unwrap();
        let entries: Vec<_> = [
            (i16::MAX, 5),
            (1, -7),
            (0, -7),
            (0, 0),
            (0, 9),
            (-1, i64::MIN / 100),
            (i16::MIN, 0),
        ]
        .map(|(priority, us)| (entry(priority, at(us), id, "n"), us))
        .into();
        assert!(entries.is_sorted());
        for (entry, us) in entries {
            assert_eq!((entry.len(), time_of(&entry)), (53, Some(at(us))));
        }
    }

    #[test]
    fn audiences_and_lines_are_told_apart() {
        assert_ne!(audience(None), audience(Some("*")));
        assert_eq!(line(None).cmp(&line(Some(""))), std::cmp::Ordering::Less);
    }

    #[test]
    fn a_prefix_has_no_braces() {
        for bad in ["", "a{b", "a b"] {
            assert!(Keys::new(bad).is_err(), "{bad:?}");
        }
    }
}
