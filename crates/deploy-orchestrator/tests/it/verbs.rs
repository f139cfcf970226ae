//! Every verb in every state of a deployment: it works, or it is refused with its reason and
//! nothing is written.

use candlefish_proto::deploy::{self as pb, deployment::State};
use candlefish_testkit::poll_until;
use tonic::Status;

use crate::{
    api::{Api, baking, blockers, canary, policy, reason},
    edge::Edge,
    sandbox::{Orchestrator, SOON, Sandbox},
};

/// Where a deployment is when the verb comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    PendingLane,
    PendingContent,
    PendingHold,
    Staging,
    Analysing,
    Baking,
    Cancelling,
    Succeeded,
    Failed,
    Cancelled,
    Superseded,
    RolledBack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Cancel,
    Abort,
    Retry,
    Advance,
    Pin,
    Unpin,
    RollBack,
    Hold,
    Lift,
    Clear,
}

const VERBS: [Verb; 10] = [
    Verb::Cancel,
    Verb::Abort,
    Verb::Retry,
    Verb::Advance,
    Verb::Pin,
    Verb::Unpin,
    Verb::RollBack,
    Verb::Hold,
    Verb::Lift,
    Verb::Clear,
];

/// What comes of a verb: how the deployment ends up, and the one that the verb made; or the reason
/// of the refusal.
type Comes = Result<(State, Option<State>), &'static str>;

/// The table.
fn comes(at: At, verb: Verb) -> Comes {
    use State::{Cancelled, Failed, Pending, RolledBack, Succeeded, Superseded};
    // What becomes of it when nothing ends it.
    let goes_on = match at {
        At::PendingLane | At::PendingContent | At::PendingHold => Pending,
        At::Staging | At::Succeeded => Succeeded,
        At::Analysing | At::Baking => State::Waiting,
        At::Cancelling | At::RolledBack => RolledBack,
        At::Failed => Failed,
        At::Cancelled => Cancelled,
        At::Superseded => Superseded,
    };
    let terminal = matches!(
        at,
        At::Succeeded | At::Failed | At::Cancelled | At::Superseded | At::RolledBack
    );
    let pivoted = matches!(at, At::Analysing | At::Baking | At::Cancelling);
    match verb {
        Verb::Cancel | Verb::Abort | Verb::Pin | Verb::Unpin if terminal => Err("terminal"),
        Verb::Cancel | Verb::Abort | Verb::Pin | Verb::Unpin if at == At::Cancelling => {
            Err("cancelling")
        }
        Verb::Cancel | Verb::Abort if pivoted => Ok((RolledBack, None)),
        Verb::Cancel | Verb::Abort => Ok((Cancelled, None)),
        Verb::Retry if !terminal => Err("not-terminal"),
        Verb::Retry if at == At::RolledBack => Err("release-rejected"),
        Verb::Retry => Ok((
            goes_on,
            Some(match at {
                // Its content never came.
                At::Cancelled => Pending,
                _ => goes_on,
            }),
        )),
        Verb::Advance if matches!(at, At::Analysing | At::Baking) => Ok((Succeeded, None)),
        Verb::Advance if terminal => Err("terminal"),
        Verb::Advance if at == At::Cancelling => Err("cancelling"),
        Verb::Advance => Err("nothing-to-pass"),
        Verb::Unpin => Err("not-pinned"),
        Verb::RollBack if pivoted => Ok((RolledBack, Some(Succeeded))),
        Verb::RollBack if at == At::Staging => Ok((Cancelled, Some(Succeeded))),
        Verb::RollBack => Ok((goes_on, Some(Succeeded))),
        Verb::Hold if at == At::PendingHold => Err("held"),
        Verb::Hold | Verb::Pin => Ok((goes_on, None)),
        Verb::Lift if at == At::PendingHold => Ok((Succeeded, None)),
        Verb::Lift => Err("not-held"),
        // Aborted with traffic: rejected from that moment.
        Verb::Clear if matches!(at, At::Cancelling | At::RolledBack) => Ok((RolledBack, None)),
        Verb::Clear => Err("not-rejected"),
    }
}

const FIRST: &str = "1111111111111111111111111111111111111111";
const SECOND: &str = "2222222222222222222222222222222222222222";
const THIRD: &str = "3333333333333333333333333333333333333333";
const FOURTH: &str = "4444444444444444444444444444444444444444";

/// An environment with two releases that went live, and a deployment of a third.
struct Place {
    environment: String,
    id: String,
    release: String,
}

struct World {
    sandbox: Sandbox,
    _orchestrator: Orchestrator,
    edge: Edge,
    api: Api,
    first: String,
    second: String,
    third: String,
}

