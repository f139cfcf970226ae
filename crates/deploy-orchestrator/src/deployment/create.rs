//! Accepting a deployment to an environment, or as a preview.

use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId};
use candlefish_proto::deploy as pb;
use candlefish_runtime::{
    identity::Caller,
    refusal::{Code, Refusal},
};

use super::{
    Error,
    accept::{New, check_open, share_counting},
    error::{no_release, unknown_release},
    limit,
    plan::Kind,
    view,
};
use crate::{
    ctx::{Ctx, Tx},
    idempotency::{self, Key, Reply},
    lane::{self, store::Lane},
    record::{self, Act, Scope},
    release,
    site::{self, Environment, Site, store::NewEnvironment, strategy::Strategy},
    trigger,
};

/// A deployment to accept.
#[derive(Debug, Clone)]
pub(crate) struct Create {
    pub(crate) site: String,
    pub(crate) to: To,
    pub(crate) release_id: ReleaseId,
    pub(crate) strategy: Option<Strategy>,
    pub(crate) reason: String,
    /// Lift the hold with this reason; empty to leave it.
    pub(crate) lift_hold: String,
}

/// Where it goes.
#[derive(Debug, Clone)]
pub(crate) enum To {
    Environment(String),
    /// An address of its own.
    Preview,
}

/// Accepts a deployment; it is durable once this answers.
pub(crate) async fn create(
    ctx: &Ctx,
    caller: &Caller,
    key: Option<Key>,
    cmd: Create,
) -> Result<Reply<pb::Deployment>, Error> {
    let id = DeploymentId::new();
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    let (environment, mut lane) = match &cmd.to {
        To::Environment(slug) => {
            let environment = find(&mut tx, caller, slug, &cmd).await?;
            let lane = lane::store::lock(&mut tx, environment.id).await?;
            (environment, lane)
        }
        To::Preview => {
            tx.read_clock().await?;
            let found = site::find(&mut tx, &cmd.site, caller).await;
            let site = found.map_err(Refusal::from)?;
            // The key is held before the preview's environment is made, so that a repeat makes none.
            if let Some(before) = idempotency::replay(&mut tx, key.as_ref()).await? {
                return Ok(Reply::replayed(before));
            }
            preview(&mut tx, caller, &site, id).await?
        }
    };
    if matches!(cmd.to, To::Environment(_))
        && let Some(before) = idempotency::replay(&mut tx, key.as_ref()).await?
    {
        return Ok(Reply::replayed(before));
    }
    let now = tx.now();
    check_open(lane.closed, &environment)?;
    let waiting = check(ctx, &mut tx, &environment, &cmd).await?;
    if !cmd.lift_hold.is_empty() {
        lift(ctx, &mut tx, caller, &environment, &cmd.lift_hold).await?;
    }
    if let Some(answer) = joined(ctx, &mut tx, &mut lane, &environment, &cmd).await? {
        idempotency::store(&mut tx, now, key.as_ref(), &answer).await?;
        ctx.commit(tx).await.map_err(Error::Commit)?;
        return Ok(Reply::new(answer));
    }
    let kind = if matches!(cmd.to, To::Preview) {
        Kind::Preview
    } else {
        Kind::Standard
    };
    let new = New {
        environment: &environment,
        release_id: cmd.release_id,
        kind,
        strategy: cmd
            .strategy
            .unwrap_or_else(|| environment.policy.strategy.clone()),
        actor: &caller.principal,
        reason: &cmd.reason,
        retry_of: None,
        leaves_release_id: None,
    };
    let accepted = limit::accept(ctx, &mut tx, &mut lane, id, new, waiting).await?;
    let answer = view::whole(ctx, &mut tx, accepted).await?;
    idempotency::store(&mut tx, now, key.as_ref(), &answer).await?;
    ctx.commit(tx).await?;
    Ok(Reply::new(answer))
}

/// Where it goes; a refusal names a release too that is not one of the site.
async fn find(
    tx: &mut Tx,
    caller: &Caller,
    slug: &str,
    cmd: &Create,
) -> Result<Environment, Error> {
    let error = match site::find_environment(tx, &cmd.site, slug, caller).await {
        Ok(environment) => return Ok(environment),
        Err(error) => error,
    };
    let has_site = matches!(error, site::Error::UnknownEnvironment { .. });
    let refusal = Refusal::from(error);
    if !has_site || release::store::is_of(tx, cmd.release_id, &cmd.site).await? {
        return Err(refusal.into());
    }
    let words = no_release(cmd.release_id);
    Err(refusal.field("release_id", words).into())
}

