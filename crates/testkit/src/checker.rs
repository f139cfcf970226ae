//! The independent checker: reads the databases and the edges, never the services, and says which
//! invariants of `docs/ARCHITECTURE.md` were broken, in words.

use std::collections::BTreeMap;

use sqlx::{Connection, PgConnection, Row};

/// What one question to the database is about, and the rows that it must not find.
struct Question {
    claim: &'static str,
    /// Answers one text column: a row for each violation.
    sql: &'static str,
}

/// The invariants that the database alone can answer.
const QUESTIONS: [Question; 12] = [
    Question {
        claim: "a deployment ends",
        sql: "SELECT format('%s is %s: %s', id, state, message) FROM deploy.deployment
              WHERE finished_at IS NULL",
    },
    Question {
        claim: "exactly one terminal event for each that ended",
        sql: "SELECT format('%s ended events for entity %s', count(*), entity) FROM deploy.outbox
              WHERE event_type = 'deploy.deployment.ended.v1' GROUP BY entity HAVING count(*) <> 1",
    },
    Question {
        claim: "as many terminal events as terminal deployments",
        sql: "SELECT format('%s terminal deployments, %s ended events, %s terminal rows', d, e, t)
              FROM (SELECT (SELECT count(*) FROM deploy.deployment WHERE finished_at IS NOT NULL) d,
                           (SELECT count(*) FROM deploy.outbox
                            WHERE event_type = 'deploy.deployment.ended.v1') e,
                           (SELECT count(*) FROM deploy.terminal) t) AS counts
              WHERE d <> e OR d <> t",
    },
    Question {
        claim: "every event is numbered, densely",
        sql: "SELECT format('epoch %s: %s events numbered %s to %s', epoch, count(*), min(seq), max(seq))
              FROM deploy.outbox GROUP BY epoch
              HAVING epoch IS NULL OR max(seq) - min(seq) + 1 <> count(*)",
    },
    Question {
        claim: "at most one acts on a lane at a time",
        sql: "SELECT format('%s (%s) and %s (%s) acted at the same time', a.id, a.state, b.id, b.state)
              FROM deploy.deployment a JOIN deploy.deployment b
                ON a.environment_id = b.environment_id AND a.id < b.id
               AND a.started_at < b.finished_at AND b.started_at < a.finished_at",
    },
    Question {
        claim: "no two deployments of a lane act under one fence",
        sql: "SELECT format('fence %s of environment %s: %s deployments', fence, environment_id, count(*))
              FROM deploy.deployment WHERE fence > 0 GROUP BY environment_id, fence
              HAVING count(*) > 1",
    },
    Question {
        claim: "what ended leaves no step open",
        sql: "SELECT format('step %s (%s) of %s is %s', s.ord, s.kind, d.id, s.state)
              FROM deploy.step s JOIN deploy.deployment d ON d.id = s.deployment_id
              WHERE d.finished_at IS NOT NULL
                AND s.state IN ('pending', 'ready', 'running', 'quarantined')",
    },
    Question {
        claim: "what succeeded has every step done",
        sql: "SELECT format('step %s (%s) of %s is %s', s.ord, s.kind, d.id, s.state)
              FROM deploy.step s JOIN deploy.deployment d ON d.id = s.deployment_id
              WHERE d.state = 'succeeded' AND s.state <> 'done'",
    },
    Question {
        claim: "what ended has no standing blocker",
        sql: "SELECT format('blocker %s of %s: %s', b.kind, d.id, b.message)
              FROM deploy.blocker b JOIN deploy.deployment d ON d.id = b.deployment_id
              WHERE d.finished_at IS NOT NULL AND b.cleared_at IS NULL",
    },
    Question {
        claim: "cancelled and superseded ones never had traffic",
        sql: "SELECT format('%s is %s and pivoted at %s', id, state, pivoted_at) FROM deploy.deployment
              WHERE state IN ('cancelled', 'superseded') AND pivoted_at IS NOT NULL
                AND cause <> 'preempted'",
    },
    Question {
        claim: "the routes of an environment serve what is live, alone",
        sql: "SELECT format('%s serves %s, live is %s', r.host, r.releases, e.live_release_id)
              FROM deploy.environment e JOIN deploy.route r ON r.environment_id = e.id
              WHERE CASE WHEN e.live_release_id IS NULL THEN r.releases <> '[]'
                    ELSE jsonb_array_length(r.releases) <> 1
                      OR (r.releases -> 0 ->> 'weight') <> '100' END",
    },
    Question {
        claim: "an older commit replaces a newer one only by a rollback",
        // Commits of a lane are numbered in their last 32 digits.
        sql: "SELECT format('%s (%s) went live after %s (%s)', id, place, before_id, before_place)
              FROM (SELECT d.id, d.kind, right(r.commit, 32) AS place,
                           lag(d.id) OVER w AS before_id, lag(d.kind) OVER w AS before_kind,
                           lag(right(r.commit, 32)) OVER w AS before_place
                    FROM deploy.deployment d JOIN deploy.release r ON r.id = d.release_id
                    WHERE d.live_at IS NOT NULL AND r.commit <> ''
                    WINDOW w AS (PARTITION BY d.environment_id ORDER BY d.live_at)) AS steps
              WHERE kind = 'standard' AND before_kind = 'standard' AND place <= before_place",
    },
];

/// Everything that is wrong, by claim; empty when all holds.
///
/// # Panics
///
/// When the database does not answer: there is nothing to judge then.
pub async fn database(url: &str) -> BTreeMap<&'static str, Vec<String>> {
    let mut connection = PgConnection::connect(url)
        .await
        .expect("the database answers");
    let mut broken = BTreeMap::new();
    for question in QUESTIONS {
        let rows = sqlx::query(question.sql)
            .fetch_all(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", question.claim));
        if !rows.is_empty() {
            let words = rows.iter().map(|row| row.get::<String, _>(0)).collect();
            broken.insert(question.claim, words);
        }
    }
    broken
}

/// What is live in each environment: (host, release as text), for the edges to be asked.
///
/// # Panics
///
/// When the database does not answer.
pub async fn live(url: &str, domain: &str) -> Vec<(String, String)> {
    let mut connection = PgConnection::connect(url)
        .await
        .expect("the database answers");
    let rows = sqlx::query(
        "SELECT CASE e.slug WHEN 'production' THEN s.slug ELSE e.slug || '--' || s.slug END,
                e.live_release_id
         FROM deploy.environment e JOIN deploy.site s ON s.id = e.site_id
         WHERE e.live_release_id IS NOT NULL AND e.kind = 'standard'",
    )
    .fetch_all(&mut connection)
    .await
    .expect("the environments are read");
    rows.iter()
        .map(|row| {
            let release = candlefish_ids::ReleaseId::from_uuid(row.get(1));
            (
                format!("{}.{domain}", row.get::<String, _>(0)),
                release.to_string(),
            )
        })
        .collect()
}

/// Counts deployments by their terminal state, and those that ever had traffic.
///
/// # Panics
///
/// When the database does not answer.
pub async fn counts(url: &str) -> BTreeMap<String, i64> {
    let mut connection = PgConnection::connect(url)
        .await
        .expect("the database answers");
    let rows = sqlx::query(
        "SELECT state, count(*) FROM deploy.deployment GROUP BY state
         UNION ALL SELECT 'pivoted', count(*) FROM deploy.deployment WHERE pivoted_at IS NOT NULL",
    )
    .fetch_all(&mut connection)
    .await
    .expect("the deployments are counted");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}
