//! A real server, killed and stopped in mid-document: it goes on at its last checkpoint, and what comes
//! out is what an undisturbed run gives.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use kbqueue_tests::pdf::text_pdf;
use kbqueue_tests::server::Server;
use serde_json::Value;

/// Enough pages that a server cannot be through before it is killed.
const PAGES: u32 = 4000;
/// A dead server's documents come back quickly.
const FLAGS: [&str; 2] = ["--lease", "1s"];

/// What an undisturbed run makes of the document.
async fn undisturbed(pdf: &[u8]) -> Vec<Value> {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &FLAGS).await;
    let id = server.upload("long.pdf", pdf.to_vec()).await;
    let document = server
        .wait_for(&id, |document| document["status"] == "completed")
        .await;
    assert_eq!(document["total_pages"], PAGES);
    server.chunks(&id).await
}

fn in_the_middle(document: &Value) -> bool {
    document["current_page"].as_u64().unwrap() > 0
}

/// What the server wrote when it claimed the document the last time: the page that it went on at.
fn last_claimed_page(directory: &std::path::Path) -> u64 {
    let log = std::fs::read_to_string(directory.join("server.log")).unwrap();
    let claimed = log
        .lines()
        .rfind(|line| line.contains("from_page="))
        .unwrap();
    let page = claimed.split("from_page=").nth(1).unwrap();
    page.chars()
        .take_while(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .unwrap()
}

/// REGRESSIONS 16: outputs and cursor are one write.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_goes_on_at_its_last_checkpoint() {
    let pdf = text_pdf(PAGES);
    let expected = undisturbed(&pdf).await;
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &FLAGS).await;
    let id = server.upload("long.pdf", pdf).await;
    let killed_at = server.wait_for(&id, in_the_middle).await["current_page"]
        .as_u64()
        .unwrap();
    server.kill().await;

    let server = Server::start(directory.path(), &FLAGS).await;
    let document = server
        .wait_for(&id, |document| document["status"] == "completed")
        .await;
    let resumed_at = last_claimed_page(directory.path());
    assert!(
        resumed_at > killed_at,
        "resumed at {resumed_at}, though {killed_at} was committed"
    );
    assert!(
        resumed_at <= u64::from(PAGES),
        "it was killed in mid-document"
    );
    assert_eq!(document["retry_count"], 0);
    let outcomes: Vec<&str> = document["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| attempt["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["crashed", "completed"]);
    assert_eq!(server.chunks(&id).await, expected);
}

/// REGRESSIONS 4: a document that kills its workers is quarantined, and never cycles them.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_whose_workers_always_die_is_quarantined() {
    let directory = tempfile::tempdir().unwrap();
    let id = {
        let server = Server::start(directory.path(), &["--workers", "off"]).await;
        server.upload("long.pdf", text_pdf(PAGES)).await
    };
    // Three crashes without a checkpoint between them end it; one that got further is forgiven its
    // crash, but ten in all do.
    for crashes in 0..12 {
        let server = Server::start(directory.path(), &FLAGS).await;
        let document = server
            .wait_for(&id, |document| {
                let known = document["attempts"].as_array().unwrap().len() == crashes;
                known && document["status"] != "queued"
            })
            .await;
        if document["status"] == "failed" {
            assert_eq!(document["quarantined"], true);
            let error = document["error_message"].as_str().unwrap();
            assert!(error.contains("quarantined"), "{error}");
            return;
        }
        server.kill().await;
    }
    panic!("twelve dead workers, and it still goes round");
}

/// REGRESSIONS 15: SIGTERM releases at once, burns no retry, and the next start goes on at that page.
#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_server_releases_its_document_at_once() {
    let pdf = text_pdf(PAGES);
    let expected = undisturbed(&pdf).await;
    let directory = tempfile::tempdir().unwrap();
    // A lease that outlasts the test: only a release can free the document.
    let flags = ["--lease", "1h"];
    let server = Server::start(directory.path(), &flags).await;
    let id = server.upload("long.pdf", pdf).await;
    server.wait_for(&id, in_the_middle).await;
    let took = server.terminate().await;
    assert!(
        took < Duration::from_secs(20),
        "ten times the two seconds that it may take: {took:?}"
    );
    println!("exited {took:?} after SIGTERM");

    let idle = Server::start(directory.path(), &["--workers", "off"]).await;
    let released = idle.get(&format!("/documents/{id}")).await;
    assert_eq!(released["status"], "queued");
    let committed = released["current_page"].as_u64().unwrap();
    assert!(committed > 0 && committed < u64::from(PAGES));
    drop(idle);

    let server = Server::start(directory.path(), &flags).await;
    let document = server
        .wait_for(&id, |document| document["status"] == "completed")
        .await;
    assert_eq!(last_claimed_page(directory.path()), committed + 1);
    assert_eq!(
        (&document["retry_count"], &document["crash_count"]),
        (&0.into(), &0.into())
    );
    assert_eq!(document["attempts"][0]["outcome"], "released");
    assert_eq!(server.chunks(&id).await, expected);
}
