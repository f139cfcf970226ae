//! What runs, asked of the services in this gateway's own name, for the front page.
//!
//! Asked at most once a second for those who see the same, however many look: the page needs no token.
//! With one it shows what runs, and the sites that the token may see; without, nothing of that is asked.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use candlefish_proto::deploy::{
    self as pb, deployment_service_client::DeploymentServiceClient,
    edge_service_client::EdgeServiceClient, release_service_client::ReleaseServiceClient,
    site_service_client::SiteServiceClient,
};
use candlefish_runtime::{
    identity::{Caller, IDENTITY, Signer},
    trace,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Uri;
use jiff::Timestamp;
use moka::future::Cache;
use tonic::{Request, Response, Status};

use crate::{
    auth::ISSUER,
    backend::Backend,
    call::ORCHESTRATOR,
    feed,
    pages::{
        Home,
        home::{
            Acting, Edge, EdgeState, Environment, Hold, Live, Replica, Service, Shown, Site, Stop,
        },
    },
};

/// A page that is asked for again within this time is the same.
const FRESH: Duration = Duration::from_secs(1);
/// The front page is a glance: whoever has more sites uses the API.
const SITES: i32 = 30;
/// Of one site. Each that is shown may take two more questions.
const ENVIRONMENTS: i32 = 20;
/// Questions that are asked at the same time, for sites and for the environments of each.
const TOGETHER: usize = 4;
/// The largest page of edges there is: all of them are shown.
const EDGES: i32 = 200;
const TIMEOUT: Duration = Duration::from_secs(2);
/// Pages that are remembered: one for each set of sites that tokens have.
const REMEMBERED: u64 = 100;

/// Who looks, as far as the page differs by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Asker {
    /// Without a token.
    Anyone,
    /// With a token of these sites; empty for all.
    Token(Vec<String>),
}

/// What was shown lately.
pub(crate) fn memory() -> Cache<Asker, Home> {
    Cache::builder()
        .max_capacity(REMEMBERED)
        .time_to_live(FRESH)
        .build()
}

/// Asks one replica after the other until one can be reached: while one is down the page is whole.
macro_rules! ask {
    ($asking:expr, $client:ident, $method:ident, $message:expr) => {{
        let mut answer = Err(Status::unavailable("no replica is configured"));
        for channel in $asking.backend.in_turn() {
            let request = $asking.request($message)?;
            answer = $client::new(channel).$method(request).await;
            if !answer.as_ref().is_err_and(feed::is_silent) {
                break;
            }
        }
        answer.map(Response::into_inner)
    }};
}

/// Asks and remembers; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Overview {
    pub(crate) backend: Backend,
    pub(crate) signer: Signer,
    /// Where this gateway listens.
    pub(crate) own: SocketAddr,
    pub(crate) replicas: Arc<[Uri]>,
    /// Everything is shown without a token.
    pub(crate) open: bool,
    pub(crate) remembered: Cache<Asker, Home>,
}

impl Overview {
    /// The front page's data; `base_url` is how the asker reached us.
    pub(crate) async fn look(&self, base_url: String, asker: Asker) -> Home {
        let sees = match &asker {
            Asker::Anyone => self.open.then(Vec::new),
            Asker::Token(sites) => Some(sites.clone()),
        };
        // Of those that look at once, one asks.
        let asking = Box::pin(self.ask(sees));
        let home = self.remembered.get_with(asker, asking).await;
        Home { base_url, ..home }
    }

    /// What is shown to who sees these sites, or none.
    async fn ask(&self, sees: Option<Vec<String>>) -> Home {
        let mut more_sites = false;
        let (services, sites, edges) = if let Some(sites) = sees {
            let asking = Asking {
                backend: &self.backend,
                signer: &self.signer,
                caller: Caller {
                    sites,
                    ..Caller::process(ISSUER)
                },
            };
            let listed = within(asking.sites()).await.map(|(sites, more)| {
                more_sites = more;
                sites
            });
            let services = Shown::These(self.services().await);
            (services, shown(listed), shown(within(asking.edges()).await))
        } else {
            (Shown::Hidden, Shown::Hidden, Shown::Hidden)
        };
        Home {
            base_url: String::new(),
            services,
            sites,
            more_sites,
            edges,
        }
    }

    async fn services(&self) -> Vec<Service> {
        let mut replicas = Vec::new();
        for uri in &*self.replicas {
            let Some(authority) = uri.authority() else {
                continue;
            };
            let port = authority.port_u16().unwrap_or(80);
            let connecting = tokio::net::TcpStream::connect((authority.host(), port));
            let answers = tokio::time::timeout(TIMEOUT, connecting).await;
            replicas.push(Replica {
                address: authority.to_string(),
                answers: matches!(answers, Ok(Ok(_))),
            });
        }
        let own = Service {
            name: ISSUER.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            // Who answers this page runs.
            replicas: vec![Replica {
                address: self.own.to_string(),
                answers: true,
            }],
        };
        let orchestrator = Service {
            name: ORCHESTRATOR.to_owned(),
            version: String::new(),
            replicas,
        };
        vec![own, orchestrator]
    }
}

