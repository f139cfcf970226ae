//! Every SQL string about releases, their branches, commits and rejections.

use candlefish_clock::Moment;
use candlefish_ids::{Digest, EnvironmentId, ReleaseId, SiteId};
use jiff_sqlx::{Timestamp, ToSqlx};
use serde::Deserialize;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

mod again;
mod content;

pub(crate) use content::suspect;
pub(super) use content::{Sealing, seal, trust};

use super::{create::Create, expected, reject::Reject};
use crate::ctx::stored;

/// What commands must know of a release.
#[expect(clippy::struct_excessive_bools, reason = "each is a claim of its row")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: ReleaseId,
    /// The slug of its site.
    pub(super) site: String,
    pub(super) manifest: Digest,
    pub(super) manifest_size: u64,
    pub(super) sealed: bool,
    pub(super) collected: bool,
    /// Its blobs are counted, and somebody worked on it within the hour.
    pub(super) named_lately: bool,
    /// A verification failed since its content was last read.
    pub(super) suspect: bool,
}

/// What became of a release that was to be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    New,
    /// It exists, and its content was collected: it is a draft again.
    Revived,
    /// It exists, begun from a tree with changes of its own; what it holds is its commit's all the same.
    Vouched,
    /// It exists; now on one branch more.
    Branched,
    /// It exists, as it is.
    Same,
}

/// Writes a release, or finds the one of the same site, manifest and commit.
/// The size of a manifest that is still to come is the last one said: a wrong one would be signed
/// into its upload for ever.
pub(super) async fn upsert(
    conn: &mut PgConnection,
    now: Moment,
    site: SiteId,
    cmd: &Create,
    by: &str,
) -> Result<(ReleaseId, Begun), sqlx::Error> {
    let filled = expected::fill(conn, site, cmd).await?;
    let revived = again::revive(conn, site, cmd).await?;
    let vouched = again::vouch(conn, now, site, cmd).await?;
    let id = ReleaseId::new();
    let row = sqlx::query!(
        r#"INSERT INTO release (id, site_id, manifest_digest, manifest_size, state, commit, message,
               author, author_email, committed_at, dirty, created_at, created_by)
           VALUES ($1, $2, $3, $4, 'draft', $5, $6, $7, $8, $9, $10, $11, $12)
           ON CONFLICT ON CONSTRAINT release_unique DO UPDATE SET manifest_size =
               CASE release.state WHEN 'draft' THEN excluded.manifest_size
                                  ELSE release.manifest_size END
           RETURNING id"#,
        id.uuid(),
        site.uuid(),
        cmd.manifest.as_bytes().as_slice(),
        cmd.manifest_size,
        cmd.commit,
        cmd.message,
        cmd.author,
        cmd.author_email,
        cmd.committed_at.map(ToSqlx::to_sqlx) as _,
        cmd.dirty,
        stored(now) as _,
        by
    )
    .fetch_one(&mut *conn)
    .await?;
    let found = ReleaseId::from_uuid(row.id);
    let mut begun = if found == id || filled {
        Begun::New
    } else if revived {
        Begun::Revived
    } else if vouched {
        Begun::Vouched
    } else {
        Begun::Same
    };
    if !cmd.branch.is_empty() {
        let added = sqlx::query!(
            "INSERT INTO release_branch (release_id, branch, added_at) VALUES ($1, $2, $3)
             ON CONFLICT DO NOTHING",
            found.uuid(),
            cmd.branch,
            stored(now) as _
        )
        .execute(&mut *conn)
        .await?;
        if begun == Begun::Same && added.rows_affected() > 0 {
            begun = Begun::Branched;
        }
    }
    if !cmd.commit.is_empty() {
        save_ancestry(conn, site, cmd).await?;
    }
    Ok((found, begun))
}

