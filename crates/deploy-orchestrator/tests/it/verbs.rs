//! Every verb in every state of a deployment: it works, or it is refused with its reason and
//! nothing is written. What is expected is in [`crate::table`], how a deployment comes there in
//! [`crate::ground`], and what can be asked there in [`crate::reads`].

use candlefish_ids::StepId;
use candlefish_proto::deploy::{self as pb, deployment::State};
use candlefish_testkit::poll_until;
use tonic::Status;

use crate::{
    api::{policy, reason},
    ground::{FOURTH, Ground, Place, THIRD},
    sandbox::{SOON, Sandbox},
    table::{
        At, BARRED_AFTER_PIVOT, BARRED_BEFORE_PIVOT, BARRED_ENDED, BARRED_PREVIEW_ENDED,
        BARRED_WAITING, Barred, LET_THROUGH_AFTER_PIVOT, LET_THROUGH_BEFORE_PIVOT, LetThrough,
        VERBS, Verb, comes, refuses_banned, stands,
    },
};

/// A verb that worked.
struct Acted {
    verb: Verb,
    place: Place,
    /// The deployment that it made.
    made: Option<String>,
}

impl Ground {
    /// The preview is closed: by its pull request, by a person where it has none.
    async fn close(&self, at: At, place: Place) {
        if at.is_pull() {
            let head = if at == At::PullWaits { FOURTH } else { THIRD };
            self.tell(&place.environment, "closed", ("", head), 4).await;
        } else {
            self.world.api.close(&place.environment).await.unwrap();
        }
        let acted = Acted {
            verb: Verb::Close,
            place,
            made: None,
        };
        self.comes_to(at, &acted).await;
        self.is_seen(at, &acted).await;
    }

    /// Stops the line, unless it is stopped already: a site has one stop. Answers how to lift it.
    async fn stop(&self, (at, stopped, _): Barred, places: &[Place]) -> Option<String> {
        if matches!(at, At::PendingStop | At::Paused) {
            self.thaw();
            self.all_say(&format!("a stop at {at:?}"), stopped, places)
                .await;
            return None;
        }
        let acts = matches!(stands(at).0, State::Waiting | State::Cancelling);
        let modes: &[bool] = if acts { &[true] } else { &[false, true] };
        let mut standing: Option<String> = None;
        for pauses in modes {
            if let Some(before) = standing {
                crate::stops::lift(&self.world.api, &before).await.unwrap();
                self.all_stand(at, places).await;
            }
            standing = Some(self.world.stop(*pauses).await);
            self.thaw();
            let what = format!("a stop at {at:?}, pauses: {pauses}");
            self.all_say(&what, stopped, places).await;
        }
        standing
    }

    /// Acts; answers the deployment that the verb made.
    async fn act(&self, verb: Verb, place: &Place) -> Result<Option<String>, Status> {
        let (api, id) = (&self.world.api.keyed(&format!("{verb:?}")), &place.id);
        let (environment, release) = (&place.environment, &place.release);
        match verb {
            Verb::Cancel => api.cancel(id).await.map(|_| None),
            Verb::Abort => api.abort(id).await.map(|_| None),
            Verb::Retry => api.retry(id).await.map(|made| Some(made.into_inner().id)),
            Verb::Advance => {
                let ord = self.step(id).await.ord;
                api.advance(id, ord).await.map(|_| None)
            }
            Verb::Pin => api.pin(id, false).await.map(|_| None),
            Verb::Unpin => api.pin(id, true).await.map(|_| None),
            Verb::RollBack => {
                let made = api.roll_back(environment).await?.into_inner();
                let going = made.deployment.unwrap().id;
                // Only where it is a rollback itself.
                assert_eq!(made.already, going == *id);
                Ok(Some(going))
            }
            Verb::Hold => api.hold(environment).await.map(|_| None),
            Verb::Lift => api.lift(environment).await.map(|_| None),
            Verb::Clear => api.clear(environment, release).await.map(|_| None),
            Verb::Close => api.close(environment).await.map(|_| None),
            Verb::Replay => {
                let item = self.item(id).await;
                api.replay(&item).await.map(|_| None)
            }
            Verb::Discard => {
                let item = self.item(id).await;
                api.discard(&item).await.map(|_| None)
            }
            Verb::Create => {
                let made = api.create(environment, release, None).await?;
                Ok(Some(made.into_inner().id))
            }
            Verb::CreateLifting => {
                let made = api.create_lifting(environment, release).await?;
                Ok(Some(made.into_inner().id))
            }
        }
    }

