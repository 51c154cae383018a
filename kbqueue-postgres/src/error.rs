//! What PostgreSQL says, as a [`StoreError`].

use kbqueue_core::StoreError;
use kbqueue_core::error::BoxError;

/// The five characters that tell errors of the server apart.
fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// The error for callers: [`StoreError::Unusable`] where repeating cannot help, else
/// [`StoreError::Unavailable`].
pub(crate) fn failed(error: sqlx::Error) -> StoreError {
    let advice = match code(&error).as_deref() {
        Some("28000" | "28P01") => "the server refuses this user or password",
        Some("3D000") => "the database is not there: create it, or correct the URL",
        Some("42501") => "the user may not do this: grant it, or have an administrator migrate",
        Some("25006") => "the server is read-only: use the primary",
        Some("3F000" | "42P01" | "42703") => {
            "the schema is not as this release made it: was it changed or dropped?"
        }
        // A unique violation is a race, and trying again helps.
        Some(code) if code.starts_with("23") && code != "23505" => {
            "what was to be written contradicts what is stored"
        }
        _ => {
            return StoreError::Unavailable {
                store: "PostgreSQL",
                source: Box::new(error),
            };
        }
    };
    StoreError::Unusable(format!("{advice} ({error})"))
}

/// Whether two transactions got into each other's way, so that the server rolled this one back and
/// beginning again helps: a deadlock, a serialization failure, a unique violation, a lock waited for as long
/// as the host's `lock_timeout` allows, or (22012, raised by our own statement) a document that somebody changed.
pub(crate) fn is_conflict(error: &StoreError) -> bool {
    let StoreError::Unavailable { source, .. } = error else {
        return false;
    };
    let error = source.downcast_ref::<sqlx::Error>().and_then(code);
    matches!(
        error.as_deref(),
        Some("40001" | "40P01" | "23505" | "22012" | "55P03")
    )
}

/// Whether the connection is gone, so that another one may do. (57P01 to 57P03: the server shuts down, or
/// somebody ended the session.)
pub(crate) fn is_disconnected(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => true,
        error => code(error).is_some_and(|code| code.starts_with("57P") || code.starts_with("08")),
    }
}

/// Whether the connection was lost on the way.
pub(crate) fn is_lost(error: &StoreError) -> bool {
    let StoreError::Unavailable { source, .. } = error else {
        return false;
    };
    source
        .downcast_ref::<sqlx::Error>()
        .is_some_and(is_disconnected)
}

/// Whether a lock was waited for in vain.
pub(crate) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    code(error).as_deref() == Some("55P03")
}

/// The error for a row that cannot be read.
pub(crate) fn malformed(what: impl Into<String>, source: impl Into<BoxError>) -> StoreError {
    StoreError::Malformed {
        what: what.into(),
        source: source.into(),
    }
}
