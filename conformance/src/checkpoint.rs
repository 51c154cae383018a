//! Outputs, progress and cursor in one write; and renewals, which are the smaller half of it.

use std::collections::BTreeMap;
use std::time::Duration;

use kbqueue_core::output::{FailedPage, PageSource, Provenance};
use kbqueue_core::state::{CrashLimits, Outcome, Refusal};
use kbqueue_core::store::{Control, Directive, RenewRequest};
use kbqueue_core::{
    BlobRef, Chunk, DocumentId, Image, LeaseId, Page, Progress, Properties, QueueName, State,
    Store, StoreError, TestClock,
};

use crate::support::*;

/// REGRESSIONS 16: a checkpoint commits outputs, cursor and progress and renews the lease, in one step
/// that is no transition.
pub async fn a_checkpoint_commits_everything_at_once(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    let mut holder = Holder::claim(store, "worker").await;
    let mut expected = holder.document().await;
    clock.advance(seconds(20));
    let checkpoint = holder.next();
    expected.lifecycle.cursor = checkpoint.cursor;
    expected.lifecycle.progress = checkpoint.progress;
    if let Some(lease) = &mut expected.lifecycle.lease {
        lease.expires_at = clock.now() + LEASE;
    }
    assert_eq!(holder.send(checkpoint).await, Directive::Continue);
    assert_eq!(holder.document().await, expected);
    assert_eq!(outputs(store, id).await, Outputs::of_commits(1));
    holder.commit_times(3).await;
    assert_eq!(outputs(store, id).await, Outputs::of_commits(4));
}

/// REGRESSIONS 31: a checkpoint whose answer got lost is sent again: the answer is the same, and there
/// is no second effect, whatever the repetition carries.
pub async fn a_repeated_checkpoint_changes_nothing(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    let mut holder = Holder::claim(store, "worker").await;
    let mut checkpoint = holder.next();
    checkpoint.pages = vec![failed_page(1, "no ink")];
    assert_eq!(holder.send(checkpoint.clone()).await, Directive::Continue);
    let (document, stored) = (holder.document().await, outputs(store, id).await);
    clock.advance(seconds(1));
    assert_eq!(holder.send(checkpoint.clone()).await, Directive::Continue);
    assert_eq!(holder.document().await, document);
    checkpoint.pages.push(page(2));
    checkpoint.chunks = vec![chunk(7)];
    checkpoint.progress.percent = 90;
    assert_eq!(holder.send(checkpoint.clone()).await, Directive::Continue);
    assert_eq!(holder.document().await, document);
    assert_eq!(outputs(store, id).await, stored);
    control(store, id, Control::Cancel).await;
    assert_eq!(holder.send(checkpoint).await, Directive::Cancel);
}

/// A checkpoint that skips one, or comes from the past, is a bug of its worker: an error, and nothing
/// is written.
pub async fn a_checkpoint_out_of_order_is_refused(store: &dyn Store, _: &TestClock) {
    let id = add(store).await;
    let mut holder = Holder::claim(store, "worker").await;
    holder.commit_times(2).await;
    let before = holder.document().await;
    for got in [0, 1, 4, u64::from(u32::MAX)] {
        let mut checkpoint = holder.next();
        checkpoint.cursor.number = got;
        let refused = error(store.checkpoint(checkpoint).await);
        let expected = Refusal::OutOfOrder { last: 2, got };
        assert!(
            matches!(refused, StoreError::Refused { id: of, refusal } if of == id && refusal == expected),
            "{refused}"
        );
    }
    assert_eq!(holder.document().await, before);
    assert_eq!(outputs(store, id).await, Outputs::of_commits(2));
}

/// REGRESSIONS 15, 16: whoever claims next goes on at the last checkpoint, with nothing lost and
/// nothing doubled.
pub async fn the_next_worker_goes_on_at_the_last_checkpoint(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    let mut holder = Holder::claim(store, "dies").await;
    holder.commit_times(2).await;
    outlive_leases(clock);
    reap(store).await;
    let mut next = Holder::claim(store, "stops").await;
    assert_eq!(next.cursor, holder.cursor);
    next.commit_times(1).await;
    next.settle_to(Outcome::Release, State::Queued).await;
    let mut last = Holder::claim(store, "finishes").await;
    assert_eq!(last.cursor, next.cursor);
    last.commit_times(2).await;
    last.settle_to(Outcome::Complete, State::Completed).await;
    assert_eq!(outputs(store, id).await, Outputs::of_commits(5));
    assert_eq!(life(store, id).await.retry_count, 0);
}

