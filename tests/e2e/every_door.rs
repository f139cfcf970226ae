//! Every strategy and every verb through each door: gRPC, REST with server-sent events, and the
//! command line; and with content in S3, through one of them. What came of it is read by gRPC, whichever door it was asked through; visitors walk
//! the site meanwhile.
#![expect(clippy::indexing_slicing, reason = "an answer is JSON")]

use std::mem::discriminant;

use candlefish_proto::deploy::{self as pb, deployment::State, step, strategy::Kind};
use e2e::{
    Content, Sandbox, Visitors,
    api::{Commit, quick_policy},
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    doors::{Rest, command, done, fill, said},
    surfaces::Bucket,
    verbs::waits_in,
};

const REASON: &str = "a journey";
const DEPLOYMENTS: &str = "/v1/deployments";
const PRODUCTION: &str = "/v1/sites/docs/environments/production";

/// The ways in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Grpc,
    Rest,
    CommandLine,
}

const WAYS: [Way; 3] = [Way::Grpc, Way::Rest, Way::CommandLine];

/// Where a rollback goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To<'a> {
    Before,
    Release(&'a str),
    Commit(&'a str),
}

/// A strategy as each door takes it.
struct Wish {
    kind: Kind,
    json: Value,
    options: &'static [&'static str],
}

/// One door of a sandbox.
struct Door<'a> {
    way: Way,
    sandbox: &'a Sandbox,
    rest: Rest,
    /// What the command line deploys.
    folder: TempDir,
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

