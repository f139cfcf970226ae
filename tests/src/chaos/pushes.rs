//! Lanes that nobody deploys to but webhooks: pushes are delivered twice, late and out of order, while
//! gateways are killed, or never, and GitHub does what it is asked and loses the answer.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use candlefish_devstack::wait_until;
use candlefish_proto::deploy::{self as pb, trigger::Outcome};
use candlefish_testkit::{
    checker::Pushed,
    github::{self, Example, Fake, Fault, Push},
};
use sqlx::{PgPool, Postgres, Transaction};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{
    Done,
    callers::{Callers, Violation, pause},
};
use crate::{
    Content,
    api::{Commit, quick_policy},
    rng::Rng,
};

/// The repository of both sites.
pub const REPOSITORY: &str = "example/chaos";
/// The site whose content CI uploads, and the one whose content lies in the repository.
const SITES: [&str; 2] = ["pushed", "packed"];
const FOLDER: &str = "public";
const NONE: &str = "0000000000000000000000000000000000000000";
/// A delivery that is not taken within this time is lost.
const TAKEN_WITHIN: Duration = Duration::from_secs(90);
/// The first gateway is killed seconds after the run began.
const DOWN_WITHIN: Duration = Duration::from_secs(30);
/// A push that is not decided within this time is lost.
const DECIDED_WITHIN: Duration = Duration::from_secs(90);
/// A delivery is written down soon after it was taken, if nothing that brings it was just killed.
const NOTED_WITHIN: Duration = Duration::from_secs(2);
/// Lanes on which a connection breaks once while it writes down a delivery.
const BREAKING: u64 = super::PUSHED_LANES / 2;
const LOST: &str = "no push is lost";

/// Its id, and what it says.
type Delivery = (String, Example);

/// Who pushes to one lane.
pub(super) struct Pusher {
    pub(super) callers: Callers,
    pub(super) http: reqwest::Client,
    pub(super) gateways: Vec<String>,
    pub(super) database: String,
    pub(super) secret: String,
    pub(super) github: Fake,
    pub(super) lane: u64,
    pub(super) seed: u32,
    pub(super) count: u32,
    pub(super) rng: Rng,
    /// As in [`Done`].
    pub(super) missed: AtomicU64,
    pub(super) done: Done,
}

/// A client that gives up on a gateway that is gone.
pub(super) fn client() -> Result<reqwest::Client> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5));
    Ok(client.build()?)
}

/// The sites, and a branch for each lane.
pub(super) async fn prepare(callers: &Callers) -> Result<()> {
    let api = callers.any();
    for (site, source) in SITES
        .into_iter()
        .zip([pb::site::Source::Upload, pb::site::Source::Repository])
    {
        let is_packed = source == pb::site::Source::Repository;
        let request = pb::CreateSiteRequest {
            slug: site.to_owned(),
            repository: REPOSITORY.to_owned(),
            source: source.into(),
            folder: if is_packed { FOLDER } else { "" }.to_owned(),
            ..Default::default()
        };
        api.sites().create_site(request).await?;
    }
    for lane in 0..super::PUSHED_LANES {
        let order = if lane < 2 {
            pb::policy::Order::Latest
        } else {
            pb::policy::Order::Queue
        };
        let request = pb::CreateEnvironmentRequest {
            site: site_of(lane).to_owned(),
            slug: branch_of(lane),
            policy: Some(pb::Policy {
                order: order.into(),
                ..quick_policy()
            }),
            pushes: Some(pb::PushRule {
                branch: branch_of(lane),
                paths: Vec::new(),
            }),
            ..Default::default()
        };
        api.sites().create_environment(request).await?;
    }
    Ok(())
}

fn site_of(lane: u64) -> &'static str {
    if lane.is_multiple_of(2) {
        SITES[0]
    } else {
        SITES[1]
    }
}

/// The branch, and the environment that follows it.
fn branch_of(lane: u64) -> String {
    format!("branch-{lane}")
}

impl Pusher {
    pub(super) async fn drive(mut self) -> Result<Done> {
        let commits = Commit::chain(self.seed, self.count);
        let mut late: Vec<Delivery> = Vec::new();
        for (place, commit) in commits.iter().enumerate() {
            let mark = format!("{}-{place}", branch_of(self.lane));
            let content = Content::site(&mark);
            let pushed_at = self.push(commit, &content);
            self.lose_answers();
            let is_uploaded = site_of(self.lane) == SITES[0];
            let uploads_first = self.rng.below(2) == 0;
            if is_uploaded && uploads_first {
                self.upload(&content, commit).await?;
            }
            let delivery = self.delivery((place, pushed_at), commit);
            self.tell(place, delivery, &mut late).await?;
            if is_uploaded && !uploads_first {
                self.upload(&content, commit).await?;
            }
            if self.rng.below(2) == 0 && late.is_empty() {
                self.ended(commit, &mark).await?;
            }
        }
        for delivery in &late {
            self.send(delivery).await?;
        }
        for (place, commit) in commits.iter().enumerate() {
            let mark = format!("{}-{place}", branch_of(self.lane));
            self.ended(commit, &mark).await?;
        }
        self.done.accepted.sort_unstable();
        self.done.accepted.dedup();
        self.done.missed = self.missed.into_inner();
        Ok(self.done)
    }

