//! What the traffic of a canary says, by the counters that edges send.

use std::time::Duration;

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy::{self as pb, deployment::State, record::Kind};
use candlefish_testkit::wait_until;

use crate::{
    api::{Api, blockers, canary, policy, reason},
    edge::Edge,
    history,
    sandbox::{Orchestrator, SITE, SOON, Sandbox},
};

/// The platform's.
const HOST: &str = "docs.localhost";
/// The environment's own.
const OWN: &str = "docs.example.com";
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
        Self::with_hosts(&[]).await
    }

    /// The same, of an environment with hosts of its own.
    async fn with_hosts(hosts: &[&str]) -> Self {
        let often = [("CANDLEFISH_FORGET_MS", "100")];
        let (sandbox, orchestrator, edge, api) = Sandbox::started_with(&often).await;
        let request = api.request(pb::CreateEnvironmentRequest {
            site: SITE.to_owned(),
            slug: "production".to_owned(),
            policy: Some(policy()),
            hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            ..pb::CreateEnvironmentRequest::default()
        });
        api.sites().create_environment(request).await.unwrap();
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

    /// An edge says what it counted of a release since its boot, on the platform's host.
    async fn counted(&self, release: &str, boot: &str, counts: (i32, i32)) {
        self.counted_on(HOST, release, boot, counts).await;
    }

    /// The same on another host.
    async fn counted_on(
        &self,
        host: &str,
        release: &str,
        boot: &str,
        (requests, failed): (i32, i32),
    ) {
        let release = release.parse::<ReleaseId>().unwrap().uuid();
        let sample = format!(
            "INSERT INTO traffic AS t (host, release_id, edge_id, boot, seq, requests,
                 server_errors, lost_paths, client_errors, latency, at)
             VALUES ('{host}', '{release}', 'edge-1', '{boot}', 1, {requests}, {failed}, 0, 0, '{{}}',
                 clock())
             ON CONFLICT (host, release_id, edge_id, boot) DO UPDATE SET seq = t.seq + 1,
                 requests = excluded.requests, server_errors = excluded.server_errors,
                 at = excluded.at"
        );
        self.sandbox.act(&sample).await;
    }

    /// An interval ends, in which both were asked for so much in all, and so much of it failed.
    async fn interval(&self, candidate: (i32, i32), stable: (i32, i32)) {
        self.interval_on(HOST, candidate, stable).await;
    }

    /// The same, asked for by another host.
    async fn interval_on(&self, host: &str, candidate: (i32, i32), stable: (i32, i32)) {
        self.counted_on(host, &self.candidate, "now", candidate)
            .await;
        self.counted_on(host, &self.stable, "now", stable).await;
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
    let bad = "fail: candidate 100 requests, 50.0 % failed · stable 1,000, 0.0 %";
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

#[tokio::test]
async fn visitors_who_come_by_a_host_of_its_own_send_a_bad_canary_back() {
    let world = World::with_hosts(&[OWN]).await;
    let id = world.begin().await;
    world.interval_on(OWN, (100, 50), (1_000, 0)).await;
    let bad = "fail: candidate 100 requests, 50.0 % failed · stable 1,000, 0.0 %";
    world.said(&id, bad).await;
    world.interval_on(OWN, (200, 100), (2_000, 0)).await;
    let ended = world.api.wait_for(&id, &[State::RolledBack]).await;
    assert_eq!((&*ended.cause, &*ended.message), ("verdict", bad));
    for host in [HOST, OWN] {
        world.edge.wait_until_it_serves(host, &world.stable).await;
    }
}

#[tokio::test]
async fn visitors_of_all_hosts_and_of_no_other_one_are_counted_together() {
    let world = World::with_hosts(&[OWN]).await;
    let id = world.begin().await;
    // Of another environment, which serves the same.
    let counts = (1_000, 1_000);
    world
        .counted_on("staging--docs.localhost", &world.candidate, "now", counts)
        .await;
    // Neither host alone has enough.
    world.counted(&world.candidate, "now", (30, 0)).await;
    world.counted(&world.stable, "now", (400, 0)).await;
    world.interval_on(OWN, (30, 0), (600, 0)).await;
    world.api.wait_for(&id, &[State::Succeeded]).await;
    world
        .said(
            &id,
            "candidate 60 requests, 0.0 % failed · stable 1,000, 0.0 %",
        )
        .await;
}

#[tokio::test]
async fn a_forecast_counts_the_visitors_of_every_host() {
    let world = World::with_hosts(&[OWN]).await;
    world.counted(&world.stable, "now", (100, 0)).await;
    world.counted_on(OWN, &world.stable, "now", (100, 0)).await;
    // A sample is of now for 5 s; these are for as long as the test takes.
    let rates = format!(
        "UPDATE traffic SET rate = CASE host WHEN '{OWN}' THEN 6 ELSE 4 END,
             at = clock() + interval '10 minutes'"
    );
    world.sandbox.act(&rates).await;
    let id = world.begin().await;
    world
        .said(&id, "at 10.0 requests/s a judgement needs about ")
        .await;
}

#[tokio::test]
async fn a_policy_that_goes_back_without_evidence_says_so_and_blames_nobody() {
    let world = World::new().await;
    let returns = pb::Policy {
        on_no_evidence: pb::policy::OnNoEvidence::Return.into(),
        ..policy()
    };
    let request = world.api.request(pb::UpdateEnvironmentRequest {
        site: SITE.to_owned(),
        environment: "production".to_owned(),
        policy: Some(returns),
        ..pb::UpdateEnvironmentRequest::default()
    });
    world.api.sites().update_environment(request).await.unwrap();
    let id = world.begin().await;
    let forecast =
        "no traffic: about 0 of 50 requests an interval; after 3 intervals of 1 h it goes back";
    world.said(&id, forecast).await;
    for (all, new) in [(10, 10), (21, 11)] {
        world.interval((all, 0), (10 * all, 0)).await;
        let words = format!("not enough data: candidate {new} requests");
        world.said(&id, &words).await;
    }
    world.interval((33, 0), (330, 0)).await;
    let ended = world.api.wait_for(&id, &[State::RolledBack]).await;
    assert_eq!(ended.cause, "evidence");
    assert!(
        ended.message.ends_with("; the policy goes back"),
        "{}",
        ended.message
    );
    let told = history::of_kind(&world.api, "production", Kind::Rollback).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].reason, ended.message);
    // Not rejected: it may come again.
    let again = world.api.create("production", &world.candidate, None).await;
    again.unwrap();
}

