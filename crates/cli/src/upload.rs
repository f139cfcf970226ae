//! Sends what a release still lacks: by PUT, to addresses that the API signed.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use candlefish_manifest::{Entry, File};
use candlefish_proto::deploy::{ListMissingBlobsRequest, MissingBlob};
use futures_util::{StreamExt as _, stream};
use reqwest::{Body, RequestBuilder, StatusCode, header::CONTENT_LENGTH};

use crate::{
    api::{self, Api, Loopback},
    error,
};

mod pulse;

use pulse::Pulse;

/// Uploads at a time: enough to hide the way, few enough for one server.
const AT_ONCE: usize = 8;
/// Blobs asked for at a time; their signed addresses stay far below gRPC's 4 MiB.
const PAGE: i32 = 1000;
/// Larger files are streamed.
const IN_MEMORY: u64 = 1024 * 1024;
/// Where nothing was sent or received for so long, nobody takes it any more.
const IDLE: Duration = Duration::from_mins(1);
/// Of one upload, what may lie in this machine's own buffers, where it is not seen moving.
const BUFFERED: u64 = 512 * 1024;
/// How many bytes a second a line takes that is only slow.
const SLOW: u64 = 8 * 1024;
/// Pauses before a blob is sent again. Content has the name of its digest, so sending it twice is
/// always safe.
const RETRIES: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_millis(600),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// Why an upload failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file cannot be read any more.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not what it was when it was hashed.
    #[error("{path:?} changed while it was deployed")]
    Changed {
        /// The file in the release.
        path: String,
    },
    /// The store took the manifest and does not have it.
    #[error("the store took the manifest and lost it")]
    Lost,
    /// The server misses something that this release does not have.
    #[error("the server asks for {digest}, which is not in this release")]
    Foreign {
        /// The digest it asks for.
        digest: String,
    },
    /// The store said no.
    #[error("the store refuses {path:?}: {status} {words}")]
    Refused {
        /// The file in the release.
        path: String,
        /// Its answer.
        status: StatusCode,
        /// Its words.
        words: String,
    },
    /// The store does not answer.
    #[error("cannot upload {path:?}: {why}")]
    Unreachable {
        /// The file in the release.
        path: String,
        /// What the network said.
        why: String,
    },
}

/// Everything that a release is made of, by digest.
#[derive(Debug)]
pub(crate) struct Content {
    manifest: api::Body,
    manifest_digest: String,
    files: HashMap<String, (PathBuf, String)>,
}

impl Content {
    /// The manifest and where its files lie; `files` and `entries` are in the same order.
    pub(crate) fn new(
        manifest: Vec<u8>,
        manifest_digest: String,
        files: &[File],
        entries: &[Entry],
    ) -> Self {
        let of = files.iter().zip(entries);
        let files = of.map(|(file, entry)| {
            (
                entry.digest.to_string(),
                (file.source.clone(), entry.path.clone()),
            )
        });
        Self {
            manifest: manifest.into(),
            manifest_digest,
            files: files.collect(),
        }
    }
}

/// How an upload went.
pub(crate) trait Watch: Sync {
    /// This many more bytes will be sent.
    fn found(&self, bytes: u64);
    /// This many bytes were sent.
    fn sent(&self, bytes: u64);
}

/// Sends all that is missing; answers the digests of the files that were sent.
pub(crate) async fn upload(
    api: &Api,
    release: &str,
    content: &Content,
    watch: &dyn Watch,
) -> Result<HashSet<String>, error::Error> {
    let store = Store::new(api)?;
    let mut sent = HashSet::new();
    let mut page_token = String::new();
    // Bytes that were found and not sent: the next answer finds them again.
    let mut left = 0;
    loop {
        let request = ListMissingBlobsRequest {
            id: release.to_owned(),
            page_size: PAGE,
            page_token: page_token.clone(),
        };
        let page = api.read(request).await?;
        if page.manifest_missing && sent.contains(&content.manifest_digest) {
            return Err(Error::Lost.into());
        }
        let found: u64 = page.blobs.iter().map(size).sum();
        watch.found(found.saturating_sub(left));
        let done = store.send_all(&page.blobs, content, watch).await?;
        let before = sent.len();
        sent.extend(done.digests);
        left = found.saturating_sub(done.bytes);
        if let Some(refused) = done.refused {
            // Signed addresses may be too old by now: asked again, the server signs new ones. Where not
            // even one of them was taken, that is not why.
            if sent.len() == before {
                return Err(refused.into());
            }
            continue;
        }
        // With the manifest there, the server knows what else to ask for.
        let more = page.manifest_missing || !page.next_page_token.is_empty();
        page_token = if page.manifest_missing {
            String::new()
        } else {
            page.next_page_token
        };
        if !more {
            sent.remove(&content.manifest_digest);
            return Ok(sent);
        }
    }
}

