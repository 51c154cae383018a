//! The bytes of uploads and of pictures.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use kbqueue_core::lifecycle::Cursor;
use kbqueue_core::output::{PageSource, Provenance};
use kbqueue_core::store::{Checkpoint, ClaimRequest, Worker, WorkerId};
use kbqueue_core::{BlobStore, DocumentId, Image, Page, Progress, QueueName};
use support::{Answer, Form, PREFIX, Service};

async fn get(service: &Service, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    service.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn an_upload_is_given_back_whole_or_in_part() {
    let service = Service::new();
    let bytes = format!("%PDF-{}", "0123456789".repeat(20_000));
    let form = Form::new().file("über \"mich\".pdf", &bytes);
    let id = service.upload(form).await.json()["documents"][0]["document_id"].clone();
    let path = format!("{PREFIX}/documents/{}/source", id.as_str().unwrap());
    let whole = get(&service, &path, &[("accept-encoding", "gzip")]).await;
    assert_eq!(whole.status, 200);
    assert_eq!(whole.bytes, bytes.as_bytes());
    assert_eq!(whole.headers["content-type"], "application/pdf");
    assert_eq!(whole.headers["content-length"], "200005");
    assert_eq!(whole.headers["accept-ranges"], "bytes");
    assert_eq!(whole.headers["x-content-type-options"], "nosniff");
    let etag = whole.headers["etag"].to_str().unwrap().to_owned();
    for (range, begin, end) in [
        ("bytes=5-14", 5, 15),
        ("bytes=-4", 200_001, 200_005),
        ("bytes=100000-", 100_000, 200_005),
    ] {
        let part = get(&service, &path, &[("range", range)]).await;
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(part.bytes, bytes.as_bytes()[begin..end], "{range}");
        let named = format!("bytes {begin}-{}/200005", end - 1);
        assert_eq!(part.headers["content-range"], named.as_str());
    }
    let beyond = get(&service, &path, &[("range", "bytes=200005-")]).await;
    beyond.problem(416, "range-not-satisfiable");
    assert_eq!(beyond.headers["content-range"], "bytes */200005");
    for (headers, status) in [
        (vec![("if-none-match", etag.as_str())], 304),
        (vec![("if-none-match", "\"other\"")], 200),
        (
            vec![("range", "bytes=0-1"), ("if-range", etag.as_str())],
            206,
        ),
        (vec![("range", "bytes=0-1"), ("if-range", "\"other\"")], 200),
        (vec![("range", "bytes=0-1,4-5")], 200),
    ] {
        assert_eq!(
            get(&service, &path, &headers).await.status,
            status,
            "{headers:?}"
        );
    }
}

#[tokio::test]
async fn pages_and_pictures_of_a_document() {
    let service = Service::new();
    let id = service.add("%PDF- one").await;
    let blobs = BlobStore::connect(&format!("file:{}", service.dir.path().display())).unwrap();
    let picture = blobs.put(b"\xff\xd8\xff picture"[..].into()).await.unwrap();
    let small = blobs.put(b"\x89PNG small"[..].into()).await.unwrap();
    let worker = Worker {
        id: WorkerId(DocumentId::new().0),
        name: "w1".to_owned(),
        queues: vec![QueueName::default()],
    };
    let lease = Duration::from_secs(60);
    let request = ClaimRequest::new(worker, 1, lease, "f".to_owned());
    let claimed = service
        .store
        .claim(request)
        .await
        .unwrap()
        .documents
        .remove(0);
    let mut cursor = Cursor::default();
    (cursor.number, cursor.pages, cursor.images) = (1, 1, 2);
    let lease_id = claimed.lifecycle.lease.unwrap().id;
    let mut checkpoint = Checkpoint::new(claimed.id, lease_id, lease, cursor, Progress::default());
    checkpoint.pages.push(Page {
        number: 1,
        label: Some("iv".to_owned()),
        section: None,
        provenance: Provenance {
            source: PageSource::Ocr,
            reason: "no_text".to_owned(),
            confidence: Some(91.5),
        },
        start_offset: 0,
        end_offset: 5,
        text: "Hello".to_owned(),
        failure: None,
    });
    for ordinal in 0..2 {
        checkpoint.images.push(Image {
            ordinal,
            page: 1,
            media_type: if ordinal == 0 {
                "image/jpeg"
            } else {
                "text/html"
            }
            .to_owned(),
            width: 30,
            height: 20,
            bbox: [0.0, 0.0, 30.0, 20.0],
            caption: None,
            blob: picture.clone(),
            thumbnail: (ordinal == 0).then(|| small.clone()),
        });
    }
    service.store.checkpoint(checkpoint).await.unwrap();

    let pages = service
        .get(&format!("{PREFIX}/documents/{id}/pages"))
        .await
        .json();
    let page = &pages["pages"][0];
    assert_eq!(
        (&page["page"], &page["label"]),
        (&1.into(), &"iv".into()),
        "{page}"
    );
    assert_eq!(
        (&page["source"], &page["text"]),
        (&"ocr".into(), &"Hello".into())
    );
    assert_eq!(page["confidence"], 91.5);
    let images = format!("{PREFIX}/documents/{id}/images");
    let first = service.get(&format!("{images}?limit=1")).await.json();
    assert_eq!(first["next"], 0);
    let all = service
        .get(&format!("{PREFIX}/images?limit=1&min_side=20"))
        .await
        .json();
    assert_eq!(all["images"], first["images"], "the same addresses");
    let next = all["next"].as_str().unwrap();
    let rest = service
        .get(&format!("{PREFIX}/images?after={next}"))
        .await
        .json();
    assert_eq!(
        (&rest["images"][0]["ordinal"], &rest["next"]),
        (&1.into(), &serde_json::Value::Null)
    );
    let none = service
        .get(&format!("{PREFIX}/images?min_side=21"))
        .await
        .json();
    assert_eq!(none["images"], serde_json::json!([]));
    let image = &first["images"][0];
    assert_eq!(image["bbox"], serde_json::json!([0.0, 0.0, 30.0, 20.0]));
    for (url, media_type, bytes) in [
        (&image["url"], "image/jpeg", &b"\xff\xd8\xff picture"[..]),
        (&image["thumbnail_url"], "image/png", b"\x89PNG small"),
    ] {
        let answer = service.get(url.as_str().unwrap()).await;
        assert_eq!((answer.status.as_u16(), &*answer.bytes), (200, bytes));
        assert_eq!(answer.headers["content-type"], media_type);
        let cache = answer.headers["cache-control"].to_str().unwrap();
        assert!(
            cache.contains("immutable") && cache.contains("private"),
            "{cache}"
        );
        assert!(answer.headers.contains_key("etag"));
    }
    // Without the bytes' name an address stands for whatever the next attempt finds.
    for (path, bytes) in [("0", &picture), ("0/thumbnail", &small)] {
        let answer = service.get(&format!("{images}/{path}")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["cache-control"], "private, no-cache");
        assert_eq!(answer.headers["etag"], format!("\"{}\"", bytes.sha256));
    }
    let second = service.get(&format!("{images}?after=0")).await.json();
    assert_eq!(
        (&second["images"][0]["ordinal"], &second["next"]),
        (&1.into(), &().into())
    );
    // What is called a picture in a file that somebody sent is no page of this server.
    let odd = service.get(&format!("{images}/1")).await;
    assert_eq!(odd.headers["content-type"], "application/octet-stream");
    assert!(
        odd.headers["content-security-policy"]
            .to_str()
            .unwrap()
            .contains("sandbox")
    );
    for missing in ["2", "1/thumbnail", &format!("0?sha256={}", "0".repeat(64))] {
        service
            .get(&format!("{images}/{missing}"))
            .await
            .problem(404, "not-found");
    }
}
