//! What was done to an environment, by whom and why.

use candlefish_proto::deploy::{
    self as pb, deployment::State, record::Kind, stop_service_client::StopServiceClient,
};

use crate::{
    api::{Api, baking, fields, policy},
    sandbox::{SITE, Sandbox},
};

async fn page(api: &Api, environment: &str, size: i32, token: &str) -> pb::ListHistoryResponse {
    let request = api.request(pb::ListHistoryRequest {
        site: SITE.to_owned(),
        environment: environment.to_owned(),
        page_size: size,
        page_token: token.to_owned(),
    });
    let answer = api.sites().list_history(request).await;
    answer.unwrap().into_inner()
}

async fn records(api: &Api, environment: &str) -> Vec<pb::Record> {
    page(api, environment, 0, "").await.records
}

/// How an environment was rolled back, newest first.
pub(crate) async fn rollbacks(api: &Api, environment: &str) -> Vec<pb::Record> {
    let mut records = records(api, environment).await;
    records.retain(|one| one.kind() == Kind::Rollback);
    records
}

/// What was done, and why.
fn acts(records: &[pb::Record]) -> Vec<(Kind, &str)> {
    records
        .iter()
        .map(|one| (one.kind(), one.reason.as_str()))
        .collect()
}

async fn stopped_and_lifted(sandbox: &Sandbox, api: &Api, site: &str) {
    let now = "SELECT floor(extract(epoch FROM clock()))::bigint";
    let mut client = StopServiceClient::new(api.channel.clone());
    let until = prost_types::Timestamp {
        seconds: sandbox.number(now).await + 600,
        nanos: 0,
    };
    let request = api.request(pb::SetStopRequest {
        site: site.to_owned(),
        pauses: false,
        reason: "an attack".to_owned(),
        until: Some(until),
    });
    let stop = client.set_stop(request).await.unwrap().into_inner();
    let request = api.request(pb::LiftStopRequest {
        id: stop.id,
        reason: "it is over".to_owned(),
    });
    client.lift_stop(request).await.unwrap();
}

/// Does everything that is recorded; answers the two releases, the deployment that was aborted and the
/// one that rolled back.
async fn acted(sandbox: &Sandbox, api: &Api) -> [String; 4] {
    for environment in ["production", "staging"] {
        api.create_environment(environment, policy()).await;
    }
    let old = sandbox.release(api, "old").await;
    api.deploy_whole("production", &old).await;
    let new = sandbox.release(api, "new").await;
    let made = api.create("production", &new, Some(baking())).await;
    let hurts = made.unwrap().into_inner().id;
    api.wait_in(&hurts, pb::step::Kind::Bake).await;
    api.abort(&hurts).await.unwrap();
    api.wait_for(&hurts, &[State::RolledBack]).await;
    api.clear("production", &new).await.unwrap();
    api.deploy_whole("production", &new).await;
    let back = api.roll_back_because("production", "it hurts again").await;
    let back = back.unwrap().into_inner().deployment.unwrap().id;
    api.wait_for(&back, &[State::Succeeded]).await;
    let waits = api.deploy("production", &new).await;
    api.pin(&waits, false).await.unwrap();
    api.pin(&waits, true).await.unwrap();
    api.cancel_because(&waits, "not needed").await.unwrap();
    // What was done once is recorded once, and what was refused is not.
    let keyed = api.keyed("one");
    keyed.lift("production").await.unwrap();
    keyed.lift("production").await.unwrap();
    api.lift("production").await.unwrap_err();
    api.hold("production").await.unwrap();
    let request = api.request(pb::CreateDeploymentRequest {
        site: SITE.to_owned(),
        environment: "production".to_owned(),
        release_id: new.clone(),
        lift_hold: "launched".to_owned(),
        ..pb::CreateDeploymentRequest::default()
    });
    let lifts = api.deployments().create_deployment(request).await.unwrap();
    api.wait_for(&lifts.into_inner().id, &[State::Succeeded])
        .await;
    api.ban(&old).await.unwrap();
    api.clear("", &old).await.unwrap();
    stopped_and_lifted(sandbox, api, SITE).await;
    stopped_and_lifted(sandbox, api, "").await;
    [old, new, hurts, back]
}

