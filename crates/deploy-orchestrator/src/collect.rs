//! Collecting: content that nothing needs any more goes; records never do.
//!
//! ```text
//! sealed, due ──nothing keeps it──▶ collected, its blobs unnamed ──a day──▶ blobs gone from the store
//! ```
//!
//! Kept is what is younger than a day, live, acting or pending anywhere, among the last releases that
//! an environment keeps, what a rollback would choose, and what a route names. A draft keeps what it
//! lists for a day after somebody last worked on it.
//!
//! Level-triggered and without input. One replica at a time, by a lease that only saves work: what
//! keeps content safe are the rows' locks ([`crate::blob`]). A crash between any two steps leaves a
//! release that is due, or blobs that are unnamed, and the next round finds both again.
//!
//! Deliberately absent: content that no row tells of (uploads of before this was counted, uploads
//! that nobody named) stays in the store for ever.

mod release;
mod store;
#[cfg(test)]
mod tests;

use std::time::Duration;

use candlefish_blobs::Error as BlobError;
use candlefish_ids::Digest;
use candlefish_manifest::{Limits, Manifest};
use candlefish_runtime::metrics::{
    BLOB_BYTES_COLLECTED, BLOBS_COLLECTED, COLLECTED_AT, RELEASES_COLLECTED,
};
use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    blob,
    ctx::{CommitError, Ctx},
    step::worker::chain,
};

/// Longer than any batch takes; a replica that dies is followed after that.
const TAKEN_FOR: Duration = Duration::from_mins(2);
/// Releases looked at between two looks at the lease.
const RELEASES_AT_ONCE: i64 = 20;
/// Blobs whose rows are held while the store deletes them: whoever would name one waits so long.
const BLOBS_AT_ONCE: i64 = 64;
/// Deletions under way at a time; S3 answers each in 10 to 50 ms.
const DELETIONS: usize = 16;
/// After some that took longer no more are begun with the same rows held.
const SLOW: Duration = Duration::from_secs(5);