/// What was sent of a page.
#[derive(Default)]
struct Sent {
    digests: Vec<String>,
    bytes: u64,
    /// Why the rest was not: the store does not take these addresses, or does no longer.
    refused: Option<Error>,
}

struct Store<'a> {
    api: &'a Api,
    http: reqwest::Client,
    pulse: Pulse,
    idle: Duration,
}

impl<'a> Store<'a> {
    fn new(api: &'a Api) -> Result<Self, error::Error> {
        let url = reqwest::Url::parse(api.address());
        let host = url
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_default();
        // No time for a whole upload: a signed address need only work when one begins.
        let mut http = reqwest::Client::builder()
            .dns_resolver(Arc::new(Loopback))
            .connect_timeout(Duration::from_secs(5))
            // A repeat must not find the dead connection that it is made for.
            .http2_keep_alive_interval(IDLE)
            // Its answer waits behind what lies in our buffers.
            .http2_keep_alive_timeout(2 * IDLE);
        if api::is_loopback(&host) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|source| {
            error::Error::wrong(
                format!("cannot prepare uploads: {source}"),
                "Look at the proxy settings of this shell.",
            )
        })?;
        Ok(Self {
            api,
            http,
            pulse: Pulse::new(),
            idle: IDLE,
        })
    }

    /// Sends all of a page, or what of it was on its way when the store refused an address.
    async fn send_all(
        &self,
        blobs: &[MissingBlob],
        content: &Content,
        watch: &dyn Watch,
    ) -> Result<Sent, Error> {
        let stopped = &AtomicBool::new(false);
        let uploads = blobs.iter().map(|blob| async move {
            let done = if stopped.load(Ordering::Relaxed) {
                None
            } else {
                Some(self.send(blob, content, watch).await)
            };
            (blob, done)
        });
        let mut uploads = stream::iter(uploads).buffer_unordered(AT_ONCE);
        let mut sent = Sent::default();
        while let Some((blob, done)) = uploads.next().await {
            match done {
                None => {}
                Some(Ok(())) => {
                    sent.digests.push(blob.digest.clone());
                    sent.bytes += size(blob);
                }
                Some(Err(error)) if error.is_of_the_address() => {
                    stopped.store(true, Ordering::Relaxed);
                    sent.refused = Some(error);
                }
                Some(Err(error)) => return Err(error),
            }
        }
        Ok(sent)
    }

    async fn send(
        &self,
        blob: &MissingBlob,
        content: &Content,
        watch: &dyn Watch,
    ) -> Result<(), Error> {
        let mut pauses = RETRIES.iter();
        loop {
            let done = self.put(blob, content).await;
            match (done, pauses.next()) {
                (Ok(()), _) => {
                    watch.sent(size(blob));
                    return Ok(());
                }
                (Err(error), Some(pause)) if error.is_worth_repeating() => {
                    tokio::time::sleep(*pause).await;
                }
                (Err(error), _) => return Err(error),
            }
        }
    }

    async fn put(&self, blob: &MissingBlob, content: &Content) -> Result<(), Error> {
        let (body, path) = self.body(blob, content).await?;
        let request = self.request(blob, body);
        let sending = async {
            let answer = request.send().await?;
            self.pulse.beat();
            let status = answer.status();
            let words = if status.is_success() {
                String::new()
            } else {
                answer.text().await.unwrap_or_default()
            };
            Ok::<_, reqwest::Error>((status, words))
        };
        let limit = patience(self.idle, size(blob));
        let why = match self.pulse.within(limit, sending).await {
            Some(Ok((status, words))) => return judged(path, status, &words),
            Some(Err(source)) => innermost(&source),
            None => format!("nothing moved for {} s", limit.as_secs()),
        };
        Err(Error::Unreachable { path, why })
    }

    fn request(&self, blob: &MissingBlob, body: Body) -> RequestBuilder {
        let url = if blob.upload_url.starts_with('/') {
            format!("{}{}", self.api.address(), blob.upload_url)
        } else {
            blob.upload_url.clone()
        };
        let mut request = self
            .http
            .put(url)
            .header(CONTENT_LENGTH, blob.size)
            .body(body);
        for (name, value) in &blob.headers {
            request = request.header(name, value);
        }
        request
    }

    async fn body(&self, blob: &MissingBlob, content: &Content) -> Result<(Body, String), Error> {
        if blob.digest == content.manifest_digest {
            let body = self.pulse.bytes(content.manifest.clone());
            return Ok((body, "the manifest".to_owned()));
        }
        let (source, path) = content
            .files
            .get(&blob.digest)
            .ok_or_else(|| Error::Foreign {
                digest: blob.digest.clone(),
            })?;
        let fault = |error| Error::Read {
            path: source.clone(),
            source: error,
        };
        let size = size(blob);
        let (found, body) = if size <= IN_MEMORY {
            let bytes = tokio::fs::read(source).await.map_err(fault)?;
            let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            (found, self.pulse.bytes(bytes.into()))
        } else {
            let file = tokio::fs::File::open(source).await.map_err(fault)?;
            let found = file.metadata().await.map_err(fault)?.len();
            (found, self.pulse.file(file))
        };
        if found != size {
            return Err(Error::Changed { path: path.clone() });
        }
        Ok((body, path.clone()))
    }
}

