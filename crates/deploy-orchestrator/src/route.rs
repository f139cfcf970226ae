//! The route: what a host name serves.
//!
//! Rows of `deploy`, changed only in a transaction that holds the environment's lane, so that moving
//! traffic has no side effect outside Postgres. A route's version only rises; one taken away stays as
//! a row without releases. Edges follow by level: see [`table`] and the edge room. What they hold from
//! a database that was set back since is outrun by a new [`epoch`].

pub(crate) mod epoch;
pub(crate) mod store;
pub(crate) mod table;

use std::collections::HashMap;

use candlefish_ids::{EnvironmentId, ReleaseId};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::{deployment::Deployment, site::host};

/// A release and its share of a route's traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Weighted {
    pub(crate) release: ReleaseId,
    /// SHA-256 of its manifest, in hex.
    pub(crate) manifest: String,
    /// Percent.
    pub(crate) weight: i32,
}

/// A release whose assets stay reachable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Assets {
    pub(crate) release: ReleaseId,
    /// SHA-256 of its manifest, in hex.
    pub(crate) manifest: String,
}

/// What a route is to serve from now on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Spec {
    /// Weights sum to 100; empty takes the route away.
    pub(crate) releases: Vec<Weighted>,
    /// Newest first.
    pub(crate) assets_of: Vec<Assets>,
    /// Edges in `rolled_edges` serve the last release alone.
    pub(crate) rolling: bool,
    pub(crate) rolled_edges: Vec<String>,
    /// Those that serve the first alone; empty for all that are not in `rolled_edges`.
    pub(crate) waiting_edges: Vec<String>,
    /// A new generation begins: what visitors got so far is theirs to keep no more. So sticky visitors
    /// go back when traffic does.
    pub(crate) forgets: bool,
}

/// A version of a route that edges must reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Written {
    pub(crate) host: String,
    pub(crate) epoch: i32,
    pub(crate) version: i64,
}

/// All host names that visitors of a deployment's environment come by now, the platform's first.
pub(crate) async fn hosts(
    conn: &mut PgConnection,
    deployment: &Deployment,
    domain: &str,
) -> Result<Vec<String>, sqlx::Error> {
    let own = store::own_hosts(conn, deployment.environment_id).await?;
    let (site, environment) = (&deployment.site, &deployment.environment);
    Ok(host::all_of_environment(site, environment, domain, own))
}

/// The host names of several environments' own, besides the one that the platform gives each; those
/// without any are left out.
pub(crate) async fn list_own_hosts(
    conn: &mut PgConnection,
    environments: &[EnvironmentId],
) -> Result<HashMap<EnvironmentId, Vec<String>>, sqlx::Error> {
    store::list_own_hosts(conn, environments).await
}
