//! The conformance suite notices stores that break their promises: each of these is the reference
//! store with one bug, and at least the promise named beside it fails on it.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use kbqueue_conformance::{
    checkpoint, claim, control, enqueue, fence, limits, model, purge, reads, reap, run, settle,
};
use kbqueue_core::lifecycle::LeaseId;
use kbqueue_core::queue::{QueueSettings, QueueStats};
use kbqueue_core::state::{CrashLimits, Outcome};
use kbqueue_core::store::{
    Checkpoint, ClaimRequest, Claims, Control, Directive, DocumentQuery, Enqueued, OutputQuery,
    Reaped, RenewRequest, Result, Settled, Settlement, WorkerId,
};
use kbqueue_core::{
    Chunk, Clock, Dedupe, Document, DocumentId, Image, MemoryStore, NewDocument, Page, QueueName,
    State, Store, StoreExt, Subscription, TestClock,
};

/// What a store may do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    /// None, to show that it is not the wrapper that fails.
    None,
    /// A write applies whatever lease it carries.
    FenceRemoved,
    /// A write applies under the last lease, also when the document left processing.
    FenceWithoutStateCheck,
    /// Outputs are fenced, a renewal is not.
    RenewalsNotFenced,
    /// A dead worker's document comes back as if it had been released.
    ReaperDoesNotCount,
    /// A deleted document stays in the counts.
    CounterDrift,
    /// A checkpoint that comes twice is a new one.
    RepeatedCheckpointNotRecognised,
    /// A settlement that comes twice finds its lease lost.
    RepeatedSettlementNotRecognised,
    /// One stale lease makes nothing of the whole batch.
    StaleLeaseHarmsBatch,
    /// A failed document is due at once.
    NoBackoff,
    /// A release by a worker that was asked to cancel queues the document again.
    CancelForgotten,
    /// Nothing is the same as anything.
    NoDedupe,
    /// Documents of a batch are not compared with each other.
    BatchNotComparedWithItself,
    /// What was paused is given out.
    PauseIgnored,
    /// Claims are given whatever the settings leave room for.
    LimitsIgnored,
    /// An empty claim does not know when to come back.
    NextDueUnknown,
    /// Readers see what is being written instead of what was completed.
    UnfinishedGenerationShown,
    /// More is purged than was asked for.
    PurgeWithoutLimit,
}

#[derive(Debug)]
struct Mutant {
    store: MemoryStore,
    clock: Clock,
    bug: Bug,
    deleted: AtomicU64,
    /// The last lease of each document.
    leases: Mutex<HashMap<DocumentId, LeaseId>>,
}

