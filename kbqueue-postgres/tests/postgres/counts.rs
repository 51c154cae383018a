//! Counters against what there really is.

use std::collections::BTreeMap;
use std::time::Duration;

use kbqueue_core::state::{CrashLimits, Outcome};
use kbqueue_core::store::{Control, RenewRequest, Settlement};
use kbqueue_core::{ChunkOptions, StoreError};
use kbqueue_core::{Dedupe, Document, DocumentId, QueueName, State, Store};
use kbqueue_postgres::PostgresStore;
use sqlx::postgres::PgConnection;

use crate::support::{LEASE, Place, checkpoint, document, request, worker};

struct Run {
    place: Place,
    store: PostgresStore,
    rng: fastrand::Rng,
    queues: Vec<QueueName>,
    ids: Vec<DocumentId>,
    held: Vec<Document>,
}

impl Run {
    async fn step(&mut self) {
        match self.rng.u32(..12) {
            0..3 => self.enqueue().await,
            3..5 => self.claim().await,
            5 => {
                if let Some(held) = self.rng.choice(&self.held) {
                    let held = self.store.document(held.id).await.unwrap();
                    if let Some(held) = held.filter(|d| d.lifecycle.lease.is_some()) {
                        self.store.checkpoint(checkpoint(&held)).await.unwrap();
                    }
                }
            }
            6..8 => self.settle().await,
            8..10 => self.control().await,
            10 => {
                let leases = self
                    .held
                    .iter()
                    .map(|d| (d.id, d.lifecycle.lease.as_ref().unwrap().id));
                let request = RenewRequest::new(worker(), leases.take(2).collect(), LEASE);
                self.store.renew(request).await.unwrap();
            }
            _ => {
                self.place
                    .clock
                    .advance(Duration::from_secs(self.rng.u64(..40)));
                let limits = CrashLimits {
                    max_crashes: 2,
                    max_crashes_total: 3,
                };
                self.store.reap(limits, 3).await.unwrap();
                self.store.purge(self.rng.usize(..5)).await.unwrap();
            }
        }
    }

    async fn enqueue(&mut self) {
        let mut documents = Vec::new();
        for _ in 0..self.rng.usize(..4) {
            let mut new = document("a.pdf");
            new.queue = self.queues[self.rng.usize(..2)].clone();
            new.tenant = [None, Some("t".to_owned())][self.rng.usize(..2)].clone();
            new.available_at =
                Some(self.place.clock.now() + Duration::from_secs(self.rng.u64(..60)))
                    .filter(|_| self.rng.bool());
            if self.rng.bool() {
                new.dedupe = Dedupe::Key(self.rng.u8(..9).to_string());
            }
            self.ids.push(new.id);
            documents.push(new);
        }
        self.store.enqueue(documents).await.unwrap();
    }

    async fn claim(&mut self) {
        let mut asked = request(self.rng.usize(..4));
        asked.worker.queues.clone_from(&self.queues);
        asked.fingerprint = self.rng.u8(..2).to_string();
        asked.grace = Duration::from_secs(20);
        self.held
            .extend(self.store.claim(asked).await.unwrap().documents);
    }

    async fn settle(&mut self) {
        let mut settlements = Vec::new();
        for _ in 0..self.rng.usize(..4).min(self.held.len()) {
            let held = self.held.swap_remove(self.rng.usize(..self.held.len()));
            let outcome = match self.rng.u8(..5) {
                0 => Outcome::Release,
                1 => Outcome::Snooze {
                    delay: Duration::from_secs(9),
                },
                2 => Outcome::Fail {
                    error: "no".to_owned(),
                    retryable: self.rng.bool(),
                    max_retries: 1,
                    backoff: Duration::from_secs(9),
                },
                _ => Outcome::Complete,
            };
            settlements.push(Settlement {
                document: held.id,
                lease_id: held.lifecycle.lease.unwrap().id,
                outcome,
            });
        }
        self.store.settle(settlements).await.unwrap();
    }

    async fn control(&mut self) {
        let Some(id) = self.rng.choice(&self.ids).copied() else {
            return;
        };
        let control = match self.rng.u8(..5) {
            0 => Control::Cancel,
            1 => Control::Delete,
            2 => Control::Rechunk(ChunkOptions::default()),
            _ => Control::Retry {
                from_scratch: self.rng.bool(),
            },
        };
        match self.store.control(id, control).await {
            Ok(_)
            | Err(
                StoreError::Refused { .. }
                | StoreError::NotFound(_)
                | StoreError::Superseded { .. },
            ) => {}
            Err(error) => panic!("{error}"),
        }
    }

    async fn check(&self, conn: &mut PgConnection, context: &str) {
        for queue in &self.queues {
            let real: Vec<(String, i64)> = sqlx::query_as(self.place.sql(
                "select state, count(*) from kbqueue.documents
                     where queue = $1 and deleted_at is null group by state",
            ))
            .bind(queue.as_str())
            .fetch_all(&mut *conn)
            .await
            .unwrap();
            let real: BTreeMap<String, i64> = real.into_iter().collect();
            let counts = self.store.stats(queue).await.unwrap().counts;
            let told = [
                (State::Queued, counts.queued),
                (State::Processing, counts.processing),
                (State::Completed, counts.completed),
                (State::Failed, counts.failed),
                (State::Cancelled, counts.cancelled),
            ];
            for (state, told) in told {
                let real = real.get(state.as_str()).copied().unwrap_or(0);
                assert_eq!(
                    i64::try_from(told).unwrap(),
                    real,
                    "{state} in {queue}, {context}"
                );
            }
        }
    }
}

#[tokio::test]
async fn counts_are_what_a_count_would_find() {
    for seed in 0..4 {
        let place = Place::new();
        let store = place.store().await;
        let mut conn = place.connection().await;
        let mut run = Run {
            place,
            store,
            rng: fastrand::Rng::with_seed(seed),
            queues: vec!["a".parse().unwrap(), "b".parse().unwrap()],
            ids: Vec::new(),
            held: Vec::new(),
        };
        for step in 0..150 {
            run.step().await;
            run.check(&mut conn, &format!("step {step} of seed {seed}"))
                .await;
        }
        // Everything goes, and nothing of it stays behind.
        for id in run.ids.clone() {
            run.place.clock.advance(LEASE);
            run.store.reap(CrashLimits::default(), 1000).await.unwrap();
            match run.store.control(id, Control::Delete).await {
                Ok(_) | Err(StoreError::NotFound(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        while run.store.purge(7).await.unwrap() == 7 {}
        run.check(&mut conn, "the end").await;
        let tables = [
            "documents",
            "details",
            "keys",
            "pages",
            "chunks",
            "images",
            "obsolete",
        ];
        for table in tables {
            let sql = run
                .place
                .sql(&format!("select count(*) from kbqueue.{table}"));
            let left: i64 = sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap();
            assert_eq!(left, 0, "{table}");
        }
    }
}
