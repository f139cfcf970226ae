//! At which sites of its repository a pull request gets a preview, by the files that it changes.

use std::time::Duration;

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy::{self as pb, deployment::State};
use candlefish_testkit::{
    github::{Example, Fake, Fault, archive},
    wait_until,
};

use crate::{
    previews::{PLACE, SLUG, allow, allowed, live, pull},
    sandbox::{SITE, SOON},
    stage::{self, Decided, REPOSITORY, Stage, commit, latest, push},
    unheard::found,
};

const FILES: &str = "pulls/list-files";
const DOCS: (&str, &str) = (SITE, "docs/");
const SHOP: (&str, &str) = ("shop", "shop/");
/// An answer that is only slow is one here.
const PATIENT: (&str, &str) = ("CANDLEFISH_GITHUB_TIMEOUT_MS", "10000");

/// Sites of one repository that give its pull requests previews, each with the folder that counts for what
/// it has on main.
async fn sites(of: &[(&str, &str)], settings: &[(&'static str, &str)]) -> (Fake, Stage) {
    let (github, stage) = Stage::asking(settings).await;
    for &(site, folder) in of {
        stage::site(&stage.api, site, REPOSITORY).await;
        stage::environment(&stage.api, site, "production", "main", &[folder], latest()).await;
        let request = stage.api.request(pb::UpdateSiteRequest {
            site: site.to_owned(),
            previews: Some(pb::PreviewRule {
                from: pb::preview_rule::From::Repository.into(),
                max_age: None,
            }),
            ..pb::UpdateSiteRequest::default()
        });
        stage.api.sites().update_site(request).await.unwrap();
    }
    (github, stage)
}

/// A delivery of a pull request that is to be merged into main.
fn into_main(number: u32, action: &str, before: usize, head: usize, updated_at: u32) -> Example {
    let mut example = pull(action, before, head, updated_at);
    for place in ["/number", "/pull_request/number"] {
        *example.body.pointer_mut(place).unwrap() = number.into();
    }
    *example.body.pointer_mut("/pull_request/base/ref").unwrap() = "main".into();
    example
}

/// Another pull request is opened, and decided at the only site.
async fn opened(stage: &Stage, number: u32) -> Decided {
    let head = usize::try_from(number).unwrap();
    stage.pushed(&into_main(number, "opened", 0, head, 1)).await
}

/// Waits until GitHub was looked at once; the next look is in five minutes.
async fn looked_at(stage: &Stage) {
    let looked = "SELECT count(*) FROM github_repository
                  WHERE attempts = 0 AND due_at > clock() + interval '1 minute'";
    wait_until(SOON, "the first look", async || {
        stage.sandbox.number(looked).await == 1
    })
    .await;
}

/// Its content may come until a time that is so far away.
async fn has_until(stage: &Stage, made: &Decided, after: &str, at_last: &str) {
    let id: DeploymentId = made.deployment.parse().unwrap();
    let count = format!(
        "SELECT count(*) FROM trigger WHERE deployment_id = '{}' AND content_until
         BETWEEN clock() + interval '{after}' AND clock() + interval '{at_last}'",
        id.uuid()
    );
    let is_so = stage.sandbox.number(&count).await == 1;
    assert!(is_so, "{made:?} not within {after} to {at_last}");
}

/// Waits until GitHub owes nothing any more.
async fn answered(stage: &Stage) {
    wait_until(SOON, "every answer", async || {
        let owed = "SELECT count(*) FROM pull_request WHERE unanswered_base <> ''";
        stage.sandbox.number(owed).await == 0
    })
    .await;
}

/// It waits for its content as if it were made now, and ends when nobody brings that.
async fn waits_for_an_hour(stage: &Stage, made: &Decided) {
    let waits = stage.api.deployment(&made.deployment).await;
    assert_eq!(waits.state(), State::Pending);
    let words = &waits.blockers.first().unwrap().message;
    assert!(words.ends_with("such as CI, does"), "{words}");
    has_until(stage, made, "30 minutes", "1 hour").await;
    let hours = Duration::from_hours(2);
    stage.sandbox.database.advance(hours).await;
    let failed = &[State::Failed];
    stage.api.wait_for(&made.deployment, failed).await;
}

async fn previews(stage: &Stage) -> i64 {
    let count = "SELECT count(*) FROM environment WHERE kind = 'preview'";
    stage.sandbox.number(count).await
}

#[tokio::test]
async fn a_pull_request_gets_a_preview_where_its_files_count_and_later_where_they_do_later() {
    let (github, stage) = sites(&[DOCS, SHOP], &[PATIENT]).await;
    let decided = async |example: Example| {
        let delivery = stage.gateway.receives(&example);
        stage.decided(&delivery, 2).await
    };
    github.changes(REPOSITORY, 12, ["shop/a.html"]);
    let first = decided(into_main(12, "opened", 0, 1, 1)).await;
    first[0].is("ignored", "paths");
    assert_eq!(first[0].place, SITE);
    let words = "pull request 12 changes nothing that counts for docs/production: docs/";
    assert_eq!(first[0].message, words);
    assert_eq!(first[1].is("created", "").place, "shop/pr-12");
    assert_eq!(previews(&stage).await, 1);
    // One answer is enough for all sites.
    assert_eq!(github.calls(FILES), 1);

    github.changes(REPOSITORY, 12, ["shop/a.html", "docs/a.md"]);
    let second = decided(into_main(12, "synchronize", 1, 2, 2)).await;
    assert_eq!(second[0].is("created", "").place, PLACE);
    second[1].is("created", "");
    assert_eq!(github.calls(FILES), 2);

    // What is open follows whatever is pushed.
    github.changes(REPOSITORY, 12, ["README.md"]);
    for one in decided(into_main(12, "synchronize", 2, 3, 3)).await {
        one.is("created", "");
    }
    assert_eq!(github.calls(FILES), 2);
}

#[tokio::test]
async fn a_file_that_leaves_a_folder_counts_there() {
    let (github, stage) = sites(&[DOCS, SHOP], &[PATIENT]).await;
    github.renames(REPOSITORY, 12, "docs/a.md", "attic/a.md");
    let delivery = stage.gateway.receives(&into_main(12, "opened", 0, 1, 1));
    let decided = stage.decided(&delivery, 2).await;
    assert_eq!(decided[0].is("created", "").place, PLACE);
    assert_eq!(decided[1].is("ignored", "paths").place, "shop");
}

#[tokio::test]
async fn every_page_is_read_and_one_that_changes_too_many_files_may_touch_anything() {
    let (github, stage) = sites(&[DOCS], &[PATIENT]).await;
    let many = |count: usize| (1..=count).map(|number| format!("src/{number}.rs"));
    let last = many(150).chain(["docs/a.md".to_owned()]);
    github.changes(REPOSITORY, 12, last);
    opened(&stage, 12).await.is("created", "");
    assert_eq!(github.calls(FILES), 2);
    // Nobody knows that a whole page is the last one.
    github.changes(REPOSITORY, 13, many(200));
    opened(&stage, 13).await.is("ignored", "paths");
    assert_eq!(github.calls(FILES), 5);
    github.changes(REPOSITORY, 14, many(1_000));
    opened(&stage, 14).await.is("created", "");
    assert_eq!(github.calls(FILES), 15);
}

#[tokio::test]
async fn without_an_answer_the_preview_is_made() {
    let (github, stage) = sites(&[DOCS], &[]).await;
    // Else that look asks once more.
    looked_at(&stage).await;
    // After a limit nothing is asked for a while: it comes last.
    let faults = [
        Fault::Fails,
        Fault::Silent,
        Fault::Refused(403),
        Fault::Refused(404),
        Fault::Limited(1),
    ];
    let count = faults.len();
    for (number, fault) in (21_u32..).zip(faults) {
        github.changes(REPOSITORY, u64::from(number), ["src/a.rs"]);
        github.fails(FILES, fault);
        let made = opened(&stage, number).await;
        let place = format!("{SITE}/pr-{number}");
        assert_eq!(made.is("created", "").place, place, "{fault:?}");
    }
    assert_eq!((github.faults_fired(), github.calls(FILES)), (count, count));
}

#[tokio::test]
async fn while_github_is_left_alone_previews_are_made_without_asking() {
    let rest = ("CANDLEFISH_GITHUB_REST_MS", "600000");
    let (github, stage) = sites(&[DOCS], &[rest]).await;
    looked_at(&stage).await;
    github.goes_down();
    for number in 21_u32..=28 {
        github.changes(REPOSITORY, u64::from(number), ["src/a.rs"]);
        opened(&stage, number).await.is("created", "");
    }
    // It is left alone after five failures, of whatever calls.
    assert!(github.calls(FILES) <= 5);
}

#[tokio::test]
async fn what_opened_without_an_answer_closes_once_github_says_that_no_file_counts() {
    let sweep = ("CANDLEFISH_GITHUB_SWEEP_MS", "100");
    let (github, stage) = sites(&[DOCS], &[PATIENT, sweep]).await;
    let api = &stage.api;
    for (number, file) in [(12, "src/a.rs"), (13, "docs/a.md"), (14, "src/b.rs")] {
        github.changes(REPOSITORY, number, [file]);
    }
    github.goes_down();
    let (none, counts) = (opened(&stage, 12).await, opened(&stage, 13).await);
    let brought = opened(&stage, 14).await;
    live(&stage, &brought, 14).await;
    let waits = api.deployment(&none.is("created", "").deployment).await;
    let why = "pull request 12; GitHub could not say which files it changes";
    assert_eq!(waits.reason, why);
    let words = &waits.blockers[0].message;
    assert!(words.ends_with("GitHub has not told these yet"), "{words}");
    // So long the answer is waited for, and then the content.
    has_until(&stage, &none, "6 hours", "7 hours").await;
    // The deadline of a push's content is over, and so would be theirs.
    let late = stage.pushed(&push(0, 1)).await;
    stage
        .sandbox
        .database
        .advance(Duration::from_hours(2))
        .await;
    api.wait_for(&late.deployment, &[State::Failed]).await;
    for one in [&none, &counts] {
        let waits = api.deployment(&one.deployment).await;
        assert_eq!(waits.state(), State::Pending);
    }

    github.comes_back();
    // Whatever it is asked again is due.
    stage
        .sandbox
        .database
        .advance(Duration::from_mins(15))
        .await;
    let ended = api.wait_for(&none.deployment, &[State::Cancelled]).await;
    let words = "docs/pr-12 was closed by system: pull request 12 changes nothing that counts for \
                 docs/production: docs/, as GitHub said after it had opened";
    assert_eq!(ended.message, words);
    let told = api.triggers(&commit(12)).await.unwrap().remove(0);
    assert_eq!(told.message, words);
    // Whoever builds what counts may have waited for GitHub too: its deadline begins now. What somebody brought
    // stays.
    answered(&stage).await;
    waits_for_an_hour(&stage, &counts).await;
    assert!(api.environment(SLUG).await.closed.is_some());
    assert_eq!(api.environment("pr-14").await.closed, None);

    // The first push whose files count opens it again.
    github.changes(REPOSITORY, 12, ["docs/b.md"]);
    let again = stage.pushed(&into_main(12, "synchronize", 12, 15, 2)).await;
    assert_eq!(again.is("created", "").place, PLACE);
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_waited_for_no_longer_than_six_hours() {
    let sweep = ("CANDLEFISH_GITHUB_SWEEP_MS", "100");
    let (github, stage) = sites(&[DOCS], &[PATIENT, sweep]).await;
    github.changes(REPOSITORY, 12, ["docs/a.md"]);
    // Of this call alone.
    github.refuses(FILES, 500);
    let made = opened(&stage, 12).await;
    has_until(&stage, &made, "6 hours", "7 hours").await;
    let advance = async |hours| {
        let hours = Duration::from_hours(hours);
        stage.sandbox.database.advance(hours).await;
    };
    advance(5).await;
    let asked = github.calls(FILES);
    wait_until(SOON, "one more try", async || github.calls(FILES) > asked).await;
    // What it is pushed to waits for the same answer.
    let tell = into_main(12, "synchronize", 12, 13, 2);
    let pushed = stage.pushed(&tell).await;
    pushed.is("created", "");
    has_until(&stage, &pushed, "1 hour", "2 hours").await;

    advance(1).await;
    answered(&stage).await;
    waits_for_an_hour(&stage, &pushed).await;
    assert_eq!(stage.api.environment(SLUG).await.closed, None);
}

#[tokio::test]
async fn what_is_fetched_is_brought_by_nobody_and_closes_though_it_is_live() {
    let sweep = ("CANDLEFISH_GITHUB_SWEEP_MS", "100");
    let (github, stage) = sites(&[DOCS], &[PATIENT, sweep]).await;
    let source = "UPDATE site SET source = 'repository'";
    stage.sandbox.act(source).await;
    let index: (&str, &[u8]) = ("index.html", b"twelve");
    github.packs(REPOSITORY, &commit(12), archive(&commit(12), &[index]));
    github.changes(REPOSITORY, 12, ["src/a.rs"]);
    github.refuses(FILES, 500);
    let made = opened(&stage, 12).await;
    let live = &[State::Succeeded];
    stage.api.wait_for(&made.deployment, live).await;
    assert_eq!(stage.api.environment(SLUG).await.closed, None);
    github.allows(FILES);
    answered(&stage).await;
    assert!(stage.api.environment(SLUG).await.closed.is_some());
}

#[tokio::test]
async fn without_credentials_no_file_is_known_and_the_preview_is_made() {
    let stage = allowed().await;
    let paths = "UPDATE environment SET push_paths = '{docs/}' WHERE slug = 'production'";
    stage.sandbox.act(paths).await;
    assert_eq!(opened(&stage, 12).await.is("created", "").place, PLACE);
}

#[tokio::test]
async fn github_is_asked_for_no_files_where_none_can_matter() {
    let (github, stage) = sites(&[DOCS], &[PATIENT]).await;
    for number in 12..=16 {
        github.changes(REPOSITORY, number, ["src/a.rs"]);
    }
    // It is to be merged into a branch that no environment follows.
    let other = stage.pushed(&pull("opened", 0, 1, 1)).await;
    assert_eq!(other.is("created", "").place, PLACE);
    let mut fork = into_main(13, "opened", 0, 2, 1);
    fork.body["pull_request"]["head"]["repo"] = serde_json::Value::Null;
    stage.pushed(&fork).await.is("ignored", "fork");
    let closed = into_main(14, "closed", 0, 3, 1);
    stage.pushed(&closed).await.is("ignored", "closed");
    // Files count when they count for any environment, and for this one all do.
    stage::environment(&stage.api, SITE, "staging", "main", &[], latest()).await;
    opened(&stage, 15).await.is("created", "");
    allow(&stage.api, pb::preview_rule::From::Off).await;
    opened(&stage, 16).await.is("ignored", "previews_off");
    assert_eq!(github.calls(FILES), 0);
}

#[tokio::test]
async fn a_closed_preview_opens_again_with_the_first_push_whose_files_count() {
    let (github, stage) = sites(&[DOCS], &[PATIENT]).await;
    let tell = async |action: &str, before: usize, head: usize, at: u32| {
        let example = into_main(12, action, before, head, at);
        stage.pushed(&example).await
    };
    github.changes(REPOSITORY, 12, ["docs/a.md"]);
    tell("opened", 0, 1, 1).await.is("created", "");
    tell("closed", 0, 1, 2).await.is("closed", "");
    github.changes(REPOSITORY, 12, ["src/a.rs"]);
    let again = tell("reopened", 0, 2, 3).await;
    assert_eq!(again.is("ignored", "paths").place, PLACE);
    let pushed = tell("synchronize", 2, 3, 4).await;
    assert_eq!(pushed.is("ignored", "paths").place, PLACE);
    assert!(stage.api.environment(SLUG).await.closed.is_some());
    github.changes(REPOSITORY, 12, ["src/a.rs", "docs/a.md"]);
    tell("synchronize", 3, 4, 5).await.is("created", "");
    assert_eq!(stage.api.environment(SLUG).await.closed, None);
    assert_eq!(github.calls(FILES), 4);

    // What a person closes stays closed, and no file can matter.
    let request = stage.api.request(pb::CloseEnvironmentRequest {
        site: SITE.to_owned(),
        environment: SLUG.to_owned(),
        reason: "seen".to_owned(),
    });
    stage.api.sites().close_environment(request).await.unwrap();
    tell("synchronize", 4, 5, 6).await.is("ignored", "closed");
    assert_eq!(github.calls(FILES), 4);
}

#[tokio::test]
async fn what_no_delivery_told_of_is_asked_about_once_and_again_when_it_was_pushed_to() {
    let sweep = ("CANDLEFISH_GITHUB_SWEEP_MS", "100");
    let (github, stage) = sites(&[DOCS], &[PATIENT, sweep]).await;
    github.commit(REPOSITORY, &commit(1), &[], &["docs/a.md"]);
    github.branch(REPOSITORY, "main", &commit(1));
    // In a second that is over.
    wait_until(SOON, "two looks", async || {
        let looked = "SELECT count(*) FROM github_repository WHERE pulls_at > pulls_since";
        stage.sandbox.number(looked).await == 1
    })
    .await;
    github.commit(REPOSITORY, &commit(2), &[&commit(1)], &["src/a.rs"]);
    github.shows(&into_main(12, "opened", 0, 2, 1));
    let first = found(&stage, 2).await;
    assert_eq!(first.is("ignored", "paths").place, SITE);
    let looks = github.calls("pulls/list");
    wait_until(SOON, "more looks", async || {
        github.calls("pulls/list") > looks + 4
    })
    .await;
    let said = "SELECT count(*) FROM trigger WHERE event = 'pull'";
    assert_eq!(stage.sandbox.number(said).await, 1);
    assert_eq!(github.calls(FILES), 1);
    github.commit(REPOSITORY, &commit(3), &[&commit(2)], &["docs/b.md"]);
    github.shows(&into_main(12, "synchronize", 2, 3, 1));
    let second = found(&stage, 3).await;
    assert_eq!(second.is("created", "").place, PLACE);
}
