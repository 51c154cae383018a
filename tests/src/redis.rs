//! Redis servers for tests.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The URL of a server that all tests of this process share: `KBQUEUE_TEST_REDIS`, or else one that is
/// started now and ends with the process.
///
/// # Panics
/// Where it does not come up.
pub fn shared() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        std::env::var("KBQUEUE_TEST_REDIS").unwrap_or_else(|_| {
            let server = RedisServer::start(&[]);
            let url = server.url();
            // It ends with this process, not with this value.
            std::mem::forget(server);
            url
        })
    })
}

/// A prefix for keys that no other test has.
#[must_use]
pub fn prefix() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    format!("test-{}-{}-{count}", std::process::id(), since.as_nanos())
}

/// A server on a port and in a directory of its own, with an append-only file. It ends, and its directory
/// with it, when it is dropped or when this process ends in whatever way.
#[derive(Debug)]
pub struct RedisServer {
    keeper: Child,
    port: u16,
}

/// Waits for the pipe to close, which it does even when the tests are killed.
const KEEPER: &str = r#"
directory=$(mktemp -d) || exit
redis-server --port "$1" --bind 127.0.0.1 --dir "$directory" --appendonly yes --save '' "${@:2}" </dev/null &
server=$!
exec >/dev/null 2>&1
cat
kill -9 $server
wait
rm -rf "$directory"
"#;

impl RedisServer {
    /// Starts a server with more options, such as `["--maxmemory", "10mb"]`.
    ///
    /// # Panics
    /// Where it does not come up.
    #[must_use]
    pub fn start(options: &[&str]) -> Self {
        // Another process may take the port between the look and the start.
        for _ in 0..10 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            if let Some(server) = Self::try_start(port, options) {
                return server;
            }
        }
        panic!(
            "redis-server did not come up; is it installed? Debian: apt-get install redis-server"
        );
    }

    fn try_start(port: u16, options: &[&str]) -> Option<Self> {
        let mut keeper = Command::new("bash")
            .args(["-c", KEEPER, "redis"])
            .arg(port.to_string())
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Out of the reach of a Ctrl-C, which would end the keeper before the server.
            .process_group(0)
            .spawn()
            .unwrap();
        let mut log = BufReader::new(keeper.stdout.take().unwrap()).lines();
        let server = Self { keeper, port };
        let ready = log
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.contains("Ready to accept connections"));
        ready?;
        // Read on, so that the server never waits for somebody to read.
        std::thread::spawn(move || log.for_each(drop));
        Some(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
