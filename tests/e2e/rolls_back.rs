//! Going back: by hand, twice, with a broken bus and a frozen edge; and staying back.

use std::time::{Duration, Instant};

use candlefish_proto::deploy::{self as pb, deployment::State};
use e2e::{Content, Sandbox, Visitors, api::Commit};

/// Waits until visitors see a page of this mark.
async fn see(visitors: &Visitors, mark: &str) {
    let what = format!("visitors see {mark}");
    candlefish_devstack::wait_until(e2e::PATIENCE, &what, || async {
        if visitors.count(mark) > 0 {
            Ok(())
        } else {
            Err("not seen yet".to_owned())
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_returns_the_release_before_and_holds_the_environment() {
    let sandbox = Sandbox::start().await.unwrap();
    let api = &sandbox.api;
    let commits = Commit::chain(4, 3);
    let mut releases = Vec::new();
    for (mark, commit) in ["one", "two"].iter().zip(&commits) {
        let content = Content::site(mark).file(&format!("only-{mark}.html"), mark);
        let release = api.release("docs", &content, commit).await.unwrap();
        let asked = api
            .deploy("docs", "production", &release, None)
            .await
            .unwrap();
        api.succeeds(&asked.id).await.unwrap();
        releases.push(release);
    }

    let edges: Vec<_> = sandbox
        .stack
        .edges()
        .iter()
        .map(|edge| edge.address)
        .collect();
    let visitors = Visitors::send(&edges, "docs.localhost", 1, &["one", "two"]);
    for (release, mark) in releases.iter().zip(["one", "two"]) {
        visitors.know(release, mark);
    }
    see(&visitors, "two").await;
    let rollback = api.roll_back("docs", "production").await.unwrap();
    assert_eq!(rollback.from.as_ref().unwrap().id, releases[1]);
    assert_eq!(rollback.to.as_ref().unwrap().id, releases[0]);
    assert_eq!(rollback.lost_paths, ["/only-two.html"]);
    let id = rollback.deployment.unwrap().id;
    api.succeeds(&id).await.unwrap();
    let page = sandbox.visit(0, "docs.localhost", "/").await.unwrap();
    assert!(page.body.contains("mark:one<"));
    see(&visitors, "one").await;
    let seen = visitors.come_back().await;
    assert_eq!(seen.complaints, Vec::<String>::new());

    // A colleague who still sees the bad one live does not restore it.
    let request = pb::CreateRollbackRequest {
        site: "docs".to_owned(),
        environment: "production".to_owned(),
        leaves_release_id: releases[1].clone(),
        ..Default::default()
    };
    let again = api
        .deployments()
        .create_rollback(request)
        .await
        .unwrap()
        .into_inner();
    assert!(again.already);
    assert_eq!(again.deployment.unwrap().id, id);

    // A push afterwards waits for a person; the hold says who and why.
    let three = api
        .release("docs", &Content::site("three"), &commits[2])
        .await
        .unwrap();
    let pushed = api
        .deploy("docs", "production", &three, None)
        .await
        .unwrap();
    let waiting = api
        .until(&pushed.id, "is held", |now| {
            now.blockers
                .iter()
                .any(|one| one.kind() == pb::blocker::Kind::Hold)
        })
        .await
        .unwrap();
    assert_eq!(waiting.state(), State::Pending);
    api.lift_hold("docs", "production").await.unwrap();
    api.succeeds(&pushed.id).await.unwrap();
    let page = sandbox.visit(1, "docs.localhost", "/").await.unwrap();
    assert!(page.body.contains("mark:three<"));
    sandbox.stop().await.unwrap();
}

/// Waits until an edge serves the first release; answers when it was seen there.
async fn goes_back(sandbox: &Sandbox, edge: usize) -> anyhow::Result<Instant> {
    let what = format!("edge {edge} is back");
    candlefish_devstack::wait_until(e2e::PATIENCE, &what, || async {
        let page = sandbox.visit(edge, "docs.localhost", "/").await;
        let page = page.map_err(|error| format!("{error:#}"))?;
        if page.body.contains("mark:one<") {
            Ok(Instant::now())
        } else {
            Err(page.body)
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_needs_neither_nats_nor_every_edge() {
    let sandbox = Sandbox::with(|builder| builder.replicas(1, 1, 3))
        .await
        .unwrap();
    let api = &sandbox.api;
    let commits = Commit::chain(5, 2);
    for (mark, commit) in ["one", "two"].iter().zip(&commits) {
        let release = api
            .release("docs", &Content::site(mark), commit)
            .await
            .unwrap();
        let asked = api
            .deploy("docs", "production", &release, None)
            .await
            .unwrap();
        api.succeeds(&asked.id).await.unwrap();
    }
    let edges = sandbox.stack.edges();
    // Nobody is sent to the third: frozen, it answers when it is thawed.
    let served = [edges[0].address, edges[1].address];
    let visitors = Visitors::stroll(&served, "docs.localhost", 1, &["one", "two"]);
    see(&visitors, "two").await;
    sandbox.stack.nats().process().kill().unwrap();
    edges[2].process.freeze().unwrap();

    // From the call on, at both at once.
    let begun = Instant::now();
    let asked = api.roll_back("docs", "production");
    let (rollback, first, second) =
        tokio::join!(asked, goes_back(&sandbox, 0), goes_back(&sandbox, 1));
    let rollback = rollback.unwrap().deployment.unwrap();
    for edge in [first, second] {
        let took = edge.unwrap().duration_since(begun);
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
    let ended = api.succeeds(&rollback.id).await.unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    let named = ended
        .steps
        .iter()
        .any(|step| step.message.contains(&edges[2].id));
    assert!(named, "{}", e2e::api::summary(&ended));

    see(&visitors, "one").await;
    let seen = visitors.come_back().await;
    assert_eq!(seen.complaints, Vec::<String>::new());

    // Thawed, it follows by itself.
    edges[2].process.thaw().unwrap();
    goes_back(&sandbox, 2).await.unwrap();
    sandbox.stop().await.unwrap();
}
