//! Redis servers for tests.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};

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

/// The URL of a cluster of three nodes that all tests of this process share. It ends with the process.
///
/// # Panics
/// Where it does not come up.
pub fn shared_cluster() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        let cluster = RedisCluster::start();
        let url = cluster.url();
        std::mem::forget(cluster);
        url
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
    orders: Option<ChildStdin>,
    /// One message each time that it is ready.
    ready: Receiver<()>,
    port: u16,
}

/// Starts the server anew with every line that it reads, and ends it with the pipe, which closes even when
/// the tests are killed. `$1` is the port, the rest are options.
const KEEPER: &str = r#"
directory=$(mktemp -d) || exit
exec 3>&1 >/dev/null 2>&1
start() {
    redis-server --port "$1" --bind 127.0.0.1 --dir "$directory" --appendonly yes --save '' "${@:2}" </dev/null >&3 2>&1 3>&- &
    server=$!
}
start "$@"
while read -r; do
    kill -9 $server
    wait
    start "$@"
done
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
            if let Some(server) = Self::try_start(free_port(), options) {
                return server;
            }
        }
        panic!(
            "redis-server does not start; is it installed? Debian: apt-get install redis-server"
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
        let log = BufReader::new(keeper.stdout.take().unwrap());
        let (tell, ready) = channel();
        // Read to the end, so that the server never waits for somebody to read.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if line.contains("Ready to accept connections") {
                    let _ = tell.send(());
                } else if line.contains("Failed listening on port")
                    || line.contains("command not found")
                {
                    return;
                }
            }
        });
        let server = Self {
            orders: keeper.stdin.take(),
            keeper,
            ready,
            port,
        };
        server.ready.recv().ok()?;
        Some(server)
    }

    /// Kills the server, and starts it again on the same files.
    ///
    /// # Panics
    /// Where it does not come up again.
    pub fn restart(&mut self) {
        let orders = self.orders.as_mut().expect("it has not been dropped");
        orders.write_all(b"again\n").unwrap();
        self.ready.recv().expect("it comes up again");
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What `redis-cli` prints.
    fn cli(&self, arguments: &[&str]) -> String {
        let port = self.port.to_string();
        let output = Command::new("redis-cli")
            .args(["-p", &port])
            .args(arguments)
            .output()
            .expect("redis-cli is installed together with redis-server");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.keeper.wait();
    }
}

/// A cluster of three nodes, without replicas.
#[derive(Debug)]
pub struct RedisCluster([RedisServer; 3]);

impl RedisCluster {
    /// Starts a cluster.
    ///
    /// # Panics
    /// Where it does not come up.
    #[must_use]
    pub fn start() -> Self {
        let node = |slots: [&str; 2]| {
            let bus = free_port().to_string();
            let options = ["--cluster-enabled", "yes", "--cluster-port", &bus];
            let node = RedisServer::start(&options);
            node.cli(&["cluster", "addslotsrange", slots[0], slots[1]]);
            (node, bus)
        };
        let nodes = [["0", "5461"], ["5462", "10922"], ["10923", "16383"]].map(node);
        for (epoch, (node, _)) in nodes.iter().enumerate() {
            node.cli(&["cluster", "set-config-epoch", &(epoch + 1).to_string()]);
        }
        for (other, bus) in &nodes[1..] {
            let port = other.port.to_string();
            nodes[0]
                .0
                .cli(&["cluster", "meet", "127.0.0.1", &port, bus]);
        }
        let cluster = Self(nodes.map(|(node, _)| node));
        let started = std::time::Instant::now();
        while !cluster.0.iter().all(RedisServer::knows_all_slots) {
            assert!(
                started.elapsed().as_secs() < 60,
                "the nodes find each other"
            );
        }
        cluster
    }

    /// Where its nodes listen.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.each_ref().map(RedisServer::url).join(",")
    }
}

impl RedisServer {
    fn knows_all_slots(&self) -> bool {
        let info = self.cli(&["cluster", "info"]);
        let nodes = self.cli(&["cluster", "nodes"]);
        info.contains("cluster_state:ok") && nodes.lines().count() == 3
    }
}

fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}
