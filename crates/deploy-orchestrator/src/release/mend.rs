//! Content that is not what its name says, as a failing disk leaves it: it is taken out of the store, so
//! that the next upload of the same release brings it again.
//!
//! Reading all content takes long; it is done for a release whose verification failed, when somebody
//! uploads or seals it again.

use candlefish_blobs::Error as BlobError;
use candlefish_ids::Digest;
use futures_util::{StreamExt as _, stream};

use super::Error;
use crate::{blob, ctx::Ctx};

/// Blobs read at a time.
const AT_A_TIME: usize = 8;

/// Whether each blob is in the store and is what its name says, in the order asked. One that is there
/// and is not is gone afterwards.
pub(super) async fn are_whole(ctx: &Ctx, digests: &[Digest]) -> Result<Vec<bool>, Error> {
    // Collected first: a closure inside the stream would borrow for any lifetime.
    let looks: Vec<_> = digests.iter().map(|digest| is_whole(ctx, digest)).collect();
    let mut found = stream::iter(looks).buffered(AT_A_TIME);
    let mut whole = Vec::with_capacity(digests.len());
    while let Some(one) = found.next().await {
        whole.push(one?);
    }
    Ok(whole)
}

async fn is_whole(ctx: &Ctx, digest: &Digest) -> Result<bool, Error> {
    match ctx.blobs.verify(digest).await {
        Ok(_bytes) => Ok(true),
        Err(BlobError::NotFound { .. }) => Ok(false),
        Err(error) if is_corrupt(&error) => remove(ctx, digest).await,
        Err(error) => Err(Error::Blobs(error)),
    }
}

/// The content is not what the name says.
pub(super) const fn is_corrupt(error: &BlobError) -> bool {
    matches!(error, BlobError::Corrupt { .. } | BlobError::Size { .. })
}

/// Takes a corrupt blob out of the store; true when somebody has brought it whole meanwhile. It is
/// read again with its row held: what another call brought after it removed the same is left alone.
pub(super) async fn remove(ctx: &Ctx, digest: &Digest) -> Result<bool, Error> {
    let mut tx = ctx.begin().await?;
    blob::store::lock(&mut tx, digest).await?;
    let found = blob::while_held(&mut tx, ctx.blobs.verify(digest)).await?;
    let whole = match found {
        Ok(_bytes) => true,
        Err(BlobError::NotFound { .. }) => false,
        Err(error) if is_corrupt(&error) => {
            let deleted = blob::while_held(&mut tx, ctx.blobs.delete(digest)).await?;
            deleted.map_err(Error::Blobs)?;
            tracing::error!(
                %digest, %error,
                "a blob that was not what its name says is removed: upload its release again"
            );
            false
        }
        Err(error) => return Err(Error::Blobs(error)),
    };
    ctx.commit(tx).await?;
    Ok(whole)
}
