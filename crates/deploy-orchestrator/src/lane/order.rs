//! Who may act next on a lane, and who has lost its reason to: a pure function of what is pending,
//! acting and live.
//!
//! It is asked in every transaction that admits, ends or unblocks a deployment, and answers the same
//! to the same picture, so that a lost wake-up costs time only.
#![deny(clippy::wildcard_enum_match_arm)]

use candlefish_clock::Moment;
use candlefish_ids::DeploymentId;
use serde::Deserialize;

use super::{content::Fetch, descents::Descents};
use crate::{deployment::plan::Kind, site::policy::Order};

#[cfg(test)]
mod tests;

/// After so many acting deployments superseded in a row the next counts as pinned, so that a busy
/// branch still gets live.
pub(crate) const SUPERSEDED_BEFORE_PINNED: i32 = 3;

/// A deployment that waits for the lane or acts on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contender {
    pub(crate) id: DeploymentId,
    pub(crate) kind: Kind,
    /// Empty for content without a commit.
    pub(crate) commit: String,
    /// Rank by admission.
    pub(crate) admission: i64,
    /// Its content is whole.
    pub(crate) sealed: bool,
    /// Until when a push waits for its content.
    pub(crate) content_until: Option<Moment>,
    /// How far its content is that comes from the repository.
    pub(crate) fetch: Option<Fetch>,
    /// No push supersedes it.
    pub(crate) pinned: bool,
    /// Why this environment rejected its release meanwhile, while that stands.
    pub(crate) rejected: Option<String>,
    /// Who banned its release, and why, while that stands.
    pub(crate) banned: Option<String>,
    /// The newest push that asked for it.
    pub(crate) pushed: Option<Pushed>,
}

/// A push, as its branch orders them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Pushed {
    pub(crate) branch: String,
    /// By the sender's clock, in seconds.
    pub(crate) at: i64,
    /// What the branch was at.
    pub(crate) before: String,
}

impl Pushed {
    /// Whether it came after another push of its branch; none where nothing tells.
    fn came_after(&self, other: &Self) -> Option<bool> {
        (self.branch == other.branch && self.at != other.at).then_some(self.at > other.at)
    }

    /// The same, when it made `commit`, and the other one `others`: within a second what each says of
    /// the other tells.
    fn came_after_of(&self, commit: &str, other: &Self, others: &str) -> Option<bool> {
        self.came_after(other).or_else(|| {
            let (after, before) = (self.before == others, other.before == commit);
            (self.branch == other.branch && after != before).then_some(after)
        })
    }
}

/// Who acts, and whether it can still be superseded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActingNow {
    pub(crate) contender: Contender,
    /// Since when it acts.
    pub(crate) since: Option<Moment>,
    pub(crate) pivoted: bool,
    /// All traffic is on it: from then on a ban leaves it where it is.
    pub(crate) live: bool,
    pub(crate) cancelling: bool,
}

/// What is live: its commit and the deployment that made it so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) deployment_id: DeploymentId,
    pub(crate) commit: String,
    /// The newest push that asked for that deployment.
    pub(crate) pushed: Option<Pushed>,
}

/// Everything the choice depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) order: Order,
    /// By a hold or by a stop of the line: nothing but a rollback is granted.
    pub(crate) held: bool,
    pub(crate) live: Option<Live>,
    pub(crate) acting: Option<ActingNow>,
    /// By admission.
    pub(crate) pending: Vec<Contender>,
}

/// Knows which commit descends from which.
pub(crate) trait Ancestry {
    /// `commit` has `ancestor` among its ancestors; false for equal ones and for unknown ones.
    fn descends(&self, commit: &str, ancestor: &str) -> bool;
}

/// A deployment that ends because another took its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Superseded {
    pub(crate) id: DeploymentId,
    pub(crate) by: DeploymentId,
    /// It asked for an older commit than what is live or acting: going back needs a rollback.
    pub(crate) backwards: bool,
}

/// What the lane decides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Plan {
    /// Pending ones that end.
    pub(crate) superseded: Vec<Superseded>,
    /// The acting one is undone, for this newer one.
    pub(crate) undo_acting_for: Option<DeploymentId>,
    pub(crate) grant: Option<DeploymentId>,
    /// Pending ones that do not end, the granted one too, as [`turns`] orders them.
    pub(crate) turns: Vec<DeploymentId>,
}