/// What an answer to a PUT means.
fn judged(path: String, status: StatusCode, words: &str) -> Result<(), Error> {
    // Somebody else stored the same content first.
    if status.is_success()
        || matches!(
            status,
            StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED
        )
    {
        return Ok(());
    }
    if status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        )
    {
        return Err(Error::Unreachable {
            path,
            why: format!("the store answers {status}"),
        });
    }
    Err(Error::Refused {
        path,
        status,
        words: words.chars().take(300).collect(),
    })
}

/// How long nothing may be seen moving before an upload of this size stands still: on one line there may
/// be as much of each of its neighbours.
fn patience(idle: Duration, size: u64) -> Duration {
    let unseen = Duration::from_secs(size.min(BUFFERED) / SLOW);
    idle + unseen * u32::try_from(AT_ONCE).expect("a handful")
}

fn size(blob: &MissingBlob) -> u64 {
    u64::try_from(blob.size).unwrap_or_default()
}

impl Error {
    fn is_worth_repeating(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// Stores answer so to an address that is too old, as to one that was never good.
    fn is_of_the_address(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                status: StatusCode::FORBIDDEN,
                ..
            }
        )
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::{
        contexts::{Chosen, TokenOf},
        output::Output,
        repeats::Repeats,
    };

    #[tokio::test]
    async fn a_store_that_takes_no_more_is_given_up() {
        // Connections to it are made, and nobody reads.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let chosen = Chosen {
            api: format!("http://{}", silent.local_addr().unwrap()),
            token: None,
            context: None,
            token_of: TokenOf::Nobody,
        };
        let api = Api::new(&chosen, Repeats::new(None), Output::new(true)).unwrap();
        let mut store = Store::new(&api).unwrap();
        store.idle = Duration::from_millis(50);
        let manifest = b"a manifest".to_vec();
        let blob = MissingBlob {
            digest: "m".to_owned(),
            size: i64::try_from(manifest.len()).unwrap(),
            upload_url: "/blobs/m".to_owned(),
            ..MissingBlob::default()
        };
        let content = Content::new(manifest, "m".to_owned(), &[], &[]);
        let error = store.put(&blob, &content).await.unwrap_err();
        assert!(error.is_worth_repeating(), "{error}");
        assert!(error.to_string().contains("nothing moved"), "{error}");
    }

    #[test]
    fn what_may_lie_unseen_is_given_time() {
        for (size, seconds) in [(0, 60), (8 * 1024, 68), (512 * 1024, 572), (u64::MAX, 572)] {
            assert_eq!(patience(IDLE, size), Duration::from_secs(seconds));
        }
    }
}
