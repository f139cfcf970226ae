//! The record: what people, or the platform in their stead, did to environments, sites and
//! everything, with principal, time and reason.
//!
//! Written in the transaction of the act by the command that acts, and never changed or collected.
//! What is not an act of somebody (grants, steps, evidence) is in a deployment's log, not here; that
//! traffic went back is always here.

pub(crate) mod store;
pub(crate) mod view;

use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId, SiteId, StopId};

use crate::ctx::Tx;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Hold,
    LiftHold,
    Stop,
    LiftStop,
    Ban,
    Unban,
    Cancel,
    Abort,
    Rollback,
    Reject,
    Clear,
    Pin,
    Unpin,
    Close,
    Reopen,
}

impl Kind {
    const ALL: [Self; 15] = [
        Self::Hold,
        Self::LiftHold,
        Self::Stop,
        Self::LiftStop,
        Self::Ban,
        Self::Unban,
        Self::Cancel,
        Self::Abort,
        Self::Rollback,
        Self::Reject,
        Self::Clear,
        Self::Pin,
        Self::Unpin,
        Self::Close,
        Self::Reopen,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::LiftHold => "lift_hold",
            Self::Stop => "stop",
            Self::LiftStop => "lift_stop",
            Self::Ban => "ban",
            Self::Unban => "unban",
            Self::Cancel => "cancel",
            Self::Abort => "abort",
            Self::Rollback => "rollback",
            Self::Reject => "reject",
            Self::Clear => "clear",
            Self::Pin => "pin",
            Self::Unpin => "unpin",
            Self::Close => "close",
            Self::Reopen => "reopen",
        }
    }
}

/// What it was done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Everything,
    Site(SiteId),
    Environment(SiteId, EnvironmentId),
}

/// An act to record.
#[derive(Debug, Clone)]
pub(crate) struct Act<'a> {
    pub(crate) kind: Kind,
    pub(crate) scope: Scope,
    pub(crate) by: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) release: Option<ReleaseId>,
    pub(crate) deployment: Option<DeploymentId>,
    pub(crate) stop: Option<StopId>,
}

impl<'a> Act<'a> {
    pub(crate) fn new(kind: Kind, scope: Scope, by: &'a str, reason: &'a str) -> Self {
        Self {
            kind,
            scope,
            by,
            reason,
            release: None,
            deployment: None,
            stop: None,
        }
    }

    /// About a release and the deployment that it ended, made or followed from.
    pub(crate) fn of(self, release: ReleaseId, deployment: DeploymentId) -> Self {
        Self {
            release: Some(release),
            deployment: Some(deployment),
            ..self
        }
    }

    /// Records it.
    pub(crate) async fn write(self, tx: &mut Tx) -> Result<(), sqlx::Error> {
        let now = tx.now();
        store::insert(tx, now, &self).await
    }
}
