//! What this room tells the world.

use candlefish_messaging::Fact;
use candlefish_proto::deploy as pb;
use candlefish_runtime::trace;
use prost::Message;

/// A release changed; `version` is 1 when it is created and 2 when it is sealed.
pub(super) fn changed(
    release: &pb::Release,
    version: i32,
    event_type: &'static str,
    actor: &str,
) -> Fact {
    let body = pb::ReleaseChanged {
        release: Some(release.clone()),
    };
    Fact {
        entity: release.id.clone(),
        entity_version: version,
        event_type,
        site: release.site.clone(),
        environment: String::new(),
        actor: actor.to_owned(),
        traceparent: trace::current_traceparent(),
        terminal: false,
        body: prost_types::Any {
            type_url: "type.googleapis.com/candlefish.deploy.v1.ReleaseChanged".to_owned(),
            value: body.encode_to_vec(),
        },
    }
}
