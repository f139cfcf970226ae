//! The undo: what a stopped deployment still has to take back, as ordinary steps.

use candlefish_ids::StepId;

use super::{Step, edges::written, store};
use crate::{
    ctx::Tx,
    deployment::{
        self, Deployment, Error,
        event::SYSTEM,
        plan::{Kind, StepKind},
    },
    lane::store::Lane,
    record::{Act, Kind as RecordKind, Scope},
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
        own => own,
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
fn moved(begun: &[Step]) -> Option<StepId> {
    let moves = |step: &&Step| {
        matches!(step.kind, StepKind::Shift | StepKind::Switch) && !written(step).is_empty()
    };
    begun.iter().find(moves).map(|step| step.id)
}

/// What the rollback preempted has ended and left its undo to it: from now on it returns to where that
/// would have returned to. Answers the step that is undone; none where nobody had moved anything.
///
/// An earlier rollback that had moved traffic is not undone for a later one that did not get so far:
/// visitors keep what it went to, unless it was on its way back.
async fn inherit(tx: &mut Tx, rollback: &mut Deployment) -> Result<Option<StepId>, Error> {
    let mut by = rollback.id;
    while let Some(before) = deployment::store::find_preempted(tx, by).await? {
        let begun = store::list_begun(tx, before.id).await?;
        if let Some(of) = moved(&begun) {
            let returned = begun.iter().any(|step| step.kind == StepKind::Return);
            rollback.previous_release_id = if before.is_rollback && !returned {
                Some(before.release_id)
            } else {
                before.previous_release_id
            };
            let to = rollback.previous_release_id.map_or_else(
                || "there is nothing to go back to".to_owned(),
                |release| format!("traffic goes back to {release}"),
            );
            let words = format!("it preempted {}: {to}", before.id);
            tx.log(rollback.id, 0, &words);
            if let Some(release) = rollback.previous_release_id {
                // Whoever reads the history would take what was preempted to be live yet.
                let scope = Scope::Environment(rollback.site_id, rollback.environment_id);
                let act = Act::new(RecordKind::Rollback, scope, SYSTEM, &words);
                act.of(release, rollback.id).write(tx).await?;
            }
            return Ok(Some(of));
        }
        // It may have preempted something itself.
        by = before.id;
    }
    Ok(None)
}
