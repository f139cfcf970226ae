//! Every SQL string about the lane's own row.

use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId, SiteId};
use jiff_sqlx::Timestamp;
use sqlx::{PgConnection, types::Json};

use super::order::{ActingNow, Contender, Live};
use crate::{
    ctx::{Tx, read, stored},
    deployment::{Deployment, plan::Kind},
    site::policy::Policy,
    stop::{Standing, Stop},
};

/// A locked lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) environment_id: EnvironmentId,
    pub(crate) fence: i64,
    pub(crate) superseded_in_row: i32,
}

/// Locks a lane and then reads the clock: the beginning of every command.
pub(crate) async fn lock(tx: &mut Tx, environment: EnvironmentId) -> Result<Lane, sqlx::Error> {
    // The clock is read of what is locked already: after the wait, not before. The advisory lock is
    // the gate that a stop of the line closes (`stop::store`): passed with the lane, so that what is
    // read from here on knows of every stop that was answered.
    let row = sqlx::query!(
        r#"WITH locked AS MATERIALIZED (
               SELECT fence, superseded_in_row FROM lane WHERE environment_id = $1 FOR UPDATE)
           SELECT fence, superseded_in_row, clock() AS "now!: Timestamp" FROM locked
           WHERE pg_advisory_xact_lock_shared(4001) IS NOT NULL"#,
        environment.uuid()
    )
    .fetch_one(&mut **tx)
    .await?;
    tx.set_clock(read(row.now));
    Ok(Lane {
        environment_id: environment,
        fence: row.fence,
        superseded_in_row: row.superseded_in_row,
    })
}

/// Raises the fence; what acted under the one before can act no more.
pub(crate) async fn raise_fence(
    conn: &mut PgConnection,
    lane: &mut Lane,
) -> Result<(), sqlx::Error> {
    lane.fence = sqlx::query_scalar!(
        "UPDATE lane SET fence = fence + 1 WHERE environment_id = $1 RETURNING fence",
        lane.environment_id.uuid()
    )
    .fetch_one(conn)
    .await?;
    Ok(())
}

/// Counts acting deployments that were superseded in a row; zero begins anew.
pub(crate) async fn save_superseded_in_row(
    conn: &mut PgConnection,
    lane: &mut Lane,
    count: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE lane SET superseded_in_row = $2 WHERE environment_id = $1",
        lane.environment_id.uuid(),
        count
    )
    .execute(conn)
    .await?;
    lane.superseded_in_row = count;
    Ok(())
}

/// Makes the lane of a new environment.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    environment: EnvironmentId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO lane (environment_id) VALUES ($1)",
        environment.uuid()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Locks a lane unless somebody holds it: for workers, who come again.
pub(crate) async fn try_lock(
    tx: &mut Tx,
    environment: EnvironmentId,
) -> Result<Option<Lane>, sqlx::Error> {
    let row = sqlx::query!(
        r#"WITH locked AS MATERIALIZED (
               SELECT fence, superseded_in_row FROM lane WHERE environment_id = $1
               FOR UPDATE SKIP LOCKED)
           SELECT fence, superseded_in_row, clock() AS "now!: Timestamp" FROM locked
           WHERE pg_advisory_xact_lock_shared(4001) IS NOT NULL"#,
        environment.uuid()
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    tx.set_clock(read(row.now));
    Ok(Some(Lane {
        environment_id: environment,
        fence: row.fence,
        superseded_in_row: row.superseded_in_row,
    }))
}

/// What is live in an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveRelease {
    pub(crate) release_id: ReleaseId,
    pub(crate) deployment_id: Option<DeploymentId>,
    pub(crate) commit: String,
}

/// The live release of an environment; none before the first.
pub(crate) async fn find_live(
    conn: &mut PgConnection,
    environment: EnvironmentId,
) -> Result<Option<LiveRelease>, sqlx::Error> {
    let row = sqlx::query!(
        "SELECT r.id, e.live_deployment_id, r.commit
         FROM environment e JOIN release r ON r.id = e.live_release_id WHERE e.id = $1",
        environment.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| LiveRelease {
        release_id: ReleaseId::from_uuid(row.id),
        deployment_id: row.live_deployment_id.map(DeploymentId::from_uuid),
        commit: row.commit,
    }))
}

