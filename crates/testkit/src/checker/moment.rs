//! What must hold at every moment: one acts on a lane, nothing runs without an owner, nothing waits
//! without a blocker, a free lane is not kept from who waits for it, nobody deadlocks.

use std::time::Duration;

use sqlx::{PgConnection, Row};

use super::{Broken, Weather};

/// The claim that is about who owns work, and not about how fast work is done.
const OWNED: &str = "nothing runs without an owner";

/// For how long something may last that should not.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Whatever happens meanwhile.
    pub at_most: Duration,
    /// For what lost its owner, while nothing was down that a new one needs.
    pub without_owner: Duration,
}

impl Patience {
    /// With what has lasted so long, `calm` of it without a fault.
    fn is_over(self, claim: &str, lasts: Duration, calm: Duration) -> bool {
        lasts > self.at_most || claim == OWNED && calm > self.without_owner
    }
}

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
        SELECT FROM acting a WHERE a.environment_id = p.environment_id AND a.state <> 'pending')
    UNION ALL
    -- A crash of the server takes what it counted along: so it is asked all the time.
    SELECT 'nobody deadlocks', format('%s deadlocks in %s', deadlocks, datname), NULL
    FROM pg_stat_database WHERE deadlocks > 0";

/// Looks once, in one snapshot of the database. What may last a while is broken after `patience`.
///
/// # Errors
///
/// When the database does not answer, which is no fault of who is judged.
pub async fn moment(
    connection: &mut PgConnection,
    patience: Patience,
    weather: &Weather,
) -> Result<Broken, sqlx::Error> {
    let mut broken = Broken::new();
    for row in sqlx::query(LOOK).fetch_all(connection).await? {
        let (claim, words): (String, String) = (row.get(0), row.get(1));
        let words = match row.get::<Option<f64>, _>(2) {
            Some(seconds) => {
                // Less than none: it is not due yet.
                let lasts = Duration::try_from_secs_f64(seconds).unwrap_or_default();
                if !patience.is_over(&claim, lasts, weather.calm_of(lasts)) {
                    continue;
                }
                format!("{words}, for {seconds:.1} s")
            }
            None => words,
        };
        broken.entry(claim).or_default().push(words);
    }
    Ok(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        at_most: Duration::from_secs(40),
        without_owner: Duration::from_secs(10),
    };

    fn is_over(claim: &str, lasts: u64, calm: u64) -> bool {
        let seconds = Duration::from_secs;
        PATIENCE.is_over(claim, seconds(lasts), seconds(calm))
    }

    #[test]
    fn what_lost_its_owner_is_judged_by_the_calm_since() {
        assert!(LOOK.contains(OWNED));
        assert!(!is_over(OWNED, 10, 10));
        assert!(is_over(OWNED, 11, 11));
        // Faults are an excuse, though not for ever.
        assert!(!is_over(OWNED, 40, 10));
        assert!(is_over(OWNED, 40, 11));
        assert!(is_over(OWNED, 41, 0));
    }

    #[test]
    fn how_fast_work_is_done_is_judged_by_the_whole_time() {
        for claim in ["what is due is done", "a free lane is granted"] {
            assert!(LOOK.contains(claim));
            assert!(!is_over(claim, 40, 40), "{claim}");
            assert!(is_over(claim, 41, 0), "{claim}");
        }
    }
}
