//! Every unary call that the command line makes, by its request.

use std::time::Duration;

use candlefish_proto::{
    access::{self, access_service_client::AccessServiceClient},
    deploy::{
        self, deployment_service_client::DeploymentServiceClient,
        edge_service_client::EdgeServiceClient, queue_service_client::QueueServiceClient,
        release_service_client::ReleaseServiceClient, site_service_client::SiteServiceClient,
        stop_service_client::StopServiceClient, trigger_service_client::TriggerServiceClient,
    },
};
use tonic::{Request, transport::Channel};

use super::Answer;

/// A request and the one method that takes it.
pub(crate) trait Call: prost::Message + Default + Clone + 'static {
    /// What the method answers.
    type Answer: Send;
    /// The method's name, as a part of what an idempotency key is for.
    const NAME: &'static str;
    /// How long an answer may take.
    const TIMEOUT: Duration;

    /// Calls the method.
    fn send(channel: Channel, request: Request<Self>) -> impl Answer<Self::Answer>;
}

/// Sealing reads all content of the release again.
const SEAL: Duration = Duration::from_mins(10);
const USUAL: Duration = Duration::from_secs(30);

macro_rules! calls {
    ($($client:ident { $($package:ident::$request:ident => $answer:ident, $method:ident, $timeout:ident;)+ })+) => {
        $($(impl Call for $package::$request {
            type Answer = $package::$answer;
            const NAME: &'static str = stringify!($method);
            const TIMEOUT: Duration = $timeout;

            fn send(channel: Channel, request: Request<Self>) -> impl Answer<Self::Answer> {
                async move { $client::new(channel).$method(request).await }
            }
        })+)+
    };
}

calls! {
    TriggerServiceClient {
        deploy::ListTriggersRequest => ListTriggersResponse, list_triggers, USUAL;
    }
    SiteServiceClient {
        deploy::CreateSiteRequest => Site, create_site, USUAL;
        deploy::UpdateSiteRequest => Site, update_site, USUAL;
        deploy::GetSiteRequest => Site, get_site, USUAL;
        deploy::ListSitesRequest => ListSitesResponse, list_sites, USUAL;
        deploy::CreateEnvironmentRequest => Environment, create_environment, USUAL;
        deploy::GetEnvironmentRequest => Environment, get_environment, USUAL;
        deploy::ListEnvironmentsRequest => ListEnvironmentsResponse, list_environments, USUAL;
        deploy::UpdateEnvironmentRequest => Environment, update_environment, USUAL;
        deploy::SetHoldRequest => Environment, set_hold, USUAL;
        deploy::LiftHoldRequest => Environment, lift_hold, USUAL;
        deploy::CloseEnvironmentRequest => Environment, close_environment, USUAL;
        deploy::GetLaneRequest => Lane, get_lane, USUAL;
        deploy::ListHistoryRequest => ListHistoryResponse, list_history, USUAL;
    }
    ReleaseServiceClient {
        deploy::CreateReleaseRequest => Release, create_release, USUAL;
        deploy::ListMissingBlobsRequest => ListMissingBlobsResponse, list_missing_blobs, USUAL;
        deploy::SealReleaseRequest => Release, seal_release, SEAL;
        deploy::GetReleaseRequest => Release, get_release, USUAL;
        deploy::ListReleasesRequest => ListReleasesResponse, list_releases, USUAL;
        deploy::BanReleaseRequest => Release, ban_release, USUAL;
        deploy::ClearReleaseRequest => Release, clear_release, USUAL;
    }
    DeploymentServiceClient {
        deploy::CreateDeploymentRequest => Deployment, create_deployment, USUAL;
        deploy::GetDeploymentRequest => Deployment, get_deployment, USUAL;
        deploy::ListDeploymentsRequest => ListDeploymentsResponse, list_deployments, USUAL;
        deploy::ListLogsRequest => ListLogsResponse, list_logs, USUAL;
        deploy::ListBlockersRequest => ListBlockersResponse, list_blockers, USUAL;
        deploy::CancelDeploymentRequest => Deployment, cancel_deployment, USUAL;
        deploy::AbortDeploymentRequest => Deployment, abort_deployment, USUAL;
        deploy::RetryDeploymentRequest => Deployment, retry_deployment, USUAL;
        deploy::AdvanceDeploymentRequest => Deployment, advance_deployment, USUAL;
        deploy::PinDeploymentRequest => Deployment, pin_deployment, USUAL;
        deploy::CreateRollbackRequest => Rollback, create_rollback, USUAL;
    }
    EdgeServiceClient {
        deploy::ListEdgesRequest => ListEdgesResponse, list_edges, USUAL;
    }
    QueueServiceClient {
        deploy::ListQueueItemsRequest => ListQueueItemsResponse, list_queue_items, USUAL;
        deploy::ReplayQueueItemRequest => QueueItem, replay_queue_item, USUAL;
        deploy::DiscardQueueItemRequest => QueueItem, discard_queue_item, USUAL;
    }
    StopServiceClient {
        deploy::SetStopRequest => Stop, set_stop, USUAL;
        deploy::LiftStopRequest => Stop, lift_stop, USUAL;
        deploy::ListStopsRequest => ListStopsResponse, list_stops, USUAL;
    }
    AccessServiceClient {
        access::WhoAmIRequest => WhoAmIResponse, who_am_i, USUAL;
        access::CreatePrincipalRequest => Principal, create_principal, USUAL;
        access::ListPrincipalsRequest => ListPrincipalsResponse, list_principals, USUAL;
        access::CreateTokenRequest => CreateTokenResponse, create_token, USUAL;
        access::ListTokensRequest => ListTokensResponse, list_tokens, USUAL;
        access::RevokeTokenRequest => Token, revoke_token, USUAL;
    }
}
