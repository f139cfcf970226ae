//! What lanes must see before they choose, read for all of them at once.

use std::{collections::HashMap, time::Duration};

use candlefish_ids::{DeploymentId, EnvironmentId, SiteId};
use jiff_sqlx::Timestamp;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    ctx::{Tx, read, stored},
    deployment::plan::Kind,
    lane::{
        content::Fetch,
        descents::Descents,
        order::{ActingNow, Contender, Live, Pushed},
    },
    site::policy::Policy,
    stop::{Standing, Stop},
};

/// An environment's hold, as the lane and its blockers need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) by: String,
    pub(crate) reason: String,
}

/// What the lane must know of its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) policy: Policy,
    pub(crate) hold: Option<Hold>,
    /// What stops the line here; of two, the one that ends later.
    pub(crate) stop: Option<Stop>,
    /// `docs/production`.
    pub(crate) place: String,
    pub(crate) site_id: SiteId,
    /// What is live, when a deployment made it so.
    pub(crate) live: Option<Live>,
    /// What the pull request is at whose preview this is.
    pub(crate) head: Option<String>,
    /// How long a deployment of a commit acts here, as far as known.
    pub(crate) lasts: Option<Duration>,
    /// GitHub may still say that no file of that pull request counts.
    pub(crate) owes_files: bool,
}

struct SettingRow {
    id: Uuid,
    policy: serde_json::Value,
    hold_by: Option<String>,
    hold_reason: Option<String>,
    slug: String,
    site: String,
    site_id: Uuid,
    live_deployment_id: Option<Uuid>,
    live_commit: Option<String>,
    live_pushed: Option<Json<Pushed>>,
    stop: Option<Json<Standing>>,
    head: Option<String>,
    lasts_ms: Option<i64>,
    owes_files: bool,
}

impl From<SettingRow> for Setting {
    fn from(row: SettingRow) -> Self {
        let live = row.live_deployment_id.zip(row.live_commit);
        Self {
            live: live.map(|(deployment, commit)| Live {
                deployment_id: DeploymentId::from_uuid(deployment),
                commit,
                pushed: row.live_pushed.map(|told| told.0),
            }),
            // A policy that cannot be read falls back to the defaults rather than stop the lane.
            policy: serde_json::from_value(row.policy).unwrap_or_default(),
            hold: row.hold_by.map(|by| Hold {
                by,
                reason: row.hold_reason.unwrap_or_default(),
            }),
            stop: row.stop.map(|told| told.0.into()),
            place: format!("{}/{}", row.site, row.slug),
            site_id: SiteId::from_uuid(row.site_id),
            head: row.head,
            lasts: row
                .lasts_ms
                .and_then(|lasts| u64::try_from(lasts).ok())
                .map(Duration::from_millis),
            owes_files: row.owes_files,
        }
    }
}

/// The one reading of settings, for each way to find them.
macro_rules! select_setting {
    ($which:literal, $argument:expr, $now:expr) => {
        sqlx::query_as!(
            SettingRow,
            r#"SELECT e.id, e.policy, e.hold_by, e.hold_reason, e.slug, s.slug AS site,
                      s.id AS site_id, e.live_deployment_id, r.commit AS "live_commit?",
                      (SELECT jsonb_build_object('branch', t.branch, 'at', t.pushed_at,
                              'before', t.before_commit)
                       FROM trigger t WHERE t.deployment_id = e.live_deployment_id
                       AND t.outcome = 'created' AND t.pushed_at IS NOT NULL
                       ORDER BY t.pushed_at DESC, t.id DESC LIMIT 1)
                          AS "live_pushed: Json<Pushed>",
                      (SELECT jsonb_build_object('id', t.id, 'pauses', t.pauses,
                              'reason', t.reason, 'since', t.set_at, 'by', t.set_by,
                              'until', t.until,
                              'site', CASE WHEN t.site_id IS NOT NULL THEN s.slug END)
                       FROM stop t WHERE t.ended_at IS NULL AND t.until > $2
                       AND (t.site_id = e.site_id OR t.site_id IS NULL)
                       ORDER BY t.until DESC LIMIT 1) AS "stop: Json<Standing>",
                      (SELECT p.head_commit FROM pull_request p WHERE p.environment_id = e.id)
                          AS head,
                      (SELECT l.lasts_ms FROM lane l WHERE l.environment_id = e.id) AS lasts_ms,
                      CASE WHEN e.kind = 'preview' THEN EXISTS (
                          SELECT FROM pull_request p WHERE p.environment_id = e.id
                          AND p.unanswered_base <> '' AND p.unanswered_until > $2)
                      ELSE false END AS "owes_files!"
               FROM environment e JOIN site s ON s.id = e.site_id
               LEFT JOIN release r ON r.id = e.live_release_id WHERE e.id "#
                + $which,
            $argument,
            stored($now) as _
        )
    };
}

