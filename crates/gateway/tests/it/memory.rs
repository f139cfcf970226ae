//! What has ended is answered from memory: the same as the service said, to those who may see it,
//! until something in it changes.

use bytes::Bytes;
use candlefish_proto::deploy::{
    Deployment, GetDeploymentRequest, Release, Site, deployment::State,
    deployment_service_client::DeploymentServiceClient,
};
use candlefish_runtime::{
    config::Env,
    metrics::{self, MEMORY_READS},
    refusal::{Code, Refusal},
};
use candlefish_testkit::{poll_until, wait_until};
use prost::Message;
use prost_types::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tonic::metadata::MetadataMap;

use crate::{
    backend::{Answer, frame},
    raw::{self, with_token},
    stand::{Answered, SOON, Stand},
};

const GET: &str = "DeploymentService/GetDeployment";
const PATH: &str = "/candlefish.deploy.v1.DeploymentService/GetDeployment";
const CANCEL: &str = "DeploymentService/CancelDeployment";

/// A deployment of `docs` that has ended, and shows its release.
fn ended(id: &str) -> Deployment {
    Deployment {
        id: id.to_owned(),
        site: "docs".to_owned(),
        state: State::Succeeded.into(),
        finished_at: Some(Timestamp::default()),
        release_id: "rel_1".to_owned(),
        release: Some(Release {
            id: "rel_1".to_owned(),
            site: "docs".to_owned(),
            branches: vec!["main".to_owned()],
            ..Release::default()
        }),
        version: 7,
        ..Deployment::default()
    }
}

/// A gateway that follows its feed, so that it may answer from memory.
async fn stand() -> Stand {
    stand_with(&[]).await
}

async fn stand_with(more: &[(&str, &str)]) -> Stand {
    let stand = Stand::start_with(more).await;
    stand.follows().await;
    stand
}

/// Reads a deployment over REST while the service would answer this.
async fn read(stand: &Stand, deployment: &Deployment) -> Answered {
    stand.backend.will_answer(GET, deployment);
    let path = format!("/v1/deployments/{}", deployment.id);
    let answer = stand.get(&path, &stand.admin).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer
}

/// Reads it; whether the service was asked.
async fn is_asked(stand: &Stand, deployment: &Deployment) -> bool {
    let before = stand.backend.seen().len();
    read(stand, deployment).await;
    stand.backend.seen().len() > before
}

/// Reads it twice, so that it is in memory.
async fn keep(stand: &Stand, deployment: &Deployment) {
    read(stand, deployment).await;
    assert!(!is_asked(stand, deployment).await, "it is not kept");
}

/// The message and the metadata of an answer over gRPC, but what names the one request.
async fn grpc(stand: &Stand, id: &str) -> (Bytes, MetadataMap) {
    let asked = GetDeploymentRequest { id: id.to_owned() };
    let asked = with_token(Bytes::from(asked.encode_to_vec()), &stand.admin);
    let message = raw::call(stand.channel(), PATH, asked).await.unwrap();
    let mut client = DeploymentServiceClient::new(stand.channel());
    let asked = GetDeploymentRequest { id: id.to_owned() };
    let answer = client.get_deployment(with_token(asked, &stand.admin)).await;
    let mut metadata = answer.unwrap().metadata().clone();
    for name in ["x-request-id", "candlefish-request-id", "date"] {
        assert!(metadata.remove(name).is_some(), "{name}");
    }
    (message, metadata)
}

#[tokio::test]
async fn what_has_ended_is_asked_of_the_service_once() {
    metrics::install();
    let stand = stand().await;
    let first = read(&stand, &ended("dep_1")).await;
    // Had it asked, it would have got another answer.
    let other = Deployment {
        version: 8,
        ..ended("dep_1")
    };
    let again = read(&stand, &other).await;
    assert_eq!(again.body, first.body);
    assert_eq!(again.body["version"], 7);
    let id = again.header("x-request-id");
    assert!(!id.is_empty() && id != first.header("x-request-id"));
    for (name, value) in &first.headers {
        if name != "x-request-id" && name != "date" {
            assert_eq!(again.headers.get(name), Some(value), "{name}");
        }
    }
    let (message, _) = grpc(&stand, "dep_1").await;
    assert_eq!(message, ended("dep_1").encode_to_vec());
    assert_eq!(stand.backend.seen().len(), 1);
    let told = metrics::install().render();
    for (outcome, times) in [("found", 3), ("missed", 1)] {
        let line = format!("{MEMORY_READS}{{outcome=\"{outcome}\"}} {times}\n");
        assert!(told.contains(&line), "{line} is not in\n{told}");
    }
}

