//! The services of the server: what the command line needs of them, and no more.

use std::{collections::BTreeMap, pin::Pin};

use candlefish_manifest::{Limits, Manifest};
use candlefish_proto::{
    access::{self as ac, access_service_server::AccessService},
    deploy::{
        self as pb, deployment_service_server::DeploymentService,
        queue_service_server::QueueService, release_service_server::ReleaseService,
        site_service_server::SiteService, stop_service_server::StopService,
        trigger_service_server::TriggerService,
    },
    event::{self as ev, event_service_server::EventService},
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use crate::server::{BEFORE, DEP, REL, Shared, TOK, URL, World};

type Answer<T> = Result<Response<T>, Status>;

/// Methods that no test calls.
macro_rules! absent {
    ($($method:ident($package:ident::$request:ident) -> $answer:ident;)+) => {
        $(fn $method<'a: 'b, 'b>(&'a self, _: Request<$package::$request>)
            -> Pin<Box<dyn Future<Output = Answer<$package::$answer>> + Send + 'b>>
        where Self: 'b {
            Box::pin(async { Err(Status::unimplemented("no test calls it")) })
        })+
    };
}

fn environment(slug: &str) -> pb::Environment {
    pb::Environment {
        id: "env_01k8qt5c2cfk2t0v1e6m7r8x9e".to_owned(),
        site: "docs".to_owned(),
        slug: slug.to_owned(),
        url: URL.to_owned(),
        live_release_id: REL.to_owned(),
        live_deployment_id: DEP.to_owned(),
        ..Default::default()
    }
}

/// Whether all looks that the environment is missed for were taken, and takes one; `None` for any other.
fn passed(looks: &mut BTreeMap<&'static str, usize>, slug: &str) -> Option<bool> {
    let left = looks.get_mut(slug)?;
    let is_passed = *left == 0;
    *left = left.saturating_sub(1);
    Some(is_passed)
}

#[tonic::async_trait]
impl SiteService for Shared {
    async fn get_site(&self, request: Request<pb::GetSiteRequest>) -> Answer<pb::Site> {
        self.take("get_site", &request)?;
        match request.into_inner().site.as_str() {
            "docs" => Ok(Response::new(pb::Site {
                slug: "docs".to_owned(),
                release_limits: self.lock().limits,
                ..Default::default()
            })),
            _ => Err(Status::not_found("there is no such site")),
        }
    }

    async fn list_sites(
        &self,
        request: Request<pb::ListSitesRequest>,
    ) -> Answer<pb::ListSitesResponse> {
        self.take("list_sites", &request)?;
        // One on each page, so that somebody has to turn it.
        let (slug, next) = match request.get_ref().page_token.as_str() {
            "second" => ("partners", ""),
            _ => ("docs", "second"),
        };
        let site = pb::Site {
            slug: slug.to_owned(),
            ..Default::default()
        };
        let next_page_token = next.to_owned();
        Ok(Response::new(pb::ListSitesResponse {
            sites: vec![site],
            next_page_token,
        }))
    }

    async fn get_environment(
        &self,
        request: Request<pb::GetEnvironmentRequest>,
    ) -> Answer<pb::Environment> {
        self.take("get_environment", &request)?;
        let is_silent = self.lock().silent;
        if is_silent {
            std::future::pending::<()>().await;
        }
        let pb::GetEnvironmentRequest {
            site,
            environment: slug,
        } = request.into_inner();
        let mut world = self.lock();
        let is_known = ["production", "staging"].contains(&slug.as_str());
        let is_there = passed(&mut world.unmade, &slug).unwrap_or(is_known);
        let is_open = passed(&mut world.closed, &slug);
        if site == "docs" && (is_there || is_open.is_some()) {
            return Ok(Response::new(pb::Environment {
                pushes: Some(world.pushes.clone()),
                hold: world.hold.clone(),
                live_deployment_id: world.live.clone().unwrap_or_else(|| DEP.to_owned()),
                closed: (is_open == Some(false)).then(pb::Closing::default),
                ..environment(&slug)
            }));
        }
        Err(Status::not_found("there is no such environment"))
    }