    /// The step that it is in; the first when it is in none.
    async fn step(&self, id: &str) -> pb::Step {
        let steps = self.world.api.deployment(id).await.steps;
        let is_in = |step: &&pb::Step| {
            matches!(
                step.state(),
                pb::step::State::Ready | pb::step::State::Running | pb::step::State::Quarantined
            )
        };
        let step = steps.iter().find(is_in).or_else(|| steps.first());
        step.unwrap().clone()
    }

    /// That step, as the queue names it; one that nobody has where none is written yet.
    async fn item(&self, id: &str) -> String {
        let step = self.step(id).await.id;
        if step.is_empty() {
            StepId::new().to_string()
        } else {
            step
        }
    }

    async fn is_refused(&self, at: At, verb: Verb, place: &Place) {
        let before = self.picture().await;
        let refused = self.act(verb, place).await.err();
        let word = refused.map(|status| reason(&status));
        assert_eq!(word.as_deref(), comes(at, verb).err(), "{verb:?} at {at:?}");
        assert_eq!(
            self.picture().await,
            before,
            "{verb:?} at {at:?} wrote something"
        );
    }

    /// The states of the deployment and of the one that the verb made.
    async fn states(&self, acted: &Acted) -> (State, Option<State>) {
        let api = &self.world.api;
        let state = api.deployment(&acted.place.id).await.state();
        let made = match &acted.made {
            Some(id) => Some(api.deployment(id).await.state()),
            None => None,
        };
        (state, made)
    }

    async fn comes_to(&self, at: At, acted: &Acted) {
        let expected = comes(at, acted.verb).unwrap();
        let what = format!("{:?} at {at:?} to come to {expected:?}", acted.verb);
        poll_until(SOON, &what, async || {
            let states = self.states(acted).await;
            if states == expected {
                Ok(())
            } else {
                Err(states)
            }
        })
        .await;
    }

    /// What is there to see of a verb besides states.
    async fn is_seen(&self, at: At, acted: &Acted) {
        let Acted { verb, place, made } = acted;
        let api = &self.world.api;
        let environment = api.environment(&place.environment).await;
        let deployment = api.deployment(&place.id).await;
        let rejections = deployment.release.unwrap().rejections;
        let here = |one: &pb::release::Rejection| one.environment == place.environment;
        let is_rejected = rejections.iter().any(here);
        let cause = &*deployment.cause;
        let seen = match verb {
            Verb::Cancel => cause == "cancelled" && !is_rejected,
            Verb::Abort => cause == "aborted" && is_rejected == deployment.pivoted_at.is_some(),
            Verb::Retry => {
                let made = api.deployment(made.as_ref().unwrap()).await;
                made.retry_of == place.id
            }
            Verb::Advance | Verb::Replay => cause.is_empty(),
            Verb::Discard => cause == "discarded",
            Verb::Pin => deployment.pin.is_some(),
            Verb::Unpin => deployment.pin.is_none(),
            Verb::Hold | Verb::RollBack => environment.hold.is_some(),
            Verb::Lift | Verb::CreateLifting => environment.hold.is_none(),
            Verb::Clear => !is_rejected,
            Verb::Close => environment.closed.is_some(),
            Verb::Create => {
                let made = api.deployment(made.as_ref().unwrap()).await;
                made.release_id == place.release && environment.hold.is_some() == at.is_held()
            }
        };
        assert!(seen, "nothing is seen of {verb:?} at {at:?}");
    }
}

