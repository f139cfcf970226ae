//! How many deployments may wait in one environment: the limit of calls that ask for one more.
//!
//! Every choice of a lane reads all that waits there, the one that lets a rollback pass as well. What may
//! not be lost is taken beyond the limit: pushes and rollbacks do not come here. Nor does a call that
//! finds what it asks for, as a repeat does and the upload of what was pushed; a preview waits in an
//! environment of its own.

use candlefish_ids::DeploymentId;
use candlefish_runtime::refusal::{Code, Refusal};
use sqlx::PgConnection;

use super::{
    Deployment, Error,
    accept::{self, New},
    state::State,
    store,
};
use crate::{
    ctx::{Ctx, Tx},
    lane::store::Lane,
    site::{Environment, policy::Order},
};

/// How far beyond the limit it is known whether more wait than before, in times the limit: what pushes
/// brought has no bound, and a count has. Beyond that, what is not granted at once is refused.
const COUNTED: i64 = 10;

/// Accepts a deployment ([`accept::accept`]), unless it would be one more that waits beyond the limit;
/// `waiting` are there before it, counted up to the limit.
pub(super) async fn accept(
    ctx: &Ctx,
    tx: &mut Tx,
    lane: &mut Lane,
    id: DeploymentId,
    new: New<'_>,
    waiting: i64,
) -> Result<Deployment, Error> {
    let most = i64::from(ctx.config.max_waiting);
    let environment = new.environment;
    let is_full = waiting >= most;
    // In a queue that is kept each stays: to have the lane choose among so many would only keep others
    // from it.
    if is_full
        && environment.policy.order == Order::Queue
        && store::is_kept(tx, environment.id).await?
    {
        return Err(full(tx, environment, most).await?.into());
    }
    let before = if is_full {
        store::count_waiting(tx, environment.id, most * COUNTED).await?
    } else {
        waiting
    };
    let accepted = accept::accept_unsaid(ctx, tx, lane, id, new).await?;
    if is_full && waits_beyond(tx, &accepted, before).await? {
        return Err(full(tx, environment, most).await?.into());
    }
    accept::say_accepted(&accepted);
    Ok(accepted)
}

/// Whether it waits, and more do than these: it was not granted at once, and nothing made room.
async fn waits_beyond(tx: &mut Tx, accepted: &Deployment, before: i64) -> Result<bool, Error> {
    // Those that it took the place of have ended; a hold that it lifted lets another go.
    let after = store::count_waiting(tx, accepted.environment_id, before + 1).await?;
    if after <= before {
        return Ok(false);
    }
    let now = store::find(tx, accepted.id).await?;
    Ok(now.is_some_and(|one| one.state == State::Pending))
}

/// Says what keeps those that wait, and how to make room.
async fn full(
    conn: &mut PgConnection,
    environment: &Environment,
    most: i64,
) -> Result<Refusal, sqlx::Error> {
    let place = environment.place();
    let oldest = store::find_oldest_waiting(conn, environment.id).await?;
    let oldest = match oldest {
        Some((id, why)) if !why.is_empty() => format!(". The oldest is {id}: {why}"),
        _ => String::new(),
    };
    let instead = match environment.policy.order {
        Order::Queue => format!(
            ", or have newer commits take the place of older ones: candlefish env policy {place} \
             --order latest"
        ),
        Order::Latest => String::new(),
    };
    let words = format!(
        "as many deployments wait for {place} as may ({most}){oldest}. What keeps them: candlefish why \
         {place}. To make room, cancel some (candlefish cancel DEP){instead}"
    );
    let refusal = Refusal::new(Code::Exhausted, "lane-full", words);
    Ok(refusal.metadata("limit", most.to_string()))
}
