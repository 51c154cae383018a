//! What a child may try, behind all walls and behind each alone.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kbqueue_core::extract::ExtractedPage;
use kbqueue_core::output::PageSource;
use kbqueue_pdf::hostile::Walls;

use super::{open, options, page};

/// Things to attack.
struct Targets {
    listener: TcpListener,
    dir: tempfile::TempDir,
}

impl Targets {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self { listener, dir }
    }

    fn mark(&self) -> PathBuf {
        self.dir.path().join("mark")
    }

    fn attack(&self, name: &str) -> String {
        match name {
            "create" | "exec" => format!("{name} {}", self.mark().display()),
            "connect" => format!("connect {}", self.listener.local_addr().unwrap()),
            name => name.to_owned(),
        }
    }

    fn are_unharmed(&self) -> bool {
        !self.mark().exists() && self.listener.accept().is_err()
    }
}

/// The cause that is recorded for a page that attacks.
fn cause(page: &ExtractedPage) -> &str {
    assert_eq!(page.text, "");
    page.failure.as_deref().unwrap_or("none")
}

#[tokio::test]
async fn every_attack_fails_behind_all_walls_and_is_named() {
    let targets = Targets::new();
    for (attack, name) in [
        ("passwd", "refused: "),
        ("create", "refused: "),
        ("executable", "refused: "),
        ("connect", "SIGSYS"),
        ("exec", "SIGSYS"),
        ("fork", "SIGSYS"),
        ("signal", "SIGSYS"),
        ("ptrace", "SIGSYS"),
    ] {
        let page = page(options(Walls::All), &targets.attack(attack)).await;
        assert!(cause(&page).contains(name), "{attack}: {}", cause(&page));
    }
    assert!(targets.are_unharmed());
}

#[tokio::test]
async fn every_attack_fails_behind_each_wall_that_is_made_for_it() {
    let targets = Targets::new();
    for (walls, attacks) in [
        (Walls::Limits, vec!["passwd", "create", "connect"]),
        (
            Walls::Landlock,
            vec!["passwd", "create", "connect", "exec", "signal", "ptrace"],
        ),
        (
            Walls::Seccomp,
            vec![
                "passwd",
                "create",
                "connect",
                "exec",
                "fork",
                "signal",
                "ptrace",
                "executable",
            ],
        ),
    ] {
        for attack in attacks {
            let page = page(options(walls), &targets.attack(attack)).await;
            let cause = cause(&page);
            assert!(
                cause.contains("refused: ") || cause.contains("SIGSYS"),
                "{walls:?}, {attack}: {cause}"
            );
        }
        assert!(targets.are_unharmed(), "{walls:?}");
    }
}

/// Else the tests above would prove nothing.
#[tokio::test]
async fn without_walls_the_attacks_succeed() {
    for attack in [
        "passwd",
        "create",
        "connect",
        "fork",
        "signal",
        "executable",
    ] {
        let targets = Targets::new();
        let page = page(options(Walls::None), &targets.attack(attack)).await;
        assert_eq!(page.failure, None, "{attack}");
        assert_eq!(
            targets.are_unharmed(),
            !["create", "connect"].contains(&attack),
            "{attack}"
        );
    }
    let targets = Targets::new();
    page(options(Walls::None), &targets.attack("exec")).await;
    assert!(targets.mark().exists());
}

/// Also REGRESSIONS 27: one bad page, and the rest of the document is delivered.
#[tokio::test]
async fn every_way_to_crash_fails_the_page_and_is_named() {
    for (line, name) in [
        ("segv", "crashed (SIGSEGV)"),
        ("abort", "crashed (SIGABRT)"),
        ("panic", "a panic"),
        ("exit", "exit code 3"),
        (
            "memory",
            "ran out of memory, of which it may use 256 MiB (SIGABRT)",
        ),
        // An opening, by its first bytes, of 16,843,009 pages.
        ("flood", "no sense (it has a value that makes no sense)"),
        ("garbage", "no sense (it ends too early)"),
        ("huge", "no sense (it is longer than allowed)"),
        ("empty", "no sense (it ends too early)"),
        // There is none to be had.
        ("ocr", "no sense (it has a value that makes no sense)"),
        ("half", "exit code 0"),
    ] {
        let page = page(options(Walls::All), line).await;
        assert_eq!(page.provenance.source, PageSource::None);
        assert_eq!(page.provenance.reason, "failed");
        let cause = cause(&page);
        assert!(cause.contains(name), "{line}: {cause}");
        assert!(
            cause.starts_with("page 2 could not be read: the process that read it"),
            "{line}: {cause}"
        );
    }
}

/// REGRESSIONS 26: the limit is of the page, so a document may take as long as it needs.
#[tokio::test]
async fn a_page_that_does_not_end_is_stopped_at_its_deadline() {
    let deadline = Duration::from_millis(200);
    for line in ["spin", "sleep", "hangup"] {
        let mut options = options(Walls::All);
        options.page_timeout = deadline;
        let start = Instant::now();
        let page = page(options, line).await;
        // It is tried twice.
        let late = start.elapsed().saturating_sub(2 * deadline);
        assert!(late < Duration::from_millis(2 * 500), "{line}: {late:?}");
        let expected = match line {
            "hangup" => "it hung up and lived on",
            _ => "stopped after 0.2 s without a result",
        };
        let cause = cause(&page);
        assert!(cause.contains(expected), "{cause}");
    }
}

#[tokio::test]
async fn a_document_that_kills_on_opening_is_refused_and_the_cause_is_named() {
    for (line, name) in [
        ("segv", "crashed (SIGSEGV)"),
        ("spin", "stopped after 0.2 s without a result"),
        ("memory", "ran out of memory"),
        ("garbage", "makes no sense"),
        ("boast", "makes no sense"),
        ("fork", "SIGSYS"),
    ] {
        let mut options = options(Walls::All);
        if line == "spin" {
            options.page_timeout = Duration::from_millis(200);
        }
        let error = open(options, &[line, "ok"]).await.unwrap_err();
        assert!(
            matches!(error, kbqueue_core::ExtractError::Permanent { .. }),
            "{line}: {error:?}"
        );
        let error = error.to_string();
        assert!(
            error.starts_with("the PDF could not be opened: ") && error.contains(name),
            "{line}: {error}"
        );
    }
}

#[tokio::test]
async fn a_strict_extractor_fails_the_document_and_names_page_and_cause() {
    use futures::StreamExt;

    let mut options = options(Walls::All);
    options.strict = true;
    let extraction = open(options, &["ok", "ok", "segv", "ok"]).await.unwrap();
    let mut pages: Vec<_> = extraction.pages.collect().await;
    assert_eq!(pages.len(), 2, "nothing follows an error");
    let error = pages.pop().unwrap().unwrap_err();
    assert!(matches!(
        error,
        kbqueue_core::ExtractError::Permanent { .. }
    ));
    let error = error.to_string();
    assert!(
        error.starts_with("page 2 ") && error.contains("SIGSEGV"),
        "{error}"
    );
}

/// The three standard ones, of which the first is the session, and a sign of life. (The document was
/// closed when it had been read.)
#[tokio::test]
async fn a_child_has_no_descriptor_but_those_that_are_meant_for_it() {
    // Left open for whatever processes this one starts.
    let careless = tempfile::tempfile().unwrap();
    rustix::io::fcntl_setfd(&careless, rustix::io::FdFlags::empty()).unwrap();
    let mut options = options(Walls::All);
    // So that the template is started now.
    options.memory_bytes += 7 << 20;
    let page = page(options, "descriptors").await;
    assert_eq!((page.text.as_str(), &page.failure), ("4", &None));
}
