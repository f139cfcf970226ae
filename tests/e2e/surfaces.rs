//! The same platform by other doors: REST with server-sent events, the command line, content in S3;
//! and what machines of others read of it.

use std::{fs::File, path::Path, process::Command};

use candlefish_devstack::{Blobs, Service};
use candlefish_proto::deploy::deployment::State;
use e2e::{Content, Sandbox, api::Commit};
use serde_json::{Value, json};

use crate::doors::{Rest, candlefish, done, fill, said, write};

/// The fields that a problem names, in a row.
fn faulty(problem: &Value) -> String {
    let errors = problem["errors"].as_array().unwrap();
    let fields = errors.iter().filter_map(|one| one["field"].as_str());
    fields.collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_and_server_sent_events_say_what_grpc_says() {
    let sandbox = Sandbox::start().await.unwrap();
    let rest = Rest::of(&sandbox);
    let release = sandbox
        .api
        .release("docs", &Content::site("rest"), &Commit::default())
        .await
        .unwrap();
    let body = json!({
        "site": "docs", "environment": "production", "release_id": release,
        "strategy": {"blue_green": {"bake": "1s"}},
    });
    let (status, made, replayed) = rest.post("/v1/deployments", "key-1", body.clone()).await;
    assert_eq!((status, replayed), (201, false), "{made}");
    let id = made["id"].as_str().unwrap().to_owned();
    let (status, again, replayed) = rest.post("/v1/deployments", "key-1", body.clone()).await;
    assert_eq!((status, replayed), (201, true));
    assert_eq!(again, made);
    let other = json!({"site": "docs", "environment": "staging", "release_id": release});
    let (status, refused, _) = rest.post("/v1/deployments", "key-1", other).await;
    assert_eq!(
        (status, refused["reason"].as_str()),
        (422, Some("idempotency-key-reused"))
    );

    let seen = rest.events(&format!("/v1/deployments/{id}:watch")).await;
    let told = seen.iter();
    let versions: Vec<(u32, _)> = told
        .map(|(id, one)| (id.parse().unwrap(), &one["blockers"]))
        .collect();
    // The same one comes again only when something else keeps it.
    let follows = versions.is_sorted_by(|(a, was), (b, is)| a < b || a == b && was != is);
    assert!(follows, "{versions:?}");
    let (last, end) = seen.last().unwrap();
    assert_eq!(end["state"], "STATE_SUCCEEDED");
    assert!(
        seen.iter()
            .any(|(_, one)| one["blockers"][0]["kind"] == "KIND_TIMER"),
        "{seen:#?}"
    );
    // Resumed after the last one, a watcher learns that nothing follows; a browser asks no more.
    let path = format!("/v1/deployments/{id}:watch");
    assert_eq!(rest.resume(&path, last).await, 204);

    let (status, page) = rest.get("/v1/deployments?site=docs&page_size=1").await;
    assert_eq!(
        (status, page["deployments"].as_array().unwrap().len()),
        (200, 1)
    );
    // What cannot be read, what is wrong and what is not there are named in one answer.
    for (query, named) in [
        ("page_size=many&state=STATE_ODD", "page_size state"),
        ("page_size=900&state=STATE_ODD", "state page_size"),
        (
            "site=docs&environment=prod&page_size=900&commit=main",
            "page_size commit environment",
        ),
    ] {
        let (status, problem) = rest.get(&format!("/v1/deployments?{query}")).await;
        assert_eq!((status, &*faulty(&problem)), (400, named), "{query}");
    }
    let (status, problem, _) = rest
        .post(
            "/v1/deployments",
            "key-2",
            json!({
                "site": "docs", "environment": "prod", "release_id": release,
                "strategy": {"canary": {"weights": [60, 50]}},
            }),
        )
        .await;
    let named = "strategy.canary.weights[1] environment";
    assert_eq!((status, &*faulty(&problem)), (400, named));
    assert_eq!(problem["title"], "The request has 2 faults");
    // Read in part it would be good: it must not be carried out by another strategy.
    let mut half = json!({
        "site": "docs", "environment": "production", "release_id": release, "strategie": {},
        "reason": "r".repeat(501),
    });
    let (status, problem, _) = rest.post("/v1/deployments", "key-3", half.clone()).await;
    assert_eq!((status, &*faulty(&problem)), (400, "strategie reason"));
    half["reason"] = "short".into();
    let (status, problem, _) = rest.post("/v1/deployments", "key-3", half).await;
    assert_eq!((status, &*faulty(&problem)), (400, "strategie"));
    let (_, page) = rest.get("/v1/deployments?site=docs").await;
    assert_eq!(page["deployments"].as_array().unwrap().len(), 1);
    let (status, problem) = rest.get("/v1/deployments/dep_nonsense").await;
    assert_eq!(
        (status, problem["errors"][0]["field"].as_str()),
        (400, Some("id"))
    );
    sandbox.stop().await.unwrap();
}

/// A bucket of the S3 server that others wrote.
pub(crate) struct Bucket {
    endpoint: String,
    name: String,
}

impl Bucket {
    pub(crate) fn named() -> Self {
        let endpoint = std::env::var("CANDLEFISH_TEST_S3_ENDPOINT")
            .expect("run by `cargo xtask test`, which starts an S3 server");
        let name = std::env::var("CANDLEFISH_TEST_S3_BUCKET").expect("as above");
        Self { endpoint, name }
    }

    pub(crate) fn blobs(&self) -> Blobs {
        Blobs::S3 {
            endpoint: self.endpoint.clone(),
            bucket: self.name.clone(),
            access_key: "test".to_owned(),
            secret_key: "test".to_owned(),
        }
    }

    fn url(&self, digest: &str) -> String {
        format!("{}/{}/blobs/{digest}", self.endpoint, self.name)
    }

    /// Whether a blob is there.
    async fn has(&self, digest: &str) -> bool {
        let answer = reqwest::get(self.url(digest)).await.unwrap();
        answer.status().is_success()
    }

    /// Puts other bytes in a blob's place.
    async fn rot(&self, digest: &str) {
        let put = reqwest::Client::new().put(self.url(digest));
        let answer = put.body("it has rotted").send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }
}

/// The digest of a file of a release.
fn digest(content: &Content, path: &str) -> String {
    let manifest = content.manifest();
    manifest.get(path).unwrap().digest.to_string()
}

/// Both edges serve pages of this mark.
async fn serves(sandbox: &Sandbox, mark: &str) {
    for edge in 0..2 {
        let page = sandbox.visit(edge, "docs.localhost", "/").await.unwrap();
        let marked = format!("mark:{mark}<");
        assert!(page.body.contains(&marked), "{}", page.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_deploys_refuses_and_goes_back_with_content_in_s3() {
    let bucket = Bucket::named();
    let blobs = bucket.blobs();
    let sandbox = Sandbox::with(|builder| builder.replicas(1, 1, 2).blobs(blobs))
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let deploy = ["deploy", path, "--site", "docs", "--env", "production"];
    let one = Content::site("one");
    fill(folder.path(), &one);
    let (code, out, err) = said(&candlefish(&sandbox, &deploy));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.trim().starts_with("http://docs.localhost"), "{out}");
    serves(&sandbox, "one").await;
    assert!(bucket.has(&digest(&one, "index.html")).await);
    sandbox.send_visitors("docs.localhost", &["one", "two"]);

    fill(folder.path(), &Content::site("two"));
    let (code, _, err) = said(&candlefish(&sandbox, &deploy));
    assert_eq!(code, Some(0), "{err}");
    assert!(
        err.contains("Undo: candlefish rollback docs/production"),
        "{err}"
    );
    serves(&sandbox, "two").await;

    fill(folder.path(), &Content::site("three"));
    std::fs::remove_file(folder.path().join("index.html")).unwrap();
    let (code, _, err) = said(&candlefish(&sandbox, &deploy));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("index.html"), "{err}");
    serves(&sandbox, "two").await;

    let line = ["rollback", "docs/production", "--yes"];
    let (code, _, err) = said(&candlefish(&sandbox, &line));
    assert_eq!(code, Some(0), "{err}");
    serves(&sandbox, "one").await;

    // Nobody said why, and the history says so.
    let (_, out, _) = said(&candlefish(&sandbox, &["history", "docs/production"]));
    let why = out.lines().find(|line| line.contains("rolled back to"));
    assert!(
        why.is_some_and(|why| why.ends_with("no reason given")),
        "{out}"
    );

    waits_and_rots(&sandbox, &bucket, folder.path(), &deploy).await;
    serves(&sandbox, "one").await;
    let (code, _, err) = said(&candlefish(&sandbox, &["status", "docs/prod"]));
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("production"), "{err}");
    sandbox.stop().await.unwrap();
}

/// Held after the rollback: a push waits and says so, with the exit code of waiting. A page of it rots
/// in the store meanwhile; let go, it is refused and the page named.
async fn waits_and_rots(sandbox: &Sandbox, bucket: &Bucket, folder: &Path, deploy: &[&str]) {
    // Nobody else's content: the bucket is shared.
    let page = format!("soon to rot: {}", std::process::id());
    let content = Content::site("four").file("about.html", &page);
    fill(folder, &content);
    let waits = [deploy, &["--wait", "1s", "--json"]].concat();
    let (code, out, err) = said(&candlefish(sandbox, &waits));
    assert_eq!(code, Some(3), "{err}");
    let waits: Value = serde_json::from_str(&out).unwrap();
    let id = waits.get("id").and_then(Value::as_str).unwrap();
    let (_, out, _) = said(&candlefish(sandbox, &["why", "docs/production"]));
    assert!(out.contains("hold"), "{out}");

    let rotten = digest(&content, "about.html");
    assert!(bucket.has(&rotten).await, "{rotten} is not in the bucket");
    bucket.rot(&rotten).await;
    let place = "docs/production";
    done(sandbox, &["hold", "lift", place, "--reason", "mended"]);
    let (code, _, err) = said(&candlefish(sandbox, &["watch", id]));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("about.html"), "{err}");
    let ended = sandbox.api.ended(id).await.unwrap();
    let is_so = ended.state() == State::Failed && ended.message.contains("about.html");
    assert!(is_so, "{}", e2e::api::summary(&ended));
}

