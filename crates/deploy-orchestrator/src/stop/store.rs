//! Every SQL string about stops, and the gate.

use candlefish_clock::Moment;
use candlefish_ids::{SiteId, StopId};
use jiff_sqlx::Timestamp;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::{End, Standing, Stop};
use crate::{
    blocker::Blocker,
    ctx::{Tx, read, stored},
};

/// The gate's advisory lock. Each transaction that locks a lane shares it until it ends, in the
/// statement that locks the lane; the number is written there too.
const GATE: i64 = 4001;

/// Waits until no transaction has a lane, and lets none have one until this one ends. What they read
/// after it is what this one wrote: no grant runs past a stop that was answered.
pub(super) async fn close_gate(tx: &mut Tx) -> Result<(), sqlx::Error> {
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", GATE)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

struct Row {
    id: Uuid,
    site_id: Option<Uuid>,
    site: Option<String>,
    pauses: bool,
    reason: String,
    set_at: Timestamp,
    set_by: String,
    until: Timestamp,
    ended_at: Option<Timestamp>,
    ended_by: Option<String>,
    end_reason: Option<String>,
}

impl From<Row> for Stop {
    fn from(row: Row) -> Self {
        let end = row.ended_at.zip(row.ended_by).zip(row.end_reason);
        Self {
            id: StopId::from_uuid(row.id),
            site_id: row.site_id.map(SiteId::from_uuid),
            site: row.site.unwrap_or_default(),
            pauses: row.pauses,
            reason: row.reason,
            since: read(row.set_at),
            by: row.set_by,
            until: read(row.until),
            end: end.map(|((at, by), reason)| End {
                at: read(at),
                by,
                reason,
            }),
        }
    }
}

/// The one reading of a stop, for each way to find it.
macro_rules! select_stop {
    ($rest:literal, $($argument:expr),*) => {
        sqlx::query_as!(
            Row,
            r#"SELECT t.id, t.site_id, s.slug AS "site?", t.pauses, t.reason,
                      t.set_at AS "set_at: Timestamp", t.set_by, t.until AS "until: Timestamp",
                      t.ended_at AS "ended_at: Timestamp", t.ended_by, t.end_reason
               FROM stop t LEFT JOIN site s ON s.id = t.site_id "# + $rest,
            $($argument),*
        )
    };
}

/// Whoever asks.
pub(super) async fn find(conn: &mut PgConnection, id: StopId) -> Result<Option<Stop>, sqlx::Error> {
    let row = select_stop!("WHERE t.id = $1", id.uuid())
        .fetch_optional(conn)
        .await?;
    Ok(row.map(Stop::from))
}

/// The one that stands for this very scope, also when its time has passed.
pub(super) async fn find_standing(
    conn: &mut PgConnection,
    site: Option<SiteId>,
) -> Result<Option<Stop>, sqlx::Error> {
    let row = select_stop!(
        "WHERE t.site_id IS NOT DISTINCT FROM $1 AND t.ended_at IS NULL",
        site.map(SiteId::uuid)
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(Stop::from))
}

/// Those whose time has passed while nobody lifted them.
pub(super) async fn list_expired(conn: &mut PgConnection) -> Result<Vec<StopId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        "SELECT id FROM stop WHERE ended_at IS NULL AND until <= (SELECT clock()) LIMIT 100"
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(StopId::from_uuid).collect())
}

/// Those that stand, newest first, before one; of these sites and of everything, or all.
pub(super) async fn list_standing(
    conn: &mut PgConnection,
    sites: Option<&[Uuid]>,
    before: Uuid,
    limit: i64,
) -> Result<Vec<Stop>, sqlx::Error> {
    let rows = select_stop!(
        "WHERE t.ended_at IS NULL AND t.id < $2
           AND ($1::uuid[] IS NULL OR t.site_id = ANY($1) OR t.site_id IS NULL)
         ORDER BY t.id DESC LIMIT $3",
        sites,
        before,
        limit
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Stop::from).collect())
}

