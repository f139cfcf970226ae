//! A database that breaks off what it is asked: for one event, or for all.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use candlefish_proto::event::Envelope;
use candlefish_testkit::{poll_until, wait_until};
use sqlx::PgConnection;
use tokio::task::JoinHandle;

use super::{applied_once, at_the_beginning, sent_back, stamp};
use crate::{
    consumer::{Consumer, ConsumerConfig, Failure, Handler},
    dead_letter,
    tests::support::{Effects, Feed, SOON, World, spawn},
};

/// The entity that the database is busy with.
const SICK: &str = "thing_sick";

/// Meets a statement timeout with some entities.
#[derive(Debug, Clone, Default)]
struct Busy {
    effects: Effects,
    /// How their names begin; empty for all.
    with: Arc<Mutex<Option<&'static str>>>,
    /// How often that was.
    met: Arc<AtomicUsize>,
}

impl Busy {
    fn with(beginning: &'static str) -> Self {
        Self {
            with: Arc::new(Mutex::new(Some(beginning))),
            ..Self::default()
        }
    }

    fn start(&self, world: &World, config: ConsumerConfig) -> JoinHandle<()> {
        let (pool, nats) = (world.pool.clone(), world.nats.clone());
        let consumer = Consumer::new(pool, nats, config, self.clone(), Feed::of(world));
        spawn(consumer.run(world.stopping.clone()))
    }

    async fn has_met(&self, times: usize) {
        wait_until(SOON, "tries", async || {
            self.met.load(Ordering::SeqCst) >= times
        })
        .await;
    }
}

impl Handler for Busy {
    async fn apply(&self, conn: &mut PgConnection, event: &Envelope) -> Result<(), Failure> {
        let with = *self.with.lock().unwrap();
        if with.is_some_and(|beginning| event.entity.starts_with(beginning)) {
            self.met.fetch_add(1, Ordering::SeqCst);
            for statement in ["SET LOCAL statement_timeout = 50", "SELECT pg_sleep(60)"] {
                sqlx::query(statement).execute(&mut *conn).await?;
            }
        }
        self.effects.apply(conn, event).await
    }

    async fn rebuild(&self) -> Result<(), Failure> {
        self.effects.rebuild().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_alone_meets_a_busy_database_is_parked_and_keeps_no_other() {
    let world = World::new().await;
    let busy = Busy::with(SICK);
    at_the_beginning(&world).await;
    let relay = world.start_relay();
    let consumer = busy.start(&world, world.consumer_config());
    world.commit(vec![world.fact(SICK, 1)]).await;
    let letters = poll_until(SOON, "a dead letter", async || {
        // Others go on.
        world.commit_each(1).await;
        let mut conn = world.pool.acquire().await.unwrap();
        let letters = dead_letter::list(&mut conn, dead_letter::Wanted::default(), None, 10)
            .await
            .unwrap();
        if letters.is_empty() {
            Err(busy.met.load(Ordering::SeqCst))
        } else {
            Ok(letters)
        }
    })
    .await;
    let seqs: Vec<i64> = letters.iter().map(|letter| letter.seq).collect();
    assert_eq!(seqs, [1]);
    assert!(
        letters[0]
            .error
            .contains("at 3 tries, and applied others in between"),
        "{letters:?}"
    );
    // The first try, of which nothing could be said, and three that counted.
    assert!(letters[0].deliveries >= 4, "{letters:?}");
    let facts = world.number("SELECT count(*) FROM outbox").await;
    poll_until(SOON, "the place", async || {
        match world.number("SELECT upto FROM inbox_upto").await {
            upto if upto == facts => Ok(()),
            upto => Err(upto),
        }
    })
    .await;
    let effects = world.number("SELECT count(*) FROM effect").await;
    assert_eq!(effects, facts - 1);
    world.stopping.cancel();
    consumer.await.unwrap();
    relay.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_a_busy_database_breaks_off_is_not_parked_before_its_time() {
    let world = World::new().await;
    let busy = Busy::with(SICK);
    at_the_beginning(&world).await;
    let relay = world.start_relay();
    let config = ConsumerConfig {
        busy_patience: Duration::from_hours(1),
        ..world.consumer_config()
    };
    let consumer = busy.start(&world, config);
    world.commit(vec![world.fact(SICK, 1)]).await;
    // Far more often than three times, with others applied in between.
    poll_until(SOON, "tries", async || {
        world.commit_each(1).await;
        match busy.met.load(Ordering::SeqCst) {
            met if met >= 12 => Ok(()),
            met => Err(met),
        }
    })
    .await;
    assert_eq!(world.number("SELECT count(*) FROM dead_letter").await, 0);
    *busy.with.lock().unwrap() = None;
    let facts = world.number("SELECT count(*) FROM outbox").await;
    applied_once(&world, facts).await;
    assert_eq!(world.number("SELECT count(*) FROM dead_letter").await, 0);
    world.stopping.cancel();
    consumer.await.unwrap();
    relay.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_busy_with_everything_parks_nothing() {
    let world = World::new().await;
    let busy = Busy::with("");
    at_the_beginning(&world).await;
    let relay = world.start_relay();
    let consumer = busy.start(&world, world.consumer_config());
    world.commit_each(3).await;
    // More often than three events are tried that fail by themselves.
    busy.has_met(30).await;
    assert_eq!(world.number("SELECT count(*) FROM dead_letter").await, 0);
    *busy.with.lock().unwrap() = None;
    applied_once(&world, 3).await;
    assert_eq!(world.number("SELECT count(*) FROM dead_letter").await, 0);
    world.stopping.cancel();
    consumer.await.unwrap();
    relay.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_goes_on_past_events_that_the_database_is_busy_with() {
    let world = World::new().await;
    let busy = Busy::with(SICK);
    at_the_beginning(&world).await;
    // A whole page of them, then others; the bus brings nothing, nobody is parked.
    for version in 1..=2 {
        world.commit(vec![world.fact(SICK, version)]).await;
    }
    world.commit_each(6).await;
    stamp(&world).await;
    let config = ConsumerConfig {
        batch: 2,
        poison_after: i64::MAX,
        ..world.consumer_config()
    };
    let consumer = busy.start(&world, config);
    poll_until(SOON, "effects of the others", async || {
        match world.number("SELECT count(*) FROM effect").await {
            6 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    *busy.with.lock().unwrap() = None;
    applied_once(&world, 8).await;
    world.stopping.cancel();
    consumer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_meets_a_busy_database_is_parked_again_and_keeps_no_other() {
    let world = World::new().await;
    let busy = Busy::with(SICK);
    sent_back(&world, SICK).await;
    sent_back(&world, "thing_well").await;
    let consumer = busy.start(&world, world.consumer_config());
    wait_until(SOON, "both tried", async || {
        let open = "SELECT count(*) FROM dead_letter WHERE state = 'replaying'";
        world.number(open).await == 0
    })
    .await;
    let mut conn = world.pool.acquire().await.unwrap();
    let letters = dead_letter::list(&mut conn, dead_letter::Wanted::default(), None, 10)
        .await
        .unwrap();
    let words: Vec<&str> = letters.iter().map(|letter| &*letter.error).collect();
    assert!(
        matches!(&*words, [one] if one.starts_with("the database is busy: ")),
        "{words:?}"
    );
    world.stopping.cancel();
    consumer.await.unwrap();
}
