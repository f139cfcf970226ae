//! What this room tells the world.

use candlefish_messaging::Fact;
use candlefish_proto::deploy as pb;
use candlefish_runtime::trace;
use prost::Message;

/// The release was begun.
pub(super) fn created(release: &pb::Release, version: i32, actor: &str) -> Fact {
    changed(release, version, "deploy.release.created.v1", actor)
}

/// The release was found on one branch more.
pub(super) fn branched(release: &pb::Release, version: i32, actor: &str) -> Fact {
    changed(release, version, "deploy.release.branched.v1", actor)
}

/// The release was frozen.
pub(super) fn sealed(release: &pb::Release, version: i32, actor: &str) -> Fact {
    changed(release, version, "deploy.release.sealed.v1", actor)
}

/// The release was rejected in an environment.
pub(super) fn rejected(release: &pb::Release, version: i32, actor: &str) -> Fact {
    changed(release, version, "deploy.release.rejected.v1", actor)
}

/// The release was banned.
pub(super) fn banned(release: &pb::Release, version: i32, actor: &str) -> Fact {
    changed(release, version, "deploy.release.banned.v1", actor)
}

/// The content of the release is no longer kept.
pub(super) fn collected(release: &pb::Release, version: i32, actor: &str) -> Fact {
    changed(release, version, "deploy.release.collected.v1", actor)
}

/// A collected release was begun again.
pub(super) fn revived(release: &pb::Release, version: i32, actor: &str) -> Fact {
    changed(release, version, "deploy.release.revived.v1", actor)
}

/// The release was begun from a tree with changes of its own, and is its commit's now.
pub(super) fn vouched(release: &pb::Release, version: i32, actor: &str) -> Fact {
    changed(release, version, "deploy.release.vouched.v1", actor)
}

/// A rejection or a ban was cleared.
pub(super) fn cleared(release: &pb::Release, version: i32, actor: &str) -> Fact {
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
