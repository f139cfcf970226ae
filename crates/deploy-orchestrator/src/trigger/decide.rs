//! What becomes of a push: one trigger for each site environment that it could concern, each in a
//! transaction that holds the environment's lane.

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId};

use super::{
    About, Delivery, Error, gone, head, note,
    outcome::{Outcome, Reason},
    push::{Push, Target},
    store::{self, Place, SiteOf},
};
use crate::{
    ctx::{Ctx, Tx},
    deployment,
    lane::{self, descents::Descents, order::Ancestry as _, store::Lane},
    release::expected::{self, Expected, OfCommit},
    site::{self, Environment, policy::Order},
};

/// Decides a push everywhere. What is decided already stays as it is; where it cannot be decided keeps
/// no other place, and the first such failure is answered.
pub(super) async fn decide(ctx: &Ctx, delivery: &Delivery, push: &Push) -> Result<(), Error> {
    let mut conn = ctx.pool.acquire().await?;
    let sites = store::list_sites(&mut conn, &push.repository).await?;
    drop(conn);
    if sites.is_empty() {
        let words = note::no_site(&push.repository);
        let outcome = Outcome::Ignored(Reason::UnknownRepository, None);
        return note::of_site(ctx, delivery, &push.about(), None, (outcome, words)).await;
    }
    let mut all = Ok(());
    for site in sites {
        all = all.and(of_site(ctx, delivery, push, &site).await);
    }
    all
}

async fn of_site(ctx: &Ctx, delivery: &Delivery, push: &Push, site: &SiteOf) -> Result<(), Error> {
    let mut conn = ctx.pool.acquire().await?;
    let environments = store::list_taking_pushes(&mut conn, site.id).await?;
    drop(conn);
    let whole = match &push.target {
        Target::Other(name) => Some((Reason::NotABranch, format!("{name} is no branch"))),
        Target::Branch(name) if push.after.is_empty() => {
            let words = format!("{name} was deleted; what waits and what is live stay");
            return gone::of_site(ctx, delivery, &push.about(), site, &words).await;
        }
        Target::Branch(_) if environments.is_empty() => {
            let slug = &site.slug;
            let words = format!(
                "no environment of {slug} takes pushes; let one: candlefish env pushes \
                 {slug}/ENV --branch {}",
                push.branch()
            );
            Some((Reason::NoRule, words))
        }
        Target::Branch(_) => None,
    };
    if let Some((reason, words)) = whole {
        let outcome = Outcome::Ignored(reason, None);
        return note::of_site(
            ctx,
            delivery,
            &push.about(),
            Some(site.id),
            (outcome, words),
        )
        .await;
    }
    let mut all = Ok(());
    for environment in environments {
        let decided = of_environment(ctx, delivery, push, environment).await;
        let decided = decided.map(|_is_news| ());
        all = all.and(decided);
    }
    all
}

/// Decides it in one environment; false when it is a look that is no news there.
pub(super) async fn of_environment(
    ctx: &Ctx,
    delivery: &Delivery,
    push: &Push,
    id: EnvironmentId,
) -> Result<bool, Error> {
    let mut tx = ctx.begin().await?;
    let mut lane = lane::store::lock(&mut tx, id).await?;
    let environment = site::store::load_environment(&mut tx, id)
        .await
        .map_err(Error::Site)?;
    let place = Place {
        site: Some(environment.site_id),
        environment: Some(id),
    };
    if store::is_decided(&mut tx, delivery.id, place).await? {
        return Ok(true);
    }
    let news;
    let push = if delivery.event == head::EVENT {
        let Some(dated) = head::news(&mut tx, id, push).await? else {
            return Ok(false);
        };
        news = dated;
        &news
    } else {
        push
    };
    // Whoever uploads the commit holds it while they write what they know of its history: as they do, the
    // commit first, so that the two never wait for each other.
    expected::lock(&mut tx, environment.site_id, &push.after).await?;
    // Under the lane's lock: of two pushes that are decided at the same moment the later one sees
    // what the other told of history.
    store::save_ancestry(&mut tx, environment.site_id, push).await?;
    let judged = judge(&mut tx, &environment, push).await?;
    let carried = Carried {
        delivery,
        about: &push.about(),
        push,
        environment: &environment,
        why: &format!("pushed to {}", push.branch()),
        owed_until: None,
    };
    carried.out(ctx, &mut tx, &mut lane, judged).await?;
    ctx.commit(tx).await.map_err(Error::commit)?;
    Ok(true)
}

/// A decision that is written down and followed.
pub(super) struct Carried<'a> {
    pub(super) delivery: &'a Delivery,
    pub(super) about: &'a About,
    pub(super) push: &'a Push,
    pub(super) environment: &'a Environment,
    /// Of its deployment.
    pub(super) why: &'a str,
    /// Until then somebody may say that nobody is to bring the content: its deadline begins then.
    pub(super) owed_until: Option<Moment>,
}

