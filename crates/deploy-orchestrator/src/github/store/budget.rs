//! What may still be asked of GitHub: a row for each account, the same for all replicas.

use std::time::Duration;

use sqlx::{PgConnection, postgres::types::PgInterval};

use crate::github::{budget::Budget, installation::Account};

/// What an account may ask now: all, while it has no row.
pub(in crate::github) async fn find_budget(
    conn: &mut PgConnection,
    account: Account,
) -> Result<Budget, sqlx::Error> {
    let row = sqlx::query!(
        "SELECT strikes, ceil(extract(epoch FROM free_at - clock()) * 1000)::bigint AS left_ms
         FROM github_budget WHERE account = $1",
        account.to_string()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map_or_else(Budget::default, |row| Budget {
        left: wait(row.left_ms),
        turn: Duration::ZERO,
        strikes: row.strikes,
    }))
}

/// The same for a call that writes, which takes the next turn to: not while nothing may be asked, and
/// none that is further than this.
pub(in crate::github) async fn take_turn(
    conn: &mut PgConnection,
    account: Account,
    pause: Duration,
    furthest: Duration,
) -> Result<Budget, sqlx::Error> {
    let pause = PgInterval::try_from(pause).map_err(sqlx::Error::Encode)?;
    let furthest = PgInterval::try_from(furthest).map_err(sqlx::Error::Encode)?;
    let row = sqlx::query!(
        "INSERT INTO github_budget AS b (account, next_write_at)
         VALUES ($1, clock() + $2::interval)
         ON CONFLICT (account) DO UPDATE
         SET next_write_at = CASE
             WHEN b.free_at > clock() OR b.next_write_at > clock() + $3::interval
                 THEN coalesce(b.next_write_at, clock())
             ELSE greatest(b.next_write_at, clock()) + $2::interval END
         RETURNING strikes,
             ceil(extract(epoch FROM free_at - clock()) * 1000)::bigint AS left_ms,
             ceil(extract(epoch FROM next_write_at - $2::interval - clock()) * 1000)::bigint
                 AS turn_ms",
        account.to_string(),
        pause,
        furthest
    )
    .fetch_one(conn)
    .await?;
    Ok(Budget {
        left: wait(row.left_ms),
        turn: wait(row.turn_ms).unwrap_or_default(),
        strikes: row.strikes,
    })
}

/// GitHub said something of limits: how long nothing is to be asked, where it did. Answers how long that
/// is now, for a shorter one does not end a longer one.
pub(in crate::github) async fn save_budget(
    conn: &mut PgConnection,
    account: Account,
    wait_for: Option<Duration>,
    strikes: i32,
) -> Result<Option<Duration>, sqlx::Error> {
    let wait_for = wait_for.map(PgInterval::try_from).transpose();
    let wait_for = wait_for.map_err(sqlx::Error::Encode)?;
    let left_ms = sqlx::query_scalar!(
        "INSERT INTO github_budget AS b (account, free_at, strikes)
         VALUES ($1, clock() + $2::interval, $3)
         ON CONFLICT (account) DO UPDATE
         SET free_at = greatest(b.free_at, excluded.free_at), strikes = excluded.strikes
         RETURNING ceil(extract(epoch FROM free_at - clock()) * 1000)::bigint",
        account.to_string(),
        wait_for,
        strikes
    )
    .fetch_one(conn)
    .await?;
    Ok(wait(left_ms))
}

/// None of what is over.
fn wait(millis: Option<i64>) -> Option<Duration> {
    let millis = u64::try_from(millis?).ok().filter(|millis| *millis > 0)?;
    Some(Duration::from_millis(millis))
}
