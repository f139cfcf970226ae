//! One edge's stream: what it holds comes in, what it lacks goes out.
//!
//! Level-triggered: each time something changed on either side, every route that the edge does not
//! hold at its version, and was not sent at it, is sent whole. Nothing is queued for an edge. What was
//! sent is forgotten when the reconciler finds the edge behind.

use std::{pin::pin, sync::Arc};

use candlefish_messaging::epoch;
use candlefish_proto::deploy as pb;
use candlefish_runtime::database;
use sqlx::PgPool;
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

use self::known::Known;
use super::store::{self, Asked, OfRelease, Report};
use crate::{
    ctx::Nudges,
    deployment::Error,
    route::{self, Written, table::Seen},
    site::host,
    step::worker::{EdgeNews, News, chain},
};

mod known;

/// Routes in one message, so that ten thousand stay below the message limit.
const ROUTES_PER_MESSAGE: usize = 500;

/// Serves one edge.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) pool: PgPool,
    pub(super) nudges: Nudges,
    pub(super) routes: watch::Receiver<Seen>,
    pub(super) news: Arc<EdgeNews>,
    pub(super) sender: mpsc::Sender<Result<pb::WatchRoutesResponse, Status>>,
}

/// What was done of what others asked of an edge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Heeded {
    /// It joins again.
    joins: bool,
    /// What it was sent is forgotten, but for what it holds.
    forgot_sent: bool,
}

impl Serving {
    /// Runs until the edge goes or the database is not seen any more. The edge is told that even while what
    /// it told is being written. That is left to its end: given up inside of `begin` it would leave the
    /// connection in a transaction.
    pub(super) async fn run(self, reports: Streaming<pb::WatchRoutesRequest>) {
        let ending = end_when_blind(self.routes.clone(), self.sender.clone());
        let mut serving = pin!(self.serve(reports));
        tokio::select! {
            () = &mut serving => {}
            () = ending => serving.await,
        }
    }