#[tokio::test]
async fn with_and_without_memory_it_is_the_same_answer() {
    let with = stand().await;
    let without = stand_with(&[("CANDLEFISH_REMEMBER_ANSWERS_BYTES", "0")]).await;
    // What a newer service says besides, field 999.
    let mut bytes = ended("dep_1").encode_to_vec();
    bytes.extend_from_slice(b"\xba\x3e\x05newer");
    let mut answers = Vec::new();
    for stand in [&with, &without] {
        let will = || {
            let answer = Answer::Message(bytes.clone(), http::HeaderMap::new());
            stand.backend.will(GET, answer);
        };
        // Each way twice: for the one gateway the first is the service's answer, the rest memory's.
        for _ in 0..2 {
            will();
            let path = "/v1/deployments/dep_1";
            let text = stand.ask(Method::GET, path, &stand.admin).send().await;
            let text = text.unwrap().text().await.unwrap();
            will();
            let asked = GetDeploymentRequest {
                id: "dep_1".to_owned(),
            };
            let asked = with_token(Bytes::from(asked.encode_to_vec()), &stand.admin);
            let message = raw::call(stand.channel(), PATH, asked).await.unwrap();
            assert_eq!(message, bytes);
            answers.push((text, message));
        }
    }
    assert_eq!(with.backend.seen().len(), 1);
    assert_eq!(without.backend.seen().len(), 4);
    assert!(
        answers.windows(2).all(|pair| pair[0] == pair[1]),
        "{answers:?}"
    );
}

#[tokio::test]
async fn over_grpc_it_comes_with_the_same_metadata() {
    let stand = stand().await;
    // Two calls, and only the first is asked of the service.
    stand.backend.will_answer(GET, &ended("dep_1"));
    let from_memory = grpc(&stand, "dep_1").await;
    assert_eq!(stand.backend.seen().len(), 1);
    let without = stand_with(&[("CANDLEFISH_REMEMBER_ANSWERS_BYTES", "0")]).await;
    without.backend.will_answer(GET, &ended("dep_1"));
    let asked = GetDeploymentRequest {
        id: "dep_1".to_owned(),
    };
    let mut client = DeploymentServiceClient::new(without.channel());
    let answer = client
        .get_deployment(with_token(asked, &without.admin))
        .await;
    let metadata = answer.unwrap().metadata().clone();
    for name in from_memory.1.keys() {
        let tonic::metadata::KeyRef::Ascii(name) = name else {
            panic!("{name:?}");
        };
        assert_eq!(metadata.get(name), from_memory.1.get(name), "{name}");
    }
    assert_eq!(metadata.len(), from_memory.1.len() + 3, "{metadata:?}");
}

#[tokio::test]
async fn browsers_get_it_by_grpc_web() {
    let stand = stand().await;
    keep(&stand, &ended("dep_1")).await;
    let asked = GetDeploymentRequest {
        id: "dep_1".to_owned(),
    };
    let before = stand.backend.seen().len();
    let request = stand
        .ask(Method::POST, PATH, &stand.admin)
        .header("content-type", "application/grpc-web+proto")
        .body(frame(&asked.encode_to_vec()));
    let body = request.send().await.unwrap().bytes().await.unwrap();
    assert_eq!(stand.backend.seen().len(), before);
    let whole = frame(&ended("dep_1").encode_to_vec());
    assert_eq!(body.slice(..whole.len()), whole);
    let trailers = String::from_utf8_lossy(&body.slice(whole.len() + 5..)).to_lowercase();
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
}

#[tokio::test]
async fn what_still_moves_is_asked_of_the_service_each_time() {
    let stand = stand().await;
    let running = Deployment {
        state: State::Running.into(),
        finished_at: None,
        ..ended("dep_1")
    };
    for _ in 0..3 {
        assert!(is_asked(&stand, &running).await);
    }
    // Its end is seen at once, and from then on it is kept.
    assert!(is_asked(&stand, &ended("dep_1")).await);
    assert!(!is_asked(&stand, &ended("dep_1")).await);
}

