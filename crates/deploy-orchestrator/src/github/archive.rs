//! Brings the content of pushed commits whose site is a folder of its repository: GitHub's archive of
//! the commit, read and stored, becomes the release that the push expects.
//!
//! ```text
//! noted ─▶ fetched ─▶ read ─▶ begun (names its blobs) ─▶ stored ─▶ sealed ─▶ forgotten
//!   ▲         │         └── it is not the content: what waits for it ends, and says why
//!   └─ later ─┘ why and when stands in the blocker
//! ```
//!
//! A turn is claimed by a lease that it renews; a process that dies leaves nothing behind but a row, and
//! the next turn does the same again: the release's own doors make it the same release. The archive
//! is kept in a file without a name, and what is read of it goes to the store and nowhere else.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Seek as _},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use candlefish_ids::{Digest, EnvironmentId, ReleaseId};
use candlefish_manifest::{
    Limits, Manifest,
    archive::{self, Reading},
};
use candlefish_runtime::{database, identity::Caller};
use futures_util::StreamExt as _;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{Error, GitHub, store};
use crate::{
    backoff,
    ctx::Ctx,
    deployment::{
        self,
        push::{Missing, end_each_without_content, go_with},
    },
    lane,
    release::{self, bring, create::Create, seal},
    step::worker::chain,
};

/// What counts against a commit comes to this before it counts as gone.
const ENOUGH: i32 = 6;
/// Of that: it may not be there yet, or came broken. Three times.
const REFUSED: i32 = 2;
/// It took all the time it has. Six times, hours apart in the end.
const SLOW: i32 = 1;
/// After a try that was refused; the pause after the second is twice as long.
const REFUSED_PAUSE: Duration = Duration::from_secs(15);
/// Doublings of the pause after a try that took all the time it has, one for each that counts before it: others are to
/// have most of the turns. A refusal counts as two here as well: which tries it were is not kept.
const SLOW_DOUBLINGS: i32 = 4;
/// What waits has so long once GitHub can be asked again.
const GRACE: Duration = Duration::from_mins(5);
/// Who brings the content.
const ACTOR: &str = "github";
/// Read and sent at once, and pieces that wait.
const PIECE: usize = 64 * 1024;
const PIECES: usize = 4;

/// A release whose content is to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) release: ReleaseId,
    pub(super) claim: i64,
    pub(super) attempts: i32,
    /// What counts against the commit so far, of [`ENOUGH`]: tries that GitHub refused, that brought no archive or a
    /// broken one, or that took all the time they had.
    pub(super) refusals: i32,
    /// The slug.
    pub(super) site: String,
    pub(super) repository: String,
    pub(super) folder: String,
    pub(super) commit: String,
    pub(super) branch: String,
    pub(super) message: String,
    pub(super) author: String,
    pub(super) author_email: String,
    pub(super) committed_at: Option<jiff::Timestamp>,
    /// Something still waits for it.
    pub(super) is_needed: bool,
}

