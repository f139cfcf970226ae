use std::convert::Infallible;

use base64::Engine as _;
use http::{Request, Response};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use tower::{Layer, ServiceExt, service_fn};

use super::*;

const HEAD: &str = "/candlefish.event.v1.FeedService/Head";
const WATCH_ROUTES: &str = "/candlefish.deploy.v1.EdgeService/WatchRoutes";
const WATCH_EVENTS: &str = "/candlefish.event.v1.EventService/WatchEvents";

/// A directory with a key pair per issuer.
struct Keys(tempfile::TempDir);

impl Keys {
    fn of(issuers: &[&str]) -> Self {
        let keys = Self(tempfile::tempdir().unwrap());
        for issuer in issuers {
            keys.generate(issuer);
        }
        keys
    }

    fn generate(&self, issuer: &str) {
        use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
        let document =
            Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        // SubjectPublicKeyInfo of Ed25519: a fixed head and the 32 bytes.
        let mut public = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".to_vec();
        public.extend_from_slice(pair.public_key().as_ref());
        std::fs::write(self.private(issuer), pem("PRIVATE KEY", document.as_ref())).unwrap();
        std::fs::write(
            self.0.path().join(format!("{issuer}.pub.pem")),
            pem("PUBLIC KEY", &public),
        )
        .unwrap();
    }

    fn private(&self, issuer: &str) -> std::path::PathBuf {
        self.0.path().join(format!("{issuer}.pem"))
    }

    fn signer(&self, issuer: &str) -> Signer {
        Signer::from_pem_file(issuer, self.private(issuer)).unwrap()
    }

    fn verifier(&self) -> Verifier {
        Verifier::from_dir(
            "deploy-orchestrator",
            self.0.path(),
            &[
                (
                    "gateway",
                    Allow::none()
                        .public()
                        .service("candlefish.event.v1.FeedService"),
                ),
                ("edge", Allow::none().method(WATCH_ROUTES)),
            ],
        )
        .unwrap()
    }

    fn sign(&self, issuer: &str, claims: &Claims) -> String {
        let key = EncodingKey::from_ed_pem(&std::fs::read(self.private(issuer)).unwrap()).unwrap();
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &key).unwrap()
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

fn erin() -> Caller {
    Caller {
        principal: "erin".to_owned(),
        kind: Kind::Person,
        role: Role::Deployer,
        sites: vec!["docs".to_owned()],
        request_id: "req_1".to_owned(),
        issuer: "gateway".to_owned(),
    }
}

fn claims() -> Claims {
    let now = now_seconds();
    Claims {
        iss: "gateway".to_owned(),
        aud: "deploy-orchestrator".to_owned(),
        sub: "erin".to_owned(),
        iat: now,
        nbf: now,
        exp: now + VALID_SECONDS,
        jti: "1".to_owned(),
        kind: Kind::Person,
        role: "deployer".to_owned(),
        sites: Vec::new(),
    }
}

/// Sends one call through the layer; answers the caller that the service saw or the refusal's word.
async fn call(verifier: Verifier, token: Option<&str>, path: &str) -> Result<Caller, String> {
    let (seen, saw) = std::sync::mpsc::channel();
    let service = VerifyLayer::new(verifier).layer(service_fn(move |request: Request<()>| {
        let request = tonic::Request::from_http(request);
        seen.send(caller(&request).unwrap()).unwrap();
        async { Ok::<_, Infallible>(Response::new(String::new())) }
    }));
    let mut request = Request::post(path).header(REQUEST_ID, "req_1");
    if let Some(token) = token {
        request = request.header(IDENTITY, token);
    }
    let response = service.oneshot(request.body(()).unwrap()).await.unwrap();
    if let Ok(caller) = saw.try_recv() {
        return Ok(caller);
    }
    let status = Status::from_header_map(response.headers()).unwrap();
    let reason = tonic_types::StatusExt::get_details_error_info(&status)
        .unwrap()
        .reason;
    let denied = status.code() == tonic::Code::PermissionDenied;
    assert_eq!(denied, reason == "issuer-not-allowed", "{status:?}");
    assert!(
        denied || status.code() == tonic::Code::Unauthenticated,
        "{status:?}"
    );
    Err(reason)
}

#[tokio::test]
async fn a_caller_arrives_as_it_was_signed() {
    let keys = Keys::of(&["gateway", "edge"]);
    let token = keys
        .signer("gateway")
        .token("deploy-orchestrator", &erin())
        .unwrap();
    assert_eq!(
        call(keys.verifier(), Some(&token), WATCH_EVENTS).await,
        Ok(erin())
    );
    // Remembered by the second time, and still held to the methods.
    let verifier = keys.verifier();
    assert_eq!(call(verifier.clone(), Some(&token), HEAD).await, Ok(erin()));
    assert_eq!(
        call(verifier, Some(&token), WATCH_ROUTES).await,
        Err("issuer-not-allowed".to_owned())
    );
}

#[tokio::test]
async fn a_missing_identity_is_refused() {
    let keys = Keys::of(&["gateway", "edge"]);
    assert_eq!(
        call(keys.verifier(), None, HEAD).await,
        Err("identity-missing".to_owned())
    );
}

#[tokio::test]
async fn a_forged_identity_is_refused() {
    let keys = Keys::of(&["gateway", "edge"]);
    let forged = || Err("identity-forged".to_owned());
    let verifier = keys.verifier();

    // The edge's key under the gateway's name.
    let token = keys.sign("edge", &claims());
    assert_eq!(call(verifier.clone(), Some(&token), HEAD).await, forged());
    // A key that nobody trusts, under its own name.
    let strange = Keys::of(&["gateway", "stranger"]);
    let token = strange.sign(
        "stranger",
        &Claims {
            iss: "stranger".to_owned(),
            ..claims()
        },
    );
    assert_eq!(call(verifier.clone(), Some(&token), HEAD).await, forged());
    // The gateway's name, a key that was never the gateway's.
    let token = strange.sign("gateway", &claims());
    assert_eq!(call(verifier.clone(), Some(&token), HEAD).await, forged());
    // The public key as a shared secret.
    let public = std::fs::read(keys.0.path().join("gateway.pub.pem")).unwrap();
    let token = jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &claims(),
        &EncodingKey::from_secret(&public),
    )
    .unwrap();
    assert_eq!(call(verifier.clone(), Some(&token), HEAD).await, forged());
    // A good token with another's claims put in.
    let good = keys.sign("gateway", &claims());
    let other = keys.sign(
        "edge",
        &Claims {
            sub: "admin".to_owned(),
            ..claims()
        },
    );
    let (good, other): (Vec<_>, Vec<_>) = (good.split('.').collect(), other.split('.').collect());
    let mixed = [good[0], other[1], good[2]].join(".");
    assert_eq!(call(verifier.clone(), Some(&mixed), HEAD).await, forged());
    assert_eq!(call(verifier, Some("nonsense"), HEAD).await, forged());
}