/// Reads what the lanes must know of their environments.
pub(crate) async fn list_settings(
    tx: &mut Tx,
    environments: &[EnvironmentId],
) -> Result<HashMap<EnvironmentId, Setting>, sqlx::Error> {
    let now = tx.now();
    // One by its id, not by an array of one: for an array that it sees Postgres makes a new plan each
    // time, so those of several hide in a SELECT.
    let rows = if let [one] = environments {
        select_setting!("= $1", one.uuid(), now)
            .fetch_all(&mut **tx)
            .await?
    } else {
        let ids: Vec<Uuid> = environments.iter().map(|id| id.uuid()).collect();
        select_setting!("= ANY((SELECT $1::uuid[])::uuid[])", &ids, now)
            .fetch_all(&mut **tx)
            .await?
    };
    Ok(rows
        .into_iter()
        .map(|row| (EnvironmentId::from_uuid(row.id), row.into()))
        .collect())
}

/// What is pending on a lane, by admission, and what acts on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Contenders {
    pub(crate) pending: Vec<Contender>,
    pub(crate) acting: Option<ActingNow>,
}

struct ContenderRow {
    environment_id: Uuid,
    id: Uuid,
    kind: String,
    admission: i64,
    pinned: bool,
    state: String,
    pivoted: bool,
    live_at: Option<Timestamp>,
    started_at: Option<Timestamp>,
    commit: String,
    sealed: bool,
    rejected: Option<String>,
    banned: Option<String>,
    content_until: Option<Timestamp>,
    pushed: Option<Json<Pushed>>,
    fetch: Option<Json<Fetch>>,
}

/// The one reading of contenders, for each way to find them: two halves, each by an index of its own.
macro_rules! select_contenders {
    ($lanes:literal, $argument:expr) => {
        sqlx::query_as!(
            ContenderRow,
            r#"SELECT d.environment_id AS "environment_id!", d.id AS "id!", d.kind AS "kind!",
                      d.admission AS "admission!", d.pinned AS "pinned!", d.state AS "state!",
                      d.pivoted_at IS NOT NULL AS "pivoted!",
                      d.live_at AS "live_at: Timestamp",
                      d.started_at AS "started_at: Timestamp",
                      r.commit AS "commit!", r.state = 'sealed' AS "sealed!",
                      (SELECT j.reason FROM rejection j WHERE j.release_id = r.id
                       AND j.environment_id = d.environment_id AND j.cleared_at IS NULL LIMIT 1)
                          AS rejected,
                      (SELECT x.by || ': ' || x.reason FROM ban x WHERE x.release_id = r.id
                       AND x.cleared_at IS NULL) AS banned,
                      CASE WHEN r.state <> 'sealed' THEN
                          coalesce((SELECT t.content_until FROM trigger t
                                    WHERE t.deployment_id = d.id AND t.outcome = 'created'
                                    ORDER BY t.content_until LIMIT 1), d.content_until)
                      END AS "content_until: Timestamp",
                      (SELECT jsonb_build_object('branch', t.branch, 'at', t.pushed_at,
                              'before', t.before_commit)
                       FROM trigger t WHERE t.deployment_id = d.id
                       AND t.outcome = 'created' AND t.pushed_at IS NOT NULL
                       ORDER BY t.pushed_at DESC, t.id DESC LIMIT 1) AS "pushed: Json<Pushed>",
                      CASE WHEN r.state <> 'sealed' THEN
                          (SELECT jsonb_build_object('note', coalesce(g.note, ''),
                                                     'retry_at', g.retry_at)
                           FROM site s LEFT JOIN github_archive g ON g.release_id = r.id
                           WHERE s.id = r.site_id AND s.source = 'repository')
                      END AS "fetch: Json<Fetch>"
               FROM "#
                + $lanes
                + r#" AS lane(id) CROSS JOIN LATERAL (
                     SELECT id, environment_id, kind, admission, pinned, state, pivoted_at,
                            live_at, started_at, release_id, content_until
                     FROM deployment WHERE environment_id = lane.id AND state = 'pending'
                     UNION ALL
                     SELECT id, environment_id, kind, admission, pinned, state, pivoted_at,
                            live_at, started_at, release_id, content_until
                     FROM deployment WHERE environment_id = lane.id
                     AND state IN ('running', 'waiting', 'cancelling')) d
               JOIN release r ON r.id = d.release_id ORDER BY d.admission"#,
            $argument
        )
    };
}

