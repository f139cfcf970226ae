//! Writing a new deployment: shared by the commands that accept one.
//!
//! Deployment, blockers and event are one commit with the lane's choice; the caller is answered after
//! it. The steps of its plan are written when the lane is granted: many never are.

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, ReleaseId};
use candlefish_runtime::{
    refusal::{Code, Refusal},
    trace::current_traceparent,
};
use jiff_sqlx::Timestamp;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::{
    Deployment, Error,
    error::{banned, collected},
    event,
    plan::Kind,
    state::State,
    store,
};
use crate::{
    ctx::{Ctx, Tx, read},
    lane::{self, store::Lane},
    release::store::Ban,
    site::{self, Environment, strategy::Strategy},
    step, trace,
};

/// What the accepting commands differ in.
#[derive(Debug, Clone)]
pub(super) struct New<'a> {
    pub(super) environment: &'a Environment,
    pub(super) release_id: ReleaseId,
    pub(super) kind: Kind,
    pub(super) strategy: Strategy,
    pub(super) actor: &'a str,
    pub(super) reason: &'a str,
    pub(super) retry_of: Option<DeploymentId>,
    pub(super) leaves_release_id: Option<ReleaseId>,
}

/// Writes the deployment and lets the lane choose; answers it as it was written. The lane is locked.
pub(super) async fn accept(
    ctx: &Ctx,
    tx: &mut Tx,
    lane: &mut Lane,
    id: DeploymentId,
    new: New<'_>,
) -> Result<Deployment, Error> {
    accept_linked(ctx, tx, lane, (id, current_traceparent()), new).await
}

/// The same where the call that asked for it is over: its trace context is given.
pub(super) async fn accept_linked(
    ctx: &Ctx,
    tx: &mut Tx,
    lane: &mut Lane,
    linked: (DeploymentId, String),
    new: New<'_>,
) -> Result<Deployment, Error> {
    let accepted = write(ctx, tx, lane, linked, new).await?;
    say_accepted(&accepted);
    Ok(accepted)
}

/// The same without a word in the log: whoever may still refuse it says it ([`say_accepted`]).
pub(super) async fn accept_unsaid(
    ctx: &Ctx,
    tx: &mut Tx,
    lane: &mut Lane,
    id: DeploymentId,
    new: New<'_>,
) -> Result<Deployment, Error> {
    write(ctx, tx, lane, (id, current_traceparent()), new).await
}

async fn write(
    ctx: &Ctx,
    tx: &mut Tx,
    lane: &mut Lane,
    (id, parent): (DeploymentId, String),
    new: New<'_>,
) -> Result<Deployment, Error> {
    check_open(lane.closed, new.environment)?;
    let deployment = build(id, tx.now(), &new);
    write_each(tx, &[(&deployment, parent)]).await?;
    lane::grant(ctx, tx, lane).await?;
    Ok(deployment)
}

/// Refuses what is asked of a closed preview.
pub(super) fn check_open(closed: bool, environment: &Environment) -> Result<(), Refusal> {
    if !closed {
        return Ok(());
    }
    let place = environment.place();
    let next = match environment.kind {
        site::Kind::PullRequest(number) => format!(
            "it opens again when pull request {number} is reopened; for an address of its own: \
             candlefish deploy DIR --site {} --preview",
            environment.site
        ),
        site::Kind::Preview | site::Kind::Standard => format!(
            "make another: candlefish deploy DIR --site {} --preview",
            environment.site
        ),
    };
    let words = format!("{place} is closed; {next}");
    let refusal = Refusal::new(Code::FailedPrecondition, "environment-closed", &words);
    Err(refusal.field("environment", words))
}

/// Writes new deployments, each with the trace context of its request.
pub(super) async fn write_each(
    tx: &mut Tx,
    asked: &[(&Deployment, String)],
) -> Result<(), sqlx::Error> {
    store::insert_each(tx, asked).await?;
    for (deployment, _) in asked {
        let actor = &deployment.created_by;
        tx.log(deployment.id, 0, format!("accepted from {actor}"));
        tx.tell(event::created(deployment, actor));
    }
    Ok(())
}

pub(super) fn say_accepted(deployment: &Deployment) {
    tracing::info!(
        deployment.id = %deployment.id, actor = deployment.created_by,
        "a deployment to {} is accepted", deployment.place()
    );
}

pub(super) fn build(id: DeploymentId, now: Moment, new: &New<'_>) -> Deployment {
    Deployment {
        id,
        site_id: new.environment.site_id,
        site: new.environment.site.clone(),
        environment_id: new.environment.id,
        environment: new.environment.slug.clone(),
        release_id: new.release_id,
        kind: new.kind,
        strategy: new.strategy.clone(),
        policy: new.environment.policy.clone(),
        state: State::Pending,
        cause: String::new(),
        message: String::new(),
        fence: 0,
        version: 1,
        pin: None,
        weight: 0,
        created_at: now,
        created_by: new.actor.to_owned(),
        deadline_at: None,
        deadline_left: None,
        previous_release_id: None,
        retry_of: new.retry_of,
        leaves_release_id: new.leaves_release_id,
        superseded_by: None,
        reason: new.reason.to_owned(),
        target_confirmed: None,
        // A deployment is one trace; its id names it, so that a log line leads there.
        trace_id: trace::id_of(id),
        span_id: step::store::span_id(id.uuid()),
    }
}

