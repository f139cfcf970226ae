//! A push and an upload of the same commit to the same environment are one deployment.

use candlefish_ids::{DeploymentId, ReleaseId};

use super::store;
use crate::{ctx::Tx, site::Environment};

/// The deployment that a push of this release's commit made here, joined by the call that asks for
/// one; none when there is none, or another call joined it. The lane is locked.
///
/// A deployment that is over, such as one that never had its content, is left: the call makes another. One that has other
/// content of the same commit is another too.
pub(crate) async fn join(
    tx: &mut Tx,
    environment: &Environment,
    release: ReleaseId,
) -> Result<Option<DeploymentId>, sqlx::Error> {
    let now = tx.now();
    let Some(found) = store::find_unjoined(tx, environment, release).await? else {
        return Ok(None);
    };
    if !found.same && !found.open {
        return Ok(None);
    }
    store::save_joined(tx, now, &found, release).await?;
    tracing::info!(
        deployment.id = %found.deployment, release.id = %release,
        "a call joins the deployment that its push made"
    );
    Ok(Some(found.deployment))
}