/// REGRESSIONS 17: progress never goes backward within a generation, over retries and resumes, and is
/// 100 when the document is completed and not before.
pub async fn progress_never_goes_backward(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    let report = async |holder: &mut Holder, percent: u8| {
        let mut checkpoint = holder.next();
        checkpoint.progress.percent = percent;
        assert_eq!(holder.send(checkpoint).await, Directive::Continue);
        holder.life().await.progress.percent
    };
    let mut holder = Holder::claim(store, "a").await;
    assert_eq!(report(&mut holder, 40).await, 40);
    assert_eq!(report(&mut holder, 30).await, 40);
    holder
        .settle_to(failure(true, 3, seconds(0)), State::Queued)
        .await;
    let mut holder = Holder::claim(store, "b").await;
    assert_eq!(report(&mut holder, 0).await, 40);
    assert_eq!(report(&mut holder, 250).await, 99);
    outlive_leases(clock);
    reap(store).await;
    let mut holder = Holder::claim(store, "c").await;
    assert_eq!(report(&mut holder, 1).await, 99);
    let progress = holder.life().await.progress;
    assert_eq!(
        progress.current_page, holder.cursor.pages,
        "pages are told as they are"
    );
    holder.settle_to(Outcome::Complete, State::Completed).await;
    let progress = life(store, id).await.progress;
    assert_eq!((progress.percent, progress.eta_ms), (100, Some(0)));
    assert_eq!(progress.total_chunks, progress.current_chunk);
}

/// REGRESSIONS 27: pages that could not be read are named on the document, in order, over all attempts
/// of a generation; a new one begins without.
pub async fn failed_pages_are_named(store: &dyn Store, _: &TestClock) {
    let id = add(store).await;
    let mut holder = Holder::claim(store, "a").await;
    let mut first = holder.next();
    first.pages = vec![page(1), failed_page(2, "torn"), failed_page(3, "")];
    first.cursor.pages = 3;
    holder.send(first).await;
    holder.settle_to(Outcome::Release, State::Queued).await;
    let mut holder = Holder::claim(store, "b").await;
    let mut second = holder.next();
    second.pages = vec![failed_page(4, "\"wet\"")];
    holder.send(second).await;
    holder.settle_to(Outcome::Complete, State::Completed).await;
    let failed = |page, cause: &str| FailedPage {
        page,
        cause: cause.to_owned(),
    };
    let named = [failed(2, "torn"), failed(3, ""), failed(4, "\"wet\"")];
    assert_eq!(find(store, id).await.failed_pages, named);
    let page_three = &outputs(store, id).await.pages[2];
    assert_eq!(
        page_three.failure.as_deref(),
        Some(""),
        "failed without a word"
    );
    let rechunked = control(store, id, Control::Rechunk(Default::default())).await;
    assert_eq!(rechunked.failed_pages, named, "its pages are the same");
    let holder = Holder::claim(store, "c").await;
    holder.settle_to(Outcome::Complete, State::Completed).await;
    let anew = control(store, id, FROM_SCRATCH).await;
    assert_eq!(anew.failed_pages, []);
    assert_eq!(find(store, id).await.failed_pages, []);
}

/// What a document says about itself is replaced by a checkpoint that brings it, and left alone by
/// others.
pub async fn properties_are_replaced_when_given(store: &dyn Store, _: &TestClock) {
    let id = add(store).await;
    let properties = |pairs: &[(&str, &str)]| {
        let owned = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Properties(owned.collect::<BTreeMap<_, _>>())
    };
    let first = properties(&[("title", "Å \"title\""), ("author", "")]);
    let second = properties(&[("title", "another")]);
    let mut holder = Holder::claim(store, "worker").await;
    for (given, expected) in [
        (None, Properties::default()),
        (Some(first.clone()), first.clone()),
        (None, first),
        (Some(second.clone()), second),
    ] {
        let mut checkpoint = holder.next();
        checkpoint.properties = given;
        holder.send(checkpoint).await;
        assert_eq!(find(store, id).await.properties, expected);
    }
}

/// A checkpoint that moves the cursor forgives the crashes before it; one that does not, does not.
pub async fn only_progress_forgives_crashes(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    for _ in 0..2 {
        Holder::claim(store, "worker").await;
        outlive_leases(clock);
        reap(store).await;
    }
    let mut holder = Holder::claim(store, "worker").await;
    let crashes = async || {
        let life = life(store, id).await;
        (life.crash_count, life.crashes_total)
    };
    holder.send(holder.still()).await;
    assert_eq!(crashes().await, (2, 2));
    holder.commit_times(1).await;
    assert_eq!(crashes().await, (0, 2));
}

/// A checkpoint's answer carries a cancel to the worker, and what it brought is kept.
pub async fn a_checkpoint_hears_of_a_cancel(store: &dyn Store, _: &TestClock) {
    let id = add(store).await;
    let mut holder = Holder::claim(store, "worker").await;
    holder.commit_times(1).await;
    control(store, id, Control::Cancel).await;
    assert_eq!(holder.commit().await, Directive::Cancel);
    assert_eq!(holder.renew().await, Directive::Cancel);
    assert_eq!(outputs(store, id).await, Outputs::of_commits(2));
}

