//! The claim: whatever has not ended is carried on, or says what it waits for, and that is true.

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy::{Blocker, blocker::Kind};
use serde::Deserialize;
use sqlx::types::Json;
use uuid::Uuid;

use super::world::World;
use crate::lane::store::find_kept;

/// As long as a person is waited for, no deadline passes.
const BY_A_PERSON: [&str; 4] = ["hold", "stop", "evidence", "quarantine"];

const OPEN: &str = "
    SELECT d.id, e.slug AS place, d.kind, d.state, d.live_at IS NOT NULL AS live,
           r.state = 'sealed' AS sealed, e.hold_since IS NOT NULL AS held, l.closed,
           EXISTS (SELECT 1 FROM ban x WHERE x.release_id = d.release_id AND x.cleared_at IS NULL)
               AS banned,
           EXISTS (SELECT 1 FROM stop s WHERE s.ended_at IS NULL
                   AND (s.site_id IS NULL OR s.site_id = d.site_id)) AS stopped,
           EXISTS (SELECT 1 FROM stop s WHERE s.ended_at IS NULL AND s.until > clock()
                   AND (s.site_id IS NULL OR s.site_id = d.site_id)) AS stopped_still,
           d.fence = l.fence AS fenced, d.deadline_at IS NOT NULL AS bounded,
           (SELECT coalesce(jsonb_agg(jsonb_build_object('kind', b.kind, 'owner', b.owner,
                   'message', b.message, 'action', b.action, 'ends', b.until IS NOT NULL)), '[]')
            FROM blocker b WHERE b.deployment_id = d.id AND b.cleared_at IS NULL) AS blockers,
           (SELECT coalesce(jsonb_agg(jsonb_build_object('state', s.state,
                   'due', s.state = 'ready' AND s.run_at <= clock(),
                   'sleeps', s.state = 'ready' AND s.run_at > clock() + interval '1 second')), '[]')
            FROM step s WHERE s.deployment_id = d.id
            AND s.state IN ('ready', 'running', 'quarantined')) AS steps
    FROM deployment d JOIN release r ON r.id = d.release_id
    JOIN environment e ON e.id = d.environment_id
    JOIN lane l ON l.environment_id = d.environment_id
    WHERE d.finished_at IS NULL ORDER BY d.id";

impl World {
    /// The one claim.
    pub(super) async fn assert_free(&self) {
        let open = self.open().await;
        for one in &open {
            let mut lane = open.iter().filter(|other| other.place == one.place);
            let acts = lane.any(|other| other.state != "pending");
            let fault = if one.state == "pending" {
                let told = self.told_to_keep(one).await;
                one.traps_pending(acts).or_else(|| one.conceals(&told))
            } else {
                one.traps_acting()
            };
            if let Some(fault) = fault {
                panic!("{fault}: {one:?}\nof {open:#?}\nafter\n{}", self.told());
            }
        }
    }

    /// What is told to keep it.
    async fn told_to_keep(&self, one: &Open) -> Vec<Kind> {
        let mut conn = self.ctx.pool.acquire().await.unwrap();
        let id = DeploymentId::from_uuid(one.id);
        let kept = find_kept(&mut conn, id).await.unwrap().unwrap();
        kept.shown().iter().map(Blocker::kind).collect()
    }

    pub(super) async fn open(&self) -> Vec<Open> {
        sqlx::query_as(OPEN)
            .fetch_all(&self.ctx.pool)
            .await
            .unwrap()
    }
}

/// A deployment that has not ended.
#[derive(Debug, sqlx::FromRow)]
#[expect(clippy::struct_excessive_bools, reason = "each is a claim of its row")]
pub(super) struct Open {
    id: Uuid,
    /// The slug of its environment, and so its lane.
    place: String,
    kind: String,
    state: String,
    live: bool,
    sealed: bool,
    held: bool,
    closed: bool,
    banned: bool,
    stopped: bool,
    /// Also by the clock: a stop whose time has passed keeps nothing, swept or not.
    stopped_still: bool,
    /// It has its lane's fence.
    fenced: bool,
    /// It has a deadline.
    bounded: bool,
    blockers: Json<Vec<Standing>>,
    /// Those that are to be carried on, or that a person must decide on.
    steps: Json<Vec<Going>>,
}

