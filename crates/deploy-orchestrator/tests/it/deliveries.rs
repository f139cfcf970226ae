//! What is no push leaves a trigger as well, and says why nothing follows.

use candlefish_proto::deploy::{
    ListTriggersRequest,
    trigger::{Outcome, Reason},
    trigger_service_client::TriggerServiceClient,
};
use candlefish_testkit::github;

use crate::{
    api::{Answer, Api, fields},
    stage::{REPOSITORY, Stage, commit, push, site},
};

#[tokio::test]
async fn a_delivery_of_any_event_leaves_a_trigger_at_every_site_of_its_repository() {
    let stage = Stage::new().await;
    site(&stage.api, "partners", REPOSITORY).await;
    for (mut example, reason) in [
        (github::create(), "not_acted_on"),
        (github::delete(), "deleted"),
        (github::release_published(), "not_acted_on"),
        (github::workflow_run_completed(), "not_acted_on"),
        (github::ping(), "not_acted_on"),
    ] {
        example.body["repository"]["full_name"] = REPOSITORY.into();
        let id = stage.gateway.receives(&example);
        let decided = stage.decided(&id, 2).await;
        for (one, place) in decided.iter().zip(["docs", "partners"]) {
            one.is("ignored", reason);
            assert_eq!((one.place.as_str(), one.deployment.as_str()), (place, ""));
            assert!(!one.message.is_empty(), "{one:?}");
        }
    }
    let events = "SELECT count(DISTINCT event) FROM trigger";
    assert_eq!(stage.sandbox.number(events).await, 5);
}

#[tokio::test]
async fn a_push_that_cannot_be_read_says_so_at_the_sites_of_its_repository() {
    let stage = Stage::new().await;
    let mut broken = push(0, 1);
    broken.body["after"] = "no commit".into();
    let decided = stage.pushed(&broken).await;
    decided.is("ignored", "unreadable");
    assert_eq!(decided.place, "docs");
    assert!(
        decided.message.contains("after is no commit"),
        "{decided:?}"
    );
    // What comes after it is decided as ever.
    stage.pushed(&push(0, 1)).await.is("created", "");
}

#[tokio::test]
async fn a_delivery_is_found_by_its_commit_and_says_what_happened() {
    let stage = Stage::new().await;
    let number = 0xabc_def0;
    let mut run = github::workflow_run_completed();
    run.body["repository"]["full_name"] = REPOSITORY.into();
    run.body["workflow_run"]["head_sha"] = commit(number).into();
    stage.pushed(&run).await;
    stage.pushed(&push(0, number)).await.is("created", "");
    let told = async |api: &Api| {
        let triggers = api.triggers(&commit(number)).await.unwrap();
        let told = triggers.into_iter();
        told.map(|one| (one.event.clone(), one.outcome(), one.reason()))
            .collect::<Vec<_>>()
    };
    let expected = [
        ("push".to_owned(), Outcome::Created, Reason::Unspecified),
        (
            "workflow_run".to_owned(),
            Outcome::Ignored,
            Reason::NotActedOn,
        ),
    ];
    assert_eq!(told(&stage.api).await, expected);
}

#[tokio::test]
async fn everything_that_was_told_of_a_site_is_listed_to_whoever_may_see_it() {
    let stage = Stage::new().await;
    site(&stage.api, "partners", "example/partners").await;
    for mut example in [github::create(), github::delete()] {
        example.body["repository"]["full_name"] = REPOSITORY.into();
        stage.pushed(&example).await;
    }
    stage.pushed(&push(0, 1)).await.is("created", "");
    let listed = async |api: &Api, site: &str| {
        let request = api.request(ListTriggersRequest {
            site: site.to_owned(),
            ..ListTriggersRequest::default()
        });
        let mut client = TriggerServiceClient::new(api.channel.clone());
        let answer = client.list_triggers(request).await?.into_inner();
        let events = answer.triggers.into_iter().map(|one| one.event);
        Answer::Ok(events.collect::<Vec<_>>())
    };
    let all = ["push", "delete", "create"];
    assert_eq!(listed(&stage.api, "docs").await.unwrap(), all);
    let narrow = stage.api.seeing(&["partners"]);
    assert!(listed(&narrow, "docs").await.unwrap().is_empty());
    assert!(listed(&narrow, "partners").await.unwrap().is_empty());
    let status = listed(&stage.api, "").await.unwrap_err();
    assert_eq!(fields(&status), ["commit"]);
}
