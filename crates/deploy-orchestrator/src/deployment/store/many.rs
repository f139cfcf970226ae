//! Statements about several deployments at once, of lanes that share a transaction.

use std::collections::HashMap;

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, ReleaseId};
use jiff_sqlx::Timestamp;
use serde::Serialize;
use serde_json::Value;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::{Error, Row};
use crate::{
    ctx::{Tx, stored},
    deployment::{Deployment, state::State},
};

/// Locks deployments. Their lanes are locked already.
pub(crate) async fn lock_each(
    tx: &mut Tx,
    ids: &[DeploymentId],
) -> Result<HashMap<DeploymentId, Deployment>, Error> {
    // One by its id, not by an array of one: for an array Postgres makes a new plan each time.
    if let [] | [_] = ids {
        let mut found = HashMap::new();
        for id in ids {
            found.extend(super::lock(tx, *id).await?.map(|one| (*id, one)));
        }
        return Ok(found);
    }
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    // Nor is an array that the planner does not see planned anew.
    let rows = select_deployment!(
        "WHERE d.id = ANY((SELECT $1::uuid[])::uuid[]) FOR UPDATE OF d",
        &ids
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            let deployment = Deployment::try_from(row)?;
            Ok((deployment.id, deployment))
        })
        .collect()
}

/// A new deployment, and the trace context of the request that asked for it.
pub(crate) type Asked<'a> = (&'a Deployment, String);

/// Writes new deployments, admitted in this order. One that no push made, and whose content is not
/// whole, waits for it as long as its policy lets a push wait.
pub(crate) async fn insert_each(
    conn: &mut PgConnection,
    asked: &[Asked<'_>],
) -> Result<(), sqlx::Error> {
    let uuids = |of: fn(&Deployment) -> Uuid| -> Vec<Uuid> {
        asked.iter().map(|(one, _)| of(one)).collect()
    };
    let options = |of: fn(&Deployment) -> Option<Uuid>| -> Vec<Option<Uuid>> {
        asked.iter().map(|(one, _)| of(one)).collect()
    };
    let texts = |of: fn(&Deployment) -> &str| -> Vec<String> {
        asked.iter().map(|(one, _)| of(one).to_owned()).collect()
    };
    let moments = |of: fn(&Deployment) -> Moment| -> Vec<Timestamp> {
        asked.iter().map(|(one, _)| stored(of(one))).collect()
    };
    let jsons = |of: fn(&Deployment) -> serde_json::Result<Value>| -> Vec<Value> {
        let values = asked.iter().map(|(one, _)| of(one));
        values
            .map(|value| value.expect("strategy and policy have only text keys"))
            .collect()
    };
    let parents: Vec<String> = asked.iter().map(|(_, parent)| parent.clone()).collect();
    sqlx::query!(
        "INSERT INTO deployment (id, site_id, environment_id, release_id, kind, strategy, policy,
             state, message, created_at, created_by, retry_of, leaves_release_id, reason,
             trace_id, span_id, request_traceparent, content_until)
         SELECT id, site_id, environment_id, release_id, kind, strategy, policy, 'pending', message,
             created_at, created_by, retry_of, leaves_release_id, reason, trace_id, span_id, parent,
             CASE WHEN (SELECT r.state FROM release r WHERE r.id = n.release_id) <> 'sealed'
                  AND (SELECT t.id FROM trigger t
                       WHERE t.deployment_id = n.id AND t.outcome = 'created' LIMIT 1) IS NULL
             THEN n.content_until END
         FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::jsonb[],
                     $7::jsonb[], $8::text[], $9::timestamptz[], $10::text[], $11::uuid[],
                     $12::uuid[], $13::text[], $14::text[], $15::text[], $16::text[],
                     $17::timestamptz[])
              WITH ORDINALITY AS n (id, site_id, environment_id, release_id, kind, strategy, policy,
                     message, created_at, created_by, retry_of, leaves_release_id, reason, trace_id,
                     span_id, parent, content_until, place)
         ORDER BY place",
        &uuids(|one| one.id.uuid()),
        &uuids(|one| one.site_id.uuid()),
        &uuids(|one| one.environment_id.uuid()),
        &uuids(|one| one.release_id.uuid()),
        &texts(|one| one.kind.word()),
        &jsons(|one| serde_json::to_value(&one.strategy)),
        &jsons(|one| serde_json::to_value(&one.policy)),
        &texts(|one| &one.message),
        &moments(|one| one.created_at) as _,
        &texts(|one| &one.created_by),
        &options(|one| one.retry_of.map(DeploymentId::uuid)) as _,
        &options(|one| one.leaves_release_id.map(ReleaseId::uuid)) as _,
        &texts(|one| &one.reason),
        &texts(|one| &one.trace_id),
        &texts(|one| &one.span_id),
        &parents,
        &moments(|one| one.created_at.plus(one.policy.content_deadline)) as _
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes the end of deployments that never acted, at `now`, each guarded by the version that
/// `lock_each` read; the versions rise by one.
pub(crate) async fn save_never_acted(
    conn: &mut PgConnection,
    now: Moment,
    ended: Vec<&mut Deployment>,
) -> Result<(), Error> {
    let ids: Vec<Uuid> = ended.iter().map(|one| one.id.uuid()).collect();
    let versions: Vec<i32> = ended.iter().map(|one| one.version).collect();
    let texts = |of: fn(&Deployment) -> &str| -> Vec<String> {
        ended.iter().map(|one| of(one).to_owned()).collect()
    };
    let by: Vec<Option<Uuid>> = ended
        .iter()
        .map(|one| one.superseded_by.map(DeploymentId::uuid))
        .collect();
    let saved = sqlx::query_scalar!(
        "UPDATE deployment d SET state = n.state, cause = n.cause, message = n.message,
             superseded_by = n.by, finished_at = $7, deadline_at = NULL, deadline_left_ms = NULL,
             version = d.version + 1
         FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::uuid[])
              AS n (id, version, state, cause, message, by)
         WHERE d.id = n.id AND d.version = n.version RETURNING d.id",
        &ids,
        &versions,
        &texts(|one| one.state.word()),
        &texts(|one| &one.cause),
        &texts(|one| &one.message),
        &by as _,
        stored(now) as _
    )
    .fetch_all(conn)
    .await?;
    for one in ended {
        if !saved.contains(&one.id.uuid()) {
            return Err(Error::Version(one.id));
        }
        one.version += 1;
    }
    Ok(())
}

