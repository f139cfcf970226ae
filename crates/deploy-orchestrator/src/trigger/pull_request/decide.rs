//! What becomes of a pull request's delivery: its preview is made, pushed to, opened again or closed,
//! each site by itself, in a transaction that holds the pull request and the preview's lane. One that finds
//! that the files of the pull request decide ends without a trace; GitHub is asked, and it is decided anew.

use candlefish_clock::Moment;
use candlefish_ids::{EnvironmentId, SiteId};

use super::{
    super::{
        Delivery, Error,
        decide::{Carried, Found, Judged, actor, made_of, of_commit, there_already},
        note,
        outcome::{Outcome, Reason},
        store::{self as triggers, SiteOf},
    },
    files::{self, Changed, Counts},
    judge::{Follows, judge},
    read::{Action, PullRequest},
    seen,
    store::{self, Place},
    unanswered,
};
use crate::{
    ctx::{Ctx, Tx},
    deployment::event::SYSTEM,
    github::GitHub,
    lane::{self, store::Lane},
    preview,
    site::{self, Environment, previews::From},
};

/// Decides it at every site of its repository. One of a repository that no site has is ignored, as a push
/// is; what GitHub only lists leaves nothing then.
pub(in crate::trigger) async fn decide(
    ctx: &Ctx,
    github: Option<&GitHub>,
    delivery: &Delivery,
    told: &PullRequest,
) -> Result<(), Error> {
    let mut conn = ctx.pool.acquire().await?;
    let sites = triggers::list_sites(&mut conn, &told.repository).await?;
    drop(conn);
    if sites.is_empty() {
        if matches!(told.action, Action::Seen { .. }) {
            return Ok(());
        }
        let words = note::no_site(&told.repository);
        let outcome = Outcome::Ignored(Reason::UnknownRepository, None);
        return note::of_site(ctx, delivery, &told.about(), None, (outcome, words)).await;
    }
    let mut changed = github.map_or(Changed::Unknown, |_github| Changed::NotAsked);
    // A site where it cannot be decided keeps no other.
    let mut all = Ok(());
    for site in sites {
        let done = if let Action::Other(word) = &told.action {
            let words = format!(
                "pull request {} was {}: that changes no content",
                told.number,
                word.replace('_', " ")
            );
            let outcome = Outcome::Ignored(Reason::NotActedOn, None);
            let about = told.about();
            note::of_site(ctx, delivery, &about, Some(site.id), (outcome, words)).await
        } else {
            of_site(ctx, github, delivery, told, &site, &mut changed).await
        };
        all = all.and(done);
    }
    all
}

/// What becomes of it at a site.
enum Became {
    /// Nothing in any environment.
    Nothing(Reason, String),
    /// Something in the preview, which is there and whose lane is locked.
    Something,
    /// Not decided: what the pull request changes decides, and nobody asked for it.
    Undecided,
}

async fn of_site(
    ctx: &Ctx,
    github: Option<&GitHub>,
    delivery: &Delivery,
    told: &PullRequest,
    site: &SiteOf,
    changed: &mut Changed,
) -> Result<(), Error> {
    let is_decided = at_site(ctx, delivery, told, site, changed).await?;
    if let (false, Some(github)) = (is_decided, github) {
        // No transaction is open, and no lane is locked.
        *changed = Changed::ask(github, told).await;
        at_site(ctx, delivery, told, site, changed).await?;
    }
    Ok(())
}

/// Decides it with what is known of its files; answers whether that was enough.
async fn at_site(
    ctx: &Ctx,
    delivery: &Delivery,
    told: &PullRequest,
    site: &SiteOf,
    changed: &Changed,
) -> Result<bool, Error> {
    let mut tx = ctx.begin().await?;
    // Before the lane, and by nobody who holds one.
    store::lock(&mut tx, site.id, told.number).await?;
    tx.read_clock().await?;
    if store::is_decided(&mut tx, delivery.id, site.id).await? {
        return Ok(true);
    }
    let known = store::find(&mut tx, site.id, told).await?;
    if !seen::is_news(known.as_ref(), told) {
        return Ok(true);
    }
    let number = told.number;
    let became = match judge(known.as_ref(), told) {
        Follows::Older => {
            let known = known.as_ref().map(|one| short(&one.head));
            let words = format!(
                "something newer was told of pull request {number}, which is at {}",
                known.unwrap_or_default()
            );
            Became::Nothing(Reason::Older, words)
        }
        Follows::IsClosed => {
            let words = format!("pull request {number} is closed");
            Became::Nothing(Reason::Closed, words)
        }
        Follows::Close => close(ctx, &mut tx, delivery, told, site.id).await?,
        Follows::Open { again } => {
            let opening = Opening {
                delivery,
                told,
                site,
                changed,
                again: again || known.is_none() || told.action == Action::Reopened,
            };
            opening.decide(ctx, &mut tx).await?
        }
    };
    match became {
        Became::Nothing(reason, words) => {
            ignore(&mut tx, delivery, told, site.id, (reason, &words)).await?;
        }
        Became::Something => {}
        Became::Undecided => {
            tx.abandon().await?;
            return Ok(false);
        }
    }
    ctx.commit(tx).await.map_err(Error::commit)?;
    Ok(true)
}