/// The deployment that a push of the same commit made, now that its content is here.
async fn joined(
    ctx: &Ctx,
    tx: &mut Tx,
    lane: &mut Lane,
    environment: &Environment,
    cmd: &Create,
) -> Result<Option<pb::Deployment>, Error> {
    if matches!(cmd.to, To::Preview) {
        return Ok(None);
    }
    let Some(there) = trigger::join(tx, environment, cmd.release_id).await? else {
        return Ok(None);
    };
    lane::grant(ctx, tx, lane).await?;
    Ok(Some(view::load(ctx, tx, there).await?))
}

/// Makes the environment of a preview; nobody else knows its lane yet.
async fn preview(
    tx: &mut Tx,
    caller: &Caller,
    site: &Site,
    id: DeploymentId,
) -> Result<(Environment, Lane), Error> {
    let now = tx.now();
    let environment_id = EnvironmentId::new();
    let new = NewEnvironment {
        id: environment_id,
        site: site.id,
        slug: &id.suffix(),
        kind: site::Kind::Preview,
        policy: &site::policy::Policy::default(),
        pushes: &site::pushes::PushRule::default(),
        created_by: &caller.principal,
    };
    site::store::insert_environment(tx, now, &new)
        .await
        .map_err(site::Error::from)
        .map_err(Refusal::from)?;
    lane::store::insert(tx, environment_id).await?;
    let lane = lane::store::lock(tx, environment_id).await?;
    Ok((load(tx, environment_id).await?, lane))
}

async fn load(tx: &mut Tx, id: EnvironmentId) -> Result<Environment, Refusal> {
    let found = site::store::load_environment(tx, id).await;
    Ok(found.map_err(site::Error::from)?)
}

/// Refuses what may not be deployed there; answers how many wait there, counted up to the limit.
async fn check(
    ctx: &Ctx,
    tx: &mut Tx,
    environment: &Environment,
    cmd: &Create,
) -> Result<i64, Error> {
    if environment.kind == site::Kind::Preview && !matches!(cmd.to, To::Preview) {
        return Err(single_preview(environment).into());
    }
    let most = ctx.config.max_waiting;
    let wanted = share_counting(tx, environment, cmd.release_id, most).await?;
    let wanted = wanted.ok_or_else(|| unknown_release(cmd.release_id))?;
    wanted.allowed(cmd.release_id, environment, "release_id")?;
    Ok(wanted.waiting)
}

/// An address that a preview has for itself.
pub(super) fn single_preview(environment: &Environment) -> Refusal {
    let words = format!("{} belongs to a single preview", environment.place());
    Refusal::new(Code::FailedPrecondition, "preview", &words).field("environment", words)
}

/// Lifts the hold in the same act. Where nothing is held it is refused, as the verb alone is: whoever
/// says why a hold is to be lifted learns that there was none.
async fn lift(
    ctx: &Ctx,
    tx: &mut Tx,
    caller: &Caller,
    environment: &Environment,
    reason: &str,
) -> Result<(), Error> {
    // Read again: only now, with its lane locked, nobody else changes it.
    let before = load(tx, environment.id).await?;
    if before.hold.is_none() {
        return Err(not_held(&before).into());
    }
    tracing::info!(
        environment.id = %environment.id, actor = %caller.principal, reason,
        "the hold of {} is lifted with a deployment", environment.place()
    );
    site::store::save_hold(tx, environment.id, None)
        .await
        .map_err(site::Error::from)
        .map_err(Refusal::from)?;
    let after = load(tx, environment.id).await?;
    let scope = Scope::Environment(environment.site_id, environment.id);
    let by = &caller.principal;
    Act::new(record::Kind::LiftHold, scope, by, reason)
        .write(tx)
        .await?;
    let fact = site::event::lifted(&ctx.config, &after, caller, reason);
    tx.tell(fact);
    Ok(())
}

fn not_held(environment: &Environment) -> Refusal {
    let words = format!(
        "{} is not held: deploy without lifting a hold",
        environment.place()
    );
    Refusal::new(Code::FailedPrecondition, "not-held", &words).field("lift_hold", words)
}
