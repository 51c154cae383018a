//! Whose clock decides, and what times can be kept.

use std::time::Duration;

use jiff::Timestamp;
use kbqueue_core::state::Outcome;
use kbqueue_core::store::Directive;
use kbqueue_core::{State, Store, TestClock};

use crate::support::*;

/// REGRESSIONS 11: leases and delays go by the store's own clock, and no instant by the caller's
/// machine, whose clock may be days off. (The test clock is.)
pub async fn the_stores_own_clock_decides(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    let mut holder = Holder::claim(store, "worker").await;
    let start = clock.now();
    clock.advance(LEASE - Duration::from_micros(1));
    assert_eq!(reap(store).await, [], "however late it is elsewhere");
    holder.commit_times(1).await;
    let later = Outcome::Snooze {
        delay: seconds(600),
    };
    holder.settle_to(later, State::Queued).await;
    let document = find(store, id).await;
    let life = &document.lifecycle;
    assert_eq!(document.created_at, start);
    assert_eq!(life.started_at, Some(start));
    assert_eq!(life.available_at, clock.now() + seconds(600));
    assert_eq!(document.attempts[0].ended_at, clock.now());
    clock.advance(seconds(600));
    let holder = Holder::claim(store, "worker").await;
    outlive_leases(clock);
    assert_eq!(reap(store).await, [(holder.id, State::Queued)]);
}

/// Times are kept in whole microseconds, and lengths of time in whole milliseconds.
pub async fn times_are_kept_in_whole_microseconds(store: &dyn Store, clock: &TestClock) {
    let odd = clock.now() + Duration::from_nanos(90_000_000_999);
    let id = put(store, with(document(), |d| d.available_at = Some(odd))).await;
    assert_eq!(
        life(store, id).await.available_at,
        clock.now() + seconds(90)
    );
    clock.advance(seconds(90) + Duration::from_micros(7));
    let holder = Holder::claim(store, "worker").await;
    let delay = Duration::from_nanos(1_999_999);
    holder
        .settle_to(Outcome::Snooze { delay }, State::Queued)
        .await;
    let expected = clock.now() + Duration::from_millis(1);
    assert_eq!(life(store, id).await.available_at, expected);
}

/// The end of time can be asked for: such a document waits, can be read, and harms no other.
pub async fn the_end_of_time_is_a_time(store: &dyn Store, clock: &TestClock) {
    let never = put(
        store,
        with(document(), |d| d.available_at = Some(Timestamp::MAX)),
    )
    .await;
    let far = Timestamp::MAX - seconds(1);
    assert!(life(store, never).await.available_at >= far);
    let id = add(store).await;
    let mut request = request("worker", 2);
    request.lease = Duration::MAX;
    let claims = claim(store, request).await;
    assert_eq!(claims.documents.len(), 1);
    assert!(claims.next_due > Some(seconds(1_000_000_000)));
    let mut holder = Holder::of(store, &claims.documents[0]);
    assert_eq!(holder.renew_for(Duration::MAX).await, Directive::Continue);
    let mut checkpoint = holder.next();
    checkpoint.lease = Duration::MAX;
    assert_eq!(holder.send(checkpoint).await, Directive::Continue);
    clock.advance(seconds(1_000_000_000));
    assert_eq!(reap(store).await, []);
    let delay = Duration::MAX;
    holder
        .settle_to(Outcome::Snooze { delay }, State::Queued)
        .await;
    assert!(life(store, id).await.available_at >= far);
    assert!(next_due(store).await.is_some());
    let long_ago = with(document(), |d| {
        d.available_at = Some(Timestamp::UNIX_EPOCH - seconds(1_000_000_000))
    });
    let long_ago = put(store, long_ago).await;
    assert_eq!(Holder::claim(store, "worker").await.id, long_ago);
}
