//! Stop-the-line: nothing new begins on a site, or anywhere, until a moment or until somebody lifts it.
//!
//! ```text
//! set ──▶ standing ──▶ lifted by a person, or by time
//! ```
//!
//! What is pending keeps waiting; what acts is let through or, as asked, paused before its next step,
//! never within one. Nothing keeps a rollback and nothing keeps an undo.
//!
//! Invariants: at most one stop stands for a site and one for everything; each says who set it, why and
//! when it ends; once the call that sets it has answered, nothing is granted and no paused step begins
//! in its scope. For this, every transaction that locks a lane passes the gate ([`store::close_gate`]),
//! and one that sets or ends a stop closes it.
//!
//! This room moves no deployment: lanes and steps ask for the stop that stands.

pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod lift;
pub(crate) mod rpc;
pub(crate) mod set;
pub(crate) mod store;
pub(crate) mod view;

use candlefish_clock::Moment;
use candlefish_ids::{SiteId, StopId};
use serde::Deserialize;
use uuid::Uuid;

pub(crate) use error::Error;

use crate::{
    blocker::{self, Blocker},
    record::Scope,
};

/// A stop as its row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) id: StopId,
    /// None for everything.
    pub(crate) site_id: Option<SiteId>,
    /// The slug of its site; empty for everything.
    pub(crate) site: String,
    /// What acts is paused before its next step.
    pub(crate) pauses: bool,
    pub(crate) reason: String,
    pub(crate) since: Moment,
    pub(crate) by: String,
    pub(crate) until: Moment,
    pub(crate) end: Option<End>,
}

/// How a stop ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) at: Moment,
    /// A principal, or `system` for time.
    pub(crate) by: String,
    pub(crate) reason: String,
}

/// A stop that stands, as JSON tells it to those whom it stops.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Standing {
    id: Uuid,
    /// None for everything.
    site: Option<String>,
    pauses: bool,
    reason: String,
    since: jiff::Timestamp,
    by: String,
    pub(crate) until: jiff::Timestamp,
}

impl From<Standing> for Stop {
    fn from(told: Standing) -> Self {
        Self {
            id: StopId::from_uuid(told.id),
            site_id: None,
            site: told.site.unwrap_or_default(),
            pauses: told.pauses,
            reason: told.reason,
            since: Moment::from_database(told.since),
            by: told.by,
            until: Moment::from_database(told.until),
            end: None,
        }
    }
}

impl Stop {
    /// `docs`, or `everything`.
    pub(crate) fn scope(&self) -> &str {
        scope(&self.site)
    }

    /// What a person enters to lift it.
    pub(crate) fn lift_command(&self) -> String {
        match self.site.as_str() {
            "" => "candlefish stop lift --reason …".to_owned(),
            site => format!("candlefish stop lift {site} --reason …"),
        }
    }

    /// What its record is about.
    fn recorded(&self) -> Scope {
        self.site_id.map_or(Scope::Everything, Scope::Site)
    }

    /// What it is for a deployment that it keeps.
    pub(crate) fn blocker(&self) -> Blocker {
        Blocker {
            kind: blocker::Kind::Stop,
            until: Some(self.until),
            owner: "approver",
            message: format!(
                "{} is stopped by {}: {}",
                self.scope(),
                self.by,
                self.reason
            ),
            action: self.lift_command(),
        }
    }
}

fn scope(site: &str) -> &str {
    if site.is_empty() { "everything" } else { site }
}
