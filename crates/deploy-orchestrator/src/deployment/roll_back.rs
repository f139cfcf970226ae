//! Rolling back by hand: a deployment of kind rollback, of content that already exists.
//!
//! It names the release that it leaves: when a rollback already left that one, the call answers that
//! deployment, so that two people on call do not restore the bad one. What acts is preempted in this
//! very transaction and its undo inherited. The environment is held afterwards.

use candlefish_ids::{DeploymentId, ReleaseId};
use candlefish_proto::deploy as pb;
use candlefish_runtime::{
    identity::Caller,
    refusal::{Code, Refusal},
};

use super::{
    Deployment, Error,
    accept::{New, accept, check_open},
    apply::{Change, apply_and_record},
    forecast,
    plan::Kind,
    state::{Cause, Event},
    store, target, view,
};
use crate::{
    ctx::{Ctx, Tx},
    idempotency::{self, Key, Reply},
    lane::{self, store::Lane},
    record::{self, Act, Scope},
    release,
    site::{self, Environment, Hold},
};

/// Where to go back to.
#[derive(Debug, Clone)]
pub(crate) struct RollBack {
    pub(crate) site: String,
    pub(crate) environment: String,
    /// The release to leave, as the caller saw it; none for the one that is live now.
    pub(crate) leaves: Option<ReleaseId>,
    pub(crate) to: To,
    pub(crate) reason: String,
    /// Only say what would happen.
    pub(crate) validate_only: bool,
}

/// What to go back to.
#[derive(Debug, Clone)]
pub(crate) enum To {
    /// The newest that succeeded here before the one left.
    Before,
    Release(ReleaseId),
    /// A commit, or at least 7 digits of it.
    Commit(String),
}

/// Goes back, or says what that would mean.
pub(crate) async fn roll_back(
    ctx: &Ctx,
    caller: &Caller,
    key: Option<Key>,
    cmd: RollBack,
) -> Result<Reply<pb::Rollback>, Error> {
    // A repeat answers what was done, although by now there may be nothing to go back to.
    if let Some(before) = answered(ctx, caller, key.as_ref(), &cmd.site).await? {
        return Ok(Reply::replayed(before));
    }
    // What will be lost is told from manifests, which are not read inside the transaction.
    let told = tell(ctx, caller, &cmd).await?;
    if cmd.validate_only {
        return Ok(Reply::new(told.answer));
    }
    let id = DeploymentId::new();
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    let found = find(&mut tx, caller, &cmd).await?;
    let mut lane = lane::store::lock(&mut tx, found.id).await?;
    if let Some(before) = idempotency::replay(&mut tx, key.as_ref()).await? {
        return Ok(Reply::replayed(before));
    }
    let now = tx.now();
    check_open(lane.closed, &found)?;
    // Read again: the lane is ours only now.
    let environment = reload(&mut tx, &found).await?;
    let choice = target::choose(&mut tx, caller, &environment, cmd.leaves, &cmd.to).await?;
    let told = told.of(&mut tx, &environment, choice).await?;
    if let Some(already) = choice.already {
        let deployment = Some(view::load(ctx, &mut tx, already).await?);
        let answer = answer(told, deployment, true);
        idempotency::store(&mut tx, now, key.as_ref(), &answer).await?;
        ctx.commit(tx).await?;
        return Ok(Reply::new(answer));
    }
    preempt(&mut tx, &mut lane, id, caller).await?;
    let scope = Scope::Environment(environment.site_id, environment.id);
    let by = &caller.principal;
    let act = Act::new(record::Kind::Rollback, scope, by, &cmd.reason);
    act.of(choice.to, id).or_unsaid().write(&mut tx).await?;
    hold(ctx, &mut tx, caller, &environment, id, &cmd.reason).await?;
    let new = New {
        environment: &environment,
        release_id: choice.to,
        kind: Kind::Rollback,
        // As all of its policy, that of now: see ADR 0071.
        strategy: environment.policy.strategy.clone(),
        actor: &caller.principal,
        reason: &cmd.reason,
        retry_of: None,
        leaves_release_id: Some(choice.leaves),
    };
    accept(ctx, &mut tx, &mut lane, id, new).await?;
    let deployment = Some(going(ctx, &mut tx, id).await?);
    // What was told before the lane was locked may have ended since: this one is new.
    let answer = answer(told, deployment, false);
    idempotency::store(&mut tx, now, key.as_ref(), &answer).await?;
    ctx.commit(tx).await?;
    tracing::info!(
        deployment.id = %id, actor = %caller.principal, reason = %cmd.reason,
        release.id = %choice.to, "{} goes back", environment.place()
    );
    Ok(Reply::new(answer))
}

/// What was told, now that there is a deployment; `already` says whether it was there before.
fn answer(told: pb::Rollback, deployment: Option<pb::Deployment>, already: bool) -> pb::Rollback {
    pb::Rollback {
        deployment,
        already,
        ..told
    }
}

/// The rollback, unless it has failed already: because its release was banned since it was chosen, or
/// no edge can serve it. Then nothing of all this happens, for what acts must not have given way to
/// nothing.
async fn going(ctx: &Ctx, tx: &mut Tx, id: DeploymentId) -> Result<pb::Deployment, Error> {
    let deployment = view::load(ctx, tx, id).await?;
    let reason = match (deployment.finished_at, deployment.state()) {
        (Some(_ended), _) => "release-banned",
        (None, pb::deployment::State::Cancelling) => "release-not-served",
        (None, _) => return Ok(deployment),
    };
    let words = format!("{}: choose again", deployment.message);
    Err(Refusal::new(Code::FailedPrecondition, reason, words).into())
}

