//! The dashboard's pages, and who may do what there, without a browser.
#![allow(clippy::unwrap_used)]

mod support;

use axum::body::Body;
use axum::http::header::{LOCATION, SET_COOKIE};
use axum::http::{Method, Request, StatusCode};
use kbqueue_axum::Tokens;
use kbqueue_core::state::Outcome;
use kbqueue_core::store::Control;
use kbqueue_core::{DocumentId, QueueName, StoreExt};
use tower::ServiceExt;

use support::Form;
use support::browser::{Browser, failed};

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
        ("/search".to_owned(), "all words occur"),
        ("/search?q=nowhere".to_owned(), "Nothing found"),
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

#[tokio::test(start_paused = true)]
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
    // Long enough for everybody to be told who is to be.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
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

#[tokio::test]
async fn a_search_shows_where_the_words_stand() {
    let mut browser = Browser::new(Tokens::default());
    let id = browser.document("<i>report</i>.pdf").await;
    browser.work(Outcome::Complete).await;
    let page = browser.get("/search?q=FIRST+line").await;
    assert!(page.html.contains("<mark>first</mark>"), "{}", page.html);
    assert!(page.html.contains("<mark>line</mark>"));
    assert!(page.html.contains("&#60;b&#62;"), "text stays text");
    assert!(page.html.contains(&format!("/documents/{id}/chunks#c-0")));
    assert!(page.html.contains(&format!("/documents/{id}/pdf?page=1")));
    let long = browser
        .get(&format!("/search?q={}", "x".repeat(1001)))
        .await;
    assert_eq!(long.status, 422);
    assert_eq!(browser.get("/search?after=x").await.status, 400);
}

#[tokio::test]
async fn limits_and_metadata_are_edited() {
    let mut browser = Browser::new(Tokens::default());
    let id = browser.document("a.pdf").await;
    let token = browser.form_token().await;
    let form = "documents=100&per_seconds=60&burst=&max_processing=4&max_processing_per_tenant=&max_queued=9";
    let page = browser
        .post(
            "/queue/limits",
            &format!("form_token={token}&queue=default&{form}"),
        )
        .await;
    assert_eq!(page.status, 303, "{}", page.html);
    let queue = QueueName::default();
    let settings = browser.store.stats(&queue).await.unwrap().settings;
    let rate = settings.rate.unwrap();
    assert_eq!(
        (
            rate.documents.get(),
            rate.per_seconds.get(),
            rate.burst.get()
        ),
        (100, 60, 1)
    );
    let limits = (
        settings.max_processing,
        settings.max_processing_per_tenant,
        settings.max_queued,
    );
    assert_eq!(limits, (Some(4), None, Some(9)));
    assert!(
        browser
            .get("")
            .await
            .html
            .contains("name=\"max_queued\" min=\"0\" value=\"9\"")
    );
    for wrong in [
        "documents=1",
        "documents=0&per_seconds=1",
        "max_queued=many",
        "max_processing=-1",
    ] {
        let page = browser
            .post(
                "/queue/limits",
                &format!("form_token={token}&queue=default&{wrong}"),
            )
            .await;
        assert_eq!(page.status, 422, "{wrong}");
    }
    assert_eq!(
        browser.store.stats(&queue).await.unwrap().settings,
        settings,
        "nothing changed"
    );

    let path = format!("/documents/{id}/change");
    let form = format!("form_token={token}&priority=-7&metadata=%7B%22ward%22%3A%203%7D");
    assert_eq!(browser.post(&path, &form).await.status, 303);
    let document = browser.store.find(id).await.unwrap();
    assert_eq!(
        (document.priority, &document.metadata["ward"]),
        (-7, &3.into())
    );
    let broken = browser
        .post(
            &path,
            &format!("form_token={token}&priority=1&metadata=%7B"),
        )
        .await;
    assert_eq!(broken.status, 422);
    assert!(
        broken.html.contains("the metadata is no JSON"),
        "{}",
        broken.html
    );
}
