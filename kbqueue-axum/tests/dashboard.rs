//! The dashboard's pages, and who may do what there, without a browser.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{COOKIE, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use kbqueue_axum::{ApiOptions, ApiState, Tokens};
use kbqueue_core::state::Outcome;
use kbqueue_core::store::{Checkpoint, ClaimRequest, Control, Settlement, Worker, WorkerId};
use kbqueue_core::{
    BlobStore, Chunk, Document, DocumentId, Image, MemoryStore, NewDocument, QueueName, Store,
    StoreExt,
};
use tower::ServiceExt;
use uuid::Uuid;

use support::{Form, blobs};

/// A dashboard, mounted elsewhere than usual, and a browser's cookie.
struct Browser {
    app: Router,
    store: Arc<dyn Store>,
    blobs: BlobStore,
    _dir: tempfile::TempDir,
    cookie: Option<String>,
}

struct Page {
    status: StatusCode,
    headers: HeaderMap,
    html: String,
}

impl Browser {
    fn new(tokens: Tokens) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (dir, blobs) = blobs();
        let mut options = ApiOptions::default();
        options.tokens = tokens;
        let state = ApiState::new(store.clone(), blobs.clone(), options);
        let app = Router::new()
            .nest("/host/board", kbqueue_axum::dashboard(state.clone()))
            .merge(kbqueue_axum::router(state));
        Self {
            app,
            store,
            blobs,
            _dir: dir,
            cookie: None,
        }
    }

    fn guarded() -> Self {
        Self::new(Tokens {
            admin: Some("token-a".into()),
            uploader: Some("token-u".into()),
            reader: Some("token-r".into()),
        })
    }

    async fn send(&mut self, mut request: Request<Body>) -> Page {
        if let Some(cookie) = &self.cookie {
            let cookie = cookie.parse().unwrap();
            request.headers_mut().insert(COOKIE, cookie);
        }
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        if let Some(set) = parts.headers.get(SET_COOKIE) {
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            self.cookie = Some(pair.to_owned());
        }
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        Page {
            status: parts.status,
            headers: parts.headers,
            html: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    async fn get(&mut self, path: &str) -> Page {
        let request = Request::get(format!("/host/board{path}"));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    async fn post(&mut self, path: &str, form: &str) -> Page {
        let request = Request::post(format!("/host/board{path}"))
            .header("content-type", "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(form.to_owned())).unwrap())
            .await
    }

    async fn sign_in(&mut self, token: &str) -> Page {
        self.cookie = None;
        self.post("/login", &format!("token={token}&next=/documents"))
            .await
    }

    /// The token that forms of this browser carry.
    async fn form_token(&mut self) -> String {
        let page = self.get("/documents").await;
        let (_, rest) = page
            .html
            .split_once("name=\"form_token\" value=\"")
            .unwrap();
        rest.split('"').next().unwrap().to_owned()
    }

    async fn document(&self, name: &str) -> DocumentId {
        let bytes = Bytes::from(format!("%PDF- {name}"));
        let blob = self.blobs.put(bytes).await.unwrap();
        let new = NewDocument::new(QueueName::default(), blob, name);
        self.store.enqueue_one(new).await.unwrap().id
    }

    /// Claims the next document, gives it a chunk and two images, and ends it.
    async fn work(&self, outcome: Outcome) -> Document {
        let worker = Worker {
            id: WorkerId(Uuid::new_v4()),
            name: "worker-1".into(),
            queues: vec![QueueName::default()],
        };
        let lease = std::time::Duration::from_secs(60);
        let request = ClaimRequest::new(worker, 1, lease, "f".into());
        let document = self.store.claim(request).await.unwrap().documents.remove(0);
        let lease_id = document.lifecycle.lease.clone().unwrap().id;
        let mut cursor = document.lifecycle.cursor;
        cursor.number += 1;
        (cursor.pages, cursor.chunks, cursor.images) = (3, 1, 2);
        let mut progress = document.lifecycle.progress;
        (progress.current_page, progress.total_pages) = (3, Some(3));
        (
            progress.current_chunk,
            progress.total_chunks,
            progress.percent,
        ) = (1, 1, 90);
        let mut checkpoint = Checkpoint::new(document.id, lease_id, lease, cursor, progress);
        checkpoint.chunks.push(Chunk {
            ordinal: 0,
            text: "first <b>line</b>\nsecond line".into(),
            first_page: 1,
            last_page: 3,
            start_offset: 0,
            end_offset: 29,
            section: Some("Introduction".into()),
        });
        for ordinal in 0..2 {
            let blob = self.blobs.put(Bytes::from(format!("png {ordinal}"))).await;
            checkpoint.images.push(Image {
                ordinal,
                page: ordinal + 1,
                media_type: "image/png".into(),
                width: 40,
                height: 30,
                bbox: [0.0; 4],
                caption: Some(format!("Figure {ordinal}")),
                blob: blob.unwrap(),
                thumbnail: None,
            });
        }
        self.store.checkpoint(checkpoint).await.unwrap();
        let settlement = Settlement {
            document: document.id,
            lease_id,
            outcome,
        };
        self.store.settle(vec![settlement]).await.unwrap();
        self.store.find(document.id).await.unwrap()
    }
}

fn failed(error: &str) -> Outcome {
    Outcome::Fail {
        error: error.into(),
        retryable: false,
        max_retries: 0,
        backoff: std::time::Duration::ZERO,
    }
}

#[tokio::test]
async fn pages_show_everything_and_escape_what_others_wrote() {
    let mut browser = Browser::new(Tokens::default());
    let empty = browser.get("").await;
    assert_eq!(empty.status, 200);
    assert!(empty.html.contains("Nothing here yet"));
    let good = browser.document("<script>x&.pdf").await;
    browser.work(Outcome::Complete).await;
    let bad = browser.document("bad.pdf").await;
    browser.work(failed("the <i>file</i> is damaged")).await;
    let paths = [
        (String::new(), "the &#60;i&#62;file"),
        ("/documents".to_owned(), "&#60;script&#62;x&#38;.pdf"),
        ("/documents?state=failed".to_owned(), "bad.pdf"),
        (format!("/documents/{good}"), "worker-1"),
        (format!("/documents/{good}/chunks"), "first &#60;b&#62;line"),
        (format!("/documents/{good}/images"), "Figure 1"),
        (format!("/documents/{good}/images/1"), "Previous"),
        (format!("/documents/{good}/pdf?page=2"), "/source#page=2"),
        (format!("/documents/{bad}"), "Why it failed"),
        ("/images".to_owned(), "Figure 0"),
        ("/upload".to_owned(), "drop them here"),
    ];
    for (path, text) in paths {
        let page = browser.get(&path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.html);
        assert!(page.html.contains(text), "{path}: {}", page.html);
        assert!(!page.html.contains("<script>x"), "{path}");
        assert!(!page.html.contains("style="), "no style inside {path}");
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe"));
        for link in page.html.split("href=\"/").skip(1) {
            assert!(link.starts_with("host/board"), "{path}: {link:.40}");
        }
    }
    let missing = browser
        .get(&format!("/documents/{}", DocumentId::new()))
        .await;
    assert_eq!(missing.status, 404);
    assert!(missing.html.contains("there is no document") && missing.html.contains("<main"));
}

#[tokio::test]
async fn images_and_the_file_come_as_what_they_are_and_nothing_else() {
    let mut browser = Browser::new(Tokens::default());
    let id = browser.document("a.pdf").await;
    browser.work(Outcome::Complete).await;
    let image = browser.get(&format!("/documents/{id}/images/0/full")).await;
    assert_eq!(
        (image.status, image.html.as_str()),
        (StatusCode::OK, "png 0")
    );
    assert_eq!(image.headers["content-type"], "image/png");
    assert_eq!(image.headers["x-content-type-options"], "nosniff");
    let file = browser.get(&format!("/documents/{id}/source")).await;
    assert_eq!(file.html, "%PDF- a.pdf");
    assert_eq!(file.headers["content-type"], "application/pdf");
    let policy = file.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("frame-ancestors 'self'"), "{policy}");
    let none = browser.get(&format!("/documents/{id}/images/7/full")).await;
    assert_eq!(none.status, 404);
}

#[tokio::test]
async fn without_a_session_there_is_only_the_page_for_signing_in() {
    let mut browser = Browser::guarded();
    for path in ["", "/documents", "/images", "/upload"] {
        let page = browser.get(path).await;
        assert_eq!(page.status, 303, "{path}");
        let to = page.headers[LOCATION].to_str().unwrap();
        assert!(to.starts_with("/host/board/login?next="), "{to}");
    }
    assert_eq!(browser.get("/live").await.status, 401);
    let forged = browser.post("/queue/pause", "form_token=x").await;
    assert_eq!(forged.status, 401);
    let wrong = browser.sign_in("token-x").await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.html.contains("not known here") && browser.cookie.is_none());
    let right = browser.sign_in("token-r").await;
    assert_eq!(right.headers[LOCATION], "/host/board/documents");
    let set = right.headers[SET_COOKIE].to_str().unwrap();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict"));
    assert!(!set.contains("token-r"), "the token itself is not kept");
    assert_eq!(browser.get("/documents").await.status, 200);
}

#[tokio::test]
async fn readers_see_no_controls_and_can_change_nothing() {
    let mut browser = Browser::guarded();
    let id = browser.document("a.pdf").await;
    browser.work(failed("damaged")).await;
    browser.sign_in("token-r").await;
    for path in [
        String::new(),
        "/documents".into(),
        format!("/documents/{id}"),
    ] {
        let page = browser.get(&path).await;
        for control in ["Pause", "Retry", "Delete", "type=\"checkbox\""] {
            assert!(!page.html.contains(control), "{path} shows {control}");
        }
    }
    assert_eq!(browser.get("/upload").await.status, 403);
    let token = browser.form_token().await;
    let form = format!("form_token={token}&ids={id}&action=delete&confirmed=1&min_chars=1");
    let before = browser.store.find(id).await.unwrap();
    for path in ["retry", "cancel", "delete", "rechunk"] {
        let path = format!("/documents/{id}/{path}");
        assert_eq!(browser.post(&path, &form).await.status, 403, "{path}");
    }
    for path in ["/documents/bulk", "/queue/pause", "/queue/process"] {
        assert_eq!(browser.post(path, &form).await.status, 403, "{path}");
    }
    let upload = Form::new().file("b.pdf", "%PDF- b");
    let upload = upload.request(&format!("/host/board/upload?form_token={token}"));
    assert_eq!(browser.send(upload).await.status, 403);
    assert_eq!(browser.store.find(id).await.unwrap(), before);
    browser.sign_in("token-u").await;
    let token = browser.form_token().await;
    let upload = Form::new().file("b.pdf", "%PDF- b");
    let upload = upload.request(&format!("/host/board/upload?form_token={token}"));
    assert_eq!(browser.send(upload).await.status, 303);
    let pause = browser
        .post("/queue/pause", &format!("form_token={token}"))
        .await;
    assert_eq!(pause.status, 403, "an uploader does not rule the queue");
}

#[tokio::test]
async fn forms_of_other_sites_are_refused_with_and_without_tokens() {
    for mut browser in [Browser::new(Tokens::default()), Browser::guarded()] {
        browser.sign_in("token-a").await;
        let token = browser.form_token().await;
        for form in ["", "form_token=", "form_token=abc"] {
            assert_eq!(
                browser.post("/queue/pause", form).await.status,
                403,
                "{form}"
            );
        }
        let request = Request::post("/host/board/queue/pause")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "cross-site");
        let body = Body::from(format!("form_token={token}"));
        let foreign = browser.send(request.body(body).unwrap()).await;
        assert_eq!(foreign.status, 403);
        let queue = QueueName::default();
        assert!(!browser.store.stats(&queue).await.unwrap().settings.paused);
        let own = browser
            .post("/queue/pause", &format!("form_token={token}"))
            .await;
        assert_eq!(own.headers[LOCATION], "/host/board?done=paused");
        assert!(browser.store.stats(&queue).await.unwrap().settings.paused);
    }
}

