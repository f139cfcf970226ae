//! What turns that share a transaction must know of the edges, read at once.

use std::collections::HashMap;

use candlefish_clock::Moment;
use candlefish_ids::ReleaseId;
use jiff_sqlx::Timestamp;
use serde::Deserialize;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::{Follower, LIVE_FOR_MS};
use crate::{
    ctx::{read, stored},
    route::Written,
};

/// How far all edges follow, about some hosts and releases.
#[derive(Debug)]
pub(crate) struct Following {
    edges: Vec<Edge>,
}

/// One edge, and the epoch that holds.
#[derive(Debug)]
struct Edge {
    id: String,
    address: String,
    live: bool,
    lately: bool,
    moved_at: Option<Moment>,
    epoch: i32,
    /// By host: the epoch and the version that it applied.
    held: HashMap<String, (i32, i64)>,
    /// By release.
    told: HashMap<ReleaseId, Told>,
}

/// What an edge told of a release, as JSON among others.
#[derive(Debug, Deserialize)]
struct Told {
    release: Uuid,
    staged: bool,
    error: String,
    transient: bool,
}

impl Following {
    /// As [`super::list_followers`] answers. A host that was not asked about counts as one whose route no
    /// edge has applied.
    pub(crate) fn followers(&self, routes: &[Written], release: ReleaseId) -> Vec<Follower> {
        let follower = |edge: &Edge| {
            let told = edge.told.get(&release);
            Follower {
                id: edge.id.clone(),
                address: edge.address.clone(),
                live: edge.live,
                lately: edge.lately,
                applied: routes.iter().all(|route| edge.applied(route)),
                staged: told.is_some_and(|told| told.staged),
                error: told.map(|told| told.error.clone()).unwrap_or_default(),
                passes: told.is_some_and(|told| told.transient),
                moved_at: edge.moved_at,
            }
        };
        self.edges.iter().map(follower).collect()
    }
}

impl Edge {
    fn applied(&self, route: &Written) -> bool {
        let held = self.held.get(&route.host);
        held.is_some_and(|held| *held >= (route.epoch, route.version) && held.0 >= self.epoch)
    }
}

/// How far every edge follows, by id, about these hosts and releases.
pub(crate) async fn list_following(
    conn: &mut PgConnection,
    now: Moment,
    hosts: &[String],
    releases: &[ReleaseId],
) -> Result<Following, sqlx::Error> {
    let releases: Vec<Uuid> = releases.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        r#"SELECT e.id, e.address, e.moved_at AS "moved_at?: Timestamp",
                  (e.joined_at IS NOT NULL AND e.failing_since IS NULL
                   AND e.heard_at > $3::timestamptz - $4::bigint * interval '1 millisecond')
                      AS "live!",
                  e.heard_at > $3::timestamptz - interval '1 day' AS "lately!",
                  (SELECT epoch FROM relay) AS "epoch!",
                  -- Both by the key: for so few, all that an edge holds is not read.
                  (SELECT COALESCE(jsonb_agg(jsonb_build_object(
                              'host', o.host, 'epoch', o.epoch, 'version', o.version)), '[]')
                   FROM jsonb_array_elements_text($1::jsonb) AS t(host)
                   CROSS JOIN LATERAL (
                       SELECT r.host, r.epoch, r.version FROM edge_route r
                       WHERE r.edge_id = e.id AND r.host = t.host LIMIT 1) o)
                      AS "held!: Json<Vec<Written>>",
                  (SELECT COALESCE(jsonb_agg(jsonb_build_object(
                              'release', o.release_id, 'staged', o.staged, 'error', o.error,
                              'transient', o.transient)), '[]')
                   FROM jsonb_array_elements_text($2::jsonb) AS t(release)
                   CROSS JOIN LATERAL (
                       SELECT x.release_id, x.staged, x.error, x.transient FROM edge_release x
                       WHERE x.edge_id = e.id AND x.release_id = t.release::uuid LIMIT 1) o)
                      AS "told!: Json<Vec<Told>>"
           FROM edge e ORDER BY e.id"#,
        // Not arrays: for those Postgres makes a new plan each time.
        Json(hosts) as _,
        Json(releases) as _,
        stored(now) as _,
        LIVE_FOR_MS
    )
    .fetch_all(conn)
    .await?;
    let edges = rows.into_iter().map(|row| Edge {
        id: row.id,
        address: row.address,
        live: row.live,
        lately: row.lately,
        moved_at: row.moved_at.map(read),
        epoch: row.epoch,
        held: row
            .held
            .0
            .into_iter()
            .map(|one| (one.host, (one.epoch, one.version)))
            .collect(),
        told: row
            .told
            .0
            .into_iter()
            .map(|one| (ReleaseId::from_uuid(one.release), one))
            .collect(),
    });
    Ok(Following {
        edges: edges.collect(),
    })
}

