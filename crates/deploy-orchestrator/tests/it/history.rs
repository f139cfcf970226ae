//! What was done to an environment, by whom and why.

use candlefish_proto::deploy::{
    self as pb, deployment::State, record::Kind, stop_service_client::StopServiceClient,
};

use crate::{
    api::{Api, baking, policy},
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

async fn kinds(api: &Api, environment: &str) -> Vec<Kind> {
    let records = page(api, environment, 0, "").await.records;
    records.iter().map(pb::Record::kind).collect()
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
    let back = api.roll_back("production").await.unwrap().into_inner();
    let back = back.deployment.unwrap().id;
    api.wait_for(&back, &[State::Succeeded]).await;
    let waits = api.deploy("production", &new).await;
    api.pin(&waits, false).await.unwrap();
    api.pin(&waits, true).await.unwrap();
    api.cancel(&waits).await.unwrap();
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

#[tokio::test]
async fn every_act_is_recorded_with_who_when_and_why_newest_first() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started().await;
    let [old, new, hurts, back] = acted(&sandbox, &api).await;
    let everywhere = [Kind::LiftStop, Kind::Stop];
    let of_site = [Kind::LiftStop, Kind::Stop, Kind::Unban, Kind::Ban];
    let own = [
        Kind::LiftHold,
        Kind::Hold,
        Kind::LiftHold,
        Kind::Cancel,
        Kind::Unpin,
        Kind::Pin,
        Kind::Hold,
        Kind::Rollback,
        Kind::Clear,
        Kind::Abort,
        Kind::Reject,
    ];
    let all = [&everywhere[..], &of_site, &own].concat();
    assert_eq!(kinds(&api, "production").await, all);
    assert_eq!(
        kinds(&api, "staging").await,
        [&everywhere[..], &of_site].concat()
    );
    let whole = page(&api, "production", 0, "").await.records;
    assert!(whole.iter().all(|one| one.by == "erin" && one.at.is_some()));
    let abort = &whole[whole.len() - 2];
    assert_eq!(
        (&*abort.reason, &abort.deployment_id, &abort.release_id),
        ("it hurts", &hurts, &new)
    );
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
