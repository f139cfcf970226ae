//! The one epoch of a schema: it rises when the database is not the one it was.
//!
//! After a restore to an earlier moment, numbers that were given out exist again with another
//! meaning. Postgres then runs under another system identifier or on another timeline; a failover
//! looks the same and costs only duplicates. The check reads both from the server itself, so every
//! caller that grants, claims, routes or publishes by the epoch asks [`current`] first, or asks in the
//! statement that needs it, by [`crate::query_with_epoch`].

use sqlx::{Connection, PgConnection};

/// By how much an epoch may be ahead of the clock's minute, of which it is made: each that begins within
/// one minute is one above the last, and after a failover the clock is another server's.
const MOST_AHEAD: i32 = 60;

/// A checked query that asks for the epoch as well, between two parts of its text: there it reads from
/// `asked`, which has one row with the `epoch` that was written down, and whether the database has
/// `moved` since. Where it has, that epoch says nothing: the caller writes nothing by it, calls
/// [`crate::epoch::current`], and asks again.
#[macro_export]
macro_rules! query_with_epoch {
    ($before:literal, $after:literal $(, $argument:expr)*) => {
        // The limit says to the planner that it is one row.
        sqlx::query!(
            $before
                + "(SELECT r.epoch, (r.system_identifier, r.timeline) IS DISTINCT FROM
                       (c.system_identifier,
                        left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)) AS moved
                    FROM relay r, pg_control_system() c LIMIT 1) AS asked "
                + $after
            $(, $argument)*
        )
    };
}

/// The epoch, after a check that the database is the one it was; bumps it when it is not.
pub async fn current(conn: &mut PgConnection) -> Result<i32, sqlx::Error> {
    let row = query_with_epoch!(
        r#"SELECT asked.epoch AS "epoch!", asked.moved AS "moved!" FROM "#,
        ""
    )
    .fetch_one(&mut *conn)
    .await?;
    if !row.moved {
        return Ok(row.epoch);
    }
    let (epoch, begun) = begin(conn, row.epoch).await?;
    if begun {
        tracing::warn!(
            from = row.epoch,
            to = epoch,
            "the database is another than before: beginning a new epoch"
        );
    }
    Ok(epoch)
}

/// The greatest epoch that a peer can know. What names a later one was made up, and must not move ours:
/// a few of those, and there would be no number above.
pub async fn most(conn: &mut PgConnection) -> Result<i32, sqlx::Error> {
    let minute =
        sqlx::query_scalar!(r#"SELECT (extract(epoch FROM clock()) / 60)::int AS "minute!""#)
            .fetch_one(conn)
            .await?;
    Ok(minute.saturating_add(MOST_AHEAD))
}

/// Begins a new epoch above `seen`, unless one holds already; answers the epoch that holds. For a
/// database that moved, and for a peer that turned out to be ahead of us: it has seen numbers that
/// this database never gave.
///
/// What was stamped and not yet published gets new numbers: a peer may know the old ones by another
/// fact.
pub async fn bump(conn: &mut PgConnection, seen: i32) -> Result<i32, sqlx::Error> {
    let (epoch, _begun) = begin(conn, seen).await?;
    Ok(epoch)
}

/// The epoch that holds, and whether it began here.
async fn begin(conn: &mut PgConnection, seen: i32) -> Result<(i32, bool), sqlx::Error> {
    let mut tx = conn.begin().await?;
    // The lock comes first, in a statement of its own: what a relay stamped until then must be
    // visible to the next one.
    let row = sqlx::query!("SELECT epoch, published_upto FROM relay FOR UPDATE")
        .fetch_one(&mut *tx)
        .await?;
    if row.epoch > seen {
        tx.commit().await?;
        return Ok((row.epoch, false));
    }
    sqlx::query!(
        "UPDATE outbox SET epoch = NULL, seq = NULL WHERE epoch = $1 AND seq > $2",
        row.epoch,
        row.published_upto
    )
    .execute(&mut *tx)
    .await?;
    // The minute of the bump, not the next number: a database restored to before an earlier bump
    // would otherwise give out that one's epoch a second time.
    let epoch = sqlx::query_scalar!(
        "UPDATE relay SET epoch = greatest($1, (extract(epoch FROM clock()) / 60)::int),
             next_seq = 1, published_upto = 0,
             system_identifier = c.system_identifier,
             timeline = left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
         FROM pg_control_system() c RETURNING epoch",
        seen.saturating_add(1)
    )
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok((epoch, true))
}