async fn every_verb(at: At) {
    let ground = Ground::new(at).await;
    let (working, refused): (Vec<_>, Vec<_>) =
        VERBS.into_iter().partition(|verb| comes(at, *verb).is_ok());
    let mut places = ground.places(at, working.len() + 1).await;
    let last = places.pop().unwrap();
    ground.is_read(at, &last).await;
    for verb in refused {
        ground.is_refused(at, verb, &last).await;
    }
    let mut acted = Vec::new();
    for (verb, place) in working.into_iter().zip(places) {
        let made = ground.act(verb, &place).await;
        let made = made.unwrap_or_else(|status| panic!("{verb:?} at {at:?}: {status}"));
        acted.push(Acted { verb, place, made });
    }
    ground.thaw();
    for one in &acted {
        ground.comes_to(at, one).await;
    }
    // Others have come to their ends meanwhile; what waits waits on.
    for one in &acted {
        let (verb, states) = (one.verb, ground.states(one).await);
        assert_eq!(Ok(states), comes(at, verb), "{verb:?} at {at:?}");
        ground.is_seen(at, one).await;
    }
}

async fn a_stop_and_a_ban(barred: Barred) {
    let (at, _, banned) = barred;
    let ground = Ground::new(at).await;
    // Of two previews one is closed while the line is stopped.
    let closes = comes(at, Verb::Close).is_ok();
    let mut places = ground.places(at, 1 + usize::from(closes)).await;
    let stop = ground.stop(barred, &places).await;
    let place = places.remove(0);
    if let Some(place) = places.pop() {
        ground.close(at, place).await;
    }
    let (api, id) = (&ground.world.api, &place.id);
    api.ban(&place.release).await.unwrap();
    if let Some(stop) = stop {
        crate::stops::lift(api, &stop).await.unwrap();
    }
    api.wait_for(id, &[banned]).await;
    let refused = if at.is_preview() {
        api.preview(&place.release).await
    } else {
        api.create(&place.environment, &place.release, None).await
    };
    let word = reason(&refused.unwrap_err());
    assert_eq!(word, refuses_banned(at), "{at:?}");
    // A single preview is never repeated.
    if !at.is_preview() && api.deployment(id).await.finished_at.is_some() {
        let refused = api.retry(id).await.unwrap_err();
        assert_eq!(reason(&refused), refuses_banned(at), "retry at {at:?}");
    }
}

async fn a_stop_that_lets_through((at, says, passes): LetThrough) {
    let ground = Ground::new(at).await;
    let mut places = ground.places(at, 1).await;
    ground.world.stop(false).await;
    ground.thaw();
    let what = format!("what a stop lets through at {at:?}");
    ground.all_say(&what, says, &places).await;
    let Some(verb) = passes else { return };
    let place = places.remove(0);
    let made = ground.act(verb, &place).await.unwrap();
    let acted = Acted { verb, place, made };
    ground.comes_to(at, &acted).await;
}

#[tokio::test]
async fn a_stop_and_a_ban_while_it_waits() {
    for barred in BARRED_WAITING {
        Box::pin(a_stop_and_a_ban(barred)).await;
    }
}

#[tokio::test]
async fn a_stop_and_a_ban_before_it_has_traffic() {
    for barred in BARRED_BEFORE_PIVOT {
        Box::pin(a_stop_and_a_ban(barred)).await;
    }
}

#[tokio::test]
async fn a_stop_and_a_ban_while_it_has_traffic() {
    for barred in BARRED_AFTER_PIVOT {
        Box::pin(a_stop_and_a_ban(barred)).await;
    }
}

#[tokio::test]
async fn a_stop_and_a_ban_after_it_ended() {
    for barred in BARRED_ENDED {
        Box::pin(a_stop_and_a_ban(barred)).await;
    }
}

