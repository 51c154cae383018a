//! The test suite that every store of kbqueue passes.
//!
//! A store is anything that implements [`Store`], and right when it keeps the contract written there.
//! Here each promise of that contract is a function that fails where it is broken, and
//! [`model::check`] drives random operations against the reference,
//! [`MemoryStore`](kbqueue_core::MemoryStore), comparing every answer. [`suite!`] makes tests of all of
//! them, so a promise that is added here reaches every store. Those that come from other systems' bugs
//! name their number in the project's list of regressions.
//!
//! # A store's own run
//! In `tests/conformance.rs` of the store's crate. The factory makes an empty store on the given clock,
//! with a guard that is kept until the store is dropped (a temporary directory, a schema to be removed,
//! or `()`):
//!
//! ```
//! // In a test, this is `use your_crate::YourStore;`
//! use kbqueue_core::{Clock, MemoryStore as YourStore};
//!
//! kbqueue_conformance::suite!(async |clock: Clock| {
//!     let directory = ();
//!     (YourStore::with_clock(clock), directory)
//! });
//! # fn main() {}
//! ```
//!
//! A store that keeps time by a server takes the clock too, in tests only: leases that expire are
//! tested by moving it.
//!
//! # Settings
//! - `KBQUEUE_CONFORMANCE_CASES`: how many random sequences are tried (48).
//! - `KBQUEUE_CONFORMANCE_SEED`: where they start; a failure names its seed (0).

// A test panics by design, and says why with `expect` or `assert`.
#![allow(clippy::missing_panics_doc)]

use kbqueue_core::library::Library;
use kbqueue_core::outbox::Outbox;
use kbqueue_core::schedule::Schedules;
use kbqueue_core::{Clock, Store, TestClock};

pub mod checkpoint;
pub mod claim;
pub mod control;
pub mod enqueue;
pub mod fence;
pub mod library;
pub mod limits;
pub mod model;
pub mod notices;
pub mod outbox;
pub mod purge;
pub mod reads;
pub mod reap;
pub mod schedules;
pub mod settle;
mod support;
pub mod time;

/// Makes tests of all promises for the stores that `$factory` makes: an async function or closure from
/// a [`Clock`] to an empty store and its guard; see the [crate's documentation](crate).
#[macro_export]
macro_rules! suite {
    ($factory:expr) => {
        $crate::__every_promise! { tests [$factory, run] }
        #[test]
        fn agrees_with_the_reference() {
            $crate::model::check($factory);
        }
    };
}

