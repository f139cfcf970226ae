//! What goes wrong during a run.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use candlefish_devstack::{Process, Service, Stack};
use tokio_util::sync::CancellationToken;

use super::Plan;
use crate::rng::Rng;

/// Longer than a step's lease: who was frozen comes back late.
const FROZEN: Duration = Duration::from_millis(1500);
/// Time for workers to come to wait for an edge that does not answer, and to finish when it does.
const FIRST: Duration = Duration::from_millis(400);

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
        let victim = one_of(stack, service, &mut rng)?;
        if name == "frozen" {
            freeze(stack, &victim, &mut rng).await?;
        } else {
            victim.kill()?;
            victim.start()?;
            let wait = tokio::time::timeout(Duration::from_secs(2), stack.ready(victim.name()));
            // Not ready within 2 s: then the next one goes all the same.
            let _ready_or_not = wait.await;
        }
        *fired.entry(name).or_default() += 1;
    }
    Ok(fired)
}

async fn freeze(stack: &Stack, orchestrator: &Process, rng: &mut Rng) -> Result<()> {
    let edge = one_of(stack, Service::Edge, rng)?;
    edge.freeze()?;
    // There is nothing to wait for but time: the fault is that time passes.
    tokio::time::sleep(FIRST).await;
    orchestrator.freeze()?;
    tokio::time::sleep(FROZEN).await;
    edge.thaw()?;
    // Others finish meanwhile what the frozen one had; its own answers wait for it.
    tokio::time::sleep(FIRST).await;
    orchestrator.thaw()
}

fn one_of(stack: &Stack, service: Service, rng: &mut Rng) -> Result<Arc<Process>> {
    let replicas = stack.processes(service);
    let place = rng.below(u64::try_from(replicas.len())?);
    let victim = replicas.get(usize::try_from(place)?);
    victim.map(Arc::clone).context("a replica")
}