#[tokio::test]
async fn a_stop_and_a_ban_after_a_preview_was_live() {
    for barred in BARRED_PREVIEW_ENDED {
        Box::pin(a_stop_and_a_ban(barred)).await;
    }
}

#[tokio::test]
async fn a_stop_lets_through_what_has_no_traffic_yet() {
    for let_through in LET_THROUGH_BEFORE_PIVOT {
        Box::pin(a_stop_that_lets_through(let_through)).await;
    }
}

#[tokio::test]
async fn a_stop_lets_through_what_has_traffic() {
    for let_through in LET_THROUGH_AFTER_PIVOT {
        Box::pin(a_stop_that_lets_through(let_through)).await;
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
async fn every_verb_while_its_site_is_stopped() {
    Box::pin(every_verb(At::PendingStop)).await;
}

#[tokio::test]
async fn every_verb_while_it_waits_and_is_pinned() {
    Box::pin(every_verb(At::Pinned)).await;
}

#[tokio::test]
async fn every_verb_while_edges_stage() {
    Box::pin(every_verb(At::Staging)).await;
}

#[tokio::test]
async fn every_verb_while_a_worker_looks_at_its_candidate() {
    Box::pin(every_verb(At::Fetching)).await;
}

#[tokio::test]
async fn every_verb_while_its_candidate_settles() {
    Box::pin(every_verb(At::Settling)).await;
}

#[tokio::test]
async fn every_verb_while_a_stop_pauses_it() {
    Box::pin(every_verb(At::Paused)).await;
}

#[tokio::test]
async fn every_verb_while_its_step_is_quarantined() {
    Box::pin(every_verb(At::Quarantined)).await;
}

#[tokio::test]
async fn every_verb_while_a_share_of_the_traffic_is_watched() {
    Box::pin(every_verb(At::Analysing)).await;
}

#[tokio::test]
async fn every_verb_while_it_waits_for_evidence() {
    Box::pin(every_verb(At::NoEvidence)).await;
}

#[tokio::test]
async fn every_verb_while_an_edge_has_not_followed_its_switch() {
    Box::pin(every_verb(At::SwitchWaits)).await;
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
async fn every_verb_while_edges_stage_what_a_rollback_goes_to() {
    Box::pin(every_verb(At::RollbackStages)).await;
}

#[tokio::test]
async fn every_verb_while_an_edge_has_not_followed_a_rollback() {
    Box::pin(every_verb(At::RollbackMoved)).await;
}

#[tokio::test]
async fn every_verb_while_a_preview_waits_for_its_content() {
    Box::pin(every_verb(At::PreviewWaits)).await;
}

#[tokio::test]
async fn every_verb_while_edges_stage_a_preview() {
    Box::pin(every_verb(At::PreviewStages)).await;
}

#[tokio::test]
async fn every_verb_while_a_preview_is_live() {
    Box::pin(every_verb(At::PreviewLive)).await;
}

#[tokio::test]
async fn every_verb_after_a_preview_was_closed() {
    Box::pin(every_verb(At::PreviewClosed)).await;
}

#[tokio::test]
async fn every_verb_while_the_preview_of_a_pull_request_waits_for_its_content() {
    Box::pin(every_verb(At::PullWaits)).await;
}

#[tokio::test]
async fn every_verb_while_edges_stage_the_preview_of_a_pull_request() {
    Box::pin(every_verb(At::PullStages)).await;
}

#[tokio::test]
async fn every_verb_while_the_preview_of_a_pull_request_is_live() {
    Box::pin(every_verb(At::PullLive)).await;
}

#[tokio::test]
async fn every_verb_after_a_pull_request_closed_its_preview() {
    Box::pin(every_verb(At::PullClosed)).await;
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
    // Told by a database that was set back since: what it knows is not what is.
    assert_eq!(api.watch(&id, last + 1).await, end);
    assert_eq!(api.watch(&id, i32::MAX).await, end);
}
