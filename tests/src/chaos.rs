//! Deployments under fire: many lanes are driven by callers who repeat safely, while processes are
//! killed and frozen, the streams deleted and Postgres restarted. The judge is `testkit::checker`.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Error, Result};
use candlefish_devstack::Stack;
use candlefish_proto::deploy as pb;
use candlefish_testkit::{
    checker::{self, Broken, Pushed},
    github::Fake,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

mod callers;
mod faults;
mod lane;
mod outcomes;
mod pushes;
mod sky;
mod strollers;
mod witness;

use callers::{Callers, Violation};
pub use faults::order;
use lane::{Lane, SITE};
pub use outcomes::Outcomes;
use pushes::Pusher;
pub use pushes::REPOSITORY;
use sky::Sky;
pub use strollers::{Complaint, judge_page};
use witness::Follower;

use crate::{api::quick_policy, rng::Rng};

/// What is judged where it is asked for alone ([`without_excuse`]): that no run has any is not known yet.
pub const DEADLOCKS: &str = "nobody deadlocks";

/// Whether a deadlock breaks a run, as in `cargo xtask chaos`. Else it is only told: Postgres ends one of
/// both, which is tried again.
#[must_use]
pub fn without_excuse() -> bool {
    std::env::var_os("CANDLEFISH_CHAOS_STRICT").is_some()
}

/// Lanes that webhooks deploy to: half of them are uploaded, half are fetched.
pub const PUSHED_LANES: u64 = 4;

/// How large a run is.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub deployments: u64,
    pub lanes: u64,
    /// Pushes that webhooks tell of, over [`PUSHED_LANES`] lanes on top.
    pub pushes: u64,
    /// Process kills and freezes; the streams' deletion and Postgres's restart come on top.
    pub faults: u64,
    /// How many of these are freezes of an orchestrator with work in its hands; see [`order`].
    pub freezes: u64,
}

/// What becomes of a deployment on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    Ordinary,
    Cancelled,
    AbortedPastThePivot,
    RolledBack,
    Broken,
    /// An older commit is asked for after it.
    Late,
}

/// What a run did.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// How often what was planned came true, as callers saw it.
    pub fates: BTreeMap<Fate, u64>,
    pub accepted: Vec<String>,
    /// Those of them that a fate was planned for.
    pub planned: Vec<String>,
    /// Those of them whose release is broken: they alone may fail.
    pub flawed: Vec<String>,
    /// What the pages of each release carry.
    pub marks: BTreeMap<String, String>,
    /// What webhooks told of.
    pub pushed: Vec<Pushed>,
    /// Times that a gateway did not take a delivery, because it was down or something behind it was.
    pub missed: u64,
    /// Times that a connection broke while it wrote down a delivery.
    pub broken_off: u64,
    /// Faults that fired, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Pages that visitors got, all of them as they should be.
    pub pages: u64,
    /// What callers and witnesses saw broken while the run went on; it ends at the first of these.
    pub broken: Broken,
}

