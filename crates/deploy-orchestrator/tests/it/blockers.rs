//! Every kind of blocker: what makes it, what it says, and that what it says to do clears it. And of
//! several at once, that each is told.

use std::time::Duration;

use candlefish_proto::deploy::{
    self as pb,
    blocker::Kind,
    deployment::State,
    step::Kind::{Analyse, Bake},
};

use crate::{
    api::{Api, baking, blockers, policy, shown},
    sandbox::SITE,
    steps::{doubtful, settling},
    world::World,
};

/// A world with two releases.
struct Scene {
    world: World,
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

/// What a blocker says of itself.
struct Says {
    /// Who can clear it.
    owner: &'static str,
    /// It is known until when it stands.
    until: bool,
    /// What its action begins with.
    action: String,
}

impl Says {
    fn of(kind: Kind, stuck: &Stuck) -> Self {
        let Stuck {
            environment,
            id,
            other,
        } = stuck;
        let (owner, until, words) = match kind {
            Kind::Unspecified => unreachable!("nothing waits for it"),
            Kind::Lane => ("platform", true, format!("watch {other}")),
            Kind::Content => {
                let words = format!("deploy DIR --site {SITE} --env {environment}");
                ("deployer", true, words)
            }
            Kind::Hold => {
                let words = format!("hold lift {SITE}/{environment} --reason");
                ("approver", false, words)
            }
            Kind::Timer => ("time", true, format!("advance {id}")),
            Kind::Evidence => ("deployer", false, format!("advance {id} ")),
            Kind::Quarantine => ("approver", false, "queues replay step_".to_owned()),
            Kind::Edge => ("platform", true, "edges".to_owned()),
            Kind::Provider => {
                let words = format!("edges (shows who does not answer) or candlefish cancel {id} ");
                ("platform", true, words)
            }
            Kind::Stop => ("approver", true, format!("stop lift {SITE} --reason")),
        };
        Self {
            owner,
            until,
            action: format!("candlefish {words}"),
        }
    }

    fn is_said_by(&self, blocker: &pb::Blocker) {
        let kind = blocker.kind();
        let told = (&*blocker.owner, blocker.until.is_some());
        assert_eq!(told, (self.owner, self.until), "{kind:?}");
        let ends = !self.until || at(blocker.until.as_ref()) > at(blocker.since.as_ref());
        assert!(ends, "{kind:?} ends before it began: {blocker:?}");
        let action = &*blocker.action;
        let names = action.starts_with(&self.action);
        assert!(names, "{kind:?}: {action:?}, not {:?}", self.action);
    }
}

impl Scene {
    async fn new() -> Self {
        let world = Box::pin(World::new()).await;
        let (sandbox, api) = (&world.sandbox, &world.api);
        let old = sandbox.release(api, "old").await;
        let new = sandbox.release(api, "new").await;
        Self { world, old, new }
    }

    /// An environment with a release that is live, and a deployment with this one blocker.
    async fn stick(&self, kind: Kind) -> Stuck {
        let World {
            sandbox, edge, api, ..
        } = &self.world;
        let environment = kind.as_str_name().to_lowercase().replace('_', "-");
        api.create_environment(&environment, policy()).await;
        api.deploy_whole(&environment, &self.old).await;
        let (mut other, mut strategy, mut release) = (String::new(), None, self.new.clone());
        match kind {
            Kind::Unspecified => unreachable!("nothing waits for it"),
            Kind::Lane => {
                let acting = api.create(&environment, &self.new, Some(baking())).await;
                other = acting.unwrap().into_inner().id;
                api.wait_in(&other, Bake).await;
                // As if others took an hour: when its turn may come is known.
                sandbox.act("UPDATE lane SET lasts_ms = 3600000").await;
            }
            Kind::Content => {
                let content = sandbox.put_content(&[("index.html", "late")]).await;
                release = api.create_release(content, "late", &[]).await;
                other.clone_from(&release);
            }
            Kind::Hold => drop(api.hold(&environment).await.unwrap()),
            Kind::Timer => strategy = Some(baking()),
            Kind::Evidence => {
                let (policy, canary) = doubtful();
                self.world.replace_policy(&environment, policy).await;
                strategy = Some(canary);
            }
            Kind::Edge => edge.act(|script| script.frozen = true),
            Kind::Quarantine => self.world.replace_policy(&environment, settling()).await,
            Kind::Provider => {
                let host = format!("{environment}--");
                edge.act(|script| script.away_on = Some(host));
            }
            Kind::Stop => other = self.world.stop(false).await,
        }
        let made = api.create(&environment, &release, strategy).await;
        let id = made.unwrap().into_inner().id;
        if kind == Kind::Quarantine {
            self.world.quarantine(&[&id]).await;
        }
        Stuck {
            environment,
            id,
            other,
        }
    }

