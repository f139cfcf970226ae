//! `shift` and `switch`: the release gets a share of the traffic, or all of it; and `return`, their
//! undo: all traffic goes back to the release before.
//!
//! The act is a row of the route table, in this very transaction; then the step waits until every
//! live edge has applied it.
//!
//! Edges apply it one after another, and a visitor goes from one to the next. So where there are
//! several, they first confirm a route that only announces the new release: who got it from an edge
//! that was faster keeps it on the others. See ADR 0059.

use candlefish_ids::ReleaseId;
use serde_json::{Value, json};

use super::{
    Step,
    edges::{FETCHES, await_followers, remember, written},
    outcome::Outcome,
    shared, undo,
};
use crate::{
    ctx::{Ctx, Tx},
    deployment::{Deployment, Error, plan::Kind, state::Event},
    lane, release,
    route::{self, Assets, Spec, Weighted, Written, store::Place},
};

/// In a step's detail: what it wrote last only announces the new release, and moved nothing.
/// SQL knows the word too ([`super::store::paused`]).
const ANNOUNCES: &str = "announces";

/// What one turn of a traffic step came to, and what it means for the deployment.
pub(super) type Turn = (Outcome, Option<Event>);

/// One turn of `shift`.
pub(super) async fn shift(
    ctx: &Ctx,
    tx: &mut Tx,
    deployment: &mut Deployment,
    step: &mut Step,
) -> Result<Turn, Error> {
    if deployment.previous_release_id.is_none() {
        return Ok((
            Outcome::done("the first release here: nothing to share with"),
            None,
        ));
    }
    if let Some(waits) = announce(ctx, tx, deployment, step).await? {
        return Ok((waits, None));
    }
    let mut event = None;
    if !has_moved(step) {
        let spec = spec(tx, deployment, |previous, new| {
            vec![(previous, 100 - step.weight), (Some(new), step.weight)]
        })
        .await?;
        write(ctx, tx, deployment, step, spec).await?;
        deployment.weight = step.weight;
        event = Some(Event::Pivots);
    }
    Ok((follow(ctx, tx, deployment, step).await?, event))
}

/// One turn of `switch`, all at once or edge by edge.
pub(super) async fn switch(
    ctx: &Ctx,
    tx: &mut Tx,
    deployment: &mut Deployment,
    step: &mut Step,
) -> Result<Turn, Error> {
    if let Some(waits) = announce(ctx, tx, deployment, step).await? {
        return Ok((waits, None));
    }
    let batch = step
        .detail
        .get("batch")
        .and_then(Value::as_u64)
        .unwrap_or(0);
    let rolls = batch > 0 && deployment.previous_release_id.is_some();
    if rolls && let Some(turn) = roll(ctx, tx, deployment, step, batch).await? {
        return Ok(turn);
    }
    let mut event = None;
    if step.detail.get("switched").is_none() {
        let keeps = may_differ(tx, deployment).await?;
        // Two releases on a route make the edges remember who got the last one.
        let mut spec = spec(tx, deployment, |previous, new| {
            let before = keeps.then_some((previous, 0));
            before.into_iter().chain([(Some(new), 100)]).collect()
        })
        .await?;
        spec.forgets = deployment.kind == Kind::Rollback;
        write(ctx, tx, deployment, step, spec).await?;
        note(step, "switched", json!(true));
        if keeps {
            note(step, "settles", json!(true));
        }
        deployment.weight = 100;
        event = Some(Event::Pivots);
    }
    let outcome = follow(ctx, tx, deployment, step).await?;
    if matches!(outcome, Outcome::Done { .. }) && step.detail.get("settles").is_some() {
        // Every live edge gives the new release to everybody: who got it need not be remembered.
        // Nobody waits for this route, for visitors get the same with it.
        let spec = spec(tx, deployment, |_, new| vec![(Some(new), 100)]).await?;
        put(ctx, tx, deployment, &spec).await?;
    }
    Ok((outcome, event))
}

