//! Sites and environments as the API shows them.

use candlefish_manifest::Limits;
use candlefish_proto::deploy as pb;

use super::{Closing, Environment, Hold, Kind, Site, Source, host};
use crate::{config::Config, ctx::shown, stop};

pub(super) fn site(config: &Config, site: Site) -> pb::Site {
    pb::Site {
        id: site.id.to_string(),
        slug: site.slug,
        name: site.name,
        repository: site.repository,
        source: match site.source {
            Source::Upload => pb::site::Source::Upload,
            Source::Repository => pb::site::Source::Repository,
        }
        .into(),
        folder: site.folder,
        created_at: Some(shown(site.created_at)),
        created_by: site.created_by,
        release_limits: Some(limits(&config.limits)),
        previews: Some(site.previews.into()),
    }
}

fn limits(limits: &Limits) -> pb::ReleaseLimits {
    // What does not fit is more than anybody has.
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    pb::ReleaseLimits {
        files: Some(count(limits.files)),
        total_bytes: Some(bytes(limits.total_bytes)),
        file_bytes: Some(bytes(limits.file_bytes)),
        path_bytes: Some(count(limits.path_bytes)),
        depth: Some(count(limits.depth)),
    }
}

pub(super) fn hold(hold: &Hold) -> pb::Hold {
    pb::Hold {
        since: Some(shown(hold.since)),
        by: hold.by.clone(),
        reason: hold.reason.clone(),
        deployment_id: hold
            .deployment_id
            .map(|id| id.to_string())
            .unwrap_or_default(),
    }
}

pub(crate) fn environment(config: &Config, one: &Environment) -> pb::Environment {
    let given = host::of_environment(&one.site, &one.slug, &config.domain);
    pb::Environment {
        id: one.id.to_string(),
        site: one.site.clone(),
        slug: one.slug.clone(),
        kind: match one.kind {
            Kind::Standard => pb::environment::Kind::Standard,
            Kind::Preview | Kind::PullRequest(_) => pb::environment::Kind::Preview,
        }
        .into(),
        policy: Some((&one.policy).into()),
        pushes: Some((&one.pushes).into()),
        hosts: one.hosts.clone(),
        url: host::url(&given, config.site_port),
        live_release_id: one
            .live
            .as_ref()
            .map(|l| l.release_id.to_string())
            .unwrap_or_default(),
        live_deployment_id: one
            .live
            .as_ref()
            .and_then(|live| live.deployment_id)
            .map(|id| id.to_string())
            .unwrap_or_default(),
        live_since: one.live.as_ref().map(|live| shown(live.since)),
        hold: one.hold.as_ref().map(hold),
        stops: one.stops.iter().map(stop::view::stop).collect(),
        acting_deployment_id: one.acting.map(|id| id.to_string()).unwrap_or_default(),
        pending_count: i32::try_from(one.pending_count).unwrap_or(i32::MAX),
        version: one.version,
        not_restorable: one.not_restorable.clone(),
        restorable_checked_at: one.restorable_checked_at.map(shown),
        closed: one.closed.as_ref().map(closing),
        pull_request: match one.kind {
            Kind::PullRequest(number) => number,
            Kind::Standard | Kind::Preview => 0,
        },
    }
}

fn closing(closing: &Closing) -> pb::Closing {
    pb::Closing {
        since: Some(shown(closing.since)),
        by: closing.by.clone(),
        reason: closing.reason.clone(),
    }
}
