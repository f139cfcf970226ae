//! What becomes of pushes.

use candlefish_proto::deploy::{self as pb, Deployment, deployment::State};
use candlefish_testkit::{Log, github, poll_until, wait_until};
use sqlx::Row;

use crate::{
    api::{Answer, Api, blockers, fields, reason},
    sandbox::{SITE, SOON},
    stage::{Decided, NONE, REPOSITORY, Stage, commit, environment, latest, push, site, uuid_of},
};

#[tokio::test]
async fn a_push_waits_for_its_content_goes_live_with_it_and_is_one_with_its_upload() {
    let stage = Stage::new().await;
    let decided = stage.pushed(&push(0, 1)).await;
    decided.is("created", "");
    let waits = stage.api.deployment(&decided.deployment).await;
    assert_eq!(waits.state(), State::Pending);
    assert_eq!(waits.created_by, "github:Codertocat");
    assert_eq!(waits.reason, "pushed to main");
    assert_eq!(blockers(&waits), [pb::blocker::Kind::Content]);
    let blocker = &waits.blockers[0];
    assert!(blocker.until.is_some(), "{blocker:?}");
    assert!(blocker.message.contains(&commit(1)[..7]), "{blocker:?}");
    let action = format!(
        "candlefish deploy DIR --site docs --env production --commit {}",
        commit(1)
    );
    assert_eq!(blocker.action, action);
    let release = waits.release.clone().unwrap();
    assert_eq!(release.commit, commit(1));
    assert_eq!(release.message, "Change 0000000");
    assert_eq!(
        (release.author.as_str(), &release.branches[..]),
        ("Codertocat", &["main".to_owned()][..])
    );
    assert_eq!(release.manifest_digest, "");
    assert_eq!(release.state(), pb::release::State::Draft);
    // Nothing can be uploaded of it before somebody says what it is.
    let request = stage.api.request(pb::ListMissingBlobsRequest {
        id: release.id.clone(),
        ..pb::ListMissingBlobsRequest::default()
    });
    let refused = stage.api.releases().list_missing_blobs(request).await;
    assert_eq!(reason(&refused.unwrap_err()), "release-expected");
    let request = stage.api.request(pb::SealReleaseRequest {
        id: release.id.clone(),
    });
    let refused = stage.api.releases().seal_release(request).await;
    assert_eq!(reason(&refused.unwrap_err()), "release-expected");

    let uploaded = stage.uploads(&commit(1), "one").await;
    assert_eq!(uploaded, release.id);
    let live = stage.api.wait_for(&waits.id, &[State::Succeeded]).await;
    assert!(!live.release.unwrap().manifest_digest.is_empty());
    // CI asks for the deployment after all: it is the one that there is.
    let asked = stage.api.deploy("production", &uploaded).await;
    assert_eq!(asked, waits.id);
    assert_eq!(
        stage
            .sandbox
            .number("SELECT count(*) FROM deployment")
            .await,
        1
    );
    // Whoever asks once more means once more.
    let again = stage.api.deploy("production", &uploaded).await;
    assert_ne!(again, waits.id);
    let told = "SELECT count(*) FROM outbox WHERE event_type = 'deploy.release.created.v1'";
    assert_eq!(stage.sandbox.number(told).await, 1);
}

#[tokio::test]
async fn an_upload_that_comes_before_its_push_is_the_push_s_deployment() {
    let stage = Stage::new().await;
    let uploaded = stage.uploads(&commit(1), "one").await;
    let first = stage.api.deploy("production", &uploaded).await;
    let decided = stage.pushed(&push(0, 1)).await;
    decided.is("created", "");
    assert_eq!(decided.deployment, first);
    stage.api.wait_for(&first, &[State::Succeeded]).await;
    assert_eq!(
        stage
            .sandbox
            .number("SELECT count(*) FROM deployment")
            .await,
        1
    );

    // Also one that is on its way: a draft is filled by nobody else.
    let content = stage.sandbox.put_content(&[("index.html", "two")]).await;
    let draft = stage.api.create_release(content, &commit(2), &[]).await;
    let decided = stage.pushed(&push(1, 2)).await;
    decided.is("created", "");
    let waits = stage.api.deployment(&decided.deployment).await;
    assert_eq!(waits.release_id, draft);
    assert_eq!(blockers(&waits), [pb::blocker::Kind::Content]);
    let sealed = stage.api.seal(&draft).await;
    let asked = stage.api.deploy("production", &sealed).await;
    assert_eq!(asked, waits.id);
    stage.api.wait_for(&asked, &[State::Succeeded]).await;
}