/// All four, none of which waits longer than it must.
fn strategies() -> [(&'static str, Wish); 4] {
    let recreate = Wish {
        kind: Kind::Recreate(pb::Recreate {}),
        json: json!({"recreate": {}}),
        options: &["--strategy", "recreate"],
    };
    let rolling = Wish {
        kind: Kind::Rolling(pb::Rolling {
            batch: 1,
            bake: None,
        }),
        json: json!({"rolling": {"batch": 1}}),
        options: &["--strategy", "rolling", "--batch", "1"],
    };
    let blue_green = Wish {
        kind: Kind::BlueGreen(pb::BlueGreen::default()),
        json: json!({"blue_green": {}}),
        options: &["--strategy", "blue-green"],
    };
    let canary = Wish {
        kind: Kind::Canary(pb::Canary {
            weights: vec![50],
            interval: Some(seconds(1)),
            bake: None,
        }),
        json: json!({"canary": {"weights": [50], "interval": "1s"}}),
        options: &[
            "--strategy",
            "canary",
            "--weights",
            "50",
            "--interval",
            "1s",
        ],
    };
    [
        ("recreate", recreate),
        ("rolling", rolling),
        ("blue-green", blue_green),
        ("canary", canary),
    ]
}

/// One that stays in its bake until somebody acts.
fn baking() -> Wish {
    Wish {
        kind: Kind::BlueGreen(pb::BlueGreen {
            bake: Some(seconds(600)),
        }),
        json: json!({"blue_green": {"bake": "600s"}}),
        options: &["--strategy", "blue-green", "--bake", "600s"],
    }
}

#[track_caller]
fn text(value: &Value) -> String {
    let text = value.as_str().map(str::to_owned);
    text.unwrap_or_else(|| panic!("no text: {value}"))
}

/// One field of each entry of a list.
#[track_caller]
fn texts(list: &Value, field: &str) -> Vec<String> {
    let list = list.as_array().unwrap();
    list.iter().map(|one| text(&one[field])).collect()
}

/// One field of each line, which is an object of its own.
#[track_caller]
fn each_line(lines: &str, field: &str) -> Vec<String> {
    let read = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let objects = lines.lines().map(read);
    objects.map(|one| text(&one[field])).collect()
}

/// A deployment's path.
fn of(id: &str) -> String {
    format!("{DEPLOYMENTS}/{id}")
}

/// What acts.
impl<'a> Door<'a> {
    fn of(sandbox: &'a Sandbox, way: Way) -> Self {
        Self {
            way,
            sandbox,
            rest: Rest::of(sandbox),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Acts by REST, and compares the status; answers the body.
    async fn acts(&self, verb: Method, path: &str, mut body: Value, status: u16) -> Value {
        body["reason"] = REASON.into();
        let (answered, body) = self.rest.act(verb, path, body).await;
        assert_eq!(answered, status, "{path}: {body}");
        body
    }

    /// Reads by REST.
    async fn reads(&self, path: &str) -> Value {
        let (status, body) = self.rest.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Acts by the command line, saying why; answers what it wrote.
    #[track_caller]
    fn says(&self, arguments: &[&str]) -> String {
        let line = [arguments, &["--reason", REASON]].concat();
        done(self.sandbox, &line).trim().to_owned()
    }

    /// What the command line shows as JSON.
    #[track_caller]
    fn shows(&self, arguments: &[&str]) -> Value {
        let line = [arguments, &["--json"]].concat();
        serde_json::from_str(&done(self.sandbox, &line)).unwrap()
    }

    /// Asks for a deployment of this content; answers its id.
    async fn create(&self, content: &Content, wish: &Wish) -> String {
        if self.way == Way::CommandLine {
            fill(self.folder.path(), content);
            let path = self.folder.path().to_str().unwrap();
            let line = ["deploy", path, "--site", "docs", "--env", "production"];
            return self.says(&[&line[..], wish.options, &["--detach"]].concat());
        }
        let api = &self.sandbox.api;
        let release = api.release("docs", content, &Commit::default()).await;
        let release = release.unwrap();
        if self.way == Way::Grpc {
            let kind = wish.kind.clone();
            let asked = api.deploy("docs", "production", &release, kind).await;
            return asked.unwrap().id;
        }
        let body = json!({
            "site": "docs", "environment": "production", "release_id": release,
            "strategy": wish.json,
        });
        let made = self.acts(Method::POST, DEPLOYMENTS, body, 201).await;
        text(&made["id"])
    }

    /// Ends a deployment: `cancel` or `abort`.
    async fn end(&self, verb: &str, id: &str) {
        let api = &self.sandbox.api;
        match self.way {
            Way::Grpc if verb == "cancel" => {
                api.cancel(id).await.unwrap();
            }
            Way::Grpc => {
                api.abort(id).await.unwrap();
            }
            Way::Rest => {
                let path = format!("{}:{verb}", of(id));
                self.acts(Method::POST, &path, json!({}), 200).await;
            }
            Way::CommandLine => {
                self.says(&[verb, id, "--yes"]);
            }
        }
    }

    /// Passes the wait of a step.
    async fn advance(&self, id: &str, step_ord: i32) {
        match self.way {
            Way::Grpc => {
                let mut client = self.sandbox.api.deployments();
                let pass = |step_ord| pb::AdvanceDeploymentRequest {
                    id: id.to_owned(),
                    step_ord,
                    reason: REASON.to_owned(),
                };
                let stale = client.advance_deployment(pass(step_ord - 1)).await;
                let stale = stale.unwrap_err();
                assert_eq!(stale.code(), tonic::Code::FailedPrecondition, "{stale:?}");
                client.advance_deployment(pass(step_ord)).await.unwrap();
            }
            Way::Rest => {
                let path = format!("{}:advance", of(id));
                let body = json!({"step_ord": step_ord});
                self.acts(Method::POST, &path, body, 200).await;
            }
            Way::CommandLine => {
                self.says(&["advance", id, &step_ord.to_string()]);
            }
        }
    }

    /// Answers the id of the new deployment.
    async fn retry(&self, id: &str) -> String {
        match self.way {
            Way::Grpc => {
                let request = pb::RetryDeploymentRequest {
                    id: id.to_owned(),
                    reason: REASON.to_owned(),
                };
                let mut client = self.sandbox.api.deployments();
                let again = client.retry_deployment(request).await;
                again.unwrap().into_inner().id
            }
            Way::Rest => {
                let path = format!("{}:retry", of(id));
                let again = self.acts(Method::POST, &path, json!({}), 201).await;
                text(&again["id"])
            }
            Way::CommandLine => self.says(&["retry", id, "--detach"]),
        }
    }

    /// Goes back; answers the deployment's id.
    async fn roll_back(&self, to: To<'_>) -> String {
        match self.way {
            Way::Grpc => {
                let mut request = pb::CreateRollbackRequest {
                    site: "docs".to_owned(),
                    environment: "production".to_owned(),
                    reason: REASON.to_owned(),
                    ..Default::default()
                };
                match to {
                    To::Before => {}
                    To::Release(id) => id.clone_into(&mut request.to_release_id),
                    To::Commit(id) => id.clone_into(&mut request.to_commit),
                }
                let mut client = self.sandbox.api.deployments();
                let back = client.create_rollback(request).await.unwrap();
                back.into_inner().deployment.unwrap().id
            }
            Way::Rest => {
                let mut body = json!({"site": "docs", "environment": "production"});
                match to {
                    To::Before => {}
                    To::Release(id) => body["to_release_id"] = id.into(),
                    To::Commit(id) => body["to_commit"] = id.into(),
                }
                let back = self.acts(Method::POST, "/v1/rollbacks", body, 201).await;
                text(&back["deployment"]["id"])
            }
            Way::CommandLine => {
                let line = ["rollback", "docs/production", "--yes", "--detach"];
                match to {
                    To::Before => self.says(&line),
                    To::Release(id) | To::Commit(id) => {
                        self.says(&[&line[..], &["--to", id]].concat())
                    }
                }
            }
        }
    }

    async fn hold(&self) {
        match self.way {
            Way::Grpc => {
                let request = pb::SetHoldRequest {
                    site: "docs".to_owned(),
                    environment: "production".to_owned(),
                    reason: REASON.to_owned(),
                };
                let mut client = self.sandbox.api.sites();
                client.set_hold(request).await.unwrap();
            }
            Way::Rest => {
                let path = format!("{PRODUCTION}/hold");
                self.acts(Method::PUT, &path, json!({}), 200).await;
            }
            Way::CommandLine => {
                self.says(&["hold", "set", "docs/production"]);
            }
        }
    }

    async fn lift(&self) {
        match self.way {
            Way::Grpc => {
                let lifted = self.sandbox.api.lift_hold("docs", "production").await;
                lifted.unwrap();
            }
            Way::Rest => {
                let path = format!("{PRODUCTION}/hold:lift");
                self.acts(Method::POST, &path, json!({}), 200).await;
            }
            Way::CommandLine => {
                self.says(&["hold", "lift", "docs/production"]);
            }
        }
    }

    /// Lets production have a release again that it rejected.
    async fn clear(&self, release: &str) {
        match self.way {
            Way::Grpc => {
                let request = pb::ClearReleaseRequest {
                    id: release.to_owned(),
                    environment: "production".to_owned(),
                    reason: REASON.to_owned(),
                };
                let mut client = self.sandbox.api.releases();
                client.clear_release(request).await.unwrap();
            }
            Way::Rest => {
                let path = format!("/v1/releases/{release}:clear");
                let body = json!({"environment": "production"});
                self.acts(Method::POST, &path, body, 200).await;
            }
            Way::CommandLine => {
                self.says(&["releases", "clear", release, "--env", "production"]);
            }
        }
    }
}

/// What only asks.
impl Door<'_> {
    /// The state of a deployment.
    async fn get(&self, id: &str) -> String {
        match self.way {
            Way::Grpc => {
                let now = self.sandbox.api.deployment(id).await.unwrap();
                now.state().as_str_name().to_owned()
            }
            Way::Rest => text(&self.reads(&of(id)).await["state"]),
            Way::CommandLine => text(&self.shows(&["status", id])["state"]),
        }
    }

    /// Whether a deployment is among the newest of production.
    async fn lists(&self, id: &str) -> bool {
        match self.way {
            Way::Grpc => {
                let request = pb::ListDeploymentsRequest {
                    site: "docs".to_owned(),
                    environment: "production".to_owned(),
                    page_size: 5,
                    ..Default::default()
                };
                let mut client = self.sandbox.api.deployments();
                let listed = client.list_deployments(request).await.unwrap();
                let listed = listed.into_inner().deployments;
                listed.iter().any(|one| one.id == id)
            }
            Way::Rest => {
                let path = format!("{DEPLOYMENTS}?site=docs&environment=production&page_size=5");
                let listed = self.reads(&path).await;
                let ids = texts(&listed["deployments"], "id");
                ids.iter().any(|one| one == id)
            }
            // For people: as JSON it is the environment alone.
            Way::CommandLine => {
                let shown = done(self.sandbox, &["status", "docs/production"]);
                shown.contains(id)
            }
        }
    }

    /// The states that a deployment is seen in until it ends.
    async fn watch(&self, id: &str) -> Vec<String> {
        match self.way {
            Way::Grpc => {
                let request = pb::WatchDeploymentRequest {
                    id: id.to_owned(),
                    after_version: 0,
                };
                let mut client = self.sandbox.api.deployments();
                let watching = client.watch_deployment(request).await.unwrap();
                let mut stream = watching.into_inner();
                let mut states = Vec::new();
                while let Some(now) = stream.message().await.unwrap() {
                    states.push(now.state().as_str_name().to_owned());
                }
                states
            }
            Way::Rest => {
                let seen = self.rest.events(&format!("{}:watch", of(id))).await;
                seen.iter().map(|(_, now)| text(&now["state"])).collect()
            }
            Way::CommandLine => {
                let line = ["watch", id, "--until", "done", "--json"];
                // Others go on meanwhile.
                let watching = command(self.sandbox, &line);
                let output = tokio::process::Command::from(watching).output().await;
                let (code, out, err) = said(&output.unwrap());
                assert_eq!(code, Some(0), "{out}{err}");
                each_line(&out, "state")
            }
        }
    }

    /// What a deployment decided and saw.
    async fn logs(&self, id: &str) -> Vec<String> {
        match self.way {
            Way::Grpc => {
                let request = pb::ListLogsRequest {
                    id: id.to_owned(),
                    ..Default::default()
                };
                let mut client = self.sandbox.api.deployments();
                let page = client.list_logs(request).await.unwrap().into_inner();
                page.lines.into_iter().map(|line| line.message).collect()
            }
            Way::Rest => {
                let page = self.reads(&format!("{}/logs", of(id))).await;
                texts(&page["lines"], "message")
            }
            Way::CommandLine => {
                let out = done(self.sandbox, &["logs", id, "--json"]);
                each_line(&out, "message")
            }
        }
    }

    /// The kinds of what keeps a deployment.
    async fn blockers(&self, id: &str) -> Vec<String> {
        match self.way {
            Way::Grpc => {
                let request = pb::ListBlockersRequest {
                    id: id.to_owned(),
                    ..Default::default()
                };
                let mut client = self.sandbox.api.deployments();
                let listed = client.list_blockers(request).await.unwrap();
                let listed = listed.into_inner().blockers;
                let kinds = listed.iter().map(pb::Blocker::kind);
                kinds.map(|kind| kind.as_str_name().to_owned()).collect()
            }
            Way::Rest => {
                let listed = self.reads(&format!("{}/blockers", of(id))).await;
                assert!(listed["lead_time"].is_string(), "{listed}");
                texts(&listed["blockers"], "kind")
            }
            Way::CommandLine => texts(&self.shows(&["why", id])["blockers"], "kind"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_strategy_and_every_verb_by_every_door_while_people_visit() {
    let sandbox = Sandbox::start().await.unwrap();
    Box::pin(by_doors(&sandbox, |_place| WAYS.to_vec(), &WAYS)).await;
    sandbox.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_strategy_and_every_verb_with_content_in_s3_while_people_visit() {
    let blobs = Bucket::named().blobs();
    let sandbox = Sandbox::with(|builder| builder.replicas(1, 1, 2).blobs(blobs))
        .await
        .unwrap();
    // Each strategy by the next door.
    let ways = |place: usize| -> Vec<Way> {
        let next = WAYS.into_iter().cycle().skip(place);
        next.take(1).collect()
    };
    Box::pin(by_doors(&sandbox, ways, &[Way::CommandLine])).await;
    sandbox.stop().await.unwrap();
}

/// The strategy at each place through these doors, and then every verb through those.
async fn by_doors(sandbox: &Sandbox, ways: impl Fn(usize) -> Vec<Way>, verbs: &[Way]) {
    let api = &sandbox.api;
    let policy = pb::Policy {
        // So that those who stroll are evidence enough.
        min_requests: 5,
        ..quick_policy()
    };
    api.set_policy("docs", "production", policy).await.unwrap();
    let (content, commit) = (Content::site("first"), Commit::chain(71, 1).remove(0));
    let first = api.release("docs", &content, &commit).await.unwrap();
    let asked = api.deploy("docs", "production", &first, None).await;
    api.succeeds(&asked.unwrap().id).await.unwrap();

    let last = Box::pin(every_strategy(sandbox, ways)).await;
    let tried: Vec<String> = verbs.iter().map(|way| format!("tried-{way:?}")).collect();
    let mut marks = vec![&*last, "first"];
    marks.extend(tried.iter().map(String::as_str));
    sandbox.send_visitors("docs.localhost", &marks);
    for &way in verbs {
        let door = Door::of(sandbox, way);
        let tried = Box::pin(end_and_clear(&door)).await;
        Box::pin(go_on_and_back(&door, &tried)).await;
        Box::pin(back_to_what_is_named(
            &door,
            &tried.release_id,
            (&first, &commit.id),
        ))
        .await;
    }
}

/// Each strategy through these doors: all edges serve what was asked for, and no visitor sees a page of
/// another, a torn one, or an older one than before. Answers the mark of what is live then.
async fn every_strategy(sandbox: &Sandbox, ways: impl Fn(usize) -> Vec<Way>) -> String {
    let (api, edges) = (&sandbox.api, sandbox.addresses());
    let mut marks = vec!["first".to_owned()];
    let mut asked = Vec::new();
    for (place, (name, wish)) in strategies().into_iter().enumerate() {
        let ways = ways(place);
        marks.extend(ways.iter().map(|way| format!("{name}-{way:?}")));
        asked.push((name, wish, ways));
    }
    let names: Vec<&str> = marks.iter().map(String::as_str).collect();
    let visitors = Visitors::stroll(&edges, "docs.localhost", 2, &names);
    for (name, wish, ways) in &asked {
        for &way in ways {
            let (door, mark) = (Door::of(sandbox, way), format!("{name}-{way:?}"));
            let id = door.create(&Content::site(&mark), wish).await;
            let asked = api.deployment(&id).await.unwrap();
            visitors.know(&asked.release_id, &mark);
            let kind = asked.strategy.and_then(|strategy| strategy.kind).unwrap();
            assert_eq!(discriminant(&kind), discriminant(&wish.kind), "{mark}");
            let ended = api.succeeds(&id).await.unwrap();
            assert_eq!(ended.weight, 100, "{mark}");
            assert!(ended.url.contains("docs.localhost"), "{}", ended.url);
            for edge in 0..edges.len() {
                let page = sandbox.visit(edge, "docs.localhost", "/").await.unwrap();
                let served = (page.status, page.release);
                assert_eq!(served, (200, ended.release_id.clone()), "{mark}");
                let marked = format!("mark:{mark}<");
                assert!(page.body.contains(&marked), "{}", page.body);
            }
        }
    }
    let seen = visitors.come_back().await;
    assert_eq!(seen.complaints, Vec::<String>::new());
    assert_eq!(seen.went_back, Vec::<String>::new());
    assert!(seen.marks.contains_key("first"), "{seen:?}");
    marks.pop().unwrap()
}

/// Held, it waits and says so; cancelled, it never began; again and let go, it is aborted in its bake
/// and rejected; cleared, it may go there once more. Answers the one that was aborted.
async fn end_and_clear(door: &Door<'_>) -> pb::Deployment {
    let (api, way) = (&door.sandbox.api, door.way);
    let before = api.environment("docs", "production").await.unwrap();
    door.hold().await;
    let content = Content::site(&format!("tried-{way:?}"));
    let id = door.create(&content, &baking()).await;
    assert_eq!(door.get(&id).await, "STATE_PENDING", "{way:?}");
    assert_eq!(door.blockers(&id).await, ["KIND_HOLD"], "{way:?}");
    door.end("cancel", &id).await;
    let cancelled = api.ended(&id).await.unwrap();
    assert_eq!(cancelled.state(), State::Cancelled, "{way:?}");

    let again = door.retry(&id).await;
    let waits = api.deployment(&again).await.unwrap();
    let is_so = waits.retry_of == id && waits.state() == State::Pending;
    assert!(is_so, "{way:?}: {}", e2e::api::summary(&waits));
    door.lift().await;
    waits_in(api, &again, step::Kind::Bake).await;
    door.end("abort", &again).await;
    let aborted = api.ended(&again).await.unwrap();
    assert_eq!(aborted.state(), State::RolledBack, "{way:?}");
    assert_eq!(aborted.cause, "aborted", "{way:?}");
    let after = api.environment("docs", "production").await.unwrap();
    assert_eq!(after.live_release_id, before.live_release_id, "{way:?}");

    let rejections = async || {
        let request = pb::GetReleaseRequest {
            id: aborted.release_id.clone(),
        };
        let release = api.releases().get_release(request).await.unwrap();
        release.into_inner().rejections.len()
    };
    assert_eq!(rejections().await, 1, "{way:?}");
    door.clear(&aborted.release_id).await;
    assert_eq!(rejections().await, 0, "{way:?}");
    aborted
}

/// Once more: watched to its end, advanced past its bake, told of in lists and logs; then back, which
/// holds.
async fn go_on_and_back(door: &Door<'_>, tried: &pb::Deployment) {
    let (api, way) = (&door.sandbox.api, door.way);
    let before = api.environment("docs", "production").await.unwrap();
    let id = door.retry(&tried.id).await;
    let pass = async {
        let bake = waits_in(api, &id, step::Kind::Bake).await;
        door.advance(&id, bake).await;
    };
    let (seen, ()) = tokio::join!(door.watch(&id), pass);
    let last = seen.last().map(String::as_str);
    assert_eq!(last, Some("STATE_SUCCEEDED"), "{way:?}: {seen:?}");
    assert_eq!(door.get(&id).await, "STATE_SUCCEEDED", "{way:?}");
    assert!(door.lists(&id).await, "{way:?}");
    let logs = door.logs(&id).await;
    let by_grpc = Door::of(door.sandbox, Way::Grpc).logs(&id).await;
    assert!(!logs.is_empty(), "{way:?}");
    assert_eq!(logs, by_grpc, "{way:?}");

    let back = door.roll_back(To::Before).await;
    let back = api.succeeds(&back).await.unwrap();
    assert_eq!(back.leaves_release_id, tried.release_id, "{way:?}");
    let after = api.environment("docs", "production").await.unwrap();
    assert_eq!(after.live_release_id, before.live_release_id, "{way:?}");
    let held = after.hold.map(|hold| hold.deployment_id);
    assert_eq!(held, Some(back.id), "{way:?}");
    door.lift().await;
    let lifted = api.environment("docs", "production").await.unwrap();
    assert!(lifted.hold.is_none(), "{way:?}");
}

/// Back to a release that was left, by its id, and from there to the first one, by its commit.
async fn back_to_what_is_named(door: &Door<'_>, left: &str, (first, commit): (&str, &str)) {
    let (api, way) = (&door.sandbox.api, door.way);
    for (to, release) in [(To::Release(left), left), (To::Commit(commit), first)] {
        let before = api.environment("docs", "production").await.unwrap();
        let back = door.roll_back(to).await;
        let back = api.succeeds(&back).await.unwrap();
        assert_eq!(back.release_id, release, "{way:?} {to:?}");
        let left = before.live_release_id;
        assert_eq!(back.leaves_release_id, left, "{way:?} {to:?}");
        let after = api.environment("docs", "production").await.unwrap();
        assert_eq!(after.live_release_id, release, "{way:?} {to:?}");
        let held = after.hold.map(|hold| hold.deployment_id);
        assert_eq!(held, Some(back.id), "{way:?} {to:?}");
        door.lift().await;
    }
}
