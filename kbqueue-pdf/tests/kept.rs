//! The inputs that fuzzing kept, and the seeds that it began with: none breaks what is promised, wherever it is cut off. (Those of
//! what children send run with the protocol's own tests.)
#![allow(clippy::unwrap_used)]

#[path = "common/chunks.rs"]
mod chunks;

fn kept(target: &str) -> Vec<Vec<u8>> {
    let directory = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(directory).unwrap();
    let inputs: Vec<_> = entries
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(!inputs.is_empty());
    inputs
}

#[test]
fn texts_are_cut_into_chunks_that_slice_back_and_resume() {
    for input in kept("chunks") {
        for end in 0..=input.len() {
            chunks::check(&input[..end]);
        }
    }
}

#[test]
#[cfg(feature = "hostile")]
fn damaged_files_are_repaired_or_not() {
    for input in kept("repair") {
        for end in 0..=input.len() {
            kbqueue_pdf::hostile::check_repair(&input[..end]);
        }
    }
}
