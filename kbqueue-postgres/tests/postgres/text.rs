//! Values at the edges of what PostgreSQL and JSON can hold.

use std::time::Duration;

use kbqueue_core::output::{FailedPage, PageSource, Provenance};
use kbqueue_core::state::Outcome;
use kbqueue_core::store::{Control, OutputQuery, Settlement};
use kbqueue_core::{BlobRef, Chunk, Dedupe, Image, Page, Properties, Store};
use serde_json::json;

use crate::support::{Place, checkpoint, claim, document, request, stored};

/// A NUL in the middle and at the end, what JSON escapes, non-characters, a lone combining mark, the last
/// code point, and text that only looks like an escape.
const ODD: &str =
    "a\0b\u{1}\"\\ \\u0000 \u{301}\u{fffe}\u{ffff}\u{feff}\u{10ffff}\u{2028}\u{7f}😀\0";

fn page(number: u32) -> Page {
    Page {
        number,
        label: Some(ODD.to_owned()),
        section: Some(ODD.to_owned()),
        provenance: Provenance {
            source: PageSource::Mixed,
            reason: ODD.to_owned(),
            confidence: Some(93.7),
        },
        start_offset: 0,
        end_offset: ODD.chars().count() as u64,
        text: ODD.to_owned(),
        failure: None,
    }
}

#[tokio::test]
async fn any_text_of_a_document_comes_back_as_it_was() {
    let place = Place::new();
    let store = place.store().await;
    let mut given = document("a.pdf");
    given.filename = ODD.to_owned();
    given.tenant = Some(ODD.to_owned());
    given.media_type = ODD.to_owned();
    given.metadata = json!({ ODD: [ODD, null, 0.1, u64::MAX, i64::MIN] });
    let found = stored(&store, given.clone()).await;
    assert_eq!(found.filename, given.filename);
    assert_eq!(found.tenant, given.tenant);
    assert_eq!(found.media_type, given.media_type);
    assert_eq!(found.metadata, given.metadata);
    assert_eq!(claim(&store, 1).await.documents[0].tenant, given.tenant);
}

#[tokio::test]
async fn any_text_of_an_output_comes_back_as_it_was() {
    let place = Place::new();
    let store = place.store().await;
    let id = stored(&store, document("a.pdf")).await.id;
    let held = claim(&store, 1).await.documents.remove(0);
    let mut given = checkpoint(&held);
    let failed = Page {
        failure: Some(ODD.to_owned()),
        ..page(2)
    };
    given.pages = vec![page(1), failed];
    given.chunks = vec![Chunk {
        ordinal: 0,
        text: ODD.to_owned(),
        first_page: 1,
        last_page: u32::MAX,
        start_offset: 0,
        end_offset: u64::from(u32::MAX) * 1000,
        section: Some(ODD.to_owned()),
    }];
    let blob = BlobRef {
        sha256: "11".repeat(32),
        size_bytes: 7,
    };
    given.images = vec![Image {
        ordinal: 0,
        page: 1,
        media_type: ODD.to_owned(),
        width: u32::MAX,
        height: 0,
        bbox: [0.1, -1.5e-7, f32::MAX, 1.0 / 3.0],
        caption: Some(ODD.to_owned()),
        blob: blob.clone(),
        thumbnail: Some(blob),
    }];
    let properties = Properties([(ODD.to_owned(), ODD.to_owned())].into());
    given.properties = Some(properties.clone());
    store.checkpoint(given.clone()).await.unwrap();

    let query = OutputQuery::new(id, 10);
    assert_eq!(store.pages(query.clone()).await.unwrap(), given.pages);
    assert_eq!(store.chunks(query.clone()).await.unwrap(), given.chunks);
    assert_eq!(store.images(query).await.unwrap(), given.images);
    let found = store.document(id).await.unwrap().unwrap();
    assert_eq!(found.properties, properties);
    let failed = FailedPage {
        page: 2,
        cause: ODD.to_owned(),
    };
    assert_eq!(found.failed_pages, [failed]);
}

#[tokio::test]
async fn any_text_of_a_worker_and_its_errors_comes_back_as_it_was() {
    let place = Place::new();
    let store = place.store().await;
    let id = stored(&store, document("a.pdf")).await.id;
    let mut asked = request(1);
    asked.worker.name = ODD.to_owned();
    asked.fingerprint = ODD.to_owned();
    let held = store.claim(asked).await.unwrap().documents.remove(0);
    let lease = held.lifecycle.lease.unwrap();
    assert_eq!(lease.worker, ODD);
    let outcome = Outcome::Fail {
        error: ODD.to_owned(),
        retryable: false,
        max_retries: 0,
        backoff: Duration::ZERO,
    };
    let settlement = Settlement {
        document: id,
        lease_id: lease.id,
        outcome,
    };
    store.settle(vec![settlement]).await.unwrap();
    let found = store.document(id).await.unwrap().unwrap();
    assert_eq!(found.lifecycle.error.as_deref(), Some(ODD));
    assert_eq!(found.lifecycle.fingerprint.as_deref(), Some(ODD));
    assert_eq!(found.attempts[0].worker, ODD);
    assert_eq!(found.attempts[0].error.as_deref(), Some(ODD));
}

