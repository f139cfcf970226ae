//! What the deployment tells the world: facts for the outbox, in the transaction of the change.

use candlefish_messaging::Fact;
use candlefish_proto::deploy as pb;
use prost::Message;

use super::{Deployment, state::State, view};

/// The actor of what the platform does by itself.
pub(crate) const SYSTEM: &str = "system";

/// The deployment was accepted.
pub(crate) fn created(deployment: &Deployment, actor: &str) -> Fact {
    fact(deployment, "deploy.deployment.created.v1", actor)
}

/// The deployment changed from `before`; the type says what mattered most.
pub(crate) fn changed(deployment: &Deployment, before: &State, actor: &str) -> Fact {
    fact(deployment, event_type(before, &deployment.state), actor)
}

/// The deployment was pinned, or its pin taken off.
pub(super) fn pinned(deployment: &Deployment, actor: &str) -> Fact {
    let event_type = if deployment.pin.is_some() {
        "deploy.deployment.pinned.v1"
    } else {
        "deploy.deployment.unpinned.v1"
    };
    fact(deployment, event_type, actor)
}

fn event_type(before: &State, after: &State) -> &'static str {
    let live = |state: &State| {
        state
            .acting()
            .is_some_and(|acting| acting.live_at.is_some())
    };
    match after {
        State::Ended { .. } => "deploy.deployment.ended.v1",
        State::Cancelling { .. } if !matches!(before, State::Cancelling { .. }) => {
            "deploy.deployment.stopped.v1"
        }
        _ if live(after) && !live(before) => "deploy.deployment.went_live.v1",
        _ if after.pivoted() && !before.pivoted() => "deploy.deployment.pivoted.v1",
        _ if matches!(before, State::Pending) => "deploy.deployment.granted.v1",
        _ => "deploy.deployment.progressed.v1",
    }
}

fn fact(deployment: &Deployment, event_type: &'static str, actor: &str) -> Fact {
    let body = pb::DeploymentChanged {
        deployment: Some(view::bare(deployment)),
    };
    Fact {
        entity: deployment.id.to_string(),
        entity_version: deployment.version,
        event_type,
        site: deployment.site.clone(),
        environment: deployment.environment.clone(),
        actor: actor.to_owned(),
        traceparent: format!("00-{}-{}-01", deployment.trace_id, deployment.span_id),
        terminal: deployment.state.is_terminal(),
        body: packed(&body),
    }
}

/// A body with its type's name, as consumers and the transcoder read it.
fn packed(body: &pb::DeploymentChanged) -> prost_types::Any {
    prost_types::Any {
        type_url: "type.googleapis.com/candlefish.deploy.v1.DeploymentChanged".to_owned(),
        value: body.encode_to_vec(),
    }
}
