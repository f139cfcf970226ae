//! Making an environment, with its lane, and replacing its policy and the pushes that deploy to it.

use candlefish_ids::EnvironmentId;
use candlefish_proto::deploy as pb;
use candlefish_runtime::identity::Caller;

use super::{
    Error, Kind, event,
    policy::Policy,
    pushes::PushRule,
    store::{self, NewEnvironment},
    view,
};
use crate::{
    ctx::Ctx,
    idempotency::{self, Key, Reply},
    lane,
};

/// An environment to make.
#[derive(Debug, Clone)]
pub(crate) struct CreateEnvironment {
    pub(crate) site: String,
    pub(crate) slug: String,
    pub(crate) policy: Policy,
    pub(crate) hosts: Vec<String>,
    pub(crate) pushes: PushRule,
}

/// Makes an environment and its lane.
pub(crate) async fn create(
    ctx: &Ctx,
    caller: &Caller,
    key: Option<Key>,
    cmd: CreateEnvironment,
) -> Result<Reply<pb::Environment>, Error> {
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    let now = tx.read_clock().await.map_err(Error::LockLane)?;
    let site = super::find(&mut tx, &cmd.site, caller).await?;
    if let Some(before) = idempotency::replay(&mut tx, key.as_ref()).await? {
        return Ok(Reply::replayed(before));
    }
    let id = EnvironmentId::new();
    let new = NewEnvironment {
        id,
        site: site.id,
        slug: &cmd.slug,
        kind: Kind::Standard,
        policy: &cmd.policy,
        pushes: &cmd.pushes,
        created_by: &caller.principal,
    };
    if !store::insert_environment(&mut tx, now, &new).await? {
        return Err(Error::EnvironmentExists {
            site: site.slug,
            slug: cmd.slug,
        });
    }
    lane::store::insert(&mut tx, id)
        .await
        .map_err(Error::LockLane)?;
    // By name: two calls that want the same hosts meet in the same order, and neither deadlocks.
    let mut hosts: Vec<(usize, &String)> = cmd.hosts.iter().enumerate().collect();
    hosts.sort_unstable_by_key(|(_, host)| *host);
    for (place, host) in hosts {
        if !store::insert_host(&mut tx, id, host).await? {
            return Err(Error::HostTaken {
                place,
                host: host.clone(),
            });
        }
    }
    let made = store::load_environment(&mut tx, id).await?;
    let fact = event::environment(&ctx.config, &made, "deploy.environment.created.v1", caller);
    tx.tell(fact);
    let answer = view::environment(&ctx.config, &made);
    idempotency::store(&mut tx, now, key.as_ref(), &answer).await?;
    ctx.commit(tx).await?;
    Ok(Reply::new(answer))
}

/// What to replace.
#[derive(Debug, Clone)]
pub(crate) struct UpdateEnvironment {
    pub(crate) site: String,
    pub(crate) environment: String,
    pub(crate) policy: Option<Policy>,
    pub(crate) pushes: Option<PushRule>,
}

/// Replaces what is named; what is pending may be granted by it.
pub(crate) async fn update(
    ctx: &Ctx,
    caller: &Caller,
    key: Option<Key>,
    cmd: UpdateEnvironment,
) -> Result<Reply<pb::Environment>, Error> {
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    let found = super::find_environment(&mut tx, &cmd.site, &cmd.environment, caller).await?;
    if found.kind == Kind::Preview {
        return Err(Error::Preview {
            place: found.place(),
        });
    }
    if cmd.pushes.is_some() && found.kind.is_preview() {
        return Err(Error::PullRequestPushes {
            place: found.place(),
        });
    }
    let mut lane = lane::store::lock(&mut tx, found.id)
        .await
        .map_err(Error::LockLane)?;
    if let Some(before) = idempotency::replay(&mut tx, key.as_ref()).await? {
        return Ok(Reply::replayed(before));
    }
    let now = tx.now();
    // Read again: only now nobody else changes it.
    let before = store::load_environment(&mut tx, found.id).await?;
    let policy = cmd.policy.as_ref().unwrap_or(&before.policy);
    let pushes = cmd.pushes.as_ref().unwrap_or(&before.pushes);
    store::save_rules(&mut tx, found.id, policy, pushes).await?;
    lane::grant(ctx, &mut tx, &mut lane).await?;
    let after = store::load_environment(&mut tx, found.id).await?;
    let fact = event::environment(&ctx.config, &after, "deploy.environment.updated.v1", caller);
    tx.tell(fact);
    let answer = view::environment(&ctx.config, &after);
    idempotency::store(&mut tx, now, key.as_ref(), &answer).await?;
    ctx.commit(tx).await?;
    Ok(Reply::new(answer))
}
