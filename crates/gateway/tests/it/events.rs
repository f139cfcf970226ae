//! `GET /v1/events`: every event once, in order, for those who may see it.

use std::time::{Duration, Instant};

use candlefish_proto::event::{WatchEventsRequest, event_service_client::EventServiceClient};
use candlefish_testkit::nats_url;
use reqwest::Method;
use tokio::net::TcpListener;
use tonic::Status;

use crate::{
    backend::Answer,
    raw::with_token,
    sse::Events,
    stand::{SOON, Stand},
};

const CREATED: &str = "deploy.deployment.created.v1";

#[tokio::test]
async fn events_come_as_they_happen_and_go_on_after_the_last_id() {
    let stand = Stand::start().await;
    stand.follows().await;
    let path = "/v1/events?types=deploy.deployment.";
    let mut events = Events::open(&stand, path, &stand.admin, "").await;
    stand.backend.happens(CREATED, "docs");
    let first = events.next().await.unwrap();
    assert_eq!(first.data["event"]["site"], "docs");
    assert_eq!(first.data["cursor"], first.id.as_str());
    drop(events);
    // While nobody watches.
    stand.backend.happens(CREATED, "shop");
    stand.backend.happens("deploy.site.created.v1", "shop");
    stand.backend.happens(CREATED, "blog");
    let mut events = Events::open(&stand, path, &stand.admin, &first.id).await;
    let mut sites = Vec::new();
    for _ in 0..2 {
        sites.push(events.next().await.unwrap().data["event"]["site"].clone());
    }
    assert_eq!(sites, ["shop", "blog"]);
    assert!(events.is_silent().await);
}

#[tokio::test]
async fn a_frozen_replica_holds_events_up_once() {
    // Nobody accepts: the system takes the connections, as it does for a process that is frozen.
    let frozen = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let replicas = format!("http://{},BACKEND", frozen.local_addr().unwrap());
    let stand = Stand::start_with(&[("CANDLEFISH_ORCHESTRATOR_URL", &*replicas)]).await;
    stand.follows().await;
    let path = "/v1/events?types=deploy.deployment.";
    let mut events = Events::open(&stand, path, &stand.admin, "").await;
    let begun = Instant::now();
    for site in ["docs", "shop", "blog"] {
        stand.backend.happens(CREATED, site);
        assert_eq!(events.next().await.unwrap().data["event"]["site"], site);
    }
    // Less than what one look at the frozen one takes.
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_stream_that_told_nothing_goes_on_where_it_began() {
    let stand = Stand::start().await;
    stand.follows().await;
    let path = "/v1/events?types=deploy.deployment.";
    let mut events = Events::open(&stand, path, &stand.admin, "").await;
    let began = events.begins().await;
    assert!(events.is_silent().await);
    drop(events);
    stand.backend.happens(CREATED, "docs");
    stand.backend.happens(CREATED, "shop");
    let mut events = Events::open(&stand, path, &stand.admin, &began).await;
    for site in ["docs", "shop"] {
        assert_eq!(events.next().await.unwrap().data["event"]["site"], site);
    }
}

#[tokio::test]
async fn a_token_for_some_sites_hears_of_those_alone() {
    let stand = Stand::start().await;
    stand.follows().await;
    let token = stand.token("ci-docs", "ROLE_VIEWER", &["docs"]).await;
    let mut events = Events::open(&stand, "/v1/events", &token, "").await;
    for site in ["shop", "", "docs"] {
        stand.backend.happens(CREATED, site);
    }
    assert_eq!(events.next().await.unwrap().data["event"]["site"], "docs");
    assert!(events.is_silent().await);
    stand
        .get("/v1/events?site=shop", &token)
        .await
        .is_problem(404);
}

#[tokio::test]
async fn a_site_that_is_not_there_is_named_before_a_watch_begins() {
    let stand = Stand::start().await;
    let nothing = Answer::Refusal(Status::not_found("there is no site \"doc\""));
    stand.backend.will("SiteService/GetSite", nothing);
    let answer = stand.get("/v1/events?site=doc", &stand.admin).await;
    answer.is_problem(404);
    assert_eq!(answer.fields(), ["site"]);
}

#[tokio::test]
async fn a_frozen_replica_does_not_hide_that_a_site_is_not_there() {
    // Nobody accepts: the system takes the connections, as it does for a process that is frozen.
    let frozen = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let replicas = format!("http://{},BACKEND", frozen.local_addr().unwrap());
    let stand = Stand::start_with(&[("CANDLEFISH_ORCHESTRATOR_URL", &*replicas)]).await;
    let nothing = Answer::Refusal(Status::not_found("there is no site \"doc\""));
    stand.backend.will("SiteService/GetSite", nothing);
    let answer = stand.get("/v1/events?site=doc", &stand.admin).await;
    answer.is_problem(404);
    assert_eq!(answer.fields(), ["site"]);
}

#[tokio::test]
async fn the_same_over_grpc() {
    let stand = Stand::start().await;
    stand.follows().await;
    let mut client = EventServiceClient::new(stand.channel());
    let request = with_token(WatchEventsRequest::default(), &stand.admin);
    let begun = client.watch_events(request).await.unwrap();
    // Who reads what there is after this misses nothing.
    assert!(begun.metadata().get("watch-cursor").is_some(), "{begun:?}");
    let mut stream = begun.into_inner();
    // Joined, once what happens is heard.
    stand.backend.happens(CREATED, "docs");
    let next = tokio::time::timeout(SOON, stream.message()).await.unwrap();
    let first = next.unwrap().unwrap();
    stand.backend.happens(CREATED, "shop");
    let asked = WatchEventsRequest {
        cursor: first.cursor,
        ..WatchEventsRequest::default()
    };
    let request = with_token(asked, &stand.admin);
    let mut stream = client.watch_events(request).await.unwrap().into_inner();
    let second = stream.message().await.unwrap().unwrap().event.unwrap();
    assert_eq!(second.seq, first.event.unwrap().seq + 1);
}

#[tokio::test]
async fn what_is_wrong_with_a_watch_is_named_before_it_begins() {
    let stand = Stand::start().await;
    let path = "/v1/events?environment=staging&types=A&cursor=nonsense";
    let answer = stand.get(path, &stand.admin).await;
    answer.is_problem(400);
    assert_eq!(answer.fields(), ["site", "types[0]", "cursor"]);
    let request = stand.ask(Method::GET, "/v1/events", &stand.admin);
    let answer = stand
        .send(request.header("last-event-id", "nonsense"))
        .await;
    answer.is_problem(400);
    assert_eq!(answer.fields(), ["cursor"]);
}

#[tokio::test]
async fn the_bus_wakes_the_tail_long_before_it_would_look() {
    let url = nats_url();
    let slow = [
        ("CANDLEFISH_NATS_URL", url.as_str()),
        ("CANDLEFISH_POLL_MS", "600000"),
    ];
    let stand = Stand::start_with(&slow).await;
    let bus = async_nats::connect(&url).await.unwrap();
    let mut events = Events::open(&stand, "/v1/events", &stand.admin, "").await;
    stand.backend.happens(CREATED, "docs");
    // Whoever publishes cannot know that the gateway has subscribed by now: it hints until heard.
    let hint = async {
        loop {
            bus.publish(CREATED, "".into()).await.unwrap();
            bus.flush().await.unwrap();
            stand.backend.happens(CREATED, "docs");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let event = tokio::select! {
        event = events.next() => event,
        () = hint => None,
    };
    assert_eq!(event.unwrap().data["event"]["type"], CREATED);
}
