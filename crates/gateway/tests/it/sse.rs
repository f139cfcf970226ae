//! Streams over REST: server-sent events that can be resumed.

use std::time::Duration;

use candlefish_proto::deploy::{Deployment, WatchDeploymentRequest};
use prost::Message;
use reqwest::{Method, Response, header::HeaderValue};
use tonic::Status;

use crate::stand::{SOON, Stand};

/// The events of one answer, cut at blank lines.
pub(crate) struct Events {
    answer: Response,
    text: String,
}

/// One event.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) data: serde_json::Value,
}

impl Events {
    pub(crate) async fn open(stand: &Stand, path: &str, token: &str, last: &str) -> Self {
        let mut request = stand.ask(Method::GET, path, token);
        if !last.is_empty() {
            request = request.header("last-event-id", last);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        Self {
            answer,
            text: String::new(),
        }
    }

    /// The next event; none at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = parse(event);
                self.text = String::from(rest);
                match event {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            let chunk = tokio::time::timeout(SOON, self.answer.chunk()).await;
            let chunk = chunk.expect("an event comes").unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The id under which the stream begins, before its first event.
    pub(crate) async fn begins(&mut self) -> String {
        while !self.text.contains("\n\n") {
            let chunk = tokio::time::timeout(SOON, self.answer.chunk()).await;
            let chunk = chunk.expect("the beginning comes").unwrap().unwrap();
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        let first = self.text.lines().next().unwrap();
        first.strip_prefix("id: ").unwrap().to_owned()
    }

    /// Whether nothing comes for a moment.
    pub(crate) async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(150), self.next())
            .await
            .is_err()
    }
}

/// Nothing for a comment.
fn parse(text: &str) -> Option<Event> {
    let mut event = Event::default();
    for line in text.lines() {
        match line.split_once(": ")? {
            ("id", value) => value.clone_into(&mut event.id),
            ("event", value) => value.clone_into(&mut event.name),
            ("data", value) => event.data = serde_json::from_str(value).unwrap(),
            ("", _) => return None,
            (other, _) => panic!("{other} in {text}"),
        }
    }
    Some(event)
}

fn deployment(version: i32) -> Vec<u8> {
    let deployment = Deployment {
        id: "dep_1".to_owned(),
        version,
        ..Deployment::default()
    };
    deployment.encode_to_vec()
}

#[tokio::test]
async fn a_watch_tells_each_change_at_once_under_its_version() {
    let stand = Stand::start().await;
    let feed = stand
        .backend
        .will_stream("DeploymentService/WatchDeployment");
    feed.send(Ok(deployment(3))).await.unwrap();
    let mut events = Events::open(&stand, "/v1/deployments/dep_1:watch", &stand.admin, "").await;
    for version in 3..6 {
        // The next is only sent once this one has come.
        let event = events.next().await.unwrap();
        assert_eq!(event.id, version.to_string());
        assert_eq!(event.data["version"], version);
        feed.send(Ok(deployment(version + 1))).await.unwrap();
    }
    events.next().await.unwrap();
    drop(feed);
    assert_eq!(events.next().await.unwrap().name, "end");
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_message_that_is_a_place_alone_is_an_id_without_data() {
    let stand = Stand::start().await;
    let feed = stand
        .backend
        .will_stream("DeploymentService/WatchDeployment");
    let place = Deployment {
        version: 7,
        ..Deployment::default()
    };
    feed.send(Ok(place.encode_to_vec())).await.unwrap();
    let mut events = Events::open(&stand, "/v1/deployments/dep_1:watch", &stand.admin, "").await;
    // Not an event to a browser, which takes the id all the same.
    assert_eq!(events.begins().await, "7");
    assert!(events.is_silent().await);
    feed.send(Ok(deployment(8))).await.unwrap();
    assert_eq!(events.next().await.unwrap().id, "8");
}

#[tokio::test]
async fn a_watch_of_what_has_ended_tells_browsers_not_to_come_back() {
    let stand = Stand::start().await;
    let method = "DeploymentService/WatchDeployment";
    drop(stand.backend.will_stream(method));
    let answer = stand.get("/v1/deployments/dep_1:watch", &stand.admin).await;
    assert_eq!(answer.status, 204, "{answer:?}");
}

#[tokio::test]
async fn a_stream_that_fails_at_once_is_a_problem_of_its_own_status() {
    let stand = Stand::start().await;
    let feed = stand
        .backend
        .will_stream("DeploymentService/WatchDeployment");
    feed.send(Err(Status::not_found("there is no dep_1")))
        .await
        .unwrap();
    let answer = stand.get("/v1/deployments/dep_1:watch", &stand.admin).await;
    answer.is_problem(404);
}

#[tokio::test]
async fn a_stream_holds_its_place_until_it_ends_and_keeps_no_call_out() {
    let stand = Stand::start_with(&[("CANDLEFISH_STREAMS", "1")]).await;
    let feed = stand
        .backend
        .will_stream("DeploymentService/WatchDeployment");
    feed.send(Ok(deployment(1))).await.unwrap();
    let path = "/v1/deployments/dep_1:watch";
    let mut events = Events::open(&stand, path, &stand.admin, "").await;
    events.next().await.unwrap();
    let full = stand.get("/v1/events", &stand.admin).await;
    assert_eq!(full.is_problem(503).body["reason"], "busy");
    assert_eq!(full.header("retry-after"), "1");
    assert_eq!(stand.get("/v1/whoami", &stand.admin).await.status, 200);
    drop(feed);
    while events.next().await.is_some() {}
    let events = stand.ask(Method::GET, "/v1/events", &stand.admin);
    assert_eq!(events.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_watch_is_resumed_after_the_last_version() {
    let stand = Stand::start().await;
    let feed = stand
        .backend
        .will_stream("DeploymentService/WatchDeployment");
    feed.send(Ok(deployment(8))).await.unwrap();
    let mut events = Events::open(&stand, "/v1/deployments/dep_1:watch", &stand.admin, "7").await;
    assert_eq!(events.next().await.unwrap().id, "8");
    let asked = WatchDeploymentRequest::decode(stand.backend.last().message).unwrap();
    assert_eq!((asked.id.as_str(), asked.after_version), ("dep_1", 7));
}

#[tokio::test]
async fn a_last_version_that_is_none_is_named() {
    let stand = Stand::start().await;
    for last in [&b"nonsense"[..], b"1.5", b"99999999999", b"\xe9"] {
        let value = HeaderValue::from_bytes(last).unwrap();
        let path = "/v1/deployments/dep_1:watch";
        let request = stand.ask(Method::GET, path, &stand.admin);
        let answer = stand.send(request.header("last-event-id", value)).await;
        answer.is_problem(400);
        assert_eq!(answer.fields(), ["last-event-id"], "{last:?}");
    }
    assert!(stand.backend.seen().is_empty());
}

#[tokio::test]
async fn a_stream_that_breaks_says_why() {
    let stand = Stand::start().await;
    let feed = stand
        .backend
        .will_stream("DeploymentService/WatchDeployment");
    feed.send(Ok(deployment(1))).await.unwrap();
    feed.send(Err(Status::unavailable("stopping")))
        .await
        .unwrap();
    let mut events = Events::open(&stand, "/v1/deployments/dep_1:watch", &stand.admin, "").await;
    assert_eq!(events.next().await.unwrap().id, "1");
    let problem = events.next().await.unwrap();
    assert_eq!(
        (problem.name.as_str(), &problem.data["code"]),
        ("problem", &"UNAVAILABLE".into())
    );
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_stream_that_never_begins_is_a_problem_of_its_own_status() {
    let stand = Stand::start().await;
    let refused = crate::backend::Answer::Refusal(Status::not_found("there is no dep_1"));
    stand
        .backend
        .will("DeploymentService/WatchDeployment", refused);
    let answer = stand.get("/v1/deployments/dep_1:watch", &stand.admin).await;
    answer.is_problem(404);
}