/// What is pending on these lanes and what acts on them; a lane without either is not there.
pub(crate) async fn list_contenders(
    conn: &mut PgConnection,
    environments: &[EnvironmentId],
) -> Result<HashMap<EnvironmentId, Contenders>, sqlx::Error> {
    // As above.
    let rows = if let [one] = environments {
        select_contenders!("(SELECT $1::uuid)", one.uuid())
            .fetch_all(conn)
            .await?
    } else {
        let ids: Vec<Uuid> = environments.iter().map(|id| id.uuid()).collect();
        select_contenders!("unnest((SELECT $1::uuid[]))", &ids)
            .fetch_all(conn)
            .await?
    };
    let mut lanes: HashMap<EnvironmentId, Contenders> = HashMap::new();
    for row in rows {
        // A kind that a newer release wrote is not ours to order.
        let Some(kind) = Kind::from_word(&row.kind) else {
            continue;
        };
        let contender = Contender {
            id: DeploymentId::from_uuid(row.id),
            kind,
            commit: row.commit,
            admission: row.admission,
            sealed: row.sealed,
            content_until: row.content_until.map(read),
            fetch: row.fetch.map(|told| told.0),
            pushed: row.pushed.map(|told| told.0),
            pinned: row.pinned,
            rejected: row.rejected,
            banned: row.banned,
        };
        let lane = lanes
            .entry(EnvironmentId::from_uuid(row.environment_id))
            .or_default();
        if row.state == "pending" {
            lane.pending.push(contender);
        } else {
            lane.acting = Some(ActingNow {
                contender,
                since: row.started_at.map(read),
                pivoted: row.pivoted,
                live: row.live_at.is_some(),
                cancelling: row.state == "cancelling",
            });
        }
    }
    Ok(lanes)
}

/// Commits of a site whose descent from each other is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Related {
    pub(crate) site: SiteId,
    pub(crate) commits: Vec<String>,
}

