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
fn kbq_steers_queues_and_documents() {
    let directory = tempfile::tempdir().unwrap();
    for (name, pages) in [("a1.pdf", 1), ("a2.pdf", 2), ("b.pdf", 3)] {
        std::fs::write(directory.path().join(name), text_pdf(pages)).unwrap();
    }
    std::fs::write(directory.path().join("broken.pdf"), &text_pdf(2)[..20]).unwrap();
    let kbq = |arguments: &[&str]| {
        let output = run("kbqueue-cli", "kbq", directory.path(), arguments);
        let told = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        told
    };

    assert!(kbq(&["pause", "--queue", "default,slow"]).contains("slow  paused"));
    let ids = kbq(&["add", "a1.pdf", "a2.pdf", "b.pdf", "broken.pdf"]);
    let ids: Vec<&str> = ids.lines().map(|line| &line[..36]).collect();
    assert!(kbq(&["status"]).contains("paused  queued 4"));
    assert_eq!(kbq(&["cancel", "--name", "a"]), "cancelled: 2\n");
    assert_eq!(kbq(&["delete", ids[0]]), "deleted: 1\n");
    assert_eq!(kbq(&["retry", "--state", "cancelled"]), "queued again: 1\n");
    assert!(kbq(&["resume"]).contains("default  open"));
    let worked = run("kbqueue-cli", "kbq", directory.path(), &["work", "--drain"]);
    assert!(!worked.status.success(), "one of them is broken");

    let status = kbq(&["status"]);
    assert!(status.contains("completed 2  failed 1"), "{status}");
    let failed = kbq(&["failed"]);
    let lines: Vec<&str> = failed.lines().collect();
    assert!(lines[0].starts_with(ids[3]), "{failed}");
    assert!(lines[0].contains("broken.pdf"), "{failed}");
    assert!(lines[1].contains("failed after 0 pages"), "{failed}");
    assert_eq!(kbq(&["failed", "--quarantined"]), "");

    let twice = ["delete", "--state", "failed", "--queue", "default,slow"];
    assert_eq!(kbq(&twice), "deleted: 1\n");
    assert_eq!(kbq(&twice), "deleted: 0\n");
    let limits = kbq(&["limits"]);
    assert!(limits.contains("rate off  max-processing off"), "{limits}");
    let refused = ["retry", ids[2], ids[0]];
    let refused = run("kbqueue-cli", "kbq", directory.path(), &refused);
    assert!(!refused.status.success(), "one of them is gone");
    assert_eq!(text(&refused.stdout), "queued again: 1\n");
    assert!(text(&refused.stderr).contains(ids[0]));
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
    // Everything at once is what nobody is to ask for by leaving something out.
    for command in ["cancel", "retry", "delete", "change"] {
        assert!(!kbq(&[command]).status.success(), "{command}");
    }
}

#[test]
fn the_smallest_host_prints_the_chunks_of_its_files() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("report.pdf"), text_pdf(2)).unwrap();
    std::fs::write(directory.path().join("broken.pdf"), &text_pdf(2)[..20]).unwrap();
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
