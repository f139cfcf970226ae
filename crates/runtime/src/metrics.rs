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
/// Deployments that ended; labels `site`, `environment`, `status`.
pub const DEPLOYMENTS: &str = "deployments_total";
/// From acceptance to the end; labels `site`, `environment`.
pub const DEPLOYMENT_DURATION: &str = "deployment_duration_seconds";
/// Deployments that act now.
pub const DEPLOYMENTS_ACTIVE: &str = "active_deployments";
/// From a step's first claim to its end; label `kind`.
pub const STEP_DURATION: &str = "step_duration_seconds";
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

fn describe() {
    describe_counter!(REQUESTS, "Calls answered, by method and code.");
    describe_histogram!(
        REQUEST_DURATION,
        "Seconds from a call's arrival to its answer's end."
    );
    describe_gauge!(REQUESTS_ACTIVE, "Calls being answered now.");
    describe_counter!(
        DEPLOYMENTS,
        "Deployments that ended, by their terminal state."
    );
    describe_histogram!(
        DEPLOYMENT_DURATION,
        "Seconds from a deployment's acceptance to its end."
    );
    describe_gauge!(DEPLOYMENTS_ACTIVE, "Deployments that act now.");
    describe_histogram!(
        STEP_DURATION,
        "Seconds from a step's first claim to its end, by kind."
    );
    describe_gauge!(QUEUE_DEPTH, "Things that wait, by queue.");
    describe_counter!(
        LEASE_LOSSES,
        "Leases that ended under their holder, by kind of lease."
    );
    describe_gauge!(
        OUTBOX_LAG,
        "Age in seconds of the oldest fact that the bus does not have yet."
    );
    describe_counter!(OUTBOX_PUBLISHED, "Facts handed to the bus.");
    describe_counter!(CONSUMED, "Events that a consumer dealt with, by outcome.");
    describe_counter!(EDGE_REQUESTS, "Answers to visitors, by class of status.");
    describe_histogram!(
        EDGE_REQUEST_DURATION,
        "Seconds from a visitor's request to its answer."
    );
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
}
