//! Every SQL string about blobs.

use std::time::Duration;

use candlefish_clock::Moment;
use candlefish_ids::{Digest, ReleaseId};
use sqlx::PgConnection;

use crate::ctx::stored;

/// Rows written by one statement.
const AT_ONCE: usize = 5_000;

/// What a release that is to be counted was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// Not counted yet: the caller counts it in this transaction.
    First,
    Already,
    /// Its content is gone, or it is.
    Collected,
}

/// Locks a release and notes that it is counted.
pub(super) async fn note_named(
    conn: &mut PgConnection,
    now: Moment,
    release: ReleaseId,
) -> Result<Named, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT named_at IS NOT NULL AS "named!", collected_at IS NOT NULL AS "collected!"
           FROM release WHERE id = $1 FOR NO KEY UPDATE"#,
        release.uuid()
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(row) = row.filter(|row| !row.collected) else {
        return Ok(Named::Collected);
    };
    sqlx::query!(
        "UPDATE release SET named_at = $2 WHERE id = $1",
        release.uuid(),
        stored(now) as _
    )
    .execute(conn)
    .await?;
    Ok(if row.named {
        Named::Already
    } else {
        Named::First
    })
}

/// One release more names these blobs, in the order of their digests. Waits for whoever takes one of
/// them out of the store.
pub(super) async fn name(
    conn: &mut PgConnection,
    blobs: &[(Digest, u64)],
) -> Result<(), sqlx::Error> {
    for some in blobs.chunks(AT_ONCE) {
        let digests: Vec<Vec<u8>> = some.iter().map(|(digest, _)| bytes(digest)).collect();
        let sizes: Vec<i64> = some
            .iter()
            .map(|(_, size)| i64::try_from(*size).unwrap_or(i64::MAX))
            .collect();
        sqlx::query!(
            "INSERT INTO blob (digest, size, names)
             SELECT d, s, 1 FROM unnest($1::bytea[], $2::bigint[]) AS n (d, s) ORDER BY d
             ON CONFLICT (digest) DO UPDATE SET names = blob.names + 1, unnamed_since = NULL",
            &digests,
            &sizes
        )
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// One release less names these blobs.
pub(crate) async fn unname(
    conn: &mut PgConnection,
    now: Moment,
    blobs: &[(Digest, u64)],
) -> Result<(), sqlx::Error> {
    for some in blobs.chunks(AT_ONCE) {
        let digests: Vec<Vec<u8>> = some.iter().map(|(digest, _)| bytes(digest)).collect();
        sqlx::query!(
            "SELECT digest FROM blob WHERE digest = ANY($1) ORDER BY digest FOR NO KEY UPDATE",
            &digests
        )
        .fetch_all(&mut *conn)
        .await?;
        sqlx::query!(
            "UPDATE blob SET names = names - 1,
                 unnamed_since = CASE names WHEN 1 THEN $2::timestamptz END
             WHERE digest = ANY($1)",
            &digests,
            stored(now) as _
        )
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// A blob that is about to be uploaded, and then named, is not collected first.
pub(crate) async fn reprieve(conn: &mut PgConnection, digest: &Digest) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE blob SET unnamed_since = clock() WHERE digest = $1 AND unnamed_since IS NOT NULL",
        bytes(digest)
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Locks a blob, so that one at a time takes it out of the store.
pub(crate) async fn lock(conn: &mut PgConnection, digest: &Digest) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "SELECT names FROM blob WHERE digest = $1 FOR UPDATE",
        bytes(digest)
    )
    .fetch_optional(conn)
    .await?;
    Ok(())
}

/// Locks blobs that nothing has named for so long, and that nobody is about to name.
pub(crate) async fn lock_unnamed(
    conn: &mut PgConnection,
    after: Duration,
    limit: i64,
) -> Result<Vec<(Digest, u64)>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT digest, size FROM blob
         WHERE unnamed_since <= (SELECT clock()) - $1::bigint * interval '1 millisecond'
         ORDER BY unnamed_since LIMIT $2 FOR UPDATE SKIP LOCKED",
        i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let digest = Digest::from_bytes(row.digest.try_into().ok()?);
            Some((digest, u64::try_from(row.size).unwrap_or(0)))
        })
        .collect())
}

/// Forgets blobs that are no longer in the store. Their rows are locked.
pub(crate) async fn remove(
    conn: &mut PgConnection,
    blobs: &[(Digest, u64)],
) -> Result<(), sqlx::Error> {
    let digests: Vec<Vec<u8>> = blobs.iter().map(|(digest, _)| bytes(digest)).collect();
    sqlx::query!("DELETE FROM blob WHERE digest = ANY($1)", &digests)
        .execute(conn)
        .await?;
    Ok(())
}

fn bytes(digest: &Digest) -> Vec<u8> {
    digest.as_bytes().to_vec()
}
