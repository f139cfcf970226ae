//! Lifting a stop, by a person or by time.

use candlefish_ids::StopId;
use candlefish_proto::deploy as pb;
use candlefish_runtime::identity::Caller;

use super::{End, Error, Stop, event, store, view};
use crate::{
    ctx::{Ctx, Tx},
    deployment::event::SYSTEM,
    idempotency::{self, Key, Reply},
    record::{self, Act},
    step,
};

/// A stop to lift.
#[derive(Debug, Clone)]
pub(crate) struct Lift {
    pub(crate) id: StopId,
    pub(crate) reason: String,
}

/// Lifts it. Paused steps are due with its commit; lanes choose in the sweep, which is woken.
pub(crate) async fn lift(
    ctx: &Ctx,
    caller: &Caller,
    key: Option<Key>,
    cmd: Lift,
) -> Result<Reply<pb::Stop>, Error> {
    let mut tx = ctx.begin().await?;
    store::close_gate(&mut tx).await?;
    let now = tx.read_clock().await?;
    let found = store::find(&mut tx, cmd.id).await?;
    let seen = found.filter(|stop| stop.site.is_empty() || caller.sees(&stop.site));
    let stop = seen.ok_or(Error::Unknown(cmd.id))?;
    if stop.site.is_empty() && !caller.sites.is_empty() {
        return Err(Error::OutsideSites);
    }
    if let Some(before) = idempotency::replay(&mut tx, key.as_ref()).await? {
        return Ok(Reply::replayed(before));
    }
    if let Some(End { at, by, .. }) = stop.end {
        return Err(Error::Ended {
            id: stop.id,
            by,
            at,
        });
    }
    let end = End {
        at: now,
        by: caller.principal.clone(),
        reason: cmd.reason,
    };
    let stop = finish(&mut tx, stop, end).await?;
    let answer = view::stop(&stop);
    idempotency::store(&mut tx, now, key.as_ref(), &answer).await?;
    ctx.commit(tx).await?;
    ctx.nudges.lanes.notify_one();
    tracing::info!(
        stop.id = %stop.id, actor = %caller.principal, "{} goes on: its stop is lifted", stop.scope()
    );
    Ok(Reply::new(answer))
}

/// Ends those whose time has passed; answers how many.
pub(crate) async fn end_expired(ctx: &Ctx) -> Result<usize, Error> {
    let mut conn = ctx.pool.acquire().await?;
    let expired = store::list_expired(&mut conn).await?;
    drop(conn);
    let mut ended = 0;
    for id in expired {
        let mut tx = ctx.begin().await?;
        store::close_gate(&mut tx).await?;
        let now = tx.read_clock().await?;
        let found = store::find(&mut tx, id).await?;
        // Another replica may have been faster.
        let Some(stop) = found.filter(|stop| stop.end.is_none() && stop.until <= now) else {
            continue;
        };
        tracing::info!(stop.id = %stop.id, "{} goes on: its stop has ended", stop.scope());
        expire(&mut tx, stop).await?;
        ctx.commit(tx).await?;
        ended += 1;
    }
    Ok(ended)
}

/// Ends one whose time has passed. Needs the closed gate.
pub(super) async fn expire(tx: &mut Tx, stop: Stop) -> Result<(), Error> {
    let end = End {
        at: tx.now(),
        by: SYSTEM.to_owned(),
        reason: "its time has passed".to_owned(),
    };
    finish(tx, stop, end).await?;
    Ok(())
}

async fn finish(tx: &mut Tx, stop: Stop, end: End) -> Result<Stop, Error> {
    let now = tx.now();
    store::save_end(tx, stop.id, &end).await?;
    step::store::paused::wake(tx, now, stop.site_id).await?;
    Act {
        stop: Some(stop.id),
        ..Act::new(
            record::Kind::LiftStop,
            stop.recorded(),
            &end.by,
            &end.reason,
        )
    }
    .write(tx)
    .await?;
    let actor = end.by.clone();
    let stop = Stop {
        end: Some(end),
        ..stop
    };
    tx.tell(event::lifted(&stop, &actor));
    Ok(stop)
}
