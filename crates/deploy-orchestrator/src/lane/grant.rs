//! Lets a lane choose: what is superseded ends, what is due is granted, and what waits says why.
//!
//! Runs in every transaction that admits, ends or unblocks a deployment, with the lane locked.

use std::collections::HashSet;

use candlefish_ids::DeploymentId;

use super::{
    order::{self, Ancestry, Contender, Picture, SUPERSEDED_BEFORE_PINNED, Superseded},
    store::{self, Lane, Setting},
};
use crate::{
    blocker::{self, Blocker},
    ctx::{Ctx, Tx},
    deployment::{
        self, Error,
        apply::{Change, apply, apply_and_record, record},
        event::SYSTEM,
        pin::Pin,
        plan::Kind,
        state::{Cause, Event},
    },
    step,
};

/// Pairs of (commit, ancestor) among the commits in question.
struct Known(HashSet<(String, String)>);

impl Ancestry for Known {
    fn descends(&self, commit: &str, ancestor: &str) -> bool {
        !commit.is_empty()
            && !ancestor.is_empty()
            && self.0.contains(&(commit.to_owned(), ancestor.to_owned()))
    }
}

/// Lets the lane choose, until nothing follows from its choice.
pub(crate) async fn grant(ctx: &Ctx, tx: &mut Tx, lane: &mut Lane) -> Result<(), Error> {
    loop {
        let setting = store::find_setting(tx, lane.environment_id).await?;
        let (picture, ancestry) = picture(tx, lane, &setting).await?;
        if picture.pending.is_empty() {
            return Ok(());
        }
        if end_barred(tx, lane, &picture).await? {
            continue;
        }
        let plan = order::plan(&picture, &ancestry);
        for one in &plan.superseded {
            supersede(tx, lane, one).await?;
        }
        if let Some(newer) = plan.undo_acting_for
            && undo_acting(tx, lane, newer).await?
        {
            // Nothing had to be undone: the lane is free already.
            continue;
        }
        if let Some(id) = plan.grant {
            start(ctx, tx, lane, id).await?;
        }
        return explain(tx, &picture, &plan, &setting).await;
    }
}

async fn picture(tx: &mut Tx, lane: &Lane, setting: &Setting) -> Result<(Picture, Known), Error> {
    let (pending, acting) = store::list_contenders(tx, lane.environment_id).await?;
    let live = setting.live.clone();
    let mut commits: Vec<String> = pending
        .iter()
        .map(|one| &one.commit)
        .chain(acting.as_ref().map(|acting| &acting.contender.commit))
        .chain(live.as_ref().map(|live| &live.commit))
        .filter(|commit| !commit.is_empty())
        .cloned()
        .collect();
    commits.sort_unstable();
    commits.dedup();
    let descents = if commits.len() < 2 {
        Vec::new()
    } else {
        store::list_descents(tx, setting.site_id, &commits).await?
    };
    let picture = Picture {
        order: setting.policy.order,
        held: setting.hold.is_some() || setting.stop.is_some(),
        live,
        acting,
        pending,
    };
    Ok((picture, Known(descents.into_iter().collect())))
}

/// What waits with a release that was banned, or rejected by the environment, meanwhile ends: it may
/// not go live, and must not wait for a person who does not know of it. A rejected one may be gone
/// back to. True when one ended.
async fn end_barred(tx: &mut Tx, lane: &mut Lane, picture: &Picture) -> Result<bool, Error> {
    let mut ended = false;
    for one in &picture.pending {
        let message = match (&one.banned, &one.rejected) {
            (Some(by), _) => format!("its release was banned meanwhile by {by}"),
            (None, Some(reason)) if one.kind == Kind::Standard => {
                format!("its release was rejected here meanwhile: {reason}")
            }
            _ => continue,
        };
        let Some(mut waiting) = deployment::store::lock(tx, one.id).await? else {
            continue;
        };
        let change = Change::new(Event::Stops(Cause::Cancelled), SYSTEM, message);
        apply_and_record(tx, lane, &mut waiting, change).await?;
        ended = true;
    }
    Ok(ended)
}

async fn supersede(tx: &mut Tx, lane: &mut Lane, one: &Superseded) -> Result<(), Error> {
    let Some(mut ended) = deployment::store::lock(tx, one.id).await? else {
        return Ok(());
    };
    let message = if one.backwards {
        format!("{} has a newer commit; to go back, roll back", one.by)
    } else {
        format!("{} has a newer commit", one.by)
    };
    let event = Event::Stops(Cause::Superseded);
    let change = Change {
        by: Some(one.by),
        ..Change::new(event, SYSTEM, message)
    };
    apply_and_record(tx, lane, &mut ended, change).await
}

/// Undoes what acts for a newer commit; true when it ended at once.
async fn undo_acting(tx: &mut Tx, lane: &mut Lane, newer: DeploymentId) -> Result<bool, Error> {
    let acting = deployment::store::lock_acting(tx, lane.environment_id).await?;
    let Some(mut acting) = acting else {
        return Ok(true);
    };
    let before = acting.state.clone();
    let event = Event::Stops(Cause::Superseded);
    let message = format!("{newer} has a newer commit");
    let change = Change {
        by: Some(newer),
        ..Change::new(event, SYSTEM, message)
    };
    apply(tx, lane, &mut acting, &change).await?;
    record(tx, &mut acting, &before, SYSTEM).await?;
    Ok(acting.state.is_terminal())
}

