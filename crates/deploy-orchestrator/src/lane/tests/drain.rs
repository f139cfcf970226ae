//! The end of a sequence: everything that keeps a lane is gone, and each becomes empty.

use candlefish_ids::ReleaseId;

use super::{PLACE, PREVIEW, TURNS, work::Edge, world::World};

/// What has no business there once every deployment has ended.
const LEFT: &str = "
    SELECT 'a blocker of ' || deployment_id FROM blocker WHERE cleared_at IS NULL
    UNION ALL SELECT 'a step of ' || deployment_id FROM step
              WHERE state IN ('pending', 'ready', 'running', 'quarantined')";

/// What the history does not tell as it was: it names once what went live, and once why one failed that
/// acted. A rollback that fails past its pivot is live all the same, and has a line of kind rollback of
/// whoever asked for it. Where traffic goes back to because of a ban has a line of its own.
const UNTOLD: &str = "
    SELECT format('%s (%s, %s) is told as live %s times', d.id, d.kind, d.state, count(r.id))
    FROM deployment d LEFT JOIN record r ON r.deployment_id = d.id AND r.kind = 'live'
    GROUP BY d.id HAVING count(r.id) <> CASE
        WHEN d.live_at IS NOT NULL
          OR (d.kind = 'rollback' AND d.state = 'failed' AND d.pivoted_at IS NOT NULL
              AND d.target_confirmed IS NULL)
        THEN 1 ELSE 0 END
    UNION ALL
    SELECT format('%s (%s, %s) by %s is told %s times', d.id, d.kind, d.state, d.cause, count(r.id))
    FROM deployment d LEFT JOIN record r ON r.deployment_id = d.id
        AND (r.kind = 'fail' OR (d.kind <> 'rollback' AND r.kind IN ('rollback', 'reject')
                                AND r.reason NOT LIKE '%, for rel_% is banned by %'))
    WHERE d.started_at IS NOT NULL
      AND d.cause IN ('verification', 'verdict', 'deadline', 'edges', 'discarded', 'content', 'evidence')
    GROUP BY d.id HAVING count(r.id) <> 1";

/// Seconds until a step is due or its worker is given up. Without one only content is waited for, an
/// hour at the most.
const NEXT: &str = "
    SELECT greatest(1, least(3600, ceil(coalesce(extract(epoch FROM min(
               CASE state WHEN 'running' THEN lease_until ELSE run_at END) - clock()), 3600)
           )))::int::text
    FROM step WHERE state IN ('ready', 'running')";

impl World {
    /// Lanes that nothing keeps become empty by turns, by time, by the process's own sweeps and by a
    /// person who answers what is asked.
    pub(super) async fn assert_drains(&mut self) {
        self.let_go().await;
        for _turn in 0..TURNS {
            for step in self.quarantined().await {
                self.decide_about(step).await.unwrap();
            }
            self.step().await.unwrap();
            let seconds = self.texts(NEXT).await;
            self.pass(seconds[0].parse().unwrap()).await;
            self.sweep().await.unwrap();
            if self.open().await.is_empty() {
                let left = self.texts(LEFT).await;
                assert!(left.is_empty(), "{left:#?}\nafter\n{}", self.told());
                let untold = self.texts(UNTOLD).await;
                assert!(untold.is_empty(), "{untold:#?}\nafter\n{}", self.told());
                return;
            }
            self.assert_free().await;
        }
        panic!(
            "a lane does not become empty: {:#?}\nafter\n{}",
            self.open().await,
            self.told()
        );
    }

    /// Stops, holds and bans are lifted, and what somebody began to upload comes whole. What nobody
    /// began never comes.
    async fn let_go(&mut self) {
        self.say("everything is let go");
        for stop in self.standing_stops().await {
            self.lift_stop(stop).await.unwrap();
            self.follow_wake_ups().await;
        }
        for place in [PLACE, PREVIEW] {
            // It may not be held, or not be there.
            drop(self.change_hold(place, true).await);
        }
        let banned = "SELECT release_id::text FROM ban WHERE cleared_at IS NULL";
        for id in self.texts(banned).await {
            let id = ReleaseId::from_uuid(id.parse().unwrap());
            self.change_ban(id, true).await.unwrap();
        }
        for release in self.releases.clone() {
            self.seal(release).await.unwrap();
        }
        self.edge = Edge::Follows;
        self.assert_free().await;
    }
}
