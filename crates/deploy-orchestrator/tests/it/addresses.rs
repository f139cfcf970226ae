//! Where a deployment's release can be looked at by itself.

use candlefish_proto::deploy::{self as pb, deployment::State};

use crate::{
    api::Api,
    rollbacks::{rolled_back, started},
    sandbox::SITE,
};

/// The deployment's own address, as it is told alone and among others.
async fn own_address(api: &Api, id: &str) -> String {
    let alone = api.deployment(id).await.preview_url;
    let request = api.request(pb::ListDeploymentsRequest {
        site: SITE.to_owned(),
        ..pb::ListDeploymentsRequest::default()
    });
    let listed = api.deployments().list_deployments(request).await.unwrap();
    let mut listed = listed.into_inner().deployments.into_iter();
    let listed = listed.find(|one| one.id == id).unwrap();
    assert_eq!(listed.preview_url, alone);
    alone
}

#[tokio::test]
async fn an_own_address_is_told_as_long_as_it_serves() {
    let (sandbox, _orchestrator, _edge, api, _releases) = started(&[]).await;
    let four = sandbox.release(&api, "four").await;
    let fourth = api.deploy_whole("production", &four).await.id;
    let suffix = fourth.strip_prefix("dep_").unwrap();
    let own = own_address(&api, &fourth).await;
    assert!(own.starts_with(&format!("http://{suffix}--docs.")), "{own}");
    let back = rolled_back(&api, |_| {}).await.deployment.unwrap().id;
    api.wait_for(&back, &[State::Succeeded]).await;
    assert_eq!(own_address(&api, &back).await, "", "edges had its release");
    let five = sandbox.release(&api, "five").await;
    let waits = api.deploy("production", &five).await;
    assert_eq!(own_address(&api, &waits).await, "", "it is held");
    let taken = "UPDATE route SET releases = '[]' WHERE deployment_id IS NOT NULL";
    sandbox.act(taken).await;
    assert_eq!(own_address(&api, &fourth).await, "");
}