    async fn list_environments(
        &self,
        request: Request<pb::ListEnvironmentsRequest>,
    ) -> Answer<pb::ListEnvironmentsResponse> {
        self.take("list_environments", &request)?;
        let environments = ["production", "staging"].map(environment).to_vec();
        Ok(Response::new(pb::ListEnvironmentsResponse {
            environments,
            ..Default::default()
        }))
    }

    async fn lift_hold(&self, request: Request<pb::LiftHoldRequest>) -> Answer<pb::Environment> {
        self.take("lift_hold", &request)?;
        Ok(self.answer("lift_hold", environment("production")))
    }

    async fn set_hold(&self, request: Request<pb::SetHoldRequest>) -> Answer<pb::Environment> {
        self.take("set_hold", &request)?;
        let pb::SetHoldRequest {
            environment: slug,
            reason,
            ..
        } = request.into_inner();
        let hold = Some(pb::Hold {
            reason,
            ..Default::default()
        });
        let held = pb::Environment {
            hold,
            ..environment(&slug)
        };
        Ok(self.answer("set_hold", held))
    }

    async fn update_environment(
        &self,
        request: Request<pb::UpdateEnvironmentRequest>,
    ) -> Answer<pb::Environment> {
        self.take("update_environment", &request)?;
        let pb::UpdateEnvironmentRequest {
            environment: slug,
            pushes,
            ..
        } = request.into_inner();
        let changed = pb::Environment {
            pushes,
            ..environment(&slug)
        };
        Ok(self.answer("update_environment", changed))
    }

    async fn close_environment(
        &self,
        request: Request<pb::CloseEnvironmentRequest>,
    ) -> Answer<pb::Environment> {
        self.take("close_environment", &request)?;
        let closed = environment(&request.get_ref().environment);
        Ok(self.answer("close_environment", closed))
    }

    async fn get_lane(&self, request: Request<pb::GetLaneRequest>) -> Answer<pb::Lane> {
        self.take("get_lane", &request)?;
        let lane = self.lock().lane.clone();
        lane.map(Response::new)
            .ok_or_else(|| Status::internal("something failed inside Candlefish"))
    }

    absent! {
        create_site(pb::CreateSiteRequest) -> Site;
        update_site(pb::UpdateSiteRequest) -> Site;
        create_environment(pb::CreateEnvironmentRequest) -> Environment;
        list_history(pb::ListHistoryRequest) -> ListHistoryResponse;
    }
}

fn release(world: &World) -> pb::Release {
    let state = if world.sealed {
        pb::release::State::Sealed
    } else {
        pb::release::State::Draft
    };
    pb::Release {
        id: REL.to_owned(),
        site: "docs".to_owned(),
        state: state.into(),
        dirty: world.dirty,
        ..Default::default()
    }
}

/// What the release lacks; `None` while the manifest itself is missing.
fn missing(world: &World) -> Option<Vec<(String, u64)>> {
    let manifest = world.blobs.get(&world.manifest)?;
    let manifest = Manifest::decode(manifest, &Limits::of_sealed()).unwrap();
    let blobs = manifest
        .blobs()
        .into_iter()
        .map(|(digest, size)| (digest.to_string(), size));
    Some(
        blobs
            .filter(|(digest, _)| !world.blobs.contains_key(digest))
            .collect(),
    )
}

fn blob((digest, size): (String, u64)) -> pb::MissingBlob {
    pb::MissingBlob {
        upload_url: format!("/blobs/{digest}"),
        digest,
        size: i64::try_from(size).unwrap(),
        headers: [("x-signed".to_owned(), "yes".to_owned())].into(),
    }
}

