//! Holding an environment, and lifting the hold.

use candlefish_proto::deploy as pb;
use candlefish_runtime::identity::Caller;

use super::{Environment, Error, Hold, Kind, event, store, view};
use crate::{
    ctx::{Ctx, Tx},
    idempotency::{self, Key, Reply},
    lane,
    record::{self, Act, Scope},
};

/// A hold to set or to lift.
#[derive(Debug, Clone)]
pub(crate) struct ChangeHold {
    pub(crate) site: String,
    pub(crate) environment: String,
    pub(crate) reason: String,
    pub(crate) lifts: bool,
}

/// Sets or lifts a hold; lifting grants what is pending and creates nothing.
pub(crate) async fn change(
    ctx: &Ctx,
    caller: &Caller,
    key: Option<Key>,
    cmd: ChangeHold,
) -> Result<Reply<pb::Environment>, Error> {
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    let found = super::find_environment(&mut tx, &cmd.site, &cmd.environment, caller).await?;
    if found.kind == Kind::Preview {
        return Err(Error::Preview {
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
    let hold = match (cmd.lifts, before.hold.clone()) {
        (true, None) => {
            return Err(Error::NotHeld {
                place: before.place(),
            });
        }
        (false, Some(hold)) => {
            return Err(Error::Held {
                place: before.place(),
                hold,
            });
        }
        (true, Some(_)) => None,
        (false, None) => Some(Hold {
            since: now,
            by: caller.principal.clone(),
            reason: cmd.reason.clone(),
            deployment_id: None,
        }),
    };
    store::save_hold(&mut tx, found.id, hold.as_ref()).await?;
    recorded(&mut tx, caller, &before, &cmd)
        .await
        .map_err(store::Error::from)?;
    lane::grant(ctx, &mut tx, &mut lane).await?;
    let after = store::load_environment(&mut tx, found.id).await?;
    let verb = if cmd.lifts { "lifted" } else { "held" };
    tracing::info!(
        environment.id = %found.id, actor = %caller.principal, reason = %cmd.reason,
        "{} is {verb}", after.place()
    );
    let fact = if cmd.lifts {
        event::lifted(&ctx.config, &after, caller, &cmd.reason)
    } else {
        event::held(&ctx.config, &after, caller, &cmd.reason)
    };
    tx.tell(fact);
    let answer = view::environment(&ctx.config, &after);
    idempotency::store(&mut tx, now, key.as_ref(), &answer).await?;
    ctx.commit(tx).await?;
    Ok(Reply::new(answer))
}

async fn recorded(
    tx: &mut Tx,
    caller: &Caller,
    environment: &Environment,
    cmd: &ChangeHold,
) -> Result<(), sqlx::Error> {
    let kind = if cmd.lifts {
        record::Kind::LiftHold
    } else {
        record::Kind::Hold
    };
    let scope = Scope::Environment(environment.site_id, environment.id);
    Act::new(kind, scope, &caller.principal, &cmd.reason)
        .write(tx)
        .await
}