/// A program that `cargo xtask test` installs and names.
fn tool(variable: &str) -> Command {
    let program = std::env::var_os(variable);
    let program =
        program.unwrap_or_else(|| panic!("run by `cargo xtask test`: it sets {variable}"));
    Command::new(program)
}

#[tokio::test(flavor = "multi_thread")]
async fn public_validators_find_no_fault_with_what_others_read() {
    let sandbox = Sandbox::start().await.unwrap();
    let api = &sandbox.api;
    // So that there is something to count.
    let release = api
        .release("docs", &Content::site("one"), &Commit::default())
        .await
        .unwrap();
    let asked = api
        .deploy("docs", "production", &release, None)
        .await
        .unwrap();
    api.succeeds(&asked.id).await.unwrap();
    sandbox.visit(0, "docs.localhost", "/").await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let services = [Service::Orchestrator, Service::Gateway, Service::Edge];
    for service in services {
        for process in sandbox.stack.processes(service) {
            let name = process.name();
            let address = sandbox.stack.ops_address(name).unwrap();
            let metrics = reqwest::get(format!("http://{address}/metrics"));
            let metrics = metrics.await.unwrap().text().await.unwrap();
            assert!(metrics.contains("# TYPE "), "{name}: {metrics}");
            write(folder.path(), name, &metrics);
            let checked = tool("CANDLEFISH_TEST_PROMTOOL")
                .args(["check", "metrics"])
                .stdin(File::open(folder.path().join(name)).unwrap())
                .output();
            let (code, out, err) = said(&checked.unwrap());
            assert_eq!((code, &*out, &*err), (Some(0), "", ""), "of {name}");
        }
    }

    let (status, document) = Rest::of(&sandbox).get("/openapi.json").await;
    let version = document["openapi"].as_str().unwrap();
    assert!(status == 200 && version.starts_with("3.1."), "{version}");
    write(folder.path(), "openapi.json", &document.to_string());
    let checked = tool("CANDLEFISH_TEST_OPENAPI_VALIDATOR")
        .args(["--schema", "3.1", "--validation-errors", "all"])
        .arg(folder.path().join("openapi.json"))
        .output();
    let (code, out, err) = said(&checked.unwrap());
    assert_eq!(code, Some(0), "{out}{err}");
    sandbox.stop().await.unwrap();
}