#[tokio::test]
async fn other_content_of_the_commit_takes_the_place_of_what_never_came() {
    let stage = Stage::new().await;
    let content = stage
        .sandbox
        .put_content(&[("index.html", "given up")])
        .await;
    let left = stage.api.create_release(content, &commit(1), &[]).await;
    let decided = stage.pushed(&push(0, 1)).await;
    let waits = stage.api.deployment(&decided.deployment).await;
    assert_eq!(waits.release_id, left);
    let built = stage.uploads(&commit(1), "built anew").await;
    assert_ne!(built, left);
    let asked = stage.api.deploy("production", &built).await;
    assert_eq!(asked, waits.id);
    let live = stage.api.wait_for(&asked, &[State::Succeeded]).await;
    assert_eq!(live.release_id, built);
}

#[tokio::test]
async fn what_is_ignored_says_why() {
    let stage = Stage::new().await;
    environment(&stage.api, SITE, "staging", "next", &[], latest()).await;
    site(&stage.api, "quiet", "example/quiet").await;

    let mut elsewhere = push(0, 1);
    elsewhere.body["repository"]["full_name"] = "example/nobody".into();
    let decided = stage.pushed(&elsewhere).await;
    decided.is("ignored", "unknown_repository");
    assert_eq!(
        (decided.place.as_str(), decided.deployment.as_str()),
        ("", "")
    );

    let mut quiet = push(0, 1);
    quiet.body["repository"]["full_name"] = "Example/Quiet".into();
    let decided = stage.pushed(&quiet).await;
    decided.is("ignored", "no_rule");
    assert!(decided.message.contains("env pushes"), "{decided:?}");

    let id = stage.gateway.receives(&push(0, 1));
    let both = stage.decided(&id, 2).await;
    assert_eq!(both[0].place, "docs/production");
    both[0].is("created", "");
    assert_eq!(both[1].place, "docs/staging");
    both[1].is("ignored", "branch");
    assert_eq!(
        both[1].message,
        "docs/staging takes pushes to next, not to main"
    );

    for (mut example, reason) in [
        (github::push_tag(), "not_a_branch"),
        (github::push_tag_deleted(), "not_a_branch"),
    ] {
        example.body["repository"]["full_name"] = REPOSITORY.into();
        stage.pushed(&example).await.is("ignored", reason);
    }
    let mut deleted = push(1, 2);
    deleted.body["after"] = NONE.into();
    deleted.body["head_commit"] = serde_json::Value::Null;
    let decided = stage.pushed(&deleted).await;
    decided.is("ignored", "deleted");
    assert_eq!(decided.place, "docs/production");
}

#[tokio::test]
async fn one_repository_holds_several_sites_by_the_files_that_change() {
    let stage = Stage::new().await;
    site(&stage.api, "partners", REPOSITORY).await;
    environment(
        &stage.api,
        "partners",
        "production",
        "main",
        &["partners/"],
        latest(),
    )
    .await;
    environment(
        &stage.api,
        SITE,
        "staging",
        "main",
        &["docs/", "!docs/b.md"],
        latest(),
    )
    .await;
    let id = stage.gateway.receives(&push(1, 2));
    let decided = stage.decided(&id, 3).await;
    let told = decided.iter().map(|one| {
        (
            one.place.as_str(),
            one.outcome.as_str(),
            one.reason.as_str(),
        )
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            ("docs/production", "created", ""),
            ("docs/staging", "created", ""),
            ("partners/production", "ignored", "paths"),
        ]
    );
    // A branch that is new may have changed anything.
    let id = stage.gateway.receives(&push(0, 3));
    let decided = stage.decided(&id, 3).await;
    assert!(
        decided.iter().all(|one| one.outcome == "created"),
        "{decided:?}"
    );
}