#[tonic::async_trait]
impl ReleaseService for Shared {
    async fn create_release(
        &self,
        request: Request<pb::CreateReleaseRequest>,
    ) -> Answer<pb::Release> {
        self.take("create_release", &request)?;
        let request = request.into_inner();
        let mut world = self.lock();
        if world.manifest != request.manifest_digest {
            world.sealed = false;
        }
        world.manifest = request.manifest_digest;
        world.dirty = request.dirty;
        Ok(Response::new(release(&world)))
    }

    async fn list_missing_blobs(
        &self,
        request: Request<pb::ListMissingBlobsRequest>,
    ) -> Answer<pb::ListMissingBlobsResponse> {
        self.take("list_missing_blobs", &request)?;
        let mut world = self.lock();
        world.puts_left = world.puts_each.or(world.puts_left);
        let Some(missing) = missing(&world) else {
            let mut calls = world.calls.iter().rev();
            let (.., request) = calls.find(|(name, ..)| *name == "create_release").unwrap();
            let size = request
                .split("manifest_size: ")
                .nth(1)
                .unwrap()
                .split(',')
                .next()
                .unwrap();
            let blobs = vec![blob((world.manifest.clone(), size.parse().unwrap()))];
            return Ok(Response::new(pb::ListMissingBlobsResponse {
                blobs,
                manifest_missing: true,
                ..Default::default()
            }));
        };
        // Two on each page.
        let after = request.into_inner().page_token;
        let later: Vec<_> = missing
            .into_iter()
            .filter(|(digest, _)| *digest > after)
            .collect();
        let page: Vec<_> = later.iter().take(2).cloned().collect();
        let more = later.len() > page.len();
        let next_page_token = if more {
            page.last().unwrap().0.clone()
        } else {
            String::new()
        };
        let blobs = page.into_iter().map(blob).collect();
        Ok(Response::new(pb::ListMissingBlobsResponse {
            blobs,
            next_page_token,
            ..Default::default()
        }))
    }

    async fn seal_release(&self, request: Request<pb::SealReleaseRequest>) -> Answer<pb::Release> {
        self.take("seal_release", &request)?;
        let mut world = self.lock();
        if missing(&world).is_none_or(|missing| !missing.is_empty()) {
            return Err(Status::failed_precondition("content is missing"));
        }
        world.sealed = true;
        Ok(Response::new(release(&world)))
    }

    async fn get_release(&self, request: Request<pb::GetReleaseRequest>) -> Answer<pb::Release> {
        self.take("get_release", &request)?;
        Ok(Response::new(release(&self.lock())))
    }

    async fn ban_release(&self, request: Request<pb::BanReleaseRequest>) -> Answer<pb::Release> {
        self.take("ban_release", &request)?;
        let banned = release(&self.lock());
        Ok(self.answer("ban_release", banned))
    }

    async fn list_releases(
        &self,
        request: Request<pb::ListReleasesRequest>,
    ) -> Answer<pb::ListReleasesResponse> {
        self.take("list_releases", &request)?;
        let pb::ListReleasesRequest {
            commit, page_size, ..
        } = request.into_inner();
        let world = self.lock();
        let fits = |one: &&pb::Release| commit.is_empty() || one.commit == commit;
        let mut releases: Vec<_> = world.releases.iter().filter(fits).cloned().collect();
        let size = usize::try_from(page_size).unwrap();
        let next_page_token = if releases.len() > size {
            size.to_string()
        } else {
            String::new()
        };
        releases.truncate(size);
        Ok(Response::new(pb::ListReleasesResponse {
            releases,
            next_page_token,
        }))
    }

    absent! {
        clear_release(pb::ClearReleaseRequest) -> Release;
    }
}

type Deployments = Pin<Box<dyn Stream<Item = Result<pb::Deployment, Status>> + Send>>;

#[tonic::async_trait]
impl DeploymentService for Shared {
    type WatchDeploymentStream = Deployments;

    async fn create_deployment(
        &self,
        request: Request<pb::CreateDeploymentRequest>,
    ) -> Answer<pb::Deployment> {
        self.take("create_deployment", &request)?;
        Ok(Response::new(self.lock().deployment.clone()))
    }

