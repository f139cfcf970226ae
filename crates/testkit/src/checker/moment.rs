//! What must hold at every moment: one acts on a lane, nothing runs without an owner, nothing waits
//! without a blocker, a free lane is not kept from who waits for it.

use std::time::Duration;

use sqlx::{PgConnection, Row};

use super::Broken;

/// Answers (the claim, what, for how many seconds; none for what may not be for any time at all).
const LOOK: &str = "
    WITH acting AS (
        SELECT d.*, c.now FROM deploy.deployment d,
               (SELECT extract(epoch FROM deploy.clock())::float8 AS now) c
        WHERE d.finished_at IS NULL)
    SELECT 'at most one acts on a lane at a time' AS claim,
           format('%s act on environment %s', count(*), environment_id) AS words,
           NULL::float8 AS seconds
    FROM acting WHERE state <> 'pending' GROUP BY environment_id HAVING count(*) > 1
    UNION ALL
    SELECT 'nothing waits without a blocker', format('%s is %s', id, state), NULL
    FROM acting d WHERE state IN ('pending', 'waiting') AND NOT EXISTS (
        SELECT FROM deploy.blocker b WHERE b.deployment_id = d.id AND b.cleared_at IS NULL)
    UNION ALL
    SELECT 'what acts has a step that can move it', format('%s is %s', id, state), NULL
    FROM acting d WHERE state <> 'pending' AND NOT EXISTS (
        SELECT FROM deploy.step s WHERE s.deployment_id = d.id
        AND s.state IN ('ready', 'running', 'quarantined'))
    UNION ALL
    SELECT 'nothing runs without an owner',
           format('step %s (%s) of %s lost its worker %s', s.ord, s.kind, d.id, s.owner),
           d.now - extract(epoch FROM s.lease_until)::float8
    FROM acting d JOIN deploy.step s ON s.deployment_id = d.id AND s.state = 'running'
    UNION ALL
    SELECT 'what is due is done', format('step %s (%s) of %s is due', s.ord, s.kind, d.id),
           d.now - extract(epoch FROM s.run_at)::float8
    FROM acting d JOIN deploy.step s ON s.deployment_id = d.id AND s.state = 'ready'
    UNION ALL
    SELECT 'a free lane is granted', format('%s could have its lane', p.id),
           p.now - extract(epoch FROM greatest(p.created_at, r.sealed_at, e.live_since,
               (SELECT max(o.finished_at) FROM deploy.deployment o
                WHERE o.environment_id = p.environment_id)))::float8
    FROM acting p
    JOIN deploy.release r ON r.id = p.release_id AND r.state = 'sealed'
    JOIN deploy.environment e ON e.id = p.environment_id AND e.hold_since IS NULL
    WHERE p.state = 'pending' AND NOT EXISTS (
        SELECT FROM acting a WHERE a.environment_id = p.environment_id AND a.state <> 'pending')";

/// Looks once, in one snapshot of the database. What may last a while is broken after `patience`.
///
/// # Errors
///
/// When the database does not answer, which is no fault of who is judged.
pub async fn moment(
    connection: &mut PgConnection,
    patience: Duration,
) -> Result<Broken, sqlx::Error> {
    let mut broken = Broken::new();
    for row in sqlx::query(LOOK).fetch_all(connection).await? {
        let (claim, words): (String, String) = (row.get(0), row.get(1));
        let words = match row.get::<Option<f64>, _>(2) {
            Some(seconds) if seconds <= patience.as_secs_f64() => continue,
            Some(seconds) => format!("{words}, for {seconds:.1} s"),
            None => words,
        };
        broken.entry(claim).or_default().push(words);
    }
    Ok(broken)
}