    /// Delivers a push: at once or later, once or more often, or not.
    async fn tell(
        &mut self,
        place: usize,
        delivery: Delivery,
        late: &mut Vec<Delivery>,
    ) -> Result<()> {
        if place == 0 {
            self.put_first_one_that_is_down().await;
            return self.bring(&delivery).await;
        }
        if self.is_untold(place) {
            return Ok(());
        }
        if self.lane < BREAKING && self.done.broken_off == 0 {
            return self.break_off(&delivery).await;
        }
        // In turn, so that no run is without one of them.
        match (self.lane + u64::try_from(place)?) % 4 {
            // As somebody who gave up waiting too soon sends it, to two gateways at once.
            0 => {
                let (one, other) = tokio::join!(self.send(&delivery), self.send(&delivery));
                one.and(other)?;
            }
            // Overtaken by the next one.
            1 => late.push(delivery),
            2 => {
                self.send(&delivery).await?;
                for delivery in late.drain(..) {
                    self.send(&delivery).await?;
                }
                // And long after it was taken, also by somebody who has a name of his own for it.
                self.send(&delivery).await?;
                let (guid, example) = delivery;
                self.send(&(format!("again-{guid}"), example)).await?;
            }
            _ => self.send(&delivery).await?,
        }
        Ok(())
    }

    /// The last push to each of these lanes nobody is told of: only where the branch is shows it.
    fn is_untold(&self, place: usize) -> bool {
        self.lane >= BREAKING && place > 0 && place + 1 == usize::try_from(self.count).unwrap()
    }

    /// GitHub has the commit, and the branch is there: since when, in seconds of its clock.
    fn push(&self, commit: &Commit, content: &Content) -> i64 {
        let parents: Vec<&str> = commit
            .ancestors
            .first()
            .map(String::as_str)
            .into_iter()
            .collect();
        self.github
            .commit(REPOSITORY, &commit.id, &parents, &["public/index.html"]);
        let files = content.below(FOLDER);
        let files: Vec<(&str, &[u8])> = files
            .iter()
            .map(|(path, body)| (path.as_str(), *body))
            .collect();
        let archive = github::archive(&commit.id, &files);
        self.github.packs(REPOSITORY, &commit.id, archive);
        // Before it can be seen there: no look at the branch is older than the push that it shows.
        let pushed_at = github::seconds();
        self.github
            .branch(REPOSITORY, &branch_of(self.lane), &commit.id);
        pushed_at
    }

    /// GitHub does what it is asked next, and its answer does not come.
    fn lose_answers(&mut self) {
        let operation = match self.rng.below(3) {
            0 => "repos/create-deployment",
            1 => "repos/create-deployment-status",
            _ => return,
        };
        self.github.fails(operation, Fault::AnswerLost);
    }

    fn delivery(&mut self, (place, pushed_at): (usize, i64), commit: &Commit) -> Delivery {
        let branch = branch_of(self.lane);
        let before = commit.ancestors.first().map_or(NONE, String::as_str);
        let push = Push {
            repository: REPOSITORY,
            branch: &branch,
            before,
            commits: &[&commit.id],
            changes: &["public/index.html"],
            pushed_at,
        };
        let guid = format!("guid-{}", commit.id);
        self.done.pushed.push(Pushed {
            delivery: (!self.is_untold(place)).then(|| guid.clone()),
            commit: commit.id.clone(),
            place: format!("{}/{branch}", site_of(self.lane)),
        });
        (guid, push.example())
    }

    /// Waits for a gateway to be killed, and puts it first. It is back within moments: by chance few
    /// deliveries, or none, would meet one that is down.
    async fn put_first_one_that_is_down(&mut self) {
        let gateways = &self.gateways;
        let down = wait_until(DOWN_WITHIN, "a gateway is down", || async move {
            for (place, url) in gateways.iter().enumerate() {
                let address = url.trim_start_matches("http://");
                if TcpStream::connect(address).await.is_err() {
                    return Ok(place);
                }
            }
            Err("all are up".to_owned())
        })
        .await;
        // Too late: then the run itself says that no delivery met one.
        if let Ok(place) = down {
            self.gateways.rotate_left(place);
        }
    }

    /// Brings a delivery as GitHub does: once, and when that failed not again until it is asked to.
    async fn bring(&self, delivery: &Delivery) -> Result<()> {
        let (guid, _) = delivery;
        let gateway = self.gateways.first().context("a gateway")?;
        let Some(said) = self.try_at(gateway, delivery).await? else {
            return Ok(());
        };
        self.github.delivered(REPOSITORY, guid, 502);
        let asked = wait_until(TAKEN_WITHIN, "GitHub is asked for it", || async {
            if self.github.redelivered(REPOSITORY).contains(guid) {
                Ok(())
            } else {
                Err(String::new())
            }
        });
        if asked.await.is_err() {
            let violation = Violation {
                claim: LOST,
                words: format!("{guid} was not taken ({said}), and not asked for once more"),
            };
            return Err(violation.into());
        }
        self.send(delivery).await
    }