    async fn serve(mut self, mut reports: Streaming<pb::WatchRoutesRequest>) {
        let mut known = Known::default();
        // The changes of the table that were looked at.
        let mut looked = 0;
        loop {
            let look = tokio::select! {
                biased;
                () = self.sender.closed() => return,
                message = reports.message() => {
                    let Ok(Some(message)) = message else {
                        return;
                    };
                    if self.send_changes(&mut known, &mut looked).await.is_err() {
                        return;
                    }
                    match self.take(&mut known, message).await {
                        Ok(true) => Look::AtAll,
                        Ok(false) => continue,
                        Err(status) => {
                            self.end(status).await;
                            return;
                        }
                    }
                }
                changed = self.routes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    Look::AtChanges
                }
            };
            if known.edge.is_empty() {
                continue;
            }
            let lacking = self.lacking(look, &known, &mut looked);
            if self.send(&mut known, &lacking).await.is_err() {
                return;
            }
        }
    }

    async fn end(&self, status: Status) {
        // An edge that is gone already needs no telling.
        let _gone = self.sender.send(Err(status)).await;
    }

    /// Writes down what an edge tells, once all of it came. True when it may lack routes that this
    /// process has: whatever else it tells, it was sent what it lacked.
    async fn take(
        &mut self,
        known: &mut Known,
        message: pb::WatchRoutesRequest,
    ) -> Result<bool, Status> {
        let edge = message.edge.clone();
        let whole = known.whole(message).inspect_err(|refused| {
            tracing::warn!(edge.id = %edge, error = refused.message(), "a report is refused");
        });
        let Some(report) = whole? else {
            return Ok(false);
        };
        if report.first {
            self.begin(known, &report)?;
        } else if known.edge.is_empty() {
            return Err(Status::invalid_argument(
                "the first message must say `first`",
            ));
        }
        known.take(&report.held);
        if let Some(epoch) = self.outrun(&report).await? {
            known.learn(epoch);
        }
        let joins = !known.joined && known.joins(&self.routes.borrow(), false);
        let staged = report.staged.iter().filter_map(|one| {
            Some(OfRelease {
                release: one.release_id.parse().ok()?,
                staged: one.staged,
                error: one.error.clone(),
                transient: one.transient,
            })
        });
        let staged: Vec<OfRelease> = staged.collect();
        let mut news = self.concerned(&report.held);
        news.releases.extend(staged.iter().map(|one| one.release));
        let row = Report {
            edge: &known.edge,
            boot: &known.boot,
            address: &known.address,
            first: report.first,
            held: &report.held,
            staged: &staged,
            // What a stream begins with may have been told on the one before.
            moved: !report.first
                && (!report.held.is_empty() || staged.iter().any(|one| one.staged)),
            joins,
        };
        let asked = self.save(&row).await?;
        let heeded = if known.joined {
            self.heed(known, asked).await?
        } else {
            Heeded::default()
        };
        if joins {
            known.joined = true;
            tracing::info!(edge.id = %known.edge, boot = %known.boot, "an edge joins");
        }
        news.everything |= report.first || joins || heeded.joins;
        if !news.is_empty() {
            self.news.reported(news);
        }
        Ok(report.first || heeded.forgot_sent)
    }

    /// Does what others asked of an edge that has joined: all that it holds is written down anew, to
    /// be sent again what it lacks, and set aside it joins again once it caught up.
    async fn heed(&self, known: &mut Known, asked: Asked) -> Result<Heeded, Status> {
        let again = known.resend(asked.resend_at);
        let joins = known.joins(&self.routes.borrow(), asked.aside);
        let heeded = Heeded {
            joins,
            forgot_sent: again.is_some(),
        };
        if heeded == Heeded::default() {
            return Ok(heeded);
        }
        let row = Report {
            edge: &known.edge,
            boot: &known.boot,
            address: &known.address,
            first: false,
            held: again.as_deref().unwrap_or_default(),
            staged: &[],
            moved: false,
            joins,
        };
        self.save(&row).await?;
        Ok(heeded)
    }

    /// What an edge tells at its beginning, or holds newer than the table of this process has it.
    fn unknown(&self, report: &pb::WatchRoutesRequest) -> Vec<Written> {
        let routes = Arc::clone(&self.routes.borrow().routes);
        let is_known = |held: &pb::HeldRoute| {
            routes
                .get(&held.host)
                .is_some_and(|route| (route.epoch, route.version) >= (held.epoch, held.version))
        };
        report
            .held
            .iter()
            .filter(|held| report.first || !is_known(held))
            .map(|held| Written {
                host: held.host.clone(),
                epoch: held.epoch,
                version: held.version,
            })
            .collect()
    }

    /// Whose routes an edge holds at other versions than before.
    fn concerned(&self, held: &[pb::HeldRoute]) -> News {
        let mut news = News::default();
        let routes = Arc::clone(&self.routes.borrow().routes);
        for held in held {
            let route = routes.get(&held.host);
            let environment = route.and_then(|route| route.environment_id.parse().ok());
            if let Some(environment) = environment {
                news.environments.insert(environment);
            } else if let Some(deployment) = host::deployment(&held.host) {
                news.deployments.insert(deployment);
            } else {
                // This replica has not seen the route yet.
                news.everything = true;
            }
        }
        news
    }

    async fn save(&self, row: &Report<'_>) -> Result<Asked, Status> {
        let saved = async {
            // Who was sent away while this waited for the database has told another replica newer things.
            if !row.first {
                let mut conn = self.pool.acquire().await?;
                if self.sender.is_closed() {
                    return Ok(None);
                }
                return store::save(&mut conn, row).await.map(Some);
            }
            let mut tx = database::begin(&self.pool).await?;
            if self.sender.is_closed() {
                return Ok(None);
            }
            store::forget(&mut tx, row.edge).await?;
            let asked = store::save(&mut tx, row).await?;
            tx.commit().await?;
            Ok(Some(asked))
        };
        let saved = saved.await.map_err(|error: sqlx::Error| {
            tracing::warn!(edge.id = row.edge, error = %chain(&error), "a report was not kept");
            Status::unavailable("the report was not kept; tell it to another replica")
        })?;
        saved.ok_or_else(|| Status::cancelled("the edge is gone"))
    }

    fn begin(&mut self, known: &mut Known, report: &pb::WatchRoutesRequest) -> Result<(), Status> {
        if report.edge.is_empty() || report.edge.len() > 64 || report.boot.is_empty() {
            return Err(Status::invalid_argument(
                "`edge` and `boot` must name the edge",
            ));
        }
        let seen = self.routes.borrow().clone();
        if !seen.sees {
            return Err(blind());
        }
        *known = Known::begun(report, &seen);
        Ok(())
    }

    /// Begins a new epoch when the edge holds what this database never gave; answers it.
    ///
    /// The table of this process may be late, or as far ahead as the edge: the rows decide.
    async fn outrun(&self, report: &pb::WatchRoutesRequest) -> Result<Option<i32>, Status> {
        let told = self.unknown(report);
        if told.is_empty() {
            return Ok(None);
        }
        let mut conn = self.pool.acquire().await.map_err(Error::from)?;
        let ahead = route::store::list_ahead(&mut conn, &told).await;
        let ahead = ahead.map_err(Error::from)?;
        if ahead.is_empty() {
            return Ok(None);
        }
        let most = epoch::most(&mut conn).await.map_err(Error::from)?;
        if let Some(one) = ahead.iter().find(|one| one.epoch > most) {
            return Err(Status::invalid_argument(format!(
                "`held` names epoch {} of {}, which was never given: none is above {most} yet",
                one.epoch, one.host
            )));
        }
        let epoch = route::epoch::begin(&mut conn, &ahead).await;
        let epoch = epoch.map_err(Error::from)?;
        self.nudges.routes.notify_waiters();
        self.nudges.poke.notify_one();
        Ok(Some(epoch))
    }

    /// Sends what changed before one more report is written: where reports come faster than that, nothing
    /// else would come between them.
    async fn send_changes(&mut self, known: &mut Known, looked: &mut u64) -> Result<(), ()> {
        if known.edge.is_empty() || !matches!(self.routes.has_changed(), Ok(true)) {
            return Ok(());
        }
        let lacking = self.lacking(Look::AtChanges, known, looked);
        self.send(known, &lacking).await
    }

    /// What an edge lacks of the table, of which `looked` changes were looked at until now.
    fn lacking(&mut self, look: Look, known: &Known, looked: &mut u64) -> Vec<Arc<pb::Route>> {
        let seen = self.routes.borrow_and_update();
        let before = std::mem::replace(looked, seen.changes.count());
        let changed = (look == Look::AtChanges && known.caught_up)
            .then(|| known.lacks_of_changes(&seen, before))
            .flatten();
        if let Some(lacking) = changed {
            return lacking;
        }
        // It may take long: nobody waits for the table meanwhile.
        let routes = Arc::clone(&seen.routes);
        drop(seen);
        let lacking = routes.values().filter(|route| known.lacks(route));
        lacking.cloned().collect()
    }

    async fn send(&self, known: &mut Known, lacking: &[Arc<pb::Route>]) -> Result<(), ()> {
        if lacking.is_empty() && known.caught_up {
            return Ok(());
        }
        let mut chunks = lacking.chunks(ROUTES_PER_MESSAGE).peekable();
        loop {
            let chunk = chunks.next().unwrap_or_default();
            let last = chunks.peek().is_none();
            let message = pb::WatchRoutesResponse {
                routes: chunk.iter().map(|route| pb::Route::clone(route)).collect(),
                caught_up: last && !known.caught_up,
            };
            // A closed channel is an edge that went.
            self.sender.send(Ok(message)).await.map_err(|_gone| ())?;
            if last {
                break;
            }
        }
        known.caught_up = true;
        known.sent(lacking);
        Ok(())
    }
}

/// Where what an edge lacks is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// The edge told what it holds: anything may be lacking.
    AtAll,
    /// The table changed. A host is never forgotten, so there are many more than change.
    AtChanges,
}

/// Ends the stream for its edge once the database is not seen.
async fn end_when_blind(
    mut routes: watch::Receiver<Seen>,
    sender: mpsc::Sender<Result<pb::WatchRoutesResponse, Status>>,
) {
    let is_blind = routes.wait_for(|seen| !seen.sees).await.is_ok();
    if is_blind {
        // An edge that is gone already needs no telling.
        let _gone = sender.send(Err(blind())).await;
    }
}

fn blind() -> Status {
    Status::unavailable("this replica does not see its database; ask another")
}
