//! Texts, against the chunker that they all go through: `cargo +nightly fuzz run chunks` in the directory
//! above.
#![no_main]

#[path = "../../tests/common/chunks.rs"]
mod chunks;

libfuzzer_sys::fuzz_target!(|text: &[u8]| chunks::check(text));