#[tokio::test]
async fn an_expired_identity_is_refused_and_so_is_one_of_the_future() {
    let keys = Keys::of(&["gateway", "edge"]);
    let now = now_seconds();
    let expired = Claims {
        exp: now - LEEWAY_SECONDS - 1,
        nbf: now - 60,
        ..claims()
    };
    let early = Claims {
        nbf: now + LEEWAY_SECONDS + 5,
        ..claims()
    };
    for claims in [expired, early] {
        let token = keys.sign("gateway", &claims);
        assert_eq!(
            call(keys.verifier(), Some(&token), HEAD).await,
            Err("identity-expired".to_owned())
        );
    }
    // Within the leeway, clocks may differ.
    let late = Claims {
        exp: now - LEEWAY_SECONDS + 2,
        nbf: now - 60,
        ..claims()
    };
    let token = keys.sign("gateway", &late);
    assert!(call(keys.verifier(), Some(&token), HEAD).await.is_ok());
}

#[tokio::test]
async fn a_misaddressed_identity_is_refused() {
    let keys = Keys::of(&["gateway", "edge"]);
    let token = keys
        .signer("gateway")
        .token("health-monitor", &erin())
        .unwrap();
    assert_eq!(
        call(keys.verifier(), Some(&token), HEAD).await,
        Err("identity-misaddressed".to_owned())
    );
}

#[tokio::test]
async fn an_issuer_may_call_only_its_own_methods() {
    let keys = Keys::of(&["gateway", "edge"]);
    let edge = Caller::process("edge");
    let token = keys
        .signer("edge")
        .token("deploy-orchestrator", &edge)
        .unwrap();
    let verifier = keys.verifier();
    assert!(
        call(verifier.clone(), Some(&token), WATCH_ROUTES)
            .await
            .is_ok()
    );
    for method in [
        HEAD,
        WATCH_EVENTS,
        "/candlefish.deploy.v1.EdgeService/ListEdges",
    ] {
        assert_eq!(
            call(verifier.clone(), Some(&token), method).await,
            Err("issuer-not-allowed".to_owned()),
            "{method}"
        );
    }
}

#[test]
fn a_token_is_reused_for_the_same_caller_only() {
    let keys = Keys::of(&["gateway"]);
    let signer = keys.signer("gateway");
    let other_request = Caller {
        request_id: "req_2".to_owned(),
        ..erin()
    };
    let other_role = Caller {
        role: Role::Admin,
        ..erin()
    };
    let first = signer.token("deploy-orchestrator", &erin()).unwrap();
    assert_eq!(
        signer.token("deploy-orchestrator", &other_request).unwrap(),
        first
    );
    assert_ne!(
        signer.token("deploy-orchestrator", &other_role).unwrap(),
        first
    );
    assert_ne!(signer.token("health-monitor", &erin()).unwrap(), first);
}

#[test]
fn a_key_that_is_missing_or_broken_is_named_at_the_start() {
    let keys = Keys::of(&["gateway"]);
    let error = Verifier::from_dir("x", keys.0.path(), &[("edge", Allow::none())]).unwrap_err();
    assert!(error.to_string().contains("edge.pub.pem"), "{error}");
    std::fs::write(keys.private("gateway"), "no key").unwrap();
    assert!(Signer::from_pem_file("gateway", keys.private("gateway")).is_err());
}

#[test]
fn a_caller_without_sites_sees_all_of_them() {
    assert!(erin().sees("docs"));
    assert!(!erin().sees("partners"));
    assert!(
        Caller {
            sites: Vec::new(),
            ..erin()
        }
        .sees("partners")
    );
}