#[tokio::test]
async fn who_waits_for_visitors_says_when_there_will_be_enough_and_only_then() {
    let world = World::new().await;
    let waits = pb::Policy {
        on_no_evidence: pb::policy::OnNoEvidence::Wait.into(),
        ..policy()
    };
    let request = world.api.request(pb::UpdateEnvironmentRequest {
        site: SITE.to_owned(),
        environment: "production".to_owned(),
        policy: Some(waits),
        ..pb::UpdateEnvironmentRequest::default()
    });
    world.api.sites().update_environment(request).await.unwrap();
    let id = world.begin().await;
    // Three intervals have too little, each another number of requests.
    for (all, new) in [(10, 10), (21, 11), (33, 12)] {
        world.interval((all, 0), (10 * all, 0)).await;
        let words = format!("not enough data: candidate {new} requests");
        world.said(&id, &words).await;
    }
    let evidence = |one: &pb::Deployment| blockers(one) == [pb::blocker::Kind::Evidence];
    let stuck = world.api.wait_until(&id, "a wait for visitors", evidence);
    assert_eq!(stuck.await.blockers[0].until, None);
    // As if so many came all the time that an interval has more than enough.
    world.counted(&world.candidate, "now", (50, 0)).await;
    world.counted(&world.stable, "now", (500, 0)).await;
    let rates = "UPDATE traffic SET rate = 5, at = clock() + interval '2 hours'";
    world.sandbox.act(rates).await;
    world.sandbox.database.advance(INTERVAL).await;
    let words = "not enough data: candidate 17 requests";
    let still = world.said(&id, words).await;
    let until = still.blockers[0].until.as_ref().unwrap().seconds;
    let since = still.blockers[0].since.as_ref().unwrap().seconds;
    // It waited an interval, and enough is there after one more.
    assert!((7_200..7_500).contains(&(until - since)), "{still:?}");
    world.interval((100, 0), (1_000, 0)).await;
    world.api.wait_for(&id, &[State::Succeeded]).await;
}

#[tokio::test]
async fn what_a_host_counted_before_it_came_blames_nobody() {
    let world = World::new().await;
    // It was another environment's.
    world
        .counted_on(OWN, &world.candidate, "before", (10_000, 9_000))
        .await;
    let id = world.begin().await;
    let comes = format!(
        "INSERT INTO environment_host (host, environment_id)
         SELECT '{OWN}', id FROM environment WHERE slug = 'production'"
    );
    world.sandbox.act(&comes).await;
    world.interval((100, 50), (1_000, 0)).await;
    let bad = "fail: candidate 100 requests, 50.0 % failed · stable 1,000, 0.0 %";
    world.said(&id, bad).await;
    // From the next interval on it counts, from what it had then.
    world.interval_on(OWN, (300, 0), (3_000, 0)).await;
    let good = "candidate 300 requests, 0.0 % failed · stable 3,000, 0.0 %";
    world.said(&id, good).await;
    world.api.wait_for(&id, &[State::Succeeded]).await;
}

#[tokio::test]
async fn what_a_host_counted_before_it_went_is_evidence() {
    let world = World::with_hosts(&[OWN]).await;
    world
        .counted_on(OWN, &world.stable, "now", (50_000, 0))
        .await;
    let id = world.begin().await;
    let goes = format!("DELETE FROM environment_host WHERE host = '{OWN}'");
    world.sandbox.act(&goes).await;
    world.interval_on(OWN, (100, 50), (51_000, 0)).await;
    let bad = "fail: candidate 100 requests, 50.0 % failed · stable 1,000, 0.0 %";
    world.said(&id, bad).await;
    // From the next interval on it counts no more.
    world
        .counted_on(OWN, &world.candidate, "now", (400, 50))
        .await;
    world.interval((100, 50), (1_000, 0)).await;
    let ended = world.api.wait_for(&id, &[State::RolledBack]).await;
    assert_eq!((&*ended.cause, &*ended.message), ("verdict", bad));
}
