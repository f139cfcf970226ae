//! GitHub: what it sends, as its own published examples and the same with other values in them, and a
//! fake of its API.

mod archive;
mod contract;
mod fake;
mod stand_in;
mod webhooks;

pub use archive::archive;
pub use fake::{APP_ID, Fake, Fault, seconds};
pub use stand_in::StandIn;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// One delivery: the event's name and the body.
#[derive(Debug, Clone)]
pub struct Example {
    /// `X-GitHub-Event`.
    pub event: &'static str,
    /// The body.
    pub body: Value,
}

macro_rules! examples {
    ($($name:ident = $event:literal;)*) => {
        $(
            /// An example that GitHub publishes, as it is.
            pub fn $name() -> Example {
                let text = include_str!(concat!("github/", stringify!($name), ".json"));
                Example { event: $event, body: serde_json::from_str(text).unwrap() }
            }
        )*

        /// Every published example that is kept here.
        pub fn all() -> Vec<Example> {
            vec![$($name()),*]
        }
    };
}

examples! {
    push = "push";
    push_tag = "push";
    push_tag_deleted = "push";
    ping = "ping";
    ping_organization = "ping";
    pull_request_opened = "pull_request";
    pull_request_synchronize = "pull_request";
    create = "create";
    delete = "delete";
    release_published = "release";
    workflow_run_completed = "workflow_run";
}

/// A push of one commit after another to a branch.
#[derive(Debug, Clone, Copy)]
pub struct Push<'a> {
    /// `owner/name`.
    pub repository: &'a str,
    /// Without `refs/heads/`.
    pub branch: &'a str,
    /// What the branch was at; forty zeros for a new one.
    pub before: &'a str,
    /// The commits, oldest first.
    pub commits: &'a [&'a str],
    /// The files that each of them changes.
    pub changes: &'a [&'a str],
    /// Seconds by GitHub's clock.
    pub pushed_at: i64,
}

impl Push<'_> {
    /// The published example with these values in it.
    pub fn example(&self) -> Example {
        let mut example = push();
        let body = &mut example.body;
        let commits: Vec<Value> = self.commits.iter().map(|id| self.commit(id)).collect();
        body["ref"] = json!(format!("refs/heads/{}", self.branch));
        body["before"] = json!(self.before);
        body["after"] = json!(self.commits.last().unwrap());
        body["created"] = json!(self.before.bytes().all(|byte| byte == b'0'));
        body["head_commit"] = commits.last().unwrap().clone();
        body["commits"] = json!(commits);
        body["repository"]["full_name"] = json!(self.repository);
        body["repository"]["pushed_at"] = json!(self.pushed_at);
        example
    }

    fn commit(&self, id: &str) -> Value {
        let mut commit = push().body["commits"][0].take();
        commit["id"] = json!(id);
        commit["added"] = json!([]);
        commit["modified"] = json!(self.changes);
        commit["message"] = json!(format!("Change {}", &id[..7]));
        commit
    }
}

/// A pull request to whose branch something happened.
#[derive(Debug, Clone, Copy)]
pub struct PullRequest<'a> {
    /// `owner/name`, where it is to be merged.
    pub repository: &'a str,
    /// Its number.
    pub number: u32,
    /// `opened`, `synchronize`, `closed`, …
    pub action: &'a str,
    /// What its branch was at; empty where the delivery does not say so: all but `synchronize`.
    pub before: &'a str,
    /// What its branch is at.
    pub head: &'a str,
    /// Seconds after noon by GitHub's clock, less than an hour's.
    pub updated_at: u32,
}

impl PullRequest<'_> {
    /// The published example with these values in it.
    pub fn example(&self) -> Example {
        let mut example = pull_request_synchronize();
        let body = &mut example.body;
        body["action"] = json!(self.action);
        body["number"] = json!(self.number);
        body["repository"]["full_name"] = json!(self.repository);
        body["after"] = json!(self.head);
        body["before"] = json!(self.before);
        if self.before.is_empty() {
            let fields = body.as_object_mut().unwrap();
            fields.remove("before");
            fields.remove("after");
        }
        let described = &mut body["pull_request"];
        let is_closed = self.action == "closed";
        described["number"] = json!(self.number);
        described["state"] = json!(if is_closed { "closed" } else { "open" });
        let (minute, second) = (self.updated_at / 60, self.updated_at % 60);
        let updated_at = format!("2026-11-28T12:{minute:02}:{second:02}Z");
        if is_closed {
            described["closed_at"] = json!(updated_at);
        }
        described["updated_at"] = json!(updated_at);
        described["head"]["sha"] = json!(self.head);
        for side in ["head", "base"] {
            described[side]["repo"]["full_name"] = json!(self.repository);
        }
        example
    }
}

impl Example {
    /// What GitHub's schemas of its webhooks find wrong with it; nothing of what GitHub may send.
    pub fn faults(&self) -> Vec<String> {
        webhooks::faults(self.event, &self.body)
    }

    /// The request that delivers it to `hook` as the delivery `guid`, signed.
    pub fn request(
        &self,
        http: &reqwest::Client,
        hook: &str,
        guid: &str,
        secret: &str,
    ) -> reqwest::RequestBuilder {
        let body = self.body.to_string();
        http.post(hook)
            .header("content-type", "application/json")
            .header("x-github-event", self.event)
            .header("x-github-delivery", guid)
            .header("x-hub-signature-256", sign(secret, body.as_bytes()))
            .body(body)
    }
}

/// `X-Hub-Signature-256` of a body.
pub fn sign(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}
