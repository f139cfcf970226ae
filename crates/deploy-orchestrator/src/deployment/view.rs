//! A deployment as the API shows it.

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, ReleaseId, StepId};
use candlefish_proto::deploy as pb;
use sqlx::PgConnection;

use super::{
    Deployment, Error,
    plan::{Kind, StepKind, plan},
    state::State,
    store::{self, Step, Steps, Surroundings},
};
use crate::{
    blocker::{
        Told,
        ledger::{self, Sums},
    },
    config::Config,
    ctx::{Ctx, Tx, shown, shown_duration},
    lane,
    page::Page,
    release,
    site::host,
};

/// Looks at a deployment that goes on moving; it has few versions within so short a time.
const LOOKS: usize = 4;

/// The deployment alone: without release, blockers, steps and addresses.
pub(crate) fn bare(deployment: &Deployment) -> pb::Deployment {
    let acting = deployment.state.acting();
    let finished_at = match &deployment.state {
        State::Ended { at, .. } => Some(shown(*at)),
        _ => None,
    };
    let id = |id: Option<DeploymentId>| id.map(|id| id.to_string()).unwrap_or_default();
    let release = |id: Option<ReleaseId>| id.map(|id| id.to_string()).unwrap_or_default();
    pb::Deployment {
        id: deployment.id.to_string(),
        site: deployment.site.clone(),
        environment: deployment.environment.clone(),
        release_id: deployment.release_id.to_string(),
        kind: kind(deployment.kind).into(),
        strategy: Some((&deployment.strategy).into()),
        state: state(&deployment.state).into(),
        cause: deployment.cause.clone(),
        message: deployment.message.clone(),
        created_at: Some(shown(deployment.created_at)),
        created_by: deployment.created_by.clone(),
        started_at: acting.map(|acting| shown(acting.started_at)),
        pivoted_at: acting.and_then(|acting| acting.pivoted_at).map(shown),
        live_at: acting.and_then(|acting| acting.live_at).map(shown),
        finished_at,
        deadline_at: deployment.deadline_at.map(shown),
        weight: deployment.weight,
        previous_release_id: release(deployment.previous_release_id),
        retry_of: id(deployment.retry_of),
        leaves_release_id: release(deployment.leaves_release_id),
        superseded_by: id(deployment.superseded_by),
        reason: deployment.reason.clone(),
        target_confirmed: deployment.target_confirmed,
        trace_id: deployment.trace_id.clone(),
        version: deployment.version,
        pin: deployment.pin.as_ref().map(|pin| pb::deployment::Pin {
            at: Some(shown(pin.at)),
            by: pin.by.clone(),
            reason: pin.reason.clone(),
        }),
        ..pb::Deployment::default()
    }
}

/// A whole deployment, with release, blockers and steps, in the transaction that holds it.
pub(crate) async fn load(
    ctx: &Ctx,
    conn: &mut PgConnection,
    id: DeploymentId,
) -> Result<pb::Deployment, Error> {
    let deployment = store::find(conn, id).await?;
    let deployment = deployment.ok_or_else(|| super::error::unknown(id))?;
    whole(ctx, conn, deployment).await
}

/// A deployment that was read outside its lock, with what belongs to the same version of it: one
/// that moves on meanwhile is read again.
pub(super) async fn whole(
    ctx: &Ctx,
    conn: &mut PgConnection,
    mut deployment: Deployment,
) -> Result<pb::Deployment, Error> {
    let mut looks = LOOKS;
    loop {
        looks -= 1;
        let around = store::surroundings::of_one(conn, deployment.id, Steps::Read).await?;
        if looks > 0
            && around
                .as_ref()
                .is_some_and(|a| a.version != deployment.version)
        {
            let again = store::find(conn, deployment.id).await?;
            deployment = again.unwrap_or(deployment);
            continue;
        }
        let shown = shown_with(ctx, &deployment, around);
        return Ok(with_steps(&deployment, shown));
    }
}

