//! `kbq` and the embedding example, as a user runs them.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use kbqueue_tests::pdf::text_pdf;
use kbqueue_tests::program;

fn run(package: &str, binary: &str, directory: &Path, arguments: &[&str]) -> Output {
    Command::new(program::build(package, binary))
        .args(arguments)
        .current_dir(directory)
        .env("KBQUEUE_PDFIUM", program::pdfium())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn kbq_adds_works_and_shows() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("report.pdf"), text_pdf(3)).unwrap();
    let kbq = |arguments: &[&str]| run("kbqueue-cli", "kbq", directory.path(), arguments);

    let added = kbq(&["add", "report.pdf"]);
    assert!(added.status.success(), "{}", text(&added.stderr));
    let out = text(&added.stdout);
    let id = out
        .split_whitespace()
        .find(|word| word.len() == 36)
        .unwrap()
        .to_owned();
    let again = kbq(&["add", "report.pdf"]);
    assert!(
        text(&again.stdout).contains(&id),
        "the same bytes are the same document"
    );

    let worked = kbq(&["work", "--drain"]);
    assert!(worked.status.success(), "{}", text(&worked.stderr));
    let status = text(&kbq(&["status"]).stdout);
    assert!(status.contains("completed"), "{status}");
    let chunks = text(&kbq(&["chunks", &id]).stdout);
    assert!(
        chunks.contains("Page 1, line 1:") && chunks.contains("Page 3, line 40:"),
        "{chunks}"
    );
}

#[test]
fn kbq_says_what_went_wrong_and_fails() {
    let directory = tempfile::tempdir().unwrap();
    let kbq = |arguments: &[&str]| run("kbqueue-cli", "kbq", directory.path(), arguments);
    let missing = kbq(&["add", "nowhere.pdf"]);
    assert!(!missing.status.success());
    assert!(
        text(&missing.stderr).contains("nowhere.pdf"),
        "{}",
        text(&missing.stderr)
    );
    let unknown = kbq(&["chunks", "01a20d2c-eb17-77f9-bdc1-2ace93c67be6"]);
    assert!(!unknown.status.success());
    assert!(
        text(&unknown.stderr).contains("01a20d2c"),
        "{}",
        text(&unknown.stderr)
    );
}

#[test]
fn the_smallest_host_prints_the_chunks_of_its_files() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("report.pdf"), text_pdf(2)).unwrap();
    std::fs::write(directory.path().join("broken.pdf"), &text_pdf(2)[..500]).unwrap();
    let embed = || {
        run(
            "kbqueue-embed",
            "kbqueue-embed",
            directory.path(),
            &["broken.pdf", "report.pdf"],
        )
    };
    let first = embed();
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert!(
        text(&first.stderr).contains("broken.pdf: the PDF is damaged"),
        "{}",
        text(&first.stderr)
    );
    let printed = text(&first.stdout);
    assert!(
        printed.starts_with("--- report.pdf, page 1\nPage 1, line 1:"),
        "{printed}"
    );
    assert_eq!(
        text(&embed().stdout),
        printed,
        "started again, it finds the documents done"
    );
}
