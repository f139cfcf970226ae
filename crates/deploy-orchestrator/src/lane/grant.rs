//! Lets a lane choose: what is superseded ends, what is due is granted, and what waits says why.
//!
//! Runs in every transaction that admits, ends or unblocks a deployment, with the lane locked.

mod start;

use std::collections::HashMap;

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, EnvironmentId};
use sqlx::PgConnection;

use super::{
    content,
    descents::Descents,
    kept,
    order::{self, ActingNow, Contender, Picture, Superseded},
    store::{self, Contenders, Lane, Related, Setting},
};
use crate::{
    blocker::{self, Blocker},
    ctx::{Ctx, Tx},
    deployment::{
        self, Error,
        apply::{Change, apply, apply_and_record, end_pending, record},
        event::SYSTEM,
        plan::Kind,
        state::{Cause, Event},
    },
};

/// Lets the lane choose, until nothing follows from its choice.
pub(crate) async fn grant(ctx: &Ctx, tx: &mut Tx, lane: &mut Lane) -> Result<(), Error> {
    grant_each(ctx, tx, std::slice::from_mut(lane)).await
}

/// Lets each of these lanes choose, until nothing follows from its choice. All are locked.
pub(crate) async fn grant_each(ctx: &Ctx, tx: &mut Tx, lanes: &mut [Lane]) -> Result<(), Error> {
    let mut open: Vec<&mut Lane> = lanes.iter_mut().collect();
    while !open.is_empty() {
        // Apart: every command holds this future in its own.
        open = Box::pin(choose(ctx, tx, open)).await?;
    }
    Ok(())
}

/// What a lane sees, and what it decides.
struct Choice<'a> {
    lane: &'a mut Lane,
    setting: Setting,
    picture: Picture,
    plan: order::Plan,
}

/// One choice of each lane; answers those that choose again.
async fn choose<'a>(
    ctx: &Ctx,
    tx: &mut Tx,
    lanes: Vec<&'a mut Lane>,
) -> Result<Vec<&'a mut Lane>, Error> {
    let mut again = Vec::new();
    let mut choices = Vec::with_capacity(lanes.len());
    for (lane, (setting, picture, ancestry)) in look(tx, lanes).await? {
        if lane.closed {
            end_closed(tx, lane, &setting, &picture).await?;
            continue;
        }
        if end_barred(tx, lane, &picture).await? {
            again.push(lane);
            continue;
        }
        choices.push(Choice {
            plan: order::plan(&picture, &ancestry),
            lane,
            setting,
            picture,
        });
    }
    supersede(tx, &choices).await?;
    let mut chosen = Vec::with_capacity(choices.len());
    for one in choices {
        if let Some(newer) = one.plan.undo_acting_for
            && undo_acting(tx, one.lane, newer).await?
        {
            // Nothing had to be undone: the lane is free already.
            again.push(one.lane);
            continue;
        }
        chosen.push(one);
    }
    let granted = chosen.iter_mut();
    let granted = granted.filter_map(|one| Some((one.plan.grant?, &mut *one.lane)));
    let ended = start::start_each(ctx, tx, granted.collect()).await?;
    // What was granted has ended in its first steps: the lane is free again.
    let is_free = |one: &Choice<'_>| ended.contains(&one.lane.environment_id);
    let (free, chosen): (Vec<_>, Vec<_>) = chosen.into_iter().partition(is_free);
    again.extend(free.into_iter().map(|one| one.lane));
    explain(ctx, tx, &chosen).await?;
    Ok(again)
}

type Seen<'a> = (&'a mut Lane, (Setting, Picture, Descents));

/// Reads for all lanes at once what each must know.
async fn look<'a>(tx: &mut Tx, lanes: Vec<&'a mut Lane>) -> Result<Vec<Seen<'a>>, Error> {
    let ids: Vec<_> = lanes.iter().map(|lane| lane.environment_id).collect();
    let mut contenders = store::list_contenders(tx, &ids).await?;
    // Most commands end here: a lane in which nothing is pending chooses nothing, unless what acts may
    // not go on.
    let lanes: Vec<_> = lanes
        .into_iter()
        .filter_map(|lane| {
            let found = contenders.remove(&lane.environment_id)?;
            let chooses = !found.pending.is_empty() || ban_of(found.acting.as_ref()).is_some();
            chooses.then_some((lane, found))
        })
        .collect();
    if lanes.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = lanes.iter().map(|(lane, _)| lane.environment_id).collect();
    let mut settings = store::list_settings(tx, &ids).await?;
    let seen: Vec<_> = lanes
        .into_iter()
        .filter_map(|(lane, found)| {
            // The environment of a lane is there as long as the lane.
            let setting = settings.remove(&lane.environment_id)?;
            let picture = picture(&setting, found);
            Some((lane, setting, picture))
        })
        .collect();
    let related: Vec<_> = seen
        .iter()
        .map(|(_, setting, picture)| Related {
            site: setting.site_id,
            commits: commits(picture),
        })
        .collect();
    let mut known = store::list_descents(tx, &related).await?;
    for ((lane, setting, _), (related, known)) in seen.iter().zip(related.iter().zip(&mut known)) {
        if let Some(head) = &setting.head {
            lead(tx, known, lane.environment_id, head, &related.commits).await?;
        }
    }
    Ok(seen
        .into_iter()
        .zip(known)
        .map(|((lane, setting, picture), known)| (lane, (setting, picture, known)))
        .collect())
}

