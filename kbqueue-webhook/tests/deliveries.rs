//! Webhooks against a receiver that verifies, fails, hangs, redirects and answers 410.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use kbqueue_core::outbox::{Delivery, DeliveryQuery, DeliveryState, Endpoint, EventKind, Outbox};
use kbqueue_core::store::Control;
use kbqueue_core::{
    Backoff, BlobRef, Dedupe, DocumentId, MemoryStore, NewDocument, QueueName, Store, StoreExt,
    TestClock,
};
use kbqueue_webhook::{Deliverer, DelivererOptions, Secret, SecretKey, endpoint};
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio_util::sync::CancellationToken;

/// What came, in order: path, `webhook-id`, body; all of it verified.
type Received = Arc<Mutex<Vec<(String, String, Value)>>>;

#[derive(Clone)]
struct Receiver {
    secret: Secret,
    received: Received,
}

async fn receive(
    Shared(own): Shared<Receiver>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let webhook = Webhook::new(&own.secret.reveal()).unwrap();
    if webhook.verify(&body, &headers).is_err() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let id = headers["webhook-id"].to_str().unwrap().to_owned();
    let body = serde_json::from_slice(&body).unwrap();
    let path = uri.path().to_owned();
    let (first, before) = {
        let mut received = own.received.lock().unwrap();
        let first = received.is_empty();
        let before = received
            .iter()
            .filter(|(p, i, _)| *p == path && *i == id)
            .count();
        received.push((path.clone(), id, body));
        (first, before)
    };
    match path.as_str() {
        "/fails-twice" if before < 2 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        "/hangs-once" if before == 0 => std::future::pending().await,
        "/hangs-at-first" if first => std::future::pending().await,
        "/redirects" => (StatusCode::FOUND, [("location", "/target")]).into_response(),
        "/gone" => StatusCode::GONE.into_response(),
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

struct Bench {
    store: Arc<MemoryStore>,
    key: SecretKey,
    secret: Secret,
    address: SocketAddr,
    received: Received,
    options: DelivererOptions,
}

impl Bench {
    async fn new() -> Self {
        let secret = Secret::random();
        let received = Received::default();
        let receiver = Receiver {
            secret: secret.clone(),
            received: Arc::clone(&received),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(receive).with_state(receiver);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            store: Arc::new(MemoryStore::new()),
            key: SecretKey::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap(),
            secret,
            address,
            received,
            options: DelivererOptions {
                timeout: Duration::from_secs(1),
                max_attempts: 3,
                backoff: Backoff {
                    base: Duration::from_millis(5),
                    cap: Duration::from_millis(5),
                },
                allow_private: true,
                ..DelivererOptions::default()
            },
        }
    }

    async fn register(&self, host: &str, path: &str) -> Endpoint {
        let url = format!("http://{host}:{}{path}", self.address.port());
        let kinds = EventKind::ALL.to_vec();
        let endpoint = endpoint(&self.key, QueueName::default(), &url, &self.secret, kinds);
        let endpoint = endpoint.unwrap();
        self.store.put_endpoint(endpoint.clone()).await.unwrap();
        endpoint
    }

    /// A document that is cancelled `times` times.
    async fn cancelled(&self, times: usize) -> DocumentId {
        let blob = BlobRef {
            sha256: "00".repeat(32),
            size_bytes: 1,
        };
        let mut new = NewDocument::new(QueueName::default(), blob, "report.pdf");
        new.dedupe = Dedupe::Off;
        let id = self.store.enqueue_one(new).await.unwrap().id;
        self.store.control(id, Control::Cancel).await.unwrap();
        for _ in 1..times {
            let from_scratch = false;
            self.store
                .control(id, Control::Retry { from_scratch })
                .await
                .unwrap();
            self.store.control(id, Control::Cancel).await.unwrap();
        }
        id
    }

    fn deliverer(&self) -> Deliverer {
        let queues = vec![QueueName::default()];
        Deliverer::new(
            self.store.clone(),
            self.key.clone(),
            queues,
            self.options.clone(),
        )
        .unwrap()
    }

    async fn deliveries(&self, endpoint: &Endpoint) -> Vec<Delivery> {
        let query = DeliveryQuery {
            queue: endpoint.queue.clone(),
            endpoint: endpoint.id,
            state: None,
            after: None,
            limit: 1000,
        };
        self.store.deliveries(query).await.unwrap()
    }

    /// Runs a deliverer until nothing of the endpoint is pending.
    async fn deliver(&self, endpoint: &Endpoint) -> Vec<Delivery> {
        let stop = CancellationToken::new();
        let deliverer = self.deliverer();
        let until_done = async {
            loop {
                let deliveries = self.deliveries(endpoint).await;
                if deliveries.iter().all(|d| d.state != DeliveryState::Pending) {
                    stop.cancel();
                    return deliveries;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let both = async { tokio::join!(deliverer.run(stop.clone()), until_done).1 };
        tokio::time::timeout(Duration::from_secs(60), both)
            .await
            .unwrap()
    }

    fn received(&self) -> Vec<(String, String, Value)> {
        self.received.lock().unwrap().clone()
    }
}

/// Every event comes, signed, in the order of its document's versions, and says what it is about.
#[tokio::test]
async fn events_come_signed_and_in_order() {
    let bench = Bench::new().await;
    let endpoint = bench.register("127.0.0.1", "/fails-twice").await;
    let id = bench.cancelled(3).await;
    let deliveries = bench.deliver(&endpoint).await;
    assert!(
        deliveries
            .iter()
            .all(|d| d.state == DeliveryState::Delivered),
        "{deliveries:?}"
    );
    let received = bench.received();
    let versions = received
        .iter()
        .map(|(_, _, body)| body["data"]["version"].as_u64().unwrap());
    assert_eq!(versions.collect::<Vec<_>>(), [2, 2, 2, 4, 4, 4, 6, 6, 6]);
    let (_, webhook_id, body) = &received[0];
    assert_eq!(*webhook_id, received[2].1, "the same in each try");
    assert_eq!(body["type"], "document.cancelled");
    assert_eq!(body["data"]["document_id"], id.to_string());
    assert_eq!(body["data"]["filename"], "report.pdf");
}

/// A receiver that hangs costs its time-out, and is asked again.
#[tokio::test]
async fn a_receiver_that_hangs_is_asked_again() {
    let bench = Bench::new().await;
    let endpoint = bench.register("127.0.0.1", "/hangs-once").await;
    bench.cancelled(1).await;
    let deliveries = bench.deliver(&endpoint).await;
    assert_eq!(
        (deliveries[0].state, deliveries[0].attempts),
        (DeliveryState::Delivered, 2)
    );
}

/// A redirect is not followed; after the last attempt the delivery is dead, and says why.
#[tokio::test]
async fn redirects_are_not_followed() {
    let bench = Bench::new().await;
    let endpoint = bench.register("127.0.0.1", "/redirects").await;
    bench.cancelled(1).await;
    let deliveries = bench.deliver(&endpoint).await;
    assert_eq!(
        (deliveries[0].state, deliveries[0].attempts),
        (DeliveryState::Dead, 3)
    );
    assert!(deliveries[0].error.as_deref().unwrap().contains("302"));
    assert!(
        bench
            .received()
            .iter()
            .all(|(path, _, _)| path == "/redirects")
    );
}

/// 410 disables the endpoint at once.
#[tokio::test]
async fn gone_is_gone() {
    let bench = Bench::new().await;
    let endpoint = bench.register("127.0.0.1", "/gone").await;
    bench.cancelled(1).await;
    let deliveries = bench.deliver(&endpoint).await;
    assert_eq!(
        (deliveries[0].state, deliveries[0].attempts),
        (DeliveryState::Dead, 1)
    );
    let endpoints = bench.store.endpoints(&endpoint.queue).await.unwrap();
    assert!(endpoints[0].disabled.is_some());
}

/// Nothing is sent to a private address, neither one that is written out nor one that a name leads to.
#[tokio::test]
async fn nothing_goes_to_a_private_address() {
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let mut bench = Bench::new().await;
        bench.options.allow_private = false;
        let endpoint = bench.register(host, "/").await;
        bench.cancelled(1).await;
        let deliveries = bench.deliver(&endpoint).await;
        assert_eq!(deliveries[0].state, DeliveryState::Dead);
        assert!(
            deliveries[0].error.as_deref().unwrap().contains("public"),
            "{deliveries:?}"
        );
        assert_eq!(bench.received(), [], "{host}");
    }
}

/// A deliverer that is killed in the middle of a request loses nothing: another one sends it again.
#[tokio::test]
async fn a_killed_deliverer_loses_nothing() {
    let mut bench = Bench::new().await;
    let clock = TestClock::new();
    bench.store = Arc::new(MemoryStore::with_clock(clock.clock()));
    bench.options.timeout = Duration::from_secs(3600);
    let endpoint = bench.register("127.0.0.1", "/hangs-at-first").await;
    let ids = [bench.cancelled(2).await, bench.cancelled(2).await];
    let deliverer = bench.deliverer();
    let killed = tokio::spawn(async move { deliverer.run(CancellationToken::new()).await });
    while bench.received().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    killed.abort();
    assert!(killed.await.unwrap_err().is_cancelled());
    let deliveries = bench.deliveries(&endpoint).await;
    assert!(
        deliveries.iter().any(|d| d.lease_id.is_some()),
        "it died at work"
    );
    // Until the dead one's lease has run out.
    clock.advance(bench.options.timeout + Duration::from_secs(60));
    let deliveries = bench.deliver(&endpoint).await;
    assert!(
        deliveries
            .iter()
            .all(|d| d.state == DeliveryState::Delivered)
    );
    for id in ids {
        let of = |body: &Value| body["data"]["document_id"] == id.to_string();
        let received = bench.received();
        let versions = received.iter().filter(|(_, _, body)| of(body));
        let mut versions: Vec<_> = versions
            .map(|(_, _, b)| b["data"]["version"].as_u64())
            .collect();
        assert!(
            versions.is_sorted(),
            "in order, at least once: {versions:?}"
        );
        versions.dedup();
        assert_eq!(versions, [Some(2), Some(4)]);
    }
}
