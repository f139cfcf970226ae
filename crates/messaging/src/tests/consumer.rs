use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use candlefish_proto::event::Envelope;
use candlefish_testkit::{Proxy, nats_url, poll_until, wait_until};
use futures_util::FutureExt;
use prost::Message;
use sqlx::{PgConnection, postgres::PgPoolOptions};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{Event, Level, Metadata, Subscriber, span};

use super::support::{Effects, Feed, SOON, World, now, spawn};
use crate::{
    consumer::{Consumer, ConsumerConfig, Failure, Handler},
    dead_letter::{self, DeadLetter, Decision},
    relay::store,
    streams,
};

mod busy;

fn start(world: &World, effects: &Effects, feed: &Feed) -> JoinHandle<()> {
    let consumer = Consumer::new(
        world.pool.clone(),
        world.nats.clone(),
        world.consumer_config(),
        effects.clone(),
        feed.clone(),
    );
    spawn(consumer.run(world.stopping.clone()))
}

/// A consumer that has been here before: it begins at the source's beginning.
async fn at_the_beginning(world: &World) {
    sqlx::query("INSERT INTO inbox_upto VALUES ('test-effects-v1', $1, 1, 0)")
        .bind(world.source)
        .execute(&world.pool)
        .await
        .unwrap();
}

/// Stamps without publishing, as a relay does while the bus is down.
async fn stamp(world: &World) {
    world.act("UPDATE relay SET owner = NULL").await;
    let fence = store::acquire(&world.pool, "test", SOON)
        .await
        .unwrap()
        .unwrap();
    while store::stamp(&world.pool, "test", fence, 100)
        .await
        .unwrap()
        .unwrap()
        .rows
        > 0
    {}
}

async fn publish(world: &World, events: &[&Envelope]) {
    streams::ensure(&world.jetstream(), &world.stream_config())
        .await
        .unwrap();
    for event in events {
        send(world, event.encode_to_vec()).await;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test plays a bus that misbehaves"
)]
async fn send(world: &World, payload: Vec<u8>) {
    let sent = world
        .jetstream()
        .publish(world.event_type, payload.into())
        .await
        .unwrap();
    sent.await.unwrap();
}

