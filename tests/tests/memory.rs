//! `MemoryStore` keeps every promise. (That the suite notices stores that do not is in `mutants.rs`.)

use kbqueue_core::{Clock, MemoryStore};

kbqueue_conformance::suite!(async |clock: Clock| (MemoryStore::with_clock(clock), ()));

kbqueue_conformance::outbox_suite!(async |clock: Clock| (MemoryStore::with_clock(clock), ()));

kbqueue_conformance::schedules_suite!(async |clock: Clock| (MemoryStore::with_clock(clock), ()));

kbqueue_conformance::library_suite!(async |clock: Clock| (MemoryStore::with_clock(clock), ()));
