//! `analyse`: watches one share of the traffic for an interval and judges it, as often as needed.
//!
//! The first good interval passes. A bad or empty one repeats at the same weight: two bad ones in a
//! row fail the release, three empty ones leave it to the policy.

use std::time::Duration;

use candlefish_clock::Moment;
use candlefish_ids::ReleaseId;
use serde::{Deserialize, Serialize};

use super::{
    Step,
    finish::words,
    outcome::{Outcome, Wait},
    store,
    verdict::{Counted, Verdict, judge},
};
use crate::{
    blocker::{self, Blocker},
    ctx::{Ctx, Tx},
    deployment::{Deployment, Error, state::Cause},
    noun, route,
    site::policy::{OnNoEvidence, Policy},
    traffic::store::{Sum, sum},
};

const BAD_IN_A_ROW: u32 = 2;
/// After so many intervals without evidence the policy decides.
pub(crate) const EMPTY_IN_A_ROW: u32 = 3;

/// What an analysis knows between its turns.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Memory {
    /// When the running interval began; 0 before the first.
    #[serde(default)]
    began_ms: i64,
    /// On which hosts it counts; see [`Memory::counts_on`].
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    candidate: [i64; 2],
    #[serde(default)]
    stable: [i64; 2],
    #[serde(default)]
    bad: u32,
    #[serde(default)]
    empty: u32,
    /// A person passed the wait.
    #[serde(default)]
    advanced: bool,
    /// The policy waits for a person.
    #[serde(default)]
    stuck: bool,
}

impl Memory {
    /// The hosts of the running interval, of an environment that has these now. They are those that it
    /// began with: one that came since brings counters from before, and what was counted on one that
    /// went is not uncounted. A build that named none counted on the first, which is the platform's.
    fn counts_on<'a>(&'a self, now: &'a [String]) -> &'a [String] {
        if self.hosts.is_empty() {
            now.get(..1).unwrap_or_default()
        } else {
            &self.hosts
        }
    }

    /// Whether any sample came since the running interval began.
    fn is_sampled(&self, (candidate, stable): (Sum, Sum)) -> bool {
        [candidate.sampled_ms, stable.sampled_ms]
            .into_iter()
            .flatten()
            .any(|at| at > self.began_ms)
    }
}

/// One turn of `analyse`.
pub(super) async fn turn(
    ctx: &Ctx,
    tx: &mut Tx,
    deployment: &Deployment,
    step: &mut Step,
) -> Result<Outcome, Error> {
    let Some(previous) = deployment.previous_release_id else {
        return Ok(Outcome::done(
            "the first release here: nothing to compare with",
        ));
    };
    let mut memory: Memory = serde_json::from_value(step.detail.clone()).unwrap_or_default();
    if memory.advanced {
        return Ok(Outcome::done("passed by a person"));
    }
    let now = tx.now();
    let now_ms = now.timestamp().as_millisecond();
    let hosts = route::hosts(tx, deployment, &ctx.config.domain).await?;
    let both = (deployment.release_id, previous);
    let (candidate, stable) = sums(tx, &hosts, both).await?;
    let interval_ms = i64::try_from(step.interval.as_millis()).unwrap_or(i64::MAX);
    if memory.began_ms == 0 {
        begin(&mut memory, now_ms, &hosts, (candidate, stable));
        let forecast = forecast(&deployment.policy, step, stable.rate + candidate.rate);
        return Ok(wait(now, step, &memory, step.interval, forecast));
    }
    let left_ms = memory
        .began_ms
        .saturating_add(interval_ms)
        .saturating_sub(now_ms);
    if left_ms > 0 && !memory.stuck {
        let left = Duration::from_millis(u64::try_from(left_ms).unwrap_or(0));
        return Ok(wait(now, step, &memory, left, step.message.clone()));
    }
    let counts_on = memory.counts_on(&hosts);
    let judges = if counts_on == hosts {
        (candidate, stable)
    } else {
        sums(tx, counts_on, both).await?
    };
    let policy = &deployment.policy;
    let counted = (judges.0.counted, judges.1.counted);
    let sampled = memory.is_sampled(judges);
    let verdict = judged(&memory, counted, sampled, policy.min_requests);
    begin(&mut memory, now_ms, &hosts, (candidate, stable));
    let is_enough = is_enough(policy, step, candidate.rate + stable.rate);
    let known = Known {
        now,
        enough_at: is_enough.then(|| now.plus(step.interval)),
        verified_at: if advances(policy, &memory, verdict.0) {
            store::find_verified_at(tx, step.deployment_id).await?
        } else {
            None
        },
    };
    Ok(conclude(&known, policy, step, memory, verdict))
}

