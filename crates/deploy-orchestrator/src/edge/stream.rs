//! One edge's stream: what it holds comes in, what it lacks goes out.
//!
//! Level-triggered: each time something changed on either side, every route that the edge does not
//! hold at its version, and was not sent at it, is sent whole. Nothing is queued for an edge.

use std::{collections::HashMap, sync::Arc};

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy as pb;
use sqlx::PgPool;
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

use super::store::{self, Report};
use crate::{
    route::table::{Routes, Seen},
    site::host,
    step::worker::{EdgeNews, News, chain},
};

/// Routes in one message, so that ten thousand stay below the message limit.
const ROUTES_PER_MESSAGE: usize = 500;

type Version = (i32, i64);

/// Serves one edge.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) pool: PgPool,
    pub(super) routes: watch::Receiver<Seen>,
    pub(super) news: Arc<EdgeNews>,
    pub(super) sender: mpsc::Sender<Result<pb::WatchRoutesResponse, Status>>,
}

/// What is known of the edge on this stream.
#[derive(Debug, Default)]
struct Known {
    edge: String,
    boot: String,
    address: String,
    /// What it holds, or was sent.
    sent: HashMap<String, Version>,
    held: HashMap<String, Version>,
    /// Environment routes that were current when the stream began, and must be applied to join; then
    /// once more those that changed until it had applied them. What goes on changing is waited for by
    /// the deployments that change it.
    to_join: HashMap<String, Version>,
    to_join_renewed: bool,
    joined: bool,
    caught_up: bool,
}

impl Serving {
    /// Runs until the edge goes or the database is not seen any more.
    pub(super) async fn run(mut self, mut reports: Streaming<pb::WatchRoutesRequest>) {
        let mut known = Known::default();
        loop {
            tokio::select! {
                () = self.sender.closed() => return,
                report = reports.message() => match report {
                    Ok(Some(report)) => {
                        if let Err(status) = self.take(&mut known, report).await {
                            self.end(status).await;
                            return;
                        }
                    }
                    Ok(None) | Err(_) => return,
                },
                changed = self.routes.changed() => if changed.is_err() { return },
            }
            if known.edge.is_empty() {
                continue;
            }
            let (routes, sees) = {
                let seen = self.routes.borrow_and_update();
                (Arc::clone(&seen.routes), seen.sees)
            };
            if !sees {
                let words = "this replica does not see its database; ask another";
                self.end(Status::unavailable(words)).await;
                return;
            }
            if self.send_lacking(&mut known, &routes).await.is_err() {
                return;
            }
        }
    }

    async fn end(&self, status: Status) {
        // An edge that is gone already needs no telling.
        let _gone = self.sender.send(Err(status)).await;
    }

    /// Writes down what an edge tells.
    async fn take(
        &mut self,
        known: &mut Known,
        report: pb::WatchRoutesRequest,
    ) -> Result<(), Status> {
        if report.first {
            self.begin(known, &report)?;
        } else if known.edge.is_empty() {
            return Err(Status::invalid_argument(
                "the first message must say `first`",
            ));
        }
        for held in &report.held {
            known
                .held
                .insert(held.host.clone(), (held.epoch, held.version));
            known
                .sent
                .insert(held.host.clone(), (held.epoch, held.version));
        }
        let joins = self.joins(known).await?;
        let staged: Vec<(ReleaseId, bool, String)> = report
            .staged
            .iter()
            .filter_map(|one| Some((one.release_id.parse().ok()?, one.staged, one.error.clone())))
            .collect();
        let mut news = self.concerned(&report.held);
        news.everything |= report.first || joins;
        news.releases
            .extend(staged.iter().map(|(release, ..)| *release));
        let row = Report {
            edge: &known.edge,
            boot: &known.boot,
            address: &known.address,
            first: report.first,
            held: &report.held,
            staged: &staged,
            joins,
        };
        self.save(&row).await?;
        if joins && !known.joined {
            known.joined = true;
            tracing::info!(edge.id = %known.edge, boot = %known.boot, "an edge joins");
        }
        if !news.is_empty() {
            self.news.reported(news);
        }
        Ok(())
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

    async fn save(&self, row: &Report<'_>) -> Result<(), Status> {
        let saved = async {
            let mut tx = self.pool.begin().await?;
            store::save(&mut tx, row).await?;
            tx.commit().await
        };
        saved.await.map_err(|error: sqlx::Error| {
            tracing::warn!(edge.id = row.edge, error = %chain(&error), "a report was not kept");
            Status::unavailable("the report was not kept; tell it to another replica")
        })
    }

    fn begin(&mut self, known: &mut Known, report: &pb::WatchRoutesRequest) -> Result<(), Status> {
        if report.edge.is_empty() || report.edge.len() > 64 || report.boot.is_empty() {
            return Err(Status::invalid_argument(
                "`edge` and `boot` must name the edge",
            ));
        }
        let seen = self.routes.borrow().clone();
        if !seen.sees {
            return Err(Status::unavailable(
                "this replica does not see its database; ask another",
            ));
        }
        let routes = seen.routes;
        *known = Known {
            edge: report.edge.clone(),
            boot: report.boot.clone(),
            address: report.address.clone(),
            to_join: of_environments(&routes),
            ..Known::default()
        };
        Ok(())
    }

    /// The edge applied all that it must, to join for the first time or again.
    async fn joins(&self, known: &mut Known) -> Result<bool, Status> {
        if !self.routes.borrow().sees {
            return Ok(false);
        }
        if known.joined {
            // Set aside meanwhile: it joins again when it applied all that is current now, releases'
            // own addresses as well: what it was set aside for may be one of them.
            let mut conn = self
                .pool
                .acquire()
                .await
                .map_err(crate::deployment::Error::from)?;
            let aside = store::is_set_aside(&mut conn, &known.edge)
                .await
                .map_err(crate::deployment::Error::from)?;
            drop(conn);
            if !aside {
                return Ok(false);
            }
            let routes = Arc::clone(&self.routes.borrow().routes);
            known.to_join = routes
                .values()
                .map(|route| (route.host.clone(), (route.epoch, route.version)))
                .collect();
        }
        if !known.applied_to_join() {
            return Ok(false);
        }
        if !known.joined && !known.to_join_renewed {
            // Staging all of a platform takes minutes, in which other releases go live.
            known.to_join = of_environments(&self.routes.borrow().routes);
            known.to_join_renewed = true;
        }
        Ok(known.applied_to_join())
    }

    async fn send_lacking(&self, known: &mut Known, routes: &Routes) -> Result<(), ()> {
        let lacking: Vec<&Arc<pb::Route>> = routes
            .values()
            .filter(|route| {
                let sent = known.sent.get(&route.host);
                sent.is_none_or(|version| *version < (route.epoch, route.version))
            })
            .collect();
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
        for route in lacking {
            known
                .sent
                .insert(route.host.clone(), (route.epoch, route.version));
        }
        Ok(())
    }
}

impl Known {
    fn applied_to_join(&self) -> bool {
        let mut wanted = self.to_join.iter();
        wanted.all(|(host, wanted)| self.held.get(host).is_some_and(|version| version >= wanted))
    }
}

fn of_environments(routes: &Routes) -> HashMap<String, Version> {
    routes
        .values()
        .filter(|route| !route.environment_id.is_empty())
        .map(|route| (route.host.clone(), (route.epoch, route.version)))
        .collect()
}
