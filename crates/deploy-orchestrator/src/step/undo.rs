//! The undo: what a stopped deployment still has to take back, as ordinary steps.

use super::{edges::written, store};
use crate::{
    ctx::Tx,
    deployment::{Deployment, Error, plan::StepKind},
};

/// Abandons every open step and readies the undo steps; answers how many there are.
///
/// Traffic goes back in one step whatever the number of shifts: straight to the release before.
pub(crate) async fn begin(tx: &mut Tx, deployment: &Deployment) -> Result<usize, Error> {
    let now = tx.now();
    let begun = store::list_begun(tx, deployment.id).await?;
    store::abandon_open(tx, now, deployment.id).await?;
    let moved = begun
        .iter()
        .find(|step| {
            matches!(step.kind, StepKind::Shift | StepKind::Switch) && !written(step).is_empty()
        })
        .map(|step| (StepKind::Return, step.id));
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