    /// Does what the blocker says clears it.
    async fn free(&self, stuck: &Stuck, blocker: &pb::Blocker) {
        let World {
            sandbox, edge, api, ..
        } = &self.world;
        match blocker.kind() {
            Kind::Unspecified => unreachable!("nothing waits for it"),
            Kind::Lane => {
                self.pass(&stuck.other, Bake).await;
            }
            Kind::Content => {
                api.seal(&stuck.other).await;
            }
            Kind::Hold => drop(api.lift(&stuck.environment).await.unwrap()),
            Kind::Timer => {
                self.pass(&stuck.id, Bake).await;
            }
            Kind::Evidence => self.pass_both_shares(&stuck.id).await,
            Kind::Edge => edge.act(|script| script.frozen = false),
            Kind::Quarantine => {
                let item = blocker.action.split_whitespace().nth(3).unwrap();
                api.replay(item).await.unwrap();
            }
            Kind::Provider => {
                edge.act(|script| script.away_on = None);
                sandbox.database.advance(Duration::from_mins(1)).await;
            }
            Kind::Stop => drop(crate::stops::lift(api, &stuck.other).await.unwrap()),
        }
    }

    async fn pass_both_shares(&self, id: &str) {
        let passed = self.pass(id, Analyse).await;
        let next = |step: &pb::Step| {
            let ready = step.state() == pb::step::State::Ready;
            step.kind() == Analyse && ready && step.ord > passed
        };
        let again =
            |one: &pb::Deployment| blockers(one) == [Kind::Evidence] && one.steps.iter().any(next);
        self.world.api.wait_until(id, "the next share", again).await;
        self.pass(id, Analyse).await;
    }

    /// Passes the step of this kind that it waits in; answers which.
    async fn pass(&self, id: &str, kind: pb::step::Kind) -> i32 {
        let waits = self.world.api.wait_in(id, kind).await;
        let ready =
            |step: &&pb::Step| step.kind() == kind && step.state() == pb::step::State::Ready;
        let step = waits.steps.iter().find(ready).unwrap().ord;
        self.world.api.advance(id, step).await.unwrap();
        step
    }

