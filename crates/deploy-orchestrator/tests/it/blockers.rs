//! Every kind of blocker: what makes it, what it says, and that what it says to do clears it.

use std::time::Duration;

use candlefish_proto::deploy::{
    self as pb,
    blocker::Kind,
    deployment::State,
    step::Kind::{Analyse, Bake},
};

use crate::{
    api::{Api, baking, blockers, policy, shown},
    edge::Edge,
    sandbox::{Orchestrator, SITE, Sandbox},
    steps::{doubtful, lost, settling},
};

struct World {
    sandbox: Sandbox,
    _orchestrator: Orchestrator,
    edge: Edge,
    api: Api,
    /// What was live before.
    old: String,
    new: String,
}

/// A deployment that does not move, and what is needed to free it.
struct Stuck {
    environment: String,
    id: String,
    /// The deployment before it, the draft without its content or the stop.
    other: String,
}

impl World {
    async fn new() -> Self {
        // The edge is never set aside.
        let patient = [
            ("CANDLEFISH_EDGE_PATIENCE_MS", "600000"),
            ("CANDLEFISH_EDGE_PATIENCE_HURRIED_MS", "600000"),
        ];
        let (sandbox, orchestrator, edge, api) = Sandbox::started_with(&patient).await;
        Self {
            old: sandbox.release(&api, "old").await,
            new: sandbox.release(&api, "new").await,
            sandbox,
            _orchestrator: orchestrator,
            edge,
            api,
        }
    }

    /// An environment with a release that is live, and a deployment with this one blocker.
    async fn stick(&self, kind: Kind) -> Stuck {
        let (api, environment) = (&self.api, kind.as_str_name().to_lowercase());
        let environment = environment.replace('_', "-");
        api.create_environment(&environment, policy()).await;
        api.deploy_whole(&environment, &self.old).await;
        let (mut other, mut strategy, mut release) = (String::new(), None, self.new.clone());
        match kind {
            Kind::Unspecified => unreachable!("nothing waits for it"),
            Kind::Lane => {
                let acting = api.create(&environment, &self.new, Some(baking())).await;
                other = acting.unwrap().into_inner().id;
                api.wait_in(&other, Bake).await;
            }
            Kind::Content => {
                let content = self.sandbox.put_content(&[("index.html", "late")]).await;
                release = api.create_release(content, "late", &[]).await;
                other.clone_from(&release);
            }
            Kind::Hold => drop(api.hold(&environment).await.unwrap()),
            Kind::Timer => strategy = Some(baking()),
            Kind::Evidence => {
                let (policy, canary) = doubtful();
                self.replace_policy(&environment, policy).await;
                strategy = Some(canary);
            }
            Kind::Edge => self.edge.act(|script| script.frozen = true),
            Kind::Quarantine => self.replace_policy(&environment, settling()).await,
            Kind::Provider => {
                let host = format!("{environment}--");
                self.edge.act(|script| script.away_on = Some(host));
            }
            Kind::Stop => {
                let stop = crate::stops::set(&self.sandbox, api, SITE, false).await;
                other = stop.unwrap().id;
            }
        }
        let made = api.create(&environment, &release, strategy).await;
        let id = made.unwrap().into_inner().id;
        if kind == Kind::Quarantine {
            api.wait_in(&id, pb::step::Kind::VerifyCandidate).await;
            self.sandbox.act(&lost("verify_candidate", 6)).await;
        }
        Stuck {
            environment,
            id,
            other,
        }
    }

    async fn replace_policy(&self, environment: &str, policy: pb::Policy) {
        let request = self.api.request(pb::UpdateEnvironmentRequest {
            site: SITE.to_owned(),
            environment: environment.to_owned(),
            policy: Some(policy),
            ..pb::UpdateEnvironmentRequest::default()
        });
        self.api.sites().update_environment(request).await.unwrap();
    }

    /// Does what the blocker says clears it.
    async fn free(&self, stuck: &Stuck, blocker: &pb::Blocker) {
        let api = &self.api;
        let action = &*blocker.action;
        let begins = |words: &str| {
            let names = action.starts_with(&format!("candlefish {words}"));
            assert!(names, "{:?}: {action}", blocker.kind());
        };
        match blocker.kind() {
            Kind::Unspecified => unreachable!("nothing waits for it"),
            Kind::Lane => {
                begins(&format!("watch {}", stuck.other));
                self.pass(&stuck.other, Bake).await;
            }
            Kind::Content => {
                begins("deploy");
                api.seal(&stuck.other).await;
            }
            Kind::Hold => {
                begins(&format!("hold lift {SITE}/{}", stuck.environment));
                api.lift(&stuck.environment).await.unwrap();
            }
            Kind::Timer => {
                assert_eq!((action, &*blocker.owner), ("", "time"));
                self.sandbox.database.advance(Duration::from_mins(61)).await;
            }
            Kind::Evidence => {
                begins(&format!("advance {}", stuck.id));
                self.pass_both_shares(&stuck.id).await;
            }
            Kind::Edge => {
                begins("edges");
                self.edge.act(|script| script.frozen = false);
            }
            Kind::Quarantine => {
                begins("queues replay");
                self.replay(action.split_whitespace().nth(3).unwrap()).await;
            }
            Kind::Provider => {
                begins("edges");
                self.edge.act(|script| script.away_on = None);
                self.sandbox.database.advance(Duration::from_mins(1)).await;
            }
            Kind::Stop => {
                begins("stop lift");
                crate::stops::lift(api, &stuck.other).await.unwrap();
            }
        }
    }