/// Every field of a page, a chunk and an image comes back as it was committed.
pub async fn outputs_come_back_whole(store: &dyn Store, _: &TestClock) {
    let text = "naïve \"quotes\" 'x' \\ %_ \n\n tab\t 日本語 🦀 e\u{301} \u{200d}";
    let blob = |digit: &str, size_bytes| BlobRef {
        sha256: digit.repeat(64),
        size_bytes,
    };
    let expected = Outputs {
        pages: vec![
            Page {
                number: 1,
                label: Some("iv".to_owned()),
                section: Some("§ 1".to_owned()),
                provenance: Provenance {
                    source: PageSource::Mixed,
                    reason: "few_characters".to_owned(),
                    confidence: Some(87.25),
                },
                start_offset: 0,
                end_offset: 5_000_000_000,
                text: text.to_owned(),
                failure: None,
            },
            Page {
                label: Some(String::new()),
                ..failed_page(2, text)
            },
        ],
        chunks: vec![Chunk {
            ordinal: 0,
            text: text.to_owned(),
            first_page: 1,
            last_page: u32::MAX / 2,
            start_offset: 5_000_000_000,
            end_offset: 5_000_000_001,
            section: Some(text.to_owned()),
        }],
        images: vec![
            Image {
                ordinal: 0,
                page: 1,
                media_type: "image/jpeg".to_owned(),
                width: 0,
                height: 100_000,
                bbox: [-0.1, 1e-3, 1_234.567_8, 3.0e4],
                caption: Some(text.to_owned()),
                blob: blob("a", 5_000_000_000),
                thumbnail: Some(blob("b", 0)),
            },
            image(1),
        ],
    };
    let id = add(store).await;
    let mut holder = Holder::claim(store, "worker").await;
    let mut checkpoint = holder.next();
    checkpoint.pages = expected.pages.clone();
    checkpoint.chunks = expected.chunks.clone();
    checkpoint.images = expected.images.clone();
    checkpoint.cursor.chunk_start = 5_000_000_000;
    checkpoint.cursor.chunk_end = 5_000_000_001;
    checkpoint.cursor.pages_done = true;
    let (cursor, progress) = (checkpoint.cursor, checkpoint.progress);
    holder.send(checkpoint).await;
    assert_eq!(outputs(store, id).await, expected);
    let life = life(store, id).await;
    assert_eq!((life.cursor, life.progress), (cursor, progress));
}

/// A checkpoint may be large, and need not carry anything.
pub async fn checkpoints_may_be_empty_or_large(store: &dyn Store, _: &TestClock) {
    let id = add(store).await;
    let mut holder = Holder::claim(store, "worker").await;
    assert_eq!(holder.send(holder.still()).await, Directive::Continue);
    assert_eq!(life(store, id).await.progress, Progress::default());
    let mut large = holder.next();
    large.pages = (1..=700).map(page).collect();
    large.images = (0..700).map(image).collect();
    large.chunks = (0..700)
        .map(|ordinal| Chunk {
            text: "word ".repeat(400),
            ..chunk(ordinal)
        })
        .collect();
    (large.cursor.pages, large.cursor.chunks, large.cursor.images) = (700, 700, 700);
    let sent = large.clone();
    assert_eq!(holder.send(large).await, Directive::Continue);
    let stored = outputs(store, id).await;
    assert_eq!(stored.pages, sent.pages);
    assert_eq!(stored.chunks, sent.chunks);
    assert_eq!(stored.images, sent.images);
}

/// REGRESSIONS 7: a document whose worker renews is never taken from it, however long it takes.
pub async fn a_healthy_worker_keeps_its_document_for_hours(store: &dyn Store, clock: &TestClock) {
    let id = add(store).await;
    let mut holder = Holder::claim(store, "worker").await;
    let before = holder.life().await;
    for _ in 0..180 {
        clock.advance(seconds(40));
        assert_eq!(holder.renew().await, Directive::Continue);
        assert_eq!(reap(store).await, []);
    }
    let mut expected = before.clone();
    if let Some(lease) = &mut expected.lease {
        lease.expires_at = clock.now() + LEASE;
    }
    assert_eq!(holder.life().await, expected, "a renewal is no transition");
    holder.commit_times(1).await;
    holder.settle_to(Outcome::Complete, State::Completed).await;
    assert_eq!(life(store, id).await.attempt, 1);
}