/// The deployment's release is the environment's now.
pub(crate) async fn set_live(tx: &mut Tx, deployment: &Deployment) -> Result<(), sqlx::Error> {
    let now = tx.now();
    sqlx::query!(
        "UPDATE environment SET live_release_id = $2, live_deployment_id = $3, live_since = $4,
             version = version + 1
         WHERE id = $1",
        deployment.environment_id.uuid(),
        deployment.release_id.uuid(),
        deployment.id.uuid(),
        stored(now) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The release before is the environment's again, if the deployment had made its own so.
pub(crate) async fn restore_live(tx: &mut Tx, deployment: &Deployment) -> Result<(), sqlx::Error> {
    let now = tx.now();
    let previous = deployment.previous_release_id.map(ReleaseId::uuid);
    sqlx::query!(
        "UPDATE environment SET live_release_id = $3, version = version + 1,
             live_since = CASE WHEN $3::uuid IS NULL THEN NULL ELSE $4::timestamptz END,
             live_deployment_id = (
                 SELECT id FROM deployment
                 WHERE environment_id = $1 AND release_id = $3 AND state = 'succeeded'
                 ORDER BY id DESC LIMIT 1)
         WHERE id = $1 AND live_deployment_id = $2",
        deployment.environment_id.uuid(),
        deployment.id.uuid(),
        previous,
        stored(now) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Lanes where something is pending, with its content, and nothing acts.
pub(crate) async fn list_idle_with_pending(
    conn: &mut PgConnection,
) -> Result<Vec<EnvironmentId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        "SELECT DISTINCT p.environment_id FROM deployment p
         JOIN release r ON r.id = p.release_id AND r.state = 'sealed'
         WHERE p.state = 'pending' AND NOT EXISTS (
             SELECT 1 FROM deployment a WHERE a.environment_id = p.environment_id
             AND a.state IN ('running', 'waiting', 'cancelling'))
         LIMIT 200"
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(EnvironmentId::from_uuid).collect())
}

/// An environment's hold, as the lane and its blockers need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) by: String,
    pub(crate) reason: String,
}

/// What the lane must know of its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) policy: Policy,
    pub(crate) hold: Option<Hold>,
    /// What stops the line here; of two, the one that ends later.
    pub(crate) stop: Option<Stop>,
    /// `docs/production`.
    pub(crate) place: String,
    pub(crate) site_id: SiteId,
    /// What is live, when a deployment made it so.
    pub(crate) live: Option<Live>,
}

/// Reads what the lane must know of its environment.
pub(crate) async fn find_setting(
    tx: &mut Tx,
    environment: EnvironmentId,
) -> Result<Setting, sqlx::Error> {
    let now = tx.now();
    let row = sqlx::query!(
        r#"SELECT e.policy, e.hold_by, e.hold_reason, e.slug, s.slug AS site, s.id AS site_id,
                  e.live_deployment_id, r.commit AS "live_commit?",
                  (SELECT jsonb_build_object('id', t.id, 'pauses', t.pauses, 'reason', t.reason,
                          'since', t.set_at, 'by', t.set_by, 'until', t.until,
                          'site', CASE WHEN t.site_id IS NOT NULL THEN s.slug END)
                   FROM stop t WHERE t.ended_at IS NULL AND t.until > $2
                   AND (t.site_id = e.site_id OR t.site_id IS NULL)
                   ORDER BY t.until DESC LIMIT 1) AS "stop: Json<Standing>"
           FROM environment e JOIN site s ON s.id = e.site_id
           LEFT JOIN release r ON r.id = e.live_release_id WHERE e.id = $1"#,
        environment.uuid(),
        stored(now) as _
    )
    .fetch_one(&mut **tx)
    .await?;
    let live = row.live_deployment_id.zip(row.live_commit);
    Ok(Setting {
        live: live.map(|(deployment, commit)| Live {
            deployment_id: DeploymentId::from_uuid(deployment),
            commit,
        }),
        // A policy that cannot be read falls back to the defaults rather than stop the lane.
        policy: serde_json::from_value(row.policy).unwrap_or_default(),
        hold: row.hold_by.map(|by| Hold {
            by,
            reason: row.hold_reason.unwrap_or_default(),
        }),
        stop: row.stop.map(|told| told.0.into()),
        place: format!("{}/{}", row.site, row.slug),
        site_id: SiteId::from_uuid(row.site_id),
    })
}

