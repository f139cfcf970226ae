//! A lane as the API shows it: who acts, who waits, and why.

use candlefish_proto::deploy as pb;

use super::{grant::rank, kept::Kept, store};
use crate::{
    ctx::{Ctx, shown},
    deployment::Error,
    site::Environment,
    stop,
};

/// Ids enough for any page; a lane with more says so by its count in the environment.
const SHOWN: usize = 100;

/// Reads the lane of an environment that the caller may see.
pub(crate) async fn read(ctx: &Ctx, environment: &Environment) -> Result<pb::Lane, Error> {
    let mut conn = ctx.pool.acquire().await?;
    let fence = sqlx::query_scalar!(
        "SELECT fence FROM lane WHERE environment_id = $1",
        environment.id.uuid()
    )
    .fetch_one(&mut *conn)
    .await?;
    let mut lanes = store::list_contenders(&mut conn, &[environment.id]).await?;
    let store::Contenders {
        mut pending,
        acting,
    } = lanes.remove(&environment.id).unwrap_or_default();
    pending.sort_by_key(rank);
    let first = acting.as_ref().map(|acting| acting.contender.id);
    let first = first.or_else(|| pending.first().map(|one| one.id));
    let kept = match first {
        Some(id) => store::find_kept(&mut conn, id).await?,
        None => None,
    };
    Ok(pb::Lane {
        site: environment.site.clone(),
        environment: environment.slug.clone(),
        fence,
        acting_deployment_id: environment
            .acting
            .map(|id| id.to_string())
            .unwrap_or_default(),
        pending_deployment_ids: pending
            .iter()
            .take(SHOWN)
            .map(|one| one.id.to_string())
            .collect(),
        blockers: kept.map(Kept::shown).unwrap_or_default(),
        stops: environment.stops.iter().map(stop::view::stop).collect(),
        hold: environment.hold.as_ref().map(|hold| pb::Hold {
            since: Some(shown(hold.since)),
            by: hold.by.clone(),
            reason: hold.reason.clone(),
            deployment_id: hold
                .deployment_id
                .map(|id| id.to_string())
                .unwrap_or_default(),
        }),
    })
}
