//! Visitors of a run under fire: they walk through all lanes, on every edge, the whole time. They are
//! few, so that they are no load; whoever wants many sends [`crate::Visitors`].

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use candlefish_devstack::Stack;
use candlefish_testkit::checker::{Broken, Weather};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{lane::SITE, sky::Sky};
use crate::{
    Page, fetch,
    visitors::{PATHS, whole},
};

/// Between two pages of one edge: with two edges there is one each 100 ms, over all lanes.
const PACE: Duration = Duration::from_millis(200);
/// An edge that was killed or frozen is excused for so long after it was ready again: it reads its
/// releases, and hears what it missed.
const EXCUSED_FOR: Duration = Duration::from_secs(5);
/// A frozen edge answers when it is thawed, which takes less.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

const CLAIM: &str = "visitors get whole pages of the lane that they visit";

/// Why an answer is not what a visitor should get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Complaint {
    /// None at all, or the edge says that it cannot: it may be down.
    Away(String),
    /// Not to be excused.
    Wrong(String),
}

/// Who walks through the lanes on one edge.
struct Stroller {
    edge: String,
    address: SocketAddr,
    lanes: u64,
    http: reqwest::Client,
    weather: Weather,
    /// Pages that were right, of all strollers.
    pages: Arc<AtomicU64>,
    /// The mark of each release that was seen.
    marks: BTreeMap<String, String>,
}

/// Sends one to each edge, among the witnesses of a run, until it is over; answers where they count the
/// pages that were right.
pub(super) fn send(
    stack: &Stack,
    lanes: u64,
    sky: &Sky,
    over: &CancellationToken,
    witnesses: &mut JoinSet<Broken>,
) -> Result<Arc<AtomicU64>> {
    let pages: Arc<AtomicU64> = Arc::default();
    for edge in stack.edges() {
        let stroller = Stroller {
            weather: sky.of_edge(&edge.id),
            address: edge.address,
            edge: edge.id,
            lanes,
            // Each visit is of somebody else.
            http: reqwest::Client::builder()
                .pool_max_idle_per_host(0)
                .timeout(ANSWERED_WITHIN)
                .build()?,
            pages: Arc::clone(&pages),
            marks: BTreeMap::new(),
        };
        witnesses.spawn(stroller.walk(over.clone()));
    }
    Ok(pages)
}

impl Stroller {
    /// Walks until the run is over, or something is wrong.
    async fn walk(mut self, over: CancellationToken) -> Broken {
        let visits = PATHS.iter().flat_map(|path| {
            let lanes = 0..self.lanes;
            lanes.map(move |lane| (format!("lane-{lane}"), *path))
        });
        let visits: Vec<(String, &str)> = visits.collect();
        for (slug, path) in visits.iter().cycle() {
            if let Err(words) = self.visit(slug, path).await {
                let words = format!("{} {slug}{path}: {words}", self.edge);
                return Broken::from([(CLAIM.to_owned(), vec![words])]);
            }
            let pause = tokio::time::sleep(PACE);
            if over.run_until_cancelled(pause).await.is_none() {
                break;
            }
        }
        Broken::new()
    }

    async fn visit(&mut self, slug: &str, path: &str) -> Result<(), String> {
        let begun = Instant::now();
        let host = format!("{slug}--{SITE}.localhost");
        let answer = fetch(&self.http, self.address, &host, path).await;
        match judge_page(slug, path, answer.map_err(|error| format!("{error:?}"))) {
            Ok(None) => Ok(()),
            Ok(Some((release, mark))) => {
                self.pages.fetch_add(1, Ordering::Relaxed);
                let first = self.marks.entry(release).or_insert_with(|| mark.clone());
                if *first == mark {
                    Ok(())
                } else {
                    Err(format!("one release has pages of {first} and of {mark}"))
                }
            }
            Err(Complaint::Wrong(words)) => Err(words),
            Err(Complaint::Away(words)) => {
                let last = begun.elapsed() + EXCUSED_FOR;
                if self.weather.calm_of(last) < last {
                    Ok(())
                } else {
                    Err(words)
                }
            }
        }
    }
}

/// What a visitor of a lane got at a path, as the release that it is of and its mark; none where nothing
/// is live.
pub fn judge_page(
    slug: &str,
    path: &str,
    answer: Result<Page, String>,
) -> Result<Option<(String, String)>, Complaint> {
    let page = answer.map_err(Complaint::Away)?;
    match page.status {
        200 => {}
        404 if page.release.is_empty() => return Ok(None),
        500.. => return Err(Complaint::Away(format!("status {}", page.status))),
        other => {
            let words = format!("status {other} of {:?}", page.release);
            return Err(Complaint::Wrong(words));
        }
    }
    let mark = whole(path, &page.body).map_err(|error| Complaint::Wrong(error.to_string()))?;
    if !mark.starts_with(&format!("{slug}-")) {
        return Err(Complaint::Wrong(format!("a foreign page: {mark}")));
    }
    Ok(Some((page.release, mark)))
}
