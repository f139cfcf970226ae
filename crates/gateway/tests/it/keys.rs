//! Key pairs of processes, as an installation makes them.

use std::path::{Path, PathBuf};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Writes `<issuer>.pem` and `<issuer>.pub.pem`; answers where the private one is.
pub(crate) fn generate(dir: &Path, issuer: &str) -> PathBuf {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
    // SubjectPublicKeyInfo of Ed25519: a fixed head and the 32 bytes.
    let mut public = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".to_vec();
    public.extend_from_slice(pair.public_key().as_ref());
    let private = dir.join(format!("{issuer}.pem"));
    std::fs::write(&private, pem("PRIVATE KEY", document.as_ref())).unwrap();
    let path = dir.join(format!("{issuer}.pub.pem"));
    std::fs::write(path, pem("PUBLIC KEY", &public)).unwrap();
    private
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}
