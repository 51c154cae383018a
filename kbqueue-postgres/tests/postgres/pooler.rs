//! A pooler in transaction mode stands in between: REGRESSIONS 21.

use std::collections::HashSet;

use kbqueue_core::outbox::{
    DeliveryOutcome, DeliveryRequest, DeliverySettlement, Endpoint, EndpointId, EventKind, Outbox,
};
use kbqueue_core::output::{PageSource, Provenance};
use kbqueue_core::state::Outcome;
use kbqueue_core::store::{DocumentQuery, OutputQuery, Settled, Settlement};
use kbqueue_core::{DocumentId, LeaseId, Notice, Page, QueueName, QueueSettings, State, Store};
use kbqueue_postgres::{Pooler, PostgresOptions, PostgresStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::support::{LEASE, Place, checkpoint, document, request, soon, subscribe};

/// One of the few connections that the pooler has to the server.
type Backend = (BufReader<OwnedReadHalf>, OwnedWriteHalf);

/// Does what PgBouncer does in transaction mode: a client has a server connection from the first message
/// of a transaction until the server says that none is open any more, then the next client gets it.
async fn pooler(server: &str, connections: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (user, rest) = server
        .strip_prefix("postgres://")
        .unwrap()
        .split_once('@')
        .unwrap();
    let (address, database) = rest.split_once('/').unwrap();
    let (give, take) = mpsc::unbounded_channel();
    for _ in 0..connections {
        give.send(connect(address, user, database).await).unwrap();
    }
    let take = std::sync::Arc::new(tokio::sync::Mutex::new(take));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (give, take) = (give.clone(), take.clone());
            tokio::spawn(async move {
                // An error is a client that went away.
                let _ = serve(client, &give, &take).await;
            });
        }
    });
    format!("postgres://{user}@127.0.0.1:{port}/{database}")
}

/// A connection to the server, ready for queries.
async fn connect(address: &str, user: &str, database: &str) -> Backend {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (read, mut write) = stream.into_split();
    let mut body = 196_608_i32.to_be_bytes().to_vec();
    for part in ["user", user, "database", database, ""] {
        body.extend(part.as_bytes());
        body.push(0);
    }
    let length = i32::try_from(body.len() + 4).unwrap();
    write.write_all(&length.to_be_bytes()).await.unwrap();
    write.write_all(&body).await.unwrap();
    let mut read = BufReader::new(read);
    while message(&mut read).await.unwrap().0 != b'Z' {}
    (read, write)
}

/// A message's kind, and all its bytes.
pub(crate) async fn message(from: &mut BufReader<OwnedReadHalf>) -> std::io::Result<(u8, Vec<u8>)> {
    let kind = from.read_u8().await?;
    let length = from.read_u32().await?;
    let mut bytes = vec![kind];
    bytes.extend(length.to_be_bytes());
    bytes.resize(length as usize + 1, 0);
    from.read_exact(&mut bytes[5..]).await?;
    Ok((kind, bytes))
}

async fn serve(
    client: TcpStream,
    give: &mpsc::UnboundedSender<Backend>,
    take: &tokio::sync::Mutex<mpsc::UnboundedReceiver<Backend>>,
) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let (read, mut write) = client.into_split();
    let mut read = BufReader::new(read);
    let length = read.read_u32().await?;
    let mut startup = vec![0; length as usize - 4];
    read.read_exact(&mut startup).await?;
    // PgBouncer refuses settings at the start.
    let asks_for_options = startup.windows(9).any(|part| part == b"\0options\0");
    assert!(!asks_for_options, "PgBouncer knows no options");
    // Authenticated, and ready for queries.
    write.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await?;
    loop {
        let mut next = message(&mut read).await?;
        if next.0 == b'X' {
            return Ok(());
        }
        let (mut answers, mut server) = take.lock().await.recv().await.unwrap();
        let mut open = 0;
        loop {
            open += i32::from(matches!(next.0, b'Q' | b'S'));
            server.write_all(&next.1).await?;
            // Whatever was asked before a Sync is answered before it is over.
            let mut idle = false;
            while open > 0 {
                let (kind, bytes) = message(&mut answers).await?;
                write.write_all(&bytes).await?;
                open -= i32::from(kind == b'Z');
                idle = kind == b'Z' && bytes[5] == b'I';
            }
            if idle {
                break;
            }
            next = message(&mut read).await?;
        }
        give.send((answers, server)).unwrap();
    }
}

fn page(number: u32) -> Page {
    Page {
        number,
        label: None,
        section: None,
        provenance: Provenance {
            source: PageSource::Text,
            reason: "text_layer".to_owned(),
            confidence: None,
        },
        start_offset: 0,
        end_offset: 4,
        text: "text".to_owned(),
        failure: None,
    }
}

