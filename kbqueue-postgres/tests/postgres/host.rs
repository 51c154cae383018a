//! The host application's own transactions.

use kbqueue_core::state::{CrashLimits, Outcome};
use kbqueue_core::store::{Control, DocumentQuery, RenewRequest, Settled, Settlement};
use kbqueue_core::{Dedupe, Notice, QueueName, QueueSettings, State, Store};
use kbqueue_postgres::{PostgresOptions, PostgresStore};
use sqlx::Connection;

use crate::support::{
    LEASE, Place, checkpoint, claim, document, queued, request, soon, stored, subscribe, worker,
};

/// REGRESSIONS 12.
#[tokio::test]
async fn an_enqueue_in_the_hosts_transaction_shares_its_fate() {
    let place = Place::new();
    let (here, there) = (place.store().await, place.store().await);
    let mut host = place.connection().await;
    let mut heard = [subscribe(&here).await, subscribe(&there).await];

    let mut tx = host.begin().await.unwrap();
    let lost = document("lost.pdf");
    let answers = here.enqueue_in(&mut tx, vec![lost.clone()]).await.unwrap();
    assert!(answers[0].created && answers[0].id == lost.id);
    tx.rollback().await.unwrap();
    assert_eq!(here.document(lost.id).await.unwrap(), None);
    assert_eq!(queued(&here).await, 0);

    let mut tx = host.begin().await.unwrap();
    let kept = document("kept.pdf");
    here.enqueue_in(&mut tx, vec![kept.clone()]).await.unwrap();
    assert_eq!(here.document(kept.id).await.unwrap(), None, "too early");
    assert_eq!(claim(&here, 2).await.documents, []);
    tx.commit().await.unwrap();
    // The first notice is of this one: nothing was told of the other.
    for heard in &mut heard {
        let Notice::Document(change) = soon(heard.next()).await else {
            panic!("not a document's notice");
        };
        assert_eq!((change.id, change.state), (kept.id, State::Queued));
    }
    assert_eq!(queued(&here).await, 1);
    assert_eq!(claim(&here, 2).await.documents[0].id, kept.id);
}

/// REGRESSIONS 35: whatever else is done meanwhile waits for nothing that such a transaction holds; it
/// is open until all of it was done.
#[tokio::test]
async fn a_long_transaction_of_the_host_holds_nobody_up() {
    let place = Place::new();
    let store = place.store().await;
    let ids = [
        stored(&store, document("a.pdf")).await.id,
        stored(&store, document("b.pdf")).await.id,
        stored(&store, document("c.pdf")).await.id,
    ];
    let mut host = place.connection().await;
    let mut tx = host.begin().await.unwrap();
    // Of a queue and tenant that are there, and of some that are not.
    let mut new_tenant = document("new.pdf");
    new_tenant.tenant = Some("new".to_owned());
    let mut new_queue = document("new.pdf");
    new_queue.queue = "new".parse().unwrap();
    let given = vec![document("d.pdf"), new_tenant.clone(), new_queue.clone()];
    store.enqueue_in(&mut tx, given).await.unwrap();

    soon(async {
        let held = claim(&store, 3).await.documents;
        assert_eq!(held.len(), 3);
        store.checkpoint(checkpoint(&held[0])).await.unwrap();
        let leases = held
            .iter()
            .map(|d| (d.id, d.lifecycle.lease.as_ref().unwrap().id));
        let leases: Vec<_> = leases.collect();
        let request = RenewRequest::new(worker(), leases.clone(), LEASE);
        store.renew(request).await.unwrap();
        let settlement = |(document, lease_id)| Settlement {
            document,
            lease_id,
            outcome: Outcome::Complete,
        };
        let settlements = leases.into_iter().map(settlement).collect();
        store.settle(settlements).await.unwrap();
        for new in [&new_tenant, &new_queue] {
            let mut another = new.clone();
            another.id = kbqueue_core::DocumentId::new();
            another.dedupe = Dedupe::Key("another".to_owned());
            assert!(store.enqueue(vec![another]).await.unwrap()[0].created);
            let queue = new.queue.clone();
            let settings = QueueSettings {
                paused: false,
                ..QueueSettings::default()
            };
            store.configure(&queue, settings).await.unwrap();
            assert_eq!(store.stats(&queue).await.unwrap().counts.queued, 1);
        }
        store.control(ids[0], Control::Delete).await.unwrap();
        store.reap(CrashLimits::default(), 10).await.unwrap();
        // Folds the counts.
        assert_eq!(store.purge(10).await.unwrap(), 1);
        let listed = store.documents(DocumentQuery::default()).await.unwrap();
        assert_eq!(listed.len(), 4);
        let counts = store.stats(&QueueName::default()).await.unwrap().counts;
        assert_eq!((counts.queued, counts.completed), (1, 2));
    })
    .await;
    tx.commit().await.unwrap();
    let counts = store.stats(&QueueName::default()).await.unwrap().counts;
    assert_eq!((counts.queued, counts.completed), (3, 2));
    let mut all = request(9);
    all.worker.queues.push(new_queue.queue);
    assert_eq!(store.claim(all).await.unwrap().documents.len(), 5);
}