/// What [`acted`] does everywhere, to the site and to production; newest first.
const EVERYWHERE: [(Kind, &str); 2] = [(Kind::LiftStop, "it is over"), (Kind::Stop, "an attack")];
const OF_SITE: [(Kind, &str); 4] = [
    (Kind::LiftStop, "it is over"),
    (Kind::Stop, "an attack"),
    (Kind::Unban, "it was the network"),
    (Kind::Ban, "it leaks"),
];
const OWN: [(Kind, &str); 11] = [
    (Kind::LiftHold, "launched"),
    (Kind::Hold, "an incident"),
    (Kind::LiftHold, "it is over"),
    (Kind::Cancel, "not needed"),
    (Kind::Unpin, "it fixes the login"),
    (Kind::Pin, "it fixes the login"),
    (Kind::Hold, "it hurts again"),
    (Kind::Rollback, "it hurts again"),
    (Kind::Clear, "it was the network"),
    (Kind::Abort, "it hurts"),
    (Kind::Reject, "aborted by erin: it hurts"),
];

#[tokio::test]
async fn every_act_is_recorded_with_who_when_and_why_newest_first() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started().await;
    let [old, new, hurts, back] = acted(&sandbox, &api).await;
    let elsewhere = [&EVERYWHERE[..], &OF_SITE].concat();
    assert_eq!(acts(&records(&api, "staging").await), elsewhere);
    let whole = records(&api, "production").await;
    assert_eq!(acts(&whole), [&elsewhere[..], &OWN].concat());
    assert!(whole.iter().all(|one| one.by == "erin" && one.at.is_some()));
    let abort = &whole[whole.len() - 2];
    assert_eq!((&abort.deployment_id, &abort.release_id), (&hurts, &new));
    let rolled = &whole[whole.len() - 4];
    assert_eq!((&rolled.deployment_id, &rolled.release_id), (&back, &old));
    assert_eq!(whole[0].site, "");
    assert_eq!((&*whole[2].site, &*whole[2].environment), (SITE, ""));
    assert_eq!(whole[6].environment, "production");

    let (mut paged, mut token) = (Vec::new(), String::new());
    loop {
        let answer = page(&api, "production", 4, &token).await;
        paged.extend(answer.records);
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, whole);
}

#[tokio::test]
async fn a_hold_is_not_lifted_for_a_blank_reason() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started().await;
    api.create_environment("production", policy()).await;
    let release = sandbox.release(&api, "one").await;
    let held = api.hold("production").await.unwrap().into_inner();
    let request = api.request(pb::CreateDeploymentRequest {
        site: SITE.to_owned(),
        environment: "production".to_owned(),
        release_id: release,
        lift_hold: " \t".to_owned(),
        ..pb::CreateDeploymentRequest::default()
    });
    let made = api.deployments().create_deployment(request).await;
    let refused = made.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert_eq!(fields(&refused), ["lift_hold"]);
    assert_eq!(api.environment("production").await, held);
    let records = records(&api, "production").await;
    assert_eq!(acts(&records), [(Kind::Hold, "an incident")]);
    assert_eq!(sandbox.number("SELECT count(*) FROM deployment").await, 0);
}

#[tokio::test]
async fn a_history_is_for_those_who_see_the_site() {
    let (_sandbox, _orchestrator, _edge, api) = Sandbox::started().await;
    api.create_environment("production", policy()).await;
    let api = api.seeing(&["other"]);
    let request = api.request(pb::ListHistoryRequest {
        site: SITE.to_owned(),
        environment: "production".to_owned(),
        ..pb::ListHistoryRequest::default()
    });
    let refused = api.sites().list_history(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound);
}