#[tokio::test]
async fn documents_are_retried_cancelled_and_deleted_one_by_one_and_many_at_once() {
    let mut browser = Browser::guarded();
    let mut ids = Vec::new();
    for name in ["a.pdf", "b.pdf", "c.pdf"] {
        ids.push(browser.document(name).await);
        browser.work(failed("damaged")).await;
    }
    browser.sign_in("token-a").await;
    let token = browser.form_token().await;
    let (one, form) = (ids[0], format!("form_token={token}"));
    let state = async |browser: &Browser, id| browser.store.find(id).await.unwrap().lifecycle.state;
    browser
        .post(&format!("/documents/{one}/retry"), &form)
        .await;
    assert_eq!(state(&browser, one).await.as_str(), "queued");
    browser
        .post(&format!("/documents/{one}/cancel"), &form)
        .await;
    assert_eq!(state(&browser, one).await.as_str(), "cancelled");
    let sizes = format!("{form}&min_chars=100&max_chars=200&overlap_chars=0");
    let path = format!("/documents/{one}/rechunk");
    let conflict = browser.post(&path, &sizes).await;
    assert_eq!(conflict.status, 409);

    // All that failed: the cancelled one is not meant.
    let all = format!("{form}&action=retry&all=1&state=failed");
    let answer = browser.post("/documents/bulk", &all).await;
    let to = answer.headers[LOCATION].to_str().unwrap();
    assert!(to.ends_with("done=retry&n=2&left=0"), "{to}");
    assert_eq!(state(&browser, ids[2]).await.as_str(), "queued");
    assert_eq!(state(&browser, one).await.as_str(), "cancelled");

    // Nothing goes before it is confirmed.
    let ticked = format!("{form}&action=delete&ids={one}&ids={}", ids[1]);
    let asked = browser.post("/documents/bulk", &ticked).await;
    assert_eq!(asked.status, 200);
    assert!(asked.html.contains("these 2 documents") && asked.html.contains("b.pdf"));
    assert!(browser.store.document(one).await.unwrap().is_some());
    let confirmed = format!("{ticked}&confirmed=1");
    let answer = browser.post("/documents/bulk", &confirmed).await;
    assert_eq!(answer.status, 303);
    assert!(browser.store.document(one).await.unwrap().is_none());
    assert!(browser.store.document(ids[1]).await.unwrap().is_none());
    assert!(browser.store.document(ids[2]).await.unwrap().is_some());
}