#[tokio::test]
async fn a_delivery_that_is_told_twice_is_decided_once_and_the_same_push_again_is_a_duplicate() {
    let stage = Stage::new().await;
    let id = stage.gateway.receives(&push(0, 1));
    let first = stage.decided(&id, 1).await.remove(0);
    stage.gateway.tells(&id);
    stage.gateway.tells(&id);
    // Another hook tells of the same push in other words.
    let mut other = push(0, 1);
    other.body["installation"] = serde_json::json!({"id": 2, "node_id": "I"});
    let again = stage.pushed(&other).await;
    again.is("ignored", "duplicate");
    assert_eq!(again.message, "another delivery told of this push before");
    assert_eq!(again.deployment, first.deployment);
    assert_eq!(stage.decisions(&id).await, [first]);
    assert_eq!(
        stage
            .sandbox
            .number("SELECT count(*) FROM deployment")
            .await,
        1
    );
    assert_eq!(stage.gateway.fetched(), 2);
}

#[tokio::test]
async fn a_late_delivery_of_an_older_commit_never_replaces_a_newer_one() {
    let stage = Stage::new().await;
    // 3 comes before 2, which it descends from; 1 comes last of all.
    let newest = stage.pushed(&push(2, 3)).await;
    newest.is("created", "");
    stage.uploads(&commit(3), "three").await;
    stage
        .api
        .wait_for(&newest.deployment, &[State::Succeeded])
        .await;
    let late = stage.pushed(&push(1, 2)).await;
    late.is("superseded", "older");
    assert_eq!(late.deployment, newest.deployment);
    let latest = stage.pushed(&push(0, 1)).await;
    latest.is("superseded", "older");
    assert_eq!(latest.deployment, newest.deployment);
    assert_eq!(
        stage
            .sandbox
            .number("SELECT count(*) FROM deployment")
            .await,
        1
    );
}

#[tokio::test]
async fn content_that_comes_out_of_order_does_not_go_backwards() {
    let stage = Stage::new().await;
    let first = stage.pushed(&push(0, 1)).await.deployment;
    let third = stage.pushed(&push(2, 3)).await.deployment;
    let second = stage.pushed(&push(1, 2)).await.deployment;
    for id in [&first, &second, &third] {
        let waits = stage.api.deployment(id).await;
        assert_eq!(blockers(&waits), [pb::blocker::Kind::Content], "{id}");
    }
    stage.uploads(&commit(3), "three").await;
    stage.api.wait_for(&third, &[State::Succeeded]).await;
    // That 3 descends from 1 was known only once 2 had told so.
    for (id, number) in [(&first, 1), (&second, 2)] {
        stage
            .uploads(&commit(number), &format!("number {number}"))
            .await;
        let ended = stage.api.wait_for(id, &[State::Superseded]).await;
        assert_eq!(ended.superseded_by, third);
    }
}

#[tokio::test]
async fn a_rewritten_history_is_no_way_back_by_itself_but_what_is_new_on_it_goes_live() {
    let stage = Stage::new().await;
    let live = async |decided: Decided, number: usize| {
        stage
            .uploads(&commit(number), &format!("number {number}"))
            .await;
        stage
            .api
            .wait_for(&decided.deployment, &[State::Succeeded])
            .await
    };
    live(stage.pushed(&push(0, 1)).await, 1).await;
    let second = live(stage.pushed(&push(1, 2)).await, 2).await;
    let forced = |before: usize, after: usize| {
        let mut example = push(before, after);
        example.body["forced"] = true.into();
        example
    };
    let back = stage.pushed(&forced(2, 1)).await;
    back.is("superseded", "older");
    assert!(back.message.contains("roll back"), "{back:?}");
    assert_eq!(back.deployment, second.id);
    let other = stage.pushed(&forced(2, 9)).await;
    other.is("created", "");
    live(other, 9).await;
}

