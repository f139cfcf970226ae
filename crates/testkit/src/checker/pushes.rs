//! What became of deliveries and of the pushes that they tell of, and what GitHub was told.

use std::collections::BTreeMap;

use candlefish_ids::DeploymentId;
use sqlx::{PgConnection, Row};

use super::Broken;
use crate::github::Fake;

/// A push that a delivery told of, however often and whenever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The sender's id of the delivery; none when nobody was told.
    pub delivery: Option<String>,
    pub commit: String,
    /// The environment that follows the branch: `docs/production`.
    pub place: String,
}

const KEPT_ONCE: &str = "a delivery that was taken is kept once";

/// What may not be found of a repository's deliveries: the claim, and what answers the words of each
/// violation.
const QUESTIONS: [(&str, &str); 3] = [
    (
        "a delivery has one trigger for each environment",
        "SELECT format('%s has %s for %s/%s', d.source_id, count(t.id), s.slug, e.slug)
         FROM gateway.delivery d CROSS JOIN deploy.site s
         JOIN deploy.environment e ON e.site_id = s.id AND e.push_branch <> ''
         LEFT JOIN deploy.trigger t ON t.delivery_id = d.id AND t.environment_id = e.id
         WHERE lower(s.repository) = lower($1) GROUP BY d.source_id, s.slug, e.slug
         HAVING count(t.id) <> 1 OR count(t.id) FILTER (WHERE t.outcome <> '') <> 1",
    ),
    (
        // Each commit is pushed once, and whether a delivery told of it or the sweep found it, it makes
        // one deployment. What is known as another's is no decision, and a deleted branch no commit.
        "a push is decided once",
        "SELECT format('%s has %s triggers on %s/%s: %s', t.commit, count(*), s.slug, e.slug,
                       string_agg(format('%s %s %s', t.event, t.outcome, t.reason), ', ' ORDER BY t.id))
         FROM deploy.trigger t JOIN deploy.environment e ON e.id = t.environment_id
         JOIN deploy.site s ON s.id = e.site_id
         WHERE lower(s.repository) = lower($1) AND t.reason <> 'duplicate' AND t.commit <> ''
         GROUP BY s.slug, e.slug, t.branch, t.commit
         HAVING count(*) FILTER (WHERE t.event = 'push') > 1
             OR count(DISTINCT t.deployment_id) FILTER (WHERE t.outcome = 'created') > 1",
    ),
    (
        KEPT_ONCE,
        "SELECT format('the same body is there as %s', string_agg(d.source_id, ', '))
         FROM gateway.delivery d WHERE EXISTS (
             SELECT FROM deploy.trigger t
             WHERE t.delivery_id = d.id AND lower(t.repository) = lower($1))
         GROUP BY d.source, d.body_hash HAVING count(*) > 1",
    ),
];

/// A commit where it was pushed to: how many of its triggers made or found a deployment that is over,
/// or say that something newer was there.
const OUTCOMES: &str = "
    SELECT count(*) FILTER (WHERE d.finished_at IS NOT NULL OR t.outcome = 'superseded')
    FROM deploy.trigger t JOIN deploy.environment e ON e.id = t.environment_id
    JOIN deploy.site s ON s.id = e.site_id
    LEFT JOIN deploy.deployment d ON d.id = t.deployment_id
    WHERE t.commit = $1 AND format('%s/%s', s.slug, e.slug) = $2
      AND t.outcome IN ('created', 'superseded')";

/// What is wrong with deliveries and their pushes; all were taken, perhaps more than once.
///
/// # Panics
///
/// When the database does not answer.
pub async fn pushes(url: &str, repository: &str, pushed: &[Pushed]) -> Broken {
    let mut connection = super::connect(url).await;
    let mut broken = Broken::new();
    let mut fault = |claim: &str, words: String| {
        broken.entry(claim.to_owned()).or_default().push(words);
    };
    for (claim, question) in QUESTIONS {
        let found = sqlx::query_scalar::<_, String>(question).bind(repository);
        let found = found.fetch_all(&mut connection).await;
        for words in found.unwrap_or_else(|error| panic!("{claim}: {error}")) {
            fault(claim, words);
        }
    }
    for one in pushed {
        let kept = "SELECT count(*) FROM gateway.delivery WHERE source_id = $1";
        let kept = sqlx::query_scalar::<_, i64>(kept).bind(&one.delivery);
        let kept = kept.fetch_one(&mut connection).await;
        match (&one.delivery, kept.expect("the deliveries are counted")) {
            (None, _) | (Some(_), 1) => {}
            (Some(delivery), count) => {
                fault(KEPT_ONCE, format!("{delivery} is there {count} times"));
            }
        }
        let over = sqlx::query_scalar::<_, i64>(OUTCOMES);
        let over = over.bind(&one.commit).bind(&one.place);
        let over = over.fetch_one(&mut connection).await;
        if over.expect("the outcomes are counted") == 0 {
            fault(
                "no push is lost",
                format!("{} became nothing on {}", one.commit, one.place),
            );
        }
    }
    broken
}

/// The claim of [`shown`] that may come true yet.
pub const SHOWN: &str = "each deployment of a push is at GitHub";

/// Compares the deployments that triggers made with those that GitHub has: each is there, once, and was
/// told each of its states once.
///
/// # Panics
///
/// When the database does not answer.
pub async fn shown(url: &str, github: &Fake, repository: &str) -> Broken {
    let ours = made(&mut super::connect(url).await).await;
    let mut counts: BTreeMap<String, usize> = ours.into_iter().map(|id| (id, 0)).collect();
    let mut broken = Broken::new();
    let mut fault = |claim: &str, words: String| {
        broken.entry(claim.to_owned()).or_default().push(words);
    };
    for (one, told) in github.deployments(repository) {
        let id = one["payload"]["candlefish"].as_str().unwrap_or_default();
        *counts.entry(id.to_owned()).or_default() += 1;
        let mut once = told.clone();
        once.sort_unstable();
        once.dedup();
        if once.len() != told.len() {
            fault(
                "GitHub is told each state once",
                format!("{id} is told {told:?}"),
            );
        }
    }
    for (id, count) in counts {
        match count {
            0 => fault(SHOWN, id),
            1 => {}
            more => fault(
                "no deployment of a push is at GitHub twice",
                format!("{id} is there {more} times"),
            ),
        }
    }
    broken
}

async fn made(connection: &mut PgConnection) -> Vec<String> {
    let rows =
        sqlx::query("SELECT DISTINCT deployment_id FROM deploy.trigger WHERE outcome = 'created'");
    let rows = rows.fetch_all(connection).await;
    let rows = rows.expect("the triggers are read");
    rows.iter()
        .map(|row| DeploymentId::from_uuid(row.get(0)).to_string())
        .collect()
}
