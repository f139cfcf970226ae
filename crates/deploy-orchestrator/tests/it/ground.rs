//! The places of the table of verbs and states: environments in which a deployment stands where a row
//! of [`crate::table`] says.

use candlefish_proto::deploy::{self as pb, deployment::State};
use candlefish_testkit::{github::PullRequest, poll_until};

use crate::{
    api::{baking, blockers, canary, millis, policy},
    gateway::Gateway,
    sandbox::SOON,
    stage::REPOSITORY,
    steps::{doubtful, settling},
    table::{At, Says, stands},
    world::World,
};

const FIRST: &str = "1111111111111111111111111111111111111111";
const SECOND: &str = "2222222222222222222222222222222222222222";
pub(crate) const THIRD: &str = "3333333333333333333333333333333333333333";
pub(crate) const FOURTH: &str = "4444444444444444444444444444444444444444";

/// With these a claim is kept, and the answer of an edge waited for, as long as any test lasts.
const UNHURRIED: [(&str, &str); 2] = [
    ("CANDLEFISH_LEASE_MS", "600000"),
    ("CANDLEFISH_FETCH_TIMEOUT_MS", "600000"),
];

/// An environment with two releases that went live, and a deployment of a third; or a preview.
pub(crate) struct Place {
    pub(crate) environment: String,
    pub(crate) id: String,
    pub(crate) release: String,
}

/// A world with three releases, each of a commit that descends from the one before.
pub(crate) struct Ground {
    pub(crate) world: World,
    /// It tells of pull requests.
    gateway: Option<Gateway>,
    first: String,
    second: String,
    third: String,
}

/// Watches 10 % for a second at a time.
fn impatient() -> pb::Strategy {
    pb::Strategy {
        kind: Some(pb::strategy::Kind::Canary(pb::Canary {
            weights: vec![10],
            interval: Some(millis(1000)),
            bake: None,
        })),
    }
}

/// A worker has claimed the look at its candidate, and waits for the edge's pages.
fn fetches(one: &pb::Deployment) -> bool {
    let is_claimed = |step: &pb::Step| {
        step.kind() == pb::step::Kind::VerifyCandidate && step.state() == pb::step::State::Running
    };
    one.steps.iter().any(is_claimed)
}

impl Ground {
    pub(crate) async fn new(at: At) -> Self {
        let (world, gateway) = if at.is_pull() {
            let (world, gateway) = Box::pin(World::of_pulls()).await;
            (world, Some(gateway))
        } else {
            let settings: &[(&str, &str)] = if at == At::Fetching { &UNHURRIED } else { &[] };
            (Box::pin(World::with(settings)).await, None)
        };
        let (sandbox, api) = (&world.sandbox, &world.api);
        let first = sandbox.commit(api, FIRST, &[]).await;
        let second = sandbox.commit(api, SECOND, &[FIRST]).await;
        let third = sandbox.commit(api, THIRD, &[SECOND, FIRST]).await;
        Self {
            world,
            gateway,
            first,
            second,
            third,
        }
    }

    /// So many places, all at the same point.
    pub(crate) async fn places(&self, at: At, count: usize) -> Vec<Place> {
        let mut environments = Vec::new();
        for number in 0..count {
            let environment = if at.is_pull() {
                format!("pr-{}", number + 1)
            } else {
                format!("place-{number}")
            };
            self.lay(at, &environment).await;
            environments.push(environment);
        }
        self.obstruct(at).await;
        let mut places = Vec::new();
        for environment in environments {
            places.push(self.begin(at, environment).await);
        }
        self.disturb(at, &places).await;
        self.all_stand(at, &places).await;
        places
    }

    /// An environment, and what went live there before; a preview makes its own.
    async fn lay(&self, at: At, environment: &str) {
        if at.is_preview() {
            return;
        }
        if at.is_pull() {
            self.open_pull(environment).await;
            return;
        }
        let api = &self.world.api;
        let policy = if at == At::NoEvidence {
            doubtful().0
        } else {
            policy()
        };
        api.create_environment(environment, policy).await;
        api.deploy_whole(environment, &self.first).await;
        api.deploy_whole(environment, &self.second).await;
        if matches!(at, At::Settling | At::Quarantined) {
            self.world.replace_policy(environment, settling()).await;
        }
    }

