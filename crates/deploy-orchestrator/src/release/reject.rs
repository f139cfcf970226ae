//! Rejecting a release where it hurt, in the transaction that stops the deployment that found out.

use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId, SiteId};

use super::{event, store, view};
use crate::{
    ctx::Tx,
    record::{self, Act, Scope},
};

/// A release that hurt an environment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reject<'a> {
    pub(crate) site: SiteId,
    pub(crate) environment: EnvironmentId,
    pub(crate) release: ReleaseId,
    /// The one that is stopped for it.
    pub(crate) deployment: DeploymentId,
    pub(crate) reason: &'a str,
    pub(crate) by: &'a str,
}

/// Rejects it. It is told of the release too: other deployments of it show what stands against it,
/// also long after their own end.
pub(crate) async fn reject(tx: &mut Tx, cmd: Reject<'_>) -> Result<(), sqlx::Error> {
    let now = tx.now();
    store::reject(tx, now, &cmd).await?;
    let scope = Scope::Environment(cmd.site, cmd.environment);
    let act = Act::new(record::Kind::Reject, scope, cmd.by, cmd.reason);
    act.of(cmd.release, cmd.deployment).write(tx).await?;
    let version = store::version(tx, cmd.release).await?;
    if let Some(release) = view::load_many(tx, &[cmd.release]).await?.get(&cmd.release) {
        let fact = event::rejected(release, version, cmd.by);
        tx.tell(fact);
    }
    Ok(())
}
