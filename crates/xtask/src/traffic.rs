//! `cargo xtask traffic SITE/ENV`: visitors. Some keep their cookies, some have none.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candlefish_devstack::http::{self, Answer};
use clap::{Args, value_parser};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

/// More than this at once means that the edges do not keep up; then visitors are left out.
const MOST_AT_ONCE: usize = 200;

/// Longer than this is an error for a visitor.
const PATIENCE: Duration = Duration::from_secs(5);

/// The edges of a plain `cargo xtask up`.
pub(crate) const EDGES: [&str; 2] = ["127.0.0.1:8080", "127.0.0.1:8082"];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which site, such as docs/production.
    environment: String,
    /// Requests a second.
    #[arg(long, default_value_t = 200, value_parser = value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// How long; until Ctrl-C when not given.
    #[arg(long)]
    seconds: Option<u64>,
    /// The edges to visit, in turn.
    #[arg(long, default_values = EDGES)]
    edge: Vec<SocketAddr>,
    /// The domain that sites are under.
    #[arg(long, default_value = "localhost")]
    domain: String,
}

/// What visitors got, since the start.
#[derive(Debug, Default)]
struct Tally {
    requests: u64,
    by_outcome: BTreeMap<String, u64>,
    slowest: Duration,
}

/// What visitors ask for: paths that every release links to. A page that only one of them has
/// would be missing for those who are sent to the other, and nobody who clicks gets there.
#[derive(Debug, Default)]
struct Paths {
    by_release: BTreeMap<String, BTreeSet<String>>,
    common: Vec<String>,
    /// Releases and their pages whose links are known: they do not change.
    read: BTreeSet<(String, String)>,
}

impl Paths {
    fn pick(&self, number: usize) -> String {
        let place = number % self.common.len().max(1);
        self.common
            .get(place)
            .map_or_else(|| "/".to_owned(), Clone::clone)
    }

    /// What the page at this path links to.
    fn learn(&mut self, page: &str, answer: &Answer) {
        let release = answer.headers.get("candlefish-release");
        let release = release
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let known = (release.to_owned(), page.to_owned());
        if self.read.contains(&known) {
            return;
        }
        let links = links(page, answer);
        if links.is_empty() {
            return;
        }
        self.read.insert(known);
        let paths = self.by_release.entry(release.to_owned()).or_default();
        let before = paths.len();
        paths.extend(links);
        if paths.len() != before {
            let mut sets = self.by_release.values();
            let first = sets.next().cloned().unwrap_or_default();
            let common = sets.fold(first, |common, set| &common & set);
            self.common = common.into_iter().collect();
        }
    }
}

struct Visit {
    path: String,
    cookie: Option<usize>,
    outcome: Result<Answer>,
    took: Duration,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let (site, environment) = options
        .environment
        .split_once('/')
        .context("name it as SITE/ENV, such as docs/production")?;
    let domain = &options.domain;
    let host = if environment == "production" {
        format!("{site}.{domain}")
    } else {
        format!("{environment}--{site}.{domain}")
    };
    eprintln!(
        "{} requests a second to http://{host}; Ctrl-C stops",
        options.rate
    );
    let end = options.seconds.map(Duration::from_secs);
    let end = pin!(async move {
        match end {
            Some(after) => tokio::time::sleep(after).await,
            None => std::future::pending().await,
        }
    });
    let visitors = pin!(visit(options, &host));
    tokio::select! {
        visited = visitors => visited,
        () = end => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted.context("waiting for Ctrl-C"),
    }
}

