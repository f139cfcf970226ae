//! Blockers: typed reasons why a deployment is not moving.
//!
//! At most one stands for a deployment, so that the time of a wait is charged to one cause; `since` is
//! kept while only its words change. A cleared one stays as the record of what kept the deployment, and
//! for how long: [`ledger`]. What else keeps it meanwhile is no business of this ledger:
//! [`crate::lane::kept`].

use std::collections::HashSet;

use candlefish_clock::Moment;
use candlefish_ids::DeploymentId;
use candlefish_proto::deploy as pb;
use jiff_sqlx::Timestamp;
use serde::Deserialize;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    ctx::{Tx, read, shown, stored},
    observed::Observed,
};

pub(crate) mod ledger;

/// What a deployment waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Lane,
    Content,
    Hold,
    Timer,
    Evidence,
    Edge,
    Quarantine,
    Provider,
    Stop,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Lane,
        Self::Content,
        Self::Hold,
        Self::Timer,
        Self::Evidence,
        Self::Edge,
        Self::Quarantine,
        Self::Provider,
        Self::Stop,
    ];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Lane => "lane",
            Self::Content => "content",
            Self::Hold => "hold",
            Self::Timer => "timer",
            Self::Evidence => "evidence",
            Self::Edge => "edge",
            Self::Quarantine => "quarantine",
            Self::Provider => "provider",
            Self::Stop => "stop",
        }
    }

    /// A person has to act, so the deployment's deadline pauses.
    pub(crate) const fn waits_for_a_person(self) -> bool {
        matches!(
            self,
            Self::Hold | Self::Stop | Self::Evidence | Self::Quarantine
        )
    }

    /// The kind that a row names; a word that a newer release wrote reads as unspecified.
    fn shown_word(word: &str) -> pb::blocker::Kind {
        let kind = Self::ALL.into_iter().find(|kind| kind.word() == word);
        kind.map_or(pb::blocker::Kind::Unspecified, Self::shown)
    }

    const fn shown(self) -> pb::blocker::Kind {
        match self {
            Self::Lane => pb::blocker::Kind::Lane,
            Self::Content => pb::blocker::Kind::Content,
            Self::Hold => pb::blocker::Kind::Hold,
            Self::Timer => pb::blocker::Kind::Timer,
            Self::Evidence => pb::blocker::Kind::Evidence,
            Self::Edge => pb::blocker::Kind::Edge,
            Self::Quarantine => pb::blocker::Kind::Quarantine,
            Self::Provider => pb::blocker::Kind::Provider,
            Self::Stop => pb::blocker::Kind::Stop,
        }
    }
}

/// A blocker as a room states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blocker {
    pub(crate) kind: Kind,
    pub(crate) until: Option<Moment>,
    /// Who can clear it: `time`, `platform`, `github`, or a role.
    pub(crate) owner: &'static str,
    pub(crate) message: String,
    /// The command that clears it, or passes it before its time; empty when time alone clears it.
    pub(crate) action: String,
}