#[tokio::test]
async fn a_push_tells_its_story_by_commit_to_whoever_may_see_the_site() {
    use pb::trigger::{Outcome, Reason};
    let stage = Stage::new().await;
    environment(&stage.api, SITE, "staging", "next", &[], latest()).await;
    site(&stage.api, "partners", REPOSITORY).await;
    environment(&stage.api, "partners", "production", "main", &[], latest()).await;
    let number = 0xabc_def0;
    let id = stage.gateway.receives(&push(1, number));
    stage.decided(&id, 3).await;
    let mut elsewhere = push(1, number);
    elsewhere.body["repository"]["full_name"] = "example/fork".into();
    stage.pushed(&elsewhere).await;
    let digits = &commit(number)[..];
    let told = async |api: &Api| {
        let triggers = api.triggers(digits).await.unwrap();
        triggers
            .into_iter()
            .map(|one| {
                let place = format!("{}/{}", one.site, one.environment);
                (place, one.outcome(), one.reason(), one.message)
            })
            .collect::<Vec<_>>()
    };
    let all = told(&stage.api).await;
    let short = &digits[..7];
    let waits = format!(
        "waits: nobody uploaded the content of {short} yet; whoever builds it, such as CI, does"
    );
    let usual = Reason::Unspecified;
    let expected = [
        (
            "/",
            Outcome::Ignored,
            Reason::UnknownRepository,
            "no site has the repository example/fork",
        ),
        ("partners/production", Outcome::Created, usual, &waits),
        (
            "docs/staging",
            Outcome::Ignored,
            Reason::Branch,
            "docs/staging takes pushes to next, not to main",
        ),
        ("docs/production", Outcome::Created, usual, &waits),
    ];
    let expected = expected.map(|(place, outcome, reason, message)| {
        (place.to_owned(), outcome, reason, message.to_owned())
    });
    assert_eq!(all, expected);
    let partners = told(&stage.api.seeing(&["partners"])).await;
    assert_eq!(partners, expected[1..2]);
    let nobody = told(&stage.api.seeing(&["other"])).await;
    assert_eq!(nobody, []);
}

#[tokio::test]
async fn all_that_keeps_the_deployment_of_a_commit_is_told_with_it_until_it_ends() {
    use pb::blocker::Kind;
    let stage = Stage::new().await;
    stage.api.hold("production").await.unwrap();
    let id = stage.pushed(&push(1, 2)).await.deployment;
    let told = async |number: usize| {
        let triggers = stage.api.triggers(&commit(number)).await;
        triggers.unwrap().remove(0)
    };
    let waits = told(2).await;
    let deploy = format!(
        "candlefish deploy DIR --site docs --env production --commit {}",
        commit(2)
    );
    let lift = "candlefish hold lift docs/production --reason …";
    let kept = waits.blockers.iter();
    let said: Vec<_> = kept
        .map(|one| (one.kind(), &*one.owner, &*one.action))
        .collect();
    let expected = [
        (Kind::Content, "deployer", &*deploy),
        (Kind::Hold, "approver", lift),
    ];
    assert_eq!(said, expected);
    let since = |one: &pb::Blocker| one.since.is_some() && one.cleared_at.is_none();
    assert!(waits.blockers.iter().all(since), "{waits:?}");
    let itself = stage.api.deployment(&id).await;
    assert_eq!(waits.blockers, itself.blockers);
    assert_eq!(waits.action, deploy);

    stage.uploads(&commit(2), "two").await;
    stage.api.lift("production").await.unwrap();
    stage.api.wait_for(&id, &[State::Succeeded]).await;
    assert_eq!(told(2).await.blockers, []);
    // What makes way for a newer one is not kept by what keeps that.
    stage.api.hold("production").await.unwrap();
    let newer = stage.pushed(&push(3, 4)).await.deployment;
    stage.uploads(&commit(4), "four").await;
    let is_held = |one: &Deployment| blockers(one) == [Kind::Hold];
    stage.api.wait_until(&newer, "the hold", is_held).await;
    let late = stage.pushed(&push(2, 3)).await;
    late.is("superseded", "older");
    assert_eq!(late.deployment, newer);
    assert_eq!(told(3).await.blockers, []);
    assert_eq!(told(4).await.blockers.len(), 1);
}

#[tokio::test]
async fn the_deployments_of_a_commit_are_listed_of_all_sites_that_the_caller_sees() {
    let stage = Stage::new().await;
    site(&stage.api, "partners", REPOSITORY).await;
    environment(&stage.api, "partners", "production", "main", &[], latest()).await;
    for (before, after) in [(0, 1), (1, 2)] {
        let id = stage.gateway.receives(&push(before, after));
        stage.decided(&id, 2).await;
    }
    let listed = async |api: &Api, commit: &str, environment: &str| {
        let request = api.request(pb::ListDeploymentsRequest {
            commit: commit.to_owned(),
            environment: environment.to_owned(),
            ..pb::ListDeploymentsRequest::default()
        });
        let answer = api.deployments().list_deployments(request).await?;
        let found = answer.into_inner().deployments.into_iter();
        Answer::Ok(found.map(|one| one.site).collect::<Vec<_>>())
    };
    let mut all = listed(&stage.api, &commit(1), "").await.unwrap();
    all.sort();
    assert_eq!(all, [SITE, "partners"]);
    let seen_by = async |site: &str| {
        let narrow = stage.api.seeing(&[site]);
        listed(&narrow, &commit(1), "").await.unwrap()
    };
    assert_eq!(seen_by("partners").await, ["partners"]);
    assert!(seen_by("other").await.is_empty());
    for (commit, environment, field) in [("0000000", "", "commit"), ("", "production", "site")] {
        let refused = listed(&stage.api, commit, environment).await;
        assert_eq!(fields(&refused.unwrap_err()), [field]);
    }
}

