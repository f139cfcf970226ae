//! The key of an App: its private half is the App's, its public one is what GitHub knows.

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::DecodingKey;

/// A new key: the private half as GitHub hands it out, PEM, and the public one.
pub(super) fn generate() -> (String, DecodingKey) {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let text = STANDARD.encode(der.as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    (pem, DecodingKey::from_rsa_der(pair.public_key().as_ref()))
}
