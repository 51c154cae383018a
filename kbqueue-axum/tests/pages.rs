//! The dashboard with several queues, with many documents, and with what is wrong.
#![allow(clippy::unwrap_used)]

mod support;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::LOCATION;
use axum::http::{Method, Request};
use kbqueue_axum::{ApiOptions, Tokens};
use kbqueue_core::state::Outcome;
use kbqueue_core::store::{ClaimRequest, Control, Worker, WorkerId};
use kbqueue_core::{BlobRef, Dedupe, DocumentId, MemoryStore, NewDocument, QueueName, Store};

use support::Form;
use support::browser::Browser;
use support::counting::Counting;

async fn add(store: &dyn Store, queue: &QueueName, count: usize) -> Vec<DocumentId> {
    let documents = (0..count).map(|number| {
        let blob = BlobRef {
            sha256: "ab".repeat(32),
            size_bytes: 5,
        };
        let mut document = NewDocument::new(queue.clone(), blob, &format!("{queue}-{number}.pdf"));
        document.dedupe = Dedupe::Off;
        document
    });
    let enqueued = store.enqueue(documents.collect()).await.unwrap();
    enqueued.into_iter().map(|one| one.id).collect()
}

fn two_queues() -> (Browser, [QueueName; 2]) {
    let queues = ["one", "two"].map(|name| QueueName::new(name).unwrap());
    let mut options = ApiOptions::default();
    options.processing.queues = queues.to_vec();
    let browser = Browser::over(Arc::new(MemoryStore::new()), options);
    (browser, queues)
}

#[tokio::test]
async fn all_queues_and_each_of_them_are_shown() {
    let (mut browser, queues) = two_queues();
    for queue in &queues {
        add(&*browser.store, queue, 1).await;
    }
    // What a browser sends where "All queues" is chosen.
    for path in ["?queue=", "", "/documents?queue=&state="] {
        let page = browser.get(path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.html);
        assert!(page.html.contains("one-0.pdf") && page.html.contains("two-0.pdf"));
    }
    let one = browser.get("?queue=one").await;
    assert!(one.html.contains("one-0.pdf") && !one.html.contains("two-0.pdf"));
    assert_eq!(browser.get("?queue=a+b").await.status, 422);
}

#[tokio::test]
async fn what_an_address_or_a_form_gets_wrong_is_a_page() {
    let mut browser = Browser::new(Tokens::default());
    let id = browser.document("a.pdf").await;
    browser.work(Outcome::Complete).await;
    let token = browser.form_token().await;
    for path in [
        "/documents?after=x".to_owned(),
        "/images?each=x".to_owned(),
        "/live?queue=a+b".to_owned(),
        "/login?next=a&next=b".to_owned(),
        "/assets/%ff".to_owned(),
        format!("/documents/{id}/chunks?after=x"),
        format!("/documents/{id}/images?after=x"),
        format!("/documents/{id}/pdf?page=x"),
        "?queue=a&queue=b".to_owned(),
    ] {
        let page = browser.get(&path).await;
        assert_eq!(page.status, 400, "{path}");
        assert!(page.html.contains("<main"), "{path}: {}", page.html);
        assert!(page.html.contains("cannot be understood"), "{path}");
    }
    for path in ["/login", "/queue/%ff"] {
        let page = browser.post(path, &format!("form_token={token}")).await;
        assert_eq!(page.status, 400, "{path}");
        assert!(page.html.contains("<main"), "{path}: {}", page.html);
    }
    let twice = "/upload?form_token=a&form_token=b";
    let upload = Form::new().file("b.pdf", "%PDF- b");
    let upload = upload.request(&format!("/host/board{twice}"));
    let page = browser.send(upload).await;
    assert_eq!(page.status, 400);
    assert!(page.html.contains("<main"), "{}", page.html);
    let method = Request::builder()
        .method(Method::POST)
        .uri("/host/board/images");
    let page = browser.send(method.body(Body::empty()).unwrap()).await;
    assert_eq!(page.status, 405);
    assert!(page.html.contains("<main"), "{}", page.html);
}

#[tokio::test]
async fn an_upload_without_the_script_says_what_was_not_taken_and_why() {
    let mut browser = Browser::new(Tokens::default());
    let token = browser.form_token().await;
    let path = format!("/host/board/upload?form_token={token}");
    let good = || Form::new().file("good.pdf", "%PDF- good");
    let page = browser.send(good().request(&path)).await;
    let to = page.headers[LOCATION].to_str().unwrap();
    assert!(to.ends_with("/documents?done=upload&n=1"), "{to}");
    let mixed = good().file("notes.pdf", "just text").file("void.pdf", "");
    let page = browser.send(mixed.request(&path)).await;
    assert_eq!(page.status, 200);
    for text in [
        "1 document uploaded.",
        "notes.pdf",
        "is not a PDF",
        "void.pdf",
        "has no bytes",
    ] {
        assert!(page.html.contains(text), "{text}: {}", page.html);
    }
    assert!(!page.html.contains("good.pdf"));
    let none = Form::new().file("notes.pdf", "text").file("void.pdf", "");
    let page = browser.send(none.request(&path)).await;
    assert_eq!(page.status, 415);
    for text in ["notes.pdf", "is not a PDF", "void.pdf", "has no bytes"] {
        assert!(page.html.contains(text), "{text}: {}", page.html);
    }
}

