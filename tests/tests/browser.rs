//! The dashboard in a real browser.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fantoccini::{Client, Locator};
use kbqueue_axum::Tokens;
use kbqueue_core::QueueName;
use kbqueue_tests::browser::{Browser, Looks};
use kbqueue_tests::host::{self, Host};
use kbqueue_tests::pdf::text_pdf;
use kbqueue_tests::server::Server;

/// Drops a file on the page, as somebody's mouse would.
const DROP: &str = "
    const data = new DataTransfer();
    for (const [name, text] of arguments[0]) data.items.add(new File([text], name));
    document.body.dispatchEvent(new DragEvent('drop', { bubbles: true, dataTransfer: data }));";

/// A page that was loaded anew has lost it.
const MARK: &str = "window.mark = true";

async fn drop_files(client: &Client, files: &[(&str, String)]) {
    let files = serde_json::to_value(files).unwrap();
    client.execute(DROP, vec![files]).await.unwrap();
}

async fn open() -> (Host, Browser) {
    let host = Host::start(Tokens::default()).await;
    let browser = Browser::start(Looks::default()).await;
    (host, browser)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_on_the_page_is_seen_becoming_chunks_and_images() {
    let (host, browser) = open().await;
    browser.open(&format!("{}/upload", host.dashboard)).await;
    let files = [
        ("report.pdf", host::file("report", 10, 3)),
        ("notes.txt", "no PDF at all".to_owned()),
    ];
    drop_files(&browser.client, &files).await;
    browser.shows("the file is not a PDF").await;
    browser.shows("Open the document").await;

    browser.click("nav a[href$='/dashboard']").await;
    browser
        .until("document.querySelector('.work progress')")
        .await;
    browser.run(MARK).await;
    for pages in 1..=3 {
        host.script.read(2);
        let seen = format!(
            "document.querySelector('.work')?.textContent.includes('Page {} of 10')",
            pages * 2
        );
        browser.until(&seen).await;
        let bar = format!(
            "document.querySelector('.work progress').value >= {}",
            pages * 15
        );
        browser.until(&bar).await;
    }
    host.script.read(4);
    browser
        .until("document.querySelector('#count-completed').textContent === '1'")
        .await;
    browser.until("window.mark").await;

    browser.click("#newest-title ~ .lines a").await;
    browser.shows("10 pages").await;
    browser.click(".tabs a[href$='/chunks']").await;
    browser.shows("The quick brown fox").await;
    browser.shows("Chunk 0").await;
    browser.shows("Page 10").await;
    browser.click(".tabs a[href$='/images']").await;
    let loaded = "document.querySelectorAll('.thumb img').length === 3 && \
                  [...document.querySelectorAll('.thumb img')].every((image) => image.naturalWidth === 480)";
    browser.until(loaded).await;
    browser.click(".thumb").await;
    browser
        .until("document.querySelector('dialog[open] img').naturalWidth === 480")
        .await;
    browser.shows("1 of 3").await;
    let active = browser.client.active_element().await.unwrap();
    active.send_keys("\u{e014}").await.unwrap(); // The right arrow.
    browser.shows("2 of 3").await;
    browser.click("dialog button[aria-label=Close]").await;
    browser
        .until("!document.querySelector('dialog[open]')")
        .await;
    browser.click("nav a[href$='/images']").await;
    browser.until(loaded).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_document_is_retried_where_it_is_shown() {
    let (host, browser) = open().await;
    host.script.set_broken(true);
    host.script.read(100);
    let id = host.add("broken.pdf", 3, 0).await;
    host.finished(&id).await;
    browser.open(&host.dashboard).await;
    browser.run(MARK).await;
    browser.shows("the PDF is damaged").await;
    host.script.set_broken(false);
    browser.click("#failures-title ~ .lines button").await;
    browser.shows("1 document queued again.").await;
    browser
        .until("document.querySelector('#count-completed').textContent === '1'")
        .await;
    browser.shows("No document has failed.").await;
    browser.until("window.mark").await;

    browser.open(&format!("{}/documents", host.dashboard)).await;
    browser.click("tbody input[type=checkbox]").await;
    browser.click(".bulkbar button[value=delete]").await;
    browser.shows("Delete this document?").await;
    browser.click("button.danger").await;
    browser.shows("1 document deleted.").await;
    browser.shows("No documents").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_paused_and_resumed_and_a_change_is_seen_soon() {
    let (host, browser) = open().await;
    host.add("waits.pdf", 2, 0).await;
    browser.open(&host.dashboard).await;
    let queue = QueueName::default();
    browser.click("form[action$='/queue/pause'] button").await;
    browser.shows("Paused. Nothing new is started.").await;
    assert!(host.store.stats(&queue).await.unwrap().settings.paused);
    browser.click("form[action$='/queue/resume'] button").await;
    browser.shows("Resumed.").await;
    browser
        .until("document.querySelector('#workers').textContent.trim() === 'Running'")
        .await;

    let watch = "window.changedAt = 0; const badge = document.querySelector('#workers');
        new MutationObserver(() => { window.changedAt ||= Date.now(); })
            .observe(badge, { subtree: true, childList: true, characterData: true });";
    let mut delays = Vec::new();
    for turn in 0..20 {
        browser.run(watch).await;
        let mut settings = host.store.stats(&queue).await.unwrap().settings;
        settings.paused = turn % 2 == 0;
        host.store.configure(&queue, settings).await.unwrap();
        let changed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        browser.until("window.changedAt").await;
        let seen = browser.run("return window.changedAt").await;
        let seen = Duration::from_millis(seen.as_u64().unwrap());
        delays.push(seen.saturating_sub(changed));
    }
    delays.sort();
    println!(
        "from a change of state to the page: median {:?}, at most {:?}, of {}",
        delays[delays.len() / 2],
        delays[delays.len() - 1],
        delays.len()
    );
    assert!(
        delays[delays.len() / 2] < Duration::from_secs(3),
        "{delays:?}"
    );
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_sign_in_and_out_and_readers_change_nothing() {
    let host = Host::start(Tokens {
        admin: Some("token-a".into()),
        uploader: None,
        reader: Some("token-r".into()),
    })
    .await;
    host.script.set_broken(true);
    let id = host.add("broken.pdf", 3, 0).await;
    host.finished(&id).await;
    let browser = Browser::start(Looks::default()).await;
    let sign_in = async |token: &str| {
        let field = browser.client.find(Locator::Css("#token")).await.unwrap();
        field.send_keys(token).await.unwrap();
        browser.click("form.login button").await;
    };
    browser
        .open(&format!("{}/documents/{id}", host.dashboard))
        .await;
    sign_in("wrong").await;
    browser.shows("This token is not known here.").await;
    sign_in("token-r").await;
    browser.shows("Why it failed").await;
    let controls = "document.querySelectorAll('main form:not([method=get]), main button:not(.copy, form[method=get] *)').length === 0";
    for path in ["", "/documents", &format!("/documents/{id}")] {
        browser.open(&format!("{}{path}", host.dashboard)).await;
        browser.until(controls).await;
    }
    // Not even by a form that they make themselves.
    let forged = format!(
        "return fetch('{}/documents/{id}/retry', {{ method: 'POST', body: new URLSearchParams({{
            form_token: document.querySelector('input[name=form_token]').value }}) }})
            .then((answer) => answer.status)",
        host.dashboard
    );
    assert_eq!(browser.run(&forged).await, 403);
    assert_eq!(
        browser.run("return document.cookie").await,
        "",
        "scripts see no session"
    );
    browser.click("form[action$='/logout'] button").await;
    browser.shows("Sign in to kbqueue").await;
    browser.open(&host.dashboard).await;
    browser.shows("Sign in to kbqueue").await;
    sign_in("token-a").await;
    browser.shows("Process now").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_finds_a_server_that_was_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]).await;
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let browser = Browser::start(Looks::default()).await;
    browser.open(&format!("{}/dashboard", server.url)).await;
    browser.shows("Nothing here yet").await;
    browser.run(MARK).await;
    browser
        .until("document.body.dataset.state === 'live'")
        .await;
    server.kill().await;
    browser.shows("Connection lost").await;
    let server = Server::start(dir.path(), &["--listen", &address]).await;
    browser
        .until("document.querySelector('#lost').hidden")
        .await;
    server.upload("after.pdf", text_pdf(2)).await;
    browser.shows("after.pdf").await;
    browser.until("window.mark").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_without_javascript() {
    let host = Host::start(Tokens::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plain.pdf");
    std::fs::write(&path, host::file("plain", 2, 1)).unwrap();
    let browser = Browser::start(Looks {
        scripts: false,
        ..Looks::default()
    })
    .await;
    browser.open(&format!("{}/upload", host.dashboard)).await;
    let field = browser.client.find(Locator::Css("#files")).await.unwrap();
    field.send_keys(path.to_str().unwrap()).await.unwrap();
    browser.click("#upload button").await;
    browser.shows("1 document uploaded.").await;
    browser.open(&host.dashboard).await;
    browser.shows("Page 0 of 2").await;
    host.script.read(2);
    // The page loads itself again.
    browser.shows("No document is being processed.").await;
    browser.click("form[action$='/queue/pause'] button").await;
    browser.shows("Paused. Nothing new is started.").await;
    browser.click("#newest-title ~ .lines a").await;
    browser.click(".tabs a[href$='/images']").await;
    browser.click(".thumb").await;
    browser.shows("Figure 1: what was measured").await;
    browser.close().await;
}