/// New deployments with what belongs to them, in the transaction that wrote them and let their lanes
/// choose.
pub(super) async fn whole_each(
    ctx: &Ctx,
    tx: &mut Tx,
    deployments: Vec<Deployment>,
) -> Result<Vec<pb::Deployment>, Error> {
    let ids: Vec<_> = deployments.iter().map(|one| one.id).collect();
    let mut around = store::surroundings::of_many(tx, &ids, Steps::Read).await?;
    let moved: Vec<_> = deployments
        .iter()
        .filter(|one| {
            around
                .get(&one.id)
                .is_some_and(|a| a.version != one.version)
        })
        .map(|one| one.id)
        .collect();
    let mut moved = store::lock_each(tx, &moved).await?;
    Ok(deployments
        .into_iter()
        .map(|one| {
            let one = moved.remove(&one.id).unwrap_or(one);
            with_steps(&one, shown_with(ctx, &one, around.remove(&one.id)))
        })
        .collect())
}

/// Shows the plan of a deployment that never had its lane: none of its steps is written yet.
fn with_steps(deployment: &Deployment, mut shown: pb::Deployment) -> pb::Deployment {
    if shown.steps.is_empty() {
        shown.steps = planned(deployment);
    }
    shown
}

/// The steps of a deployment that never had its lane: none is written yet.
fn planned(deployment: &Deployment) -> Vec<pb::Step> {
    let state = if deployment.state.is_terminal() {
        pb::step::State::Abandoned
    } else {
        pb::step::State::Pending
    };
    (1..)
        .zip(plan(deployment.kind, &deployment.strategy))
        .map(|(ord, planned)| pb::Step {
            ord,
            kind: step_kind(planned.kind).into(),
            state: state.into(),
            weight: planned.weight,
            interval: (!planned.interval.is_zero()).then(|| shown_duration(planned.interval)),
            ..pb::Step::default()
        })
        .collect()
}

/// Deployments with release and blockers, without steps.
pub(super) async fn with_surroundings(
    ctx: &Ctx,
    conn: &mut PgConnection,
    deployments: &[Deployment],
) -> Result<Vec<pb::Deployment>, Error> {
    let ids: Vec<_> = deployments.iter().map(|one| one.id).collect();
    let mut around = store::surroundings::of_many(conn, &ids, Steps::Leave).await?;
    Ok(deployments
        .iter()
        .map(|one| shown_with(ctx, one, around.remove(&one.id)))
        .collect())
}

fn shown_with(ctx: &Ctx, deployment: &Deployment, around: Option<Surroundings>) -> pb::Deployment {
    let mut shown = pb::Deployment {
        url: url(&ctx.config, deployment),
        ..bare(deployment)
    };
    if let Some(around) = around {
        if around.has_address {
            let own = host::of_deployment(&deployment.site, deployment.id, &ctx.config.domain);
            shown.preview_url = host::url(&own, ctx.config.site_port);
        }
        shown.release = Some(release::view::release(around.release));
        shown.blockers = around.kept.shown();
        shown.steps = around.steps.into_iter().map(step).collect();
    }
    shown
}

fn url(config: &Config, deployment: &Deployment) -> String {
    let (site, domain) = (&deployment.site, &config.domain);
    let host = match deployment.kind {
        Kind::Preview => host::of_deployment(site, deployment.id, domain),
        Kind::Standard | Kind::Rollback => {
            host::of_environment(site, &deployment.environment, domain)
        }
    };
    host::url(&host, config.site_port)
}

fn kind(kind: Kind) -> pb::deployment::Kind {
    match kind {
        Kind::Standard => pb::deployment::Kind::Standard,
        Kind::Rollback => pb::deployment::Kind::Rollback,
        Kind::Preview => pb::deployment::Kind::Preview,
    }
}

fn state(state: &State) -> pb::deployment::State {
    use super::state::Outcome;
    use pb::deployment::State as Shown;
    match state {
        State::Pending => Shown::Pending,
        State::Running(_) => Shown::Running,
        State::Waiting(_) => Shown::Waiting,
        State::Cancelling { .. } => Shown::Cancelling,
        State::Ended { outcome, .. } => match outcome {
            Outcome::Succeeded => Shown::Succeeded,
            Outcome::Failed => Shown::Failed,
            Outcome::Cancelled => Shown::Cancelled,
            Outcome::Superseded => Shown::Superseded,
            Outcome::RolledBack => Shown::RolledBack,
        },
    }
}

