//! What a rollback tells before it is made, besides where it goes: what will not come back, when
//! visitors last had what does, and who went back just before.

use std::time::Duration;

use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId};
use candlefish_manifest::{Limits, Manifest};
use candlefish_proto::deploy::rollback as pb;
use jiff_sqlx::Timestamp;
use sqlx::PgConnection;

use crate::{
    ctx::{Ctx, Tx, read, shown, shown_duration},
    route,
};

/// At most this many lost paths are named.
const NAMED: usize = 20;
/// Two manifests are read within this, or visitors go back without a word of what is lost.
const PATIENCE: Duration = Duration::from_millis(500);

/// What visitors lose by going back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) count: i32,
    /// The first of them, by path, each with `/` before it.
    pub(super) paths: Vec<String>,
}

/// The paths of `from` that the release `to` lacks; none when a manifest cannot be read, or not at once:
/// going back must not wait for a store.
pub(super) async fn find_lost(ctx: &Ctx, from: ReleaseId, to: ReleaseId) -> Option<Lost> {
    let found = tokio::time::timeout(PATIENCE, compare(ctx, from, to));
    found.await.ok().flatten()
}

async fn compare(ctx: &Ctx, from: ReleaseId, to: ReleaseId) -> Option<Lost> {
    let (from, to) = (load(ctx, from).await?, load(ctx, to).await?);
    let lost: Vec<&str> = from
        .entries()
        .iter()
        .map(|entry| entry.path.as_str())
        .filter(|path| to.get(path).is_none())
        .collect();
    Some(Lost {
        count: i32::try_from(lost.len()).unwrap_or(i32::MAX),
        paths: lost
            .into_iter()
            .take(NAMED)
            .map(|path| format!("/{path}"))
            .collect(),
    })
}

async fn load(ctx: &Ctx, release: ReleaseId) -> Option<Manifest> {
    let mut conn = ctx.pool.acquire().await.ok()?;
    let known = route::store::manifests(&mut conn, &[release]).await.ok()?;
    drop(conn);
    let digest = known.first()?.manifest.parse().ok()?;
    let limits = Limits::of_sealed();
    let most = u64::try_from(limits.manifest_bytes).unwrap_or(u64::MAX);
    let bytes = ctx.blobs.read(&digest, most).await.ok()?;
    Manifest::decode(&bytes, &limits).ok()
}

/// When all traffic was last on the release, by the history; none where that does not tell.
pub(super) async fn find_last_live(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    release: ReleaseId,
) -> Result<Option<pb::LastLive>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT s.at AS "since!: Timestamp",
                  CASE WHEN d.state = 'rolled_back' AND d.previous_release_id <> $2
                       THEN d.finished_at ELSE n.at END AS "until?: Timestamp",
                  -- The live release that was deployed again and taken back stayed live.
                  CASE WHEN d.state = 'rolled_back' AND d.previous_release_id <> $2
                       THEN d.previous_release_id ELSE n.release_id END AS "next?"
           FROM (SELECT id, at, deployment_id FROM record
                 WHERE environment_id = $1 AND kind = 'live' AND release_id = $2
                 ORDER BY id DESC LIMIT 1) s
           JOIN deployment d ON d.id = s.deployment_id
           LEFT JOIN LATERAL (
               SELECT l.at, l.release_id FROM record l
               WHERE l.environment_id = $1 AND l.kind = 'live' AND l.id > s.id
                 AND l.release_id <> $2
                 -- What was undone gave the place back; what gave way to a rollback did not.
                 AND NOT EXISTS (SELECT 1 FROM deployment u WHERE u.id = l.deployment_id
                                 AND u.state = 'rolled_back' AND u.cause <> 'preempted')
               ORDER BY l.id LIMIT 1) n ON true"#,
        environment.uuid(),
        release.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| pb::LastLive {
        since: Some(shown(read(row.since))),
        until: row.until.map(read).map(shown),
        replaced_by: row
            .next
            .map(|next| ReleaseId::from_uuid(next).to_string())
            .unwrap_or_default(),
    }))
}

/// The rollback that is the answer already; else the one by which visitors have the release that is left,
/// none when they have it otherwise. The clock is read.
pub(super) async fn find_earlier(
    tx: &mut Tx,
    environment: EnvironmentId,
    leaves: ReleaseId,
    already: Option<DeploymentId>,
) -> Result<Option<pb::Earlier>, sqlx::Error> {
    let now = tx.now();
    let row = sqlx::query!(
        r#"SELECT d.id, d.created_by, d.created_at AS "created_at: Timestamp",
                  d.leaves_release_id
           FROM deployment d
           WHERE d.id = COALESCE(
               $3::uuid,
               (SELECT a.id FROM deployment a WHERE a.environment_id = $1
                AND a.state IN ('running', 'waiting', 'cancelling') AND a.pivoted_at IS NOT NULL),
               (SELECT e.live_deployment_id FROM environment e WHERE e.id = $1))
             AND d.kind = 'rollback' AND (d.release_id = $2 OR d.id = $3)"#,
        environment.uuid(),
        leaves.uuid(),
        already.map(DeploymentId::uuid)
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| {
        let at = read(row.created_at);
        pb::Earlier {
            deployment_id: DeploymentId::from_uuid(row.id).to_string(),
            by: row.created_by,
            at: Some(shown(at)),
            ago: Some(shown_duration(now.since(at))),
            left: row
                .leaves_release_id
                .map(|left| ReleaseId::from_uuid(left).to_string())
                .unwrap_or_default(),
        }
    }))
}
