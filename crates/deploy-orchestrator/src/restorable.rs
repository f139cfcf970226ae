//! The proof that a rollback would find what it needs: of each environment, the last releases that
//! its policy keeps have their manifest and every blob, with its size, in the store. Each proof also reads
//! some of the blobs and compares their digests, in a circle: where the next one goes on is kept. A blob
//! that is not what its name says is read again by each proof until it is.
//!
//! Level-triggered and without input. Replicas share the work: one takes the environment whose proof
//! is due, for [`TAKEN_FOR`]; one that ends meanwhile costs that long. What was found is told in the
//! environment. A store that does not answer proves nothing either way: the finding before stands.
//!
//! Deliberately absent: reading all content at once, which edges verify as they stage it, and mending
//! anything.

mod store;

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    time::Duration,
};

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
/// Blobs that one proof reads: at ten minutes a proof, 2,304 a day of one environment.
const READ: usize = 16;
/// Their bytes, if the first one is not larger by itself.
const READ_BYTES: u64 = 16 * 1024 * 1024;
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

/// Where a blob was found first: its release, and its path there.
type Place = (ReleaseId, String);

/// The blobs of the releases to keep, by digest and size.
type Blobs = BTreeMap<(Digest, u64), Place>;

/// What one proof came to.
#[derive(Debug)]
struct Proof {
    /// The first thing that is wrong, in words; empty when nothing is.
    found: String,
    /// The last blob that was read and is whole.
    after: Option<Digest>,
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
        match prove(ctx, &due, &kept).await {
            Ok(proof) => tell(ctx, &due, &proof).await?,
            Err(error) => tracing::warn!(
                environment.id = %due.id, error = %chain(&error),
                "releases of {} were not proven restorable", due.place
            ),
        }
    }
    Ok(())
}

async fn tell(ctx: &Ctx, due: &Due, proof: &Proof) -> Result<(), Error> {
    let (found, after) = (proof.found.as_str(), proof.after);
    let mut conn = ctx.pool.acquire().await?;
    store::save(&mut conn, due.id, found, after, ctx.config.restorable).await?;
    if found.is_empty() {
        if !due.found_before.is_empty() {
            tracing::info!(environment.id = %due.id, "{} is restorable again", due.place);
        }
    } else if due.found_before.as_str() != found {
        tracing::error!(environment.id = %due.id, "{} is not restorable: {found}", due.place);
    }
    Ok(())
}

/// First what is quickly seen, in all releases; then some blobs are read.
async fn prove(ctx: &Ctx, due: &Due, kept: &[Kept]) -> Result<Proof, Error> {
    let after = due.after;
    let mut blobs = Blobs::new();
    for one in kept.iter().filter(|one| !one.is_collected) {
        if let Some(found) = prove_there(ctx, one, &mut blobs).await? {
            return Ok(Proof { found, after });
        }
    }
    let mut proof = read_some(ctx, &blobs, after).await?;
    let collected = kept.iter().find(|one| one.is_collected);
    if let Some(one) = collected.filter(|_| proof.found.is_empty()) {
        proof.found = format!("{} was collected", one.release);
    }
    Ok(proof)
}

/// The first thing that a release lacks, in words.
async fn prove_there(ctx: &Ctx, one: &Kept, blobs: &mut Blobs) -> Result<Option<String>, Error> {
    let manifest = match load(ctx, one).await? {
        Ok(manifest) => manifest,
        Err(fault) => return Ok(Some(fault)),
    };
    // Releases share most of their files.
    let unknown: Vec<&Entry> = manifest
        .entries()
        .iter()
        .filter(|entry| !blobs.contains_key(&(entry.digest, entry.size)))
        .collect();
    for entries in unknown.chunks(AT_ONCE) {
        let fault = lacks(ctx, one.release, entries).await?;
        if fault.is_some() {
            return Ok(fault);
        }
        let named = |entry: &&Entry| {
            let place = (one.release, entry.path.clone());
            ((entry.digest, entry.size), place)
        };
        blobs.extend(entries.iter().map(named));
    }
    Ok(None)
}

/// Reads the next blobs of the circle and compares their digests, up to the first that is broken.
async fn read_some(ctx: &Ctx, blobs: &Blobs, after: Option<Digest>) -> Result<Proof, Error> {
    let mut proof = Proof {
        found: String::new(),
        after,
    };
    for (digest, (release, path)) in sample(blobs, after) {
        match ctx.blobs.verify(&digest).await {
            Ok(_) => proof.after = Some(digest),
            Err(error) if error.is_transient() => return Err(Error::Blobs(error)),
            Err(error) => {
                proof.found = format!("{release} has a broken /{path}: {error}");
                break;
            }
        }
    }
    Ok(proof)
}

/// The blobs that come after this one, by digest, in a circle: as many as one proof reads.
fn sample(blobs: &Blobs, after: Option<Digest>) -> Vec<(Digest, &Place)> {
    let at = after.map(|after| (after, u64::MAX));
    let later = blobs.range((at.map_or(Unbounded, Excluded), Unbounded));
    let earlier = at.map(|at| blobs.range(..=at)).into_iter().flatten();
    let mut bytes = 0_u64;
    let mut sample = Vec::new();
    for ((digest, size), place) in later.chain(earlier).take(READ) {
        bytes = bytes.saturating_add(*size);
        if bytes > READ_BYTES && !sample.is_empty() {
            break;
        }
        sample.push((*digest, place));
    }
    sample
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

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs(sizes: &[u64]) -> Blobs {
        let blob = |(number, size): (u8, &u64)| {
            let digest = Digest::from_bytes([number; 32]);
            ((digest, *size), (ReleaseId::new(), format!("{number}.css")))
        };
        (0..).zip(sizes).map(blob).collect()
    }

    fn read(blobs: &Blobs, after: Option<u8>) -> Vec<u8> {
        let after = after.map(|number| Digest::from_bytes([number; 32]));
        let sample = sample(blobs, after);
        sample.iter().map(|(one, _)| one.as_bytes()[0]).collect()
    }

    #[test]
    fn every_blob_is_read_in_its_turn() {
        let many = blobs(&[1; 40]);
        assert_eq!(read(&many, None), (0..16).collect::<Vec<_>>());
        assert_eq!(read(&many, Some(15)), (16..32).collect::<Vec<_>>());
        let around: Vec<u8> = (32..40).chain(0..8).collect();
        assert_eq!(read(&many, Some(31)), around);
        // Few are all read, each once; one that went meanwhile is no hole.
        let few = blobs(&[1; 3]);
        assert_eq!(read(&few, Some(1)), [2, 0, 1]);
        assert_eq!(read(&few, Some(200)), [0, 1, 2]);
        assert_eq!(read(&blobs(&[]), None), [0; 0]);
    }

    #[test]
    fn a_proof_reads_so_many_bytes_and_one_blob_at_least() {
        let large = blobs(&[READ_BYTES / 2, READ_BYTES / 2, 1, READ_BYTES * 9, 1]);
        assert_eq!(read(&large, None), [0, 1]);
        assert_eq!(read(&large, Some(1)), [2]);
        assert_eq!(read(&large, Some(2)), [3]);
        assert_eq!(read(&large, Some(3)), [4, 0]);
    }
}