/// What a command may change of a deployment, as JSON among others.
#[derive(Debug, Serialize)]
struct Changed<'a> {
    id: Uuid,
    /// That was read.
    version: i32,
    state: &'static str,
    cause: &'a str,
    message: &'a str,
    fence: i64,
    weight: i32,
    started_at: Option<jiff::Timestamp>,
    pivoted_at: Option<jiff::Timestamp>,
    live_at: Option<jiff::Timestamp>,
    finished_at: Option<jiff::Timestamp>,
    deadline_at: Option<jiff::Timestamp>,
    deadline_left_ms: Option<i64>,
    undo_ends: Option<&'static str>,
    previous: Option<Uuid>,
    superseded_by: Option<Uuid>,
    target_confirmed: Option<bool>,
    pinned: bool,
    pinned_at: Option<jiff::Timestamp>,
    pinned_by: &'a str,
    pin_reason: &'a str,
}

impl<'a> Changed<'a> {
    fn of(next: &'a Deployment) -> Self {
        let at = |moment: Option<Moment>| moment.map(Moment::timestamp);
        let acting = next.state.acting().copied();
        let finished_at = match &next.state {
            State::Ended { at, .. } => Some(*at),
            _ => None,
        };
        let undo_ends = match &next.state {
            State::Cancelling { ends, .. } => Some(ends.word()),
            _ => None,
        };
        let left = next.deadline_left;
        Self {
            id: next.id.uuid(),
            version: next.version,
            state: next.state.word(),
            cause: &next.cause,
            message: &next.message,
            fence: next.fence,
            weight: next.weight,
            started_at: at(acting.map(|acting| acting.started_at)),
            pivoted_at: at(acting.and_then(|acting| acting.pivoted_at)),
            live_at: at(acting.and_then(|acting| acting.live_at)),
            finished_at: at(finished_at),
            deadline_at: at(next.deadline_at),
            deadline_left_ms: left.map(|left| i64::try_from(left.as_millis()).unwrap_or(i64::MAX)),
            undo_ends,
            previous: next.previous_release_id.map(ReleaseId::uuid),
            superseded_by: next.superseded_by.map(DeploymentId::uuid),
            target_confirmed: next.target_confirmed,
            pinned: next.pin.is_some(),
            pinned_at: at(next.pin.as_ref().map(|pin| pin.at)),
            pinned_by: next.pin.as_ref().map_or("", |pin| &pin.by),
            pin_reason: next.pin.as_ref().map_or("", |pin| &pin.reason),
        }
    }
}

/// Writes what commands changed of several deployments, as [`super::save`] does of one: each guarded by
/// the version that was read, and none when one of them was changed by somebody else.
pub(crate) async fn save_each(
    conn: &mut PgConnection,
    changed: &mut [&mut Deployment],
) -> Result<(), Error> {
    if let [] | [_] = changed {
        for one in changed {
            super::save(&mut *conn, one).await?;
        }
        return Ok(());
    }
    let ids: Vec<Uuid> = changed.iter().map(|one| one.id.uuid()).collect();
    let rows: Vec<_> = changed.iter().map(|one| Changed::of(one)).collect();
    // By the ids as well: of the JSON the planner expects so many that it would read the whole table.
    let saved = sqlx::query_scalar!(
        "UPDATE deployment d SET state = n.state, cause = n.cause, message = n.message,
             fence = n.fence, version = d.version + 1, weight = n.weight,
             started_at = n.started_at, pivoted_at = n.pivoted_at, live_at = n.live_at,
             finished_at = n.finished_at, deadline_at = n.deadline_at,
             deadline_left_ms = n.deadline_left_ms, undo_ends = n.undo_ends,
             previous_release_id = n.previous, superseded_by = n.superseded_by,
             target_confirmed = n.target_confirmed, pinned = n.pinned, pinned_at = n.pinned_at,
             pinned_by = n.pinned_by, pin_reason = n.pin_reason
         FROM jsonb_to_recordset($1::jsonb) AS n(
             id uuid, version int, state text, cause text, message text, fence bigint, weight int,
             started_at timestamptz, pivoted_at timestamptz, live_at timestamptz,
             finished_at timestamptz, deadline_at timestamptz, deadline_left_ms bigint,
             undo_ends text, previous uuid, superseded_by uuid, target_confirmed bool, pinned bool,
             pinned_at timestamptz, pinned_by text, pin_reason text)
         WHERE d.id = ANY((SELECT $2::uuid[])::uuid[]) AND d.id = n.id AND d.version = n.version
         RETURNING d.id",
        Json(rows) as _,
        &ids
    )
    .fetch_all(conn)
    .await?;
    for one in changed {
        if !saved.contains(&one.id.uuid()) {
            return Err(Error::Version(one.id));
        }
        one.version += 1;
    }
    Ok(())
}