impl Carried<'_> {
    /// Writes the trigger, and makes the deployment where there is one to make. The lane is locked.
    pub(super) async fn out(
        &self,
        ctx: &Ctx,
        tx: &mut Tx,
        lane: &mut Lane,
        judged: Judged,
    ) -> Result<(), Error> {
        let now = tx.now();
        let environment = self.environment;
        let (outcome, message, content_until) = match &judged {
            Judged::Known(outcome, message) => (outcome.clone(), message.clone(), None),
            Judged::New { sealed, .. } => {
                let from = self.owed_until.map_or(now, |owed| owed.max(now));
                let until = from.plus(environment.policy.content_deadline);
                let outcome = Outcome::Created(DeploymentId::new());
                (outcome, String::new(), (!sealed).then_some(until))
            }
        };
        let written = note::Written {
            about: self.about,
            place: Place {
                site: Some(environment.site_id),
                environment: Some(environment.id),
            },
            named: &environment.place(),
            outcome: &outcome,
            message: &message,
            content_until,
        };
        written.insert(tx, now, self.delivery).await?;
        if let (Judged::New { release, .. }, Some(id)) = (judged, outcome.deployment()) {
            let accept = deployment::push::Accept {
                id,
                environment,
                release,
                actor: &actor(&self.push.sender),
                reason: self.why,
                parent: &self.delivery.traceparent,
            };
            deployment::push::accept(ctx, tx, lane, accept).await?;
        }
        Ok(())
    }
}

/// What is said of a push in one environment.
pub(super) enum Judged {
    Known(Outcome, String),
    /// It becomes a deployment of this release.
    New {
        release: ReleaseId,
        /// Its content is there.
        sealed: bool,
    },
}

async fn judge(tx: &mut Tx, environment: &Environment, push: &Push) -> Result<Judged, Error> {
    if let Some((reason, words)) = outside(environment, push) {
        return Ok(Judged::Known(Outcome::Ignored(reason, None), words));
    }
    if let Some(first) = store::find_same_push(tx, environment.id, push).await? {
        // Not that it came after the look: it may have come before, and been put off.
        let words = if first.swept {
            "Candlefish had already found this push at GitHub"
        } else {
            "another delivery told of this push before"
        };
        return Ok(Judged::Known(
            Outcome::Ignored(Reason::Duplicate, first.deployment),
            words.to_owned(),
        ));
    }
    let release = match of_commit(tx, environment, push).await? {
        Found::Rejected(judged) => return Ok(judged),
        Found::Release(release) => release,
    };
    let there = store::find_joinable(tx, environment, &push.after).await?;
    let live = environment.live.as_ref();
    let live = live.and_then(|live| live.deployment_id);
    // What is live may be about to give way.
    if let Some(there) = there.filter(|there| Some(*there) != live) {
        return Ok(there_already(there));
    }
    if let Some(newer) = find_newer(tx, environment, &push.after).await? {
        let words = format!("{newer} has a newer commit; to go back, roll back");
        return Ok(Judged::Known(Outcome::Superseded(newer), words));
    }
    // What is live while another acts may be put back to, and is another deployment then.
    let gives_way = environment
        .acting
        .is_some_and(|acting| Some(acting) != there);
    if let Some(there) = there.filter(|_| !gives_way) {
        return Ok(there_already(there));
    }
    if let Some(later) = moved_on(tx, environment, push).await? {
        let words = format!(
            "{} was pushed elsewhere after it: {later} is what was pushed last",
            push.branch()
        );
        return Ok(Judged::Known(Outcome::Superseded(later), words));
    }
    made_of(tx, environment, push, release).await
}

/// The deployment of what the branch was pushed to after this, where nothing is known to relate the
/// two: this delivery is late, and history may have been rewritten. Of related ones the lane knows the
/// order. In a queue this one has its turn yet as long as the other waits.
async fn moved_on(
    tx: &mut Tx,
    environment: &Environment,
    push: &Push,
) -> Result<Option<DeploymentId>, Error> {
    let later = store::find_later_push(tx, environment.id, push).await?;
    let is_queue = environment.policy.order == Order::Queue;
    let Some(later) = later.filter(|later| !(is_queue && later.waits)) else {
        return Ok(None);
    };
    let related = lane::store::Related {
        site: environment.site_id,
        commits: vec![push.after.clone(), later.commit],
    };
    let pairs = lane::store::list_descents(tx, &[related]).await?;
    let unrelated = pairs.iter().all(Descents::is_empty);
    Ok(unrelated.then_some(later.deployment))
}