#[tokio::test]
async fn a_filter_by_name_shows_and_changes_what_it_lets_through_and_nothing_else() {
    let mut browser = Browser::new(Tokens::default());
    let mut ids = Vec::new();
    for name in ["report 1.pdf", "report 2.pdf", "letter.pdf"] {
        ids.push(browser.document(name).await);
    }
    let list = browser.get("/documents?name=report+&tenant=").await;
    assert!(list.html.contains("report 1.pdf") && list.html.contains("report 2.pdf"));
    assert!(!list.html.contains("letter.pdf"));
    // The other states keep the filter.
    let links = list.html.replace("&#38;", "&").replace("&amp;", "&");
    assert!(links.contains("state=failed&queue=&tenant=&name=report%20"));
    let nobody = browser.get("/documents?tenant=nobody").await;
    assert!(!nobody.html.contains("report 1.pdf") && !nobody.html.contains("letter.pdf"));

    let token = browser.form_token().await;
    let filter = "all=1&state=queued&tenant=&name=report+";
    let form = format!("form_token={token}&action=cancel&{filter}");
    let answer = browser.post("/documents/bulk", &form).await;
    let to = answer.headers[LOCATION].to_str().unwrap();
    let said = "tenant=&name=report%20&done=cancel&n=2&left=0";
    assert!(to.ends_with(said), "{to}");
    let state = async |id| browser.store.find(id).await.unwrap().lifecycle.state;
    assert_eq!(state(ids[0]).await.as_str(), "cancelled");
    assert_eq!(state(ids[1]).await.as_str(), "cancelled");
    assert_eq!(state(ids[2]).await.as_str(), "queued");
}

