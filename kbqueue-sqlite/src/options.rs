//! How to open a file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kbqueue_core::{Clock, StoreError};
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

/// When a commit counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// When it is on the disk: it survives a power cut.
    #[default]
    Full,
    /// When the operating system has it: it survives the process, but a power cut can undo the last
    /// commits (never half of one). About ten times the commits a second.
    Normal,
}

/// Which file to open, and how.
///
/// Defaults: [`Synchronous::Full`], a patience of 30 seconds, 4 readers, the machine's clock.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    pub(crate) path: PathBuf,
    pub(crate) synchronous: Synchronous,
    pub(crate) patience: Duration,
    pub(crate) readers: u32,
    pub(crate) clock: Clock,
}

impl SqliteOptions {
    /// The file at `path`, created with its parent directories where it is missing.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            synchronous: Synchronous::default(),
            patience: Duration::from_secs(30),
            readers: 4,
            clock: Clock::system(),
        }
    }

    /// The file that `url` names: `sqlite:PATH` or `sqlite://PATH`, the path taken as it stands,
    /// relative to the working directory unless it begins with `/`.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] for another scheme, an empty path, `:memory:`, or parameters behind `?`.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        let unusable = |why: &str| Err(StoreError::Unusable(format!("{url:?}: {why}")));
        let Some(path) = url
            .strip_prefix("sqlite://")
            .or_else(|| url.strip_prefix("sqlite:"))
        else {
            return unusable("a SQLite store is named sqlite:PATH");
        };
        if path.is_empty() {
            return unusable("the path is missing; a SQLite store is named sqlite:PATH");
        }
        if path.starts_with(":memory:") {
            return unusable(
                "SQLite in memory is not supported; use MemoryStore, or a file in a temporary directory",
            );
        }
        if path.contains('?') {
            return unusable("parameters are not read here; set them on SqliteOptions");
        }
        Ok(Self::new(path))
    }

    /// Sets when a commit counts as done.
    #[must_use]
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// Sets how long a call waits for other writers of the file, and a read for a free connection,
    /// before it answers [`StoreError::Unavailable`].
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets how many connections read at the same time, at least one. Writes have one of their own.
    #[must_use]
    pub fn readers(mut self, readers: u32) -> Self {
        self.readers = readers.max(1);
        self
    }

    /// Sets where "now" comes from; for tests.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How the one writing connection is opened. It creates the file.
    pub(crate) fn writer(&self) -> SqliteConnectOptions {
        // SQLite polls ever more rarely while it waits, so `begin!` starts it again at this interval:
        // that is also how long a dropped call can keep the connection waiting.
        const BUSY_TIMEOUT: Duration = Duration::from_millis(250);
        self.common()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(match self.synchronous {
                Synchronous::Full => SqliteSynchronous::Full,
                Synchronous::Normal => SqliteSynchronous::Normal,
            })
            // After a long reader let the log grow, the next checkpoint cuts it down to this.
            .pragma("journal_size_limit", "67108864")
            // A statement that changes many rows notes how to undo itself: in memory, or it opens a file
            // each time.
            .pragma("temp_store", "memory")
            // KiB: what one batch writes is found again by the next call, also of wide documents.
            .pragma("cache_size", "-16384")
            // Pages, 16 MiB: a page that several batches change goes back into the file once.
            .pragma("wal_autocheckpoint", "4000")
            .busy_timeout(BUSY_TIMEOUT.min(self.patience))
    }

    /// How reading connections are opened.
    pub(crate) fn reader(&self) -> SqliteConnectOptions {
        self.common()
            .pragma("query_only", "on")
            .busy_timeout(self.patience)
    }

    fn common(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.path)
            // Rows cross from SQLite's thread in batches; with 50, a claim of 500 would wake both sides
            // ten times.
            .row_buffer_size(1024)
            .disable_statement_logging()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_files_and_nothing_else() {
        for (url, path) in [
            ("sqlite:a.db", "a.db"),
            ("sqlite://a/b.db", "a/b.db"),
            ("sqlite:///a/b c%20d.db", "/a/b c%20d.db"),
        ] {
            assert_eq!(SqliteOptions::parse(url).unwrap().path(), Path::new(path));
        }
        for url in [
            "a.db",
            "sqlite:",
            "sqlite::memory:",
            "sqlite://:memory:",
            "sqlite:a.db?mode=ro",
        ] {
            let error = SqliteOptions::parse(url).unwrap_err();
            assert!(matches!(error, StoreError::Unusable(_)), "{error}");
        }
    }
}