#[tokio::test]
async fn nobody_finds_what_they_may_not_see() {
    let stand = stand().await;
    keep(&stand, &ended("dep_1")).await;
    let stranger = stand.token("ci-shop", "ROLE_ADMIN", &["shop"]).await;
    let unknown = || {
        let words = "there is no deployment dep_1";
        Answer::Refusal(Refusal::new(Code::NotFound, "deployment-unknown", words).into())
    };
    stand.backend.will(GET, unknown());
    let before = stand.backend.seen().len();
    let answer = stand.get("/v1/deployments/dep_1", &stranger).await;
    answer.is_problem(404);
    assert_eq!(stand.backend.last().caller.sites, ["shop"]);
    stand.backend.will(GET, unknown());
    let asked = GetDeploymentRequest {
        id: "dep_1".to_owned(),
    };
    let asked = with_token(Bytes::from(asked.encode_to_vec()), &stranger);
    let status = raw::call(stand.channel(), PATH, asked).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    assert_eq!(stand.backend.seen().len(), before + 2);
    // Who may see it finds it still.
    let friend = stand.token("ci-docs", "ROLE_VIEWER", &["docs"]).await;
    let answer = stand.get("/v1/deployments/dep_1", &friend).await;
    assert_eq!(answer.body["version"], 7);
    assert_eq!(stand.backend.seen().len(), before + 2);
}

#[tokio::test]
async fn a_token_that_ended_finds_nothing() {
    let stand = stand().await;
    let made = stand
        .made_token("ci", json!({ "role": "ROLE_VIEWER" }))
        .await;
    let token = made["secret"].as_str().unwrap();
    keep(&stand, &ended("dep_1")).await;
    let answer = stand.get("/v1/deployments/dep_1", token).await;
    assert_eq!(answer.body["version"], 7);
    let path = format!(
        "/v1/tokens/{}:revoke",
        made["token"]["id"].as_str().unwrap()
    );
    stand.post(&path, &stand.admin, &json!({})).await;
    for token in [token, "", "nonsense"] {
        let answer = stand.get("/v1/deployments/dep_1", token).await;
        answer.is_problem(401);
    }
}

#[tokio::test]
async fn a_request_that_is_wrong_is_refused_all_the_same() {
    let stand = stand().await;
    keep(&stand, &ended("dep_1")).await;
    let answer = stand
        .get("/v1/deployments/dep_1?colour=red", &stand.admin)
        .await;
    answer.is_problem(400);
    assert_eq!(answer.fields(), ["colour"]);
}

#[tokio::test]
async fn a_call_that_changes_something_of_the_site_forgets_it_before_it_is_answered() {
    let stand = stand().await;
    let elsewhere = Deployment {
        site: "shop".to_owned(),
        release: None,
        ..ended("dep_2")
    };
    keep(&stand, &ended("dep_1")).await;
    keep(&stand, &elsewhere).await;
    let calls: [(&str, &str, Value); 2] = [
        // The request names the site, and its answer; or its answer alone.
        (
            "DeploymentService/CreateDeployment",
            "/v1/deployments",
            json!({ "site": "docs" }),
        ),
        (CANCEL, "/v1/deployments/dep_3:cancel", json!({})),
    ];
    for (method, path, body) in calls {
        stand.backend.will_answer(method, &ended("dep_3"));
        let answer = stand.post(path, &stand.admin, &body).await;
        assert!(answer.status.is_success(), "{answer:?}");
        assert!(is_asked(&stand, &ended("dep_1")).await, "after {method}");
        assert!(!is_asked(&stand, &ended("dep_1")).await);
        assert!(!is_asked(&stand, &elsewhere).await, "after {method}");
    }
    // Over gRPC too.
    stand.backend.will_answer(CANCEL, &ended("dep_3"));
    let path = format!("/candlefish.deploy.v1.{CANCEL}");
    let request = with_token(Bytes::from_static(b"\x0a\x05dep_3"), &stand.admin);
    raw::call(stand.channel(), &path, request).await.unwrap();
    assert!(is_asked(&stand, &ended("dep_1")).await);
    assert!(!is_asked(&stand, &elsewhere).await);
}

