//! `env`: where sites run, and how deployments go there.

use candlefish_proto::deploy::{
    CloseEnvironmentRequest, CreateEnvironmentRequest, Environment, ListEnvironmentsRequest,
    ListEnvironmentsResponse, Policy, PushRule, UpdateEnvironmentRequest, policy,
};
use clap::{Subcommand, ValueEnum};
use jiff::SignedDuration;

use super::{
    dry::Dry,
    strategy::{self, duration, length},
    subject::{self, Place, explained},
    sure::Sure,
};
use crate::{
    api::Api,
    app::App,
    error::{Error, Exit},
    render::{self, would},
};

/// Options of `env`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  candlefish env list docs
  candlefish env show docs/production
  candlefish env create docs/staging --strategy recreate
  candlefish env create docs/production --branch main --path docs/ --path '!docs/drafts/'
  candlefish env pushes docs/production --branch main
  candlefish env pushes docs/production --branch main --dry-run    only says what would happen
  candlefish env close docs/pr-12 --reason \"not needed any more\"
  candlefish env policy docs/production --strategy canary --weights 10,50 --interval 30s --bake 10m")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the environments of a site
    #[command(before_help = "\
Examples:
  candlefish env list docs
  candlefish env list docs --previews")]
    List {
        /// The site
        site: String,
        /// Previews too
        #[arg(long)]
        previews: bool,
    },
    /// Show what is live, held, acting and pending
    #[command(before_help = "\
Examples:
  candlefish env show docs/production")]
    Show {
        /// SITE/ENV
        place: Place,
    },
    /// Make an environment
    #[command(before_help = "\
Examples:
  candlefish env create docs/staging --strategy recreate
  candlefish env create docs/production --branch main --path docs/ --path '!docs/drafts/'")]
    Create {
        /// SITE/ENV
        place: Place,
        /// A host name of its own; may be given again
        #[arg(long = "host", value_name = "NAME")]
        hosts: Vec<String>,
        #[command(flatten)]
        pushes: RuleOptions,
        #[command(flatten)]
        changes: Box<Changes>,
        #[command(flatten)]
        dry: Dry,
    },
    /// Show which pushes deploy by themselves, or change it
    #[command(before_help = "\
Examples:
  candlefish env pushes docs/production
  candlefish env pushes docs/production --branch main
  candlefish env pushes docs/production --none")]
    Pushes {
        /// SITE/ENV
        place: Place,
        #[command(flatten)]
        pushes: RuleOptions,
        /// Let every changed file count again; without it and --path, the patterns stay as they are
        #[arg(long, requires = "branch", conflicts_with = "paths")]
        all_paths: bool,
        /// Let no push deploy by itself any more
        #[arg(long, conflicts_with_all = ["branch", "paths", "all_paths"])]
        none: bool,
        #[command(flatten)]
        dry: Dry,
    },
    /// Close a preview: nothing is reachable there any more, and nothing deploys there
    #[command(before_help = "\
Examples:
  candlefish env close docs/pr-12 --reason \"not needed any more\"
  candlefish env close docs/pr-12 --reason \"not needed any more\" --dry-run")]
    Close {
        /// SITE/ENV
        place: Place,
        /// Why
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Show how deployments go, or change it; what is not named stays as it is
    #[command(before_help = "\
Examples:
  candlefish env policy docs/production
  candlefish env policy docs/production --strategy canary --weights 10,50 --interval 30s --bake 10m")]
    Policy {
        /// SITE/ENV
        place: Place,
        #[command(flatten)]
        changes: Box<Changes>,
        #[command(flatten)]
        dry: Dry,
    },
}

#[cfg(test)]
impl Args {
    /// The options of a strategy, where the command takes them.
    pub(crate) fn strategy(self) -> Option<strategy::Options> {
        match self.command {
            Command::Create { changes, .. } | Command::Policy { changes, .. } => {
                Some(changes.strategy)
            }
            Command::List { .. }
            | Command::Show { .. }
            | Command::Pushes { .. }
            | Command::Close { .. } => None,
        }
    }
}