/// What is known when an interval ends, besides its verdict.
#[derive(Debug, Clone, Copy)]
struct Known {
    now: Moment,
    /// When there will be evidence at the traffic of now; none when it is too little.
    enough_at: Option<Moment>,
    /// When the candidate's pages were fetched; looked for where the policy goes on by that alone.
    verified_at: Option<Moment>,
}

/// Whether the policy goes on after this verdict although nothing was seen of the candidate's traffic.
fn advances(policy: &Policy, memory: &Memory, verdict: Verdict) -> bool {
    policy.on_no_evidence == OnNoEvidence::Advance
        && matches!(verdict, Verdict::NotEnoughData | Verdict::ProviderDown)
        && memory.empty + 1 >= EMPTY_IN_A_ROW
}

/// What was counted of the candidate and of what is stable, on all these hosts together.
async fn sums(
    tx: &mut Tx,
    hosts: &[String],
    (candidate, stable): (ReleaseId, ReleaseId),
) -> Result<(Sum, Sum), Error> {
    Ok((
        sum(tx, hosts, candidate).await?,
        sum(tx, hosts, stable).await?,
    ))
}

/// An interval begins, on these hosts.
fn begin(memory: &mut Memory, now_ms: i64, hosts: &[String], (candidate, stable): (Sum, Sum)) {
    let known = |sum: Sum| [sum.counted.requests, sum.counted.failed];
    memory.began_ms = now_ms;
    memory.hosts = hosts.to_vec();
    memory.candidate = known(candidate);
    memory.stable = known(stable);
}

/// The verdict on an interval of the candidate and of what is stable, and its evidence in words.
fn judged(
    memory: &Memory,
    (candidate, stable): (Counted, Counted),
    sampled: bool,
    min_requests: i32,
) -> (Verdict, String) {
    let counted = since(candidate, memory.candidate).zip(since(stable, memory.stable));
    if sampled && counted.is_none() {
        let words = "not enough data: what was counted before was forgotten meanwhile";
        return (Verdict::NotEnoughData, words.to_owned());
    }
    let (candidate, stable) = counted.unwrap_or_default();
    let verdict = judge(candidate, stable, sampled, min_requests);
    (verdict, evidence(verdict, candidate, stable))
}

/// What was counted since; none when less is known now than then: counters of an edge's earlier boot
/// are forgotten a day after it ended, and a difference to them tells nothing.
fn since(now: Counted, before: [i64; 2]) -> Option<Counted> {
    let [requests, failed] = before;
    let counted = Counted {
        requests: now.requests - requests,
        failed: now.failed - failed,
    };
    (counted.requests >= 0 && counted.failed >= 0).then_some(counted)
}

/// How many of the candidate's requests an interval has, should as many come as now: `rate` a second of all.
fn expected(step: &Step, rate: f64) -> f64 {
    let share = f64::from(step.weight) / 100.0;
    rate * share * step.interval.as_secs_f64()
}

/// Whether those are enough to judge by. Each interval counts anew: where one has too few, all have.
fn is_enough(policy: &Policy, step: &Step, rate: f64) -> bool {
    expected(step, rate) >= f64::from(policy.min_requests)
}

fn conclude(
    known: &Known,
    policy: &Policy,
    step: &Step,
    mut memory: Memory,
    (verdict, words): (Verdict, String),
) -> Outcome {
    match verdict {
        Verdict::Pass => return Outcome::done(words),
        Verdict::Fail => {
            memory.bad += 1;
            memory.empty = 0;
            if memory.bad >= BAD_IN_A_ROW {
                return Outcome::failed(Cause::Verdict, words);
            }
        }
        Verdict::NotEnoughData | Verdict::ProviderDown => {
            memory.empty += 1;
            memory.bad = 0;
            if memory.empty >= EMPTY_IN_A_ROW {
                return without_evidence(known, policy, step, memory, words);
            }
        }
    }
    wait(known.now, step, &memory, step.interval, words)
}

