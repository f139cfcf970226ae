//! A stand-in for GitHub that people can push to: the fake of its API, and beside it, below `/_/`, what
//! one does with `git push` and with GitHub's pages. It delivers webhooks as GitHub does: signed, once,
//! and never again by itself. One that GitHub's schemas find wrong is not sent: what would have sent it is
//! answered 500, with the faults.
//!
//! | `POST` | fields | answers |
//! |---|---|---|
//! | `/_/push` | `repository`, `branch`, `file` (one that it changes) | the new commit |
//! | `/_/open` | `repository`, `number` of a pull request, `branch` | the new commit that it begins with |
//! | `/_/merge` | `repository`, `number`, `base` | the commit that merges it |
//! | `/_/close` | `repository`, `number` | |
//! | `/_/down` | | while it is down the API fails and webhooks are not sent |
//! | `/_/up` | | |
//!
//! `GET /_/comments?repository=&number=` and `GET /_/deployments?repository=` show what it was told.

use std::{
    collections::HashMap,
    fmt::Write,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::{RawQuery, State},
    http::StatusCode,
    routing::{get, post},
};
use sha2::{Digest, Sha256};

use super::{
    Example, PullRequest, Push,
    fake::{Fake, pairs},
};

/// Of a branch that is new.
const NOWHERE: &str = "0000000000000000000000000000000000000000";

/// The status, and why.
type Refusal = (StatusCode, String);
type Answer = Result<String, Refusal>;

/// The stand-in; cheap to clone.
#[derive(Debug, Clone)]
pub struct StandIn {
    fake: Fake,
    http: reqwest::Client,
    /// Where webhooks go, and what they are signed with.
    hook: Arc<OnceLock<(String, String)>>,
    is_down: Arc<AtomicBool>,
    pushes: Arc<AtomicU64>,
    /// The branches of open pull requests, by repository and number.
    open: Arc<Mutex<HashMap<(String, u32), String>>>,
}

impl StandIn {
    /// Serves there; webhooks go nowhere until it is told where.
    pub async fn start(address: SocketAddr) -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(address).await?;
        let fake = Fake::new(&listener).await;
        let stand_in = Self {
            fake: fake.clone(),
            http: reqwest::Client::new(),
            hook: Arc::default(),
            is_down: Arc::default(),
            pushes: Arc::default(),
            open: Arc::default(),
        };
        let routes = Router::new()
            .route("/_/push", post(push))
            .route("/_/open", post(open))
            .route("/_/merge", post(merge))
            .route("/_/close", post(close))
            .route("/_/down", post(down))
            .route("/_/up", post(up))
            .route("/_/comments", get(comments))
            .route("/_/deployments", get(deployments))
            .with_state(stand_in.clone());
        fake.serve(listener, routes);
        Ok(stand_in)
    }

    /// Every repository has a webhook that goes there, signed with `secret`, from now on.
    pub fn delivers_to(&self, hook: &str, secret: &str) {
        self.fake.hook(hook);
        self.hook
            .get_or_init(|| (hook.to_owned(), secret.to_owned()));
    }

    /// For a client's configuration.
    pub fn url(&self) -> String {
        self.fake.url()
    }

    /// A new commit on a branch, and its webhooks.
    async fn push(&self, repository: &str, branch: &str, file: &str) -> Answer {
        let before = self.fake.head(repository, branch).unwrap_or_default();
        let commit = self.commit(repository, branch, file, None).await?;
        let number = {
            let open = self.open();
            let of_it = open
                .iter()
                .find(|((of, _), one)| of == repository && *one == branch);
            of_it.map(|((_, number), _)| *number)
        };
        if let Some(number) = number {
            let told = Self::told(repository, number, "synchronize", &before, &commit);
            self.deliver(repository, &self.fake.shows(&told)).await?;
        }
        Ok(commit)
    }

    /// A new commit on a branch, which merges another one or not, and the webhook of its push.
    async fn commit(
        &self,
        repository: &str,
        branch: &str,
        file: &str,
        merged: Option<&str>,
    ) -> Answer {
        let before = self.fake.head(repository, branch);
        let number = self.pushes.fetch_add(1, Ordering::Relaxed);
        let now = githubs_clock();
        let drawn = Sha256::digest(format!("{repository} {branch} {number} {now:?}"));
        let commit = hex::encode(drawn)[..40].to_owned();
        let parents: Vec<&str> = before.as_deref().into_iter().chain(merged).collect();
        self.fake.commit(repository, &commit, &parents, &[file]);
        self.fake.branch(repository, branch, &commit);
        let push = Push {
            repository,
            branch,
            before: before.as_deref().unwrap_or(NOWHERE),
            commits: &[&commit],
            changes: &[file],
            pushed_at: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        };
        self.deliver(repository, &push.example()).await?;
        Ok(commit)
    }

    /// A new commit on a branch, which a pull request begins with.
    async fn open_of(&self, repository: &str, number: u32, branch: &str) -> Answer {
        let head = self.commit(repository, branch, "index.html", None).await?;
        let key = (repository.to_owned(), number);
        self.open().insert(key, branch.to_owned());
        let told = Self::told(repository, number, "opened", "", &head);
        self.deliver(repository, &self.fake.shows(&told)).await?;
        Ok(head)
    }

    /// Closes a pull request, and merges it into `base`; answers the commit that does.
    async fn merge(&self, repository: &str, number: u32, base: &str) -> Answer {
        let head = self.close(repository, number, true).await?;
        self.commit(repository, base, "index.html", Some(&head))
            .await
    }

    fn open(&self) -> MutexGuard<'_, HashMap<(String, u32), String>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What GitHub tells of a pull request.
    fn told(repository: &str, number: u32, action: &str, before: &str, head: &str) -> Example {
        PullRequest {
            repository,
            number,
            action,
            before,
            head,
            updated_at: 0,
        }
        .example()
    }

    /// Closes a pull request; answers where its branch is.
    async fn close(&self, repository: &str, number: u32, merged: bool) -> Answer {
        let branch = self.open().remove(&(repository.to_owned(), number));
        let branch = branch.ok_or_else(not_open)?;
        let head = self.fake.head(repository, &branch).ok_or_else(not_open)?;
        let mut told = Self::told(repository, number, "closed", "", &head);
        told.body["pull_request"]["merged"] = merged.into();
        self.deliver(repository, &self.fake.shows(&told)).await?;
        Ok(head)
    }

    /// Sends a webhook, once. What does not arrive is among the failed deliveries; what GitHub would not send
    /// is neither sent nor among them.
    async fn deliver(&self, repository: &str, example: &Example) -> Result<(), Refusal> {
        let faults = example.faults();
        if !faults.is_empty() {
            let words = format!("GitHub sends no such webhook: {}\n", faults.join("; "));
            return Err((StatusCode::INTERNAL_SERVER_ERROR, words));
        }
        let guid = uuid::Uuid::new_v4().to_string();
        let status = if self.is_down.load(Ordering::Relaxed) {
            502
        } else {
            self.send(&guid, example).await
        };
        self.fake.delivered(repository, &guid, status);
        Ok(())
    }

    async fn send(&self, guid: &str, example: &Example) -> u16 {
        let Some((hook, secret)) = self.hook.get() else {
            return 502;
        };
        let request = example.request(&self.http, hook, guid, secret);
        request
            .send()
            .await
            .map_or(502, |answer| answer.status().as_u16())
    }
}

