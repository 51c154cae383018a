//! Taking documents in, and recognising those that are there already.

use futures::future::join_all;
use kbqueue_core::document::NewDocument;
use kbqueue_core::lifecycle::Lifecycle;
use kbqueue_core::state::Outcome;
use kbqueue_core::store::{Change, Control, Settlement};
use kbqueue_core::{
    ChunkOptions, Dedupe, DocumentId, Password, Properties, SecretKey, State, Store, StoreExt,
    TestClock,
};
use serde_json::json;

use crate::support::*;

/// What was enqueued is there as it was given, queued, and nothing has happened to it yet.
pub async fn an_enqueued_document_comes_back_whole(store: &dyn Store, clock: &TestClock) {
    let chunking = ChunkOptions::new(10, 20, 5).expect("valid sizes");
    let new = with(document(), |d| {
        d.queue = queue("Invoices.2026_a-b");
        d.filename = "Zażółć \"gęślą\" %jaźń_\\ 日本 🦀.pdf".to_owned();
        d.media_type = "text/plain; charset=utf-8".to_owned();
        d.tenant = Some("O'Neill & ключ".to_owned());
        d.priority = i16::MIN;
        d.available_at = Some(clock.now() + seconds(90));
        d.dedupe = Dedupe::Key("an 'order' № 1".to_owned());
        d.chunking = Some(chunking);
        d.metadata =
            json!({"a": [1, -2.5, true, null, {"b": "line\nbreak"}], "ü": "", "big": u64::MAX});
    });
    let id = put(store, new.clone()).await;
    let stored = find(store, id).await;
    assert_eq!(stored.id, new.id);
    assert_eq!(stored.queue, new.queue);
    assert_eq!(stored.blob, new.blob);
    assert_eq!(stored.filename, new.filename);
    assert_eq!(stored.media_type, new.media_type);
    assert_eq!(stored.tenant, new.tenant);
    assert_eq!(stored.priority, new.priority);
    assert_eq!(stored.chunking, new.chunking);
    assert_eq!(stored.metadata, new.metadata);
    assert_eq!(stored.created_at, clock.now());
    assert_eq!(stored.lifecycle, Lifecycle::new(clock.now() + seconds(90)));
    assert_eq!(stored.properties, Properties::default());
    assert_eq!((stored.failed_pages, stored.attempts), (vec![], vec![]));
}

/// What was left out stays out: no tenant is not a tenant without a name, no metadata is null.
pub async fn a_bare_document_stays_bare(store: &dyn Store, clock: &TestClock) {
    let stored = find(store, add(store).await).await;
    assert_eq!(
        (stored.tenant, stored.chunking, stored.password),
        (None, None, None)
    );
    assert_eq!((stored.metadata, stored.priority), (json!(null), 0));
    assert_eq!(stored.lifecycle, Lifecycle::new(clock.now()));
}

/// What opens a document is kept as it was sealed, goes to each worker that claims it, whatever was
/// changed meanwhile, and opens for that document alone.
pub async fn a_sealed_password_comes_with_every_claim(store: &dyn Store, _: &TestClock) {
    let key = SecretKey::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").expect("a key");
    let password = Password::new("pąssword 🔑".to_owned()).expect("a password");
    let new = with(document(), |d| {
        d.password = Some(password.seal(&key, d.id));
    });
    let id = put(store, new.clone()).await;
    assert_eq!(find(store, id).await.password, new.password);
    let change = Change {
        metadata: Some(json!({"seen": true})),
        ..Change::default()
    };
    control(store, id, Control::Change(change)).await;
    for _ in 0..2 {
        let claims = claim(store, request("w", 1)).await;
        let claimed = &claims.documents[0];
        assert_eq!(claimed.id, id);
        let opened = claimed.open_password(Some(&key)).expect("it opens");
        assert_eq!(opened, Some(password.clone()));
        let lease = claimed.lifecycle.lease.as_ref().expect("it is claimed");
        let settlement = Settlement {
            document: id,
            lease_id: lease.id,
            outcome: Outcome::Release,
        };
        store.settle(vec![settlement]).await.expect("it settles");
    }
    // Without its password, the same content is another document.
    let bare = with(new, |d| (d.id, d.password) = (DocumentId::new(), None));
    put(store, bare).await;
}

/// REGRESSIONS 31: an enqueue whose answer got lost is repeated under the same id: the same document
/// answers, as it is by now, and nothing is made.
pub async fn an_id_that_is_there_is_not_made_again(store: &dyn Store, _: &TestClock) {
    let mut new = document();
    new.dedupe = Dedupe::Off;
    let id = put(store, new.clone()).await;
    let holder = Holder::claim(store, "worker").await;
    let before = find(store, id).await;
    new.filename = "another.pdf".to_owned();
    let answer = store
        .enqueue_one(new.clone())
        .await
        .expect("it is answered");
    assert_eq!(
        (answer.id, answer.state, answer.created),
        (id, State::Processing, false)
    );
    assert_eq!(find(store, id).await, before, "nothing changed");
    holder
        .settle_to(failure(false, 0, seconds(0)), State::Failed)
        .await;
    let answer = store
        .enqueue_one(new.clone())
        .await
        .expect("it is answered");
    assert_eq!((answer.state, answer.created), (State::Failed, false));
    let counts = store.stats(&new.queue).await.expect("stats").counts;
    assert_eq!((counts.failed, counts.total()), (1, 1));
}

/// A key stands for its document while that is queued, processing or completed, whatever the content.
pub async fn the_same_key_answers_with_the_same_document(store: &dyn Store, _: &TestClock) {
    let order = || keyed("order 1");
    let id = put(store, order()).await;
    same(store, order(), id, State::Queued).await;
    let holder = Holder::claim(store, "worker").await;
    same(store, order(), id, State::Processing).await;
    holder.settle_to(Outcome::Complete, State::Completed).await;
    same(store, order(), id, State::Completed).await;
    put(store, keyed("order 2")).await;
}