#[tokio::test]
async fn a_filter_changes_all_that_it_finds_in_all_queues() {
    let (mut browser, queues) = two_queues();
    for queue in &queues {
        add(&*browser.store, queue, 700).await;
    }
    let token = browser.form_token().await;
    let wrong = format!("form_token={token}&action=cancel&all=1&state=waiting");
    assert_eq!(browser.post("/documents/bulk", &wrong).await.status, 422);
    let ask = |action: &str, state: &str| {
        format!("form_token={token}&action={action}&all=1&state={state}&queue=")
    };
    let queued = async |browser: &Browser| {
        let mut count = 0;
        for queue in &queues {
            count += browser.store.stats(queue).await.unwrap().counts.queued;
        }
        count
    };
    assert_eq!(queued(&browser).await, 1400);
    let done = browser
        .post("/documents/bulk", &ask("cancel", "queued"))
        .await;
    let to = done.headers[LOCATION].to_str().unwrap();
    assert!(to.ends_with("done=cancel&n=1400&left=0"), "{to}");
    assert_eq!(queued(&browser).await, 0);
    let done = browser
        .post("/documents/bulk", &ask("retry", "cancelled"))
        .await;
    let to = done.headers[LOCATION].to_str().unwrap();
    assert!(to.ends_with("done=retry&n=1400&left=0"), "{to}");
    // What is deleted is confirmed one by one, and those that do not fit are spoken of.
    let asked = browser.post("/documents/bulk", &ask("delete", "")).await;
    assert_eq!(asked.status, 200);
    assert!(asked.html.contains("these 1000 documents"));
    assert!(asked.html.contains("The filter finds others too"));
    let one = browser
        .post("/documents/bulk", &ask("delete", "failed"))
        .await;
    assert!(
        one.headers[LOCATION]
            .to_str()
            .unwrap()
            .ends_with("n=0&left=0")
    );
}

#[tokio::test]
async fn ticked_documents_that_cannot_be_changed_are_counted_as_left() {
    let mut browser = Browser::new(Tokens::default());
    let ids = add(&*browser.store, &QueueName::default(), 3).await;
    browser
        .store
        .control(ids[0], Control::Cancel)
        .await
        .unwrap();
    let token = browser.form_token().await;
    let mut form = format!("form_token={token}&action=retry");
    for id in &ids {
        form += &format!("&ids={id}");
    }
    let done = browser.post("/documents/bulk", &form).await;
    let to = done.headers[LOCATION].to_str().unwrap();
    assert!(to.ends_with("done=retry&n=1&left=2"), "{to}");
    for _ in 0..1000 {
        form += &format!("&ids={}", DocumentId::new());
    }
    assert_eq!(browser.post("/documents/bulk", &form).await.status, 422);
}

#[tokio::test]
async fn the_overview_counts_what_it_does_not_show_and_reads_no_more_than_it_shows() {
    let store = Arc::new(Counting::default());
    let queue = QueueName::default();
    add(&*store, &queue, 600).await;
    let worker = Worker {
        id: WorkerId(DocumentId::new().0),
        name: "w1".to_owned(),
        queues: vec![queue],
    };
    let lease = Duration::from_secs(600);
    let request = ClaimRequest::new(worker, 600, lease, "f".to_owned());
    let claimed = store.claim(request).await.unwrap().documents;
    assert_eq!(claimed.len(), 600);
    let mut browser = Browser::over(store.clone(), ApiOptions::default());
    let page = browser.get("").await;
    assert!(page.html.contains("580 more"), "{}", page.html);
    assert_eq!(page.html.matches("id=\"p-").count(), 20);
    let listed = store.listed.load(Ordering::SeqCst);
    assert_eq!(listed, 20 + 8, "those under work and the newest");
}

#[tokio::test]
async fn the_dashboard_counts_as_calls_and_has_what_every_call_has() {
    let mut options = ApiOptions::default();
    options.tokens.reader = Some("token-r".into());
    options.requests_per_minute = NonZeroU32::new(3);
    let mut browser = Browser::over(Arc::new(MemoryStore::new()), options);
    browser.sign_in("token-r").await;
    for _ in 0..3 {
        let page = browser.get("/documents").await;
        assert_eq!(page.status, 200);
        assert!(page.headers.contains_key("x-request-id"));
    }
    let page = browser.get("/documents").await;
    assert_eq!(page.status, 429);
    assert!(page.html.contains("<main"), "{}", page.html);
    assert!(page.headers.contains_key("retry-after"));
    let style = browser.get("/assets/dashboard.css").await;
    assert_eq!(style.status, 200, "what pages are made of does not count");
    let request = Request::get("/host/board/assets/dashboard.css");
    let request = request.header("accept-encoding", "gzip");
    let style = browser.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(style.headers["content-encoding"], "gzip");
}

#[tokio::test(start_paused = true)]
async fn a_page_does_not_wait_for_ever() {
    let store = Arc::new(Counting::default());
    let mut browser = Browser::over(store.clone(), ApiOptions::default());
    store.stuck.store(true, Ordering::SeqCst);
    for path in ["", "/documents", "/upload"] {
        let page = tokio::time::timeout(Duration::from_secs(600), browser.get(path)).await;
        let page = page.expect("an answer");
        assert_eq!(page.status, 503, "{path}");
        assert!(page.html.contains("<main"), "{}", page.html);
    }
}
