//! What an operator's limits hold back, and what they let through.

use std::num::NonZeroU32;
use std::time::Duration;

use futures::future::join_all;
use kbqueue_core::limits::Rate;
use kbqueue_core::queue::{QueueSettings, StateCounts};
use kbqueue_core::state::Outcome;
use kbqueue_core::store::Control;
use kbqueue_core::{DocumentId, NewDocument, QueueName, State, Store, StoreError, TestClock};

use crate::support::*;

async fn configure(store: &dyn Store, settings: QueueSettings) {
    let answer = store.configure(&QueueName::default(), settings).await;
    answer.expect("settings are taken");
}

async fn counts(store: &dyn Store) -> StateCounts {
    let stats = store.stats(&QueueName::default()).await;
    stats.expect("stats are read").counts
}

fn rate(documents: u32, per_seconds: u32, burst: u32) -> QueueSettings {
    let rate = Rate::new(documents, per_seconds).expect("they are not zero");
    QueueSettings {
        rate: Some(Rate {
            burst: NonZeroU32::new(burst).expect("it is not zero"),
            ..rate
        }),
        ..QueueSettings::default()
    }
}

fn max_processing(max: u32) -> QueueSettings {
    QueueSettings {
        max_processing: Some(max),
        ..QueueSettings::default()
    }
}

/// How many documents four workers get that claim at once, each with five slots.
async fn four_claim(store: &dyn Store) -> usize {
    let requests = (0..4).map(|n| request(&format!("{n}"), 5));
    let claims = join_all(requests.map(|request| claim(store, request))).await;
    claims.iter().map(|claims| claims.documents.len()).sum()
}

async fn enqueue(
    store: &dyn Store,
    batch: Vec<NewDocument>,
) -> Result<Vec<DocumentId>, StoreError> {
    let answers = store.enqueue(batch).await?;
    Ok(answers.iter().map(|answer| answer.id).collect())
}

async fn fill(store: &dyn Store, count: usize) {
    let batch = (0..count).map(|_| document()).collect();
    enqueue(store, batch).await.expect("an enqueue succeeds");
}

/// REGRESSIONS 24: ten a minute are ten a minute, and not ten for each worker. An empty claim says when
/// the next token comes.
pub async fn a_rate_limits_starts_whoever_claims(store: &dyn Store, clock: &TestClock) {
    configure(store, rate(10, 60, 1)).await;
    fill(store, 200).await;
    let mut started = 0;
    for second in 0..=120 {
        started += four_claim(store).await;
        assert_eq!(started, 1 + second / 6, "after {second} seconds");
        clock.advance(seconds(1));
    }
    assert_eq!(next_due(store).await, Some(seconds(5)));
    clock.advance(seconds(5) - Duration::from_micros(1));
    assert_eq!(four_claim(store).await, 0);
    clock.advance(Duration::from_micros(1));
    assert_eq!(four_claim(store).await, 1);
}

/// After a quiet time as many as the burst start at once, and then one at a time.
pub async fn a_burst_starts_at_once(store: &dyn Store, clock: &TestClock) {
    configure(store, rate(1, 3600, 3)).await;
    fill(store, 50).await;
    assert_eq!(four_claim(store).await, 3);
    assert_eq!(next_due(store).await, Some(seconds(3600)));
    clock.advance(seconds(2 * 3600));
    assert_eq!(four_claim(store).await, 2);
    clock.advance(seconds(100 * 3600));
    assert_eq!(four_claim(store).await, 3, "a bucket holds no more");
}

/// A started document goes on without a token: after a release, a retry, or a crash; also behind others
/// that wait for one.
pub async fn going_on_costs_no_token(store: &dyn Store, clock: &TestClock) {
    configure(store, rate(1, 36_000, 1)).await;
    let id = bring_to(store, document(), State::Queued, 1).await;
    let urgent = put(store, with(document(), |d| d.priority = 9)).await;
    let holder = Holder::claim(store, "worker").await;
    assert_eq!(holder.id, id);
    holder
        .settle_to(failure(true, 3, seconds(5)), State::Queued)
        .await;
    assert_eq!(
        next_due(store).await,
        Some(seconds(5)),
        "it comes before the token"
    );
    clock.advance(seconds(5));
    assert_eq!(Holder::claim(store, "worker").await.id, id);
    outlive_leases(clock);
    assert_eq!(reap(store).await, [(id, State::Queued)]);
    let holder = Holder::claim(store, "worker").await;
    assert_eq!(holder.id, id);
    assert_eq!(next_due(store).await, Some(seconds(36_000 - 65)));
    clock.advance(seconds(36_000 - 65));
    assert_eq!(Holder::claim(store, "worker").await.id, urgent);
}

