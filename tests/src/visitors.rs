//! Visitors: they request pages the whole time and complain of everything that a visitor would.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use crate::{Page, fetch};
use anyhow::{Context, Result, bail};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What visitors saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Requests by the mark of the page.
    pub marks: BTreeMap<String, u64>,
    pub complaints: Vec<String>,
}

/// A crowd that visits every edge until it is called back.
#[derive(Debug)]
pub struct Visitors {
    tasks: JoinSet<()>,
    seen: Arc<Mutex<Seen>>,
    stop: CancellationToken,
}

impl Visitors {
    /// Sends `crowd` visitors to each edge. Every page they get must carry one of `marks`, and the
    /// same mark as the release that the edge names.
    pub fn send(edges: &[SocketAddr], host: &str, crowd: usize, marks: &[&str]) -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let marks: Arc<BTreeSet<String>> = Arc::new(marks.iter().map(|&m| m.to_owned()).collect());
        for &edge in edges {
            for _ in 0..crowd {
                let visitor = Visitor {
                    edge,
                    host: host.to_owned(),
                    marks: Arc::clone(&marks),
                    seen: Arc::clone(&seen),
                };
                tasks.spawn(visitor.wander(stop.clone()));
            }
        }
        Self { tasks, seen, stop }
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
    host: String,
    marks: Arc<BTreeSet<String>>,
    seen: Arc<Mutex<Seen>>,
}

impl Visitor {
    async fn wander(self, stop: CancellationToken) {
        let http = reqwest::Client::new();
        let paths = ["/", "/guide/", "/about", "/style.css"];
        for path in paths.iter().cycle() {
            if stop.is_cancelled() {
                return;
            }
            let answer = fetch(&http, self.edge, &self.host, path).await;
            self.note(path, answer);
            tokio::task::yield_now().await;
        }
    }

    fn note(&self, path: &str, answer: reqwest::Result<Page>) {
        let judged = self.judge(path, answer);
        let mut seen = self.seen.lock().unwrap();
        match judged {
            Ok(Some(mark)) => *seen.marks.entry(mark).or_default() += 1,
            Ok(None) => {}
            Err(error) => seen
                .complaints
                .push(format!("{} {path}: {error:#}", self.edge)),
        }
    }

    fn judge(&self, path: &str, answer: reqwest::Result<Page>) -> Result<Option<String>> {
        let page = answer?;
        if page.status != 200 {
            bail!("status {}", page.status);
        }
        if path == "/style.css" {
            return Ok(None);
        }
        let mark = mark(&page.body).with_context(|| format!("a torn page: {:?}", page.body))?;
        if !self.marks.contains(&mark) {
            bail!("a foreign page: {mark}");
        }
        Ok(Some(mark))
    }
}

/// The mark of a page.
pub fn mark(body: &str) -> Option<String> {
    let (_, rest) = body.split_once("mark:")?;
    let (mark, _) = rest.split_once("</p>")?;
    Some(mark.to_owned())
}
