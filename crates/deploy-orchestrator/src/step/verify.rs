//! `verify_candidate` and `verify_live`: fetches pages as visitors get them, from every live edge,
//! and compares digests. One lucky answer is not healthy: a candidate must pass again after settling.
//!
//! What is live is looked at once. Its content was looked at twice already, through the same edges from the
//! same store, with the settling between; a rollback's was live here before. What is new is the route, whose
//! version each live edge confirmed before, and one look asks every edge for up to two hundred files by it.
//!
//! Nothing is locked while it fetches. A page that is not the release's fails the release; an edge
//! that does not answer is the edge's fault, and is tried again.

use std::{sync::Arc, time::Duration};

use candlefish_clock::Moment;
use candlefish_manifest::{Digest, Entry, Limits, Manifest, digest_of};
use futures_util::{StreamExt, stream};
use reqwest::{StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    Step,
    drive::Claimed,
    edges, finish,
    outcome::{Outcome, Wait},
    shared,
};
use crate::{
    Config,
    blocker::{self, Blocker},
    ctx::{CommitError, Ctx, Tx},
    deployment::{
        Deployment,
        plan::{Kind, StepKind},
        state::Cause,
    },
    edge::{self, store::Follower},
    noun, route,
    site::host,
};

/// All files of a site up to this size are fetched; of a larger one a sample of as many.
const ALL_UP_TO: usize = 200;
/// A look at what is live already, for the second look after settling.
const SECOND_LOOK: usize = 20;
/// Before a store that did not answer is asked again.
const STORE_AGAIN: Duration = Duration::from_secs(2);
/// Fetches at a time for one edge.
const AT_A_TIME: usize = 8;

/// What went wrong outside the release: the step is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("the database did not answer")]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error("the manifest of {release} could not be read: {words}")]
    Manifest {
        release: candlefish_ids::ReleaseId,
        words: String,
    },
    #[error("the store did not give the manifest: {words}")]
    Store { words: String },
    #[error("{edge} did not answer for {path}: {words}")]
    Edge {
        edge: String,
        path: String,
        words: String,
    },
}

/// What fetches from edges. One that is silent for so long is given up, before it answers as within a
/// body; for a whole page there is no bound but the deployment's deadline, since a large file on a slow
/// line takes its time.
pub(super) fn visitor(silence: Duration) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        // An edge is asked by its address: a proxy between would answer for it, or not reach it.
        .no_proxy()
        .connect_timeout(silence)
        .read_timeout(silence)
        .build()
}

/// What a look begins with, as the transaction that claimed its step saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// SHA-256 of the release's manifest, in hex; none where there is no such release.
    manifest: Option<String>,
    /// The edges to fetch from.
    live: Vec<Follower>,
    /// What to wait for before.
    waits: Option<Outcome>,
}

/// Reads what a look at a step begins with, in the transaction that claims it.
pub(super) async fn see(
    config: &Config,
    tx: &mut Tx,
    deployment: &Deployment,
    step: &Step,
) -> Result<Seen, sqlx::Error> {
    let release = [deployment.release_id];
    let manifests = shared::manifests(tx, deployment, &release).await?;
    let (live, waits) = if step.kind == StepKind::VerifyLive {
        edges::serving(config, tx, deployment, &mut step.clone()).await?
    } else {
        let all = shared::followers(tx, deployment, &[]).await?;
        (all.into_iter().filter(|one| one.live).collect(), None)
    };
    Ok(Seen {
        manifest: manifests.into_iter().next().map(|one| one.manifest),
        live,
        waits,
    })
}

