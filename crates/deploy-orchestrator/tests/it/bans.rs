//! A banned release goes nowhere.

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy::{
    self as pb, StagedRelease, WatchRoutesRequest, blocker::Kind, deployment::State,
};
use candlefish_testkit::{poll_until, wait_until};
use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Postgres, Transaction};
use tonic::Status;

use crate::{
    api::{Answer, Api, baking, blockers, canary, policy, reason},
    edge::Edge,
    edges,
    history::of_kind,
    sandbox::{Orchestrator, SITE, SOON, Sandbox},
};

const COMMIT: &str = "1111111111111111111111111111111111111111";

/// A ban of every release.
const UNTOLD: &str = "INSERT INTO ban (release_id, at, by, reason)
                      SELECT id, clock(), 'erin', 'it leaks' FROM release";
/// How what a ban ends says so.
const WORDS: &str = "its release was banned meanwhile by erin: it leaks";

async fn started() -> (Sandbox, Orchestrator, Edge, Api) {
    let started = Sandbox::started().await;
    started.3.create_environment("production", policy()).await;
    started
}

async fn unban(api: &Api, release: &str) -> Answer<pb::Release> {
    Ok(api.clear("", release).await?.into_inner())
}

async fn back_to(api: &Api, release: &str, commit: &str) -> Answer<pb::Rollback> {
    let request = api.request(pb::CreateRollbackRequest {
        site: SITE.to_owned(),
        environment: "production".to_owned(),
        to_release_id: release.to_owned(),
        to_commit: commit.to_owned(),
        ..pb::CreateRollbackRequest::default()
    });
    let made = api.deployments().create_rollback(request).await?;
    Ok(made.into_inner())
}

/// The refusal names who banned it and why.
fn is_refused<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let status = answer.unwrap_err();
    assert_eq!(reason(&status), "release-banned", "{status}");
    let words = status.message();
    assert!(
        words.contains("banned by erin since") && words.contains("it leaks"),
        "{words}"
    );
}

#[tokio::test]
async fn a_banned_release_is_refused_everywhere_by_who_and_why() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    let bad = sandbox.commit(&api, COMMIT, &[]).await;
    let first = api.deploy_whole("production", &bad).await.id;
    let good = sandbox.release(&api, "good").await;
    api.deploy_whole("production", &good).await;
    let banned = api.ban(&bad).await.unwrap().into_inner();
    let ban = banned.ban.unwrap();
    assert_eq!((&*ban.by, &*ban.reason), ("erin", "it leaks"));
    is_refused(api.create("production", &bad, None).await);
    is_refused(api.preview(&bad).await);
    is_refused(api.retry(&first).await);
    is_refused(back_to(&api, &bad, "").await);
    is_refused(back_to(&api, "", COMMIT).await);
    // Nothing before it is left to go back to by itself.
    let nothing = api.roll_back("production").await.unwrap_err();
    assert_eq!(reason(&nothing), "nothing-before");
    assert_eq!(reason(&api.ban(&bad).await.unwrap_err()), "release-banned");
    let shown = api.deployment(&first).await.release.unwrap();
    assert_eq!(shown.ban.unwrap(), ban);
    assert!(unban(&api, &bad).await.unwrap().ban.is_none());
    let again = unban(&api, &bad).await.unwrap_err();
    assert_eq!(reason(&again), "not-banned");
    back_to(&api, &bad, "").await.unwrap();
    let told: Vec<String> = sqlx::query_scalar(
        "SELECT event_type FROM outbox WHERE entity = $1 ORDER BY entity_version",
    )
    .bind(&bad)
    .fetch_all(&sandbox.pool)
    .await
    .unwrap();
    assert_eq!(
        told[told.len() - 2..],
        ["deploy.release.banned.v1", "deploy.release.cleared.v1"]
    );
}

#[tokio::test]
async fn a_ban_comes_once_under_a_key_and_only_for_those_who_see_the_site() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    let release = sandbox.release(&api, "one").await;
    let unseen = api.seeing(&["other"]).ban(&release).await.unwrap_err();
    assert_eq!(reason(&unseen), "release-unknown");
    let keyed = api.keyed("one");
    let banned = keyed.ban(&release).await.unwrap().into_inner();
    assert_eq!(keyed.ban(&release).await.unwrap().into_inner(), banned);
    let bans = "SELECT count(*) FROM ban";
    assert_eq!(sandbox.number(bans).await, 1);
}

