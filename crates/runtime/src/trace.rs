//! The W3C trace context across gRPC metadata and event envelopes.

use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::TraceContextExt,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

struct Out<'a>(&'a mut MetadataMap);

impl Injector for Out<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (
            MetadataKey::from_bytes(key.as_bytes()),
            MetadataValue::try_from(value),
        ) {
            self.0.insert(key, value);
        }
    }
}

struct In<'a>(&'a MetadataMap);

impl Extractor for In<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

struct Pair<'a>(&'a str);

impl Extractor for Pair<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

#[derive(Default)]
struct Parent(String);

impl Injector for Parent {
    fn set(&mut self, key: &str, value: String) {
        if key == "traceparent" {
            self.0 = value;
        }
    }
}

/// Writes the current span's context into the metadata of a call that goes out.
pub fn inject(metadata: &mut MetadataMap) {
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut Out(metadata));
}

/// Reads the context of a call that came in; empty when it has none.
pub fn extract(metadata: &MetadataMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &In(metadata))
}

/// Reads a `traceparent` as rows and envelopes keep it; empty when it is none.
pub fn parse_traceparent(traceparent: &str) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Pair(traceparent))
}

/// The trace that a `traceparent` is of, in 32 hex digits; none when it is none.
pub fn trace_id_of(traceparent: &str) -> Option<String> {
    let context = parse_traceparent(traceparent);
    let trace = context.span().span_context().clone();
    trace.is_valid().then(|| trace.trace_id().to_string())
}

/// The current span's context as a `traceparent`; empty when there is none.
pub fn current_traceparent() -> String {
    let mut parent = Parent::default();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut parent);
    parent.0
}

/// The trace id of a span; empty when it has none.
pub(crate) fn trace_id(span: &Span) -> String {
    let context = span.context();
    let trace = context.span().span_context().trace_id();
    if trace == opentelemetry::TraceId::INVALID {
        String::new()
    } else {
        trace.to_string()
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn a_context_survives_metadata_and_text() {
        let tracer = SdkTracerProvider::builder().build().tracer("test");
        let subscriber =
            tracing_subscriber::registry().with(tracing_opentelemetry::layer().with_tracer(tracer));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("call");
            let _entered = span.enter();
            let mut metadata = MetadataMap::new();
            inject(&mut metadata);
            let came = extract(&metadata);
            assert_eq!(
                came.span().span_context().trace_id().to_string(),
                trace_id(&span)
            );

            let text = current_traceparent();
            assert_eq!(metadata.get("traceparent").unwrap().to_str().unwrap(), text);
            let read = parse_traceparent(&text);
            assert_eq!(read.span().span_context(), came.span().span_context());
            assert_eq!(trace_id_of(&text), Some(trace_id(&span)));
        });
    }

    #[test]
    fn without_a_span_there_is_no_context() {
        assert_eq!(current_traceparent(), "");
        assert_eq!(trace_id_of(""), None);
        assert!(
            !parse_traceparent("nonsense")
                .span()
                .span_context()
                .is_valid()
        );
    }
}
