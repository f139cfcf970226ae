//! The front page: what runs, the sites and their state, links, commands. No script.

use jiff::Timestamp;

use super::{escape, page};
use crate::openapi::sample;

/// Letters of a release's id that name it: the prefix and the time it was made.
const SHORT: usize = 14;

const PRODUCTION: &str = "production";

/// The links of every page but the documentation.
pub(super) const NAV: &str = "<nav><a href=\"/\">Status</a><a href=\"/docs\">API</a>\
                              <a href=\"/openapi.json\">OpenAPI</a></nav>";

/// Everything that the page shows.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    /// Where the API is reached, without a slash at the end.
    pub(crate) base_url: String,
    pub(crate) services: Shown<Service>,
    pub(crate) sites: Shown<Site>,
    /// There are more sites than these.
    pub(crate) more_sites: bool,
    pub(crate) edges: Shown<Edge>,
}

/// A list that the page shows or says why it does not.
#[derive(Debug, Clone)]
pub(crate) enum Shown<T> {
    These(Vec<T>),
    /// Only who sends a token may see it.
    Hidden,
    /// It could not be read; in words.
    Unknown(String),
}

/// A service of the platform.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) name: String,
    /// Empty when unknown.
    pub(crate) version: String,
    pub(crate) replicas: Vec<Replica>,
}

/// One process of a service.
#[derive(Debug, Clone)]
pub(crate) struct Replica {
    pub(crate) address: String,
    pub(crate) answers: bool,
}

/// A site and where it runs.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) slug: String,
    pub(crate) name: String,
    pub(crate) environments: Vec<Environment>,
    /// There are more environments than these.
    pub(crate) more: bool,
}

/// The state of an environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    pub(crate) slug: String,
    pub(crate) url: String,
    /// Nothing before the first release.
    pub(crate) live: Option<Live>,
    pub(crate) hold: Option<Hold>,
    pub(crate) stops: Vec<Stop>,
    pub(crate) acting: Option<Acting>,
    /// Deployments that wait for the lane.
    pub(crate) pending: i32,
    /// What the check of the releases to keep found; empty when all is well.
    pub(crate) not_restorable: String,
}

/// What is live.
#[derive(Debug, Clone, Default)]
pub(crate) struct Live {
    pub(crate) release_id: String,
    /// Empty when there is none.
    pub(crate) commit: String,
    /// The commit's first line; may be empty.
    pub(crate) message: String,
    pub(crate) since: Option<Timestamp>,
}

/// Why nothing deploys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hold {
    pub(crate) by: String,
    pub(crate) reason: String,
    pub(crate) since: Option<Timestamp>,
}

/// Why nothing begins, here and maybe elsewhere.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    /// It stops every site.
    pub(crate) everything: bool,
    pub(crate) by: String,
    pub(crate) reason: String,
    pub(crate) until: Option<Timestamp>,
}

/// The deployment that acts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Acting {
    pub(crate) deployment_id: String,
    /// What it does now, in words; may be empty.
    pub(crate) message: String,
    /// Its share of the traffic in percent.
    pub(crate) weight: i32,
}

/// An edge.
#[derive(Debug, Clone)]
pub(crate) struct Edge {
    pub(crate) id: String,
    pub(crate) address: String,
    pub(crate) state: EdgeState,
    /// In words, when it is not live; may be empty.
    pub(crate) message: String,
    pub(crate) staged: i32,
    pub(crate) routes: i32,
}

/// How far an edge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EdgeState {
    Joining,
    Live,
    Failing,
    Silent,
}

/// The page at `/`.
pub(crate) fn home(home: &Home) -> String {
    let body = format!(
        "<main class=\"home\"><section class=\"hero\"><h1>From a commit to a live site, and \
         back.</h1><p>Candlefish{version} at <code>{base}</code></p></section>\n\
         <section><h2>Sites</h2>{sites}</section>\n<section><h2>Edges</h2>{edges}</section>\n\
         <section><h2>What runs</h2>{services}</section>\n\
         <section><h2>Commands to try</h2>{commands}</section>\n\
         <section><h2>Links</h2><ul class=\"links\"><li><a href=\"/docs\">API documentation</a>: \
         every call, with lines to paste and a form to try it</li><li><a href=\"/openapi.json\">\
         OpenAPI document</a>: for generators</li><li><code>{base}</code> also speaks gRPC and \
         gRPC-Web, with reflection</li></ul></section></main>",
        version = version(&home.services),
        base = escape(&home.base_url),
        sites = shown(
            &home.sites,
            "No site yet: make the first one with the commands below.",
            |sites| sites.iter().map(site).collect::<String>() + more_sites(home.more_sites)
        ),
        edges = shown(
            &home.edges,
            "No edge is known: nothing can be served.",
            edges
        ),
        services = shown(&home.services, "No service is known.", services),
        commands = commands(home),
    );
    page("Candlefish", "plain", NAV, &body, "")
}