#[tokio::test]
async fn texts_that_differ_behind_a_nul_are_different() {
    let place = Place::new();
    let store = place.store().await;
    let with = |tenant: &str, key: &str| {
        let mut given = document("a.pdf");
        given.tenant = Some(tenant.to_owned());
        given.dedupe = Dedupe::Key(key.to_owned());
        given
    };
    let given = vec![with("a\0b", "k\0l"), with("a\0c", "k\0m"), with("a", "k")];
    let answers = store.enqueue(given.clone()).await.unwrap();
    assert!(answers.iter().all(|answer| answer.created), "{answers:?}");
    let again = vec![with("a\0b", "k\0l"), with("a\0c", "k\0m"), with("a", "k")];
    let again = store.enqueue(again).await.unwrap();
    for (first, second) in answers.iter().zip(&again) {
        assert_eq!((second.id, second.created), (first.id, false));
    }
    // Three lines, so a claim of three is served from all of them in turn.
    let mut tenants: Vec<_> = Vec::new();
    for _ in 0..3 {
        tenants.extend(claim(&store, 1).await.documents.remove(0).tenant);
    }
    assert_eq!(tenants, ["a", "a\0b", "a\0c"]);
}

#[tokio::test]
async fn a_lease_is_a_millisecond_at_least() {
    let place = Place::new();
    let store = place.store().await;
    stored(&store, document("a.pdf")).await;
    let mut asked = request(1);
    asked.lease = Duration::from_micros(1);
    let held = store.claim(asked).await.unwrap().documents.remove(0);
    let expires_at = held.lifecycle.lease.unwrap().expires_at;
    assert_eq!(expires_at, place.clock.now() + Duration::from_millis(1));
}

#[tokio::test]
async fn instants_and_priorities_at_the_ends_of_their_ranges_are_kept() {
    let place = Place::new();
    let store = place.store().await;
    for priority in [0, i16::MIN, i16::MAX] {
        let mut given = document("a.pdf");
        given.priority = priority;
        given.available_at = Some(jiff::Timestamp::MIN);
        assert_eq!(stored(&store, given).await.priority, priority);
    }
    let mut last = document("z.pdf");
    last.available_at = Some(jiff::Timestamp::MAX);
    let last = stored(&store, last).await;
    let claims = claim(&store, 9).await;
    let priorities: Vec<i16> = claims.documents.iter().map(|d| d.priority).collect();
    assert_eq!(priorities, [i16::MAX, 0, i16::MIN]);
    assert!(
        claims.next_due.is_some(),
        "the one at the end of time waits"
    );
    assert!(last.lifecycle.available_at > place.clock.now());
    // A lease for ever can be read again, too.
    stored(&store, document("b.pdf")).await;
    let mut asked = request(1);
    asked.lease = Duration::MAX;
    let held = store.claim(asked).await.unwrap().documents.remove(0);
    assert!(store.document(held.id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_new_generation_has_no_failed_pages_but_keeps_the_properties() {
    let place = Place::new();
    let store = place.store().await;
    let id = stored(&store, document("a.pdf")).await.id;
    let read = async |number: u32| {
        let held = store.document(id).await.unwrap().unwrap();
        let mut given = checkpoint(&held);
        let failure = Some("no".to_owned());
        given.pages = vec![Page {
            failure,
            ..page(number)
        }];
        given.properties = Some(Properties([("title".into(), "old".into())].into()));
        store.checkpoint(given).await.unwrap();
        let found = store.document(id).await.unwrap().unwrap();
        assert_eq!((found.failed_pages.len(), found.properties.0.len()), (1, 1));
        held.lifecycle.lease.unwrap().id
    };
    let settle = async |lease_id, outcome| {
        let document = id;
        let settlement = Settlement {
            document,
            lease_id,
            outcome,
        };
        store.settle(vec![settlement]).await.unwrap();
    };
    // Another fingerprint opens a generation with its claim,
    claim(&store, 1).await;
    settle(read(1).await, Outcome::Release).await;
    let mut other = request(1);
    other.fingerprint = "fake/2".to_owned();
    place.clock.advance(other.grace);
    let held = store.claim(other).await.unwrap().documents.remove(0);
    assert_eq!((held.failed_pages.len(), held.properties.0.len()), (0, 1));
    assert_eq!(store.document(id).await.unwrap().unwrap(), held);
    // and a retry from scratch opens the next one.
    settle(read(1).await, Outcome::Complete).await;
    let retry = Control::Retry { from_scratch: true };
    let queued = store.control(id, retry).await.unwrap();
    assert_eq!(
        (queued.failed_pages.len(), queued.properties.0.len()),
        (0, 1)
    );
    assert_eq!(store.document(id).await.unwrap().unwrap(), queued);
}
