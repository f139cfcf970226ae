//! A rejection is of the environment that made it, and of no other.

use candlefish_proto::deploy::{self as pb, deployment::State};

use crate::{
    api::baking,
    sandbox::SITE,
    stage::{Stage, commit, environment, latest, push},
};

#[tokio::test]
async fn a_push_of_what_one_environment_rejected_goes_to_the_other_one_of_its_branch() {
    let stage = Stage::new().await;
    let api = &stage.api;
    environment(api, SITE, "staging", "main", &[], latest()).await;
    let release = stage.uploads(&commit(1), "hurts production").await;
    let made = api.create("production", &release, Some(baking())).await;
    let hurts = made.unwrap().into_inner().id;
    api.wait_in(&hurts, pb::step::Kind::Bake).await;
    api.abort(&hurts).await.unwrap();
    // Nothing was live before it.
    api.wait_for(&hurts, &[State::Failed]).await;

    let id = stage.gateway.receives(&push(0, 1));
    let decided = stage.decided(&id, 2).await;
    let [production, staging] = &*decided else {
        panic!("{decided:?}");
    };
    production.is("ignored", "rejected_release");
    let words = "docs/production rejected its release: aborted by erin: it hurts";
    assert_eq!(
        [&*production.place, &*production.message],
        ["docs/production", words]
    );
    assert_eq!(production.deployment, "");
    assert_eq!(staging.is("created", "").place, "docs/staging");
    let live = api.wait_for(&staging.deployment, &[State::Succeeded]).await;
    assert_eq!(live.release_id, release);
    let served = stage.edge.serves("staging--docs.localhost");
    assert_eq!(served, [(release, 100)]);
    assert_eq!(stage.edge.serves("docs.localhost"), []);
}
