use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use tower::{ServiceExt, service_fn};
use tracing_subscriber::layer::SubscriberExt;

use super::*;

const FROM: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

/// One call with a context, through the layer; answers what the handler passes on, and the span.
async fn call(peers: Peers) -> (String, SpanData) {
    let spans = Kept::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(spans.clone())
        .build();
    let subscriber = tracing_subscriber::registry()
        .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("test")));
    let _subscribed = tracing::subscriber::set_default(subscriber);
    let (passed, passes) = std::sync::mpsc::channel();
    let service = RequestLayer::new(peers).layer(service_fn(move |_request: Request<()>| {
        passed.send(trace::current_traceparent()).unwrap();
        if peers == Peers::Anyone {
            named(&Span::current(), "req_ours");
        }
        async { Ok::<_, Infallible>(Response::new(http_body_util::Full::new(Bytes::new()))) }
    }));
    let request = Request::get("/")
        .header("traceparent", FROM)
        .header(REQUEST_ID, "req_theirs")
        .body(())
        .unwrap();
    drop(service.oneshot(request).await.unwrap());
    let seen = spans.0.lock().unwrap().remove(0);
    (passes.recv().unwrap(), seen)
}

/// The id of the request that a span has.
fn request_id(span: &SpanData) -> Option<String> {
    let attributes = span.attributes.iter();
    let mut ids = attributes.filter(|attribute| attribute.key.as_str() == "request.id");
    ids.next().map(|id| id.value.to_string())
}

#[tokio::test]
async fn a_request_is_called_by_the_id_of_our_own_processes_and_by_no_strangers() {
    let (_, span) = call(Peers::Ours).await;
    assert_eq!(request_id(&span).as_deref(), Some("req_theirs"));
    let (_, span) = call(Peers::Anyone).await;
    assert_eq!(request_id(&span).as_deref(), Some("req_ours"));
}

#[tokio::test]
async fn a_stranger_chooses_no_label() {
    let handle = metrics::install();
    let bare = service_fn(|_request: Request<()>| async {
        let mut answer = Response::new(http_body_util::Full::new(Bytes::new()));
        *answer.status_mut() = http::StatusCode::METHOD_NOT_ALLOWED;
        Ok::<_, Infallible>(answer)
    });
    let bare = RequestLayer::new(Peers::Anyone).layer(bare);
    for method in [Method::GET, Method::POST] {
        let request = Request::builder()
            .method(method)
            .uri("/made-up")
            .header("content-type", "application/grpc-web")
            .body(())
            .unwrap();
        drop(bare.clone().oneshot(request).await.unwrap());
    }
    let told = handle.render();
    assert!(!told.contains("made-up"), "{told}");
    let counted = r#"requests_total{method="http",code="405"} 2"#;
    assert!(told.contains(counted), "{told}");
}

#[tokio::test]
async fn a_trace_of_our_own_processes_goes_on() {
    let (passed, span) = call(Peers::Ours).await;
    assert!(
        passed.contains("4bf92f3577b34da6a3ce929d0e0e4736"),
        "{passed}"
    );
    assert_eq!(span.parent_span_id.to_string(), "00f067aa0ba902b7");
}

#[tokio::test]
async fn a_trace_from_outside_is_linked_and_ours_begins() {
    let (passed, span) = call(Peers::Anyone).await;
    assert!(
        !passed.contains("4bf92f3577b34da6a3ce929d0e0e4736"),
        "{passed}"
    );
    assert!(
        passed.contains(&span.span_context.trace_id().to_string()),
        "{passed}"
    );
    assert_eq!(span.parent_span_id, opentelemetry::SpanId::INVALID);
    let linked = span.links[0].span_context.trace_id().to_string();
    assert_eq!(linked, "4bf92f3577b34da6a3ce929d0e0e4736");
}