/// Writes down that it comes to nothing in any environment.
async fn ignore(
    tx: &mut Tx,
    delivery: &Delivery,
    told: &PullRequest,
    site: SiteId,
    (reason, message): (Reason, &str),
) -> Result<(), Error> {
    let now = tx.now();
    let written = note::Written {
        about: &told.about(),
        place: triggers::Place {
            site: Some(site),
            environment: None,
        },
        named: "",
        outcome: &Outcome::Ignored(reason, None),
        message,
        content_until: None,
    };
    written.insert(tx, now, delivery).await
}

/// The pull request was closed: so is its preview.
async fn close(
    ctx: &Ctx,
    tx: &mut Tx,
    delivery: &Delivery,
    told: &PullRequest,
    site: SiteId,
) -> Result<Became, Error> {
    store::save(tx, site, told, None).await?;
    let number = told.number;
    let how = if told.merged { "merged" } else { "closed" };
    let reason = format!("pull request {number} was {how}");
    let place = store::find_place(tx, site, &preview::slug(number), number).await?;
    let Some(place) = place.filter(|place| place.is_ours) else {
        let words = format!("{reason}; it has no preview");
        return Ok(Became::Nothing(Reason::Closed, words));
    };
    let mut lane = lane::store::lock(tx, place.id).await?;
    let environment = load(tx, place.id).await?;
    let (outcome, words) = if lane.closed {
        let words = format!("{reason}; {} was closed before", environment.place());
        (Outcome::Ignored(Reason::Closed, None), words)
    } else {
        let by = actor(&told.sender);
        preview::close::close(ctx, tx, &mut lane, &by, &reason).await?;
        (Outcome::Closed, reason)
    };
    let judged = Judged::Known(outcome, words);
    let of = (delivery, told, &environment);
    let why = format!("pull request {number}");
    carry_out(ctx, tx, &mut lane, of, (judged, &why, None)).await?;
    Ok(Became::Something)
}

/// A pull request that is open, at a head.
struct Opening<'a> {
    delivery: &'a Delivery,
    told: &'a PullRequest,
    site: &'a SiteOf,
    changed: &'a Changed,
    /// It was opened once more: a closed preview opens as well, whoever closed it.
    again: bool,
}

