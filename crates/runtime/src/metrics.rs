//! Names and help of all metrics, and the process's recorder.
//!
//! Every metric that a process emits is listed here with its help, so that `/metrics` describes
//! itself and a reader finds all of them in one place. Labels stay few and bounded.

use std::sync::OnceLock;

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Calls answered; labels `method`, `code`.
pub const REQUESTS: &str = "requests_total";
/// From a call's arrival to the end of its answer; label `method`.
pub const REQUEST_DURATION: &str = "request_duration_seconds";
/// Calls being answered now.
pub const REQUESTS_ACTIVE: &str = "active_requests";
/// Reads of what may be kept in memory; label `outcome`.
pub const MEMORY_READS: &str = "memory_reads_total";
/// Answered from memory.
pub const MEMORY_READS_FOUND: &str = "found";
/// Asked of the service.
pub const MEMORY_READS_MISSED: &str = "missed";
/// Deployments that ended; labels `site`, `environment`, `status`.
pub const DEPLOYMENTS: &str = "deployments_total";
/// From acceptance to the end; labels `site`, `environment`.
pub const DEPLOYMENT_DURATION: &str = "deployment_duration_seconds";
/// Deployments that act now.
pub const DEPLOYMENTS_ACTIVE: &str = "active_deployments";
/// From a step's first claim to its end; label `kind`.
pub const STEP_DURATION: &str = "step_duration_seconds";
/// Steps that were due at a worker's last look.
pub const STEPS_DUE: &str = "steps_due";
/// Routes that were found wrong and corrected; label `at`.
pub const ROUTE_DRIFT: &str = "route_drift_total";
/// Things that wait; label `queue`.
pub const QUEUE_DEPTH: &str = "queue_depth";
/// Leases that ended under their holder; label `lease`.
pub const LEASE_LOSSES: &str = "lease_losses_total";
/// Age of the oldest fact that the bus does not have yet; label `source`.
pub const OUTBOX_LAG: &str = "outbox_lag_seconds";
/// Facts handed to the bus; label `source`.
pub const OUTBOX_PUBLISHED: &str = "outbox_published_total";
/// Events that a consumer dealt with; labels `consumer`, `outcome`.
pub const CONSUMED: &str = "events_consumed_total";
/// Deployments with spans to send at the exporter's last look.
pub const TRACES_UNSENT: &str = "traces_unsent";
/// Releases whose content was collected.
pub const RELEASES_COLLECTED: &str = "releases_collected_total";
/// Blobs taken out of the store because nothing named them.
pub const BLOBS_COLLECTED: &str = "blobs_collected_total";
/// Their bytes.
pub const BLOB_BYTES_COLLECTED: &str = "blob_bytes_collected_total";
/// When this process last ended a round of collecting, in seconds since 1970.
pub const COLLECTED_AT: &str = "collected_at_seconds";
/// Webhook deliveries that came in; labels `source`, `outcome`.
pub const DELIVERIES: &str = "webhook_deliveries_total";
/// Calls of GitHub's API; labels `call`, `outcome`.
pub const GITHUB_CALLS: &str = "github_calls_total";
/// 1 while GitHub is left alone because it failed too often; with label `telling`, while some repository
/// is told nothing because our credentials are refused there.
pub const GITHUB_RESTING: &str = "github_resting";
/// Answers to visitors; labels `class`.
pub const EDGE_REQUESTS: &str = "edge_requests_total";
/// From a visitor's request to the first byte of its answer.
pub const EDGE_REQUEST_DURATION: &str = "edge_request_duration_seconds";

/// A quick deployment takes a second, a canary minutes.
const DEPLOYMENT_BUCKETS: [f64; 12] = [
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
];
/// Calls take milliseconds; the longest deadline is 10 s.
const LATENCY_BUCKETS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The `metrics` crate has one recorder per process, so its handle is one per process too.
static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// Installs the recorder on the first call; answers its handle.
pub fn install() -> &'static PrometheusHandle {
    HANDLE.get_or_init(|| {
        let recorder = builder().build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed: /metrics stays empty");
        }
        describe();
        handle
    })
}

fn builder() -> PrometheusBuilder {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &LATENCY_BUCKETS)
        .and_then(|builder| {
            builder.set_buckets_for_metric(
                Matcher::Full(DEPLOYMENT_DURATION.to_owned()),
                &DEPLOYMENT_BUCKETS,
            )
        })
        .and_then(|builder| {
            builder.set_buckets_for_metric(
                Matcher::Full(STEP_DURATION.to_owned()),
                &DEPLOYMENT_BUCKETS,
            )
        })
        .expect("the buckets are not empty")
}

