//! Signed upload URLs of the directory.
//!
//! `/blobs/{digest}?size=…&expires=…&signature=…`: the signature is HMAC-SHA256 over the other
//! three, so a holder may store this content, of this size, until then, and nothing else.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::Digest;

/// Where and how to upload a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// PUT here; absolute (S3), or a path below the API's own address.
    pub url: String,
    /// To send along, as signed.
    pub headers: Vec<(String, String)>,
}

/// The key that signs uploads: 32 bytes.
#[derive(Clone)]
pub struct UploadKey([u8; 32]);

/// What a URL says that was signed here; it may have expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    digest: Digest,
    size: u64,
    expires: u64,
}

impl Signed {
    /// What may be uploaded with it at this moment, in seconds since 1970: the blob and its size in
    /// bytes.
    pub const fn at(&self, now: u64) -> Result<(Digest, u64), Refused> {
        if now > self.expires {
            return Err(Refused::Expired {
                seconds: now - self.expires,
            });
        }
        Ok((self.digest, self.size))
    }
}

/// Why a text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an upload key must be 64 hex digits")]
pub struct KeyError;

/// Why an upload is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a URL that this crate made.
    #[error("the upload URL has no valid {part}")]
    Malformed {
        /// Which part of it.
        part: &'static str,
    },
    /// Not signed by this key.
    #[error("the upload URL was not signed here")]
    Signature,
    /// Too late.
    #[error("the upload URL expired {seconds} s ago; ask for a new one")]
    Expired {
        /// Since when.
        seconds: u64,
    },
}

impl fmt::Debug for UploadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UploadKey([redacted])")
    }
}

impl UploadKey {
    /// Reads 64 hex digits.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let mut key = [0; 32];
        match hex::decode_to_slice(text.trim(), &mut key) {
            Ok(()) => Ok(Self(key)),
            Err(_) => Err(KeyError),
        }
    }

    fn mac(&self, digest: &Digest, size: u64, expires: u64) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        // The first line keeps the key's other uses, should there be any, apart.
        mac.update(format!("candlefish-blob-put 1\n{digest}\n{size}\n{expires}").as_bytes());
        mac
    }

    /// The path and query to PUT a blob to. `expires` is seconds since 1970.
    pub fn url(&self, digest: &Digest, size: u64, expires: u64) -> String {
        let signature = hex::encode(self.mac(digest, size, expires).finalize().into_bytes());
        format!("/blobs/{digest}?size={size}&expires={expires}&signature={signature}")
    }

    /// What this URL says, if it was signed here. `digest` is the last segment of the path, `query` what
    /// follows `?`. Needs no clock: nobody is asked for the time on behalf of a stranger.
    pub fn read(&self, digest: &str, query: &str) -> Result<Signed, Refused> {
        let malformed = |part| Refused::Malformed { part };
        let digest: Digest = digest.parse().ok().ok_or_else(|| malformed("digest"))?;
        let number = |name| {
            let text = parameter(query, name).ok_or_else(|| malformed(name))?;
            text.parse::<u64>().ok().ok_or_else(|| malformed(name))
        };
        let size = number("size")?;
        let expires = number("expires")?;
        let signature = parameter(query, "signature")
            .and_then(|text| hex::decode(text).ok())
            .ok_or_else(|| malformed("signature"))?;
        // In constant time; and before the expiry, so that a forger learns nothing.
        if self
            .mac(&digest, size, expires)
            .verify_slice(&signature)
            .is_err()
        {
            return Err(Refused::Signature);
        }
        Ok(Signed {
            digest,
            size,
            expires,
        })
    }
}

/// Our own URLs have nothing to decode.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> UploadKey {
        UploadKey::from_hex(&"0f".repeat(32)).unwrap()
    }

    fn parts(url: &str) -> (String, String) {
        let (path, query) = url.split_once('?').unwrap();
        (
            path.strip_prefix("/blobs/").unwrap().to_owned(),
            query.to_owned(),
        )
    }

    #[test]
    fn a_signed_url_allows_exactly_what_it_names() {
        let digest = Digest::from_bytes([7; 32]);
        let url = key().url(&digest, 12, 1000);
        let (path, query) = parts(&url);
        let signed = key().read(&path, &query).unwrap();
        assert_eq!(signed.at(1000), Ok((digest, 12)));
        assert_eq!(signed.at(1003), Err(Refused::Expired { seconds: 3 }));
        let other = Digest::from_bytes([8; 32]).to_string();
        let longer = query.replace("size=12", "size=13");
        let later = query.replace("expires=1000", "expires=9000");
        let cut = query.get(..query.len() - 2).unwrap();
        for (path, query) in [
            (&other, &query),
            (&path, &longer),
            (&path, &later),
            (&path, &cut.to_owned()),
        ] {
            assert_eq!(
                key().read(path, query),
                Err(Refused::Signature),
                "{path}?{query}"
            );
        }
        let stranger = UploadKey::from_hex(&"0e".repeat(32)).unwrap();
        assert_eq!(stranger.read(&path, &query), Err(Refused::Signature));
    }

    #[test]
    fn what_is_missing_is_named() {
        let digest = Digest::from_bytes([7; 32]).to_string();
        for (path, query, part) in [
            ("x", "size=1", "digest"),
            (digest.as_str(), "", "size"),
            (&digest, "size=-1", "size"),
            (&digest, "size=1", "expires"),
            (&digest, "size=1&expires=2", "signature"),
            (&digest, "size=1&expires=2&signature=zz", "signature"),
        ] {
            assert_eq!(
                key().read(path, query),
                Err(Refused::Malformed { part }),
                "{query}"
            );
        }
    }

    #[test]
    fn a_key_is_not_shown() {
        assert_eq!(format!("{:?}", key()), "UploadKey([redacted])");
        assert_eq!(UploadKey::from_hex("12").unwrap_err(), KeyError);
    }
}
