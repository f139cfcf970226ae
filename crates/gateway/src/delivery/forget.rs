//! Forgetting deliveries that are too old to be repeated.

use sqlx::PgPool;

use super::{KEPT_FOR, store};

/// Bodies are large: few at once, so that no statement runs long.
const AT_ONCE: i64 = 100;

/// Forgets all of them, batch by batch.
pub(crate) async fn forget(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut conn = pool.acquire().await?;
    while store::delete_before(&mut conn, KEPT_FOR, AT_ONCE).await? > 0 {}
    Ok(())
}