#[tokio::test]
async fn what_waits_with_it_ends_and_what_bakes_goes_on() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    api.create_environment("staging", policy()).await;
    let release = sandbox.release(&api, "one").await;
    let made = api.create("production", &release, Some(baking())).await;
    let acting = made.unwrap().into_inner().id;
    api.wait_in(&acting, pb::step::Kind::Bake).await;
    let behind = api.deploy("production", &release).await;
    api.hold("staging").await.unwrap();
    let held = api.deploy("staging", &release).await;
    let other = sandbox.release(&api, "other").await;
    let stays = api.deploy("production", &other).await;
    api.ban(&release).await.unwrap();
    for id in [&behind, &held] {
        let ended = api.wait_for(id, &[State::Cancelled]).await;
        assert_eq!(ended.message, WORDS);
    }
    assert_eq!(api.deployment(&acting).await.state(), State::Waiting);
    assert_eq!(blockers(&api.deployment(&stays).await), [Kind::Lane]);
}

/// What acts with it, kept by an edge before its pivot.
async fn staging(edge: &Edge, api: &Api, release: &str) -> String {
    edge.act(|script| script.frozen = true);
    let acting = api.deploy("production", release).await;
    api.wait_in(&acting, pb::step::Kind::Stage).await;
    acting
}

/// What is live, and a canary of another release that has its share of the traffic.
async fn shared(sandbox: &Sandbox, api: &Api) -> (String, pb::Deployment) {
    let old = sandbox.release(api, "old").await;
    api.deploy_whole("production", &old).await;
    let new = sandbox.release(api, "new").await;
    let made = api.create("production", &new, Some(canary())).await;
    let id = made.unwrap().into_inner().id;
    let acting = api.wait_in(&id, pb::step::Kind::Analyse).await;
    assert!(acting.pivoted_at.is_some() && acting.live_at.is_none());
    (old, acting)
}

/// A canary ended because of a ban, says so, and visitors get what was live.
async fn is_back(edge: &Edge, api: &Api, id: &str, old: &str) {
    let ended = api.wait_for(id, &[State::RolledBack]).await;
    assert_eq!((&*ended.message, &*ended.cause), (WORDS, "cancelled"));
    assert_eq!(ended.target_confirmed, Some(true));
    edge.wait_until_it_serves("docs.localhost", old).await;
}

#[tokio::test]
async fn what_acts_with_it_and_has_no_traffic_is_undone_and_frees_its_lane() {
    let (sandbox, _orchestrator, edge, api) = started().await;
    let release = sandbox.release(&api, "one").await;
    let acting = staging(&edge, &api, &release).await;
    api.ban(&release).await.unwrap();
    // From the answer on, also with nothing behind it.
    let undone = api.deployment(&acting).await;
    assert_eq!(undone.state(), State::Cancelling);
    let other = sandbox.release(&api, "other").await;
    let next = api.deploy("production", &other).await;
    edge.act(|script| script.frozen = false);
    let ended = api.wait_for(&acting, &[State::Cancelled]).await;
    assert_eq!((&*ended.message, &*ended.cause), (WORDS, "cancelled"));
    assert_eq!(
        (ended.pivoted_at, ended.target_confirmed),
        (None, Some(true))
    );
    api.wait_for(&next, &[State::Succeeded]).await;
}

#[tokio::test]
async fn a_ban_of_which_no_lane_was_told_ends_what_has_no_traffic_all_the_same() {
    let (sandbox, _orchestrator, edge, api) = started().await;
    let release = sandbox.release(&api, "one").await;
    let acting = staging(&edge, &api, &release).await;
    // What the commit of a ban writes, and then its process is gone.
    sandbox.act(UNTOLD).await;
    api.wait_for(&acting, &[State::Cancelling]).await;
    edge.act(|script| script.frozen = false);
    let ended = api.wait_for(&acting, &[State::Cancelled]).await;
    assert_eq!(ended.message, WORDS);
}

