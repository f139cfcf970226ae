//! A pull request's preview from its opening to its end, through real processes.

use candlefish_devstack::Service;
use candlefish_proto::deploy::{self as pb, trigger::Outcome};
use candlefish_testkit::github::{Example, PullRequest};
use e2e::{Content, PATIENCE, Sandbox, api::Commit};

const REPOSITORY: &str = "example/manual";
const HOST: &str = "pr-7--manual.localhost";

/// Something that happened to pull request 7.
fn pull(action: &str, before: &str, head: &str, updated_at: u32) -> Example {
    PullRequest {
        repository: REPOSITORY,
        number: 7,
        action,
        before,
        head,
        updated_at,
    }
    .example()
}

/// Waits until so many deliveries of a commit are decided; answers the newest.
async fn decided(sandbox: &Sandbox, commit: &Commit, count: usize) -> pb::Trigger {
    candlefish_devstack::wait_until(PATIENCE, "the delivery is decided", || async {
        let triggers = sandbox.api.triggers(&commit.id).await;
        let mut triggers = triggers.map_err(|status| status.to_string())?;
        if triggers.len() < count {
            return Err(format!("{} are decided", triggers.len()));
        }
        Ok(triggers.remove(0))
    })
    .await
    .unwrap()
}

/// Waits until every edge answers a host so.
async fn answers(sandbox: &Sandbox, host: &str, status: u16, mark: &str) {
    for edge in 0..2 {
        candlefish_devstack::wait_until(PATIENCE, "the edge answers so", || async {
            let page = sandbox.visit(edge, host, "/").await;
            let page = page.map_err(|error| error.to_string())?;
            if page.status == status && page.body.contains(mark) {
                Ok(())
            } else {
                Err(format!("{}: {}", page.status, page.body))
            }
        })
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_is_seen_pushed_to_and_gone_when_it_is_merged() {
    let sandbox = Sandbox::start().await.unwrap();
    let api = &sandbox.api;
    let site = pb::CreateSiteRequest {
        slug: "manual".to_owned(),
        repository: REPOSITORY.to_owned(),
        previews: Some(pb::PreviewRule {
            from: pb::preview_rule::From::Repository.into(),
            max_age: None,
        }),
        ..Default::default()
    };
    api.sites().create_site(site).await.unwrap();
    let commits = Commit::chain(46, 2);
    let (one, two) = (&commits[0], &commits[1]);

    sandbox
        .delivers("opened", &pull("opened", "", &one.id, 1))
        .await
        .unwrap();
    let opened = decided(&sandbox, one, 1).await;
    assert_eq!(opened.outcome(), Outcome::Created);
    assert_eq!(opened.environment, "pr-7");
    api.release("manual", &Content::site("one"), one)
        .await
        .unwrap();
    let first = api.succeeds(&opened.deployment_id).await.unwrap();
    answers(&sandbox, HOST, 200, "mark:one<").await;
    sandbox.send_visitors_onwards(HOST, &["one", "two"]);

    // A push while nobody is there who could decide it.
    let orchestrator = sandbox.stack.processes(Service::Orchestrator).remove(0);
    orchestrator.kill().unwrap();
    let pushed = pull("synchronize", &one.id, &two.id, 2);
    sandbox.delivers("pushed", &pushed).await.unwrap();
    orchestrator.start().unwrap();
    sandbox.stack.ready("orchestrator-1").await.unwrap();
    // One that is not yet back is not waited for, and visitors may find the older page there.
    sandbox.edges_live().await.unwrap();
    let pushed = decided(&sandbox, two, 1).await;
    let release = api.release("manual", &Content::site("two"), two).await;
    let asked = api
        .deploy("manual", "pr-7", &release.unwrap(), None)
        .await
        .unwrap();
    assert_eq!(asked.id, pushed.deployment_id);
    let second = api.succeeds(&asked.id).await.unwrap();
    answers(&sandbox, HOST, 200, "mark:two<").await;
    sandbox.nobody_complains().await.unwrap();

    let mut merged = pull("closed", "", &two.id, 3);
    merged.body["pull_request"]["merged"] = true.into();
    sandbox.delivers("merged", &merged).await.unwrap();
    let closed = decided(&sandbox, two, 2).await;
    assert_eq!(closed.outcome(), Outcome::Closed, "{closed:?}");
    let own = |deployment: &pb::Deployment| {
        let suffix = deployment.id.strip_prefix("dep_").unwrap();
        format!("{suffix}--manual.localhost")
    };
    for host in [HOST, &own(&first), &own(&second)] {
        answers(&sandbox, host, 404, "").await;
    }
    // What comes late changes nothing, and nobody deploys there.
    let mut late = pull("synchronize", &one.id, &two.id, 2);
    // Said of it after somebody wrote a comment: the same body would be the delivery that is there.
    late.body["pull_request"]["comments"] = 1.into();
    sandbox.delivers("late", &late).await.unwrap();
    let late = decided(&sandbox, two, 3).await;
    assert_eq!(late.outcome(), Outcome::Ignored, "{late:?}");
    let refused = api
        .deploy("manual", "pr-7", &second.release_id, None)
        .await
        .unwrap_err();
    assert!(refused.message().contains("is closed"), "{refused:?}");
    answers(&sandbox, HOST, 404, "").await;
    sandbox.stop().await.unwrap();
}