#[tokio::test]
async fn what_went_live_says_so_and_what_is_no_commit_is_named() {
    let stage = Stage::new().await;
    let digits = &commit(0xabc_def0)[..];
    let production = stage.pushed(&push(1, 0xabc_def0)).await.deployment;
    stage.uploads(digits, "the content").await;
    stage.api.wait_for(&production, &[State::Succeeded]).await;
    let live = stage.api.triggers(digits).await.unwrap().remove(0);
    assert_eq!(live.message, "is live on docs/production");
    assert_eq!(live.deployment_id, production);
    assert_eq!(live.deployment_state(), State::Succeeded);
    assert_eq!(
        (live.sender.as_str(), live.branch.as_str()),
        ("Codertocat", "main")
    );

    for wrong in ["abcdef", "ABCDEF0", "abcdefg"] {
        let status = stage.api.triggers(wrong).await.unwrap_err();
        assert_eq!(fields(&status), ["commit"], "{wrong}");
    }
    assert_eq!(stage.api.triggers("fffffff").await.unwrap(), []);
}

#[tokio::test]
async fn what_a_newer_one_overtook_is_told_as_superseded() {
    let stage = Stage::new().await;
    let first = stage.pushed(&push(0, 0x1111_1111)).await.deployment;
    let second = stage
        .pushed(&push(0x1111_1111, 0x2222_2222))
        .await
        .deployment;
    let (older, newer) = (commit(0x1111_1111), commit(0x2222_2222));
    stage.uploads(&newer, "newer").await;
    stage.api.wait_for(&second, &[State::Succeeded]).await;
    stage.uploads(&older, "older").await;
    stage.api.wait_for(&first, &[State::Superseded]).await;
    let told = stage.api.triggers(&older).await.unwrap().remove(0);
    assert_eq!(told.outcome(), pb::trigger::Outcome::Superseded);
    assert_eq!(told.message, format!("{second} took its place"));
}

#[tokio::test]
async fn a_rejected_release_is_not_pushed_again_and_a_held_environment_still_takes_pushes() {
    let stage = Stage::new().await;
    let uploaded = stage.uploads(&commit(1), "hurts").await;
    let first = stage.pushed(&push(0, 1)).await.deployment;
    stage.api.wait_for(&first, &[State::Succeeded]).await;
    stage
        .sandbox
        .act(&format!(
            "INSERT INTO rejection (environment_id, release_id, at, reason, deployment_id)
             SELECT environment_id, release_id, clock(), 'it hurts', id FROM deployment WHERE id = '{}'",
            first.parse::<candlefish_ids::DeploymentId>().unwrap().uuid()
        ))
        .await;
    let again = stage.pushed(&push(7, 1)).await;
    again.is("ignored", "rejected_release");
    assert!(again.message.contains("it hurts"), "{again:?}");

    stage.api.hold("production").await.unwrap();
    let held = stage.pushed(&push(1, 2)).await;
    held.is("created", "");
    // Whoever brings the content learns now what is to be lifted after it.
    let told = stage.api.triggers(&commit(2)).await.unwrap().remove(0);
    let besides = "; and docs/production is held by erin: an incident";
    let says = |what: &str| told.message.contains(what);
    assert!(says("waits: nobody uploaded") && says(besides), "{told:?}");
    assert!(told.action.starts_with("candlefish deploy"), "{told:?}");
    stage.uploads(&commit(2), "two").await;
    let waits = stage
        .api
        .wait_until(&held.deployment, "the hold", |one: &Deployment| {
            blockers(one) == [pb::blocker::Kind::Hold]
        })
        .await;
    assert_eq!(waits.state(), State::Pending);
    stage.api.lift("production").await.unwrap();
    stage.api.wait_for(&waits.id, &[State::Succeeded]).await;
    drop(uploaded);
}

