//! The doors that are not gRPC: REST with server-sent events, and the command line.

use std::{
    path::Path,
    process::{Command, Output},
};

use e2e::{Content, Sandbox};
use futures_util::StreamExt;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

/// A caller of the REST API.
pub(crate) struct Rest {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Rest {
    /// With the admin's token.
    pub(crate) fn of(sandbox: &Sandbox) -> Self {
        Self {
            http: reqwest::Client::new(),
            base: sandbox.stack.gateway_url(),
            token: sandbox.stack.admin_token().to_owned(),
        }
    }

    /// The status and the body.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::GET, path).send().await.unwrap()).await
    }

    /// A call that acts, without a key to repeat it by.
    pub(crate) async fn act(&self, verb: Method, path: &str, body: Value) -> (u16, Value) {
        let request = self.request(verb, path).json(&body);
        answer(request.send().await.unwrap()).await
    }

    /// A call that acts, under a key; says whether its answer is that of an earlier one.
    pub(crate) async fn post(&self, path: &str, key: &str, body: Value) -> (u16, Value, bool) {
        let request = self
            .request(Method::POST, path)
            .header("idempotency-key", key)
            .json(&body);
        let response = request.send().await.unwrap();
        let replayed = response.headers().contains_key("idempotent-replayed");
        let (status, body) = answer(response).await;
        (status, body, replayed)
    }

    /// The status of a stream that goes on after an event.
    pub(crate) async fn resume(&self, path: &str, after: &str) -> u16 {
        let request = self
            .request(Method::GET, path)
            .header("last-event-id", after);
        request.send().await.unwrap().status().as_u16()
    }

    /// The `id` and `data` of each server-sent event, until the stream ends.
    pub(crate) async fn events(&self, path: &str) -> Vec<(String, Value)> {
        let response = self.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut text = String::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
        text.split("\n\n")
            .filter_map(|event| {
                let field = |name: &str| {
                    event
                        .lines()
                        .find_map(|line| line.strip_prefix(name))
                        .map(str::to_owned)
                };
                Some((
                    field("id: ")?,
                    serde_json::from_str(&field("data: ")?).unwrap(),
                ))
            })
            .collect()
    }

    fn request(&self, verb: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.base);
        self.http.request(verb, url).bearer_auth(&self.token)
    }
}

async fn answer(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, response.json().await.unwrap())
}

/// Runs the command line with the admin's token.
pub(crate) fn candlefish(sandbox: &Sandbox, arguments: &[&str]) -> Output {
    command(sandbox, arguments).output().unwrap()
}

/// The command line with the admin's token, to be run.
pub(crate) fn command(sandbox: &Sandbox, arguments: &[&str]) -> Command {
    let program = std::env::current_exe().unwrap();
    let program = program.ancestors().nth(2).unwrap().join("candlefish");
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("CANDLEFISH_API", sandbox.stack.gateway_url())
        .env("CANDLEFISH_TOKEN", sandbox.stack.admin_token())
        .env("CANDLEFISH_CONFIG_DIR", sandbox.stack.folder().join("cli"))
        .env("NO_COLOR", "1");
    command
}

/// Runs a command that does what it is asked; answers what it wrote.
#[track_caller]
pub(crate) fn done(sandbox: &Sandbox, arguments: &[&str]) -> String {
    let (code, out, err) = said(&candlefish(sandbox, arguments));
    assert_eq!(code, Some(0), "{arguments:?}: {out}{err}");
    out
}

/// The exit code, what was written to stdout, and what to stderr.
pub(crate) fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Writes a file into a folder.
pub(crate) fn write(folder: &Path, name: &str, body: &str) {
    std::fs::write(folder.join(name), body).unwrap();
}

/// Writes the files of a release into a folder, over those of an earlier one.
pub(crate) fn fill(folder: &Path, content: &Content) {
    for (path, body) in content.below(folder.to_str().unwrap()) {
        let path = Path::new(&path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, body).unwrap();
    }
}
