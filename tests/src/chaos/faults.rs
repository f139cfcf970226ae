//! What goes wrong during a run.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use candlefish_devstack::{Process, Service, Stack, wait_until};
use candlefish_testkit::checker::Storm;
use futures_util::StreamExt;
use sqlx::{PgPool, Postgres, Transaction};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Plan, sky::Sky};
use crate::rng::Rng;

/// For each thing that a freeze waits for. One that does not come in time makes the fault smaller, not
/// the run wrong.
const WITHIN: Duration = Duration::from_secs(3);
/// Who fetches from an edge that just stopped is seen at once, or is done.
const SEEN_WITHIN: Duration = Duration::from_millis(300);
/// What is claimed at one look is often done at the next.
const TRIES: usize = 5;
/// Long enough for a few pages, and shorter than a lease by more than a heartbeat.
const LATE_FOR: Duration = Duration::from_millis(400);
/// Who holds the table of steps is mostly done with it after one try.
const LOCK_TRIES: usize = 3;
/// Who dies, in turns.
const VICTIMS: [&str; 3] = ["orchestrator", "gateway", "edge"];
const FROZEN: &str = "frozen";
/// A successor that does nothing yet keeps the next fault no longer than that.
const NEXT_WITHIN: Duration = Duration::from_secs(2);
/// Events that are told while nothing is written but what is waited for.
const TOLD_BEFORE_THE_CUT: usize = 5;

/// What comes at each turn: the victims of kills one after the other, and freezes evenly between them.
pub fn order(plan: Plan) -> Vec<&'static str> {
    let freezes_before = |turn: u64| (turn * plan.freezes + plan.faults / 2) / plan.faults.max(1);
    let mut victims = VICTIMS.into_iter().cycle();
    let turns = 0..plan.faults;
    turns
        .map(|turn| {
            if freezes_before(turn + 1) > freezes_before(turn) {
                FROZEN
            } else {
                victims.next().unwrap()
            }
        })
        .collect()
}

/// Kills one process at a time until the lanes are done or the plan is: the next one when its
/// successor has claimed something, and after 2 s at the latest. Only orchestrators claim: of others
/// it is when they are ready. Orchestrators are killed with work in their hands. Half-way the streams
/// go, later Postgres loses its power. Where the plan says so nobody dies: an edge stops answering, so
/// that workers hold on to what they claimed, and then an orchestrator is frozen for longer than its
/// leases last.
pub(super) async fn throw(
    stack: &Stack,
    plan: Plan,
    mut rng: Rng,
    sky: &Sky,
    over: &CancellationToken,
) -> Result<BTreeMap<&'static str, u64>> {
    let database = PgPool::connect(&stack.superuser_database_url()).await?;
    let mut fired: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (turn, name) in (0..).zip(order(plan)) {
        if over.is_cancelled() {
            break;
        }
        if turn == plan.faults / 3 {
            let _storm = sky.work.storm();
            stack.nats().wipe()?;
            stack.nats().restart().await?;
            *fired.entry("streams deleted").or_default() += 1;
        }
        if turn == plan.faults * 2 / 3 {
            let _storm = sky.work.storm();
            cut_power(stack).await?;
            *fired.entry("postgres").or_default() += 1;
        }
        let has_fired = match name {
            FROZEN => freeze(stack, &database, sky).await?,
            "orchestrator" => kill_owner(stack, &database, sky, &mut rng).await?,
            "gateway" => kill_other(stack, Service::Gateway, sky, &mut rng).await?,
            _ => kill_other(stack, Service::Edge, sky, &mut rng).await?,
        };
        *fired.entry(name).or_default() += u64::from(has_fired);
    }
    fired.retain(|_, count| *count > 0);
    Ok(fired)
}

/// Kills an orchestrator, and waits for the first claim of its successor.
async fn kill_owner(stack: &Stack, database: &PgPool, sky: &Sky, rng: &mut Rng) -> Result<bool> {
    let victim = kill_at_work(stack, database, sky, rng).await?;
    let _storm = sky.work.storm();
    victim.start()?;
    claims_first(database, &victim).await;
    Ok(true)
}