/// Fetches and compares; holds no transaction.
pub(super) async fn run(
    ctx: &Ctx,
    http: &reqwest::Client,
    claimed: &Claimed,
) -> Result<Outcome, Trouble> {
    let (deployment, step, seen) = (&claimed.deployment, &claimed.step, claimed.seen.as_ref());
    let manifest = match load_manifest(ctx, deployment, seen).await {
        Err(trouble @ Trouble::Store { .. }) => return Ok(store_is_away(&trouble, step)),
        loaded => Arc::new(loaded?),
    };
    let passed_before = step.detail.get("passed").is_some();
    let limit = if passed_before {
        SECOND_LOOK
    } else {
        ALL_UP_TO
    };
    let wanted = sample(&manifest, limit, deployment.id.uuid().as_u128());
    let seen_as = seen_as(ctx, deployment, step.kind);
    let (live, waits) = match seen {
        Some(seen) => (seen.live.clone(), seen.waits.clone()),
        None => live_edges(ctx, deployment, step).await?,
    };
    if let Some(waits) = waits {
        return Ok(waits);
    }
    let needed = deployment.needed_edges();
    if live.len() < needed {
        return Ok(edges::too_few(live.len(), needed, deployment, step));
    }
    let redirects = has_redirects(&manifest);
    let mut redirected = 0;
    for edge in &live {
        let look = Look {
            http,
            edge: &edge.id,
            address: &edge.address,
            host: &seen_as,
            redirects,
        };
        match look.fetch_all(&wanted).await? {
            Ok(some) => redirected = redirected.max(some),
            Err(fault) => return Ok(Outcome::failed(Cause::Verification, fault.0)),
        }
    }
    let settles = step.kind == StepKind::VerifyCandidate
        && deployment.kind != Kind::Preview
        && !deployment.policy.settle.is_zero();
    let words = matched(wanted.len(), redirected, served(&manifest).count());
    if settles && !passed_before {
        let now = ctx.now().await?;
        return Ok(settle(now, step, deployment.policy.settle, words));
    }
    let words = step
        .detail
        .get("passed")
        .and_then(Value::as_str)
        .map_or(words, str::to_owned);
    Ok(Outcome::done(words))
}

/// The wait for a store that says nothing of the release, which only the deployment's deadline ends: nobody
/// who sees the pages needs it.
fn store_is_away(trouble: &Trouble, step: &Step) -> Outcome {
    let blocker = Blocker {
        kind: blocker::Kind::Provider,
        until: None,
        owner: "platform",
        message: format!("{trouble}; asked again"),
        action: format!("candlefish cancel {} (gives it up)", step.deployment_id),
    };
    Outcome::Wait(Wait {
        again_in: STORE_AGAIN,
        on_edges: false,
        message: blocker.message.clone(),
        blocker: Some(blocker),
        detail: step.detail.clone(),
    })
}

/// The live edges; of what is live, those that serve it, and what to wait for when others do not yet.
async fn live_edges(
    ctx: &Ctx,
    deployment: &Deployment,
    step: &Step,
) -> Result<(Vec<Follower>, Option<Outcome>), Trouble> {
    if step.kind == StepKind::VerifyLive {
        let mut tx = ctx.begin().await?;
        tx.read_clock().await?;
        let mut step = step.clone();
        let found = edges::serving(&ctx.config, &mut tx, deployment, &mut step).await?;
        ctx.commit(tx).await?;
        return Ok(found);
    }
    let now = ctx.now().await?;
    let mut conn = ctx.pool.acquire().await?;
    let all = edge::store::list_followers(&mut conn, now, &[], deployment.release_id).await?;
    Ok((all.into_iter().filter(|one| one.live).collect(), None))
}

/// The host by which a step asks: a candidate has only the address of its own.
fn seen_as(ctx: &Ctx, deployment: &Deployment, kind: StepKind) -> String {
    let domain = &ctx.config.domain;
    match kind {
        StepKind::VerifyCandidate => host::of_deployment(&deployment.site, deployment.id, domain),
        _ => host::of_environment(&deployment.site, &deployment.environment, domain),
    }
}

/// The wait between the two looks, after the first saw what `words` say.
pub(crate) fn settle(now: Moment, step: &Step, again_in: Duration, words: String) -> Outcome {
    let until = now.plus(again_in);
    let blocker = || Blocker {
        kind: blocker::Kind::Timer,
        until: Some(until),
        owner: "time",
        message: format!(
            "the candidate settles for {}; then it is looked at once more",
            finish::words(again_in)
        ),
        action: format!("candlefish advance {}", step.deployment_id),
    };
    Outcome::Wait(Wait {
        again_in,
        on_edges: false,
        message: format!("{words}; once more after settling"),
        blocker: (again_in >= edges::NAMED_AFTER).then(blocker),
        detail: json!({ "passed": words, "until_ms": until.timestamp().as_millisecond() }),
    })
}

