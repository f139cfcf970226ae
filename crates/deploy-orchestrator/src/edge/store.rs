//! Every SQL string about edges, what they staged and what they applied.

use candlefish_clock::Moment;
use candlefish_ids::ReleaseId;
use candlefish_proto::deploy as pb;
use jiff_sqlx::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    ctx::{read, shown},
    route::Written,
};

/// Without a word for so long an edge is silent, by the database's clock. In milliseconds.
pub(crate) const LIVE_FOR_MS: i64 = 5_000;
/// An edge is sent again what it lacks at most so often, whichever replicas want it. In milliseconds.
const RESEND_APART_MS: i64 = 30_000;

/// One report of an edge, as rows.
#[derive(Debug, Default)]
pub(crate) struct Report<'a> {
    pub(crate) edge: &'a str,
    pub(crate) boot: &'a str,
    pub(crate) address: &'a str,
    /// A stream begins: what the edge held before is forgotten and told anew.
    pub(crate) first: bool,
    pub(crate) held: &'a [pb::HeldRoute],
    pub(crate) staged: &'a [(ReleaseId, bool, String)],
    /// It applied everything that it had to, to join.
    pub(crate) joins: bool,
}

/// Writes a report; heard now.
pub(crate) async fn save(conn: &mut PgConnection, report: &Report<'_>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO edge (id, boot, address, heard_at, joined_at)
         VALUES ($1, $2, $3, clock(), CASE WHEN $5 THEN clock() END)
         ON CONFLICT (id) DO UPDATE SET boot = $2, address = $3, heard_at = clock(),
             joined_at = CASE WHEN $5 THEN COALESCE(edge.joined_at, clock())
                              WHEN $4 THEN NULL ELSE edge.joined_at END,
             failing_since = CASE WHEN $5 THEN NULL ELSE edge.failing_since END,
             failing_reason = CASE WHEN $5 THEN '' ELSE edge.failing_reason END",
        report.edge,
        report.boot,
        report.address,
        report.first,
        report.joins
    )
    .execute(&mut *conn)
    .await?;
    if report.first {
        sqlx::query!("DELETE FROM edge_route WHERE edge_id = $1", report.edge)
            .execute(&mut *conn)
            .await?;
        sqlx::query!("DELETE FROM edge_release WHERE edge_id = $1", report.edge)
            .execute(&mut *conn)
            .await?;
    }
    save_held(conn, report).await?;
    save_staged(conn, report).await
}

