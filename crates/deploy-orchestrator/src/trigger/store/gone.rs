//! Every SQL string about branches that are gone.

use candlefish_ids::{DeliveryId, EnvironmentId, SiteId};
use sqlx::PgConnection;

/// An environment that follows a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::trigger) struct Following {
    pub(in crate::trigger) id: EnvironmentId,
    pub(in crate::trigger) slug: String,
}

/// The environments of a site that take pushes to this branch, by slug.
pub(in crate::trigger) async fn list_following(
    conn: &mut PgConnection,
    site: SiteId,
    branch: &str,
) -> Result<Vec<Following>, sqlx::Error> {
    // No rule is the empty branch, and a body may name that one.
    let rows = sqlx::query!(
        "SELECT id, slug FROM environment
         WHERE site_id = $1 AND kind = 'standard' AND push_branch = $2 AND push_branch <> ''
         ORDER BY slug",
        site.uuid(),
        branch
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Following {
            id: EnvironmentId::from_uuid(row.id),
            slug: row.slug,
        })
        .collect())
}

/// Whether a delivery has a trigger anywhere at a site.
pub(in crate::trigger) async fn is_decided_at_site(
    conn: &mut PgConnection,
    delivery: DeliveryId,
    site: SiteId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM trigger
                          WHERE delivery_id = $1 AND site_id = $2) AS "decided!""#,
        delivery.uuid(),
        site.uuid()
    )
    .fetch_one(conn)
    .await
}
