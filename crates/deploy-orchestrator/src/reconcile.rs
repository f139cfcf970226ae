//! Compares what the routes say with what should be live, and corrects it.
//!
//! On our own edge the routes are the desired state, so drift is a route that a lost host, a new host
//! name or a hand in the database left wrong. Input-free and idempotent: it looks, makes a plan with a
//! reason for each item, and acts under the lane's lock after looking again.

pub(crate) mod store;

use std::fmt;

use candlefish_ids::EnvironmentId;
use candlefish_runtime::metrics::ROUTE_DRIFT;
use tokio_util::sync::CancellationToken;

use crate::{
    ctx::Ctx,
    deployment::Error,
    lane,
    route::{
        Spec, Weighted,
        store::{self as route_store, Place},
    },
    site::host,
    step::worker::chain,
};

/// Environments read at once.
const AT_ONCE: i64 = 500;

/// An environment at rest: nothing acts on its lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AtRest {
    pub(crate) environment_id: EnvironmentId,
    pub(crate) site: String,
    pub(crate) environment: String,
    /// The live release alone.
    pub(crate) live: Weighted,
    /// Its own host names, besides the one that the platform gives it.
    pub(crate) own_hosts: Vec<String>,
    /// What its routes serve: (host, releases).
    pub(crate) routes: Vec<(String, Vec<Weighted>)>,
}

/// A route that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drift {
    pub(crate) host: String,
    pub(crate) why: Why,
}

/// How a route is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Missing,
    ServesOther,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            Why::Missing => write!(f, "{} has no route", self.host),
            Why::ServesOther => write!(f, "{} serves something else", self.host),
        }
    }
}

/// What is wrong; pure.
pub(crate) fn plan(at_rest: &AtRest, domain: &str) -> Vec<Drift> {
    let given = host::of_environment(&at_rest.site, &at_rest.environment, domain);
    let hosts =
        std::iter::once(&given).chain(at_rest.own_hosts.iter().filter(|own| **own != given));
    hosts
        .filter_map(|host| {
            let route = at_rest.routes.iter().find(|(name, _)| name == host);
            let why = match route {
                None => Why::Missing,
                Some((_, releases)) if *releases != [at_rest.live.clone()] => Why::ServesOther,
                Some(_) => return None,
            };
            Some(Drift {
                host: host.clone(),
                why,
            })
        })
        .collect()
}

/// Reconciles until `stopping`.
pub(crate) async fn run(ctx: Ctx, stopping: CancellationToken) {
    let every = ctx.config.reconcile;
    while stopping
        .run_until_cancelled(tokio::time::sleep(every))
        .await
        .is_some()
    {
        if let Err(error) = all(&ctx).await {
            tracing::debug!(error = %chain(&error), "routes were not compared; the next turn does");
        }
    }
}

async fn all(ctx: &Ctx) -> Result<(), Error> {
    let mut after = None;
    loop {
        let mut conn = ctx.pool.acquire().await?;
        let page = store::list_at_rest(&mut conn, after, AT_ONCE).await?;
        drop(conn);
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(last.environment_id);
        for one in page {
            if plan(&one, &ctx.config.domain).is_empty() {
                continue;
            }
            // One environment that cannot be corrected must not keep the others.
            if let Err(error) = correct(ctx, one.environment_id).await {
                tracing::warn!(
                    environment.id = %one.environment_id, error = %chain(&error),
                    "drift was not corrected; the next turn tries again"
                );
            }
        }
    }
}

/// Looks again with the lane locked, and writes the routes that are wrong.
async fn correct(ctx: &Ctx, environment: EnvironmentId) -> Result<(), Error> {
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    lane::store::lock(&mut tx, environment).await?;
    let Some(one) = store::find_at_rest(&mut tx, environment).await? else {
        return Ok(());
    };
    let drift = plan(&one, &ctx.config.domain);
    if drift.is_empty() {
        return Ok(());
    }
    for item in &drift {
        tracing::warn!(
            environment.id = %environment, "{}/{} drifted: {item}; corrected",
            one.site, one.environment
        );
    }
    metrics::counter!(ROUTE_DRIFT).increment(1);
    let epoch = candlefish_messaging::epoch::current(&mut tx).await?;
    let hosts: Vec<String> = drift.into_iter().map(|item| item.host).collect();
    let place = Place {
        environment_id: Some(environment),
        deployment_id: None,
        site: &one.site,
        environment: &one.environment,
        noindex: one.environment != host::PRODUCTION,
    };
    let spec = Spec {
        releases: vec![one.live.clone()],
        ..Spec::default()
    };
    tx.moves_traffic();
    route_store::write(&mut tx, epoch, &hosts, place, &spec).await?;
    Ok(ctx.commit(tx).await?)
}

#[cfg(test)]
mod tests {
    use candlefish_ids::ReleaseId;

    use super::*;

    fn serves(release: ReleaseId) -> Weighted {
        Weighted {
            release,
            manifest: "m".to_owned(),
            weight: 100,
        }
    }

    #[test]
    fn every_host_must_serve_the_live_release_alone() {
        let (live, other) = (ReleaseId::new(), ReleaseId::new());
        let at_rest = AtRest {
            environment_id: EnvironmentId::new(),
            site: "docs".to_owned(),
            environment: "production".to_owned(),
            live: serves(live),
            own_hosts: vec!["docs.example.org".to_owned(), "old.example.org".to_owned()],
            routes: vec![
                ("docs.localhost".to_owned(), vec![serves(live)]),
                ("old.example.org".to_owned(), vec![serves(other)]),
            ],
        };
        let said: Vec<String> = plan(&at_rest, "localhost")
            .iter()
            .map(Drift::to_string)
            .collect();
        assert_eq!(
            said,
            [
                "docs.example.org has no route",
                "old.example.org serves something else"
            ]
        );
    }
}