/// One call renews all of a worker's leases, and answers for each in the given order.
pub async fn renewals_answer_in_the_given_order(store: &dyn Store, clock: &TestClock) {
    for _ in 0..3 {
        add(store).await;
    }
    let own = worker("worker");
    let claims = claim(store, request_of(own.clone(), 3)).await;
    let held: Vec<_> = claims
        .documents
        .iter()
        .map(|document| Holder::of(store, document))
        .collect();
    held[1].settle_to(Outcome::Release, State::Queued).await;
    control(store, held[2].id, Control::Cancel).await;
    clock.advance(seconds(10));
    let lease = |holder: &Holder| (holder.id, holder.lease_id);
    let leases = vec![
        lease(&held[2]),
        (DocumentId::new(), LeaseId::random()),
        lease(&held[1]),
        lease(&held[0]),
    ];
    let request = RenewRequest::new(own.clone(), leases, LEASE);
    let answers = store.renew(request).await.expect("a renewal succeeds");
    use Directive::{Cancel, Continue, LeaseLost};
    assert_eq!(answers, [Cancel, LeaseLost, LeaseLost, Continue]);
    for holder in [&held[0], &held[2]] {
        let expires_at = holder.life().await.lease.map(|lease| lease.expires_at);
        assert_eq!(expires_at, Some(clock.now() + LEASE));
    }
    assert_eq!(held[1].life().await.lease, None);
    let nothing = RenewRequest::new(own, vec![], LEASE);
    assert_eq!(store.renew(nothing).await.expect("it is answered"), []);
}

/// REGRESSIONS 6: a worker is its id, not its name: of two with one name, each keeps its own documents,
/// and the dead one's are taken back.
pub async fn workers_of_one_name_are_two(store: &dyn Store, clock: &TestClock) {
    for _ in 0..2 {
        add(store).await;
    }
    let dies = Holder::claim(store, "worker").await;
    let lives = Holder::claim(store, "worker").await;
    for worker in [worker("worker"), worker("worker")] {
        let sign = RenewRequest::new(worker, vec![], LEASE);
        store.renew(sign).await.expect("a renewal succeeds");
    }
    let default = QueueName::default();
    let live = store.stats(&default).await.expect("stats").live_workers;
    assert_eq!(live, 2);
    clock.advance(LEASE / 2);
    assert_eq!(lives.renew().await, Directive::Continue);
    clock.advance(LEASE / 2);
    assert_eq!(reap(store).await, [(dies.id, State::Queued)]);
    assert_eq!(lives.renew().await, Directive::Continue);
}

/// A worker counts as live in its queues from its first sign of life until that runs out, or until it
/// says that it goes.
pub async fn a_worker_is_live_until_its_word_runs_out(store: &dyn Store, clock: &TestClock) {
    let (one, two) = (queue("one"), queue("two"));
    let live = async || {
        let one = store.stats(&one).await.expect("stats").live_workers;
        let two = store.stats(&two).await.expect("stats").live_workers;
        (one, two)
    };
    let both = worker_of("both", &[one.clone(), two.clone()]);
    let single = worker_of("single", std::slice::from_ref(&two));
    let renew = async |worker: &kbqueue_core::store::Worker, lease| {
        let sign = RenewRequest::new(worker.clone(), vec![], lease);
        store.renew(sign).await.expect("a renewal succeeds");
    };
    assert_eq!(live().await, (0, 0));
    renew(&both, seconds(60)).await;
    renew(&single, seconds(10)).await;
    renew(&single, seconds(20)).await;
    assert_eq!(
        live().await,
        (1, 2),
        "a worker that renews is no second one"
    );
    clock.advance(seconds(20) - Duration::from_micros(1));
    assert_eq!(live().await, (1, 2));
    clock.advance(Duration::from_micros(1));
    assert_eq!(live().await, (1, 1));
    store.depart(both.id).await.expect("it may go");
    assert_eq!(live().await, (0, 0));
    store.depart(both.id).await.expect("and say so twice");
    renew(&single, seconds(10)).await;
    assert_eq!(live().await, (0, 1), "it was only slow");
}

/// A worker that goes keeps its leases until they are settled or run out.
pub async fn a_departed_worker_keeps_its_leases(store: &dyn Store, clock: &TestClock) {
    for _ in 0..2 {
        add(store).await;
    }
    let own = worker("worker");
    let claims = claim(store, request_of(own.clone(), 2)).await;
    let held: Vec<_> = claims
        .documents
        .iter()
        .map(|document| Holder::of(store, document))
        .collect();
    store.depart(own.id).await.expect("it may go");
    assert_eq!(state(store, held[0].id).await, State::Processing);
    held[0].settle_to(Outcome::Release, State::Queued).await;
    outlive_leases(clock);
    let limits = CrashLimits::default();
    assert_eq!(reap_by(store, limits).await, [(held[1].id, State::Queued)]);
}