/// Makes this the only standing blocker of a deployment; none clears all.
pub(crate) async fn set(
    tx: &mut Tx,
    now: Moment,
    deployment: DeploymentId,
    blocker: Option<&Blocker>,
) -> Result<(), sqlx::Error> {
    if let Some(blocker) = blocker {
        return set_each(tx, now, &[(deployment, blocker.clone())]).await;
    }
    sqlx::query!(
        "UPDATE blocker SET cleared_at = $2 WHERE deployment_id = $1 AND cleared_at IS NULL",
        deployment.uuid(),
        stored(now) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Nothing blocks these any more.
pub(crate) async fn clear_each(
    conn: &mut PgConnection,
    now: Moment,
    deployments: &[DeploymentId],
) -> Result<(), sqlx::Error> {
    let ids: Vec<Uuid> = deployments.iter().map(|id| id.uuid()).collect();
    sqlx::query!(
        "UPDATE blocker SET cleared_at = $2
         WHERE deployment_id = ANY((SELECT $1::uuid[])::uuid[]) AND cleared_at IS NULL",
        &ids,
        stored(now) as _
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes each the only standing blocker of its deployment. What stands already, word for word, is not
/// written again; nor is a lane's for an estimate that moved by less than a quarter of what is left: each
/// grant moves those of all that wait behind. The log is told of those that are new, not of other words for
/// what stands.
pub(crate) async fn set_each(
    tx: &mut Tx,
    now: Moment,
    blockers: &[(DeploymentId, Blocker)],
) -> Result<(), sqlx::Error> {
    if blockers.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = blockers.iter().map(|(id, _)| id.uuid()).collect();
    let text = |of: fn(&Blocker) -> &str| -> Vec<String> {
        blockers.iter().map(|(_, one)| of(one).to_owned()).collect()
    };
    let until: Vec<Option<Timestamp>> = blockers
        .iter()
        .map(|(_, one)| one.until.map(stored))
        .collect();
    let written = sqlx::query!(
        r#"WITH said AS (
             SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::text[], $5::text[],
                                  $6::text[]) AS n(id, kind, until, owner, message, action)),
         cleared AS (
             UPDATE blocker b SET cleared_at = $7 FROM said
             WHERE b.deployment_id = said.id AND b.cleared_at IS NULL AND b.kind <> said.kind)
         INSERT INTO blocker (deployment_id, kind, since, until, owner, message, action)
         SELECT id, kind, $7, until, owner, message, action FROM said
         -- What stands word for word would be locked by the conflict, and written for that.
         WHERE NOT EXISTS (
             SELECT FROM blocker b
             WHERE b.deployment_id = said.id AND b.kind = said.kind AND b.cleared_at IS NULL
               AND (b.owner, b.message) = (said.owner, said.message)
               AND (b.until IS NOT DISTINCT FROM said.until
                    OR said.kind = $8
                    AND greatest(b.until - said.until, said.until - b.until) < (said.until - $7) / 4))
         ON CONFLICT (deployment_id, kind) WHERE cleared_at IS NULL DO UPDATE
         SET until = excluded.until, owner = excluded.owner, message = excluded.message,
             action = excluded.action
         WHERE (blocker.until, blocker.owner, blocker.message)
               IS DISTINCT FROM (excluded.until, excluded.owner, excluded.message)
         -- One that stood before keeps its beginning.
         RETURNING blocker.deployment_id, blocker.since = $7 AS "is_new!""#,
        &ids,
        &text(|one| one.kind.word()),
        &until as _,
        &text(|one| one.owner),
        &text(|one| &one.message),
        &text(|one| &one.action),
        stored(now) as _,
        Kind::Lane.word()
    )
    .fetch_all(&mut **tx)
    .await?;
    let new: HashSet<Uuid> = written
        .into_iter()
        .filter_map(|row| row.is_new.then_some(row.deployment_id))
        .collect();
    for (id, blocker) in blockers.iter().filter(|(id, _)| new.contains(&id.uuid())) {
        tx.observe(Observed::waits(*id, blocker.clone()));
    }
    Ok(())
}

/// Whether this is the only standing blocker of a deployment already, word for word; none: that
/// nothing stands.
pub(crate) async fn stands(
    conn: &mut PgConnection,
    deployment: DeploymentId,
    blocker: Option<&Blocker>,
) -> Result<bool, sqlx::Error> {
    let standing = sqlx::query!(
        r#"SELECT kind, until AS "until: Timestamp", owner, message FROM blocker
           WHERE deployment_id = $1 AND cleared_at IS NULL"#,
        deployment.uuid()
    )
    .fetch_all(conn)
    .await?;
    Ok(match (standing.as_slice(), blocker) {
        ([], None) => true,
        ([one], Some(blocker)) => {
            one.kind == blocker.kind.word()
                && one.until.map(read) == blocker.until
                && one.owner == blocker.owner
                && one.message == blocker.message
        }
        _ => false,
    })
}

/// A blocker as a row tells it, on its own or as JSON among others.
#[derive(Debug, Deserialize)]
pub(crate) struct Told {
    kind: String,
    pub(crate) since: jiff::Timestamp,
    until: Option<jiff::Timestamp>,
    owner: String,
    pub(crate) message: String,
    pub(crate) action: String,
    #[serde(default)]
    cleared_at: Option<jiff::Timestamp>,
}

impl Told {
    /// One that stands since then, as the ledger would tell it.
    pub(crate) fn standing(blocker: Blocker, since: Moment) -> Self {
        Self {
            kind: blocker.kind.word().to_owned(),
            since: since.timestamp(),
            until: blocker.until.map(Moment::timestamp),
            owner: blocker.owner.to_owned(),
            message: blocker.message,
            action: blocker.action,
            cleared_at: None,
        }
    }

    /// Whether it stands, and for the same as the other. Two stops may stand: each is lifted by a
    /// command of its own.
    pub(crate) fn stands_for(&self, other: &Self) -> bool {
        let is_one = self.kind != Kind::Stop.word() || self.action == other.action;
        self.cleared_at.is_none() && self.kind == other.kind && is_one
    }

    pub(crate) fn shown(self) -> pb::Blocker {
        let at = |at: jiff::Timestamp| shown(Moment::from_database(at));
        pb::Blocker {
            kind: Kind::shown_word(&self.kind).into(),
            since: Some(at(self.since)),
            until: self.until.map(at),
            owner: self.owner,
            message: self.message,
            action: self.action,
            cleared_at: self.cleared_at.map(at),
        }
    }
}
