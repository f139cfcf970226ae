//! The archive of a commit: where GitHub says that it lies, and its bytes into a file.
//!
//! GitHub answers with a place, mostly on a host of its own for that. The client that has our token
//! does not go there: it asks about repositories on the API's host, whatever an answer says. Another
//! one goes, which has none.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header, response::Parts};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use reqwest::redirect;
use tokio::{
    fs::File,
    io::AsyncWriteExt as _,
    time::{Instant, timeout},
};
use url::Url;

use super::{Call, Error, GitHub, Settings, Voice, limit::Admitted, request_of};
use crate::github::{budget::Told, calls::get};

/// Places that may follow each other.
const HOPS: usize = 5;
/// Of an answer that is no archive.
const MESSAGE: usize = 64 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The client that has our token: it follows GitHub to other names of a repository, and nowhere else.
pub(super) fn at_home(settings: &Settings) -> Result<reqwest::Client, Error> {
    let api = settings.api.parse::<Url>().ok();
    let base = api.map(|url| format!("{}/repo", url.path().trim_end_matches('/')));
    let base = base.unwrap_or_default();
    let at_home = redirect::Policy::custom(move |attempt| {
        let begun = attempt.previous().first().map(Url::origin);
        let is_there = begun == Some(attempt.url().origin());
        if !(is_there && attempt.url().path().starts_with(&base)) {
            attempt.stop()
        } else if attempt.previous().len() > HOPS {
            attempt.error("too many redirects")
        } else {
            attempt.follow()
        }
    });
    build(settings, at_home)
}

/// The client that goes where GitHub sends us.
pub(super) fn elsewhere(settings: &Settings) -> Result<reqwest::Client, Error> {
    build(settings, redirect::Policy::limited(HOPS))
}

fn build(settings: &Settings, policy: redirect::Policy) -> Result<reqwest::Client, Error> {
    reqwest::Client::builder()
        .user_agent("candlefish")
        .connect_timeout(settings.timeout)
        .redirect(policy)
        // Where the API is in the clear, as in tests, so may the archives be.
        .https_only(settings.api.starts_with("https:"))
        .build()
        .map_err(Error::Http)
}

impl GitHub {
    /// Writes the archive of a commit to a file, at most so many bytes; answers how many.
    pub(in crate::github) async fn fetch_archive(
        &self,
        repository: &str,
        commit: &str,
        into: &mut File,
        most: u64,
    ) -> Result<u64, Error> {
        let call = get("archive", repository, &format!("/tarball/{commit}"))?;
        let voice = self.voice(repository).await?;
        let fetched = self.fetch(&voice, &call, into, most).await;
        self.count(&call, &fetched);
        self.note_refusal(repository, &voice, fetched.as_ref().err())
            .await;
        fetched
    }

    async fn fetch(
        &self,
        voice: &Voice,
        call: &Call<'_>,
        into: &mut File,
        most: u64,
    ) -> Result<u64, Error> {
        let admitted = self.admit(voice.account, call).await?;
        let (crab, request) = (Arc::clone(&voice.crab), request_of(&voice.crab, call));
        let sent = async move {
            let answer = crab.execute(request?).await?;
            let answer = answer.map(|body| body.map_err(BoxError::from).boxed_unsync());
            Ok::<_, octocrab::Error>(answer)
        };
        let (mut head, mut body) = match self.in_time(call, sent).await? {
            Ok(answer) => answer.into_parts(),
            Err(source) => return Err(self.not_sent(admitted, call.name, source).await),
        };
        if head.status.is_redirection() {
            self.heed(admitted, &head).await?;
            (head, body) = self.follow(call, &head.headers).await?.into_parts();
        }
        if head.status == StatusCode::OK {
            self.judge(admitted, call.name, head.status, &head.headers, "")
                .await?;
            return self.write(call, body, into, most).await;
        }
        let words = timeout(self.0.settings.timeout, beginning(body)).await;
        let words = words.unwrap_or_default();
        let message = message(&words);
        self.judge(admitted, call.name, head.status, &head.headers, &message)
            .await?;
        Err(Error::NoPlace { call: call.name })
    }

