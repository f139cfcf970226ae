//! The blob: what releases are made of, and how many releases name each.
//!
//! ```text
//! named (names > 0) ⇄ unnamed, since … ──a day later──▶ collected: gone from the store and from here
//! ```
//!
//! A release names its manifest and every file in it *before* it asks the store what is there, and
//! stays counted until it is collected. Whoever takes a blob out of the store holds its row, which
//! nothing names; whoever would name it meanwhile waits for that row, and asks the store afterwards.
//! So what a release found in the store stays there for as long as it is counted. A row is held by a session:
//! while the store is waited for, that is asked again and again whether it lives ([`while_held`]), and when it
//! does not, nothing more is taken out.
//!
//! Rows are locked in the order of their digests, always.

pub(crate) mod store;

use std::{collections::BTreeMap, pin::pin, time::Duration};

use candlefish_ids::{Digest, ReleaseId};
use candlefish_manifest::Manifest;
use tokio::time::timeout;

use crate::ctx::{CommitError, Ctx, Tx};

/// Well within the ten seconds after which the server ends a session that asks nothing in a transaction.
const ASKED_EVERY: Duration = Duration::from_secs(2);

/// Why blobs were not named.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("count what a release names")]
    Sql(#[from] sqlx::Error),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// The distinct blobs of a release: its manifest and its files.
pub(crate) fn of(manifest_digest: Digest, manifest: &Manifest) -> Vec<(Digest, u64)> {
    let encoded = u64::try_from(manifest.encode().len()).unwrap_or(u64::MAX);
    let mut all: BTreeMap<Digest, u64> = manifest.blobs().into_iter().collect();
    all.insert(manifest_digest, encoded);
    all.into_iter().collect()
}

/// Waits for what is asked of the store with rows held: nothing is asked before it is sure that they are. An
/// error as soon as the session is gone that held them; what was asked of the store by then may happen yet.
pub(crate) async fn while_held<T>(
    tx: &mut Tx,
    at_the_store: impl Future<Output = T> + Send,
) -> Result<T, sqlx::Error> {
    let mut at_the_store = pin!(at_the_store);
    loop {
        tx.prove().await?;
        if let Ok(done) = timeout(ASKED_EVERY, &mut at_the_store).await {
            return Ok(done);
        }
    }
}

/// Counts a release that is not collected; once it is counted, only notes that somebody works on it.
pub(crate) async fn name(
    ctx: &Ctx,
    release: ReleaseId,
    blobs: &[(Digest, u64)],
) -> Result<(), Error> {
    let mut tx = ctx.begin().await?;
    let now = tx.read_clock().await?;
    if store::note_named(&mut tx, now, release).await? == store::Named::First {
        store::name(&mut tx, blobs).await?;
    }
    Ok(ctx.commit(tx).await?)
}
