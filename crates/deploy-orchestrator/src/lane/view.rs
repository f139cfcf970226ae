//! A lane as the API shows it: who acts, who waits, and why.

use std::slice;

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy as pb;
use sqlx::PgConnection;

use super::{
    descents::Descents,
    grant,
    kept::Kept,
    order::{self, Contender},
    store,
};
use crate::{
    ctx::{Ctx, shown},
    deployment::Error,
    site::{self, Environment},
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
    let store::Contenders { pending, acting } = lanes.remove(&environment.id).unwrap_or_default();
    let turns = turns(&mut conn, environment, &pending).await?;
    let first = acting.as_ref().map(|acting| acting.contender.id);
    let first = first.or_else(|| turns.first().copied());
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
        pending_deployment_ids: turns
            .iter()
            .take(SHOWN)
            .map(DeploymentId::to_string)
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

/// Those that wait, in the order in which the lane grants them.
async fn turns(
    conn: &mut PgConnection,
    environment: &Environment,
    pending: &[Contender],
) -> Result<Vec<DeploymentId>, Error> {
    let mut known = Descents::default();
    // Nothing but a pin makes it matter who descends from whom.
    if pending.iter().any(|one| one.pinned) {
        let related = store::Related {
            site: environment.site_id,
            commits: grant::distinct(pending.iter().map(|one| &one.commit)),
        };
        let found = store::list_descents(conn, slice::from_ref(&related)).await?;
        known = found.into_iter().next().unwrap_or_default();
        if matches!(environment.kind, site::Kind::PullRequest(_))
            && let Some(head) = store::find_head(conn, environment.id).await?
        {
            let commits = &related.commits;
            grant::lead(conn, &mut known, environment.id, &head, commits).await?;
        }
    }
    let turns = order::turns(pending, &known);
    Ok(turns.iter().map(|one| one.id).collect())
}
