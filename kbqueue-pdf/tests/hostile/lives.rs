//! How children come and go.

use std::collections::HashSet;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::join_all;
use kbqueue_pdf::hostile::Walls;
use rustix::process::{Pid, Signal, kill_process};

use super::{children_of, open, options, page, pages, parent_of, template_of, until};

fn kill(id: u32) {
    let pid = Pid::from_raw(id.cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

/// Options of which no other test has the same, so that the template is this test's own.
fn own_options(test: u64) -> kbqueue_pdf::PdfOptions {
    let mut options = options(Walls::All);
    options.memory_bytes += test << 20;
    options
}

#[tokio::test]
async fn a_page_that_kills_once_is_tried_again_alone_in_a_fresh_child() {
    let dir = tempfile::tempdir().unwrap();
    let [mark, log] = ["mark", "log"].map(|name| dir.path().join(name));
    let (mark, log) = (mark.display(), log.display());
    let once = format!("once {mark} segv");
    let logged = format!("log {log} ok");
    let pages = pages(
        options(Walls::None),
        &["ok", &logged, &once, &logged, &logged],
    )
    .await;
    for page in &pages {
        assert_eq!((page.text.as_str(), &page.failure), ("done", &None));
    }
    let log = fs::read_to_string(log.to_string()).unwrap();
    let children: Vec<&str> = log.lines().collect();
    // The page before it is not read again, nor are those behind it before their turn.
    assert_eq!(children.len(), 3, "{log}");
    assert_ne!(children[0], children[1], "a fresh child");
    assert_eq!(children[1], children[2], "which goes on");
}

/// REGRESSIONS 28: a worker that is killed for want of memory does not leave its document hanging.
#[tokio::test]
async fn a_child_killed_from_outside_costs_its_page_one_more_try() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let sleep = format!("log {} sleep", log.display());
    let reading =
        tokio::spawn(async move { pages(options(Walls::None), &["ok", "ok", &sleep, "ok"]).await });
    for line in 0..2 {
        let mut child = None;
        until("a child sleeps", || {
            let log = fs::read_to_string(&log).unwrap_or_default();
            let mut ids = log.lines().filter_map(|line| line.strip_suffix(" sleep"));
            child = ids.nth(line).map(|id| id.parse().unwrap());
            child.is_some()
        })
        .await;
        kill(child.unwrap());
    }
    let pages = reading.await.unwrap();
    assert_eq!(pages.len(), 3);
    let cause = pages[1].failure.as_deref().unwrap();
    assert!(
        cause.contains("killed from outside (SIGKILL)") && cause.contains("memory"),
        "{cause}"
    );
    assert_eq!(pages[2].text, "done");
}

#[tokio::test]
async fn pages_come_in_order_from_several_children() {
    let lines: Vec<String> = (0..400).map(|n| format!("work {}", n % 4)).collect();
    let mut script = vec!["ok"];
    script.extend(lines.iter().map(String::as_str));
    let pages = pages(own_options(2), &script).await;
    let numbers: Vec<u32> = pages.iter().map(|page| page.number).collect();
    assert_eq!(numbers, (1..=400).collect::<Vec<_>>());
    let children: HashSet<&str> = pages.iter().map(|page| page.text.as_str()).collect();
    let cores = std::thread::available_parallelism().unwrap().get();
    assert!(children.len() <= cores.max(1) + 8, "{children:?}");
}

#[tokio::test]
async fn more_documents_than_cores_take_turns_and_none_starves() {
    let scripts: Vec<Vec<String>> = (0..8)
        .map(|n| {
            let mut script = vec!["ok".to_owned()];
            // More than the window holds, of pages and of bytes.
            script.extend((0..100).map(|_| format!("large {}", 200_000 + n)));
            script
        })
        .collect();
    // All are opened before the first page is asked for, and taken in the wrong order.
    let opened = join_all(scripts.iter().map(|script| {
        let lines: Vec<&str> = script.iter().map(String::as_str).collect();
        async move { open(options(Walls::All), &lines).await.unwrap() }
    }))
    .await;
    for (n, extraction) in opened.into_iter().enumerate().rev() {
        let pages: Vec<_> = extraction.pages.map(Result::unwrap).collect().await;
        assert_eq!(pages.len(), 100);
        assert!(pages.iter().all(|page| page.text.len() == 200_000 + n));
    }
}

/// A child without OCR would say of each page that it takes some.
#[tokio::test]
#[cfg(feature = "ocr")]
async fn where_every_page_takes_ocr_the_first_child_has_it() {
    let mut options = own_options(7);
    options.ocr = kbqueue_pdf::OcrMode::Always;
    let mut extraction = open(options, &["ok", "pid", "sleep"]).await.unwrap();
    let page = extraction.pages.next().await.unwrap().unwrap();
    let template = parent_of(page.text.parse().unwrap()).unwrap();
    let arguments = fs::read_to_string(format!("/proc/{template}/cmdline")).unwrap();
    let languages = arguments.split('\0').any(|argument| argument == "eng");
    assert!(languages, "{arguments:?}");
}

#[tokio::test]
async fn a_dropped_stream_kills_its_children_at_once() {
    let options = own_options(3);
    let mut extraction = open(options.clone(), &["ok", "ok", "sleep"]).await.unwrap();
    extraction.pages.next().await.unwrap().unwrap();
    let template = template_of(&options);
    let children = children_of(template);
    assert!(!children.is_empty());
    let start = Instant::now();
    drop(extraction);
    // Without the runtime's help.
    while children.iter().any(|child| parent_of(*child).is_some()) {
        assert!(start.elapsed() < Duration::from_millis(500), "alive");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_dropped_future_kills_its_children() {
    let options = own_options(4);
    // Keeps the template.
    let keeper = kbqueue_pdf::PdfExtractor::new(options.clone()).unwrap();
    let opening = open(options.clone(), &["sleep", "ok"]);
    let result = tokio::time::timeout(Duration::from_millis(100), opening).await;
    assert!(result.is_err());
    let template = template_of(&options);
    until("no child", || children_of(template).is_empty()).await;
    drop(keeper);
}

#[tokio::test]
async fn a_template_that_was_killed_is_started_again() {
    let options = own_options(5);
    let lines: Vec<&str> = std::iter::once("ok").chain(["work 5"; 100]).collect();
    let mut extraction = open(options.clone(), &lines).await.unwrap();
    extraction.pages.next().await.unwrap().unwrap();
    let first = template_of(&options);
    kill(first);
    let rest: Vec<_> = extraction.pages.map(Result::unwrap).collect().await;
    assert_eq!(rest.len(), 99);
    assert!(rest.iter().all(|page| page.failure.is_none()));
}

#[tokio::test]
async fn all_processes_and_descriptors_are_gone_with_the_last_extractor() {
    let options = own_options(6);
    let keeper = kbqueue_pdf::PdfExtractor::new(options.clone()).unwrap();
    let template = template_of(&options);
    let open_in_template = || {
        fs::read_dir(format!("/proc/{template}/fd"))
            .unwrap()
            .count()
    };
    let before = open_in_template();
    for _ in 0..10 {
        for line in ["ok", "segv", "exit", "garbage"] {
            page(options.clone(), line).await;
        }
    }
    until("no child", || children_of(template).is_empty()).await;
    // The template lets go of a child's descriptors right after it has buried it.
    until("no descriptor of a child in the template", || {
        open_in_template() == before
    })
    .await;
    drop(keeper);
    until("no template", || parent_of(template).is_none()).await;
}

#[tokio::test]
async fn children_die_with_their_host() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    fs::write(&script, "ok\nspin").unwrap();
    let mut host = Command::new(env!("CARGO_BIN_EXE_hostile-child"))
        .arg(&script)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut family = Vec::new();
    until("a child at work", || {
        family = children_of(host.id());
        let children: Vec<u32> = family.iter().copied().flat_map(children_of).collect();
        let found = !children.is_empty();
        family.extend(children);
        found
    })
    .await;
    host.kill().unwrap();
    host.wait().unwrap();
    until("all dead", || {
        family.iter().all(|id| parent_of(*id).is_none())
    })
    .await;
}