/// Whether only time keeps the second look: a person may take it now. What comes after settling, such
/// as an edge that does not answer, is not passed.
pub(crate) fn settles(step: &Step, now: Moment) -> bool {
    let until = step.detail.get("until_ms").and_then(Value::as_i64);
    step.kind == StepKind::VerifyCandidate
        && step.detail.get("advanced").is_none()
        && until.is_some_and(|until| now.timestamp().as_millisecond() < until)
}

async fn load_manifest(
    ctx: &Ctx,
    deployment: &Deployment,
    seen: Option<&Seen>,
) -> Result<Manifest, Trouble> {
    let release = deployment.release_id;
    let unreadable = |words: String| Trouble::Manifest { release, words };
    let known = if let Some(seen) = seen {
        seen.manifest.clone()
    } else {
        let mut conn = ctx.pool.acquire().await.map_err(Trouble::Database)?;
        let known = route::store::manifests(&mut conn, &[release]).await?;
        known.into_iter().next().map(|one| one.manifest)
    };
    let digest: Digest = known
        .ok_or_else(|| unreadable("no such release".to_owned()))?
        .parse()
        .map_err(|error| unreadable(format!("{error}")))?;
    let limits = Limits::of_sealed();
    let most = u64::try_from(limits.manifest_bytes).unwrap_or(u64::MAX);
    let bytes = ctx
        .blobs
        .read(&digest, most)
        .await
        .map_err(|error| unread(release, &error))?;
    Manifest::decode(&bytes, &limits).map_err(|error| unreadable(error.to_string()))
}

/// A manifest that was not read, for which the release may be to blame, or the store alone.
fn unread(release: candlefish_ids::ReleaseId, error: &candlefish_blobs::Error) -> Trouble {
    let words = error.to_string();
    if error.is_transient() {
        Trouble::Store { words }
    } else {
        Trouble::Manifest { release, words }
    }
}

/// The files that visitors can get: all but the rules.
fn served(manifest: &Manifest) -> impl Iterator<Item = &Entry> {
    let rules = |entry: &&Entry| !matches!(entry.path.as_str(), "_redirects" | "_headers");
    manifest.entries().iter().filter(rules)
}

/// Whether the release may answer a page's address with a redirect.
fn has_redirects(manifest: &Manifest) -> bool {
    manifest.get("_redirects").is_some()
}

/// The first page was asked for by its short address as well, and counts once. For those that a rule sends
/// elsewhere nothing was compared.
fn matched(fetched: usize, redirected: usize, files: usize) -> String {
    let looked_at = fetched.saturating_sub(1).min(files);
    let matched = noun::grouped(looked_at.saturating_sub(redirected));
    let verb = if files == 1 { "matches" } else { "match" };
    let words = format!("{matched} of {} {verb}", noun::counted(files, "file"));
    match redirected {
        0 => words,
        1 => format!("{words}, 1 redirects"),
        more => format!("{words}, {} redirect", noun::grouped(more)),
    }
}

/// One file to fetch and what it must be. It is asked for by its name: from there an edge sends
/// nobody to the address of its page (`guide/` for `guide/index.html`).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    path: String,
    digest: Digest,
}

/// The first page and a sample of the files, spread over the whole site; `seed` shifts it, so that
/// repeated deployments look at other files.
fn sample(manifest: &Manifest, limit: usize, seed: u128) -> Vec<Wanted> {
    let entries = manifest.entries();
    let served: Vec<_> = served(manifest).collect();
    let count = served.len().min(limit);
    let offset = usize::try_from(seed % 1009).unwrap_or(0);
    let mut wanted: Vec<Wanted> = (0..count)
        .filter_map(|place| {
            let index = (place * served.len() / count.max(1) + offset) % served.len().max(1);
            let index = if count == served.len() { place } else { index };
            let entry = served.get(index)?;
            Some(Wanted {
                path: entry.path.clone(),
                digest: entry.digest,
            })
        })
        .collect();
    if let Some(index) = entries.iter().find(|entry| entry.path == "index.html") {
        wanted.insert(
            0,
            Wanted {
                path: String::new(),
                digest: index.digest,
            },
        );
    } else {
        // Its digest is of nothing: whatever answers, the first page is missing.
        wanted.insert(
            0,
            Wanted {
                path: String::new(),
                digest: digest_of(b""),
            },
        );
    }
    wanted
}

