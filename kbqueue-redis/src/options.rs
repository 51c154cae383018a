//! How to connect.

use std::fmt;
use std::time::Duration;

use kbqueue_core::{Clock, StoreError};

/// Which servers to connect to, and how.
///
/// Defaults: keys that begin with `kbqueue`, a patience of 10 seconds, the server's own clock.
#[derive(Clone)]
pub struct RedisOptions {
    pub(crate) urls: Vec<String>,
    pub(crate) prefix: String,
    pub(crate) patience: Duration,
    pub(crate) clock: Option<Clock>,
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the URLs: they may hold passwords.
        f.debug_struct("RedisOptions")
            .field("prefix", &self.prefix)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

impl RedisOptions {
    /// The servers that `url` names: `redis://[USER:PASSWORD@]HOST:PORT[/DATABASE]`, or several of one
    /// cluster, separated by commas. One of a cluster is enough, as long as it is up.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] for another scheme.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        let urls: Vec<String> = url.split(',').map(|one| one.trim().to_owned()).collect();
        let known = |url: &String| {
            ["redis://", "redis+unix://", "unix://"]
                .iter()
                .any(|scheme| url.starts_with(scheme))
        };
        if !urls.iter().all(known) {
            return Err(StoreError::Unusable(
                "a Redis store is named redis://HOST:PORT, several servers separated by commas"
                    .to_owned(),
            ));
        }
        Ok(Self {
            urls,
            prefix: "kbqueue".to_owned(),
            patience: Duration::from_secs(10),
            clock: None,
        })
    }

    /// Sets what the names of all keys begin with: letters, digits, `_`, `-`, `.` and `:`. Stores with
    /// different prefixes on one server know nothing of each other.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets how long to wait for a connection, and for each answer, before a call answers
    /// [`StoreError::Unavailable`].
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets where "now" comes from instead of the server; for tests.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }
}