/// The longer list of ancestors stays.
async fn save_ancestry(
    conn: &mut PgConnection,
    site: SiteId,
    cmd: &Create,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO commit_ancestry (site_id, commit, parents, ancestors) VALUES ($1, $2, $3, $4)
         ON CONFLICT (site_id, commit) DO UPDATE
         SET parents = excluded.parents, ancestors = excluded.ancestors
         WHERE cardinality(excluded.ancestors) > cardinality(commit_ancestry.ancestors)",
        site.uuid(),
        cmd.commit,
        &cmd.parents,
        &cmd.ancestors
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether it is a release of this site.
pub(crate) async fn is_of(
    conn: &mut PgConnection,
    id: ReleaseId,
    site: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM release r JOIN site s ON s.id = r.site_id
                          WHERE r.id = $1 AND s.slug = $2) AS "there!""#,
        id.uuid(),
        site
    )
    .fetch_one(conn)
    .await
}

pub(super) async fn find(
    conn: &mut PgConnection,
    id: ReleaseId,
) -> Result<Option<Row>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT s.slug AS site, r.manifest_digest, r.manifest_size,
                  r.state = 'sealed' AS "sealed!", r.collected_at IS NOT NULL AS "collected!",
                  coalesce(r.named_at > clock() - interval '1 hour', false) AS "named_lately!",
                  r.suspect_since IS NOT NULL AS "suspect!"
           FROM release r JOIN site s ON s.id = r.site_id WHERE r.id = $1"#,
        id.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.and_then(|row| {
        Some(Row {
            id,
            site: row.site,
            manifest: Digest::from_bytes(row.manifest_digest.try_into().ok()?),
            manifest_size: u64::try_from(row.manifest_size).unwrap_or(0),
            sealed: row.sealed,
            collected: row.collected,
            named_lately: row.named_lately,
            suspect: row.suspect,
        })
    }))
}

/// A release hurt an environment: it goes there again only when a person clears it.
pub(super) async fn reject(
    conn: &mut PgConnection,
    now: Moment,
    cmd: &Reject<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO rejection (environment_id, release_id, at, reason, deployment_id)
         VALUES ($1, $2, $3, $4, $5)",
        cmd.environment.uuid(),
        cmd.release.uuid(),
        stored(now) as _,
        cmd.reason,
        cmd.deployment.uuid()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Clears what stands against a release in an environment; false when nothing stood.
pub(super) async fn clear(
    conn: &mut PgConnection,
    now: Moment,
    environment: EnvironmentId,
    release: ReleaseId,
    by: &str,
    reason: &str,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE rejection SET cleared_at = $3, cleared_by = $4, clear_reason = $5
         WHERE environment_id = $1 AND release_id = $2 AND cleared_at IS NULL",
        environment.uuid(),
        release.uuid(),
        stored(now) as _,
        by,
        reason
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Locks a release against every other change of what stands against it.
pub(super) async fn lock(conn: &mut PgConnection, id: ReleaseId) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "SELECT id FROM release WHERE id = $1 FOR NO KEY UPDATE",
        id.uuid()
    )
    .fetch_one(conn)
    .await?;
    Ok(())
}

/// Keeps a release from being banned and collected until the transaction ends; false when it is collected
/// or not sealed. Whether it is banned is read afterwards: what is committed while this waits is not seen
/// by it.
pub(crate) async fn share(
    conn: &mut PgConnection,
    release: ReleaseId,
) -> Result<bool, sqlx::Error> {
    let kept = sqlx::query_scalar!(
        r#"SELECT state = 'sealed' AND collected_at IS NULL AS "kept!" FROM release
           WHERE id = $1 FOR SHARE"#,
        release.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(kept.unwrap_or(false))
}

/// Keeps a release from being collected until the transaction ends, and nothing else: who bans, blames or
/// shares it waits for none of this. False when it is collected or not sealed.
pub(crate) async fn keep(conn: &mut PgConnection, release: ReleaseId) -> Result<bool, sqlx::Error> {
    let kept = sqlx::query_scalar!(
        r#"SELECT state = 'sealed' AND collected_at IS NULL AS "kept!" FROM release
           WHERE id = $1 FOR KEY SHARE"#,
        release.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(kept.unwrap_or(false))
}

/// The ban that stands against a release, whatever its site.
pub(crate) async fn find_ban(
    conn: &mut PgConnection,
    id: ReleaseId,
) -> Result<Option<Ban>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT jsonb_build_object('at', at, 'by', by, 'reason', reason) AS "ban!: Json<Ban>"
           FROM ban WHERE release_id = $1 AND cleared_at IS NULL"#,
        id.uuid()
    )
    .fetch_optional(conn)
    .await
    .map(|found| found.map(|ban| ban.0))
}

