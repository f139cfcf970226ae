//! The epoch of the routes: edges compare versions, and versions mean something within one epoch alone.
//!
//! After a restore to an earlier moment the same (epoch, version) would be given a second time, for
//! something else. That is noticed by the database itself ([`candlefish_messaging::epoch::current`]),
//! or by whoever holds what it never gave: an edge, or this process's own [`super::table`]. Then the
//! one epoch of the schema rises, every route is told anew in it with what it serves, and a host that
//! nobody knows any more serves nothing.
//!
//! What is not noticed: a database set back under the same identity whose numbers have caught up with
//! those that it gave before.

use candlefish_messaging::epoch;
use sqlx::{Connection as _, PgConnection};

use super::{Written, store};

/// Begins a new epoch above all of `ahead`, which this database never gave; answers the epoch that
/// holds. Of several who notice the same, one begins it.
pub(crate) async fn begin(conn: &mut PgConnection, ahead: &[Written]) -> Result<i32, sqlx::Error> {
    let from = ahead.iter().map(|one| one.epoch).max().unwrap_or_default();
    let hosts: Vec<String> = ahead.iter().map(|one| one.host.clone()).collect();
    // By itself: whoever stamps facts waits for its row, and routes may be many. A crash between is
    // healed by the next look of a table.
    let to = epoch::bump(conn, from).await?;
    let mut tx = conn.begin().await?;
    let routes = store::renew(&mut tx, to).await?;
    let unknown = store::insert_empty(&mut tx, to, &hosts).await?;
    tx.commit().await?;
    if routes > 0 {
        tracing::warn!(
            from,
            to,
            routes,
            unknown,
            "edges hold what this database never gave: beginning a new epoch"
        );
    } else if unknown > 0 {
        tracing::warn!(
            from,
            to,
            unknown,
            "edges hold hosts that nobody knows: they are taken away"
        );
    }
    Ok(to)
}

/// Tells the routes of an earlier epoch anew in this one.
pub(super) async fn renew(conn: &mut PgConnection, epoch: i32) -> Result<(), sqlx::Error> {
    let routes = store::renew(conn, epoch).await?;
    if routes > 0 {
        tracing::info!(epoch, routes, "routes are told anew in a new epoch");
    }
    Ok(())
}
