//! Deployments that pushes make: accepting one, and ending one whose content never came. Both within
//! the transaction of the trigger, which holds the lane.

use candlefish_ids::{DeploymentId, ReleaseId};

use super::{
    Error,
    accept::{self, New},
    apply::{Change, apply_and_record},
    event::SYSTEM,
    plan::Kind,
    state::{Cause, Event, State},
    store,
};
use crate::{
    ctx::{Ctx, Tx},
    lane::{self, store::Lane},
    site::Environment,
};

/// A deployment to accept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accept<'a> {
    pub(crate) id: DeploymentId,
    pub(crate) environment: &'a Environment,
    /// Its content may be still to come.
    pub(crate) release: ReleaseId,
    pub(crate) actor: &'a str,
    pub(crate) reason: &'a str,
    /// W3C trace context of the call that told of the push; empty when none did.
    pub(crate) parent: &'a str,
}

/// Accepts a deployment by the environment's own strategy.
pub(crate) async fn accept(
    ctx: &Ctx,
    tx: &mut Tx,
    lane: &mut Lane,
    cmd: Accept<'_>,
) -> Result<(), Error> {
    let new = New {
        environment: cmd.environment,
        release_id: cmd.release,
        kind: Kind::Standard,
        strategy: cmd.environment.policy.strategy.clone(),
        actor: cmd.actor,
        reason: cmd.reason,
        retry_of: None,
        leaves_release_id: None,
    };
    let linked = (cmd.id, cmd.parent.to_owned());
    accept::accept_linked(ctx, tx, lane, linked, new).await?;
    Ok(())
}

/// Why there is no content.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Missing<'a> {
    /// Nobody uploaded it in time.
    Upload,
    /// GitHub's archive was not fetched in time; why not at the last try.
    Archive(&'a str),
    /// It cannot be had, however often it is tried.
    Refused(&'a str),
}

/// Ends everything on a lane that waits for the content of this release.
pub(crate) async fn end_each_without_content(
    ctx: &Ctx,
    tx: &mut Tx,
    lane: &mut Lane,
    release: ReleaseId,
    (commit, missing): (&str, Missing<'_>),
) -> Result<(), Error> {
    for id in store::list_without_content(tx, lane.environment_id, release).await? {
        end_without_content(ctx, tx, lane, id, (commit, missing)).await?;
    }
    Ok(())
}

/// What waits on a lane for the content of a release that never got any goes with another release of
/// the same commit, which has it.
pub(crate) async fn go_with(
    ctx: &Ctx,
    tx: &mut Tx,
    lane: &mut Lane,
    expected: ReleaseId,
    whole: ReleaseId,
) -> Result<(), Error> {
    store::replace_release(tx, lane.environment_id, expected, whole).await?;
    lane::grant(ctx, tx, lane).await
}

/// Ends a deployment that still waits for the content of a commit.
pub(crate) async fn end_without_content(
    ctx: &Ctx,
    tx: &mut Tx,
    lane: &mut Lane,
    id: DeploymentId,
    (commit, missing): (&str, Missing<'_>),
) -> Result<(), Error> {
    let Some(mut deployment) = store::lock(tx, id).await? else {
        return Ok(());
    };
    if deployment.state != State::Pending {
        return Ok(());
    }
    let short = commit.get(..7).unwrap_or(commit);
    let upload = format!(
        "candlefish deploy DIR --site {} --env {} --commit {commit}",
        deployment.site, deployment.environment
    );
    let (cause, message) = match missing {
        Missing::Upload => (
            Cause::Deadline,
            format!(
                "its content did not come: nobody uploaded {short} in time. Upload it: {upload}"
            ),
        ),
        Missing::Archive(note) => {
            let why = if note.is_empty() {
                String::new()
            } else {
                format!(": {note}")
            };
            let words = format!("GitHub's archive of {short} was not fetched in time{why}");
            let again = format!("Once it can be: candlefish retry {id}");
            (
                Cause::Deadline,
                format!("its content did not come: {words}. {again}"),
            )
        }
        Missing::Refused(words) => {
            let next = format!("Mend it and push again, or upload a built site: {upload}");
            let what = format!("GitHub's archive of {short} is not its content");
            (Cause::Content, format!("{what}: {words}. {next}"))
        }
    };
    let change = Change::new(Event::Stops(cause), SYSTEM, message);
    apply_and_record(tx, lane, &mut deployment, change).await?;
    lane::grant(ctx, tx, lane).await
}
