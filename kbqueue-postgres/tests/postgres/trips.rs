//! How often calls go to the server and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use kbqueue_core::limits::Rate;
use kbqueue_core::state::Outcome;
use kbqueue_core::store::Settlement;
use kbqueue_core::{QueueName, QueueSettings, Store};
use kbqueue_postgres::{PostgresOptions, PostgresStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::pooler::message;
use crate::support::{Place, claim, document, soon};

/// Passes everything on, and counts what the server has to answer before the client goes on.
async fn counting(server: &str) -> (String, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (user, rest) = server.split_once('@').unwrap();
    let (address, database) = rest.split_once('/').unwrap();
    let address = address.to_owned();
    let trips = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&trips);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&address).await.unwrap();
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let (read, mut answer) = client.into_split();
            let (mut answers, mut ask) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut answers, &mut answer).await });
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let mut read = BufReader::new(read);
                let length = read.read_u32().await?;
                let mut startup = length.to_be_bytes().to_vec();
                startup.resize(length as usize, 0);
                read.read_exact(&mut startup[4..]).await?;
                ask.write_all(&startup).await?;
                loop {
                    let (kind, bytes) = message(&mut read).await?;
                    // A plain query, or a prepared one that is executed.
                    counted.fetch_add(u32::from(matches!(kind, b'Q' | b'E')), Ordering::SeqCst);
                    ask.write_all(&bytes).await?;
                }
                #[allow(unreachable_code)]
                std::io::Result::Ok(())
            });
        }
    });
    (format!("{user}@127.0.0.1:{port}/{database}"), trips)
}

/// An enqueue is one trip; a claim and a settlement are a transaction of two statements. A queue without limits
/// pays nothing for those that another one may have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_cost_those_queues_trips_that_have_some() {
    let place = Place::new();
    let (url, trips) = counting(kbqueue_tests::postgres::shared()).await;
    let options = PostgresOptions::parse(&url).unwrap();
    let options = options.schema(place.schema()).unwrap().pool_size(1);
    let store = PostgresStore::open(options).await.unwrap();
    let other = QueueSettings {
        max_processing: Some(1),
        max_queued: Some(1),
        ..QueueSettings::default()
    };
    let elsewhere = "elsewhere".parse().unwrap();
    store.configure(&elsewhere, other).await.unwrap();
    let took = || trips.swap(0, Ordering::SeqCst);
    let round = async || {
        took();
        soon(store.enqueue(vec![document("a.pdf")])).await.unwrap();
        let enqueued = took();
        let held = soon(claim(&store, 1)).await.documents.remove(0);
        let claimed = took();
        let settlement = Settlement {
            document: held.id,
            lease_id: held.lifecycle.lease.unwrap().id,
            outcome: Outcome::Complete,
        };
        soon(store.settle(vec![settlement])).await.unwrap();
        [enqueued, claimed, took()]
    };
    // Statements are prepared.
    round().await;
    assert_eq!(round().await, [1, 4, 4]);
    let rated = QueueSettings {
        rate: Rate::new(1_000_000, 1),
        ..QueueSettings::default()
    };
    store.configure(&QueueName::default(), rated).await.unwrap();
    round().await;
    round().await;
    // Its row is locked, what goes on is read, and the token is noted.
    assert_eq!(round().await, [1, 7, 4]);
}