impl World {
    async fn new() -> Self {
        // Nobody is set aside: a frozen edge keeps what waits for it where it is.
        let patient = [
            ("CANDLEFISH_EDGE_PATIENCE_MS", "600000"),
            ("CANDLEFISH_EDGE_PATIENCE_HURRIED_MS", "600000"),
        ];
        let (sandbox, orchestrator, edge, api) = Sandbox::started_with(&patient).await;
        Self {
            first: sandbox.commit(&api, FIRST, &[]).await,
            second: sandbox.commit(&api, SECOND, &[FIRST]).await,
            third: sandbox.commit(&api, THIRD, &[SECOND, FIRST]).await,
            sandbox,
            _orchestrator: orchestrator,
            edge,
            api,
        }
    }

    /// As many places as there are verbs, all at the same point.
    async fn places(&self, at: At, count: usize) -> Vec<Place> {
        let mut places = Vec::new();
        for number in 0..count {
            let environment = format!("place-{number}");
            self.api.create_environment(&environment, policy()).await;
            self.api.deploy_whole(&environment, &self.first).await;
            self.api.deploy_whole(&environment, &self.second).await;
            places.push(self.bring(at, environment).await);
        }
        match at {
            At::Staging => {
                self.edge.act(|script| script.frozen = true);
                for place in &mut places {
                    place.id = self.api.deploy(&place.environment, &place.release).await;
                }
            }
            At::Cancelling => {
                self.edge.act(|script| script.frozen = true);
                for place in &places {
                    self.api.abort(&place.id).await.unwrap();
                }
            }
            _ => return places,
        }
        for place in &places {
            let waits = |one: &pb::Deployment| blockers(one) == [pb::blocker::Kind::Edge];
            self.api
                .wait_until(&place.id, "a wait for the edge", waits)
                .await;
        }
        places
    }

    async fn bring(&self, at: At, environment: String) -> Place {
        let api = &self.api;
        let release = self.release_for(at).await;
        let id = match at {
            At::Staging => String::new(),
            At::PendingLane => {
                let acting = api.create(&environment, &self.third, Some(baking())).await;
                let acting = acting.unwrap().into_inner().id;
                api.wait_in(&acting, pb::step::Kind::Bake).await;
                api.deploy(&environment, &release).await
            }
            At::PendingHold => {
                api.hold(&environment).await.unwrap();
                api.deploy(&environment, &release).await
            }
            At::Analysing => {
                let made = api.create(&environment, &release, Some(canary())).await;
                let id = made.unwrap().into_inner().id;
                api.wait_in(&id, pb::step::Kind::Analyse).await.id
            }
            At::Baking | At::Cancelling | At::RolledBack => {
                let made = api.create(&environment, &release, Some(baking())).await;
                let id = made.unwrap().into_inner().id;
                api.wait_in(&id, pb::step::Kind::Bake).await;
                if at == At::RolledBack {
                    api.abort(&id).await.unwrap();
                    api.wait_for(&id, &[State::RolledBack]).await;
                }
                id
            }
            _ => api.deploy(&environment, &release).await,
        };
        match at {
            At::Cancelled => drop(api.cancel(&id).await.unwrap()),
            At::Succeeded => drop(api.wait_for(&id, &[State::Succeeded]).await),
            At::Failed => drop(api.wait_for(&id, &[State::Failed]).await),
            At::Superseded => drop(api.wait_for(&id, &[State::Superseded]).await),
            _ => {}
        }
        Place {
            environment,
            id,
            release,
        }
    }

    async fn release_for(&self, at: At) -> String {
        let (sandbox, api) = (&self.sandbox, &self.api);
        let ancestors = [THIRD, SECOND, FIRST];
        match at {
            At::PendingLane => sandbox.commit(api, FOURTH, &ancestors).await,
            At::PendingContent | At::Cancelled => {
                let unknown = candlefish_manifest::digest_of(b"not uploaded");
                api.create_release((unknown, 12), FOURTH, &ancestors).await
            }
            At::Failed => {
                let content = sandbox.put_content(&[("about.html", "no index")]).await;
                let draft = api.create_release(content, FOURTH, &ancestors).await;
                api.seal(&draft).await
            }
            At::Superseded => self.first.clone(),
            _ => self.third.clone(),
        }
    }