/// Which pushes deploy by themselves.
#[derive(Debug, Clone, Default, clap::Args)]
struct RuleOptions {
    /// The branch whose pushes deploy here by themselves
    #[arg(long)]
    branch: Option<String>,
    /// Which changed files count: a file or folder, `*`, `**`, `!` leaves out; may be given again
    #[arg(long = "path", value_name = "PATTERN", requires = "branch")]
    paths: Vec<String>,
}

impl RuleOptions {
    /// The rule; `None` when none was named.
    fn rule(self) -> Option<PushRule> {
        let paths = self.paths;
        self.branch.map(|branch| PushRule { branch, paths })
    }
}

/// What a newcomer does to what waits before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Order {
    /// A newer commit supersedes an older one
    Latest,
    /// Each has its turn
    Queue,
}

/// What an analysis does without evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NoEvidence {
    /// Goes on, on our own fetches
    Advance,
    /// Waits for a person
    Wait,
    /// Sends traffic back
    Return,
}

/// What to change of a policy.
#[derive(Debug, Clone, Default, clap::Args)]
struct Changes {
    /// What a newer commit does to an older one that waits
    #[arg(long, value_enum)]
    order: Option<Order>,
    /// How long verification must go on passing
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    settle: Option<SignedDuration>,
    /// How long a deployment may act
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    deadline: Option<SignedDuration>,
    /// What an analysis does after three intervals without evidence
    #[arg(long, value_enum)]
    on_no_evidence: Option<NoEvidence>,
    /// The requests that an interval needs to be judged
    #[arg(long, value_name = "COUNT")]
    min_requests: Option<i32>,
    /// Live edges without which nothing moves but a rollback
    #[arg(long, value_name = "COUNT")]
    min_edges: Option<i32>,
    /// Releases that stay restorable
    #[arg(long, value_name = "COUNT")]
    keep_releases: Option<i32>,
    /// How long a push waits for its content
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    content_deadline: Option<SignedDuration>,
    #[command(flatten)]
    strategy: strategy::Options,
}

impl Changes {
    /// The policy with what was named; `None` when nothing was.
    fn apply(&self, before: Policy) -> Result<Option<Policy>, Error> {
        let mut policy = before.clone();
        if let Some(order) = self.order {
            policy.set_order(match order {
                Order::Latest => policy::Order::Latest,
                Order::Queue => policy::Order::Queue,
            });
        }
        if let Some(on_no_evidence) = self.on_no_evidence {
            policy.set_on_no_evidence(match on_no_evidence {
                NoEvidence::Advance => policy::OnNoEvidence::Advance,
                NoEvidence::Wait => policy::OnNoEvidence::Wait,
                NoEvidence::Return => policy::OnNoEvidence::Return,
            });
        }
        policy.settle = self.settle.map(length).or(policy.settle);
        policy.content_deadline = self
            .content_deadline
            .map(length)
            .or(policy.content_deadline);
        policy.deadline = self.deadline.map(length).or(policy.deadline);
        policy.min_requests = self.min_requests.unwrap_or(policy.min_requests);
        policy.min_edges = self.min_edges.unwrap_or(policy.min_edges);
        policy.keep_releases = self.keep_releases.unwrap_or(policy.keep_releases);
        policy.strategy = self.strategy.strategy()?.or(policy.strategy);
        Ok((policy != before).then_some(policy))
    }
}