/// All, newest first, before one; of these sites and of everything, when they are named.
pub(super) async fn list_all(
    conn: &mut PgConnection,
    sites: Option<&[Uuid]>,
    before: Uuid,
    limit: i64,
) -> Result<Vec<Stop>, sqlx::Error> {
    let rows = if let Some(sites) = sites {
        // Halves, each by an index of its own.
        select_stop!(
            "WHERE t.id IN (
                 SELECT n.id FROM unnest($1::uuid[]) AS of(site), LATERAL (
                     SELECT o.id FROM stop o WHERE o.site_id = of.site AND o.id < $2
                     ORDER BY o.id DESC LIMIT $3) n
                 UNION ALL
                 (SELECT o.id FROM stop o WHERE o.site_id IS NULL AND o.id < $2
                  ORDER BY o.id DESC LIMIT $3))
             ORDER BY t.id DESC LIMIT $3",
            sites,
            before,
            limit
        )
        .fetch_all(conn)
        .await?
    } else {
        select_stop!("WHERE t.id < $1 ORDER BY t.id DESC LIMIT $2", before, limit)
            .fetch_all(conn)
            .await?
    };
    Ok(rows.into_iter().map(Stop::from).collect())
}

/// The stop that pauses what acts on a site at `now`; of two, the one that ends later.
pub(crate) async fn find_pausing(
    conn: &mut PgConnection,
    now: Moment,
    site: SiteId,
) -> Result<Option<Stop>, sqlx::Error> {
    let told = sqlx::query_scalar!(
        r#"SELECT jsonb_build_object('id', t.id, 'pauses', t.pauses, 'reason', t.reason,
                  'since', t.set_at, 'by', t.set_by, 'until', t.until,
                  'site', (SELECT s.slug FROM site s WHERE s.id = t.site_id))
                  AS "stop!: Json<Standing>"
           FROM stop t
           WHERE t.ended_at IS NULL AND t.pauses AND t.until > $2
             AND (t.site_id = $1 OR t.site_id IS NULL)
           ORDER BY t.until DESC LIMIT 1"#,
        site.uuid(),
        stored(now) as _
    )
    .fetch_optional(conn)
    .await?;
    Ok(told.map(|told| told.0.into()))
}

/// Needs the closed gate.
pub(super) async fn insert(conn: &mut PgConnection, stop: &Stop) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO stop (id, site_id, pauses, reason, set_at, set_by, until)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        stop.id.uuid(),
        stop.site_id.map(SiteId::uuid),
        stop.pauses,
        stop.reason,
        stored(stop.since) as _,
        stop.by,
        stored(stop.until) as _
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Needs the closed gate.
pub(super) async fn save_end(
    conn: &mut PgConnection,
    id: StopId,
    end: &End,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE stop SET ended_at = $2, ended_by = $3, end_reason = $4
         WHERE id = $1 AND ended_at IS NULL",
        id.uuid(),
        stored(end.at) as _,
        end.by,
        end.reason
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Says to all that is pending in a stop's scope and could otherwise go that it is kept; one that a
/// longer stop keeps already goes on saying that. Needs the closed gate: no lane chooses meanwhile.
pub(super) async fn keep_pending(
    conn: &mut PgConnection,
    now: Moment,
    site: Option<SiteId>,
    blocker: &Blocker,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "WITH kept AS (
             SELECT d.id FROM deployment d JOIN release r ON r.id = d.release_id
             WHERE d.state = 'pending' AND d.kind <> 'rollback' AND r.state = 'sealed'
               AND ($1::uuid IS NULL OR d.site_id = $1)),
         cleared AS (
             UPDATE blocker b SET cleared_at = $2 FROM kept
             WHERE b.deployment_id = kept.id AND b.cleared_at IS NULL AND b.kind <> 'stop')
         INSERT INTO blocker (deployment_id, kind, since, until, owner, message, action)
         SELECT kept.id, 'stop', $2, $3, $4, $5, $6 FROM kept
         ON CONFLICT (deployment_id, kind) WHERE cleared_at IS NULL DO UPDATE
         SET until = excluded.until, message = excluded.message, action = excluded.action
         WHERE excluded.until > blocker.until",
        site.map(SiteId::uuid),
        stored(now) as _,
        blocker.until.map(stored) as _,
        blocker.owner,
        blocker.message,
        blocker.action
    )
    .execute(conn)
    .await?;
    Ok(())
}
