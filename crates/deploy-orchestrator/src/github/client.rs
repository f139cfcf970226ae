//! One client for every call: asks in turn, in time, and within what GitHub allows.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use candlefish_runtime::metrics::{GITHUB_CALLS, GITHUB_RESTING};
use http::{Method, StatusCode, request};
use http_body_util::BodyExt;
use octocrab::{OctoBody, Octocrab, models::AppId, service::middleware::retry::RetryConfig};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::PgPool;
use tokio::time::{Instant, timeout};

mod archive;
mod limit;

use super::{
    Credentials, Error, Settings,
    breaker::{Breaker, Turn},
    budget::{Told, read_date},
    error::INSTALLATION,
    installation::{Account, Installations, Voice},
};
use limit::Admitted;

/// GitHub; cheap to clone.
#[derive(Clone)]
pub(crate) struct GitHub(Arc<Inner>);

struct Inner {
    settings: Settings,
    crab: Arc<Octocrab>,
    /// Goes where GitHub sends us, without our token.
    elsewhere: reqwest::Client,
    installations: Installations,
    /// Where budgets are, for all replicas.
    pool: PgPool,
    /// Until when nothing may be asked, as far as this process was told itself.
    told: Mutex<HashMap<Account, Instant>>,
    breaker: Mutex<Breaker>,
}

impl std::fmt::Debug for GitHub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("GitHub").field(&self.0.settings).finish()
    }
}

/// One call: what it is called in logs and metrics, and what is sent.
pub(super) struct Call<'a> {
    pub(super) name: &'static str,
    pub(super) method: Method,
    /// With its query.
    pub(super) path: String,
    pub(super) body: Option<&'a Value>,
}

/// What came back: the body, the second of GitHub's clock in which it did, and where the next page of a
/// list begins.
pub(super) struct Answer {
    pub(super) body: Value,
    pub(super) at: Option<i64>,
    pub(super) cursor: Option<String>,
}

