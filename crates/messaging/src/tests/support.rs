use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use candlefish_clock::Moment;
use candlefish_proto::event::{Envelope, HeadResponse, ReplayRequest, ReplayResponse};
use candlefish_testkit::{Database, OFFSET_CLOCK, nats_url};
use jiff_sqlx::Timestamp;
use sqlx::{PgConnection, PgPool};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    Fact, Relay, RelayConfig,
    consumer::{ConsumerConfig, Failure, Handler, Owner, OwnerError},
    feed, nats, outbox,
    streams::Stream,
};

pub(crate) const SOON: Duration = Duration::from_secs(40);

const EFFECTS: &str =
    "CREATE TABLE effect (seq bigint NOT NULL, entity text NOT NULL, times int NOT NULL DEFAULT 1,
    epoch int NOT NULL, PRIMARY KEY (epoch, seq))";

/// One schema with its source; publisher and consumer live in the same one.
pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) pool: PgPool,
    pub(crate) source: &'static str,
    pub(crate) event_type: &'static str,
    pub(crate) nats: async_nats::Client,
    pub(crate) stopping: CancellationToken,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::behind(&nats_url()).await
    }

    pub(crate) async fn behind(url: &str) -> Self {
        let database = Database::fresh(&[
            OFFSET_CLOCK,
            include_str!("../../sql/messaging.sql"),
            EFFECTS,
        ])
        .await;
        let source: &'static str = format!("t{}", uuid::Uuid::new_v4().simple()).leak();
        Self {
            pool: database.pool(),
            database,
            source,
            event_type: format!("{source}.thing.changed.v1").leak(),
            nats: nats::connect("test", url).await.unwrap(),
            stopping: CancellationToken::new(),
        }
    }

    pub(crate) fn relay_config(&self) -> RelayConfig {
        RelayConfig {
            lease: Duration::from_millis(500),
            poll: Duration::from_millis(20),
            batch: 16,
            stream: self.stream_config(),
            ..RelayConfig::of(self.source)
        }
    }

    pub(crate) fn relay(&self) -> Relay {
        Relay::new(self.pool.clone(), self.nats.clone(), self.relay_config())
    }

    pub(crate) fn start_relay(&self) -> JoinHandle<()> {
        spawn(self.relay().run(self.stopping.clone()))
    }

    pub(crate) fn consumer_config(&self) -> ConsumerConfig {
        ConsumerConfig {
            heal_every: Duration::from_millis(200),
            gap_grace: Duration::from_millis(50),
            retry_delay: Duration::from_millis(50),
            poison_after: 3,
            busy_patience: Duration::ZERO,
            ..ConsumerConfig::of("test-effects-v1", self.source)
        }
    }

    pub(crate) fn fact(&self, entity: &str, version: i32) -> Fact {
        Fact {
            entity: entity.to_owned(),
            entity_version: version,
            event_type: self.event_type,
            site: "docs".to_owned(),
            environment: "production".to_owned(),
            actor: "erin".to_owned(),
            traceparent: String::new(),
            terminal: false,
            body: prost_types::Any::default(),
        }
    }

    pub(crate) async fn commit(&self, facts: Vec<Fact>) {
        let mut tx = self.pool.begin().await.unwrap();
        let now = now(&mut tx).await;
        outbox::append(&mut tx, now, facts).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// One fact per transaction.
    pub(crate) async fn commit_each(&self, count: i32) {
        for version in 1..=count {
            self.commit(vec![self.fact("thing_1", version)]).await;
        }
    }

    pub(crate) async fn published_upto(&self) -> i64 {
        self.number("SELECT published_upto FROM relay").await
    }

    pub(crate) async fn number(&self, question: &'static str) -> i64 {
        sqlx::query_scalar(question)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    pub(crate) async fn act(&self, statement: &'static str) {
        sqlx::query(statement).execute(&self.pool).await.unwrap();
    }

    pub(crate) async fn replay_all(&self) -> Vec<Envelope> {
        let mut conn = self.pool.acquire().await.unwrap();
        let head = feed::head(&mut conn, self.source).await.unwrap();
        feed::replay(&mut conn, head.epoch, 1, 1000)
            .await
            .unwrap()
            .events
    }

    pub(crate) fn jetstream(&self) -> async_nats::jetstream::Context {
        nats::jetstream(&self.nats)
    }

    /// Small: the server reserves what a stream may hold, and every test has one.
    pub(crate) fn stream_config(&self) -> Stream {
        Stream {
            max_bytes: 4 * 1024 * 1024,
            ..Stream::of(self.source)
        }
    }

    pub(crate) fn stream(&self) -> String {
        self.source.to_uppercase()
    }
}

pub(crate) async fn now(conn: &mut PgConnection) -> Moment {
    let at: Timestamp = sqlx::query_scalar("SELECT clock()")
        .fetch_one(conn)
        .await
        .unwrap();
    Moment::from_database(at.to_jiff())
}

#[expect(clippy::disallowed_methods, reason = "tests have no process shell")]
pub(crate) fn spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(task)
}