/// Waits until each of the numbers 1 to `count` had its effect, exactly once.
async fn applied_once(world: &World, count: i64) {
    poll_until(SOON, "effects", async || {
        let found: (i64, i64, i64) = sqlx::query_as(
            "SELECT count(*), coalesce(max(seq), 0), coalesce(max(times), 0)::int8 FROM effect",
        )
        .fetch_one(&world.pool)
        .await
        .unwrap();
        if found == (count, count, 1) {
            Ok(())
        } else {
            Err(found)
        }
    })
    .await;
    poll_until(SOON, "the place", async || {
        let upto = world.number("SELECT upto FROM inbox_upto").await;
        if upto == count { Ok(()) } else { Err(upto) }
    })
    .await;
    assert_eq!(world.number("SELECT count(*) FROM inbox").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_reordered_late_and_lost_messages_each_have_one_effect() {
    let world = World::new().await;
    let (effects, feed) = (Effects::default(), Feed::of(&world));
    at_the_beginning(&world).await;
    world.commit_each(10).await;
    stamp(&world).await;
    let e = world.replay_all().await;
    // 2 and 3 come in the wrong order, 3 twice; 5 is late, after 8; 4 and 9 never come.
    publish(
        &world,
        &[
            &e[0], &e[2], &e[1], &e[2], &e[5], &e[6], &e[7], &e[4], &e[9],
        ],
    )
    .await;
    let consumer = start(&world, &effects, &feed);
    applied_once(&world, 10).await;
    // Later still, everything once more.
    publish(&world, &e.iter().collect::<Vec<_>>()).await;
    world.commit_each(1).await;
    stamp(&world).await;
    applied_once(&world, 11).await;
    assert_eq!(effects.rebuilt.load(Ordering::SeqCst), 0);
    assert!(
        feed.replays.load(Ordering::SeqCst) > 0,
        "4 and 9 came from the owner"
    );
    world.stopping.cancel();
    consumer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_of_a_consumer_share_its_messages_and_apply_each_once() {
    let world = World::new().await;
    let (effects, feed) = (Effects::default(), Feed::of(&world));
    at_the_beginning(&world).await;
    let consumers = [
        start(&world, &effects, &feed),
        start(&world, &effects, &feed),
    ];
    let relay = world.start_relay();
    world.commit_each(150).await;
    applied_once(&world, 150).await;
    world.stopping.cancel();
    for task in consumers {
        task.await.unwrap();
    }
    relay.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_stream_is_deleted_again_and_again() {
    let world = World::new().await;
    let (effects, feed) = (Effects::default(), Feed::of(&world));
    at_the_beginning(&world).await;
    let consumer = start(&world, &effects, &feed);
    let relay = world.start_relay();
    for round in 1..=4_i64 {
        world.commit_each(25).await;
        wait_until(SOON, "something on the bus", async || {
            world.published_upto().await > (round - 1) * 25
        })
        .await;
        world
            .jetstream()
            .delete_stream(world.stream())
            .await
            .unwrap();
    }
    applied_once(&world, 100).await;
    world.stopping.cancel();
    consumer.await.unwrap();
    relay.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_works_without_the_bus_and_with_it_when_it_is_back() {
    let upstream = nats_url().trim_start_matches("nats://").to_owned();
    let proxy = Proxy::start(&upstream).await;
    proxy.cut();
    let world = World::behind(&format!("nats://{}", proxy.addr())).await;
    let (effects, feed) = (Effects::default(), Feed::of(&world));
    at_the_beginning(&world).await;
    let relay = world.start_relay();
    let consumer = start(&world, &effects, &feed);
    world.commit_each(20).await;
    applied_once(&world, 20).await;
    proxy.mend();
    world.commit_each(20).await;
    applied_once(&world, 40).await;
    proxy.cut();
    world.commit_each(5).await;
    applied_once(&world, 45).await;
    world.stopping.cancel();
    consumer.await.unwrap();
    relay.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_consumer_rebuilds_once_and_goes_on_from_there() {
    let world = World::new().await;
    let (effects, feed) = (Effects::default(), Feed::of(&world));
    let relay = world.start_relay();
    world.commit_each(5).await;
    wait_until(SOON, "five on the bus", async || {
        world.published_upto().await == 5
    })
    .await;
    let consumer = start(&world, &effects, &feed);
    wait_until(SOON, "a rebuild", async || {
        effects.rebuilt.load(Ordering::SeqCst) == 1
    })
    .await;
    poll_until(SOON, "the place", async || {
        match world
            .number("SELECT coalesce(max(upto), 0) FROM inbox_upto")
            .await
        {
            5 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    world.commit_each(2).await;
    wait_until(SOON, "two effects", async || {
        world
            .number("SELECT count(*) FROM effect WHERE seq IN (6, 7)")
            .await
            == 2
    })
    .await;
    assert_eq!(world.number("SELECT count(*) FROM effect").await, 2);
    assert_eq!(effects.rebuilt.load(Ordering::SeqCst), 1);
    world.stopping.cancel();
    consumer.await.unwrap();
    relay.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_rebuilds_when_the_owners_database_was_restored() {
    let world = World::new().await;
    let (effects, feed) = (Effects::default(), Feed::of(&world));
    at_the_beginning(&world).await;
    let relay = world.start_relay();
    let consumer = start(&world, &effects, &feed);
    world.commit_each(5).await;
    applied_once(&world, 5).await;
    // Restored to a moment before 3, on what looks like the same server: only the consumer knows.
    world.act("DELETE FROM outbox WHERE seq >= 3").await;
    world
        .act("UPDATE relay SET next_seq = 3, published_upto = 2")
        .await;
    wait_until(SOON, "a rebuild", async || {
        effects.rebuilt.load(Ordering::SeqCst) == 1
    })
    .await;
    assert!(world.number("SELECT epoch::int8 FROM relay").await > 1);
    world.commit_each(3).await;
    wait_until(SOON, "effects of the new epoch", async || {
        world
            .number("SELECT count(*) FROM effect WHERE epoch > 1")
            .await
            == 3
    })
    .await;
    world.stopping.cancel();
    consumer.await.unwrap();
    relay.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_was_away_longer_than_the_owner_remembers_rebuilds() {
    let world = World::new().await;
    let (effects, feed) = (Effects::default(), Feed::of(&world));
    at_the_beginning(&world).await;
    world.commit_each(6).await;
    stamp(&world).await;
    world.act("DELETE FROM outbox WHERE seq <= 4").await;
    let consumer = start(&world, &effects, &feed);
    wait_until(SOON, "a rebuild", async || {
        effects.rebuilt.load(Ordering::SeqCst) == 1
    })
    .await;
    poll_until(SOON, "the place", async || {
        match world.number("SELECT upto FROM inbox_upto").await {
            6 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    world.stopping.cancel();
    consumer.await.unwrap();
}

/// How loud a consumer was about reading everything anew.
#[derive(Debug, Clone, Default)]
struct Said(Arc<Mutex<Vec<Level>>>);

impl Subscriber for Said {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "candlefish_messaging::consumer::heal"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(*event.metadata().level());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn a_first_contact_alarms_nobody_and_a_new_epoch_does() {
    let said = Said::default();
    // Of this thread, which is the consumer's too.
    let _subscribed = tracing::subscriber::set_default(said.clone());
    let world = World::new().await;
    let effects = Effects::default();
    let consumer = start(&world, &effects, &Feed::of(&world));
    wait_until(SOON, "the first contact", async || {
        world
            .number("SELECT coalesce(max(epoch), 0)::int8 FROM inbox_upto")
            .await
            == 1
    })
    .await;
    assert_eq!(*said.0.lock().unwrap(), [Level::INFO]);
    world.act("UPDATE relay SET timeline = '000000FF'").await;
    wait_until(SOON, "a rebuild", async || {
        effects.rebuilt.load(Ordering::SeqCst) == 2
    })
    .await;
    assert_eq!(*said.0.lock().unwrap(), [Level::INFO, Level::WARN]);
    world.stopping.cancel();
    consumer.await.unwrap();
}

/// A consumer that could not apply number 4 of 7 and parked it.
async fn with_a_dead_letter(world: &World, effects: &Effects) -> (JoinHandle<()>, DeadLetter) {
    at_the_beginning(world).await;
    effects
        .refused
        .lock()
        .unwrap()
        .insert("thing_bad".to_owned());
    let consumer = start(world, effects, &Feed::of(world));
    world.commit_each(3).await;
    world.commit(vec![world.fact("thing_bad", 1)]).await;
    world.commit_each(3).await;
    let letters = poll_until(SOON, "a dead letter", async || {
        let mut conn = world.pool.acquire().await.unwrap();
        let letters = dead_letter::list(&mut conn, dead_letter::Wanted::default(), None, 10)
            .await
            .unwrap();
        if letters.is_empty() {
            Err(letters)
        } else {
            Ok(letters)
        }
    })
    .await;
    assert_eq!(letters.len(), 1);
    (consumer, letters[0].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_parked_without_effect_and_holds_nothing_up() {
    let world = World::new().await;
    let relay = world.start_relay();
    let (consumer, letter) = with_a_dead_letter(&world, &Effects::default()).await;
    assert_eq!(
        (letter.seq, letter.error.as_str()),
        (4, "thing_bad is refused")
    );
    assert!(letter.deliveries >= 3, "{letter:?}");
    wait_until(SOON, "the others", async || {
        world.number("SELECT upto FROM inbox_upto").await == 7
    })
    .await;
    assert_eq!(
        world
            .number("SELECT count(*) FROM effect WHERE seq = 4")
            .await,
        0
    );
    assert_eq!(world.number("SELECT count(*) FROM effect").await, 6);
    world.stopping.cancel();
    consumer.await.unwrap();
    relay.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_for_long_parks_nothing() {
    let world = World::new().await;
    let (effects, feed) = (Effects::default(), Feed::of(&world));
    at_the_beginning(&world).await;
    // More often than an event is tried that fails by itself.
    effects.away.store(8, Ordering::SeqCst);
    let relay = world.start_relay();
    let consumer = start(&world, &effects, &feed);
    world.commit_each(1).await;
    applied_once(&world, 1).await;
    assert_eq!(effects.away.load(Ordering::SeqCst), 0);
    assert_eq!(world.number("SELECT count(*) FROM dead_letter").await, 0);
    world.stopping.cancel();
    consumer.await.unwrap();
    relay.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_replays_a_dead_letter_and_it_is_parked_again_until_it_can_be_applied() {
    let world = World::new().await;
    let effects = Effects::default();
    let relay = world.start_relay();
    let (consumer, letter) = with_a_dead_letter(&world, &effects).await;
    let decide = async |decision| {
        let mut conn = world.pool.acquire().await.unwrap();
        let at = now(&mut conn).await;
        dead_letter::decide(&mut conn, at, letter.id, decision, "erin", "fixed")
            .await
            .unwrap()
    };
    assert!(decide(Decision::Replay).await.is_some());
    wait_until(SOON, "parked again", async || {
        world
            .number("SELECT count(*) FROM dead_letter WHERE state = 'parked'")
            .await
            == 1
    })
    .await;
    effects.refused.lock().unwrap().clear();
    assert!(decide(Decision::Replay).await.is_some());
    applied_once(&world, 7).await;
    assert!(
        decide(Decision::Discard).await.is_none(),
        "it does not wait any more"
    );
    world.stopping.cancel();
    consumer.await.unwrap();
    relay.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_at_which_its_handler_panics_is_parked_and_stops_nobody() {
    let world = World::new().await;
    let effects = Effects::default();
    effects.panics.store(true, Ordering::SeqCst);
    let relay = world.start_relay();
    let (consumer, letter) = with_a_dead_letter(&world, &effects).await;
    assert_eq!(
        (letter.seq, letter.error.as_str()),
        (4, "its handler panicked: on purpose, at thing_bad")
    );
    wait_until(SOON, "the others", async || {
        world.number("SELECT upto FROM inbox_upto").await == 7
    })
    .await;
    assert_eq!(world.number("SELECT count(*) FROM effect").await, 6);
    // Nor does it stop whom a person sends it back to.
    let mut conn = world.pool.acquire().await.unwrap();
    let at = now(&mut conn).await;
    let sent = dead_letter::decide(&mut conn, at, letter.id, Decision::Replay, "erin", "again");
    assert!(sent.await.unwrap().is_some());
    wait_until(SOON, "parked again", async || {
        let parked = "SELECT count(*) FROM dead_letter WHERE state = 'parked'";
        world.number(parked).await == 1
    })
    .await;
    assert_eq!(world.number("SELECT count(*) FROM effect").await, 6);
    world.stopping.cancel();
    consumer.await.unwrap();
    relay.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_parked_at_once() {
    let world = World::new().await;
    let (effects, feed) = (Effects::default(), Feed::of(&world));
    at_the_beginning(&world).await;
    world.commit_each(2).await;
    stamp(&world).await;
    let e = world.replay_all().await;
    publish(&world, &[&e[0]]).await;
    send(&world, b"\xff\xff\xff not an envelope".to_vec()).await;
    publish(&world, &[&e[1]]).await;
    let consumer = start(&world, &effects, &feed);
    applied_once(&world, 2).await;
    wait_until(SOON, "a dead letter", async || {
        world.number("SELECT count(*) FROM dead_letter").await == 1
    })
    .await;
    let mut conn = world.pool.acquire().await.unwrap();
    let letter = dead_letter::list(&mut conn, dead_letter::Wanted::default(), None, 10)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(
        (letter.event_type.as_str(), letter.deliveries),
        (world.event_type, 1)
    );
    let at = now(&mut conn).await;
    let discarded =
        dead_letter::decide(&mut conn, at, letter.id, Decision::Discard, "erin", "noise").await;
    assert!(discarded.unwrap().is_some());
    assert!(
        dead_letter::list(&mut conn, dead_letter::Wanted::default(), None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    world.stopping.cancel();
    consumer.await.unwrap();
}

/// A dead letter about a thing that a person sent back.
async fn sent_back(world: &World, entity: &str) {
    let event = Envelope {
        source: world.source.to_owned(),
        r#type: world.event_type.to_owned(),
        entity: entity.to_owned(),
        epoch: 1,
        seq: 1,
        ..Envelope::default()
    };
    sqlx::query(
        "INSERT INTO dead_letter (id, consumer, source, epoch, seq, event_type, payload, error,
             deliveries, created_at, state, decided_by, decided_at)
         VALUES (gen_random_uuid(), 'test-effects-v1', $1, 1, 1, $2, $3, 'refused', 3, clock(),
             'replaying', 'erin', clock())",
    )
    .bind(world.source)
    .bind(world.event_type)
    .bind(event.encode_to_vec())
    .execute(&world.pool)
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_tried_again_is_nobody_elses_until_that_is_written_down() {
    let world = World::new().await;
    let effects = Effects::default();
    effects
        .refused
        .lock()
        .unwrap()
        .insert("thing_bad".to_owned());
    sent_back(&world, "thing_bad").await;
    // The consumer has one connection. It waits with its effect while we hold that row; meanwhile we
    // stand next in the line for the connection, as another replica does for the letter.
    let mut held = world.pool.begin().await.unwrap();
    sqlx::query("INSERT INTO effect (epoch, seq, entity) VALUES (1, 1, 'ours')")
        .execute(&mut *held)
        .await
        .unwrap();
    let one = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(SOON)
        .connect_lazy_with(world.database.options());
    let (config, feed) = (world.consumer_config(), Feed::of(&world));
    let consumer = Consumer::new(one.clone(), world.nats.clone(), config, effects, feed);
    let consumer = spawn(consumer.run(world.stopping.clone()));
    wait_until(SOON, "the effect to wait", async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        world.number(waiting).await == 1
    })
    .await;
    let mut next = pin!(one.acquire());
    assert!(next.as_mut().now_or_never().is_none());
    held.rollback().await.unwrap();
    let mut conn = next.await.unwrap();
    let state: String = sqlx::query_scalar("SELECT state FROM dead_letter")
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    assert_eq!(state, "parked");
    assert_eq!(world.number("SELECT count(*) FROM effect").await, 0);
    drop(conn);
    world.stopping.cancel();
    consumer.await.unwrap();
}

type Made = fn(String) -> Failure;

#[tokio::test]
async fn a_database_that_goes_or_is_full_is_away_and_one_that_breaks_off_is_busy() {
    let world = World::new().await;
    world
        .act(
            "CREATE FUNCTION fail(state text) RETURNS void LANGUAGE plpgsql
             AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = state; END $$",
        )
        .await;
    let table: [(&str, Made); 12] = [
        ("08006", Failure::Away),
        ("57P01", Failure::Away),
        ("25006", Failure::Away),
        ("53100", Failure::Away),
        ("53300", Failure::Away),
        ("57014", Failure::Busy),
        ("55P03", Failure::Busy),
        ("40P01", Failure::Busy),
        ("40001", Failure::Busy),
        ("23505", Failure::Retry),
        ("22003", Failure::Retry),
        ("42P01", Failure::Retry),
    ];
    for (state, expected) in table {
        let asked = sqlx::query("SELECT fail($1)").bind(state);
        let error = asked.execute(&world.pool).await.unwrap_err();
        let words = error.to_string();
        assert_eq!(Failure::from(error), expected(words), "{state}");
    }
    let greeting = "unexpected response from SSLRequest: 0x45".to_owned();
    let failure = Failure::from(sqlx::Error::Protocol(greeting));
    assert!(matches!(failure, Failure::Away(_)), "{failure:?}");
}

/// Notes the numbers that it applied. The database is away at the first try, and the process stops with
/// number 2.
#[derive(Debug, Clone)]
struct Notes {
    seen: Arc<Mutex<Vec<i64>>>,
    away: Arc<AtomicBool>,
    stopping: CancellationToken,
}

impl Handler for Notes {
    async fn apply(&self, _conn: &mut PgConnection, event: &Envelope) -> Result<(), Failure> {
        if self.away.swap(false, Ordering::SeqCst) {
            return Err(sqlx::Error::PoolTimedOut.into());
        }
        self.seen.lock().unwrap().push(event.seq);
        if event.seq == 2 {
            self.stopping.cancel();
        }
        Ok(())
    }

    async fn rebuild(&self) -> Result<(), Failure> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_ends_with_the_page_at_which_the_database_goes_or_the_process_stops() {
    let world = World::new().await;
    at_the_beginning(&world).await;
    world.commit_each(10).await;
    stamp(&world).await;
    let notes = Notes {
        seen: Arc::default(),
        away: Arc::new(AtomicBool::new(true)),
        stopping: world.stopping.clone(),
    };
    let config = ConsumerConfig {
        batch: 2,
        ..world.consumer_config()
    };
    let (pool, nats) = (world.pool.clone(), world.nats.clone());
    let consumer = Consumer::new(pool, nats, config, notes.clone(), Feed::of(&world));
    let consumer = spawn(consumer.run(world.stopping.clone()));
    tokio::time::timeout(SOON, consumer).await.unwrap().unwrap();
    // Neither what came after the outage was taken first, nor is a stop waiting for all of it.
    assert_eq!(*notes.seen.lock().unwrap(), [1, 2]);
    assert_eq!(world.number("SELECT upto FROM inbox_upto").await, 2);
}