impl GitHub {
    /// Makes the client; asks nothing yet.
    pub(crate) fn new(settings: Settings, pool: PgPool) -> Result<Self, Error> {
        let http = archive::at_home(&settings)?;
        let client = |error: octocrab::Error| Error::Client(Box::new(error));
        let builder = Octocrab::builder()
            // It would repeat calls that write.
            .add_retry_config(RetryConfig::None)
            .base_uri(settings.api.as_str())
            .map_err(client)?;
        let builder = match &settings.credentials {
            Credentials::Token(token) => builder.personal_token(token.clone()),
            Credentials::App { id, key } => {
                let pem = std::fs::read(key).map_err(|source| Error::Key {
                    path: key.display().to_string(),
                    source,
                })?;
                builder.app_from_rsa_pem(AppId(*id), pem).map_err(client)?
            }
        };
        let crab = builder.build_with_reqwest(http).map_err(client)?;
        metrics::gauge!(GITHUB_RESTING).set(0.0);
        Ok(Self(Arc::new(Inner {
            breaker: Mutex::new(Breaker::new(settings.rest)),
            crab: Arc::new(crab),
            elsewhere: archive::elsewhere(&settings)?,
            installations: Installations::default(),
            pool,
            told: Mutex::default(),
            settings,
        })))
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(super) fn root(&self) -> &Octocrab {
        &self.0.crab
    }

    /// Asks about a repository, as whoever may.
    pub(super) async fn ask(&self, repository: &str, call: Call<'_>) -> Result<Answer, Error> {
        let voice = self.voice(repository).await?;
        let asked = self.ask_as(&voice, &call).await;
        self.note_refusal(repository, &voice, asked.as_ref().err())
            .await;
        asked
    }

    async fn voice(&self, repository: &str) -> Result<Voice, Error> {
        match &self.0.settings.credentials {
            Credentials::Token(_) => Ok(Voice {
                account: Account::Token,
                crab: Arc::clone(&self.0.crab),
            }),
            Credentials::App { .. } => self.0.installations.voice(self, repository).await,
        }
    }

    /// Who is refused may not be who speaks for the repository any more.
    async fn note_refusal(&self, repository: &str, voice: &Voice, error: Option<&Error>) {
        if let (
            Some(Error::Refused {
                status: status @ (401 | 403 | 404),
                ..
            }),
            Account::Installation(_),
        ) = (error, voice.account)
        {
            let with_token = *status != 404;
            self.0.installations.forget(repository, with_token).await;
        }
    }

    /// Asks as the App itself.
    pub(super) async fn ask_as_app<T: DeserializeOwned>(
        &self,
        name: &'static str,
        path: &str,
    ) -> Result<T, Error> {
        read(name, self.call_as_app(name, Method::GET, path).await?.body)
    }

    pub(super) async fn call_as_app(
        &self,
        name: &'static str,
        method: Method,
        path: &str,
    ) -> Result<Answer, Error> {
        let voice = Voice {
            account: Account::App,
            crab: Arc::clone(&self.0.crab),
        };
        let call = Call {
            name,
            method,
            path: path.to_owned(),
            body: None,
        };
        self.ask_as(&voice, &call).await
    }

    async fn ask_as(&self, voice: &Voice, call: &Call<'_>) -> Result<Answer, Error> {
        let answered = self.exchange(voice, call).await;
        self.count(call, &answered);
        answered
    }

    #[expect(clippy::unused_self, reason = "what is counted is this client's calls")]
    fn count<T>(&self, call: &Call<'_>, answered: &Result<T, Error>) {
        let outcome = match answered {
            Ok(_) => "answered",
            Err(error) => error.outcome(),
        };
        metrics::counter!(GITHUB_CALLS, "call" => call.name, "outcome" => outcome).increment(1);
    }

    async fn exchange(&self, voice: &Voice, call: &Call<'_>) -> Result<Answer, Error> {
        let name = call.name;
        let admitted = self.admit(voice.account, call).await?;
        let after = self.0.settings.timeout;
        let sent = timeout(after, send(&voice.crab, call)).await;
        let (status, headers, bytes) = match sent {
            Ok(Ok(received)) => received,
            Ok(Err(source)) => return Err(self.not_sent(admitted, name, source).await),
            Err(_elapsed) => {
                self.failed(Instant::now());
                return Err(Error::Late { call: name, after });
            }
        };
        let body = serde_json::from_slice::<Value>(&bytes);
        let message = body.as_ref().ok().and_then(|body| body.get("message"));
        let message = message.and_then(Value::as_str).unwrap_or_default();
        self.judge(admitted, name, status, &headers, message)
            .await?;
        let date = headers.get("date").and_then(|value| value.to_str().ok());
        let at = date.and_then(read_date);
        let body = match body {
            Ok(body) => body,
            // 202 and 204 may come without one.
            Err(_none) if bytes.is_empty() => Value::Null,
            Err(source) => return Err(Error::Unreadable { call: name, source }),
        };
        let cursor = next_cursor(&headers);
        Ok(Answer { body, at, cursor })
    }

    /// A call that did not get through, or not to its end. An installation's token is asked for on the
    /// way: what GitHub says to that is an answer like any other, but about the installation.
    async fn not_sent(
        &self,
        admitted: Admitted,
        call: &'static str,
        source: octocrab::Error,
    ) -> Error {
        if let octocrab::Error::GitHub { source: said, .. } = &source {
            let headers = said.headers.clone().unwrap_or_default();
            let (status, message) = (said.status_code, &said.message);
            let judged = self
                .judge(admitted, INSTALLATION, status, &headers, message)
                .await;
            if let Err(error) = judged {
                return error;
            }
        }
        self.failed(Instant::now());
        let source = Box::new(source);
        Error::Unreached { call, source }
    }

    /// What an answer means for the next calls, and whether it is one.
    async fn judge(
        &self,
        admitted: Admitted,
        call: &'static str,
        status: StatusCode,
        headers: &http::HeaderMap,
        message: &str,
    ) -> Result<(), Error> {
        let told = Told::read(status, headers, message);
        let left = self.note(admitted, told).await;
        if status.is_server_error() {
            self.failed(Instant::now());
            let status = status.as_u16();
            return Err(Error::Failed { call, status });
        }
        self.answered();
        if told.is_limit() {
            let left = left.unwrap_or_default();
            return Err(Error::Limited { left });
        }
        if status.is_success() {
            return Ok(());
        }
        Err(Error::Refused {
            call,
            status: status.as_u16(),
            message: message.chars().take(200).collect(),
        })
    }

    fn failed(&self, now: Instant) {
        if let Some(Turn::Opened(rest)) = lock(&self.0.breaker).failed(now) {
            metrics::gauge!(GITHUB_RESTING).set(1.0);
            tracing::warn!(
                ?rest,
                "GitHub failed too often and is left alone; deployments go on"
            );
        }
    }

    fn answered(&self) {
        if let Some(Turn::Closed) = lock(&self.0.breaker).answered() {
            metrics::gauge!(GITHUB_RESTING).set(0.0);
            tracing::info!("GitHub answers again");
        }
    }
}

/// Where the next page begins, of lists that have cursors.
fn next_cursor(headers: &http::HeaderMap) -> Option<String> {
    let links = headers.get(http::header::LINK)?.to_str().ok()?;
    let next = links
        .split(',')
        .find(|link| link.contains("rel=\"next\""))?;
    let url = next.split_once('<')?.1.split_once('>')?.0;
    let (_, query) = url.split_once('?')?;
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "cursor")
        .map(|(_, value)| value.into_owned())
}

/// Reads an answer's body.
pub(super) fn read<T: DeserializeOwned>(call: &'static str, body: Value) -> Result<T, Error> {
    serde_json::from_value(body).map_err(|source| Error::Unreadable { call, source })
}

type Received = (StatusCode, http::HeaderMap, bytes::Bytes);

async fn send(crab: &Octocrab, call: &Call<'_>) -> Result<Received, octocrab::Error> {
    let request = request_of(crab, call)?;
    let (parts, body) = crab.execute(request).await?.into_parts();
    let bytes = body.collect().await?.to_bytes();
    Ok((parts.status, parts.headers, bytes))
}

fn request_of(
    crab: &Octocrab,
    call: &Call<'_>,
) -> Result<http::Request<OctoBody>, octocrab::Error> {
    let request = request::Builder::new()
        .method(call.method.clone())
        .uri(call.path.as_str())
        .header("accept", "application/vnd.github+json");
    crab.build_request(request, call.body)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
