//! A crash after every version of a deployment: it ends as it would have, with one terminal event,
//! and visitors get what they should.

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy::{self as pb, deployment::State};

use crate::{
    api::{Api, millis, policy, recreate},
    edge::Edge,
    sandbox::{Orchestrator, Sandbox},
};

/// What the test does to a deployment besides letting it go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    /// Aborts it while it bakes.
    Abort,
    /// Goes back by hand once it is live.
    RollBack,
}

struct World {
    sandbox: Sandbox,
    /// None for the moment between a crash and the next start.
    orchestrator: Option<Orchestrator>,
    edges: Vec<Edge>,
    api: Api,
    old: String,
    new: String,
}

impl World {
    async fn new() -> Self {
        let short = [
            ("CANDLEFISH_LEASE_MS", "1000"),
            ("CANDLEFISH_SWEEP_MS", "200"),
        ];
        let (sandbox, orchestrator, first, api) = Sandbox::started_with(&short).await;
        let second = Edge::start(&sandbox, "edge-2", orchestrator.running.address).await;
        api.wait_for_live_edges(2).await;
        Self {
            old: sandbox.release(&api, "old").await,
            new: sandbox.release(&api, "new").await,
            sandbox,
            orchestrator: Some(orchestrator),
            edges: vec![first, second],
            api,
        }
    }

    async fn crash(&mut self) {
        let gone = self.orchestrator.take();
        gone.unwrap().kill().await;
        let next = self.sandbox.start().await;
        for edge in &self.edges {
            edge.turn_to(next.running.address);
        }
        self.api = self.sandbox.api(next.running.address);
        self.orchestrator = Some(next);
    }

    /// Deploys in an environment of its own, crashing once the deployment has this version; answers
    /// what became of it, its version at the end, and what it left.
    async fn run(
        &mut self,
        environment: &str,
        strategy: &pb::Strategy,
        then: Then,
        crash_at: Option<i32>,
    ) -> (Vec<String>, i32) {
        self.api.create_environment(environment, policy()).await;
        self.api.deploy_whole(environment, &self.old).await;
        let made = self
            .api
            .create(environment, &self.new, Some(strategy.clone()))
            .await;
        let mut id = made.unwrap().into_inner().id;
        match then {
            Then::Nothing => {}
            Then::Abort => {
                self.api.wait_in(&id, pb::step::Kind::Bake).await;
                self.api.abort(&id).await.unwrap();
            }
            Then::RollBack => {
                self.api.wait_for(&id, &[State::Succeeded]).await;
                let made = self.api.roll_back(environment).await.unwrap();
                id = made.into_inner().deployment.unwrap().id;
            }
        }
        if let Some(version) = crash_at {
            let there = |one: &pb::Deployment| one.version >= version || one.finished_at.is_some();
            self.api.wait_until(&id, "a version", there).await;
            self.crash().await;
        }
        let over = |one: &pb::Deployment| one.finished_at.is_some();
        let ended = self.api.wait_until(&id, "the end", over).await;
        let events = format!(
            "SELECT count(*) FROM outbox WHERE entity = '{id}' AND event_type LIKE '%.ended.%'"
        );
        assert_eq!(self.sandbox.number(&events).await, 1, "terminal events");
        let told = format!(
            "SELECT count(*) FROM record WHERE kind = 'live' AND deployment_id = '{}'",
            id.parse::<DeploymentId>().unwrap().uuid()
        );
        let live = i64::from(ended.live_at.is_some());
        assert_eq!(self.sandbox.number(&told).await, live, "told as live");
        let serves = match ended.state() {
            State::Succeeded => &ended.release_id,
            _ => &self.old,
        };
        let host = format!("{environment}--docs.localhost");
        for edge in &self.edges {
            edge.wait_until_it_serves(&host, serves).await;
        }
        let live = self.api.environment(environment).await.live_release_id;
        assert_eq!(&live, serves);
        (picture(&ended), ended.version)
    }
}

/// What is the same whatever was killed. Whether every edge confirmed an undo is not: one that joins
/// again after the crash is not waited for.
fn picture(one: &pb::Deployment) -> Vec<String> {
    let step = |step: &pb::Step| {
        let (kind, state) = (step.kind().as_str_name(), step.state().as_str_name());
        format!("{kind} {} {state}", step.weight)
    };
    let ended = format!(
        "{} {} {} {:?}",
        one.state().as_str_name(),
        one.cause,
        one.weight,
        one.blockers
    );
    std::iter::once(ended)
        .chain(one.steps.iter().map(step))
        .collect()
}

async fn survives(strategy: pb::Strategy, then: Then) {
    let mut world = World::new().await;
    let (whole, versions) = world.run("whole", &strategy, then, None).await;
    for version in 1..=versions {
        let environment = format!("crash-{version}");
        let crashed = world
            .run(&environment, &strategy, then, Some(version))
            .await;
        assert_eq!(crashed.0, whole, "a crash at version {version}");
    }
}

fn short_bake() -> pb::Strategy {
    pb::Strategy {
        kind: Some(pb::strategy::Kind::BlueGreen(pb::BlueGreen {
            bake: Some(millis(1000)),
        })),
    }
}

#[tokio::test]
async fn recreate_survives_a_crash_at_every_version() {
    Box::pin(survives(recreate(), Then::Nothing)).await;
}

#[tokio::test]
async fn blue_green_survives_a_crash_at_every_version() {
    Box::pin(survives(short_bake(), Then::Nothing)).await;
}

#[tokio::test]
async fn rolling_survives_a_crash_at_every_version() {
    let rolling = pb::Strategy {
        kind: Some(pb::strategy::Kind::Rolling(pb::Rolling {
            batch: 1,
            bake: None,
        })),
    };
    Box::pin(survives(rolling, Then::Nothing)).await;
}

#[tokio::test]
async fn canary_survives_a_crash_at_every_version() {
    let canary = pb::Strategy {
        kind: Some(pb::strategy::Kind::Canary(pb::Canary {
            weights: vec![10],
            interval: Some(millis(1000)),
            bake: None,
        })),
    };
    Box::pin(survives(canary, Then::Nothing)).await;
}

#[tokio::test]
async fn an_undo_survives_a_crash_at_every_version() {
    Box::pin(survives(crate::api::baking(), Then::Abort)).await;
}

#[tokio::test]
async fn a_rollback_survives_a_crash_at_every_version() {
    Box::pin(survives(recreate(), Then::RollBack)).await;
}