#[tokio::test]
async fn a_canary_of_it_goes_back_and_frees_its_lane() {
    let (sandbox, _orchestrator, edge, api) = started().await;
    let (old, acting) = shared(&sandbox, &api).await;
    api.ban(&acting.release_id).await.unwrap();
    // From the answer on, also with nothing behind it.
    let undone = api.deployment(&acting.id).await.state();
    assert!(
        matches!(undone, State::Cancelling | State::RolledBack),
        "{undone:?}"
    );
    is_back(&edge, &api, &acting.id, &old).await;
    let environment = api.environment("production").await;
    assert_eq!(environment.live_release_id, old);
    assert!(environment.hold.is_none());
    // The ban alone keeps it away: nothing was found to be wrong with it here.
    let banned = api.deployment(&acting.id).await.release.unwrap();
    assert!(banned.rejections.is_empty());
    let other = sandbox.release(&api, "other").await;
    api.deploy_whole("production", &other).await;
}

#[tokio::test]
async fn a_ban_of_which_no_lane_was_told_sends_a_canary_back_all_the_same() {
    let (sandbox, _orchestrator, edge, api) = started().await;
    let (old, acting) = shared(&sandbox, &api).await;
    // What the commit of a ban writes, and then its process is gone.
    let acts = "WHERE id = (SELECT release_id FROM deployment WHERE finished_at IS NULL)";
    let banned = format!("{UNTOLD} {acts}");
    sandbox.act(&banned).await;
    is_back(&edge, &api, &acting.id, &old).await;
}

#[tokio::test]
async fn what_is_switched_and_not_fetched_yet_goes_back_and_fails_with_nothing_before_it() {
    let (sandbox, _orchestrator, edge, api) = started().await;
    edge.act(|script| script.away_on = Some("docs.".to_owned()));
    let release = sandbox.release(&api, "one").await;
    let id = api.deploy("production", &release).await;
    let switched =
        |one: &pb::Deployment| one.pivoted_at.is_some() && blockers(one) == [Kind::Provider];
    let waits = api.wait_until(&id, "a switch", switched).await;
    assert_eq!(waits.live_at, None);
    api.ban(&release).await.unwrap();
    let ended = api.wait_for(&id, &[State::Failed]).await;
    assert_eq!((&*ended.message, &*ended.cause), (WORDS, "cancelled"));
    assert_eq!(api.environment("production").await.live_release_id, "");
}

#[tokio::test]
async fn the_release_before_is_never_a_banned_one() {
    let (sandbox, _orchestrator, edge, api) = started().await;
    let mut releases = Vec::new();
    for words in ["one", "two", "three"] {
        let release = sandbox.release(&api, words).await;
        api.deploy_whole("production", &release).await;
        releases.push(release);
    }
    api.ban(&releases[1]).await.unwrap();
    let back = api.roll_back("production").await.unwrap().into_inner();
    let back = back.deployment.unwrap();
    assert_eq!(back.release_id, releases[0]);
    api.wait_for(&back.id, &[State::Succeeded]).await;
    edge.wait_until_it_serves("docs.localhost", &releases[0])
        .await;
}

const HOST: &str = "docs.localhost";

/// Bans what an undo is to go back to in the transaction that begins it, after that has chosen.
const BANNED_LATE: &str = "
    CREATE FUNCTION ban_late() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO ban (release_id, at, by, reason)
        SELECT previous_release_id, clock(), 'erin', 'it leaks'
        FROM deployment WHERE id = NEW.deployment_id;
        RETURN NULL;
    END $$;
    CREATE TRIGGER ban_late AFTER INSERT ON step
        FOR EACH ROW WHEN (NEW.kind = 'return') EXECUTE FUNCTION ban_late()";

/// What is live, and another release over it that bakes.
async fn over(sandbox: &Sandbox, api: &Api) -> (String, String) {
    let before = sandbox.release(api, "before").await;
    api.deploy_whole("production", &before).await;
    let new = sandbox.release(api, "new").await;
    let made = api.create("production", &new, Some(baking())).await;
    let id = made.unwrap().into_inner().id;
    api.wait_in(&id, pb::step::Kind::Bake).await;
    (before, id)
}

