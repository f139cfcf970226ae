//! Stop-the-line: what it keeps, what it pauses, what passes, and how it ends.

use std::time::Duration;

use candlefish_proto::deploy::{
    self as pb, blocker::Kind, deployment::State, stop_service_client::StopServiceClient,
};
use candlefish_testkit::poll_until;
use futures_util::future::join_all;
use tonic::{Code, transport::Channel};

use crate::{
    api::{Answer, Api, baking, blockers, canary, fields, policy, reason},
    edge::Edge,
    sandbox::{Orchestrator, SITE, SOON, Sandbox},
};

const HOUR: i64 = 3600;

async fn started() -> (Sandbox, Orchestrator, Edge, Api) {
    let started = Sandbox::started().await;
    started.3.create_environment("production", policy()).await;
    started
}

fn client(api: &Api) -> StopServiceClient<Channel> {
    StopServiceClient::new(api.channel.clone())
}

/// So many seconds from now, by the database's clock.
pub(crate) async fn ahead(sandbox: &Sandbox, seconds: i64) -> prost_types::Timestamp {
    let question = "SELECT floor(extract(epoch FROM clock()))::bigint";
    prost_types::Timestamp {
        seconds: sandbox.number(question).await + seconds,
        nanos: 0,
    }
}

pub(crate) async fn set(
    sandbox: &Sandbox,
    api: &Api,
    site: &str,
    pauses: bool,
) -> Answer<pb::Stop> {
    let until = Some(ahead(sandbox, 6 * HOUR).await);
    set_until(api, site, pauses, until).await
}

pub(crate) async fn set_until(
    api: &Api,
    site: &str,
    pauses: bool,
    until: Option<prost_types::Timestamp>,
) -> Answer<pb::Stop> {
    let request = api.request(pb::SetStopRequest {
        site: site.to_owned(),
        pauses,
        reason: "the registry is down".to_owned(),
        until,
    });
    Ok(client(api).set_stop(request).await?.into_inner())
}

pub(crate) async fn lift(api: &Api, id: &str) -> Answer<pb::Stop> {
    let request = api.request(pb::LiftStopRequest {
        id: id.to_owned(),
        reason: "it is back".to_owned(),
    });
    Ok(client(api).lift_stop(request).await?.into_inner())
}

async fn listed(api: &Api, site: &str, include_ended: bool) -> Vec<pb::Stop> {
    let request = api.request(pb::ListStopsRequest {
        site: site.to_owned(),
        include_ended,
        ..pb::ListStopsRequest::default()
    });
    let answer = client(api).list_stops(request).await.unwrap();
    answer.into_inner().stops
}

/// The names of events about stops, and who acted, oldest first.
async fn told(sandbox: &Sandbox) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT event_type || ' ' || entity_version FROM outbox
         WHERE event_type LIKE 'deploy.stop.%' ORDER BY id",
    )
    .fetch_all(&sandbox.pool)
    .await
    .unwrap()
}

async fn passed_bake(api: &Api, id: &str) {
    let baking = api.wait_in(id, pb::step::Kind::Bake).await;
    let bake = |step: &&pb::Step| step.kind() == pb::step::Kind::Bake;
    let ord = baking.steps.iter().find(bake).unwrap().ord;
    api.advance(id, ord).await.unwrap();
}

fn has_begun(deployment: &pb::Deployment, kind: pb::step::Kind) -> bool {
    let step = deployment.steps.iter().find(|step| step.kind() == kind);
    step.unwrap().started_at.is_some()
}

/// Waits until a stop pauses it, and the clock of its deadline with it.
pub(crate) async fn paused(api: &Api, id: &str) -> pb::Deployment {
    let paused = |one: &pb::Deployment| {
        blockers(one) == [Kind::Stop] && one.state() == State::Waiting && one.deadline_at.is_none()
    };
    api.wait_until(id, "a pause by a stop", paused).await
}