    /// The preview of a pull request of two heads, one after the other.
    async fn open_pull(&self, environment: &str) {
        let api = &self.world.api;
        let opened = self.tell(environment, "opened", ("", FIRST), 1).await;
        api.wait_for(&opened, &[State::Succeeded]).await;
        self.world.replace_policy(environment, policy()).await;
        let heads = (FIRST, SECOND);
        let pushed = self.tell(environment, "synchronize", heads, 2).await;
        api.wait_for(&pushed, &[State::Succeeded]).await;
    }

    /// Tells of the pull request of a preview, and of what its branch was and is at; answers the
    /// deployment that it became.
    pub(crate) async fn tell(
        &self,
        environment: &str,
        action: &str,
        (before, head): (&str, &str),
        updated_at: u32,
    ) -> String {
        let number = environment.strip_prefix("pr-").unwrap();
        let example = PullRequest {
            repository: REPOSITORY,
            number: number.parse().unwrap(),
            action,
            before,
            head,
            updated_at,
        }
        .example();
        let id = self.gateway.as_ref().unwrap().receives(&example);
        poll_until(SOON, "the delivery to be decided", async || {
            let told = self.world.api.triggers(head).await.unwrap();
            let mine = told.into_iter().find(|one| one.delivery_id == id);
            mine.map(|one| one.deployment_id).ok_or(())
        })
        .await
    }

    /// What keeps the deployments from their beginning on.
    async fn obstruct(&self, at: At) {
        match at {
            At::Staging
            | At::Paused
            | At::PreviewStages
            | At::PullStages
            | At::RollbackStages
            | At::RollbackMoved => {
                self.world.edge.act(|script| script.frozen = true);
            }
            At::Fetching => self.world.edge.act(|script| script.holds_pages = true),
            // Addresses of deployments are served; what the environment's own host gives stays as it is.
            At::SwitchWaits => self.world.edge.act(|script| script.up_to = Some(0)),
            At::PendingStop => drop(self.world.stop(false).await),
            _ => {}
        }
    }

    /// The edge does everything again.
    pub(crate) fn thaw(&self) {
        self.world.edge.act(|script| {
            (script.frozen, script.holds_pages, script.up_to) = (false, false, None);
        });
    }

    async fn begin(&self, at: At, environment: String) -> Place {
        let api = &self.world.api;
        if at.is_pull() {
            let content = at != At::PullWaits;
            let heads = (SECOND, if content { THIRD } else { FOURTH });
            let id = self.tell(&environment, "synchronize", heads, 3).await;
            return Place {
                release: api.deployment(&id).await.release_id,
                environment,
                id,
            };
        }
        if at.is_rollback() {
            return self.begin_rollback(at, environment).await;
        }
        let release = self.release_for(at).await;
        if at.is_preview() {
            let made = api.preview(&release).await.unwrap().into_inner();
            return Place {
                environment: made.environment,
                id: made.id,
                release,
            };
        }
        match at {
            At::PendingLane | At::Pinned => {
                let acting = api.create(&environment, &self.third, Some(baking())).await;
                let acting = acting.unwrap().into_inner().id;
                api.wait_in(&acting, pb::step::Kind::Bake).await;
            }
            At::PendingHold => drop(api.hold(&environment).await.unwrap()),
            _ => {}
        }
        let strategy = match at {
            At::Analysing => Some(canary()),
            At::NoEvidence => Some(impatient()),
            At::Baking | At::Cancelling | At::RolledBack => Some(baking()),
            _ => None,
        };
        let made = api.create(&environment, &release, strategy).await;
        Place {
            environment,
            id: made.unwrap().into_inner().id,
            release,
        }
    }

    /// To the first release, by an edge that follows nothing.
    async fn begin_rollback(&self, at: At, environment: String) -> Place {
        if at == At::RollbackStages {
            // As of an edge that has forgotten what is not live: it is waited for before the pivot.
            self.world.sandbox.act("DELETE FROM edge_release").await;
        }
        let made = self.world.api.roll_back(&environment).await.unwrap();
        let made = made.into_inner().deployment.unwrap();
        assert_eq!(made.release_id, self.first);
        Place {
            environment,
            id: made.id,
            release: made.release_id,
        }
    }