/// It went back past the banned release to an older one, everywhere and by its own account.
async fn went_past(edge: &Edge, api: &Api, id: &str, banned: &str, older: &str) {
    let ended = api.wait_for(id, &[State::RolledBack]).await;
    assert_eq!(ended.previous_release_id, older);
    let words = format!("traffic goes back to {older}, for {banned} is banned by erin since ");
    assert!(ended.message.contains(&words), "{}", ended.message);
    edge.wait_until_it_serves(HOST, older).await;
    let served = edge.served(HOST);
    let new = Some(ended.release_id);
    let mut after = served.iter().rev().take_while(|one| **one != new);
    assert!(after.all(|one| one.as_deref() == Some(older)), "{served:?}");
    assert_eq!(api.environment("production").await.live_release_id, older);
    let told = of_kind(api, "production", pb::record::Kind::Rollback).await;
    let told: Vec<_> = told.iter().filter(|one| one.release_id == older).collect();
    let [told] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert!(told.reason.starts_with(&words), "{told:?}");
}

/// There was nothing to go back to but the banned release: nothing is served, and it says why.
async fn went_nowhere(edge: &Edge, api: &Api, id: &str, banned: &str) {
    let ended = api.wait_for(id, &[State::Failed]).await;
    assert_eq!(ended.previous_release_id, "");
    let words = format!("; there is nothing to go back to, for {banned} is banned by erin since ");
    assert!(ended.message.contains(&words), "{}", ended.message);
    assert_eq!(edge.serves(HOST), []);
    assert_eq!(api.environment("production").await.live_release_id, "");
}

#[tokio::test]
async fn an_abort_goes_past_what_was_banned_while_it_baked() {
    let (sandbox, _orchestrator, edge, api) = started().await;
    let older = sandbox.release(&api, "older").await;
    let first = api.deploy_whole("production", &older).await.id;
    let (banned, acting) = over(&sandbox, &api).await;
    api.ban(&banned).await.unwrap();
    api.abort(&acting).await.unwrap();
    went_past(&edge, &api, &acting, &banned, &older).await;
    let live = "SELECT count(*) FROM environment e JOIN deployment d ON d.id = e.live_deployment_id
                WHERE d.release_id = e.live_release_id";
    assert_eq!(sandbox.number(live).await, 1);
    assert_eq!(api.deployment(&first).await.state(), State::Succeeded);
    let next = sandbox.release(&api, "next").await;
    let next = api.deploy_whole("production", &next).await;
    assert_eq!(next.previous_release_id, older);
}

#[tokio::test]
async fn what_fails_by_itself_goes_past_what_was_banned_since_its_switch() {
    let (sandbox, _orchestrator, edge, api) = started().await;
    let older = sandbox.release(&api, "older").await;
    api.deploy_whole("production", &older).await;
    let banned = sandbox.release(&api, "before").await;
    api.deploy_whole("production", &banned).await;
    edge.act(|script| script.away_on = Some("docs.".to_owned()));
    let new = sandbox.release(&api, "new").await;
    let id = api.deploy("production", &new).await;
    let switched =
        |one: &pb::Deployment| one.pivoted_at.is_some() && blockers(one) == [Kind::Provider];
    api.wait_until(&id, "a switch", switched).await;
    api.ban(&banned).await.unwrap();
    edge.act(|script| {
        script.away_on = None;
        script.lies_on = Some("docs.".to_owned());
    });
    went_past(&edge, &api, &id, &banned, &older).await;
    assert_eq!(api.deployment(&id).await.cause, "verification");
}

#[tokio::test]
async fn with_nothing_but_a_banned_release_before_it_nothing_is_served() {
    let (sandbox, _orchestrator, edge, api) = started().await;
    let older = sandbox.release(&api, "older").await;
    api.deploy_whole("production", &older).await;
    let (banned, acting) = over(&sandbox, &api).await;
    // Its content was collected, and somebody begins to upload it again.
    let draft = format!(
        "UPDATE release SET state = 'draft', sealed_at = NULL WHERE id = '{}'",
        older.parse::<ReleaseId>().unwrap().uuid()
    );
    sandbox.act(&draft).await;
    api.ban(&banned).await.unwrap();
    api.abort(&acting).await.unwrap();
    went_nowhere(&edge, &api, &acting, &banned).await;
}

