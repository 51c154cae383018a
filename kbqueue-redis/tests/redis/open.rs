//! Servers that are not fit for it.

use std::io;
use std::sync::{Arc, Mutex};

use kbqueue_core::StoreError;
use kbqueue_redis::{RedisOptions, RedisStore};
use kbqueue_tests::redis::RedisServer;
use tracing_subscriber::fmt::MakeWriter;

use crate::support::*;

fn advice(answer: Result<RedisStore, StoreError>) -> String {
    match answer {
        Err(StoreError::Unusable(advice)) => advice,
        other => panic!("not {other:?}"),
    }
}

/// REGRESSIONS 22: a server that would throw documents away is refused, with what to do about it.
#[tokio::test]
async fn a_server_that_evicts_is_refused() {
    let server = RedisServer::start(&["--maxmemory-policy", "allkeys-lru"]);
    let space = Space::on(&server.url());
    let advice = advice(RedisStore::open(space.options()).await);
    assert!(
        advice.contains("CONFIG SET maxmemory-policy noeviction"),
        "{advice}"
    );
    let mut raw = space.raw().await;
    let _: String = raw
        .run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"])
        .await;
    space.store().await;
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// What is not kept on a disk is said at the start.
#[tokio::test]
async fn a_server_without_a_log_is_warned_of() {
    for (appends, warnings) in [("yes", 0), ("no", 1)] {
        let server = RedisServer::start(&["--appendonly", appends]);
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).finish();
        let guard = tracing::subscriber::set_default(subscriber);
        Space::on(&server.url()).store().await;
        drop(guard);
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.matches("appendonly yes").count(), warnings, "{log}");
    }
}

/// REGRESSIONS 37: what a newer release wrote in another layout is left alone.
#[tokio::test]
async fn a_newer_layout_is_left_alone() {
    let space = Space::new();
    let mut raw = space.raw().await;
    let _: String = raw
        .run(&["SET", &format!("{}:version", space.prefix), "2"])
        .await;
    let advice = advice(RedisStore::open(space.options()).await);
    assert!(advice.contains("newer release"), "{advice}");
}

#[tokio::test]
async fn what_cannot_be_a_store_is_told_apart() {
    for url in ["http://localhost", "redis", ""] {
        assert!(RedisOptions::parse(url).is_err(), "{url:?}");
    }
    let space = Space::new();
    let braces = space.options().prefix("a{b}");
    assert!(advice(RedisStore::open(braces).await).contains("a{b}"));
    let nobody = RedisOptions::parse("redis://127.0.0.1:1").unwrap();
    match RedisStore::open(nobody).await {
        Err(StoreError::Unavailable { .. }) => {}
        other => panic!("not {other:?}"),
    }
}

/// Passwords in a URL are in no error and in no debug output.
#[tokio::test]
async fn passwords_are_not_shown() {
    let server = RedisServer::start(&["--requirepass", "s3cret"]);
    let port = server.url().rsplit(':').next().unwrap().to_owned();
    let with = |password: &str| format!("redis://:{password}@127.0.0.1:{port}");
    let options = RedisOptions::parse(&with("s3cret")).unwrap();
    assert!(!format!("{options:?}").contains("s3cret"));
    let store = RedisStore::open(options).await.unwrap();
    assert!(!format!("{store:?}").contains("s3cret"));
    let wrong = RedisStore::connect(&with("wr0ng")).await.unwrap_err();
    assert!(!format!("{wrong:?} {wrong}").contains("wr0ng"));
    assert!(!wrong.is_transient(), "{wrong:?}");
}