/// Why a round ended early; the next one goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("read or write what is to be collected")]
    Sql(#[from] sqlx::Error),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Blob(#[from] blob::Error),
    #[error("ask the blob store")]
    Blobs(#[source] BlobError),
    #[error(transparent)]
    Deployment(#[from] crate::deployment::Error),
    #[error(transparent)]
    Release(#[from] crate::release::Error),
}

/// Collects until `stopping`.
pub(crate) async fn run(ctx: Ctx, stopping: CancellationToken) {
    while stopping
        .run_until_cancelled(tokio::time::sleep(ctx.config.collect))
        .await
        .is_some()
    {
        if let Err(error) = round(&ctx, &stopping).await {
            tracing::warn!(error = %chain(&error), "collecting goes on later");
        }
    }
}

/// One round, if it is due and no other replica has it.
async fn round(ctx: &Ctx, stopping: &CancellationToken) -> Result<(), Error> {
    if !take(ctx).await? {
        return Ok(());
    }
    let uncounted = count_releases(ctx, stopping).await?;
    collect_releases(ctx, stopping).await?;
    release::unname_drafts(ctx).await?;
    if uncounted {
        tracing::warn!("no blob is collected while a release is not counted");
    } else {
        collect_blobs(ctx, stopping).await?;
    }
    let mut conn = ctx.pool.acquire().await?;
    let at = store::finish(&mut conn, ctx.config.collect).await?;
    metrics::gauge!(COLLECTED_AT).set(at);
    Ok(())
}

/// Takes the turn, or keeps it.
async fn take(ctx: &Ctx) -> Result<bool, Error> {
    let mut conn = ctx.pool.acquire().await?;
    Ok(store::take(&mut conn, TAKEN_FOR).await?)
}

async fn keep_turn(ctx: &Ctx) -> Result<(), Error> {
    let mut conn = ctx.pool.acquire().await?;
    Ok(store::keep_turn(&mut conn, TAKEN_FOR).await?)
}

/// Counts what was sealed before blobs were counted; true when one could not be.
async fn count_releases(ctx: &Ctx, stopping: &CancellationToken) -> Result<bool, Error> {
    let mut after = None;
    let mut left = false;
    while !stopping.is_cancelled() {
        keep_turn(ctx).await?;
        let mut conn = ctx.pool.acquire().await?;
        let some = store::list_uncounted(&mut conn, after, RELEASES_AT_ONCE).await?;
        drop(conn);
        let Some((last, _)) = some.last() else {
            return Ok(left);
        };
        after = Some(*last);
        for (id, manifest) in some {
            if let Some(blobs) = blobs_of(ctx, manifest).await? {
                blob::name(ctx, id, &blobs).await?;
            } else {
                left = true;
                tracing::warn!(release.id = %id, "the manifest of {id} cannot be read");
            }
        }
    }
    Ok(true)
}

async fn collect_releases(ctx: &Ctx, stopping: &CancellationToken) -> Result<(), Error> {
    while !stopping.is_cancelled() {
        keep_turn(ctx).await?;
        let mut conn = ctx.pool.acquire().await?;
        let due = store::list_due(&mut conn, RELEASES_AT_ONCE).await?;
        drop(conn);
        if due.is_empty() {
            break;
        }
        for (id, manifest) in due {
            // Read before the transaction: no network inside it.
            let blobs = blobs_of(ctx, manifest).await?;
            if release::collect(ctx, id, blobs.as_deref()).await? {
                metrics::counter!(RELEASES_COLLECTED).increment(1);
            }
        }
    }
    Ok(())
}

/// Everything that a manifest names, itself too; none when it is not there or is not one.
async fn blobs_of(ctx: &Ctx, digest: Digest) -> Result<Option<Vec<(Digest, u64)>>, Error> {
    let limits = Limits::of_sealed();
    let most = u64::try_from(limits.manifest_bytes).unwrap_or(u64::MAX);
    let bytes = match ctx.blobs.read(&digest, most).await {
        Ok(bytes) => bytes,
        Err(error) if error.is_transient() => return Err(Error::Blobs(error)),
        Err(_lost) => return Ok(None),
    };
    let manifest = Manifest::decode(&bytes, &limits).ok();
    Ok(manifest.map(|manifest| blob::of(digest, &manifest)))
}

async fn collect_blobs(ctx: &Ctx, stopping: &CancellationToken) -> Result<(), Error> {
    while !stopping.is_cancelled() {
        keep_turn(ctx).await?;
        if collect_some_blobs(ctx).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Takes some unnamed blobs out of the store, with their rows held: the one place where a transaction
/// waits for the network, because whoever would name them must wait for the same (ADR 0050).
pub(super) async fn collect_some_blobs(ctx: &Ctx) -> Result<usize, Error> {
    let mut tx = ctx.begin().await?;
    let unnamed =
        blob::store::lock_unnamed(&mut tx, ctx.config.collect_after, BLOBS_AT_ONCE).await?;
    let mut gone = Vec::with_capacity(unnamed.len());
    for some in unnamed.chunks(DELETIONS) {
        let begun = Instant::now();
        let deletions = some.iter().map(|(digest, _)| ctx.blobs.delete(digest));
        let deletions: Vec<_> = deletions.collect();
        // One that fails lets go of no row that another is still deleted for.
        for deleted in blob::while_held(&mut tx, join_all(deletions)).await? {
            deleted.map_err(Error::Blobs)?;
        }
        gone.extend_from_slice(some);
        if begun.elapsed() > SLOW {
            break;
        }
    }
    if gone.is_empty() {
        return Ok(0);
    }
    blob::store::remove(&mut tx, &gone).await?;
    ctx.commit(tx).await?;
    let bytes: u64 = gone.iter().map(|(_, size)| size).sum();
    metrics::counter!(BLOBS_COLLECTED).increment(u64::try_from(gone.len()).unwrap_or(0));
    metrics::counter!(BLOB_BYTES_COLLECTED).increment(bytes);
    tracing::info!(
        blobs = gone.len(),
        bytes,
        "blobs that nothing names are gone"
    );
    Ok(gone.len())
}
