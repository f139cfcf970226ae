//! What the traffic of a canary says, by the counters that edges send.

use std::time::Duration;

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy::{self as pb, deployment::State};
use candlefish_testkit::wait_until;

use crate::{
    api::{Api, canary, policy, reason},
    edge::Edge,
    sandbox::{Orchestrator, SOON, Sandbox},
};

const HOST: &str = "docs.localhost";
/// A little more than an interval of [`canary`].
const INTERVAL: Duration = Duration::from_mins(61);

/// A canary over a live release.
struct World {
    sandbox: Sandbox,
    _orchestrator: Orchestrator,
    edge: Edge,
    api: Api,
    stable: String,
    candidate: String,
}

impl World {
    async fn new() -> Self {
        let often = [("CANDLEFISH_FORGET_MS", "100")];
        let (sandbox, orchestrator, edge, api) = Sandbox::started_with(&often).await;
        api.create_environment("production", policy()).await;
        let stable = sandbox.release(&api, "stable").await;
        api.deploy_whole("production", &stable).await;
        Self {
            candidate: sandbox.release(&api, "candidate").await,
            stable,
            sandbox,
            _orchestrator: orchestrator,
            edge,
            api,
        }
    }

    /// Begins the canary; its first interval runs.
    async fn begin(&self) -> String {
        let made = self
            .api
            .create("production", &self.candidate, Some(canary()));
        let id = made.await.unwrap().into_inner().id;
        self.api.wait_in(&id, pb::step::Kind::Analyse).await;
        id
    }

    /// An edge says what it counted of a release since its boot.
    async fn counted(&self, release: &str, boot: &str, (requests, failed): (i32, i32)) {
        let release = release.parse::<ReleaseId>().unwrap().uuid();
        let sample = format!(
            "INSERT INTO traffic AS t (host, release_id, edge_id, boot, seq, requests,
                 server_errors, lost_paths, client_errors, latency, at)
             VALUES ('{HOST}', '{release}', 'edge-1', '{boot}', 1, {requests}, {failed}, 0, 0, '{{}}',
                 clock())
             ON CONFLICT (host, release_id, edge_id, boot) DO UPDATE SET seq = t.seq + 1,
                 requests = excluded.requests, server_errors = excluded.server_errors,
                 at = excluded.at"
        );
        self.sandbox.act(&sample).await;
    }

    /// An interval ends, in which both were asked for so much in all, and so much of it failed.
    async fn interval(&self, candidate: (i32, i32), stable: (i32, i32)) {
        self.counted(&self.candidate, "now", candidate).await;
        self.counted(&self.stable, "now", stable).await;
        self.sandbox.database.advance(INTERVAL).await;
    }

    /// Waits until the analysis says something that begins so.
    async fn said(&self, id: &str, words: &str) -> pb::Deployment {
        let says = |one: &pb::Deployment| {
            let mut steps = one.steps.iter();
            let analyse = steps.find(|step| step.kind() == pb::step::Kind::Analyse);
            analyse.is_some_and(|step| step.message.starts_with(words))
        };
        self.api.wait_until(id, words, says).await
    }
}

#[tokio::test]
async fn two_bad_intervals_in_a_row_send_traffic_back_and_reject_the_release() {
    let world = World::new().await;
    let id = world.begin().await;
    world.interval((100, 50), (1_000, 0)).await;
    let bad = "fail: candidate 100 requests, 50.0 % failed · stable 1000, 0.0 %";
    let still = world.said(&id, bad).await;
    assert_eq!(still.state(), State::Waiting);
    world.interval((200, 100), (2_000, 0)).await;
    let ended = world.api.wait_for(&id, &[State::RolledBack]).await;
    assert_eq!((&*ended.cause, &*ended.message), ("verdict", bad));
    world.edge.wait_until_it_serves(HOST, &world.stable).await;
    let again = world.api.create("production", &world.candidate, None).await;
    let refused = again.unwrap_err();
    assert_eq!(reason(&refused), "release-rejected");
}

#[tokio::test]
async fn a_bad_interval_before_a_good_one_is_none() {
    let world = World::new().await;
    let id = world.begin().await;
    world.interval((100, 50), (1_000, 0)).await;
    world.said(&id, "fail: ").await;
    // As many again, and nothing more failed.
    world.interval((200, 50), (2_000, 0)).await;
    world
        .said(&id, "candidate 100 requests, 0.0 % failed")
        .await;
    world.api.wait_for(&id, &[State::Succeeded]).await;
}

#[tokio::test]
async fn counters_that_are_forgotten_within_an_interval_blame_nobody() {
    let world = World::new().await;
    // Of a boot that ended almost a day ago.
    world
        .counted(&world.stable, "before", (100_000, 2_000))
        .await;
    let ended = "UPDATE traffic SET at = clock() - interval '23 hours 30 minutes'";
    world.sandbox.act(ended).await;
    let id = world.begin().await;
    world
        .sandbox
        .database
        .advance(Duration::from_mins(40))
        .await;
    wait_until(SOON, "its counters to be forgotten", async || {
        world.sandbox.number("SELECT count(*) FROM traffic").await == 0
    })
    .await;
    // Of both 2 % fail.
    world.interval((100, 2), (1_000, 20)).await;
    world
        .said(
            &id,
            "not enough data: what was counted before was forgotten",
        )
        .await;
    world.interval((200, 4), (2_000, 40)).await;
    world
        .said(&id, "candidate 100 requests, 2.0 % failed")
        .await;
    world.api.wait_for(&id, &[State::Succeeded]).await;
}