/// A release that an accepting command was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) commit: String,
    /// Why this environment rejected it, while that stands.
    pub(super) rejected: Option<String>,
    /// The ban that stands against it. One that is set meanwhile is found when the lane chooses.
    pub(super) ban: Option<Ban>,
    /// When its content was collected.
    pub(super) collected_at: Option<Moment>,
    /// Deployments that wait in the environment, as far as they were counted.
    pub(super) waiting: i64,
}

impl Wanted {
    pub(super) const fn is_allowed(&self) -> bool {
        self.ban.is_none() && self.rejected.is_none() && self.collected_at.is_none()
    }

    /// Refuses what may not be deployed here.
    pub(super) fn allowed(
        &self,
        release: ReleaseId,
        environment: &Environment,
        field: &str,
    ) -> Result<(), Refusal> {
        self.check(release, environment, field)?;
        match &self.rejected {
            Some(reason) => Err(rejected(release, environment, field, reason)),
            None => Ok(()),
        }
    }

    /// Refuses what goes nowhere: banned, or without its content.
    pub(super) fn check(
        &self,
        release: ReleaseId,
        environment: &Environment,
        field: &str,
    ) -> Result<(), Refusal> {
        if let Some(ban) = &self.ban {
            return Err(banned(release, ban));
        }
        let Some(at) = self.collected_at else {
            return Ok(());
        };
        let flags = environment.place().replacen('/', " --env ", 1);
        let commit = match self.commit.as_str() {
            "" => String::new(),
            commit => format!(" --commit {commit}"),
        };
        let again = format!("candlefish deploy DIR --site {flags}{commit}");
        Err(collected(release, field, at, &again))
    }
}

/// A release that hurt this environment goes there again only when a person cleared it.
fn rejected(release: ReleaseId, environment: &Environment, field: &str, reason: &str) -> Refusal {
    let place = environment.place();
    Refusal::new(
        Code::FailedPrecondition,
        "release-rejected",
        format!(
            "{release} was rejected by {place}: {reason}. Clear it first: candlefish releases clear \
             {release} --env {} --reason …",
            environment.slug
        ),
    )
    .field(field, format!("rejected by {place}"))
}

/// The release, locked against being sealed or collected meanwhile; none when it is not the site's.
pub(super) async fn share_release(
    conn: &mut PgConnection,
    environment: &Environment,
    release: ReleaseId,
) -> Result<Option<Wanted>, sqlx::Error> {
    // However many wait, it changes nothing for who asks here.
    share_counting(conn, environment, release, 0).await
}

/// The same with the deployments that wait in the environment, counted up to `most`. Needs the lane's
/// lock.
pub(super) async fn share_counting(
    conn: &mut PgConnection,
    environment: &Environment,
    release: ReleaseId,
    most: u32,
) -> Result<Option<Wanted>, sqlx::Error> {
    let found = share_releases(conn, &[(environment, release)], most).await?;
    Ok(found.into_iter().next().flatten())
}

/// The releases that are asked for, in this order, as [`share_counting`] does it.
pub(super) async fn share_releases(
    conn: &mut PgConnection,
    asked: &[(&Environment, ReleaseId)],
    most: u32,
) -> Result<Vec<Option<Wanted>>, sqlx::Error> {
    let ids = |of: fn(&(&Environment, ReleaseId)) -> Uuid| asked.iter().map(of).collect::<Vec<_>>();
    let rows = sqlx::query!(
        r#"SELECT n.place AS "place!", r.commit, r.collected_at AS "collected_at: Timestamp",
                  (SELECT j.reason FROM rejection j WHERE j.release_id = r.id
                   AND j.environment_id = n.environment AND j.cleared_at IS NULL LIMIT 1) AS rejected,
                  (SELECT jsonb_build_object('at', x.at, 'by', x.by, 'reason', x.reason)
                   FROM ban x WHERE x.release_id = r.id AND x.cleared_at IS NULL)
                      AS "ban: Json<Ban>",
                  (SELECT count(*) FROM (
                       SELECT 1 FROM deployment d
                       WHERE d.environment_id = n.environment AND d.state = 'pending' LIMIT $4) AS w)
                      AS "waiting!"
           FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) WITH ORDINALITY
                AS n (release, site, environment, place)
           JOIN release r ON r.id = n.release AND r.site_id = n.site FOR SHARE OF r"#,
        &ids(|(_, release)| release.uuid()),
        &ids(|(environment, _)| environment.site_id.uuid()),
        &ids(|(environment, _)| environment.id.uuid()),
        i64::from(most)
    )
    .fetch_all(conn)
    .await?;
    let mut found: Vec<Option<Wanted>> = asked.iter().map(|_| None).collect();
    for row in rows {
        let place = usize::try_from(row.place - 1).ok();
        if let Some(slot) = place.and_then(|place| found.get_mut(place)) {
            *slot = Some(Wanted {
                commit: row.commit,
                rejected: row.rejected,
                ban: row.ban.map(|ban| ban.0),
                collected_at: row.collected_at.map(read),
                waiting: row.waiting,
            });
        }
    }
    Ok(found)
}