/// Why a turn brought nothing.
#[derive(Debug, thiserror::Error)]
enum Unfinished {
    #[error("read or write what is fetched")]
    Sql(#[from] sqlx::Error),
    #[error(transparent)]
    GitHub(#[from] Error),
    #[error(transparent)]
    Archive(#[from] archive::Error),
    #[error("keep the archive in a file")]
    File(#[source] io::Error),
    #[error("make the release")]
    Release(#[from] release::Error),
    #[error("store its content")]
    Blobs(#[source] candlefish_blobs::Error),
    #[error("let a lane choose again")]
    Lane(#[from] deployment::Error),
    #[error("it took longer than {0:?}")]
    Slow(Duration),
    #[error("reading was lost")]
    Lost(#[source] tokio::task::JoinError),
}

impl Unfinished {
    /// The commit has no content, and will have none.
    fn is_final(&self, refusals: i32) -> bool {
        match self {
            Self::GitHub(Error::Repository { .. } | Error::Large { .. }) => true,
            Self::Archive(error) if error.is_final() => true,
            _ => self.weight() > 0 && refusals + self.weight() >= ENOUGH,
        }
    }

    /// It may be final: what GitHub does not know may be on its way, what came broken may come whole.
    fn is_refusal(&self) -> bool {
        match self {
            // Who may not ask may be allowed to.
            Self::GitHub(error @ Error::Refused { .. }) => !error.is_for_want_of_rights(),
            Self::Archive(archive::Error::Broken(_)) => true,
            _ => false,
        }
    }

    /// What it counts against the commit.
    fn weight(&self) -> i32 {
        match self {
            Self::Slow(_) => SLOW,
            _ if self.is_refusal() => REFUSED,
            _ => 0,
        }
    }

    /// The fault of GitHub, of the way, of the store or of our disk, as one that is full, and nobody's
    /// who waits.
    const fn is_outage(&self) -> bool {
        match self {
            Self::GitHub(error) => error.is_outage(),
            Self::File(_)
            | Self::Archive(archive::Error::Io(_))
            | Self::Blobs(_)
            | Self::Release(release::Error::Blobs(_))
            // Whoever is slow, whoever waits cannot hurry them.
            | Self::Slow(_) => true,
            _ => false,
        }
    }

    /// How long until the next try, after so many, when so much counts against the commit.
    fn pause(&self, attempts: i32, refusals: i32) -> Duration {
        let said = match self {
            Self::GitHub(error) => error.left(),
            // As long as it took.
            Self::Slow(took) => Some(*took * (1 << refusals.clamp(0, SLOW_DOUBLINGS))),
            _ => None,
        };
        said.unwrap_or_else(|| {
            if self.is_refusal() {
                REFUSED_PAUSE * u32::try_from(refusals / REFUSED + 1).unwrap_or(1)
            } else {
                backoff::after(attempts - 1)
            }
        })
    }
}

/// Fetches until `stopping`.
pub(crate) async fn run(ctx: Ctx, github: GitHub, stopping: CancellationToken) {
    // Two at a time, so that a small one does not wait for a large one.
    tokio::join!(
        turns(ctx.clone(), github.clone(), stopping.clone(), true),
        turns(ctx, github, stopping, false)
    );
}

async fn turns(ctx: Ctx, github: GitHub, stopping: CancellationToken, notes: bool) {
    loop {
        if let Err(error) = look(&ctx, &github, &stopping, notes).await {
            tracing::debug!(error = %chain(&error), "no archive was fetched; the next look does");
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(ctx.config.sweep.min(Duration::from_secs(1))) => {}
        }
    }
}

/// One of the turns notes what is new.
async fn look(
    ctx: &Ctx,
    github: &GitHub,
    stopping: &CancellationToken,
    notes: bool,
) -> Result<(), Unfinished> {
    if notes {
        let mut conn = ctx.pool.acquire().await?;
        store::note_archives(&mut conn).await?;
    }
    while !stopping.is_cancelled() {
        let mut conn = ctx.pool.acquire().await?;
        let Some(wanted) = store::claim_archive(&mut conn, ctx.config.lease).await? else {
            return Ok(());
        };
        drop(conn);
        if !wanted.is_needed {
            forget(ctx, &wanted).await?;
            continue;
        }
        tokio::select! {
            // What was begun is begun again by the next process; its lease says when.
            () = stopping.cancelled() => return Ok(()),
            () = keep(ctx, &wanted) => tracing::info!(
                release.id = %wanted.release, "the lease of an archive is lost: another turn has it"
            ),
            done = turn(ctx, github, &wanted) => done?,
        }
    }
    Ok(())
}

/// Renews the lease; ends when it is lost.
async fn keep(ctx: &Ctx, wanted: &Wanted) {
    loop {
        tokio::time::sleep(ctx.config.lease / 3).await;
        let kept = async {
            let mut conn = ctx.pool.acquire().await?;
            store::keep_archive(&mut conn, wanted, ctx.config.lease).await
        };
        match kept.await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => tracing::debug!(error = %chain(&error), "a lease was not renewed"),
        }
    }
}

async fn turn(ctx: &Ctx, github: &GitHub, wanted: &Wanted) -> Result<(), Unfinished> {
    let most = github.settings().archive;
    let carried = timeout(most, carry(ctx, github, wanted)).await;
    let carried = carried.unwrap_or(Err(Unfinished::Slow(most)));
    let Err(error) = carried else {
        tracing::info!(
            release.id = %wanted.release, repository = wanted.repository, commit = wanted.commit,
            "the content of a pushed commit is there"
        );
        return forget(ctx, wanted).await;
    };
    let words = chain(&error);
    if error.is_final(wanted.refusals) {
        tracing::warn!(
            release.id = %wanted.release, repository = wanted.repository, commit = wanted.commit,
            error = %words, "a pushed commit has no content"
        );
        give_up(ctx, wanted, &words).await?;
        return forget(ctx, wanted).await;
    }
    tracing::info!(
        release.id = %wanted.release, repository = wanted.repository, commit = wanted.commit,
        error = %words, "the content of a pushed commit is not there yet"
    );
    let pause = error.pause(wanted.attempts, wanted.refusals);
    let mut tx = database::begin(&ctx.pool).await?;
    let (weight, outage) = (error.weight(), error.is_outage());
    store::put_archive_off(&mut tx, wanted, pause, &words, (weight, outage)).await?;
    if outage {
        // Its deadline is for those who can do something about it; after the outage it has some time.
        store::prolong_content(&mut tx, wanted, pause + GRACE).await?;
    }
    tx.commit().await?;
    // So that the blocker says why, and when again.
    Ok(lane::content_arrived(ctx, wanted.release).await?)
}

async fn forget(ctx: &Ctx, wanted: &Wanted) -> Result<(), Unfinished> {
    let mut conn = ctx.pool.acquire().await?;
    Ok(store::forget_archive(&mut conn, wanted).await?)
}

/// What waits for it ends.
async fn give_up(ctx: &Ctx, wanted: &Wanted, words: &str) -> Result<(), Unfinished> {
    for environment in lanes(ctx, wanted).await? {
        let mut tx = ctx.begin().await?;
        let mut lane = lane::store::lock(&mut tx, environment).await?;
        let missing = (wanted.commit.as_str(), Missing::Refused(words));
        end_each_without_content(ctx, &mut tx, &mut lane, wanted.release, missing).await?;
        ctx.commit(tx).await.map_err(deployment::Error::from)?;
    }
    Ok(())
}

async fn lanes(ctx: &Ctx, wanted: &Wanted) -> Result<Vec<EnvironmentId>, sqlx::Error> {
    let mut conn = ctx.pool.acquire().await?;
    lane::store::list_waiting_for_content(&mut conn, wanted.release).await
}

async fn carry(ctx: &Ctx, github: &GitHub, wanted: &Wanted) -> Result<(), Unfinished> {
    let limits = ctx.config.limits.clone();
    let file = blocking(|| tempfile::tempfile().map_err(Unfinished::File)).await?;
    let mut into = tokio::fs::File::from_std(file);
    let (repository, commit) = (&wanted.repository, &wanted.commit);
    github
        .fetch_archive(repository, commit, &mut into, limits.total_bytes)
        .await?;
    let packed = Packed {
        file: into.into_std().await,
        folder: wanted.folder.clone(),
        limits,
        // Reading ends with this turn, not after it.
        going: CancellationToken::new(),
    };
    let _ends = packed.going.clone().drop_guard();
    let (packed, manifest) = packed.name().await?;
    let caller = Caller::process(ACTOR);
    let begun = bring::begin(ctx, &caller, create(wanted, &manifest), &manifest).await?;
    if !begun.missing.is_empty() {
        bring_missing(ctx, packed, manifest, begun.missing).await?;
    }
    seal::seal(ctx, &caller, None, begun.id).await?;
    if begun.id == wanted.release {
        return Ok(());
    }
    // The same content is another release of this commit already.
    for environment in lanes(ctx, wanted).await? {
        let mut tx = ctx.begin().await?;
        let mut lane = lane::store::lock(&mut tx, environment).await?;
        go_with(ctx, &mut tx, &mut lane, wanted.release, begun.id).await?;
        ctx.commit(tx).await.map_err(deployment::Error::from)?;
    }
    Ok(())
}

/// What the push said of the commit says it of the content too.
fn create(wanted: &Wanted, manifest: &Manifest) -> Create {
    Create {
        site: wanted.site.clone(),
        manifest: manifest.digest(),
        manifest_size: i32::try_from(manifest.encode().len()).unwrap_or(i32::MAX),
        commit: wanted.commit.clone(),
        parents: Vec::new(),
        ancestors: Vec::new(),
        branch: wanted.branch.clone(),
        message: wanted.message.clone(),
        author: wanted.author.clone(),
        author_email: wanted.author_email.clone(),
        committed_at: wanted.committed_at,
        dirty: false,
    }
}

/// An archive that was fetched.
struct Packed {
    file: File,
    folder: String,
    limits: Limits,
    /// Cancelled when nobody waits for what is read.
    going: CancellationToken,
}

impl Packed {
    /// Reads it once, for the names and digests of what is in it.
    async fn name(mut self) -> Result<(Self, Arc<Manifest>), Unfinished> {
        blocking(move || {
            let mut manifest = None;
            self.read(|file, reading| {
                manifest = Some(archive::manifest(file, reading)?);
                Ok(())
            })?;
            let manifest = manifest.expect("it was read without an error");
            Ok((self, Arc::new(manifest)))
        })
        .await
    }

    fn read(
        &mut self,
        act: impl FnOnce(&File, &Reading<'_>) -> Result<(), archive::Error>,
    ) -> Result<(), Unfinished> {
        self.file.rewind().map_err(Unfinished::File)?;
        let going = self.going.clone();
        let reading = Reading {
            folder: &self.folder,
            limits: &self.limits,
            go_on: &|| !going.is_cancelled(),
        };
        Ok(act(&self.file, &reading)?)
    }

    /// Reads it once more, and sends what is missing, each blob as pieces of its own.
    fn send(
        mut self,
        manifest: &Manifest,
        mut missing: BTreeSet<Digest>,
        blobs: &mpsc::Sender<Piecewise>,
    ) -> Result<(), Unfinished> {
        let mut buffer = vec![0; PIECE];
        self.read(|file, reading| {
            archive::read(file, reading, |found, content| {
                let entry = manifest.get(&found.path);
                let Some(entry) = entry.filter(|entry| missing.remove(&entry.digest)) else {
                    return Ok(());
                };
                let (sender, pieces) = mpsc::channel(PIECES);
                let one = Piecewise {
                    digest: entry.digest,
                    size: entry.size,
                    pieces,
                };
                let gone = |_nobody| io::Error::other("nobody stores it");
                blobs.blocking_send(one).map_err(gone)?;
                loop {
                    let count = content.read(&mut buffer)?;
                    let piece = buffer.get(..count).unwrap_or_default();
                    let piece = Bytes::copy_from_slice(piece);
                    // A store that has it already takes no more of it.
                    if count == 0 || sender.blocking_send(piece).is_err() {
                        return Ok(());
                    }
                }
            })
        })
    }
}

/// A blob on its way to the store.
struct Piecewise {
    digest: Digest,
    size: u64,
    pieces: mpsc::Receiver<Bytes>,
}

async fn bring_missing(
    ctx: &Ctx,
    packed: Packed,
    manifest: Arc<Manifest>,
    missing: BTreeSet<Digest>,
) -> Result<(), Unfinished> {
    let (sender, mut blobs) = mpsc::channel(1);
    let sending = blocking(move || packed.send(&manifest, missing, &sender));
    let storing = async {
        while let Some(one) = blobs.recv().await {
            let body = ReceiverStream::new(one.pieces).map(Ok);
            let put = ctx.blobs.put(&one.digest, one.size, Box::pin(body)).await;
            put.map_err(Unfinished::Blobs)?;
        }
        // Whoever sends learns that nobody takes any more.
        drop(blobs);
        Ok(())
    };
    let (sent, stored) = tokio::join!(sending, storing);
    // Of a blob that broke off the reader says why.
    match (sent, stored) {
        (Err(Unfinished::Archive(archive::Error::Io(_))), Err(stored)) => Err(stored),
        (sent, stored) => sent.and(stored),
    }
}

/// Reads and writes of a file block.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Unfinished> + Send + 'static,
) -> Result<T, Unfinished> {
    let done = tokio::task::spawn_blocking(act).await;
    done.map_err(Unfinished::Lost)?
}

#[cfg(test)]
mod tests;
