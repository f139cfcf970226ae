//! Verifies tokens: whose signature, for whom, still valid, and may its issuer call this method.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use tonic::Status;

use super::{
    Allow, Caller, Claims, KeyError, LEEWAY_SECONDS, REQUEST_ID, now_seconds, role_from_word,
};
use crate::refusal::{Code, Refusal};

/// Verified tokens that are remembered until they expire.
const REMEMBERED: usize = 4096;

/// Why a call is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("the call carries no identity")]
    Missing,
    #[error("the identity is not signed by a process that is known here")]
    Forged,
    #[error("the identity has expired or is not valid yet")]
    Expired,
    #[error("the identity is meant for another process")]
    Misaddressed,
    #[error("{issuer} may not call {method}")]
    NotAllowed { issuer: String, method: String },
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let (code, reason) = match &refused {
            Refused::Missing => (Code::Unauthenticated, "identity-missing"),
            Refused::Forged => (Code::Unauthenticated, "identity-forged"),
            Refused::Expired => (Code::Unauthenticated, "identity-expired"),
            Refused::Misaddressed => (Code::Unauthenticated, "identity-misaddressed"),
            Refused::NotAllowed { .. } => (Code::PermissionDenied, "issuer-not-allowed"),
        };
        Refusal::new(code, reason, refused.to_string()).into()
    }
}

/// What one receiver accepts; cheap to clone.
#[derive(Clone)]
pub struct Verifier {
    audience: Arc<str>,
    issuers: Arc<HashMap<String, Issuer>>,
    remembered: Arc<Mutex<HashMap<String, Arc<Claims>>>>,
}

struct Issuer {
    key: DecodingKey,
    allow: Allow,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier")
            .field("audience", &self.audience)
            .field("issuers", &self.issuers.keys())
            .finish_non_exhaustive()
    }
}

impl Verifier {
    /// Reads `<issuer>.pub.pem` of each issuer; one that is missing or broken is an error.
    pub fn from_dir(
        audience: &str,
        dir: impl AsRef<Path>,
        issuers: &[(&str, Allow)],
    ) -> Result<Self, KeyError> {
        let mut known = HashMap::new();
        for (name, allow) in issuers {
            let path = dir.as_ref().join(format!("{name}.pub.pem"));
            let pem = std::fs::read(&path).map_err(|source| KeyError::Read {
                path: path.clone(),
                source,
            })?;
            let key = DecodingKey::from_ed_pem(&pem).map_err(|source| KeyError::Parse {
                path: path.clone(),
                source,
            })?;
            known.insert(
                (*name).to_owned(),
                Issuer {
                    key,
                    allow: allow.clone(),
                },
            );
        }
        Ok(Self {
            audience: audience.into(),
            issuers: Arc::new(known),
            remembered: Arc::new(Mutex::new(HashMap::new())),
        })
    }

    /// Who calls the method (`/package.Service/Method`), or why the call is refused.
    pub(super) fn verify(
        &self,
        headers: &http::HeaderMap,
        method: &str,
    ) -> Result<Caller, Refused> {
        let token = headers.get(super::IDENTITY).ok_or(Refused::Missing)?;
        let token = token
            .to_str()
            .ok()
            .filter(|t| !t.is_empty())
            .ok_or(Refused::Forged)?;
        let claims = self.claims(token)?;
        let issuer = self.issuers.get(&claims.iss).ok_or(Refused::Forged)?;
        if !issuer.allow.permits(method) {
            return Err(Refused::NotAllowed {
                issuer: claims.iss.clone(),
                method: method.to_owned(),
            });
        }
        Ok(Caller {
            principal: claims.sub.clone(),
            kind: claims.kind,
            role: role_from_word(&claims.role).ok_or(Refused::Forged)?,
            sites: claims.sites.clone(),
            request_id: headers
                .get(REQUEST_ID)
                .and_then(|id| id.to_str().ok())
                .unwrap_or_default()
                .to_owned(),
            issuer: claims.iss.clone(),
        })
    }

    fn claims(&self, token: &str) -> Result<Arc<Claims>, Refused> {
        let now = now_seconds();
        if let Some(claims) = self.lock().get(token).cloned() {
            return if now <= claims.exp + LEEWAY_SECONDS {
                Ok(claims)
            } else {
                Err(Refused::Expired)
            };
        }
        let claims = Arc::new(self.decode(token)?);
        let mut remembered = self.lock();
        if remembered.len() >= REMEMBERED {
            remembered.retain(|_, claims| now <= claims.exp);
        }
        if remembered.len() < REMEMBERED {
            remembered.insert(token.to_owned(), Arc::clone(&claims));
        }
        Ok(claims)
    }

    fn decode(&self, token: &str) -> Result<Claims, Refused> {
        // The issuer chooses the key before anything is believed; the signature then decides.
        let said: Unproven = jsonwebtoken::dangerous::insecure_decode(token)
            .map_err(|_unreadable| Refused::Forged)?
            .claims;
        let issuer = self.issuers.get(&said.iss).ok_or(Refused::Forged)?;
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.leeway = LEEWAY_SECONDS;
        rules.validate_nbf = true;
        rules.set_audience(&[&self.audience]);
        rules.set_issuer(&[&said.iss]);
        rules.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
        jsonwebtoken::decode(token, &issuer.key, &rules)
            .map(|token| token.claims)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature | ErrorKind::ImmatureSignature => Refused::Expired,
                ErrorKind::InvalidAudience => Refused::Misaddressed,
                _ => Refused::Forged,
            })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Claims>>> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a token says before its signature was looked at.
#[derive(serde::Deserialize)]
struct Unproven {
    iss: String,
}
