//! The lease, turn by turn.

use super::*;
use crate::tests::support::World;

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
    for (holds, failed, millis) in [
        (true, 0, 75),
        (false, 0, 1000),
        (true, 1, 100),
        (false, 1, 100),
        (true, 2, 200),
        (true, 4, 800),
        (true, 5, 1000),
        (true, u32::MAX, 1000),
    ] {
        let pause = relay.pause(holds, failed);
        assert_eq!(pause, Duration::from_millis(millis), "{holds} {failed}");
    }
}