#[tokio::test]
async fn a_push_of_a_banned_release_is_ignored_by_who_and_why_until_the_ban_is_lifted() {
    let stage = Stage::new().await;
    let leaks = stage.uploads(&commit(1), "leaks").await;
    stage.api.ban(&leaks).await.unwrap();
    let ignored = stage.pushed(&push(0, 1)).await;
    ignored.is("ignored", "banned_release");
    assert!(
        ignored.message.starts_with("its release is banned by erin")
            && ignored.message.ends_with("it leaks"),
        "{ignored:?}"
    );
    assert_eq!(
        stage
            .sandbox
            .number("SELECT count(*) FROM deployment")
            .await,
        0
    );
    let told = stage.api.triggers(&commit(1)).await.unwrap().remove(0);
    assert_eq!(told.reason(), pb::trigger::Reason::BannedRelease);

    stage.api.clear("", &leaks).await.unwrap();
    let again = stage.pushed(&push(7, 1)).await;
    again.is("created", "");
    stage
        .api
        .wait_for(&again.deployment, &[State::Succeeded])
        .await;
}

#[tokio::test]
async fn what_cannot_be_read_or_fetched_keeps_nothing_else() {
    let stage = Stage::new().await;
    let noted = async |id: &str, words: &str| {
        poll_until(SOON, words, async || {
            let note =
                sqlx::query("SELECT note, done_at IS NOT NULL AS done FROM delivery WHERE id = $1")
                    .bind(uuid_of(id))
                    .fetch_optional(&stage.sandbox.pool)
                    .await
                    .unwrap();
            let told = note.map(|row| (row.get::<String, _>("note"), row.get::<bool, _>("done")));
            match &told {
                Some((note, true)) if note.contains(words) => Ok(()),
                _ => Err(format!("{told:?}")),
            }
        })
        .await;
    };
    let half = stage.gateway.stores("push", b"{\"ref\":".to_vec());
    stage.gateway.tells(&half);
    let ping = stage.gateway.receives(&github::ping());
    let pull = stage.gateway.receives(&github::pull_request_opened());
    let gone = stage.gateway.receives(&push(0, 8));
    stage.gateway.forgets(&gone);
    stage.gateway.fails(2);
    let decided = stage.pushed(&push(0, 1)).await;
    decided.is("created", "");
    noted(&half, "not the JSON of a push").await;
    noted(&ping, "no site has the repository Octocoders/Hello-World").await;
    // Whoever opened it asks what became of it, as after a push.
    let pull = stage.decided(&pull, 1).await.remove(0);
    pull.is("ignored", "unknown_repository");
    let words = "no site has the repository Codertocat/Hello-World";
    assert_eq!([&*pull.place, &*pull.message], ["", words]);
}

#[tokio::test]
async fn a_killed_orchestrator_and_a_gateway_that_begins_anew_lose_no_push() {
    let stage = Stage::new().await;
    let before = stage.pushed(&push(0, 1)).await;
    let Stage {
        sandbox,
        gateway,
        orchestrator,
        edge,
        api,
    } = stage;
    orchestrator.kill().await;
    let during = gateway.stores("push", push(1, 2).body.to_string().into_bytes());
    gateway.begins_an_epoch();
    // Nobody tells of what came meanwhile: it is found in the gateway's list.
    let orchestrator = sandbox.start().await;
    let stage = Stage {
        api: sandbox.api(orchestrator.running.address),
        sandbox,
        gateway,
        orchestrator,
        edge,
    };
    drop(api);
    let found = stage.decided(&during, 1).await.remove(0);
    found.is("created", "");
    let after = stage.pushed(&push(2, 3)).await;
    after.is("created", "");
    assert_ne!(before.deployment, found.deployment);
    assert_eq!(
        stage.sandbox.number("SELECT count(*) FROM trigger").await,
        3
    );
    assert_eq!(
        stage
            .sandbox
            .number("SELECT count(*) FROM deployment")
            .await,
        3
    );
}

