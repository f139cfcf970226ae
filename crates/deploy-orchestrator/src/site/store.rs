//! Every SQL string about sites and environments.

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId, SiteId};
use candlefish_runtime::{
    database,
    refusal::{Code, Refusal},
};
use jiff_sqlx::Timestamp;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::{Closing, Environment, Hold, Kind, Live, policy::Policy, pushes::PushRule};
use crate::{
    ctx::{read, stored},
    stop::{Standing, Stop},
};

mod sites;

pub(crate) use sites::list_ids;
pub(super) use sites::{find_site, insert_site, list_sites, lock_site, save_site};

/// Why a row could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// A row that no command could have written.
    #[error("environment {id} has an impossible {column}")]
    Inconsistent {
        id: EnvironmentId,
        column: &'static str,
    },
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Sql(source) => database::refuse("read or write a site", &source),
            Error::Inconsistent { .. } => {
                Self::new(Code::Internal, "inconsistent-row", error.to_string())
            }
        }
    }
}

struct EnvironmentRow {
    id: Uuid,
    site_id: Uuid,
    site: String,
    slug: String,
    kind: String,
    policy: serde_json::Value,
    push_branch: String,
    push_paths: Vec<String>,
    hosts: Vec<String>,
    live_release_id: Option<Uuid>,
    live_deployment_id: Option<Uuid>,
    live_since: Option<Timestamp>,
    hold_since: Option<Timestamp>,
    hold_by: Option<String>,
    hold_reason: Option<String>,
    hold_deployment_id: Option<Uuid>,
    stops: Json<Vec<Standing>>,
    acting: Option<Uuid>,
    pending_count: i64,
    not_restorable: String,
    restorable_checked_at: Option<Timestamp>,
    version: i32,
    closed_at: Option<Timestamp>,
    closed_by: String,
    close_reason: String,
    pull_request: Option<i32>,
}

impl TryFrom<EnvironmentRow> for Environment {
    type Error = Error;

    fn try_from(row: EnvironmentRow) -> Result<Self, Error> {
        let id = EnvironmentId::from_uuid(row.id);
        let impossible = |column| Error::Inconsistent { id, column };
        Ok(Self {
            id,
            site_id: SiteId::from_uuid(row.site_id),
            site: row.site,
            slug: row.slug,
            kind: match (row.kind.as_str(), row.pull_request) {
                ("standard", _) => Kind::Standard,
                ("preview", None) => Kind::Preview,
                ("preview", Some(number)) => Kind::PullRequest(number),
                _ => return Err(impossible("kind")),
            },
            policy: serde_json::from_value(row.policy)
                .ok()
                .ok_or_else(|| impossible("policy"))?,
            pushes: PushRule {
                branch: row.push_branch,
                paths: row.push_paths,
            },
            hosts: row.hosts,
            live: row
                .live_release_id
                .zip(row.live_since)
                .map(|(release, since)| Live {
                    release_id: ReleaseId::from_uuid(release),
                    deployment_id: row.live_deployment_id.map(DeploymentId::from_uuid),
                    since: read(since),
                }),
            hold: row.hold_since.zip(row.hold_by).zip(row.hold_reason).map(
                |((since, by), reason)| Hold {
                    since: read(since),
                    by,
                    reason,
                    deployment_id: row.hold_deployment_id.map(DeploymentId::from_uuid),
                },
            ),
            stops: row.stops.0.into_iter().map(Stop::from).collect(),
            acting: row.acting.map(DeploymentId::from_uuid),
            pending_count: row.pending_count,
            not_restorable: row.not_restorable,
            restorable_checked_at: row.restorable_checked_at.map(read),
            version: row.version,
            closed: row.closed_at.map(|since| Closing {
                since: read(since),
                by: row.closed_by,
                reason: row.close_reason,
            }),
        })
    }
}

/// The one reading of an environment, for each way to find it.
macro_rules! select_environment {
    ($rest:literal, $($argument:expr),+) => {
        sqlx::query_as!(
            EnvironmentRow,
            r#"SELECT e.id, e.site_id, s.slug AS site, e.slug, e.kind, e.policy,
                      e.push_branch, e.push_paths,
                      ARRAY(SELECT h.host FROM environment_host h
                            WHERE h.environment_id = e.id ORDER BY h.host) AS "hosts!",
                      e.live_release_id, e.live_deployment_id,
                      e.live_since AS "live_since: Timestamp",
                      e.hold_since AS "hold_since: Timestamp", e.hold_by, e.hold_reason,
                      e.hold_deployment_id,
                      (SELECT COALESCE(jsonb_agg(jsonb_build_object('id', t.id,
                              'pauses', t.pauses, 'reason', t.reason, 'since', t.set_at,
                              'by', t.set_by, 'until', t.until,
                              'site', CASE WHEN t.site_id IS NOT NULL THEN s.slug END)
                              ORDER BY t.until DESC), '[]')
                       FROM stop t WHERE t.ended_at IS NULL AND t.until > (SELECT clock())
                       AND (t.site_id = e.site_id OR t.site_id IS NULL))
                          AS "stops!: Json<Vec<Standing>>",
                      (SELECT d.id FROM deployment d WHERE d.environment_id = e.id
                       AND d.state IN ('running', 'waiting', 'cancelling')) AS acting,
                      (SELECT count(*) FROM deployment d WHERE d.environment_id = e.id
                       AND d.state = 'pending') AS "pending_count!",
                      e.not_restorable,
                      e.restorable_checked_at AS "restorable_checked_at: Timestamp", e.version,
                      e.closed_at AS "closed_at: Timestamp", e.closed_by, e.close_reason,
                      e.pull_request
               FROM environment e JOIN site s ON s.id = e.site_id "# + $rest,
            $($argument),+
        )
    };
}