/// Needs the release's lock.
pub(super) async fn ban(
    conn: &mut PgConnection,
    now: Moment,
    id: ReleaseId,
    by: &str,
    reason: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO ban (release_id, at, by, reason) VALUES ($1, $2, $3, $4)",
        id.uuid(),
        stored(now) as _,
        by,
        reason
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Needs the release's lock.
pub(super) async fn lift_ban(
    conn: &mut PgConnection,
    now: Moment,
    id: ReleaseId,
    by: &str,
    reason: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE ban SET cleared_at = $2, cleared_by = $3, clear_reason = $4
         WHERE release_id = $1 AND cleared_at IS NULL",
        id.uuid(),
        stored(now) as _,
        by,
        reason
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The version of what the API shows of a release, for the event that tells it: everything in it only
/// ever grows in number, so the count rises with each change.
pub(super) async fn version(conn: &mut PgConnection, id: ReleaseId) -> Result<i32, sqlx::Error> {
    // One change at a time counts, and by a statement of its own: it sees those before it.
    lock(conn, id).await?;
    let count = sqlx::query_scalar!(
        r#"SELECT 1 + 3 * r.revivals + (r.state = 'sealed')::int + (r.collected_at IS NOT NULL)::int
                  + (r.vouched_at IS NOT NULL)::int
                  + (SELECT count(*) FROM release_branch b WHERE b.release_id = r.id)
                  + (SELECT count(*) + count(j.cleared_at) FROM rejection j
                     WHERE j.release_id = r.id)
                  + (SELECT count(*) + count(x.cleared_at) FROM ban x
                     WHERE x.release_id = r.id) AS "count!"
           FROM release r WHERE r.id = $1"#,
        id.uuid()
    )
    .fetch_one(conn)
    .await?;
    Ok(i32::try_from(count).unwrap_or(i32::MAX))
}

/// Everything that the API shows of a release.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shown {
    pub(crate) id: ReleaseId,
    pub(crate) site: String,
    pub(crate) manifest: String,
    pub(crate) sealed: bool,
    pub(crate) commit: String,
    pub(crate) message: String,
    pub(crate) author: String,
    pub(crate) author_email: String,
    pub(crate) committed_at: Option<Moment>,
    pub(crate) branches: Vec<String>,
    pub(crate) parents: Vec<String>,
    pub(crate) dirty: bool,
    pub(crate) file_count: i32,
    pub(crate) byte_count: i64,
    pub(crate) created_at: Moment,
    pub(crate) created_by: String,
    pub(crate) sealed_at: Option<Moment>,
    /// Those that stand, oldest first.
    pub(crate) rejections: Vec<Rejection>,
    pub(crate) ban: Option<Ban>,
    pub(crate) collected_at: Option<Moment>,
}

/// What keeps a release from going anywhere, as JSON tells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Ban {
    pub(super) at: jiff::Timestamp,
    pub(super) by: String,
    pub(super) reason: String,
}

impl Ban {
    /// `by erin since 2026-11-25T14:00:00Z: it leaks`.
    pub(crate) fn words(&self) -> String {
        format!("by {} since {:.0}: {}", self.by, self.at, self.reason)
    }
}

/// What stands against a release, and where, as JSON tells it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Rejection {
    pub(super) environment: String,
    pub(super) at: jiff::Timestamp,
    pub(super) reason: String,
    pub(super) deployment_id: Uuid,
}

