//! `stage`: the release becomes reachable at its own address, on every live edge; and its undo.

use serde_json::json;

use super::{
    Step,
    edges::{FETCHES, await_followers, remember, written},
    outcome::Outcome,
    shared,
};
use crate::{
    ctx::{Ctx, Tx},
    deployment::{Deployment, Error, plan::Kind, state::Cause},
    noun,
    route::{self, Spec, Weighted, store::Place},
    site::host,
};

/// One turn of `stage`.
pub(super) async fn turn(
    ctx: &Ctx,
    tx: &mut Tx,
    deployment: &Deployment,
    step: &mut Step,
) -> Result<Outcome, Error> {
    if written(step).is_empty() {
        if deployment.kind == Kind::Rollback
            && let Some(message) = already_staged(tx, deployment).await?
        {
            return Ok(Outcome::done(message));
        }
        if deployment.kind == Kind::Rollback {
            note_fetches(tx, deployment, step).await?;
        }
        let manifests = shared::manifests(tx, deployment, &[deployment.release_id]).await?;
        let Some(release) = manifests.into_iter().next() else {
            return Ok(Outcome::failed(Cause::Verification, "the release is gone"));
        };
        let releases = vec![Weighted {
            release: release.release,
            manifest: release.manifest,
            weight: 100,
        }];
        write(
            ctx,
            tx,
            deployment,
            step,
            Spec {
                releases,
                ..Spec::default()
            },
        )
        .await?;
    }
    match await_followers(&ctx.config, tx, deployment, step).await? {
        Some(outcome) => Ok(outcome),
        None => Ok(Outcome::done(step.message.clone())),
    }
}

/// One turn of the undo: the address is taken away.
pub(super) async fn undo_turn(
    ctx: &Ctx,
    tx: &mut Tx,
    deployment: &Deployment,
    step: &mut Step,
) -> Result<Outcome, Error> {
    if written(step).is_empty() {
        write(ctx, tx, deployment, step, Spec::default()).await?;
    }
    match await_followers(&ctx.config, tx, deployment, step).await? {
        Some(outcome) => Ok(outcome),
        None => Ok(Outcome::done(step.message.clone())),
    }
}

/// Edges keep what a route names. A rollback to anything else makes them copy it first, which takes as long
/// as in any deployment.
async fn note_fetches(
    tx: &mut Tx,
    deployment: &Deployment,
    step: &mut Step,
) -> Result<(), sqlx::Error> {
    let (environment, release) = (deployment.environment_id, deployment.release_id);
    if !route::store::is_named(tx, environment, release).await? {
        let detail = step.detail.as_object_mut();
        let detail = detail.expect("a step's detail is an object");
        detail.insert(FETCHES.to_owned(), json!(true));
    }
    Ok(())
}

/// A rollback need not wait for an address of its own when every live edge has the content.
async fn already_staged(
    tx: &mut Tx,
    deployment: &Deployment,
) -> Result<Option<String>, sqlx::Error> {
    let followers = shared::followers(tx, deployment, &[]).await?;
    let live: Vec<_> = followers.iter().filter(|one| one.live).collect();
    let all = live.len() >= deployment.needed_edges() && live.iter().all(|one| one.staged);
    let edges = noun::counted(live.len(), "edge");
    Ok(all.then(|| format!("{} of {edges} had it", live.len())))
}

async fn write(
    ctx: &Ctx,
    tx: &mut Tx,
    deployment: &Deployment,
    step: &mut Step,
    spec: Spec,
) -> Result<(), Error> {
    let hosts = [host::of_deployment(
        &deployment.site,
        deployment.id,
        &ctx.config.domain,
    )];
    let place = Place {
        environment_id: None,
        deployment_id: Some(deployment.id),
        site: &deployment.site,
        environment: &deployment.environment,
        noindex: true,
    };
    tx.moves_traffic();
    let written = shared::write_routes(ctx, tx, deployment, &hosts, place, &spec).await?;
    let now = tx.now();
    remember(step, now, &written);
    Ok(())
}