    /// Sends a delivery until a gateway has taken it, as GitHub does when it is asked to.
    async fn send(&self, delivery: &Delivery) -> Result<()> {
        let begun = Instant::now();
        for gateway in self.gateways.iter().cycle() {
            let Some(said) = self.try_at(gateway, delivery).await? else {
                return Ok(());
            };
            if begun.elapsed() > TAKEN_WITHIN {
                let (guid, _) = delivery;
                bail!("{guid} was not taken within {TAKEN_WITHIN:?}: {said}");
            }
            pause().await;
        }
        bail!("there is no gateway")
    }

    /// Answers what kept a gateway from taking a delivery; none when it has.
    async fn try_at(&self, gateway: &str, (guid, example): &Delivery) -> Result<Option<String>> {
        let hook = format!("{gateway}/v1/webhooks/github");
        let request = example.request(&self.http, &hook, guid, &self.secret);
        let said = match request.send().await {
            Ok(answer) if answer.status() == 202 => return Ok(None),
            Ok(answer) if answer.status().is_client_error() => {
                bail!("{guid} is refused: {}", answer.status());
            }
            Ok(answer) => answer.status().to_string(),
            Err(error) => error.to_string(),
        };
        self.missed.fetch_add(1, Ordering::Relaxed);
        Ok(Some(said))
    }

    /// Sends a delivery, and breaks the connection over which an orchestrator writes it down.
    async fn break_off(&mut self, delivery: &Delivery) -> Result<()> {
        let database = PgPool::connect_lazy(&self.database)?;
        if let Ok(mut kept) = keep_waiting(&database).await {
            let sent = timeout(NOTED_WITHIN, self.send(delivery)).await;
            if sent.is_ok() {
                self.done.broken_off += u64::from(breaks(&database, &mut kept).await);
            }
            // Gone by itself is as good.
            let _free = kept.rollback().await;
            if let Ok(sent) = sent {
                return sent;
            }
        }
        self.send(delivery).await
    }

    /// As CI does, which asks for no deployment: there is one.
    async fn upload(&self, content: &Content, commit: &Commit) -> Result<()> {
        let uploaded = self.callers.release(site_of(self.lane), content, commit);
        uploaded.await.map(drop)
    }

    /// Waits until a push is decided, and what it made is over.
    async fn ended(&mut self, commit: &Commit, mark: &str) -> Result<()> {
        let begun = Instant::now();
        let decided = loop {
            let told = self
                .callers
                .call("what became of a push", |api| api.triggers(&commit.id))
                .await??;
            let here = |one: &pb::Trigger| one.environment == branch_of(self.lane);
            let mut here = told.into_iter().filter(here);
            if let Some(one) = here.find(|one| one.outcome() != Outcome::Ignored) {
                break one;
            }
            if begun.elapsed() > DECIDED_WITHIN {
                let violation = Violation {
                    claim: LOST,
                    words: format!("{} was not decided within {DECIDED_WITHIN:?}", commit.id),
                };
                return Err(violation.into());
            }
            pause().await;
        };
        if decided.reason() == pb::trigger::Reason::Older {
            // Something newer was there before it: it has no deployment of its own.
            return Ok(());
        }
        let id = decided.deployment_id;
        let ended = self.callers.ended(&id).await.context("a push")?;
        self.done.marks.insert(ended.release_id, mark.to_owned());
        self.done.accepted.push(id);
        Ok(())
    }
}

/// Nobody writes down a delivery as long as the answer is held.
async fn keep_waiting(database: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut tx = database.begin().await?;
    sqlx::query("LOCK TABLE deploy.delivery IN SHARE MODE")
        .execute(&mut *tx)
        .await?;
    Ok(tx)
}

/// Breaks the connection of who waits to write down a delivery; false when nobody did in time.
async fn breaks(database: &PgPool, kept: &mut Transaction<'static, Postgres>) -> bool {
    let ours = sqlx::query_scalar::<_, i32>("SELECT pg_backend_pid()");
    let Ok(ours) = ours.fetch_one(&mut **kept).await else {
        return false;
    };
    let broken = wait_until(NOTED_WITHIN, "somebody writes it down", || async {
        // By another connection: what one sees of others stays the same until its transaction ends.
        let broken = sqlx::query_scalar::<_, bool>(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE $1 = ANY (pg_blocking_pids(pid)) AND query LIKE 'INSERT INTO delivery%' LIMIT 1",
        );
        match broken.bind(ours).fetch_optional(database).await {
            Ok(Some(true)) => Ok(()),
            _ => Err("nobody waits".to_owned()),
        }
    });
    broken.await.is_ok()
}