    /// Acts; answers the deployment that the verb made.
    async fn act(&self, verb: Verb, place: &Place) -> Result<Option<String>, Status> {
        let (api, id) = (&self.api.keyed(&format!("{verb:?}")), &place.id);
        let environment = &place.environment;
        match verb {
            Verb::Cancel => api.cancel(id).await.map(|_| None),
            Verb::Abort => api.abort(id).await.map(|_| None),
            Verb::Retry => api.retry(id).await.map(|made| Some(made.into_inner().id)),
            Verb::Advance => {
                let waits = self.waits_in(id).await;
                api.advance(id, waits).await.map(|_| None)
            }
            Verb::Pin => api.pin(id, false).await.map(|_| None),
            Verb::Unpin => api.pin(id, true).await.map(|_| None),
            Verb::RollBack => {
                let made = api.roll_back(environment).await?.into_inner();
                assert!(!made.already);
                Ok(Some(made.deployment.unwrap().id))
            }
            Verb::Hold => api.hold(environment).await.map(|_| None),
            Verb::Lift => api.lift(environment).await.map(|_| None),
            Verb::Clear => api.clear(environment, &place.release).await.map(|_| None),
        }
    }

    /// The step that it waits in; the first when it waits in none.
    async fn waits_in(&self, id: &str) -> i32 {
        let deployment = self.api.deployment(id).await;
        let ready = |step: &&pb::Step| step.state() == pb::step::State::Ready;
        deployment
            .steps
            .iter()
            .find(ready)
            .map_or(1, |step| step.ord)
    }

    /// Whatever a refused verb could have written.
    async fn picture(&self) -> Vec<i64> {
        let mut picture = Vec::new();
        for question in [
            "SELECT count(*) FROM deployment",
            "SELECT sum(version)::bigint FROM deployment",
            "SELECT sum(version)::bigint FROM environment",
            "SELECT sum(fence)::bigint FROM lane",
            "SELECT count(*) FROM blocker",
            "SELECT count(*) FROM blocker WHERE cleared_at IS NULL",
            "SELECT count(*) FROM deployment_log",
            "SELECT count(*) FROM step WHERE state = 'abandoned'",
            "SELECT count(*) FROM rejection WHERE cleared_at IS NULL",
            "SELECT sum(version)::bigint FROM route",
            "SELECT count(*) FROM outbox",
            "SELECT count(*) FROM idempotency",
        ] {
            picture.push(self.sandbox.number(question).await);
        }
        picture
    }
}

async fn every_verb(at: At) {
    let world = World::new().await;
    let (working, refused): (Vec<_>, Vec<_>) =
        VERBS.into_iter().partition(|verb| comes(at, *verb).is_ok());
    let mut places = world.places(at, working.len() + 1).await;
    let place = places.pop().unwrap();
    for verb in refused {
        let before = world.picture().await;
        let status = world.act(verb, &place).await.unwrap_err();
        assert_eq!(
            Err(&*reason(&status)),
            comes(at, verb).as_ref().map_err(|word| *word),
            "{verb:?} at {at:?}: {status}"
        );
        assert_eq!(
            world.picture().await,
            before,
            "{verb:?} at {at:?} wrote something"
        );
    }
    let mut made = Vec::new();
    for (verb, place) in working.iter().zip(&places) {
        let acted = world.act(*verb, place).await;
        made.push(acted.unwrap_or_else(|status| panic!("{verb:?} at {at:?}: {status}")));
    }
    world.edge.act(|script| script.frozen = false);
    for ((verb, place), other) in working.iter().zip(&places).zip(made) {
        let (ends, other_ends) = comes(at, *verb).unwrap();
        let what = format!("{verb:?} at {at:?} to come to {ends:?} and {other_ends:?}");
        poll_until(SOON, &what, async || {
            let state = world.api.deployment(&place.id).await.state();
            let other = match &other {
                Some(id) => Some(world.api.deployment(id).await.state()),
                None => None,
            };
            if (state, other) == (ends, other_ends) {
                Ok(())
            } else {
                Err((state, other))
            }
        })
        .await;
        if matches!(verb, Verb::Hold | Verb::RollBack) {
            let held = world.api.environment(&place.environment).await.hold;
            assert!(held.is_some(), "{what}: and no hold");
        }
    }
}

/// What a ban comes to: apart, for it concerns every place at once.
fn banned(at: At) -> State {
    match at {
        At::PendingLane | At::PendingContent | At::PendingHold | At::Cancelled => State::Cancelled,
        At::Staging | At::Succeeded => State::Succeeded,
        At::Analysing | At::Baking => State::Waiting,
        At::Cancelling | At::RolledBack => State::RolledBack,
        At::Failed => State::Failed,
        At::Superseded => State::Superseded,
    }
}

/// What a stop that pauses comes to, once the edges follow, and what it says.
fn stopped(at: At) -> (State, &'static [pb::blocker::Kind]) {
    use pb::blocker::Kind::{Content, Stop, Timer};
    match at {
        At::PendingLane | At::PendingHold => (State::Pending, &[Stop]),
        At::PendingContent => (State::Pending, &[Content]),
        At::Staging => (State::Waiting, &[Stop]),
        At::Analysing | At::Baking => (State::Waiting, &[Timer]),
        _ => (banned(at), &[]),
    }
}

