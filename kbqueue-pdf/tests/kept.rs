//! The inputs that fuzzing kept, and the seeds that it began with: none breaks what is promised, wherever
//! it is cut off. (Those of what children send run with the protocol's own tests, and what is fuzzed of
//! the chunker is property-tested with it.)
#![cfg(feature = "hostile")]
#![allow(clippy::unwrap_used)]

#[test]
fn damaged_files_are_repaired_or_not() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/repair");
    let mut inputs = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let input = std::fs::read(entry.unwrap().path()).unwrap();
        for end in 0..=input.len() {
            kbqueue_pdf::hostile::check_repair(&input[..end]);
        }
        inputs += 1;
    }
    assert!(inputs > 0);
}
