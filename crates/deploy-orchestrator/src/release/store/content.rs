//! Whether a release's content is whole.

use candlefish_clock::Moment;
use candlefish_ids::ReleaseId;
use sqlx::PgConnection;

use crate::ctx::stored;

/// What became of a release that was to be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::release) enum Sealing {
    Done,
    /// Another call was faster.
    Already,
    /// Nothing counts its blobs any more: they must be looked for anew.
    Uncounted,
}

/// Freezes a draft whose blobs are counted.
pub(in crate::release) async fn seal(
    conn: &mut PgConnection,
    now: Moment,
    id: ReleaseId,
    files: usize,
    bytes: u64,
) -> Result<Sealing, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE release SET state = 'sealed', sealed_at = $2, file_count = $3, byte_count = $4,
             collect_due_at = $2
         WHERE id = $1 AND state = 'draft' AND named_at IS NOT NULL",
        id.uuid(),
        stored(now) as _,
        i32::try_from(files).unwrap_or(i32::MAX),
        i64::try_from(bytes).unwrap_or(i64::MAX)
    )
    .execute(&mut *conn)
    .await?;
    if done.rows_affected() == 1 {
        return Ok(Sealing::Done);
    }
    let already = sqlx::query_scalar!(
        r#"SELECT state = 'sealed' AND collected_at IS NULL AS "already!" FROM release WHERE id = $1"#,
        id.uuid()
    )
    .fetch_one(conn)
    .await?;
    Ok(if already {
        Sealing::Already
    } else {
        Sealing::Uncounted
    })
}

/// What was fetched or staged of a release was not what its manifest names.
pub(crate) async fn suspect(
    conn: &mut PgConnection,
    now: Moment,
    id: ReleaseId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE release SET suspect_since = $2 WHERE id = $1 AND suspect_since IS NULL",
        id.uuid(),
        stored(now) as _
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// All content was read, and is what the manifest names.
pub(in crate::release) async fn trust(
    conn: &mut PgConnection,
    id: ReleaseId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE release SET suspect_since = NULL WHERE id = $1",
        id.uuid()
    )
    .execute(conn)
    .await?;
    Ok(())
}