/// Whoever is not shown what runs is not told of which build it is either.
const fn version(services: &Shown<Service>) -> &'static str {
    match services {
        Shown::Hidden => "",
        Shown::These(_) | Shown::Unknown(_) => concat!(" ", env!("CARGO_PKG_VERSION")),
    }
}

fn shown<T>(list: &Shown<T>, none: &str, render: impl FnOnce(&[T]) -> String) -> String {
    match list {
        Shown::These(items) if items.is_empty() => format!("<p class=\"none\">{none}</p>"),
        Shown::These(items) => render(items),
        Shown::Hidden => "<p class=\"none\">Shown to those who have a token: <code>candlefish \
                          status</code>, <a href=\"/docs#ListSites\">the API</a>, or this page \
                          with <code>Authorization: Bearer cft_…</code>.</p>"
            .to_owned(),
        Shown::Unknown(why) => format!("<p class=\"none bad\">Not known now: {}</p>", escape(why)),
    }
}

const fn more_sites(more: bool) -> &'static str {
    if more {
        "<p class=\"none\">There are more sites: <code>candlefish sites</code> lists them, \
         <code>candlefish status SITE</code> shows one.</p>"
    } else {
        ""
    }
}

fn site(site: &Site) -> String {
    let name = if site.name.is_empty() {
        &site.slug
    } else {
        &site.name
    };
    let environments: Vec<String> = site
        .environments
        .iter()
        .map(|one| environment(&site.slug, one))
        .collect();
    let environments = if environments.is_empty() {
        "<p class=\"none\">No environment yet.</p>".to_owned()
    } else {
        format!("<ul class=\"environments\">{}</ul>", environments.concat())
    };
    let slug = escape(&site.slug);
    let more = if site.more {
        format!(
            "<p class=\"none\">There are more environments: <code>candlefish env list {slug}</code> \
             lists them.</p>"
        )
    } else {
        String::new()
    };
    format!(
        "<article class=\"site\"><h3>{} <code>{slug}</code></h3>{environments}{more}</article>",
        escape(name),
    )
}

fn environment(site: &str, environment: &Environment) -> String {
    let (class, word) = state(environment);
    let mut lines = vec![live(environment.live.as_ref())];
    lines.extend(environment.acting.as_ref().map(acting));
    lines.extend(environment.stops.iter().map(|one| stop(one, site)));
    let place = format!("{site}/{}", environment.slug);
    lines.extend(environment.hold.as_ref().map(|held| hold(held, &place)));
    match environment.pending {
        0 => {}
        1 => lines.push("<p>1 deployment waits for its turn.</p>".to_owned()),
        many => lines.push(format!("<p>{many} deployments wait for their turn.</p>")),
    }
    if !environment.not_restorable.is_empty() {
        let found = escape(&environment.not_restorable);
        lines.push(format!("<p class=\"bad\">Not restorable: {found}</p>"));
    }
    let url = if is_web(&environment.url) {
        let url = escape(&environment.url);
        format!("<a class=\"url\" href=\"{url}\" rel=\"noopener\">{url}</a>")
    } else {
        String::new()
    };
    format!(
        "<li><div class=\"head\"><strong>{slug}</strong><span class=\"state {class}\">{word}</span>\
         {url}</div>{lines}</li>",
        slug = escape(&environment.slug),
        lines = lines.concat(),
    )
}

