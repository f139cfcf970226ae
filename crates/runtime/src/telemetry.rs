//! Logs and traces of a process.
//!
//! Logs go to standard error, as JSON or for a terminal; a log line inside a request carries the
//! request's trace id as a field of its span. Traces go to an OTLP collector when one is named;
//! without one, trace ids are still made, so that logs and events of one request belong together.

use std::{fmt, io::IsTerminal, str::FromStr, time::Duration};

use opentelemetry::{KeyValue, trace::TracerProvider};
pub use opentelemetry_otlp::SpanExporter;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{Directive, ParseError},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{
    config::{Env, without_secrets},
    metrics,
};

/// The exporter's own stack: traced, it would trace itself for ever.
const EXPORTER_STACK: [&str; 6] = [
    "h2",
    "hyper",
    "hyper_util",
    "tonic",
    "tower",
    "opentelemetry",
];
/// The target of spans that are for log lines alone, as those around the turns of a deployment: no trace has
/// them, and log lines have them whatever the filter says.
pub const LOG_ONLY: &str = "candlefish_log";

/// What traces have: a task's span lasts as long as the process.
const TRACED: &str = "info,candlefish_runtime::tasks=off,candlefish_log=off";

const OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// A collector that does not answer costs spans, not the process.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// The text is neither `json` nor `text`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be json or text")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err(UnknownFormat),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Text => "text",
        })
    }
}