#[tokio::test]
async fn a_stop_keeps_what_is_new_and_says_who_why_until_when_and_how_it_ends() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    let release = sandbox.release(&api, "one").await;
    let stop = set(&sandbox, &api, SITE, false).await.unwrap();
    assert_eq!((&*stop.by, stop.pauses), ("erin", false));
    let id = api.deploy("production", &release).await;
    let kept = api.deployment(&id).await;
    assert_eq!(kept.state(), State::Pending);
    let [blocker] = &*kept.blockers else {
        panic!("{:?}", kept.blockers);
    };
    assert_eq!(blocker.kind(), Kind::Stop);
    assert_eq!((&blocker.until, &*blocker.owner), (&stop.until, "approver"));
    assert_eq!(
        blocker.message,
        "docs is stopped by erin: the registry is down"
    );
    assert_eq!(blocker.action, "candlefish stop lift docs --reason …");
    assert_eq!(
        api.environment("production").await.stops,
        std::slice::from_ref(&stop)
    );
    let lane = api.lane("production").await;
    assert_eq!((lane.stops.len(), lane.blockers.len()), (1, 1));
    let preview = api.preview(&release).await.unwrap().into_inner();
    assert_eq!(blockers(&preview), [Kind::Stop]);
    let lifted = lift(&api, &stop.id).await.unwrap();
    assert_eq!(
        (&*lifted.ended_by, &*lifted.end_reason),
        ("erin", "it is back")
    );
    api.wait_for(&id, &[State::Succeeded]).await;
    api.wait_for(&preview.id, &[State::Succeeded]).await;
    assert!(api.environment("production").await.stops.is_empty());
    assert_eq!(
        told(&sandbox).await,
        ["deploy.stop.set.v1 1", "deploy.stop.lifted.v1 2"]
    );
    // The record of what kept it stays.
    let all = api.ledger(&id, 0, "").await.unwrap().blockers;
    let was_stopped = |one: &pb::Blocker| one.kind() == Kind::Stop && one.cleared_at.is_some();
    assert!(all.iter().any(was_stopped), "{all:?}");
}

#[tokio::test]
async fn what_was_pending_before_says_at_once_that_the_line_is_stopped() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    let first = sandbox.release(&api, "one").await;
    let made = api.create("production", &first, Some(baking())).await;
    let acting = made.unwrap().into_inner().id;
    api.wait_in(&acting, pb::step::Kind::Bake).await;
    let pending = api.deploy("production", &first).await;
    assert_eq!(blockers(&api.deployment(&pending).await), [Kind::Lane]);
    let stop = set(&sandbox, &api, SITE, false).await.unwrap();
    assert_eq!(blockers(&api.deployment(&pending).await), [Kind::Stop]);
    // Lifted while another acts, it waits for its lane again.
    lift(&api, &stop.id).await.unwrap();
    api.wait_until(&pending, "a wait for the lane", |one| {
        blockers(one) == [Kind::Lane]
    })
    .await;
    passed_bake(&api, &acting).await;
    api.wait_for(&pending, &[State::Succeeded]).await;
}

#[tokio::test]
async fn a_stop_of_everything_stops_every_site_and_needs_a_token_for_all() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    let release = sandbox.release(&api, "one").await;
    let narrow = api.seeing(&[SITE]);
    let refused = set(&sandbox, &narrow, "", false).await.unwrap_err();
    assert_eq!(
        (refused.code(), &*reason(&refused)),
        (Code::PermissionDenied, "outside-sites")
    );
    let outside = set(&sandbox, &api.seeing(&["other"]), SITE, false).await;
    assert_eq!(outside.unwrap_err().code(), Code::NotFound);
    let stop = set(&sandbox, &api, "", false).await.unwrap();
    let id = api.deploy("production", &release).await;
    let kept = api.deployment(&id).await;
    assert_eq!(
        kept.blockers[0].message,
        "everything is stopped by erin: the registry is down"
    );
    assert_eq!(kept.blockers[0].action, "candlefish stop lift --reason …");
    assert_eq!(
        listed(&narrow, SITE, false).await,
        std::slice::from_ref(&stop)
    );
    let refused = lift(&narrow, &stop.id).await.unwrap_err();
    assert_eq!(reason(&refused), "outside-sites");
    // One of its own keeps it still when that of everything is lifted.
    let own = set(&sandbox, &api, SITE, false).await.unwrap();
    assert_eq!(listed(&api, SITE, false).await.len(), 2);
    let kept = api.deployment(&id).await;
    assert_eq!(blockers(&kept), [Kind::Stop, Kind::Stop]);
    lift(&api, &stop.id).await.unwrap();
    assert_eq!(listed(&api, SITE, false).await, std::slice::from_ref(&own));
    assert_eq!(listed(&api, SITE, true).await.len(), 2);
    let names_its_own = |one: &pb::Deployment| {
        one.blockers.len() == 1 && one.blockers[0].message.starts_with("docs is stopped")
    };
    let later = api.deploy("production", &release).await;
    api.wait_until(&later, "its site's stop", names_its_own)
        .await;
    lift(&api, &own.id).await.unwrap();
    api.wait_for(&id, &[State::Succeeded]).await;
    api.wait_for(&later, &[State::Succeeded]).await;
}

