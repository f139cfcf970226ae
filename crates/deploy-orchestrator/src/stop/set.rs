//! Setting a stop.

use std::time::Duration;

use candlefish_clock::Moment;
use candlefish_ids::StopId;
use candlefish_proto::deploy as pb;
use candlefish_runtime::identity::Caller;

use super::{Error, Stop, event, lift, store, view};
use crate::{
    ctx::Ctx,
    idempotency::{self, Key, Reply},
    record::{self, Act},
    site,
};

/// A stop that nobody lifts must end within sight.
const LONGEST: Duration = Duration::from_hours(7 * 24);
/// Whoever asks for all of that counts from a clock of their own, which may be ahead of the database's.
const TOLERANCE: Duration = Duration::from_mins(1);

/// A stop to set.
#[derive(Debug, Clone)]
pub(crate) struct Set {
    /// None for everything.
    pub(crate) site: Option<String>,
    pub(crate) pauses: bool,
    pub(crate) reason: String,
    pub(crate) until: jiff::Timestamp,
}

/// Sets it. From the answer on nothing new begins in its scope.
pub(crate) async fn set(
    ctx: &Ctx,
    caller: &Caller,
    key: Option<Key>,
    cmd: Set,
) -> Result<Reply<pb::Stop>, Error> {
    let mut tx = ctx.begin().await?;
    let site = match &cmd.site {
        Some(slug) => Some(site::find(&mut tx, slug, caller).await?),
        None if caller.sites.is_empty() => None,
        None => return Err(Error::OutsideSites),
    };
    let site_id = site.map(|site| site.id);
    store::close_gate(&mut tx).await?;
    let now = tx.read_clock().await?;
    if let Some(before) = idempotency::replay(&mut tx, key.as_ref()).await? {
        return Ok(Reply::replayed(before));
    }
    let until = Moment::from_database(cmd.until);
    if until <= now || until > now.plus(LONGEST + TOLERANCE) {
        return Err(Error::Until { now });
    }
    if let Some(before) = store::find_standing(&mut tx, site_id).await? {
        if before.until > now {
            return Err(Error::Stopped(Box::new(before)));
        }
        lift::expire(&mut tx, before).await?;
    }
    let stop = Stop {
        id: StopId::new(),
        site_id,
        site: cmd.site.unwrap_or_default(),
        pauses: cmd.pauses,
        reason: cmd.reason,
        since: now,
        by: caller.principal.clone(),
        until,
        end: None,
    };
    store::insert(&mut tx, &stop).await?;
    store::keep_pending(&mut tx, now, site_id, &stop.blocker()).await?;
    let act = Act::new(record::Kind::Stop, stop.recorded(), &stop.by, &stop.reason);
    Act {
        stop: Some(stop.id),
        ..act
    }
    .write(&mut tx)
    .await?;
    tx.tell(event::set(&stop, &caller.principal));
    let answer = view::stop(&stop);
    idempotency::store(&mut tx, now, key.as_ref(), &answer).await?;
    ctx.commit(tx).await?;
    tracing::info!(
        stop.id = %stop.id, actor = %caller.principal, reason = %stop.reason,
        "{} is stopped until {:.0}", stop.scope(), stop.until.timestamp()
    );
    Ok(Reply::new(answer))
}
