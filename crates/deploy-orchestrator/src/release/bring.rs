//! Beginning a release whose content is at hand here: in the same order as an upload from outside, so
//! that what the store has already is named before it is looked for, and is not collected meanwhile.

use std::collections::BTreeSet;

use candlefish_blobs::body_of;
use candlefish_ids::{Digest, ReleaseId};
use candlefish_manifest::Manifest;
use candlefish_runtime::identity::Caller;

use super::{
    Error,
    create::{self, Create},
    missing::{are_there, find, load_named},
};
use crate::ctx::Ctx;

/// Blobs asked for at once.
const AT_ONCE: usize = 1000;

/// A release that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) id: ReleaseId,
    /// What the store lacks of it; once that is there, it can be sealed.
    pub(crate) missing: BTreeSet<Digest>,
}

/// Begins the release of this manifest, and stores the manifest itself.
pub(crate) async fn begin(
    ctx: &Ctx,
    caller: &Caller,
    cmd: Create,
    manifest: &Manifest,
) -> Result<Begun, Error> {
    let reply = create::create(ctx, caller, None, cmd).await?;
    let id: ReleaseId = reply.message.id.parse().expect("this room's own id");
    let row = find(ctx, caller, id).await?;
    let bytes = manifest.encode();
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let put = ctx.blobs.put(&row.manifest, size, body_of(bytes)).await;
    put.map_err(Error::Blobs)?;
    let named = load_named(ctx, &row).await?;
    let named = named.ok_or(Error::ManifestMissing(id))?;
    let mut missing = BTreeSet::new();
    let blobs: Vec<(Digest, u64)> = named.blobs().into_iter().collect();
    for some in blobs.chunks(AT_ONCE) {
        let there = are_there(ctx, &row, some).await?;
        let lacks = some.iter().zip(there).filter(|(_, there)| !there);
        missing.extend(lacks.map(|((digest, _), _)| *digest));
    }
    Ok(Begun { id, missing })
}