/// In the preview of a pull request that is at `head`, that leads all of these commits.
pub(super) async fn lead(
    conn: &mut PgConnection,
    known: &mut Descents,
    preview: EnvironmentId,
    head: &str,
    commits: &[String],
) -> Result<(), sqlx::Error> {
    let heads = store::list_heads(conn, preview, commits).await?;
    order::lead(known, head, &heads, commits);
    Ok(())
}

fn picture(setting: &Setting, found: Contenders) -> Picture {
    Picture {
        order: setting.policy.order,
        held: setting.hold.is_some() || setting.stop.is_some(),
        live: setting.live.clone(),
        acting: found.acting,
        pending: found.pending,
    }
}

fn commits(picture: &Picture) -> Vec<String> {
    let waiting = picture.pending.iter().map(|one| &one.commit);
    let acting = picture.acting.as_ref().map(|one| &one.contender.commit);
    let live = picture.live.as_ref().map(|live| &live.commit);
    distinct(waiting.chain(acting).chain(live))
}

/// Each commit once; content without one has none.
pub(super) fn distinct<'a>(commits: impl Iterator<Item = &'a String>) -> Vec<String> {
    let commits = commits.filter(|commit| !commit.is_empty());
    let mut commits: Vec<String> = commits.cloned().collect();
    commits.sort_unstable();
    commits.dedup();
    commits
}

/// What waits with a release that was banned, or rejected by the environment, meanwhile ends: it may
/// not go live, and must not wait for a person who does not know of it. So does what acts with a
/// banned one, as long as it is not live: past the pivot its traffic goes back. True when one ended,
/// or is being undone now.
async fn end_barred(tx: &mut Tx, lane: &mut Lane, picture: &Picture) -> Result<bool, Error> {
    let mut ended = false;
    for (id, message) in barred(picture) {
        let Some(mut ending) = deployment::store::lock(tx, id).await? else {
            continue;
        };
        let change = Change::new(Event::Stops(Cause::Cancelled), SYSTEM, message);
        apply_and_record(tx, lane, &mut ending, change).await?;
        ended = true;
    }
    Ok(ended)
}

/// What may not go live, and why. An address of its own has no environment that rejects.
fn barred(picture: &Picture) -> Vec<(DeploymentId, String)> {
    let banned = |by: &str| format!("its release was banned meanwhile by {by}");
    let pending = picture.pending.iter().filter_map(|one| {
        let message = match (&one.banned, &one.rejected) {
            (Some(by), _) => banned(by),
            (None, Some(reason)) if one.kind != Kind::Preview => {
                format!("its release was rejected here meanwhile: {reason}")
            }
            _ => return None,
        };
        Some((one.id, message))
    });
    let acting = picture.acting.as_ref();
    let acting = acting.zip(ban_of(acting));
    let acting = acting.map(|(one, by)| (one.contender.id, banned(by)));
    acting.into_iter().chain(pending).collect()
}

/// Who banned the release of what acts, and why, as long as it is not live. What a person named as the
/// way back goes on.
fn ban_of(acting: Option<&ActingNow>) -> Option<&str> {
    let open =
        |one: &&ActingNow| !one.live && !one.cancelling && one.contender.kind != Kind::Rollback;
    acting.filter(open)?.contender.banned.as_deref()
}

/// What waits where nothing is granted any more ends.
async fn end_closed(
    tx: &mut Tx,
    lane: &mut Lane,
    setting: &Setting,
    picture: &Picture,
) -> Result<(), Error> {
    for one in &picture.pending {
        if let Some(mut waiting) = deployment::store::lock(tx, one.id).await? {
            let message = format!("{} is closed", setting.place);
            let change = Change::new(Event::Stops(Cause::Cancelled), SYSTEM, message);
            apply_and_record(tx, lane, &mut waiting, change).await?;
        }
    }
    Ok(())
}

