use std::time::Duration;

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use candlefish_proto::event::Envelope;
use candlefish_testkit::{Proxy, nats_url, poll_until, wait_until};
use futures_util::StreamExt;
use prost::Message;

use super::support::{SOON, World, now, spawn};
use crate::{
    epoch, feed, outbox,
    relay::{Relay, RelayConfig, store},
    retention::{self, RetentionConfig},
};

/// What the stream holds, in its order.
async fn on_the_bus(world: &World, count: usize) -> Vec<Envelope> {
    let stream = world.jetstream().get_stream(world.stream()).await.unwrap();
    let config = pull::Config {
        deliver_policy: DeliverPolicy::All,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.unwrap();
    let messages = consumer.messages().await.unwrap().take(count);
    let read = messages.map(|m| Envelope::decode(m.unwrap().payload.clone()).unwrap());
    tokio::time::timeout(SOON, read.collect()).await.unwrap()
}

async fn published(world: &World, count: i64) {
    poll_until(SOON, "facts on the bus", async || {
        let upto = world.published_upto().await;
        if upto == count { Ok(()) } else { Err(upto) }
    })
    .await;
}

async fn numbered(world: &World, count: usize) {
    wait_until(SOON, "numbers", async || {
        world.replay_all().await.len() == count
    })
    .await;
}

fn seqs(events: &[Envelope]) -> Vec<i64> {
    events.iter().map(|event| event.seq).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_commit_out_of_order_lose_nothing_and_leave_no_gap() {
    let world = World::new().await;
    let relay = world.start_relay();
    // Ids are allotted in the order 0..8 and committed in the order 7..0, while the relay stamps.
    for round in 0..5 {
        let mut open = Vec::new();
        for writer in 0..8 {
            let mut tx = world.pool.begin().await.unwrap();
            let at = now(&mut tx).await;
            let facts = vec![world.fact(&format!("thing_{round}_{writer}"), 1)];
            outbox::append(&mut tx, at, facts).await.unwrap();
            open.push(tx);
        }
        while let Some(tx) = open.pop() {
            tx.commit().await.unwrap();
            // Let the relay see exactly what is committed by now.
            let committed = i64::from(round * 8) + 8 - i64::try_from(open.len()).unwrap();
            published(&world, committed).await;
        }
    }
    let events = on_the_bus(&world, 40).await;
    assert_eq!(seqs(&events), (1..=40).collect::<Vec<i64>>());
    let entities: std::collections::HashSet<_> = events.iter().map(|e| &e.entity).collect();
    assert_eq!(entities.len(), 40);
    assert!(
        events
            .iter()
            .all(|event| event.source == world.source && event.epoch == 1)
    );
    world.stopping.cancel();
    relay.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_of_concurrent_writers_are_all_published_densely_by_two_relays() {
    let world = World::new().await;
    let first = world.start_relay();
    let second = world.start_relay();
    let writers = (0..6).map(|writer| {
        let (pool, facts) = (
            world.pool.clone(),
            (1..=30).map(|v| world.fact(&format!("thing_{writer}"), v)),
        );
        let facts: Vec<_> = facts.collect();
        spawn(async move {
            for fact in facts {
                let mut tx = pool.begin().await.unwrap();
                let at = now(&mut tx).await;
                outbox::append(&mut tx, at, vec![fact]).await.unwrap();
                tx.commit().await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    published(&world, 180).await;
    let mut newest = std::collections::HashMap::new();
    for (place, event) in on_the_bus(&world, 180).await.into_iter().enumerate() {
        assert_eq!(event.seq, i64::try_from(place).unwrap() + 1);
        let before = newest
            .insert(event.entity.clone(), event.entity_version)
            .unwrap_or(0);
        assert_eq!(
            event.entity_version,
            before + 1,
            "{} is out of order",
            event.entity
        );
    }
    world.stopping.cancel();
    first.await.unwrap();
    second.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fact_of_a_transaction_that_was_rolled_back_never_leaves() {
    let world = World::new().await;
    let mut tx = world.pool.begin().await.unwrap();
    let at = now(&mut tx).await;
    outbox::append(&mut tx, at, vec![world.fact("thing_lost", 1)])
        .await
        .unwrap();
    tx.rollback().await.unwrap();
    world.commit_each(2).await;
    let relay = world.start_relay();
    published(&world, 2).await;
    assert!(
        on_the_bus(&world, 2)
            .await
            .iter()
            .all(|event| event.entity == "thing_1")
    );
    world.stopping.cancel();
    relay.await.unwrap();
}

#[tokio::test]
async fn an_entity_has_one_terminal_fact() {
    let world = World::new().await;
    let terminal = || outbox::Fact {
        terminal: true,
        ..world.fact("thing_1", 2)
    };
    world
        .commit(vec![world.fact("thing_1", 1), terminal()])
        .await;
    let mut tx = world.pool.begin().await.unwrap();
    let at = now(&mut tx).await;
    let again = outbox::append(&mut tx, at, vec![terminal()]).await;
    assert!(
        matches!(again, Err(outbox::Error::TerminalTwice { .. })),
        "{again:?}"
    );
}

#[tokio::test]
async fn a_fact_that_is_too_large_is_refused() {
    let world = World::new().await;
    let body = prost_types::Any {
        value: vec![0; outbox::MAX_BODY_BYTES],
        ..Default::default()
    };
    let mut tx = world.pool.begin().await.unwrap();
    let at = now(&mut tx).await;
    let facts = vec![outbox::Fact {
        body,
        ..world.fact("thing_1", 1)
    }];
    let refused = outbox::append(&mut tx, at, facts).await;
    assert!(
        matches!(refused, Err(outbox::Error::TooLarge { .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_lost_its_lease_unnoticed_can_neither_stamp_nor_advance() {
    let world = World::new().await;
    let lease = Duration::from_secs(5);
    let zombie = store::acquire(&world.pool, "zombie", lease)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        store::acquire(&world.pool, "heir", lease).await.unwrap(),
        None
    );
    world.database.advance(Duration::from_secs(6)).await;
    let heir = store::acquire(&world.pool, "heir", lease)
        .await
        .unwrap()
        .unwrap();
    assert!(heir > zombie);

    world.commit_each(3).await;
    assert_eq!(
        store::stamp(&world.pool, "zombie", zombie, 16)
            .await
            .unwrap(),
        None
    );
    assert!(
        !store::renew(&world.pool, "zombie", zombie, lease)
            .await
            .unwrap()
    );
    let stamped = store::stamp(&world.pool, "heir", heir, 16)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stamped.rows, 3);
    assert!(
        !store::advance(&world.pool, "zombie", zombie, stamped.epoch, 3)
            .await
            .unwrap()
    );
    assert_eq!(world.published_upto().await, 0);
    assert!(
        store::advance(&world.pool, "heir", heir, stamped.epoch, 2)
            .await
            .unwrap()
    );
    // What was published stays published, whatever arrives late.
    assert!(
        store::advance(&world.pool, "heir", heir, stamped.epoch, 1)
            .await
            .unwrap()
    );
    assert_eq!(world.published_upto().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_takes_over_from_a_relay_that_died() {
    let world = World::new().await;
    let died = world.start_relay();
    world.commit_each(3).await;
    published(&world, 3).await;
    died.abort();
    drop(died.await);
    let heir = world.start_relay();
    world.commit_each(3).await;
    published(&world, 6).await;
    assert_eq!(
        seqs(&on_the_bus(&world, 6).await),
        (1..=6).collect::<Vec<i64>>()
    );
    world.stopping.cancel();
    heir.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_relay_sends_what_is_committed_and_gives_the_lease_back() {
    let world = World::new().await;
    // Nobody renews it after the stop.
    let config = RelayConfig {
        lease: SOON,
        ..world.relay_config()
    };
    let relay = Relay::new(world.pool.clone(), world.nats.clone(), config);
    let relay = spawn(relay.run(world.stopping.clone()));
    world.commit_each(1).await;
    published(&world, 1).await;
    world.commit_each(40).await;
    world.stopping.cancel();
    relay.await.unwrap();
    assert_eq!(world.published_upto().await, 41);
    assert_eq!(
        world
            .number("SELECT count(*) FROM relay WHERE owner IS NULL")
            .await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_turn_waits_for_nothing_and_a_stop_does_not_wait_for_the_next() {
    let world = World::new().await;
    let config = RelayConfig {
        gather: Duration::from_hours(1),
        lease: Duration::from_hours(2),
        ..world.relay_config()
    };
    world.commit_each(3).await;
    let relay = Relay::new(world.pool.clone(), world.nats.clone(), config);
    let relay = spawn(relay.run(world.stopping.clone()));
    published(&world, 3).await;
    world.commit_each(2).await;
    world.stopping.cancel();
    relay.await.unwrap();
    assert_eq!(world.published_upto().await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nudge_between_two_turns_is_kept() {
    let world = World::new().await;
    let config = RelayConfig {
        poll: Duration::from_hours(1),
        lease: Duration::from_hours(2),
        gather: Duration::from_secs(1),
        ..world.relay_config()
    };
    let relay = Relay::new(world.pool.clone(), world.nats.clone(), config);
    let nudge = relay.nudge();
    world.commit_each(1).await;
    let relay = spawn(relay.run(world.stopping.clone()));
    numbered(&world, 1).await;
    // The relay has just had its turn and gathers: nobody waits for the nudge yet.
    world.commit_each(1).await;
    nudge.nudge();
    numbered(&world, 2).await;
    world.stopping.cancel();
    relay.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_given_while_the_bus_is_down_and_published_when_it_is_back() {
    let url = nats_url();
    let upstream = url.trim_start_matches("nats://").to_owned();
    let proxy = Proxy::start(&upstream).await;
    proxy.cut();
    let world = World::behind(&format!("nats://{}", proxy.addr())).await;
    let relay = world.start_relay();
    world.commit_each(20).await;
    wait_until(SOON, "numbers without the bus", async || {
        world.replay_all().await.len() == 20
    })
    .await;
    assert_eq!(world.published_upto().await, 0);
    proxy.mend();
    published(&world, 20).await;
    // Cut in the middle of work: what was not acknowledged is sent again.
    proxy.cut();
    world.commit_each(20).await;
    wait_until(SOON, "numbers", async || {
        world.replay_all().await.len() == 40
    })
    .await;
    proxy.mend();
    published(&world, 40).await;
    assert_eq!(
        seqs(&on_the_bus(&world, 40).await),
        (1..=40).collect::<Vec<i64>>()
    );
    world.stopping.cancel();
    relay.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_deleted_is_created_again() {
    let world = World::new().await;
    let relay = world.start_relay();
    world.commit_each(3).await;
    published(&world, 3).await;
    world
        .jetstream()
        .delete_stream(world.stream())
        .await
        .unwrap();
    world.commit_each(2).await;
    published(&world, 5).await;
    assert_eq!(seqs(&on_the_bus(&world, 2).await), [4, 5]);
    world.stopping.cancel();
    relay.await.unwrap();
}

/// Then nobody says that there is no stream: the publish is met with silence.
#[tokio::test(flavor = "multi_thread")]
async fn the_stream_is_there_before_the_first_fact() {
    let world = World::new().await;
    let relay = world.start_relay();
    poll_until(SOON, "the stream", async || {
        let stream = world.jetstream().get_stream(world.stream()).await;
        stream.map(drop).map_err(|error| error.to_string())
    })
    .await;
    world.stopping.cancel();
    relay.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_on_the_bus_does_not_keep_the_stream_from_being_created() {
    let world = World::new().await;
    let listener = world.nats.subscribe(world.event_type).await.unwrap();
    let relay = world.start_relay();
    world.commit_each(3).await;
    published(&world, 3).await;
    assert_eq!(seqs(&on_the_bus(&world, 3).await), [1, 2, 3]);
    world
        .jetstream()
        .delete_stream(world.stream())
        .await
        .unwrap();
    world.commit_each(2).await;
    published(&world, 5).await;
    assert_eq!(seqs(&on_the_bus(&world, 2).await), [4, 5]);
    world.stopping.cancel();
    relay.await.unwrap();
    drop(listener);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_on_another_timeline_begins_a_new_epoch_before_anything_is_published() {
    let world = World::new().await;
    let lease = Duration::from_secs(5);
    let fence = store::acquire(&world.pool, "one", lease)
        .await
        .unwrap()
        .unwrap();
    world.commit_each(5).await;
    let old = store::stamp(&world.pool, "one", fence, 16)
        .await
        .unwrap()
        .unwrap();
    assert!(
        store::advance(&world.pool, "one", fence, old.epoch, 3)
            .await
            .unwrap()
    );

    // As after a promotion: the server's timeline is not the one that the row knows.
    world.act("UPDATE relay SET timeline = '000000FF'").await;
    let new = store::stamp(&world.pool, "one", fence, 16)
        .await
        .unwrap()
        .unwrap();
    assert!(new.epoch > old.epoch);
    // 4 and 5 were not published: they begin the new epoch under new numbers.
    assert_eq!(new.rows, 2);
    assert_eq!(seqs(&world.replay_all().await), [1, 2]);
    assert!(
        !store::advance(&world.pool, "one", fence, old.epoch, 5)
            .await
            .unwrap()
    );
    let mut conn = world.pool.acquire().await.unwrap();
    assert_eq!(epoch::current(&mut conn).await.unwrap(), new.epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_ahead_begins_a_new_epoch() {
    let world = World::new().await;
    let fence = store::acquire(&world.pool, "one", SOON)
        .await
        .unwrap()
        .unwrap();
    world.commit_each(5).await;
    store::stamp(&world.pool, "one", fence, 16)
        .await
        .unwrap()
        .unwrap();
    let mut conn = world.pool.acquire().await.unwrap();
    // Up to date, or behind: nothing happens.
    assert_eq!(feed::replay(&mut conn, 1, 6, 10).await.unwrap().epoch, 1);
    assert_eq!(
        seqs(&feed::replay(&mut conn, 1, 3, 2).await.unwrap().events),
        [3, 4]
    );
    let ahead = feed::replay(&mut conn, 1, 7, 10).await.unwrap();
    assert!(ahead.epoch > 1, "{ahead:?}");
    let far = feed::replay(&mut conn, ahead.epoch + 5, 1, 10)
        .await
        .unwrap();
    assert!(far.epoch > ahead.epoch + 5, "{far:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_nobody_can_know_begins_none() {
    let world = World::new().await;
    let mut conn = world.pool.acquire().await.unwrap();
    let before = epoch::current(&mut conn).await.unwrap();
    // The clock goes on meanwhile.
    let most = epoch::most(&mut conn).await.unwrap();
    for asked in [i32::MAX, most + 100] {
        let refused = feed::replay(&mut conn, asked, 1, 10).await.unwrap_err();
        let is_so = matches!(refused, feed::Error::Ahead { asked: named, .. } if named == asked);
        assert!(is_so, "{refused:?}");
    }
    assert_eq!(epoch::current(&mut conn).await.unwrap(), before);
    let known = feed::replay(&mut conn, most, 1, 10).await.unwrap();
    assert_eq!(known.epoch, most + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_is_over_leads_to_the_one_after_it_of_which_something_is_kept() {
    let world = World::new().await;
    let fence = store::acquire(&world.pool, "one", SOON)
        .await
        .unwrap()
        .unwrap();
    let mut conn = world.pool.acquire().await.unwrap();
    let mut epochs = Vec::new();
    for _ in 0..3 {
        world.commit_each(2).await;
        let stamped = store::stamp(&world.pool, "one", fence, 16).await.unwrap();
        let epoch = stamped.unwrap().epoch;
        assert!(
            store::advance(&world.pool, "one", fence, epoch, 2)
                .await
                .unwrap()
        );
        epochs.push(epoch);
        epoch::bump(&mut conn, epoch).await.unwrap();
    }
    let mut told = async |epoch: i32, from_seq: i64| {
        let answer = feed::replay(&mut conn, epoch, from_seq, 10).await.unwrap();
        let places = answer.events.iter().map(|event| (event.epoch, event.seq));
        places.collect::<Vec<_>>()
    };
    let &[first, second, third] = &*epochs else {
        panic!("{epochs:?}");
    };
    assert_eq!(told(first, 1).await, [(first, 1), (first, 2)]);
    // Two more began since it ended.
    assert_eq!(told(first, 3).await, [(second, 1)]);
    assert_eq!(told(second, 1).await, [(second, 1), (second, 2)]);
    assert_eq!(told(second, 3).await, [(third, 1)]);
    // The newest has none yet.
    assert!(told(third, 3).await.is_empty());
    // Its beginning is lost, and whoever asks sees that.
    world
        .act(
            "DELETE FROM outbox
             WHERE (epoch, seq) = (SELECT min(epoch), 1 FROM outbox WHERE epoch > 1)",
        )
        .await;
    assert_eq!(told(first, 3).await, [(second, 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_facts_go_and_those_that_the_bus_never_had_stay() {
    let world = World::new().await;
    let fence = store::acquire(&world.pool, "one", SOON)
        .await
        .unwrap()
        .unwrap();
    world.commit_each(5).await;
    let stamped = store::stamp(&world.pool, "one", fence, 16)
        .await
        .unwrap()
        .unwrap();
    store::advance(&world.pool, "one", fence, stamped.epoch, 3)
        .await
        .unwrap();
    let config = RetentionConfig {
        batch: 2,
        ..RetentionConfig::default()
    };
    assert_eq!(retention::drop_old(&world.pool, config).await.unwrap(), 0);
    world.database.advance(config.keep + SOON).await;
    assert_eq!(retention::drop_old(&world.pool, config).await.unwrap(), 3);
    let mut conn = world.pool.acquire().await.unwrap();
    let answer = feed::replay(&mut conn, stamped.epoch, 1, 10).await.unwrap();
    assert_eq!((answer.oldest_seq, seqs(&answer.events)), (4, vec![4, 5]));
}

/// Whole tables read, and rows read that way, since the statistics were last set back.
async fn rows_scanned(world: &World) -> i64 {
    world.act("SELECT pg_stat_force_next_flush()").await;
    world
        .number("SELECT coalesce(sum(seq_tup_read), 0)::int8 FROM pg_stat_user_tables WHERE relname = 'outbox'")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_query_of_relay_and_feed_reads_the_whole_outbox() {
    let mut world = World::new().await;
    // One session, whose statistics the test can ask for.
    world.pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(1)
        .connect_with(world.database.options())
        .await
        .unwrap();
    world
        .act(
            "INSERT INTO outbox (event_type, entity, entity_version, created_at, envelope, epoch, seq)
             SELECT 't', 'thing', n, clock() - interval '1 minute', '', 1, n
             FROM generate_series(1, 100000) n",
        )
        .await;
    world
        .act("UPDATE relay SET next_seq = 100001, published_upto = 100000")
        .await;
    world.commit_each(20).await;
    world.act("ANALYZE outbox").await;
    let before = rows_scanned(&world).await;

    let fence = store::acquire(&world.pool, "one", SOON)
        .await
        .unwrap()
        .unwrap();
    let stamped = store::stamp(&world.pool, "one", fence, 16)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stamped.rows, 16);
    assert_eq!(
        store::unpublished(&world.pool, 1, 10).await.unwrap().len(),
        10
    );
    store::backlog(&world.pool).await.unwrap();
    let mut conn = world.pool.acquire().await.unwrap();
    feed::head(&mut conn, world.source).await.unwrap();
    feed::replay(&mut conn, 1, 99_990, 5).await.unwrap();
    // Of an epoch that is over.
    feed::replay(&mut conn, 0, 1, 5).await.unwrap();
    drop(conn);
    retention::drop_old(&world.pool, RetentionConfig::default())
        .await
        .unwrap();

    let read = rows_scanned(&world).await - before;
    assert_eq!(read, 0, "rows of whole-table scans");
}
