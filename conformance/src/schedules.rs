//! Ticks that come once, whoever looks for them.

use futures::future::join_all;
use jiff::Timestamp;
use kbqueue_core::queue::QueueSettings;
use kbqueue_core::schedule::{
    Firing, MISSED_AFTER, Missed, Plan, Schedule, Schedules, Template, put,
};
use kbqueue_core::store::{DocumentQuery, Enqueued};
use kbqueue_core::{BlobRef, ChunkOptions, Document, QueueName, Store, StoreError, TestClock};
use serde_json::json;

use crate::support::*;

fn plan(cron: &str, missed: Missed) -> Plan {
    Plan {
        cron: cron.to_owned(),
        time_zone: "Europe/Berlin".to_owned(),
        missed,
        template: Template {
            blob: BlobRef {
                sha256: "ab".repeat(32),
                size_bytes: 7,
            },
            filename: "Bericht für \"alle\".pdf".to_owned(),
            media_type: "application/pdf".to_owned(),
            tenant: Some("tenant".to_owned()),
            priority: -3,
            chunking: Some(ChunkOptions::default()),
            metadata: json!({"of": ["schedule", null]}),
        },
    }
}

async fn schedule(store: &dyn Schedules, name: &str, cron: &str, missed: Missed) -> Timestamp {
    let next_at = put(store, &QueueName::default(), name, plan(cron, missed)).await;
    next_at.expect("the plan is taken")
}

async fn listed(store: &dyn Schedules) -> Vec<Schedule> {
    let timetable = store.schedules(&QueueName::default()).await;
    timetable.expect("schedules are listed").schedules
}

async fn one(store: &dyn Schedules) -> Schedule {
    let mut schedules = listed(store).await;
    schedules.pop().expect("there is one")
}

async fn documents(store: &dyn Store) -> Vec<Document> {
    let mut query = DocumentQuery::default();
    query.limit = 1000;
    store.documents(query).await.expect("a list")
}

async fn fire(store: &dyn Schedules, firing: Firing) -> Option<Vec<Enqueued>> {
    store.fire(firing).await.expect("a firing is answered")
}

/// Fires what is due, as a scheduler does; answers whether something was.
async fn tick(store: &dyn Schedules) -> bool {
    let timetable = store.schedules(&QueueName::default()).await;
    let timetable = timetable.expect("schedules are listed");
    let mut fired = false;
    for schedule in timetable.schedules {
        let firing = schedule.due(timetable.now).expect("the plan can be read");
        if let Some(firing) = firing {
            fired |= fire(store, firing).await.is_some();
        }
    }
    fired
}

/// The clock, moved to an instant.
fn advance_to(clock: &TestClock, at: Timestamp) {
    clock.advance(at.duration_since(clock.now()).unsigned_abs());
}

/// A schedule comes back as it was given, with its next tick; what is put again has a new revision.
pub async fn schedules_come_back_whole(store: &dyn Schedules, clock: &TestClock) {
    let next_at = schedule(store, "b", "*/5 * * * *", Missed::Skip).await;
    assert_eq!(next_at, clock.now() + seconds(300));
    schedule(store, "a b/ü", "0 0 1 1 *", Missed::Once).await;
    let elsewhere = queue("elsewhere");
    let other = put(store, &elsewhere, "b", plan("0 3 * * *", Missed::Once)).await;
    other.expect("the plan is taken");
    let schedules = listed(store).await;
    let names: Vec<_> = schedules.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["a b/ü", "b"]);
    let expected = Schedule {
        queue: QueueName::default(),
        name: "b".to_owned(),
        plan: plan("*/5 * * * *", Missed::Skip),
        next_at,
        revision: 1,
    };
    assert_eq!(schedules[1], expected);
    schedule(store, "b", "*/7 * * * *", Missed::Once).await;
    let again = one(store).await;
    assert_eq!((again.revision, again.plan.missed), (2, Missed::Once));
    let timetable = store
        .schedules(&elsewhere)
        .await
        .expect("schedules are listed");
    assert_eq!((timetable.schedules.len(), timetable.now), (1, clock.now()));
    let delete = async || store.delete_schedule(&QueueName::default(), "b").await;
    assert!(delete().await.expect("a deletion is answered"));
    assert!(!delete().await.expect("a deletion is answered"));
    assert_eq!(listed(store).await.len(), 1);
    let none = store.schedules(&queue("nobody.used.it")).await;
    assert_eq!(none.expect("schedules are listed").schedules, []);
}

/// A tick enqueues what its plan says, once its time has come, and the next one is set.
pub async fn a_tick_enqueues_its_document(store: &dyn Schedules, clock: &TestClock) {
    let next_at = schedule(store, "five", "*/5 * * * *", Missed::Once).await;
    assert!(!tick(store).await, "it is not due");
    advance_to(clock, next_at);
    assert!(tick(store).await);
    assert!(!tick(store).await, "it was fired");
    let got = documents(store).await;
    let expected = plan("", Missed::Once).template;
    assert_eq!(got.len(), 1);
    assert_eq!(
        (&got[0].blob, &got[0].filename),
        (&expected.blob, &expected.filename)
    );
    assert_eq!(
        (&got[0].tenant, got[0].priority),
        (&expected.tenant, expected.priority)
    );
    assert_eq!(
        (&got[0].metadata, got[0].chunking),
        (&expected.metadata, expected.chunking)
    );
    let after = one(store).await;
    assert_eq!((after.next_at, after.revision), (next_at + seconds(300), 2));
    advance_to(clock, after.next_at);
    assert!(tick(store).await);
    assert_eq!(
        documents(store).await.len(),
        2,
        "the same content is another tick's"
    );
}

