//! Requests that act, and where to look at what they acted on: an answer that the server kept for a
//! repeat may say what is no longer so.

use candlefish_proto::{access, deploy};

use super::calls::Call;

/// A request that acts.
pub(crate) trait Act: Call {
    /// The command that shows what is now. `None` where who asks says itself that it repeats, and
    /// watches what was made.
    fn now(&self, answer: &Self::Answer) -> Option<String>;
}

macro_rules! acts {
    ($($package:ident::$request:ident => $now:expr;)+) => {
        $(impl Act for $package::$request {
            fn now(&self, answer: &Self::Answer) -> Option<String> {
                let now: fn(&Self, &Self::Answer) -> String = $now;
                Some(format!("candlefish {}", now(self, answer)))
            }
        })+
    };
}

acts! {
    deploy::CreateSiteRequest => |asked, _| format!("sites show {}", asked.slug);
    deploy::UpdateSiteRequest => |asked, _| format!("sites show {}", asked.site);
    deploy::CreateEnvironmentRequest => |asked, _| environment(&asked.site, &asked.slug);
    deploy::UpdateEnvironmentRequest => |asked, _| environment(&asked.site, &asked.environment);
    deploy::CloseEnvironmentRequest => |asked, _| environment(&asked.site, &asked.environment);
    deploy::SetHoldRequest => |asked, _| hold(&asked.site, &asked.environment);
    deploy::LiftHoldRequest => |asked, _| hold(&asked.site, &asked.environment);
    deploy::BanReleaseRequest => |_, release| format!("releases {}", release.site);
    deploy::ClearReleaseRequest => |_, release| format!("releases {}", release.site);
    deploy::CancelDeploymentRequest => |asked, _| format!("status {}", asked.id);
    deploy::AbortDeploymentRequest => |asked, _| format!("status {}", asked.id);
    deploy::AdvanceDeploymentRequest => |asked, _| format!("status {}", asked.id);
    deploy::PinDeploymentRequest => |asked, _| format!("status {}", asked.id);
    deploy::RetryDeploymentRequest => |_, made| format!("status {}", made.id);
    deploy::ReplayQueueItemRequest => |_, _| "queues list".to_owned();
    deploy::DiscardQueueItemRequest => |_, _| "queues list".to_owned();
    deploy::SetStopRequest => |_, stop| stops(&stop.site);
    deploy::LiftStopRequest => |_, stop| stops(&stop.site);
    access::CreatePrincipalRequest => |_, _| "principals list".to_owned();
    access::CreateTokenRequest => |_, _| "tokens list".to_owned();
    access::RevokeTokenRequest => |_, _| "tokens list".to_owned();
}

impl Act for deploy::CreateDeploymentRequest {
    fn now(&self, _answer: &Self::Answer) -> Option<String> {
        None
    }
}

impl Act for deploy::CreateRollbackRequest {
    fn now(&self, _answer: &Self::Answer) -> Option<String> {
        None
    }
}

fn environment(site: &str, environment: &str) -> String {
    format!("env show {site}/{environment}")
}

fn hold(site: &str, environment: &str) -> String {
    format!("hold show {site}/{environment}")
}

/// Without a site, those of everything are among all of them.
fn stops(site: &str) -> String {
    format!("stop list {site}").trim_end().to_owned()
}