/// Drives the lanes and throws the faults. Every accepted deployment is terminal when this answers,
/// unless something is broken. A run that does not come to its end is an error, unless it shows why.
pub async fn run(stack: &Stack, github: &Fake, plan: Plan) -> Result<Done> {
    let mut rng = Rng::seeded(plan.seed);
    let callers = Callers::connect(stack)?;
    let over = CancellationToken::new();
    let bus = witness::bus(stack, over.clone()).await?;
    let follower = Follower::new(callers.clone(), stack)
        .begin(async {
            prepare(&callers, plan.lanes).await?;
            pushes::prepare(&callers).await
        })
        .await?;
    let mut witnesses = JoinSet::new();
    witnesses.spawn(bus);
    let sky = Sky::over(stack);
    let url = stack.superuser_database_url();
    witnesses.spawn(witness::moments(url, sky.work.clone(), over.clone()));
    let pages = strollers::send(stack, plan.lanes, &sky, &over, &mut witnesses)?;
    // Follows to the last event, which needs a platform that nobody kills any more.
    let calm = CancellationToken::new();
    let mut followed = JoinSet::new();
    followed.spawn(follower.follow(calm.clone()));
    let mut lanes = lanes(&callers, plan, &mut rng)?;
    for pusher in pushers(stack, github, &callers, plan, &mut rng)? {
        lanes.spawn(pusher.drive());
    }
    let driven = async {
        let done = tokio::select! {
            done = drive(&callers, &mut lanes) => done,
            broken = first(&mut witnesses) => Ok(Done { broken, ..Done::default() }),
            // A fault that could not be thrown, or not be mended.
            () = over.cancelled() => Ok(Done::default()),
        };
        over.cancel();
        done
    };
    let faults = async {
        let fired = faults::throw(stack, plan, rng.fork(), &sky, &over).await;
        if fired.is_err() {
            over.cancel();
        }
        fired
    };
    let (done, fired) = tokio::join!(driven, faults);
    let fired = fired.context("throwing faults")?;
    lanes.shutdown().await;
    let at_rest = done.as_ref().is_ok_and(|done| done.broken.is_empty());
    if !at_rest {
        // What it was told adds up only when nothing more happens.
        followed.shutdown().await;
    }
    calm.cancel();
    let mut broken = seen_by([witnesses, followed]).await?;
    let mut done = match done {
        Ok(done) => done,
        Err(error) => show_why(stack, error, &mut broken).await?,
    };
    done.faults = fired;
    done.pages = pages.load(Ordering::Relaxed);
    done.broken.extend(broken);
    Ok(done)
}

/// Each lane's fates, in a seeded order. Of 200 each of those that go wrong is planned 27 times, where
/// 20 must come true; 146 are neither cancelled nor broken, where 120 must have had traffic: what is
/// left over is for a newer commit that takes the place of what waits.
pub fn fates(rng: &mut Rng, plan: Plan) -> Vec<Vec<Fate>> {
    let mut all = Vec::new();
    for place in 0..plan.deployments {
        all.push(match place % 15 {
            0 | 5 => Fate::Cancelled,
            1 | 6 => Fate::AbortedPastThePivot,
            2 | 7 => Fate::RolledBack,
            3 | 8 => Fate::Broken,
            4 | 9 => Fate::Late,
            _ => Fate::Ordinary,
        });
    }
    for place in (1..all.len()).rev() {
        let bound = u64::try_from(place + 1).unwrap_or(1);
        let other = usize::try_from(rng.below(bound)).unwrap_or(0);
        all.swap(place, other);
    }
    let mut lanes: Vec<Vec<Fate>> = (0..plan.lanes).map(|_| Vec::new()).collect();
    let count = lanes.len().max(1);
    for (place, fate) in all.into_iter().enumerate() {
        if let Some(lane) = lanes.get_mut(place % count) {
            lane.push(fate);
        }
    }
    for lane in &mut lanes {
        let stays = |fate: &Fate| matches!(fate, Fate::Ordinary | Fate::Late);
        let back = lane.iter().position(|fate| *fate == Fate::RolledBack);
        let stay = lane.iter().position(stays);
        if let Some((back, stay)) = back.zip(stay)
            && back < stay
        {
            // Nobody goes back from the first release.
            lane.swap(back, stay);
        }
    }
    lanes
}

/// What these saw broken, when all of them are done.
async fn seen_by(sets: [JoinSet<Broken>; 2]) -> Result<Broken> {
    let mut broken = Broken::new();
    for mut set in sets {
        while let Some(seen) = set.join_next().await {
            broken.extend(seen?);
        }
    }
    Ok(broken)
}

/// A run that did not come to its end shows why, or it proves nothing.
async fn show_why(stack: &Stack, error: Error, broken: &mut Broken) -> Result<Done> {
    broken.extend(checker::so_far(&stack.superuser_database_url()).await);
    if broken.is_empty() {
        return Err(error);
    }
    Ok(Done::default())
}