/// A release from a row that has its columns, whatever else that has; its id may have another name.
macro_rules! shown_release {
    ($row:ident, $id:expr, $parents:expr) => {
        $crate::release::store::Shown {
            id: candlefish_ids::ReleaseId::from_uuid($id),
            site: $row.site,
            manifest: hex::encode($row.manifest_digest),
            sealed: $row.sealed,
            commit: $row.commit,
            message: $row.message,
            author: $row.author,
            author_email: $row.author_email,
            committed_at: $row.committed_at.map($crate::ctx::read),
            branches: $row.branches,
            parents: $parents,
            dirty: $row.dirty,
            file_count: $row.file_count,
            byte_count: $row.byte_count,
            created_at: $crate::ctx::read($row.created_at),
            created_by: $row.created_by,
            sealed_at: $row.sealed_at.map($crate::ctx::read),
            rejections: $row.rejections.0,
            ban: $row.ban.map(|ban| ban.0),
            collected_at: $row.collected_at.map($crate::ctx::read),
        }
    };
}

pub(crate) use shown_release;

/// The one reading of a release for the API, for each way to find it.
macro_rules! select_release {
    ($conn:expr, $rest:literal, $($argument:expr),+) => {
        sqlx::query!(
            r#"SELECT r.id, s.slug AS site, r.manifest_digest, r.state = 'sealed' AS "sealed!",
                      r.commit, r.message, r.author, r.author_email,
                      r.committed_at AS "committed_at: Timestamp",
                      ARRAY(SELECT b.branch FROM release_branch b WHERE b.release_id = r.id
                            ORDER BY b.added_at) AS "branches!",
                      COALESCE((SELECT a.parents FROM commit_ancestry a WHERE a.site_id = r.site_id
                                AND a.commit = r.commit), '{}') AS "parents!",
                      r.dirty, r.file_count, r.byte_count, r.created_at AS "created_at: Timestamp",
                      r.created_by, r.sealed_at AS "sealed_at: Timestamp",
                      r.collected_at AS "collected_at: Timestamp",
                      (SELECT COALESCE(jsonb_agg(jsonb_build_object('environment', e.slug,
                              'at', j.at, 'reason', j.reason, 'deployment_id', j.deployment_id)
                              ORDER BY j.at), '[]')
                       FROM rejection j JOIN environment e ON e.id = j.environment_id
                       WHERE j.release_id = r.id AND j.cleared_at IS NULL)
                          AS "rejections!: Json<Vec<Rejection>>",
                      (SELECT jsonb_build_object('at', x.at, 'by', x.by, 'reason', x.reason)
                       FROM ban x WHERE x.release_id = r.id AND x.cleared_at IS NULL)
                          AS "ban: Json<Ban>"
               FROM release r JOIN site s ON s.id = r.site_id "# + $rest,
            $($argument),+
        )
        .fetch_all($conn)
        .await?
        .into_iter()
        .map(|row| shown_release!(row, row.id, row.parents))
        .collect()
    };
}

pub(super) async fn list_by_id(
    conn: &mut PgConnection,
    ids: &[ReleaseId],
) -> Result<Vec<Shown>, sqlx::Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    Ok(select_release!(conn, "WHERE r.id = ANY($1)", &ids))
}

/// Releases of a site, newest first, before one; of one commit when it is named.
pub(super) async fn list(
    conn: &mut PgConnection,
    site: SiteId,
    commit: &str,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Shown>, sqlx::Error> {
    let before = before.unwrap_or_else(Uuid::max);
    if commit.is_empty() {
        return Ok(select_release!(
            conn,
            "WHERE r.site_id = $1 AND r.id < $2 ORDER BY r.id DESC LIMIT $3",
            site.uuid(),
            before,
            limit
        ));
    }
    Ok(select_release!(
        conn,
        "WHERE r.site_id = $1 AND r.commit = $4 AND r.commit <> '' AND r.id < $2
         ORDER BY r.id DESC LIMIT $3",
        site.uuid(),
        before,
        limit,
        commit
    ))
}