async fn same(store: &dyn Store, new: NewDocument, id: DocumentId, state: State) {
    let given = new.id;
    let answer = store.enqueue_one(new).await.expect("it is answered");
    assert_eq!(
        (answer.id, answer.state, answer.created),
        (id, state, false)
    );
    let made = store.document(given).await.expect("it is answered");
    assert_eq!(made, None, "no document is made");
}

/// The same bytes are the same document, whatever their name and priority; not so for another tenant,
/// with other settings, in another queue, or where a key stands for it.
pub async fn the_same_content_answers_with_the_same_document(store: &dyn Store, _: &TestClock) {
    let first = document();
    let again = || with(first.clone(), |d| d.id = DocumentId::new());
    let id = put(store, first.clone()).await;
    let renamed = with(again(), |d| {
        d.filename = "another.pdf".to_owned();
        d.priority = 5;
        d.metadata = json!(1);
    });
    same(store, renamed, id, State::Queued).await;
    for tenant in ["", "a"] {
        let others = with(again(), |d| d.tenant = Some(tenant.to_owned()));
        put(store, others).await;
    }
    let cut = with(again(), |d| d.chunking = Some(ChunkOptions::default()));
    put(store, cut).await;
    let elsewhere = with(again(), |d| d.queue = queue("elsewhere"));
    put(store, elsewhere).await;
    let by_key = with(again(), |d| d.dedupe = Dedupe::Key("key".to_owned()));
    put(store, by_key).await;
    let by_key = with(again(), |d| {
        d.queue = queue("elsewhere");
        d.dedupe = Dedupe::Key("key".to_owned());
    });
    put(store, by_key).await;
}

/// Who wants the same content twice gets it, and such a document stands for nothing.
pub async fn dedupe_can_be_off(store: &dyn Store, _: &TestClock) {
    let first = with(document(), |d| d.dedupe = Dedupe::Off);
    put(store, first.clone()).await;
    let second = with(first.clone(), |d| d.id = DocumentId::new());
    put(store, second).await;
    let third = with(first, |d| {
        d.id = DocumentId::new();
        d.dedupe = Dedupe::Content;
    });
    put(store, third).await;
}

/// A document that failed, was cancelled or was deleted stands in nobody's way.
pub async fn a_key_is_free_again_when_its_document_came_to_nothing(
    store: &dyn Store,
    _: &TestClock,
) {
    let order = || keyed("order 1");
    bring_to(store, order(), State::Failed, 0).await;
    bring_to(store, order(), State::Cancelled, 0).await;
    let cancelled_while_queued = put(store, order()).await;
    control(store, cancelled_while_queued, Control::Cancel).await;
    let deleted = bring_to(store, order(), State::Completed, 0).await;
    control(store, deleted, Control::Delete).await;
    let last = put(store, order()).await;
    same(store, order(), last, State::Queued).await;
}

/// REGRESSIONS 13: within one call, too, one key makes one document; answers come in the given order.
pub async fn one_batch_is_compared_with_itself(store: &dyn Store, _: &TestClock) {
    let (a, b, a_again, other) = (keyed("a"), keyed("b"), keyed("a"), document());
    let batch = vec![a.clone(), b.clone(), a_again, other.clone(), b.clone()];
    let answers = store.enqueue(batch).await.expect("an enqueue succeeds");
    let answers: Vec<_> = answers.iter().map(|e| (e.id, e.created)).collect();
    assert_eq!(
        answers,
        [
            (a.id, true),
            (b.id, true),
            (a.id, false),
            (other.id, true),
            (b.id, false)
        ]
    );
    let counts = store.stats(&a.queue).await.expect("stats").counts;
    assert_eq!((counts.queued, counts.total()), (3, 3));
}

/// REGRESSIONS 13: callers that enqueue one key at the same time, singly and in bulk, all get the one
/// document, and none of them an error.
pub async fn callers_at_once_make_one_document(store: &dyn Store, _: &TestClock) {
    let order = || keyed("order 1");
    let calls = (0..12).map(|n| {
        let batch = match n % 3 {
            0 => vec![document(), order(), document()],
            _ => vec![order()],
        };
        store.enqueue(batch)
    });
    let answers = join_all(calls).await;
    let answers = answers
        .into_iter()
        .map(|a| a.expect("nobody gets an error"));
    let ofs: Vec<_> = answers
        .map(|batch| if batch.len() == 3 { batch[1] } else { batch[0] })
        .collect();
    assert_eq!(ofs.iter().filter(|answer| answer.created).count(), 1);
    assert!(ofs.iter().all(|answer| answer.id == ofs[0].id), "{ofs:?}");
    let counts = store.stats(&document().queue).await.expect("stats").counts;
    assert_eq!(counts.queued, 1 + 8, "the one and those beside it");
}

/// Nothing is enqueued by an empty call, and many documents by one.
pub async fn batches_may_be_empty_or_large(store: &dyn Store, _: &TestClock) {
    assert_eq!(store.enqueue(vec![]).await.expect("it is answered"), []);
    let batch: Vec<_> = (0..1000).map(|_| document()).collect();
    let ids: Vec<_> = batch.iter().map(|new| new.id).collect();
    let answers = store.enqueue(batch).await.expect("an enqueue succeeds");
    let answered: Vec<_> = answers.iter().map(|answer| answer.id).collect();
    assert_eq!(answered, ids);
    assert!(answers.iter().all(|answer| answer.created));
    let counts = store.stats(&document().queue).await.expect("stats").counts;
    assert_eq!(counts.queued, 1000);
}
