//! Limits and schedules hold whoever works: each worker here is a process of its own, this test's own
//! executable started again.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::num::NonZeroU32;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kbqueue::event::Notice;
use kbqueue::postgres::PostgresStore;
use kbqueue::queue::QueueSettings;
use kbqueue::redis::RedisStore;
use kbqueue::schedule::{Missed, Plan, Scheduler, Schedules, Template};
use kbqueue::sqlite::SqliteStore;
use kbqueue::state::Outcome;
use kbqueue::store::{ClaimRequest, DocumentQuery, RenewRequest, Settlement, Worker, WorkerId};
use kbqueue::{BlobRef, DocumentId, NewDocument, QueueName, Rate};
use kbqueue_tests::server::fresh_queue;

const PATIENCE: Duration = Duration::from_secs(120);
const ROLE: &str = "KBQUEUE_TEST_ROLE";
const STORE: &str = "KBQUEUE_TEST_STORE";
const QUEUE: &str = "KBQUEUE_TEST_QUEUE";

/// What the processes that these tests start do. Started by anybody else, it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_of_its_own() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let url = std::env::var(STORE).unwrap();
    let queue: QueueName = std::env::var(QUEUE).unwrap().parse().unwrap();
    match role.as_str() {
        "claim" => claim_at_full_speed(&url, &queue).await,
        "schedule" => schedule_until_told(&url, queue).await,
        other => panic!("{other:?} is no role"),
    }
}

/// One of the processes, which ends with this value.
struct Process(Child);

impl Process {
    fn start(role: &str, url: &str, queue: &QueueName) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_process_of_its_own", "--nocapture"])
            .env(ROLE, role)
            .env(STORE, url)
            .env(QUEUE, queue.as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    fn wait_until_ready(&mut self) {
        let mut lines = BufReader::new(self.0.stdout.as_mut().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("ready")));
    }