/// The first thing that a witness saw broken; waits for ever when there is none.
async fn first(witnesses: &mut JoinSet<Broken>) -> Broken {
    while let Some(broken) = witnesses.join_next().await {
        match broken {
            Ok(broken) if broken.is_empty() => {}
            Ok(broken) => return broken,
            Err(error) => panic!("a witness: {error}"),
        }
    }
    std::future::pending().await
}

fn lanes(callers: &Callers, plan: Plan, rng: &mut Rng) -> Result<JoinSet<Result<Done>>> {
    let mut lanes = JoinSet::new();
    for (lane, fates) in fates(rng, plan).into_iter().enumerate() {
        let driver = Lane {
            callers: callers.clone(),
            slug: format!("lane-{lane}"),
            seed: u32::try_from(plan.seed % 1_000_000)? * 100 + u32::try_from(lane)?,
            rng: rng.fork(),
            has_before: false,
            done: Done::default(),
        };
        lanes.spawn(driver.drive(fates));
    }
    Ok(lanes)
}

/// Who pushes to each of the lanes that webhooks deploy to.
fn pushers(
    stack: &Stack,
    github: &Fake,
    callers: &Callers,
    plan: Plan,
    rng: &mut Rng,
) -> Result<Vec<Pusher>> {
    let each = plan.pushes.div_ceil(PUSHED_LANES);
    (0..PUSHED_LANES)
        .map(|lane| {
            let before = lane * each;
            Ok(Pusher {
                callers: callers.clone(),
                http: pushes::client()?,
                gateways: stack.gateway_urls(),
                database: stack.superuser_database_url(),
                secret: stack.github_webhook_secret().to_owned(),
                github: github.clone(),
                lane,
                seed: u32::try_from(plan.seed % 1_000_000)? * 100 + 90 + u32::try_from(lane)?,
                count: u32::try_from(each.min(plan.pushes.saturating_sub(before)))?,
                rng: rng.fork(),
                missed: AtomicU64::default(),
                done: Done::default(),
            })
        })
        .collect()
}

async fn drive(callers: &Callers, lanes: &mut JoinSet<Result<Done>>) -> Result<Done> {
    let mut done = Done::default();
    let driven = async {
        while let Some(lane) = lanes.join_next().await {
            let lane = lane.context("a lane's driver")??;
            done.accepted.extend(lane.accepted);
            done.planned.extend(lane.planned);
            done.flawed.extend(lane.flawed);
            done.missed += lane.missed;
            done.broken_off += lane.broken_off;
            done.marks.extend(lane.marks);
            done.pushed.extend(lane.pushed);
            for (fate, count) in lane.fates {
                *done.fates.entry(fate).or_default() += count;
            }
        }
        for id in &done.accepted {
            callers.ended(id).await?;
        }
        anyhow::Ok(())
    };
    match driven.await {
        Ok(()) => Ok(done),
        Err(error) => match error.downcast_ref::<Violation>() {
            Some(Violation { claim, words }) => {
                let broken = Broken::from([((*claim).to_owned(), vec![words.clone()])]);
                Ok(Done { broken, ..done })
            }
            None => Err(error),
        },
    }
}

async fn prepare(callers: &Callers, lanes: u64) -> Result<()> {
    let api = callers.any();
    api.create_site(SITE, &[]).await?;
    for lane in 0..lanes {
        let order = if lane % 2 == 0 {
            pb::policy::Order::Queue
        } else {
            pb::policy::Order::Latest
        };
        let request = pb::CreateEnvironmentRequest {
            site: SITE.to_owned(),
            slug: format!("lane-{lane}"),
            policy: Some(pb::Policy {
                order: order.into(),
                ..quick_policy()
            }),
            ..Default::default()
        };
        api.sites().create_environment(request).await?;
    }
    Ok(())
}
