//! What a child may send, against the host's decoder: `cargo +nightly fuzz run frames` in the directory
//! above. `corpus/frames` has the inputs that are kept; the package's tests run them, too.
#![no_main]

libfuzzer_sys::fuzz_target!(|message: &[u8]| kbqueue_pdf::hostile::check_frame(message));
