//! The newest push that is known of a branch.

use candlefish_ids::{DeploymentId, EnvironmentId};
use sqlx::PgConnection;

use crate::trigger::push::Push;

/// A push that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::trigger) struct Known {
    pub(in crate::trigger) commit: String,
    pub(in crate::trigger) pushed_at: Option<i64>,
}

/// A push that came later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::trigger) struct Later {
    pub(in crate::trigger) commit: String,
    pub(in crate::trigger) deployment: DeploymentId,
    /// Its deployment has not begun.
    pub(in crate::trigger) waits: bool,
}

/// The newest push to a branch that was decided in an environment, by the sender's clock; of those of
/// one second the one that no other of them replaced. That the branch was deleted is no push.
pub(in crate::trigger) async fn find_newest_push(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    branch: &str,
) -> Result<Option<Known>, sqlx::Error> {
    sqlx::query_as!(
        Known,
        "SELECT commit, pushed_at FROM trigger t
         WHERE environment_id = $1 AND branch = $2 AND commit <> ''
         ORDER BY pushed_at DESC NULLS LAST, EXISTS (
             SELECT FROM trigger n WHERE n.environment_id = t.environment_id AND n.branch = t.branch
             AND n.pushed_at = t.pushed_at AND n.before_commit = t.commit AND n.commit <> t.commit
             AND n.commit <> ''), id DESC LIMIT 1",
        environment.uuid(),
        branch
    )
    .fetch_optional(conn)
    .await
}

/// What is known here of a commit that a branch is said to be at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::trigger) struct Told {
    /// A push to it.
    pub(in crate::trigger) itself: bool,
    /// When it was replaced first, since the moment asked for.
    pub(in crate::trigger) replaced_at: Option<i64>,
}

/// Whether pushes to a commit are known here, and ones that replaced it from a second of GitHub's clock on
/// until the push's own.
pub(in crate::trigger) async fn find_told(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    push: &Push,
    since: Option<i64>,
) -> Result<Told, sqlx::Error> {
    sqlx::query_as!(
        Told,
        r#"SELECT EXISTS (SELECT FROM trigger k
                          WHERE k.environment_id = $1 AND k.branch = $2 AND k.commit = $3) AS "itself!",
                  (SELECT min(n.pushed_at) FROM trigger n
                   WHERE n.environment_id = $1 AND n.branch = $2 AND n.before_commit = $3
                   AND n.commit <> $3 AND n.pushed_at BETWEEN $4 AND $5) AS replaced_at"#,
        environment.uuid(),
        push.branch(),
        push.after,
        since,
        push.pushed_at
    )
    .fetch_one(conn)
    .await
}

/// The newest push of another commit to the same branch that came after this one, by GitHub's clock or
/// because it replaced this one within its second, and was not passed over here.
pub(in crate::trigger) async fn find_later_push(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    push: &Push,
) -> Result<Option<Later>, sqlx::Error> {
    let Some(pushed_at) = push.pushed_at else {
        return Ok(None);
    };
    let row = sqlx::query!(
        r#"SELECT t.commit, d.id, d.state = 'pending' AS "waits!"
           FROM trigger t JOIN deployment d ON d.id = t.deployment_id
           WHERE t.environment_id = $1 AND t.branch = $2 AND t.commit <> $4
             AND (t.pushed_at > $3 OR t.pushed_at = $3 AND t.before_commit = $4)
             AND t.outcome IN ('created', 'superseded')
           ORDER BY t.pushed_at DESC, t.id DESC LIMIT 1"#,
        environment.uuid(),
        push.branch(),
        pushed_at,
        push.after
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Later {
        commit: row.commit,
        deployment: DeploymentId::from_uuid(row.id),
        waits: row.waits,
    }))
}

#[cfg(test)]
mod tests {
    use candlefish_testkit::Database;

    use super::*;

    #[tokio::test]
    async fn a_push_whose_branch_is_deleted_within_its_second_is_the_newest_all_the_same() {
        let pool = Database::migrated(&sqlx::migrate!()).await.pool();
        let mut conn = pool.acquire().await.unwrap();
        let id = EnvironmentId::new();
        for statement in [
            "WITH s AS (
                 INSERT INTO site (id, slug, name, repository, created_at, created_by)
                 VALUES ($1, 'docs', '', 'example/docs', clock(), 'test') RETURNING id)
             INSERT INTO environment (id, site_id, slug, kind, policy, created_at, created_by)
             SELECT $1, id, 'production', 'standard', '{}', clock(), 'test' FROM s",
            // The one that was replaced has the later id: it was decided last.
            "INSERT INTO trigger (id, delivery_id, repository, branch, commit, before_commit, pushed_at,
                 sender, site_id, environment_id, outcome, reason, message, received_at, created_at)
             SELECT lpad(n::text, 32, '0')::uuid, lpad(n::text, 32, '0')::uuid, 'example/docs', 'main',
                 commit, before, 5, '', $1, $1, 'ignored', 'paths', '', clock(), clock()
             FROM (VALUES (3, 'a', ''), (2, 'b', 'a'), (1, '', 'b')) AS t (n, commit, before)",
        ] {
            let done = sqlx::query(statement).bind(id.uuid());
            done.execute(&mut *conn).await.unwrap();
        }
        let newest = find_newest_push(&mut conn, id, "main").await.unwrap();
        assert_eq!(newest.map(|one| one.commit), Some("b".to_owned()));
    }
}
