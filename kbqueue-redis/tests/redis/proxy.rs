//! Stands between a store and its server, and does to a commit what only bad luck does otherwise.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, oneshot};

use crate::support::PATIENCE;

/// What is to happen to the next commit.
enum Order {
    /// It gets through, but not its answer: the connection breaks.
    LoseAnswer,
    /// It waits: it says that it came, and goes on when it is told to.
    Hold(oneshot::Sender<()>, oneshot::Receiver<()>),
}

/// A proxy that passes everything on as long as it has no other order.
pub(crate) struct Proxy {
    pub(crate) url: String,
    order: Arc<Mutex<Option<Order>>>,
}

/// A commit that waits.
pub(crate) struct Held {
    came: oneshot::Receiver<()>,
    go: oneshot::Sender<()>,
}

impl Held {
    /// Lets `meanwhile` happen when the commit has come, and the commit go on after it.
    pub(crate) async fn meanwhile<T>(self, meanwhile: impl Future<Output = T>) -> T {
        let came = tokio::time::timeout(PATIENCE, self.came).await;
        came.expect("a commit comes").unwrap();
        let answer = meanwhile.await;
        self.go.send(()).unwrap();
        answer
    }
}

impl Proxy {
    pub(crate) async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let server = server.strip_prefix("redis://").unwrap().to_owned();
        let order = Arc::new(Mutex::new(None));
        let orders = Arc::clone(&order);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(&server).await.unwrap();
                // Ends when either side does.
                drop(tokio::spawn(pass(client, server, Arc::clone(&orders))));
            }
        });
        Self { url, order }
    }

    /// Has the answer of the next commit get lost.
    pub(crate) async fn lose_answer(&self) {
        *self.order.lock().await = Some(Order::LoseAnswer);
    }

    /// Has the next commit wait.
    pub(crate) async fn hold(&self) -> Held {
        let (tell, came) = oneshot::channel();
        let (go, told) = oneshot::channel();
        *self.order.lock().await = Some(Order::Hold(tell, told));
        Held { came, go }
    }

    /// Whether the last order was carried out.
    pub(crate) async fn is_done(&self) -> bool {
        self.order.lock().await.is_none()
    }
}

async fn pass(
    client: TcpStream,
    server: TcpStream,
    orders: Arc<Mutex<Option<Order>>>,
) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut up, mut down) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let sent = tokio::select! {
            read = from_server.read(&mut down) => {
                let read = read?;
                to_client.write_all(&down[..read]).await?;
                if read == 0 {
                    return Ok(());
                }
                continue;
            }
            read = from_client.read(&mut up) => &up[..read?],
        };
        // Only commits, and new settings, say where to publish.
        let is_commit = sent.windows(8).any(|word| word == b":changes");
        let order = orders.lock().await.take_if(|_| is_commit);
        match order {
            Some(Order::LoseAnswer) => {
                to_server.write_all(sent).await?;
                // Asked to close the connection, the server does so when it has done the rest.
                to_server.write_all(b"QUIT\r\n").await?;
                while from_server.read(&mut down).await? > 0 {}
                return Ok(());
            }
            Some(Order::Hold(tell, told)) => {
                tell.send(()).unwrap();
                told.await.unwrap();
            }
            None if sent.is_empty() => return Ok(()),
            None => {}
        }
        to_server.write_all(sent).await?;
    }
}
