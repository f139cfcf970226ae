//! Every SQL string about edges, what they staged and what they applied.

use candlefish_clock::Moment;
use candlefish_ids::ReleaseId;
use candlefish_proto::deploy as pb;
use jiff_sqlx::Timestamp;
use serde::Serialize;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    ctx::{read, shown},
    route::Written,
};

mod each;

pub(crate) use each::{Following, list_following};

/// Without a word for so long an edge is silent, by the database's clock. In milliseconds.
pub(crate) const LIVE_FOR_MS: i64 = 5_000;
/// An edge is sent again what it lacks at most so often, whichever replicas want it. In milliseconds.
const RESEND_APART_MS: i64 = 30_000;

/// An edge that was not heard of for so many days is taken not to come back. Should it, it joins as a new
/// one does.
const GONE_AFTER_DAYS: i64 = 30;

/// One report of an edge, as rows.
#[derive(Debug, Default)]
pub(crate) struct Report<'a> {
    pub(crate) edge: &'a str,
    pub(crate) boot: &'a str,
    pub(crate) address: &'a str,
    /// A stream begins: what the edge held before is forgotten and told anew.
    pub(crate) first: bool,
    pub(crate) held: &'a [pb::HeldRoute],
    pub(crate) staged: &'a [OfRelease],
    /// It staged or applied something since the report before.
    pub(crate) moved: bool,
    /// It applied everything that it had to, to join.
    pub(crate) joins: bool,
}

/// What an edge tells of a release.
#[derive(Debug)]
pub(crate) struct OfRelease {
    pub(crate) release: ReleaseId,
    pub(crate) staged: bool,
    pub(crate) error: String,
    pub(crate) transient: bool,
}

/// A stream begins: what the edge held before is forgotten, in one transaction with its first report.
pub(crate) async fn forget(conn: &mut PgConnection, edge: &str) -> Result<(), sqlx::Error> {
    // Its row first, as a report has it: a late one of the stream before waits here, or is waited for.
    sqlx::query_scalar!("SELECT id FROM edge WHERE id = $1 FOR UPDATE", edge)
        .fetch_optional(&mut *conn)
        .await?;
    sqlx::query!("DELETE FROM edge_route WHERE edge_id = $1", edge)
        .execute(&mut *conn)
        .await?;
    sqlx::query!("DELETE FROM edge_release WHERE edge_id = $1", edge)
        .execute(conn)
        .await?;
    Ok(())
}

/// That an edge was heard, with what stands before it, what else is set, and what stands after it.
macro_rules! write_heard {
    ($before:literal, $set:literal, $after:literal, $($argument:expr),+) => {
        sqlx::query!(
            $before
                + "INSERT INTO edge (id, boot, address, heard_at, joined_at)
                   VALUES ($1, $2, $3, clock(), CASE WHEN $5 THEN clock() END)
                   ON CONFLICT (id) DO UPDATE SET boot = $2, address = $3, heard_at = clock(),
                       joined_at = CASE WHEN $5 THEN COALESCE(edge.joined_at, clock())
                                        WHEN $4 THEN NULL ELSE edge.joined_at END,
                       failing_since = CASE WHEN $5 THEN NULL ELSE edge.failing_since END,
                       failing_reason = CASE WHEN $5 THEN '' ELSE edge.failing_reason END"
                + $set
                + $after,
            $($argument),+
        )
    };
}

/// Writes a report in one statement, heard now; answers what others wrote of the edge. One that is
/// only heard, as every second, writes its own row alone.
pub(crate) async fn save(
    conn: &mut PgConnection,
    report: &Report<'_>,
) -> Result<Asked, sqlx::Error> {
    if !report.held.is_empty() || !report.staged.is_empty() {
        return save_whole(conn, report).await;
    }
    let row = write_heard!(
        "",
        "",
        r#" RETURNING failing_since IS NOT NULL AS "aside!", resend_at AS "resend_at?: Timestamp""#,
        report.edge,
        report.boot,
        report.address,
        report.first,
        report.joins
    )
    .fetch_one(conn)
    .await?;
    Ok(Asked {
        aside: row.aside,
        resend_at: row.resend_at.map(read),
    })
}

/// A release that an edge tells of, among the others of its report.
#[derive(Debug, Serialize)]
struct Told<'a> {
    place: usize,
    release: Uuid,
    staged: bool,
    error: &'a str,
    transient: bool,
}

