//! A rejection is of the environment that made it and of no other, and outlasts the content.

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

#[tokio::test]
async fn what_was_collected_is_as_rejected_and_as_banned_as_before() {
    let stage = Stage::new().await;
    environment(&stage.api, SITE, "staging", "main", &[], latest()).await;
    let hurts = stage.uploads(&commit(1), "hurts").await;
    // What an abort and then the collector write.
    let rejected = "INSERT INTO rejection (environment_id, release_id, at, reason, deployment_id)
                    SELECT e.id, r.id, clock(), 'it hurts', gen_random_uuid()
                    FROM environment e, release r WHERE e.slug = 'production'";
    let collected = "UPDATE release SET collected_at = clock() WHERE state = 'sealed'";
    stage.sandbox.act(rejected).await;
    stage.sandbox.act(collected).await;
    let id = stage.gateway.receives(&push(0, 1));
    let decided = stage.decided(&id, 2).await;
    decided[0].is("ignored", "rejected_release");
    assert!(decided[0].message.ends_with("it hurts"), "{decided:?}");
    decided[1].is("created", "");
    // Staging expects content of the commit now, which may be the same.
    let id = stage.gateway.receives(&push(7, 1));
    let again = stage.decided(&id, 2).await;
    again[0].is("ignored", "rejected_release");
    assert_eq!(again[1].is("created", "").deployment, decided[1].deployment);
    assert_eq!(stage.uploads(&commit(1), "hurts").await, hurts);
    let asked = stage.api.deploy("staging", &hurts).await;
    assert_eq!(asked, decided[1].deployment);
    stage.api.wait_for(&asked, &[State::Succeeded]).await;

    let leaks = stage.uploads(&commit(2), "leaks").await;
    stage.api.ban(&leaks).await.unwrap();
    let second = format!("{collected} AND commit = '{}'", commit(2));
    stage.sandbox.act(&second).await;
    let id = stage.gateway.receives(&push(1, 2));
    for one in stage.decided(&id, 2).await {
        one.is("ignored", "banned_release");
        assert!(one.message.ends_with("it leaks"), "{one:?}");
    }
    stage.api.clear("", &leaks).await.unwrap();
    let id = stage.gateway.receives(&push(8, 2));
    for one in stage.decided(&id, 2).await {
        one.is("created", "");
    }
}
