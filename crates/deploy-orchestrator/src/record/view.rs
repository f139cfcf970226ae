//! Records as the API shows them.

use candlefish_proto::deploy as pb;

use super::{Kind, store::Told};
use crate::{ctx::shown, site::Environment};

/// A record in the history of an environment.
pub(crate) fn record(told: Told, environment: &Environment) -> pb::Record {
    let kind = Kind::ALL.into_iter().find(|kind| kind.word() == told.kind);
    let named = |named: bool, slug: &str| {
        if named {
            slug.to_owned()
        } else {
            String::new()
        }
    };
    pb::Record {
        // A word that a newer release wrote reads as unspecified.
        kind: kind
            .map_or(pb::record::Kind::Unspecified, shown_kind)
            .into(),
        at: Some(shown(told.at)),
        by: told.by,
        reason: told.reason,
        site: named(told.has_site, &environment.site),
        environment: named(told.has_environment, &environment.slug),
        release_id: told.release.map(|id| id.to_string()).unwrap_or_default(),
        deployment_id: told.deployment.map(|id| id.to_string()).unwrap_or_default(),
        stop_id: told.stop.map(|id| id.to_string()).unwrap_or_default(),
    }
}

const fn shown_kind(kind: Kind) -> pb::record::Kind {
    match kind {
        Kind::Hold => pb::record::Kind::Hold,
        Kind::LiftHold => pb::record::Kind::LiftHold,
        Kind::Stop => pb::record::Kind::Stop,
        Kind::LiftStop => pb::record::Kind::LiftStop,
        Kind::Ban => pb::record::Kind::Ban,
        Kind::Unban => pb::record::Kind::Unban,
        Kind::Cancel => pb::record::Kind::Cancel,
        Kind::Abort => pb::record::Kind::Abort,
        Kind::Rollback => pb::record::Kind::Rollback,
        Kind::Reject => pb::record::Kind::Reject,
        Kind::Clear => pb::record::Kind::Clear,
        Kind::Pin => pb::record::Kind::Pin,
        Kind::Unpin => pb::record::Kind::Unpin,
        Kind::Close => pb::record::Kind::Close,
        Kind::Reopen => pb::record::Kind::Reopen,
        Kind::Live => pb::record::Kind::Live,
        Kind::Fail => pb::record::Kind::Fail,
    }
}
