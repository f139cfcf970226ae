//! The ledger of one deployment as it is read: a page at a time, and summed up by cause.

use std::time::Duration;

use candlefish_ids::DeploymentId;
use candlefish_proto::deploy as pb;
use jiff_sqlx::Timestamp;
use sqlx::PgConnection;

use super::{Kind, Told};
use crate::ctx::shown_duration;

/// So many of a deployment, each with its place, newest first, before a place; cleared ones too.
pub(crate) async fn list(
    conn: &mut PgConnection,
    deployment: DeploymentId,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<(i64, Told)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT id, kind, since AS "since: Timestamp", until AS "until: Timestamp",
                  owner, message, action, cleared_at AS "cleared_at: Timestamp"
           FROM blocker WHERE deployment_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3"#,
        deployment.uuid(),
        before.unwrap_or(i64::MAX),
        limit
    )
    .fetch_all(conn)
    .await?;
    let told = rows.into_iter().map(|row| {
        let told = Told {
            kind: row.kind,
            since: row.since.to_jiff(),
            until: row.until.map(Timestamp::to_jiff),
            owner: row.owner,
            message: row.message,
            action: row.action,
            cleared_at: row.cleared_at.map(Timestamp::to_jiff),
        };
        (row.id, told)
    });
    Ok(told.collect())
}

/// What the time of a deployment went into.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sums {
    /// By cause, what took longest first.
    pub(crate) waited: Vec<pb::Waited>,
    /// From its acceptance until its `live_at`; without one, as a preview is and a rollback that failed
    /// past its pivot, until it ended, or until now. None when there is no such deployment.
    pub(crate) lead_time: Option<Duration>,
    /// The part of that in which nothing blocked it.
    pub(crate) unblocked: Option<Duration>,
}

/// A sum as a row tells it, in microseconds.
#[derive(Debug)]
struct Row {
    /// None for all kinds together.
    kind: Option<String>,
    count: i64,
    total: i64,
    of_lead: i64,
    /// The same in every row.
    lead: i64,
}

/// Sums up the whole ledger of a deployment, by the clock of the statement.
///
/// It reads all that a deployment has in the ledger, and nothing else, by its index.
pub(crate) async fn sum(
    conn: &mut PgConnection,
    deployment: DeploymentId,
) -> Result<Sums, sqlx::Error> {
    // The union of spans in the database: a ledger has no bound, what it sums up to has one row per kind.
    let rows = sqlx::query_as!(
        Row,
        r#"WITH c AS MATERIALIZED (SELECT clock() AS at),
           d AS MATERIALIZED (
               SELECT coalesce(o.finished_at, c.at) AS ends,
                      tstzrange(o.created_at, greatest(o.created_at,
                                coalesce(o.live_at, o.finished_at, c.at))) AS lead
               FROM deployment o CROSS JOIN c WHERE o.id = $1),
           s AS (
               SELECT b.kind, count(*) AS count,
                      -- A clock that was set back must not end a span before it begins: such a range is
                      -- an error.
                      range_agg(tstzrange(b.since, greatest(b.since,
                                coalesce(b.cleared_at, d.ends)))) AS spans
               FROM blocker b CROSS JOIN d WHERE b.deployment_id = $1
               -- By kind, and once for all, also where the ledger is empty.
               GROUP BY GROUPING SETS ((b.kind), ()))
           SELECT s.kind AS "kind?", s.count AS "count!",
                  (SELECT coalesce(sum(extract(epoch FROM upper(u.span) - lower(u.span))), 0)
                          * 1000000
                   FROM unnest(s.spans) AS u(span))::bigint AS "total!",
                  (SELECT coalesce(sum(extract(epoch FROM upper(u.span) - lower(u.span))), 0)
                          * 1000000
                   FROM unnest(s.spans * tstzmultirange(d.lead)) AS u(span))::bigint AS "of_lead!",
                  (coalesce(extract(epoch FROM upper(d.lead) - lower(d.lead)), 0)
                   * 1000000)::bigint AS "lead!"
           FROM s CROSS JOIN d"#,
        deployment.uuid()
    )
    .fetch_all(conn)
    .await?;
    Ok(sums(rows))
}

fn sums(rows: Vec<Row>) -> Sums {
    let mut sums = Sums::default();
    let mut by_kind = Vec::new();
    for row in rows {
        if row.kind.is_some() {
            by_kind.push(row);
        } else {
            sums.lead_time = Some(micros(row.lead));
            sums.unblocked = Some(micros(row.lead.saturating_sub(row.of_lead)));
        }
    }
    by_kind.sort_by(|one, other| {
        (other.total, other.count, &one.kind).cmp(&(one.total, one.count, &other.kind))
    });
    sums.waited = by_kind.into_iter().map(Row::shown).collect();
    sums
}

impl Row {
    fn shown(self) -> pb::Waited {
        pb::Waited {
            kind: Kind::shown_word(&self.kind.unwrap_or_default()).into(),
            total: Some(shown_duration(micros(self.total))),
            of_lead_time: Some(shown_duration(micros(self.of_lead))),
            count: i32::try_from(self.count).unwrap_or(i32::MAX),
        }
    }
}

/// Nothing took less than no time.
fn micros(count: i64) -> Duration {
    Duration::from_micros(u64::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use pb::blocker::Kind::{Hold, Lane, Timer};

    use super::*;

    fn row(kind: Option<&str>, count: i64, total: i64, of_lead: i64) -> Row {
        Row {
            kind: kind.map(str::to_owned),
            count,
            total,
            of_lead,
            lead: 10_000_000,
        }
    }

    #[test]
    fn what_took_longest_comes_first_and_what_is_left_of_the_lead_time_was_unblocked() {
        let sums = sums(vec![
            row(Some("lane"), 1, 2_000_000, 2_000_000),
            row(None, 7, 12_500_000, 7_500_000),
            row(Some("timer"), 3, 8_500_000, 3_500_000),
            row(Some("hold"), 3, 2_000_000, 2_000_000),
        ]);
        let kinds: Vec<_> = sums.waited.iter().map(pb::Waited::kind).collect();
        assert_eq!(kinds, [Timer, Hold, Lane]);
        let timer = sums.waited.first().unwrap();
        let half = |seconds| {
            Some(prost_types::Duration {
                seconds,
                nanos: 500_000_000,
            })
        };
        assert_eq!(
            (timer.total, timer.of_lead_time, timer.count),
            (half(8), half(3), 3)
        );
        assert_eq!(sums.lead_time, Some(Duration::from_secs(10)));
        assert_eq!(sums.unblocked, Some(Duration::from_millis(2500)));
    }

    #[test]
    fn a_kind_of_a_newer_release_is_summed_up_all_the_same() {
        let sums = sums(vec![row(Some("moon"), 1, 1, 1)]);
        let only = sums.waited.first().unwrap();
        assert_eq!(only.kind(), pb::blocker::Kind::Unspecified);
        let micro = prost_types::Duration {
            seconds: 0,
            nanos: 1000,
        };
        assert_eq!(only.total, Some(micro));
    }

    #[test]
    fn what_waited_for_nothing_was_unblocked_all_the_time() {
        let sums = sums(vec![row(None, 0, 0, 0)]);
        assert!(sums.waited.is_empty());
        assert_eq!(sums.unblocked, sums.lead_time);
    }
}
