//! A release that is known by its commit alone, because a push named it before anybody built it.
//!
//! It is a draft whose manifest is [`UNKNOWN`]. The first release that is begun for the commit fills
//! it in instead of being another one, so what waits for it waits for what comes. There is at most
//! one of a commit, by the same constraint that keeps all releases apart.

use candlefish_clock::Moment;
use candlefish_ids::{EnvironmentId, ReleaseId, SiteId};
use jiff_sqlx::ToSqlx;
use sqlx::{PgConnection, types::Json};

use super::{create::Create, store::Ban};
use crate::ctx::stored;

/// Stands for the digest of a manifest that is still to come: no content has it.
pub(crate) const UNKNOWN: [u8; 32] = [0; 32];

/// Holds a commit of a site until the transaction ends: whoever begins its release and whoever
/// expects one meet here, so that there is not one of each.
pub(crate) async fn lock(
    conn: &mut PgConnection,
    site: SiteId,
    commit: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtextextended(concat_ws(E'\\n', 'commit', $1::text, $2::text), 0))",
        site.to_string(),
        commit
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What stands for a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OfCommit {
    /// The release to deploy; none when all that there was is collected.
    pub(crate) id: Option<ReleaseId>,
    /// Its content is there.
    pub(crate) sealed: bool,
    /// Why the environment rejected it, or what was collected and would come back with the same
    /// content, while that stands.
    pub(crate) rejected: Option<String>,
    /// The ban that stands against it, in the same way.
    pub(crate) ban: Option<Ban>,
}

/// What stands for a commit: the newest whole release, else the newest draft whose content is known.
/// Else what was collected speaks for what will come, for the same content brings the same release
/// back: its rejection and its ban count, and what is deployed is the release that is expected.
pub(crate) async fn find(
    conn: &mut PgConnection,
    site: SiteId,
    environment: EnvironmentId,
    commit: &str,
) -> Result<Option<OfCommit>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT CASE WHEN r.collected_at IS NULL THEN r.id
                  ELSE (SELECT x.id FROM release x
                        WHERE x.site_id = $1 AND x.commit = $2 AND NOT x.dirty
                          AND x.manifest_digest = $4) END AS "id?",
                  r.state = 'sealed' AND r.collected_at IS NULL AS "sealed!",
                  (SELECT j.reason FROM rejection j WHERE j.release_id = r.id
                   AND j.environment_id = $3 AND j.cleared_at IS NULL LIMIT 1) AS rejected,
                  (SELECT jsonb_build_object('at', x.at, 'by', x.by, 'reason', x.reason)
                   FROM ban x WHERE x.release_id = r.id AND x.cleared_at IS NULL)
                      AS "ban: Json<Ban>"
           FROM release r WHERE r.site_id = $1 AND r.commit = $2 AND r.commit <> '' AND NOT r.dirty
           ORDER BY CASE WHEN r.collected_at IS NOT NULL THEN 2
                         WHEN r.state = 'sealed' THEN 0
                         WHEN r.manifest_digest <> $4 THEN 1
                         ELSE 3 END, r.id DESC LIMIT 1"#,
        site.uuid(),
        commit,
        environment.uuid(),
        UNKNOWN.as_slice()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| OfCommit {
        id: row.id.map(ReleaseId::from_uuid),
        sealed: row.sealed,
        rejected: row.rejected,
        ban: row.ban.map(|ban| ban.0),
    }))
}

/// What a push says of a commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub(crate) site: SiteId,
    pub(crate) commit: &'a str,
    pub(crate) branch: &'a str,
    pub(crate) message: &'a str,
    pub(crate) author: &'a str,
    pub(crate) author_email: &'a str,
    pub(crate) committed_at: Option<jiff::Timestamp>,
    pub(crate) by: &'a str,
}

/// Expects the release of a commit that has none. The commit is locked.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    now: Moment,
    new: &Expected<'_>,
) -> Result<ReleaseId, sqlx::Error> {
    let id = ReleaseId::new();
    sqlx::query!(
        "INSERT INTO release (id, site_id, manifest_digest, manifest_size, state, commit, message,
             author, author_email, committed_at, dirty, created_at, created_by)
         VALUES ($1, $2, $3, 0, 'draft', $4, $5, $6, $7, $8, false, $9, $10)",
        id.uuid(),
        new.site.uuid(),
        UNKNOWN.as_slice(),
        new.commit,
        new.message,
        new.author,
        new.author_email,
        new.committed_at.map(ToSqlx::to_sqlx) as _,
        stored(now) as _,
        new.by
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "INSERT INTO release_branch (release_id, branch, added_at) VALUES ($1, $2, $3)",
        id.uuid(),
        new.branch,
        stored(now) as _
    )
    .execute(conn)
    .await?;
    Ok(id)
}

/// Gives the expected release of a commit its manifest, when there is one and the manifest is new to
/// the commit; true when it did. What the caller says of the commit counts more than the push.
pub(super) async fn fill(
    conn: &mut PgConnection,
    site: SiteId,
    cmd: &Create,
) -> Result<bool, sqlx::Error> {
    if cmd.commit.is_empty() || cmd.dirty {
        return Ok(false);
    }
    lock(conn, site, &cmd.commit).await?;
    let done = sqlx::query!(
        "UPDATE release r SET manifest_digest = $3, manifest_size = $4,
             message = coalesce(nullif($5, ''), r.message),
             author = coalesce(nullif($6, ''), r.author),
             author_email = coalesce(nullif($7, ''), r.author_email),
             committed_at = coalesce($8, r.committed_at)
         WHERE r.site_id = $1 AND r.commit = $2 AND r.manifest_digest = $9 AND r.state = 'draft'
           AND NOT EXISTS (SELECT 1 FROM release o
                           WHERE o.site_id = $1 AND o.commit = $2 AND o.manifest_digest = $3)",
        site.uuid(),
        cmd.commit,
        cmd.manifest.as_bytes().as_slice(),
        cmd.manifest_size,
        cmd.message,
        cmd.author,
        cmd.author_email,
        cmd.committed_at.map(ToSqlx::to_sqlx) as _,
        UNKNOWN.as_slice()
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}
