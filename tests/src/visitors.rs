//! Visitors: they request pages the whole time and complain of everything that a visitor would.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Content, Page};

/// Where visitors walk on a site of [`Content::site`].
pub const PATHS: [&str; 4] = ["/", "/guide/", "/about", "/style.css"];
/// Between two requests of a visitor who strolls: some 25 in a second, which one core does not feel.
const STROLL: Duration = Duration::from_millis(40);

/// What visitors saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Requests by the mark of the page.
    pub marks: BTreeMap<String, u64>,
    pub complaints: Vec<String>,
    /// Pages of an earlier mark than before, by the order of the marks that the crowd was sent with,
    /// for visitors who keep the edge's cookie.
    pub went_back: Vec<String>,
}

/// A crowd that visits every edge until it is called back.
#[derive(Debug)]
pub struct Visitors {
    tasks: JoinSet<()>,
    seen: Arc<Mutex<Seen>>,
    known: Arc<Mutex<BTreeMap<String, String>>>,
    stop: CancellationToken,
}

impl Visitors {
    /// Sends `crowd` visitors to each edge. All they get must be, byte for byte, what [`Content::site`]
    /// has there for one of `marks`, and of the same mark as the release that the edge names, once that
    /// is known. Every second one of them
    /// keeps the edge's cookie, and goes to the next edge with each request, as behind a balancer; the
    /// others are new with each request.
    pub fn send(edges: &[SocketAddr], host: &str, crowd: usize, marks: &[&str]) -> Self {
        Self::at_pace(Duration::ZERO, edges, host, crowd, marks)
    }

    /// As [`Visitors::send`], but each takes its time, so that what they watch is not slowed.
    pub fn stroll(edges: &[SocketAddr], host: &str, crowd: usize, marks: &[&str]) -> Self {
        Self::at_pace(STROLL, edges, host, crowd, marks)
    }

    fn at_pace(
        pace: Duration,
        edges: &[SocketAddr],
        host: &str,
        crowd: usize,
        marks: &[&str],
    ) -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let known: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let marks: Arc<[String]> = marks.iter().map(|&mark| mark.to_owned()).collect();
        for &edge in edges {
            for number in 0..crowd {
                let others = edges.iter().copied().filter(|other| *other != edge);
                let visitor = Visitor {
                    edge,
                    others: others.collect(),
                    host: host.to_owned(),
                    pace,
                    marks: Arc::clone(&marks),
                    seen: Arc::clone(&seen),
                    known: Arc::clone(&known),
                    keeps_cookie: number.is_multiple_of(2),
                    cookie: None,
                    last: None,
                };
                tasks.spawn(visitor.wander(stop.clone()));
            }
        }
        Self {
            tasks,
            seen,
            known,
            stop,
        }
    }

    /// From now on the pages of this release must carry this mark.
    pub fn know(&self, release: &str, mark: &str) {
        let mut known = self.known.lock().unwrap();
        known.insert(release.to_owned(), mark.to_owned());
    }

    /// Calls them back and hears them.
    pub async fn come_back(mut self) -> Seen {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.seen.lock().unwrap().clone()
    }

    /// How many pages of a mark were seen so far.
    pub fn count(&self, mark: &str) -> u64 {
        self.seen
            .lock()
            .unwrap()
            .marks
            .get(mark)
            .copied()
            .unwrap_or(0)
    }
}

struct Visitor {
    edge: SocketAddr,
    /// Those that it asks next, in turn, while it keeps the cookie.
    others: VecDeque<SocketAddr>,
    host: String,
    /// Between two requests.
    pace: Duration,
    marks: Arc<[String]>,
    seen: Arc<Mutex<Seen>>,
    /// The mark of each release that is known.
    known: Arc<Mutex<BTreeMap<String, String>>>,
    keeps_cookie: bool,
    cookie: Option<String>,
    /// The place of the last page's mark.
    last: Option<usize>,
}

impl Visitor {
    async fn wander(mut self, stop: CancellationToken) {
        let http = reqwest::Client::new();
        for path in PATHS.iter().cycle() {
            if stop.is_cancelled() {
                return;
            }
            let answer = self.fetch(&http, path).await;
            self.note(path, answer);
            if self.keeps_cookie
                && let Some(next) = self.others.pop_front()
            {
                let edge = std::mem::replace(&mut self.edge, next);
                self.others.push_back(edge);
            }
            if self.pace.is_zero() {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(self.pace).await;
            }
        }
    }

    /// As [`crate::fetch`], with the cookie.
    async fn fetch(&mut self, http: &reqwest::Client, path: &str) -> reqwest::Result<Page> {
        let url = format!("http://{}{path}", self.edge);
        let mut request = http.get(url).header("host", &self.host);
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        let answer = request.send().await?;
        let header = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let release = header("candlefish-release").unwrap_or_default();
        if let Some(given) = header("set-cookie").filter(|_| self.keeps_cookie) {
            self.cookie = given.split(';').next().map(str::to_owned);
        }
        Ok(Page {
            status: answer.status().as_u16(),
            release,
            body: answer.text().await?,
        })
    }

    fn note(&mut self, path: &str, answer: reqwest::Result<Page>) {
        let judged = self.judge(path, answer);
        let mut seen = self.seen.lock().unwrap();
        match judged {
            Ok(mark) => {
                let place = self.marks.iter().position(|one| *one == mark);
                if self.keeps_cookie && place < self.last {
                    let words = format!("{} {path}: back to {mark}", self.edge);
                    seen.went_back.push(words);
                }
                self.last = place;
                *seen.marks.entry(mark).or_default() += 1;
            }
            Err(error) => seen
                .complaints
                .push(format!("{} {path}: {error:#}", self.edge)),
        }
    }

    fn judge(&self, path: &str, answer: reqwest::Result<Page>) -> Result<String> {
        let page = answer?;
        if page.status != 200 {
            bail!("status {}", page.status);
        }
        let mark = whole(path, &page.body)?;
        if !self.marks.contains(&mark) {
            bail!("a foreign page: {mark}");
        }
        let known = self.known.lock().unwrap();
        if let Some(own) = known.get(&page.release).filter(|own| **own != mark) {
            bail!("{} has pages of {own}, not of {mark}", page.release);
        }
        Ok(mark)
    }
}

/// The mark of what was got at this path: the whole body must be what [`Content::site`] of that mark
/// has there.
pub fn whole(path: &str, body: &str) -> Result<String> {
    let mark = mark(body).with_context(|| format!("nothing of ours: {body:?}"))?;
    let site = Content::site(mark);
    ensure!(
        site.page(path) == Some(body.as_bytes()),
        "a torn page: {body:?}"
    );
    Ok(mark.to_owned())
}

fn mark(body: &str) -> Option<&str> {
    let (_, rest) = body.split_once("mark:")?;
    let goes_on = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let (mark, _) = rest.split_once(|letter: char| !goes_on(letter))?;
    Some(mark)
}
