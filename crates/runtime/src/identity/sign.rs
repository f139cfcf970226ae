//! Signs tokens with the process's own key.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header};

use super::{Caller, Claims, Kind, Role, VALID_SECONDS, now_seconds, role_word};

/// A token is handed out again for this long; well inside its 30 s, so that a call with a long
/// deadline never arrives with an expired one.
const REUSE_SECONDS: u64 = 5;
/// Principals are few; the bound is against a flood of them.
const REMEMBERED: usize = 4096;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file.
    #[error("read the key {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its content.
    #[error("the key {path} is no Ed25519 key in PEM")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: jsonwebtoken::errors::Error,
    },
}

/// The key does not sign.
#[derive(Debug, thiserror::Error)]
#[error("sign the caller's identity")]
pub struct SignError(#[from] jsonwebtoken::errors::Error);

/// When a token was signed, and the token.
type Remembered = HashMap<Subject, (u64, Arc<str>)>;

/// Signs as one issuer; cheap to clone.
#[derive(Clone)]
pub struct Signer {
    issuer: Arc<str>,
    key: EncodingKey,
    remembered: Arc<Mutex<Remembered>>,
}

/// What a token depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Subject {
    audience: String,
    principal: String,
    kind: Kind,
    role: Role,
    sites: Vec<String>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// Reads the private key: Ed25519, PKCS#8, PEM.
    pub fn from_pem_file(issuer: &str, path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let pem = std::fs::read(path).map_err(|source| KeyError::Read {
            path: path.to_owned(),
            source,
        })?;
        let key = EncodingKey::from_ed_pem(&pem).map_err(|source| KeyError::Parse {
            path: path.to_owned(),
            source,
        })?;
        let signer = Self {
            issuer: issuer.into(),
            key,
            remembered: Arc::new(Mutex::new(HashMap::new())),
        };
        // A PEM of another kind is only noticed when it signs: better now than at the first call.
        signer
            .sign(
                &Subject {
                    audience: String::new(),
                    principal: String::new(),
                    kind: Kind::Process,
                    role: Role::Unspecified,
                    sites: Vec::new(),
                },
                now_seconds(),
            )
            .map_err(|source| KeyError::Parse {
                path: path.to_owned(),
                source,
            })?;
        Ok(signer)
    }

    /// The token to send as `candlefish-identity` to the process `audience`.
    pub fn token(&self, audience: &str, caller: &Caller) -> Result<String, SignError> {
        let subject = Subject {
            audience: audience.to_owned(),
            principal: caller.principal.clone(),
            kind: caller.kind,
            role: caller.role,
            sites: caller.sites.clone(),
        };
        let now = now_seconds();
        if let Some((signed_at, token)) = self.lock().get(&subject)
            && now.saturating_sub(*signed_at) < REUSE_SECONDS
        {
            return Ok(token.to_string());
        }
        let token = self.sign(&subject, now)?;
        let mut remembered = self.lock();
        if remembered.len() >= REMEMBERED {
            remembered.retain(|_, (signed_at, _)| now.saturating_sub(*signed_at) < REUSE_SECONDS);
        }
        if remembered.len() < REMEMBERED {
            remembered.insert(subject, (now, token.as_str().into()));
        }
        Ok(token)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn sign(&self, subject: &Subject, now: u64) -> Result<String, jsonwebtoken::errors::Error> {
        let claims = Claims {
            iss: self.issuer.to_string(),
            aud: subject.audience.clone(),
            sub: subject.principal.clone(),
            iat: now,
            nbf: now,
            exp: now + VALID_SECONDS,
            jti: token_id(),
            kind: subject.kind,
            role: role_word(subject.role).to_owned(),
            sites: subject.sites.clone(),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.key)
    }
}

/// 128 random bits.
fn token_id() -> String {
    use base64::Engine as _;
    let mut bits = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bits).expect("the random source does not fail once seeded");
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bits)
}
