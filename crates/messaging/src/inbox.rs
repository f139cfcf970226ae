//! What a consumer applied: everything up to a number, and single numbers beyond it.
//!
//! The row of the number is locked first, so that two replicas of a consumer apply one batch after
//! the other; `inbox` holds only what came before others did, and stays small.

use std::collections::{BTreeSet, HashSet};

use sqlx::PgConnection;

/// How far a consumer is with a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// 0 before the first contact.
    pub(crate) epoch: i32,
    /// Everything up to this number is applied.
    pub(crate) upto: i64,
}

impl Place {
    /// Whether the consumer was never in contact with the source.
    pub(crate) const fn is_beginning(self) -> bool {
        self.epoch == 0
    }
}

/// Reads the place without locking it.
pub(crate) async fn find(
    conn: &mut PgConnection,
    consumer: &str,
    source: &str,
) -> Result<Place, sqlx::Error> {
    let place = sqlx::query_as!(
        Place,
        "SELECT epoch, upto FROM inbox_upto WHERE consumer = $1 AND source = $2",
        consumer,
        source
    )
    .fetch_optional(conn)
    .await?;
    Ok(place.unwrap_or(Place { epoch: 0, upto: 0 }))
}

/// Locks the place until the transaction ends.
pub(crate) async fn lock(
    conn: &mut PgConnection,
    consumer: &str,
    source: &str,
) -> Result<Place, sqlx::Error> {
    sqlx::query!(
        "INSERT INTO inbox_upto (consumer, source, epoch, upto) VALUES ($1, $2, 0, 0)
         ON CONFLICT DO NOTHING",
        consumer,
        source
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query_as!(
        Place,
        "SELECT epoch, upto FROM inbox_upto WHERE consumer = $1 AND source = $2 FOR UPDATE",
        consumer,
        source
    )
    .fetch_one(conn)
    .await
}

/// The numbers beyond the locked place that are applied already.
pub(crate) async fn beyond(
    conn: &mut PgConnection,
    consumer: &str,
    source: &str,
    place: Place,
) -> Result<HashSet<i64>, sqlx::Error> {
    let seqs = sqlx::query_scalar!(
        "SELECT seq FROM inbox WHERE consumer = $1 AND source = $2 AND epoch = $3 AND seq > $4",
        consumer,
        source,
        place.epoch,
        place.upto
    )
    .fetch_all(conn)
    .await?;
    Ok(seqs.into_iter().collect())
}

/// Records what was applied under the lock; answers the new place.
pub(crate) async fn record(
    conn: &mut PgConnection,
    consumer: &str,
    source: &str,
    place: Place,
    beyond: &HashSet<i64>,
    applied: &[i64],
) -> Result<Place, sqlx::Error> {
    let (upto, left) = settle(place.upto, beyond.iter().chain(applied).copied());
    let new: Vec<i64> = left
        .into_iter()
        .filter(|seq| !beyond.contains(seq))
        .collect();
    if !new.is_empty() {
        sqlx::query!(
            "INSERT INTO inbox (consumer, source, epoch, seq)
             SELECT $1, $2, $3, seq FROM unnest($4::bigint[]) AS n (seq)",
            consumer,
            source,
            place.epoch,
            &new
        )
        .execute(&mut *conn)
        .await?;
    }
    if upto > place.upto {
        move_to(conn, consumer, source, Place { upto, ..place }).await?;
    }
    Ok(Place { upto, ..place })
}

/// Moves the place on, also to another epoch, and forgets the numbers that it covers.
pub(crate) async fn move_to(
    conn: &mut PgConnection,
    consumer: &str,
    source: &str,
    place: Place,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE inbox_upto SET epoch = $3, upto = $4 WHERE consumer = $1 AND source = $2",
        consumer,
        source,
        place.epoch,
        place.upto
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "DELETE FROM inbox WHERE consumer = $1 AND source = $2
             AND (epoch < $3 OR (epoch = $3 AND seq <= $4))",
        consumer,
        source,
        place.epoch,
        place.upto
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The end of the run without a gap after `upto`, and what lies beyond it.
fn settle(upto: i64, seqs: impl Iterator<Item = i64>) -> (i64, BTreeSet<i64>) {
    let mut beyond: BTreeSet<i64> = seqs.filter(|seq| *seq > upto).collect();
    let mut upto = upto;
    while beyond.first() == Some(&(upto + 1)) {
        beyond.pop_first();
        upto += 1;
    }
    (upto, beyond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_a_gap_moves_the_place_and_the_rest_stays_beyond() {
        assert_eq!(
            settle(3, [4, 5, 7, 9].into_iter()),
            (5, BTreeSet::from([7, 9]))
        );
        assert_eq!(settle(5, [6, 7, 9].into_iter()), (7, BTreeSet::from([9])));
        assert_eq!(settle(9, [2, 9].into_iter()), (9, BTreeSet::new()));
    }
}
