use axum::{Router, routing::get};
use http_body_util::BodyExt;

use super::*;

async fn start(stopping: CancellationToken) -> (SocketAddr, crate::tasks::Tasks) {
    let listener = bind("127.0.0.1:0").await.unwrap();
    let addr = local_addr(&listener).unwrap();
    let method = http::uri::PathAndQuery::from_static("/candlefish.v1.Greeting/Greet");
    let served = axum::Extension(request::Served(method));
    let plain = Router::new()
        .route("/plain", get(|| async { "hello" }))
        .route("/served", get(|| async { (served, "hello") }));
    let (_health, service) = tonic_health::server::health_reporter();
    let routes = Routes::from(plain).add_service(service);
    let tasks = crate::tasks::Tasks::new();
    let served = serve(listener, routes, stopping);
    drop(tasks.try_spawn("listen", crate::tasks::Policy::Ignore, served));
    (addr, tasks)
}

#[tokio::test]
async fn grpc_and_plain_http_share_one_port_and_are_counted() {
    let handle = crate::metrics::install();
    let (addr, _tasks) = start(CancellationToken::new()).await;

    let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut send, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let client = crate::tasks::Tasks::new();
    drop(client.try_spawn("client", crate::tasks::Policy::Ignore, connection));
    for path in ["/plain", "/served"] {
        let request = http::Request::get(path)
            .header("host", "localhost")
            .body(String::new())
            .unwrap();
        send.ready().await.unwrap();
        let response = send.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "hello");
    }

    let channel = tonic::transport::Channel::from_shared(format!("http://{addr}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let asked = tonic_health::pb::HealthCheckRequest {
        service: String::new(),
    };
    health.check(asked).await.unwrap();
    let asked = tonic_health::pb::HealthCheckRequest {
        service: "nobody".to_owned(),
    };
    assert_eq!(
        health.check(asked).await.unwrap_err().code(),
        tonic::Code::NotFound
    );

    let text = handle.render();
    for (method, code) in [
        ("grpc.health.v1.Health/Check", "Ok"),
        ("grpc.health.v1.Health/Check", "NotFound"),
        ("http", "200"),
        ("candlefish.v1.Greeting/Greet", "200"),
    ] {
        let line = format!(r#"requests_total{{method="{method}",code="{code}"}} 1"#);
        assert!(text.contains(&line), "{line} is missing in\n{text}");
    }
}

#[tokio::test]
async fn a_stopped_server_closes_its_port_and_ends() {
    let stopping = CancellationToken::new();
    let (addr, tasks) = start(stopping.clone()).await;
    stopping.cancel();
    assert!(tasks.drain(Duration::from_secs(5)).await);
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}