/// Requests at the rate, and a line of what came back every second.
async fn visit(options: &Options, host: &str) -> Result<()> {
    let mut known = Paths::default();
    // Ten visitors who keep the cookie they were given; every second request is by one of them.
    let mut cookies: Vec<Option<String>> = vec![None; 10];
    let mut pending = FuturesUnordered::new();
    let mut beat = tokio::time::interval(Duration::from_secs(1) / options.rate);
    let mut report = tokio::time::interval(Duration::from_secs(1));
    let begun = Instant::now();
    let mut tally = Tally::default();
    let mut number = 0_usize;
    loop {
        tokio::select! {
            _ = beat.tick() => {
                if pending.len() >= MOST_AT_ONCE {
                    continue;
                }
                let path = known.pick(number);
                // In runs of seven, so that every visitor meets every edge.
                let edge = options.edge.get(number / 7 % options.edge.len().max(1)).copied();
                let edge = edge.context("--edge names no edge")?;
                let visitor = number.is_multiple_of(2).then(|| (number / 2) % cookies.len());
                let cookie = visitor.and_then(|visitor| cookies.get(visitor).cloned().flatten());
                pending.push(one(edge, host, path, visitor, cookie));
                number += 1;
            }
            Some(visit) = pending.next() => {
                if let Ok(answer) = &visit.outcome {
                    keep_cookie(&mut cookies, visit.cookie, answer);
                    known.learn(&visit.path, answer);
                }
                tally.add(&visit);
            }
            _ = report.tick() => {
                if tally.requests > 0 {
                    println!("{}", tally.line(begun.elapsed()));
                }
            }
        }
    }
}

async fn one(
    edge: SocketAddr,
    host: &str,
    path: String,
    visitor: Option<usize>,
    cookie: Option<String>,
) -> Visit {
    let begun = Instant::now();
    let mut headers = vec![("user-agent", "candlefish-traffic")];
    if let Some(cookie) = &cookie {
        headers.push(("cookie", cookie));
    }
    let outcome = http::get(edge, host, &path, &headers, PATIENCE).await;
    Visit {
        path,
        cookie: visitor,
        outcome,
        took: begun.elapsed(),
    }
}

fn keep_cookie(cookies: &mut [Option<String>], visitor: Option<usize>, answer: &Answer) {
    let given = answer
        .headers
        .get("set-cookie")
        .and_then(|value| value.to_str().ok());
    let pair = given.and_then(|given| given.split(';').next());
    if let (Some(visitor), Some(pair)) = (visitor, pair)
        && let Some(slot) = cookies.get_mut(visitor)
    {
        *slot = Some(pair.to_owned());
    }
}

/// Paths of the same site that the page at the path `page` names.
fn links(page: &str, answer: &Answer) -> Vec<String> {
    let kind = answer
        .headers
        .get("content-type")
        .and_then(|value| value.to_str().ok());
    // An error's page stands for addresses that it does not know.
    let is_page = kind.is_some_and(|kind| kind.starts_with("text/html"));
    if !is_page || !answer.status.is_success() {
        return Vec::new();
    }
    let text = answer.text();
    // What is before the first is no link.
    let [hrefs, sources] = [" href=\"", " src=\""].map(|mark| text.split(mark).skip(1));
    let after = hrefs.chain(sources);
    let targets = after.filter_map(|rest| rest.split('"').next());
    targets.filter_map(|target| resolve(page, target)).collect()
}

/// Where a link of the page at the path `page` leads: a path of the same site, with its query. Nothing
/// for a link to another site or into the page itself, and for what is no address.
fn resolve(page: &str, target: &str) -> Option<String> {
    let target = target.split('#').next()?;
    let is_address = target.bytes().all(|byte| byte.is_ascii_graphic());
    // `https:`, `mailto:`, `data:`.
    let scheme = target
        .split(['/', '?'])
        .next()
        .filter(|first| first.contains(':'));
    if target.is_empty() || target.starts_with("//") || scheme.is_some() || !is_address {
        return None;
    }
    let target = target.replace("&amp;", "&");
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (target.as_str(), String::new()),
    };
    let page = page.split('?').next()?;
    let path = if path.is_empty() {
        page.to_owned()
    } else if path.starts_with('/') {
        without_dots(path)
    } else {
        let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
        without_dots(&format!("{folder}/{path}"))
    };
    Some(path + &query)
}

