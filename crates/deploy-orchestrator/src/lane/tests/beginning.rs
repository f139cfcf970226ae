//! What is granted its lane is taken over its first steps at once: no worker is there.

use candlefish_ids::ReleaseId;
use candlefish_runtime::refusal::Refusal;

use super::{
    PLACE, SITE,
    work::{Edge, record_outside, turn},
    world::{World, broken},
};
use crate::{
    deployment::{
        create::{self, Create, To},
        roll_back::{self, RollBack},
    },
    site::policy::Order,
    step::outcome::Outcome,
};

const STEPS: &str = "
    SELECT concat_ws(' ', kind, state, CASE WHEN started_at IS NULL THEN 'new' ELSE 'begun' END)
    FROM step ORDER BY deployment_id, ord";

const ROLLBACKS: &str = "
    SELECT concat_ws(' ', state, CASE WHEN pivoted_at IS NULL THEN 'before' ELSE 'past' END)
    FROM deployment WHERE kind = 'rollback'";

impl World {
    async fn deploy(&self, release_id: ReleaseId) {
        let cmd = Create {
            site: SITE.to_owned(),
            to: To::Environment(PLACE.to_owned()),
            release_id,
            strategy: None,
            reason: String::new(),
            lift_hold: String::new(),
        };
        let made = Box::pin(create::create(&self.ctx, &self.caller, None, cmd)).await;
        made.map(drop).map_err(Refusal::from).unwrap();
    }

    async fn go_back(&self) -> Result<(), Refusal> {
        let cmd = RollBack {
            site: SITE.to_owned(),
            environment: PLACE.to_owned(),
            leaves: None,
            to: roll_back::To::Before,
            reason: String::new(),
            validate_only: false,
        };
        let made = Box::pin(roll_back::roll_back(&self.ctx, &self.caller, None, cmd)).await;
        Ok(made.map(drop)?)
    }

    /// Workers and the edge do all that is to be done.
    async fn carry_on(&self) {
        while !self.open().await.is_empty() {
            self.pass(1).await;
            self.edge_reports().await;
            for due in self.due().await {
                let mut unheard = None;
                let turn = turn(&self.ctx, "worker", due, &mut unheard).await;
                let mut next = turn.map_err(broken).unwrap();
                while let Some(claimed) = next {
                    let fine = Ok(Outcome::done(""));
                    let done = (&claimed, &fine);
                    let recorded = record_outside(&self.ctx, "worker", done, &mut unheard).await;
                    next = recorded.map_err(broken).unwrap();
                }
            }
        }
    }

    async fn two_went_live(&self) {
        for release in [self.releases[0], self.releases[1]] {
            self.deploy(release).await;
            self.carry_on().await;
        }
        let ended = self.texts("SELECT state FROM deployment").await;
        assert_eq!(ended, ["succeeded", "succeeded"]);
    }
}

#[tokio::test]
async fn a_deployment_to_a_free_lane_is_staged_by_the_commit_that_accepts_it() {
    let world = World::new(1, Order::Latest).await;
    world.deploy(world.releases[0]).await;
    let steps = world.texts(STEPS).await;
    let begun = ["prepare done begun", "stage ready begun"];
    assert_eq!(steps[..2], begun);
    assert_eq!(steps[2], "verify_candidate pending new");
    let addresses = "SELECT host FROM route WHERE deployment_id IS NOT NULL";
    assert_eq!(world.texts(addresses).await.len(), 1);
    // Created, granted, progressed.
    let versions = world.texts("SELECT version::text FROM deployment").await;
    assert_eq!(versions, ["3"]);
    world.carry_on().await;
    let ended = world.texts("SELECT state FROM deployment").await;
    assert_eq!(ended, ["succeeded"]);
}

#[tokio::test]
async fn a_rollback_moves_traffic_by_the_commit_that_accepts_it() {
    let world = World::new(1, Order::Latest).await;
    world.two_went_live().await;
    let version = "SELECT version::text FROM route WHERE deployment_id IS NULL";
    let before = world.texts(version).await;
    world.go_back().await.unwrap();
    assert_eq!(world.texts(ROLLBACKS).await, ["running past"]);
    assert_ne!(world.texts(version).await, before);
    world.carry_on().await;
    assert_eq!(world.texts(ROLLBACKS).await, ["succeeded past"]);
}

#[tokio::test]
async fn a_rollback_that_no_edge_can_serve_is_refused_and_nothing_is_held() {
    let mut world = World::new(1, Order::Latest).await;
    world.two_went_live().await;
    world.edge = Edge::Refuses;
    world.edge_reports().await;
    let refused = world.go_back().await.unwrap_err();
    assert_eq!(refused.reason(), "release-not-served", "{refused}");
    assert!(world.texts(ROLLBACKS).await.is_empty());
    let held = "SELECT slug FROM environment WHERE hold_by IS NOT NULL";
    assert!(world.texts(held).await.is_empty());
}

#[tokio::test]
async fn what_ends_lets_the_next_begin_in_its_own_commit() {
    let world = World::new(1, Order::Queue).await;
    world.deploy(world.releases[0]).await;
    world.deploy(world.releases[1]).await;
    let queued = "SELECT state FROM deployment ORDER BY admission";
    assert_eq!(world.texts(queued).await, ["running", "pending"]);
    while world.texts(queued).await[0] == "running" {
        world.pass(1).await;
        world.edge_reports().await;
        for due in world.due().await {
            let mut unheard = None;
            let turn = turn(&world.ctx, "worker", due, &mut unheard).await;
            if let Some(claimed) = turn.map_err(broken).unwrap() {
                let fine = Ok(Outcome::done(""));
                let done = (&claimed, &fine);
                let recorded = record_outside(&world.ctx, "worker", done, &mut unheard).await;
                assert!(recorded.map_err(broken).unwrap().is_none());
            }
        }
    }
    assert_eq!(world.texts(queued).await, ["succeeded", "running"]);
    let steps = world.texts(STEPS).await;
    assert!(steps.contains(&"stage ready begun".to_owned()), "{steps:?}");
}