/// Addresses come from configuration, yet nothing but a web address becomes a link.
fn is_web(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

fn state(environment: &Environment) -> (&'static str, &'static str) {
    match environment {
        Environment {
            acting: Some(_), ..
        } => ("acting", "deploying"),
        Environment { stops, .. } if !stops.is_empty() => ("held", "stopped"),
        Environment { hold: Some(_), .. } => ("held", "held"),
        Environment { live: Some(_), .. } => ("live", "live"),
        _ => ("empty", "nothing live"),
    }
}

fn live(live: Option<&Live>) -> String {
    let Some(live) = live else {
        return "<p class=\"none\">Nothing was deployed yet.</p>".to_owned();
    };
    // What has no commit is called by its release.
    let name: String = if live.commit.is_empty() {
        live.release_id.chars().take(SHORT).collect()
    } else {
        live.commit.chars().take(7).collect()
    };
    let message = if live.message.is_empty() {
        String::new()
    } else {
        format!(" “{}”", escape(&live.message))
    };
    format!(
        "<p>Live: <code>{}</code>{message}</p><p class=\"small\"><code class=\"id\">{}</code>{}</p>",
        escape(&name),
        escape(&live.release_id),
        since(live.since)
    )
}

fn acting(acting: &Acting) -> String {
    let message = if acting.message.is_empty() {
        String::new()
    } else {
        format!(": {}", escape(&acting.message))
    };
    format!(
        "<p class=\"act\">Deploying <code class=\"id\">{}</code>, {} % of the traffic{message}</p>",
        escape(&acting.deployment_id),
        acting.weight
    )
}

fn hold(hold: &Hold, place: &str) -> String {
    let lift = format!("candlefish hold lift {place} --reason …");
    format!(
        "<p class=\"warn\">Held by {}{}: {}</p><p class=\"small\">To lift it: <code>{}</code></p>",
        escape(&hold.by),
        since(hold.since),
        escape(&hold.reason),
        escape(&lift)
    )
}

fn stop(stop: &Stop, site: &str) -> String {
    let (what, lift) = if stop.everything {
        (
            "Everything is stopped",
            "candlefish stop lift --reason …".to_owned(),
        )
    } else {
        let lift = format!("candlefish stop lift {site} --reason …");
        ("Its site is stopped", lift)
    };
    format!(
        "<p class=\"warn\">{what} by {}{}: {}</p><p class=\"small\">To lift it: <code>{}</code></p>",
        escape(&stop.by),
        moment("until", stop.until),
        escape(&stop.reason),
        escape(&lift)
    )
}

fn since(time: Option<Timestamp>) -> String {
    moment("since", time)
}

fn moment(word: &str, time: Option<Timestamp>) -> String {
    time.map(|time| {
        format!(
            " <time datetime=\"{time}\">{word} {}</time>",
            time.strftime("%Y-%m-%d %H:%M UTC")
        )
    })
    .unwrap_or_default()
}

fn edges(edges: &[Edge]) -> String {
    let rows: Vec<String> = edges
        .iter()
        .map(|edge| {
            let (class, word) = match edge.state {
                EdgeState::Joining => ("acting", "joining"),
                EdgeState::Live => ("live", "live"),
                EdgeState::Failing => ("bad", "failing"),
                EdgeState::Silent => ("bad", "silent"),
            };
            format!(
                "<tr><th scope=\"row\"><code>{id}</code></th><td><span class=\"state {class}\">\
                 {word}</span> {message}</td><td><code>{address}</code></td><td>{routes}, \
                 {staged} staged</td></tr>",
                id = escape(&edge.id),
                message = escape(&edge.message),
                address = escape(&edge.address),
                routes = counted(edge.routes, "route"),
                staged = counted(edge.staged, "release"),
            )
        })
        .collect();
    format!(
        "<table class=\"list\"><tbody>{}</tbody></table>",
        rows.concat()
    )
}

fn counted(number: i32, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

fn services(services: &[Service]) -> String {
    let rows: Vec<String> = services
        .iter()
        .map(|service| {
            let up = service.replicas.iter().filter(|replica| replica.answers).count();
            let all = service.replicas.len();
            let (class, word) = match up {
                0 => ("bad", "down".to_owned()),
                up if up == all => ("live", "up".to_owned()),
                up => ("warn", format!("{up} of {all} up")),
            };
            let addresses: Vec<String> = service
                .replicas
                .iter()
                .map(|replica| {
                    let class = if replica.answers { "" } else { " class=\"bad\"" };
                    format!("<code{class}>{}</code>", escape(&replica.address))
                })
                .collect();
            format!(
                "<tr><th scope=\"row\">{name}</th><td><span class=\"state {class}\">{word}</span></td>\
                 <td>{addresses}</td><td>{version}</td></tr>",
                name = escape(&service.name),
                addresses = addresses.join(" "),
                version = escape(&service.version),
            )
        })
        .collect();
    format!(
        "<table class=\"list\"><tbody>{}</tbody></table>",
        rows.concat()
    )
}

/// A site and an environment that the commands name: ones that are there, so that a pasted command works,
/// and production where there is one.
fn example(sites: &Shown<Site>) -> (&str, &str) {
    let Shown::These(sites) = sites else {
        return ("docs", PRODUCTION);
    };
    let production = |site: &&Site| site.environments.iter().any(|one| one.slug == PRODUCTION);
    let first = sites.iter().find(production).or_else(|| sites.first());
    let Some(site) = first else {
        return ("docs", PRODUCTION);
    };
    let environment = match site.environments.first() {
        Some(other) if !production(&site) => &other.slug,
        _ => PRODUCTION,
    };
    (&site.slug, environment)
}

fn commands(home: &Home) -> String {
    let (slug, environment) = example(&home.sites);
    let table = [
        (
            format!("candlefish login --api {}", sample::plain(&home.base_url)),
            "keep this address and a token",
        ),
        ("candlefish status".to_owned(), "everything at a glance"),
        (
            format!("candlefish deploy ./public --site {slug}"),
            "a preview with an address of its own",
        ),
        (
            format!(
                "candlefish deploy ./public --site {slug} --env {environment} --strategy canary"
            ),
            "a growing share of the traffic, judged at each step",
        ),
        (
            format!("candlefish why {slug}/{environment}"),
            "why it is not moving, and who can clear it",
        ),
        (
            format!("candlefish rollback {slug}/{environment}"),
            "back to what was live before",
        ),
    ];
    let rows: Vec<String> = table
        .iter()
        .map(|(command, what)| {
            let command = escape(command);
            format!("<tr><td><code>{command}</code></td><td>{what}</td></tr>")
        })
        .collect();
    format!(
        "<table class=\"list commands\"><tbody>{}</tbody></table>",
        rows.concat()
    )
}