/// Ends what other deployments took the place of, in all lanes at once.
async fn supersede(tx: &mut Tx, choices: &[Choice<'_>]) -> Result<(), Error> {
    let superseded: Vec<&Superseded> = choices
        .iter()
        .flat_map(|choice| &choice.plan.superseded)
        .collect();
    let ids: Vec<DeploymentId> = superseded.iter().map(|one| one.id).collect();
    let mut locked = deployment::store::lock_each(tx, &ids).await?;
    let mut ended = Vec::with_capacity(superseded.len());
    for one in superseded {
        let Some(deployment) = locked.remove(&one.id) else {
            continue;
        };
        let message = if one.backwards {
            format!("{} has a newer commit; to go back, roll back", one.by)
        } else {
            format!("{} has a newer commit", one.by)
        };
        let change = Change {
            by: Some(one.by),
            ..Change::new(Event::Stops(Cause::Superseded), SYSTEM, message)
        };
        ended.push((deployment, change));
    }
    end_pending(tx, ended).await
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

/// Every deployment that is still pending says why it does not move: the first reason, to which its
/// time is charged. Whoever looks at it is told the others as well ([`kept`]).
async fn explain(ctx: &Ctx, tx: &mut Tx, choices: &[Choice<'_>]) -> Result<(), Error> {
    let now = tx.now();
    let blockers: Vec<_> = choices
        .iter()
        .flat_map(|choice| reasons(ctx, now, choice))
        .collect();
    blocker::set_each(tx, now, &blockers).await?;
    Ok(())
}

fn reasons(ctx: &Ctx, now: Moment, choice: &Choice<'_>) -> Vec<(DeploymentId, Blocker)> {
    let Choice {
        setting,
        picture,
        plan,
        ..
    } = choice;
    let of = picture.pending.iter().map(|one| (one.id, one));
    let of: HashMap<DeploymentId, &Contender> = of.collect();
    let left = plan.turns.iter().filter(|id| plan.grant != Some(**id));
    let pending: Vec<&Contender> = left.filter_map(|id| of.get(id).copied()).collect();
    let acting = plan.grant;
    let acting = acting.or_else(|| picture.acting.as_ref().map(|acting| acting.contender.id));
    let since = match plan.grant {
        Some(_granted) => Some(now),
        None => picture.acting.as_ref().and_then(|acting| acting.since),
    };
    pending
        .iter()
        .enumerate()
        .map(|(place, one)| {
            // The one just before it: what is said does not change with every grant.
            let next = place.checked_sub(1).and_then(|before| pending.get(before));
            let before = next.map(|one| one.id).or(acting);
            let blocker = if one.sealed {
                let turn = since.and_then(|since| turn(since, place, setting));
                let turn = turn.filter(|at| *at > now);
                why(one, place, before, turn, setting)
            } else {
                content::missing(one, setting, ctx.config.github.is_some())
            };
            (one.id, blocker)
        })
        .collect()
}

/// When the one at this place may have its turn, if each before it takes as long as earlier ones did.
fn turn(since: Moment, place: usize, setting: &Setting) -> Option<Moment> {
    let before = u32::try_from(place).ok()?.checked_add(1)?;
    Some(since.plus(setting.lasts?.checked_mul(before)?))
}

fn why(
    one: &Contender,
    place: usize,
    before: Option<DeploymentId>,
    turn: Option<Moment>,
    setting: &Setting,
) -> Blocker {
    // Neither keeps a rollback.
    if one.kind != Kind::Rollback {
        if let Some(stop) = &setting.stop {
            return stop.blocker();
        }
        if let Some(hold) = &setting.hold {
            return kept::held(&setting.place, &hold.by, &hold.reason);
        }
    }
    let message = match (place, before) {
        (0, Some(acting)) => format!("{acting} acts on {}", setting.place),
        (_, Some(before)) => format!("{before} waits before it for {}", setting.place),
        (_, None) => format!("{} grants it next", setting.place),
    };
    Blocker {
        kind: blocker::Kind::Lane,
        until: turn,
        owner: "platform",
        message,
        action: before
            .map(|acting| format!("candlefish watch {acting}"))
            .unwrap_or_default(),
    }
}

/// The content of a release is whole: what waited for it takes part in its lane from now on. Or it is
/// banned: what waits with it ends, and what acts with it and is not live.
///
/// Comes after the commit of that, one lane at a time; the sweep does the same should this be lost.
pub(crate) async fn content_arrived(
    ctx: &Ctx,
    release: candlefish_ids::ReleaseId,
) -> Result<(), Error> {
    // Nothing was committed that the lanes could find.
    if ctx.rehearses {
        return Ok(());
    }
    let mut conn = ctx.pool.acquire().await?;
    let lanes = store::list_concerned(&mut conn, release).await?;
    drop(conn);
    for environment in lanes {
        let mut tx = ctx.begin().await.map_err(Error::Begin)?;
        let mut lane = store::lock(&mut tx, environment).await?;
        grant(ctx, &mut tx, &mut lane).await?;
        ctx.commit(tx).await?;
    }
    Ok(())
}
