//! Looks at every page of the dashboard with axe-core, in light and dark, and on a phone.
//!
//! `make a11y` runs it. It prints what it finds, and fails where that is anything.
#![allow(clippy::unwrap_used)]

use std::process::ExitCode;

use kbqueue_axum::Tokens;
use kbqueue_tests::browser::{Browser, Looks};
use kbqueue_tests::host::Host;
use serde_json::Value;

const RUN: &str = "return axe.run(document, { resultTypes: ['violations'] }).then((found) =>
    found.violations.map((one) => `${one.id}: ${one.help}: ${one.nodes.map((node) =>
        `${node.html} ${node.any.map((check) => check.message).join('; ')}`).join(' | ')}`))";

#[tokio::main]
async fn main() -> ExitCode {
    let axe = std::env::args()
        .nth(1)
        .expect("give the path of axe.min.js");
    let axe = std::fs::read_to_string(axe).unwrap();
    let host = Host::start(Tokens::default()).await;
    let [completed, failed, processing] = host.stage().await;
    let empty = Host::start(Tokens::default()).await;
    let guarded = Host::start(Tokens {
        admin: Some("token".into()),
        ..Tokens::default()
    })
    .await;
    let board = &host.dashboard;
    let pages = [
        board.clone(),
        empty.dashboard.clone(),
        format!("{board}/documents"),
        format!("{board}/documents?state=failed"),
        format!("{}/documents", empty.dashboard),
        format!("{board}/documents/{completed}"),
        format!("{board}/documents/{failed}"),
        format!("{board}/documents/{processing}"),
        format!("{board}/documents/{completed}/chunks"),
        format!("{board}/documents/{failed}/chunks"),
        format!("{board}/documents/{processing}/images"),
        format!("{board}/documents/{failed}/images"),
        format!("{board}/documents/{processing}/images/1"),
        format!("{board}/documents/{completed}/pdf"),
        format!("{board}/images"),
        format!("{board}/search"),
        format!("{board}/search?q=page"),
        format!("{board}/upload"),
        format!("{board}/nothing"),
        format!("{}/login", guarded.dashboard),
    ];
    let mut violations = 0;
    for (dark, window) in [
        (false, (1280, 900)),
        (true, (1280, 900)),
        (false, (500, 900)),
        (true, (500, 900)),
    ] {
        let looks = Looks {
            window,
            dark,
            ..Looks::default()
        };
        let browser = Browser::start(looks).await;
        let theme = if dark { "dark" } else { "light" };
        for page in &pages {
            browser.open(page).await;
            browser.run(&axe).await;
            let found = browser.run(RUN).await;
            violations += report(&format!("{theme} {window:?} {page}"), &found);
        }
        browser
            .open(&format!("{board}/documents/{processing}/images"))
            .await;
        browser.click(".thumb").await;
        browser.run(&axe).await;
        violations += report(
            &format!("{theme} {window:?} lightbox"),
            &browser.run(RUN).await,
        );
        browser.open(&format!("{board}/documents")).await;
        browser.click("tbody input[type=checkbox]").await;
        browser.run(&axe).await;
        violations += report(
            &format!("{theme} {window:?} selection"),
            &browser.run(RUN).await,
        );
        browser.click(".bulkbar button[value=delete]").await;
        browser.shows("Delete this document?").await;
        browser.run(&axe).await;
        violations += report(
            &format!("{theme} {window:?} confirmation"),
            &browser.run(RUN).await,
        );
        browser.close().await;
    }
    println!("{violations} violations");
    if violations == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn report(page: &str, found: &Value) -> usize {
    let found = found.as_array().expect("a list of violations");
    for violation in found {
        println!("{page}: {}", violation.as_str().unwrap_or_default());
    }
    found.len()
}