#[cfg(test)]
mod tests {
    use candlefish_testkit::Database;

    use super::{super::list_followers, *};

    fn written(host: &str, epoch: i32, version: i64) -> Written {
        Written {
            host: host.to_owned(),
            epoch,
            version,
        }
    }

    /// Edges that follow, lag, refuse, are silent, are set aside, and hold what an earlier epoch gave.
    async fn edges(database: &Database, release: ReleaseId) {
        let release = release.uuid();
        let rows = format!(
            "UPDATE relay SET epoch = 2;
             INSERT INTO edge (id, boot, address, heard_at, joined_at, failing_since) VALUES
                 ('a', 'b', '10.0.0.1:80', clock(), clock(), NULL),
                 ('b', 'b', '10.0.0.2:80', clock(), clock(), NULL),
                 ('c', 'b', '10.0.0.3:80', clock() - interval '1 minute', clock(), NULL),
                 ('d', 'b', '10.0.0.4:80', clock(), clock(), clock()),
                 ('e', 'b', '10.0.0.5:80', clock(), NULL, NULL),
                 ('f', 'b', '10.0.0.6:80', clock() - interval '2 days', clock(), NULL);
             UPDATE edge SET moved_at = clock() - interval '1 hour' WHERE id IN ('a', 'c');
             INSERT INTO edge_route (edge_id, host, epoch, version) VALUES
                 ('a', 'one', 2, 7), ('a', 'two', 2, 1), ('b', 'one', 2, 6), ('c', 'one', 1, 9),
                 ('d', 'one', 3, 1), ('d', 'two', 2, 2);
             INSERT INTO edge_release (edge_id, release_id, staged, error, transient, at) VALUES
                 ('a', '{release}', true, '', false, clock()),
                 ('b', '{release}', false, '/a.css is corrupt', false, clock()),
                 ('c', '{release}', false, 'the store is away', true, clock());"
        );
        database.run(&[&rows]).await;
    }

    #[tokio::test]
    async fn what_is_read_for_many_is_what_is_read_for_each() {
        let database = Database::migrated(&sqlx::migrate!()).await;
        let (release, other) = (ReleaseId::new(), ReleaseId::new());
        edges(&database, release).await;
        let mut conn = database.pool().acquire().await.unwrap();
        let now = sqlx::query_scalar!(r#"SELECT clock() AS "at!: Timestamp""#);
        let now = read(now.fetch_one(&mut *conn).await.unwrap());
        let hosts = ["one", "two", "three"].map(str::to_owned);
        let following = list_following(&mut conn, now, &hosts, &[release, other]).await;
        let following = following.unwrap();
        let all = [
            vec![],
            vec![written("one", 2, 7)],
            vec![written("one", 2, 6), written("two", 2, 1)],
            vec![written("one", 1, 9)],
            vec![written("three", 1, 1)],
        ];
        for routes in &all {
            for release in [release, other] {
                let each = list_followers(&mut conn, now, routes, release).await;
                assert_eq!(following.followers(routes, release), each.unwrap());
            }
        }
        let never_asked = following.followers(&[written("four", 2, 1)], release);
        assert!(never_asked.iter().all(|one| !one.applied));
    }
}
