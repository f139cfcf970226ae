//! Listing deployments: first which ones, by the index of each narrowing, then their rows. One
//! statement for all narrowings would be planned for none of them, and read a whole environment to
//! find the one that failed.

use candlefish_ids::{DeploymentId, EnvironmentId, SiteId};
use jiff_sqlx::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Deployment, Error, Row};

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everywhere.
    All,
    /// In these sites.
    Sites(Vec<SiteId>),
    Environment(SiteId, EnvironmentId),
}

/// Which deployments to list, newest first.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    pub(crate) scope: Scope,
    pub(crate) state: Option<Narrowing>,
    /// A whole one; empty for all.
    pub(crate) commit: String,
    /// Older than this one.
    pub(crate) before: Option<DeploymentId>,
    pub(crate) limit: i64,
}

/// A state to narrow to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Narrowing {
    /// The state's word.
    pub(crate) word: &'static str,
    pub(crate) terminal: bool,
}

/// Lists deployments, newest first.
pub(crate) async fn list(
    conn: &mut PgConnection,
    what: &Listing,
) -> Result<Vec<Deployment>, Error> {
    let before = what.before.map_or(Uuid::max(), DeploymentId::uuid);
    let ids = if what.commit.is_empty() {
        match &what.scope {
            Scope::All => in_all(conn, what, before).await?,
            Scope::Sites(sites) => in_sites(conn, sites, what, before).await?,
            Scope::Environment(site, environment) => {
                in_environment(conn, *site, *environment, what, before).await?
            }
        }
    } else {
        of_commit(conn, what, before).await?
    };
    let rows = select_deployment!("WHERE d.id = ANY($1) ORDER BY d.id DESC", &ids)
        .fetch_all(conn)
        .await?;
    Ok(rows
        .into_iter()
        .map(Deployment::try_from)
        .collect::<Result<_, _>>()?)
}

async fn in_all(
    conn: &mut PgConnection,
    what: &Listing,
    before: Uuid,
) -> Result<Vec<Uuid>, sqlx::Error> {
    match what.state {
        None => {
            sqlx::query_scalar!(
                "SELECT id FROM deployment WHERE id < $1 ORDER BY id DESC LIMIT $2",
                before,
                what.limit
            )
            .fetch_all(conn)
            .await
        }
        Some(state) => {
            sqlx::query_scalar!(
                "SELECT id FROM deployment WHERE state = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
                state.word,
                before,
                what.limit
            )
            .fetch_all(conn)
            .await
        }
    }
}

async fn in_sites(
    conn: &mut PgConnection,
    sites: &[SiteId],
    what: &Listing,
    before: Uuid,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let sites: Vec<Uuid> = sites.iter().map(|site| site.uuid()).collect();
    match what.state {
        None => {
            sqlx::query_scalar!(
                "SELECT l.id FROM unnest($1::uuid[]) AS o(id) CROSS JOIN LATERAL (
                     SELECT d.id FROM deployment d WHERE d.site_id = o.id AND d.id < $2
                     ORDER BY d.id DESC LIMIT $3) AS l
                 ORDER BY l.id DESC LIMIT $3",
                &sites,
                before,
                what.limit
            )
            .fetch_all(conn)
            .await
        }
        Some(state) if state.terminal => {
            sqlx::query_scalar!(
                "SELECT l.id FROM unnest($1::uuid[]) AS o(id) CROSS JOIN LATERAL (
                     SELECT d.id FROM deployment d WHERE d.site_id = o.id AND d.state = $4
                     AND d.finished_at IS NOT NULL AND d.id < $2
                     ORDER BY d.id DESC LIMIT $3) AS l
                 ORDER BY l.id DESC LIMIT $3",
                &sites,
                before,
                what.limit,
                state.word
            )
            .fetch_all(conn)
            .await
        }
        Some(state) => {
            sqlx::query_scalar!(
                "SELECT l.id FROM unnest($1::uuid[]) AS o(id) CROSS JOIN LATERAL (
                     SELECT d.id FROM deployment d WHERE d.site_id = o.id AND d.state = $4
                     AND d.finished_at IS NULL AND d.id < $2
                     ORDER BY d.id DESC LIMIT $3) AS l
                 ORDER BY l.id DESC LIMIT $3",
                &sites,
                before,
                what.limit,
                state.word
            )
            .fetch_all(conn)
            .await
        }
    }
}

async fn in_environment(
    conn: &mut PgConnection,
    site: SiteId,
    environment: EnvironmentId,
    what: &Listing,
    before: Uuid,
) -> Result<Vec<Uuid>, sqlx::Error> {
    match what.state {
        None => {
            sqlx::query_scalar!(
                "SELECT id FROM deployment WHERE environment_id = $1 AND id < $2
                 ORDER BY id DESC LIMIT $3",
                environment.uuid(),
                before,
                what.limit
            )
            .fetch_all(conn)
            .await
        }
        Some(state) if state.terminal => {
            sqlx::query_scalar!(
                "SELECT id FROM deployment
                 WHERE environment_id = $1 AND state = $4 AND finished_at IS NOT NULL AND id < $2
                 ORDER BY id DESC LIMIT $3",
                environment.uuid(),
                before,
                what.limit,
                state.word
            )
            .fetch_all(conn)
            .await
        }
        Some(state) => {
            sqlx::query_scalar!(
                "SELECT id FROM deployment
                 WHERE site_id = $5 AND environment_id = $1 AND state = $4 AND finished_at IS NULL
                   AND id < $2
                 ORDER BY id DESC LIMIT $3",
                environment.uuid(),
                before,
                what.limit,
                state.word,
                site.uuid()
            )
            .fetch_all(conn)
            .await
        }
    }
}

async fn of_commit(
    conn: &mut PgConnection,
    what: &Listing,
    before: Uuid,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let (sites, environment) = match &what.scope {
        Scope::All => return of_commit_anywhere(conn, what, before).await,
        Scope::Sites(sites) => (sites.clone(), None),
        Scope::Environment(site, environment) => (vec![*site], Some(environment.uuid())),
    };
    let sites: Vec<Uuid> = sites.iter().map(|site| site.uuid()).collect();
    // The releases first: one commit has few, and each was deployed a few times.
    sqlx::query_scalar!(
        "SELECT d.id FROM deployment d
         WHERE d.release_id = ANY(ARRAY(
                 SELECT r.id FROM release r
                 WHERE r.site_id = ANY($1) AND r.commit = $2 AND r.commit <> ''))
           AND ($3::uuid IS NULL OR d.environment_id = $3) AND ($4 = '' OR d.state = $4)
           AND d.id < $5
         ORDER BY d.id DESC LIMIT $6",
        &sites,
        what.commit,
        environment,
        what.state.map_or("", |state| state.word),
        before,
        what.limit
    )
    .fetch_all(conn)
    .await
}

/// The same on whatever site.
async fn of_commit_anywhere(
    conn: &mut PgConnection,
    what: &Listing,
    before: Uuid,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT d.id FROM deployment d
         WHERE d.release_id = ANY(ARRAY(
                 SELECT r.id FROM release r WHERE r.commit = $1 AND r.commit <> ''))
           AND ($2 = '' OR d.state = $2) AND d.id < $3
         ORDER BY d.id DESC LIMIT $4",
        what.commit,
        what.state.map_or("", |state| state.word),
        before,
        what.limit
    )
    .fetch_all(conn)
    .await
}
