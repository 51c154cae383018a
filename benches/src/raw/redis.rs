//! Redis: two hashes and two sorted sets. What is enqueued is one transaction, a claim and a completion are
//! one script each.

use std::sync::{Arc, LazyLock, Mutex};

use async_trait::async_trait;
use futures::StreamExt;
use kbqueue_core::{DocumentId, LeaseId};
use kbqueue_tests::redis::RedisServer;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{Client, Pipeline, Script};
use serde_json::json;

use crate::stores::{Kind, metadata, redis_server};

/// ARGV: how many; lease id. Result: ids, what was enqueued of each.
/// `states` has attempt, state, lease id, worker and instants of each row that was claimed before.
static CLAIM: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local popped = redis.call('ZPOPMIN', KEYS[1], ARGV[1])
         local ids = {}
         for i = 1, #popped, 2 do ids[#ids + 1] = popped[i] end
         if #ids == 0 then return { ids, ids } end
         local time = redis.call('TIME')
         local now = string.format('%.0f', time[1] * 1000000 + time[2])
         local state = ' processing ' .. ARGV[2] .. ' bench ' .. now
         local expiry = string.format('%.0f', now + 60000000)
         local found = redis.call('HMGET', KEYS[2], unpack(ids))
         local states, leases = {}, {}
         for i, id in ipairs(ids) do
             local attempt = found[i] and tonumber(string.match(found[i], '^%d+')) or 0
             states[2 * i - 1], states[2 * i] = id, attempt + 1 .. state
             leases[2 * i - 1], leases[2 * i] = expiry, id
         end
         redis.call('HSET', KEYS[2], unpack(states))
         redis.call('ZADD', KEYS[3], unpack(leases))
         return { ids, redis.call('HMGET', KEYS[4], unpack(ids)) }",
    )
});
/// ARGV: lease id, ids. Result: how many are completed.
static COMPLETE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local lease = table.remove(ARGV, 1)
         local time = redis.call('TIME')
         local now = string.format(' %.0f', time[1] * 1000000 + time[2])
         local found = redis.call('HMGET', KEYS[2], unpack(ARGV))
         local states, done = {}, {}
         for i, id in ipairs(ARGV) do
             local before, from = string.find(found[i] or '', ' processing ' .. lease, 1, true)
             if before then
                 done[#done + 1] = id
                 states[#states + 1] = id
                 states[#states + 1] = string.sub(found[i], 1, before) .. 'completed'
                     .. string.sub(found[i], from + 1) .. now
             end
         end
         redis.call('HSET', KEYS[2], unpack(states))
         redis.call('ZREM', KEYS[3], unpack(done))
         return #done",
    )
});
/// ARGV: lease id, id, then scores and chunks. Result: how many are new.
static WRITE_CHUNKS: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local state = redis.call('HGET', KEYS[2], ARGV[2])
         if not state or not string.find(state, ' processing ' .. ARGV[1], 1, true) then return 0 end
         local time = redis.call('TIME')
         local expiry = string.format('%.0f', time[1] * 1000000 + time[2] + 60000000)
         redis.call('ZADD', KEYS[3], expiry, ARGV[2])
         return redis.call('ZADD', 'chunks:' .. ARGV[2], unpack(ARGV, 3))",
    )
});
const KEYS: [&str; 4] = ["ready", "states", "leases", "data"];

pub(super) struct Raw {
    /// It ends with the last side.
    server: Arc<Mutex<RedisServer>>,
    url: String,
    connection: MultiplexedConnection,
    /// There on the worker's side.
    subscription: Option<PubSub>,
    lease_id: String,
    claimed: Vec<String>,
    chunks: usize,
}

impl Raw {
    pub(super) async fn new(kind: Kind) -> Self {
        let server = redis_server(kind);
        let url = server.url();
        Self::open(Arc::new(Mutex::new(server)), url).await
    }