#[tokio::test]
async fn what_an_action_did_is_said_in_our_own_words_only() {
    let mut browser = Browser::new(Tokens::default());
    let said = browser.get("/documents?done=retry&n=3&left=1").await;
    assert!(
        said.html
            .contains("3 documents queued again. 1 document left alone")
    );
    let foreign = browser.get("/documents?done=you+won").await;
    assert!(!foreign.html.contains("you won"));
}

#[tokio::test]
async fn the_list_goes_on_where_its_page_ended() {
    let mut browser = Browser::new(Tokens::default());
    for number in 0..60 {
        browser.document(&format!("n{number:02}.pdf")).await;
    }
    let first = browser.get("/documents?state=queued").await;
    assert!(first.html.contains("n59.pdf") && first.html.contains("n10.pdf"));
    assert!(!first.html.contains("n09.pdf"));
    let (_, next) = first
        .html
        .split_once("rel=\"next\" href=\"/host/board")
        .unwrap();
    let next = next.split('"').next().unwrap().replace("&#38;", "&");
    let second = browser.get(&next).await;
    assert!(second.html.contains("n09.pdf") && second.html.contains("n00.pdf"));
    assert!(!second.html.contains("n10.pdf") && !second.html.contains("rel=\"next\""));
}

#[tokio::test]
async fn a_page_hears_of_what_concerns_it() {
    use futures::StreamExt;
    let mut browser = Browser::new(Tokens::default());
    browser.get("").await;
    let (one, other) = (
        browser.document("a.pdf").await,
        browser.document("b.pdf").await,
    );
    let request = Request::builder()
        .method(Method::GET)
        .uri(format!("/host/board/live?document={one}"))
        .body(Body::empty())
        .unwrap();
    let response = browser.app.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut hints = response.into_body().into_data_stream();
    let hint = hints.next().await.unwrap().unwrap();
    assert_eq!(
        &hint[..],
        b"data: changed\n\n",
        "the first one comes at once"
    );
    browser.store.control(other, Control::Cancel).await.unwrap();
    let next = hints.next();
    let mut next = std::pin::pin!(next);
    assert!(
        futures::poll!(next.as_mut()).is_pending(),
        "not of another document"
    );
    browser.store.control(one, Control::Cancel).await.unwrap();
    assert_eq!(&next.await.unwrap().unwrap()[..], b"data: changed\n\n");
}

#[tokio::test]
async fn at_its_usual_place_too_problems_are_pages() {
    let mut browser = Browser::guarded();
    let send = |method, path: &'static str, form: &'static str| {
        Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(form))
            .unwrap()
    };
    let wrong = send(Method::POST, "/dashboard/login", "token=wrong");
    let wrong = browser.send(wrong).await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.html.contains("not known here"), "{}", wrong.html);
    browser.sign_in("token-r").await;
    let missing = browser
        .send(send(Method::GET, "/dashboard/nothing", ""))
        .await;
    assert_eq!(missing.status, 404);
    assert!(missing.html.contains("<main"), "{}", missing.html);
    let home = browser.send(send(Method::GET, "/", "")).await;
    assert_eq!(home.headers[LOCATION], "/dashboard");
}
