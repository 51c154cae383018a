//! Damaged files, against the repair: `cargo +nightly fuzz run repair` in the directory above.
#![no_main]

libfuzzer_sys::fuzz_target!(|file: &[u8]| kbqueue_pdf::hostile::check_repair(file));