#[tokio::test]
async fn what_acts_is_let_through_unless_it_is_to_be_paused() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    let release = sandbox.release(&api, "one").await;
    let made = api.create("production", &release, Some(baking())).await;
    let id = made.unwrap().into_inner().id;
    api.wait_in(&id, pb::step::Kind::Bake).await;
    set(&sandbox, &api, SITE, false).await.unwrap();
    passed_bake(&api, &id).await;
    api.wait_for(&id, &[State::Succeeded]).await;
}

#[tokio::test]
async fn a_pause_comes_between_steps_and_stops_the_clock_of_the_deadline() {
    let (sandbox, _orchestrator, edge, api) = started().await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let new = sandbox.release(&api, "new").await;
    let made = api.create("production", &new, Some(canary())).await;
    let id = made.unwrap().into_inner().id;
    let analysing = api.wait_in(&id, pb::step::Kind::Analyse).await;
    let stop = set(&sandbox, &api, SITE, true).await.unwrap();
    // In the middle of a step: it goes on with it.
    let watched = api.deployment(&id).await;
    assert_eq!(blockers(&watched), [Kind::Timer]);
    let analyse = |step: &&pb::Step| step.kind() == pb::step::Kind::Analyse;
    let ord = analysing.steps.iter().find(analyse).unwrap().ord;
    api.advance(&id, ord).await.unwrap();
    let kept = paused(&api, &id).await;
    assert!(!has_begun(&kept, pb::step::Kind::Switch), "{kept:?}");
    assert_eq!(kept.blockers[0].until, stop.until);
    sandbox.database.advance(Duration::from_hours(5)).await;
    let refused = api.advance(&id, ord + 1).await.unwrap_err();
    assert_eq!(reason(&refused), "nothing-to-pass");
    let words = refused.message();
    for said in [
        "is waiting",
        "candlefish why dep_",
        "candlefish cancel dep_",
    ] {
        assert!(words.contains(said), "{words}");
    }
    assert!(!has_begun(
        &api.deployment(&id).await,
        pb::step::Kind::Switch
    ));
    lift(&api, &stop.id).await.unwrap();
    api.wait_for(&id, &[State::Succeeded]).await;
    edge.wait_until_it_serves("docs.localhost", &new).await;
}

#[tokio::test]
async fn an_undo_is_never_paused() {
    let (sandbox, _orchestrator, edge, api) = started().await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let new = sandbox.release(&api, "new").await;
    let made = api.create("production", &new, Some(baking())).await;
    let id = made.unwrap().into_inner().id;
    api.wait_in(&id, pb::step::Kind::Bake).await;
    set(&sandbox, &api, "", true).await.unwrap();
    passed_bake(&api, &id).await;
    paused(&api, &id).await;
    api.cancel(&id).await.unwrap();
    api.wait_for(&id, &[State::RolledBack]).await;
    edge.wait_until_it_serves("docs.localhost", &old).await;
}

#[tokio::test]
async fn a_rollback_is_granted_and_carried_out_under_a_stop_that_pauses() {
    let (sandbox, _orchestrator, edge, api) = started().await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let new = sandbox.release(&api, "new").await;
    api.deploy_whole("production", &new).await;
    set(&sandbox, &api, SITE, true).await.unwrap();
    let kept = api.deploy("production", &new).await;
    let back = api.roll_back("production").await.unwrap().into_inner();
    let back = back.deployment.unwrap().id;
    api.wait_for(&back, &[State::Succeeded]).await;
    edge.wait_until_it_serves("docs.localhost", &old).await;
    // The rollback holds the environment besides.
    let kept = api.deployment(&kept).await;
    assert_eq!(blockers(&kept), [Kind::Stop, Kind::Hold]);
}

