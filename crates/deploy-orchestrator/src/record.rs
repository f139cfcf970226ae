//! The record: what people, or the platform in their stead, did to environments, sites and
//! everything, what went live, and what failed, with principal, time and reason.
//!
//! Written in the transaction of the act by the command that acts, and never changed or collected.
//! How a deployment went (grants, steps, evidence) is in its log, not here. Whatever went live is here
//! once, and whatever acted and came to another end has one line that says why: of the verb that ended
//! it, of a rejection, of the way back, or of its failure. A ban, and a newer commit that took its
//! place, are told as what they are, not of each deployment that they ended.

pub(crate) mod store;
pub(crate) mod view;

use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId, SiteId, StopId};

use crate::{ctx::Tx, lane::store::WentLive};

/// Told in place of a reason where a person may leave it out, and did.
const UNSAID: &str = "no reason given";

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
    Live,
    Fail,
}

impl Kind {
    const ALL: [Self; 17] = [
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
        Self::Live,
        Self::Fail,
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
            Self::Live => "live",
            Self::Fail => "fail",
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
    /// Without a reason, the first line of its release's commit message is told in its place.
    pub(crate) or_commit: bool,
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
            or_commit: false,
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

    /// Told by its release's commit where nobody said why.
    pub(crate) fn or_commit(self) -> Self {
        Self {
            or_commit: true,
            ..self
        }
    }

    /// Of a person who may act without saying why: that nobody said it is told, and not a blank.
    pub(crate) fn or_unsaid(self) -> Self {
        let reason = if self.reason.is_empty() {
            UNSAID
        } else {
            self.reason
        };
        Self { reason, ..self }
    }

    /// Records it.
    pub(crate) async fn write(self, tx: &mut Tx) -> Result<(), sqlx::Error> {
        let now = tx.now();
        store::insert(tx, now, &self).await
    }
}

/// Records of each of these that it went live, and who asked for it.
pub(crate) async fn write_live_each(tx: &mut Tx, live: &[WentLive]) -> Result<(), sqlx::Error> {
    let now = tx.now();
    store::insert_live_each(tx, now, live).await
}