    async fn replay(&self, item: &str) {
        let request = self.api.request(pb::ReplayQueueItemRequest {
            id: item.to_owned(),
            reason: "the node was bad".to_owned(),
        });
        self.api.queues().replay_queue_item(request).await.unwrap();
        self.sandbox.database.advance(Duration::from_mins(11)).await;
    }

    async fn pass_both_shares(&self, id: &str) {
        let passed = self.pass(id, Analyse).await;
        let next = |step: &pb::Step| {
            let ready = step.state() == pb::step::State::Ready;
            step.kind() == Analyse && ready && step.ord > passed
        };
        let again =
            |one: &pb::Deployment| blockers(one) == [Kind::Evidence] && one.steps.iter().any(next);
        self.api.wait_until(id, "the next share", again).await;
        self.pass(id, Analyse).await;
    }

    /// Passes the step of this kind that it waits in; answers which.
    async fn pass(&self, id: &str, kind: pb::step::Kind) -> i32 {
        let waits = self.api.wait_in(id, kind).await;
        let ready =
            |step: &&pb::Step| step.kind() == kind && step.state() == pb::step::State::Ready;
        let step = waits.steps.iter().find(ready).unwrap().ord;
        self.api.advance(id, step).await.unwrap();
        step
    }

    /// All blockers that it had, oldest first.
    async fn ledger(&self, id: &str) -> Vec<pb::Blocker> {
        let request = self
            .api
            .request(pb::ListBlockersRequest { id: id.to_owned() });
        let listed = self.api.deployments().list_blockers(request).await;
        listed.unwrap().into_inner().blockers
    }
}

fn at(moment: Option<&prost_types::Timestamp>) -> (i64, i32) {
    moment.map_or((0, 0), |at| (at.seconds, at.nanos))
}

#[tokio::test]
async fn every_kind_is_made_says_who_can_do_what_and_is_cleared_by_it() {
    let world = Box::pin(World::new()).await;
    let kinds: Vec<Kind> = (1..)
        .map_while(|number| Kind::try_from(number).ok())
        .collect();
    assert_eq!(kinds.last(), Some(&Kind::Stop), "a new kind needs its case");
    for kind in kinds {
        let stuck = Box::pin(world.stick(kind)).await;
        let waits = |one: &pb::Deployment| blockers(one) == [kind];
        let what = format!("{kind:?} to be said");
        let found = world.api.wait_until(&stuck.id, &what, waits).await;
        let blocker = &found.blockers[0];
        assert!(blocker.since.is_some(), "{kind:?}");
        assert!(blocker.cleared_at.is_none(), "{kind:?}");
        assert!(!blocker.owner.is_empty(), "{kind:?}");
        assert!(!blocker.message.is_empty(), "{kind:?}");
        let timed = matches!(kind, Kind::Timer | Kind::Provider | Kind::Stop);
        assert!(blocker.until.is_some() || !timed, "{kind:?}: no estimate");
        Box::pin(world.free(&stuck, blocker)).await;
        let ended = world.api.wait_for(&stuck.id, &[State::Succeeded]).await;
        assert!(ended.blockers.is_empty(), "{kind:?}: {}", shown(&ended));
        // What kept it is still told, and for how long.
        let ledger = world.ledger(&stuck.id).await;
        let kept = ledger.iter().rfind(|one| one.kind() == kind);
        let kept = kept.unwrap_or_else(|| panic!("{kind:?} is not in {ledger:?}"));
        assert!(at(kept.cleared_at.as_ref()) >= at(kept.since.as_ref()));
        let stand = ledger.iter().filter(|one| one.cleared_at.is_none());
        assert_eq!(stand.count(), 0, "{kind:?}: {ledger:?}");
    }
}

/// What waits for its turn is told when that may be, by how long the one before it took.
#[tokio::test]
async fn what_waits_in_its_lane_is_told_when_its_turn_may_come() {
    let World {
        sandbox,
        edge: _edge,
        api,
        old,
        new,
        ..
    } = &Box::pin(World::new()).await;
    api.create_environment("production", policy()).await;
    let first = api.create("production", old, Some(baking())).await;
    let first = first.unwrap().into_inner().id;
    api.wait_in(&first, Bake).await;
    let waiting = api.deploy("production", new).await;
    let waiting = api.deployment(&waiting).await;
    assert_eq!(blockers(&waiting), [Kind::Lane]);
    assert_eq!(
        waiting.blockers[0].until, None,
        "nothing went live here yet"
    );
    sandbox.database.advance(Duration::from_hours(2)).await;
    let first = api.wait_for(&first, &[State::Succeeded]).await;
    api.wait_for(&waiting.id, &[State::Succeeded]).await;
    // Two hours by its clock, and a second one of no time at all.
    let lasted = at(first.finished_at.as_ref()).0 - at(first.started_at.as_ref()).0;
    let acting = api.create("production", old, Some(baking())).await;
    let acting = acting.unwrap().into_inner().id;
    let acting = api.wait_in(&acting, Bake).await;
    let mut places = Vec::new();
    for _place in 0..2 {
        let id = api.deploy("production", new).await;
        places.push(api.deployment(&id).await);
    }
    let begun = at(acting.started_at.as_ref()).0;
    for (place, waiting) in (1..).zip(&places) {
        assert_eq!(blockers(waiting), [Kind::Lane]);
        let until = at(waiting.blockers[0].until.as_ref()).0 - begun;
        let expected = place * lasted * 3 / 4;
        assert!(
            (until - expected).abs() < 60,
            "{until} s, not about {expected} s"
        );
    }
}