    async fn get_deployment(
        &self,
        request: Request<pb::GetDeploymentRequest>,
    ) -> Answer<pb::Deployment> {
        self.take("get_deployment", &request)?;
        let world = self.lock();
        let id = &request.get_ref().id;
        let other = world.others.iter().find(|one| one.id == *id);
        Ok(Response::new(other.unwrap_or(&world.deployment).clone()))
    }

    async fn list_deployments(
        &self,
        request: Request<pb::ListDeploymentsRequest>,
    ) -> Answer<pb::ListDeploymentsResponse> {
        self.take("list_deployments", &request)?;
        let pb::ListDeploymentsRequest {
            site,
            state,
            commit,
            page_size,
            page_token,
            ..
        } = request.into_inner();
        // As the server does, which takes whole commits only.
        if !commit.is_empty() && !matches!(commit.len(), 40 | 64) {
            return Err(Status::invalid_argument("not a whole commit"));
        }
        let world = self.lock();
        let fits = |one: &&pb::Deployment| {
            let of = one.release.as_ref().map(|of| of.commit.as_str());
            (site.is_empty() || one.site == site)
                && (state == 0 || one.state == state)
                && (commit.is_empty() || of == Some(&commit))
        };
        let begin = page_token.parse().unwrap_or(0);
        let size = usize::try_from(page_size).unwrap();
        let all: Vec<_> = world.others.iter().filter(fits).cloned().collect();
        let end = begin + size;
        let next_page_token = if end < all.len() {
            end.to_string()
        } else {
            String::new()
        };
        Ok(Response::new(pb::ListDeploymentsResponse {
            deployments: all.into_iter().skip(begin).take(size).collect(),
            next_page_token,
        }))
    }

    async fn list_blockers(
        &self,
        request: Request<pb::ListBlockersRequest>,
    ) -> Answer<pb::ListBlockersResponse> {
        self.take("list_blockers", &request)?;
        let asked = request.into_inner();
        let world = self.lock();
        // The last ones first, each page oldest first.
        let end = asked.page_token.parse().unwrap_or(world.blockers.len());
        let begin = end.saturating_sub(usize::try_from(asked.page_size).unwrap());
        let sums = if asked.page_token.is_empty() {
            world.sums.clone()
        } else {
            pb::ListBlockersResponse::default()
        };
        Ok(Response::new(pb::ListBlockersResponse {
            blockers: world.blockers.get(begin..end).unwrap().to_vec(),
            next_page_token: if begin > 0 {
                begin.to_string()
            } else {
                String::new()
            },
            ..sums
        }))
    }

    async fn list_logs(
        &self,
        request: Request<pb::ListLogsRequest>,
    ) -> Answer<pb::ListLogsResponse> {
        self.take("list_logs", &request)?;
        let begin = request.get_ref().page_token.parse().unwrap_or(0);
        let world = self.lock();
        // One on each page.
        let lines: Vec<_> = world.log.iter().skip(begin).take(1).cloned().collect();
        let end = begin + lines.len();
        Ok(Response::new(pb::ListLogsResponse {
            lines,
            next_page_token: end.to_string(),
            more: end < world.log.len(),
        }))
    }

    async fn watch_deployment(
        &self,
        request: Request<pb::WatchDeploymentRequest>,
    ) -> Answer<Deployments> {
        self.take("watch_deployment", &request)?;
        let mut world = self.lock();
        world.watched.push(request.into_inner().after_version);
        let script = world.streams.pop_front();
        let stays = world.streams.is_empty();
        let script = tokio_stream::iter(script.unwrap_or_default().into_iter().map(Ok));
        if stays {
            return Ok(Response::new(Box::pin(
                script.chain(tokio_stream::pending()),
            )));
        }
        Ok(Response::new(Box::pin(script)))
    }

    async fn cancel_deployment(
        &self,
        request: Request<pb::CancelDeploymentRequest>,
    ) -> Answer<pb::Deployment> {
        self.take("cancel_deployment", &request)?;
        let deployment = self.lock().deployment.clone();
        Ok(self.answer("cancel_deployment", deployment))
    }

