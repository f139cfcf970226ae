//! The first admin: a token that the configuration gives, so that somebody can make the others.
//!
//! The configuration is its owner: naming another one ends the one before.

use candlefish_proto::access::Role;
use sqlx::PgPool;

use super::{Presented, store};
use crate::principal;

/// The principal that the bootstrap token speaks for.
const PRINCIPAL: &str = "admin";

/// Why there is no bootstrap admin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("store the bootstrap token")]
    Database(#[from] sqlx::Error),
    #[error("the bootstrap token names the id of another token that exists; make a new one")]
    Taken,
    #[error("the bootstrap token was revoked; configure a new one or none")]
    Revoked,
}

/// Makes sure that the token works, once per start.
pub(crate) async fn ensure(pool: &PgPool, presented: Presented) -> Result<(), Error> {
    let mut tx = pool.begin().await?;
    // Replicas that start together take turns.
    sqlx::query!("SELECT pg_advisory_xact_lock(hashtextextended('bootstrap', 0))")
        .execute(&mut *tx)
        .await?;
    let ended = store::revoke_other_bootstraps(&mut tx, presented.id).await?;
    if ended > 0 {
        tracing::warn!(
            tokens = ended,
            "ended bootstrap tokens that are no longer configured"
        );
    }
    match store::find(&mut tx, presented.id).await? {
        Some(found) if !presented.hash.is(&found.hash) => return Err(Error::Taken),
        Some(found) if found.token.revoked_at.is_some() => return Err(Error::Revoked),
        Some(_) => {}
        None => insert(&mut tx, presented).await?,
    }
    tx.commit().await?;
    Ok(())
}

async fn insert(conn: &mut sqlx::PgConnection, presented: Presented) -> Result<(), sqlx::Error> {
    let wanted = principal::Wanted {
        name: PRINCIPAL.to_owned(),
        kind: principal::Kind::Machine,
        emails: Vec::new(),
    };
    let owner = match principal::store::find_by_name(conn, PRINCIPAL).await? {
        Some(owner) => owner,
        None => principal::store::insert(conn, &wanted)
            .await?
            .ok_or(sqlx::Error::RowNotFound)?,
    };
    let token = store::Wanted {
        id: presented.id,
        name: "bootstrap".to_owned(),
        role: Role::Admin,
        sites: Vec::new(),
        expires_at: None,
        hash: presented.hash,
        bootstrap: true,
    };
    store::insert(conn, &owner, &token).await?;
    tracing::info!(token = %presented.id, principal = PRINCIPAL, "bootstrap admin made");
    Ok(())
}
