//! Accepting connections, and letting go of them.

use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a client may take to send the head of a request.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

/// What is kept of a connection's data, each way: clients that do not read shall not fill the memory.
const BUFFER_BYTES: usize = 64 * 1024;

/// How long requests under way may take to end once the process is to end.
const CLOSE_PATIENCE: Duration = Duration::from_millis(1300);
/// How long uploads that are cut off may take to remove what they had stored.
const CLEANUP_PATIENCE: Duration = Duration::from_millis(100);

/// Connections to clients.
///
/// (Not `axum::serve`, which sets no limit on how slowly a request's head may come, and waits for open
/// connections without end.)
#[derive(Default)]
pub(crate) struct Connections {
    open: GracefulShutdown,
    tasks: JoinSet<()>,
}

impl Connections {
    /// Accepts connections and answers them with `app`, until `stop` completes.
    pub(crate) async fn serve(
        &mut self,
        listener: TcpListener,
        app: Router,
        stop: impl Future<Output = ()>,
    ) {
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.answer(stream, app.clone()),
                    Err(error) => {
                        // Out of file descriptors, most likely: connections that end free some.
                        tracing::warn!(%error, "could not accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = self.tasks.join_next() => {}
                () = &mut stop => return,
            }
        }
    }

    fn answer(&mut self, stream: TcpStream, app: Router) {
        // Answers are small and written whole: waiting for more of them only delays.
        let _ = stream.set_nodelay(true);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
        let connection = self.open.watch(connection);
        self.tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }

    /// Lets requests under way end, and cuts off those that take too long.
    pub(crate) async fn close(mut self) {
        if timeout(CLOSE_PATIENCE, self.open.shutdown()).await.is_err() {
            tracing::warn!("connections that were still open are cut off");
            self.tasks.shutdown().await;
            tokio::time::sleep(CLEANUP_PATIENCE).await;
        }
    }
}

/// Completes when somebody asks this process to end.
///
/// # Errors
/// Where signals cannot be listened for.
pub(crate) fn shutdown_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