/// Before the new release has any visitors: a route that names it, and gives it only to those who got
/// it from another edge. Answers what to wait for; none when all live edges hold it, when visitors
/// have the release already, or where no edge can differ from another.
async fn announce(
    ctx: &Ctx,
    tx: &mut Tx,
    deployment: &Deployment,
    step: &mut Step,
) -> Result<Option<Outcome>, Error> {
    if deployment.state.pivoted() {
        return Ok(None);
    }
    if !only_announces(step) {
        if !may_differ(tx, deployment).await? {
            return Ok(None);
        }
        let mut spec = spec(tx, deployment, |previous, new| {
            vec![(previous, 100), (Some(new), 0)]
        })
        .await?;
        spec.rolling = true;
        // Who got this release when it was here before has no claim to it.
        spec.forgets = true;
        let written = put(ctx, tx, deployment, &spec).await?;
        let now = tx.now();
        remember(step, now, &written);
        note(step, ANNOUNCES, json!(true));
    }
    let outcome = follow(ctx, tx, deployment, step).await?;
    Ok((!matches!(outcome, Outcome::Done { .. })).then_some(outcome))
}

/// Whether one edge may serve the new release while another does not yet. One that is silent may serve
/// on, so it counts. A rollback is for everybody: there is nothing that a visitor should keep.
async fn may_differ(tx: &mut Tx, deployment: &Deployment) -> Result<bool, sqlx::Error> {
    let before = deployment.previous_release_id;
    let replaces = before.is_some_and(|before| before != deployment.release_id);
    if deployment.kind == Kind::Rollback || !replaces {
        return Ok(false);
    }
    let edges = shared::followers(tx, deployment, &[]).await?;
    Ok(edges.iter().filter(|one| one.lately).count() > 1)
}

/// The step wrote a route that moves traffic.
fn has_moved(step: &Step) -> bool {
    !written(step).is_empty() && !only_announces(step)
}

/// What the step wrote moves nothing yet.
pub(super) fn only_announces(step: &Step) -> bool {
    step.detail.get(ANNOUNCES).is_some()
}

/// One batch of a rolling switch; none when every live edge is switched.
///
/// Once the first batch confirmed the release, an edge that joins serves it from the start: routes
/// name those that still wait, and nobody who was not named is switched back.
async fn roll(
    ctx: &Ctx,
    tx: &mut Tx,
    deployment: &mut Deployment,
    step: &mut Step,
    batch: u64,
) -> Result<Option<Turn>, Error> {
    if step.detail.get("switched").is_some() {
        return Ok(None);
    }
    let confirms = has_moved(step);
    if confirms {
        let outcome = follow(ctx, tx, deployment, step).await?;
        if !matches!(outcome, Outcome::Done { .. }) {
            return Ok(Some((outcome, None)));
        }
    }
    let (rolled, waiting) = (noted(step, "rolled"), noted(step, "waiting"));
    let followers = shared::followers(tx, deployment, &[]).await?;
    let live = followers.into_iter().filter(|one| one.live);
    let live: Vec<String> = live.map(|one| one.id).collect();
    let batch = usize::try_from(batch).unwrap_or(usize::MAX);
    let Some(cut) = cut(&live, rolled, &waiting, batch) else {
        return Ok(None);
    };
    let mut spec = spec(tx, deployment, |previous, new| {
        vec![(previous, 0), (Some(new), 100)]
    })
    .await?;
    spec.rolling = true;
    spec.rolled_edges.clone_from(&cut.rolled);
    if confirms {
        spec.waiting_edges.clone_from(&cut.waiting);
        note(step, "waiting", json!(cut.waiting));
    }
    write(ctx, tx, deployment, step, spec).await?;
    deployment.weight = percent(live.len() - cut.waiting.len(), live.len());
    note(step, "rolled", json!(cut.rolled));
    Ok(Some((
        follow(ctx, tx, deployment, step).await?,
        Some(Event::Pivots),
    )))
}

/// Which edges serve the new release after the next batch, and which still wait.
#[derive(Debug, PartialEq, Eq)]
struct Cut {
    rolled: Vec<String>,
    waiting: Vec<String>,
}

/// Cuts the next batch; none when nobody would wait after it. Then it is the switch itself, whose
/// route needs no list of edges.
///
/// `waited` are those that waited so far: any other edge serves the new release already. Empty before
/// the first batch was confirmed.
fn cut(live: &[String], mut rolled: Vec<String>, waited: &[String], batch: usize) -> Option<Cut> {
    let joined = |edge: &&String| !waited.is_empty() && !waited.contains(edge);
    let joined: Vec<String> = live.iter().filter(joined).cloned().collect();
    rolled.extend(joined);
    rolled.sort_unstable();
    rolled.dedup();
    let left = live.iter().filter(|edge| !rolled.contains(edge));
    let mut left: Vec<String> = left.cloned().collect();
    let waiting = left.split_off(batch.min(left.len()));
    rolled.append(&mut left);
    (!waiting.is_empty()).then_some(Cut { rolled, waiting })
}