#[tokio::test]
async fn a_stop_ends_by_itself_also_while_nobody_looks() {
    let (sandbox, orchestrator, _edge, api) = started().await;
    api.create_environment("staging", policy()).await;
    let release = sandbox.release(&api, "one").await;
    let made = api.create("staging", &release, Some(baking())).await;
    let acting = made.unwrap().into_inner().id;
    api.wait_in(&acting, pb::step::Kind::Bake).await;
    let stop = set(&sandbox, &api, SITE, true).await.unwrap();
    passed_bake(&api, &acting).await;
    paused(&api, &acting).await;
    let pending = api.deploy("production", &release).await;
    orchestrator.kill().await;
    sandbox.database.advance(Duration::from_hours(7)).await;
    let orchestrator = sandbox.start().await;
    let address = orchestrator.running.address;
    let _edge = Edge::start(&sandbox, "edge-2", address).await;
    let api = sandbox.api(address);
    api.wait_for(&acting, &[State::Succeeded]).await;
    api.wait_for(&pending, &[State::Succeeded]).await;
    let ended = listed(&api, SITE, true).await.remove(0);
    assert_eq!(
        (&ended.id, &*ended.ended_by, &*ended.end_reason),
        (&stop.id, "system", "its time has passed")
    );
    assert_eq!(
        told(&sandbox).await,
        ["deploy.stop.set.v1 1", "deploy.stop.lifted.v1 2"]
    );
    let refused = lift(&api, &stop.id).await.unwrap_err();
    assert_eq!(reason(&refused), "stop-ended");
}

#[tokio::test]
async fn a_pause_survives_a_crash_and_so_does_a_lift_of_which_nobody_was_told() {
    let (sandbox, orchestrator, edge, api) = started().await;
    api.create_environment("staging", policy()).await;
    let release = sandbox.release(&api, "one").await;
    edge.act(|script| script.frozen = true);
    let acting = api.deploy("staging", &release).await;
    api.wait_in(&acting, pb::step::Kind::Stage).await;
    set(&sandbox, &api, SITE, true).await.unwrap();
    let pending = api.deploy("production", &release).await;
    orchestrator.kill().await;
    edge.act(|script| script.frozen = false);
    let orchestrator = sandbox.start().await;
    let address = orchestrator.running.address;
    let _edge = Edge::start(&sandbox, "edge-2", address).await;
    let api = sandbox.api(address);
    let kept = paused(&api, &acting).await;
    assert!(!has_begun(&kept, pb::step::Kind::VerifyCandidate));
    assert_eq!(blockers(&api.deployment(&pending).await), [Kind::Stop]);
    // What the commit of a lift writes, and then its process is gone.
    sandbox
        .act(
            "UPDATE stop SET ended_at = clock(), ended_by = 'erin', end_reason = 'over';
             UPDATE step SET run_at = clock() WHERE state = 'ready' AND started_at IS NULL",
        )
        .await;
    api.wait_for(&pending, &[State::Succeeded]).await;
    let done = api.wait_for(&acting, &[State::Succeeded]).await;
    assert!(done.blockers.is_empty());
}

#[tokio::test]
async fn a_stop_is_not_answered_while_a_grant_that_knows_nothing_of_it_runs() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    let release = sandbox.release(&api, "one").await;
    // A grant that takes its time, after it read what it decides by.
    sandbox
        .act(
            "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_advisory_xact_lock_shared(77); RETURN NEW; END $$;
             CREATE TRIGGER slowly BEFORE INSERT ON step FOR EACH ROW EXECUTE FUNCTION slowly()",
        )
        .await;
    let mut holder = sandbox.pool.acquire().await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(77)")
        .execute(&mut *holder)
        .await
        .unwrap();
    let waits = async |key: i64| {
        let question = format!(
            "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
             WHERE d.datname = current_database() AND l.locktype = 'advisory'
               AND l.objid = {key} AND NOT l.granted"
        );
        poll_until(SOON, "a wait for a lock", async || {
            match sandbox.number(&question).await {
                0 => Err("nobody waits"),
                _ => Ok(()),
            }
        })
        .await;
    };
    let until = Some(ahead(&sandbox, HOUR).await);
    let granting = api.deploy("production", &release);
    let stopping = async {
        waits(77).await;
        set_until(&api, SITE, false, until).await
    };
    let letting_go = async {
        // The stop waits for the grant, not the other way round.
        waits(77).await;
        waits(4001).await;
        sqlx::query("SELECT pg_advisory_unlock(77)")
            .execute(&mut *holder)
            .await
            .unwrap();
    };
    let (id, stopped, ()) = tokio::join!(granting, stopping, letting_go);
    stopped.unwrap();
    // Granted before the stop was set, it is let through; nothing was granted after.
    api.wait_for(&id, &[State::Succeeded]).await;
    let question = "SELECT count(*) FROM deployment d, stop s WHERE d.started_at > s.set_at";
    assert_eq!(sandbox.number(question).await, 0);
    let later = api.deploy("production", &release).await;
    assert_eq!(blockers(&api.deployment(&later).await), [Kind::Stop]);
}

