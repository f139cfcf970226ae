//! What becomes of a release that is there already when it is begun once more.

use candlefish_clock::Moment;
use candlefish_ids::SiteId;
use sqlx::PgConnection;

use crate::{ctx::stored, release::create::Create};

/// Makes a collected release a draft again, whose content is to be uploaded.
pub(super) async fn revive(
    conn: &mut PgConnection,
    site: SiteId,
    cmd: &Create,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE release SET state = 'draft', sealed_at = NULL, collected_at = NULL,
             revivals = revivals + 1
         WHERE site_id = $1 AND manifest_digest = $2 AND commit = $3 AND collected_at IS NOT NULL",
        site.uuid(),
        cmd.manifest.as_bytes().as_slice(),
        cmd.commit
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// What was begun from a tree with changes of its own is the commit's, once somebody who answers for the
/// commit begins the same content: so a push of it is told as live, and waits for nothing else.
pub(super) async fn vouch(
    conn: &mut PgConnection,
    now: Moment,
    site: SiteId,
    cmd: &Create,
) -> Result<bool, sqlx::Error> {
    if cmd.dirty {
        return Ok(false);
    }
    let done = sqlx::query!(
        "UPDATE release SET dirty = false, vouched_at = $4
         WHERE site_id = $1 AND manifest_digest = $2 AND commit = $3 AND commit <> '' AND dirty",
        site.uuid(),
        cmd.manifest.as_bytes().as_slice(),
        cmd.commit,
        stored(now) as _
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}
