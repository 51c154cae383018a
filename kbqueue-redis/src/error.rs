//! What Redis says, as a [`StoreError`].

use kbqueue_core::StoreError;
use kbqueue_core::error::BoxError;
use redis::{ErrorKind, RedisError};

/// The error for callers: [`StoreError::Unusable`] where repeating cannot help, else
/// [`StoreError::Unavailable`].
pub(crate) fn failed(error: RedisError) -> StoreError {
    let code = match error.kind() {
        ErrorKind::AuthenticationFailed => Some("WRONGPASS"),
        _ => error.code(),
    };
    let advice = match code {
        Some("NOAUTH" | "WRONGPASS") => {
            "Redis wants a user and a password: put the right ones into the URL"
        }
        Some("NOPERM") => {
            "the Redis user lacks a permission: it needs all keys of the prefix, \
                           scripts and pub/sub"
        }
        Some("WRONGTYPE") => {
            "keys with the store's prefix hold something else: choose another prefix"
        }
        _ => return unavailable(error),
    };
    StoreError::Unusable(format!("{advice} ({error})"))
}

/// The error of a call that may be repeated.
pub(crate) fn unavailable(error: impl Into<BoxError>) -> StoreError {
    StoreError::Unavailable {
        store: "Redis",
        source: error.into(),
    }
}

/// The error for what cannot be read.
pub(crate) fn malformed(what: impl Into<String>, source: impl Into<BoxError>) -> StoreError {
    StoreError::Malformed {
        what: what.into(),
        source: source.into(),
    }
}
