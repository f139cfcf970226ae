//! What goes wrong during a run.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use candlefish_devstack::{Process, Service, Stack, wait_until};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Plan;
use crate::rng::Rng;

/// For each thing that a freeze waits for. One that does not come in time makes the fault smaller, not
/// the run wrong.
const WITHIN: Duration = Duration::from_secs(3);
/// Kills one process at a time until the lanes are done or the plan is: the next one when its
/// successor is ready, and after 2 s at the latest. Half-way the streams go, later Postgres. Every
/// fourth time nobody dies: an edge stops answering, so that workers hold on to what they claimed,
/// and then an orchestrator is frozen for longer than its leases last.
pub(super) async fn throw(
    stack: &Stack,
    plan: Plan,
    mut rng: Rng,
    over: CancellationToken,
) -> Result<BTreeMap<&'static str, u64>> {
    let mut fired: BTreeMap<&'static str, u64> = BTreeMap::new();
    for turn in 0..plan.faults {
        if over.is_cancelled() {
            break;
        }
        if turn == plan.faults / 3 {
            stack.nats().wipe()?;
            stack.nats().restart().await?;
            *fired.entry("streams deleted").or_default() += 1;
        }
        if turn == plan.faults * 2 / 3 {
            stack.postgres().process().kill()?;
            stack.postgres().restart().await?;
            *fired.entry("postgres").or_default() += 1;
        }
        let (name, service) = match turn % 4 {
            0 => ("orchestrator", Service::Orchestrator),
            1 => ("gateway", Service::Gateway),
            2 => ("edge", Service::Edge),
            _ => ("frozen", Service::Orchestrator),
        };
        if name == "frozen" {
            if freeze(stack, &mut rng).await? {
                *fired.entry(name).or_default() += 1;
            }
            continue;
        }
        let victim = one_of(stack, service, &mut rng)?;
        victim.kill()?;
        victim.start()?;
        let wait = tokio::time::timeout(Duration::from_secs(2), stack.ready(victim.name()));
        // Not ready within 2 s: then the next one goes all the same.
        let _ready_or_not = wait.await;
        *fired.entry(name).or_default() += 1;
    }
    Ok(fired)
}

/// Freezes an orchestrator with the work that it claimed, until others took that over and did it; then
/// it comes back late. False when nobody claimed anything. An edge that does not answer keeps the work
/// from being done before.
async fn freeze(stack: &Stack, rng: &mut Rng) -> Result<bool> {
    let database = PgPool::connect(&stack.superuser_database_url()).await?;
    let edge = one_of(stack, Service::Edge, rng)?;
    edge.freeze()?;
    let claimed = wait_until(WITHIN, "a claim", || claimed(stack, &database)).await;
    let Ok((victim, held)) = claimed else {
        edge.thaw()?;
        return Ok(false);
    };
    victim.freeze()?;
    let _taken_over = wait_until(WITHIN, "others to take it over", || async {
        let now = claims(&database).await?;
        let left = held.iter().filter(|claim| now.contains(claim)).count();
        none_of(left, "claims")
    })
    .await;
    edge.thaw()?;
    let _done = wait_until(WITHIN, "others to do it", || async {
        let now = claims(&database).await?;
        let step = |claim: &&Held| now.iter().any(|one| one.step == claim.step);
        none_of(held.iter().filter(step).count(), "steps")
    })
    .await;
    victim.thaw()?;
    Ok(true)
}

/// A step in the hands of a worker.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
struct Held {
    step: Uuid,
    owner: String,
    claim: i64,
}

/// The first orchestrator that holds work, and all that it holds.
async fn claimed(stack: &Stack, database: &PgPool) -> Result<(Arc<Process>, Vec<Held>), String> {
    let claims = claims(database).await?;
    for process in stack.processes(Service::Orchestrator) {
        let Some(pid) = process.pid() else { continue };
        let its = |claim: &&Held| claim.owner.contains(&format!("-{pid}-"));
        let held: Vec<Held> = claims.iter().filter(its).cloned().collect();
        if !held.is_empty() {
            return Ok((Arc::clone(&process), held));
        }
    }
    Err("nobody holds anything".to_owned())
}

async fn claims(database: &PgPool) -> Result<Vec<Held>, String> {
    let rows = "SELECT id AS step, owner, claim FROM deploy.step WHERE state = 'running'";
    let rows = sqlx::query_as(rows).fetch_all(database).await;
    rows.map_err(|error| error.to_string())
}

fn none_of(left: usize, what: &str) -> Result<(), String> {
    match left {
        0 => Ok(()),
        left => Err(format!("{left} {what} are left")),
    }
}

fn one_of(stack: &Stack, service: Service, rng: &mut Rng) -> Result<Arc<Process>> {
    let replicas = stack.processes(service);
    let place = rng.below(u64::try_from(replicas.len())?);
    let victim = replicas.get(usize::try_from(place)?);
    victim.map(Arc::clone).context("a replica")
}
