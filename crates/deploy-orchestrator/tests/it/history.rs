//! What went live in an environment, what failed there, and what was done to it, by whom and why.

use candlefish_proto::deploy::{
    self as pb, deployment::State, record::Kind, stop_service_client::StopServiceClient,
};

use crate::{
    api::{Api, baking, fields, policy},
    sandbox::{SITE, Sandbox},
    stage::{Stage, commit, push},
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

/// What the history of an environment tells, newest first.
pub(crate) async fn records(api: &Api, environment: &str) -> Vec<pb::Record> {
    page(api, environment, 0, "").await.records
}

/// Those of one kind.
pub(crate) async fn of_kind(api: &Api, environment: &str, kind: Kind) -> Vec<pb::Record> {
    let mut records = records(api, environment).await;
    records.retain(|one| one.kind() == kind);
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
const OWN: [(Kind, &str); 16] = [
    (Kind::Live, ""),
    (Kind::LiftHold, "launched"),
    (Kind::Hold, "an incident"),
    (Kind::LiftHold, "it is over"),
    (Kind::Cancel, "not needed"),
    (Kind::Unpin, "it fixes the login"),
    (Kind::Pin, "it fixes the login"),
    (Kind::Live, "it hurts again"),
    (Kind::Hold, "it hurts again"),
    (Kind::Rollback, "it hurts again"),
    (Kind::Live, ""),
    (Kind::Clear, "it was the network"),
    (Kind::Abort, "it hurts"),
    (Kind::Reject, "aborted by erin: it hurts"),
    (Kind::Live, ""),
    (Kind::Live, ""),
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
    let is_about = |from_end: usize, kind: Kind, deployment: &str, release: &str| {
        let one = &whole[whole.len() - from_end];
        let told = (one.kind(), &*one.deployment_id, &*one.release_id);
        assert_eq!(told, (kind, deployment, release));
    };
    is_about(2, Kind::Live, &hurts, &new);
    is_about(4, Kind::Abort, &hurts, &new);
    // Asked for, and then live.
    is_about(7, Kind::Rollback, &back, &old);
    is_about(9, Kind::Live, &back, &old);
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
async fn what_a_person_does_without_saying_why_is_told_as_done_without_a_reason() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started().await;
    api.create_environment("production", policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let new = sandbox.release(&api, "new").await;
    let made = api.create("production", &new, Some(baking())).await;
    let hurts = made.unwrap().into_inner().id;
    api.wait_in(&hurts, pb::step::Kind::Bake).await;
    let request = api.request(pb::AbortDeploymentRequest {
        id: hurts.clone(),
        reason: String::new(),
    });
    api.deployments().abort_deployment(request).await.unwrap();
    api.wait_for(&hurts, &[State::RolledBack]).await;
    api.clear("production", &new).await.unwrap();
    api.deploy_whole("production", &new).await;
    let back = api.roll_back("production").await.unwrap().into_inner();
    let back = back.deployment.unwrap().id;
    api.wait_for(&back, &[State::Succeeded]).await;
    let waits = api.deploy("production", &new).await;
    // What is blank says nothing.
    let cancelled = api.cancel_because(&waits, " \t").await.unwrap();
    assert_eq!(cancelled.into_inner().message, "cancelled by erin");
    let told = [
        (Kind::Cancel, "no reason given"),
        (Kind::Live, ""),
        (Kind::Hold, "rolled back by hand"),
        (Kind::Rollback, "no reason given"),
        (Kind::Live, ""),
        (Kind::Clear, "it was the network"),
        (Kind::Abort, "no reason given"),
        (Kind::Reject, "aborted by erin"),
        (Kind::Live, ""),
        (Kind::Live, ""),
    ];
    assert_eq!(acts(&records(&api, "production").await), told);
}

/// A release of a commit with this message.
async fn described(sandbox: &Sandbox, api: &Api, message: &str) -> String {
    let (manifest, size) = sandbox.put_content(&[("index.html", message)]).await;
    let request = api.request(pb::CreateReleaseRequest {
        site: SITE.to_owned(),
        manifest_digest: manifest.to_string(),
        manifest_size: size,
        message: message.to_owned(),
        ..pb::CreateReleaseRequest::default()
    });
    let draft = api.releases().create_release(request).await.unwrap();
    api.seal(&draft.into_inner().id).await
}

#[tokio::test]
async fn what_goes_live_is_told_once_with_who_asked_and_why_or_else_what_its_commit_says() {
    let (sandbox, _orchestrator, _edge, api) = Sandbox::started().await;
    api.create_environment("production", policy()).await;
    let menu = described(&sandbox, &api, "\n  Fix the menu\n\nIt was gone.").await;
    let first = api.deploy_whole("production", &menu).await;
    let prices = described(&sandbox, &api, "New prices").await;
    let request = api.request(pb::CreateDeploymentRequest {
        site: SITE.to_owned(),
        environment: "production".to_owned(),
        release_id: prices.clone(),
        reason: "the sale begins".to_owned(),
        ..pb::CreateDeploymentRequest::default()
    });
    let made = api.deployments().create_deployment(request).await.unwrap();
    let second = api
        .wait_for(&made.into_inner().id, &[State::Succeeded])
        .await;
    let live = |deployment: &pb::Deployment, release: &str, reason: &str| pb::Record {
        kind: Kind::Live.into(),
        at: deployment.live_at,
        by: "erin".to_owned(),
        reason: reason.to_owned(),
        site: SITE.to_owned(),
        environment: "production".to_owned(),
        release_id: release.to_owned(),
        deployment_id: deployment.id.clone(),
        ..pb::Record::default()
    };
    let told = [
        live(&second, &prices, "the sale begins"),
        live(&first, &menu, "Fix the menu"),
    ];
    assert_eq!(records(&api, "production").await, told);
}

#[tokio::test]
async fn what_a_push_makes_live_is_told_of_who_pushed() {
    let stage = Stage::new().await;
    let release = stage.uploads(&commit(1), "pushed").await;
    let made = stage.pushed(&push(0, 1)).await.deployment;
    let live = stage.api.wait_for(&made, &[State::Succeeded]).await;
    let told = records(&stage.api, "production").await;
    assert_eq!(acts(&told), [(Kind::Live, "pushed to main")]);
    let of = [&told[0].by, &told[0].release_id, &told[0].deployment_id];
    assert_eq!(of, [&live.created_by, &release, &made]);
}

#[tokio::test]
async fn what_goes_wrong_by_itself_has_one_line_that_says_why() {
    let (sandbox, _orchestrator, edge, api) = Sandbox::started().await;
    api.create_environment("production", policy()).await;
    let old = sandbox.release(&api, "old").await;
    api.deploy_whole("production", &old).await;
    let wrong = async |host: &str, words: &str, state: State| {
        edge.act(|script| script.lies_on = Some(host.to_owned()));
        let release = sandbox.release(&api, words).await;
        let id = api.deploy("production", &release).await;
        (api.wait_for(&id, &[state]).await.message, release, id)
    };
    // Any address, its own too; then that of the environment alone.
    let failed = wrong("", "broken", State::Failed).await;
    let hurt = wrong("docs.", "hurts", State::RolledBack).await;
    let told = records(&api, "production").await;
    let expected = [
        (Kind::Reject, &*hurt.0),
        (Kind::Fail, &*failed.0),
        (Kind::Live, ""),
    ];
    assert_eq!(acts(&told), expected);
    for (one, (_, release, id)) in told.iter().zip([&hurt, &failed]) {
        let of = [&*one.by, &*one.release_id, &*one.deployment_id];
        assert_eq!(of, ["system", &**release, &**id]);
    }
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