/// The edges that a step noted.
fn noted(step: &Step, key: &str) -> Vec<String> {
    let edges = step.detail.get(key).cloned();
    edges
        .and_then(|edges| serde_json::from_value(edges).ok())
        .unwrap_or_default()
}

fn percent(part: usize, whole: usize) -> i32 {
    i32::try_from(part * 100 / whole.max(1)).unwrap_or(100)
}

/// One turn of `return`: traffic is back on the release before, or the route is taken away.
pub(super) async fn back(
    ctx: &Ctx,
    tx: &mut Tx,
    deployment: &mut Deployment,
    step: &mut Step,
) -> Result<Outcome, Error> {
    if written(step).is_empty() {
        while let Some(previous) = deployment.previous_release_id {
            // From here on a ban of it waits, and finds it live.
            release::store::share(tx, previous).await?;
            if !undo::avoid_banned(tx, deployment).await? {
                break;
            }
        }
        if let Some(previous) = deployment.previous_release_id
            && !route::store::is_named(tx, deployment.environment_id, previous).await?
        {
            note(step, FETCHES, json!(true));
        }
        let mut spec = spec(tx, deployment, |previous, _| vec![(previous, 100)]).await?;
        spec.forgets = true;
        let held = find_held(tx, deployment).await?;
        // Where it is the release itself, what the routes name besides stays.
        if let Some(held) = held.filter(|held| Some(*held) != deployment.previous_release_id) {
            spec.assets_of = manifests(tx, deployment, &[held]).await?;
        }
        write(ctx, tx, deployment, step, spec).await?;
        deployment.weight = 0;
        lane::store::restore_live(tx, deployment).await?;
    }
    let outcome = follow(ctx, tx, deployment, step).await?;
    Ok(match outcome {
        Outcome::Done { message } if deployment.previous_release_id.is_none() => Outcome::done(
            format!("no release to go back to, so the route is taken away: {message}"),
        ),
        other => other,
    })
}

/// The release besides the one before of which visitors have pages when traffic goes back: what is given
/// up; or, where they keep what they get, what they had before that.
async fn find_held(tx: &mut Tx, deployment: &Deployment) -> Result<Option<ReleaseId>, sqlx::Error> {
    if deployment.kind == Kind::Rollback
        && !deployment.state.pivoted()
        && let Some(inherited) = undo::find_inherited(tx, deployment.id).await?
        && inherited.held.is_some()
    {
        return Ok(inherited.held);
    }
    let held = deployment.given_up().or_else(|| deployment.replaced());
    if held.is_some() {
        return Ok(held);
    }
    // The same release over itself.
    let live = lane::store::find_live(tx, deployment.environment_id).await?;
    Ok(live.map(|live| live.release_id))
}

async fn follow(
    ctx: &Ctx,
    tx: &mut Tx,
    deployment: &Deployment,
    step: &mut Step,
) -> Result<Outcome, Error> {
    let outcome = await_followers(&ctx.config, tx, deployment, step).await?;
    Ok(outcome.unwrap_or_else(|| Outcome::done(step.message.clone())))
}

/// Releases and shares as a route wants them; a missing release before leaves its share out.
async fn spec(
    tx: &mut Tx,
    deployment: &Deployment,
    shares: impl FnOnce(Option<ReleaseId>, ReleaseId) -> Vec<(Option<ReleaseId>, i32)>,
) -> Result<Spec, Error> {
    let wanted = shares(deployment.previous_release_id, deployment.release_id);
    // Visitors hold its pages.
    let before = deployment.replaced();
    let ids = wanted.iter().filter_map(|(release, _)| *release);
    let ids: Vec<_> = ids.chain(before).collect();
    let known = manifests(tx, deployment, &ids).await?;
    let find = |release: Option<ReleaseId>| known.iter().find(|one| Some(one.release) == release);
    let releases = wanted
        .into_iter()
        .filter_map(|(release, weight)| {
            let one = find(release)?;
            Some(Weighted {
                release: one.release,
                manifest: one.manifest.clone(),
                weight,
            })
        })
        .collect();
    let assets_of = match (before, deployment.previous_release_id) {
        // The release that is live already: visitors still hold pages of what came before it.
        (None, Some(_live)) => shared::assets(tx, deployment).await?,
        (before, _) => find(before).cloned().into_iter().collect(),
    };
    Ok(Spec {
        releases,
        assets_of,
        ..Spec::default()
    })
}