    /// Lets it end by itself; answers what it had to say.
    fn finish(mut self) -> String {
        drop(self.0.stdin.take());
        let mut out = String::new();
        let mut stdout = self.0.stdout.take().unwrap();
        stdout.read_to_string(&mut out).unwrap();
        assert!(self.0.wait().unwrap().success(), "{out}");
        out
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn now_us() -> i64 {
    Timestamp::now().as_microsecond()
}

/// Claims, shows that it lives, and completes, until the queue is done. Says of each document: its tenant,
/// its start by the store's clock, and the time in which it was certainly held.
async fn claim_at_full_speed(url: &str, queue: &QueueName) {
    let store = kbqueue::connect(url).await.unwrap();
    let worker = Worker {
        id: WorkerId(DocumentId::new().0),
        name: "worker".to_owned(),
        queues: vec![queue.clone()],
    };
    let lease = Duration::from_secs(60);
    loop {
        let request = ClaimRequest::new(worker.clone(), 5, lease, "fingerprint".to_owned());
        let documents = store.claim(request).await.unwrap().documents;
        let since = now_us();
        if documents.is_empty() {
            let counts = store.stats(queue).await.unwrap().counts;
            if counts.queued + counts.processing == 0 {
                return;
            }
            continue;
        }
        let held = documents.iter().map(|document| {
            let lease = document.lifecycle.lease.as_ref().unwrap();
            (document.id, lease.id)
        });
        let held: Vec<_> = held.collect();
        let request = RenewRequest::new(worker.clone(), held.clone(), lease);
        store.renew(request).await.unwrap();
        let until = now_us();
        for document in &documents {
            let started_at = document.lifecycle.started_at.unwrap().as_microsecond();
            let tenant = document.tenant.as_deref().unwrap();
            say(&format!("held {tenant} {started_at} {since} {until}"));
        }
        let settlements = held.into_iter().map(|(document, lease_id)| Settlement {
            document,
            lease_id,
            outcome: Outcome::Complete,
        });
        store.settle(settlements.collect()).await.unwrap();
    }
}

/// A document as one of the processes had it.
#[derive(Debug)]
struct Held {
    tenant: String,
    started_at: i64,
    since: i64,
    until: i64,
}

/// Processes of one test only: twelve at full speed on two cores measure the machine.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Four processes at once, until `count` documents of two tenants are done.
async fn four_processes(url: &str, settings: QueueSettings, count: u32) -> Vec<Held> {
    let _alone = ALONE.lock().await;
    let queue = QueueName::new(fresh_queue("many")).unwrap();
    let store = kbqueue::connect(url).await.unwrap();
    store.configure(&queue, settings).await.unwrap();
    let documents = (0..count).map(|number| {
        let mut new = NewDocument::new(queue.clone(), blob(), "a.pdf");
        new.dedupe = kbqueue::Dedupe::Off;
        new.tenant = Some(format!("t{}", number % 2));
        new
    });
    store.enqueue(documents.collect()).await.unwrap();
    let processes: Vec<_> = (0..4)
        .map(|_| Process::start("claim", url, &queue))
        .collect();
    let said = processes.into_iter().map(Process::finish);
    let said: Vec<String> = said.collect();
    let lines = said.iter().flat_map(|said| said.lines());
    let held: Vec<Held> = lines
        .filter_map(|line| line.split_once("held ").map(|(_, rest)| rest))
        .map(|rest| {
            let words: Vec<&str> = rest.split(' ').collect();
            Held {
                tenant: words[0].to_owned(),
                started_at: words[1].parse().unwrap(),
                since: words[2].parse().unwrap(),
                until: words[3].parse().unwrap(),
            }
        })
        .collect();
    assert_eq!(held.len(), count as usize, "each was held once");
    held
}

fn blob() -> BlobRef {
    BlobRef {
        sha256: "ab".repeat(32),
        size_bytes: 7,
    }
}

/// In any t seconds start at most `documents × t / per_seconds + burst`, and over ten periods 95 % of that.
async fn a_rate_holds(url: &str) {
    const PERIODS: u32 = 10;
    let number = |n| NonZeroU32::new(n).unwrap();
    let rate = Rate {
        documents: number(20),
        per_seconds: number(1),
        burst: number(20),
    };
    let settings = QueueSettings {
        rate: Some(rate),
        ..QueueSettings::default()
    };
    let held = four_processes(url, settings, PERIODS * 20 + 20).await;
    let mut starts: Vec<i64> = held.iter().map(|held| held.started_at).collect();
    starts.sort_unstable();
    for (first, from) in starts.iter().enumerate() {
        for (last, to) in starts.iter().enumerate().skip(first) {
            let started = i64::try_from(last - first + 1).unwrap();
            // In millionths of a document.
            let allowed = 20 * (to - from) + 20_000_000;
            assert!(
                started * 1_000_000 <= allowed,
                "{started} in {} us",
                to - from
            );
        }
    }
    let took_us = starts.last().unwrap() - starts[0];
    assert!(
        took_us * 95 <= i64::from(PERIODS) * 100_000_000,
        "{took_us} us"
    );
}

/// At no time are more held than may be, in all and of one tenant.
async fn a_maximum_holds(url: &str) {
    let settings = QueueSettings {
        max_processing: Some(3),
        max_processing_per_tenant: Some(2),
        ..QueueSettings::default()
    };
    let held = four_processes(url, settings, 200).await;
    for at in held.iter().map(|held| held.since) {
        let mut now: HashMap<&str, u32> = HashMap::new();
        for held in held
            .iter()
            .filter(|held| held.since <= at && at < held.until)
        {
            *now.entry(&held.tenant).or_default() += 1;
        }
        let all: u32 = now.values().sum();
        assert!(all <= 3 && now.values().all(|n| *n <= 2), "{now:?}");
    }
}

async fn schedules(url: &str) -> Arc<dyn Schedules> {
    if url.starts_with("sqlite:") {
        Arc::new(SqliteStore::connect(url).await.unwrap())
    } else if url.starts_with("redis:") {
        Arc::new(RedisStore::connect(url).await.unwrap())
    } else {
        Arc::new(PostgresStore::connect(url).await.unwrap())
    }
}

/// Fires what is due until its standard input ends.
async fn schedule_until_told(url: &str, queue: QueueName) {
    let scheduler = Scheduler::new(
        schedules(url).await,
        vec![queue],
        Duration::from_millis(500),
    );
    // Looked at once, so that it knows of the tick.
    scheduler.tick().await.unwrap();
    say("ready");
    let told = tokio_util::sync::CancellationToken::new();
    let stop = told.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stop.cancel();
    });
    scheduler.run(told).await;
}

