//! Deadlines, leases, claims and waits of steps.

use std::time::Duration;

use candlefish_proto::deploy::{self as pb, deployment::State, record::Kind};
use candlefish_testkit::{poll_until, wait_until};

use crate::{
    api::{Api, baking, blockers, canary, millis, policy, reason},
    edge::Edge,
    history,
    restored::own_address,
    sandbox::{Orchestrator, SOON, Sandbox},
};

async fn started(policy: pb::Policy) -> (Sandbox, Orchestrator, Edge, Api) {
    let started = Sandbox::started().await;
    started.3.create_environment("production", policy).await;
    started
}

pub(crate) fn settling() -> pb::Policy {
    pb::Policy {
        settle: Some(millis(600_000)),
        ..policy()
    }
}

/// The deadline of whatever acts has passed while it was worked on.
const LATE: &str = "UPDATE deployment SET deadline_at = clock() WHERE deadline_at IS NOT NULL AND finished_at IS NULL";

/// As a worker that was lost leaves it: claimed, with a lease that ran out.
pub(crate) fn lost(kind: &str, times: i32) -> String {
    format!(
        "UPDATE step SET state = 'running', run_at = clock(), owner = 'gone',
             claim = nextval('claim_seq'), lease_until = clock() - interval '1 second',
             lost_leases = {times}
         WHERE kind = '{kind}' AND state IN ('ready', 'running')"
    )
}