impl Opening<'_> {
    async fn decide(mut self, ctx: &Ctx, tx: &mut Tx) -> Result<Became, Error> {
        let (told, site) = (self.told, self.site);
        if let Some((reason, words)) = self.outside(store::find_rule(tx, site.id).await?) {
            // What it is at is known all the same: the rule may change.
            store::save(tx, site.id, told, None).await?;
            return Ok(Became::Nothing(reason, words));
        }
        let slug = preview::slug(told.number);
        let place = store::find_place(tx, site.id, &slug, told.number).await?;
        if place.as_ref().is_some_and(|place| !place.is_ours) {
            store::save(tx, site.id, told, None).await?;
            let words = format!(
                "{}/{slug} is an environment of its own: pull request {} has no preview",
                site.slug, told.number
            );
            return Ok(Became::Nothing(Reason::SlugTaken, words));
        }
        let counts = self.counts(tx, place.as_ref()).await?;
        if counts == Counts::NotAsked {
            return Ok(Became::Undecided);
        }
        let id = match (place, &counts) {
            (Some(place), _) => place.id,
            (None, Counts::No(words)) => {
                store::save(tx, site.id, told, None).await?;
                return Ok(Became::Nothing(Reason::Paths, words.clone()));
            }
            (None, _) => preview::make(ctx, tx, site.id, told.number, &actor(&told.sender)).await?,
        };
        store::save(tx, site.id, told, Some(id)).await?;
        let owed_until = unanswered::note(ctx, tx, site.id, told, &counts).await?;
        let mut lane = lane::store::lock(tx, id).await?;
        let judged = if let Counts::No(words) = counts {
            Judged::Known(Outcome::Ignored(Reason::Paths, None), words)
        } else {
            self.judged(ctx, tx, &mut lane).await?
        };
        let environment = load(tx, id).await?;
        let unsaid = if owed_until.is_some() {
            "; GitHub could not say which files it changes"
        } else {
            ""
        };
        let why = format!("pull request {}{unsaid}", told.number);
        let of = (self.delivery, told, &environment);
        carry_out(ctx, tx, &mut lane, of, (judged, &why, owed_until)).await?;
        Ok(Became::Something)
    }

    /// Why the rule of the site passes over it.
    fn outside(&self, rule: From) -> Option<(Reason, String)> {
        let slug = &self.site.slug;
        match rule {
            From::Forks => None,
            From::Repository if !self.told.is_fork => None,
            From::Repository => {
                let words = format!(
                    "its branch is in a fork, and {slug} gives no previews to those; to let them: \
                     candlefish sites update {slug} --previews forks"
                );
                Some((Reason::Fork, words))
            }
            From::Off => {
                let words = format!(
                    "{slug} gives pull requests no previews; to let it: candlefish sites update \
                     {slug} --previews repository"
                );
                Some((Reason::PreviewsOff, words))
            }
        }
    }

    /// Whether its files count, where a preview would open: one that is open follows whatever is pushed.
    async fn counts(&mut self, tx: &mut Tx, place: Option<&Place>) -> Result<Counts, Error> {
        if let Some(place) = place {
            let Some(by) = &place.closed_by else {
                return Ok(Counts::Anyway);
            };
            if !self.again && by != SYSTEM {
                // When it was opened once more its files did not count; that they do now opens it.
                self.again = store::is_passed_over(tx, place.id).await?;
            }
            if !self.again && by != SYSTEM {
                return Ok(Counts::Anyway);
            }
        }
        let (told, site) = (self.told, self.site);
        let rules = store::list_rules(tx, site.id, &told.base).await?;
        Ok(files::count(told.number, &site.slug, &rules, self.changed))
    }

    async fn judged(&self, ctx: &Ctx, tx: &mut Tx, lane: &mut Lane) -> Result<Judged, Error> {
        let told = self.told;
        let before = load(tx, lane.environment_id).await?;
        let mut anew = false;
        if let Some(closed) = &before.closed {
            // What had its age goes on with the next push; what a person closed does not.
            if !self.again && closed.by != SYSTEM {
                let words = format!(
                    "{} was closed by {}: {}; it opens again when the pull request is reopened",
                    before.place(),
                    closed.by,
                    closed.reason
                );
                let outcome = Outcome::Ignored(Reason::Closed, None);
                return Ok(Judged::Known(outcome, words));
            }
            let reason = if self.again {
                format!("pull request {} was reopened", told.number)
            } else {
                format!("pull request {} was pushed to", told.number)
            };
            preview::reopen(ctx, tx, lane, &actor(&told.sender), &reason).await?;
            anew = true;
        }
        let now = tx.now();
        preview::save_pushed(tx, now, lane.environment_id).await?;
        if !anew && let Some(same) = store::find_same_head(tx, before.id, &told.head).await? {
            let words = format!("its head, {}, is known already", short(&told.head));
            return Ok(Judged::Known(
                Outcome::Ignored(Reason::Duplicate, Some(same)),
                words,
            ));
        }
        let push = told.push();
        let release = match of_commit(tx, &before, &push).await? {
            Found::Rejected(judged) => return Ok(judged),
            Found::Release(release) => release,
        };
        // What ended when the preview was closed is not joined again, nor is what is live while another
        // head is on its way: that one would take its place.
        let live = before.live.as_ref().and_then(|live| live.deployment_id);
        let gives_way =
            |there| Some(there) == live && before.acting.is_some_and(|one| one != there);
        if !anew
            && let Some(there) = triggers::find_joinable(tx, &before, &told.head).await?
            && !gives_way(there)
        {
            return Ok(there_already(there));
        }
        made_of(tx, &before, &push, release).await
    }
}

/// Writes the decision down for the preview, and follows it.
async fn carry_out(
    ctx: &Ctx,
    tx: &mut Tx,
    lane: &mut Lane,
    (delivery, told, environment): (&Delivery, &PullRequest, &Environment),
    (judged, why, owed_until): (Judged, &str, Option<Moment>),
) -> Result<(), Error> {
    let carried = Carried {
        delivery,
        about: &told.about(),
        push: &told.push(),
        environment,
        why,
        owed_until,
    };
    carried.out(ctx, tx, lane, judged).await
}

pub(super) async fn load(tx: &mut Tx, id: EnvironmentId) -> Result<Environment, Error> {
    site::store::load_environment(tx, id)
        .await
        .map_err(Error::Site)
}

fn short(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}
