//! The pages between those who read them and the one who takes them, in order.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kbqueue_core::ExtractError;
use kbqueue_core::extract::ExtractedPage;
use tokio::sync::Notify;

/// How far reading may be ahead of the consumer.
const WINDOW_PAGES: u32 = 64;
const WINDOW_BYTES: usize = 8 << 20;

/// Hands out ranges of pages to read, and holds what was read until its turn comes.
#[derive(Debug)]
pub(super) struct Window {
    last: u32,
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    /// The page that the consumer gets next.
    next: u32,
    /// The first page that nobody was given to read.
    unassigned: u32,
    /// Given out and taken back: first and last of each range.
    returned: BTreeMap<u32, u32>,
    ready: BTreeMap<u32, (Result<ExtractedPage, ExtractError>, usize)>,
    held_bytes: usize,
    given_up: bool,
}

impl Window {
    pub(super) fn new(first: u32, last: u32) -> Self {
        Self {
            last,
            inner: Mutex::new(Inner {
                next: first,
                unassigned: first,
                returned: BTreeMap::new(),
                ready: BTreeMap::new(),
                held_bytes: 0,
                given_up: false,
            }),
            changed: Notify::new(),
        }
    }

    /// The next pages to read, at most `pages`, as soon as they are within the window. `None` when
    /// all are given out.
    pub(super) async fn take(&self, pages: u32) -> Option<RangeInclusive<u32>> {
        self.wait(|inner| {
            if let Some((first, all)) = inner.returned.pop_first() {
                let last = all.min(first.saturating_add(pages - 1));
                if last < all {
                    inner.returned.insert(last + 1, all);
                }
                return Some(Some(first..=last));
            }
            let first = inner.unassigned;
            if first > self.last {
                return Some(None);
            }
            if first >= inner.next.saturating_add(WINDOW_PAGES) {
                return None;
            }
            let last = self.last.min(first.saturating_add(pages - 1));
            inner.unassigned = last + 1;
            Some(Some(first..=last))
        })
        .await
    }

    /// Takes back what was given out. Whoever does so takes pages again before it ends or waits for
    /// anything else: others may be waiting for these.
    pub(super) fn give_back(&self, pages: RangeInclusive<u32>) {
        if pages.is_empty() {
            return;
        }
        self.inner().returned.insert(*pages.start(), *pages.end());
        self.changed.notify_waiters();
    }

    /// Whether there are pages that were given back.
    pub(super) fn has_returned(&self) -> bool {
        !self.inner().returned.is_empty()
    }

    /// Waits until there is room for a page of so many bytes. For the page that the consumer waits for
    /// there always is.
    pub(super) async fn room(&self, page: u32, bytes: usize) {
        self.wait(|inner| {
            let fits = page <= inner.next || inner.held_bytes + bytes <= WINDOW_BYTES;
            fits.then_some(())
        })
        .await;
    }

    pub(super) fn put(&self, number: u32, page: Result<ExtractedPage, ExtractError>, bytes: usize) {
        let mut inner = self.inner();
        inner.ready.insert(number, (page, bytes));
        inner.held_bytes += bytes;
        drop(inner);
        self.changed.notify_waiters();
    }

    /// The next page in order; `None` behind the last one.
    pub(super) async fn next(&self) -> Option<Result<ExtractedPage, ExtractError>> {
        let page = self
            .wait(|inner| {
                if inner.next > self.last {
                    return Some(None);
                }
                let Some((page, bytes)) = inner.ready.remove(&inner.next) else {
                    return inner.given_up.then(|| Some(Err(broken())));
                };
                inner.next += 1;
                inner.held_bytes -= bytes;
                Some(Some(page))
            })
            .await;
        self.changed.notify_waiters();
        page
    }

    /// Has the consumer told, when it comes to pages that are missing, that they will not come.
    pub(super) fn give_up(&self) {
        self.inner().given_up = true;
        self.changed.notify_waiters();
    }

    /// How many pages nobody has.
    pub(super) fn unassigned(&self) -> u32 {
        let inner = self.inner();
        let returned: u32 = inner
            .returned
            .iter()
            .map(|(first, last)| last - first + 1)
            .sum();
        returned + (self.last + 1).saturating_sub(inner.unassigned)
    }

    async fn wait<T>(&self, mut check: impl FnMut(&mut Inner) -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(found) = check(&mut self.inner()) {
                return found;
            }
            changed.await;
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn broken() -> ExtractError {
    ExtractError::transient("the PDF reader failed unexpectedly; the log has the cause")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::join;

    use super::*;

    #[tokio::test]
    async fn what_is_given_back_is_given_out_again_before_anything_else() {
        let window = Window::new(1, 40);
        assert_eq!(window.take(8).await, Some(1..=8));
        assert_eq!(window.take(8).await, Some(9..=16));
        // The first of two takers came to a scan.
        window.give_back(4..=8);
        assert!(window.has_returned());
        assert_eq!(window.unassigned(), 24 + 5);
        // A part of it, and the rest.
        assert_eq!(window.take(2).await, Some(4..=5));
        assert_eq!(window.unassigned(), 24 + 3);
        assert_eq!(window.take(8).await, Some(6..=8));
        assert!(!window.has_returned());
        // So did the second, on the last of its pages.
        #[allow(clippy::reversed_empty_ranges, reason = "as the worker gives it")]
        window.give_back(17..=16);
        assert!(!window.has_returned());
        assert_eq!(window.take(100).await, Some(17..=40));
        assert_eq!(window.take(1).await, None);
    }

    #[tokio::test]
    async fn one_who_waits_for_the_consumer_gets_what_another_gives_back() {
        let window = Window::new(1, 200);
        assert_eq!(window.take(WINDOW_PAGES).await, Some(1..=WINDOW_PAGES));
        assert_eq!(window.take(1).now_or_never(), None, "it is full");
        let (taken, ()) = join!(window.take(16), async { window.give_back(10..=20) });
        assert_eq!(taken, Some(10..=20));
    }
}