fn without_evidence(
    known: &Known,
    policy: &Policy,
    step: &Step,
    mut memory: Memory,
    words: String,
) -> Outcome {
    match policy.on_no_evidence {
        OnNoEvidence::Advance => Outcome::done(format!(
            "{words}; goes on by {}",
            fetches(known.verified_at)
        )),
        // Not a word against the release: it is not rejected.
        OnNoEvidence::Return => {
            Outcome::failed(Cause::Evidence, format!("{words}; the policy goes back"))
        }
        OnNoEvidence::Wait => {
            memory.stuck = true;
            let detail = serde_json::to_value(&memory).unwrap_or_default();
            Outcome::Wait(Wait {
                again_in: step.interval,
                on_edges: false,
                blocker: Some(Blocker {
                    kind: blocker::Kind::Evidence,
                    until: known.enough_at,
                    owner: "deployer",
                    message: format!("{words}; the policy waits for a person"),
                    action: format!(
                        "candlefish advance {} {} (goes on) or candlefish cancel {}",
                        step.deployment_id, step.ord, step.deployment_id
                    ),
                }),
                message: words,
                detail,
            })
        }
    }
}

fn wait(now: Moment, step: &Step, memory: &Memory, left: Duration, message: String) -> Outcome {
    Outcome::Wait(Wait {
        again_in: left,
        on_edges: false,
        blocker: Some(Blocker {
            kind: blocker::Kind::Timer,
            until: Some(now.plus(left)),
            owner: "time",
            message: format!(
                "watches {} % of the traffic for {}",
                step.weight,
                words(left)
            ),
            action: format!("candlefish advance {}", step.deployment_id),
        }),
        message,
        detail: serde_json::to_value(memory).unwrap_or_default(),
    })
}

/// Our own fetches, which saw no visitor, and when they were: nothing is fetched anew.
fn fetches(verified_at: Option<Moment>) -> String {
    verified_at.map_or_else(
        || "our own fetches (synthetic)".to_owned(),
        |at| {
            let at = at.timestamp().strftime("%H:%M UTC");
            format!("the verification of {at} (synthetic)")
        },
    )
}

/// How long a judgement takes at this traffic, or that none comes and what is done then.
fn forecast(policy: &Policy, step: &Step, rate: f64) -> String {
    let interval = words(step.interval);
    let tenths = format!("{rate:.1}");
    if is_enough(policy, step, rate) {
        let rate = noun::grouped(tenths.as_str());
        return format!("at {rate} requests/s a judgement needs about {interval}");
    }
    let what = if rate > 0.0 { "too little" } else { "no" };
    // Rounded down, so that too few never read as enough.
    let come = format!("{:.0}", expected(step, rate).max(0.0).floor());
    let then = match policy.on_no_evidence {
        OnNoEvidence::Advance => "advances",
        OnNoEvidence::Wait => "waits for a person",
        OnNoEvidence::Return => "goes back",
    };
    format!(
        "{what} traffic: about {} of {} requests an interval; after {EMPTY_IN_A_ROW} intervals of \
         {interval} it {then} (policy)",
        noun::grouped(come.as_str()),
        noun::grouped(policy.min_requests)
    )
}

fn evidence(verdict: Verdict, candidate: Counted, stable: Counted) -> String {
    let share = |counted: Counted| counted.failed_share() * 100.0;
    let shares = format!(
        "candidate {}, {:.1} % failed · stable {}, {:.1} %",
        noun::counted(candidate.requests, "request"),
        share(candidate),
        noun::grouped(stable.requests),
        share(stable)
    );
    match verdict {
        Verdict::Pass => shares,
        Verdict::Fail => format!("fail: {shares}"),
        Verdict::NotEnoughData => format!("not enough data: {shares}"),
        Verdict::ProviderDown => "provider down: no edge sent traffic samples".to_owned(),
    }
}

#[cfg(test)]
mod tests;
