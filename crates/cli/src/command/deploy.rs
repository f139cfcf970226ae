//! `deploy`: a folder becomes a release, the release goes live, and somebody watches.
//!
//! Everything before `CreateDeployment` can be repeated without effect: the same content makes the
//! same release, and what is stored is not sent again. `CreateDeployment` itself carries an
//! idempotency key that outlives a lost connection.

use std::{path::PathBuf, time::Instant};

use candlefish_proto::deploy::{
    CreateDeploymentRequest, CreateReleaseRequest, Deployment, Release, SealReleaseRequest, release,
};
use jiff::SignedDuration;
use tonic::Code;

use super::{
    strategy,
    waiting::{self, Waiting},
};
use crate::{
    api::Api,
    app::App,
    error::{Error, Exit},
    git::Commit,
    render::{self, words},
    repeats::Repeat,
};

mod awaited;
mod commit;
mod content;
mod progress;
mod target;

use content::Hashed;
use target::Target;

/// Options of `deploy`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  candlefish deploy ./public --site docs                        a preview with an address of its own
  candlefish deploy ./public --site docs --env production
  candlefish deploy ./public --site docs --env production --strategy canary --weights 10,50 --interval 30s --bake 2m
  curl \"$(candlefish deploy ./public --site docs)\"              on a pipe it only writes the address")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own on the command line"
)]
pub(crate) struct Args {
    /// The folder to deploy; else what candlefish.toml says, else this one
    dir: Option<PathBuf>,
    /// The site; else `CANDLEFISH_SITE`, else what candlefish.toml says
    #[arg(long)]
    site: Option<String>,
    /// The environment; else `CANDLEFISH_ENVIRONMENT`, else what candlefish.toml says, else a preview
    #[arg(long = "env", alias = "environment", value_name = "ENV")]
    environment: Option<String>,
    /// Make a preview, whatever the environment variable and candlefish.toml say
    #[arg(long, conflicts_with = "environment")]
    preview: bool,
    /// The commit it was built from, whatever has changed in the tree; else the one that is checked out
    #[arg(long, value_name = "SHA", help_heading = "Origin")]
    commit: Option<String>,
    /// The branch it was built on; else the one that is checked out
    #[arg(long, help_heading = "Origin")]
    branch: Option<String>,
    /// What it is; else the commit's first line
    #[arg(long, help_heading = "Origin")]
    message: Option<String>,
    /// Why it is deployed
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// Lift the environment's hold in the same act, for this reason (approver); refused where nothing is held
    #[arg(
        long,
        value_name = "REASON",
        default_value = "",
        hide_default_value = true,
        conflicts_with = "preview"
    )]
    lift_hold: String,
    /// Ask nothing: what is missing is an error
    #[arg(long)]
    yes: bool,
    /// Only say what would be deployed where; nothing is sent
    #[arg(long)]
    dry_run: bool,
    /// Do not watch it: end once it is accepted, and write its id
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    strategy: strategy::Options,
    #[command(flatten)]
    waiting: Waiting,
}

/// Hashes, uploads, seals, deploys and watches.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let strategy = args.strategy.strategy()?;
    let target = target::find(app, &api, &args).await?;
    if !target.dir.is_dir() {
        return Err(content::no_folder(&target.dir));
    }
    let (hashed, origin) = read(app, &target, &args).await?;
    if args.dry_run {
        dry_run(app, &target, &hashed, &origin);
        return Ok(Exit::Done);
    }
    let release = Box::pin(store(app, &api, &target, &hashed, origin)).await?;
    let request = CreateDeploymentRequest {
        site: target.site.clone(),
        environment: target.environment.clone().unwrap_or_default(),
        release_id: release.id.clone(),
        strategy,
        preview: target.environment.is_none(),
        reason: args.reason,
        lift_hold: args.lift_hold,
    };
    let (mut deployment, repeat) = api.act_as(&request.clone(), request).await?;
    if deployment.previous_release_id.is_empty() {
        // Its first step notes what it goes over; until then it is what is live.
        deployment.previous_release_id = target.live_release_id;
    }
    say_accepted(app, &release, &deployment, &repeat);
    if args.detach {
        waiting::detached(app, &deployment);
        return Ok(Exit::Done);
    }
    args.waiting
        .after(target.waited)
        .follow(app, &api, deployment, Some(&repeat), None)
        .await
}