    /// All blockers that it had, oldest first.
    async fn ledger(&self, id: &str) -> Vec<pb::Blocker> {
        let api = &self.world.api;
        api.ledger(id, 0, "").await.unwrap().blockers
    }
}

impl Scene {
    /// What is told of a deployment, wherever that is asked: the same everywhere.
    async fn told(&self, id: &str) -> Vec<pb::Blocker> {
        let api = &self.world.api;
        let got = api.deployment(id).await;
        let request = api.request(pb::ListDeploymentsRequest {
            site: SITE.to_owned(),
            environment: got.environment.clone(),
            ..pb::ListDeploymentsRequest::default()
        });
        let listed = api.deployments().list_deployments(request).await;
        let listed = listed.unwrap().into_inner().deployments;
        let listed = listed.into_iter().find(|one| one.id == id).unwrap();
        assert_eq!(listed.blockers, got.blockers, "listed and read");
        let lane = api.lane(&got.environment).await;
        assert_eq!(lane.blockers, got.blockers, "its lane's and its own");
        got.blockers
    }
}

/// What is told of a draft that waits in a held environment, on a site that is stopped, as all is.
const KEPT: [(Kind, &str, &str, &str); 4] = [
    (
        Kind::Content,
        "deployer",
        "the content of its release is not uploaded whole",
        "candlefish deploy DIR --site docs --env production",
    ),
    (
        Kind::Stop,
        "approver",
        "everything is stopped by erin: the registry is down",
        "candlefish stop lift --reason …",
    ),
    (
        Kind::Stop,
        "approver",
        "docs is stopped by erin: the registry is down",
        "candlefish stop lift docs --reason …",
    ),
    (
        Kind::Hold,
        "approver",
        "docs/production is held by erin: an incident",
        "candlefish hold lift docs/production --reason …",
    ),
];

fn said(one: &pb::Blocker) -> (Kind, &str, &str, &str) {
    (one.kind(), &one.owner, &one.message, &one.action)
}

fn at(moment: Option<&prost_types::Timestamp>) -> (i64, i32) {
    moment.map_or((0, 0), |at| (at.seconds, at.nanos))
}

#[tokio::test]
async fn every_kind_is_made_says_who_can_do_what_and_is_cleared_by_it() {
    let scene = Box::pin(Scene::new()).await;
    let api = &scene.world.api;
    let kinds: Vec<Kind> = (1..)
        .map_while(|number| Kind::try_from(number).ok())
        .collect();
    assert_eq!(kinds.last(), Some(&Kind::Stop), "a new kind needs its case");
    for kind in kinds {
        let stuck = Box::pin(scene.stick(kind)).await;
        let waits = |one: &pb::Deployment| blockers(one) == [kind];
        let what = format!("{kind:?} to be said");
        let found = api.wait_until(&stuck.id, &what, waits).await;
        let blocker = &found.blockers[0];
        assert!(blocker.since.is_some(), "{kind:?}");
        assert!(blocker.cleared_at.is_none(), "{kind:?}");
        assert!(!blocker.message.is_empty(), "{kind:?}");
        Says::of(kind, &stuck).is_said_by(blocker);
        Box::pin(scene.free(&stuck, blocker)).await;
        let ended = api.wait_for(&stuck.id, &[State::Succeeded]).await;
        assert!(ended.blockers.is_empty(), "{kind:?}: {}", shown(&ended));
        // What kept it is still told, and for how long.
        let ledger = scene.ledger(&stuck.id).await;
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
    let Scene { world, old, new } = &Box::pin(Scene::new()).await;
    let World { sandbox, api, .. } = world;
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
    wait_for_their_turns(api, new, &acting, lasted * 3 / 4).await;
}

/// Two that wait behind what acts are told their turns, where each takes so many seconds.
async fn wait_for_their_turns(
    api: &Api,
    release: &str,
    acting: &pb::Deployment,
    each: i64,
) -> Vec<String> {
    let mut places = Vec::new();
    for _place in 0..2 {
        let id = api.deploy("production", release).await;
        places.push(api.deployment(&id).await);
    }
    let begun = at(acting.started_at.as_ref()).0;
    for (place, waiting) in (1..).zip(&places) {
        assert_eq!(blockers(waiting), [Kind::Lane]);
        let until = at(waiting.blockers.first().unwrap().until.as_ref()).0 - begun;
        let expected = place * each;
        assert!(
            (until - expected).abs() < 60,
            "{until} s, not about {expected} s"
        );
    }
    let said = places
        .iter()
        .map(|waiting| &*waiting.blockers.first().unwrap().message);
    let acts = format!("{} acts on docs/production", acting.id);
    let first = &places.first().unwrap().id;
    let behind = format!("{first} waits before it for docs/production");
    assert_eq!(said.collect::<Vec<_>>(), [&*acts, &behind]);
    places.into_iter().map(|waiting| waiting.id).collect()
}

#[tokio::test]
async fn what_has_no_content_is_before_nobody_in_its_lane() {
    let Scene { world, old, new } = &Box::pin(Scene::new()).await;
    let World { sandbox, api, .. } = world;
    api.create_environment("production", policy()).await;
    sandbox.act("UPDATE lane SET lasts_ms = 3600000").await;
    let acting = api.create("production", old, Some(baking())).await;
    let acting = acting.unwrap().into_inner().id;
    let acting = api.wait_in(&acting, Bake).await;
    let content = sandbox.put_content(&[("index.html", "late")]).await;
    let draft = api.create_release(content, "late", &[]).await;
    let draft = api.deploy("production", &draft).await;
    let mut order = wait_for_their_turns(api, new, &acting, 3600).await;
    order.push(draft);
    let lane = api.lane("production").await;
    assert_eq!(lane.acting_deployment_id, acting.id);
    assert_eq!(lane.pending_deployment_ids, order);
}

#[tokio::test]
async fn all_that_keeps_what_waits_is_told_and_each_goes_by_what_it_says() {
    let scene = Box::pin(Scene::new()).await;
    let World { sandbox, api, .. } = &scene.world;
    api.create_environment("production", policy()).await;
    api.hold("production").await.unwrap();
    let content = sandbox.put_content(&[("index.html", "late")]).await;
    let draft = api.create_release(content, "late", &[]).await;
    let made = api.create("production", &draft, None).await;
    let made = made.unwrap().into_inner();
    let stop = async |site: &str, seconds: i64| {
        let until = crate::stops::ahead(sandbox, seconds).await;
        let stop = crate::stops::set_until(api, site, false, Some(until)).await;
        stop.unwrap()
    };
    let everything = stop("", 7200).await;
    let docs = stop(SITE, 3600).await;
    let told = scene.told(&made.id).await;
    assert_eq!(told.iter().map(said).collect::<Vec<_>>(), KEPT);
    // The hold is older than what it keeps.
    let since = [
        &made.created_at,
        &everything.since,
        &docs.since,
        &made.created_at,
    ];
    let begun: Vec<_> = told.iter().map(|one| &one.since).collect();
    assert_eq!(begun, since);
    assert_eq!(scene.ledger(&made.id).await, told);
    let charged = sandbox.number("SELECT count(*) FROM blocker").await;
    assert_eq!(charged, 1, "time is charged to one cause");

    crate::stops::lift(api, &docs.id).await.unwrap();
    let left = [&told[..2], &told[3..]].concat();
    assert_eq!(scene.told(&made.id).await, left);
    api.lift("production").await.unwrap();
    assert_eq!(scene.told(&made.id).await, told[..2]);
    crate::stops::lift(api, &everything.id).await.unwrap();
    assert_eq!(scene.told(&made.id).await, told[..1]);
    api.seal(&draft).await;
    api.wait_for(&made.id, &[State::Succeeded]).await;
}

#[tokio::test]
async fn what_is_charged_next_is_told_since_when_it_keeps_the_deployment() {
    let scene = Box::pin(Scene::new()).await;
    let World { sandbox, api, .. } = &scene.world;
    api.create_environment("production", policy()).await;
    let content = sandbox.put_content(&[("index.html", "late")]).await;
    let draft = api.create_release(content, "late", &[]).await;
    let id = api.deploy("production", &draft).await;
    api.hold("production").await.unwrap();
    let before = scene.told(&id).await;
    sandbox.database.advance(Duration::from_mins(10)).await;
    api.seal(&draft).await;
    let held = |one: &pb::Deployment| blockers(one) == [Kind::Hold];
    let now = api.wait_until(&id, "the hold alone", held).await;
    assert_eq!(now.blockers, before[1..]);
    // The ledger tells the wait by its causes, one after the other.
    let ledger = scene.ledger(&id).await;
    let [content, hold] = &*ledger else {
        panic!("{ledger:?}");
    };
    assert_eq!(content.cleared_at, hold.since);
    assert!(at(hold.since.as_ref()) > at(now.blockers[0].since.as_ref()));
    api.lift("production").await.unwrap();
    api.wait_for(&id, &[State::Succeeded]).await;
}

#[tokio::test]
async fn a_rollback_is_kept_neither_by_the_hold_that_it_sets_nor_by_a_stop() {
    let scene = Box::pin(Scene::new()).await;
    let World { edge, api, .. } = &scene.world;
    api.create_environment("production", policy()).await;
    api.deploy_whole("production", &scene.old).await;
    api.deploy_whole("production", &scene.new).await;
    scene.world.stop(true).await;
    edge.act(|script| script.frozen = true);
    let back = api.roll_back("production").await.unwrap().into_inner();
    let back = back.deployment.unwrap();
    assert!(back.blockers.is_empty(), "{}", shown(&back));
    let kept = api.deploy("production", &scene.new).await;
    let kept = blockers(&api.deployment(&kept).await);
    assert_eq!(kept, [Kind::Stop, Kind::Hold]);
    let is_kept = |one: &pb::Blocker| matches!(one.kind(), Kind::Stop | Kind::Hold);
    let acts = api.deployment(&back.id).await;
    assert!(!acts.blockers.iter().any(is_kept), "{}", shown(&acts));
    edge.act(|script| script.frozen = false);
    api.wait_for(&back.id, &[State::Succeeded]).await;
    let ledger = scene.ledger(&back.id).await;
    assert!(!ledger.iter().any(is_kept), "{ledger:?}");
}