#[tokio::test]
async fn two_replicas_decide_each_push_once() {
    let stage = Stage::new().await;
    let _second = stage.sandbox.start().await;
    let ids: Vec<String> = (1..=12)
        .map(|number| stage.gateway.receives(&push(0, number)))
        .collect();
    for id in &ids {
        stage.decided(id, 1).await.remove(0).is("created", "");
    }
    assert_eq!(
        stage.sandbox.number("SELECT count(*) FROM trigger").await,
        12
    );
    assert_eq!(
        stage
            .sandbox
            .number("SELECT count(*) FROM deployment")
            .await,
        12
    );
    assert_eq!(
        stage.sandbox.number("SELECT count(*) FROM release").await,
        12
    );
}

/// Begins a release of a commit in a transaction of its own, as either side does, and holds it.
async fn half_begun(stage: &Stage, commit: &str, digest: &str) -> sqlx::PgConnection {
    let mut conn = stage.sandbox.pool.acquire().await.unwrap().detach();
    let site: uuid::Uuid = sqlx::query_scalar("SELECT id FROM site WHERE slug = $1")
        .bind(SITE)
        .fetch_one(&mut conn)
        .await
        .unwrap();
    let named = candlefish_ids::SiteId::from_uuid(site);
    let script = format!(
        "BEGIN;
         SELECT pg_advisory_xact_lock(hashtextextended(concat_ws(E'\\n', 'commit', '{named}', '{commit}'), 0));
         INSERT INTO release (id, site_id, manifest_digest, manifest_size, state, commit, message, author,
             author_email, dirty, created_at, created_by)
         VALUES (gen_random_uuid(), '{site}', '\\x{digest}', 1, 'draft', '{commit}', '', '', '', false, clock(), 'x')"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(script))
        .execute(&mut conn)
        .await
        .unwrap();
    conn
}

/// Waits until somebody waits for that transaction, and ends it.
async fn ends(stage: &Stage, mut conn: sqlx::PgConnection) {
    let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                   WHERE d.datname = current_database() AND locktype = 'advisory' AND NOT granted";
    poll_until(SOON, "the other side to wait", async || {
        let count = stage.sandbox.number(waiting).await;
        (count == 1).then_some(()).ok_or(count)
    })
    .await;
    sqlx::raw_sql("COMMIT").execute(&mut conn).await.unwrap();
}

#[tokio::test]
async fn a_push_and_the_upload_of_its_commit_at_the_same_moment_are_one_release() {
    let stage = Stage::new().await;
    let upload = half_begun(&stage, &commit(1), &"5a".repeat(32)).await;
    let id = stage.gateway.receives(&push(0, 1));
    ends(&stage, upload).await;
    stage.decided(&id, 1).await.remove(0).is("created", "");

    let expected = half_begun(&stage, &commit(2), &"00".repeat(32)).await;
    let content = stage.sandbox.put_content(&[("index.html", "two")]).await;
    let of_commit = commit(2);
    let upload = stage.api.create_release(content, &of_commit, &[]);
    tokio::join!(upload, ends(&stage, expected));
    let releases = stage.sandbox.number("SELECT count(*) FROM release");
    assert_eq!(releases.await, 2);
}

#[tokio::test]
async fn the_deployment_of_a_push_leads_to_the_call_that_told_of_it() {
    let stage = Stage::new().await;
    let call = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    stage.gateway.is_called_by(call);
    stage.pushed(&push(0, 1)).await.is("created", "");
    let parent = sqlx::query_scalar("SELECT request_traceparent FROM deployment");
    let parent: String = parent.fetch_one(&stage.sandbox.pool).await.unwrap();
    assert_eq!(parent, call);
}

#[tokio::test]
async fn the_log_says_once_what_a_deployment_waits_for_that_it_is_live_and_how_it_ended() {
    let log = Log::hear();
    let stage = Stage::new().await;
    let waits = stage.pushed(&push(0, 1)).await;
    let said = async |words: &str| {
        wait_until(SOON, words, async || log.count(words) == 1).await;
    };
    said("INFO a deployment waits: nobody uploaded the content").await;
    stage.uploads(&commit(1), "one").await;
    let ended = [State::Succeeded];
    stage.api.wait_for(&waits.deployment, &ended).await;
    said("INFO a deployment to docs/production has ended as succeeded").await;
    said("INFO docs/production is granted its lane").await;
    said("INFO docs/production is live").await;
    said("INFO a deployment waits: nobody uploaded the content").await;
}
