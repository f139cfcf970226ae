//! How deployments of an environment go, unless the call says otherwise. Stored as JSON with the
//! environment, and copied into each deployment when it is accepted.

use std::time::Duration;

use candlefish_proto::deploy as pb;
use serde::{Deserialize, Serialize};

use super::{duration, strategy::Strategy};
use crate::field::Faults;

const SETTLE_MAX: Duration = Duration::from_mins(10);
const DEADLINE_MIN: Duration = Duration::from_secs(1);
const DEADLINE_MAX: Duration = Duration::from_hours(24);
const KEEP_RELEASES_MAX: i32 = 100;
const CONTENT_DEADLINE_MAX: Duration = Duration::from_hours(7 * 24);

/// What a newcomer does to what waits before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// A newer commit supersedes an older one that is pending, or acting before its pivot.
    #[default]
    Latest,
    /// Each has its turn.
    Queue,
}

/// What an analysis does after three intervals without evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnNoEvidence {
    /// Goes on, on our own fetches.
    #[default]
    Advance,
    /// Waits for a person; the deadline pauses.
    Wait,
    /// Sends traffic back.
    Return,
}

/// How deployments go.
///
/// A field that an older release did not write reads as its default, and one that a newer release
/// wrote is passed over: both run against the same rows during an upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Policy {
    pub(crate) order: Order,
    pub(crate) strategy: Strategy,
    /// How long verification must go on passing before a candidate counts as healthy.
    #[serde(rename = "settle_ms", with = "duration")]
    pub(crate) settle: Duration,
    /// How long a deployment may act; waits for people do not count.
    #[serde(rename = "deadline_ms", with = "duration")]
    pub(crate) deadline: Duration,
    pub(crate) on_no_evidence: OnNoEvidence,
    /// The candidate requests that an interval needs to be judged.
    pub(crate) min_requests: i32,
    /// Live edges without which nothing moves but a rollback, which needs one.
    pub(crate) min_edges: i32,
    /// Releases that stay restorable.
    pub(crate) keep_releases: i32,
    /// How long a deployment waits for its content.
    #[serde(rename = "content_deadline_ms", with = "duration")]
    pub(crate) content_deadline: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            order: Order::default(),
            strategy: Strategy::default(),
            settle: Duration::from_millis(300),
            deadline: Duration::from_mins(30),
            on_no_evidence: OnNoEvidence::default(),
            min_requests: 50,
            min_edges: 1,
            keep_releases: 10,
            content_deadline: Duration::from_hours(1),
        }
    }
}

impl Policy {
    /// Reads the policy at the field `path` of a request; unset fields take their defaults.
    pub(crate) fn read(faults: &mut Faults, path: &str, given: Option<&pb::Policy>) -> Self {
        let unset = Self::default();
        let Some(given) = given else {
            return unset;
        };
        let field = |name: &str| format!("{path}.{name}");
        Self {
            order: read_order(faults, &field("order"), given.order),
            strategy: Strategy::read(faults, &field("strategy"), given.strategy.as_ref())
                .unwrap_or_default(),
            settle: faults.duration(
                &field("settle"),
                given.settle.as_ref(),
                unset.settle,
                Duration::ZERO..=SETTLE_MAX,
            ),
            deadline: faults.duration(
                &field("deadline"),
                given.deadline.as_ref(),
                unset.deadline,
                DEADLINE_MIN..=DEADLINE_MAX,
            ),
            on_no_evidence: read_on_no_evidence(
                faults,
                &field("on_no_evidence"),
                given.on_no_evidence,
            ),
            min_requests: faults.count(
                &field("min_requests"),
                given.min_requests,
                unset.min_requests,
                1..=i32::MAX,
            ),
            min_edges: faults.count(
                &field("min_edges"),
                given.min_edges,
                unset.min_edges,
                1..=i32::MAX,
            ),
            keep_releases: faults.count(
                &field("keep_releases"),
                given.keep_releases,
                unset.keep_releases,
                1..=KEEP_RELEASES_MAX,
            ),
            content_deadline: faults.duration(
                &field("content_deadline"),
                given.content_deadline.as_ref(),
                unset.content_deadline,
                DEADLINE_MIN..=CONTENT_DEADLINE_MAX,
            ),
        }
    }
}

fn read_order(faults: &mut Faults, field: &str, given: i32) -> Order {
    match pb::policy::Order::try_from(given) {
        Ok(pb::policy::Order::Unspecified | pb::policy::Order::Latest) => Order::Latest,
        Ok(pb::policy::Order::Queue) => Order::Queue,
        Err(_) => {
            faults.add(
                field,
                format!("must be ORDER_LATEST or ORDER_QUEUE, not {given}"),
            );
            Order::default()
        }
    }
}

fn read_on_no_evidence(faults: &mut Faults, field: &str, given: i32) -> OnNoEvidence {
    use pb::policy::OnNoEvidence as Given;
    match Given::try_from(given) {
        Ok(Given::Unspecified | Given::Advance) => OnNoEvidence::Advance,
        Ok(Given::Wait) => OnNoEvidence::Wait,
        Ok(Given::Return) => OnNoEvidence::Return,
        Err(_) => {
            let words =
                "must be ON_NO_EVIDENCE_ADVANCE, ON_NO_EVIDENCE_WAIT or ON_NO_EVIDENCE_RETURN";
            faults.add(field, format!("{words}, not {given}"));
            OnNoEvidence::default()
        }
    }
}

impl From<&Policy> for pb::Policy {
    fn from(policy: &Policy) -> Self {
        Self {
            order: match policy.order {
                Order::Latest => pb::policy::Order::Latest,
                Order::Queue => pb::policy::Order::Queue,
            }
            .into(),
            strategy: Some((&policy.strategy).into()),
            settle: Some(duration::shown(policy.settle)),
            deadline: Some(duration::shown(policy.deadline)),
            on_no_evidence: match policy.on_no_evidence {
                OnNoEvidence::Advance => pb::policy::OnNoEvidence::Advance,
                OnNoEvidence::Wait => pb::policy::OnNoEvidence::Wait,
                OnNoEvidence::Return => pb::policy::OnNoEvidence::Return,
            }
            .into(),
            min_requests: policy.min_requests,
            min_edges: policy.min_edges,
            keep_releases: policy.keep_releases,
            content_deadline: Some(duration::shown(policy.content_deadline)),
        }
    }
}

#[cfg(test)]
mod tests;