/// Three processes wait for a tick, and two of them are killed when it comes, a little later each time.
async fn a_tick_comes_once_whoever_dies(url: &str) {
    let _alone = ALONE.lock().await;
    let store = schedules(url).await;
    for delay_us in [0, 500, 1000, 2000, 4000, 8000] {
        let queue = QueueName::new(fresh_queue("many")).unwrap();
        let plan = Plan {
            cron: "0 0 1 1 *".to_owned(),
            time_zone: "UTC".to_owned(),
            missed: Missed::Once,
            template: Template {
                blob: blob(),
                filename: "report.pdf".to_owned(),
                media_type: "application/pdf".to_owned(),
                tenant: None,
                priority: 0,
                chunking: None,
                metadata: serde_json::Value::Null,
            },
        };
        let put = async |next_at| {
            let put = store.put_schedule(&queue, "report", plan.clone(), next_at);
            put.await.unwrap();
        };
        put(Timestamp::now() + Duration::from_secs(3600)).await;
        let mut notices = store.subscribe().await.unwrap();
        let mut processes: Vec<_> = (0..3)
            .map(|_| Process::start("schedule", url, &queue))
            .collect();
        for process in &mut processes {
            process.wait_until_ready();
        }
        // Only now that all know of it, and far enough away for all to hear of the change.
        let next_at = Timestamp::now() + Duration::from_millis(1500);
        put(next_at).await;
        tokio::time::sleep(Duration::from_millis(1400)).await;
        // Spun, not slept: it is to be exact.
        while now_us() < next_at.as_microsecond() + delay_us {}
        for process in &mut processes[..2] {
            process.0.kill().unwrap();
        }
        let fired = async {
            while store.schedules(&queue).await.unwrap().schedules[0].revision == 2 {
                let _: Notice = notices.next().await;
            }
        };
        tokio::time::timeout(PATIENCE, fired).await.unwrap();
        processes.pop().unwrap().finish();
        let mut query = DocumentQuery::default();
        query.queue = Some(queue.clone());
        let documents = store.documents(query).await.unwrap();
        assert_eq!(documents.len(), 1, "killed {delay_us} us after the tick");
        let revision = store.schedules(&queue).await.unwrap().schedules[0].revision;
        assert_eq!(revision, 3);
    }
}

fn sqlite(directory: &tempfile::TempDir) -> String {
    format!("sqlite:{}", directory.path().join("kbqueue.db").display())
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    a_rate_holds(&sqlite(&directory)).await;
    a_maximum_holds(&sqlite(&directory)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_on_postgres() {
    let url = kbqueue_tests::postgres::shared();
    a_rate_holds(url).await;
    a_maximum_holds(url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_on_redis() {
    let url = kbqueue_tests::redis::shared();
    a_rate_holds(url).await;
    a_maximum_holds(url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_comes_once_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    a_tick_comes_once_whoever_dies(&sqlite(&directory)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_comes_once_on_postgres() {
    a_tick_comes_once_whoever_dies(kbqueue_tests::postgres::shared()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_comes_once_on_redis() {
    a_tick_comes_once_whoever_dies(kbqueue_tests::redis::shared()).await;
}
