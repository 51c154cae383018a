//! Makes the pictures of the dashboard that the README shows: `make screenshots`.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use kbqueue_axum::Tokens;
use kbqueue_tests::browser::{Browser, Looks};
use kbqueue_tests::host::Host;

#[tokio::main]
async fn main() {
    let directory = std::env::args().nth(1).expect("give a directory");
    let directory = PathBuf::from(directory);
    std::fs::create_dir_all(&directory).unwrap();
    let host = Host::start(Tokens::default()).await;
    let [completed, _, _] = host.stage().await;
    let board = &host.dashboard;
    let pages = [
        ("overview", board.clone()),
        ("documents", format!("{board}/documents")),
        ("document", format!("{board}/documents/{completed}")),
        ("images", format!("{board}/images")),
        ("search", format!("{board}/search?q=page")),
    ];
    for (looks, dark, window, shown) in [
        ("light", false, (1280, 900), 5),
        ("dark", true, (1280, 900), 1),
        ("phone", false, (500, 1000), 2),
    ] {
        let browser = Browser::start(Looks {
            window,
            dark,
            ..Looks::default()
        })
        .await;
        for (name, url) in &pages[..shown] {
            browser.open(url).await;
            let ready = "[...document.images].every((image) => image.complete)";
            browser.until(ready).await;
            let path = directory.join(format!("{name}-{looks}.png"));
            std::fs::write(path, browser.picture().await).unwrap();
        }
        if looks == "light" {
            browser.open(&format!("{board}/images")).await;
            browser.click(".thumb").await;
            browser
                .until("document.querySelector('dialog[open] img').complete")
                .await;
            let path = directory.join("lightbox-light.png");
            std::fs::write(path, browser.picture().await).unwrap();
        }
        browser.close().await;
    }
}