/// To start over is to start.
pub async fn starting_over_costs_a_token(store: &dyn Store, clock: &TestClock) {
    configure(store, rate(1, 60, 1)).await;
    let id = bring_to(store, document(), State::Failed, 1).await;
    control(store, id, FROM_SCRATCH).await;
    assert_eq!(next_due(store).await, Some(seconds(60)));
    clock.advance(seconds(60));
    let holder = Holder::claim(store, "worker").await;
    holder
        .settle_to(failure(false, 0, Duration::ZERO), State::Failed)
        .await;
    control(store, id, RETRY).await;
    assert_eq!(
        Holder::claim(store, "worker").await.id,
        id,
        "this one goes on"
    );
}

/// Settings that are set again give no new tokens, and a faster rate is not held back by what a slower
/// one owed.
pub async fn new_settings_keep_the_bucket(store: &dyn Store, clock: &TestClock) {
    configure(store, rate(1, 3600, 1)).await;
    fill(store, 9).await;
    assert_eq!(four_claim(store).await, 1);
    configure(store, rate(1, 3600, 1)).await;
    assert_eq!(next_due(store).await, Some(seconds(3600)));
    configure(store, rate(1, 10, 1)).await;
    assert_eq!(next_due(store).await, Some(seconds(10)));
    clock.advance(seconds(10));
    assert_eq!(four_claim(store).await, 1);
    configure(store, QueueSettings::default()).await;
    assert_eq!(four_claim(store).await, 7);
}

/// REGRESSIONS 33: however many claim at once, no more are processing than may be. Who is held back
/// hears so.
pub async fn one_at_a_time_is_one_at_a_time(store: &dyn Store, _: &TestClock) {
    configure(store, max_processing(1)).await;
    fill(store, 5).await;
    for left in (1..=5).rev() {
        assert_eq!(four_claim(store).await, 1, "with {left} left");
        assert_eq!(counts(store).await.processing, 1);
        let claims = claim(store, request("worker", 1)).await;
        assert!(claims.documents.is_empty());
        assert_eq!((claims.held_back, claims.next_due), (left > 1, None));
        let mut query = kbqueue_core::store::DocumentQuery::default();
        query.state = Some(State::Processing);
        let held = store.documents(query).await.expect("documents are listed");
        let holder = Holder::of(store, &held[0]);
        holder.settle_to(Outcome::Complete, State::Completed).await;
    }
}

/// A maximum below what is processing stops nothing, and starts nothing until enough have ended.
pub async fn a_lowered_maximum_waits_until_enough_have_ended(store: &dyn Store, _: &TestClock) {
    fill(store, 5).await;
    let mut holders = Vec::new();
    for _ in 0..3 {
        holders.push(Holder::claim(store, "worker").await);
    }
    configure(store, max_processing(2)).await;
    for (ended, holder) in holders.iter_mut().enumerate() {
        let got = claim(store, request("other", 5)).await.documents.len();
        assert_eq!(got, usize::from(ended == 2), "after {ended} have ended");
        holder.commit_times(1).await;
        holder.settle_to(Outcome::Complete, State::Completed).await;
    }
}

/// What the reaper took back, and what was cancelled, no longer counts as processing.
pub async fn a_dead_worker_makes_room(store: &dyn Store, clock: &TestClock) {
    configure(store, max_processing(1)).await;
    let first = add(store).await;
    Holder::claim(store, "worker").await;
    outlive_leases(clock);
    assert_eq!(four_claim(store).await, 0, "nobody took it back yet");
    reap(store).await;
    let holder = Holder::claim(store, "worker").await;
    control(store, first, Control::Cancel).await;
    let second = add(store).await;
    assert_eq!(
        four_claim(store).await,
        0,
        "it is processing until it is settled"
    );
    holder.settle_to(Outcome::Release, State::Cancelled).await;
    assert_eq!(Holder::claim(store, "worker").await.id, second);
}