/// `/a/./b/../c` is `/a/c`; nothing is above the root.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => {
                kept.pop();
            }
            part => kept.push(part),
        }
    }
    // At the end they name a folder.
    if path.ends_with("/.") || path.ends_with("/..") {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

impl Tally {
    fn add(&mut self, visit: &Visit) {
        let outcome = match &visit.outcome {
            Ok(answer) => answer.status.as_u16().to_string(),
            Err(error) => format!("no answer ({})", error.root_cause()),
        };
        self.requests += 1;
        *self.by_outcome.entry(outcome).or_default() += 1;
        self.slowest = self.slowest.max(visit.took);
    }

    fn line(&self, since: Duration) -> String {
        let outcomes = self.by_outcome.iter();
        let outcomes = outcomes.map(|(outcome, count)| format!("{outcome}: {count}"));
        let outcomes: Vec<_> = outcomes.collect();
        format!(
            "{:>4} s  {:>6} requests   {}   slowest {:.0?}",
            since.as_secs(),
            self.requests,
            outcomes.join("   "),
            self.slowest
        )
    }
}

#[cfg(test)]
mod tests {
    use candlefish_devstack::http::{HeaderMap, StatusCode};

    use super::*;

    fn page_of(release: &str, body: &str) -> Answer {
        let mut answer = page(body, "a=b");
        let release = release.parse().unwrap();
        answer.headers.insert("candlefish-release", release);
        answer
    }

    fn page(body: &str, cookie: &str) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "text/html".parse().unwrap());
        headers.insert("set-cookie", cookie.parse().unwrap());
        Answer {
            status: StatusCode::OK,
            headers,
            body: body.to_owned().into(),
        }
    }

    #[test]
    fn visitors_follow_links_of_the_same_site_only() {
        let body = r#"<a href="/guide/#top"> <a href="//other.org"> <script src="/a.js">"#;
        let found = links("/", &page(body, "a=b"));
        assert_eq!(found, ["/guide/", "/a.js"]);
        let none = page("<h1>Welcome</h1>", "a=b");
        assert!(links("/", &none).is_empty());
        let mut missing = page(body, "a=b");
        missing.status = StatusCode::NOT_FOUND;
        assert!(links("/", &missing).is_empty());
    }

    #[test]
    fn a_link_leads_where_a_browser_would_go() {
        for (page, target, leads) in [
            ("/", "sql.html", "/sql.html"),
            ("/guide/install", "first-flag#top", "/guide/first-flag"),
            ("/guide/", "./rollout?a=1&amp;b=2", "/guide/rollout?a=1&b=2"),
            ("/guide/install?x=/y/", "../a/../logo.svg", "/logo.svg"),
            ("/guide/", "..", "/"),
            ("/guide/deep/", "../..", "/"),
            ("/", "../../up", "/up"),
            ("/guide/", ".", "/guide/"),
            ("/guide/install?page=1", "?page=2", "/guide/install?page=2"),
            ("/guide/", "/a/./b", "/a/b"),
            ("/", "a/b:c", "/a/b:c"),
        ] {
            assert_eq!(resolve(page, target).as_deref(), Some(leads), "{target}");
        }
        for target in [
            "",
            "#top",
            "//other.org/a",
            "https://other.org",
            "mailto:ada@example.org",
            "two words",
        ] {
            assert_eq!(resolve("/guide/", target), None, "{target}");
        }
    }

    #[test]
    fn a_page_of_a_release_is_read_once() {
        let mut paths = Paths::default();
        paths.learn("/", &page_of("rel_1", r#"<a href="a.html">"#));
        paths.learn("/", &page_of("rel_1", r#"<a href="b.html">"#));
        paths.learn("/a.html", &page_of("rel_1", r#"<a href="c.html">"#));
        assert_eq!(paths.common, ["/a.html", "/c.html"]);
    }

    #[test]
    fn nobody_asks_for_a_page_that_only_one_release_has() {
        let mut paths = Paths::default();
        assert_eq!(paths.pick(7), "/");
        paths.learn("/", &page_of("rel_1", r#"<a href="/a"><a href="/b">"#));
        assert_eq!(paths.common, ["/a", "/b"]);
        paths.learn("/", &page_of("rel_2", r#"<a href="/b"><a href="/c">"#));
        assert_eq!(paths.common, ["/b"]);
        assert_eq!(paths.pick(7), "/b");
    }

    #[test]
    fn only_a_visitor_with_cookies_keeps_one() {
        let mut cookies = vec![None, None];
        let answer = page("", "split=7; Path=/");
        keep_cookie(&mut cookies, None, &answer);
        assert_eq!(cookies, [None, None]);
        keep_cookie(&mut cookies, Some(1), &answer);
        assert_eq!(cookies, [None, Some("split=7".to_owned())]);
    }
}
