//! The undo: what a stopped deployment still has to take back, as ordinary steps.

use candlefish_ids::{DeploymentId, ReleaseId, StepId};
use sqlx::PgConnection;

use super::{Step, edges::written, shift::only_announces, store};
use crate::{
    ctx::Tx,
    deployment::{
        self, Deployment, Error,
        event::SYSTEM,
        plan::{Kind, StepKind},
        store::Preempted,
        target,
    },
    lane::store::Lane,
    record::{Act, Kind as RecordKind, Scope},
    release::{self, store::Ban},
    route,
};

/// Abandons every open step and readies the undo steps; answers how many there are.
///
/// Traffic goes back in one step whatever the number of shifts: straight to the release before. A
/// rollback that moved none takes back what it took over.
pub(crate) async fn begin(
    tx: &mut Tx,
    lane: &Lane,
    deployment: &mut Deployment,
) -> Result<usize, Error> {
    let now = tx.now();
    let begun = store::list_begun(tx, deployment.id).await?;
    store::abandon_open(tx, now, deployment.id).await?;
    let moved = match moved(&begun) {
        // What a closed environment is reached by is taken away already.
        None if deployment.kind == Kind::Rollback && !lane.closed => {
            inherit(tx, deployment).await?
        }
        own => own.map(|step| step.id),
    };
    let moved = moved.map(|of| (StepKind::Return, of));
    let staged = begun
        .iter()
        .find(|step| step.kind == StepKind::Stage && !written(step).is_empty())
        .map(|step| (StepKind::Unstage, step.id));
    let undo: Vec<_> = [moved, staged].into_iter().flatten().collect();
    for (place, (kind, of)) in undo.iter().enumerate() {
        let ready_at = (place == 0).then_some(now);
        store::insert_undo(tx, deployment.id, *kind, *of, ready_at).await?;
    }
    Ok(undo.len())
}

/// The first step that wrote the environment's routes.
fn moved(begun: &[Step]) -> Option<&Step> {
    let moves = |step: &&Step| {
        matches!(step.kind, StepKind::Shift | StepKind::Switch) && !written(step).is_empty()
    };
    begun.iter().find(moves)
}

/// The release to go back to and the ban that stands against it, where visitors have left it. What they
/// still get some of stays, banned or not.
pub(crate) async fn find_barred(
    tx: &mut Tx,
    deployment: &Deployment,
) -> Result<Option<(ReleaseId, Ban)>, sqlx::Error> {
    let Some(back) = deployment.previous_release_id else {
        return Ok(None);
    };
    let Some(ban) = release::store::find_ban(tx, back).await? else {
        return Ok(None);
    };
    let is_served = route::store::is_served(tx, deployment.environment_id, back).await?;
    Ok((!is_served).then_some((back, ban)))
}

/// Chooses the way back anew where [`find_barred`] finds one: the release that a rollback by hand would
/// choose, or none. Answers whether it did.
///
/// The choice is the deployment's from then on, and the caller saves it. It may be banned in its turn, so
/// it is looked at when the undo begins and again when the route is written.
pub(crate) async fn avoid_banned(tx: &mut Tx, deployment: &mut Deployment) -> Result<bool, Error> {
    let Some((banned, ban)) = find_barred(tx, deployment).await? else {
        return Ok(false);
    };
    let to = find_other(tx, deployment).await?;
    let goes = match to {
        Some(release) => format!("traffic goes back to {release}"),
        None => "there is nothing to go back to".to_owned(),
    };
    let words = format!("{goes}, for {banned} is banned {}", ban.words());
    deployment.previous_release_id = to;
    if to.is_none() {
        deployment.state.strand();
    }
    deployment.message = match deployment.message.as_str() {
        "" => words.clone(),
        why => format!("{why}; {words}"),
    };
    tx.log(deployment.id, 0, &words);
    record_return(tx, deployment, &words).await?;
    Ok(true)
}

