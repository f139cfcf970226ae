//! What becomes of a push: one trigger for each site environment that it could concern, each in a
//! transaction that holds the environment's lane.

use candlefish_clock::Moment;
use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId, SiteId, TriggerId};

use super::{
    Delivery, Error, head,
    outcome::{Outcome, Reason},
    push::{Push, Target},
    store::{self, New, Place, SiteOf},
};
use crate::{
    ctx::{Ctx, Tx},
    deployment, lane,
    release::expected::{self, Expected},
    site::{self, Environment},
};

/// Decides a push everywhere. What is decided already stays as it is.
pub(super) async fn decide(ctx: &Ctx, delivery: &Delivery, push: &Push) -> Result<(), Error> {
    let mut conn = ctx.pool.acquire().await?;
    let sites = store::list_sites(&mut conn, &push.repository).await?;
    drop(conn);
    if sites.is_empty() {
        let words = format!("no site has the repository {}", push.repository);
        let outcome = Outcome::Ignored(Reason::UnknownRepository, None);
        return note(ctx, delivery, push, None, (outcome, words)).await;
    }
    for site in sites {
        of_site(ctx, delivery, push, &site).await?;
    }
    Ok(())
}

async fn of_site(ctx: &Ctx, delivery: &Delivery, push: &Push, site: &SiteOf) -> Result<(), Error> {
    let mut conn = ctx.pool.acquire().await?;
    let environments = store::list_taking_pushes(&mut conn, site.id).await?;
    drop(conn);
    let whole = match &push.target {
        Target::Other(name) => Some((Reason::NotABranch, format!("{name} is no branch"))),
        Target::Branch(name) if push.after.is_empty() => {
            Some((Reason::Deleted, format!("{name} was deleted")))
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
        return note(ctx, delivery, push, Some(site.id), (outcome, words)).await;
    }
    for environment in environments {
        of_environment(ctx, delivery, push, environment).await?;
    }
    Ok(())
}

/// Writes what concerns no environment.
async fn note(
    ctx: &Ctx,
    delivery: &Delivery,
    push: &Push,
    site: Option<SiteId>,
    (outcome, message): (Outcome, String),
) -> Result<(), Error> {
    let mut tx = ctx.begin().await?;
    let now = tx.read_clock().await?;
    let place = Place {
        site,
        environment: None,
    };
    if !store::is_decided(&mut tx, delivery.id, place).await? {
        tell(delivery, push, "", &outcome, &message);
        insert(
            &mut tx,
            now,
            delivery,
            push,
            place,
            (&outcome, &message),
            None,
        )
        .await?;
    }
    ctx.commit(tx).await.map_err(Error::commit)
}

/// Decides it in one environment.
pub(super) async fn of_environment(
    ctx: &Ctx,
    delivery: &Delivery,
    push: &Push,
    id: EnvironmentId,
) -> Result<(), Error> {
    let mut tx = ctx.begin().await?;
    let mut lane = lane::store::lock(&mut tx, id).await?;
    let now = tx.now();
    let environment = site::store::load_environment(&mut tx, id)
        .await
        .map_err(Error::Site)?;
    let place = Place {
        site: Some(environment.site_id),
        environment: Some(id),
    };
    if store::is_decided(&mut tx, delivery.id, place).await? {
        return Ok(());
    }
    if delivery.event == head::EVENT && !head::is_news(&mut tx, id, push).await? {
        return Ok(());
    }
    // Under the lane's lock: of two pushes that are decided at the same moment the later one sees
    // what the other told of history.
    store::save_ancestry(&mut tx, environment.site_id, push).await?;
    let judged = judge(&mut tx, &environment, push).await?;
    let (outcome, message, content_until) = match &judged {
        Judged::Known(outcome, message) => (outcome.clone(), message.clone(), None),
        Judged::New { sealed, .. } => {
            let until = now.plus(environment.policy.content_deadline);
            let outcome = Outcome::Created(DeploymentId::new());
            (outcome, String::new(), (!sealed).then_some(until))
        }
    };
    tell(delivery, push, &environment.place(), &outcome, &message);
    let told = (&outcome, message.as_str());
    insert(&mut tx, now, delivery, push, place, told, content_until).await?;
    if let (Judged::New { release, .. }, Some(id)) = (judged, outcome.deployment()) {
        let accept = deployment::push::Accept {
            id,
            environment: &environment,
            release,
            actor: &actor(push),
            reason: &format!("pushed to {}", push.branch()),
        };
        deployment::push::accept(ctx, &mut tx, &mut lane, accept).await?;
    }
    ctx.commit(tx).await.map_err(Error::commit)
}

/// What is said of a push in one environment.
enum Judged {
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
        let words = "another delivery told of this push before".to_owned();
        return Ok(Judged::Known(
            Outcome::Ignored(Reason::Duplicate, first),
            words,
        ));
    }
    expected::lock(tx, environment.site_id, &push.after).await?;
    let release = expected::find(tx, environment.site_id, environment.id, &push.after).await?;
    if let Some(ban) = release.as_ref().and_then(|one| one.ban.as_ref()) {
        let words = format!("its release is banned {}", ban.words());
        let outcome = Outcome::Ignored(Reason::BannedRelease, None);
        return Ok(Judged::Known(outcome, words));
    }
    if let Some(rejected) = release.as_ref().and_then(|one| one.rejected.as_ref()) {
        let words = format!("{} rejected its release: {rejected}", environment.place());
        let outcome = Outcome::Ignored(Reason::RejectedRelease, None);
        return Ok(Judged::Known(outcome, words));
    }
    if let Some(there) = store::find_joinable(tx, environment, &push.after).await? {
        let words = "its deployment was there already".to_owned();
        return Ok(Judged::Known(Outcome::Created(there), words));
    }
    if let Some(newer) = find_newer(tx, environment, &push.after).await? {
        let words = format!("{newer} has a newer commit; to go back, roll back");
        return Ok(Judged::Known(Outcome::Superseded(newer), words));
    }
    let (release, sealed) = match release {
        Some(one) => (one.id, one.sealed),
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
        let is_newer = pairs.contains(&(other, commit.to_owned()));
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
        by: &actor(push),
    };
    Ok(expected::insert(tx, now, &new).await?)
}

async fn insert(
    tx: &mut Tx,
    now: Moment,
    delivery: &Delivery,
    push: &Push,
    place: Place,
    (outcome, message): (&Outcome, &str),
    content_until: Option<Moment>,
) -> Result<(), Error> {
    // What was there already came by a call of its own.
    let there_already = matches!(outcome, Outcome::Created(_)) && !message.is_empty();
    let new = New {
        id: TriggerId::new(),
        delivery,
        push,
        place,
        outcome,
        message,
        content_until,
        joined: there_already,
        swept: delivery.event == head::EVENT,
    };
    Ok(store::insert(tx, now, &new).await?)
}

/// The one line about a decision.
fn tell(delivery: &Delivery, push: &Push, place: &str, outcome: &Outcome, message: &str) {
    tracing::info!(
        delivery.id = %delivery.id, repository = push.repository, branch = push.branch(),
        commit = push.after, place, outcome = outcome.word(), reason = outcome.reason(),
        "a push is decided: {message}"
    );
}

/// Who pushed, as records name it.
fn actor(push: &Push) -> String {
    if push.sender.is_empty() {
        "github".to_owned()
    } else {
        format!("github:{}", push.sender)
    }
}
