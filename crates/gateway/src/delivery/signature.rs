//! Whether a body was signed with a secret that we share with its sender.

use std::fmt;

use aws_lc_rs::hmac;

/// Shorter ones can be guessed.
const LEAST_SECRET: usize = 16;

/// The shared secret, and the one before it while senders change over.
#[derive(Clone)]
pub(crate) struct Secrets {
    current: hmac::Key,
    previous: Option<hmac::Key>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// A secret is too short to keep anybody out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must have at least {LEAST_SECRET} characters")]
pub(crate) struct TooShort;

impl Secrets {
    pub(crate) fn new(current: &str, previous: Option<&str>) -> Result<Self, TooShort> {
        let key = |secret: &str| {
            let long = secret.len() >= LEAST_SECRET;
            let key = || hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
            long.then(key).ok_or(TooShort)
        };
        Ok(Self {
            current: key(current)?,
            previous: previous.map(key).transpose()?,
        })
    }

    /// What is set, in words without the secrets.
    pub(crate) fn words(&self) -> &'static str {
        if self.previous.is_some() {
            "set, and the one before it"
        } else {
            "set"
        }
    }

    /// Whether `signature` is the body's, under either secret. Both are always tried, and each
    /// comparison takes constant time, so that an answer's time tells nothing.
    pub(crate) fn verify(&self, signature: &Signature, body: &[u8]) -> bool {
        let fits = |key: &hmac::Key| hmac::verify(key, body, &signature.0).is_ok();
        let current = fits(&self.current);
        let previous = self.previous.as_ref().is_some_and(fits);
        current | previous
    }
}

/// A signature as a header carries it: `sha256=` and 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signature([u8; 32]);

impl Signature {
    /// Reads a header's text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.strip_prefix("sha256=")?, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From GitHub's "Validating webhook deliveries".
    const SECRET: &str = "It's a Secret to Everybody";
    const BODY: &[u8] = b"Hello, World!";
    const SIGNATURE: &str =
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    #[test]
    fn github_s_own_example_verifies_and_nothing_next_to_it() {
        let secrets = Secrets::new(SECRET, None).unwrap();
        let signature = Signature::parse(SIGNATURE).unwrap();
        assert!(secrets.verify(&signature, BODY));
        assert!(!secrets.verify(&signature, b"Hello, World"));
        let mut other = signature;
        other.0[31] ^= 1;
        assert!(!secrets.verify(&other, BODY));
        let others = Secrets::new("It's a Secret to Everybody!", None).unwrap();
        assert!(!others.verify(&signature, BODY));
    }

    #[test]
    fn the_secret_before_is_good_while_it_is_named() {
        let signature = Signature::parse(SIGNATURE).unwrap();
        let changed = Secrets::new("the one that came after", Some(SECRET)).unwrap();
        assert!(changed.verify(&signature, BODY));
        let done = Secrets::new("the one that came after", None).unwrap();
        assert!(!done.verify(&signature, BODY));
    }

    #[test]
    fn what_is_no_signature_is_not_read_as_one() {
        let whole = SIGNATURE.strip_prefix("sha256=").unwrap();
        for text in ["", "sha256=", whole, &SIGNATURE[..70], "sha1=abc"] {
            assert_eq!(Signature::parse(text), None, "{text}");
        }
        assert_eq!(Signature::parse(&format!("sha256={}x", &whole[..63])), None);
    }

    #[test]
    fn a_guessable_secret_is_refused_and_none_is_ever_shown() {
        assert_eq!(Secrets::new("short", None).unwrap_err(), TooShort);
        assert_eq!(Secrets::new(SECRET, Some("short")).unwrap_err(), TooShort);
        let secrets = Secrets::new(SECRET, Some(SECRET)).unwrap();
        assert_eq!(format!("{secrets:?}"), "set, and the one before it");
    }
}