#[tokio::test]
async fn a_deadline_that_passes_sends_traffic_back_and_blames_nobody() {
    let (sandbox, _orchestrator, edge, api) = started(policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let new = sandbox.release(&api, "new").await;
    let made = api.create("production", &new, Some(canary())).await;
    let id = made.unwrap().into_inner().id;
    api.wait_in(&id, pb::step::Kind::Analyse).await;
    sandbox.act(LATE).await;
    let ended = api.wait_for(&id, &[State::RolledBack]).await;
    assert_eq!(ended.cause, "deadline");
    edge.wait_until_it_serves("docs.localhost", &old).await;
    went_back(&api, &id, &old, ("system", "its deadline passed")).await;
    // Not rejected: it may come again.
    api.create("production", &new, None).await.unwrap();
}

/// The history of production names one way back: of this deployment, to this release, and why.
async fn went_back(api: &Api, deployment: &str, release: &str, why: (&str, &str)) {
    is_told_once(api, Kind::Rollback, (deployment, release), why).await;
    assert_eq!(history::of_kind(api, "production", Kind::Fail).await, []);
}

/// The history of production names one failure: of this deployment, and why; and no way back.
async fn failed(api: &Api, deployment: &pb::Deployment, why: (&str, &str)) {
    let of = (&*deployment.id, &*deployment.release_id);
    is_told_once(api, Kind::Fail, of, why).await;
    let returned = history::of_kind(api, "production", Kind::Rollback).await;
    assert_eq!(returned, []);
}

async fn is_told_once(
    api: &Api,
    kind: Kind,
    (deployment, release): (&str, &str),
    (by, reason): (&str, &str),
) {
    let records = history::of_kind(api, "production", kind).await;
    let told: Vec<_> = records
        .iter()
        .map(|one| {
            [
                &*one.deployment_id,
                &*one.release_id,
                &*one.by,
                &*one.reason,
            ]
        })
        .collect();
    assert_eq!(told, [[deployment, release, by, reason]]);
}

#[tokio::test]
async fn a_deadline_that_passes_before_the_pivot_moves_nothing() {
    let (sandbox, _orchestrator, edge, api) = started(policy()).await;
    edge.act(|script| script.frozen = true);
    let release = sandbox.release(&api, "one").await;
    let id = api.deploy("production", &release).await;
    api.wait_in(&id, pb::step::Kind::Stage).await;
    sandbox.act(LATE).await;
    api.wait_for(&id, &[State::Cancelling]).await;
    edge.act(|script| script.frozen = false);
    let ended = api.wait_for(&id, &[State::Failed]).await;
    assert_eq!((&*ended.cause, ended.pivoted_at), ("deadline", None));
    assert!(edge.serves("docs.localhost").is_empty());
    failed(&api, &ended, ("system", "its deadline passed")).await;
}

#[tokio::test]
async fn time_in_which_nobody_worked_does_not_eat_the_deadline() {
    let (sandbox, orchestrator, edge, api) = started(policy()).await;
    let release = sandbox.release(&api, "one").await;
    let made = api.create("production", &release, Some(baking())).await;
    let id = made.unwrap().into_inner().id;
    let before = api.wait_in(&id, pb::step::Kind::Bake).await;
    // The power is gone for half a day: long past the end of the bake and the deadline.
    orchestrator.kill().await;
    sandbox.database.advance(Duration::from_hours(12)).await;
    let orchestrator = sandbox.start().await;
    edge.turn_to(orchestrator.running.address);
    let api = sandbox.api(orchestrator.running.address);
    let ended = api.wait_for(&id, &[State::Succeeded]).await;
    edge.wait_until_it_serves("docs.localhost", &release).await;
    assert!(ended.started_at == before.started_at && ended.cause.is_empty());
    let logged = api.logged(&id).await;
    assert!(
        logged
            .iter()
            .any(|line| line.starts_with("nobody worked on it for 39")),
        "{logged:?}"
    );
}

#[tokio::test]
async fn a_worker_that_was_frozen_with_its_claim_eats_no_deadline() {
    // Its heartbeat comes before the outcome, and after it.
    for lease in ["300", "30000"] {
        let (sandbox, _orchestrator, edge, api) =
            Sandbox::started_with(&[("CANDLEFISH_LEASE_MS", lease)]).await;
        api.create_environment("production", policy()).await;
        let release = sandbox.release(&api, "one").await;
        edge.act(|script| script.slow = Duration::from_millis(600));
        let made = api.create("production", &release, Some(baking())).await;
        let id = made.unwrap().into_inner().id;
        wait_until(SOON, "a page to be asked for", async || edge.pages().0 > 0).await;
        // Only the clock of the database goes on, as for who was frozen.
        sandbox.database.advance(Duration::from_hours(12)).await;
        edge.act(|script| script.slow = Duration::ZERO);
        api.wait_in(&id, pb::step::Kind::Bake).await;
        sandbox.database.advance(Duration::from_mins(61)).await;
        api.wait_for(&id, &[State::Succeeded]).await;
    }
}

#[tokio::test]
async fn a_step_whose_turns_all_fail_is_ended_by_its_deadline() {
    let (sandbox, _orchestrator, _edge, api) =
        Sandbox::started_with(&[("CANDLEFISH_LEASE_MS", "100")]).await;
    api.create_environment("production", policy()).await;
    let release = sandbox.release(&api, "one").await;
    // As no step should be able to.
    sandbox
        .act(
            "CREATE FUNCTION deny() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE EXCEPTION 'no turn of it ends'; END $$;
             CREATE TRIGGER deny BEFORE UPDATE ON step FOR EACH ROW
                 WHEN (NEW.kind = 'stage' AND NEW.state IN ('done', 'ready') AND OLD.state = 'ready')
                 EXECUTE FUNCTION deny()",
        )
        .await;
    let id = api.deploy("production", &release).await;
    let granted = |one: &pb::Deployment| one.deadline_at.is_some();
    api.wait_until(&id, "the lane", granted).await;
    sandbox.database.advance(Duration::from_hours(12)).await;
    let ended = api.wait_for(&id, &[State::Failed]).await;
    assert_eq!(ended.cause, "deadline");
}

#[tokio::test]
async fn one_that_cannot_be_read_keeps_no_other_from_its_deadline() {
    let (sandbox, _orchestrator, _edge, api) = started(settling()).await;
    let release = sandbox.release(&api, "one").await;
    let mut ids = Vec::new();
    for environment in ["broken", "whole"] {
        api.create_environment(environment, settling()).await;
        let id = api.deploy(environment, &release).await;
        api.wait_in(&id, pb::step::Kind::VerifyCandidate).await;
        ids.push(id);
    }
    // As no command could have left it.
    sandbox
        .act(
            "UPDATE deployment SET strategy = '[]', deadline_at = clock() - interval '1 hour'
             WHERE environment_id = (SELECT id FROM environment WHERE slug = 'broken');
             UPDATE deployment SET deadline_at = clock() - interval '1 minute'
             WHERE environment_id = (SELECT id FROM environment WHERE slug = 'whole')",
        )
        .await;
    api.wait_for(&ids[1], &[State::Failed]).await;
}

#[tokio::test]
async fn however_many_cannot_be_read_no_other_is_kept_from_its_deadline() {
    let (sandbox, _orchestrator, _edge, api) = started(settling()).await;
    let release = sandbox.release(&api, "one").await;
    let whole = api.deploy("production", &release).await;
    api.wait_in(&whole, pb::step::Kind::VerifyCandidate).await;
    // As no command could have left them, more than are looked at together.
    sandbox
        .act(
            "INSERT INTO environment (id, site_id, slug, kind, policy, created_at, created_by)
                 SELECT gen_random_uuid(), id, 'broken-' || n, 'standard', '{}', clock(), 'erin'
                 FROM site, generate_series(1, 120) n;
             INSERT INTO lane (environment_id)
                 SELECT id FROM environment WHERE slug LIKE 'broken-%';
             INSERT INTO deployment (id, site_id, environment_id, release_id, kind, strategy,
                     policy, state, created_at, created_by, started_at, deadline_at, trace_id,
                     span_id)
                 SELECT gen_random_uuid(), e.site_id, e.id, r.id, 'standard', '[]', '{}', 'running',
                        clock(), 'erin', clock(), clock() - interval '1 hour', '', ''
                 FROM environment e, release r WHERE e.slug LIKE 'broken-%';
             UPDATE deployment SET deadline_at = clock() - interval '1 minute'
                 WHERE strategy <> '[]'",
        )
        .await;
    api.wait_for(&whole, &[State::Failed]).await;
}

/// Watches 10 %, then 50 %, a tenth of a second each, and waits without evidence.
pub(crate) fn doubtful() -> (pb::Policy, pb::Strategy) {
    let policy = pb::Policy {
        on_no_evidence: pb::policy::OnNoEvidence::Wait.into(),
        ..policy()
    };
    let canary = pb::Strategy {
        kind: Some(pb::strategy::Kind::Canary(pb::Canary {
            weights: vec![10, 50],
            interval: Some(millis(1000)),
            bake: None,
        })),
    };
    (policy, canary)
}

async fn stuck_without_evidence(sandbox: &Sandbox, api: &Api) -> pb::Deployment {
    let (_, canary) = doubtful();
    let old = sandbox.release(api, "old").await;
    api.deploy_whole("production", &old).await;
    let new = sandbox.release(api, "new").await;
    let made = api.create("production", &new, Some(canary)).await;
    let id = made.unwrap().into_inner().id;
    let waits = |one: &pb::Deployment| {
        blockers(one) == [pb::blocker::Kind::Evidence] && one.deadline_at.is_none()
    };
    api.wait_until(&id, "a wait for evidence, the deadline stopped", waits)
        .await
}

#[tokio::test]
async fn a_wait_for_a_person_stops_the_clock_of_the_deadline() {
    let (sandbox, _orchestrator, _edge, api) = started(doubtful().0).await;
    let stuck = stuck_without_evidence(&sandbox, &api).await;
    sandbox.database.advance(Duration::from_hours(3)).await;
    let step = stuck
        .steps
        .iter()
        .find(|step| step.kind() == pb::step::Kind::Analyse);
    let step = step.unwrap().ord;
    let other = api.advance(&stuck.id, step + 1).await.unwrap_err();
    assert_eq!(reason(&other), "step-passed");
    let passed = api.advance(&stuck.id, step).await.unwrap().into_inner();
    assert!(passed.deadline_at.is_some());
    // The next share has no evidence either.
    let waits = |one: &pb::Deployment| {
        let next = one
            .steps
            .iter()
            .find(|other| other.ord > step && other.kind() == pb::step::Kind::Analyse);
        blockers(one) == [pb::blocker::Kind::Evidence]
            && next.is_some_and(|step| step.started_at.is_some())
    };
    let stuck = api.wait_until(&stuck.id, "the next wait", waits).await;
    api.advance(&stuck.id, step + 2).await.unwrap();
    api.wait_for(&stuck.id, &[State::Succeeded]).await;
}

#[tokio::test]
async fn evidence_that_comes_by_itself_starts_the_clock_of_the_deadline_again() {
    let (sandbox, _orchestrator, _edge, api) = started(doubtful().0).await;
    let stuck = stuck_without_evidence(&sandbox, &api).await;
    // As the edge's samples say it, again and again.
    let samples = "
        INSERT INTO traffic AS t (host, release_id, edge_id, boot, seq, requests, server_errors,
            lost_paths, client_errors, latency, at)
        SELECT 'docs.localhost', id, 'edge-1', 'b', 1, 100, 0, 0, 0, '{}', clock() FROM release
        ON CONFLICT (host, release_id, edge_id, boot) DO UPDATE
        SET requests = t.requests + 100, seq = t.seq + 1, at = clock()";
    let second_share = |one: &pb::Deployment| {
        let shares = one
            .steps
            .iter()
            .filter(|step| step.kind() == pb::step::Kind::Analyse);
        shares.filter(|step| step.started_at.is_some()).count() == 2
    };
    let passed = poll_until(SOON, "the second share", async || {
        sandbox.act(samples).await;
        let one = api.deployment(&stuck.id).await;
        if second_share(&one) {
            Ok(one)
        } else {
            Err(crate::api::shown(&one))
        }
    })
    .await;
    assert!(passed.deadline_at.is_some());
}

#[tokio::test]
async fn empty_intervals_repeat_until_the_policy_decides_whatever_the_deadline() {
    // Each interval is twice as long as the deadline.
    let (sandbox, _orchestrator, edge, api) = started(policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let new = sandbox.release(&api, "new").await;
    let made = api.create("production", &new, Some(canary())).await;
    let id = made.unwrap().into_inner().id;
    api.wait_in(&id, pb::step::Kind::Analyse).await;
    let mut until = Vec::new();
    for _interval in 0..2 {
        let polls = "SELECT polls::bigint FROM step WHERE kind = 'analyse'";
        let before = sandbox.number(polls).await;
        sandbox.database.advance(Duration::from_mins(61)).await;
        wait_until(SOON, "the next interval", async || {
            sandbox.number(polls).await > before
        })
        .await;
        let blocker = api.deployment(&id).await.blockers.remove(0);
        assert_eq!(blocker.kind(), pb::blocker::Kind::Timer);
        until.push(blocker.until.unwrap().seconds);
    }
    assert!(until[1] > until[0] + 3000, "{until:?}");
    sandbox.database.advance(Duration::from_mins(61)).await;
    let done = api.wait_for(&id, &[State::Succeeded]).await;
    let mut steps = done.steps.iter();
    let analyse = steps.find(|step| step.kind() == pb::step::Kind::Analyse);
    let said = &analyse.unwrap().message;
    // It says when those fetches were: nothing was fetched since.
    let verified: String = sqlx::query_scalar(
        "SELECT to_char(s.finished_at AT TIME ZONE 'UTC', 'HH24:MI') FROM step s
         JOIN deployment d ON d.id = s.deployment_id
         WHERE s.kind = 'verify_candidate' AND d.previous_release_id IS NOT NULL",
    )
    .fetch_one(&sandbox.pool)
    .await
    .unwrap();
    let words = format!("goes on by the verification of {verified} UTC (synthetic)");
    assert!(said.ends_with(&words), "{said}: {words}");
    edge.wait_until_it_serves("docs.localhost", &new).await;
}

#[tokio::test]
async fn a_lost_worker_costs_no_attempt() {
    let (sandbox, _orchestrator, _edge, api) = started(settling()).await;
    let release = sandbox.release(&api, "one").await;
    let id = api.deploy("production", &release).await;
    api.wait_in(&id, pb::step::Kind::VerifyCandidate).await;
    sandbox.act(&lost("verify_candidate", 0)).await;
    let done = api.wait_for(&id, &[State::Succeeded]).await;
    let step = done
        .steps
        .iter()
        .find(|step| step.kind() == pb::step::Kind::VerifyCandidate);
    let step = step.unwrap();
    assert_eq!((step.lost_leases, step.attempts), (1, 0));
}

/// A page never comes: who fetches it is busy, for longer than a test takes.
const NEVER: Duration = Duration::from_hours(1);
const PATIENT: [(&str, &str); 2] = [
    ("CANDLEFISH_FETCH_TIMEOUT_MS", "3600000"),
    // A third of it is the most that a fetch takes.
    ("CANDLEFISH_LEASE_MS", "240000"),
];

/// The steps of an environment's deployments that somebody has who is not gone.
fn claimed_in(environment: &str) -> String {
    format!(
        "SELECT count(*) FROM step s JOIN deployment d ON d.id = s.deployment_id
         JOIN environment e ON e.id = d.environment_id
         WHERE e.slug = '{environment}' AND s.state = 'running' AND s.owner <> 'gone'"
    )
}

/// The verification of production's candidate has lost two workers, and is due.
async fn lost_twice(sandbox: &Sandbox) {
    let suspect = "deployment_id = (
                       SELECT d.id FROM deployment d JOIN environment e ON e.id = d.environment_id
                       WHERE e.slug = 'production')";
    sandbox
        .act(&format!("{} AND {suspect}", lost("verify_candidate", 2)))
        .await;
}

#[tokio::test]
async fn beside_a_step_that_lost_workers_nothing_is_claimed_but_a_way_back() {
    let (sandbox, _orchestrator, edge, api) = Sandbox::started_with(&PATIENT).await;
    api.create_environment("staging", policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("staging", &old).await;
    let new = sandbox.release(&api, "new").await;
    api.deploy_whole("staging", &new).await;
    api.create_environment("production", settling()).await;
    let suspect = api.deploy("production", &new).await;
    api.wait_in(&suspect, pb::step::Kind::VerifyCandidate).await;
    edge.act(|script| script.slow = NEVER);
    lost_twice(&sandbox).await;
    let taken = claimed_in("production");
    wait_until(SOON, "the idle worker to take it", async || {
        sandbox.number(&taken).await == 1
    })
    .await;
    api.create_environment("fresh", policy()).await;
    let fresh = api.deploy("fresh", &new).await;
    edge.wait_until_it_serves(&own_address(&fresh), &new).await;
    // What comes after it is claimed: a look has passed it over.
    api.roll_back("staging").await.unwrap();
    let back = claimed_in("staging");
    wait_until(SOON, "the way back to be claimed", async || {
        sandbox.number(&back).await == 1
    })
    .await;
    assert_eq!(sandbox.number(&claimed_in("fresh")).await, 0);
    assert_eq!(sandbox.number(&taken).await, 1);
}

#[tokio::test]
async fn a_step_that_lost_workers_does_not_starve_where_no_worker_is_ever_idle() {
    let (sandbox, _orchestrator, edge, api) = Sandbox::started_with(&PATIENT).await;
    api.create_environment("production", settling()).await;
    let release = sandbox.release(&api, "one").await;
    let id = api.deploy("production", &release).await;
    api.wait_in(&id, pb::step::Kind::VerifyCandidate).await;
    edge.act(|script| script.slow = NEVER);
    let claimed = async |environment: &str| {
        api.create_environment(environment, policy()).await;
        let other = api.deploy(environment, &release).await;
        let runs = |one: &pb::Deployment| {
            let mut steps = one.steps.iter();
            steps.any(|step| step.state() == pb::step::State::Running)
        };
        api.wait_until(&other, "a claimed step", runs).await;
    };
    claimed("busy").await;
    lost_twice(&sandbox).await;
    // It is left to an idle worker at first: fresh ones go before it.
    claimed("fresh").await;
    let taken = "SELECT count(*) FROM step s JOIN deployment d ON d.id = s.deployment_id
                 JOIN environment e ON e.id = d.environment_id
                 WHERE e.slug = 'production' AND s.kind = 'verify_candidate'
                   AND s.owner <> 'gone'";
    assert_eq!(sandbox.number(taken).await, 0);
    // Four leases.
    sandbox.database.advance(Duration::from_mins(17)).await;
    wait_until(SOON, "the busy worker to take it", async || {
        sandbox.number(taken).await == 1
    })
    .await;
}

async fn quarantined(sandbox: &Sandbox, api: &Api) -> (String, String) {
    let release = sandbox.release(api, "one").await;
    let id = api.deploy("production", &release).await;
    api.wait_in(&id, pb::step::Kind::VerifyCandidate).await;
    sandbox.act(&lost("verify_candidate", 6)).await;
    let item = kept(api, &id).await;
    assert_eq!(item.summary, "verify_candidate of docs/production");
    (id, item.id)
}

/// Waits until a step of a deployment is kept from workers; answers what waits for a person.
async fn kept(api: &Api, id: &str) -> pb::QueueItem {
    let waits = |one: &pb::Deployment| {
        one.state() == State::Waiting
            && one.deadline_at.is_none()
            && blockers(one) == [pb::blocker::Kind::Quarantine]
    };
    api.wait_until(id, "quarantine", waits).await;
    let request = api.request(pb::ListQueueItemsRequest::default());
    let listed = api.queues().list_queue_items(request).await.unwrap();
    let item = listed.into_inner().items.remove(0);
    assert_eq!(item.deployment_id, id);
    item
}

/// A step is due, and a newer binary wrote it: nobody here touches it, until it is one of ours again.
async fn is_left(newer: &str, ours: &str) {
    let (sandbox, _orchestrator, _edge, api) = started(settling()).await;
    api.create_environment("staging", policy()).await;
    let release = sandbox.release(&api, "one").await;
    let id = api.deploy("production", &release).await;
    api.wait_in(&id, pb::step::Kind::VerifyCandidate).await;
    // As a newer worker that was lost leaves it; what one of ours has in hand ends with its claim.
    sandbox
        .act(&format!(
            "UPDATE step SET state = 'running', run_at = clock(), owner = 'newer',
                 claim = nextval('claim_seq'), lease_until = clock() - interval '1 second',
                 {newer}
             WHERE kind = 'verify_candidate' AND state IN ('ready', 'running')"
        ))
        .await;
    // The workers have looked at what is due, more than once, when another lane is through.
    api.deploy_whole("staging", &release).await;
    let left =
        "SELECT count(*) FROM step WHERE owner = 'newer' AND state = 'running' AND lost_leases = 0";
    assert_eq!(sandbox.number(left).await, 1);
    assert!(api.deployment(&id).await.finished_at.is_none());
    let back = format!("UPDATE step SET {ours} WHERE owner = 'newer'");
    sandbox.act(&back).await;
    wait_until(SOON, "a worker to take it", async || {
        sandbox.number(left).await == 0
    })
    .await;
}

#[tokio::test]
async fn a_step_of_a_newer_plan_is_left_to_newer_workers() {
    is_left("plan_version = 99", "plan_version = 1").await;
}

#[tokio::test]
async fn a_step_of_an_unknown_kind_is_left_to_newer_workers() {
    is_left("kind = 'teleport'", "kind = 'verify_candidate'").await;
}

#[tokio::test]
async fn a_step_that_loses_too_many_workers_is_kept_from_them() {
    let (sandbox, _orchestrator, _edge, api) = started(settling()).await;
    let (id, item) = quarantined(&sandbox, &api).await;
    let request = api.request(pb::ReplayQueueItemRequest {
        id: item.clone(),
        reason: "the node was bad".to_owned(),
    });
    api.queues().replay_queue_item(request).await.unwrap();
    let done = api.wait_for(&id, &[State::Succeeded]).await;
    assert!(done.blockers.is_empty());
    let request = api.request(pb::ReplayQueueItemRequest {
        id: item,
        reason: "again".to_owned(),
    });
    let refused = api.queues().replay_queue_item(request).await.unwrap_err();
    assert_eq!(reason(&refused), "queue-item-unknown");
}

#[tokio::test]
async fn a_quarantined_step_that_is_given_up_fails_its_deployment() {
    let (sandbox, _orchestrator, _edge, api) = started(settling()).await;
    let (id, item) = quarantined(&sandbox, &api).await;
    let stranger = api.seeing(&["partners"]);
    let message = pb::DiscardQueueItemRequest {
        id: item,
        reason: "hopeless".to_owned(),
    };
    let unseen = stranger.queues();
    let request = stranger.request(message.clone());
    let refused = { unseen }.discard_queue_item(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound);
    let request = api.request(message);
    api.queues().discard_queue_item(request).await.unwrap();
    let ended = api.wait_for(&id, &[State::Failed]).await;
    assert_eq!(ended.cause, "discarded");
    let why = ("erin", "erin gives up verify_candidate: hopeless");
    failed(&api, &ended, why).await;
}

#[tokio::test]
async fn a_step_given_up_past_the_pivot_sends_traffic_back_in_the_name_of_who_gave_it_up() {
    let (sandbox, _orchestrator, edge, api) = started(policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let new = sandbox.release(&api, "new").await;
    let made = api.create("production", &new, Some(canary())).await;
    let id = made.unwrap().into_inner().id;
    api.wait_in(&id, pb::step::Kind::Analyse).await;
    sandbox.act(&lost("analyse", 6)).await;
    let request = api.request(pb::DiscardQueueItemRequest {
        id: kept(&api, &id).await.id,
        reason: "hopeless".to_owned(),
    });
    api.queues().discard_queue_item(request).await.unwrap();
    let ended = api.wait_for(&id, &[State::RolledBack]).await;
    assert_eq!(ended.cause, "discarded");
    edge.wait_until_it_serves("docs.localhost", &old).await;
    let told = ("erin", "erin gives up analyse: hopeless");
    went_back(&api, &id, &old, told).await;
}

#[tokio::test]
async fn an_outcome_without_its_claim_is_not_recorded() {
    let (sandbox, _orchestrator, edge, api) = started(policy()).await;
    let release = sandbox.release(&api, "one").await;
    edge.act(|script| script.slow = Duration::from_millis(700));
    let id = api.deploy("production", &release).await;
    wait_until(SOON, "a page to be asked for", async || edge.pages().0 > 0).await;
    // Another worker has it now, and does not end.
    sandbox
        .act(
            "UPDATE step SET claim = nextval('claim_seq'), owner = 'another',
                 lease_until = clock() + interval '1 hour'
             WHERE state = 'running'",
        )
        .await;
    wait_until(SOON, "the pages to be answered", async || {
        let (asked, answered) = edge.pages();
        asked == answered
    })
    .await;
    edge.act(|script| script.slow = Duration::ZERO);
    // A whole deployment elsewhere: by then the outcome would have been recorded.
    api.create_environment("staging", policy()).await;
    api.deploy_whole("staging", &release).await;
    let theirs = "SELECT count(*) FROM step WHERE state = 'running' AND owner = 'another'";
    assert_eq!(sandbox.number(theirs).await, 1);
    sandbox
        .act("UPDATE step SET lease_until = clock() - interval '1 second' WHERE owner = 'another'")
        .await;
    api.wait_for(&id, &[State::Succeeded]).await;
}

#[tokio::test]
async fn an_outcome_under_an_old_fence_is_not_recorded() {
    let (sandbox, _orchestrator, edge, api) = started(policy()).await;
    let release = sandbox.release(&api, "one").await;
    edge.act(|script| script.slow = Duration::from_millis(700));
    let id = api.deploy("production", &release).await;
    wait_until(SOON, "a page to be asked for", async || edge.pages().0 > 0).await;
    let claimed = api.lane("production").await.fence;
    api.cancel(&id).await.unwrap();
    assert!(api.lane("production").await.fence > claimed);
    wait_until(SOON, "the pages to be answered", async || {
        let (asked, answered) = edge.pages();
        asked == answered
    })
    .await;
    edge.act(|script| script.slow = Duration::ZERO);
    let ended = api.wait_for(&id, &[State::Cancelled]).await;
    api.create_environment("staging", policy()).await;
    api.deploy_whole("staging", &release).await;
    let after = api.deployment(&id).await;
    assert_eq!(after, ended);
    let verify = after
        .steps
        .iter()
        .find(|step| step.kind() == pb::step::Kind::VerifyCandidate);
    assert_eq!(verify.unwrap().state(), pb::step::State::Abandoned);
    assert!(edge.serves("docs.localhost").is_empty());
}

#[tokio::test]
async fn a_claim_is_given_back_at_a_graceful_stop() {
    let (sandbox, orchestrator, edge, api) = started(policy()).await;
    let release = sandbox.release(&api, "one").await;
    edge.act(|script| script.slow = Duration::from_secs(1));
    let id = api.deploy("production", &release).await;
    wait_until(SOON, "a page to be asked for", async || edge.pages().0 > 0).await;
    assert!(orchestrator.stop().await);
    let given = "SELECT count(*) FROM step WHERE state = 'ready' AND kind = 'verify_candidate'
                 AND lost_leases = 0";
    assert_eq!(sandbox.number(given).await, 1);
    edge.act(|script| script.slow = Duration::ZERO);
    let next = sandbox.start().await;
    edge.turn_to(next.running.address);
    let api = sandbox.api(next.running.address);
    api.wait_for(&id, &[State::Succeeded]).await;
}

#[tokio::test]
async fn what_a_killed_worker_had_goes_on_when_its_lease_runs_out() {
    let short = [("CANDLEFISH_LEASE_MS", "1000")];
    let (sandbox, orchestrator, edge, api) = Sandbox::started_with(&short).await;
    api.create_environment("production", policy()).await;
    let release = sandbox.release(&api, "one").await;
    edge.act(|script| script.slow = Duration::from_secs(30));
    let id = api.deploy("production", &release).await;
    wait_until(SOON, "a page to be asked for", async || edge.pages().0 > 0).await;
    orchestrator.kill().await;
    edge.act(|script| script.slow = Duration::ZERO);
    let next = sandbox.start().await;
    edge.turn_to(next.running.address);
    let api = sandbox.api(next.running.address);
    let done = api.wait_for(&id, &[State::Succeeded]).await;
    let verify = done
        .steps
        .iter()
        .find(|step| step.kind() == pb::step::Kind::VerifyCandidate);
    assert_eq!(verify.unwrap().lost_leases, 1);
    let url = format!("http://{}/metrics", next.running.ops_address);
    let said = reqwest::get(url).await.unwrap().text().await.unwrap();
    // A busy machine may lose another one, of a second.
    let lost: i32 = done.steps.iter().map(|step| step.lost_leases).sum();
    let counted = format!("lease_losses_total{{lease=\"step\"}} {lost}");
    assert!(said.lines().any(|line| line == counted), "{said}");
}

#[tokio::test]
async fn a_verification_without_edges_waits_for_them() {
    let (sandbox, _orchestrator, edge, api) = started(settling()).await;
    let release = sandbox.release(&api, "one").await;
    let id = api.deploy("production", &release).await;
    api.wait_in(&id, pb::step::Kind::VerifyCandidate).await;
    edge.act(|script| script.silent = true);
    sandbox.database.advance(Duration::from_mins(10)).await;
    let waits = |one: &pb::Deployment| blockers(one) == [pb::blocker::Kind::Edge];
    let waiting = api.wait_until(&id, "a wait for edges", waits).await;
    let verify = |one: &pb::Deployment| {
        let mut steps = one.steps.clone().into_iter();
        steps
            .find(|step| step.kind() == pb::step::Kind::VerifyCandidate)
            .unwrap()
    };
    assert_eq!(verify(&waiting).attempts, 0);
    edge.act(|script| script.silent = false);
    api.wait_for(&id, &[State::Succeeded]).await;
}

#[tokio::test]
async fn a_bake_ends_by_itself_when_its_time_is_over() {
    let (sandbox, _orchestrator, _edge, api) = started(policy()).await;
    let release = sandbox.release(&api, "one").await;
    let made = api.create("production", &release, Some(baking())).await;
    let id = made.unwrap().into_inner().id;
    let waits = api.wait_in(&id, pb::step::Kind::Bake).await;
    assert_eq!(blockers(&waits), [pb::blocker::Kind::Timer]);
    sandbox.database.advance(Duration::from_mins(61)).await;
    api.wait_for(&id, &[State::Succeeded]).await;
}
