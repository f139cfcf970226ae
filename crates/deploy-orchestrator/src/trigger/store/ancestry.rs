//! Statements about what descends from what, as pushes tell it.

use candlefish_ids::SiteId;
use sqlx::PgConnection;

use crate::trigger::push::{MOST_ANCESTORS, Push};

/// Keeps what a push tells of history, also for those that came out of order: what descends from
/// this commit and is open or live here has its ancestors too.
pub(in crate::trigger) async fn save_ancestry(
    conn: &mut PgConnection,
    site: SiteId,
    push: &Push,
) -> Result<(), sqlx::Error> {
    // First: a push that adds to this commit's row has ended before the rows of its ancestors are read.
    let descendants = lock_descendants(conn, site, &push.after).await?;
    let mut ancestors = push.ancestors();
    let known = sqlx::query_scalar!(
        "SELECT ancestors FROM commit_ancestry WHERE site_id = $1 AND commit = ANY($2)",
        site.uuid(),
        &ancestors
    )
    .fetch_all(&mut *conn)
    .await?;
    for one in known.into_iter().flatten() {
        if ancestors.len() < MOST_ANCESTORS && one != push.after && !ancestors.contains(&one) {
            ancestors.push(one);
        }
    }
    if ancestors.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO commit_ancestry (site_id, commit, parents, ancestors) VALUES ($1, $2, '{}', $3)
         ON CONFLICT (site_id, commit) DO UPDATE SET ancestors = excluded.ancestors
         WHERE cardinality(excluded.ancestors) > cardinality(commit_ancestry.ancestors)",
        site.uuid(),
        push.after,
        &ancestors
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "UPDATE commit_ancestry a SET ancestors = a.ancestors || ARRAY(
             SELECT n.one FROM unnest($3::text[]) WITH ORDINALITY AS n (one, place)
             WHERE n.one <> ALL (a.ancestors) AND n.one <> a.commit ORDER BY n.place)
         WHERE a.site_id = $1 AND a.commit = ANY ($2) AND cardinality(a.ancestors) < 1000",
        site.uuid(),
        &descendants,
        &ancestors
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What descends from a commit and is open or live here. The commit's own row is locked with theirs,
/// before any is written and in the order of the commits: pushes to two lanes write each other's rows.
async fn lock_descendants(
    conn: &mut PgConnection,
    site: SiteId,
    commit: &str,
) -> Result<Vec<String>, sqlx::Error> {
    let mut locked = sqlx::query_scalar!(
        "SELECT a.commit FROM commit_ancestry a
         WHERE a.site_id = $1 AND (a.commit = $2 OR $2 = ANY (a.ancestors)) AND a.commit IN (
             SELECT $2
             UNION
             SELECT r.commit FROM environment e
             JOIN deployment d ON d.environment_id = e.id AND d.state = 'pending'
             JOIN release r ON r.id = d.release_id WHERE e.site_id = $1 AND e.kind = 'standard'
             UNION
             SELECT r.commit FROM environment e
             JOIN deployment d ON d.environment_id = e.id
                  AND d.state IN ('running', 'waiting', 'cancelling')
             JOIN release r ON r.id = d.release_id WHERE e.site_id = $1 AND e.kind = 'standard'
             UNION
             SELECT r.commit FROM environment e JOIN release r ON r.id = e.live_release_id
             WHERE e.site_id = $1 AND e.kind = 'standard')
         ORDER BY a.commit FOR NO KEY UPDATE OF a",
        site.uuid(),
        commit
    )
    .fetch_all(conn)
    .await?;
    locked.retain(|one| one != commit);
    Ok(locked)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use candlefish_testkit::{Database, github, wait_until};

    use super::*;

    const SOON: Duration = Duration::from_secs(20);
    const OLD: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const LIVE: &str = "cccccccccccccccccccccccccccccccccccccccc";
    const PUSHED: &str = "dddddddddddddddddddddddddddddddddddddddd";

    /// What is live descends from what is pushed, and comes before it in the order of the commits.
    const SITE: &str = "
        WITH s AS (
            INSERT INTO site (id, slug, name, repository, created_at, created_by)
            VALUES ('00000000-0000-0000-0000-000000000001', 'docs', '', 'example/docs', clock(), 'test')
            RETURNING id),
        r AS (
            INSERT INTO release (id, site_id, manifest_digest, manifest_size, state, commit, message, author,
                author_email, dirty, created_at, created_by, sealed_at)
            SELECT id, id, decode(repeat('11', 32), 'hex'), 1, 'sealed', repeat('c', 40), '', '', '', false,
                clock(), 'test', clock() FROM s RETURNING id),
        a AS (
            INSERT INTO commit_ancestry (site_id, commit, parents, ancestors)
            SELECT id, repeat('c', 40), '{}'::text[], ARRAY[repeat('d', 40)] FROM s
            UNION ALL SELECT id, repeat('d', 40), '{}', '{}'::text[] FROM s)
        INSERT INTO environment (id, site_id, slug, kind, policy, live_release_id, live_since, created_at,
            created_by)
        SELECT s.id, s.id, 'production', 'standard', '{}', r.id, clock(), clock(), 'test' FROM s, r";

    async fn hold(conn: &mut PgConnection, commit: &str, how: &str) -> Result<(), sqlx::Error> {
        let text = format!("SELECT FROM commit_ancestry WHERE commit = $1 FOR UPDATE {how}");
        sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(commit)
            .execute(conn)
            .await?;
        Ok(())
    }

    #[tokio::test]
    async fn a_push_that_waits_for_history_holds_none_that_another_may_wait_for() {
        let pool = Database::migrated(&sqlx::migrate!()).await.pool();
        sqlx::raw_sql(SITE).execute(&pool).await.unwrap();
        let site: SiteId = SiteId::from_uuid(uuid::Uuid::from_u128(1));
        let mut other = pool.begin().await.unwrap();
        hold(&mut other, LIVE, "").await.unwrap();

        let push = github::Push {
            repository: "example/docs",
            branch: "main",
            before: OLD,
            commits: &[PUSHED],
            changes: &["docs/a.md"],
            pushed_at: 1_790_000_000,
        };
        let push = Push::read(push.example().body.to_string().as_bytes()).unwrap();
        let pushing = async {
            let mut tx = pool.begin().await.unwrap();
            save_ancestry(&mut tx, site, &push).await.unwrap();
            tx.commit().await.unwrap();
        };
        let waits = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let count = async || -> i64 { sqlx::query_scalar(waits).fetch_one(&pool).await.unwrap() };
        let holding = async {
            wait_until(SOON, "the push to wait", async || count().await > 0).await;
            hold(&mut other, PUSHED, "NOWAIT").await.unwrap();
            other.commit().await.unwrap();
        };
        tokio::join!(pushing, holding);

        let told: Vec<Vec<String>> =
            sqlx::query_scalar("SELECT ancestors FROM commit_ancestry ORDER BY commit")
                .fetch_all(&pool)
                .await
                .unwrap();
        assert_eq!(told, [vec![PUSHED, OLD], vec![OLD]]);
    }
}
