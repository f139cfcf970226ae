//! The proof that a rollback would find what it needs: of each environment, the last releases that
//! its policy keeps have their manifest and every blob, with its size, in the store.
//!
//! Level-triggered and without input. Replicas share the work: one takes the environment whose proof
//! is due, for [`TAKEN_FOR`]; one that ends meanwhile costs that long. What was found is told in the
//! environment. A store that does not answer proves nothing either way: the finding before stands.
//!
//! Deliberately absent: reading the content of blobs, which edges verify as they stage it, and
//! mending anything.

mod store;

use std::{collections::HashSet, time::Duration};

use candlefish_blobs::Error as BlobError;
use candlefish_ids::{Digest, ReleaseId};
use candlefish_manifest::{Entry, Limits, Manifest};
use tokio_util::sync::CancellationToken;

use self::store::{Due, Kept};
use crate::{ctx::Ctx, noun, step::worker::chain};

/// Longer than any proof takes: a release of 100,000 files asks the store a hundred times.
const TAKEN_FOR: Duration = Duration::from_mins(2);
/// Blobs asked for at once.
const AT_ONCE: usize = 1000;
/// Looks for due proofs within a period, so that a new environment does not wait for a whole one.
const LOOKS_PER_PERIOD: u32 = 20;

/// Why a proof came to no finding; the next look tries again.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("read what is to be kept")]
    Sql(#[from] sqlx::Error),
    #[error("ask the blob store")]
    Blobs(#[source] BlobError),
}

/// Proves until `stopping`.
pub(crate) async fn run(ctx: Ctx, stopping: CancellationToken) {
    let every = ctx.config.restorable / LOOKS_PER_PERIOD;
    loop {
        if let Err(error) = prove_due(&ctx, &stopping).await {
            tracing::debug!(error = %chain(&error), "releases were not proven restorable");
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
    }
}

/// Proves one environment after the other until none is due.
async fn prove_due(ctx: &Ctx, stopping: &CancellationToken) -> Result<(), Error> {
    while !stopping.is_cancelled() {
        let mut conn = ctx.pool.acquire().await?;
        let Some(due) = store::take(&mut conn, TAKEN_FOR).await? else {
            return Ok(());
        };
        let kept = store::list_kept(&mut conn, &due).await?;
        // Nothing is held while the store is asked.
        drop(conn);
        match prove(ctx, &kept).await {
            Ok(found) => tell(ctx, &due, &found).await?,
            Err(error) => tracing::warn!(
                environment.id = %due.id, error = %chain(&error),
                "releases of {} were not proven restorable", due.place
            ),
        }
    }
    Ok(())
}

async fn tell(ctx: &Ctx, due: &Due, found: &str) -> Result<(), Error> {
    let mut conn = ctx.pool.acquire().await?;
    store::save(&mut conn, due.id, found, ctx.config.restorable).await?;
    if found.is_empty() {
        if !due.found_before.is_empty() {
            tracing::info!(environment.id = %due.id, "{} is restorable again", due.place);
        }
    } else if due.found_before != found {
        tracing::error!(environment.id = %due.id, "{} is not restorable: {found}", due.place);
    }
    Ok(())
}

/// The first thing that a release to keep lacks, in words; empty when all is there.
async fn prove(ctx: &Ctx, kept: &[Kept]) -> Result<String, Error> {
    // Releases share most of their files.
    let mut proven: HashSet<(Digest, u64)> = HashSet::new();
    for one in kept {
        let manifest = match load(ctx, one).await? {
            Ok(manifest) => manifest,
            Err(fault) => return Ok(fault),
        };
        let unknown: Vec<&Entry> = manifest
            .entries()
            .iter()
            .filter(|entry| !proven.contains(&(entry.digest, entry.size)))
            .collect();
        for entries in unknown.chunks(AT_ONCE) {
            if let Some(fault) = lacks(ctx, one.release, entries).await? {
                return Ok(fault);
            }
            proven.extend(entries.iter().map(|entry| (entry.digest, entry.size)));
        }
    }
    Ok(String::new())
}

async fn load(ctx: &Ctx, one: &Kept) -> Result<Result<Manifest, String>, Error> {
    let limits = Limits::of_sealed();
    let most = u64::try_from(limits.manifest_bytes).unwrap_or(u64::MAX);
    let release = one.release;
    let bytes = match ctx.blobs.read(&one.manifest, most).await {
        Ok(bytes) => bytes,
        Err(BlobError::NotFound { .. }) => return Ok(Err(format!("{release} lacks its manifest"))),
        Err(error) if error.is_transient() => return Err(Error::Blobs(error)),
        Err(error) => return Ok(Err(format!("{release} has a broken manifest: {error}"))),
    };
    Ok(Manifest::decode(&bytes, &limits)
        .map_err(|error| format!("{release} has a broken manifest: {error}")))
}

async fn lacks(ctx: &Ctx, release: ReleaseId, entries: &[&Entry]) -> Result<Option<String>, Error> {
    let digests: Vec<Digest> = entries.iter().map(|entry| entry.digest).collect();
    let sizes = ctx.blobs.sizes(&digests).await.map_err(Error::Blobs)?;
    let fault = entries.iter().zip(sizes).find_map(|(entry, size)| {
        let path = &entry.path;
        match size {
            None => Some(format!("{release} lacks /{path}")),
            Some(found) if found != entry.size => Some(format!(
                "{release} has {} of /{path}, not {}",
                noun::counted(found, "byte"),
                entry.size
            )),
            Some(_) => None,
        }
    });
    Ok(fault)
}
