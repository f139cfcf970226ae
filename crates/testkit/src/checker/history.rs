//! The history of each lane, told again from the rows: one acts at a time, under a fence that rises;
//! what is live follows from how each ended; an older commit replaces a newer one only by a rollback.

use std::collections::{BTreeMap, HashMap, HashSet};

use candlefish_ids::ReleaseId;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::Fault;
/// The ancestors of each (site, commit).
type Ancestry = HashMap<(Uuid, String), HashSet<String>>;

/// A deployment that was granted its lane.
#[derive(Debug, Clone, Default)]
struct Acted {
    id: Uuid,
    release: Uuid,
    commit: String,
    kind: String,
    state: String,
    cause: String,
    fence: i64,
    previous: Option<Uuid>,
    undone: bool,
    pivoted: bool,
    went_live: bool,
    /// Microseconds.
    started: i64,
    /// None while it acts.
    finished: Option<i64>,
}

/// One environment and all that acted in it, in the order of their grants.
#[derive(Debug, Clone, Default)]
struct Lane {
    site: Uuid,
    place: String,
    fence: i64,
    live: Option<Uuid>,
    /// Text ids of the releases in its routes.
    serves: Vec<Vec<String>>,
    acted: Vec<Acted>,
}

pub(super) async fn judge(connection: &mut PgConnection) -> Vec<Fault> {
    let ancestry = ancestry(connection).await;
    let lanes = lanes(connection).await;
    lanes
        .values()
        .flat_map(|lane| judge_lane(lane, &ancestry))
        .collect()
}

fn judge_lane(lane: &Lane, ancestry: &Ancestry) -> Vec<Fault> {
    let mut faults = one_at_a_time(lane);
    let mut live: Option<&Acted> = None;
    // Unknown after a rollback preempted what was live or on its way back.
    let mut known = true;
    for one in &lane.acted {
        if known && one.kind != "preview" {
            faults.extend(judge_start(lane, one, live, ancestry));
        }
        match one.state.as_str() {
            "succeeded" if one.kind != "preview" => (live, known) = (Some(one), true),
            "failed" if one.kind == "rollback" && one.pivoted && !one.undone => {
                (live, known) = (Some(one), true);
            }
            "rolled_back" | "failed" if one.cause == "preempted" => {
                // What a rollback went to stays when the next one ends before its pivot.
                known &= !(one.went_live || one.kind == "rollback" && one.pivoted);
            }
            _ => {}
        }
    }
    let expected = live.map(|one| one.release);
    if known && lane.live != expected {
        faults.push((
            "what is live follows from the history",
            format!("{}: {:?} is live, not {expected:?}", lane.place, lane.live),
        ));
    }
    let text = lane.live.map(|live| ReleaseId::from_uuid(live).to_string());
    for serves in &lane.serves {
        if serves.iter().ne(&text) {
            faults.push((
                "the routes of an environment serve what is live",
                format!("{}: {text:?} is live, a route has {serves:?}", lane.place),
            ));
        }
    }
    faults
}

fn one_at_a_time(lane: &Lane) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fence = 0;
    for (place, one) in lane.acted.iter().enumerate() {
        let before = place
            .checked_sub(1)
            .and_then(|before| lane.acted.get(before));
        if let Some(before) =
            before.filter(|before| before.finished.is_none_or(|end| end > one.started))
        {
            faults.push((
                "at most one acts on a lane at a time",
                format!("{}: {} and {}", lane.place, before.id, one.id),
            ));
        }
        if one.fence <= fence || one.fence > lane.fence {
            let words = format!(
                "{}: {} under {} after {fence}, the lane is at {}",
                lane.place, one.id, one.fence, lane.fence
            );
            faults.push(("the fence of a lane rises with every grant", words));
        }
        fence = fence.max(one.fence);
    }
    faults
}