/// The life of a document in a queue of its own, with limits and an endpoint, every answer checked.
async fn live(store: PostgresStore, queue: QueueName) {
    let settings = QueueSettings {
        max_processing: Some(1),
        max_queued: Some(1),
        ..QueueSettings::default()
    };
    store.configure(&queue, settings).await.unwrap();
    let endpoint = Endpoint {
        id: EndpointId(uuid::Uuid::new_v4()),
        queue: queue.clone(),
        url: "https://example.com".to_owned(),
        secret: Vec::new(),
        events: EventKind::ALL.to_vec(),
        disabled: None,
    };
    store.put_endpoint(endpoint.clone()).await.unwrap();
    for round in 1..=5 {
        let mut new = document("a.pdf");
        new.queue.clone_from(&queue);
        let id = new.id;
        assert_eq!(store.enqueue(vec![new]).await.unwrap()[0].id, id);
        let mut asked = request(2);
        asked.worker.queues = vec![queue.clone()];
        let held = store.claim(asked).await.unwrap().documents;
        assert_eq!(held.iter().map(|d| d.id).collect::<Vec<_>>(), [id]);
        let mut step = checkpoint(&held[0]);
        step.pages = vec![page(1), page(2)];
        step.cursor.pages = 2;
        store.checkpoint(step).await.unwrap();
        let pages = store.pages(OutputQuery::new(id, 9)).await.unwrap();
        assert_eq!(pages, [page(1), page(2)]);
        assert_eq!(store.chunks(OutputQuery::new(id, 9)).await.unwrap(), []);
        let settlement = Settlement {
            document: id,
            lease_id: held[0].lifecycle.lease.as_ref().unwrap().id,
            outcome: Outcome::Complete,
        };
        let settled = store.settle(vec![settlement]).await.unwrap();
        assert_eq!(settled, [Settled::In(State::Completed)]);
        let request = DeliveryRequest {
            queues: vec![queue.clone()],
            lease_ids: vec![LeaseId::random()],
            lease: LEASE,
            per_endpoint: 1,
        };
        let claims = store.claim_deliveries(request).await.unwrap();
        let (delivery, to) = claims.deliveries.into_iter().next().unwrap();
        assert_eq!((delivery.document, to), (id, endpoint.clone()));
        let settlement = DeliverySettlement {
            queue: delivery.queue,
            endpoint: delivery.endpoint,
            document: delivery.document,
            version: delivery.version,
            lease_id: delivery.lease_id.unwrap(),
            outcome: DeliveryOutcome::Delivered,
        };
        let settled = store.settle_deliveries(vec![settlement]).await.unwrap();
        assert_eq!(settled, [true]);
        assert_eq!(store.document(id).await.unwrap().unwrap().id, id);
        let completed = DocumentQuery::in_state(queue.clone(), State::Completed);
        let listed = store.documents(completed).await.unwrap();
        let ids: HashSet<DocumentId> = listed.iter().map(|d| d.id).collect();
        assert!(ids.len() == round && ids.contains(&id));
        let counts = store.stats(&queue).await.unwrap().counts;
        assert_eq!(
            (counts.total(), counts.completed),
            (round as u64, round as u64)
        );
    }
}

/// REGRESSIONS 21: eight clients with different statements over two server connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_right_through_a_pooler() {
    let place = Place::new();
    let direct = kbqueue_tests::postgres::shared();
    let url = pooler(direct, 2).await;
    let options = || {
        let options = PostgresOptions::parse(&url).unwrap();
        let options = options.schema(place.schema()).unwrap();
        options.pooler(Pooler::Transaction).pool_size(8)
    };
    let store = PostgresStore::open(options()).await.unwrap();
    let clients: Vec<_> = (0..8)
        .map(|n| tokio::spawn(live(store.clone(), format!("queue{n}").parse().unwrap())))
        .collect();
    for client in clients {
        soon(client).await.unwrap();
    }

    // Past the pooler it listens; without a way past it, subscribers look again once in a while.
    let listening = PostgresStore::open(options().listen_url(direct).unwrap())
        .await
        .unwrap();
    let mut heard = subscribe(&listening).await;
    let mut polled = subscribe(&store).await;
    let new = document("a.pdf");
    let other = PostgresStore::open(options()).await.unwrap();
    other.enqueue(vec![new.clone()]).await.unwrap();
    let Notice::Document(change) = soon(heard.next()).await else {
        panic!("not a document's notice");
    };
    assert_eq!(change.id, new.id);
    assert_eq!(soon(polled.next()).await, Notice::Resync);
}
