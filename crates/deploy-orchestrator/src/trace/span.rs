//! Rows as spans. Pure.

use std::time::SystemTime;

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, ReleaseId, StepId};
use candlefish_runtime::trace::parse_traceparent;
use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{Event, Link, SpanContext, SpanKind, Status, TraceContextExt, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::store::{Attempt, Deployment, Line, Step};

/// Lines of one span; a deployment that waits for days says more.
const MOST_LINES: usize = 128;
/// Attempts of one step, the newest: a collector takes messages of 4 MiB.
const MOST_ATTEMPTS: usize = 64;
/// Characters of one text.
const LONGEST: usize = 1000;

/// The spans of what is to be sent: a deployment's own only once it ended.
pub(super) fn all(
    deployments: &[Deployment],
    steps: &[Step],
    attempts: &[Attempt],
    lines: &[Line],
) -> Vec<SpanData> {
    let mut spans = Vec::new();
    for deployment in deployments {
        let trace = TraceId::from_hex(&deployment.trace_id).unwrap_or(TraceId::INVALID);
        let of_it: Vec<&Line> = lines
            .iter()
            .filter(|line| line.deployment_id == deployment.id)
            .collect();
        if let Some(end) = deployment.finished_at {
            spans.push(root(trace, deployment, end, &of_it));
        }
        for step in steps
            .iter()
            .filter(|step| step.deployment_id == deployment.id)
        {
            spans.push(of_step(trace, deployment, step, &of_it));
            let own = attempts.iter().filter(|attempt| attempt.step_id == step.id);
            let newest = own.rev().take(MOST_ATTEMPTS);
            let newest: Vec<_> = newest.map(|one| of_attempt(trace, step, one)).collect();
            spans.extend(newest.into_iter().rev());
        }
    }
    spans
}

fn root(trace: TraceId, deployment: &Deployment, end: Moment, lines: &[&Line]) -> SpanData {
    let bad = matches!(deployment.state.as_str(), "failed" | "rolled_back");
    let asked = parse_traceparent(&deployment.request_traceparent);
    let mut span = span(
        trace,
        &deployment.span_id,
        None,
        format!("deployment {}/{}", deployment.site, deployment.environment),
        (deployment.created_at, end),
    );
    span.attributes = vec![
        id("deployment.id", DeploymentId::from_uuid(deployment.id)),
        text("site", &deployment.site),
        text("environment", &deployment.environment),
        id("release.id", ReleaseId::from_uuid(deployment.release_id)),
        text("deployment.kind", &deployment.kind),
        text("deployment.state", &deployment.state),
        text("deployment.cause", &deployment.cause),
        text("actor", &deployment.created_by),
    ];
    span.events = events(lines.iter().filter(|line| line.step_ord == 0));
    span.status = status(bad, &deployment.message);
    if asked.span().span_context().is_valid() {
        span.links.links = vec![Link::new(
            asked.span().span_context().clone(),
            Vec::new(),
            0,
        )];
    }
    span
}

fn of_step(trace: TraceId, deployment: &Deployment, step: &Step, lines: &[&Line]) -> SpanData {
    let mut span = span(
        trace,
        &step.span_id,
        Some(&deployment.span_id),
        step.kind.clone(),
        (step.started_at, step.finished_at),
    );
    span.attributes = vec![
        id("deployment.id", DeploymentId::from_uuid(deployment.id)),
        id("step.id", StepId::from_uuid(step.id)),
        KeyValue::new("step.ord", i64::from(step.ord)),
        KeyValue::new("step.weight", i64::from(step.weight)),
        KeyValue::new("step.undo", step.is_undo),
        text("step.state", &step.state),
        KeyValue::new("step.attempts", i64::from(step.attempt)),
        KeyValue::new("step.polls", i64::from(step.polls)),
        KeyValue::new("step.lost_leases", i64::from(step.lost_leases)),
        text("step.message", &step.message),
    ];
    span.events = events(lines.iter().filter(|line| line.step_ord == step.ord));
    span.status = status(step.state == "failed", &step.message);
    span
}

fn of_attempt(trace: TraceId, step: &Step, attempt: &Attempt) -> SpanData {
    let mut span = span(
        trace,
        &attempt.span_id,
        Some(&step.span_id),
        format!("{} attempt", step.kind),
        (attempt.started_at, attempt.finished_at),
    );
    span.attributes = vec![
        text("attempt.owner", &attempt.owner),
        KeyValue::new("attempt.claim", attempt.claim),
        text("attempt.outcome", &attempt.outcome),
        text("attempt.message", &attempt.message),
    ];
    let bad = matches!(attempt.outcome.as_str(), "failed" | "error" | "lost");
    span.status = status(bad, &attempt.message);
    span
}

fn span(
    trace: TraceId,
    span_id: &str,
    parent: Option<&str>,
    name: String,
    (start, end): (Moment, Moment),
) -> SpanData {
    SpanData {
        span_context: SpanContext::new(
            trace,
            span_of(span_id),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        ),
        parent_span_id: parent.map_or(SpanId::INVALID, span_of),
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: SystemTime::from(start.timestamp()),
        end_time: SystemTime::from(end.timestamp()),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("candlefish.deployment").build(),
    }
}

fn events<'a>(lines: impl Iterator<Item = &'a &'a Line>) -> SpanEvents {
    let mut events = SpanEvents::default();
    for line in lines {
        if events.events.len() < MOST_LINES {
            let at = SystemTime::from(line.at.timestamp());
            events
                .events
                .push(Event::new(cut(&line.message), at, Vec::new(), 0));
        } else {
            events.dropped_count += 1;
        }
    }
    events
}

fn span_of(id: &str) -> SpanId {
    SpanId::from_hex(id).unwrap_or(SpanId::INVALID)
}

fn status(bad: bool, message: &str) -> Status {
    if bad {
        Status::error(cut(message))
    } else {
        Status::Unset
    }
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

fn text(key: &'static str, value: &str) -> KeyValue {
    KeyValue::new(key, cut(value))
}

fn id(key: &'static str, value: impl std::fmt::Display) -> KeyValue {
    KeyValue::new(key, value.to_string())
}
