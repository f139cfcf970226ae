//! Blobs in S3, as `<prefix>blobs/<digest>`.
//!
//! Uploads go to S3 itself by a presigned PUT: the checksum and the size are signed, so S3
//! refuses other content, and `If-None-Match: *` makes a blob that is there stay as it is.

use std::{
    fmt, mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Credentials, Region, RequestChecksumCalculation, retry::RetryConfig,
        timeout::TimeoutConfig,
    },
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
    presigning::PresigningConfig,
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    Blob, Body, Digest, Error, Options, Put, Store, Upload,
    verify::{Verifier, verified},
};

/// HEADs at a time; S3 answers each in 10 to 50 ms.
const HEADS: usize = 32;
/// A put that is held in memory whole. Larger ones go in parts; those of people by presigned URL.
const PUT_BYTES: u64 = 64 * 1024 * 1024;
/// Of a part, which is held in memory: S3 takes 5 MiB at least, and 10,000 of them.
const PART_BYTES: usize = 16 * 1024 * 1024;

pub(crate) struct Bucket {
    client: Client,
    name: String,
    prefix: String,
    /// Puts in parts that nobody waited for to the end: the blob, and S3's name of the upload.
    dropped: Mutex<Vec<(Digest, String)>>,
}

/// A put in parts on its way. S3 keeps parts, and takes money for them, until the put is ended; `Drop`
/// cannot wait for that, and this crate has no tasks of its own, so it leaves it to the next put.
struct Begun<'a> {
    bucket: &'a Bucket,
    digest: Digest,
    upload: String,
    has_ended: bool,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            let upload = mem::take(&mut self.upload);
            self.bucket.dropped().push((self.digest, upload));
        }
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket(s3://{}/{})", self.name, self.prefix)
    }
}

