//! Whose fault it was: a crash changes no outcome. Nothing fails for a fault of its own but what has one.

use std::collections::BTreeSet;

use candlefish_ids::DeploymentId;
use sqlx::Row;

use super::{Broken, Fault, connect};

/// Causes that say that a deployment did not do what it should. A person's verbs, a newer commit and a
/// rollback are none of them.
const OWN: [&str; 7] = [
    "verification",
    "verdict",
    "deadline",
    "edges",
    "discarded",
    "content",
    "evidence",
];

/// How a deployment ended, or stands.
#[derive(Debug, Clone, Default)]
struct Outcome {
    id: String,
    state: String,
    cause: String,
    message: String,
    pivoted: bool,
}

/// Asks of a run that is over whether those alone failed that were to: the ids in `flawed` are of
/// deployments whose release is broken, and those never had traffic.
///
/// # Panics
///
/// When the database does not answer.
pub async fn blame(url: &str, flawed: &[String]) -> Broken {
    let flawed: BTreeSet<&str> = flawed.iter().map(String::as_str).collect();
    let rows = sqlx::query(
        "SELECT id, state, cause, message, pivoted_at IS NOT NULL FROM deploy.deployment ORDER BY id",
    )
    .fetch_all(&mut connect(url).await)
    .await
    .expect("the deployments are read");
    let outcomes = rows.iter().map(|row| Outcome {
        id: DeploymentId::from_uuid(row.get(0)).to_string(),
        state: row.get(1),
        cause: row.get(2),
        message: row.get(3),
        pivoted: row.get(4),
    });
    let mut broken = Broken::new();
    for one in outcomes {
        if let Some((claim, words)) = judge(&one, flawed.contains(one.id.as_str())) {
            broken.entry(claim.to_owned()).or_default().push(words);
        }
    }
    broken
}

fn judge(one: &Outcome, is_flawed: bool) -> Option<Fault> {
    let words = || {
        let Outcome {
            id,
            state,
            cause,
            message,
            ..
        } = one;
        format!("{id} is {state} ({cause}): {message}")
    };
    if is_flawed {
        return one
            .pivoted
            .then(|| ("a broken release never has traffic", words()));
    }
    OWN.contains(&one.cause.as_str())
        .then(|| ("only a broken release fails by itself", words()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(cause: &str, pivoted: bool, is_flawed: bool) -> Option<&'static str> {
        let one = Outcome {
            cause: cause.to_owned(),
            pivoted,
            ..Outcome::default()
        };
        judge(&one, is_flawed).map(|(claim, _)| claim)
    }

    #[test]
    fn a_release_without_a_fault_ends_by_others_alone() {
        for cause in OWN {
            let fails = claim(cause, false, false);
            assert_eq!(
                fails,
                Some("only a broken release fails by itself"),
                "{cause}"
            );
            assert_eq!(claim(cause, true, false), fails, "{cause}");
        }
        for cause in ["", "cancelled", "aborted", "superseded", "preempted"] {
            assert_eq!(claim(cause, true, false), None, "{cause}");
        }
    }

    #[test]
    fn a_broken_release_may_fail_and_never_has_traffic() {
        assert_eq!(claim("verification", false, true), None);
        assert_eq!(claim("superseded", false, true), None);
        let had_traffic = claim("verification", true, true);
        assert_eq!(had_traffic, Some("a broken release never has traffic"));
    }
}
