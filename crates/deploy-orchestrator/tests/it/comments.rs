//! The living comment of a pull request: made once, changed in place, whatever GitHub does meanwhile.

use std::time::Duration;

use candlefish_proto::deploy::{self as pb, deployment::State};
use candlefish_testkit::{
    github::{Fake, Fault},
    poll_until, wait_until,
};

use crate::{
    previews::{SLUG, allow, live, pull},
    sandbox::{SITE, SOON},
    stage::{self, REPOSITORY, Stage, commit, latest},
};

const MARK: &str = "<!-- candlefish:pull:12 -->";
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

/// Another site of the repository, which gives previews too.
async fn another_site(stage: &Stage, slug: &str) {
    let request = stage.api.request(pb::CreateSiteRequest {
        slug: slug.to_owned(),
        repository: "Example/Docs".to_owned(),
        previews: Some(pb::PreviewRule {
            from: pb::preview_rule::From::Repository.into(),
            ..pb::PreviewRule::default()
        }),
        ..pb::CreateSiteRequest::default()
    });
    stage.api.sites().create_site(request).await.unwrap();
}

/// Whether one comment is so.
async fn is_one(stage: &Stage, so: &str) -> bool {
    let count = format!("SELECT count(*) FROM github_pull_comment WHERE {so}");
    stage.sandbox.number(&count).await == 1
}

/// Waits until one comment is so, while the pauses between turns pass.
async fn in_time(stage: &Stage, so: &str) {
    wait_until(SOON, so, async || {
        stage.sandbox.database.advance(Duration::from_secs(1)).await;
        is_one(stage, so).await
    })
    .await;
}