/// A blocker that stands.
#[derive(Debug, Deserialize)]
pub(super) struct Standing {
    kind: String,
    owner: String,
    message: String,
    action: String,
    /// It says until when.
    ends: bool,
}

/// A step that has neither ended nor to wait for another.
#[derive(Debug, Deserialize)]
pub(super) struct Going {
    state: String,
    /// A worker takes it at once.
    due: bool,
    /// Nobody looks at it for a while.
    sleeps: bool,
}

impl Standing {
    /// Why nobody can act on it.
    fn fault(&self) -> Option<&'static str> {
        if self.owner.is_empty() || self.message.is_empty() {
            return Some("it does not say who keeps it, or why");
        }
        if self.action.is_empty() {
            return Some("it does not say how to go on");
        }
        let must_end = matches!(self.kind.as_str(), "timer" | "content" | "stop");
        (must_end && !self.ends).then_some("it does not say until when")
    }
}

impl Open {
    fn traps_pending(&self, acts: bool) -> Option<&'static str> {
        let rollback = self.kind == "rollback";
        let kept = !rollback && (self.held || self.stopped);
        if self.closed {
            return Some("it waits for a lane that is closed");
        }
        if self.banned {
            return Some("it waits with a release that is banned");
        }
        if self.blockers.0.is_empty() {
            return Some("it waits without a blocker");
        }
        if self.sealed && !acts && !kept {
            return Some("nothing acts, nothing keeps it, and it was not granted");
        }
        self.blockers.0.iter().find_map(|one| match &*one.kind {
            "lane" if !acts => Some("it waits for a lane on which nothing acts"),
            "hold" if !self.held || rollback => Some("it waits for a hold that does not keep it"),
            "stop" if !self.stopped || rollback => {
                Some("it waits for a stop that does not keep it")
            }
            "content" if self.sealed => Some("it waits for content that is there"),
            "lane" | "hold" | "stop" | "content" => one.fault(),
            _ => Some("it waits for what keeps only those that act"),
        })
    }

    /// What keeps a pending one is told, however many things do.
    fn conceals(&self, told: &[Kind]) -> Option<&'static str> {
        let kept = |by: bool| by && self.kind != "rollback";
        let missing = |kind: Kind| !told.contains(&kind);
        if kept(self.held) && missing(Kind::Hold) {
            return Some("it does not tell of the hold");
        }
        if kept(self.stopped_still) && missing(Kind::Stop) {
            return Some("it does not tell of the stop");
        }
        (!self.sealed && missing(Kind::Content)).then_some("it does not tell of its content")
    }

    fn traps_acting(&self) -> Option<&'static str> {
        let (steps, blockers) = (&self.steps.0, &self.blockers.0);
        let stands = |kind: &str| blockers.iter().any(|one| one.kind == kind);
        if !self.fenced {
            return Some("it acts under a fence that is not its lane's: no worker carries it on");
        }
        if steps.is_empty() {
            return Some("it acts, and no step is to be carried on");
        }
        if steps.iter().all(|one| one.state == "quarantined") && !stands("quarantine") {
            return Some("its step is quarantined, and no blocker says so");
        }
        if self.state == "waiting" && blockers.is_empty() {
            return Some("it waits without a blocker");
        }
        if steps.iter().all(|one| one.sleeps) && blockers.is_empty() {
            return Some("it sleeps, and no blocker says for what");
        }
        if stands("stop") && !self.stopped && !steps.iter().any(|one| one.due) {
            return Some("it waits for a stop that has ended");
        }
        let goes_forward = self.state != "cancelling";
        let fault = goes_forward.then(|| self.traps_forward()).flatten();
        fault.or_else(|| blockers.iter().find_map(Standing::fault))
    }

    /// What must be true of one that is not being undone.
    fn traps_forward(&self) -> Option<&'static str> {
        let by_a_person = |one: &Standing| BY_A_PERSON.contains(&&*one.kind);
        if self.closed {
            return Some("it acts on a lane that is closed");
        }
        if self.banned && !self.live && self.kind != "rollback" {
            return Some("it is to go live with a release that is banned");
        }
        if !self.bounded && !self.blockers.0.iter().any(by_a_person) {
            return Some("it has no deadline, and no person is waited for");
        }
        None
    }
}
