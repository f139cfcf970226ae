//! Which store a configuration names.

use std::{fmt, path::PathBuf, sync::Arc};

use crate::{Error, Store, UploadKey, directory::Directory, s3::Bucket};

/// What a store needs beside its location.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Signs upload URLs of a directory; readers do without.
    pub upload_key: Option<UploadKey>,
    /// Another S3 than AWS's, with the bucket in the path: `http://127.0.0.1:4566`.
    pub s3_endpoint: Option<String>,
    /// Credentials in place of AWS's usual chain: for stand-ins and tests.
    pub s3_keys: Option<S3Keys>,
    /// The region, when the AWS configuration does not say; `us-east-1` when neither does.
    pub s3_region: Option<String>,
}

/// A pair of keys.
#[derive(Clone)]
pub struct S3Keys {
    /// Which account.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
}

impl fmt::Debug for S3Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3Keys([redacted])")
    }
}

/// Opens `dir:/absolute/path` or `s3://bucket[/prefix]`. Reaches nobody yet: a store that is down
/// must not keep a process from starting. S3's credentials come from AWS's usual chain
/// unless they are given.
pub async fn open(location: &str, options: Options) -> Result<Arc<dyn Store>, Error> {
    let wrong = |why| {
        Err(Error::Location {
            location: location.to_owned(),
            why,
        })
    };
    if let Some(path) = location.strip_prefix("dir:") {
        let root = PathBuf::from(path);
        if !root.is_absolute() {
            return wrong("the path after dir: must be absolute");
        }
        return Ok(Arc::new(Directory::new(root, options.upload_key)));
    }
    let Some(rest) = location.strip_prefix("s3://") else {
        return wrong("it must begin with dir: or s3://");
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let named = (3..=63).contains(&bucket.len())
        && bucket
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
    if !named {
        return wrong("a bucket has 3 to 63 lower-case letters, digits, dots and dashes");
    }
    Ok(Arc::new(Bucket::open(bucket, prefix, options).await))
}