#[tokio::test]
async fn nothing_is_granted_past_a_stop_however_many_come_at_once() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    let release = sandbox.release(&api, "one").await;
    let creating = join_all((0..12).map(|_| api.preview(&release)));
    let (made, stop) = tokio::join!(creating, set(&sandbox, &api, SITE, true));
    let stop = stop.unwrap();
    for one in made {
        one.unwrap();
    }
    let after = "SELECT count(*) FROM deployment d, stop s WHERE d.started_at > s.set_at";
    assert_eq!(sandbox.number(after).await, 0);
    let begun = "SELECT count(*) FROM step t, stop s WHERE t.started_at > s.set_at";
    assert_eq!(sandbox.number(begun).await, 0);
    lift(&api, &stop.id).await.unwrap();
    let open = "SELECT count(*) FROM deployment WHERE state <> 'succeeded'";
    poll_until(SOON, "all previews", async || {
        match sandbox.number(open).await {
            0 => Ok(()),
            some => Err(some),
        }
    })
    .await;
}

#[tokio::test]
async fn a_stop_says_what_is_wrong_with_it_and_comes_once_under_a_key() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    for until in [
        None,
        Some(ahead(&sandbox, -1).await),
        Some(ahead(&sandbox, 7 * 24 * HOUR + 300).await),
    ] {
        let refused = set_until(&api, SITE, false, until).await.unwrap_err();
        assert_eq!(
            (refused.code(), fields(&refused)),
            (Code::InvalidArgument, vec!["until".to_owned()])
        );
    }
    let request = api.request(pb::SetStopRequest::default());
    let refused = client(&api).set_stop(request).await.unwrap_err();
    assert_eq!(fields(&refused), ["reason", "until"]);
    let keyed = api.keyed("one");
    let until = Some(ahead(&sandbox, HOUR).await);
    let stop = set_until(&keyed, SITE, false, until).await.unwrap();
    assert_eq!(set_until(&keyed, SITE, false, until).await.unwrap(), stop);
    let refused = set_until(&api, SITE, true, until).await.unwrap_err();
    assert_eq!(reason(&refused), "stopped");
    assert!(refused.message().contains("by erin"), "{refused}");
    let unknown = lift(&api.seeing(&["other"]), &stop.id).await.unwrap_err();
    assert_eq!(reason(&unknown), "stop-unknown");
    let lifted = lift(&keyed, &stop.id).await.unwrap();
    assert_eq!(lift(&keyed, &stop.id).await.unwrap(), lifted);
    let refused = lift(&api, &stop.id).await.unwrap_err();
    assert_eq!(reason(&refused), "stop-ended");
    assert_eq!(told(&sandbox).await.len(), 2);
    // One whose time has passed is no reason to refuse the next, swept or not.
    let short = set_until(&api, SITE, false, Some(ahead(&sandbox, 60).await)).await;
    short.unwrap();
    sandbox.database.advance(Duration::from_mins(2)).await;
    set(&sandbox, &api, SITE, false).await.unwrap();
}

#[tokio::test]
async fn the_longest_stop_is_taken_from_whoever_s_clock_is_a_little_ahead() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    let until = Some(ahead(&sandbox, 7 * 24 * HOUR + 45).await);
    let stop = set_until(&api, SITE, false, until).await.unwrap();
    assert_eq!(stop.until, until);
}