/// Which commits descend from which, for each group in turn.
pub(crate) async fn list_descents(
    conn: &mut PgConnection,
    groups: &[Related],
) -> Result<Vec<Descents>, sqlx::Error> {
    let mut found = vec![Descents::default(); groups.len()];
    let (mut numbers, mut sites, mut commits) = (Vec::new(), Vec::new(), Vec::new());
    for (number, group) in (0_i32..).zip(groups) {
        // One commit alone descends from nothing.
        for commit in group.commits.iter().filter(|_| group.commits.len() > 1) {
            numbers.push(number);
            sites.push(group.site.uuid());
            commits.push(commit.clone());
        }
    }
    if numbers.is_empty() {
        return Ok(found);
    }
    let rows = sqlx::query!(
        r#"SELECT c.number AS "number!", a.commit AS "commit!", ARRAY(
                  -- Taken apart once, and each looked up among those of its group by its hash: compared one with
                  -- one, hundreds that wait take longer than a statement may.
                  SELECT o.commit FROM unnest(a.ancestors || a.parents) AS o(commit)
                  WHERE ((c.number, o.commit) IN (SELECT * FROM unnest($1::int[], $3::text[]))) IS TRUE
                  ) AS "ancestors!"
           FROM unnest($1::int[], $2::uuid[], $3::text[]) AS c(number, site_id, commit)
           JOIN commit_ancestry a ON a.site_id = c.site_id AND a.commit = c.commit
           UNION ALL
           -- What GitHub was asked, because nothing above tells of it.
           SELECT o.number, CASE x.relation WHEN 'ahead' THEN x.other ELSE x.one END,
                  ARRAY[CASE x.relation WHEN 'ahead' THEN x.one ELSE x.other END]
           FROM unnest($1::int[], $2::uuid[], $3::text[]) AS o(number, site_id, commit)
           JOIN comparison x ON x.site_id = o.site_id AND x.one = o.commit
           JOIN unnest($1::int[], $3::text[]) AS t(number, commit)
                ON t.number = o.number AND t.commit = x.other
           WHERE x.relation IN ('ahead', 'behind')"#,
        &numbers,
        &sites,
        &commits
    )
    .fetch_all(conn)
    .await?;
    for row in rows {
        let number = usize::try_from(row.number).ok();
        let Some(group) = number.and_then(|number| found.get_mut(number)) else {
            continue;
        };
        for ancestor in &row.ancestors {
            group.insert(&row.commit, ancestor);
        }
    }
    Ok(found)
}

/// Commits, of those asked for, that the pull request of a preview was at once.
pub(crate) async fn list_heads(
    conn: &mut PgConnection,
    environment: EnvironmentId,
    commits: &[String],
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT DISTINCT commit FROM trigger WHERE environment_id = $1 AND commit = ANY($2)",
        environment.uuid(),
        commits
    )
    .fetch_all(conn)
    .await
}

/// What the pull request is at whose preview this is; none for any other environment.
pub(crate) async fn find_head(
    conn: &mut PgConnection,
    preview: EnvironmentId,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT head_commit FROM pull_request WHERE environment_id = $1",
        preview.uuid()
    )
    .fetch_optional(conn)
    .await
}

#[cfg(test)]
mod tests {
    use candlefish_testkit::Database;

    use super::*;
    use crate::lane::order::Ancestry as _;

    /// So many wait for one lane.
    const WAITING: i32 = 500;

    #[tokio::test]
    async fn hundreds_of_commits_are_related_within_the_time_of_a_statement() {
        let pool = Database::migrated(&sqlx::migrate!()).await.pool();
        let mut conn = pool.acquire().await.unwrap();
        let site = SiteId::new();
        for statement in [
            "INSERT INTO site (id, slug, name, repository, created_at, created_by)
             VALUES ($1, 'docs', '', '', clock(), 'test')",
            // One line, of which each knows a thousand before it, as the command line tells them.
            "INSERT INTO commit_ancestry (site_id, commit, parents, ancestors)
             SELECT $1, lpad(n::text, 40, 'a'), '{}',
                    ARRAY(SELECT lpad(m::text, 40, 'a') FROM generate_series(n - 1000, n - 1) m)
             FROM generate_series(1, 500) n",
            // The time that a service's statement has.
            "SELECT set_config('statement_timeout', '5s', false), $1::uuid",
        ] {
            sqlx::query(statement)
                .bind(site.uuid())
                .execute(&mut *conn)
                .await
                .unwrap();
        }
        let commit = |number: i32| format!("{number:a>40}");
        let commits: Vec<String> = (1..=WAITING).map(commit).collect();
        let of = |commits: &[String]| Related {
            site,
            commits: commits.to_vec(),
        };
        let groups = [of(&commits), of(&commits[..2]), of(&commits[2..3])];
        let found = list_descents(&mut conn, &groups).await.unwrap();
        let pairs = usize::try_from(WAITING * (WAITING - 1) / 2).unwrap();
        assert_eq!(found[0].len(), pairs);
        assert!(found[0].descends(&commit(300), &commit(7)));
        // Nothing of another group.
        assert_eq!(found[1].len(), 1);
        assert!(found[1].descends(&commit(2), &commit(1)));
        assert!(found[2].is_empty());
    }
}