/// The lines of `/docs`, by the method's name; the first are those that name the token.
async fn documented(sandbox: &Sandbox) -> Vec<(String, String)> {
    let url = format!("{}/docs", sandbox.stack.gateway_url());
    let page = reqwest::get(url).await.unwrap().text().await.unwrap();
    let unescape = |text: &str| {
        let plain = text.replace("&lt;", "<").replace("&gt;", ">");
        let plain = plain.replace("&quot;", "\"").replace("&#39;", "'");
        plain.replace("&amp;", "&")
    };
    let blocks = page
        .split("<pre><code>")
        .zip(page.split("<pre><code>").skip(1));
    blocks
        .map(|(before, after)| {
            let named = before.rsplit_once("<article id=\"");
            let name = named.and_then(|(_, name)| name.split('"').next());
            let lines = after.split("</code></pre>").next().unwrap();
            (name.unwrap_or("start").to_owned(), unescape(lines))
        })
        .collect()
}

/// Runs lines in a shell, as they are; the status and the JSON that curl got last.
fn pasted(folder: &Path, token: &str, lines: &str) -> (u16, Value) {
    let ran = Command::new("sh")
        .args(["-eu", "-c", lines])
        .current_dir(folder)
        .env("CANDLEFISH_TOKEN", token)
        // Where curl looks for its own settings, so that the lines need none.
        .env("CURL_HOME", folder)
        .output();
    let (code, out, err) = said(&ran.unwrap());
    assert_eq!(code, Some(0), "{lines}\n{out}{err}");
    let (body, status) = out.rsplit_once('\n').unwrap();
    let read = serde_json::from_str(body);
    let body = read.unwrap_or_else(|error| panic!("{error}: {lines}\n{body}"));
    (status.parse().unwrap(), body)
}

