//! What this room tells the world.

use candlefish_messaging::Fact;
use candlefish_proto::deploy as pb;
use candlefish_runtime::{identity::Caller, trace};
use prost::Message;

use super::{Environment, Site, view};
use crate::config::Config;

/// The site was made, or changed.
pub(super) fn site(
    config: &Config,
    site: &Site,
    event_type: &'static str,
    caller: &Caller,
) -> Fact {
    let body = pb::SiteChanged {
        site: Some(view::site(config, site.clone())),
    };
    Fact {
        entity: site.id.to_string(),
        entity_version: site.version,
        event_type,
        site: site.slug.clone(),
        environment: String::new(),
        actor: caller.principal.clone(),
        traceparent: trace::current_traceparent(),
        terminal: false,
        body: prost_types::Any {
            type_url: "type.googleapis.com/candlefish.deploy.v1.SiteChanged".to_owned(),
            value: body.encode_to_vec(),
        },
    }
}

/// The environment was made, or its policy replaced.
pub(super) fn environment(
    config: &Config,
    one: &Environment,
    event_type: &'static str,
    caller: &Caller,
) -> Fact {
    changed(config, one, event_type, &caller.principal, "")
}

fn changed(
    config: &Config,
    one: &Environment,
    event_type: &'static str,
    actor: &str,
    reason: &str,
) -> Fact {
    let body = pb::EnvironmentChanged {
        environment: Some(view::environment(config, one)),
        reason: reason.to_owned(),
    };
    Fact {
        entity: one.id.to_string(),
        entity_version: one.version,
        event_type,
        site: one.site.clone(),
        environment: one.slug.clone(),
        actor: actor.to_owned(),
        traceparent: trace::current_traceparent(),
        terminal: false,
        body: prost_types::Any {
            type_url: "type.googleapis.com/candlefish.deploy.v1.EnvironmentChanged".to_owned(),
            value: body.encode_to_vec(),
        },
    }
}

/// The hold was set.
pub(crate) fn held(config: &Config, one: &Environment, caller: &Caller, reason: &str) -> Fact {
    changed(
        config,
        one,
        "deploy.environment.held.v1",
        &caller.principal,
        reason,
    )
}

/// The hold was lifted.
pub(crate) fn lifted(config: &Config, one: &Environment, caller: &Caller, reason: &str) -> Fact {
    changed(
        config,
        one,
        "deploy.environment.lifted.v1",
        &caller.principal,
        reason,
    )
}

/// The preview of a pull request was made.
pub(crate) fn made(config: &Config, one: &Environment, actor: &str) -> Fact {
    changed(config, one, "deploy.environment.created.v1", actor, "")
}

/// A preview was closed.
pub(crate) fn closed(config: &Config, one: &Environment, actor: &str, reason: &str) -> Fact {
    changed(config, one, "deploy.environment.closed.v1", actor, reason)
}

/// The preview of a pull request was opened again.
pub(crate) fn reopened(config: &Config, one: &Environment, actor: &str, reason: &str) -> Fact {
    changed(config, one, "deploy.environment.reopened.v1", actor, reason)
}

/// Routes of the environment were not what they should be, and are corrected.
pub(crate) fn drifted(config: &Config, one: &Environment, reason: &str) -> Fact {
    changed(
        config,
        one,
        "deploy.environment.drifted.v1",
        "system",
        reason,
    )
}
