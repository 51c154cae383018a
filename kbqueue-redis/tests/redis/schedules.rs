//! What comes between a look at a schedule and the commit of its tick.

use std::time::Duration;

use futures::future::join;
use jiff::Timestamp;
use kbqueue_core::schedule::{Firing, Missed, Plan, Schedules, Template, put};
use kbqueue_core::store::DocumentQuery;
use kbqueue_core::{BlobRef, QueueName, Store};
use kbqueue_redis::RedisStore;

use crate::races::stores;
use crate::support::*;

fn plan() -> Plan {
    Plan {
        cron: "*/5 * * * *".to_owned(),
        time_zone: "UTC".to_owned(),
        missed: Missed::Once,
        template: Template {
            blob: BlobRef {
                sha256: "ab".repeat(32),
                size_bytes: 7,
            },
            filename: "report.pdf".to_owned(),
            media_type: "application/pdf".to_owned(),
            tenant: None,
            priority: 0,
            chunking: None,
            metadata: serde_json::Value::Null,
        },
    }
}

async fn due(space: &Space, store: &RedisStore) -> (Firing, Timestamp) {
    let queue = QueueName::default();
    let next_at = put(store, &queue, "five", plan()).await.unwrap();
    space.clock.advance(Duration::from_secs(300));
    let timetable = store.schedules(&queue).await.unwrap();
    let firing = timetable.schedules[0].due(timetable.now).unwrap();
    (firing.expect("it is due"), next_at)
}

async fn count(store: &RedisStore) -> usize {
    store
        .documents(DocumentQuery::default())
        .await
        .unwrap()
        .len()
}

/// REGRESSIONS 14: who found a tick due, and comes second, enqueues nothing, whatever its documents are
/// deduplicated by.
#[tokio::test]
async fn a_tick_fired_before_the_commit_is_fired_once() {
    let (space, proxy, slow, fast) = stores().await;
    let (firing, _) = due(&space, &fast).await;
    let mut other = firing.clone();
    for new in &mut other.documents {
        *new = document();
    }
    let commit = proxy.hold().await;
    let meanwhile = commit.meanwhile(fast.fire(firing));
    let (late, first) = join(slow.fire(other), meanwhile).await;
    assert_eq!(late.unwrap(), None);
    assert!(first.unwrap().is_some());
    assert_eq!(count(&fast).await, 1);
}

/// A schedule that was deleted or replaced before the commit does not tick any more.
#[tokio::test]
async fn a_schedule_deleted_before_the_commit_does_not_tick() {
    for deleted in [true, false] {
        let (space, proxy, slow, fast) = stores().await;
        let (firing, next_at) = due(&space, &fast).await;
        let queue = QueueName::default();
        let commit = proxy.hold().await;
        let meanwhile = commit.meanwhile(async {
            if deleted {
                assert!(fast.delete_schedule(&queue, "five").await.unwrap());
            } else {
                let put = fast.put_schedule(&queue, "five", plan(), next_at).await;
                put.unwrap();
            }
        });
        let (fired, ()) = join(slow.fire(firing), meanwhile).await;
        assert_eq!(fired.unwrap(), None);
        assert_eq!(count(&fast).await, 0);
    }
}

/// A tick whose answer got lost is one tick.
#[tokio::test]
async fn a_tick_whose_answer_is_lost_enqueues_once() {
    let (space, proxy, slow, fast) = stores().await;
    let (firing, _) = due(&space, &fast).await;
    proxy.lose_answer().await;
    let fired = slow.fire(firing.clone()).await.unwrap();
    assert!(fired.is_some_and(|answers| answers[0].created));
    assert_eq!(slow.fire(firing).await.unwrap(), None);
    assert_eq!(count(&fast).await, 1);
}