/// Writes each event's number down, and counts how often it was applied.
#[derive(Debug, Clone, Default)]
pub(crate) struct Effects {
    pub(crate) refused: Arc<Mutex<HashSet<String>>>,
    /// What is refused makes it panic.
    pub(crate) panics: Arc<AtomicBool>,
    pub(crate) rebuilt: Arc<AtomicUsize>,
    /// At so many tries the database is away.
    pub(crate) away: Arc<AtomicUsize>,
}

impl Handler for Effects {
    async fn apply(&self, conn: &mut PgConnection, event: &Envelope) -> Result<(), Failure> {
        let one_less = |left: usize| left.checked_sub(1);
        let away = self
            .away
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        if away.is_ok() {
            return Err(sqlx::Error::PoolTimedOut.into());
        }
        sqlx::query(
            "INSERT INTO effect (epoch, seq, entity) VALUES ($1, $2, $3)
             ON CONFLICT (epoch, seq) DO UPDATE SET times = effect.times + 1",
        )
        .bind(event.epoch)
        .bind(event.seq)
        .bind(&event.entity)
        .execute(conn)
        .await?;
        // After the effect: what fails must leave none behind.
        let is_refused = self.refused.lock().unwrap().contains(&event.entity);
        assert!(
            !(is_refused && self.panics.load(Ordering::SeqCst)),
            "on purpose, at {}",
            event.entity
        );
        if is_refused {
            return Err(Failure::Retry(format!("{} is refused", event.entity)));
        }
        Ok(())
    }

    async fn rebuild(&self) -> Result<(), Failure> {
        self.rebuilt.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// The owner as its `FeedService` would answer, without gRPC between.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    pub(crate) pool: PgPool,
    pub(crate) source: &'static str,
    pub(crate) replays: Arc<AtomicUsize>,
}

impl Feed {
    pub(crate) fn of(world: &World) -> Self {
        Self {
            pool: world.pool.clone(),
            source: world.source,
            replays: Arc::default(),
        }
    }
}

impl Owner for Feed {
    async fn head(&self) -> Result<HeadResponse, OwnerError> {
        let mut conn = self
            .pool
            .acquire()
            .await
            .map_err(|e| OwnerError(e.into()))?;
        feed::head(&mut conn, self.source)
            .await
            .map_err(|e| OwnerError(e.into()))
    }

    async fn replay(&self, asked: ReplayRequest) -> Result<ReplayResponse, OwnerError> {
        self.replays.fetch_add(1, Ordering::SeqCst);
        let mut conn = self
            .pool
            .acquire()
            .await
            .map_err(|e| OwnerError(e.into()))?;
        feed::replay(&mut conn, asked.epoch, asked.from_seq, asked.limit)
            .await
            .map_err(|e| OwnerError(e.into()))
    }
}
