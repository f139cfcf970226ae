//! The independent checker: reads the databases and the edges, never the services, and says which
//! invariants of `docs/ARCHITECTURE.md` were broken, in words.
//!
//! [`database`], [`blame()`], [`edges()`] and [`told()`] judge a run that is over; [`moment()`] judges one that goes on,
//! and [`so_far`] one that broke off.

use std::collections::{BTreeMap, BTreeSet};

use candlefish_ids::DeploymentId;
use sqlx::{Connection, PgConnection, Row};

mod blame;
mod edges;
mod events;
mod history;
mod moment;
mod pushes;
mod questions;
mod told;
mod weather;

pub use blame::blame;
pub use edges::{Edge, edges};
pub use moment::{Patience, moment};
pub use pushes::{Pushed, SHOWN, pushes, shown};
pub use told::{Told, is_committed, is_kept, told};
pub use weather::{Storm, Weather};

/// What is wrong, in words, by the claim that does not hold; empty when all holds.
pub type Broken = BTreeMap<String, Vec<String>>;

/// A claim that does not hold, and why not.
pub type Fault = (&'static str, String);

/// Everything that the database says is wrong at the end of a run.
///
/// # Panics
///
/// When the database does not answer: there is nothing to judge then.
pub async fn database(url: &str) -> Broken {
    let mut connection = connect(url).await;
    let mut broken = questions::ask(&mut connection).await;
    let faults = [
        history::judge(&mut connection).await,
        events::judge(&mut connection).await,
    ];
    for (claim, words) in faults.into_iter().flatten() {
        broken.entry(claim.to_owned()).or_default().push(words);
    }
    broken
}

/// What may not be at any moment, of all that [`database`] asks: of a run that did not come to its end.
///
/// # Panics
///
/// When the database does not answer.
pub async fn so_far(url: &str) -> Broken {
    questions::ask_always(&mut connect(url).await).await
}

/// Compares what was accepted with what is there, both ways.
///
/// # Panics
///
/// When the database does not answer.
pub async fn accepted(url: &str, ids: &[String]) -> Broken {
    let rows = sqlx::query("SELECT id FROM deploy.deployment")
        .fetch_all(&mut connect(url).await)
        .await
        .expect("the deployments are read");
    let there: BTreeSet<String> = rows
        .iter()
        .map(|row| DeploymentId::from_uuid(row.get(0)).to_string())
        .collect();
    let accepted: BTreeSet<String> = ids.iter().cloned().collect();
    let differ: Vec<String> = accepted.symmetric_difference(&there).cloned().collect();
    if differ.is_empty() {
        return Broken::new();
    }
    Broken::from([("what was accepted is what is there".to_owned(), differ)])
}

/// Counts deployments by their terminal state, and those that ever had traffic.
///
/// # Panics
///
/// When the database does not answer.
pub async fn counts(url: &str) -> BTreeMap<String, i64> {
    let rows = sqlx::query(
        "SELECT state, count(*) FROM deploy.deployment GROUP BY state
         UNION ALL SELECT 'pivoted', count(*) FROM deploy.deployment WHERE pivoted_at IS NOT NULL",
    )
    .fetch_all(&mut connect(url).await)
    .await
    .expect("the deployments are counted");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url)
        .await
        .expect("the database answers")
}
