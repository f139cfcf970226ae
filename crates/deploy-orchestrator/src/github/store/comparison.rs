//! Pairs of commits, and what GitHub says of them.

use std::time::Duration;

use candlefish_ids::{EnvironmentId, SiteId};
use sqlx::{PgConnection, postgres::types::PgInterval};

use crate::github::{Relation, compare::Pair};

impl Relation {
    const fn word(self) -> &'static str {
        match self {
            Self::Ahead => "ahead",
            Self::Behind => "behind",
            Self::Diverged => "diverged",
            Self::Identical => "identical",
        }
    }
}

/// Notes pairs that meet on a lane and that nothing relates: something pending, with what is pending,
/// acting or live beside it.
pub(in crate::github) async fn note_unrelated(
    conn: &mut PgConnection,
    limit: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"INSERT INTO comparison (site_id, one, other, created_at, retry_at)
           SELECT DISTINCT e.site_id, least(p.commit COLLATE "C", o.commit),
                  greatest(p.commit COLLATE "C", o.commit), clock(), clock()
           FROM deployment d
           JOIN release p ON p.id = d.release_id AND p.commit <> ''
           JOIN environment e ON e.id = d.environment_id AND e.kind = 'standard'
           JOIN site s ON s.id = e.site_id AND s.repository <> ''
           CROSS JOIN LATERAL (
               SELECT r.commit FROM deployment x JOIN release r ON r.id = x.release_id
               WHERE x.environment_id = e.id AND x.state = 'pending'
               UNION
               SELECT r.commit FROM deployment x JOIN release r ON r.id = x.release_id
               WHERE x.environment_id = e.id AND x.state IN ('running', 'waiting', 'cancelling')
               UNION
               SELECT r.commit FROM release r WHERE r.id = e.live_release_id) o
           WHERE d.state = 'pending' AND d.kind = 'standard'
             AND o.commit <> '' AND o.commit <> p.commit
             AND NOT EXISTS (
                 SELECT FROM commit_ancestry a WHERE a.site_id = e.site_id AND a.commit = p.commit
                 AND (o.commit = ANY (a.ancestors) OR o.commit = ANY (a.parents)))
             AND NOT EXISTS (
                 SELECT FROM commit_ancestry a WHERE a.site_id = e.site_id AND a.commit = o.commit
                 AND (p.commit = ANY (a.ancestors) OR p.commit = ANY (a.parents)))
             AND NOT EXISTS (
                 SELECT FROM comparison c WHERE c.site_id = e.site_id
                 AND c.one = least(p.commit COLLATE "C", o.commit)
                 AND c.other = greatest(p.commit COLLATE "C", o.commit))
           LIMIT $1
           ON CONFLICT DO NOTHING"#,
        limit
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets what GitHub did not say in a day; a pair that still meets is noted again.
pub(in crate::github) async fn forget_unanswered(
    conn: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "DELETE FROM comparison WHERE relation IS NULL AND retry_at <= clock()
             AND created_at < (SELECT clock()) - interval '1 day'"
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes the pair that waits longest; it is not due again before the lease ends.
pub(in crate::github) async fn claim_pair(
    conn: &mut PgConnection,
    lease: Duration,
) -> Result<Option<Pair>, sqlx::Error> {
    let lease = PgInterval::try_from(lease).map_err(sqlx::Error::Encode)?;
    let row = sqlx::query!(
        "UPDATE comparison c SET attempts = c.attempts + 1, retry_at = clock() + $1::interval
         FROM site s
         WHERE s.id = c.site_id AND (c.site_id, c.one, c.other) = (
             SELECT site_id, one, other FROM comparison
             WHERE relation IS NULL AND retry_at <= (SELECT clock())
             ORDER BY retry_at LIMIT 1 FOR UPDATE SKIP LOCKED)
         RETURNING c.site_id, s.repository, c.one, c.other, c.attempts",
        lease
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Pair {
        site: SiteId::from_uuid(row.site_id),
        repository: row.repository,
        one: row.one,
        other: row.other,
        attempts: row.attempts,
    }))
}

/// Asks about a pair again later.
pub(in crate::github) async fn put_pair_off(
    conn: &mut PgConnection,
    pair: &Pair,
    pause: Duration,
    note: &str,
) -> Result<(), sqlx::Error> {
    let pause = PgInterval::try_from(pause).map_err(sqlx::Error::Encode)?;
    sqlx::query!(
        "UPDATE comparison SET retry_at = clock() + $4::interval, note = $5
         WHERE site_id = $1 AND one = $2 AND other = $3 AND relation IS NULL",
        pair.site.uuid(),
        pair.one,
        pair.other,
        pause,
        note
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// GitHub has said how the other stands to the one.
pub(in crate::github) async fn save_relation(
    conn: &mut PgConnection,
    pair: &Pair,
    relation: Relation,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE comparison SET relation = $4, note = ''
         WHERE site_id = $1 AND one = $2 AND other = $3 AND relation IS NULL",
        pair.site.uuid(),
        pair.one,
        pair.other,
        relation.word()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lanes of the site where something waits with either commit.
pub(in crate::github) async fn list_lanes_to_choose(
    conn: &mut PgConnection,
    pair: &Pair,
) -> Result<Vec<EnvironmentId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        "SELECT DISTINCT d.environment_id FROM release r
         JOIN deployment d ON d.release_id = r.id AND d.state = 'pending'
         WHERE r.site_id = $1 AND r.commit IN ($2, $3) ORDER BY d.environment_id",
        pair.site.uuid(),
        pair.one,
        pair.other
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(EnvironmentId::from_uuid).collect())
}
