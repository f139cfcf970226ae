//! What is still to upload of a release, in pages by digest.

use std::time::Duration;

use candlefish_ids::{Digest, ReleaseId};
use candlefish_manifest::{Limits, Manifest};
use candlefish_proto::deploy as pb;
use candlefish_runtime::identity::Caller;

use super::{
    Error, expected, mend,
    store::{self, Row},
};
use crate::{blob, ctx::Ctx, page::Page};

/// How long a signed URL works.
const URL_WORKS: Duration = Duration::from_mins(15);

/// Pages through the blobs that the store lacks. While the manifest is missing it is the only one.
pub(crate) async fn list(
    ctx: &Ctx,
    caller: &Caller,
    id: ReleaseId,
    page: &Page<[u8; 32]>,
) -> Result<pb::ListMissingBlobsResponse, Error> {
    let row = find(ctx, caller, id).await?;
    let Some(manifest) = load_named(ctx, &row).await? else {
        let blob = signed(ctx, row.manifest, row.manifest_size).await?;
        return Ok(pb::ListMissingBlobsResponse {
            blobs: vec![blob],
            next_page_token: String::new(),
            manifest_missing: true,
            looked_at: 1,
        });
    };
    let after = page.after().copied().map(Digest::from_bytes);
    let wanted: Vec<(Digest, u64)> = manifest
        .blobs()
        .into_iter()
        .filter(|(digest, _)| after.is_none_or(|after| *digest > after))
        .take(usize::try_from(page.limit()).unwrap_or(1))
        .collect();
    let (wanted, next_page_token) = page.cut(wanted, |(digest, _)| *digest.as_bytes());
    let there = are_there(ctx, &row, &wanted).await?;
    let mut blobs = Vec::new();
    for ((digest, size), there) in wanted.iter().zip(there) {
        if !there {
            blobs.push(signed(ctx, *digest, *size).await?);
        }
    }
    Ok(pb::ListMissingBlobsResponse {
        blobs,
        next_page_token,
        manifest_missing: false,
        looked_at: i32::try_from(wanted.len()).unwrap_or(i32::MAX),
    })
}

/// Whether the store has these blobs. Of a release whose verification failed all are read; of others,
/// those of another size. What is corrupt goes, and is missing.
pub(super) async fn are_there(
    ctx: &Ctx,
    row: &Row,
    wanted: &[(Digest, u64)],
) -> Result<Vec<bool>, Error> {
    let digests: Vec<Digest> = wanted.iter().map(|(digest, _)| *digest).collect();
    if row.suspect {
        return mend::are_whole(ctx, &digests).await;
    }
    let sizes = ctx.blobs.sizes(&digests).await.map_err(Error::Blobs)?;
    let mut there = Vec::with_capacity(wanted.len());
    for ((digest, expected), found) in wanted.iter().zip(sizes) {
        there.push(match found {
            Some(size) if size != *expected => mend::remove(ctx, digest).await?,
            found => found.is_some(),
        });
    }
    Ok(there)
}

/// The release, if the caller may see its site.
pub(super) async fn find(ctx: &Ctx, caller: &Caller, id: ReleaseId) -> Result<Row, Error> {
    let mut conn = ctx.pool.acquire().await?;
    let found = store::find(&mut conn, id).await?;
    found
        .filter(|row| caller.sees(&row.site))
        .ok_or(Error::Unknown(id))
}

/// The manifest of a release, whose blobs are counted from now on: what the store has of them, it keeps.
/// None while the manifest is not uploaded, or was just collected.
pub(super) async fn load_named(ctx: &Ctx, row: &Row) -> Result<Option<Manifest>, Error> {
    if row.collected {
        return Err(Error::Collected(row.id));
    }
    // No content has this digest, so nobody could upload it.
    if *row.manifest.as_bytes() == expected::UNKNOWN {
        return Err(Error::Expected(row.id));
    }
    let Some(manifest) = load_manifest(ctx, row).await? else {
        let mut conn = ctx.pool.acquire().await?;
        blob::store::reprieve(&mut conn, &row.manifest).await?;
        return Ok(None);
    };
    if !row.sealed && !row.named_lately {
        blob::name(ctx, row.id, &blob::of(row.manifest, &manifest)).await?;
    }
    let there = ctx.blobs.exists(&[row.manifest]).await;
    let there = there.map_err(Error::Blobs)?.contains(&true);
    Ok(there.then_some(manifest))
}

/// The manifest of a release; none while it is not uploaded.
pub(super) async fn load_manifest(ctx: &Ctx, row: &Row) -> Result<Option<Manifest>, Error> {
    let limits = if row.sealed {
        Limits::of_sealed()
    } else {
        ctx.config.limits.clone()
    };
    let most = u64::try_from(limits.manifest_bytes).unwrap_or(u64::MAX);
    let bytes = match ctx.blobs.read(&row.manifest, most).await {
        Ok(bytes) => bytes,
        Err(candlefish_blobs::Error::NotFound { .. }) => return Ok(None),
        Err(error) if mend::is_corrupt(&error) => {
            mend::remove(ctx, &row.manifest).await?;
            return Ok(None);
        }
        Err(error) => return Err(Error::Blobs(error)),
    };
    Manifest::decode(&bytes, &limits)
        .map(Some)
        .map_err(|source| Error::Manifest {
            release: row.id,
            source,
        })
}

async fn signed(ctx: &Ctx, digest: Digest, size: u64) -> Result<pb::MissingBlob, Error> {
    let now = ctx.now().await?;
    let seconds = u64::try_from(now.timestamp().as_second()).unwrap_or(0);
    let upload = ctx
        .blobs
        .upload_url(&digest, size, URL_WORKS, seconds)
        .await
        .map_err(Error::Blobs)?;
    Ok(pb::MissingBlob {
        digest: digest.to_string(),
        size: i64::try_from(size).unwrap_or(i64::MAX),
        upload_url: upload.url,
        headers: upload.headers.into_iter().collect(),
    })
}
