//! What this room tells the world.

use candlefish_messaging::Fact;
use candlefish_proto::deploy as pb;
use candlefish_runtime::trace;
use prost::Message;

/// The release was begun.
pub(super) fn created(release: &pb::Release, actor: &str) -> Fact {
    changed(release, 1, "deploy.release.created.v1", actor)
}

/// The release was frozen.
pub(super) fn sealed(release: &pb::Release, actor: &str) -> Fact {
    changed(release, 2, "deploy.release.sealed.v1", actor)
}

/// A rejection was cleared; `count` with the earlier ones, so that versions rise. Only what was
/// sealed is ever rejected.
pub(super) fn cleared(release: &pb::Release, count: i64, actor: &str) -> Fact {
    let version = i32::try_from(count.saturating_add(2)).unwrap_or(i32::MAX);
    changed(release, version, "deploy.release.cleared.v1", actor)
}

fn changed(release: &pb::Release, version: i32, event_type: &'static str, actor: &str) -> Fact {
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