/// Whoever asks: see [`super::find_environment`].
pub(super) async fn find_environment(
    conn: &mut PgConnection,
    site: &str,
    slug: &str,
) -> Result<Option<Environment>, Error> {
    select_environment!("WHERE s.slug = $1 AND e.slug = $2", site, slug)
        .fetch_optional(conn)
        .await?
        .map(Environment::try_from)
        .transpose()
}

/// Those of these (site, environment) that exist, whoever asks.
pub(crate) async fn list_by_slugs(
    conn: &mut PgConnection,
    sites: &[String],
    slugs: &[String],
) -> Result<Vec<Environment>, Error> {
    select_environment!(
        // One by one, each by the whole key: joined, all environments of a site are read for each.
        "WHERE e.id = ANY(ARRAY(
             SELECT (SELECT x.id FROM site y JOIN environment x ON x.site_id = y.id
                     WHERE y.slug = n.site AND x.slug = n.slug)
             FROM unnest($1::text[], $2::text[]) AS n (site, slug)))",
        sites,
        slugs
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(Environment::try_from)
    .collect()
}

/// An environment that is known to exist.
pub(crate) async fn load_environment(
    conn: &mut PgConnection,
    id: EnvironmentId,
) -> Result<Environment, Error> {
    select_environment!("WHERE e.id = $1", id.uuid())
        .fetch_one(conn)
        .await?
        .try_into()
}

/// By slug, after one.
pub(super) async fn list_environments(
    conn: &mut PgConnection,
    site: SiteId,
    include_previews: bool,
    after: &str,
    limit: i64,
) -> Result<Vec<Environment>, Error> {
    let rows = if include_previews {
        select_environment!(
            "WHERE e.site_id = $1 AND e.slug > $2 ORDER BY e.slug LIMIT $3",
            site.uuid(),
            after,
            limit
        )
        .fetch_all(conn)
        .await?
    } else {
        // Apart, because a site may have thousands of previews and an index without them.
        select_environment!(
            "WHERE e.site_id = $1 AND e.kind = 'standard' AND e.slug > $2
             ORDER BY e.slug LIMIT $3",
            site.uuid(),
            after,
            limit
        )
        .fetch_all(conn)
        .await?
    };
    rows.into_iter().map(Environment::try_from).collect()
}

/// As many as fit into a sentence.
pub(super) async fn list_standard_slugs(
    conn: &mut PgConnection,
    site: SiteId,
) -> Result<Vec<String>, Error> {
    let slugs = sqlx::query_scalar!(
        "SELECT slug FROM environment WHERE site_id = $1 AND kind = 'standard'
         ORDER BY slug LIMIT 20",
        site.uuid()
    )
    .fetch_all(conn)
    .await?;
    Ok(slugs)
}

/// An environment to insert; its lane comes with it, from the lane's own room.
#[derive(Debug)]
pub(crate) struct NewEnvironment<'a> {
    pub(crate) id: EnvironmentId,
    pub(crate) site: SiteId,
    pub(crate) slug: &'a str,
    pub(crate) kind: Kind,
    pub(crate) policy: &'a Policy,
    pub(crate) pushes: &'a PushRule,
    pub(crate) created_by: &'a str,
}

/// False when the site has one of this slug.
pub(crate) async fn insert_environment(
    conn: &mut PgConnection,
    now: Moment,
    new: &NewEnvironment<'_>,
) -> Result<bool, Error> {
    let (kind, pull_request) = match new.kind {
        Kind::Standard => ("standard", None),
        Kind::Preview => ("preview", None),
        Kind::PullRequest(number) => ("preview", Some(number)),
    };
    let done = sqlx::query!(
        "INSERT INTO environment (id, site_id, slug, kind, policy, created_at, created_by,
             push_branch, push_paths, pull_request)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT ON CONSTRAINT environment_slug_unique DO NOTHING",
        new.id.uuid(),
        new.site.uuid(),
        new.slug,
        kind,
        policy_json(new.id, new.policy)?,
        stored(now) as _,
        new.created_by,
        new.pushes.branch,
        &new.pushes.paths,
        pull_request
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// False when another environment has the host.
pub(super) async fn insert_host(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    host: &str,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        "INSERT INTO environment_host (host, environment_id) VALUES ($1, $2)
         ON CONFLICT ON CONSTRAINT environment_host_unique DO NOTHING",
        host,
        environment.uuid()
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Needs the lane's lock.
pub(super) async fn save_rules(
    conn: &mut PgConnection,
    id: EnvironmentId,
    policy: &Policy,
    pushes: &PushRule,
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE environment SET policy = $2, push_branch = $3, push_paths = $4,
             version = version + 1
         WHERE id = $1",
        id.uuid(),
        policy_json(id, policy)?,
        pushes.branch,
        &pushes.paths
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Sets the hold, or lifts it. Needs the lane's lock.
pub(crate) async fn save_hold(
    conn: &mut PgConnection,
    id: EnvironmentId,
    hold: Option<&Hold>,
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE environment SET hold_since = $2, hold_by = $3, hold_reason = $4,
                hold_deployment_id = $5, version = version + 1
         WHERE id = $1",
        id.uuid(),
        hold.map(|hold| stored(hold.since)) as _,
        hold.map(|hold| hold.by.as_str()),
        hold.map(|hold| hold.reason.as_str()),
        hold.and_then(|hold| hold.deployment_id)
            .map(DeploymentId::uuid)
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn policy_json(id: EnvironmentId, policy: &Policy) -> Result<serde_json::Value, Error> {
    serde_json::to_value(policy)
        .ok()
        .ok_or(Error::Inconsistent {
            id,
            column: "policy",
        })
}
