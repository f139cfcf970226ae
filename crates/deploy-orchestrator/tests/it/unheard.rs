//! Pull requests of which no delivery told: what GitHub lists of them does.

use std::time::Duration;

use candlefish_proto::deploy::{self as pb, deployment::State};
use candlefish_testkit::{
    github::{Example, Fake},
    poll_until, wait_until,
};

use crate::{
    previews::{PLACE, SLUG, allow, pull},
    sandbox::{SITE, SOON},
    stage::{self, Decided, REPOSITORY, Stage, commit, latest},
};

/// What would be delivered of another pull request.
fn another(action: &str, number: u32, head: usize) -> Example {
    let mut example = pull(action, 0, head, 1);
    for place in ["/number", "/pull_request/number"] {
        *example.body.pointer_mut(place).unwrap() = number.into();
    }
    example
}

/// A site of previews, and a GitHub whose pull requests were looked at, in a second that is over.
async fn looked_at() -> (Fake, Stage) {
    let (github, stage) = Stage::asking(&[("CANDLEFISH_GITHUB_SWEEP_MS", "100")]).await;
    github.shows(&another("opened", 9, 9));
    stage::site(&stage.api, SITE, REPOSITORY).await;
    allow(&stage.api, pb::preview_rule::From::Repository).await;
    two_looks(&stage).await;
    (github, stage)
}

/// Waits until pull requests were looked at for the first time, and once more in a later second.
async fn two_looks(stage: &Stage) {
    wait_until(SOON, "two looks", async || {
        let looked = "SELECT count(*) FROM github_repository WHERE pulls_at > pulls_since";
        stage.sandbox.number(looked).await == 1
    })
    .await;
}

/// Waits for what a look decides of a commit.
pub(crate) async fn found(stage: &Stage, head: usize) -> Decided {
    let delivery = poll_until(SOON, "a look to decide", async || {
        let id: Option<uuid::Uuid> = sqlx::query_scalar(
            "SELECT delivery_id FROM trigger WHERE commit = $1 AND event = 'pull'",
        )
        .bind(commit(head))
        .fetch_optional(&stage.sandbox.pool)
        .await
        .unwrap();
        id.ok_or(())
    })
    .await;
    let id = candlefish_ids::DeliveryId::from_uuid(delivery).to_string();
    stage.decisions(&id).await.remove(0)
}

/// The delivery comes after all.
async fn comes_late(stage: &Stage, shown: &Example) -> Decided {
    let id = stage.gateway.receives(shown);
    stage.decided(&id, 1).await.remove(0)
}

#[tokio::test]
async fn what_no_delivery_told_of_a_pull_request_is_found_and_the_late_one_changes_nothing() {
    let (github, stage) = looked_at().await;
    let opened = github.shows(&pull("opened", 0, 1, 1));
    let first = found(&stage, 1).await;
    assert_eq!(first.is("created", "").place, PLACE);
    comes_late(&stage, &opened).await.is("ignored", "duplicate");

    let pushed = github.shows(&pull("synchronize", 1, 2, 1));
    let second = found(&stage, 2).await;
    assert_eq!(second.is("created", "").place, PLACE);
    comes_late(&stage, &pushed).await.is("ignored", "duplicate");
    stage.uploads(&commit(2), "two").await;
    stage
        .api
        .wait_for(&second.deployment, &[State::Succeeded])
        .await;

    let mut closed = pull("closed", 0, 2, 1);
    closed.body["pull_request"]["merged"] = true.into();
    let closed = github.shows(&closed);
    let closing = poll_until(SOON, "the preview to be closed", async || {
        stage.api.environment(SLUG).await.closed.ok_or(())
    })
    .await;
    assert_eq!(closing.reason, "pull request 12 was merged");
    comes_late(&stage, &closed).await.is("ignored", "closed");

    // Nothing is said twice, and what was open before the first look has no preview.
    let looks = github.calls("pulls/list");
    wait_until(SOON, "more looks", async || {
        github.calls("pulls/list") > looks + 4
    })
    .await;
    let said = "SELECT count(*) FROM trigger WHERE event = 'pull'";
    assert_eq!(stage.sandbox.number(said).await, 3);
    let previews = "SELECT count(*) FROM environment WHERE kind = 'preview'";
    assert_eq!(stage.sandbox.number(previews).await, 1);
}

#[tokio::test]
async fn previews_that_are_turned_on_again_begin_at_that_moment() {
    let (github, stage) = looked_at().await;
    // The repository is swept on without previews.
    stage::environment(&stage.api, SITE, "production", "main", &[], latest()).await;
    allow(&stage.api, pb::preview_rule::From::Off).await;
    wait_until(SOON, "a look without previews", async || {
        let looked = "SELECT count(*) FROM github_repository WHERE pulls_since IS NULL";
        stage.sandbox.number(looked).await == 1
    })
    .await;
    github.shows(&another("opened", 13, 3));
    allow(&stage.api, pb::preview_rule::From::Repository).await;
    two_looks(&stage).await;
    github.shows(&pull("opened", 0, 4, 1));
    found(&stage, 4).await.is("created", "");
    let said = "SELECT count(*) FROM trigger WHERE event = 'pull'";
    assert_eq!(stage.sandbox.number(said).await, 1);
}

#[tokio::test]
async fn what_cannot_be_decided_keeps_no_other_branch_and_no_pull_request_unswept() {
    let (github, stage) = looked_at().await;
    for (slug, branch) in [("production", "main"), ("staging", "next")] {
        github.branch(REPOSITORY, branch, &commit(20));
        stage::environment(&stage.api, SITE, slug, branch, &[], latest()).await;
    }
    wait_until(SOON, "the first look at both", async || {
        let seen = "SELECT count(*) FROM github_branch";
        stage.sandbox.number(seen).await == 2
    })
    .await;
    let refuses = "CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                       IF NEW.branch = 'main' OR NEW.pull_request = 13 THEN
                           RAISE 'not this one';
                       END IF;
                       RETURN NEW;
                   END $$;
                   CREATE TRIGGER refuses BEFORE INSERT ON trigger FOR EACH ROW
                   EXECUTE FUNCTION refuses()";
    stage.sandbox.act(refuses).await;
    // What is refused is looked at first: of branches by name, of pull requests by their last change.
    github.shows(&another("opened", 13, 3));
    github.shows(&pull("opened", 0, 4, 1));
    for branch in ["main", "next"] {
        github.branch(REPOSITORY, branch, &commit(21));
    }
    let decided = async || {
        let decided = "SELECT count(*) FROM trigger WHERE event IN ('head', 'pull')";
        stage.sandbox.number(decided).await
    };
    wait_until(SOON, "the others to be decided", async || {
        decided().await == 2
    })
    .await;
    wait_until(SOON, "the failure to be noted", async || {
        let noted = "SELECT count(*) FROM github_repository WHERE note LIKE '%not this one%'";
        stage.sandbox.number(noted).await == 1
    })
    .await;
    stage.sandbox.act("DROP TRIGGER refuses ON trigger").await;
    stage.sandbox.database.advance(Duration::from_mins(1)).await;
    wait_until(SOON, "all to be decided", async || decided().await == 4).await;
}
