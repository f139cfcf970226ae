//! Every SQL string about what is known of pull requests.

use candlefish_clock::Moment;
use candlefish_ids::{DeliveryId, DeploymentId, EnvironmentId, SiteId};
use jiff_sqlx::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    files::Rule,
    judge::Known,
    read::PullRequest,
    unanswered::{Debt, Owed, Unanswered},
};
use crate::{
    ctx::{read, stored},
    site::{previews::From, pushes::PushRule},
};

/// Holds a pull request until the transaction ends: its deliveries are decided one after the other.
/// Comes before the lane of its preview.
pub(super) async fn lock(
    conn: &mut PgConnection,
    site: SiteId,
    number: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtextextended(
             concat_ws(E'\\n', 'pull_request', $1::text, $2::int::text), 0))",
        site.to_string(),
        number
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What is known of it. One of another repository, which the site had before, is another.
pub(super) async fn find(
    conn: &mut PgConnection,
    site: SiteId,
    told: &PullRequest,
) -> Result<Option<Known>, sqlx::Error> {
    sqlx::query_as!(
        Known,
        "SELECT is_open, head_commit AS head, before_commit AS before, updated_at
         FROM pull_request WHERE site_id = $1 AND number = $2 AND lower(repository) = lower($3)",
        site.uuid(),
        told.number,
        told.repository
    )
    .fetch_optional(conn)
    .await
}

/// It is what this delivery says. What GitHub owes is of the base branch that it says, and nothing of one that
/// is closed, or of another repository.
pub(super) async fn save(
    conn: &mut PgConnection,
    site: SiteId,
    told: &PullRequest,
    environment: Option<EnvironmentId>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO pull_request (site_id, number, repository, environment_id, is_open,
             head_commit, before_commit, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (site_id, number) DO UPDATE SET repository = excluded.repository,
             -- Of another repository, which the site had before, it is another one's preview.
             environment_id = coalesce(excluded.environment_id,
                 CASE WHEN lower(pull_request.repository) = lower(excluded.repository)
                      THEN pull_request.environment_id END),
             is_open = excluded.is_open, head_commit = excluded.head_commit,
             before_commit = excluded.before_commit, updated_at = excluded.updated_at,
             unanswered_base = CASE
                 WHEN pull_request.unanswered_base <> '' AND excluded.is_open
                      AND lower(pull_request.repository) = lower(excluded.repository)
                 THEN $9::text ELSE '' END",
        site.uuid(),
        told.number,
        told.repository,
        environment.map(EnvironmentId::uuid),
        told.is_open,
        told.head,
        told.before,
        told.updated_at,
        told.base
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// GitHub owes an answer which files it changes: it was asked now, and the answer is waited for until then. Needs the
/// pull request's lock.
pub(super) async fn save_unanswered(
    conn: &mut PgConnection,
    site: SiteId,
    told: &PullRequest,
    (now, until): (Moment, Moment),
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE pull_request
         SET unanswered_base = $3, unanswered_asked_at = $4, unanswered_until = $5
         WHERE site_id = $1 AND number = $2",
        site.uuid(),
        told.number,
        told.base,
        stored(now) as _,
        stored(until) as _
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Nothing is owed. Needs the pull request's lock.
pub(super) async fn clear_unanswered(
    conn: &mut PgConnection,
    site: SiteId,
    number: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE pull_request SET unanswered_base = ''
         WHERE site_id = $1 AND number = $2 AND unanswered_base <> ''",
        site.uuid(),
        number
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What was saved so of a pull request of this repository; none where nothing is owed.
pub(super) async fn find_unanswered(
    conn: &mut PgConnection,
    site: SiteId,
    repository: &str,
    number: i32,
) -> Result<Option<Debt>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT unanswered_base AS base, unanswered_until AS "until!: Timestamp"
           FROM pull_request WHERE site_id = $1 AND number = $2
             AND lower(repository) = lower($3) AND unanswered_base <> ''"#,
        site.uuid(),
        number,
        repository
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Debt {
        base: row.base,
        until: read(row.until),
    }))
}

/// At most so many pull requests of a repository, in lower case, of which GitHub owes an answer and a preview is open:
/// those that it was asked for longest ago.
pub(super) async fn list_unanswered(
    conn: &mut PgConnection,
    repository: &str,
    at_most: i64,
) -> Result<Vec<Owed>, sqlx::Error> {
    sqlx::query_as!(
        Owed,
        r#"SELECT p.number AS "number!", max(p.unanswered_until) <= (SELECT clock()) AS "is_over!"
           FROM pull_request p JOIN environment e ON e.id = p.environment_id
           WHERE lower(p.repository) = $1 AND p.unanswered_base <> '' AND e.closed_at IS NULL
           GROUP BY p.number ORDER BY min(p.unanswered_asked_at), p.number LIMIT $2"#,
        repository,
        at_most
    )
    .fetch_all(conn)
    .await
}

/// Such a one is asked for now.
pub(super) async fn note_asked(
    conn: &mut PgConnection,
    repository: &str,
    number: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE pull_request SET unanswered_asked_at = clock()
         WHERE lower(repository) = $1 AND number = $2 AND unanswered_base <> ''",
        repository,
        number
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The previews of such a one, by site.
pub(super) async fn list_unanswered_sites(
    conn: &mut PgConnection,
    repository: &str,
    number: i32,
) -> Result<Vec<Unanswered>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT s.id, s.slug, p.environment_id AS "environment!"
           FROM pull_request p JOIN site s ON s.id = p.site_id
           WHERE lower(p.repository) = $1 AND p.number = $2 AND p.unanswered_base <> ''
             AND p.environment_id IS NOT NULL
           ORDER BY s.slug"#,
        repository,
        number
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Unanswered {
            site: SiteId::from_uuid(row.id),
            slug: row.slug,
            environment: EnvironmentId::from_uuid(row.environment),
        })
        .collect())
}