    async fn abort_deployment(
        &self,
        request: Request<pb::AbortDeploymentRequest>,
    ) -> Answer<pb::Deployment> {
        self.take("abort_deployment", &request)?;
        let deployment = self.lock().deployment.clone();
        Ok(self.answer("abort_deployment", deployment))
    }

    async fn retry_deployment(
        &self,
        request: Request<pb::RetryDeploymentRequest>,
    ) -> Answer<pb::Deployment> {
        self.take("retry_deployment", &request)?;
        let deployment = self.lock().deployment.clone();
        Ok(self.answer("retry_deployment", deployment))
    }

    async fn advance_deployment(
        &self,
        request: Request<pb::AdvanceDeploymentRequest>,
    ) -> Answer<pb::Deployment> {
        self.take("advance_deployment", &request)?;
        let deployment = self.lock().deployment.clone();
        Ok(self.answer("advance_deployment", deployment))
    }

    async fn pin_deployment(
        &self,
        request: Request<pb::PinDeploymentRequest>,
    ) -> Answer<pb::Deployment> {
        self.take("pin_deployment", &request)?;
        let deployment = self.lock().deployment.clone();
        Ok(self.answer("pin_deployment", deployment))
    }

    async fn create_rollback(
        &self,
        request: Request<pb::CreateRollbackRequest>,
    ) -> Answer<pb::Rollback> {
        let validates = request.get_ref().validate_only;
        self.take(
            if validates {
                "forecast"
            } else {
                "create_rollback"
            },
            &request,
        )?;
        let named = |id: &str| {
            Some(pb::Release {
                id: id.to_owned(),
                ..Default::default()
            })
        };
        let world = self.lock();
        let deployment = (!validates).then(|| world.deployment.clone());
        Ok(Response::new(pb::Rollback {
            deployment,
            from: named(REL),
            to: named(BEFORE),
            ..world.told.clone()
        }))
    }

    absent! {
        list_steps(pb::ListStepsRequest) -> ListStepsResponse;
    }
}

#[tonic::async_trait]
impl StopService for Shared {
    async fn set_stop(&self, request: Request<pb::SetStopRequest>) -> Answer<pb::Stop> {
        self.take("set_stop", &request)?;
        let pb::SetStopRequest { site, until, .. } = request.into_inner();
        let stop = pb::Stop {
            site,
            until,
            ..Default::default()
        };
        Ok(self.answer("set_stop", stop))
    }

    async fn lift_stop(&self, request: Request<pb::LiftStopRequest>) -> Answer<pb::Stop> {
        self.take("lift_stop", &request)?;
        let mut world = self.lock();
        let id = &request.get_ref().id;
        let place = world.stops.iter().position(|one| one.id == *id).unwrap();
        Ok(Response::new(world.stops.remove(place)))
    }

    async fn list_stops(
        &self,
        request: Request<pb::ListStopsRequest>,
    ) -> Answer<pb::ListStopsResponse> {
        self.take("list_stops", &request)?;
        let site = &request.get_ref().site;
        let fits = |one: &&pb::Stop| site.is_empty() || one.site.is_empty() || one.site == *site;
        let stops = self.lock().stops.iter().filter(fits).cloned().collect();
        Ok(Response::new(pb::ListStopsResponse {
            stops,
            ..Default::default()
        }))
    }
}

#[tonic::async_trait]
impl QueueService for Shared {
    async fn list_queue_items(
        &self,
        request: Request<pb::ListQueueItemsRequest>,
    ) -> Answer<pb::ListQueueItemsResponse> {
        self.take("list_queue_items", &request)?;
        let pb::ListQueueItemsRequest {
            consumer, error, ..
        } = request.get_ref();
        let fits = |one: &&pb::QueueItem| {
            (consumer.is_empty() || one.consumer == *consumer) && one.error.contains(error)
        };
        Ok(Response::new(pb::ListQueueItemsResponse {
            items: self.lock().items.iter().filter(fits).cloned().collect(),
            ..Default::default()
        }))
    }

