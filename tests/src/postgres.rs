//! A PostgreSQL server for tests: of this process alone, on an own port of the loopback and in an own
//! directory, with durable settings, from the installed binaries.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::server::PATIENCE;

/// Names a server to use instead of starting one: `postgres://USER@HOST:PORT/DATABASE`, as a superuser. One
/// for tests alone: what they create there stays.
const OVERRIDE: &str = "KBQUEUE_TEST_POSTGRES";

/// Stops the server whose directory is `$0`, and removes the directory, as soon as the process that
/// started this is gone, however it ended: then the pipe that it reads from has no writer any more.
const WATCHER: &str = r#"
cat >/dev/null
pid=$(head -n 1 "$0/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
    kill -QUIT "$pid" 2>/dev/null
    while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
fi
rm -rf "$0"
"#;

/// A private server. It ends with the process that started it.
#[derive(Debug)]
pub struct Postgres {
    directory: PathBuf,
    binaries: PathBuf,
    user: Option<String>,
    port: u16,
    child: Option<Child>,
    /// Holds the pipe that the watcher reads from.
    _watcher: Child,
}

/// The URL of a server that all tests of this process share: the one that `KBQUEUE_TEST_POSTGRES` names,
/// or else one that is started now. Tests keep apart by schemas of their own.
///
/// # Panics
/// Where PostgreSQL is not installed, or does not start.
#[must_use]
pub fn shared() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        std::env::var(OVERRIDE).unwrap_or_else(|_| {
            let server = Postgres::start();
            let url = server.url();
            // Statics are not dropped: the watcher stops it.
            std::mem::forget(server);
            url
        })
    })
}

/// A name for a schema of one test's own on the shared server.
#[derive(Debug)]
pub struct Schema(String);

impl Schema {
    /// One that nobody has used.
    #[must_use]
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let (process, started) = (std::process::id(), since.as_micros());
        Self(format!("test_{process}_{started}_{number}"))
    }

    /// The schema.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The server.
    #[must_use]
    pub fn url(&self) -> &'static str {
        shared()
    }
}

impl Default for Schema {
    fn default() -> Self {
        Self::new()
    }
}

impl Postgres {
    /// Starts a server of one's own, for tests that stop it.
    ///
    /// # Panics
    /// Where PostgreSQL is not installed, or does not start.
    #[must_use]
    pub fn start() -> Self {
        let binaries = binaries();
        let directory = directory();
        let user = unprivileged();
        if let Some(user) = &user {
            let owner = id_of(user);
            std::os::unix::fs::chown(&directory, Some(owner), None).unwrap();
        }
        let watcher = Command::new("sh")
            .args(["-c", WATCHER])
            .arg(&directory)
            .stdin(Stdio::piped())
            // Ctrl-C ends the tests, and the watcher sees to the rest.
            .process_group(0)
            .spawn()
            .unwrap();
        let mut server = Self {
            directory,
            binaries,
            user,
            port: 0,
            child: None,
            _watcher: watcher,
        };
        server.initialize();
        server.launch();
        server
    }

    /// Where it is, as the superuser `postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Stops it as a restart of the machine would: connections are cut, nothing committed is lost.
    ///
    /// # Panics
    /// Where it does not stop.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let pid = fs::read_to_string(self.directory.join("data/postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap();
        let killed = Command::new("kill").args(["-INT", pid]).status().unwrap();
        assert!(killed.success(), "the server had ended by itself");
        child.wait().unwrap();
    }

    /// Starts it again, on the same port and data.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn launch(&mut self) {
        let began = Instant::now();
        // A free port may be taken by somebody else until the server has it.
        while !self.try_launch() {
            assert!(
                began.elapsed() < PATIENCE,
                "PostgreSQL does not start:\n{}",
                self.log()
            );
        }
    }

    fn try_launch(&mut self) -> bool {
        if self.port == 0 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            self.port = free.local_addr().unwrap().port();
        }
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("log"))
            .unwrap();
        let mut child = self
            .command("postgres")
            .arg("-D")
            .arg(self.directory.join("data"))
            .args(["-p", &self.port.to_string()])
            .arg("-k")
            .arg(&self.directory)
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "fsync=on", "-c", "synchronous_commit=on"])
            .args(["-c", "max_connections=200"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let began = Instant::now();
        loop {
            if child.try_wait().unwrap().is_some() {
                self.port = 0;
                return false;
            }
            let accepts = TcpStream::connect(("127.0.0.1", self.port)).is_ok();
            if accepts && self.is_ready() {
                self.child = Some(child);
                return true;
            }
            if began.elapsed() > PATIENCE {
                child.kill().unwrap();
                child.wait().unwrap();
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_ready(&self) -> bool {
        let status = self
            .command("pg_isready")
            .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
            .status();
        status.unwrap().success()
    }

    fn initialize(&self) {
        let made = self
            .command("initdb")
            .arg("-D")
            .arg(self.directory.join("data"))
            // The empty database need not survive a power cut; what tests put there does (fsync is on).
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"])
            .arg("--no-sync")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "initdb failed: {said}");
    }

    /// A program of PostgreSQL's, which refuses to run as root.
    fn command(&self, program: &str) -> Command {
        let program = self.binaries.join(program);
        let mut command = match &self.user {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command
                    .args(["--reuid", user, "--regid", &group_of(user)])
                    .args(["--clear-groups", "--"])
                    .arg(program);
                command
            }
            None => Command::new(program),
        };
        command.current_dir(&self.directory).process_group(0);
        command
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The directory of the newest PostgreSQL here.
fn binaries() -> PathBuf {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut found: Vec<(u32, PathBuf)> = debian
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.parse().ok()?;
            Some((version, path.join("bin")))
        })
        .filter(|(_, path)| path.join("initdb").exists())
        .collect();
    found.sort();
    if let Some((_, path)) = found.pop() {
        return path;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .find(|directory| directory.join("initdb").exists())
        .unwrap_or_else(|| {
            panic!(
                "PostgreSQL is not installed: run scripts/setup.sh test, or apt-get install \
                 postgresql, or name a server in {OVERRIDE}"
            )
        })
}

/// A directory that nobody else has.
fn directory() -> PathBuf {
    let made = Command::new("mktemp")
        .args(["-d", "-t", "kbqueue-postgres.XXXXXX"])
        .output()
        .unwrap();
    assert!(made.status.success(), "no temporary directory can be made");
    Path::new(String::from_utf8(made.stdout).unwrap().trim()).to_owned()
}

/// The user to become, where this one is root.
fn unprivileged() -> Option<String> {
    if id(&["-u"]) != "0" {
        return None;
    }
    let known = |user: &&str| {
        let asked = Command::new("id").arg(user).output().unwrap();
        asked.status.success()
    };
    let user = ["postgres", "nobody"].into_iter().find(known);
    Some(user.expect("a user other than root").to_owned())
}

fn id_of(user: &str) -> u32 {
    id(&["-u", user]).parse().unwrap()
}

fn group_of(user: &str) -> String {
    id(&["-g", user])
}

fn id(arguments: &[&str]) -> String {
    let asked = Command::new("id").args(arguments).output().unwrap();
    String::from_utf8(asked.stdout).unwrap().trim().to_owned()
}