/// What is pending on a lane, by admission, and what acts on it.
pub(crate) async fn list_contenders(
    conn: &mut PgConnection,
    environment: EnvironmentId,
) -> Result<(Vec<Contender>, Option<ActingNow>), sqlx::Error> {
    // Two halves, each by an index of its own.
    let rows = sqlx::query!(
        r#"SELECT d.id AS "id!", d.kind AS "kind!", d.admission AS "admission!",
                  d.pinned AS "pinned!", d.state AS "state!", d.pivoted_at IS NOT NULL AS "pivoted!",
                  r.commit AS "commit!", r.state = 'sealed' AS "sealed!",
                  (SELECT j.reason FROM rejection j WHERE j.release_id = r.id
                   AND j.environment_id = $1 AND j.cleared_at IS NULL LIMIT 1) AS rejected,
                  (SELECT x.by || ': ' || x.reason FROM ban x WHERE x.release_id = r.id
                   AND x.cleared_at IS NULL) AS banned,
                  (SELECT t.content_until FROM trigger t
                   WHERE t.deployment_id = d.id AND t.outcome = 'created'
                   ORDER BY t.content_until LIMIT 1) AS "content_until: Timestamp"
           FROM (SELECT id, kind, admission, pinned, state, pivoted_at, release_id FROM deployment
                 WHERE environment_id = $1 AND state = 'pending'
                 UNION ALL
                 SELECT id, kind, admission, pinned, state, pivoted_at, release_id FROM deployment
                 WHERE environment_id = $1 AND state IN ('running', 'waiting', 'cancelling')) d
           JOIN release r ON r.id = d.release_id ORDER BY d.admission"#,
        environment.uuid()
    )
    .fetch_all(conn)
    .await?;
    let mut pending = Vec::with_capacity(rows.len());
    let mut acting = None;
    for row in rows {
        // A kind that a newer release wrote is not ours to order.
        let Some(kind) = Kind::from_word(&row.kind) else {
            continue;
        };
        let contender = Contender {
            id: DeploymentId::from_uuid(row.id),
            kind,
            commit: row.commit,
            admission: row.admission,
            sealed: row.sealed,
            content_until: row.content_until.map(read),
            pinned: row.pinned,
            rejected: row.rejected,
            banned: row.banned,
        };
        if row.state == "pending" {
            pending.push(contender);
        } else {
            acting = Some(ActingNow {
                contender,
                pivoted: row.pivoted,
                cancelling: row.state == "cancelling",
            });
        }
    }
    Ok((pending, acting))
}

/// Which of these commits descend from which: pairs of (commit, ancestor).
pub(crate) async fn list_descents(
    conn: &mut PgConnection,
    site: SiteId,
    commits: &[String],
) -> Result<Vec<(String, String)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT a.commit AS "commit!", n.ancestor AS "ancestor!"
           FROM commit_ancestry a, unnest($2::text[]) AS n(ancestor)
           WHERE a.site_id = $1 AND a.commit = ANY($2) AND n.ancestor <> a.commit
             AND (n.ancestor = ANY(a.ancestors) OR n.ancestor = ANY(a.parents))
           UNION ALL
           -- What GitHub was asked, because nothing above tells of it.
           SELECT CASE c.relation WHEN 'ahead' THEN c.other ELSE c.one END,
                  CASE c.relation WHEN 'ahead' THEN c.one ELSE c.other END
           FROM comparison c WHERE c.site_id = $1 AND c.one = ANY($2) AND c.other = ANY($2)
             AND c.relation IN ('ahead', 'behind')"#,
        site.uuid(),
        commits
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.commit, row.ancestor))
        .collect())
}

/// Lanes where a deployment of this release is pending.
pub(crate) async fn list_waiting_for_content(
    conn: &mut PgConnection,
    release: ReleaseId,
) -> Result<Vec<EnvironmentId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        "SELECT DISTINCT environment_id FROM deployment
         WHERE release_id = $1 AND state = 'pending' ORDER BY environment_id",
        release.uuid()
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(EnvironmentId::from_uuid).collect())
}