/// REGRESSIONS 14: however many schedulers find a tick due, and whoever of them dies before or after, it
/// is one document's.
pub async fn schedulers_at_once_fire_once(store: &dyn Schedules, clock: &TestClock) {
    for tick in 1..=3_usize {
        let next_at = match tick {
            1 => schedule(store, "five", "*/5 * * * *", Missed::Once).await,
            _ => one(store).await.next_at,
        };
        advance_to(clock, next_at);
        let due = one(store).await;
        let found: Vec<Firing> = (0..6)
            .map(|_| due.due(clock.now()).expect("a plan").expect("it is due"))
            .collect();
        // Each is another process, with a document of its own; the first two die before they ask.
        let answers = join_all(
            found
                .iter()
                .skip(2)
                .map(|firing| fire(store, firing.clone())),
        )
        .await;
        let won = answers.iter().flatten().count();
        assert_eq!((won, documents(store).await.len()), (1, tick));
        for firing in found {
            assert_eq!(
                fire(store, firing).await,
                None,
                "also when it is sent again"
            );
        }
        assert_eq!(documents(store).await.len(), tick);
    }
}

/// A tick that is not due by the store's clock, or of a plan that was changed or deleted meanwhile, does
/// nothing.
pub async fn a_stale_tick_does_nothing(store: &dyn Schedules, clock: &TestClock) {
    let next_at = schedule(store, "five", "*/5 * * * *", Missed::Once).await;
    let due = one(store).await;
    // By a clock that is ahead.
    let early = due.due(next_at).expect("a plan").expect("it is due there");
    assert_eq!(fire(store, early.clone()).await, None);
    schedule(store, "five", "0 0 * * *", Missed::Once).await;
    advance_to(clock, next_at);
    assert_eq!(fire(store, early.clone()).await, None, "it was changed");
    let deleted = store.delete_schedule(&QueueName::default(), "five").await;
    assert!(deleted.expect("a deletion is answered"));
    assert_eq!(fire(store, early).await, None, "it was deleted");
    assert!(documents(store).await.is_empty());
}

/// Ticks at which nobody was there are made up for once, or left out, as the plan says; and a little late
/// is not missed.
pub async fn missed_ticks_go_by_the_plan(store: &dyn Schedules, clock: &TestClock) {
    let next_at = schedule(store, "once", "0 * * * *", Missed::Once).await;
    schedule(store, "skip", "0 * * * *", Missed::Skip).await;
    advance_to(clock, next_at + MISSED_AFTER);
    assert!(tick(store).await);
    assert_eq!(documents(store).await.len(), 2, "a little late");
    advance_to(
        clock,
        next_at + seconds(5 * 3600) + MISSED_AFTER + seconds(1),
    );
    assert!(tick(store).await);
    assert!(!tick(store).await, "five ticks, one document");
    assert_eq!(documents(store).await.len(), 3);
    for schedule in listed(store).await {
        assert_eq!(schedule.next_at, next_at + seconds(6 * 3600));
    }
}

/// REGRESSIONS 14: a fixed time ticks once in the hour that a clock goes through twice.
pub async fn a_doubled_hour_has_one_tick(store: &dyn Schedules, clock: &TestClock) {
    let october: Timestamp = "2026-10-24T12:00:00Z".parse().expect("it is a timestamp");
    advance_to(clock, october);
    schedule(store, "night", "30 2 * * *", Missed::Once).await;
    let mut ticks = Vec::new();
    while clock.now() < october + seconds(48 * 3600) {
        if tick(store).await {
            ticks.push(clock.now().to_string());
        }
        clock.advance(seconds(600));
    }
    assert_eq!(ticks, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
}

/// A tick that the queue has no room for stays due.
pub async fn a_refused_tick_stays_due(store: &dyn Schedules, clock: &TestClock) {
    let next_at = schedule(store, "five", "*/5 * * * *", Missed::Once).await;
    let full = QueueSettings {
        max_queued: Some(0),
        ..QueueSettings::default()
    };
    let default = QueueName::default();
    store
        .configure(&default, full)
        .await
        .expect("settings are taken");
    advance_to(clock, next_at);
    let due = one(store).await;
    let firing = due.due(clock.now()).expect("a plan").expect("it is due");
    let refused = error(store.fire(firing).await);
    assert!(matches!(refused, StoreError::QueueFull { .. }), "{refused}");
    assert_eq!(one(store).await, due);
    let room = QueueSettings::default();
    store
        .configure(&default, room)
        .await
        .expect("settings are taken");
    assert!(tick(store).await);
    assert_eq!(documents(store).await.len(), 1);
}