/// Who enqueues the same key meanwhile waits for the answer, which nobody knows before the commit.
#[tokio::test]
async fn the_same_key_in_two_transactions_is_one_document() {
    let place = Place::new();
    let store = place.store().await;
    let keyed = || {
        let mut keyed = document("a.pdf");
        keyed.dedupe = Dedupe::Key("k".to_owned());
        keyed
    };
    for commits in [false, true] {
        let mut host = place.connection().await;
        let mut tx = host.begin().await.unwrap();
        let (first, second) = (keyed(), keyed());
        store
            .enqueue_in(&mut tx, vec![first.clone()])
            .await
            .unwrap();
        let other = store.clone();
        let asked = second.clone();
        let waiting = tokio::spawn(async move { other.enqueue(vec![asked]).await.unwrap()[0] });
        wait_for_a_waiter(&place).await;
        if commits {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
        let answer = soon(waiting).await.unwrap();
        let stands = if commits { first.id } else { second.id };
        assert_eq!((answer.id, answer.created), (stands, !commits));
        assert_eq!(queued(&store).await, 1);
        store.control(stands, Control::Delete).await.unwrap();
    }
}

/// A database whose sessions wait for locks for a short time only: who has to wait longer begins again.
#[tokio::test]
async fn a_lock_timeout_of_the_database_reaches_no_caller() {
    let place = Place::new();
    let url = format!(
        "{}?options[lock_timeout]=1s",
        kbqueue_tests::postgres::shared()
    );
    let options = PostgresOptions::parse(&url).unwrap();
    let options = options.schema(place.schema()).unwrap();
    let store = PostgresStore::open(options).await.unwrap();
    let id = stored(&store, document("a.pdf")).await.id;
    let mut host = place.connection().await;
    let mut tx = host.begin().await.unwrap();
    let lock = "select 1 from kbqueue.documents where id = $1 for update";
    let lock = sqlx::query(place.sql(lock)).bind(id.0);
    lock.execute(&mut *tx).await.unwrap();
    let cancelling = tokio::spawn({
        let store = store.clone();
        async move { store.control(id, Control::Cancel).await }
    });
    let first = wait_for_a_waiter(&place).await;
    // Another transaction of ours waits: the first one gave up.
    soon(async { while wait_for_a_waiter(&place).await == first {} }).await;
    tx.commit().await.unwrap();
    let cancelled = soon(cancelling).await.unwrap().unwrap();
    assert_eq!(cancelled.lifecycle.state, State::Cancelled);
}

/// The host locks rows of ours in another order, and the server ends one of the two: ours, which begins again.
#[tokio::test]
async fn a_deadlock_with_the_host_reaches_no_caller() {
    let place = Place::new();
    // Long enough for the host to come to its second lock; then our session finds out.
    let url = format!(
        "{}?options[deadlock_timeout]=3s",
        kbqueue_tests::postgres::shared()
    );
    let options = PostgresOptions::parse(&url).unwrap();
    let options = options.schema(place.schema()).unwrap();
    let store = PostgresStore::open(options).await.unwrap();
    for _ in 0..2 {
        stored(&store, document("a.pdf")).await;
    }
    let mut held = claim(&store, 2).await.documents;
    held.sort_by_key(|document| document.id);
    let mut host = place.connection().await;
    let mut tx = host.begin().await.unwrap();
    sqlx::query("set local deadlock_timeout = '1h'")
        .execute(&mut *tx)
        .await
        .unwrap();
    let lock = "select 1 from kbqueue.documents where id = $1 for update";
    let second = sqlx::query(place.sql(lock)).bind(held[1].id.0);
    second.execute(&mut *tx).await.unwrap();
    let settlements = held.iter().map(|held| Settlement {
        document: held.id,
        lease_id: held.lifecycle.lease.as_ref().unwrap().id,
        outcome: Outcome::Complete,
    });
    let settlements: Vec<_> = settlements.collect();
    let settling = tokio::spawn({
        let store = store.clone();
        async move { store.settle(settlements).await }
    });
    wait_for_a_waiter(&place).await;
    let first = sqlx::query(place.sql(lock)).bind(held[0].id.0);
    soon(first.execute(&mut *tx)).await.unwrap();
    tx.commit().await.unwrap();
    let settled = soon(settling).await.unwrap().unwrap();
    assert_eq!(settled, [Settled::In(State::Completed); 2]);
    let counts = store.stats(&QueueName::default()).await.unwrap().counts;
    assert_eq!((counts.completed, counts.total()), (2, 2));
}

/// Until a session of this database's waits for a lock, on something of this place; answers with the start of its
/// transaction.
pub(crate) async fn wait_for_a_waiter(place: &Place) -> String {
    let mut conn = place.connection().await;
    let waiters = "select xact_start::text from pg_stat_activity
        where wait_event_type = 'Lock' and query like '%' || $1 || '.%' and pid <> pg_backend_pid()
        order by xact_start limit 1";
    soon(async {
        loop {
            let waiter: Option<String> = sqlx::query_scalar(waiters)
                .bind(place.schema())
                .fetch_optional(&mut conn)
                .await
                .unwrap();
            if let Some(start) = waiter {
                return start;
            }
        }
    })
    .await
}
