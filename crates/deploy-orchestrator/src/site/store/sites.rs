//! Every SQL string about a site's own row.

use std::time::Duration;

use candlefish_ids::SiteId;
use jiff_sqlx::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Error;
use crate::{
    ctx::{read, stored},
    site::{
        Site, Source,
        previews::{From, PreviewRule},
    },
};

struct SiteRow {
    id: Uuid,
    slug: String,
    name: String,
    repository: String,
    source: String,
    folder: String,
    created_at: Timestamp,
    created_by: String,
    preview_from: String,
    preview_max_age_ms: i64,
    version: i32,
}

impl std::convert::From<SiteRow> for Site {
    fn from(row: SiteRow) -> Self {
        Self {
            id: SiteId::from_uuid(row.id),
            slug: row.slug,
            name: row.name,
            repository: row.repository,
            source: Source::from_word(&row.source),
            folder: row.folder,
            created_at: read(row.created_at),
            created_by: row.created_by,
            previews: PreviewRule {
                from: From::of_word(&row.preview_from),
                max_age: Duration::from_millis(u64::try_from(row.preview_max_age_ms).unwrap_or(0)),
            },
            version: row.version,
        }
    }
}

/// False when the slug is taken.
pub(in crate::site) async fn insert_site(
    conn: &mut PgConnection,
    site: &Site,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        "INSERT INTO site (id, slug, name, repository, created_at, created_by, source, preview_from,
             preview_max_age_ms, version, folder)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT ON CONSTRAINT site_slug_unique DO NOTHING",
        site.id.uuid(),
        site.slug,
        site.name,
        site.repository,
        stored(site.created_at) as _,
        site.created_by,
        site.source.word(),
        site.previews.from.word(),
        millis(site.previews.max_age),
        site.version,
        site.folder
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whoever asks: see [`crate::site::find`].
pub(in crate::site) async fn find_site(
    conn: &mut PgConnection,
    slug: &str,
) -> Result<Option<Site>, Error> {
    let row = sqlx::query_as!(
        SiteRow,
        r#"SELECT id, slug, name, repository, created_at AS "created_at: Timestamp", created_by,
                  source, folder, preview_from, preview_max_age_ms, version
           FROM site WHERE slug = $1"#,
        slug
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(Site::from))
}

/// By slug; `only` are the slugs that may be seen, none of them all.
pub(in crate::site) async fn list_sites(
    conn: &mut PgConnection,
    only: &[String],
    after: &str,
    limit: i64,
) -> Result<Vec<Site>, Error> {
    let rows = sqlx::query_as!(
        SiteRow,
        r#"SELECT id, slug, name, repository, created_at AS "created_at: Timestamp", created_by,
                  source, folder, preview_from, preview_max_age_ms, version
           FROM site WHERE slug > $1 AND (cardinality($2::text[]) = 0 OR slug = ANY($2))
           ORDER BY slug LIMIT $3"#,
        after,
        only,
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Site::from).collect())
}

/// Locks a site against being changed meanwhile.
pub(in crate::site) async fn lock_site(conn: &mut PgConnection, id: SiteId) -> Result<Site, Error> {
    // Not against being referred to: environments and triggers are made as before.
    let row = sqlx::query_as!(
        SiteRow,
        r#"SELECT id, slug, name, repository, created_at AS "created_at: Timestamp", created_by,
                  source, folder, preview_from, preview_max_age_ms, version
           FROM site WHERE id = $1 FOR NO KEY UPDATE"#,
        id.uuid()
    )
    .fetch_one(conn)
    .await?;
    Ok(row.into())
}

/// Needs the site's lock.
pub(in crate::site) async fn save_site(
    conn: &mut PgConnection,
    site: &Site,
    by: &str,
) -> Result<(), Error> {
    // By another case it is the same repository.
    sqlx::query!(
        "UPDATE site SET name = $2, repository = $3, preview_from = $4, preview_max_age_ms = $5,
             version = $6,
             repository_by = CASE WHEN lower(repository) <> lower($3) THEN $7 ELSE repository_by END
         WHERE id = $1",
        site.id.uuid(),
        site.name,
        site.repository,
        site.previews.from.word(),
        millis(site.previews.max_age),
        site.version,
        by
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The ids of the sites of these slugs that exist.
pub(crate) async fn list_ids(
    conn: &mut PgConnection,
    slugs: &[String],
) -> Result<Vec<SiteId>, Error> {
    let ids = sqlx::query_scalar!("SELECT id FROM site WHERE slug = ANY($1)", slugs)
        .fetch_all(conn)
        .await?;
    Ok(ids.into_iter().map(SiteId::from_uuid).collect())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
