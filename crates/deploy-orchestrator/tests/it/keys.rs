//! Keys of our own processes, made for one test.

use std::path::{Path, PathBuf};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use candlefish_runtime::identity::Signer;

/// A folder with a key pair for each issuer.
pub(crate) struct Keys(tempfile::TempDir);

impl Keys {
    pub(crate) fn of(issuers: &[&str]) -> Self {
        let keys = Self(tempfile::tempdir().unwrap());
        for issuer in issuers {
            keys.make(issuer);
        }
        keys
    }

    fn make(&self, issuer: &str) {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        // SubjectPublicKeyInfo of Ed25519: a fixed head and the 32 bytes.
        let mut public = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".to_vec();
        public.extend_from_slice(pair.public_key().as_ref());
        for (name, kind, bytes) in [
            (format!("{issuer}.pem"), "PRIVATE KEY", document.as_ref()),
            (format!("{issuer}.pub.pem"), "PUBLIC KEY", &public),
        ] {
            let text = STANDARD.encode(bytes);
            let pem = format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n");
            std::fs::write(self.0.path().join(name), pem).unwrap();
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn private(&self, issuer: &str) -> PathBuf {
        self.0.path().join(format!("{issuer}.pem"))
    }

    pub(crate) fn signer(&self, issuer: &str) -> Signer {
        Signer::from_pem_file(issuer, self.private(issuer)).unwrap()
    }
}