/// An answer that was not the edge's to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answered {
    Match,
    /// A rule of the release sends elsewhere.
    Redirect,
}

/// What is wrong with the release, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault(String);

/// One edge, looked at as a visitor of one host.
struct Look<'a> {
    http: &'a reqwest::Client,
    edge: &'a str,
    address: &'a str,
    host: &'a str,
    /// The release has redirect rules, which may stand before a file.
    redirects: bool,
}

impl Look<'_> {
    /// Fetches all; how many files redirect, or the first fault.
    async fn fetch_all(&self, wanted: &[Wanted]) -> Result<Result<usize, Fault>, Trouble> {
        // Collected first: a closure inside the stream would borrow for any lifetime.
        let fetches: Vec<_> = wanted.iter().map(|one| self.fetch(one)).collect();
        let mut answers = stream::iter(fetches).buffered(AT_A_TIME);
        let mut of = wanted.iter();
        let mut redirected = 0;
        while let Some(answer) = answers.next().await {
            // The short address of the first page is no file.
            let is_file = of.next().is_some_and(|one| !one.path.is_empty());
            match answer? {
                Ok(Answered::Redirect) if is_file => redirected += 1,
                Ok(_) => {}
                Err(fault) => return Ok(Err(fault)),
            }
        }
        Ok(Ok(redirected))
    }

    async fn fetch(&self, wanted: &Wanted) -> Result<Result<Answered, Fault>, Trouble> {
        let trouble = |error: reqwest::Error| Trouble::Edge {
            edge: self.edge.to_owned(),
            path: format!("/{}", wanted.path),
            words: error.to_string(),
        };
        let response = self
            .http
            .get(format!("http://{}/{}", self.address, encoded(&wanted.path)))
            .header(header::HOST, self.host)
            .header(header::ACCEPT_ENCODING, "identity")
            .header("candlefish-probe", "verify")
            .send()
            .await
            .map_err(trouble)?;
        let status = response.status();
        if status.is_redirection() && self.redirects {
            return Ok(Ok(Answered::Redirect));
        }
        if status == StatusCode::MISDIRECTED_REQUEST || status == StatusCode::SERVICE_UNAVAILABLE {
            return Err(Trouble::Edge {
                edge: self.edge.to_owned(),
                path: format!("/{}", wanted.path),
                words: format!("answered {status}"),
            });
        }
        if status != StatusCode::OK {
            return Ok(Err(self.fault(wanted, &format!("answered {status}"))));
        }
        let mut hash = Sha256::new();
        let mut body = response.bytes_stream();
        while let Some(chunk) = body.next().await {
            hash.update(chunk.map_err(trouble)?);
        }
        let found: [u8; 32] = hash.finalize().into();
        if found == *wanted.digest.as_bytes() {
            Ok(Ok(Answered::Match))
        } else {
            Ok(Err(self.fault(
                wanted,
                "answered other content than the release's",
            )))
        }
    }

    fn fault(&self, wanted: &Wanted, what: &str) -> Fault {
        if wanted.path.is_empty() && wanted.digest == digest_of(b"") {
            return Fault(format!(
                "/ {what} on {}: the release has no index.html",
                self.edge
            ));
        }
        Fault(format!("/{} {what} on {}", wanted.path, self.edge))
    }
}

/// A path as a request carries it: everything but unreserved characters and `/` in percent.
fn encoded(path: &str) -> String {
    use std::fmt::Write as _;
    path.bytes()
        .fold(String::with_capacity(path.len()), |mut text, byte| {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
                text.push(char::from(byte));
            } else {
                write!(text, "%{byte:02X}").expect("a string takes all");
            }
            text
        })
}

#[cfg(test)]
mod tests;