/// The answer kept for this key, for a caller who sees the site; the transaction that acts looks
/// again, with its lane locked.
async fn answered(
    ctx: &Ctx,
    caller: &Caller,
    key: Option<&Key>,
    site: &str,
) -> Result<Option<pb::Rollback>, Error> {
    if key.is_none() {
        return Ok(None);
    }
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    site::find(&mut tx, site, caller)
        .await
        .map_err(Refusal::from)?;
    Ok(idempotency::replay(&mut tx, key).await?)
}

/// What was told, and of which choice.
#[derive(Debug)]
struct Told {
    choice: target::Choice,
    answer: pb::Rollback,
}

impl Told {
    /// What is told of this choice, made with the lane locked. Of another one than before nobody knows what
    /// will be lost: no store is asked meanwhile.
    async fn of(
        self,
        tx: &mut Tx,
        environment: &Environment,
        choice: target::Choice,
    ) -> Result<pb::Rollback, Error> {
        if (self.choice.leaves, self.choice.to) == (choice.leaves, choice.to) {
            return Ok(self.answer);
        }
        Ok(pb::Rollback {
            loss_unknown: true,
            ..describe(tx, environment, choice).await?
        })
    }
}

/// What will not come back, and from where to where.
async fn tell(ctx: &Ctx, caller: &Caller, cmd: &RollBack) -> Result<Told, Error> {
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    tx.read_clock().await?;
    let environment = find(&mut tx, caller, cmd).await?;
    let choice = target::choose(&mut tx, caller, &environment, cmd.leaves, &cmd.to).await?;
    let told = describe(&mut tx, &environment, choice).await?;
    drop(tx);
    let lost = forecast::find_lost(ctx, choice.leaves, choice.to).await;
    let answer = match lost {
        Some(lost) => pb::Rollback {
            lost_path_count: lost.count,
            lost_paths: lost.paths,
            ..told
        },
        None => pb::Rollback {
            loss_unknown: true,
            ..told
        },
    };
    Ok(Told { choice, answer })
}

/// From where to where, without what will not come back. The clock is read.
async fn describe(
    tx: &mut Tx,
    environment: &Environment,
    choice: target::Choice,
) -> Result<pb::Rollback, Error> {
    let mut shown = release::view::load_many(tx, &[choice.leaves, choice.to]).await?;
    let last_live = forecast::find_last_live(tx, environment.id, choice.to).await?;
    let (leaves, already) = (choice.leaves, choice.already);
    let earlier = forecast::find_earlier(tx, environment.id, leaves, already).await?;
    Ok(pb::Rollback {
        deployment: None,
        from: shown.get(&choice.leaves).cloned(),
        to: shown.remove(&choice.to),
        already: choice.already.is_some(),
        last_live,
        earlier,
        ..pb::Rollback::default()
    })
}

async fn find(tx: &mut Tx, caller: &Caller, cmd: &RollBack) -> Result<Environment, Error> {
    let found = site::find_environment(tx, &cmd.site, &cmd.environment, caller).await;
    let environment = found.map_err(Refusal::from)?;
    if environment.kind == site::Kind::Preview {
        let words = "a preview has no release before to go back to";
        return Err(Refusal::new(Code::FailedPrecondition, "preview", words).into());
    }
    check_open(environment.closed.is_some(), &environment)?;
    Ok(environment)
}

async fn reload(tx: &mut Tx, found: &Environment) -> Result<Environment, Error> {
    let loaded = site::store::load_environment(tx, found.id).await;
    Ok(loaded.map_err(site::Error::from).map_err(Refusal::from)?)
}

/// What acts ends at once; this rollback inherits its undo: by writing the route itself, or, when it ends
/// before that, in its own undo.
async fn preempt(
    tx: &mut Tx,
    lane: &mut Lane,
    by: DeploymentId,
    caller: &Caller,
) -> Result<(), Error> {
    let acting: Option<Deployment> = store::lock_acting(tx, lane.environment_id).await?;
    let Some(mut acting) = acting else {
        return Ok(());
    };
    let message = format!("{by} of {} goes back", caller.principal);
    let event = Event::Stops(Cause::Preempted);
    let change = Change {
        by: Some(by),
        ..Change::new(event, &caller.principal, message)
    };
    apply_and_record(tx, lane, &mut acting, change).await
}

/// A manual rollback sets a hold, so that no automation undoes it. One that was set by hand before stays,
/// and names the rollback as well: who lifts it for what it was set for would let the next push undo that.
async fn hold(
    ctx: &Ctx,
    tx: &mut Tx,
    caller: &Caller,
    environment: &Environment,
    id: DeploymentId,
    reason: &str,
) -> Result<(), Error> {
    let by = &caller.principal;
    let hold = match &environment.hold {
        Some(before) if before.deployment_id.is_some() => return Ok(()),
        Some(before) => Hold {
            reason: match reason {
                "" => format!("{}; then {by} rolled back by hand", before.reason),
                why => format!("{}; then {by} rolled back: {why}", before.reason),
            },
            deployment_id: Some(id),
            ..before.clone()
        },
        None => Hold {
            since: tx.now(),
            by: by.clone(),
            reason: match reason {
                "" => "rolled back by hand".to_owned(),
                why => why.to_owned(),
            },
            deployment_id: Some(id),
        },
    };
    site::store::save_hold(tx, environment.id, Some(&hold))
        .await
        .map_err(site::Error::from)
        .map_err(Refusal::from)?;
    if environment.hold.is_none() {
        let scope = Scope::Environment(environment.site_id, environment.id);
        let act = Act::new(record::Kind::Hold, scope, by, &hold.reason);
        Act {
            deployment: Some(id),
            ..act
        }
        .write(tx)
        .await?;
    }
    let after = reload(tx, environment).await?;
    let fact = site::event::held(&ctx.config, &after, caller, &hold.reason);
    tx.tell(fact);
    Ok(())
}