async fn save_whole(conn: &mut PgConnection, report: &Report<'_>) -> Result<Asked, sqlx::Error> {
    let held = report.held.iter().map(|held| Written {
        host: held.host.clone(),
        epoch: held.epoch,
        version: held.version,
    });
    let told = report.staged.iter().enumerate();
    let told = told.map(|(place, one)| Told {
        place,
        release: one.release.uuid(),
        staged: one.staged,
        error: &one.error,
        transient: one.transient,
    });
    // The edge's own row is written first, for the others are read from it: of two reports of one edge
    // the later waits there. Not arrays: for those Postgres makes a new plan each time.
    let row = write_heard!(
        "WITH heard AS (",
        ", moved_at = CASE WHEN $8 THEN clock() ELSE edge.moved_at END",
        r#" RETURNING id, failing_since IS NOT NULL AS aside, resend_at),
           held AS (
               INSERT INTO edge_route (edge_id, host, epoch, version)
               SELECT DISTINCT ON (n.host) heard.id, n.host, n.epoch, n.version
               FROM heard CROSS JOIN jsonb_to_recordset($6::jsonb)
                    AS n(host text, epoch int, version bigint)
               ORDER BY n.host, n.epoch DESC, n.version DESC
               ON CONFLICT (edge_id, host) DO UPDATE
               SET epoch = excluded.epoch, version = excluded.version
               WHERE (edge_route.epoch, edge_route.version)
                     < (excluded.epoch, excluded.version)),
           staged AS (
               INSERT INTO edge_release (edge_id, release_id, staged, error, transient, at)
               SELECT DISTINCT ON (n.release) heard.id, n.release, n.staged, n.error,
                      COALESCE(n.transient, false), clock()
               FROM heard CROSS JOIN jsonb_to_recordset($7::jsonb)
                    AS n(place bigint, release uuid, staged bool, error text, transient bool)
               ORDER BY n.release, n.place DESC
               ON CONFLICT (edge_id, release_id) DO UPDATE
               SET staged = excluded.staged, error = excluded.error, transient = excluded.transient,
                   at = excluded.at)
           SELECT aside AS "aside!", resend_at AS "resend_at?: Timestamp" FROM heard"#,
        report.edge,
        report.boot,
        report.address,
        report.first,
        report.joins,
        Json(held.collect::<Vec<_>>()) as _,
        Json(told.collect::<Vec<_>>()) as _,
        report.moved
    )
    .fetch_one(conn)
    .await?;
    Ok(Asked {
        aside: row.aside,
        resend_at: row.resend_at.map(read),
    })
}

/// How far one edge follows.
#[expect(clippy::struct_excessive_bools, reason = "each is a claim of its row")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Follower {
    pub(crate) id: String,
    pub(crate) address: String,
    pub(crate) live: bool,
    /// It was heard within a day. One that was not is told of to people, and counts for nothing.
    pub(crate) lately: bool,
    /// It applied every asked version, or a later one, of the epoch that holds.
    pub(crate) applied: bool,
    /// It has staged the asked release.
    pub(crate) staged: bool,
    /// Why it could not stage the asked release.
    pub(crate) error: String,
    /// That may pass, and says nothing of the release.
    pub(crate) passes: bool,
    /// When it last staged or applied anything.
    pub(crate) moved_at: Option<Moment>,
}

