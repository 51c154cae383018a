//! A reference server in a process and a directory of its own.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::program;

/// The prefix at which the reference server mounts the API.
const PREFIX: &str = "/api/medical/knowledge";

/// No wait in a test lasts longer than this: it only catches what hangs.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A queue that no other test uses, on whatever store they share.
#[must_use]
pub fn fresh_queue(name: &str) -> String {
    format!("{name}-{}", kbqueue_core::DocumentId::new().0.simple())
}

/// A running `kbqueue-server`. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// For requests to it.
    pub http: reqwest::Client,
}

impl Server {
    /// Starts a server on `directory` with more flags, and waits until it listens. Unless the flags say
    /// otherwise, its port is a free one and its store a SQLite file.
    ///
    /// # Panics
    /// Where it does not come up.
    pub async fn start(directory: &Path, flags: &[&str]) -> Self {
        Self::start_with(directory, flags, &[]).await
    }

    /// The same with more environment variables.
    ///
    /// # Panics
    /// Where it does not come up.
    pub async fn start_with(directory: &Path, flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(program::build("kbqueue-server", "kbqueue-server"))
            .args(["--blobs", "file:blobs"])
            .args(if flags.contains(&"--listen") {
                &[][..]
            } else {
                &["--listen", "127.0.0.1:0"]
            })
            .args(if flags.contains(&"--store") {
                &[][..]
            } else {
                &["--store", "sqlite:kbqueue.db"]
            })
            .args(flags)
            .current_dir(directory)
            .env("KBQUEUE_PDFIUM", program::pdfium())
            .env_remove("KBQUEUE_SECRET_KEY")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = directory.join("server.log");
        let mut stderr = child.stderr.take().unwrap();
        tokio::spawn(async move {
            let mut file = std::fs::File::options()
                .create(true)
                .append(true)
                .open(log)
                .unwrap();
            let mut bytes = [0; 8192];
            while let Ok(read @ 1..) = stderr.read(&mut bytes).await {
                std::io::Write::write_all(&mut file, &bytes[..read]).unwrap();
            }
        });
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        tokio::time::timeout(PATIENCE, stdout.read_line(&mut line))
            .await
            .unwrap()
            .unwrap();
        let Some(url) = line.trim().strip_prefix("listening on ") else {
            let log = std::fs::read_to_string(directory.join("server.log")).unwrap_or_default();
            panic!("the server did not come up: {line:?}\n{log}");
        };
        Self {
            child,
            url: url.to_owned(),
            http: reqwest::Client::new(),
        }
    }

    /// An address below the API's prefix.
    #[must_use]
    pub fn api(&self, path: &str) -> String {
        format!("{}{PREFIX}{path}", self.url)
    }

    /// What a GET below the prefix answers, as JSON.
    ///
    /// # Panics
    /// Unless it is 200.
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.http.get(self.api(path)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.unwrap()
    }

    /// Uploads one file and returns its document's id.
    ///
    /// # Panics
    /// Where it is not taken.
    pub async fn upload(&self, name: &str, bytes: Vec<u8>) -> String {
        let part = reqwest::multipart::Part::bytes(bytes).file_name(name.to_owned());
        let form = reqwest::multipart::Form::new().part("files", part);
        let answer = self
            .http
            .post(self.api("/upload"))
            .multipart(form)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let answer: Value = answer.json().await.unwrap();
        answer["documents"][0]["document_id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Asks for the document again and again until it is as it should be.
    ///
    /// # Panics
    /// Where that takes too long.
    pub async fn wait_for(&self, id: &str, is: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let document = self.get(&format!("/documents/{id}")).await;
            if is(&document) {
                return document;
            }
            assert!(started.elapsed() < PATIENCE, "never reached: {document:#}");
        }
    }

    /// All chunks of a document.
    ///
    /// # Panics
    /// Where they cannot be read.
    pub async fn chunks(&self, id: &str) -> Vec<Value> {
        let request = self.http.get(self.api(&format!("/documents/{id}/chunks")));
        let answer = request
            .header("Accept", "application/x-ndjson")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let text = answer.text().await.unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// `kill -9`, and waits until it is dead.
    ///
    /// # Panics
    /// Where it was dead already.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM, and how long it took to exit.
    ///
    /// # Panics
    /// Where it does not exit, or not with success.
    pub async fn terminate(mut self) -> Duration {
        let started = Instant::now();
        let pid = self.pid().to_string();
        assert!(
            // The shell has a `kill` of its own, and a bare machine no other.
            std::process::Command::new("sh")
                .args(["-c", "kill \"$0\"", &pid])
                .status()
                .unwrap()
                .success()
        );
        let status = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .unwrap()
            .unwrap();
        assert!(status.success(), "{status}");
        started.elapsed()
    }

    /// Memory in use now, and the most that ever was, in KiB.
    ///
    /// # Panics
    /// Where the system does not tell.
    #[must_use]
    pub fn memory_kib(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }
}
