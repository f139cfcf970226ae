use axum::{body::Bytes, http::HeaderMap};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc};

use super::*;
use crate::github::sign;

const REPOSITORY: &str = "acme/handbook";
const SECRET: &str = "It's a Secret to Everybody";

/// A webhook as it came.
type Came = (String, Bytes);

/// A stand-in, and what it delivers.
async fn delivering() -> (StandIn, mpsc::UnboundedReceiver<Came>) {
    let (came, deliveries) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hook = format!("http://{}/hook", listener.local_addr().unwrap());
    let router = Router::new().route("/hook", post(take)).with_state(came);
    spawn(async move { axum::serve(listener, router).await.unwrap() });
    let stand_in = StandIn::start("127.0.0.1:0".parse().unwrap());
    let stand_in = stand_in.await.unwrap();
    stand_in.delivers_to(&hook, SECRET);
    (stand_in, deliveries)
}

async fn take(
    State(came): State<mpsc::UnboundedSender<Came>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let word = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(word("x-hub-signature-256"), sign(SECRET, &body));
    came.send((word("x-github-event"), body)).unwrap();
    StatusCode::ACCEPTED
}

#[expect(clippy::disallowed_methods, reason = "it ends with the test")]
fn spawn(serving: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(serving);
}

#[tokio::test]
async fn whatever_it_delivers_keeps_to_githubs_schemas() {
    let (stand_in, mut deliveries) = delivering().await;
    let http = reqwest::Client::new();
    let ask = async |path: &str, fields: &str| {
        let request = http.post(format!("{}/_/{path}", stand_in.url()));
        let body = format!("repository={REPOSITORY}&{fields}");
        let answer = request.body(body).send().await.unwrap();
        let (status, words) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, StatusCode::OK, "{path} {fields}: {words}");
    };
    ask("push", "branch=main&file=docs/a.md").await;
    ask("push", "branch=main").await;
    for (number, end) in [(7, "merge"), (8, "close")] {
        ask("open", &format!("branch=topic-{number}&number={number}")).await;
        ask("push", &format!("branch=topic-{number}")).await;
        ask(end, &format!("number={number}&base=main")).await;
    }
    // It is answered once its webhooks are.
    let mut told = Vec::new();
    while let Ok((event, body)) = deliveries.try_recv() {
        let body: Value = serde_json::from_slice(&body).unwrap();
        let faults = crate::github::webhooks::faults(&event, &body);
        assert_eq!(faults, Vec::<String>::new(), "{event}: {body}");
        assert_eq!(body["repository"]["full_name"], REPOSITORY);
        let action = body["action"].as_str();
        told.push(action.map_or(event, str::to_owned));
    }
    let expected = [
        "push",
        "push",
        // Of the one that is merged.
        "push",
        "opened",
        "push",
        "synchronize",
        "closed",
        "push",
        // Of the one that is only closed.
        "push",
        "opened",
        "push",
        "synchronize",
        "closed",
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn what_github_would_not_send_is_refused_in_words_and_reaches_nobody() {
    let (stand_in, mut deliveries) = delivering().await;
    let mut misspelt = crate::github::push();
    misspelt.body["head_comit"] = json!(null);
    let mut typed = crate::github::push();
    typed.body["after"] = json!(1);
    let mut without = StandIn::told(REPOSITORY, 7, "closed", "", &"a".repeat(40));
    without.body.as_object_mut().unwrap().remove("number");
    for (wrong, named) in [
        (misspelt, "head_comit"),
        (typed, "after"),
        (without, "number"),
    ] {
        let refused = stand_in.deliver(REPOSITORY, &wrong).await;
        let (status, words) = refused.unwrap_err();
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(words.contains(named), "{words}");
    }
    assert!(deliveries.try_recv().is_err());
    // As it is, it is sent.
    stand_in
        .deliver(REPOSITORY, &crate::github::push())
        .await
        .unwrap();
    let (event, _body) = deliveries.try_recv().unwrap();
    assert_eq!(event, "push");
}
