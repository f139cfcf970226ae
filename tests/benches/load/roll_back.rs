//! From asking for a rollback until every edge serves the release before.

use std::time::{Duration, Instant};

use e2e::{Content, Sandbox, api::Commit};

use crate::{Row, millis, percentile};

const TIMES: usize = 80;

pub(super) async fn run(sandbox: &Sandbox) -> Row {
    let api = &sandbox.api;
    api.create_site("back", &["production"]).await.unwrap();
    let commits = Commit::chain(77, 2);
    let mut releases = Vec::new();
    for (mark, commit) in ["old", "new"].iter().zip(&commits) {
        releases.push(
            api.release("back", &Content::site(mark), commit)
                .await
                .unwrap(),
        );
    }
    let edges: Vec<_> = sandbox
        .stack
        .edges()
        .iter()
        .map(|edge| edge.address)
        .collect();
    let http = reqwest::Client::new();
    // A rollback goes only to what was live.
    for release in &releases {
        let asked = api.deploy("back", "production", release, None).await;
        api.succeeds(&asked.unwrap().id).await.unwrap();
    }
    let mut samples = Vec::new();
    for release in releases.iter().cycle().take(TIMES) {
        samples.push(go_to(sandbox, &http, &edges, release).await);
    }
    Row {
        path: "rollback asked → all live edges on the old release",
        target: "p99 < 250 ms",
        measured: format!(
            "p50 {}, p99 {} ({} rollbacks, 2 edges)",
            millis(percentile(&mut samples, 0.5)),
            millis(percentile(&mut samples, 0.99)),
            samples.len()
        ),
    }
}

/// Makes a release live by a rollback.
async fn go_to(
    sandbox: &Sandbox,
    http: &reqwest::Client,
    edges: &[std::net::SocketAddr],
    release: &str,
) -> Duration {
    let api = &sandbox.api;
    let request = candlefish_proto::deploy::CreateRollbackRequest {
        site: "back".to_owned(),
        environment: "production".to_owned(),
        to_release_id: release.to_owned(),
        ..Default::default()
    };
    let asked = Instant::now();
    let made = api
        .deployments()
        .create_rollback(request)
        .await
        .unwrap()
        .into_inner();
    for edge in edges {
        while e2e::fetch(http, *edge, "back.localhost", "/")
            .await
            .unwrap()
            .release
            != release
        {
            assert!(
                asked.elapsed() < Duration::from_secs(10),
                "an edge did not follow"
            );
        }
    }
    let took = asked.elapsed();
    api.succeeds(&made.deployment.unwrap().id).await.unwrap();
    took
}