    async fn release_for(&self, at: At) -> String {
        let (sandbox, api) = (&self.world.sandbox, &self.world.api);
        let ancestors = [THIRD, SECOND, FIRST];
        match at {
            At::PendingLane | At::Pinned => sandbox.commit(api, FOURTH, &ancestors).await,
            At::PendingContent | At::Cancelled | At::PreviewWaits => {
                let unknown = candlefish_manifest::digest_of(b"not uploaded");
                api.create_release((unknown, 12), FOURTH, &ancestors).await
            }
            At::Failed => {
                let content = sandbox.put_content(&[("about.html", "no index")]).await;
                let draft = api.create_release(content, FOURTH, &ancestors).await;
                api.seal(&draft).await
            }
            At::Superseded => self.first.clone(),
            _ => self.third.clone(),
        }
    }

    /// What happens to the deployments, all of which have begun.
    async fn disturb(&self, at: At, places: &[Place]) {
        let (world, api) = (&self.world, &self.world.api);
        match at {
            At::Pinned => {
                for place in places {
                    api.pin(&place.id, false).await.unwrap();
                }
            }
            At::Paused => {
                self.all_stand(At::Staging, places).await;
                world.stop(true).await;
                world.edge.act(|script| script.frozen = false);
            }
            At::Quarantined => {
                let ids: Vec<&str> = places.iter().map(|place| &*place.id).collect();
                world.quarantine(&ids).await;
            }
            At::Cancelling | At::RolledBack => {
                self.all_stand(At::Baking, places).await;
                let frozen = at == At::Cancelling;
                world.edge.act(|script| script.frozen = frozen);
                for place in places {
                    api.abort(&place.id).await.unwrap();
                }
            }
            At::Fetching | At::SwitchWaits | At::RollbackStages | At::RollbackMoved => {
                for place in places {
                    self.reaches(at, place).await;
                }
            }
            At::Cancelled => {
                for place in places {
                    api.cancel(&place.id).await.unwrap();
                }
            }
            At::PreviewClosed => {
                self.all_stand(At::PreviewLive, places).await;
                for place in places {
                    api.close(&place.environment).await.unwrap();
                }
            }
            At::PullClosed => {
                self.all_stand(At::PullLive, places).await;
                for place in places {
                    self.tell(&place.environment, "closed", ("", THIRD), 4)
                        .await;
                }
            }
            _ => {}
        }
    }

    /// What the deployment says that it waits for does not tell this place from those before it.
    async fn reaches(&self, at: At, place: &Place) {
        let (api, id) = (&self.world.api, &place.id);
        match at {
            At::Fetching => drop(api.wait_until(id, "a claimed step", fetches).await),
            At::RollbackStages => drop(api.wait_in(id, pb::step::Kind::Stage).await),
            _ => {
                let moved = |one: &pb::Deployment| one.pivoted_at.is_some();
                api.wait_until(id, "the pivot", moved).await;
            }
        }
    }

    pub(crate) async fn all_stand(&self, at: At, places: &[Place]) {
        let what = format!("{at:?}");
        self.all_say(&what, stands(at), places).await;
    }

    pub(crate) async fn all_say(&self, what: &str, says: Says, places: &[Place]) {
        let claim = |one: &pb::Deployment| (one.state(), &*blockers(one)) == says;
        for place in places {
            self.world.api.wait_until(&place.id, what, claim).await;
        }
    }

    /// Whatever a refused verb could have written.
    pub(crate) async fn picture(&self) -> Vec<i64> {
        let numbers = [
            "SELECT count(*) FROM deployment",
            "SELECT sum(version)::bigint FROM deployment",
            "SELECT sum(version)::bigint FROM environment",
            "SELECT sum(fence)::bigint FROM lane",
            "SELECT count(*) FROM blocker",
            "SELECT count(*) FROM blocker WHERE cleared_at IS NULL",
            "SELECT count(*) FROM deployment_log",
            "SELECT count(*) FROM step WHERE state = 'abandoned'",
            "SELECT count(*) FROM step WHERE state = 'quarantined'",
            "SELECT count(*) FROM rejection WHERE cleared_at IS NULL",
            // Of a preview that waits there is none.
            "SELECT coalesce(sum(version), 0)::bigint FROM route",
            "SELECT count(*) FROM record",
            "SELECT count(*) FROM outbox",
            "SELECT count(*) FROM idempotency",
        ]
        .map(|number| format!("({number})"));
        let question = format!("SELECT ARRAY[{}]", numbers.join(", "));
        sqlx::query_scalar(sqlx::AssertSqlSafe(question))
            .fetch_one(&self.world.sandbox.pool)
            .await
            .unwrap()
    }
}
