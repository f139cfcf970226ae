//! All that keeps a deployment: the blocker to which its time is charged, and what stands besides.
//!
//! The ledger has one standing blocker of a deployment at a time, so that no minute is counted twice.
//! Who asks why a deployment waits is told all of it: what has no content yet is kept by its
//! environment's hold, and by the stops of its site and of everything, as much as what has. Their own
//! rows say so, and are read with the ledger in one statement ([`store`](super::store)).
//!
//! Nothing besides the ledger keeps a rollback, which passes holds and stops, nor what acts, which its
//! steps pause. That another deployment acts is told of what only that keeps: of anything else nobody
//! knows yet, for what acts may give way to it.

use candlefish_clock::Moment;
use candlefish_proto::deploy as pb;
use serde::Deserialize;

use crate::{
    blocker::{self, Blocker, Told},
    stop::{Standing, Stop},
};

#[cfg(test)]
mod tests;

/// What rows tell of a deployment.
#[derive(Debug, Deserialize)]
pub(crate) struct Kept {
    /// Those of the ledger that stand.
    standing: Vec<Told>,
    /// Of what is pending, and no rollback.
    besides: Option<Besides>,
}

/// What keeps all that is pending in an environment.
#[derive(Debug, Deserialize)]
struct Besides {
    /// `docs/production`.
    place: String,
    hold: Option<Held>,
    /// What ends last comes first.
    stops: Vec<Standing>,
}

/// A hold, from when on it keeps this deployment.
#[derive(Debug, Deserialize)]
struct Held {
    since: jiff::Timestamp,
    by: String,
    reason: String,
}

impl Kept {
    /// All that keeps it, what its time is charged to first. Of that, too, since when it keeps the
    /// deployment: its time may have been charged to something else until lately.
    pub(crate) fn told(self) -> Vec<Told> {
        let mut told = self.standing;
        for one in self.besides.into_iter().flat_map(Besides::told) {
            match told.iter_mut().find(|other| other.stands_for(&one)) {
                Some(charged) => charged.since = charged.since.min(one.since),
                None => told.push(one),
            }
        }
        told
    }

    /// The same, as the API shows it.
    pub(crate) fn shown(self) -> Vec<pb::Blocker> {
        self.told().into_iter().map(Told::shown).collect()
    }

    /// The ledger as it is, and after it what keeps the deployment besides.
    pub(crate) fn after(self, ledger: Vec<Told>) -> Vec<Told> {
        let besides = self.besides.into_iter().flat_map(Besides::told);
        let besides: Vec<Told> = besides
            .filter(|one| ledger.iter().all(|other| !other.stands_for(one)))
            .collect();
        ledger.into_iter().chain(besides).collect()
    }
}

impl Besides {
    /// In the order in which the lane would charge time to them.
    fn told(self) -> Vec<Told> {
        let stops = self.stops.into_iter().map(|told| {
            let stop = Stop::from(told);
            Told::standing(stop.blocker(), stop.since)
        });
        let hold = self.hold.map(|hold| {
            let since = Moment::from_database(hold.since);
            Told::standing(held(&self.place, &hold.by, &hold.reason), since)
        });
        stops.chain(hold).collect()
    }
}

/// What a hold of `place` is for a deployment that it keeps.
pub(super) fn held(place: &str, by: &str, reason: &str) -> Blocker {
    Blocker {
        kind: blocker::Kind::Hold,
        until: None,
        owner: "approver",
        message: format!("{place} is held by {by}: {reason}"),
        action: format!("candlefish hold lift {place} --reason …"),
    }
}
