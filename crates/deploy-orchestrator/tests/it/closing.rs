//! The end of a preview: by its pull request, by its age, by a person; and that nothing of it is
//! reachable after.

use std::time::Duration;

use candlefish_proto::deploy::{self as pb, Deployment, deployment::State};
use candlefish_testkit::{poll_until, wait_until};
use tonic::{Code, Status};

use crate::{
    api::{Api, baking, policy, reason},
    edge::Edge,
    previews::{HOST, PLACE, SLUG, allow, allowed, live, pull},
    sandbox::{SITE, SOON, Sandbox},
    stage::{REPOSITORY, Stage, commit},
};

async fn close(api: &Api, environment: &str, reason: &str) -> Result<pb::Environment, Status> {
    let request = api.request(pb::CloseEnvironmentRequest {
        site: SITE.to_owned(),
        environment: environment.to_owned(),
        reason: reason.to_owned(),
    });
    let answer = api.sites().close_environment(request).await?;
    Ok(answer.into_inner())
}

/// The address that a deployment has for itself.
fn own_address(deployment: &str) -> String {
    let suffix = deployment.strip_prefix("dep_").unwrap();
    format!("{suffix}--{SITE}.localhost")
}

/// No host of the table that the edges get serves anything of an environment, and neither does an edge
/// that has followed.
async fn is_unreachable(sandbox: &Sandbox, edge: &Edge, hosts: &[&str], environment: &str) {
    let serving = format!(
        "SELECT count(*) FROM route r LEFT JOIN deployment d ON d.id = r.deployment_id
         JOIN environment e ON e.id = coalesce(r.environment_id, d.environment_id)
         WHERE e.slug = '{environment}' AND (r.releases <> '[]' OR r.assets_of <> '[]')"
    );
    assert_eq!(sandbox.number(&serving).await, 0);
    for host in hosts {
        wait_until(SOON, "the edge to serve nothing", async || {
            edge.serves(host).is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn a_closed_pull_request_takes_its_preview_and_all_its_addresses_with_it() {
    let stage = allowed().await;
    let first = stage.pushed(&pull("opened", 0, 1, 1)).await;
    let first = live(&stage, &first, 1).await;
    let second = stage.pushed(&pull("synchronize", 1, 2, 2)).await;
    let second = live(&stage, &second, 2).await;
    let waits = stage.pushed(&pull("synchronize", 2, 3, 3)).await;
    let (one, two) = (own_address(&first.id), own_address(&second.id));
    for host in [HOST, &two] {
        let served = stage.edge.wait_until_it_serves(host, &second.release_id);
        served.await;
        assert!(stage.edge.route(host).unwrap().preview, "{host}");
    }

    let mut merged = pull("closed", 0, 3, 4);
    merged.body["pull_request"]["merged"] = true.into();
    let closed = stage.pushed(&merged).await;
    closed.is("closed", "");
    assert_eq!(
        (closed.place.as_str(), closed.message.as_str()),
        (PLACE, "pull request 12 was merged")
    );
    is_unreachable(&stage.sandbox, &stage.edge, &[HOST, &one, &two], SLUG).await;
    let ended = stage
        .api
        .wait_for(&waits.deployment, &[State::Cancelled])
        .await;
    let words = "docs/pr-12 was closed by github:Codertocat: pull request 12 was merged";
    assert_eq!(ended.message, words);
    let after = stage.api.environment(SLUG).await;
    let closing = after.closed.unwrap();
    assert_eq!(
        (closing.by.as_str(), closing.reason.as_str()),
        ("github:Codertocat", "pull request 12 was merged")
    );
    assert_eq!(
        (after.live_release_id.as_str(), after.pending_count),
        ("", 0)
    );
    let told = "SELECT count(*) FROM outbox WHERE event_type = 'deploy.environment.closed.v1'";
    assert_eq!(stage.sandbox.number(told).await, 1);
    let recorded = "SELECT count(*) FROM record WHERE kind = 'close' AND by = 'github:Codertocat'";
    assert_eq!(stage.sandbox.number(recorded).await, 1);
    let listed = stage.api.triggers(&commit(3)).await.unwrap();
    assert_eq!(listed[0].outcome(), pb::trigger::Outcome::Closed);
    let was_live = stage.api.triggers(&commit(2)).await.unwrap().remove(0);
    let words = "was live on docs/pr-12, which is closed now";
    assert_eq!(was_live.message, words);

    // Late, in whatever order, and again.
    for (late, before, head, at) in [
        ("synchronize", 2, 3, 3),
        ("opened", 0, 1, 1),
        ("closed", 0, 3, 4),
    ] {
        let late = stage.pushed(&pull(late, before, head, at)).await;
        late.is("ignored", "closed");
    }
    is_unreachable(&stage.sandbox, &stage.edge, &[HOST, &one, &two], SLUG).await;
}

#[tokio::test]
async fn what_acts_when_its_preview_is_closed_is_undone_and_never_reachable_again() {
    let stage = allowed().await;
    let first = live(&stage, &stage.pushed(&pull("opened", 0, 1, 1)).await, 1).await;
    // Its bake holds the second in the middle, with traffic.
    let request = stage.api.request(pb::UpdateEnvironmentRequest {
        site: SITE.to_owned(),
        environment: SLUG.to_owned(),
        policy: Some(pb::Policy {
            strategy: Some(baking()),
            ..policy()
        }),
        pushes: None,
    });
    stage.api.sites().update_environment(request).await.unwrap();
    let second = stage.pushed(&pull("synchronize", 1, 2, 2)).await;
    stage.uploads(&commit(2), "number 2").await;
    let acts = stage
        .api
        .wait_in(&second.deployment, pb::step::Kind::Bake)
        .await;
    let closed = stage.pushed(&pull("closed", 0, 2, 3)).await;
    closed.is("closed", "");
    let ended = stage
        .api
        .wait_until(&acts.id, "its end", |one: &Deployment| {
            [State::RolledBack, State::Cancelled, State::Failed].contains(&one.state())
        })
        .await;
    assert!(ended.message.contains("was closed by"), "{}", ended.message);
    // The undo would have brought the release before back.
    let (one, two) = (own_address(&first.id), own_address(&acts.id));
    is_unreachable(&stage.sandbox, &stage.edge, &[HOST, &one, &two], SLUG).await;
    assert_eq!(stage.api.environment(SLUG).await.live_release_id, "");
}

#[tokio::test]
async fn nothing_deploys_to_a_closed_preview_until_its_pull_request_is_reopened() {
    let stage = allowed().await;
    let first = live(&stage, &stage.pushed(&pull("opened", 0, 1, 1)).await, 1).await;
    stage
        .pushed(&pull("closed", 0, 1, 2))
        .await
        .is("closed", "");
    let refused = |status: Status| {
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(reason(&status), "environment-closed");
        assert!(status.message().contains("reopened"), "{status:?}");
    };
    let create = stage.api.create(SLUG, &first.release_id, None).await;
    refused(create.unwrap_err());
    refused(stage.api.retry(&first.id).await.unwrap_err());
    refused(stage.api.roll_back(SLUG).await.unwrap_err());

    let again = stage.pushed(&pull("reopened", 0, 1, 3)).await;
    again.is("created", "");
    assert_ne!(again.deployment, first.id);
    stage
        .api
        .wait_for(&again.deployment, &[State::Succeeded])
        .await;
    stage
        .edge
        .wait_until_it_serves(HOST, &first.release_id)
        .await;
    assert_eq!(stage.api.environment(SLUG).await.closed, None);
    let told = "SELECT count(*) FROM outbox WHERE event_type = 'deploy.environment.reopened.v1'";
    assert_eq!(stage.sandbox.number(told).await, 1);
}

#[tokio::test]
async fn a_person_closes_a_preview_once_and_pushes_do_not_open_it_again() {
    let stage = allowed().await;
    live(&stage, &stage.pushed(&pull("opened", 0, 1, 1)).await, 1).await;
    let status = close(&stage.api, "production", "r").await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::FailedPrecondition, "not-a-preview".to_owned())
    );
    let keyed = stage.api.keyed("close");
    for _ in 0..2 {
        let closed = close(&keyed, SLUG, "given up").await.unwrap();
        assert_eq!(closed.closed.unwrap().reason, "given up");
    }
    let status = close(&stage.api, SLUG, "given up").await.unwrap_err();
    assert_eq!(reason(&status), "environment-closed");
    let pushed = stage.pushed(&pull("synchronize", 1, 2, 2)).await;
    pushed.is("ignored", "closed");
    assert!(pushed.message.contains("given up"), "{pushed:?}");
    // The pull request's own end finds nothing left to do; its beginning opens it.
    let closed = stage.pushed(&pull("closed", 0, 2, 3)).await;
    closed.is("ignored", "closed");
    let again = stage.pushed(&pull("reopened", 0, 2, 4)).await;
    assert_eq!(again.is("created", "").place, PLACE);
}

/// Waits until an environment is closed.
async fn is_closed(api: &Api, slug: &str) -> pb::Closing {
    poll_until(SOON, "the preview to be closed", async || {
        api.environment(slug).await.closed.ok_or("open")
    })
    .await
}

#[tokio::test]
async fn previews_that_have_their_age_are_closed_and_a_push_opens_a_pull_request_s_again() {
    let stage = Stage::with(&[("CANDLEFISH_RECONCILE_MS", "100")]).await;
    allow(&stage.api, pb::preview_rule::From::Repository).await;
    let old = stage.pushed(&pull("opened", 0, 1, 1)).await;
    let old = live(&stage, &old, 1).await;
    let single = stage.api.preview(&old.release_id).await.unwrap();
    let single = single.into_inner();
    stage.api.wait_for(&single.id, &[State::Succeeded]).await;
    let day = Duration::from_hours(24);
    stage.sandbox.database.advance(day * 29).await;
    // A push makes the pull request's young again.
    let pushed = stage.pushed(&pull("synchronize", 1, 2, 2)).await;
    live(&stage, &pushed, 2).await;
    stage.sandbox.database.advance(day * 2).await;
    let closing = is_closed(&stage.api, &single.environment).await;
    assert_eq!(closing.by, "system");
    let address = own_address(&single.id);
    is_unreachable(
        &stage.sandbox,
        &stage.edge,
        &[&address],
        &single.environment,
    )
    .await;
    assert_eq!(stage.api.environment(SLUG).await.closed, None);
    stage.sandbox.database.advance(day * 29).await;
    is_closed(&stage.api, SLUG).await;
    assert_eq!(stage.api.environment("production").await.closed, None);
    let pushed = stage.pushed(&pull("synchronize", 2, 3, 3)).await;
    live(&stage, &pushed, 3).await;
    assert_eq!(stage.api.environment(SLUG).await.closed, None);
}

#[tokio::test]
async fn a_site_that_gets_another_repository_closes_the_previews_of_the_one_before() {
    let stage = Stage::with(&[("CANDLEFISH_RECONCILE_MS", "100")]).await;
    allow(&stage.api, pb::preview_rule::From::Repository).await;
    let first = stage.pushed(&pull("opened", 0, 1, 1)).await;
    live(&stage, &first, 1).await;
    let waits = stage.pushed(&pull("synchronize", 1, 2, 2)).await;
    let becomes = async |repository: &str| {
        let request = stage.api.request(pb::UpdateSiteRequest {
            site: SITE.to_owned(),
            repository: Some(repository.to_owned()),
            ..pb::UpdateSiteRequest::default()
        });
        stage.api.sites().update_site(request).await.unwrap();
    };
    // By another case it is the same one.
    becomes("EXAMPLE/docs").await;
    let changed = "SELECT count(*) FROM site WHERE repository_by <> ''";
    assert_eq!(stage.sandbox.number(changed).await, 0);
    becomes("acme/docs").await;
    let closing = is_closed(&stage.api, SLUG).await;
    let words = "erin made acme/docs the repository of docs: pull request 12 is of example/docs";
    assert_eq!((&*closing.by, &*closing.reason), ("system", words));
    is_unreachable(&stage.sandbox, &stage.edge, &[HOST], SLUG).await;
    let ended = stage
        .api
        .wait_for(&waits.deployment, &[State::Cancelled])
        .await;
    assert_eq!(
        ended.message,
        format!("{PLACE} was closed by system: {words}")
    );
    let recorded =
        format!("SELECT count(*) FROM record WHERE kind = 'close' AND reason = '{words}'");
    assert_eq!(stage.sandbox.number(&recorded).await, 1);
    assert_eq!(stage.api.environment("production").await.closed, None);
    // Where that was a mistake, nobody has to reopen a pull request.
    becomes(REPOSITORY).await;
    let again = stage.pushed(&pull("synchronize", 2, 3, 3)).await;
    assert_eq!(again.is("created", "").place, PLACE);
    live(&stage, &again, 3).await;
    assert_eq!(stage.api.environment(SLUG).await.closed, None);
    assert_eq!(stage.sandbox.number(&recorded).await, 1);
}

#[tokio::test]
async fn a_single_preview_serves_until_it_is_closed_however_long_ago_its_deployment_ended() {
    let settings = [
        ("CANDLEFISH_RECONCILE_MS", "100"),
        ("CANDLEFISH_FORGET_MS", "100"),
    ];
    let stage = Stage::with(&settings).await;
    let Stage {
        sandbox, edge, api, ..
    } = &stage;
    let old = sandbox.release(api, "old").await;
    let replaced = api.deploy_whole("production", &old).await;
    let new = sandbox.release(api, "new").await;
    api.deploy_whole("production", &new).await;
    let shown = sandbox.release(api, "shown").await;
    let single = api.preview(&shown).await.unwrap().into_inner();
    api.wait_for(&single.id, &[State::Succeeded]).await;
    let (before, own) = (own_address(&replaced.id), own_address(&single.id));
    edge.wait_until_it_serves(&before, &old).await;
    edge.wait_until_it_serves(&own, &shown).await;
    // Edges are told which of them may end unseen.
    for (host, is_preview) in [("docs.localhost", false), (&*before, false), (&*own, true)] {
        assert_eq!(edge.route(host).unwrap().preview, is_preview, "{host}");
    }
    let day = Duration::from_hours(24);
    sandbox.database.advance(day * 8).await;
    wait_until(SOON, "an old address to be taken away", async || {
        edge.serves(&before).is_empty()
    })
    .await;
    // Both are old by the same look.
    let serving = format!("SELECT count(*) FROM route WHERE host = '{own}' AND releases <> '[]'");
    assert_eq!(sandbox.number(&serving).await, 1);
    assert_eq!(edge.serves(&own), [(shown, 100)]);
    sandbox.database.advance(day * 23).await;
    is_closed(api, &single.environment).await;
    is_unreachable(sandbox, edge, &[&own], &single.environment).await;
    let retried = api.retry(&single.id).await.unwrap_err();
    let cancelled = api.cancel(&single.id).await.unwrap_err();
    for (refused, word) in [(retried, "not-repeatable"), (cancelled, "terminal")] {
        assert_eq!(reason(&refused), word);
        let advice = "for another one: candlefish deploy DIR --site docs --preview";
        assert!(refused.message().ends_with(advice), "{refused:?}");
    }
}

#[tokio::test]
async fn previews_that_cannot_be_closed_keep_no_other_from_its_end() {
    let often = [("CANDLEFISH_RECONCILE_MS", "100")];
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started_with(&often).await;
    let release = sandbox.release(&api, "one").await;
    let single = api.preview(&release).await.unwrap().into_inner();
    api.wait_for(&single.id, &[State::Succeeded]).await;
    // As no command could have left them, older and more than are looked at together.
    sandbox
        .act(
            "INSERT INTO environment (id, site_id, slug, kind, policy, created_at, created_by)
                 SELECT gen_random_uuid(), id, 'broken-' || n, 'preview', '3',
                        clock() - interval '40 days', 'erin'
                 FROM site, generate_series(1, 60) n;
             INSERT INTO lane (environment_id)
                 SELECT id FROM environment WHERE slug LIKE 'broken-%'",
        )
        .await;
    let month = Duration::from_hours(24 * 31);
    sandbox.database.advance(month).await;
    is_closed(&api, &single.environment).await;
    let open = "SELECT count(*) FROM environment WHERE closed_at IS NULL";
    assert_eq!(sandbox.number(open).await, 60);
}

#[tokio::test]
async fn what_was_live_in_a_closed_preview_is_collected() {
    let settings = [
        ("CANDLEFISH_COLLECT_MS", "100"),
        ("CANDLEFISH_COLLECT_AFTER_MS", "3600000"),
    ];
    let stage = Stage::with(&settings).await;
    allow(&stage.api, pb::preview_rule::From::Repository).await;
    let first = live(&stage, &stage.pushed(&pull("opened", 0, 1, 1)).await, 1).await;
    stage
        .pushed(&pull("closed", 0, 1, 2))
        .await
        .is("closed", "");
    stage
        .sandbox
        .database
        .advance(Duration::from_hours(48))
        .await;
    let release = first
        .release_id
        .parse::<candlefish_ids::ReleaseId>()
        .unwrap();
    let collected = format!(
        "SELECT count(*) FROM release WHERE collected_at IS NOT NULL AND id = '{}'",
        release.uuid()
    );
    poll_until(SOON, "its release to be collected", async || {
        let count = stage.sandbox.number(&collected).await;
        (count == 1).then_some(()).ok_or(count)
    })
    .await;
}
