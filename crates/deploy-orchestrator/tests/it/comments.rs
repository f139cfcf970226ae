//! The living comment of a pull request: made once, changed in place, whatever GitHub does meanwhile.

use candlefish_proto::deploy::{self as pb, deployment::State};
use candlefish_testkit::{
    github::{Fake, Fault},
    poll_until, wait_until,
};

use crate::{
    previews::{allow, live, pull},
    sandbox::{SITE, SOON},
    stage::{self, REPOSITORY, Stage, commit, latest},
};

const MARK: &str = "<!-- candlefish:docs:12 -->";
const CREATE: &str = "issues/create-comment";
const UPDATE: &str = "issues/update-comment";

/// A stage whose orchestrator asks GitHub.
async fn asking() -> (Fake, Stage) {
    let (github, stage) = Stage::asking(&[]).await;
    stage::site(&stage.api, SITE, REPOSITORY).await;
    stage::environment(&stage.api, SITE, "production", "main", &[], latest()).await;
    allow(&stage.api, pb::preview_rule::From::Repository).await;
    (github, stage)
}

/// Waits until the one comment of pull request 12 says this; answers all of it.
async fn says(github: &Fake, words: &str) -> String {
    poll_until(SOON, words, async || {
        let comments = github.comments(REPOSITORY, 12);
        let ours: Vec<_> = comments
            .iter()
            .filter(|one| one.starts_with(MARK))
            .collect();
        match ours[..] {
            [one] if one.contains(words) => Ok(one.clone()),
            _ => Err(format!("{comments:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn one_comment_shows_a_preview_from_its_beginning_to_its_end_and_again() {
    let (github, stage) = asking().await;
    github.somebody_comments(REPOSITORY, 12, "Looks good to me.");
    let first = stage.pushed(&pull("opened", 0, 1, 1)).await;
    let waits = says(&github, "waits for the content").await;
    assert!(waits.contains(&first.deployment), "{waits}");
    assert!(waits.contains("http://pr-12--docs.localhost"), "{waits}");
    live(&stage, &first, 1).await;
    says(&github, "is live: http://pr-12--docs.localhost").await;
    let second = stage.pushed(&pull("synchronize", 1, 2, 2)).await;
    let waits = says(&github, "waits for the content").await;
    assert!(waits.contains(&second.deployment), "{waits}");
    assert!(waits.contains(&commit(2)[..7]), "{waits}");
    live(&stage, &second, 2).await;
    says(&github, "is live").await;
    stage
        .pushed(&pull("closed", 0, 2, 3))
        .await
        .is("closed", "");
    let closed = says(&github, "was torn down: `pull request 12 was closed`").await;
    assert!(!closed.contains("http"), "{closed}");
    let again = stage.pushed(&pull("reopened", 0, 2, 4)).await;
    let lives = says(&github, "is live").await;
    assert!(lives.contains(&again.deployment), "{lives}");
    assert_eq!(github.calls(CREATE), 1);
    assert_eq!(github.comments(REPOSITORY, 12).len(), 2);
}

#[tokio::test]
async fn an_answer_that_is_lost_makes_no_second_comment() {
    let (github, stage) = asking().await;
    github.fails(CREATE, Fault::AnswerLost);
    for number in 1..=120 {
        github.somebody_comments(REPOSITORY, 12, &format!("Remark {number}"));
    }
    let opened = stage.pushed(&pull("opened", 0, 1, 1)).await;
    wait_until(SOON, "the comment to be looked for", async || {
        github.calls("issues/list-comments") >= 2
    })
    .await;
    live(&stage, &opened, 1).await;
    says(&github, "is live").await;
    assert_eq!(github.calls(CREATE), 1);
    assert_eq!(github.comments(REPOSITORY, 12).len(), 121);
}

#[tokio::test]
async fn a_call_that_fails_is_repeated_until_the_comment_is_there_once() {
    let (github, stage) = asking().await;
    let faults = [
        Fault::Fails,
        Fault::Limited(1),
        Fault::Secondary(1),
        Fault::Silent,
    ];
    for (number, fault) in (21_usize..).zip(faults) {
        github.fails(CREATE, fault);
        let of = |action: &str, head: usize, at: u32| {
            let mut example = pull(action, 0, head, at);
            example.body["number"] = number.into();
            example
        };
        let mark = format!("<!-- candlefish:docs:{number} -->");
        let says = async |words: &str| {
            let number = u64::try_from(number).unwrap();
            poll_until(SOON, words, async || {
                let comments = github.comments(REPOSITORY, number);
                match &comments[..] {
                    [one] if one.starts_with(&mark) && one.contains(words) => Ok(()),
                    _ => Err(format!("{fault:?}: {comments:?}")),
                }
            })
            .await;
        };
        stage.pushed(&of("opened", number, 1)).await;
        says("waits for the content").await;
        let calls = github.calls(UPDATE);
        github.fails(UPDATE, fault);
        stage.pushed(&of("closed", number, 2)).await;
        says("was torn down").await;
        assert_eq!(github.calls(UPDATE) - calls, 2, "{fault:?}");
    }
}

#[tokio::test]
async fn what_github_refuses_or_somebody_deleted_keeps_no_deployment_and_is_not_made_again() {
    let (github, stage) = asking().await;
    let opened = stage.pushed(&pull("opened", 0, 1, 1)).await;
    says(&github, "waits for the content").await;
    github.forgets_comments(REPOSITORY);
    let live = live(&stage, &opened, 1).await;
    assert_eq!(live.state(), State::Succeeded);
    let given_up = "SELECT count(*) FROM github_comment WHERE done_at IS NOT NULL";
    poll_until(SOON, "the comment to be let be", async || {
        let count = stage.sandbox.number(given_up).await;
        (count == 1).then_some(()).ok_or(count)
    })
    .await;
    assert_eq!(github.comments(REPOSITORY, 12), Vec::<String>::new());
    assert_eq!(github.calls(CREATE), 1);
}

#[tokio::test]
async fn a_preview_that_was_closed_before_anybody_asked_github_has_no_comment() {
    let stage = crate::previews::allowed().await;
    stage.pushed(&pull("opened", 0, 1, 1)).await;
    stage
        .pushed(&pull("closed", 0, 1, 2))
        .await
        .is("closed", "");
    let github = Fake::start().await;
    let Stage {
        mut sandbox,
        gateway,
        orchestrator,
        edge,
        api,
    } = stage;
    sandbox.set("CANDLEFISH_GITHUB_API", &github.url());
    sandbox.set("CANDLEFISH_GITHUB_TOKEN", "ghp_secret");
    let second = sandbox.start().await;
    let stage = Stage {
        sandbox,
        gateway,
        orchestrator,
        edge,
        api,
    };
    let mut other = pull("opened", 0, 2, 3);
    other.body["number"] = 13.into();
    stage.pushed(&other).await.is("created", "");
    wait_until(SOON, "the other's comment", async || {
        github.comments(REPOSITORY, 13).len() == 1
    })
    .await;
    assert_eq!(github.comments(REPOSITORY, 12), Vec::<String>::new());
    drop(second);
}