async fn manifests(
    tx: &mut Tx,
    deployment: &Deployment,
    releases: &[ReleaseId],
) -> Result<Vec<Assets>, sqlx::Error> {
    if releases.is_empty() {
        Ok(Vec::new())
    } else {
        shared::manifests(tx, deployment, releases).await
    }
}

/// Writes routes that move traffic.
async fn write(
    ctx: &Ctx,
    tx: &mut Tx,
    deployment: &Deployment,
    step: &mut Step,
    spec: Spec,
) -> Result<(), Error> {
    let written = put(ctx, tx, deployment, &spec).await?;
    let now = tx.now();
    remember(step, now, &written);
    detail(step).remove(ANNOUNCES);
    tracing::info!(
        deployment.id = %deployment.id, step = step.kind.word(), weight = deployment.weight,
        "traffic moves on {}", deployment.place()
    );
    Ok(())
}

/// Writes the routes of all the environment's host names.
async fn put(
    ctx: &Ctx,
    tx: &mut Tx,
    deployment: &Deployment,
    spec: &Spec,
) -> Result<Vec<Written>, Error> {
    let hosts = shared::hosts(tx, deployment, &ctx.config.domain).await?;
    let place = Place {
        environment_id: Some(deployment.environment_id),
        deployment_id: None,
        site: &deployment.site,
        environment: &deployment.environment,
        noindex: deployment.environment != "production",
    };
    tx.moves_traffic();
    Ok(shared::write_routes(ctx, tx, deployment, &hosts, place, spec).await?)
}

fn detail(step: &mut Step) -> &mut serde_json::Map<String, Value> {
    step.detail
        .as_object_mut()
        .expect("a step's detail is an object")
}

fn note(step: &mut Step, key: &str, value: Value) {
    detail(step).insert(key.to_owned(), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(edges: &[&str]) -> Vec<String> {
        edges.iter().map(ToString::to_string).collect()
    }

    fn cut_of(live: &[&str], rolled: &[&str], waited: &[&str], batch: usize) -> Option<Cut> {
        cut(&owned(live), owned(rolled), &owned(waited), batch)
    }

    fn cut_as(rolled: &[&str], waiting: &[&str]) -> Cut {
        Cut {
            rolled: owned(rolled),
            waiting: owned(waiting),
        }
    }

    #[test]
    fn each_batch_takes_the_next_edges_until_nobody_would_wait() {
        let live = ["a", "b", "c", "d", "e"];
        assert_eq!(
            cut_of(&live, &[], &[], 2),
            Some(cut_as(&["a", "b"], &["c", "d", "e"]))
        );
        let next = cut_of(&live, &["a", "b"], &[], 2);
        assert_eq!(next, Some(cut_as(&["a", "b", "c", "d"], &["e"])));
        assert_eq!(cut_of(&live, &["a", "b", "c", "d"], &["e"], 2), None);
        assert_eq!(cut_of(&["a"], &[], &[], 1), None);
    }

    #[test]
    fn an_edge_that_joined_after_the_cut_is_never_put_back() {
        // "a" sorts before all that wait and takes nobody's turn.
        let next = cut_of(&["a", "b", "c", "d"], &["b"], &["c", "d"], 1);
        assert_eq!(next, Some(cut_as(&["a", "b", "c"], &["d"])));
        // Before anybody confirmed the release it waits for its turn.
        let first = cut_of(&["a", "b", "c", "d"], &["b"], &[], 1);
        assert_eq!(first, Some(cut_as(&["b", "a"], &["c", "d"])));
    }

    #[test]
    fn an_edge_that_went_silent_in_its_wait_is_switched_when_it_comes_back() {
        let gone = cut_of(&["a", "c", "d"], &["a"], &["b", "c", "d"], 1);
        assert_eq!(gone, Some(cut_as(&["a", "c"], &["d"])));
        let back = cut_of(&["a", "b", "c", "d", "e"], &["a", "c"], &["d", "e"], 1);
        assert_eq!(back, Some(cut_as(&["a", "b", "c", "d"], &["e"])));
    }
}