async fn a_stop_and_a_ban(at: At) {
    let world = World::new().await;
    let place = world.places(at, 1).await.remove(0);
    let (api, id) = (&world.api, &place.id);
    let stop = crate::stops::set(&world.sandbox, api, "docs", true).await;
    let stop = stop.unwrap().id;
    world.edge.act(|script| script.frozen = false);
    let claim = |one: &pb::Deployment| (one.state(), &*blockers(one)) == stopped(at);
    api.wait_until(id, &format!("a stop at {at:?}"), claim)
        .await;
    if at != At::Staging {
        // Paused, it would end by itself once the stop is lifted: there it is banned after.
        api.ban(&place.release).await.unwrap();
    }
    crate::stops::lift(api, &stop).await.unwrap();
    api.wait_for(id, &[banned(at)]).await;
    if at == At::Staging {
        api.ban(&place.release).await.unwrap();
    }
    let refused = api.create(&place.environment, &place.release, None).await;
    assert_eq!(reason(&refused.unwrap_err()), "release-banned");
    if api.deployment(id).await.finished_at.is_some() {
        let refused = api.retry(id).await.unwrap_err();
        assert_eq!(reason(&refused), "release-banned", "retry at {at:?}");
    }
}

#[tokio::test]
async fn a_stop_and_a_ban_while_it_waits() {
    for at in [At::PendingLane, At::PendingContent, At::PendingHold] {
        Box::pin(a_stop_and_a_ban(at)).await;
    }
}

#[tokio::test]
async fn a_stop_and_a_ban_while_it_acts() {
    for at in [At::Staging, At::Analysing, At::Baking, At::Cancelling] {
        Box::pin(a_stop_and_a_ban(at)).await;
    }
}

#[tokio::test]
async fn a_stop_and_a_ban_after_it_ended() {
    for at in [
        At::Succeeded,
        At::Failed,
        At::Cancelled,
        At::Superseded,
        At::RolledBack,
    ] {
        Box::pin(a_stop_and_a_ban(at)).await;
    }
}

#[tokio::test]
async fn every_verb_while_it_waits_for_its_lane() {
    Box::pin(every_verb(At::PendingLane)).await;
}

#[tokio::test]
async fn every_verb_while_it_waits_for_its_content() {
    Box::pin(every_verb(At::PendingContent)).await;
}

#[tokio::test]
async fn every_verb_while_its_environment_is_held() {
    Box::pin(every_verb(At::PendingHold)).await;
}

#[tokio::test]
async fn every_verb_while_edges_stage() {
    Box::pin(every_verb(At::Staging)).await;
}

#[tokio::test]
async fn every_verb_while_a_share_of_the_traffic_is_watched() {
    Box::pin(every_verb(At::Analysing)).await;
}

#[tokio::test]
async fn every_verb_while_it_bakes() {
    Box::pin(every_verb(At::Baking)).await;
}

#[tokio::test]
async fn every_verb_while_it_is_undone() {
    Box::pin(every_verb(At::Cancelling)).await;
}

#[tokio::test]
async fn every_verb_after_it_succeeded() {
    Box::pin(every_verb(At::Succeeded)).await;
}

#[tokio::test]
async fn every_verb_after_it_failed() {
    Box::pin(every_verb(At::Failed)).await;
}

#[tokio::test]
async fn every_verb_after_it_was_cancelled() {
    Box::pin(every_verb(At::Cancelled)).await;
}

#[tokio::test]
async fn every_verb_after_it_was_superseded() {
    Box::pin(every_verb(At::Superseded)).await;
}

#[tokio::test]
async fn every_verb_after_it_was_rolled_back() {
    Box::pin(every_verb(At::RolledBack)).await;
}

#[tokio::test]
async fn a_watcher_is_told_the_end_once_however_often_it_comes_again() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started().await;
    api.create_environment("production", policy()).await;
    let release = sandbox.release(&api, "one").await;
    let id = api.deploy("production", &release).await;
    let watched = api.watch(&id, 0).await;
    let versions: Vec<i32> = watched.iter().map(|one| one.version).collect();
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    let ended = watched.iter().filter(|one| one.finished_at.is_some());
    assert_eq!(ended.count(), 1);
    let last = *versions.last().unwrap();
    let end = api.watch(&id, last - 1).await;
    assert_eq!(end, [api.deployment(&id).await]);
    assert_eq!(api.watch(&id, last).await, []);
    assert_eq!(api.watch(&id, last + 1).await, []);
}