impl Bucket {
    pub(crate) async fn open(bucket: &str, prefix: &str, options: Options) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(2))
            .read_timeout(Duration::from_secs(10))
            .operation_attempt_timeout(Duration::from_secs(30))
            .operation_timeout(Duration::from_mins(1))
            .build();
        let shared = aws_config::defaults(BehaviorVersion::latest())
            .timeout_config(timeouts)
            // Every call here may be repeated: content is named by its digest.
            .retry_config(RetryConfig::standard().with_max_attempts(3))
            .load()
            .await;
        let mut config = aws_sdk_s3::config::Builder::from(&shared)
            // The digest is the checksum; a second one would have to be signed and sent as well.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
        if shared.region().is_none() {
            let region = options.s3_region.unwrap_or_else(|| "us-east-1".to_owned());
            config = config.region(Region::new(region));
        }
        if let Some(keys) = options.s3_keys {
            let keys = Credentials::new(keys.access_key, keys.secret_key, None, None, "given");
            config = config.credentials_provider(keys);
        }
        if let Some(endpoint) = options.s3_endpoint {
            config = config.endpoint_url(endpoint).force_path_style(true);
        }
        let prefix = match prefix.trim_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Self {
            client: Client::from_conf(config.build()),
            name: bucket.to_owned(),
            prefix,
            dropped: Mutex::default(),
        }
    }

    fn key(&self, digest: &Digest) -> String {
        format!("{}blobs/{digest}", self.prefix)
    }

    /// Puts a large blob. Nothing is there before all of it is, and fits its digest.
    async fn put_in_parts(&self, digest: Digest, size: u64, body: Body) -> Result<Put, Error> {
        if self.size(digest).await?.is_some() {
            return Ok(Put::Existed);
        }
        let begin = self
            .client
            .create_multipart_upload()
            .bucket(&self.name)
            .key(self.key(&digest));
        let begun = begin
            .send()
            .await
            .map_err(|e| self.failed("take", digest, e))?;
        let mut begun = Begun {
            bucket: self,
            digest,
            upload: begun.upload_id.unwrap_or_default(),
            has_ended: false,
        };
        let put = self.send_parts(digest, size, &begun.upload, body).await;
        if put.is_err() {
            self.abort(digest, &begun.upload).await;
        }
        begun.has_ended = true;
        put
    }

    fn dropped(&self) -> MutexGuard<'_, Vec<(Digest, String)>> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes away the parts of puts that were dropped.
    async fn tidy(&self) {
        loop {
            // In a statement of its own: the lock is not held while S3 is asked.
            let dropped = self.dropped().pop();
            let Some((digest, upload)) = dropped else {
                return;
            };
            self.abort(digest, &upload).await;
        }
    }

    /// Takes the parts of a put away that will not be put together.
    async fn abort(&self, digest: Digest, upload: &str) {
        let abort = self
            .client
            .abort_multipart_upload()
            .bucket(&self.name)
            .key(self.key(&digest))
            .upload_id(upload);
        // 404: there are none any more.
        if let Err(error) = abort.send().await
            && status(&error) != Some(404)
        {
            let error = DisplayErrorContext(&error);
            tracing::warn!(blob = %digest, %error, "parts of a blob are left in the bucket");
        }
    }

    async fn send_parts(
        &self,
        digest: Digest,
        size: u64,
        upload: &str,
        mut body: Body,
    ) -> Result<Put, Error> {
        let mut verifier = Verifier::new(digest, size);
        let mut parts = Vec::new();
        let mut part = BytesMut::with_capacity(PART_BYTES);
        while let Some(piece) = body.next().await {
            let piece = piece?;
            verifier.feed(&piece)?;
            part.extend_from_slice(&piece);
            while part.len() >= PART_BYTES {
                let full = part.split_to(PART_BYTES).freeze();
                parts.push(self.send_part(digest, upload, parts.len(), full).await?);
            }
        }
        verifier.finish()?;
        if !part.is_empty() {
            let last = part.freeze();
            parts.push(self.send_part(digest, upload, parts.len(), last).await?);
        }
        let whole = CompletedMultipartUpload::builder()
            .set_parts(Some(parts))
            .build();
        let complete = self
            .client
            .complete_multipart_upload()
            .bucket(&self.name)
            .key(self.key(&digest))
            .upload_id(upload)
            .multipart_upload(whole);
        complete
            .send()
            .await
            .map_err(|e| self.failed("take", digest, e))?;
        Ok(Put::Stored)
    }

    async fn send_part(
        &self,
        digest: Digest,
        upload: &str,
        before: usize,
        bytes: Bytes,
    ) -> Result<CompletedPart, Error> {
        let number = i32::try_from(before + 1).unwrap_or(i32::MAX);
        let send = self
            .client
            .upload_part()
            .bucket(&self.name)
            .key(self.key(&digest))
            .upload_id(upload)
            .part_number(number)
            .body(ByteStream::from(bytes));
        let sent = send
            .send()
            .await
            .map_err(|e| self.failed("take", digest, e))?;
        Ok(CompletedPart::builder()
            .set_e_tag(sent.e_tag)
            .part_number(number)
            .build())
    }

    async fn size(&self, digest: Digest) -> Result<Option<u64>, Error> {
        let head = self
            .client
            .head_object()
            .bucket(&self.name)
            .key(self.key(&digest));
        match head.send().await {
            Ok(head) => Ok(Some(bytes(head.content_length()))),
            // Of a HEAD there are no words: this may be the bucket too.
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.failed("look for", digest, error)),
        }
    }

    /// Refuses when S3 says that there is no bucket. Nothing else that it answers matters here: a role
    /// that may not list the bucket may not ask for it either, and is refused what is absent anyway.
    async fn look_for_bucket(&self) -> Result<(), Error> {
        match self.client.head_bucket().bucket(&self.name).send().await {
            Err(error) if status(&error) == Some(404) => Err(self.no_bucket()),
            _ => Ok(()),
        }
    }

    fn failed<E>(&self, act: &'static str, digest: Digest, error: SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        if is_of_the_bucket(&error) {
            return self.no_bucket();
        }
        Error::S3 {
            act,
            digest,
            source: Box::new(error),
        }
    }

    fn no_bucket(&self) -> Error {
        Error::NoBucket {
            bucket: self.name.clone(),
        }
    }
}