/// The release of a commit, when it may be deployed.
pub(super) enum Found {
    Rejected(Judged),
    /// None when nobody ever began it.
    Release(Option<OfCommit>),
}

/// Looks for the release of a push's commit, and holds the commit until the transaction ends.
pub(super) async fn of_commit(
    tx: &mut Tx,
    environment: &Environment,
    push: &Push,
) -> Result<Found, Error> {
    expected::lock(tx, environment.site_id, &push.after).await?;
    let release = expected::find(tx, environment.site_id, environment.id, &push.after).await?;
    if let Some(ban) = release.as_ref().and_then(|one| one.ban.as_ref()) {
        let words = format!("its release is banned {}", ban.words());
        let outcome = Outcome::Ignored(Reason::BannedRelease, None);
        return Ok(Found::Rejected(Judged::Known(outcome, words)));
    }
    if let Some(rejected) = release.as_ref().and_then(|one| one.rejected.as_ref()) {
        let words = format!("{} rejected its release: {rejected}", environment.place());
        let outcome = Outcome::Ignored(Reason::RejectedRelease, None);
        return Ok(Found::Rejected(Judged::Known(outcome, words)));
    }
    Ok(Found::Release(release))
}

/// An upload made the deployment before.
pub(super) fn there_already(deployment: DeploymentId) -> Judged {
    let words = "its deployment was there already".to_owned();
    Judged::Known(Outcome::Created(deployment), words)
}

/// A deployment of the release, which is expected from now on when there is none.
pub(super) async fn made_of(
    tx: &mut Tx,
    environment: &Environment,
    push: &Push,
    release: Option<OfCommit>,
) -> Result<Judged, Error> {
    let there = release.and_then(|one| Some((one.id?, one.sealed)));
    let (release, sealed) = match there {
        Some(there) => there,
        None => (expect(tx, environment, push).await?, false),
    };
    Ok(Judged::New { release, sealed })
}

/// Why the rule of an environment passes over a push.
fn outside(environment: &Environment, push: &Push) -> Option<(Reason, String)> {
    let rule = &environment.pushes;
    let place = environment.place();
    if rule.branch != push.branch() {
        let words = format!(
            "{place} takes pushes to {}, not to {}",
            rule.branch,
            push.branch()
        );
        return Some((Reason::Branch, words));
    }
    // What GitHub does not list whole may have changed anything.
    if push.changed().is_some_and(|files| !rule.counts(&files)) {
        let words = format!(
            "it changes nothing that counts for {place}: {}",
            rule.paths.join(", ")
        );
        return Some((Reason::Paths, words));
    }
    None
}

/// What is live, acting or ready here and descends from the commit.
async fn find_newer(
    tx: &mut Tx,
    environment: &Environment,
    commit: &str,
) -> Result<Option<DeploymentId>, Error> {
    let live = lane::store::find_live(tx, environment.id).await?;
    let mut lanes = lane::store::list_contenders(tx, &[environment.id]).await?;
    let lane::store::Contenders { pending, acting } =
        lanes.remove(&environment.id).unwrap_or_default();
    let live = live.and_then(|live| Some((live.deployment_id?, live.commit)));
    let acting = acting
        .filter(|one| !one.cancelling)
        .map(|one| (one.contender.id, one.contender.commit));
    let ready = pending.into_iter().filter(|one| one.sealed);
    let others: Vec<(DeploymentId, String)> = live
        .into_iter()
        .chain(acting)
        .chain(ready.map(|one| (one.id, one.commit)))
        .filter(|(_, other)| !other.is_empty() && other != commit)
        .collect();
    let mut commits: Vec<String> = others.iter().map(|(_, other)| other.clone()).collect();
    commits.push(commit.to_owned());
    let related = lane::store::Related {
        site: environment.site_id,
        commits,
    };
    let pairs = lane::store::list_descents(tx, &[related]).await?;
    let pairs = pairs.into_iter().next().unwrap_or_default();
    Ok(others.into_iter().find_map(|(id, other)| {
        let is_newer = pairs.descends(&other, commit);
        is_newer.then_some(id)
    }))
}

/// The release of the commit, of which nothing is known but what the push says.
async fn expect(tx: &mut Tx, environment: &Environment, push: &Push) -> Result<ReleaseId, Error> {
    let now = tx.now();
    let head = &push.head;
    let new = Expected {
        site: environment.site_id,
        commit: &push.after,
        branch: push.branch(),
        message: &head.message,
        author: &head.author,
        author_email: &head.author_email,
        committed_at: head.committed_at,
        by: &actor(&push.sender),
    };
    Ok(expected::insert(tx, now, &new).await?)
}

/// Who pushed, as records name it.
pub(super) fn actor(sender: &str) -> String {
    if sender.is_empty() {
        "github".to_owned()
    } else {
        format!("github:{sender}")
    }
}