fn step_kind(kind: StepKind) -> pb::step::Kind {
    use pb::step::Kind as Shown;
    match kind {
        StepKind::Prepare => Shown::Prepare,
        StepKind::Stage => Shown::Stage,
        StepKind::VerifyCandidate => Shown::VerifyCandidate,
        StepKind::Shift => Shown::Shift,
        StepKind::Analyse => Shown::Analyse,
        StepKind::Switch => Shown::Switch,
        StepKind::VerifyLive => Shown::VerifyLive,
        StepKind::Bake => Shown::Bake,
        StepKind::Finish => Shown::Finish,
        StepKind::Return => Shown::Return,
        StepKind::Unstage => Shown::Unstage,
    }
}

fn step_state(word: &str) -> pb::step::State {
    use pb::step::State as Shown;
    match word {
        "pending" => Shown::Pending,
        "ready" => Shown::Ready,
        "running" => Shown::Running,
        "done" => Shown::Done,
        "failed" => Shown::Failed,
        "abandoned" => Shown::Abandoned,
        "quarantined" => Shown::Quarantined,
        // A word that a newer release wrote.
        _ => Shown::Unspecified,
    }
}

/// What kept a deployment, a page at a time from the last ones on; the first page also tells at its end
/// what keeps it besides, and the sums over all pages.
pub(super) async fn blockers(
    conn: &mut PgConnection,
    id: DeploymentId,
    page: &Page<i64>,
) -> Result<pb::ListBlockersResponse, sqlx::Error> {
    let before = page.after().copied();
    // The ledger first: what is granted between the two is kept by nothing besides.
    let rows = ledger::list(conn, id, before, page.limit()).await?;
    let (rows, next_page_token) = page.cut(rows, |(place, _)| *place);
    let mut told: Vec<Told> = rows.into_iter().rev().map(|(_, told)| told).collect();
    let mut sums = Sums::default();
    if before.is_none() {
        // Once for all pages: it reads the whole ledger of the deployment.
        sums = ledger::sum(conn, id).await?;
        if let Some(kept) = lane::store::find_kept(conn, id).await? {
            told = kept.after(told);
        }
    }
    Ok(pb::ListBlockersResponse {
        blockers: told.into_iter().map(Told::shown).collect(),
        next_page_token,
        waited: sums.waited,
        lead_time: sums.lead_time.map(shown_duration),
        unblocked: sums.unblocked.map(shown_duration),
    })
}

/// The steps of a deployment, undo steps last.
pub(super) async fn steps(
    conn: &mut PgConnection,
    deployment: &Deployment,
) -> Result<Vec<pb::Step>, sqlx::Error> {
    let around = store::surroundings::of_one(conn, deployment.id, Steps::Read).await?;
    let steps = around.into_iter().flat_map(|around| around.steps);
    let written: Vec<_> = steps.map(step).collect();
    Ok(if written.is_empty() {
        planned(deployment)
    } else {
        written
    })
}

fn step(row: Step) -> pb::Step {
    let at = |at: jiff::Timestamp| shown(Moment::from_database(at));
    pb::Step {
        id: StepId::from_uuid(row.id).to_string(),
        ord: row.ord,
        kind: StepKind::from_word(&row.kind)
            .map_or(pb::step::Kind::Unspecified, step_kind)
            .into(),
        state: step_state(&row.state).into(),
        weight: row.weight,
        interval: (row.interval_ms > 0).then(|| {
            let millis = u64::try_from(row.interval_ms).unwrap_or(0);
            shown_duration(std::time::Duration::from_millis(millis))
        }),
        undo: row.undo,
        attempts: row.attempt,
        lost_leases: row.lost_leases,
        started_at: row.started_at.map(at),
        finished_at: row.finished_at.map(at),
        message: row.message,
        worker: row.owner.unwrap_or_default(),
    }
}
