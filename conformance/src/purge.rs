//! What is removed for good.

use kbqueue_core::state::Outcome;
use kbqueue_core::store::Control;
use kbqueue_core::{ChunkOptions, State, Store, StoreExt, TestClock};

use crate::support::*;

async fn purge(store: &dyn Store, limit: usize) -> usize {
    store.purge(limit).await.expect("purging succeeds")
}

/// A deleted document goes with all its outputs, in steps of at most the limit; then its id is unknown.
pub async fn deleted_documents_go_in_small_steps(store: &dyn Store, _: &TestClock) {
    let new = document();
    let id = bring_to(store, new.clone(), State::Completed, 3).await;
    let kept = bring_to(store, document(), State::Completed, 2).await;
    assert_eq!(purge(store, 100).await, 0, "nothing is superfluous yet");
    control(store, id, Control::Delete).await;
    // Three pages, three chunks, three images, and the document itself.
    assert_eq!(purge(store, 0).await, 0);
    assert_eq!(purge(store, 4).await, 4);
    assert_eq!(purge(store, 4).await, 4);
    assert_eq!(
        purge(store, 4).await,
        2,
        "fewer than asked for: nothing is left"
    );
    assert_eq!(purge(store, 4).await, 0);
    assert_eq!(outputs(store, kept).await, Outputs::of_commits(2));
    let answer = store.enqueue_one(new).await.expect("an enqueue succeeds");
    assert!(answer.created, "nothing remembers it");
    assert_eq!(outputs(store, id).await, Outputs::none());
}

/// Nothing goes that a reader sees, or that the worker needs to go on.
pub async fn what_readers_and_workers_need_stays(store: &dyn Store, _: &TestClock) {
    let completed = bring_to(store, document(), State::Completed, 3).await;
    control(store, completed, FROM_SCRATCH).await;
    let mut holder = Holder::claim(store, "worker").await;
    holder.commit_times(2).await;
    let failed = bring_to(store, document(), State::Failed, 2).await;
    assert_eq!(purge(store, 100).await, 0);
    assert_eq!(outputs(store, completed).await, Outputs::of_commits(3));
    let growing = outputs_of(store, completed, Some(2), Some(2)).await;
    assert_eq!(growing, Outputs::of_commits(2));
    assert_eq!(outputs(store, failed).await, Outputs::of_commits(2));
}

/// A generation goes when a newer one is completed, and one that was never completed when another
/// takes over.
pub async fn superseded_generations_go(store: &dyn Store, _: &TestClock) {
    let id = bring_to(store, document(), State::Completed, 3).await;
    control(store, id, FROM_SCRATCH).await;
    let mut abandoned = Holder::claim(store, "worker").await;
    abandoned.commit_times(1).await;
    let failure = failure(false, 0, seconds(0));
    abandoned.settle_to(failure, State::Failed).await;
    assert_eq!(purge(store, 100).await, 0);
    control(store, id, FROM_SCRATCH).await;
    assert_eq!(purge(store, 100).await, 3, "what was abandoned");
    assert_eq!(outputs(store, id).await, Outputs::of_commits(3));
    let mut holder = Holder::claim(store, "worker").await;
    holder.commit_times(2).await;
    holder.settle_to(Outcome::Complete, State::Completed).await;
    assert_eq!(purge(store, 5).await, 5);
    assert_eq!(purge(store, 5).await, 4, "what was completed before");
    assert_eq!(outputs(store, id).await, Outputs::of_commits(2));
    let old = outputs_of(store, id, Some(1), Some(1)).await;
    assert_eq!(old, Outputs::none());
}

/// After a rechunk the old chunks go, and the pages and images under the new ones stay.
pub async fn a_rechunk_leaves_the_pages(store: &dyn Store, _: &TestClock) {
    let id = bring_to(store, document(), State::Completed, 3).await;
    control(store, id, Control::Rechunk(ChunkOptions::default())).await;
    assert_eq!(purge(store, 100).await, 0);
    let holder = Holder::claim(store, "worker").await;
    holder.settle_to(Outcome::Complete, State::Completed).await;
    assert_eq!(purge(store, 100).await, 3, "the chunks");
    let mut expected = Outputs::of_commits(3);
    expected.chunks.clear();
    assert_eq!(outputs(store, id).await, expected);
}

/// Purging one document never reaches into another, in whatever order they were deleted.
pub async fn documents_without_outputs_go_too(store: &dyn Store, _: &TestClock) {
    let mut ids = Vec::new();
    for n in 0..5 {
        let new = with(document(), |d| d.queue = queue(&format!("q{n}")));
        ids.push(put(store, new).await);
    }
    for id in [ids[3], ids[1]] {
        control(store, id, Control::Delete).await;
    }
    assert_eq!(purge(store, 100).await, 2);
    for id in [ids[0], ids[2], ids[4]] {
        assert_eq!(state(store, id).await, State::Queued);
    }
}
