//! The two longest requests to commands. A request that is refused for its form is told of what it
//! names and is not there as well: it is corrected once.

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy as pb;
use candlefish_runtime::{identity::Caller, refusal::Refusal};

use crate::{
    ctx::Ctx,
    deployment::{
        create::{self, Create},
        error::no_release,
        roll_back::{self, RollBack},
    },
    field::Faults,
    release,
    site::{self, strategy::Strategy},
};

/// A deployment to accept.
pub(super) async fn create(
    ctx: &Ctx,
    caller: &Caller,
    message: &pb::CreateDeploymentRequest,
) -> Result<Create, Refusal> {
    let mut faults = Faults::default();
    let cmd = shape_of_create(&mut faults, message);
    let (site, environment) = (&message.site, &message.environment);
    site::name_absent(&ctx.pool, &mut faults, caller, site, environment).await;
    if let Some(cmd) = &cmd
        && caller.sees(site)
    {
        name_absent_release(ctx, &mut faults, site, cmd.release_id).await;
    }
    faults.finish_with(cmd)
}

/// Names a release that is not one of the site, beside other faults.
async fn name_absent_release(ctx: &Ctx, faults: &mut Faults, site: &str, id: ReleaseId) {
    if faults.is_empty() || faults.names("site") {
        return;
    }
    let Ok(mut conn) = ctx.pool.acquire().await else {
        return;
    };
    if let Ok(false) = release::store::is_of(&mut conn, id, site).await {
        faults.add("release_id", no_release(id));
    }
}

fn shape_of_create(faults: &mut Faults, message: &pb::CreateDeploymentRequest) -> Option<Create> {
    let site = faults.site("site", &message.site);
    let to = if message.preview {
        if !message.environment.is_empty() {
            faults.add("environment", "must be empty with `preview`");
        }
        if !message.lift_hold.is_empty() {
            faults.add("lift_hold", "a preview is never held");
        }
        create::To::Preview
    } else {
        // A preview's environment has 26 characters; it is refused by what it is, not by length.
        let slug = faults.environment("environment", &message.environment);
        create::To::Environment(slug)
    };
    let release_id = faults.id("release_id", &message.release_id);
    let strategy = Strategy::read(faults, "strategy", message.strategy.as_ref());
    let reason = faults.optional_reason("reason", &message.reason);
    let lift_hold = faults.reason_if_given("lift_hold", &message.lift_hold);
    Some(Create {
        release_id: release_id?,
        site,
        to,
        strategy,
        reason,
        lift_hold,
    })
}

/// A rollback to accept.
pub(super) async fn roll_back(
    ctx: &Ctx,
    caller: &Caller,
    message: &pb::CreateRollbackRequest,
) -> Result<RollBack, Refusal> {
    let mut faults = Faults::default();
    let site = faults.site("site", &message.site);
    let environment = faults.environment("environment", &message.environment);
    let release = faults.optional_id("to_release_id", &message.to_release_id);
    let leaves = faults.optional_id("leaves_release_id", &message.leaves_release_id);
    let to = match (release, message.to_commit.as_str()) {
        (Some(_), commit) if !commit.is_empty() => {
            faults.add("to_commit", "must be empty with `to_release_id`");
            roll_back::To::Before
        }
        (Some(release), _) => roll_back::To::Release(release),
        (None, "") => roll_back::To::Before,
        (None, commit) => roll_back::To::Commit(faults.commit_prefix("to_commit", commit)),
    };
    let reason = faults.optional_reason("reason", &message.reason);
    site::name_absent(&ctx.pool, &mut faults, caller, &site, &environment).await;
    faults.finish()?;
    Ok(RollBack {
        site,
        environment,
        leaves,
        to,
        reason,
        validate_only: message.validate_only,
    })
}