/// A tenant at its limit leaves its turn to others; documents of nobody have a limit too.
pub async fn each_tenant_has_its_own_limit(store: &dyn Store, _: &TestClock) {
    let settings = QueueSettings {
        max_processing_per_tenant: Some(2),
        max_processing: Some(5),
        ..QueueSettings::default()
    };
    configure(store, settings).await;
    for tenant in [None, Some("a"), Some("b")] {
        let new = || with(document(), |d| d.tenant = tenant.map(str::to_owned));
        let batch = (0..5).map(|_| new()).collect();
        enqueue(store, batch).await.expect("an enqueue succeeds");
    }
    let claims = claim(store, request("worker", 9)).await;
    let tenants: Vec<_> = claims
        .documents
        .iter()
        .map(|d| d.tenant.as_deref())
        .collect();
    assert_eq!(tenants, [None, Some("a"), Some("b"), None, Some("a")]);
    assert!(claims.held_back);
    let nobodys = Holder::of(store, &claims.documents[0]);
    nobodys.settle_to(Outcome::Complete, State::Completed).await;
    // Least recently served of those that have room.
    let claims = claim(store, request("worker", 9)).await;
    let tenants: Vec<_> = claims
        .documents
        .iter()
        .map(|d| d.tenant.as_deref())
        .collect();
    assert_eq!(tenants, [Some("b")]);
}

/// A queue that is full takes nothing of a batch, in no queue; what is claimed makes room, and retries by
/// a person are never refused.
pub async fn a_full_queue_refuses_the_whole_batch(store: &dyn Store, _: &TestClock) {
    let settings = QueueSettings {
        max_queued: Some(3),
        ..QueueSettings::default()
    };
    configure(store, settings).await;
    fill(store, 2).await;
    let elsewhere = with(document(), |d| d.queue = queue("elsewhere"));
    let batch = vec![elsewhere.clone(), document(), document()];
    let refused = error(enqueue(store, batch).await);
    assert!(
        matches!(&refused, StoreError::QueueFull { queue, limit: 3, queued: 2 } if *queue == QueueName::default()),
        "{refused:?}"
    );
    let none = store.document(elsewhere.id).await;
    assert_eq!(none.expect("a document is looked for"), None);
    fill(store, 1).await;
    assert!(matches!(
        error(enqueue(store, vec![document()]).await),
        StoreError::QueueFull { .. }
    ));
    let holder = Holder::claim(store, "worker").await;
    fill(store, 1).await;
    holder
        .settle_to(failure(false, 0, Duration::ZERO), State::Failed)
        .await;
    control(store, holder.id, RETRY).await;
    assert_eq!(counts(store).await.queued, 4);
}

/// What is there already takes no room, however full the queue is.
pub async fn what_is_there_already_is_not_refused(store: &dyn Store, _: &TestClock) {
    let settings = QueueSettings {
        max_queued: Some(1),
        ..QueueSettings::default()
    };
    configure(store, settings).await;
    let twice = vec![keyed("one"), keyed("one")];
    let ids = enqueue(store, twice)
        .await
        .expect("of two that are the same, one is made");
    let again = enqueue(store, vec![keyed("one")]).await;
    assert_eq!(again.expect("it is there already"), ids[..1]);
    assert!(
        enqueue(store, Vec::new())
            .await
            .expect("nothing is refused")
            .is_empty()
    );
}

/// Settings come back as they were given, and are a queue's own.
pub async fn settings_come_back_whole(store: &dyn Store, _: &TestClock) {
    let settings = QueueSettings {
        paused: true,
        max_processing: Some(u32::MAX),
        max_processing_per_tenant: Some(0),
        max_queued: Some(1 << 40),
        ..rate(u32::MAX, u32::MAX, u32::MAX)
    };
    for settings in [settings, QueueSettings::default(), rate(7, 60, 2)] {
        configure(store, settings).await;
        let stats = store.stats(&QueueName::default()).await;
        assert_eq!(stats.expect("stats are read").settings, settings);
    }
    let other = store.stats(&queue("other")).await.expect("stats are read");
    assert_eq!(other.settings, QueueSettings::default());
}
