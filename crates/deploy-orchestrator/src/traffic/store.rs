//! Every SQL string about traffic.

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy as pb;
use jiff_sqlx::Timestamp;
use serde::Serialize;
use sqlx::{PgConnection, PgPool, types::Json};
use uuid::Uuid;

use crate::{ctx::read, step::verdict::Counted};

/// The counters of one host and release, among the others of a sample.
#[derive(Debug, Serialize)]
struct Told<'a> {
    place: usize,
    host: &'a str,
    release: Uuid,
    requests: i64,
    server_errors: i64,
    lost_paths: i64,
    client_errors: i64,
    latency: &'a [i64],
}

/// Keeps a sample in one statement, unless a newer one of the same boot is kept. Counters of what is
/// no release are passed over.
pub(crate) async fn save(pool: &PgPool, sample: &pb::TrafficSample) -> Result<(), sqlx::Error> {
    let counters = sample.counters.iter().enumerate();
    let told = counters.filter_map(|(place, counters)| {
        let release = counters.release_id.parse::<ReleaseId>().ok()?;
        Some(Told {
            place,
            host: &counters.host,
            release: release.uuid(),
            requests: counters.requests,
            server_errors: counters.server_errors,
            lost_paths: counters.lost_paths,
            client_errors: counters.client_errors,
            latency: &counters.latency,
        })
    });
    let told: Vec<Told<'_>> = told.collect();
    if told.is_empty() {
        return Ok(());
    }
    // Of one host and release the first counts: a statement cannot update a row twice. By order, so
    // that two samples of one boot lock their rows alike. Not arrays: each latency is one itself.
    sqlx::query!(
        "INSERT INTO traffic AS t (host, release_id, edge_id, boot, seq, requests,
             server_errors, lost_paths, client_errors, latency, at)
         SELECT DISTINCT ON (n.host, n.release) n.host, n.release, $1::text, $2::text, $3::bigint,
             n.requests, n.server_errors, n.lost_paths, n.client_errors, n.latency,
             (SELECT clock())
         FROM jsonb_to_recordset($4::jsonb)
              AS n(place bigint, host text, release uuid, requests bigint, server_errors bigint,
                   lost_paths bigint, client_errors bigint, latency bigint[])
         ORDER BY n.host, n.release, n.place
         ON CONFLICT (host, release_id, edge_id, boot) DO UPDATE SET
             seq = excluded.seq, requests = excluded.requests,
             server_errors = excluded.server_errors, lost_paths = excluded.lost_paths,
             client_errors = excluded.client_errors, latency = excluded.latency,
             rate = (excluded.requests - t.requests)
                  / GREATEST(EXTRACT(EPOCH FROM excluded.at - t.at)::float8, 0.1),
             at = excluded.at
         WHERE t.seq < excluded.seq",
        sample.edge,
        sample.boot,
        sample.seq,
        Json(told) as _
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// What was counted of a release on some hosts since ever, on all edges and boots.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sum {
    pub(crate) counted: Counted,
    /// Requests per second, by samples of the last 5 s.
    pub(crate) rate: f64,
    /// The newest sample, in milliseconds of the database's clock.
    pub(crate) sampled_ms: Option<i64>,
}

/// Sums the counters of one release on these hosts; each counts once, however often it is named. An
/// edge counts a request on the host whose route it took, so that none is counted on two.
pub(crate) async fn sum(
    conn: &mut PgConnection,
    hosts: &[String],
    release: ReleaseId,
) -> Result<Sum, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT COALESCE(sum(requests), 0)::bigint AS "requests!",
                  COALESCE(sum(server_errors + lost_paths), 0)::bigint AS "failed!",
                  COALESCE(sum(rate) FILTER (WHERE at > (SELECT clock()) - interval '5 seconds'),
                           0)::float8 AS "rate!",
                  max(at) AS "at: Timestamp"
           FROM traffic WHERE host = ANY($1) AND release_id = $2"#,
        hosts,
        release.uuid()
    )
    .fetch_one(conn)
    .await?;
    Ok(Sum {
        counted: Counted {
            requests: row.requests,
            failed: row.failed,
        },
        rate: row.rate,
        sampled_ms: row.at.map(|at| read(at).timestamp().as_millisecond()),
    })
}

/// Forgets counters that nothing has added to for a day, the oldest first; answers how many. A sum can
/// therefore fall: who compares two of them begins anew then.
pub(crate) async fn forget_old(pool: &PgPool) -> Result<u64, sqlx::Error> {
    // One that is added to meanwhile has moved, and stays. The list is found by the index over `at`.
    let done = sqlx::query!(
        "DELETE FROM traffic WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM traffic WHERE at < (SELECT clock()) - interval '1 day'
             ORDER BY at LIMIT 10000))"
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}