/// What it found when it began: the release to go back to, and no newer commit.
fn judge_start(
    lane: &Lane,
    one: &Acted,
    live: Option<&Acted>,
    ancestry: &Ancestry,
) -> Option<Fault> {
    let before = live.map(|live| live.release);
    // One that ended before its first step knows of nothing.
    if one.previous != before && (one.pivoted || one.previous.is_some()) {
        let words = format!(
            "{}: {} would return to {:?}, live was {before:?}",
            lane.place, one.id, one.previous
        );
        return Some(("a deployment returns to what was live before it", words));
    }
    let live = live.filter(|_| one.pivoted && one.kind == "standard")?;
    let known = ancestry.get(&(lane.site, live.commit.clone()))?;
    known.contains(&one.commit).then(|| {
        let words = format!(
            "{}: {} of {} replaced {} of {}",
            lane.place, one.id, one.commit, live.id, live.commit
        );
        (
            "an older commit replaces a newer one only by a rollback",
            words,
        )
    })
}

async fn ancestry(connection: &mut PgConnection) -> Ancestry {
    let rows =
        sqlx::query("SELECT site_id, commit, ancestors || parents FROM deploy.commit_ancestry")
            .fetch_all(connection)
            .await
            .expect("the ancestry is read");
    rows.iter()
        .map(|row| {
            let ancestors: Vec<String> = row.get(2);
            ((row.get(0), row.get(1)), ancestors.into_iter().collect())
        })
        .collect()
}

async fn lanes(connection: &mut PgConnection) -> BTreeMap<Uuid, Lane> {
    let rows = sqlx::query(
        "SELECT e.id, e.site_id, s.slug || '/' || e.slug, l.fence, e.live_release_id,
                ARRAY(SELECT r.releases::text FROM deploy.route r WHERE r.environment_id = e.id)
         FROM deploy.environment e JOIN deploy.site s ON s.id = e.site_id
         JOIN deploy.lane l ON l.environment_id = e.id",
    )
    .fetch_all(&mut *connection)
    .await
    .expect("the lanes are read");
    let mut lanes: BTreeMap<Uuid, Lane> = rows
        .iter()
        .map(|row| {
            let routes: Vec<String> = row.get(5);
            let lane = Lane {
                site: row.get(1),
                place: row.get(2),
                fence: row.get(3),
                live: row.get(4),
                serves: routes.iter().map(|route| releases_in(route)).collect(),
                acted: Vec::new(),
            };
            (row.get(0), lane)
        })
        .collect();
    let rows = sqlx::query(
        "SELECT d.id, d.release_id, r.commit, d.kind, d.state, d.cause, d.fence,
                d.previous_release_id, d.target_confirmed IS NOT NULL, d.pivoted_at IS NOT NULL,
                d.live_at IS NOT NULL, (extract(epoch FROM d.started_at) * 1000000)::bigint,
                (extract(epoch FROM d.finished_at) * 1000000)::bigint, d.environment_id
         FROM deploy.deployment d JOIN deploy.release r ON r.id = d.release_id
         WHERE d.started_at IS NOT NULL ORDER BY d.started_at, d.fence",
    )
    .fetch_all(connection)
    .await
    .expect("the deployments are read");
    for row in &rows {
        let acted = Acted {
            id: row.get(0),
            release: row.get(1),
            commit: row.get(2),
            kind: row.get(3),
            state: row.get(4),
            cause: row.get(5),
            fence: row.get(6),
            previous: row.get(7),
            undone: row.get(8),
            pivoted: row.get(9),
            went_live: row.get(10),
            started: row.get(11),
            finished: row.get(12),
        };
        lanes.entry(row.get(13)).or_default().acted.push(acted);
    }
    lanes
}