async fn start(ctx: &Ctx, tx: &mut Tx, lane: &mut Lane, id: DeploymentId) -> Result<(), Error> {
    let now = tx.now();
    let Some(mut granted) = deployment::store::lock(tx, id).await? else {
        return Ok(());
    };
    let before = granted.state.clone();
    store::raise_fence(tx, lane).await?;
    granted.fence = lane.fence;
    if lane.superseded_in_row >= SUPERSEDED_BEFORE_PINNED {
        granted.pin.get_or_insert_with(|| Pin::of_busy_lane(now));
    }
    // What the plan itself waits for is no delay.
    let planned = deployment::plan::planned_waits(granted.kind, &granted.strategy);
    granted.deadline_at = Some(now.plus(granted.policy.deadline + planned));
    apply(
        tx,
        lane,
        &mut granted,
        &Change::new(Event::Granted, SYSTEM, ""),
    )
    .await?;
    granted.message.clear();
    blocker::set(tx, now, id, None).await?;
    let plan = deployment::plan::plan(granted.kind, &granted.strategy);
    step::store::insert_plan(tx, now, id, &plan).await?;
    record(tx, &mut granted, &before, SYSTEM).await?;
    tracing::info!(
        deployment.id = %id, fence = lane.fence, "{} is granted its lane", granted.place()
    );
    // The grant is where a deployment begins to act: nobody waits for a poll.
    ctx.nudges.steps.notify_waiters();
    Ok(())
}

/// Every deployment that is still pending says why it does not move.
async fn explain(
    tx: &mut Tx,
    picture: &Picture,
    plan: &order::Plan,
    setting: &Setting,
) -> Result<(), Error> {
    let now = tx.now();
    let left = |one: &&Contender| {
        plan.grant != Some(one.id) && plan.superseded.iter().all(|ended| ended.id != one.id)
    };
    let pending: Vec<&Contender> = picture.pending.iter().filter(left).collect();
    let acting = plan.grant;
    let acting = acting.or_else(|| picture.acting.as_ref().map(|acting| acting.contender.id));
    let blockers: Vec<_> = pending
        .iter()
        .enumerate()
        .map(|(place, one)| {
            let next = place.checked_sub(1).and_then(|before| pending.get(before));
            let before = acting.or_else(|| next.map(|one| one.id));
            (one.id, why(one, place, before, setting))
        })
        .collect();
    blocker::set_each(tx, now, &blockers).await?;
    Ok(())
}

fn why(one: &Contender, place: usize, before: Option<DeploymentId>, setting: &Setting) -> Blocker {
    if !one.sealed {
        return missing_content(one, setting);
    }
    if let (Some(stop), true) = (&setting.stop, one.kind != Kind::Rollback) {
        return stop.blocker();
    }
    if let Some(hold) = &setting.hold {
        return Blocker {
            kind: blocker::Kind::Hold,
            until: None,
            owner: "approver",
            message: format!("{} is held by {}: {}", setting.place, hold.by, hold.reason),
            action: format!("candlefish hold lift {} --reason …", setting.place),
        };
    }
    let message = match (place, before) {
        (0, Some(acting)) => format!("{acting} acts on {}", setting.place),
        (_, Some(acting)) => format!(
            "{acting} acts on {}, and {place} wait before it",
            setting.place
        ),
        (_, None) => format!("{} grants it next", setting.place),
    };
    Blocker {
        kind: blocker::Kind::Lane,
        until: None,
        owner: "platform",
        message,
        action: before
            .map(|acting| format!("candlefish watch {acting}"))
            .unwrap_or_default(),
    }
}

/// What a deployment without content waits for: the upload of a pushed commit, or the rest of one.
fn missing_content(one: &Contender, setting: &Setting) -> Blocker {
    let pushed = one.content_until.is_some();
    let short = one.commit.get(..7).unwrap_or(&one.commit);
    let flags = setting.place.replacen('/', " --env ", 1);
    Blocker {
        kind: blocker::Kind::Content,
        until: one.content_until,
        owner: "deployer",
        message: if pushed {
            format!(
                "nobody uploaded the content of {short} yet; whoever builds it, such as CI, does"
            )
        } else {
            "the content of its release is not uploaded whole".to_owned()
        },
        action: if pushed {
            format!(
                "candlefish deploy DIR --site {flags} --commit {}",
                one.commit
            )
        } else {
            "candlefish deploy with the same content".to_owned()
        },
    }
}

/// The content of a release is whole: what waited for it takes part in its lane from now on. Or it is
/// banned: what waits with it ends.
///
/// Comes after the commit of that, one lane at a time; the sweep does the same should this be lost.
pub(crate) async fn content_arrived(
    ctx: &Ctx,
    release: candlefish_ids::ReleaseId,
) -> Result<(), Error> {
    let mut conn = ctx.pool.acquire().await?;
    let lanes = store::list_waiting_for_content(&mut conn, release).await?;
    drop(conn);
    for environment in lanes {
        let mut tx = ctx.begin().await.map_err(Error::Begin)?;
        let mut lane = store::lock(&mut tx, environment).await?;
        grant(ctx, &mut tx, &mut lane).await?;
        ctx.commit(tx).await?;
    }
    Ok(())
}