async fn save_held(conn: &mut PgConnection, report: &Report<'_>) -> Result<(), sqlx::Error> {
    if report.held.is_empty() {
        return Ok(());
    }
    let hosts: Vec<String> = report.held.iter().map(|held| held.host.clone()).collect();
    let epochs: Vec<i32> = report.held.iter().map(|held| held.epoch).collect();
    let versions: Vec<i64> = report.held.iter().map(|held| held.version).collect();
    sqlx::query!(
        "INSERT INTO edge_route (edge_id, host, epoch, version)
         SELECT DISTINCT ON (n.host) $1, n.host, n.epoch, n.version
         FROM unnest($2::text[], $3::int[], $4::bigint[]) AS n(host, epoch, version)
         ORDER BY n.host, n.epoch DESC, n.version DESC
         ON CONFLICT (edge_id, host) DO UPDATE
         SET epoch = excluded.epoch, version = excluded.version
         WHERE (edge_route.epoch, edge_route.version) < (excluded.epoch, excluded.version)",
        report.edge,
        &hosts,
        &epochs,
        &versions
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn save_staged(conn: &mut PgConnection, report: &Report<'_>) -> Result<(), sqlx::Error> {
    if report.staged.is_empty() {
        return Ok(());
    }
    let releases: Vec<Uuid> = report
        .staged
        .iter()
        .map(|(release, ..)| release.uuid())
        .collect();
    let staged: Vec<bool> = report.staged.iter().map(|(_, staged, _)| *staged).collect();
    let errors: Vec<String> = report
        .staged
        .iter()
        .map(|(.., error)| error.clone())
        .collect();
    sqlx::query!(
        "INSERT INTO edge_release (edge_id, release_id, staged, error, at)
         SELECT DISTINCT ON (n.release_id) $1, n.release_id, n.staged, n.error, clock()
         FROM unnest($2::uuid[], $3::bool[], $4::text[]) WITH ORDINALITY
             AS n(release_id, staged, error, place)
         ORDER BY n.release_id, n.place DESC
         ON CONFLICT (edge_id, release_id) DO UPDATE
         SET staged = excluded.staged, error = excluded.error, at = excluded.at",
        report.edge,
        &releases,
        &staged,
        &errors
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// How far one edge follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Follower {
    pub(crate) id: String,
    pub(crate) address: String,
    pub(crate) live: bool,
    /// It applied every asked version, or a later one, of the epoch that holds.
    pub(crate) applied: bool,
    /// It has staged the asked release.
    pub(crate) staged: bool,
    /// Why it could not stage the asked release.
    pub(crate) error: String,
}

/// How far every edge heard within a day follows, by id.
pub(crate) async fn list_followers(
    conn: &mut PgConnection,
    now: Moment,
    routes: &[Written],
    release: ReleaseId,
) -> Result<Vec<Follower>, sqlx::Error> {
    let wanted = i64::try_from(routes.len()).unwrap_or(i64::MAX);
    let rows = sqlx::query!(
        r#"SELECT e.id, e.address,
                  (e.joined_at IS NOT NULL AND e.failing_since IS NULL
                   AND e.heard_at > $3::timestamptz - $4::bigint * interval '1 millisecond')
                      AS "live!",
                  (SELECT count(*) FROM jsonb_to_recordset($1::jsonb)
                                        AS t(host text, epoch int, version bigint)
                   -- By the key: for so few hosts all that an edge holds is not read.
                   CROSS JOIN LATERAL (
                       SELECT o.epoch, o.version FROM edge_route o
                       WHERE o.edge_id = e.id AND o.host = t.host LIMIT 1) r
                   WHERE (r.epoch, r.version) >= (t.epoch, t.version)
                     AND r.epoch >= (SELECT epoch FROM relay)) AS "applied!",
                  COALESCE(s.staged, false) AS "staged!", COALESCE(s.error, '') AS "error!"
           FROM edge e LEFT JOIN edge_release s ON s.edge_id = e.id AND s.release_id = $2
           WHERE e.heard_at > $3::timestamptz - interval '1 day'
           ORDER BY e.id"#,
        // Not arrays: for those Postgres makes a new plan each time.
        sqlx::types::Json(routes) as _,
        release.uuid(),
        crate::ctx::stored(now) as _,
        LIVE_FOR_MS
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Follower {
            id: row.id,
            address: row.address,
            live: row.live,
            applied: row.applied == wanted,
            staged: row.staged,
            error: row.error,
        })
        .collect())
}

/// Sets edges aside that did not follow in time.
pub(crate) async fn set_aside(
    conn: &mut PgConnection,
    now: Moment,
    edges: &[String],
    reason: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE edge SET failing_since = $2, failing_reason = $3
         WHERE id = ANY($1) AND failing_since IS NULL",
        edges,
        crate::ctx::stored(now) as _,
        reason
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What others wrote of an edge, for the stream that has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// It is set aside: it joins again when it caught up.
    pub(crate) aside: bool,
    /// When it was last wanted that it is sent again what it lacks.
    pub(crate) resend_at: Option<Moment>,
}

/// Nothing is asked of an edge that is not known.
pub(crate) async fn asked(conn: &mut PgConnection, edge: &str) -> Result<Asked, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT failing_since IS NOT NULL AS "aside!", resend_at AS "resend_at: Timestamp"
           FROM edge WHERE id = $1"#,
        edge
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map_or_else(Asked::default, |row| Asked {
        aside: row.aside,
        resend_at: row.resend_at.map(read),
    }))
}

/// Wants edges to be sent again what they lack; answers those for whom that was not wanted lately.
pub(crate) async fn resend(
    conn: &mut PgConnection,
    edges: &[String],
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        "UPDATE edge SET resend_at = clock()
         WHERE id = ANY($1) AND (resend_at IS NULL
             OR resend_at < clock() - $2::bigint * interval '1 millisecond')
         RETURNING id",
        edges,
        RESEND_APART_MS
    )
    .fetch_all(conn)
    .await
}

/// All edges heard within a day, by id.
pub(crate) async fn list(conn: &mut PgConnection) -> Result<Vec<pb::Edge>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT e.id, e.boot, e.address, e.heard_at AS "heard_at: Timestamp",
                  e.joined_at IS NOT NULL AS "joined!", e.failing_since IS NOT NULL AS "failing!",
                  e.failing_reason,
                  e.heard_at > clock() - $1::bigint * interval '1 millisecond' AS "heard!",
                  (SELECT count(*)::int FROM edge_release r WHERE r.edge_id = e.id AND r.staged)
                      AS "staged_count!",
                  (SELECT count(*)::int FROM edge_route r WHERE r.edge_id = e.id) AS "route_count!"
           FROM edge e WHERE e.heard_at > clock() - interval '1 day' ORDER BY e.id"#,
        LIVE_FOR_MS
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            use pb::edge::State;
            let (state, message) = match (row.heard, row.failing, row.joined) {
                (false, ..) => (
                    State::Silent,
                    "not heard for 5 s; may still serve".to_owned(),
                ),
                (true, true, _) => (State::Failing, row.failing_reason),
                (true, false, false) => (State::Joining, "applying what is current".to_owned()),
                (true, false, true) => (State::Live, String::new()),
            };
            pb::Edge {
                id: row.id,
                state: state.into(),
                address: row.address,
                boot: row.boot,
                heard_at: Some(shown(read(row.heard_at))),
                message,
                staged_count: row.staged_count,
                route_count: row.route_count,
            }
        })
        .collect())
}
