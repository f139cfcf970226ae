//! Who calls, between our own processes.
//!
//! A caller's process signs a token (`EdDSA`, 30 s) that names itself as issuer, the receiver as
//! audience, and the principal it speaks for. A receiver holds one public key per issuer and which
//! methods that issuer may call, so a process can only be itself and only do its part.
//!
//! The token carries no request id, so that both sides may remember it for a few seconds; the id
//! travels beside it as `candlefish-request-id`, which the gateway sets and never takes from outside.

use candlefish_proto::access;
use serde::{Deserialize, Serialize};
use tonic::Status;

pub use access::Role;
pub use layer::{Verify, VerifyLayer};
pub use methods::Allow;
pub use sign::{KeyError, SignError, Signer};
pub use verify::Verifier;

mod layer;
mod methods;
mod sign;
#[cfg(test)]
mod tests;
mod verify;

/// The metadata key of the token.
pub const IDENTITY: &str = "candlefish-identity";
/// The metadata key of the request's id.
pub const REQUEST_ID: &str = "candlefish-request-id";

/// How long a token is valid.
const VALID_SECONDS: u64 = 30;
/// How far the clocks of two machines may be apart.
const LEEWAY_SECONDS: u64 = 5;

/// What a principal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A person.
    Person,
    /// A machine, such as a CI job.
    Machine,
    /// One of our own processes, speaking for itself.
    Process,
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The principal's name.
    pub principal: String,
    /// What it is.
    pub kind: Kind,
    /// What it may do; `Unspecified` for a process.
    pub role: Role,
    /// The slugs of the sites it may see; empty for all.
    pub sites: Vec<String>,
    /// The request's id; empty when it has none.
    pub request_id: String,
    /// The process that speaks for it. Only what a verifier answers counts; a signer signs as itself.
    pub issuer: String,
}

impl Caller {
    /// A process that speaks for itself.
    pub fn process(name: &str) -> Self {
        Self {
            principal: name.to_owned(),
            kind: Kind::Process,
            role: Role::Unspecified,
            sites: Vec::new(),
            request_id: String::new(),
            issuer: name.to_owned(),
        }
    }

    /// Whether it may see the site.
    pub fn sees(&self, site: &str) -> bool {
        self.sites.is_empty() || self.sites.iter().any(|seen| seen == site)
    }
}

/// What the token says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: String,
    kind: Kind,
    role: String,
    sites: Vec<String>,
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Unspecified => "",
        Role::Viewer => "viewer",
        Role::Deployer => "deployer",
        Role::Approver => "approver",
        Role::Admin => "admin",
    }
}

fn role_from_word(word: &str) -> Option<Role> {
    match word {
        "" => Some(Role::Unspecified),
        "viewer" => Some(Role::Viewer),
        "deployer" => Some(Role::Deployer),
        "approver" => Some(Role::Approver),
        "admin" => Some(Role::Admin),
        _ => None,
    }
}

/// Seconds of this machine's wall clock: tokens are the one thing that two machines compare, with
/// a leeway.
fn now_seconds() -> u64 {
    jsonwebtoken::get_current_timestamp()
}

/// Who calls, as [`VerifyLayer`] found out.
pub fn caller<T>(request: &tonic::Request<T>) -> Result<Caller, Status> {
    request
        .extensions()
        .get::<Caller>()
        .cloned()
        .ok_or_else(|| verify::Refused::Missing.into())
}