    /// What GitHub says of limits when it sends us elsewhere; the answer from there takes the place of its
    /// own. The last call that is allowed has its archive, for that place does not count. Who is to go there
    /// later asks anew: until then the token in the place may have ended.
    async fn heed(&self, admitted: Admitted, head: &Parts) -> Result<(), Error> {
        let told = Told::read(head.status, &head.headers, "");
        let left = self.note(admitted, told).await;
        self.answered();
        if told.is_limit() {
            let left = left.unwrap_or_default();
            return Err(Error::Limited { left });
        }
        Ok(())
    }

    /// The answer of the place that GitHub sends us to.
    async fn follow(
        &self,
        call: &Call<'_>,
        headers: &HeaderMap,
    ) -> Result<http::Response<Body>, Error> {
        let place = headers.get(header::LOCATION);
        let place = place.and_then(|place| place.to_str().ok());
        let place = place.and_then(|place| self.place(place));
        let place = place.ok_or(Error::NoPlace { call: call.name })?;
        let request = self.0.elsewhere.get(place);
        let sent = async move {
            // The place has a token of its own in it, which no error may tell.
            let answer = request.send().await.map_err(reqwest::Error::without_url)?;
            let answer: http::Response<reqwest::Body> = answer.into();
            let told = |error: reqwest::Error| BoxError::from(error.without_url());
            Ok::<_, BoxError>(answer.map(|body| body.map_err(told).boxed_unsync()))
        };
        self.in_time(call, sent).await?.map_err(|source| {
            self.failed(Instant::now());
            let call = call.name;
            Error::Broken { call, source }
        })
    }

    /// Where GitHub sends us; its paths are of the API.
    fn place(&self, said: &str) -> Option<Url> {
        let api = self.0.settings.api.parse::<Url>().ok()?;
        let place = api.join(said).ok()?;
        matches!(place.scheme(), "http" | "https").then_some(place)
    }

    /// The head of an answer, or why there is none, in the time of one call.
    async fn in_time<E>(
        &self,
        call: &Call<'_>,
        sent: impl Future<Output = Result<http::Response<Body>, E>>,
    ) -> Result<Result<http::Response<Body>, E>, Error> {
        let (name, after) = (call.name, self.0.settings.timeout);
        timeout(after, sent).await.map_err(|_elapsed| {
            self.failed(Instant::now());
            Error::Late { call: name, after }
        })
    }

    /// Each piece has the time of one call, so that a slow archive comes and a dead one does not hang.
    async fn write(
        &self,
        call: &Call<'_>,
        mut body: Body,
        into: &mut File,
        most: u64,
    ) -> Result<u64, Error> {
        let (name, after) = (call.name, self.0.settings.timeout);
        let mut written: u64 = 0;
        loop {
            let Ok(frame) = timeout(after, body.frame()).await else {
                self.failed(Instant::now());
                return Err(Error::Late { call: name, after });
            };
            let Some(frame) = frame else {
                into.flush().await.map_err(Error::Disk)?;
                return Ok(written);
            };
            let frame = frame.map_err(|source| {
                self.failed(Instant::now());
                Error::Broken { call: name, source }
            })?;
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            written = written.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            if written > most {
                return Err(Error::Large { call: name, most });
            }
            into.write_all(&piece).await.map_err(Error::Disk)?;
        }
    }
}

/// The first bytes of an answer that is no archive.
async fn beginning(mut body: Body) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        bytes.extend_from_slice(&piece);
        if bytes.len() > MESSAGE {
            break;
        }
    }
    bytes
}

/// What an answer says for people: as JSON, or as it is when it is short.
fn message(bytes: &[u8]) -> String {
    let said = serde_json::from_slice::<serde_json::Value>(bytes).ok();
    let said = said.and_then(|body| Some(body.get("message")?.as_str()?.to_owned()));
    said.unwrap_or_else(|| {
        let text = String::from_utf8_lossy(bytes);
        let line = text.lines().next().unwrap_or_default();
        line.chars()
            .filter(|one| !one.is_control())
            .take(100)
            .collect()
    })
}