#[tokio::test]
async fn a_call_without_a_site_forgets_everything_unless_it_was_refused() {
    let stand = stand().await;
    keep(&stand, &ended("dep_1")).await;
    let cancel = "/v1/deployments/dep_3:cancel";
    let refusal = Refusal::new(Code::FailedPrecondition, "terminal", "it has ended");
    stand.backend.will(CANCEL, Answer::Refusal(refusal.into()));
    stand
        .post(cancel, &stand.admin, &json!({}))
        .await
        .is_problem(409);
    assert!(!is_asked(&stand, &ended("dep_1")).await, "nothing was done");
    // It may have been done, and nobody knows to which site.
    let lost = Refusal::new(Code::Unavailable, "lost", "it may have been done");
    stand.backend.will(CANCEL, Answer::Refusal(lost.into()));
    stand
        .post(cancel, &stand.admin, &json!({}))
        .await
        .is_problem(503);
    assert!(is_asked(&stand, &ended("dep_1")).await);
    keep(&stand, &ended("dep_1")).await;
    let (kill, killed) = oneshot::channel();
    kill.send(()).unwrap();
    stand
        .backend
        .will(CANCEL, Answer::Death(Bytes::from_static(&[0, 0]), killed));
    stand
        .post(cancel, &stand.admin, &json!({}))
        .await
        .is_problem(503);
    assert!(is_asked(&stand, &ended("dep_1")).await);
    keep(&stand, &ended("dep_1")).await;
    // An answer that names no site.
    let site = Site {
        slug: "blog".to_owned(),
        ..Site::default()
    };
    stand.backend.will_answer("SiteService/CreateSite", &site);
    let answer = stand
        .post("/v1/sites", &stand.admin, &json!({ "slug": "blog" }))
        .await;
    assert!(answer.status.is_success(), "{answer:?}");
    assert!(is_asked(&stand, &ended("dep_1")).await);
}

#[tokio::test]
async fn a_caller_that_goes_before_its_answer_has_forgotten_all_the_same() {
    let stand = stand().await;
    keep(&stand, &ended("dep_1")).await;
    stand.backend.will(CANCEL, Answer::Silence);
    let before = stand.backend.seen().len();
    let request = stand.ask(Method::POST, "/v1/deployments/dep_3:cancel", &stand.admin);
    let asking = request.json(&json!({})).send();
    tokio::select! {
        answer = asking => panic!("{answer:?}"),
        () = wait_until(SOON, "the call", async || stand.backend.seen().len() > before) => {}
    }
    wait_until(SOON, "it to be forgotten", async || {
        is_asked(&stand, &ended("dep_1")).await
    })
    .await;
}

#[tokio::test]
async fn an_event_forgets_what_shows_its_entity() {
    let stand = stand().await;
    let other = Deployment {
        release: Some(Release {
            id: "rel_2".to_owned(),
            ..Release::default()
        }),
        ..ended("dep_2")
    };
    for (entity, shown_by, not_by) in [
        ("rel_1", &ended("dep_1"), &other),
        ("rel_2", &other, &ended("dep_1")),
        ("dep_1", &ended("dep_1"), &other),
    ] {
        keep(&stand, &ended("dep_1")).await;
        keep(&stand, &other).await;
        stand
            .backend
            .happens_to("deploy.release.branched.v1", "docs", entity);
        wait_until(SOON, "the event", async || is_asked(&stand, shown_by).await).await;
        assert!(!is_asked(&stand, not_by).await, "{entity}");
    }
}

#[tokio::test]
async fn without_the_feed_nothing_is_answered_from_memory() {
    let stand = stand().await;
    keep(&stand, &ended("dep_1")).await;
    stand.backend.tells(false);
    wait_until(SOON, "the loss", async || {
        is_asked(&stand, &ended("dep_1")).await
    })
    .await;
    for _ in 0..3 {
        assert!(is_asked(&stand, &ended("dep_1")).await);
    }
    stand.backend.tells(true);
    wait_until(SOON, "the feed", async || {
        !is_asked(&stand, &ended("dep_1")).await
    })
    .await;
    // What was told meanwhile is not known: nothing from before is found.
    stand.backend.begins_an_epoch();
    wait_until(SOON, "the epoch", async || {
        is_asked(&stand, &ended("dep_1")).await
    })
    .await;
    wait_until(SOON, "the feed", async || {
        !is_asked(&stand, &ended("dep_1")).await
    })
    .await;
}

