//! A trigger as the API shows it: the row never changes, what is said of its deployment does.

use candlefish_clock::Moment;
use candlefish_ids::{DeliveryId, DeploymentId, TriggerId};
use candlefish_proto::deploy::{self as pb, deployment::State, trigger};

use super::{
    Error,
    store::{Noted, Undecided},
};
use crate::{blocker::Told, ctx::shown, step::worker::chain};

/// Everything that is shown of a trigger.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) id: TriggerId,
    pub(super) delivery_id: DeliveryId,
    pub(super) repository: String,
    pub(super) branch: String,
    pub(super) commit: String,
    pub(super) sender: String,
    pub(super) site: String,
    pub(super) environment: String,
    pub(super) outcome: String,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) received_at: Moment,
    pub(super) created_at: Moment,
    pub(super) event: String,
    pub(super) pull_request: Option<i32>,
    pub(super) deployment: Option<OfDeployment>,
}

/// What is shown of its deployment.
#[derive(Debug, Default)]
pub(super) struct OfDeployment {
    pub(super) id: Option<DeploymentId>,
    pub(super) state: String,
    pub(super) message: String,
    pub(super) superseded_by: Option<DeploymentId>,
    /// Its release is live now, or other content of the trigger's commit.
    pub(super) live: bool,
    /// The deployment that made live what is.
    pub(super) live_by: Option<DeploymentId>,
    /// Where it ended otherwise: the last one after it that made its commit live.
    pub(super) later: Option<DeploymentId>,
    /// Its environment is closed.
    pub(super) closed: bool,
    /// All that keeps it.
    pub(super) kept: Vec<Told>,
}

/// A trigger in the words of the API.
pub(super) fn trigger(mut row: Shown) -> pb::Trigger {
    let deployment = row.deployment.take().unwrap_or_default();
    let state = state(&deployment.state);
    let is_own = row.outcome == "created";
    let went_live = deployment.went_live(state).filter(|_| is_own);
    let overtaken = is_own && state == State::Superseded && went_live.is_none();
    let outcome = match row.outcome.as_str() {
        _ if overtaken => trigger::Outcome::Superseded,
        "created" => trigger::Outcome::Created,
        "superseded" => trigger::Outcome::Superseded,
        "ignored" => trigger::Outcome::Ignored,
        "closed" => trigger::Outcome::Closed,
        // A word that a newer release wrote.
        _ => trigger::Outcome::Unspecified,
    };
    let message = if row.outcome == "created" {
        words(&row, &deployment, state)
    } else {
        row.message.clone()
    };
    let blockers: Vec<pb::Blocker> = deployment.kept.into_iter().map(Told::shown).collect();
    let first = blockers.first().map(|one| one.action.clone());
    pb::Trigger {
        id: row.id.to_string(),
        delivery_id: row.delivery_id.to_string(),
        repository: row.repository,
        branch: row.branch,
        commit: row.commit,
        sender: row.sender,
        site: row.site,
        environment: row.environment,
        outcome: outcome.into(),
        reason: reason(&row.reason).into(),
        message,
        deployment_id: deployment.id.map(|id| id.to_string()).unwrap_or_default(),
        deployment_state: state.into(),
        action: first.unwrap_or_default(),
        received_at: Some(shown(row.received_at)),
        created_at: Some(shown(row.created_at)),
        event: row.event,
        pull_request: row.pull_request.unwrap_or_default(),
        blockers,
        went_live_deployment_id: went_live.map(|id| id.to_string()).unwrap_or_default(),
    }
}

impl OfDeployment {
    /// The deployment that made the commit live, now or last.
    fn went_live(&self, state: State) -> Option<DeploymentId> {
        match state {
            _ if self.live => self.live_by.or(self.id),
            State::Succeeded => self.id,
            _ => self.later,
        }
    }
}

/// Deliveries that are not decided yet. The error may name what is of other sites, so it is for those
/// who see all.
pub(super) fn undecided(found: Undecided, sees_all: bool) -> pb::Undecided {
    pb::Undecided {
        count: i32::try_from(found.count).unwrap_or(i32::MAX),
        since: Some(shown(found.since)),
        error: if sees_all { found.error } else { String::new() },
    }
}

/// A delivery as a whole, for those who see all.
pub(super) fn delivery(noted: Noted) -> pb::Delivery {
    pb::Delivery {
        id: noted.id.to_string(),
        event: noted.event,
        received_at: Some(shown(noted.received_at)),
        decided_at: noted.decided_at.map(shown),
        note: noted.note,
    }
}

/// Why more may have come than is told. Where the gateways are is for those who see all.
pub(super) fn gateway_error(error: &Error, sees_all: bool) -> String {
    if sees_all {
        chain(error)
    } else {
        error.to_string()
    }
}

/// What became of the deployment, as it stands.
fn words(row: &Shown, deployment: &OfDeployment, state: State) -> String {
    let place = format!("{}/{}", row.site, row.environment);
    // However its own deployment ended: what a retry or a late upload made of it is as good.
    let state = if deployment.later.is_some() {
        State::Succeeded
    } else {
        state
    };
    match state {
        State::Pending | State::Waiting | State::Cancelling if !deployment.kept.is_empty() => {
            let all: Vec<&str> = deployment.kept.iter().map(|one| &*one.message).collect();
            format!("waits: {}", all.join("; and "))
        }
        State::Pending => "waits for its lane".to_owned(),
        State::Running | State::Waiting => "is on its way".to_owned(),
        State::Cancelling => "is being undone".to_owned(),
        // Also while a deployment that made it so still bakes.
        _ if deployment.live => format!("is live on {place}"),
        State::Succeeded if deployment.closed => {
            format!("was live on {place}, which is closed now")
        }
        State::Succeeded => format!("was live on {place}; something else is now"),
        State::Superseded => match deployment.superseded_by {
            Some(by) => format!("{by} took its place"),
            None => "something newer took its place".to_owned(),
        },
        State::Failed | State::Cancelled | State::RolledBack | State::Unspecified => {
            deployment.message.clone()
        }
    }
}

fn state(word: &str) -> State {
    match word {
        "pending" => State::Pending,
        "running" => State::Running,
        "waiting" => State::Waiting,
        "cancelling" => State::Cancelling,
        "succeeded" => State::Succeeded,
        "failed" => State::Failed,
        "cancelled" => State::Cancelled,
        "superseded" => State::Superseded,
        "rolled_back" => State::RolledBack,
        _ => State::Unspecified,
    }
}

fn reason(word: &str) -> trigger::Reason {
    use trigger::Reason;
    match word {
        "unknown_repository" => Reason::UnknownRepository,
        "no_rule" => Reason::NoRule,
        "branch" => Reason::Branch,
        "paths" => Reason::Paths,
        "duplicate" => Reason::Duplicate,
        "rejected_release" => Reason::RejectedRelease,
        "banned_release" => Reason::BannedRelease,
        "not_a_branch" => Reason::NotABranch,
        "deleted" => Reason::Deleted,
        "older" => Reason::Older,
        "not_acted_on" => Reason::NotActedOn,
        "unreadable" => Reason::Unreadable,
        "previews_off" => Reason::PreviewsOff,
        "fork" => Reason::Fork,
        "closed" => Reason::Closed,
        "slug_taken" => Reason::SlugTaken,
        _ => Reason::Unspecified,
    }
}
