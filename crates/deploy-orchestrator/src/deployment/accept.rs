//! Writing a new deployment: shared by the commands that accept one.
//!
//! Deployment, blockers and event are one commit with the lane's choice; the caller is answered after
//! it. The steps of its plan are written when the lane is granted: many never are.

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, ReleaseId};
use candlefish_runtime::refusal::Refusal;
use jiff_sqlx::Timestamp;
use sqlx::{PgConnection, types::Json};

use super::{
    Deployment, Error,
    error::{banned, collected},
    event,
    plan::Kind,
    state::State,
    store,
};
use crate::{
    ctx::{Ctx, Tx, read},
    lane::{self, store::Lane},
    release::store::Ban,
    site::{Environment, strategy::Strategy},
    step,
};

/// What the accepting commands differ in.
#[derive(Debug, Clone)]
pub(super) struct New<'a> {
    pub(super) environment: &'a Environment,
    pub(super) release_id: ReleaseId,
    pub(super) kind: Kind,
    pub(super) strategy: Strategy,
    pub(super) actor: &'a str,
    pub(super) reason: &'a str,
    pub(super) retry_of: Option<DeploymentId>,
    pub(super) leaves_release_id: Option<ReleaseId>,
}

/// Writes the deployment and lets the lane choose; answers it as it was written. The lane is locked.
pub(super) async fn accept(
    ctx: &Ctx,
    tx: &mut Tx,
    lane: &mut Lane,
    id: DeploymentId,
    new: New<'_>,
) -> Result<Deployment, Error> {
    let now = tx.now();
    let deployment = build(id, now, &new);
    store::insert(
        tx,
        &deployment,
        &candlefish_runtime::trace::current_traceparent(),
    )
    .await?;
    tx.log(id, 0, format!("accepted from {}", new.actor));
    let fact = event::created(&deployment, new.actor);
    tx.tell(fact);
    lane::grant(ctx, tx, lane).await?;
    tracing::info!(
        deployment.id = %id, actor = new.actor, "a deployment to {} is accepted", deployment.place()
    );
    Ok(deployment)
}

fn build(id: DeploymentId, now: Moment, new: &New<'_>) -> Deployment {
    Deployment {
        id,
        site_id: new.environment.site_id,
        site: new.environment.site.clone(),
        environment_id: new.environment.id,
        environment: new.environment.slug.clone(),
        release_id: new.release_id,
        kind: new.kind,
        strategy: new.strategy.clone(),
        policy: new.environment.policy.clone(),
        state: State::Pending,
        cause: String::new(),
        message: String::new(),
        fence: 0,
        version: 1,
        pin: None,
        weight: 0,
        created_at: now,
        created_by: new.actor.to_owned(),
        deadline_at: None,
        deadline_left: None,
        previous_release_id: None,
        retry_of: new.retry_of,
        leaves_release_id: new.leaves_release_id,
        superseded_by: None,
        reason: new.reason.to_owned(),
        target_confirmed: None,
        // A deployment is one trace; its id names it, so that a log line leads there.
        trace_id: id.uuid().simple().to_string(),
        span_id: step::store::span_id(id.uuid()),
    }
}

/// A release that an accepting command was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) commit: String,
    /// Why this environment rejected it, while that stands.
    pub(super) rejected: Option<String>,
    /// The ban that stands against it. One that is set meanwhile is found when the lane chooses.
    pub(super) ban: Option<Ban>,
    /// When its content was collected.
    pub(super) collected_at: Option<Moment>,
}

impl Wanted {
    /// Refuses what goes nowhere: banned, or without its content.
    pub(super) fn check(
        &self,
        release: ReleaseId,
        environment: &Environment,
        field: &str,
    ) -> Result<(), Refusal> {
        if let Some(ban) = &self.ban {
            return Err(banned(release, ban));
        }
        let Some(at) = self.collected_at else {
            return Ok(());
        };
        let flags = environment.place().replacen('/', " --env ", 1);
        let commit = match self.commit.as_str() {
            "" => String::new(),
            commit => format!(" --commit {commit}"),
        };
        let again = format!("candlefish deploy DIR --site {flags}{commit}");
        Err(collected(release, field, at, &again))
    }
}

/// The release, locked against being sealed or collected meanwhile; none when it is not the site's.
pub(super) async fn share_release(
    conn: &mut PgConnection,
    environment: &Environment,
    release: ReleaseId,
) -> Result<Option<Wanted>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT r.commit, r.collected_at AS "collected_at: Timestamp",
                  (SELECT j.reason FROM rejection j WHERE j.release_id = r.id
                   AND j.environment_id = $3 AND j.cleared_at IS NULL LIMIT 1) AS rejected,
                  (SELECT jsonb_build_object('at', x.at, 'by', x.by, 'reason', x.reason)
                   FROM ban x WHERE x.release_id = r.id AND x.cleared_at IS NULL)
                      AS "ban: Json<Ban>"
           FROM release r WHERE r.id = $1 AND r.site_id = $2 FOR SHARE OF r"#,
        release.uuid(),
        environment.site_id.uuid(),
        environment.id.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Wanted {
        commit: row.commit,
        rejected: row.rejected,
        ban: row.ban.map(|ban| ban.0),
        collected_at: row.collected_at.map(read),
    }))
}