#[expect(clippy::disallowed_methods, reason = "GitHub's clock is its own")]
fn githubs_clock() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}

/// What a form or a query says.
struct Said(Vec<(String, String)>);

impl Said {
    fn of(text: &str) -> Self {
        Self(pairs(text))
    }

    fn field(&self, name: &str) -> Result<&str, Refusal> {
        let found = self.0.iter().find(|(one, _)| one == name);
        found.map(|(_, value)| value.as_str()).ok_or_else(|| {
            let words = format!("say {name}=…\n");
            (StatusCode::UNPROCESSABLE_ENTITY, words)
        })
    }

    fn number(&self) -> Result<u32, Refusal> {
        let number = self.field("number")?.parse();
        number.map_err(|_error| {
            let words = "number is a number\n";
            (StatusCode::UNPROCESSABLE_ENTITY, words.to_owned())
        })
    }
}

async fn push(State(stand_in): State<StandIn>, body: String) -> Answer {
    let said = Said::of(&body);
    let file = said.field("file").unwrap_or("index.html");
    let (repository, branch) = (said.field("repository")?, said.field("branch")?);
    Ok(stand_in.push(repository, branch, file).await? + "\n")
}

async fn open(State(stand_in): State<StandIn>, body: String) -> Answer {
    let said = Said::of(&body);
    let (repository, branch) = (said.field("repository")?, said.field("branch")?);
    let opened = stand_in.open_of(repository, said.number()?, branch);
    Ok(opened.await? + "\n")
}

async fn merge(State(stand_in): State<StandIn>, body: String) -> Answer {
    let said = Said::of(&body);
    let (repository, base) = (said.field("repository")?, said.field("base")?);
    let merged = stand_in.merge(repository, said.number()?, base);
    Ok(merged.await? + "\n")
}

async fn close(State(stand_in): State<StandIn>, body: String) -> Answer {
    let said = Said::of(&body);
    let repository = said.field("repository")?;
    let closed = stand_in.close(repository, said.number()?, false);
    Ok(closed.await? + "\n")
}

fn not_open() -> Refusal {
    let words = "no such pull request is open\n";
    (StatusCode::UNPROCESSABLE_ENTITY, words.to_owned())
}

async fn down(State(stand_in): State<StandIn>) -> &'static str {
    stand_in.is_down.store(true, Ordering::Relaxed);
    stand_in.fake.goes_down();
    "GitHub is down\n"
}

async fn up(State(stand_in): State<StandIn>) -> &'static str {
    stand_in.is_down.store(false, Ordering::Relaxed);
    stand_in.fake.comes_back();
    "GitHub is up\n"
}

async fn comments(State(stand_in): State<StandIn>, RawQuery(query): RawQuery) -> Answer {
    let said = Said::of(query.as_deref().unwrap_or_default());
    let number = said.number()?.into();
    let all = stand_in.fake.comments(said.field("repository")?, number);
    Ok(all
        .iter()
        .fold(String::new(), |text, one| text + one + "\n"))
}

async fn deployments(State(stand_in): State<StandIn>, RawQuery(query): RawQuery) -> Answer {
    let said = Said::of(query.as_deref().unwrap_or_default());
    let mut text = String::new();
    for (one, states) in stand_in.fake.deployments(said.field("repository")?) {
        let word = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
        let commit = word("ref");
        let short = commit.get(..7).unwrap_or(&commit);
        let (place, states) = (word("environment"), states.join(", "));
        writeln!(text, "{short} {place}: {states}").expect("a text takes what is written to it");
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
