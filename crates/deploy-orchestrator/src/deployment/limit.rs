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
    store,
};
use crate::{
    ctx::{Ctx, Tx},
    lane::store::Lane,
    site::{Environment, policy::Order},
};

/// Accepts a deployment ([`accept::accept`]) where there is room for one more; `waiting` are there
/// before it, counted up to the limit.
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
    // In a queue each stays: to have the lane choose among so many would only keep others from it.
    if waiting >= most && environment.policy.order == Order::Queue {
        return Err(full(tx, environment, most).await?.into());
    }
    let accepted = accept::accept(ctx, tx, lane, id, new).await?;
    // Those that it took the place of have ended.
    if waiting >= most && store::count_waiting(tx, environment.id, most + 1).await? > most {
        return Err(full(tx, environment, most).await?.into());
    }
    Ok(accepted)
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
