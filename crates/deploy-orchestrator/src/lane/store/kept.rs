//! What keeps deployments, read in one statement with whatever else is asked of them: one snapshot, in
//! which a blocker and the hold beside it are of the same moment.

use candlefish_ids::DeploymentId;
use sqlx::PgConnection;

use crate::lane::kept::Kept;

/// The one reading of what keeps deployments, as the column `kept` between others: the statement has
/// them as `d`.
macro_rules! select_kept {
    ([$query:ident! $($row:ident,)?] $head:literal, [$($rest:literal),+], $($argument:expr),+) => {
        sqlx::$query!(
            $($row,)?
            $head
                + r#"jsonb_build_object(
                         'standing', (
                             SELECT COALESCE(jsonb_agg(jsonb_build_object('kind', b.kind,
                                    'since', b.since, 'until', b.until, 'owner', b.owner,
                                    'message', b.message, 'action', b.action) ORDER BY b.id), '[]')
                             FROM blocker b WHERE b.deployment_id = d.id AND b.cleared_at IS NULL),
                         -- Neither keeps a deployment since before that was asked for.
                         'besides', CASE WHEN d.state = 'pending' AND d.kind <> 'rollback' THEN (
                             SELECT jsonb_build_object(
                                 'place', o.slug || '/' || n.slug,
                                 'hold', CASE WHEN n.hold_since IS NOT NULL THEN
                                     jsonb_build_object(
                                         'since', GREATEST(n.hold_since, d.created_at),
                                         'by', n.hold_by, 'reason', n.hold_reason) END,
                                 'stops', (
                                     SELECT COALESCE(jsonb_agg(jsonb_build_object('id', k.id,
                                            'pauses', k.pauses, 'reason', k.reason,
                                            'since', GREATEST(k.set_at, d.created_at),
                                            'by', k.set_by, 'until', k.until,
                                            'site', CASE WHEN k.site_id IS NOT NULL
                                                    THEN o.slug END)
                                            ORDER BY k.until DESC, k.id), '[]')
                                     FROM stop k
                                     WHERE k.ended_at IS NULL AND k.until > (SELECT clock())
                                     AND (k.site_id = n.site_id OR k.site_id IS NULL)))
                             FROM environment n JOIN site o ON o.id = n.site_id
                             WHERE n.id = d.environment_id) END)
                         AS "kept!: sqlx::types::Json<crate::lane::kept::Kept>" "#
                $(+ $rest)+,
            $($argument),+
        )
    };
}

pub(crate) use select_kept;

/// What keeps a deployment; none when there is no such deployment.
pub(crate) async fn find_kept(
    conn: &mut PgConnection,
    deployment: DeploymentId,
) -> Result<Option<Kept>, sqlx::Error> {
    let row = select_kept!(
        [query!] "SELECT ",
        ["FROM deployment d WHERE d.id = $1"],
        deployment.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| row.kept.0))
}