#[tokio::test]
async fn a_dead_replica_beside_a_living_one_empties_nothing() {
    let replicas = [("CANDLEFISH_ORCHESTRATOR_URL", "http://127.0.0.1:9,BACKEND")];
    let stand = stand_with(&replicas).await;
    keep(&stand, &ended("dep_1")).await;
    let before = stand.backend.feed_asked();
    let asked = async || stand.backend.feed_asked() > before + 10;
    wait_until(SOON, "ten looks at the feed", asked).await;
    assert!(!is_asked(&stand, &ended("dep_1")).await);
}

/// An answer that was read before a change must not be kept after it.
#[tokio::test]
async fn an_answer_on_its_way_while_something_changes_is_not_kept() {
    let stand = stand().await;
    let fresh = Deployment {
        version: 8,
        ..ended("dep_1")
    };
    for told in [false, true] {
        // So that the event, which is of its release alone, is seen by another.
        let witness = ended("dep_2");
        keep(&stand, &witness).await;
        let (say, said) = oneshot::channel();
        let late = Answer::Late(ended("dep_1").encode_to_vec(), said);
        stand.backend.will(GET, late);
        let before = stand.backend.seen().len();
        let reading = stand.get("/v1/deployments/dep_1", &stand.admin);
        let changing = async {
            let seen = async || stand.backend.seen().len() > before;
            wait_until(SOON, "the read", seen).await;
            if told {
                stand
                    .backend
                    .happens_to("deploy.release.branched.v1", "docs", "rel_1");
                let seen = async || is_asked(&stand, &witness).await;
                wait_until(SOON, "the event", seen).await;
            } else {
                stand.backend.will_answer(CANCEL, &ended("dep_3"));
                let path = "/v1/deployments/dep_3:cancel";
                stand.post(path, &stand.admin, &json!({})).await;
            }
            say.send(()).unwrap();
        };
        let (answer, ()) = tokio::join!(reading, changing);
        assert_eq!(answer.body["version"], 7);
        assert_eq!(
            read(&stand, &fresh).await.body["version"],
            8,
            "told: {told}"
        );
        // What was read after the change is.
        assert!(!is_asked(&stand, &ended("dep_1")).await);
        // For the next round.
        stand.backend.will_answer(CANCEL, &ended("dep_3"));
        stand
            .post("/v1/deployments/dep_3:cancel", &stand.admin, &json!({}))
            .await;
    }
}

#[tokio::test]
async fn an_answer_is_kept_for_its_time_and_no_longer() {
    // Long enough for two reads on a busy machine.
    let stand = stand_with(&[("CANDLEFISH_REMEMBER_ANSWERS_MS", "4000")]).await;
    keep(&stand, &ended("dep_1")).await;
    wait_until(SOON, "its end", async || {
        is_asked(&stand, &ended("dep_1")).await
    })
    .await;
}

#[tokio::test]
async fn more_than_fits_is_not_kept() {
    let stand = stand_with(&[("CANDLEFISH_REMEMBER_ANSWERS_BYTES", "8192")]).await;
    keep(&stand, &ended("dep_1")).await;
    let many: Vec<Deployment> = (0..40).map(|one| ended(&format!("dep_{one}"))).collect();
    // The cache tidies up from time to time; each entry counts for a kilobyte and its answers.
    let found = async || {
        let mut found = 0;
        for one in &many {
            found += usize::from(!is_asked(&stand, one).await);
        }
        if found < 8 { Ok(()) } else { Err(found) }
    };
    poll_until(SOON, "at most seven to be kept", found).await;
}

#[test]
fn five_minutes_are_the_most_that_can_be_set() {
    for (millis, is_fault) in [("300000", false), ("300001", true)] {
        let env = Env::from_pairs([("CANDLEFISH_REMEMBER_ANSWERS_MS", millis)]);
        let faults = gateway::Config::read(env).unwrap_err().faults;
        let named = faults
            .iter()
            .any(|fault| fault.variable == "CANDLEFISH_REMEMBER_ANSWERS_MS");
        assert_eq!(named, is_fault, "{millis}: {faults:?}");
    }
}