/// Waits until the comment says no more.
async fn done(stage: &Stage) {
    wait_until(SOON, "the comment to be done", async || {
        is_one(stage, "done_at IS NOT NULL").await
    })
    .await;
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
async fn a_comment_says_what_the_preview_waits_for_and_not_in_whose_words() {
    let (github, stage) = asking().await;
    let first = stage.pushed(&pull("opened", 0, 1, 1)).await;
    says(&github, "waits for the content of 0000000: http").await;
    stage.api.hold(SLUG).await.unwrap();
    let words = "waits for the content of 0000000, and for its hold to be lifted: http";
    let held = says(&github, words).await;
    assert!(!held.contains("an incident"), "{held}");
    stage.uploads(&commit(1), "number 1").await;
    says(&github, "waits for its hold to be lifted: http").await;
    stage.api.lift(SLUG).await.unwrap();
    let states = [State::Succeeded];
    stage.api.wait_for(&first.deployment, &states).await;
    says(&github, "is live: http").await;
    assert_eq!(github.calls(CREATE), 1);
}

#[tokio::test]
async fn what_a_retry_brings_late_is_shown_as_live() {
    let (github, stage) = asking().await;
    let pushed = stage.pushed(&pull("opened", 0, 1, 1)).await.deployment;
    says(&github, "waits for the content").await;
    stage
        .sandbox
        .database
        .advance(Duration::from_mins(61))
        .await;
    stage.api.wait_for(&pushed, &[State::Failed]).await;
    let failed = says(&github, "did not go live: `its content did not come").await;
    assert!(failed.contains(&pushed), "{failed}");
    let again = stage.api.retry(&pushed).await.unwrap().into_inner().id;
    stage.uploads(&commit(1), "late").await;
    stage.api.wait_for(&again, &[State::Succeeded]).await;
    let late = says(&github, "is live: http://pr-12--docs.localhost").await;
    let row = format!("| 0000000 | `{again}` | live |");
    assert!(late.contains(&row), "{late}");
    assert_eq!(github.calls(CREATE), 1);
}

#[tokio::test]
async fn a_preview_that_was_rolled_back_does_not_show_its_newest_commit() {
    let (github, stage) = asking().await;
    let first = stage.pushed(&pull("opened", 0, 1, 1)).await;
    live(&stage, &first, 1).await;
    let second = stage.pushed(&pull("synchronize", 1, 2, 2)).await;
    live(&stage, &second, 2).await;
    let row = format!("| 0000000 | `{}` | live |", second.deployment);
    says(&github, &row).await;
    let back = stage.api.roll_back(SLUG).await.unwrap().into_inner();
    let back = back.deployment.unwrap().id;
    stage.api.wait_for(&back, &[State::Succeeded]).await;
    let other = says(&github, "shows another release: http://pr-12--docs").await;
    let row = format!("| 0000000 | `{}` | replaced |", second.deployment);
    assert!(other.contains(&row), "{other}");
    assert!(!other.contains("is live"), "{other}");
}

#[tokio::test]
async fn what_a_retry_brought_late_and_was_rolled_back_did_go_live() {
    let (github, stage) = asking().await;
    let first = stage.pushed(&pull("opened", 0, 1, 1)).await;
    live(&stage, &first, 1).await;
    let second = stage.pushed(&pull("synchronize", 1, 2, 2)).await.deployment;
    let hour = Duration::from_mins(61);
    stage.sandbox.database.advance(hour).await;
    stage.api.wait_for(&second, &[State::Failed]).await;
    let again = stage.api.retry(&second).await.unwrap().into_inner().id;
    stage.uploads(&commit(2), "late").await;
    stage.api.wait_for(&again, &[State::Succeeded]).await;
    says(&github, &format!("| 0000000 | `{again}` | live |")).await;
    let back = stage.api.roll_back(SLUG).await.unwrap().into_inner();
    let back = back.deployment.unwrap().id;
    stage.api.wait_for(&back, &[State::Succeeded]).await;
    let other = says(&github, "shows another release: http://pr-12--docs").await;
    assert!(!other.contains("did not go live"), "{other}");
}

#[tokio::test]
async fn the_sites_of_a_repository_share_the_comment_of_a_pull_request() {
    let (github, stage) = asking().await;
    another_site(&stage, "partners").await;
    let delivers = async |action: &str, at: u32| {
        let delivery = stage.gateway.receives(&pull(action, 0, 1, at));
        stage.decided(&delivery, 2).await
    };
    let opened = delivers("opened", 1).await;
    let both = says(&github, "**The preview of partners** waits").await;
    assert!(both.contains("**The preview of docs** waits"), "{both}");
    for (site, of_site) in ["docs", "partners"].into_iter().zip(&opened) {
        let deployment = &of_site.deployment;
        let row = format!("| {site} | 0000000 | `{deployment}` | waiting |");
        assert!(both.contains(&row), "{both}");
    }
    live(&stage, &opened[0], 1).await;
    let lives = "**The preview of docs** is live: http://pr-12--docs.localhost";
    let one = says(&github, lives).await;
    assert!(one.contains("**The preview of partners** waits"), "{one}");
    delivers("closed", 2).await;
    let words = "was torn down: `pull request 12 was closed`";
    let none = says(&github, &format!("**The preview of partners** {words}")).await;
    let docs = format!("**The preview of docs** {words}");
    assert!(none.contains(&docs), "{none}");
    done(&stage).await;
    delivers("reopened", 3).await;
    says(&github, "**The preview of partners** waits").await;
    says(&github, lives).await;
    assert_eq!(github.calls(CREATE), 1);
    assert_eq!(github.comments(REPOSITORY, 12).len(), 1);
}

#[tokio::test]
async fn a_comment_that_is_done_goes_on_when_another_site_gives_a_preview() {
    let (github, stage) = asking().await;
    stage.pushed(&pull("opened", 0, 1, 1)).await;
    says(&github, "waits for the content").await;
    let request = stage.api.request(pb::CloseEnvironmentRequest {
        site: SITE.to_owned(),
        environment: SLUG.to_owned(),
        reason: "seen".to_owned(),
    });
    stage.api.sites().close_environment(request).await.unwrap();
    says(&github, "was torn down: `seen`").await;
    done(&stage).await;
    another_site(&stage, "partners").await;
    let delivery = stage.gateway.receives(&pull("synchronize", 1, 2, 2));
    stage.decided(&delivery, 2).await;
    let both = says(&github, "**The preview of partners** waits").await;
    let closed = "**The preview of docs** was torn down: `seen`";
    assert!(both.contains(closed), "{both}");
    assert_eq!(github.calls(CREATE), 1);
}

#[tokio::test]
async fn a_comment_that_a_site_had_for_itself_is_gone_on_with() {
    let (github, stage) = asking().await;
    let before = "<!-- candlefish:docs:12 -->\n**The preview of docs** is live: http://x";
    github.token_commented(REPOSITORY, 12, before);
    github.fails(CREATE, Fault::Fails);
    stage.pushed(&pull("opened", 0, 1, 1)).await;
    says(&github, "waits for the content").await;
    assert_eq!(github.calls(CREATE), 1);
    assert_eq!(github.comments(REPOSITORY, 12).len(), 1);
}

#[tokio::test]
async fn a_comment_that_somebody_else_wrote_is_not_taken_for_ours() {
    let (github, stage) = asking().await;
    let other = format!("{MARK}\n**The preview of docs** is live: http://mallory.example");
    github.somebody_comments(REPOSITORY, 12, &other);
    github.fails(CREATE, Fault::AnswerLost);
    stage.pushed(&pull("opened", 0, 1, 1)).await;
    in_time(&stage, "told <> ''").await;
    let said = github.comments(REPOSITORY, 12);
    assert_eq!((said.len(), &said[0]), (2, &other));
    assert!(said[1].contains("waits for the content"), "{said:?}");
    assert_eq!(github.calls(CREATE), 1);
    assert!(github.calls("users/get-authenticated") >= 1);
}

#[tokio::test]
async fn where_github_does_not_say_who_we_are_no_comment_is_taken_for_ours() {
    let (github, stage) = asking().await;
    github.refuses("users/get-authenticated", 403);
    github.somebody_comments(REPOSITORY, 12, MARK);
    github.fails(CREATE, Fault::Fails);
    stage.pushed(&pull("opened", 0, 1, 1)).await;
    in_time(&stage, "told <> ''").await;
    let said = github.comments(REPOSITORY, 12);
    assert_eq!((said.len(), said[0].as_str()), (2, MARK));
}

#[tokio::test]
async fn one_refusal_after_an_outage_keeps_no_comment_away() {
    let (github, stage) = asking().await;
    github.goes_down();
    stage.pushed(&pull("opened", 0, 1, 1)).await;
    in_time(&stage, "attempts > 6").await;
    github.fails(CREATE, Fault::Refused(403));
    github.comes_back();
    in_time(&stage, "told <> ''").await;
    says(&github, "waits for the content").await;
    assert_eq!(github.faults_fired(), 1);
}

#[tokio::test]
async fn a_comment_that_github_refuses_again_and_again_is_let_be() {
    let (github, stage) = asking().await;
    for _time in 0..6 {
        github.fails(CREATE, Fault::Refused(422));
    }
    stage.pushed(&pull("opened", 0, 1, 1)).await;
    in_time(&stage, "given_up AND refusals = 6").await;
    stage
        .sandbox
        .database
        .advance(Duration::from_mins(10))
        .await;
    // Turns go on: another pull request has its comment.
    let mut other = pull("opened", 0, 2, 2);
    other.body["number"] = 13.into();
    stage.pushed(&other).await;
    wait_until(SOON, "the other's comment", async || {
        github.comments(REPOSITORY, 13).len() == 1
    })
    .await;
    assert_eq!(github.calls(CREATE), 7);
    assert_eq!(github.comments(REPOSITORY, 12), Vec::<String>::new());
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
        let mark = format!("<!-- candlefish:pull:{number} -->");
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
    done(&stage).await;
    assert!(is_one(&stage, "given_up").await);
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