#[tokio::test]
async fn a_ban_between_the_abort_and_the_return_is_seen() {
    let (sandbox, _orchestrator, edge, api) = started().await;
    let (banned, acting) = over(&sandbox, &api).await;
    sandbox.act(BANNED_LATE).await;
    api.abort(&acting).await.unwrap();
    went_nowhere(&edge, &api, &acting, &banned).await;
}

#[tokio::test]
async fn what_has_a_share_of_the_traffic_goes_back_to_what_is_live_though_that_is_banned() {
    let (sandbox, _orchestrator, edge, api) = started().await;
    let older = sandbox.release(&api, "older").await;
    api.deploy_whole("production", &older).await;
    let (old, acting) = shared(&sandbox, &api).await;
    api.ban(&old).await.unwrap();
    api.abort(&acting.id).await.unwrap();
    let ended = api.wait_for(&acting.id, &[State::RolledBack]).await;
    assert_eq!(ended.previous_release_id, old);
    edge.wait_until_it_serves(HOST, &old).await;
    assert_eq!(api.environment("production").await.live_release_id, old);
}

/// A release that went live, and its lane is free.
async fn live(sandbox: &Sandbox, api: &Api, words: &str) -> String {
    let release = sandbox.release(api, words).await;
    api.deploy_whole("production", &release).await;
    release
}

/// A transaction of somebody else that did this, with `$id` for a release, and is not at its end.
async fn under_way(
    sandbox: &Sandbox,
    release: &str,
    statements: &str,
) -> Transaction<'static, Postgres> {
    let id = release.parse::<ReleaseId>().unwrap().uuid().to_string();
    let statements = AssertSqlSafe(statements.replace("$id", &id));
    let mut other = sandbox.pool.begin().await.unwrap();
    sqlx::raw_sql(statements)
        .execute(&mut *other)
        .await
        .unwrap();
    other
}

#[tokio::test]
async fn a_ban_between_the_abort_and_the_return_sends_traffic_further_back() {
    let (sandbox, _orchestrator, edge, api) = started().await;
    let older = live(&sandbox, &api, "older").await;
    let (banned, acting) = over(&sandbox, &api).await;
    sandbox.act(BANNED_LATE).await;
    api.abort(&acting).await.unwrap();
    went_past(&edge, &api, &acting, &banned, &older).await;
}

#[tokio::test]
async fn a_return_waits_for_a_ban_that_is_being_written() {
    let (sandbox, _orchestrator, edge, api) = started().await;
    let older = live(&sandbox, &api, "older").await;
    let (banned, acting) = over(&sandbox, &api).await;
    let written = "
        SELECT 1 FROM release WHERE id = '$id' FOR NO KEY UPDATE;
        INSERT INTO ban (release_id, at, by, reason) VALUES ('$id', clock(), 'erin', 'it leaks')";
    let ban = under_way(&sandbox, &banned, written).await;
    api.abort(&acting).await.unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'";
    wait_until(SOON, "a session to wait for a lock", async || {
        sandbox.number(waits).await > 0
    })
    .await;
    ban.commit().await.unwrap();
    went_past(&edge, &api, &acting, &banned, &older).await;
}

#[tokio::test]
async fn an_abort_waits_for_nobody_who_blames_the_release_that_it_goes_back_to() {
    let (sandbox, _orchestrator, edge, api) = started().await;
    let older = live(&sandbox, &api, "older").await;
    let (banned, acting) = over(&sandbox, &api).await;
    api.ban(&banned).await.unwrap();
    // As of another environment, which would wait for what is blamed here.
    let blames = "UPDATE release SET suspect_since = clock() WHERE id = '$id'";
    let blamed = under_way(&sandbox, &older, blames).await;
    api.abort(&acting).await.unwrap();
    blamed.rollback().await.unwrap();
    went_past(&edge, &api, &acting, &banned, &older).await;
}

