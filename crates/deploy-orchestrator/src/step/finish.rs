//! The steps that only note and wait: `prepare`, `bake`, `finish`.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    Step, edges,
    outcome::{Outcome, Wait},
    shared,
    shift::Turn,
};
use crate::{
    blocker::{self, Blocker},
    ctx::{Ctx, Tx},
    deployment::{Deployment, Error, plan::Kind, state::Event},
};

/// `prepare`: notes what is live before, to return to.
pub(super) async fn prepare(tx: &mut Tx, deployment: &mut Deployment) -> Result<Outcome, Error> {
    if deployment.kind == Kind::Preview {
        return Ok(Outcome::done("an address of its own"));
    }
    let live = shared::find_live(tx, deployment).await?;
    deployment.previous_release_id = live.map(|live| live.release_id);
    Ok(Outcome::done(match deployment.previous_release_id {
        Some(release) => format!("over {release}"),
        None => "the first release here".to_owned(),
    }))
}

/// `bake`: the release before stays ready for this long.
pub(super) fn bake(tx: &Tx, step: &mut Step) -> Outcome {
    let now = tx.now();
    if step.detail.get("advanced").is_some() {
        return Outcome::done("ended by a person");
    }
    let now_ms = now.timestamp().as_millisecond();
    let until_ms = step
        .detail
        .get("until_ms")
        .and_then(Value::as_i64)
        .unwrap_or_else(|| {
            now_ms.saturating_add(i64::try_from(step.interval.as_millis()).unwrap_or(i64::MAX))
        });
    let left = Duration::from_millis(u64::try_from(until_ms - now_ms).unwrap_or(0));
    if left.is_zero() {
        return Outcome::done("quiet until the end");
    }
    Outcome::Wait(Wait {
        again_in: left,
        on_edges: false,
        message: "the release before stays ready to return to".to_owned(),
        blocker: Some(Blocker {
            kind: blocker::Kind::Timer,
            until: Some(now.plus(left)),
            owner: "time",
            message: format!("bakes for {} more", words(left)),
            action: format!("candlefish advance {}", step.deployment_id),
        }),
        detail: json!({ "until_ms": until_ms }),
    })
}

/// `finish`: the record says that the release is live; no live edge serves the one before.
pub(super) async fn finish(
    ctx: &Ctx,
    tx: &mut Tx,
    deployment: &Deployment,
    step: &mut Step,
) -> Result<Turn, Error> {
    let (_, behind) = edges::serving(&ctx.config, tx, deployment, step).await?;
    Ok(match behind {
        Some(waits) => (waits, None),
        None => (Outcome::done(""), Some(Event::Finishes)),
    })
}

/// `18 s`, `2 min`, `1 h 5 min`: a duration as people say it.
pub(super) fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0) => format!("{} ms", duration.as_millis()),
        (0, 0, s) => format!("{s} s"),
        (0, m, 0) => format!("{m} min"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, 0, _) => format!("{h} h"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}