/// The text ids in a route's list of releases.
fn releases_in(route: &str) -> Vec<String> {
    route
        .split('"')
        .filter(|part| part.starts_with("rel_"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    /// The `number`th on its lane: of the commit and release of that number, ended so.
    fn ended(number: u128, state: &str) -> Acted {
        let order = i64::try_from(number).unwrap();
        Acted {
            id: release(100 + number),
            release: release(number),
            commit: format!("c{number}"),
            kind: "standard".to_owned(),
            state: state.to_owned(),
            fence: order,
            pivoted: state == "succeeded" || state == "rolled_back",
            started: order * 10,
            finished: Some(order * 10 + 5),
            ..Acted::default()
        }
    }

    fn lane(live: Option<u128>, acted: Vec<Acted>) -> Lane {
        let live = live.map(release);
        Lane {
            fence: 9,
            live,
            serves: vec![
                live.map(|live| ReleaseId::from_uuid(live).to_string())
                    .into_iter()
                    .collect(),
            ],
            acted,
            ..Lane::default()
        }
    }

    /// `c1` is an ancestor of `c2`, and so on.
    fn claims(lane: &Lane) -> Vec<&'static str> {
        let ancestry = (1..5)
            .map(|n| {
                let before = (1..n).map(|n| format!("c{n}")).collect();
                ((Uuid::nil(), format!("c{n}")), before)
            })
            .collect();
        judge_lane(lane, &ancestry)
            .into_iter()
            .map(|(claim, _)| claim)
            .collect()
    }

    fn over(one: Acted, previous: u128) -> Acted {
        Acted {
            previous: Some(release(previous)),
            ..one
        }
    }

    #[test]
    fn a_whole_history_has_no_fault() {
        let back = Acted {
            kind: "rollback".to_owned(),
            release: release(1),
            commit: "c1".to_owned(),
            ..over(ended(3, "succeeded"), 2)
        };
        let acted = vec![
            ended(1, "succeeded"),
            over(ended(2, "succeeded"), 1),
            back,
            over(ended(4, "rolled_back"), 1),
        ];
        assert_eq!(claims(&lane(Some(1), acted)), Vec::<&str>::new());
    }

    #[test]
    fn two_at_a_time_and_a_fence_that_does_not_rise_are_faults() {
        let mut acted = vec![ended(1, "succeeded"), over(ended(2, "succeeded"), 1)];
        acted[0].finished = Some(21);
        assert_eq!(
            claims(&lane(Some(2), acted.clone())),
            ["at most one acts on a lane at a time"]
        );
        acted[0].finished = Some(20);
        acted[1].fence = 1;
        assert_eq!(
            claims(&lane(Some(2), acted)),
            ["the fence of a lane rises with every grant"]
        );
    }

    #[test]
    fn an_older_commit_that_went_live_is_a_fault() {
        let acted = vec![
            ended(1, "failed"),
            ended(2, "succeeded"),
            Acted {
                commit: "c1".to_owned(),
                ..over(ended(3, "succeeded"), 2)
            },
        ];
        assert_eq!(
            claims(&lane(Some(3), acted)),
            ["an older commit replaces a newer one only by a rollback"]
        );
    }

    #[test]
    fn what_is_live_must_follow_from_the_ends() {
        let acted = vec![ended(1, "succeeded"), over(ended(2, "rolled_back"), 1)];
        assert_eq!(
            claims(&lane(Some(2), acted.clone())),
            ["what is live follows from the history"]
        );
        let mut other = lane(Some(1), acted);
        other.serves = vec![vec![ReleaseId::from_uuid(release(2)).to_string()]];
        assert_eq!(
            claims(&other),
            ["the routes of an environment serve what is live"]
        );
    }

    #[test]
    fn one_that_would_return_to_something_else_is_a_fault() {
        let acted = vec![
            ended(1, "succeeded"),
            over(ended(2, "succeeded"), 1),
            over(ended(3, "rolled_back"), 1),
        ];
        assert_eq!(
            claims(&lane(Some(2), acted)),
            ["a deployment returns to what was live before it"]
        );
    }

    #[test]
    fn the_releases_of_a_route_are_found_in_its_text() {
        let route = r#"[{"weight": 100, "release": "rel_1", "manifest": "ab"}]"#;
        assert_eq!(releases_in(route), ["rel_1"]);
    }
}