#[tokio::test]
async fn edges_have_time_to_fetch_what_takes_the_place_of_a_banned_release() {
    let patient = [("CANDLEFISH_EDGE_PATIENCE_MS", "600000")];
    let (sandbox, _orchestrator, [_first, second], api) = edges::started(&patient, policy()).await;
    let older = live(&sandbox, &api, "older").await;
    let (banned, acting) = over(&sandbox, &api).await;
    api.ban(&banned).await.unwrap();
    second.act(|script| script.frozen = true);
    api.abort(&acting).await.unwrap();
    let named = |one: &pb::Deployment| blockers(one) == [Kind::Edge];
    let waits = api.wait_until(&acting, "a wait for an edge", named).await;
    let back = |step: &&pb::Step| step.kind() == pb::step::Kind::Return;
    let begun = waits.steps.iter().find(back).unwrap().started_at.as_ref();
    let until = waits.blockers[0].until.as_ref().unwrap();
    let patience = until.seconds - begun.unwrap().seconds;
    assert!(patience > 60, "{patience} s");
    second.act(|script| script.frozen = false);
    let ended = api.wait_for(&acting, &[State::RolledBack]).await;
    assert_eq!(ended.previous_release_id, older);
    assert_eq!(ended.target_confirmed, Some(true));
}

/// As [`started`], where a rollback waits for its edge however long that takes.
async fn patient() -> (Sandbox, Orchestrator, Edge, Api) {
    let patient = [("CANDLEFISH_EDGE_PATIENCE_HURRIED_MS", "600000")];
    let started = Sandbox::started_with(&patient).await;
    started.3.create_environment("production", policy()).await;
    started
}

/// A rollback that gave its release all the traffic and waits for its edge.
async fn pivoted(edge: &Edge, api: &Api, to: &str) -> String {
    edge.act(|script| script.frozen = true);
    let id = back_to(api, to, "").await.unwrap().deployment.unwrap().id;
    api.wait_until(&id, "the pivot", |one| one.pivoted_at.is_some())
        .await;
    id
}

#[tokio::test]
async fn a_rollback_away_from_what_is_banned_since_is_not_ended_but_replaced() {
    let (sandbox, _orchestrator, edge, api) = patient().await;
    let older = live(&sandbox, &api, "older").await;
    let good = live(&sandbox, &api, "good").await;
    let bad = live(&sandbox, &api, "bad").await;
    let first = pivoted(&edge, &api, &good).await;
    api.ban(&bad).await.unwrap();
    is_refused(api.cancel(&first).await);
    is_refused(api.abort(&first).await);
    let refused = api.rehearsing().cancel(&first).await.unwrap_err();
    for words in [
        &*format!("{first} would go back to {bad}, which is banned by erin since "),
        "candlefish rollback docs/production --to REL",
    ] {
        assert!(refused.message().contains(words), "{refused}");
    }
    let second = back_to(&api, &older, "").await.unwrap();
    let second = second.deployment.unwrap().id;
    edge.act(|script| script.frozen = false);
    let replaced = api.wait_for(&first, &[State::RolledBack]).await;
    assert_eq!(replaced.superseded_by, second);
    api.wait_for(&second, &[State::Succeeded]).await;
    edge.wait_until_it_serves(HOST, &older).await;
}

#[tokio::test]
async fn what_a_rollback_left_that_was_itself_undone_is_a_way_back_again() {
    let (sandbox, _orchestrator, edge, api) = patient().await;
    let good = live(&sandbox, &api, "good").await;
    let left = live(&sandbox, &api, "left").await;
    let back = pivoted(&edge, &api, &good).await;
    sandbox.act(BANNED_LATE).await;
    api.cancel(&back).await.unwrap();
    edge.act(|script| script.frozen = false);
    went_nowhere(&edge, &api, &back, &left).await;
    unban(&api, &left).await.unwrap();
    api.lift("production").await.unwrap();
    live(&sandbox, &api, "next").await;
    let again = api.roll_back("production").await.unwrap().into_inner();
    assert_eq!(again.to.unwrap().id, left);
}