    async fn open(server: Arc<Mutex<RedisServer>>, url: String) -> Self {
        let client = Client::open(url.as_str()).expect("it is a URL");
        Self {
            connection: client
                .get_multiplexed_async_connection()
                .await
                .expect("it answers"),
            server,
            url,
            subscription: None,
            lease_id: String::new(),
            claimed: Vec::new(),
            chunks: 0,
        }
    }

    async fn run<T: redis::FromRedisValue>(&mut self, script: &Script, arguments: &[&str]) -> T {
        let mut call = script.key(KEYS[0]);
        for key in &KEYS[1..] {
            call.key(*key);
        }
        for argument in arguments {
            call.arg(*argument);
        }
        call.invoke_async(&mut self.connection)
            .await
            .expect("it answers")
    }
}

fn insert(count: usize) -> Pipeline {
    let metadata = metadata();
    let mut data = redis::cmd("HSET");
    let mut ready = redis::cmd("ZADD");
    data.arg("data");
    ready.arg("ready");
    for _ in 0..count {
        let id = DocumentId::new().0.simple().to_string();
        let row = json!({
            "queue": "default", "filename": "bench.pdf", "media_type": "application/pdf",
            "sha256": "0".repeat(64), "size_bytes": 5, "metadata": metadata,
            "created_at": 1_700_000_000_000_000_u64,
        });
        data.arg(&id).arg(row.to_string());
        ready.arg(0).arg(id);
    }
    let mut all = redis::pipe();
    all.atomic().add_command(data).add_command(ready);
    all
}

#[async_trait]
impl super::Raw for Raw {
    async fn enqueue(&mut self, count: usize) {
        let inserts = insert(count);
        let () = inserts
            .exec_async(&mut self.connection)
            .await
            .expect("they are taken");
    }

    async fn announce(&mut self) {
        let mut insert = insert(1);
        insert.cmd("PUBLISH").arg("raw").arg("");
        let () = insert
            .exec_async(&mut self.connection)
            .await
            .expect("it is taken");
    }

    async fn worker(&self) -> Box<dyn super::Raw> {
        let mut worker = Self::open(Arc::clone(&self.server), self.url.clone()).await;
        let client = Client::open(self.url.as_str()).expect("it is a URL");
        let mut subscription = client.get_async_pubsub().await.expect("it answers");
        subscription.subscribe("raw").await.expect("it answers");
        worker.subscription = Some(subscription);
        Box::new(worker)
    }

    async fn woken(&mut self) {
        let subscription = self.subscription.as_mut();
        let subscription = subscription.expect("it is the worker's side");
        let mut messages = subscription.on_message();
        messages.next().await.expect("it stays connected");
    }

    async fn claim(&mut self, limit: usize) -> usize {
        self.lease_id = LeaseId::random().to_string();
        let (limit, lease_id) = (limit.to_string(), self.lease_id.clone());
        let (ids, data): (Vec<String>, Vec<String>) = self.run(&CLAIM, &[&limit, &lease_id]).await;
        for row in &data {
            let _row: serde_json::Value = serde_json::from_str(row).expect("it is JSON");
        }
        self.claimed = ids;
        self.claimed.len()
    }

    async fn complete(&mut self) {
        let claimed = std::mem::take(&mut self.claimed);
        let lease_id = self.lease_id.clone();
        let mut arguments = vec![lease_id.as_str()];
        arguments.extend(claimed.iter().map(String::as_str));
        let completed: usize = self.run(&COMPLETE, &arguments).await;
        assert_eq!(completed, claimed.len());
    }

    async fn write_chunks(&mut self, texts: &[String]) {
        let mut arguments = vec![self.lease_id.clone(), self.claimed[0].clone()];
        for text in texts {
            let chunk = json!({
                "ordinal": self.chunks, "text": text, "first_page": 1, "last_page": 1,
                "start_offset": 0, "end_offset": 1485,
            });
            arguments.extend([self.chunks.to_string(), chunk.to_string()]);
            self.chunks += 1;
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let written: usize = self.run(&WRITE_CHUNKS, &arguments).await;
        assert_eq!(written, texts.len());
    }
}