/// Every metric: its kind, its name, its help.
const ALL: [(Kind, &str, &str); 25] = [
    (
        Kind::Counter,
        REQUESTS,
        "Calls answered, by method and code.",
    ),
    (
        Kind::Histogram,
        REQUEST_DURATION,
        "Seconds from a call's arrival to its answer's end.",
    ),
    (Kind::Gauge, REQUESTS_ACTIVE, "Calls being answered now."),
    (
        Kind::Counter,
        MEMORY_READS,
        "Reads of what may be kept in memory, by whether it was found there.",
    ),
    (
        Kind::Counter,
        DEPLOYMENTS,
        "Deployments that ended, by their terminal state.",
    ),
    (
        Kind::Histogram,
        DEPLOYMENT_DURATION,
        "Seconds from a deployment's acceptance to its end.",
    ),
    (Kind::Gauge, DEPLOYMENTS_ACTIVE, "Deployments that act now."),
    (
        Kind::Histogram,
        STEP_DURATION,
        "Seconds from a step's first claim to its end, by kind.",
    ),
    (
        Kind::Gauge,
        STEPS_DUE,
        "Steps that were due at the last look.",
    ),
    (
        Kind::Counter,
        ROUTE_DRIFT,
        "Routes found wrong where nothing acts: in the table, and corrected; at an edge, and sent again.",
    ),
    (Kind::Gauge, QUEUE_DEPTH, "Things that wait, by queue."),
    (
        Kind::Counter,
        LEASE_LOSSES,
        "Leases that ended under their holder, by kind of lease.",
    ),
    (
        Kind::Gauge,
        OUTBOX_LAG,
        "Age in seconds of the oldest fact that the bus does not have.",
    ),
    (Kind::Counter, OUTBOX_PUBLISHED, "Facts handed to the bus."),
    (
        Kind::Counter,
        CONSUMED,
        "Events that a consumer dealt with, by outcome.",
    ),
    (
        Kind::Gauge,
        TRACES_UNSENT,
        "Deployments with spans to send at the last look, at most one batch.",
    ),
    (
        Kind::Counter,
        RELEASES_COLLECTED,
        "Releases whose content was collected.",
    ),
    (
        Kind::Counter,
        BLOBS_COLLECTED,
        "Blobs taken out of the store because nothing named them.",
    ),
    (
        Kind::Counter,
        BLOB_BYTES_COLLECTED,
        "Bytes of the blobs taken out of the store.",
    ),
    (
        Kind::Gauge,
        COLLECTED_AT,
        "When this process last ended a round of collecting, in seconds since 1970.",
    ),
    (
        Kind::Counter,
        DELIVERIES,
        "Webhook deliveries that came in, by what became of them.",
    ),
    (
        Kind::Counter,
        GITHUB_CALLS,
        "Calls of GitHub's API, by call and what became of it.",
    ),
    (
        Kind::Gauge,
        GITHUB_RESTING,
        "Whether GitHub is left alone because it failed too often, or, by what is told, because it refuses \
         our credentials: 1 while it is.",
    ),
    (
        Kind::Counter,
        EDGE_REQUESTS,
        "Answers to visitors, by class of status.",
    ),
    (
        Kind::Histogram,
        EDGE_REQUEST_DURATION,
        "Seconds from a visitor's request to its answer.",
    ),
];

fn describe() {
    for (kind, name, help) in ALL {
        match kind {
            Kind::Counter => describe_counter!(name, help),
            Kind::Gauge => describe_gauge!(name, help),
            Kind::Histogram => describe_histogram!(name, help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_histograms_with_the_buckets_of_their_kind() {
        let recorder = builder().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe();
            metrics::histogram!(DEPLOYMENT_DURATION, "site" => "docs").record(42.0);
            metrics::histogram!(REQUEST_DURATION, "method" => "x").record(0.002);
        });
        let text = handle.render();
        assert!(text.contains(r#"deployment_duration_seconds_bucket{site="docs",le="600"} 1"#));
        assert!(text.contains(r#"deployment_duration_seconds_bucket{site="docs",le="30"} 0"#));
        assert!(text.contains(r#"request_duration_seconds_bucket{method="x",le="0.0025"} 1"#));
        assert!(
            text.contains("# HELP request_duration_seconds Seconds"),
            "{text}"
        );
    }

    #[test]
    fn names_follow_prometheus() {
        for (kind, name, help) in ALL {
            assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
            assert!(
                kind != Kind::Histogram || name.ends_with("_seconds"),
                "{name}"
            );
            assert!(
                help.ends_with('.') && help.starts_with(char::is_uppercase),
                "{name}: {help}"
            );
        }
    }

    /// Whoever writes a name by hand, as crates below this one must, writes one that is here.
    #[test]
    fn every_metric_of_every_crate_is_described_here() {
        let crates = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap();
        let mut folders = vec![crates.to_owned()];
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs")
                    && !path.ends_with("runtime/src/metrics.rs")
                {
                    let text = std::fs::read_to_string(&path).unwrap();
                    for name in emitted(&text) {
                        seen += 1;
                        let known = ALL.iter().any(|(_, known, _)| *known == name);
                        assert!(
                            known,
                            "{name} in {} has no help in metrics.rs",
                            path.display()
                        );
                    }
                }
            }
        }
        assert!(
            seen > 5,
            "only {seen} metrics were found: the search is broken"
        );
    }

    /// The names that a file gives as literals to the macros of `metrics`.
    fn emitted(text: &str) -> Vec<&str> {
        ["counter!(", "gauge!(", "histogram!("]
            .iter()
            .flat_map(|start| text.split(start).skip(1))
            .filter_map(|call| call.trim_start().strip_prefix('"')?.split('"').next())
            .collect()
    }
}