/// Makes tests of the promises of an [`Outbox`], as [`suite!`] does of those of a store.
#[macro_export]
macro_rules! outbox_suite {
    ($factory:expr) => {
        $crate::__outbox_promises! { tests [$factory, run_outbox] }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __outbox_promises {
    ($form:ident $arguments:tt) => {
        $crate::__promises! { $form $arguments
            outbox {
                every_end_is_written_down,
                what_nobody_asked_for_is_not_written_down,
                only_what_happened_is_written_down,
                events_of_one_document_are_delivered_in_order,
                a_delivery_that_is_late_goes_to_the_next,
                a_document_id_used_again_is_written_down_again,
                a_claim_of_deliveries_is_of_its_queues_alone,
                deliverers_at_once_share_without_overlap,
                endpoints_take_turns_and_have_their_share,
                whoever_is_gone_hears_nothing_more,
                dead_deliveries_can_be_replayed,
                endpoints_come_back_whole,
                an_endpoint_goes_with_its_deliveries,
                deliveries_are_listed_and_purged,
            }
        }
    };
}

/// Makes tests of the promises of [`Schedules`], as [`suite!`] does of those of a store.
#[macro_export]
macro_rules! schedules_suite {
    ($factory:expr) => {
        $crate::__schedules_promises! { tests [$factory, run_schedules] }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __schedules_promises {
    ($form:ident $arguments:tt) => {
        $crate::__promises! { $form $arguments
            schedules {
                schedules_come_back_whole,
                a_tick_enqueues_its_document,
                schedulers_at_once_fire_once,
                a_stale_tick_does_nothing,
                missed_ticks_go_by_the_plan,
                a_doubled_hour_has_one_tick,
                a_refused_tick_stays_due,
            }
        }
    };
}

/// Makes tests of the promises of a [`Library`], as [`suite!`] does of those of a store.
#[macro_export]
macro_rules! library_suite {
    ($factory:expr) => {
        $crate::__library_promises! { tests [$factory, run_library] }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __library_promises {
    ($form:ident $arguments:tt) => {
        $crate::__promises! { $form $arguments
            library {
                all_images_are_listed_newest_first,
                images_are_of_a_document_a_page_a_size_and_a_date,
                a_search_finds_chunks_with_all_its_words,
                hits_are_listed_newest_first,
                what_is_far_behind_is_found,
                nothing_in_a_search_is_an_operator,
                only_what_readers_see_is_found,
            }
        }
    };
}

/// The one list of all promises of a store, by module.
#[doc(hidden)]
#[macro_export]
macro_rules! __every_promise {
    ($form:ident $arguments:tt) => {
        $crate::__promises! { $form $arguments
            enqueue {
                an_enqueued_document_comes_back_whole,
                a_bare_document_stays_bare,
                a_sealed_password_comes_with_every_claim,
                an_id_that_is_there_is_not_made_again,
                the_same_key_answers_with_the_same_document,
                the_same_content_answers_with_the_same_document,
                dedupe_can_be_off,
                a_key_is_free_again_when_its_document_came_to_nothing,
                one_batch_is_compared_with_itself,
                callers_at_once_make_one_document,
                batches_may_be_empty_or_large,
            }
            claim {
                a_claim_gives_a_lease,
                a_claim_takes_no_more_than_its_slots,
                a_lease_lasts_at_least_a_millisecond,
                scheduled_documents_wait_for_their_time,
                an_empty_claim_says_when_to_come_back,
                priority_then_age_then_id,
                tenants_take_turns,
                turns_go_on_from_claim_to_claim,
                queues_take_turns,
                a_worker_gets_its_own_queues_only,
                a_paused_queue_gives_nothing,
                a_started_document_waits_for_its_own_kind,
                a_document_that_starts_over_starts_clean,
                claimers_at_once_share_without_overlap,
                workers_at_once_complete_each_document_once,
            }
            limits {
                a_rate_limits_starts_whoever_claims,
                a_burst_starts_at_once,
                going_on_costs_no_token,
                starting_over_costs_a_token,
                new_settings_keep_the_bucket,
                one_at_a_time_is_one_at_a_time,
                a_lowered_maximum_waits_until_enough_have_ended,
                a_dead_worker_makes_room,
                each_tenant_has_its_own_limit,
                a_full_queue_refuses_the_whole_batch,
                what_is_there_already_is_not_refused,
                settings_come_back_whole,
            }
            fence {
                a_worker_that_lost_its_lease_writes_nothing,
                a_stale_progress_report_is_refused,
                every_exit_ends_the_lease_for_good,
                a_late_write_is_refused_before_anybody_claims_again,
                a_lease_is_good_for_its_own_document_only,
                a_document_that_never_was_has_no_lease,
                a_late_worker_keeps_its_lease_until_the_reaper_comes,
                a_late_worker_has_lost_its_lease_to_the_reaper,
                one_stale_lease_does_not_harm_its_batch,
            }
            checkpoint {
                a_checkpoint_commits_everything_at_once,
                a_repeated_checkpoint_changes_nothing,
                a_checkpoint_out_of_order_is_refused,
                the_next_worker_goes_on_at_the_last_checkpoint,
                progress_never_goes_backward,
                failed_pages_are_named,
                properties_are_replaced_when_given,
                only_progress_forgives_crashes,
                a_checkpoint_hears_of_a_cancel,
                outputs_come_back_whole,
                checkpoints_may_be_empty_or_large,
                a_healthy_worker_keeps_its_document_for_hours,
                renewals_answer_in_the_given_order,
                workers_of_one_name_are_two,
                a_worker_is_live_until_its_word_runs_out,
                a_departed_worker_keeps_its_leases,
            }
            settle {
                a_completion_is_final,
                a_retryable_failure_waits_for_its_backoff,
                retries_end,
                a_lowered_maximum_ends_retries,
                a_permanent_failure_burns_no_retries,
                a_release_counts_nothing,
                snoozes_use_no_retry_and_end,
                a_repeated_settlement_answers_the_same,
                settlements_at_once_have_one_effect,
                a_cancel_and_a_completion_at_once_agree,
                attempts_are_remembered,
                only_the_last_attempts_are_remembered,
            }
            control {
                a_queued_document_is_cancelled_at_once,
                a_cancel_ends_in_cancelled,
                a_completion_wins_over_a_cancel,
                each_state_refuses_what_does_not_fit_it,
                nothing_can_be_asked_of_what_is_not_there,
                a_retry_goes_on_with_fresh_counters,
                every_finished_document_can_be_retried,
                a_retry_forgets_the_cancel,
                readers_keep_the_old_generation_until_the_new_one_is_whole,
                a_first_generation_is_seen_as_it_grows,
                a_rechunk_keeps_the_pages,
                a_superseded_document_is_not_queued_again,
                a_deleted_document_is_hidden_at_once,
                a_document_can_be_changed,
                a_new_priority_counts_at_the_next_claim,
                a_new_time_counts_at_once,
                many_are_asked_by_what_they_are,
            }
            reap {
                an_expired_lease_is_taken_back,
                crashes_without_progress_end_in_quarantine,
                crashes_with_progress_end_too,
                a_crash_in_the_last_attempt_leaves_nothing_stuck,
                lowered_crash_limits_end_it,
                a_quarantined_document_can_be_tried_again,
                the_oldest_expiry_is_taken_back_first,
                reapers_at_once_count_each_crash_once,
                a_late_checkpoint_and_the_reaper_agree,
            }
            purge {
                deleted_documents_go_in_small_steps,
                what_readers_and_workers_need_stays,
                superseded_generations_go,
                a_rechunk_leaves_the_pages,
                documents_without_outputs_go_too,
            }
            reads {
                documents_are_listed_newest_first,
                lists_are_of_a_queue_and_a_state,
                lists_are_of_a_tenant_and_a_name,
                outputs_are_read_page_by_page,
                nothing_is_read_of_what_is_not_there,
                an_unused_queue_is_empty,
                counts_never_drift,
            }
            notices {
                a_subscription_begins_with_a_look_around,
                every_change_is_told_to_every_listener,
                no_document_slips_between_a_claim_and_the_wait,
                many_documents_wake_every_worker,
                new_settings_are_told,
                waiting_for_a_document_ends_with_it,
            }
            time {
                the_stores_own_clock_decides,
                times_are_kept_in_whole_microseconds,
                the_end_of_time_is_a_time,
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __promises {
    (tests [$factory:expr, $run:ident] $($module:ident { $($promise:ident,)* })*) => {
        $(mod $module {
            // The factory is written in terms of what its file imports.
            #[allow(unused_imports)]
            use super::*;
            $(#[test]
            fn $promise() {
                $crate::$run($factory, $crate::$module::$promise);
            })*
        })*
    };
    (names [] $($module:ident { $($promise:ident,)* })*) => {
        [$($(concat!(stringify!($module), "::", stringify!($promise)),)*)*]
    };
}

/// Tests one promise on a fresh store.
///
/// # Panics
/// Where the store breaks it.
pub fn run<S: Store, G>(
    factory: impl AsyncFn(Clock) -> (S, G),
    promise: impl AsyncFn(&dyn Store, &TestClock),
) {
    run_as(factory, async |store: &S, clock| {
        promise(store, clock).await
    });
}

/// Tests one promise of an outbox on a fresh store.
///
/// # Panics
/// Where the store breaks it.
pub fn run_outbox<S: Outbox, G>(
    factory: impl AsyncFn(Clock) -> (S, G),
    promise: impl AsyncFn(&dyn Outbox, &TestClock),
) {
    run_as(factory, async |store: &S, clock| {
        promise(store, clock).await
    });
}

/// Tests one promise of schedules on a fresh store.
///
/// # Panics
/// Where the store breaks it.
pub fn run_schedules<S: Schedules, G>(
    factory: impl AsyncFn(Clock) -> (S, G),
    promise: impl AsyncFn(&dyn Schedules, &TestClock),
) {
    run_as(factory, async |store: &S, clock| {
        promise(store, clock).await
    });
}

/// Tests one promise of a library on a fresh store.
///
/// # Panics
/// Where the store breaks it.
pub fn run_library<S: Library, G>(
    factory: impl AsyncFn(Clock) -> (S, G),
    promise: impl AsyncFn(&dyn Library, &TestClock),
) {
    run_as(factory, async |store: &S, clock| {
        promise(store, clock).await
    });
}

fn run_as<S, G>(factory: impl AsyncFn(Clock) -> (S, G), promise: impl AsyncFn(&S, &TestClock)) {
    runtime().block_on(async {
        let clock = TestClock::new();
        let (store, guard) = factory(clock.clock()).await;
        promise(&store, &clock).await;
        drop(store);
        drop(guard);
    });
}

fn runtime() -> tokio::runtime::Runtime {
    // Several threads, as a service has: a store may work on others than its caller's.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime can be started")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// A promise that nobody lists is never tested.
    #[test]
    fn every_promise_is_listed() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut written = Vec::new();
        for entry in fs::read_dir(source).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                continue;
            }
            let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let promises = text
                .lines()
                .filter_map(|line| line.strip_prefix("pub async fn "));
            let names = promises.map(|rest| rest.split('(').next().unwrap().trim().to_owned());
            written.extend(names.map(|name| format!("{module}::{name}")));
        }
        let mut listed: Vec<_> = crate::__every_promise! { names [] }
            .iter()
            .chain(&crate::__outbox_promises! { names [] })
            .chain(&crate::__schedules_promises! { names [] })
            .chain(&crate::__library_promises! { names [] })
            .map(|name| (*name).to_owned())
            .collect();
        written.sort();
        listed.sort();
        assert_eq!(listed, written);
    }
}
