//! Who is calling: an API token becomes a caller, and a caller is measured against a role.
//!
//! Verified tokens are remembered for a few seconds, so that the hot path asks no database; so are
//! unknown ones, so that a flood of wrong tokens asks it no more often. A revoked token works on for
//! that long on other replicas, never here. Streams ask again and again, so that they end soon after
//! their token.

use std::{sync::Arc, time::Duration};

use candlefish_ids::TokenId;
use candlefish_proto::access::{self, Role};
use candlefish_runtime::{
    database,
    identity::Caller,
    refusal::{Code, Refusal},
};
use http::{HeaderMap, header};
use sqlx::PgPool;
use tokio::time::Instant;

use crate::{
    principal::Principal,
    token::{Presented, Token, store},
};

mod remembered;

use remembered::Remembered;

/// The process that speaks for callers.
pub(crate) const ISSUER: &str = "gateway";
/// A stream asks for its token at most this often, however short tokens are remembered.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A token that was verified.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) principal: Principal,
    pub(crate) token: Token,
    /// Without a request's id.
    pub(crate) caller: Caller,
    /// When it expires, by this process's own clock.
    ends: Option<Instant>,
}

/// What is remembered of a presented token.
#[derive(Debug, Clone)]
enum Memory {
    Good(Arc<Verified>),
    Bad(Fault),
}

/// Why a token does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Missing,
    Malformed,
    Unknown,
    Expired,
    Revoked,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let (reason, words) = match fault {
            Fault::Missing => (
                "token-missing",
                "send a token: `Authorization: Bearer cft_…`",
            ),
            Fault::Malformed => (
                "token-malformed",
                "what was sent in `Authorization` is no token; send `Bearer cft_…`",
            ),
            Fault::Unknown => ("token-unknown", "this token is not known"),
            Fault::Expired => (
                "token-expired",
                "this token has expired; ask an admin for a new one",
            ),
            Fault::Revoked => (
                "token-revoked",
                "this token was revoked; ask an admin for a new one",
            ),
        };
        Self::new(Code::Unauthenticated, reason, words)
    }
}

/// Verifies tokens; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Auth {
    pool: PgPool,
    remembered: Remembered,
    /// How often a stream asks whether its token still works.
    look_again: Duration,
}

impl Auth {
    /// `remember_for` bounds how long a revoked token still works on other replicas.
    pub(crate) fn new(pool: PgPool, remember_for: Duration) -> Self {
        let remembered = Remembered::new(remember_for);
        Self {
            pool,
            remembered,
            look_again: remember_for.max(LOOK_AGAIN),
        }
    }

    /// Who calls, by the `authorization` header.
    pub(crate) async fn verify(&self, headers: &HeaderMap) -> Result<Arc<Verified>, Refusal> {
        let presented = presented(headers)?;
        let hash = presented.hash;
        let memory = if let Some(memory) = self.remembered.find(&hash).await {
            memory
        } else {
            // Before the row is read: a revocation meanwhile makes this answer one that is not found.
            let since = self.remembered.now();
            let memory = self.look_up(presented).await?;
            self.remembered.keep(since, hash, memory.clone()).await;
            memory
        };
        match memory {
            Memory::Bad(fault) => Err(fault.into()),
            Memory::Good(verified) if verified.ends.is_some_and(|ends| ends <= Instant::now()) => {
                Err(Fault::Expired.into())
            }
            Memory::Good(verified) => Ok(verified),
        }
    }

    /// Ends when the token of these headers works no more, with why. What the database does not answer
    /// says nothing of it.
    pub(crate) fn lapse(
        &self,
        headers: &HeaderMap,
    ) -> impl Future<Output = Refusal> + Send + 'static + use<> {
        let auth = self.clone();
        let mut shown = HeaderMap::new();
        if let Some(token) = headers.get(header::AUTHORIZATION) {
            shown.insert(header::AUTHORIZATION, token.clone());
        }
        async move {
            loop {
                tokio::time::sleep(auth.look_again).await;
                if let Err(refusal) = auth.verify(&shown).await
                    && refusal.code() == Code::Unauthenticated
                {
                    return refusal;
                }
            }
        }
    }

    /// Forgets a token that was revoked.
    pub(crate) fn forget(&self, id: TokenId) {
        // Entries are named by their hash, which a revocation does not know. Forgetting all costs
        // one query per token that is in use.
        tracing::debug!(token = %id, "forgetting verified tokens");
        self.remembered.forget();
    }

    async fn look_up(&self, presented: Presented) -> Result<Memory, Refusal> {
        let failed = |source: sqlx::Error| database::refuse("look up a token", &source);
        let mut conn = self.pool.acquire().await.map_err(failed)?;
        let found = store::find(&mut conn, presented.id).await.map_err(failed)?;
        Ok(match found {
            Some(found) if presented.hash.is(&found.hash) => judge(found),
            _ => Memory::Bad(Fault::Unknown),
        })
    }
}

fn judge(found: store::Found) -> Memory {
    if found.token.revoked_at.is_some() {
        return Memory::Bad(Fault::Revoked);
    }
    let left = found
        .token
        .expires_at
        .map(|ends| ends.duration_since(found.now));
    let ends = match left.map(Duration::try_from) {
        Some(Err(_)) => return Memory::Bad(Fault::Expired),
        Some(Ok(left)) => Instant::now().checked_add(left),
        None => None,
    };
    let caller = Caller {
        principal: found.principal.name.clone(),
        kind: found.principal.kind.of_caller(),
        role: found.token.role,
        sites: found.token.sites.clone(),
        request_id: String::new(),
        issuer: ISSUER.to_owned(),
    };
    Memory::Good(Arc::new(Verified {
        principal: found.principal,
        token: found.token,
        caller,
        ends,
    }))
}

fn presented(headers: &HeaderMap) -> Result<Presented, Fault> {
    let value = headers.get(header::AUTHORIZATION).ok_or(Fault::Missing)?;
    let text = value.to_str().map_err(|_error| Fault::Malformed)?;
    let (scheme, token) = text.split_once(' ').ok_or(Fault::Malformed)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Fault::Malformed);
    }
    Presented::parse(token.trim()).ok_or(Fault::Malformed)
}

/// Refuses a caller whose role is too low, naming the one it needs.
pub(crate) fn require(role: Role, caller: &Caller) -> Result<(), Refusal> {
    if caller.role >= role {
        return Ok(());
    }
    let words = format!(
        "this needs the role {}; {:?} has {}",
        role_name(role),
        caller.principal,
        role_name(caller.role)
    );
    Err(Refusal::new(Code::PermissionDenied, "role-too-low", words)
        .metadata("needs", role.as_str_name())
        .metadata("has", caller.role.as_str_name()))
}

/// How people call a role.
pub(crate) fn role_name(role: Role) -> &'static str {
    crate::token::role_word(role).unwrap_or("none")
}

/// The whole answer to "who am I".
pub(crate) fn who_am_i(verified: &Verified) -> access::WhoAmIResponse {
    access::WhoAmIResponse {
        principal: Some(verified.principal.clone().into()),
        token: Some(verified.token.clone().into()),
    }
}