/// What waits for its content in a preview does so until then, neither shorter nor longer; what a call made no shorter.
pub(super) async fn save_content_until(
    conn: &mut PgConnection,
    preview: EnvironmentId,
    until: Moment,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE trigger t SET content_until = $2
         FROM deployment d
         WHERE d.environment_id = $1 AND d.state = 'pending' AND t.deployment_id = d.id
           AND t.outcome = 'created'
           AND (t.content_until < $2
                -- What is fetched may have been given longer.
                OR t.content_until > $2 AND NOT EXISTS (
                    SELECT FROM github_archive g WHERE g.release_id = d.release_id))",
        preview.uuid(),
        stored(until) as _
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "UPDATE deployment SET content_until = $2
         WHERE environment_id = $1 AND state = 'pending' AND content_until < $2",
        preview.uuid(),
        stored(until) as _
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether somebody brought the content of any of these deployments. What a push made of a site in its repository is
/// fetched from there, by nobody.
pub(super) async fn is_any_brought(
    conn: &mut PgConnection,
    deployments: &[DeploymentId],
) -> Result<bool, sqlx::Error> {
    let ids: Vec<Uuid> = deployments.iter().map(|id| id.uuid()).collect();
    sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM deployment d JOIN release r ON r.id = d.release_id
               JOIN site s ON s.id = d.site_id
               WHERE d.id = ANY($1)
                 AND NOT (s.source = 'repository' AND r.commit <> ''
                          AND EXISTS (SELECT FROM trigger t WHERE t.deployment_id = d.id
                                      AND t.outcome = 'created'))) AS "brought!""#,
        &ids
    )
    .fetch_one(conn)
    .await
}

/// Whether a delivery has its trigger at a site, or at an environment of it.
pub(super) async fn is_decided(
    conn: &mut PgConnection,
    delivery: DeliveryId,
    site: SiteId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM trigger WHERE delivery_id = $1 AND site_id = $2)
               AS "decided!""#,
        delivery.uuid(),
        site.uuid()
    )
    .fetch_one(conn)
    .await
}

/// Whose pull requests a site gives previews.
pub(super) async fn find_rule(conn: &mut PgConnection, site: SiteId) -> Result<From, sqlx::Error> {
    let word = sqlx::query_scalar!("SELECT preview_from FROM site WHERE id = $1", site.uuid())
        .fetch_one(conn)
        .await?;
    Ok(From::of_word(&word))
}

/// An environment that has the slug of a preview.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) id: EnvironmentId,
    /// It is a preview of that pull request.
    pub(super) is_ours: bool,
    /// Who closed it, where it is closed.
    pub(super) closed_by: Option<String>,
}

pub(super) async fn find_place(
    conn: &mut PgConnection,
    site: SiteId,
    slug: &str,
    number: i32,
) -> Result<Option<Place>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT id, pull_request IS NOT DISTINCT FROM $3 AS "is_ours!",
                  CASE WHEN closed_at IS NOT NULL THEN closed_by END AS closed_by
           FROM environment WHERE site_id = $1 AND slug = $2"#,
        site.uuid(),
        slug,
        number
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Place {
        id: EnvironmentId::from_uuid(row.id),
        is_ours: row.is_ours,
        closed_by: row.closed_by,
    }))
}

/// Whether a closed preview would have opened since, had the files of its pull request counted.
pub(super) async fn is_passed_over(
    conn: &mut PgConnection,
    environment: EnvironmentId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM trigger t WHERE t.environment_id = e.id
               AND t.reason = 'paths' AND t.created_at >= e.closed_at) AS "passed!"
           FROM environment e WHERE e.id = $1"#,
        environment.uuid()
    )
    .fetch_one(conn)
    .await
}

/// What the environments of a site that follow a branch say of files, by slug.
pub(super) async fn list_rules(
    conn: &mut PgConnection,
    site: SiteId,
    branch: &str,
) -> Result<Vec<Rule>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT slug, push_branch, push_paths FROM environment
         WHERE site_id = $1 AND kind = 'standard' AND push_branch <> '' AND push_branch = $2
         ORDER BY slug",
        site.uuid(),
        branch
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Rule {
            environment: row.slug,
            pushes: PushRule {
                branch: row.push_branch,
                paths: row.push_paths,
            },
        })
        .collect())
}

/// The deployment that the pull request's last push made here, if it was of this head and nothing
/// was closed since.
pub(super) async fn find_same_head(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    head: &str,
) -> Result<Option<DeploymentId>, sqlx::Error> {
    let id = sqlx::query_scalar!(
        r#"SELECT n.deployment_id AS "deployment_id!" FROM (
               SELECT commit, deployment_id FROM trigger
               WHERE environment_id = $1 AND outcome = 'created' ORDER BY id DESC LIMIT 1) n
           WHERE n.commit = $2"#,
        environment.uuid(),
        head
    )
    .fetch_optional(conn)
    .await?;
    Ok(id.map(DeploymentId::from_uuid))
}

#[cfg(test)]
mod tests;
