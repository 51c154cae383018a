//! How much memory a large document takes.
#![allow(clippy::unwrap_used)]

use kbqueue_tests::pdf::write_pdf;
use kbqueue_tests::server::Server;

/// Memory is flat: a 100 MB PDF is streamed in, stored and read page by page.
#[tokio::test]
async fn a_hundred_megabytes_take_less_than_two_hundred_above_idle() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]).await;
    let (idle_kib, _) = server.memory_kib();
    let mut pdf = Vec::new();
    write_pdf(&mut pdf, 100, 1_000_000).unwrap();
    assert!(pdf.len() > 100_000_000);
    let id = server.upload("large.pdf", pdf).await;
    let document = server
        .wait_for(&id, |document| document["status"] == "completed")
        .await;
    assert_eq!(document["total_pages"], 100);
    let (_, peak_kib) = server.memory_kib();
    println!("idle {idle_kib} KiB, peak {peak_kib} KiB");
    assert!(
        peak_kib - idle_kib < 200 * 1024,
        "{} MiB above idle",
        (peak_kib - idle_kib) / 1024
    );
}
