//! What this room tells the world.

use candlefish_messaging::Fact;
use candlefish_proto::deploy as pb;
use candlefish_runtime::trace;
use prost::Message;

use super::{Stop, view};

/// The stop was set.
pub(super) fn set(stop: &Stop, actor: &str) -> Fact {
    changed(stop, 1, "deploy.stop.set.v1", actor)
}

/// The stop was lifted, by a person or by time.
pub(super) fn lifted(stop: &Stop, actor: &str) -> Fact {
    changed(stop, 2, "deploy.stop.lifted.v1", actor)
}

fn changed(stop: &Stop, version: i32, event_type: &'static str, actor: &str) -> Fact {
    let body = pb::StopChanged {
        stop: Some(view::stop(stop)),
    };
    Fact {
        entity: stop.id.to_string(),
        entity_version: version,
        event_type,
        site: stop.site.clone(),
        environment: String::new(),
        actor: actor.to_owned(),
        traceparent: trace::current_traceparent(),
        terminal: false,
        body: prost_types::Any {
            type_url: "type.googleapis.com/candlefish.deploy.v1.StopChanged".to_owned(),
            value: body.encode_to_vec(),
        },
    }
}
