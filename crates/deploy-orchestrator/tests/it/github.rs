//! What is asked of GitHub, and what comes of it; GitHub is a fake that keeps to GitHub's own
//! description.

use std::time::Duration;

use candlefish_proto::deploy::{self as pb, Deployment, deployment::State};
use candlefish_testkit::{
    github::{Example, Fake, Fault, Push},
    poll_until, wait_until,
};

use crate::{
    api::{Api, policy},
    edge::Edge,
    gateway::Gateway,
    sandbox::{Orchestrator, SITE, SOON, Sandbox},
    stage::{self, NONE, REPOSITORY},
};

const SWEEP: (&str, &str) = ("CANDLEFISH_GITHUB_SWEEP_MS", "100");
/// What is said of a delivery whose push a look decided.
const FOUND: &str = "Candlefish had already found this push at GitHub";

/// The site of [`REPOSITORY`] with `production` on `main`, and GitHub.
struct Stage {
    github: Fake,
    sandbox: Sandbox,
    gateway: Gateway,
    orchestrator: Orchestrator,
    edge: Edge,
    api: Api,
}

impl Stage {
    async fn new() -> Self {
        Self::with(pb::policy::Order::Latest, &[]).await
    }

    async fn with(order: pb::policy::Order, settings: &[(&'static str, &str)]) -> Self {
        let mut all = vec![SWEEP];
        all.extend_from_slice(settings);
        let (github, stage) = stage::Stage::asking(&all).await;
        Self::of(github, stage, order).await
    }

    async fn of(github: Fake, stage: stage::Stage, order: pb::policy::Order) -> Self {
        stage::site(&stage.api, SITE, REPOSITORY).await;
        let policy = pb::Policy {
            order: order.into(),
            ..policy()
        };
        let (api, paths) = (&stage.api, &["docs/"]);
        stage::environment(api, SITE, "production", "main", paths, policy).await;
        let stage::Stage {
            sandbox,
            gateway,
            orchestrator,
            edge,
            api,
        } = stage;
        Self {
            github,
            sandbox,
            gateway,
            orchestrator,
            edge,
            api,
        }
    }

    /// GitHub has these commits, each on top of the one before, all of which change the documents.
    fn line(&self, numbers: std::ops::RangeInclusive<usize>) {
        for number in numbers {
            let before = commit(number - 1);
            let parents: &[&str] = if number == 1 { &[] } else { &[&before] };
            self.github
                .commit(REPOSITORY, &commit(number), parents, &["docs/a.md"]);
        }
    }

    async fn uploads(&self, number: usize) {
        let words = number.to_string();
        let content = self.sandbox.put_content(&[("index.html", &words)]).await;
        let draft = self.api.create_release(content, &commit(number), &[]).await;
        self.api.seal(&draft).await;
    }

    /// The deployment of a commit that its trigger made.
    async fn made(&self, number: usize) -> Deployment {
        let commit = commit(number);
        let id = poll_until(SOON, "a push to be decided", async || {
            let found: Option<uuid::Uuid> = sqlx::query_scalar(
                "SELECT deployment_id FROM trigger WHERE commit = $1 AND outcome = 'created'",
            )
            .bind(&commit)
            .fetch_optional(&self.sandbox.pool)
            .await
            .unwrap();
            found.ok_or(())
        })
        .await;
        let id = candlefish_ids::DeploymentId::from_uuid(id).to_string();
        self.api.deployment(&id).await
    }

    async fn deployments(&self) -> i64 {
        let count = "SELECT count(*) FROM deployment";
        self.sandbox.number(count).await
    }

    /// Waits until a delivery is decided so for production: its words.
    async fn decided(&self, delivery: &str, outcome: &str, reason: &str) -> String {
        let id = delivery.parse::<candlefish_ids::DeliveryId>().unwrap();
        let decided = poll_until(SOON, "a delivery to be decided", async || {
            sqlx::query_as::<_, (String, String, String)>(
                "SELECT outcome, reason, message FROM trigger WHERE delivery_id = $1",
            )
            .bind(id.uuid())
            .fetch_one(&self.sandbox.pool)
            .await
        })
        .await;
        assert_eq!((decided.0.as_str(), decided.1.as_str()), (outcome, reason));
        decided.2
    }

    async fn is_compared(&self) -> bool {
        let known = "SELECT count(*) FROM comparison WHERE relation IS NOT NULL";
        self.sandbox.number(known).await > 0
    }
}

fn commit(number: usize) -> String {
    format!("{number:040x}")
}

/// A push that tells nothing of what was before.
fn push(number: usize) -> Example {
    push_after(NONE, number)
}

fn push_after(before: &str, number: usize) -> Example {
    Push {
        repository: REPOSITORY,
        branch: "main",
        before,
        commits: &[&commit(number)],
        changes: &["docs/a.md"],
        pushed_at: 1_790_000_000 + i64::try_from(number).unwrap(),
    }
    .example()
}

/// A push that changes nothing that counts.
fn beside(before: usize, number: usize) -> Example {
    Push {
        repository: REPOSITORY,
        branch: "main",
        before: &commit(before),
        commits: &[&commit(number)],
        changes: &["src/a.rs"],
        pushed_at: 1_790_000_000 + i64::try_from(number).unwrap(),
    }
    .example()
}

#[tokio::test]
async fn commits_that_nothing_relates_are_compared_once_and_the_older_one_ends() {
    // In a queue only history says which is older.
    let stage = Stage::with(pb::policy::Order::Queue, &[]).await;
    stage.line(1..=2);
    stage.gateway.receives(&push(2));
    let newer = stage.made(2).await;
    stage.gateway.receives(&push(1));
    let older = stage.made(1).await;
    wait_until(SOON, "GitHub's word", async || stage.is_compared().await).await;
    stage.uploads(2).await;
    stage.api.wait_for(&newer.id, &[State::Succeeded]).await;
    stage.uploads(1).await;
    let ended = stage.api.wait_for(&older.id, &[State::Superseded]).await;
    assert_eq!(ended.superseded_by, newer.id);
    assert_eq!(stage.github.calls("repos/compare-commits"), 1);
}

#[tokio::test]
async fn while_github_is_down_admission_orders_and_its_word_is_heard_when_it_is_back() {
    let stage = Stage::with(pb::policy::Order::Queue, &[]).await;
    stage.line(1..=3);
    stage.github.goes_down();
    // What acts meanwhile keeps the lane, so that two wait.
    stage.edge.act(|script| script.frozen = true);
    stage.gateway.receives(&push(1));
    let acting = stage.made(1).await;
    stage.uploads(1).await;
    stage.api.wait_in(&acting.id, pb::step::Kind::Stage).await;
    stage.gateway.receives(&push(3));
    let newer = stage.made(3).await;
    stage.uploads(3).await;
    stage.gateway.receives(&push(2));
    let older = stage.made(2).await;
    stage.uploads(2).await;
    wait_until(SOON, "GitHub to be asked in vain", async || {
        let asked = "SELECT count(*) FROM comparison WHERE attempts > 0 AND note <> ''";
        stage.sandbox.number(asked).await == 3
    })
    .await;
    for waits in [&newer, &older] {
        let waits = stage.api.deployment(&waits.id).await;
        assert_eq!(waits.state(), State::Pending, "{waits:?}");
    }
    stage.github.comes_back();
    stage.sandbox.database.advance(Duration::from_mins(2)).await;
    let ended = stage.api.wait_for(&older.id, &[State::Superseded]).await;
    assert_eq!(ended.superseded_by, newer.id);
    stage.edge.act(|script| script.frozen = false);
    stage.api.wait_for(&newer.id, &[State::Succeeded]).await;
}

#[tokio::test]
async fn limits_are_obeyed_and_no_call_is_repeated_before_its_time() {
    // In a queue only history says which is older.
    let stage = Stage::with(pb::policy::Order::Queue, &[]).await;
    stage.line(1..=2);
    for fault in [Fault::Limited(2), Fault::Secondary(2)] {
        stage.github.fails("repos/compare-commits", fault);
    }
    stage.gateway.receives(&push(2));
    stage.made(2).await;
    stage.gateway.receives(&push(1));
    stage.made(1).await;
    wait_until(SOON, "GitHub's limit", async || {
        let limited = "SELECT count(*) FROM comparison WHERE note LIKE '%limit%'";
        stage.sandbox.number(limited).await == 1
    })
    .await;
    // The clock of the database goes on; the budget's does not, and it keeps the call.
    stage.sandbox.database.advance(Duration::from_secs(3)).await;
    wait_until(SOON, "the next try", async || {
        let tried = "SELECT count(*) FROM comparison WHERE attempts > 1";
        stage.sandbox.number(tried).await == 1
    })
    .await;
    assert_eq!(stage.github.calls("repos/compare-commits"), 1);
    wait_until(SOON, "GitHub's word", async || stage.is_compared().await).await;
    assert_eq!(stage.github.calls("repos/compare-commits"), 3);
}

#[tokio::test]
async fn a_push_that_vanished_is_found_by_its_head_and_its_late_delivery_changes_nothing() {
    let stage = Stage::new().await;
    stage.line(1..=3);
    stage.github.branch(REPOSITORY, "main", &commit(1));
    stage
        .github
        .hook("https://candlefish.example/v1/webhooks/github");
    wait_until(SOON, "the first look", async || {
        let seen = "SELECT count(*) FROM github_branch";
        stage.sandbox.number(seen).await == 1
    })
    .await;
    // What was there before anybody pushed is no push.
    assert_eq!(stage.deployments().await, 0);
    // Two pushes while the gateway is down.
    stage.github.branch(REPOSITORY, "main", &commit(3));
    stage.github.delivered(REPOSITORY, "guid-of-3", 502);
    let made = stage.made(3).await;
    assert_eq!(
        (made.created_by.as_str(), made.reason.as_str()),
        ("github", "pushed to main")
    );
    let release = made.release.clone().unwrap();
    assert_eq!(
        (release.author.as_str(), release.message.as_str()),
        ("Ada", "Change 0000000")
    );
    poll_until(SOON, "the delivery to be asked for", async || {
        let again = stage.github.redelivered(REPOSITORY);
        if again == ["guid-of-3"] {
            Ok(())
        } else {
            Err(again)
        }
    })
    .await;
    let late = stage.gateway.receives(&push_after(&commit(2), 3));
    let words = stage.decided(&late, "ignored", "duplicate").await;
    assert_eq!(words, FOUND);
    // And the one before it is older: the head brought it along.
    stage.uploads(3).await;
    stage.api.wait_for(&made.id, &[State::Succeeded]).await;
    let late = stage.gateway.receives(&push_after(&commit(1), 2));
    stage.decided(&late, "superseded", "older").await;
    assert_eq!(stage.deployments().await, 1);
}

#[tokio::test]
async fn a_push_that_ended_badly_is_not_made_again_by_its_late_delivery() {
    let stage = Stage::new().await;
    stage.line(1..=2);
    stage.gateway.receives(&push(1));
    let first = stage.made(1).await;
    stage.uploads(1).await;
    stage.api.wait_for(&first.id, &[State::Succeeded]).await;
    stage.github.branch(REPOSITORY, "main", &commit(2));
    let made = stage.made(2).await;
    stage.api.cancel(&made.id).await.unwrap();
    stage.api.wait_for(&made.id, &[State::Cancelled]).await;
    let late = stage.gateway.receives(&push_after(&commit(1), 2));
    let words = stage.decided(&late, "ignored", "duplicate").await;
    assert_eq!(words, FOUND);
    // Of the push before it a delivery did tell.
    let twice = stage.gateway.receives(&push(1));
    let words = stage.decided(&twice, "ignored", "duplicate").await;
    assert_eq!(words, "another delivery told of this push before");
    wait_until(SOON, "two more looks", async || {
        stage.github.calls("repos/get-branch") > 5
    })
    .await;
    assert_eq!(stage.deployments().await, 2);
}

#[tokio::test]
async fn a_head_that_changes_nothing_that_counts_is_ignored_as_its_push_would_be() {
    let stage = Stage::new().await;
    stage.line(1..=1);
    stage
        .github
        .commit(REPOSITORY, &commit(2), &[&commit(1)], &["src/a.rs"]);
    stage.gateway.receives(&push(1));
    stage.made(1).await;
    stage.github.branch(REPOSITORY, "main", &commit(2));
    wait_until(SOON, "the head to be decided", async || {
        let ignored = "SELECT count(*) FROM trigger WHERE swept AND reason = 'paths'";
        stage.sandbox.number(ignored).await == 1
    })
    .await;
    assert_eq!(stage.deployments().await, 1);
}

#[tokio::test]
async fn a_lost_push_before_one_that_is_passed_over_is_found_and_nothing_is_decided_again() {
    let stage = Stage::new().await;
    stage.line(1..=2);
    stage
        .github
        .commit(REPOSITORY, &commit(3), &[&commit(2)], &["src/a.rs"]);
    stage.gateway.receives(&push(1));
    stage.made(1).await;
    let told = stage.gateway.receives(&beside(2, 3));
    stage.decided(&told, "ignored", "paths").await;
    let made = stage.made(2).await;
    assert_eq!(made.reason, "pushed to main");
    let late = stage.gateway.receives(&push_after(&commit(1), 2));
    let words = stage.decided(&late, "ignored", "duplicate").await;
    assert_eq!(words, FOUND);
    stage.github.branch(REPOSITORY, "main", &commit(3));
    wait_until(SOON, "more looks", async || {
        let seen = "SELECT count(*) FROM github_branch";
        stage.sandbox.number(seen).await == 1 && stage.github.calls("repos/get-branch") > 6
    })
    .await;
    let triggers = "SELECT count(*) FROM trigger";
    assert_eq!(stage.sandbox.number(triggers).await, 4);
    stage.uploads(2).await;
    stage.api.wait_for(&made.id, &[State::Succeeded]).await;
    assert_eq!(stage.deployments().await, 2);
}

#[tokio::test]
async fn a_lost_push_whose_files_a_later_deployment_has_is_not_made() {
    let stage = Stage::new().await;
    stage.line(1..=4);
    stage.gateway.receives(&push(1));
    stage.made(1).await;
    stage.github.goes_down();
    let told = stage.gateway.receives(&beside(2, 3));
    stage.decided(&told, "ignored", "paths").await;
    stage.gateway.receives(&push_after(&commit(3), 4));
    stage.made(4).await;
    stage.github.branch(REPOSITORY, "main", &commit(4));
    stage.github.comes_back();
    stage.sandbox.database.advance(Duration::from_mins(2)).await;
    wait_until(SOON, "a whole look", async || {
        let seen = "SELECT count(*) FROM github_branch";
        stage.sandbox.number(seen).await == 1
    })
    .await;
    assert_eq!(stage.deployments().await, 2);
}

/// What GitHub shows of the one deployment, once it shows these states.
async fn shown(stage: &Stage, states: &[&str]) -> serde_json::Value {
    poll_until(SOON, "GitHub to show it", async || {
        let shown = stage.github.deployments(REPOSITORY);
        match &shown[..] {
            [(one, told)] if told == states => Ok(one.clone()),
            _ => Err(shown),
        }
    })
    .await
}

/// What GitHub shows of two deployments, once these are their last states.
async fn last(stage: &Stage, wanted: [&str; 2]) -> [serde_json::Value; 2] {
    poll_until(SOON, "GitHub to show two", async || {
        let shown = stage.github.deployments(REPOSITORY);
        let last = |told: &[String]| told.last().cloned().unwrap_or_default();
        match &shown[..] {
            [(one, first), (two, second)] if [last(first), last(second)] == wanted => {
                Ok([one.clone(), two.clone()])
            }
            _ => Err(shown),
        }
    })
    .await
}

/// Waits until one of the deployments to tell of is so, while the pauses between turns pass.
async fn in_time(stage: &Stage, so: &str) {
    let count = format!("SELECT count(*) FROM github_deployment WHERE {so}");
    wait_until(SOON, so, async || {
        stage.sandbox.database.advance(Duration::from_secs(1)).await;
        stage.sandbox.number(&count).await == 1
    })
    .await;
}

#[tokio::test]
async fn a_push_s_deployment_shows_at_github_once_with_every_state_once() {
    let stage = Stage::with(
        pb::policy::Order::Latest,
        &[("CANDLEFISH_PUBLIC_URL", "https://candlefish.example")],
    )
    .await;
    stage.line(1..=2);
    stage.gateway.receives(&push(1));
    let first = stage.made(1).await;
    let one = shown(&stage, &["queued"]).await;
    assert_eq!(one["payload"]["candlefish"], first.id.as_str());
    assert_eq!(one["environment"], "docs/production");
    assert_eq!(one["production_environment"], true);
    assert_eq!(one["sha"], commit(1).as_str());
    stage.edge.act(|script| script.frozen = true);
    stage.uploads(1).await;
    shown(&stage, &["queued", "in_progress"]).await;
    stage.edge.act(|script| script.frozen = false);
    stage.api.wait_for(&first.id, &[State::Succeeded]).await;
    shown(&stage, &["queued", "in_progress", "success"]).await;
    // What takes its place says so of it.
    stage.gateway.receives(&push_after(&commit(1), 2));
    let second = stage.made(2).await;
    stage.uploads(2).await;
    stage.api.wait_for(&second.id, &[State::Succeeded]).await;
    poll_until(SOON, "the first to be inactive", async || {
        let shown = stage.github.deployments(REPOSITORY);
        let last = |place: usize| {
            let told = shown.get(place).and_then(|one| one.1.last());
            told.cloned().unwrap_or_default()
        };
        if (last(0).as_str(), last(1).as_str()) == ("inactive", "success") {
            Ok(())
        } else {
            Err(shown.clone())
        }
    })
    .await;
    assert_eq!(stage.github.calls("repos/create-deployment"), 2);
}

#[tokio::test]
async fn an_answer_that_was_lost_is_looked_for_and_nothing_is_written_twice() {
    let stage = Stage::new().await;
    stage.line(1..=1);
    stage
        .github
        .fails("repos/create-deployment", Fault::AnswerLost);
    stage
        .github
        .fails("repos/create-deployment-status", Fault::AnswerLost);
    stage.gateway.receives(&push(1));
    stage.made(1).await;
    in_time(&stage, "told = 'queued'").await;
    shown(&stage, &["queued"]).await;
    assert_eq!(stage.github.calls("repos/create-deployment"), 1);
    assert_eq!(stage.github.calls("repos/create-deployment-status"), 1);
}

#[tokio::test]
async fn what_did_not_happen_is_done_again_whatever_went_wrong() {
    for fault in [
        Fault::Fails,
        Fault::Silent,
        Fault::Limited(1),
        Fault::Secondary(1),
    ] {
        let stage = Stage::new().await;
        stage.line(1..=1);
        stage.github.fails("repos/create-deployment", fault);
        stage.github.fails("repos/create-deployment-status", fault);
        stage.gateway.receives(&push(1));
        let made = stage.made(1).await;
        in_time(&stage, "told = 'queued'").await;
        shown(&stage, &["queued"]).await;
        assert_eq!(
            stage.github.calls("repos/create-deployment"),
            2,
            "{fault:?}"
        );
        // It is nothing to the deployment.
        let waits = stage.api.deployment(&made.id).await;
        assert_eq!(waits.state(), State::Pending);
    }
}

#[tokio::test]
async fn a_crash_after_the_intent_leaves_one_deployment_at_github() {
    for fault in [Fault::Silent, Fault::AnswerLost] {
        let stage = Stage::with(
            pb::policy::Order::Latest,
            &[("CANDLEFISH_GITHUB_TIMEOUT_MS", "60000")],
        )
        .await;
        stage.line(1..=1);
        stage.github.fails("repos/create-deployment", fault);
        stage.gateway.receives(&push(1));
        let made = stage.made(1).await;
        wait_until(SOON, "the call to be made", async || {
            stage.github.calls("repos/create-deployment") == 1
        })
        .await;
        let Stage {
            github,
            sandbox,
            gateway: _gateway,
            orchestrator,
            edge: _edge,
            api: _api,
        } = stage;
        orchestrator.kill().await;
        let again = sandbox.start().await;
        sandbox.database.advance(Duration::from_mins(10)).await;
        let told = poll_until(SOON, "GitHub to show it", async || {
            let shown = github.deployments(REPOSITORY);
            match &shown[..] {
                [(_, told)] if !told.is_empty() => Ok(told.clone()),
                _ => Err(shown),
            }
        })
        .await;
        assert_eq!(told, ["queued"], "{fault:?}: {made:?}");
        let calls = if fault == Fault::Silent { 2 } else { 1 };
        assert_eq!(github.calls("repos/create-deployment"), calls, "{fault:?}");
        again.stop().await;
    }
}

#[tokio::test]
async fn while_github_is_down_deployments_go_on_and_what_is_now_is_told_when_it_is_back() {
    let stage = Stage::new().await;
    stage.line(1..=1);
    stage.github.goes_down();
    stage.gateway.receives(&push(1));
    let made = stage.made(1).await;
    stage.uploads(1).await;
    stage.api.wait_for(&made.id, &[State::Succeeded]).await;
    let url = format!("http://{}/metrics", stage.orchestrator.running.ops_address);
    wait_until(SOON, "GitHub to be left alone", async || {
        stage
            .sandbox
            .database
            .advance(Duration::from_secs(10))
            .await;
        let said = reqwest::get(&url).await.unwrap().text().await.unwrap();
        said.lines().any(|line| {
            line.starts_with("github_calls_total{") && line.contains(r#"outcome="resting""#)
        })
    })
    .await;
    stage.github.comes_back();
    wait_until(SOON, "GitHub to know it", async || {
        stage
            .sandbox
            .database
            .advance(Duration::from_secs(10))
            .await;
        stage.github.deployments(REPOSITORY).len() == 1
    })
    .await;
    shown(&stage, &["success"]).await;
}

#[tokio::test]
async fn one_refusal_after_an_outage_keeps_no_deployment_from_github() {
    let stage = Stage::new().await;
    stage.line(1..=1);
    stage.github.goes_down();
    stage.gateway.receives(&push(1));
    stage.made(1).await;
    in_time(&stage, "attempts > 6").await;
    let refused = Fault::Refused(403);
    stage.github.fails("repos/create-deployment", refused);
    stage.github.comes_back();
    in_time(&stage, "told = 'queued'").await;
    shown(&stage, &["queued"]).await;
    assert_eq!(stage.github.faults_fired(), 1);
}

#[tokio::test]
async fn a_deployment_that_github_refuses_again_and_again_is_let_be() {
    let stage = Stage::new().await;
    stage.line(1..=2);
    for _time in 0..6 {
        let refused = Fault::Refused(422);
        stage.github.fails("repos/create-deployment", refused);
    }
    stage.gateway.receives(&push(1));
    stage.made(1).await;
    in_time(&stage, "done_at IS NOT NULL AND refusals = 6").await;
    stage
        .sandbox
        .database
        .advance(Duration::from_mins(10))
        .await;
    // Turns go on: the next deployment is told.
    stage.gateway.receives(&push_after(&commit(1), 2));
    stage.made(2).await;
    let one = shown(&stage, &["queued"]).await;
    assert_eq!(one["sha"], commit(2).as_str());
    assert_eq!(stage.github.calls("repos/create-deployment"), 7);
}

/// The same where an App asks.
async fn as_app() -> (tempfile::TempDir, Stage) {
    let (folder, github, stage) = stage::Stage::asking_as_app(&[SWEEP]).await;
    let stage = Stage::of(github, stage, pb::policy::Order::Latest).await;
    (folder, stage)
}

#[tokio::test]
async fn an_app_s_own_webhook_is_asked_for_what_did_not_arrive() {
    let (_dir, stage) = as_app().await;
    for (guid, status_code) in [("a", 202), ("b", 502), ("c", 0), ("b", 202)] {
        stage.github.app_delivered(guid, status_code);
    }
    // Without a webhook that comes to us nothing of it is our business.
    wait_until(SOON, "looks at what goes elsewhere", async || {
        stage.github.calls("apps/get-webhook-config-for-app") > 2
    })
    .await;
    assert_eq!(stage.github.calls("apps/list-webhook-deliveries"), 0);
    stage
        .github
        .hook("https://candlefish.example/v1/webhooks/github");
    wait_until(SOON, "several looks", async || {
        stage.github.calls("apps/list-webhook-deliveries") > 3
    })
    .await;
    assert_eq!(stage.github.app_redelivered(), ["c"]);
}

#[tokio::test]
async fn what_a_rollback_brings_back_is_shown_as_live_again() {
    let stage = Stage::new().await;
    stage.line(1..=2);
    for number in 1..=2 {
        stage.gateway.receives(&push(number));
        let made = stage.made(number).await;
        stage.uploads(number).await;
        stage.api.wait_for(&made.id, &[State::Succeeded]).await;
    }
    last(&stage, ["inactive", "success"]).await;
    stage.api.roll_back("production").await.unwrap();
    last(&stage, ["success", "inactive"]).await;
}

#[tokio::test]
async fn a_retry_of_a_push_s_deployment_shows_at_github_as_live() {
    let stage = Stage::new().await;
    stage.line(1..=1);
    stage.gateway.receives(&push(1));
    let made = stage.made(1).await;
    in_time(&stage, "told = 'queued'").await;
    stage.api.cancel(&made.id).await.unwrap();
    shown(&stage, &["queued", "inactive"]).await;
    let again = stage.api.retry(&made.id).await.unwrap().into_inner().id;
    stage.uploads(1).await;
    stage.api.wait_for(&again, &[State::Succeeded]).await;
    let [_, second] = last(&stage, ["inactive", "success"]).await;
    assert_eq!(second["payload"]["candlefish"], again.as_str());
    assert_eq!(second["sha"], commit(1).as_str());
    assert_eq!(stage.github.calls("repos/create-deployment"), 2);
}

#[tokio::test]
async fn a_deployment_is_found_again_on_a_later_page() {
    let stage = Stage::new().await;
    stage.line(1..=1);
    stage
        .github
        .fails("repos/create-deployment", Fault::AnswerLost);
    stage.gateway.receives(&push(1));
    stage.made(1).await;
    wait_until(SOON, "the answer to be lost", async || {
        stage.github.calls("repos/create-deployment") == 1
    })
    .await;
    // Others deploy the same commit to an environment of that name, again and again.
    stage
        .github
        .deployed_by_others(REPOSITORY, &commit(1), "docs/production", 150);
    in_time(&stage, "told = 'queued'").await;
    assert!(stage.github.calls("repos/list-deployments") >= 2);
    assert_eq!(stage.github.calls("repos/create-deployment"), 1);
}

#[tokio::test]
async fn an_app_asks_as_its_installation_with_one_token() {
    let (_dir, stage) = as_app().await;
    stage.line(1..=1);
    stage.github.branch(REPOSITORY, "main", &commit(1));
    wait_until(SOON, "several looks", async || {
        stage.github.calls("repos/get-branch") > 6
    })
    .await;
    // Each of three loops may come first at the same moment; after that nobody asks again.
    let asked = |operation| stage.github.calls(operation);
    assert!((1..=3).contains(&asked("apps/get-repo-installation")));
    assert!((1..=3).contains(&asked("apps/create-installation-access-token")));
}

#[tokio::test]
async fn what_reached_no_gateway_is_asked_for_again_however_often_and_what_was_refused_thrice_is_not()
 {
    let stage = Stage::new().await;
    stage
        .github
        .hook("https://candlefish.example/v1/webhooks/github");
    // All were asked for before: once while no gateway was there, twice and thrice where one was.
    stage
        .sandbox
        .act(
            "INSERT INTO github_redelivery (repository, guid, asked_at, times, refusals)
             VALUES ('example/docs', 'unheard', clock() - interval '2 hours', 20, 0),
                    ('example/docs', 'refused', clock() - interval '2 hours', 2, 2),
                    ('example/docs', 'given up', clock() - interval '2 hours', 3, 3)",
        )
        .await;
    stage.github.delivered(REPOSITORY, "given up", 401);
    stage.github.delivered(REPOSITORY, "refused", 401);
    stage.github.delivered(REPOSITORY, "unheard", 404);
    // So many came since that they fill the first page.
    for number in 0..150 {
        let guid = format!("guid-{number}");
        stage.github.delivered(REPOSITORY, &guid, 202);
    }
    stage.github.branch(REPOSITORY, "main", &commit(1));
    let asked = ["refused", "unheard"];
    wait_until(SOON, "two to be asked for", async || {
        stage.github.redelivered(REPOSITORY) == asked
    })
    .await;
    let counted = "SELECT count(*) FROM github_redelivery
                   WHERE (guid, refusals) IN (('refused', 3), ('unheard', 0), ('given up', 3))";
    assert_eq!(stage.sandbox.number(counted).await, 3);
    let looks = stage.github.calls("repos/list-webhook-deliveries");
    wait_until(SOON, "more looks", async || {
        stage.github.calls("repos/list-webhook-deliveries") > looks + 4
    })
    .await;
    assert_eq!(stage.github.redelivered(REPOSITORY), asked);
}

#[tokio::test]
async fn a_repository_of_previews_alone_has_its_deliveries_asked_for_again() {
    let stage = Stage::new().await;
    stage
        .github
        .hook("https://candlefish.example/v1/webhooks/github");
    let request = stage.api.request(pb::CreateSiteRequest {
        slug: "quiet".to_owned(),
        repository: "Example/Quiet".to_owned(),
        previews: Some(pb::PreviewRule {
            from: pb::preview_rule::From::Repository.into(),
            ..pb::PreviewRule::default()
        }),
        ..pb::CreateSiteRequest::default()
    });
    stage.api.sites().create_site(request).await.unwrap();
    stage.github.delivered("example/quiet", "closed", 502);
    wait_until(SOON, "it to be asked for", async || {
        stage.github.redelivered("example/quiet") == ["closed"]
    })
    .await;
}