/// What is asked for one page, all together.
async fn within<T>(asking: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let answer = tokio::time::timeout(TIMEOUT, asking).await;
    answer.unwrap_or_else(|_late| Err(Status::deadline_exceeded("it does not answer in time")))
}

fn shown<T>(answer: Result<Vec<T>, Status>) -> Shown<T> {
    match answer {
        Ok(these) => Shown::These(these),
        Err(status) => Shown::Unknown(status.message().to_owned()),
    }
}

/// Asks for who sees some sites.
struct Asking<'a> {
    backend: &'a Backend,
    signer: &'a Signer,
    caller: Caller,
}

impl Asking<'_> {
    /// The first sites, and whether there are more.
    async fn sites(&self) -> Result<(Vec<Site>, bool), Status> {
        let first = pb::ListSitesRequest {
            page_size: SITES,
            ..Default::default()
        };
        let page = ask!(self, SiteServiceClient, list_sites, first.clone())?;
        let shown = stream::iter(page.sites).map(|site| self.site(site));
        let shown = shown.buffered(TOGETHER).try_collect().await?;
        Ok((shown, !page.next_page_token.is_empty()))
    }

    async fn site(&self, site: pb::Site) -> Result<Site, Status> {
        let of = pb::ListEnvironmentsRequest {
            site: site.slug.clone(),
            page_size: ENVIRONMENTS,
            ..Default::default()
        };
        let listed = ask!(self, SiteServiceClient, list_environments, of.clone())?;
        let environments = stream::iter(listed.environments).map(|one| self.environment(one));
        Ok(Site {
            slug: site.slug,
            name: site.name,
            environments: environments.buffered(TOGETHER).try_collect().await?,
            more: !listed.next_page_token.is_empty(),
        })
    }

    async fn environment(&self, one: pb::Environment) -> Result<Environment, Status> {
        Ok(Environment {
            live: self.live(&one).await?,
            acting: self.acting(&one.acting_deployment_id).await?,
            hold: one.hold.map(|hold| Hold {
                by: hold.by,
                reason: hold.reason,
                since: moment(hold.since),
            }),
            stops: one
                .stops
                .into_iter()
                .map(|stop| Stop {
                    everything: stop.site.is_empty(),
                    by: stop.by,
                    reason: stop.reason,
                    until: moment(stop.until),
                })
                .collect(),
            slug: one.slug,
            url: one.url,
            pending: one.pending_count,
            not_restorable: one.not_restorable,
        })
    }

    async fn live(&self, one: &pb::Environment) -> Result<Option<Live>, Status> {
        if one.live_release_id.is_empty() {
            return Ok(None);
        }
        let id = &one.live_release_id;
        let wanted = pb::GetReleaseRequest { id: id.clone() };
        let release = ask!(self, ReleaseServiceClient, get_release, wanted.clone())?;
        Ok(Some(Live {
            release_id: release.id,
            commit: release.commit,
            message: release.message,
            since: moment(one.live_since),
        }))
    }

    async fn acting(&self, id: &str) -> Result<Option<Acting>, Status> {
        if id.is_empty() {
            return Ok(None);
        }
        let wanted = pb::GetDeploymentRequest { id: id.to_owned() };
        let one = ask!(
            self,
            DeploymentServiceClient,
            get_deployment,
            wanted.clone()
        )?;
        let message = one.blockers.first().map(|blocker| blocker.message.clone());
        Ok(Some(Acting {
            deployment_id: one.id,
            message: message.unwrap_or(one.message),
            weight: one.weight,
        }))
    }

    async fn edges(&self) -> Result<Vec<Edge>, Status> {
        let mut wanted = pb::ListEdgesRequest {
            page_size: EDGES,
            ..Default::default()
        };
        let mut edges = Vec::new();
        loop {
            let page = ask!(self, EdgeServiceClient, list_edges, wanted.clone())?;
            edges.extend(page.edges);
            if page.next_page_token.is_empty() {
                break;
            }
            wanted.page_token = page.next_page_token;
        }
        Ok(edges
            .into_iter()
            .map(|edge| Edge {
                state: match edge.state() {
                    pb::edge::State::Live => EdgeState::Live,
                    pb::edge::State::Failing => EdgeState::Failing,
                    pb::edge::State::Silent => EdgeState::Silent,
                    pb::edge::State::Joining | pb::edge::State::Unspecified => EdgeState::Joining,
                },
                id: edge.id,
                address: edge.address,
                message: edge.message,
                staged: edge.staged_count,
                routes: edge.route_count,
            })
            .collect())
    }

    fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let token = self.signer.token(ORCHESTRATOR, &self.caller);
        let token = token.map_err(|error| Status::internal(error.to_string()))?;
        let token = token
            .parse()
            .map_err(|_error| Status::internal("a token is no header"))?;
        let mut request = Request::new(message);
        request.metadata_mut().insert(IDENTITY, token);
        trace::inject(request.metadata_mut());
        request.set_timeout(TIMEOUT);
        Ok(request)
    }
}

fn moment(at: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    let at = at?;
    Timestamp::new(at.seconds, at.nanos).ok()
}
