//! Sealing a release: proves that all its content is there, and freezes it.

use candlefish_ids::{Digest, ReleaseId};
use candlefish_manifest::Manifest;
use candlefish_proto::deploy as pb;
use candlefish_runtime::identity::Caller;

use super::{
    Error, event, mend,
    missing::{find, load_named},
    store::{self, Sealing},
    view,
};
use crate::{
    ctx::Ctx,
    idempotency::{self, Key, Reply},
    lane,
    step::worker::chain,
};

/// Blobs asked for at once.
const AT_ONCE: usize = 1000;

/// Seals a release; sealing a sealed one answers it.
pub(crate) async fn seal(
    ctx: &Ctx,
    caller: &Caller,
    key: Option<Key>,
    id: ReleaseId,
) -> Result<Reply<pb::Release>, Error> {
    // The store is asked before the transaction: no network inside it, and what is counted stays.
    let row = find(ctx, caller, id).await?;
    let manifest = load_named(ctx, &row).await?;
    let manifest = manifest.ok_or(Error::ManifestMissing(id))?;
    if row.suspect {
        check_whole(ctx, &manifest).await?;
    } else if !row.sealed {
        if manifest.entries().is_empty() {
            return Err(Error::Empty(id));
        }
        check(ctx, &manifest).await?;
    }
    let mut tx = ctx.begin().await?;
    let now = tx.read_clock().await?;
    if let Some(before) = idempotency::replay(&mut tx, key.as_ref()).await? {
        return Ok(Reply::replayed(before));
    }
    let files = manifest.entries().len();
    let sealed = match store::seal(&mut tx, now, id, files, manifest.byte_count()).await? {
        Sealing::Done => true,
        Sealing::Already => false,
        Sealing::Uncounted => return Err(Error::Uncounted(id)),
    };
    if row.suspect {
        store::trust(&mut tx, id).await?;
    }
    let answer = view::load(&mut tx, id).await?;
    if sealed {
        let version = store::version(&mut tx, id).await?;
        let fact = event::sealed(&answer, version, &caller.principal);
        tx.tell(fact);
    }
    idempotency::store(&mut tx, now, key.as_ref(), &answer).await?;
    ctx.commit(tx).await?;
    if sealed {
        tracing::info!(release.id = %id, files, "a release of {} is sealed", answer.site);
        if let Err(error) = lane::content_arrived(ctx, id).await {
            tracing::info!(error = %chain(&error), "lanes are granted by the next sweep");
        }
    }
    Ok(Reply::new(answer))
}

async fn check(ctx: &Ctx, manifest: &Manifest) -> Result<(), Error> {
    let mut missing = 0;
    let mut first = None;
    for entries in manifest.entries().chunks(AT_ONCE) {
        let digests: Vec<Digest> = entries.iter().map(|entry| entry.digest).collect();
        let sizes = ctx.blobs.sizes(&digests).await.map_err(Error::Blobs)?;
        for (entry, size) in entries.iter().zip(sizes) {
            match size {
                Some(found) if found != entry.size => {
                    return Err(Error::BlobSize {
                        path: entry.path.clone(),
                        found,
                        expected: entry.size,
                    });
                }
                Some(_) => {}
                None => {
                    missing += 1;
                    first.get_or_insert_with(|| entry.path.clone());
                }
            }
        }
    }
    match first {
        Some(path) => Err(Error::BlobsMissing {
            path,
            more: missing - 1,
        }),
        None => Ok(()),
    }
}

/// Reads everything: a verification failed since this was last done.
async fn check_whole(ctx: &Ctx, manifest: &Manifest) -> Result<(), Error> {
    let mut missing = Vec::new();
    for entries in manifest.entries().chunks(AT_ONCE) {
        let digests: Vec<Digest> = entries.iter().map(|entry| entry.digest).collect();
        let whole = mend::are_whole(ctx, &digests).await?;
        let lacks = entries.iter().zip(whole).filter(|(_, whole)| !whole);
        missing.extend(lacks.map(|(entry, _)| &entry.path));
    }
    match missing.split_first() {
        Some((path, more)) => Err(Error::BlobsMissing {
            path: (*path).clone(),
            more: more.len(),
        }),
        None => Ok(()),
    }
}