/// Lists, shows, makes or changes.
pub(crate) async fn run(app: &App, args: Args) -> Result<Exit, Error> {
    let api = app.api()?;
    let look = app.output.look_out();
    match args.command {
        Command::List { site, previews } => {
            let answer = list(&api, site, previews).await?;
            app.show(&answer, |answer| render::environment::list(answer, &look));
        }
        Command::Show { place } => {
            let answer = subject::environment(&api, &place).await?;
            app.show(&answer, |answer| render::environment::full(answer, &look));
        }
        Command::Create {
            place: Place { site, environment },
            hosts,
            pushes,
            changes,
            dry,
        } => {
            let request = CreateEnvironmentRequest {
                policy: changes.apply(Policy::default())?,
                slug: environment,
                hosts,
                pushes: pushes.rule(),
                site,
            };
            let made = create(&dry.of(&api), request).await?;
            let full = || render::environment::full(&made, &look);
            app.show(&made, |made| dry.says(would::environment_made(made), full));
        }
        Command::Pushes {
            place,
            pushes,
            all_paths,
            none,
            dry,
        } => {
            let (now, acts) = push_rule(&dry.of(&api), place, pushes, all_paths, none).await?;
            let rule = || render::environment::pushes(&now);
            app.show(&now, |now| dry.when(acts).says(would::pushes(now), rule));
        }
        Command::Close {
            place,
            reason,
            sure,
        } => return close(app, &api, place, reason, &sure).await,
        Command::Policy {
            place,
            changes,
            dry,
        } => {
            let (now, acts) = change(&dry.of(&api), place, &changes).await?;
            let policy = now.policy.clone().unwrap_or_default();
            let policy = || render::environment::policy(&policy, &look);
            app.show(&now, |now| dry.when(acts).says(would::policy(now), policy));
        }
    }
    Ok(Exit::Done)
}

async fn list(
    api: &Api,
    site: String,
    include_previews: bool,
) -> Result<ListEnvironmentsResponse, Error> {
    let request = ListEnvironmentsRequest {
        site: site.clone(),
        include_previews,
        ..Default::default()
    };
    explained(api, api.list(request, usize::MAX).await, &site, None).await
}

async fn create(api: &Api, request: CreateEnvironmentRequest) -> Result<Environment, Error> {
    let site = request.site.clone();
    explained(api, api.act(request).await, &site, None).await
}

/// Changes which pushes deploy, if a rule was named; answers whether one was. A rule is written whole, so
/// that what was not named of it is read before.
async fn push_rule(
    api: &Api,
    place: Place,
    named: RuleOptions,
    all_paths: bool,
    none: bool,
) -> Result<(Environment, bool), Error> {
    let now = subject::environment(api, &place).await?;
    let rule = named.rule().or_else(|| none.then(PushRule::default));
    let Some(mut rule) = rule else {
        return Ok((now, false));
    };
    if rule.paths.is_empty() && !all_paths && !none {
        rule.paths = now.pushes.map(|before| before.paths).unwrap_or_default();
    }
    let Place { site, environment } = place;
    let request = UpdateEnvironmentRequest {
        site,
        environment,
        policy: None,
        pushes: Some(rule),
    };
    Ok((api.act(request).await?, true))
}

/// Asks, and closes a preview.
async fn close(
    app: &App,
    api: &Api,
    place: Place,
    reason: String,
    sure: &Sure,
) -> Result<Exit, Error> {
    let before = subject::environment(api, &place).await?;
    let question = render::environment::closes(&before);
    let Place { site, environment } = place;
    let request = CloseEnvironmentRequest {
        site: site.clone(),
        environment: environment.clone(),
        reason,
    };
    let decided = sure.decides(app, api, &question, &request, would::closed);
    if let Some(exit) = decided.await? {
        return Ok(exit);
    }
    let answer = explained(api, api.act(request).await, &site, Some(&environment)).await?;
    app.show(&answer, |answer| {
        render::environment::full(answer, &app.output.look_out())
    });
    Ok(Exit::Done)
}

/// Changes what was named, if anything was that is not so already; answers whether it was.
async fn change(api: &Api, place: Place, changes: &Changes) -> Result<(Environment, bool), Error> {
    let now = subject::environment(api, &place).await?;
    let policy = changes.apply(now.policy.clone().unwrap_or_default())?;
    if policy.is_none() {
        return Ok((now, false));
    }
    let Place { site, environment } = place;
    let request = UpdateEnvironmentRequest {
        site,
        environment,
        policy,
        pushes: None,
    };
    Ok((api.act(request).await?, true))
}