/// What takes the place of a banned way back, kept from being collected.
///
/// A ban of it does not wait: `return` looks again. Here the release that failed is locked already, and
/// another environment, in which these two came the other way round, would wait for us as we for it.
async fn find_other(
    tx: &mut Tx,
    deployment: &Deployment,
) -> Result<Option<ReleaseId>, sqlx::Error> {
    let environment = deployment.environment_id;
    let leaves = deployment.given_up().unwrap_or(deployment.release_id);
    let passes = deployment.not_reached();
    while let Some(found) = target::find_before(tx, environment, leaves, passes).await? {
        if release::store::keep(tx, found).await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Where traffic goes back to is in the history, where nobody could guess it.
async fn record_return(
    tx: &mut Tx,
    deployment: &Deployment,
    words: &str,
) -> Result<(), sqlx::Error> {
    let scope = Scope::Environment(deployment.site_id, deployment.environment_id);
    Act {
        release: deployment.previous_release_id,
        deployment: Some(deployment.id),
        ..Act::new(RecordKind::Rollback, scope, SYSTEM, words)
    }
    .write(tx)
    .await
}

/// What a rollback takes back should it end before it moved traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inherited {
    /// Whose undo it is.
    preempted: DeploymentId,
    /// The step that is undone.
    step: StepId,
    /// That step announced a release; no traffic was moved yet.
    announced: bool,
    /// Visitors keep what they get.
    stays: bool,
    /// What visitors get then; none where there is nothing to go back to.
    pub(crate) to: Option<ReleaseId>,
    /// The other release of which visitors may have pages.
    pub(crate) held: Option<ReleaseId>,
}

impl Inherited {
    fn new(before: &Preempted, step: &Step) -> Self {
        // One that was being undone was on its way back, whether or not a worker had come to it.
        let stays = before.is_rollback && !before.is_undone;
        let own = Some(before.release_id);
        let (to, held) = if stays {
            let left = [before.leaves_release_id, before.previous_release_id];
            let mut left = left.into_iter().flatten();
            (own, left.find(|left| Some(*left) != own))
        } else {
            let back = before.previous_release_id;
            (back, own.filter(|_own| own != back))
        };
        Self {
            preempted: before.id,
            step: step.id,
            announced: only_announces(step),
            stays,
            to,
            held,
        }
    }

    fn words(&self) -> String {
        let what = match self.to {
            _ if self.announced => "it had moved no traffic yet".to_owned(),
            Some(release) if self.stays => format!("traffic stays on {release}"),
            Some(release) => format!("traffic goes back to {release}"),
            None => "there is nothing to go back to".to_owned(),
        };
        format!("it preempted {}: {what}", self.preempted)
    }
}

/// What this rollback takes back should it end before it moved traffic; none where nobody had moved
/// anything. It may have preempted another one, which had moved nothing either.
///
/// An earlier rollback that had moved traffic is not undone for a later one that did not get so far:
/// visitors keep what it went to, unless it was on its way back.
pub(crate) async fn find_inherited(
    conn: &mut PgConnection,
    rollback: DeploymentId,
) -> Result<Option<Inherited>, sqlx::Error> {
    let mut by = rollback;
    while let Some(before) = deployment::store::find_preempted(conn, by).await? {
        let begun = store::list_begun(conn, before.id).await?;
        if let Some(step) = moved(&begun) {
            return Ok(Some(Inherited::new(&before, step)));
        }
        by = before.id;
    }
    Ok(None)
}

/// What the rollback preempted has ended and left its undo to it: from now on it returns to where that
/// would have returned to. Answers the step that is undone.
async fn inherit(tx: &mut Tx, rollback: &mut Deployment) -> Result<Option<StepId>, Error> {
    let Some(mut inherited) = find_inherited(tx, rollback.id).await? else {
        return Ok(None);
    };
    rollback.previous_release_id = inherited.to;
    avoid_banned(tx, rollback).await?;
    inherited.to = rollback.previous_release_id;
    let words = inherited.words();
    tx.log(rollback.id, 0, &words);
    if !inherited.announced {
        // Whoever reads the history would take what was preempted to be live yet.
        record_return(tx, rollback, &words).await?;
    }
    Ok(Some(inherited.step))
}