/// Every call that writes and whose lines need no id of the reader's own, in an order in which they work, with
/// the status that each answers.
const WRITES: [(&str, u16); 12] = [
    ("CreateSite", 201),
    ("UpdateSite", 200),
    ("CreateEnvironment", 201),
    ("UpdateEnvironment", 200),
    // No pull request has its preview here.
    ("CloseEnvironment", 404),
    ("CreateRelease", 201),
    ("CreateRollback", 200),
    ("SetHold", 200),
    ("LiftHold", 200),
    ("SetStop", 200),
    ("CreatePrincipal", 201),
    ("CreateToken", 201),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_lines_of_the_documentation_work_when_pasted() {
    let sandbox = Sandbox::start().await.unwrap();
    let api = &sandbox.api;
    // Something of every kind that is looked for by its id, and a release that is not live yet.
    let (one, two, commit) = (
        Content::site("one"),
        Content::site("two"),
        Commit::default(),
    );
    let live = api.release("docs", &one, &commit).await.unwrap();
    let asked = api.deploy("docs", "production", &live, None).await.unwrap();
    api.succeeds(&asked.id).await.unwrap();
    let next = api.release("docs", &two, &commit).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let settings = "silent\nshow-error\nmax-time = 20\nnoproxy = \"*\"\n\
                    write-out = \"\\n%{http_code}\"\n";
    write(folder.path(), ".curlrc", settings);
    let token = sandbox.stack.admin_token();
    let documented = documented(&sandbox).await;
    let lines = |name: &str| {
        let found = documented.iter().find(|(one, _)| one == name);
        found.map_or_else(
            || panic!("/docs has no lines of {name}"),
            |(_, lines)| lines,
        )
    };

    // The first ones name the token themselves; `…` stands for the reader's own.
    let start = lines("start").replace("cft_…", token);
    let (status, who) = pasted(folder.path(), "none", &start);
    assert_eq!(status, 200, "{who}");

    // Whatever only reads works as it stands, and finds its ids by itself.
    let (_, document) = Rest::of(&sandbox).get("/openapi.json").await;
    let mut read = 0;
    for item in document["paths"].as_object().unwrap().values() {
        let operation = &item["get"];
        let content = &operation["responses"]["200"]["content"];
        if operation.is_null() || !content["text/event-stream"].is_null() {
            continue;
        }
        let name = operation["operationId"].as_str().unwrap();
        let (status, body) = pasted(folder.path(), token, lines(name));
        assert_eq!(status, 200, "{name}: {body}");
        assert!(body.is_object(), "{name}: {body}");
        read += 1;
    }
    assert!(read >= 18, "only {read} were read");

    // What writes: the reader puts in the id that is meant. All that need no other one are here.
    let example = "rel_01k8qw3v7hf6b9t2m4n5p6q7r8";
    let create = lines("CreateDeployment").replace(example, &next);
    let (status, made) = pasted(folder.path(), token, &create);
    assert_eq!(status, 201, "{create}\n{made}");
    api.succeeds(made["id"].as_str().unwrap()).await.unwrap();
    for (name, expected) in WRITES {
        let lines = lines(name);
        let (status, body) = pasted(folder.path(), token, lines);
        assert_eq!(status, expected, "{lines}\n{body}");
    }
    sandbox.stop().await.unwrap();
}
