//! Wake-ups: at once inside this process, soon after a commit of another one.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use kbqueue_core::event::Notifier;
use kbqueue_core::store::Result;
use kbqueue_core::{Notice, Subscription};

use crate::error::failed;
use crate::store::{Inner, SqliteStore};

/// How often the file is asked whether another connection changed it.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Tells subscribers what this process commits, and that another one committed something.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    notifier: Notifier,
    /// Whether the check runs.
    checking: tokio::sync::Mutex<bool>,
}

impl Wake {
    /// Tells subscribers in this process.
    pub(crate) fn tell(&self, notices: impl IntoIterator<Item = Notice>) {
        for notice in notices {
            self.notifier.send(notice);
        }
    }
}

/// A new subscription, with the check running behind it.
pub(crate) async fn subscribe(store: &SqliteStore) -> Result<Subscription> {
    let wake = &store.inner().wake;
    let mut checking = wake.checking.lock().await;
    let subscription = wake.notifier.subscribe();
    if !*checking {
        // Before the caller reads the state for the first time, so that no change falls in between.
        let seen = version(store).await?;
        tokio::spawn(check(Arc::downgrade(store.inner()), seen));
        *checking = true;
    }
    Ok(subscription)
}

/// Sends [`Notice::Resync`] after each change from outside, until nobody listens or the store is gone.
async fn check(store: Weak<Inner>, mut seen: Seen) {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let Some(inner) = store.upgrade() else { return };
        let store = SqliteStore::from(inner);
        let wake = &store.inner().wake;
        let mut checking = wake.checking.lock().await;
        if store.is_closed() || wake.notifier.listeners() == 0 {
            *checking = false;
            return;
        }
        drop(checking);
        match version(&store).await {
            Ok(now) if now == seen => {}
            Ok(now) => {
                seen = now;
                wake.tell([Notice::Resync]);
            }
            // Subscribers look again by themselves, at their own check interval.
            Err(error) => tracing::warn!(
                error = kbqueue_core::error::chain(&error),
                "changes of other processes cannot be seen"
            ),
        }
    }
}

/// Which connection of ours was asked, and its number of the file, which changes when another connection
/// changed the file.
type Seen = (u64, i64);

/// What changes when a connection other than our writer changed the file. (Asked on the writer itself: any
/// other connection would count our own commits. One opened anew counts afresh, and does not tell what
/// happened before.)
async fn version(store: &SqliteStore) -> Result<Seen> {
    let mut writer = store.writer().await?;
    if writer.is_none() {
        *writer = Some(crate::connection::open_writer(store).await?);
    }
    let connection = writer.as_mut().expect("it was opened above");
    let version = sqlx::query_scalar("PRAGMA data_version")
        .fetch_one(connection)
        .await
        .map_err(failed)?;
    Ok((store.inner().openings.load(Ordering::SeqCst), version))
}