/// Makes the head of a pull request lead in its preview: it comes after everything else there, also
/// after a head that it descended from before history was rewritten. What descends from it without
/// having been a head itself, such as a trial merge, still comes after it.
///
/// `heads` are those of the commits that were the head once.
pub(super) fn lead(known: &mut Descents, head: &str, heads: &[String], commits: &[String]) {
    for other in commits.iter().filter(|other| *other != head) {
        if heads.contains(other) || !known.descends(other, head) {
            known.remove(other, head);
            known.insert(head, other);
        }
    }
}

/// Decides.
pub(crate) fn plan(picture: &Picture, ancestry: &dyn Ancestry) -> Plan {
    let (ready, drafts): (Vec<&Contender>, Vec<&Contender>) =
        picture.pending.iter().partition(|one| one.sealed);
    let (standing, superseded) = stand(&ready, picture, ancestry);
    let undo_acting_for = undo_acting_for(picture, &standing, ancestry);
    let turns = turns(standing.into_iter().chain(drafts), ancestry);
    let may_go = |one: &&&Contender| one.sealed && (!picture.held || one.kind == Kind::Rollback);
    let first = turns.first().filter(may_go);
    let first = first.filter(|_| picture.acting.is_none());
    Plan {
        superseded,
        undo_acting_for,
        grant: first.map(|one| one.id),
        turns: turns.iter().map(|one| one.id).collect(),
    }
}

/// The order in which the lane grants what waits, should nothing come between: rollbacks first, then by
/// admission, but what is pinned before what descends from it: after that it could only go backwards.
/// What has no content takes no place before those that have.
///
/// The one order: the first of it is granted, and what waits is told by it who is before it.
pub(super) fn turns<'a>(
    waiting: impl IntoIterator<Item = &'a Contender>,
    ancestry: &dyn Ancestry,
) -> Vec<&'a Contender> {
    let mut waiting: Vec<&Contender> = waiting.into_iter().collect();
    waiting.sort_by_key(|one| (!one.sealed, one.kind != Kind::Rollback, one.admission));
    let is_ahead = |one: &&Contender| one.pinned && one.sealed;
    let mut pinned: Vec<&Contender> = waiting.iter().copied().filter(is_ahead).collect();
    let mut turns = Vec::with_capacity(waiting.len());
    for one in waiting {
        if is_ahead(&one) {
            let Some(at) = pinned.iter().position(|other| other.id == one.id) else {
                // What descends from it took it along.
                continue;
            };
            pinned.remove(at);
        }
        take_turn(one, &mut pinned, ancestry, &mut turns);
    }
    turns
}

/// Its turn comes after those of the pinned ones that it descends from, as far as they are left. Of
/// these, too, each comes after its own.
fn take_turn<'a>(
    one: &'a Contender,
    pinned: &mut Vec<&'a Contender>,
    ancestry: &dyn Ancestry,
    turns: &mut Vec<&'a Contender>,
) {
    let is_older = |other: &&Contender| {
        one.kind != Kind::Rollback && ancestry.descends(&one.commit, &other.commit)
    };
    // Each is taken out first, so that this ends whatever was said of ancestors.
    while let Some(at) = pinned.iter().position(is_older) {
        let older = pinned.remove(at);
        take_turn(older, pinned, ancestry, turns);
    }
    turns.push(one);
}

/// Who of those that are ready stands, and who gave way. First to what is live or acts, then to what
/// descends from it, to what was pushed to its branch after it, at last to what merely came later: each
/// by an order without circles, among those that the one before left. All by one rule could end them
/// all, each for the next.
fn stand<'a>(
    ready: &[&'a Contender],
    picture: &Picture,
    ancestry: &dyn Ancestry,
) -> (Vec<&'a Contender>, Vec<Superseded>) {
    let mut superseded = Vec::new();
    let mut standing: Vec<&Contender> = ready.to_vec();
    let is_standard = |one: &Contender| one.kind == Kind::Standard;
    standing.retain(|one| {
        let by = is_standard(one)
            .then(|| gives_way(one, picture, ancestry))
            .flatten();
        superseded.extend(by.clone());
        by.is_none()
    });
    for rule in Rule::ALL {
        let among = standing.clone();
        standing.retain(|one| {
            let open = is_standard(one) && !one.pinned;
            let others = among
                .iter()
                .rev()
                .filter(|other| open && is_standard(other));
            let by = { others }
                .find(|other| rule.takes_place_of(other, one, picture.order, ancestry))
                .map(|other| Superseded {
                    id: one.id,
                    by: other.id,
                    backwards: one.admission > other.admission,
                });
            superseded.extend(by.clone());
            by.is_none()
        });
    }
    superseded.sort_by_key(|ended| ready.iter().position(|one| one.id == ended.id));
    (standing, superseded)
}