/// How a process tells what it does.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// `CANDLEFISH_LOG`: a filter such as `info,candlefish_messaging=debug`.
    pub filter: String,
    /// `CANDLEFISH_LOG_FORMAT`; text on a terminal, JSON elsewhere.
    pub format: Format,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`: where spans go, by gRPC.
    pub otlp_endpoint: Option<String>,
}

impl TelemetryConfig {
    /// Reads it; faults stay in `env`.
    pub fn from_env(env: &mut Env) -> Self {
        let filter = env
            .optional("CANDLEFISH_LOG")
            .unwrap_or_else(|| "info".to_owned());
        if let Err(problem) = EnvFilter::try_new(&filter) {
            env.fault("CANDLEFISH_LOG", problem);
        }
        let usual = if std::io::stderr().is_terminal() {
            Format::Text
        } else {
            Format::Json
        };
        Self {
            filter,
            format: env.parse_or("CANDLEFISH_LOG_FORMAT", usual),
            otlp_endpoint: otlp_endpoint(env),
        }
    }

    /// What `--check-config` prints of it, by variable.
    pub fn shown(&self) -> [(&'static str, String); 3] {
        let endpoint = self.otlp_endpoint.as_deref();
        let endpoint = endpoint.map_or("(unset)", without_secrets);
        [
            ("CANDLEFISH_LOG", self.filter.clone()),
            ("CANDLEFISH_LOG_FORMAT", self.format.to_string()),
            (OTLP_ENDPOINT, endpoint.to_owned()),
        ]
    }
}

fn otlp_endpoint(env: &mut Env) -> Option<String> {
    let endpoint = env.optional(OTLP_ENDPOINT)?;
    let parsed = endpoint.parse::<http::Uri>().ok();
    let is_address = parsed.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some()
    });
    if !is_address {
        env.fault(
            OTLP_ENDPOINT,
            "is not an address such as http://127.0.0.1:4317",
        );
    }
    Some(endpoint)
}

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter.
    #[error("read the log filter")]
    Filter(#[from] ParseError),
    /// The exporter.
    #[error("build the trace exporter")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// A second start.
    #[error("telemetry was started before in this process")]
    Again(#[from] tracing_subscriber::util::TryInitError),
}

/// Running telemetry; shut it down last.
#[derive(Debug)]
pub struct Telemetry {
    provider: SdkTracerProvider,
}

/// Starts logs, traces and metrics of the process. Once per process, inside a tokio runtime.
pub fn init(service: &'static str, config: &TelemetryConfig) -> Result<Telemetry, Error> {
    metrics::install();
    let provider = provider(service, config)?;
    let traces = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("candlefish"))
        .with_filter(quiet(EnvFilter::new(TRACED), "off"));
    let filter = log_filter(&config.filter)?;
    let to_stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let logs = match config.format {
        Format::Json => to_stderr
            .json()
            .flatten_event(true)
            .with_filter(filter)
            .boxed(),
        Format::Text => to_stderr
            .with_ansi(std::io::stderr().is_terminal())
            .with_filter(filter)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(traces)
        .with(logs)
        .try_init()?;
    Ok(Telemetry { provider })
}

/// An exporter for spans that are made from rows, when a collector is named. It is not the one
/// that request spans go through: whoever exports by hand sees whether it worked.
pub fn span_exporter(
    service: &'static str,
    config: &TelemetryConfig,
) -> Result<Option<SpanExporter>, Error> {
    let Some(mut exporter) = exporter(config)? else {
        return Ok(None);
    };
    opentelemetry_sdk::trace::SpanExporter::set_resource(&mut exporter, &resource(service));
    Ok(Some(exporter))
}

fn provider(service: &'static str, config: &TelemetryConfig) -> Result<SdkTracerProvider, Error> {
    let mut provider = SdkTracerProvider::builder().with_resource(resource(service));
    if let Some(exporter) = exporter(config)? {
        provider = provider.with_batch_exporter(exporter);
    }
    Ok(provider.build())
}

fn exporter(config: &TelemetryConfig) -> Result<Option<SpanExporter>, Error> {
    let Some(endpoint) = &config.otlp_endpoint else {
        return Ok(None);
    };
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()?;
    Ok(Some(exporter))
}

fn resource(service: &'static str) -> Resource {
    Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new(
            "service.instance.id",
            std::process::id().to_string(),
        ))
        .build()
}

/// What the log has: what was asked for, and the spans that lines are to have.
fn log_filter(asked: &str) -> Result<EnvFilter, ParseError> {
    let spans: Directive = format!("{LOG_ONLY}=info").parse()?;
    Ok(quiet(EnvFilter::try_new(asked)?, "warn").add_directive(spans))
}

/// Gives the exporter's stack the level `level` unless the filter speaks of it itself.
fn quiet(filter: EnvFilter, level: &str) -> EnvFilter {
    let spoken = filter.to_string();
    EXPORTER_STACK
        .iter()
        .filter(|target| {
            !spoken
                .split(',')
                .any(|part| part.split(['=', '[']).next() == Some(**target))
        })
        .filter_map(|target| format!("{target}={level}").parse().ok())
        .fold(filter, EnvFilter::add_directive)
}

impl Telemetry {
    /// Sends what is still to send, for at most [`EXPORT_TIMEOUT`].
    pub async fn shutdown(self) {
        // On the runtime's own thread the exporter would wait for itself and lose everything.
        let ended = tokio::task::spawn_blocking(move || {
            self.provider.shutdown_with_timeout(EXPORT_TIMEOUT)
        });
        match ended.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("the last spans were not sent: {error}"),
            Err(error) => tracing::warn!("the last spans were not sent: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn the_exporters_stack_is_silent_unless_asked_for() {
        let filter = quiet(EnvFilter::new("debug,h2=trace"), "off").to_string();
        assert!(filter.contains("h2=trace"), "{filter}");
        assert!(!filter.contains("h2=off"), "{filter}");
        for target in ["hyper=off", "tonic=off", "tower=off", "opentelemetry=off"] {
            assert!(filter.contains(target), "{filter}");
        }
    }

    /// What a log is written to.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_span_for_the_log_is_on_its_lines_and_in_no_trace() {
        let written = Written::default();
        let writer = written.clone();
        let logs = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .json()
            .flatten_event(true)
            .with_filter(log_filter("off,candlefish_runtime=info").unwrap());
        let provider = SdkTracerProvider::builder().build();
        let traces = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("test"))
            .with_filter(quiet(EnvFilter::new(TRACED), "off"));
        let subscriber = tracing_subscriber::registry().with(traces).with(logs);
        tracing::subscriber::with_default(subscriber, || {
            let span =
                tracing::info_span!(target: LOG_ONLY, parent: None, "turn", trace_id = "abc");
            span.in_scope(|| {
                tracing::info!("a line");
                assert_eq!(crate::trace::current_traceparent(), "");
            });
            tracing::info_span!("call")
                .in_scope(|| assert_ne!(crate::trace::current_traceparent(), ""));
        });
        let line = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(line.matches(r#""trace_id":"abc""#).count(), 2, "{line}");
    }

    #[test]
    fn a_bad_filter_and_a_bad_format_are_both_reported() {
        let mut env = Env::from_pairs([
            ("CANDLEFISH_LOG", "gateway=loudly"),
            ("CANDLEFISH_LOG_FORMAT", "xml"),
        ]);
        TelemetryConfig::from_env(&mut env);
        let faults = env.finish().unwrap_err().faults;
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert_eq!(faults[1].problem, "must be json or text");
    }
}
