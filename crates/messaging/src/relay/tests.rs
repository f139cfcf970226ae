//! The lease, turn by turn.

use candlefish_testkit::wait_until;

use super::*;
use crate::tests::support::{SOON, World};

/// A relay with a lease that is to be renewed now, and does not run out meanwhile.
async fn to_be_renewed(world: &World) -> (Relay, Lease) {
    let config = RelayConfig {
        lease: Duration::from_mins(1),
        ..world.relay_config()
    };
    let relay = Relay::new(world.pool.clone(), world.nats.clone(), config);
    let mut lease = None;
    relay
        .turn(&mut lease, &watch::Sender::new(None))
        .await
        .unwrap();
    let fence = lease.unwrap().fence;
    let renewed = Instant::now().checked_sub(Duration::from_secs(30)).unwrap();
    (relay, Lease { fence, renewed })
}

#[tokio::test]
async fn a_renewal_that_fails_is_made_at_the_next_turn() {
    let world = World::new().await;
    let (relay, before) = to_be_renewed(&world).await;
    let (mut lease, tell) = (Some(before), watch::Sender::new(None));
    world.act("ALTER TABLE relay RENAME TO relay_away").await;
    relay.turn(&mut lease, &tell).await.unwrap_err();
    assert_eq!(lease, Some(before));
    world.act("ALTER TABLE relay_away RENAME TO relay").await;
    relay.turn(&mut lease, &tell).await.unwrap();
    let after = lease.unwrap();
    assert_eq!(after.fence, before.fence);
    assert!(after.renewed > before.renewed);
}

#[tokio::test]
async fn a_lease_that_ran_out_while_it_could_not_be_renewed_is_held_no_more() {
    let world = World::new().await;
    let (mut relay, before) = to_be_renewed(&world).await;
    relay.config.lease = Duration::from_secs(20);
    let mut lease = Some(before);
    world.act("ALTER TABLE relay RENAME TO relay_away").await;
    let turn = relay.turn(&mut lease, &watch::Sender::new(None)).await;
    turn.unwrap_err();
    assert_eq!(lease, None);
}

#[tokio::test]
async fn the_pause_after_failed_turns_is_short_at_first_and_bounded() {
    let world = World::new().await;
    let config = RelayConfig {
        poll: Duration::from_millis(75),
        lease: Duration::from_secs(5),
        ..world.relay_config()
    };
    let relay = Relay::new(world.pool.clone(), world.nats, config);
    for (left, failed, millis) in [
        (Some(5000), 0, 75),
        (None, 0, 1000),
        (Some(5000), 1, 100),
        (None, 1, 100),
        (Some(5000), 2, 200),
        (Some(5000), 4, 800),
        (Some(5000), 5, 1000),
        (Some(5000), u32::MAX, 1000),
        // Not beyond the end of the lease.
        (Some(300), 5, 300),
        (Some(0), 1, 0),
        (Some(20), 0, 20),
    ] {
        let pause = relay.pause(left.map(Duration::from_millis), failed);
        assert_eq!(pause, Duration::from_millis(millis), "{left:?} {failed}");
    }
}

#[tokio::test]
async fn nothing_is_published_after_the_end_of_the_lease_and_a_renewal_wakes_nobody() {
    let world = World::new().await;
    wait_until(SOON, "the bus", async || {
        crate::nats::is_connected(&world.nats)
    })
    .await;
    let (relay, before) = to_be_renewed(&world).await;
    let (tell, mut told) = watch::channel(None);
    world.commit_each(2).await;
    relay.turn(&mut Some(before), &tell).await.unwrap();
    assert!(told.borrow_and_update().is_some_and(Grant::lasts));
    tell.send_if_modified(|grant| {
        grant.as_mut().unwrap().until = Instant::now();
        false
    });
    let mut stream_known = false;
    let all = relay.publish_all(&told, &mut stream_known).await.unwrap();
    assert!(!all);
    assert_eq!(world.published_upto().await, 0);
    // It is renewed, with nothing new to publish.
    relay.turn(&mut Some(before), &tell).await.unwrap();
    assert!(!told.has_changed().unwrap());
    let all = relay.publish_all(&told, &mut stream_known).await.unwrap();
    assert!(all);
    assert_eq!(world.published_upto().await, 2);
}