    async fn replay_queue_item(
        &self,
        request: Request<pb::ReplayQueueItemRequest>,
    ) -> Answer<pb::QueueItem> {
        self.take("replay_queue_item", &request)?;
        let item = self.lock().decided(&request.get_ref().id);
        Ok(self.answer("replay_queue_item", item))
    }

    async fn discard_queue_item(
        &self,
        request: Request<pb::DiscardQueueItemRequest>,
    ) -> Answer<pb::QueueItem> {
        self.take("discard_queue_item", &request)?;
        let item = self.lock().decided(&request.get_ref().id);
        Ok(self.answer("discard_queue_item", item))
    }
}

#[tonic::async_trait]
impl TriggerService for Shared {
    async fn list_triggers(
        &self,
        request: Request<pb::ListTriggersRequest>,
    ) -> Answer<pb::ListTriggersResponse> {
        self.take("list_triggers", &request)?;
        Ok(Response::new(pb::ListTriggersResponse {
            triggers: self.lock().triggers.clone(),
            ..Default::default()
        }))
    }
}

fn token() -> ac::Token {
    ac::Token {
        id: TOK.to_owned(),
        name: "github".to_owned(),
        principal: "ci-docs".to_owned(),
        ..Default::default()
    }
}

#[tonic::async_trait]
impl AccessService for Shared {
    async fn who_am_i(&self, request: Request<ac::WhoAmIRequest>) -> Answer<ac::WhoAmIResponse> {
        self.take("who_am_i", &request)?;
        let principal = Some(ac::Principal {
            name: "ada".to_owned(),
            ..Default::default()
        });
        let token = ac::Token {
            name: "laptop".to_owned(),
            role: ac::Role::Admin.into(),
            ..Default::default()
        };
        Ok(Response::new(ac::WhoAmIResponse {
            principal,
            token: Some(token),
        }))
    }

    async fn create_token(
        &self,
        request: Request<ac::CreateTokenRequest>,
    ) -> Answer<ac::CreateTokenResponse> {
        self.take("create_token", &request)?;
        let made = ac::CreateTokenResponse {
            token: Some(token()),
            secret: "cft_made".to_owned(),
        };
        Ok(self.answer("create_token", made))
    }

    async fn list_tokens(
        &self,
        request: Request<ac::ListTokensRequest>,
    ) -> Answer<ac::ListTokensResponse> {
        self.take("list_tokens", &request)?;
        Ok(Response::new(ac::ListTokensResponse {
            tokens: vec![token()],
            ..Default::default()
        }))
    }

    async fn revoke_token(&self, request: Request<ac::RevokeTokenRequest>) -> Answer<ac::Token> {
        self.take("revoke_token", &request)?;
        Ok(self.answer("revoke_token", token()))
    }

    absent! {
        create_principal(ac::CreatePrincipalRequest) -> Principal;
        list_principals(ac::ListPrincipalsRequest) -> ListPrincipalsResponse;
    }
}

type Events = Pin<Box<dyn Stream<Item = Result<ev::WatchEventsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl EventService for Shared {
    type WatchEventsStream = Events;

    async fn watch_events(&self, request: Request<ev::WatchEventsRequest>) -> Answer<Events> {
        self.take("watch_events", &request)?;
        let mut world = self.lock();
        world.cursors.push(request.into_inner().cursor);
        let stream: Events = match world.events.pop_front() {
            Some(script) => {
                let end = world.breaks.pop_front().map(Err);
                Box::pin(tokio_stream::iter(script.into_iter().map(Ok).chain(end)))
            }
            None => Box::pin(tokio_stream::pending()),
        };
        let mut answer = Response::new(stream);
        if !world.unbegun {
            let begins_after = "c0".parse().unwrap();
            answer.metadata_mut().insert("watch-cursor", begins_after);
        }
        Ok(answer)
    }
}