/// What is live or acts, and newer.
fn gives_way(one: &Contender, picture: &Picture, ancestry: &dyn Ancestry) -> Option<Superseded> {
    let older_than = |commit: &str| ancestry.descends(commit, &one.commit);
    let ended_by = |by: DeploymentId| Superseded {
        id: one.id,
        by,
        backwards: true,
    };
    if let Some(live) = &picture.live
        && (older_than(&live.commit)
            || !one.pinned && moved_on(one, &live.commit, live.pushed.as_ref(), ancestry))
    {
        return Some(ended_by(live.deployment_id));
    }
    // What acts may still fail, and what waits has no traffic: neither takes a pinned one's place.
    if one.pinned {
        return None;
    }
    let acting = picture.acting.as_ref()?;
    let other = &acting.contender;
    // In a queue an unrelated one has its turn, should what acts fail.
    let is_newer = older_than(&other.commit)
        || picture.order == Order::Latest
            && moved_on(one, &other.commit, other.pushed.as_ref(), ancestry);
    let stands = !acting.cancelling && other.kind == Kind::Standard;
    (stands && is_newer).then(|| ended_by(other.id))
}

/// Whether the branch was pushed to `commit` after this one, and nothing relates the two: history was
/// rewritten between. Its content comes late, and may not undo that.
fn moved_on(
    one: &Contender,
    commit: &str,
    pushed: Option<&Pushed>,
    ancestry: &dyn Ancestry,
) -> bool {
    let after = pushed
        .zip(one.pushed.as_ref())
        .and_then(|(pushed, before)| pushed.came_after_of(commit, before, &one.commit));
    after == Some(true) && commit != one.commit && !ancestry.descends(&one.commit, commit)
}

/// Why one takes another's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Its commit descends from the other's.
    Descends,
    /// Its branch was pushed to it after the other, and nothing relates their commits.
    Pushed,
    /// It came later, and nothing relates their commits.
    Later,
}

impl Rule {
    const ALL: [Self; 3] = [Self::Descends, Self::Pushed, Self::Later];

    /// Among those that wait, `newer` takes the place of `one`.
    fn takes_place_of(
        self,
        newer: &Contender,
        one: &Contender,
        order: Order,
        ancestry: &dyn Ancestry,
    ) -> bool {
        let later = newer.admission > one.admission;
        let older = || ancestry.descends(&one.commit, &newer.commit);
        let pushed = || {
            let pushes = newer.pushed.as_ref().zip(one.pushed.as_ref());
            pushes.and_then(|(newer, one)| newer.came_after(one))
        };
        // Hundreds that wait are asked about in pairs: nothing is looked up that does not matter.
        newer.id != one.id
            && match (self, order) {
                // One that descends follows those before it; a late older commit has no turn.
                (Self::Descends, Order::Queue) => {
                    !later && ancestry.descends(&newer.commit, &one.commit)
                }
                (Self::Descends, Order::Latest) => ancestry.descends(&newer.commit, &one.commit),
                (Self::Pushed | Self::Later, Order::Queue) => false,
                (Self::Pushed, Order::Latest) => pushed() == Some(true) && !older(),
                (Self::Later, Order::Latest) => later && pushed().unwrap_or(true) && !older(),
            }
    }
}

fn undo_acting_for(
    picture: &Picture,
    standing: &[&Contender],
    ancestry: &dyn Ancestry,
) -> Option<DeploymentId> {
    let acting = picture.acting.as_ref()?;
    let open = !acting.pivoted
        && !acting.cancelling
        && !acting.contender.pinned
        && acting.contender.kind == Kind::Standard;
    // What the hold keeps from acting has no reason to stop what acts.
    if !open || picture.held || picture.order == Order::Queue {
        return None;
    }
    standing
        .iter()
        .rev()
        .find(|one| {
            one.kind == Kind::Standard
                && Rule::ALL.iter().any(|rule| {
                    rule.takes_place_of(one, &acting.contender, picture.order, ancestry)
                })
        })
        .map(|one| one.id)
}
