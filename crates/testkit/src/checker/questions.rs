//! What SQL alone can answer at the end of a run.

use sqlx::{PgConnection, Row};

use super::Broken;

/// What one question to the database is about, and the rows that it must not find.
struct Question {
    claim: &'static str,
    /// It holds at every moment, and not only at the end.
    always: bool,
    /// Answers one text column: a row for each violation.
    sql: &'static str,
}

const QUESTIONS: [Question; 14] = [
    Question {
        claim: "a deployment ends",
        always: false,
        sql: "SELECT format('%s is %s: %s', id, state, message) FROM deploy.deployment
              WHERE finished_at IS NULL",
    },
    Question {
        claim: "no two deployments of a lane act under one fence",
        always: true,
        sql: "SELECT format('fence %s of environment %s: %s deployments', fence, environment_id, count(*))
              FROM deploy.deployment WHERE fence > 0 GROUP BY environment_id, fence
              HAVING count(*) > 1",
    },
    Question {
        claim: "what ended leaves no step open",
        always: true,
        sql: "SELECT format('step %s (%s) of %s is %s', s.ord, s.kind, d.id, s.state)
              FROM deploy.step s JOIN deploy.deployment d ON d.id = s.deployment_id
              WHERE d.finished_at IS NOT NULL
                AND s.state IN ('pending', 'ready', 'running', 'quarantined')",
    },
    Question {
        claim: "no step ends after its deployment",
        always: true,
        sql: "SELECT format('step %s (%s) of %s ended %s, the deployment %s',
                            s.ord, s.kind, d.id, s.finished_at, d.finished_at)
              FROM deploy.step s JOIN deploy.deployment d ON d.id = s.deployment_id
              WHERE s.finished_at > d.finished_at",
    },
    Question {
        claim: "what succeeded has every step done",
        always: true,
        sql: "SELECT format('step %s (%s) of %s is %s', s.ord, s.kind, d.id, s.state)
              FROM deploy.step s JOIN deploy.deployment d ON d.id = s.deployment_id
              WHERE d.state = 'succeeded' AND s.state <> 'done'",
    },
    Question {
        claim: "what was undone has every undo step done",
        always: false,
        sql: "SELECT format('undo %s (%s) of %s is %s', s.ord, s.kind, d.id, s.state)
              FROM deploy.step s JOIN deploy.deployment d ON d.id = s.deployment_id
              WHERE s.undo_of IS NOT NULL AND s.state <> 'done' AND d.cause <> 'preempted'",
    },
    Question {
        claim: "steps are done in their order",
        always: true,
        sql: "SELECT format('step %s of %s was done %s, step %s %s',
                            a.ord, a.deployment_id, a.finished_at, b.ord, b.finished_at)
              FROM deploy.step a JOIN deploy.step b
                ON b.deployment_id = a.deployment_id AND b.ord > a.ord
              WHERE a.state = 'done' AND b.state = 'done' AND b.finished_at < a.finished_at",
    },
    Question {
        claim: "a step is done once",
        always: true,
        // What it came to is logged whenever it is done; nobody passes a wait by hand in these runs.
        sql: "SELECT format('step %s of %s was done %s times', step_ord, deployment_id, count(*))
              FROM deploy.deployment_log WHERE step_ord > 0
              GROUP BY deployment_id, step_ord HAVING count(*) > 1",
    },
    Question {
        claim: "what ended has no standing blocker",
        always: true,
        sql: "SELECT format('blocker %s of %s: %s', b.kind, d.id, b.message)
              FROM deploy.blocker b JOIN deploy.deployment d ON d.id = b.deployment_id
              WHERE d.finished_at IS NOT NULL AND b.cleared_at IS NULL",
    },
    Question {
        claim: "cancelled and superseded ones never had traffic",
        always: true,
        sql: "SELECT format('%s is %s and pivoted at %s', id, state, pivoted_at) FROM deploy.deployment
              WHERE state IN ('cancelled', 'superseded') AND pivoted_at IS NOT NULL
              UNION ALL
              SELECT format('%s is %s and never had traffic', id, state) FROM deploy.deployment
              WHERE state IN ('succeeded', 'rolled_back') AND kind <> 'preview' AND pivoted_at IS NULL",
    },
    Question {
        claim: "the routes of an environment serve one release, all of it",
        always: false,
        sql: "SELECT format('%s serves %s, live is %s', r.host, r.releases, e.live_release_id)
              FROM deploy.environment e JOIN deploy.route r ON r.environment_id = e.id
              WHERE CASE WHEN e.live_release_id IS NULL THEN r.releases <> '[]'
                    ELSE jsonb_array_length(r.releases) <> 1
                      OR (r.releases -> 0 ->> 'weight') <> '100' END",
    },
    Question {
        claim: "what went live is in the history once",
        always: true,
        // A rollback that fails past its pivot is live all the same.
        sql: "SELECT format('%s (%s, %s) is told as live %s times', d.id, d.kind, d.state, count(r.id))
              FROM deploy.deployment d LEFT JOIN deploy.record r
                ON r.deployment_id = d.id AND r.kind = 'live'
              GROUP BY d.id HAVING count(r.id) <> CASE
                WHEN d.live_at IS NOT NULL
                  OR (d.kind = 'rollback' AND d.state = 'failed' AND d.pivoted_at IS NOT NULL
                      AND d.target_confirmed IS NULL)
                THEN 1 ELSE 0 END",
    },
    Question {
        claim: "the history says once why one failed that acted",
        always: true,
        // A rollback has a line of kind rollback of whoever asked for it.
        sql: "SELECT format('%s (%s, %s) by %s is told %s times', d.id, d.kind, d.state, d.cause,
                            count(r.id))
              FROM deploy.deployment d LEFT JOIN deploy.record r
                ON r.deployment_id = d.id AND (r.kind = 'fail'
                  OR (d.kind <> 'rollback' AND r.kind IN ('rollback', 'reject')))
              WHERE d.started_at IS NOT NULL AND d.finished_at IS NOT NULL
                AND d.cause IN ('verification', 'verdict', 'deadline', 'edges', 'discarded', 'content', 'evidence')
              GROUP BY d.id HAVING count(r.id) <> 1",
    },
    Question {
        claim: "nobody deadlocks",
        always: true,
        // SQLSTATE 40P01, since the server started.
        sql: "SELECT format('%s deadlocks in %s', deadlocks, datname) FROM pg_stat_database
              WHERE deadlocks > 0",
    },
];

/// Asks all of them.
pub(super) async fn ask(connection: &mut PgConnection) -> Broken {
    ask_each(connection, |_| true).await
}

/// Asks those that may be asked at any moment.
pub(super) async fn ask_always(connection: &mut PgConnection) -> Broken {
    ask_each(connection, |question| question.always).await
}

async fn ask_each(connection: &mut PgConnection, wanted: fn(&Question) -> bool) -> Broken {
    let mut broken = Broken::new();
    for question in QUESTIONS.iter().filter(|one| wanted(one)) {
        let rows = sqlx::query(question.sql)
            .fetch_all(&mut *connection)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", question.claim));
        if !rows.is_empty() {
            let words = rows.iter().map(|row| row.get::<String, _>(0)).collect();
            broken.insert(question.claim.to_owned(), words);
        }
    }
    broken
}
