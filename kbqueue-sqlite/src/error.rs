//! What SQLite says, as a [`StoreError`].

use kbqueue_core::StoreError;
use kbqueue_core::error::BoxError;

/// The result code of SQLite without its extension, where the error has one.
fn code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

const BUSY: i32 = 5;
const READONLY: i32 = 8;
const CORRUPT: i32 = 11;
const CANTOPEN: i32 = 14;
const CONSTRAINT: i32 = 19;
const NOTADB: i32 = 26;

/// Whether somebody else is writing, so that trying again helps.
pub(crate) fn is_busy(error: &sqlx::Error) -> bool {
    code(error) == Some(BUSY)
}

/// The error for callers: [`StoreError::Unusable`] where repeating cannot help, else
/// [`StoreError::Unavailable`].
pub(crate) fn failed(error: sqlx::Error) -> StoreError {
    let advice = match code(&error) {
        Some(NOTADB) => "the file is not a SQLite database",
        Some(CORRUPT) => "the database file is damaged: restore a copy, or use sqlite3's .recover",
        Some(READONLY) => "the database file, or its directory, cannot be written to",
        Some(CANTOPEN) => "the database file cannot be opened or created",
        Some(CONSTRAINT) => "what was to be written contradicts what is stored",
        _ => {
            return StoreError::Unavailable {
                store: "SQLite",
                source: Box::new(error),
            };
        }
    };
    StoreError::Unusable(format!("{advice} ({error})"))
}

/// The error for a row that cannot be read.
pub(crate) fn malformed(what: impl Into<String>, source: impl Into<BoxError>) -> StoreError {
    StoreError::Malformed {
        what: what.into(),
        source: source.into(),
    }
}