/// A rollback that waits before its pivot for an edge that has forgotten what is not live; what it preempted
/// is left to it.
async fn stuck(sandbox: &Sandbox, edge: &Edge, api: &Api, to: &str) -> String {
    edge.act(|script| script.stages_nothing = true);
    sandbox.act("DELETE FROM edge_release").await;
    let id = back_to(api, to, "").await.unwrap().deployment.unwrap().id;
    let waits = api.wait_in(&id, pb::step::Kind::Stage).await;
    assert_eq!(waits.pivoted_at, None);
    id
}

/// Its undo went past a banned release to this one, which is live.
async fn inherited(edge: &Edge, api: &Api, id: &str, state: State, to: &str) {
    edge.act(|script| script.stages_nothing = false);
    let ended = api.wait_for(id, &[state]).await;
    assert_eq!(ended.previous_release_id, to, "{}", ended.message);
    edge.wait_until_it_serves(HOST, to).await;
    assert_eq!(api.environment("production").await.live_release_id, to);
}

#[tokio::test]
async fn what_a_rollback_takes_back_goes_past_what_was_banned_meanwhile() {
    let (sandbox, _orchestrator, edge, api) = patient().await;
    let one = live(&sandbox, &api, "one").await;
    let two = live(&sandbox, &api, "two").await;
    let (banned, _preempted) = over(&sandbox, &api).await;
    let back = stuck(&sandbox, &edge, &api, &one).await;
    api.ban(&banned).await.unwrap();
    api.cancel(&back).await.unwrap();
    inherited(&edge, &api, &back, State::Cancelled, &two).await;
}

#[tokio::test]
async fn what_a_rollback_takes_back_does_not_go_to_what_no_edge_could_stage() {
    let (sandbox, _orchestrator, edge, api) = patient().await;
    let one = live(&sandbox, &api, "one").await;
    let two = live(&sandbox, &api, "two").await;
    let (banned, _preempted) = over(&sandbox, &api).await;
    let back = stuck(&sandbox, &edge, &api, &two).await;
    api.ban(&banned).await.unwrap();
    edge.tell(WatchRoutesRequest {
        staged: vec![StagedRelease {
            release_id: two,
            staged: false,
            error: "/a.css is corrupt".to_owned(),
            ..StagedRelease::default()
        }],
        ..WatchRoutesRequest::default()
    });
    let undone = |one: &pb::Deployment| matches!(one.state(), State::Cancelling | State::Failed);
    api.wait_until(&back, "its undo", undone).await;
    inherited(&edge, &api, &back, State::Failed, &one).await;
}

#[tokio::test]
async fn a_ban_of_which_no_lane_was_told_ends_what_waits_all_the_same() {
    let (sandbox, orchestrator, _edge, api) = started().await;
    let release = sandbox.release(&api, "one").await;
    api.hold("production").await.unwrap();
    let id = api.deploy("production", &release).await;
    orchestrator.kill().await;
    // What the commit of a ban writes, and then its process is gone.
    sandbox.act(UNTOLD).await;
    let orchestrator = sandbox.start().await;
    let api = sandbox.api(orchestrator.running.address);
    api.wait_for(&id, &[State::Cancelled]).await;
}

#[tokio::test]
async fn a_ban_among_many_creations_leaves_nothing_that_waits() {
    let (sandbox, _orchestrator, _edge, api) = started().await;
    let release = sandbox.release(&api, "one").await;
    let creating = join_all((0..12).map(|_| api.create("production", &release, None)));
    let (made, banned) = tokio::join!(creating, api.ban(&release));
    banned.unwrap();
    for one in made {
        if let Err(status) = one {
            assert_eq!(reason(&status), "release-banned");
        }
    }
    let open = "SELECT count(*) FROM deployment WHERE finished_at IS NULL";
    poll_until(SOON, "everything to end", async || {
        match sandbox.number(open).await {
            0 => Ok(()),
            some => Err(some),
        }
    })
    .await;
    let odd = "SELECT count(*) FROM deployment WHERE state <> 'succeeded'
               AND message NOT LIKE 'its release was banned meanwhile by erin%'";
    assert_eq!(sandbox.number(odd).await, 0);
    is_refused(api.create("production", &release, None).await);
}