/// How far every edge follows, by id.
pub(crate) async fn list_followers(
    conn: &mut PgConnection,
    now: Moment,
    routes: &[Written],
    release: ReleaseId,
) -> Result<Vec<Follower>, sqlx::Error> {
    let wanted = i64::try_from(routes.len()).unwrap_or(i64::MAX);
    let rows = sqlx::query!(
        r#"SELECT e.id, e.address, e.moved_at AS "moved_at?: Timestamp",
                  (e.joined_at IS NOT NULL AND e.failing_since IS NULL
                   AND e.heard_at > $3::timestamptz - $4::bigint * interval '1 millisecond')
                      AS "live!",
                  e.heard_at > $3::timestamptz - interval '1 day' AS "lately!",
                  (SELECT count(*) FROM jsonb_to_recordset($1::jsonb)
                                        AS t(host text, epoch int, version bigint)
                   -- By the key: for so few hosts all that an edge holds is not read.
                   CROSS JOIN LATERAL (
                       SELECT o.epoch, o.version FROM edge_route o
                       WHERE o.edge_id = e.id AND o.host = t.host LIMIT 1) r
                   WHERE (r.epoch, r.version) >= (t.epoch, t.version)
                     AND r.epoch >= (SELECT epoch FROM relay)) AS "applied!",
                  COALESCE(s.staged, false) AS "staged!", COALESCE(s.error, '') AS "error!",
                  COALESCE(s.transient, false) AS "passes!"
           FROM edge e LEFT JOIN edge_release s ON s.edge_id = e.id AND s.release_id = $2
           ORDER BY e.id"#,
        // Not arrays: for those Postgres makes a new plan each time.
        Json(routes) as _,
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
            lately: row.lately,
            applied: row.applied == wanted,
            staged: row.staged,
            error: row.error,
            passes: row.passes,
            moved_at: row.moved_at.map(read),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// It is set aside: it joins again when it caught up.
    pub(crate) aside: bool,
    /// When it was last wanted that it is sent again what it lacks.
    pub(crate) resend_at: Option<Moment>,
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

/// Edges that are not forgotten, by id, after this one.
pub(crate) async fn list(
    conn: &mut PgConnection,
    after: &str,
    limit: i64,
) -> Result<Vec<pb::Edge>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT e.id, e.boot, e.address, e.heard_at AS "heard_at: Timestamp",
                  e.joined_at IS NOT NULL AS "joined!", e.failing_since IS NOT NULL AS "failing!",
                  e.failing_reason,
                  e.heard_at > clock() - $1::bigint * interval '1 millisecond' AS "heard!",
                  (SELECT count(*)::int FROM edge_release r WHERE r.edge_id = e.id AND r.staged)
                      AS "staged_count!",
                  (SELECT count(*)::int FROM edge_route r WHERE r.edge_id = e.id) AS "route_count!"
           FROM edge e WHERE e.id > $2
           ORDER BY e.id LIMIT $3"#,
        LIVE_FOR_MS,
        after,
        limit
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

/// Edges that were not heard of for 30 days, the longest silent first.
pub(crate) async fn list_gone(
    conn: &mut PgConnection,
    limit: i64,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT id FROM edge WHERE heard_at < (SELECT clock()) - $1::bigint * interval '1 day'
         ORDER BY heard_at LIMIT $2",
        GONE_AFTER_DAYS,
        limit
    )
    .fetch_all(conn)
    .await
}

/// Takes at most so many rows of edges that are gone out of a table that has them by edge.
macro_rules! forget_rows {
    ($table:literal, $($argument:expr),+) => {
        sqlx::query!(
            "DELETE FROM " + $table + " WHERE ctid = ANY (ARRAY(
             SELECT r.ctid FROM edge e JOIN " + $table + " r ON r.edge_id = e.id
             WHERE e.id = ANY($1)
               AND e.heard_at < (SELECT clock()) - $2::bigint * interval '1 day' LIMIT $3))",
            $($argument),+
        )
    };
}

/// Forgets those of these edges that are gone, and at most so many rows of what each table has of them;
/// answers how many rows went. Zero means that nothing is left.
pub(crate) async fn forget_gone(
    conn: &mut PgConnection,
    edges: &[String],
    limit: i64,
) -> Result<u64, sqlx::Error> {
    // An edge that comes back meanwhile tells all anew: its rows are others then, and stay.
    let routes = forget_rows!("edge_route", edges, GONE_AFTER_DAYS, limit)
        .execute(&mut *conn)
        .await?;
    let releases = forget_rows!("edge_release", edges, GONE_AFTER_DAYS, limit)
        .execute(&mut *conn)
        .await?;
    // Last, for the cascade knows no limit.
    let gone = sqlx::query!(
        "DELETE FROM edge e
         WHERE e.id = ANY($1)
           AND e.heard_at < (SELECT clock()) - $2::bigint * interval '1 day'
           AND NOT EXISTS (SELECT 1 FROM edge_route r WHERE r.edge_id = e.id)
           AND NOT EXISTS (SELECT 1 FROM edge_release r WHERE r.edge_id = e.id)",
        edges,
        GONE_AFTER_DAYS
    )
    .execute(conn)
    .await?;
    Ok(routes.rows_affected() + releases.rows_affected() + gone.rows_affected())
}
