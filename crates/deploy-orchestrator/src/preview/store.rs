//! Every SQL string about closing previews.

use candlefish_clock::Moment;
use candlefish_ids::EnvironmentId;
use sqlx::PgConnection;

use crate::ctx::stored;

/// Nothing is live there any more, and its lane grants nothing. Needs the lane's lock.
pub(super) async fn save_closed(
    conn: &mut PgConnection,
    now: Moment,
    id: EnvironmentId,
    by: &str,
    reason: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE environment SET closed_at = $2, closed_by = $3, close_reason = $4,
             live_release_id = NULL, live_deployment_id = NULL, live_since = NULL,
             not_restorable = '', version = version + 1
         WHERE id = $1",
        id.uuid(),
        stored(now) as _,
        by,
        reason
    )
    .execute(&mut *conn)
    .await?;
    save_lane(conn, id, true).await
}

/// Needs the lane's lock.
pub(super) async fn save_open(
    conn: &mut PgConnection,
    id: EnvironmentId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE environment SET closed_at = NULL, closed_by = '', close_reason = '',
             version = version + 1
         WHERE id = $1",
        id.uuid()
    )
    .execute(&mut *conn)
    .await?;
    save_lane(conn, id, false).await
}

async fn save_lane(
    conn: &mut PgConnection,
    id: EnvironmentId,
    closed: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE lane SET closed = $2 WHERE environment_id = $1",
        id.uuid(),
        closed
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Its age counts from now on. Needs the lane's lock.
pub(super) async fn save_pushed(
    conn: &mut PgConnection,
    now: Moment,
    id: EnvironmentId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE environment SET pushed_at = $2 WHERE id = $1",
        id.uuid(),
        stored(now) as _
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Open previews that are older than their sites let them be, some of each site. By lot: those that
/// cannot be closed do not take the others' places at every look.
pub(super) async fn list_old(conn: &mut PgConnection) -> Result<Vec<EnvironmentId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        r#"SELECT o.id FROM (SELECT id, preview_max_age_ms FROM site ORDER BY random()) s
           CROSS JOIN LATERAL (
               SELECT e.id FROM environment e
               WHERE e.site_id = s.id AND e.kind = 'preview' AND e.closed_at IS NULL
                 AND COALESCE(e.pushed_at, e.created_at) < (SELECT clock())
                     - s.preview_max_age_ms * interval '1 millisecond'
               ORDER BY random() LIMIT 50) o LIMIT 500"#
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(EnvironmentId::from_uuid).collect())
}

/// A preview whose pull request is of a repository that its site does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moved {
    /// Its slug.
    pub(super) site: String,
    /// What the site has now; empty for none.
    pub(super) repository: String,
    /// Who changed that.
    pub(super) by: String,
    /// Of the pull request.
    pub(super) number: i32,
    /// The pull request's, as far as it is known still.
    pub(super) was: Option<String>,
}

/// Open previews of pull requests of other repositories than their sites have now, some of each site that
/// somebody gave another one; by lot, as above.
pub(super) async fn list_moved(conn: &mut PgConnection) -> Result<Vec<EnvironmentId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        r#"SELECT o.id FROM (SELECT id, repository FROM site WHERE repository_by <> ''
                             ORDER BY random()) s
           CROSS JOIN LATERAL (
               SELECT e.id FROM environment e
               LEFT JOIN pull_request p ON p.environment_id = e.id
               WHERE e.site_id = s.id AND e.kind = 'preview' AND e.closed_at IS NULL
                 AND e.pull_request IS NOT NULL
                 AND lower(p.repository) IS DISTINCT FROM lower(s.repository)
               ORDER BY random() LIMIT 50) o LIMIT 500"#
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(EnvironmentId::from_uuid).collect())
}

/// What one of these is; none when it is not one of them.
pub(super) async fn find_moved(
    conn: &mut PgConnection,
    id: EnvironmentId,
) -> Result<Option<Moved>, sqlx::Error> {
    sqlx::query_as!(
        Moved,
        r#"SELECT s.slug AS site, s.repository, s.repository_by AS by, e.pull_request AS "number!",
                  p.repository AS "was?"
           FROM environment e JOIN site s ON s.id = e.site_id
           LEFT JOIN pull_request p ON p.environment_id = e.id
           WHERE e.id = $1 AND e.kind = 'preview' AND e.pull_request IS NOT NULL
             AND s.repository_by <> ''
             AND lower(p.repository) IS DISTINCT FROM lower(s.repository)"#,
        id.uuid()
    )
    .fetch_optional(conn)
    .await
}

/// Whether a preview is older than its site lets it be.
pub(super) async fn is_old(
    conn: &mut PgConnection,
    id: EnvironmentId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT COALESCE(e.pushed_at, e.created_at)
               < clock() - s.preview_max_age_ms * interval '1 millisecond' AS "old!"
           FROM environment e JOIN site s ON s.id = e.site_id
           WHERE e.id = $1 AND e.kind = 'preview'"#,
        id.uuid()
    )
    .fetch_one(conn)
    .await
}