#[async_trait]
impl Store for Bucket {
    async fn sizes(&self, digests: &[Digest]) -> Result<Vec<Option<u64>>, Error> {
        let sizes: Vec<_> = stream::iter(digests.to_vec())
            .map(|digest| self.size(digest))
            .buffered(HEADS)
            .try_collect()
            .await?;
        if !sizes.is_empty() && sizes.iter().all(Option::is_none) {
            self.look_for_bucket().await?;
        }
        Ok(sizes)
    }

    async fn get(&self, digest: &Digest) -> Result<Blob, Error> {
        let get = self
            .client
            .get_object()
            .bucket(&self.name)
            .key(self.key(digest));
        let got = match get.send().await {
            Ok(got) => got,
            Err(error) if is_absent(&error) => {
                return Err(Error::NotFound { digest: *digest });
            }
            Err(error) => return Err(self.failed("give", *digest, error)),
        };
        let size = bytes(got.content_length());
        let pieces = stream::unfold(got.body, |mut body| async {
            let piece = body.next().await?;
            Some((piece.map_err(|e| Error::Body(Box::new(e))), body))
        });
        Ok(Blob {
            size,
            body: verified(*digest, size, Box::pin(pieces)),
        })
    }

    async fn put(&self, digest: &Digest, size: u64, mut body: Body) -> Result<Put, Error> {
        self.tidy().await;
        if size > PUT_BYTES {
            return self.put_in_parts(*digest, size, body).await;
        }
        let mut verifier = Verifier::new(*digest, size);
        let mut content = BytesMut::with_capacity(usize::try_from(size).unwrap_or_default());
        while let Some(piece) = body.next().await {
            let piece = piece?;
            verifier.feed(&piece)?;
            content.extend_from_slice(&piece);
        }
        verifier.finish()?;
        let put = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(self.key(digest))
            .if_none_match("*")
            .checksum_sha256(STANDARD.encode(digest.as_bytes()))
            .body(ByteStream::from(content.freeze()));
        match put.send().await {
            Ok(_) => Ok(Put::Stored),
            Err(error) if status(&error) == Some(412) => Ok(Put::Existed),
            // Something else is done with the name at this moment: mostly the same content is put, but
            // a deletion leaves nothing.
            Err(error) if status(&error) == Some(409) => match self.size(*digest).await? {
                Some(_) => Ok(Put::Existed),
                None => Err(self.failed("take", *digest, error)),
            },
            Err(error) => Err(self.failed("take", *digest, error)),
        }
    }

    async fn delete(&self, digest: &Digest) -> Result<(), Error> {
        let delete = self
            .client
            .delete_object()
            .bucket(&self.name)
            .key(self.key(digest));
        match delete.send().await {
            Ok(_) => Ok(()),
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(self.failed("delete", *digest, error)),
        }
    }

    async fn upload_url(
        &self,
        digest: &Digest,
        size: u64,
        ttl: Duration,
        _now: u64,
    ) -> Result<Upload, Error> {
        // S3 judges the time by its own clock, and signing takes this machine's: the database's
        // has no say here.
        let lifetime = PresigningConfig::expires_in(ttl).map_err(|e| Error::S3 {
            act: "sign for",
            digest: *digest,
            source: Box::new(e),
        })?;
        let signed = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(self.key(digest))
            .if_none_match("*")
            .checksum_sha256(STANDARD.encode(digest.as_bytes()))
            .content_length(i64::try_from(size).unwrap_or(i64::MAX))
            .presigned(lifetime)
            .await
            .map_err(|e| self.failed("sign for", *digest, e))?;
        Ok(Upload {
            url: signed.uri().to_owned(),
            headers: signed
                .headers()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        })
    }
}

fn bytes(length: Option<i64>) -> u64 {
    length
        .and_then(|n| u64::try_from(n).ok())
        .unwrap_or_default()
}

fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error
        .raw_response()
        .map(|response| response.status().as_u16())
}

/// The bucket is not there, and so nothing can be said of a blob.
fn is_of_the_bucket<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    error.code() == Some("NoSuchBucket")
}

/// The blob is not there, in a bucket that is.
fn is_absent<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    status(error) == Some(404) && !is_of_the_bucket(error)
}