/// The folder's content, and the commit that it was built from. One that was named may be wrong: that is
/// told before the folder is read, as nothing ends the reading of it, and the command would wait for that.
async fn read(app: &App, target: &Target, args: &Args) -> Result<(Hashed, Commit), Error> {
    let hashing = content::hash(app, &target.dir, &target.limits);
    let origin = commit::of(app, &target.dir, args);
    if args.commit.is_none() {
        return tokio::try_join!(hashing, origin);
    }
    let origin = origin.await?;
    Ok((hashing.await?, origin))
}

/// Makes the release, sends what it lacks, and freezes it.
async fn store(
    app: &App,
    api: &Api,
    target: &Target,
    hashed: &Hashed,
    origin: Commit,
) -> Result<Release, Error> {
    let request = CreateReleaseRequest {
        site: target.site.clone(),
        manifest_digest: hashed.digest.clone(),
        manifest_size: i32::try_from(hashed.manifest.len()).unwrap_or(i32::MAX),
        commit: origin.id,
        parents: origin.parents,
        ancestors: origin.ancestors,
        branch: origin.branch,
        message: origin.message,
        author: origin.author,
        author_email: origin.author_email,
        committed_at: origin
            .committed_at
            .map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
        dirty: origin.dirty,
    };
    let release = api.read(request).await?;
    if release.state() == release::State::Sealed {
        content::say_stored(app, hashed);
        return Ok(release);
    }
    let begun = Instant::now();
    let sent = content::upload(app, api, &release.id, hashed).await?;
    // The server reads all content again before it freezes it.
    let sealing = progress::spinner(app, "Sealing");
    let sealed = Box::pin(seal(app, api, release.id, hashed));
    let sealed = progress::told(app, "sealing", &sealing, sealed).await;
    sealing.finish_and_clear();
    let sealed = sealed?;
    content::say_sent(app, hashed, &sent, begun);
    Ok(sealed)
}

async fn seal(app: &App, api: &Api, id: String, hashed: &Hashed) -> Result<Release, Error> {
    let seal = SealReleaseRequest { id: id.clone() };
    match api.read(seal.clone()).await {
        // Something that was there when it was asked for is gone: ask again, once.
        Err(Error::Refused(status)) if status.code() == Code::FailedPrecondition => {
            content::upload(app, api, &id, hashed).await?;
            api.read(seal).await
        }
        other => other,
    }
}

fn say_accepted(app: &App, release: &Release, deployment: &Deployment, repeat: &Repeat) {
    let look = app.output.look_err();
    let value = format!(
        "{}  {}",
        words::short(&release.id),
        render::release::origin(release)
    );
    app.output
        .note(&render::deployment::labelled("Release", &value, "", &look));
    app.output
        .note(&render::deployment::head(deployment, &look));
    if repeat.again {
        let asked = words::ago(deployment.created_at.as_ref(), &look.now);
        let value =
            format!("the request of {asked}, whose answer did not arrive; no second one was made");
        app.output
            .note(&render::deployment::labelled("Repeats", &value, "", &look));
    }
    if app.output.animates() {
        app.output.note("");
    }
}

fn dry_run(app: &App, target: &Target, hashed: &Hashed, origin: &Commit) {
    let release = Release {
        commit: origin.id.clone(),
        message: origin.message.clone(),
        author: origin.author.clone(),
        branches: vec![origin.branch.clone()]
            .into_iter()
            .filter(|branch| !branch.is_empty())
            .collect(),
        dirty: origin.dirty,
        ..Release::default()
    };
    let place = match &target.environment {
        Some(environment) => format!("{}/{environment}", target.site),
        None => format!("{}, as a preview", target.site),
    };
    if app.shared.json {
        let object = serde_json::json!({
            "dry_run": true, "site": target.site, "environment": target.environment, "manifest_digest": hashed.digest,
            "file_count": hashed.entries.len(), "byte_count": hashed.bytes.to_string(), "commit": origin.id, "dirty": origin.dirty,
        });
        app.output.result(&object.to_string());
        return;
    }
    let look = app.output.look_out();
    let digest = hashed.digest.get(..12).unwrap_or(&hashed.digest);
    let content = format!("{digest}…  {}", render::release::origin(&release));
    app.output.result(&render::deployment::labelled(
        "Release", &content, "", &look,
    ));
    app.output.result(&render::deployment::labelled(
        "Would go to",
        &place,
        "",
        &look,
    ));
    app.output.result("  Nothing was sent.");
}

/// How long something took on this machine.
fn passed(begun: Instant) -> SignedDuration {
    SignedDuration::try_from(begun.elapsed()).unwrap_or(SignedDuration::MAX)
}