/// Kills a gateway or an edge. Without it an orchestrator owns what it owns: that is no excuse.
async fn kill_other(stack: &Stack, service: Service, sky: &Sky, rng: &mut Rng) -> Result<bool> {
    let victim = one_of(stack, service, rng)?;
    let _away = (service == Service::Edge).then(|| sky.of_edge(victim.name()).storm());
    victim.kill()?;
    victim.start()?;
    // Not ready by then: the next one goes all the same.
    let ready = stack.ready(victim.name());
    let _ready_or_not = tokio::time::timeout(NEXT_WITHIN, ready).await;
    Ok(true)
}

/// Waits for the first claim of a process that was just started. An attempt is kept when it is over:
/// no claim is too short to be seen.
async fn claims_first(database: &PgPool, successor: &Process) {
    let part = part_of_owner(successor);
    let claimed = "SELECT EXISTS (SELECT FROM deploy.step_attempt WHERE strpos(owner, $1) > 0)";
    let _claimed_or_not = wait_until(NEXT_WITHIN, "its first claim", || async {
        let asked = sqlx::query_scalar::<_, bool>(claimed).bind(&part);
        match asked.fetch_one(database).await {
            Ok(true) => Ok(()),
            Ok(false) => Err("none yet".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
}

/// Cuts Postgres's power just after something was told: whatever others were told must be on the disk.
/// By itself Postgres writes what nobody waits for a moment later, and a kill would find it there.
async fn cut_power(stack: &Stack) -> Result<()> {
    let client = async_nats::connect(stack.nats().url()).await?;
    let mut told = client.subscribe("deploy.>").await?;
    client.flush().await?;
    stack.postgres().hold_back()?;
    let some = async {
        for _event in 0..TOLD_BEFORE_THE_CUT {
            told.next().await;
        }
    };
    // Nothing more is told: then it goes all the same.
    let _told = tokio::time::timeout(WITHIN, some).await;
    stack.postgres().cut_power()?;
    stack.postgres().restart().await
}

/// Kills an orchestrator with the work that it claimed, or any when nobody claimed anything.
async fn kill_at_work(
    stack: &Stack,
    database: &PgPool,
    sky: &Sky,
    rng: &mut Rng,
) -> Result<Arc<Process>> {
    // Drawn whether or not it is needed, so that a seed means the same run.
    let other = one_of(stack, Service::Orchestrator, rng)?;
    let Some(stuck) = stuck(stack, database, sky, Then::Dies).await? else {
        other.kill()?;
        return Ok(other);
    };
    stuck.holder.kill()?;
    stuck.edge.thaw()?;
    Ok(stuck.holder)
}

/// Freezes an orchestrator with the work that it claimed, until others took that over and did it; then
/// it comes back late. False when nobody claimed anything. An edge that does not answer keeps the work
/// from being done before.
async fn freeze(stack: &Stack, database: &PgPool, sky: &Sky) -> Result<bool> {
    let Some(stuck) = stuck(stack, database, sky, Then::ComesBack).await? else {
        return Ok(false);
    };
    let held = &stuck.held;
    let _taken_over = wait_until(WITHIN, "others to take it over", || async {
        let now = claims(database).await?;
        let left = held.iter().filter(|claim| now.contains(claim)).count();
        none_of(left, "claims")
    })
    .await;
    stuck.edge.thaw()?;
    // All of it: between two looks at a page nobody has the step, and a late first look would change
    // nothing then.
    let _done = wait_until(WITHIN, "others to do it", || async {
        none_of(open(database, held).await?, "steps")
    })
    .await;
    let mut kept_waiting = keep_waiting(database).await;
    for _again in 1..LOCK_TRIES {
        if kept_waiting.is_err() {
            kept_waiting = keep_waiting(database).await;
        }
    }
    stuck.holder.thaw()?;
    if let Ok(tx) = kept_waiting {
        // An outcome that is refused leaves no trace: there is nothing to wait for but time.
        tokio::time::sleep(LATE_FOR).await;
        tx.rollback().await?;
    }
    Ok(true)
}

/// Keeps every question about leases waiting as long as the answer is held: who comes back late finds
/// out by what it writes that its claim is another's, and not by asking.
async fn keep_waiting(database: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut tx = database.begin().await?;
    // Who waits for whom is not known here; nobody waits longer for us.
    sqlx::query("SET LOCAL lock_timeout = '200ms'")
        .execute(&mut *tx)
        .await?;
    sqlx::query("LOCK TABLE deploy.step IN SHARE MODE")
        .execute(&mut *tx)
        .await?;
    Ok(tx)
}

/// What becomes of an orchestrator that was frozen with work in its hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Dies,
    /// Late. One that was frozen within a transaction keeps its locks: nobody could take over what it
    /// holds, nor could anybody keep its questions waiting.
    ComesBack,
}

/// An edge that does not answer, and a frozen orchestrator with the work that it holds on to for that.
struct Stuck {
    edge: Arc<Process>,
    holder: Arc<Process>,
    held: Vec<Held>,
    /// They last until both answer again, or died.
    _storms: [Storm; 2],
}

/// Freezes an edge while a candidate is fetched, and then who fetches it. None when nobody does.
async fn stuck(stack: &Stack, database: &PgPool, sky: &Sky, then: Then) -> Result<Option<Stuck>> {
    let edges = stack.processes(Service::Edge);
    // The last that is asked for pages goes first: who is at another one comes to it.
    for edge in edges.iter().rev().cycle().take(TRIES) {
        let begun = wait_until(WITHIN, "a candidate", || async {
            let claims = claims(database).await?;
            if claims.iter().any(Held::is_of_candidate) {
                Ok(())
            } else {
                Err("nobody fetches one".to_owned())
            }
        });
        if begun.await.is_err() {
            return Ok(None);
        }
        let storms = [sky.work.storm(), sky.of_edge(edge.name()).storm()];
        edge.freeze()?;
        if let Ok(holder) =
            wait_until(SEEN_WITHIN, "a claim", || holder(stack, database, then)).await
        {
            holder.freeze()?;
            let held = claims(database).await.unwrap_or_default();
            let held: Vec<Held> = held.into_iter().filter(|one| one.is_of(&holder)).collect();
            let comes_back = then == Then::Dies || is_outside(database, &held).await;
            if !held.is_empty() && comes_back {
                return Ok(Some(Stuck {
                    edge: Arc::clone(edge),
                    holder,
                    held,
                    _storms: storms,
                }));
            }
            holder.thaw()?;
        }
        edge.thaw()?;
    }
    Ok(None)
}

/// Whether a frozen orchestrator with these claims has a candidate, and no transaction that wrote of steps.
async fn is_outside(database: &PgPool, held: &[Held]) -> bool {
    if !held.iter().any(Held::is_of_candidate) {
        return false;
    }
    match keep_waiting(database).await {
        Ok(tx) => tx.rollback().await.is_ok(),
        Err(_locked) => false,
    }
}

/// How many of these steps are to be done yet.
async fn open(database: &PgPool, held: &[Held]) -> Result<usize, String> {
    let steps: Vec<Uuid> = held.iter().map(|one| one.step).collect();
    let open = "SELECT id FROM deploy.step WHERE id = ANY($1) AND state IN ('ready', 'running')";
    let rows = sqlx::query_scalar::<_, Uuid>(open).bind(&steps);
    let rows = rows.fetch_all(database).await;
    rows.map(|rows| rows.len())
        .map_err(|error| error.to_string())
}

/// A step in the hands of a worker.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
struct Held {
    step: Uuid,
    kind: String,
    owner: String,
    claim: i64,
}

impl Held {
    /// Its deployment has the longest way to go yet: what comes late meets one that still acts.
    fn is_of_candidate(&self) -> bool {
        self.kind == "verify_candidate"
    }

    fn is_of(&self, process: &Process) -> bool {
        part_of_owner(process).is_some_and(|part| self.owner.contains(&part))
    }
}

/// What an orchestrator's worker has in its name, `deploy-orchestrator-<pid>-<six characters>`, and no
/// other's that runs beside it; none of a process that does not run.
fn part_of_owner(process: &Process) -> Option<String> {
    process.pid().map(|pid| format!("-{pid}-"))
}

/// An orchestrator that holds work; one that holds a candidate's, if there is one. What comes back is to
/// hold one.
async fn holder(stack: &Stack, database: &PgPool, then: Then) -> Result<Arc<Process>, String> {
    let claims = claims(database).await?;
    let processes = stack.processes(Service::Orchestrator);
    let candidates = claims.iter().filter(|claim| claim.is_of_candidate());
    let others = claims.iter().filter(|_| then == Then::Dies);
    candidates
        .chain(others)
        .find_map(|claim| processes.iter().find(|process| claim.is_of(process)))
        .map(Arc::clone)
        .ok_or_else(|| "nobody holds anything".to_owned())
}

async fn claims(database: &PgPool) -> Result<Vec<Held>, String> {
    let rows = "SELECT id AS step, kind, owner, claim FROM deploy.step WHERE state = 'running'";
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