impl Mutant {
    fn has(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    /// The lease to use in place of the given one, by a broken fence.
    async fn fenced(&self, id: DocumentId, given: LeaseId) -> Result<LeaseId> {
        let Some(document) = self.store.document(id).await? else {
            return Ok(given);
        };
        let lease = document.lifecycle.lease.as_ref();
        if self.has(Bug::FenceRemoved) {
            return Ok(lease.map_or(given, |lease| lease.id));
        }
        let last = self.leases.lock().unwrap().get(&id).copied();
        let left = document.lifecycle.state == State::Queued;
        if self.has(Bug::FenceWithoutStateCheck) && left && last == Some(given) {
            // The old lease holds it again, as if it had never been let go.
            let worker = kbqueue_core::store::Worker {
                id: WorkerId(given.0),
                name: "zombie".to_owned(),
                queues: vec![document.queue.clone()],
            };
            let fingerprint = document.lifecycle.fingerprint.unwrap_or_default();
            let lease = std::time::Duration::from_secs(60);
            let mut request = ClaimRequest::new(worker, 0, lease, fingerprint);
            request.lease_ids = vec![given];
            self.store.claim(request).await?;
        }
        Ok(given)
    }

    async fn unpause(&self, queues: &[QueueName]) -> Result<()> {
        for queue in queues {
            let settings = QueueSettings {
                paused: false,
                ..QueueSettings::default()
            };
            self.store.configure(queue, settings).await?;
        }
        Ok(())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Mutant {
    async fn enqueue(&self, mut documents: Vec<NewDocument>) -> Result<Vec<Enqueued>> {
        let several = documents.len() > 1 && self.has(Bug::BatchNotComparedWithItself);
        if several || self.has(Bug::NoDedupe) {
            for document in &mut documents {
                document.dedupe = Dedupe::Off;
            }
        }
        self.store.enqueue(documents).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claims> {
        if self.has(Bug::PauseIgnored) {
            self.unpause(&request.worker.queues).await?;
        }
        let mut claims = self.store.claim(request).await?;
        let mut leases = self.leases.lock().unwrap();
        for document in &claims.documents {
            leases.extend(
                document
                    .lifecycle
                    .lease
                    .as_ref()
                    .map(|l| (document.id, l.id)),
            );
        }
        if self.has(Bug::NextDueUnknown) {
            claims.next_due = None;
        }
        Ok(claims)
    }

    async fn checkpoint(&self, mut checkpoint: Checkpoint) -> Result<Directive> {
        let id = checkpoint.document;
        checkpoint.lease_id = self.fenced(id, checkpoint.lease_id).await?;
        if self.has(Bug::RepeatedCheckpointNotRecognised)
            && let Some(document) = self.store.document(id).await?
            && document.lifecycle.cursor.number == checkpoint.cursor.number
        {
            checkpoint.cursor.number += 1;
        }
        self.store.checkpoint(checkpoint).await
    }

    async fn renew(&self, mut request: RenewRequest) -> Result<Vec<Directive>> {
        for (id, lease_id) in &mut request.leases {
            *lease_id = self.fenced(*id, *lease_id).await?;
        }
        let mut answers = self.store.renew(request).await?;
        if self.has(Bug::RenewalsNotFenced) {
            answers.fill(Directive::Continue);
        }
        Ok(answers)
    }

    async fn settle(&self, mut settlements: Vec<Settlement>) -> Result<Vec<Settled>> {
        let mut stale = false;
        for settlement in &mut settlements {
            let id = settlement.document;
            settlement.lease_id = self.fenced(id, settlement.lease_id).await?;
            let document = self.store.document(id).await?;
            let life = document.map(|document| document.lifecycle);
            let held = life
                .as_ref()
                .is_some_and(|l| l.is_held_under(settlement.lease_id));
            stale |= !held;
            if self.has(Bug::NoBackoff)
                && let Outcome::Fail { backoff, .. } = &mut settlement.outcome
            {
                *backoff = std::time::Duration::ZERO;
            }
            let cancelled = life.is_some_and(|life| life.cancel_requested_at.is_some());
            if self.has(Bug::CancelForgotten) && cancelled && held {
                // The only way to a queued document that was asked to be cancelled.
                self.store.settle(vec![settlement.clone()]).await?;
                let from_scratch = false;
                self.store
                    .control(id, Control::Retry { from_scratch })
                    .await?;
            }
        }
        if stale && self.has(Bug::RepeatedSettlementNotRecognised)
            || stale && settlements.len() > 1 && self.has(Bug::StaleLeaseHarmsBatch)
        {
            return Ok(vec![Settled::LeaseLost; settlements.len()]);
        }
        self.store.settle(settlements).await
    }

    async fn depart(&self, worker: WorkerId) -> Result<()> {
        self.store.depart(worker).await
    }

    async fn control(&self, id: DocumentId, control: Control) -> Result<Document> {
        let delete = control == Control::Delete;
        let answer = self.store.control(id, control).await?;
        self.deleted.fetch_add(u64::from(delete), Ordering::SeqCst);
        Ok(answer)
    }

    async fn configure(&self, queue: &QueueName, mut settings: QueueSettings) -> Result<()> {
        if self.has(Bug::LimitsIgnored) {
            settings = QueueSettings {
                paused: settings.paused,
                ..QueueSettings::default()
            };
        }
        self.store.configure(queue, settings).await
    }

    async fn reap(&self, limits: CrashLimits, limit: usize) -> Result<Vec<Reaped>> {
        if !self.has(Bug::ReaperDoesNotCount) {
            return self.store.reap(limits, limit).await;
        }
        let mut query = DocumentQuery::default();
        query.state = Some(State::Processing);
        let mut reaped = Vec::new();
        for document in self.store.documents(query).await? {
            let lease = document.lifecycle.lease.clone();
            let Some(lease) = lease.filter(|lease| lease.expires_at <= self.clock.now()) else {
                continue;
            };
            let release = Settlement {
                document: document.id,
                lease_id: lease.id,
                outcome: Outcome::Release,
            };
            self.store.settle(vec![release]).await?;
            reaped.push(Reaped {
                id: document.id,
                state: self.store.find(document.id).await?.lifecycle.state,
                worker: lease.worker,
            });
        }
        Ok(reaped)
    }

    async fn purge(&self, limit: usize) -> Result<usize> {
        match self.has(Bug::PurgeWithoutLimit) {
            true => self.store.purge(usize::MAX).await,
            false => self.store.purge(limit).await,
        }
    }

    async fn document(&self, id: DocumentId) -> Result<Option<Document>> {
        self.store.document(id).await
    }

    async fn documents(&self, query: DocumentQuery) -> Result<Vec<Document>> {
        self.store.documents(query).await
    }

    async fn pages(&self, query: OutputQuery) -> Result<Vec<Page>> {
        self.store.pages(query).await
    }

    async fn chunks(&self, mut query: OutputQuery) -> Result<Vec<Chunk>> {
        if self.has(Bug::UnfinishedGenerationShown) && query.generation.is_none() {
            let document = self.store.document(query.document).await?;
            query.generation = document.map(|d| d.lifecycle.generation.chunks);
        }
        self.store.chunks(query).await
    }

    async fn images(&self, query: OutputQuery) -> Result<Vec<Image>> {
        self.store.images(query).await
    }

    async fn stats(&self, queue: &QueueName) -> Result<QueueStats> {
        let mut stats = self.store.stats(queue).await?;
        if self.has(Bug::CounterDrift) {
            stats.counts.queued += self.deleted.load(Ordering::SeqCst);
        }
        Ok(stats)
    }

    async fn subscribe(&self) -> Result<Subscription> {
        self.store.subscribe().await
    }
}

/// A factory of stores with this bug.
fn with(bug: Bug) -> impl AsyncFn(Clock) -> (Mutant, ()) {
    async move |clock: Clock| {
        let mutant = Mutant {
            store: MemoryStore::with_clock(clock.clone()),
            clock,
            bug,
            deleted: AtomicU64::new(0),
            leases: Mutex::default(),
        };
        (mutant, ())
    }
}

/// Asserts that this promise fails with the bug, and holds without.
fn caught(bug: Bug, promise: impl AsyncFn(&dyn Store, &TestClock) + Copy) {
    run(with(Bug::None), promise);
    let broken = catch_unwind(AssertUnwindSafe(|| run(with(bug), promise)));
    assert!(broken.is_err(), "{bug:?} went unnoticed");
}

#[test]
fn ignored_limits_are_noticed() {
    let bug = Bug::LimitsIgnored;
    caught(bug, limits::a_rate_limits_starts_whoever_claims);
    caught(bug, limits::going_on_costs_no_token);
    caught(bug, limits::one_at_a_time_is_one_at_a_time);
    caught(bug, limits::each_tenant_has_its_own_limit);
    caught(bug, limits::a_full_queue_refuses_the_whole_batch);
}

#[test]
fn a_missing_fence_is_noticed() {
    caught(
        Bug::FenceRemoved,
        fence::a_worker_that_lost_its_lease_writes_nothing,
    );
    caught(Bug::FenceRemoved, fence::a_stale_progress_report_is_refused);
    caught(
        Bug::FenceRemoved,
        fence::a_lease_is_good_for_its_own_document_only,
    );
}

#[test]
fn a_fence_without_the_state_check_is_noticed() {
    let bug = Bug::FenceWithoutStateCheck;
    caught(
        bug,
        fence::a_late_write_is_refused_before_anybody_claims_again,
    );
    caught(bug, fence::a_late_worker_has_lost_its_lease_to_the_reaper);
    caught(bug, fence::every_exit_ends_the_lease_for_good);
}

#[test]
fn renewals_without_a_fence_are_noticed() {
    caught(
        Bug::RenewalsNotFenced,
        fence::a_worker_that_lost_its_lease_writes_nothing,
    );
}

#[test]
fn a_reaper_that_does_not_count_is_noticed() {
    let bug = Bug::ReaperDoesNotCount;
    caught(bug, reap::an_expired_lease_is_taken_back);
    caught(bug, reap::crashes_without_progress_end_in_quarantine);
    caught(bug, reap::crashes_with_progress_end_too);
}

#[test]
fn counts_that_drift_are_noticed() {
    caught(Bug::CounterDrift, reads::counts_never_drift);
    caught(
        Bug::CounterDrift,
        control::a_deleted_document_is_hidden_at_once,
    );
}

#[test]
fn repetitions_that_are_not_recognised_are_noticed() {
    let bug = Bug::RepeatedCheckpointNotRecognised;
    caught(bug, checkpoint::a_repeated_checkpoint_changes_nothing);
    let bug = Bug::RepeatedSettlementNotRecognised;
    caught(bug, settle::a_repeated_settlement_answers_the_same);
    caught(bug, settle::settlements_at_once_have_one_effect);
}

#[test]
fn smaller_bugs_are_noticed() {
    caught(
        Bug::StaleLeaseHarmsBatch,
        fence::one_stale_lease_does_not_harm_its_batch,
    );
    caught(
        Bug::NoBackoff,
        settle::a_retryable_failure_waits_for_its_backoff,
    );
    caught(Bug::CancelForgotten, control::a_cancel_ends_in_cancelled);
    caught(Bug::NoDedupe, enqueue::callers_at_once_make_one_document);
    caught(
        Bug::BatchNotComparedWithItself,
        enqueue::one_batch_is_compared_with_itself,
    );
    caught(Bug::PauseIgnored, claim::a_paused_queue_gives_nothing);
    caught(
        Bug::NextDueUnknown,
        claim::an_empty_claim_says_when_to_come_back,
    );
    let bug = Bug::UnfinishedGenerationShown;
    caught(
        bug,
        control::readers_keep_the_old_generation_until_the_new_one_is_whole,
    );
    caught(
        Bug::PurgeWithoutLimit,
        purge::deleted_documents_go_in_small_steps,
    );
}

/// The random operations find the same bugs by themselves.
#[test]
fn random_operations_notice_bugs_too() {
    for bug in [
        Bug::FenceRemoved,
        Bug::FenceWithoutStateCheck,
        Bug::ReaperDoesNotCount,
        Bug::CounterDrift,
        Bug::RepeatedCheckpointNotRecognised,
        Bug::RepeatedSettlementNotRecognised,
        Bug::CancelForgotten,
    ] {
        let found = catch_unwind(AssertUnwindSafe(|| model::check_cases(with(bug), 300, 1)));
        assert!(found.is_err(), "{bug:?} went unnoticed");
    }
}
