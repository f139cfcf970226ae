//! Every SQL string that shows triggers.

use candlefish_ids::{DeliveryId, DeploymentId, TriggerId};
use jiff_sqlx::Timestamp;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::super::view::{OfDeployment, Shown};
use crate::{
    ctx::read,
    lane::{kept::Kept, store::select_kept},
};

/// What triggers are found by.
#[derive(Debug, Clone, Copy)]
pub(in crate::trigger) enum By<'a> {
    Delivery(DeliveryId),
    /// The first digits of a commit; in a site by its slug, or in all when that is empty.
    Commit {
        commit: &'a str,
        site: &'a str,
    },
    /// The slug of a site.
    Site(&'a str),
}

/// Which triggers to list.
#[derive(Debug)]
pub(in crate::trigger) struct Asked<'a> {
    pub(in crate::trigger) by: By<'a>,
    /// The slugs that the caller may see; none for all.
    pub(in crate::trigger) sites: &'a [String],
    pub(in crate::trigger) before: Option<Uuid>,
    pub(in crate::trigger) limit: i64,
}

struct Row {
    id: Uuid,
    delivery_id: Uuid,
    repository: String,
    branch: String,
    commit: String,
    sender: String,
    site: String,
    environment: String,
    outcome: String,
    reason: String,
    message: String,
    received_at: Timestamp,
    created_at: Timestamp,
    event: String,
    pull_request: Option<i32>,
    deployment_id: Option<Uuid>,
    state: String,
    said: String,
    superseded_by: Option<Uuid>,
    live: bool,
    live_deployment_id: Option<Uuid>,
    later: Option<Uuid>,
    closed: bool,
    kept: Json<Kept>,
}

/// The one reading of triggers, for each way to find them.
macro_rules! select_triggers {
    ($rest:literal, $($argument:expr),+) => {
        select_kept!(
            [query_as! Row,]
            r#"SELECT t.id, t.delivery_id, t.repository, t.branch, t.commit, t.sender,
                      coalesce(s.slug, '') AS "site!", coalesce(e.slug, '') AS "environment!",
                      t.outcome, t.reason, t.message, t.received_at AS "received_at: Timestamp",
                      t.created_at AS "created_at: Timestamp", t.event, t.pull_request,
                      t.deployment_id,
                      coalesce(d.state, '') AS "state!", coalesce(d.message, '') AS "said!",
                      d.superseded_by,
                      -- Other content of the commit counts, but not what may be of no commit.
                      coalesce((SELECT l.id = d.release_id
                                       OR (l.commit = t.commit AND l.commit <> '' AND NOT l.dirty)
                                FROM release l WHERE l.id = e.live_release_id), false) AS "live!",
                      e.live_deployment_id,
                      -- All of a commit's, which are few: a limit might have its environment read.
                      CASE WHEN d.state IN ('failed', 'cancelled', 'rolled_back', 'superseded') THEN (
                          SELECT (array_agg(k.id ORDER BY k.admission DESC))[1]
                          FROM release l JOIN deployment k ON k.release_id = l.id
                          WHERE l.site_id = d.site_id AND l.commit = t.commit AND l.commit <> ''
                            AND NOT l.dirty AND k.environment_id = d.environment_id
                            AND k.state = 'succeeded' AND k.admission > d.admission)
                          END AS "later?",
                      e.closed_at IS NOT NULL AS "closed!", "#,
            [
                "FROM trigger t
                 LEFT JOIN site s ON s.id = t.site_id
                 LEFT JOIN environment e ON e.id = t.environment_id
                 LEFT JOIN deployment d ON d.id = t.deployment_id ",
                $rest
            ],
            $($argument),+
        )
    };
}

/// Newest first. What belongs to no site is for those who see all.
pub(in crate::trigger) async fn list(
    conn: &mut PgConnection,
    asked: &Asked<'_>,
) -> Result<Vec<Shown>, sqlx::Error> {
    let rows = match asked.by {
        By::Delivery(id) => list_of_delivery(conn, asked, id).await?,
        By::Commit { commit, site } => list_of_commit(conn, asked, commit, site).await?,
        By::Site(site) => list_of_site(conn, asked, site).await?,
    };
    Ok(rows.into_iter().map(Shown::from).collect())
}

/// The constraint that lets a delivery have one trigger in a place is their index.
async fn list_of_delivery(
    conn: &mut PgConnection,
    asked: &Asked<'_>,
    id: DeliveryId,
) -> Result<Vec<Row>, sqlx::Error> {
    select_triggers!(
        "WHERE t.delivery_id = $1
           AND (cardinality($2::text[]) = 0 OR s.slug = ANY($2)) AND t.id < $3
         ORDER BY t.id DESC LIMIT $4",
        id.uuid(),
        asked.sites,
        asked.before(),
        asked.limit
    )
    .fetch_all(conn)
    .await
}

async fn list_of_site(
    conn: &mut PgConnection,
    asked: &Asked<'_>,
    site: &str,
) -> Result<Vec<Row>, sqlx::Error> {
    select_triggers!(
        "WHERE t.site_id = (SELECT id FROM site WHERE slug = $1)
               AND (cardinality($2::text[]) = 0 OR $1 = ANY($2)) AND t.id < $3
             ORDER BY t.id DESC LIMIT $4",
        site,
        asked.sites,
        asked.before(),
        asked.limit
    )
    .fetch_all(conn)
    .await
}

async fn list_of_commit(
    conn: &mut PgConnection,
    asked: &Asked<'_>,
    commit: &str,
    site: &str,
) -> Result<Vec<Row>, sqlx::Error> {
    // No hex digit comes after `f`: this is every commit that begins so.
    select_triggers!(
        "WHERE t.commit >= $1 AND t.commit < $1 || 'g' AND t.commit <> ''
               AND ($2 = '' OR s.slug = $2)
               AND (cardinality($3::text[]) = 0 OR s.slug = ANY($3))
               AND t.id < $4
             ORDER BY t.id DESC LIMIT $5",
        commit,
        site,
        asked.sites,
        asked.before(),
        asked.limit
    )
    .fetch_all(conn)
    .await
}

impl Asked<'_> {
    fn before(&self) -> Uuid {
        self.before.unwrap_or_else(Uuid::max)
    }
}

impl From<Row> for Shown {
    fn from(row: Row) -> Self {
        // Another one's deployment only says why this made none.
        let kept = if row.outcome == "created" {
            row.kept.0.told()
        } else {
            Vec::new()
        };
        Self {
            id: TriggerId::from_uuid(row.id),
            delivery_id: DeliveryId::from_uuid(row.delivery_id),
            repository: row.repository,
            branch: row.branch,
            commit: row.commit,
            sender: row.sender,
            site: row.site,
            environment: row.environment,
            outcome: row.outcome,
            reason: row.reason,
            message: row.message,
            received_at: read(row.received_at),
            created_at: read(row.created_at),
            event: row.event,
            pull_request: row.pull_request,
            deployment: row.deployment_id.map(|id| OfDeployment {
                id: Some(DeploymentId::from_uuid(id)),
                state: row.state,
                message: row.said,
                superseded_by: row.superseded_by.map(DeploymentId::from_uuid),
                live: row.live,
                live_by: row.live_deployment_id.map(DeploymentId::from_uuid),
                later: row.later.map(DeploymentId::from_uuid),
                closed: row.closed,
                kept,
            }),
        }
    }
}
